"""What asking a server costs: at prices that the user gives, or unknown; never a guess at a price, never 0.

Amounts are in whatever currency the prices are in. Prompts that a server bills at less, because it had them cached,
count in full.

What this module does not know: anybody's price list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rmeval.errors import UsageError
from rmeval.types import JSON, Chat, Message, Request, Sampling

BYTES_PER_TOKEN = 4
"""Of English text, about; other scripts differ. Only estimates use it."""

TOKENS_PER_TURN = 4
"""What a chat template adds to each turn, about."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices per million tokens."""

    read: float
    """Of the prompt."""
    written: float
    """Of what the model writes, its reasoning included."""

    def of(self, read: int, written: int) -> float:
        """What so many tokens cost.

        >>> Prices(2.5, 10.0).of(1_000_000, 100_000)
        3.5
        """
        return (read * self.read + written * self.written) / 1e6


@dataclass(frozen=True, slots=True)
class Estimate:
    """What requests would come to, before any is made."""

    calls: int
    read: int
    """Tokens of the prompts, from their length in bytes."""
    written: int
    """Tokens that may be written at most."""
    prices: Prices | None

    @property
    def cost(self) -> tuple[float, float] | None:
        """(where nothing is written, where all that may be is); None where prices are unknown."""
        if self.prices is None:
            return None
        return self.prices.of(self.read, 0), self.prices.of(self.read, self.written)

    def __str__(self) -> str:
        """In one line.

        >>> print(Estimate(10, 4000, 1000, Prices(1.0, 4.0)))
        10 calls, about 4,000 tokens read (estimated from characters), at most 1,000 written: 0.0040 to 0.0080
        >>> str(Estimate(10, 4000, 1000, None)).partition(": ")[2]
        'cost unknown without engine.price_in and price_out'
        """
        cost = self.cost
        said = f"{cost[0]:,.4f} to {cost[1]:,.4f}" if cost else "cost unknown without engine.price_in and price_out"
        read = f"about {self.read:,} tokens read (estimated from characters)"
        return f"{self.calls:,} calls, {read}, at most {self.written:,} written: {said}"


def prices(price_in: float | None, price_out: float | None, max_cost: float | None) -> Prices | None:
    """The prices, None where none are given. Raises `UsageError` for half of them, or for a cap without them."""
    given = {"engine.price_in": price_in, "engine.price_out": price_out, "--max-cost": max_cost}
    for name, value in given.items():
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise UsageError(f"{name}={value}: a number from 0")
    if price_in is not None and price_out is not None:
        return Prices(price_in, price_out)
    missing = "engine.price_in" if price_in is None else "engine.price_out"
    if max_cost is not None:
        raise UsageError(
            f"--max-cost {max_cost:g}: what a call costs is unknown without -a {missing}= (per million tokens)"
        )
    if price_in is not None or price_out is not None:
        raise UsageError(f"one price of two: give -a {missing}= as well (per million tokens)")
    return None


def estimate(requests: Sequence[Request], at: Prices | None) -> Estimate:
    """What requests would come to, from the length of their texts: nothing is asked."""
    written = sum((r.sampling or Sampling()).max_tokens if r.read == "text" else 1 for r in requests)
    return Estimate(len(requests), sum(map(prompt_tokens, requests)), written, at)


def prompt_tokens(request: Request) -> int:
    """About how many tokens a request's conversation is."""
    turns = [m for part in request.parts if isinstance(part, Chat) for m in part.messages if isinstance(m, Message)]
    return sum(text_tokens(turn.content) + TOKENS_PER_TURN for turn in turns)


def text_tokens(text: str) -> int:
    """About how many tokens a text is."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


class Meter:
    """Counts what a run uses."""

    def __init__(self, at: Prices | None, most: float | None) -> None:
        self.prices, self.most = at, most
        self.calls = self.read = self.written = 0
        self.guessed = 0
        """Calls whose tokens are estimated, the server having said nothing."""

    def add(self, read: int | None, written: int | None, guess: tuple[int, int]) -> None:
        """An answered call: tokens as the server counts them, else as guessed."""
        self.calls += 1
        self.guessed += read is None or written is None
        self.read += guess[0] if read is None else read
        self.written += guess[1] if written is None else written

    @property
    def cost(self) -> float | None:
        """So far; None where prices are unknown."""
        return None if self.prices is None else self.prices.of(self.read, self.written)

    @property
    def spent(self) -> bool:
        """Whether no further call is to be made."""
        return self.most is not None and self.cost is not None and self.cost >= self.most

    def left(self) -> float:
        """What may still be spent: infinite without a cap."""
        return math.inf if self.most is None else max(self.most - (self.cost or 0.0), 0.0)

    def describe(self) -> dict[str, JSON]:
        """For the record: `cost` is "unknown" without prices."""
        known: dict[str, JSON] = {"cost": "unknown"}
        if self.prices is not None:
            known = {"cost": self.cost, "price_in": self.prices.read, "price_out": self.prices.written}
        guessed: dict[str, JSON] = {"calls_estimated": self.guessed} if self.guessed else {}
        return {**known, "calls": self.calls, "tokens_in": self.read, "tokens_out": self.written, **guessed}
