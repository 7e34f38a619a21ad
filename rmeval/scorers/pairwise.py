"""Pairwise models: one reading of a prompt and two candidates, which says by how much the first is better.

How the two are shown is data (`rmeval.conventions.PairCard`); read is a log-odds v, P(first is better) = sigma(v):

    marked  (PairRM)     v = mean over the head's outputs of (output at the first candidate - at the second)
    chat    (RLHFlow)    v = logit of the token that names the first - logit of the token that names the second

The runner shows both orders. The families' own decision is the sign of v(first, second) - v(second, first), which is
also where the mean of the two probabilities lies above a half; verdicts keep log sigma(v) and log sigma(-v), so metrics
can take it, or look at one order alone.

Sources: yuchenlin/LLM-Blender@5d38ca95 (the head), allenai/reward-bench@24689cf6 (`models/pairrm.py`: how conversations
are written), RLHFlow/RLHF-Reward-Modeling@29d2ea01 (`pair-pm/README.md`).

What this module does not know: tokenizers, weights, grades, which order it is shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from rmeval.conventions import PairCard
from rmeval.errors import UsageError
from rmeval.types import (
    JSON,
    Arity,
    Chat,
    Conversation,
    Mark,
    Message,
    Orders,
    Part,
    Reply,
    Request,
    Score,
    Showing,
    Special,
    Text,
    Verdict,
    View,
)

_CANDIDATES = 2


class PairwiseScorer:
    """Pairwise model: which of two candidates is better, and how sure it is."""

    name = "pairwise"
    arity: Arity = "two"

    def __init__(self, *, pair: PairCard | None = None, orders: Orders = "both") -> None:
        """`pair`: the family's conventions; `orders`: both, or single for half the cost and the position's bias."""
        if pair is None:
            raise UsageError(
                "a pairwise model is read as its card says ([pair]): how prompt and candidates are written, and what "
                "is read. Write one after scorers/pairrm-hf.toml or scorers/rlhflow-pair-preference-llama3-8b.toml"
            )
        if orders not in ("both", "single"):
            raise UsageError(f"scorer.orders={orders!r}: both or single")
        self.pair = pair
        self.showing = Showing(orders, protocol=self.name)

    def identity(self) -> dict[str, JSON]:
        """Everything that changes a verdict."""
        return {"kind": self.name, "pair": self.pair.model_dump(mode="json"), "orders": self.showing.orders}

    def score(self, view: View) -> Conversation:
        """One request: both candidates in the order shown."""
        [reply] = yield [self._request(view)]
        value, reason = self._read(reply)
        if reason is not None:
            return Score(reason=reason, n_tokens=reply.n_tokens, truncated=reply.truncated)
        said = "A" if value > 0 else "B" if value < 0 else "tie"
        return Score(
            n_tokens=reply.n_tokens,
            truncated=reply.truncated,
            verdicts=(Verdict(view.order, said, logmass=(log_sigmoid(value), log_sigmoid(-value))),),
        )

    def _request(self, view: View) -> Request:
        prompt, candidates = written(self.pair, view)
        named = tuple(Special(token.text, token.id) for token in self.pair.tokens)
        if self.pair.form == "marked":
            parts: list[Part] = []
            for opens, text in zip(named, (prompt, *candidates), strict=True):
                parts += [Special("[CLS]"), opens, Mark(), Text(text), Special("[SEP]")]
            return Request(tuple(parts), at="marks", group=view.id)
        said = _filled(self.pair.text, {"prompt": prompt, "first": candidates[0], "second": candidates[1]})
        asked = Chat((Message("user", said),), bos=self.pair.bos)
        return Request((asked,), read="tokens", tokens=named, group=view.id)

    def _read(self, reply: Reply) -> tuple[float, str | None]:
        """The log-odds that the first is better, or why there are none."""
        if reply.reason is not None:
            return math.nan, reply.reason
        if not all(reply.values):  # a place that was cut off: what is left would be read against the wrong one
            return math.nan, "truncated"
        if self.pair.form == "marked":
            _, first, second = reply.values
            value = math.fsum(a - b for a, b in zip(first, second, strict=True)) / len(first)
        else:
            [(first_named, second_named)] = reply.values
            value = first_named - second_named
        return (value, None) if math.isfinite(value) else (math.nan, "non_finite")


def written(card: PairCard, view: View) -> tuple[str, list[str]]:
    r"""The prompt and each candidate as the family writes them.

    >>> from rmeval.types import Candidate
    >>> card = PairCard(form="marked", user="Q{n}: {content}", tokens=[{"id": 1}, {"id": 2}, {"id": 3}])
    >>> written(card, View("x", (Message("user", "hi"),), (Candidate("a"), Candidate("b")), (0, 1)))
    ('Q1: hi', ['a', 'b'])
    """
    turns: list[str] = []
    answers: list[str] = []
    exchange = 0
    for message in view.prompt:
        exchange += message.role == "user"
        slots = {"content": message.content, "n": str(max(exchange, 1))}
        if card.earlier and message.role == "assistant":
            answers.append(_filled(card.candidate, slots))
        else:
            form = {"system": card.system, "assistant": card.assistant}.get(message.role, card.user)
            turns.append(_filled(form, slots))
    last = str(max(exchange, 1))
    shown = [_filled(card.candidate, {"content": c.text, "n": last}) for c in view.candidates]
    if len(shown) != _CANDIDATES:
        raise RuntimeError(f"{view.id}: {len(shown)} candidates for a pairwise model")
    return f"{card.opening}{card.between.join(turns)}{card.closing}", ["\n".join([*answers, one]) for one in shown]


def log_sigmoid(value: float) -> float:
    """log(1 / (1 + exp(-value))), for any value.

    >>> round(log_sigmoid(0.0), 6), log_sigmoid(-1000.0), log_sigmoid(1000.0) == 0
    (-0.693147, -1000.0, True)
    """
    return -math.log1p(math.exp(-value)) if value >= 0 else value - math.log1p(math.exp(value))


def _filled(template: str, slots: Mapping[str, str]) -> str:
    """A template with its slots filled at once, so that braces in one text cannot take another's place."""
    return re.sub(r"\{(\w+)\}", lambda found: slots.get(found[1], found[0]), template)
