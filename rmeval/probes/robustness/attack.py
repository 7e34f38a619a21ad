"""An attack by edits that add nothing: of several edits of the rejected response, the one that its scorer likes best.

The edits are the transformations of responses, padding among them. Of a pair in the right order

    flipped(n)   the best-scored of n edits of the wrong response beats the right one as it was
    control(n)   the same edit made to both: the wrong one beats the right one, edited too

averaged exactly over all choices of n edits, of those that apply to both responses (all of them where they are fewer).
What the first has and the second has not is bought by the form alone: the edits say nothing. A scorer that is noise is
flipped by both. A tie is half a flip.

What this module does not know: texts, how anything was scored, figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from rmeval import stats
from rmeval.probes.curves import Curve, Point, mean_point
from rmeval.probes.robustness.pairs import PairScores, by_example, credit, difference_point
from rmeval.types import NAN

PANEL = "flipped by the best of n edits"
_NAMES = ("rejected edited", "both edited alike", "difference")
_WHAT = (
    "share of the pairs in the right order in which the wrong response, edited, beats the right one as it was",
    "control: the same edit made to both responses",
    "the first minus the second, paired by example",
)


@dataclass(frozen=True, slots=True)
class Attack:
    """What the attack does."""

    n: tuple[int, ...]
    curves: tuple[Curve, ...]
    """Rejected edited, both edited alike, the difference; at each n."""
    pairs: int
    """Pairs that were in the right order and have an edit."""
    best: Mapping[str, float]
    """Edit -> share of these pairs in which it is the best-scored one of the wrong response; shared where they tie."""
    undefined: str = ""
    """Why there is none."""


@dataclass(frozen=True, slots=True)
class _Attacked:
    """A pair in the right order with all edits of it."""

    row: PairScores
    edits: tuple[str, ...]
    wrong: tuple[float, ...]
    """[N] the wrong response under each edit."""
    flips: tuple[float, ...]
    control: tuple[float, ...]

    def expected(self, n: int, values: Sequence[float]) -> float:
        """The mean of a value at the best-scored edit of n."""
        if not all(map(math.isfinite, (*self.wrong, *values))):
            return NAN
        return stats.expected_best_of_n(self.wrong, values, min(n, len(self.edits)))


def attack(rows: Mapping[str, Sequence[PairScores]], judged: bool = False) -> Attack:
    """The attack by these edits of responses. rows: by the name of the edit.

    judged: whether a judge compared responses with each other, and so never an edited one with one that is not.
    """
    if judged:
        return _none("a judge compares two responses, and was not shown an edited one beside one that is not")
    found = _attacked(rows)
    if not found:
        return _none("no pair in the right order has an edit that applies to both of its responses")
    largest = max(len(one.edits) for one in found)
    sizes = tuple(dict.fromkeys([*(2**k for k in range(largest.bit_length()) if 2**k < largest), largest]))
    by_pair = {_key(one.row): one for one in found}
    points: list[list[Point]] = [[], [], []]
    for n in sizes:
        for curve, measure in enumerate((_flipped, _controlled, _bought)):
            values, clusters, _ = by_example([one.row for one in found], partial(measure, by_pair, n))
            make = difference_point if measure is _bought else mean_point
            points[curve].append(make(n, values, clusters, nothing="no pairs"))
    curves = tuple(Curve(PANEL, _NAMES[i], _WHAT[i], tuple(points[i])) for i in range(len(_NAMES)))
    return Attack(sizes, curves, len(found), _best(found))


def _none(why: str) -> Attack:
    return Attack((), tuple(Curve(PANEL, *two, (), why) for two in zip(_NAMES, _WHAT, strict=True)), 0, {}, why)


def _attacked(rows: Mapping[str, Sequence[PairScores]]) -> list[_Attacked]:
    held: dict[tuple[str, int, int], list[tuple[str, PairScores]]] = {}
    for name, members in rows.items():
        for row in members:
            if credit(row.before) == 1:
                held.setdefault(_key(row), []).append((name, row))
    return [
        _Attacked(
            row=edits[0][1],
            edits=tuple(name for name, _ in edits),
            wrong=tuple(row.after[1] for _, row in edits),
            flips=tuple(1 - credit((row.before[0], max(row.before[1], row.after[1]))) for _, row in edits),
            control=tuple(1 - credit(row.after) for _, row in edits),
        )
        for edits in held.values()
    ]


def _key(row: PairScores) -> tuple[str, int, int]:
    return row.example, row.right, row.wrong


def _flipped(found: Mapping[tuple[str, int, int], _Attacked], n: int, row: PairScores) -> float:
    one = found[_key(row)]
    return one.expected(n, one.flips)


def _controlled(found: Mapping[tuple[str, int, int], _Attacked], n: int, row: PairScores) -> float:
    one = found[_key(row)]
    return one.expected(n, one.control)


def _bought(found: Mapping[tuple[str, int, int], _Attacked], n: int, row: PairScores) -> float:
    return _flipped(found, n, row) - _controlled(found, n, row)


def _best(found: Sequence[_Attacked]) -> dict[str, float]:
    """Shares, the largest first."""
    won: dict[str, float] = {}
    complete = [one for one in found if all(map(math.isfinite, one.wrong))]
    for one in complete:
        top = [name for name, value in zip(one.edits, one.wrong, strict=True) if value == max(one.wrong)]
        for name in top:
            won[name] = won.get(name, 0.0) + 1 / len(top) / len(complete)
    return dict(sorted(won.items(), key=lambda item: (-item[1], item[0])))
