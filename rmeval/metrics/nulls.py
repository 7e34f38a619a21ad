"""Null baselines: what the headline would be for scorers that know nothing, on the same rows.

What this module does not know: texts. Lengths come with the judgements, where the texts were at hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from rmeval.metrics import columns
from rmeval.metrics.table import Table
from rmeval.types import NAN, Judgement


def length(j: Judgement) -> Judgement:
    """Longer is better, in characters; missing where the texts are not at hand, and for steps."""
    known = len(j.lengths) == len(j.grades)
    return _scored(j, lambda c: float(j.lengths[c]) if known else NAN, lambda _c, _s: NAN, "no_text")


def random(j: Judgement, draw: int = 0) -> Judgement:
    """One draw per candidate from a hash of draw, example id and index: the same in every run."""
    return _scored(j, lambda c: _unit(draw, j.id, c), lambda c, s: _unit(draw, j.id, c, s))


def constant(j: Judgement) -> Judgement:
    """The same score for every candidate and step."""
    return _scored(j, lambda _: 0.5, lambda _c, _s: 0.5)


NULLS: dict[str, tuple[Callable[[Judgement], Judgement], str]] = {
    "length": (length, "a scorer that prefers the longer response (characters)"),
    "random": (random, "one seeded draw per candidate"),
    "constant": (constant, "the same score for every candidate"),
}
"""Name -> how the judgement is replaced, and what it stands for."""


def stood_in(name: str, judgements: Sequence[Judgement], draw: int = 0) -> Sequence[Judgement]:
    """All judgements as the baseline of this name would have scored them."""
    if isinstance(judgements, Table):
        if name == "random":
            return columns.random(judgements, draw)
        return {"length": columns.length, "constant": columns.constant}[name](judgements)
    return [random(j, draw) for j in judgements] if name == "random" else [NULLS[name][0](j) for j in judgements]


def draws(n: int) -> int:
    """Draws whose mean is the random baseline of n examples; one of 500 pairs is off by 2 points every third time.

    >>> draws(500), draws(3000), draws(60_000)
    (16, 3, 1)
    """
    return max(1, min(16, round(8000 / max(n, 1))))


def _unit(*parts: str | int) -> float:
    """A number in [0, 1) that depends on nothing but its parts."""
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _scored(
    j: Judgement, score: Callable[[int], float], step: Callable[[int, int], float], reason: str | None = None
) -> Judgement:
    return replace(
        j,
        scores=tuple(score(c) for c in range(len(j.grades))),
        step_scores=tuple(tuple(step(c, s) for s in range(len(grades))) for c, grades in enumerate(j.step_grades)),
        verdicts=(),
        ratings=(),
        reasons=(reason,) * len(j.grades),
    )
