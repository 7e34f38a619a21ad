"""Searches that a step model guides, counted in steps written: beam search, DVTS, early rejection, best-of-n.

    beam search       n partial solutions; each gets one step, the best n / width are kept and copied back to n;
                      finished ones are set aside, and the best of them is chosen
    DVTS              n / width trees by themselves: each tries `width` next steps and keeps the best
    early rejection   solutions one after the other, each given up at its first step below a cut, until a budget of
                      steps is spent; the best of the finished ones is chosen
    best of n         n whole solutions, the best-rewarded is chosen (exact over a pool, `rmeval.probes.best_of_n`)

With solutions of S steps the first two write n S steps as best-of-n does, and early rejection is given as many. A
reward is an aggregate of the step scores; equal ones are drawn from. A search that meets a missing score has no answer
to compare, so its value is missing.

    search = beam_search(...)          a generator: it asks for the step scores of partial solutions
    found = together([search, ...], score)     many at once, so that a model scores them in batches

Source: Snell et al. (arXiv:2408.03314) for beam search against best-of-n at equal compute, Beeching et al. 2024
(Scaling test-time compute with open models) for DVTS.

What this module does not know: what writes the steps, what scores them, what a solution is worth.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from rmeval.errors import UsageError
from rmeval.metrics.convert import aggregate_steps

ROUNDS = 40
"""Steps after which a solution that is not finished is left."""


class Partial(Protocol):
    """The beginning of a solution, or all of it."""

    @property
    def steps(self) -> tuple[str, ...]:
        """Its texts, in order."""
        ...

    @property
    def done(self) -> bool:
        """Whether it is finished."""
        ...


P = TypeVar("P", bound=Partial)
Write: TypeAlias = Callable[[P, random.Random], P]
"""One more step."""


@dataclass(frozen=True, slots=True)
class Found(Generic[P]):
    """What a search came to."""

    chosen: P | None
    """None where nothing was finished, or a score was missing."""
    written: int
    """Steps written."""
    finished: int
    """Solutions to choose from."""
    missing: bool = False
    """Whether a score was missing."""


Search: TypeAlias = Generator[list[P], list[tuple[float, ...]], Found[P]]
"""Asks for the step scores of partial solutions, and returns what it found."""


@dataclass(frozen=True, slots=True)
class Rules(Generic[P]):
    """What the searches share."""

    start: P
    write: Write[P]
    rng: random.Random
    aggregate: str = "last"
    """How step scores become the reward of a partial solution."""

    def rewards(self, scores: Sequence[tuple[float, ...]]) -> list[float]:
        """[n], NaN where a score is missing."""
        return [aggregate_steps(steps, self.aggregate) for steps in scores]

    def best(self, rewards: Sequence[float], keep: int) -> list[int]:
        """The `keep` best, best first; which of equal ones is drawn."""
        return sorted(range(len(rewards)), key=lambda i: (-rewards[i], self.rng.random()))[:keep]


def check_width(n: int, width: int) -> str:
    """Why n solutions cannot be searched at this width; empty where they can.

    >>> check_width(16, 4), check_width(6, 4)
    ('', '6 is no multiple of the width 4')
    """
    return f"{n} is no multiple of the width {width}" if n < width or n % width else ""


# --- the searches ----------------------------------------------------------------------------------------------------


def beam_search(rules: Rules[P], n: int, width: int) -> Search[P]:
    """Of n active beams n / width survive each step. Raises `UsageError` for an n that is no multiple."""
    if why := check_width(n, width):
        raise UsageError(f"beam search: {why}")
    active, finished, worth, written = [rules.start] * n, list[P](), list[float](), 0
    for _ in range(ROUNDS):
        active = [rules.write(one, rules.rng) for one in active]
        written += len(active)
        rewards = rules.rewards((yield active))
        if any(map(math.isnan, rewards)):
            return Found(None, written, len(finished), missing=True)
        open_: list[P] = []
        of_open: list[float] = []
        for one, reward in zip(active, rewards, strict=True):
            (finished if one.done else open_).append(one)
            (worth if one.done else of_open).append(reward)
        if not open_:
            break
        kept = [open_[i] for i in rules.best(of_open, n // width)]
        active = [kept[i % len(kept)] for i in range(n)]
    return Found(finished[rules.best(worth, 1)[0]] if finished else None, written, len(finished))


def dvts(rules: Rules[P], n: int, width: int) -> Search[P]:
    """Of n / width trees each keeps the best of `width` next steps. Raises `UsageError` as `beam_search`."""
    if why := check_width(n, width):
        raise UsageError(f"DVTS: {why}")
    trees, worth, written = [rules.start] * (n // width), [0.0] * (n // width), 0
    for _ in range(ROUNDS):
        growing = [t for t, tree in enumerate(trees) if not tree.done]
        if not growing:
            break
        tried = [rules.write(trees[t], rules.rng) for t in growing for _ in range(width)]
        written += len(tried)
        rewards = rules.rewards((yield tried))
        if any(map(math.isnan, rewards)):
            return Found(None, written, 0, missing=True)
        for place, t in enumerate(growing):
            first = place * width
            best = first + rules.best(rewards[first : first + width], 1)[0]
            trees[t], worth[t] = tried[best], rewards[best]
    ends = [t for t, tree in enumerate(trees) if tree.done]
    chosen = trees[ends[rules.best([worth[t] for t in ends], 1)[0]]] if ends else None
    return Found(chosen, written, len(ends))


def early_rejection(rules: Rules[P], budget: int, cut: float) -> Search[P]:
    """Solutions one after the other until `budget` steps are written; one that is under way then is lost."""
    finished, worth = list[P](), list[float]()
    one = rules.start
    for written in range(1, budget + 1):
        one = rules.write(one, rules.rng)
        scores = (yield [one])[0]
        if any(map(math.isnan, scores)) or not scores:
            return Found(None, written, len(finished), missing=True)
        if scores[-1] < cut:
            one = rules.start
        elif one.done:
            finished.append(one)
            worth.append(rules.rewards([scores])[0])
            one = rules.start
    return Found(finished[rules.best(worth, 1)[0]] if finished else None, budget, len(finished))


def complete(rules: Rules[P]) -> P:
    """One whole solution, or the first `ROUNDS` steps of one."""
    one = rules.start
    for _ in range(ROUNDS):
        one = rules.write(one, rules.rng)
        if one.done:
            break
    return one


# --- many searches at once -------------------------------------------------------------------------------------------


def together(
    searches: Sequence[Search[P]], score: Callable[[Sequence[tuple[int, P]]], Sequence[tuple[float, ...]]]
) -> list[Found[P]]:
    """What each search finds, all of them advanced side by side.

    `score` gets (number of the search, partial solution) of all that ask, and answers with the scores of the steps.
    """
    found: dict[int, Found[P]] = {}
    asked: dict[int, list[P]] = {}

    def advance(number: int, scores: list[tuple[float, ...]] | None) -> None:
        search = searches[number]
        try:
            asked[number] = next(search) if scores is None else search.send(scores)
        except StopIteration as end:
            asked.pop(number, None)
            found[number] = end.value

    for number in range(len(searches)):
        advance(number, None)
    while asked:
        waiting = dict(asked)
        scores = iter(score([(number, one) for number, batch in waiting.items() for one in batch]))
        for number, batch in waiting.items():
            advance(number, [next(scores) for _ in batch])
    return [found[number] for number in range(len(searches))]
