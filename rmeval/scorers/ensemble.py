"""Ensembles: a score combined from stored results of several models on one suite, without running any of them.

Scores of different models have different scales, so each model's are normalised over the whole suite first: `z` takes
their mean away and divides by their standard deviation, `rank` gives their place in [0, 1] (equal scores share a
place), `none` leaves them. Then the members are combined: `mean`, `worst` (the least), or `mean-std`, the mean less the
standard deviation between members. A candidate that one member lacks has no score.

What this module does not know: files, texts, grades.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from rmeval.errors import UsageError, near_miss
from rmeval.types import JSON, NAN, Recorded

Combine = Literal["mean", "worst", "mean-std"]
Normalise = Literal["z", "rank", "none"]
Scores = Mapping[str, tuple[float, ...]]
"""Example id -> one score per candidate, NaN where missing."""
_FARTHEST = 1e150

COMBINATIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "worst": min,
    "mean-std": lambda scores: statistics.fmean(scores) - statistics.pstdev(scores),
}


class Ensemble:
    """Scores combined from stored results: ensemble:RESULT,RESULT."""

    name = "ensemble"

    def __init__(self, members: Mapping[str, Scores], *, combine: Combine = "mean", normalise: Normalise = "z") -> None:
        """`members`: a name for each result (its id), and its scores. Raises `UsageError` for fewer than two."""
        if len(members) < 2:
            raise UsageError(f"an ensemble needs two results or more, found {len(members)}")
        self.members = tuple(members)
        self.combine, self.normalise = combine, normalise
        parts = [normalised(scores, normalise) for scores in members.values()]
        try:
            self.rows = {name: _combined([part.get(name, ()) for part in parts], combine) for name in union(parts)}
        except OverflowError:
            raise UsageError(
                "scores of an ensemble's members are too far out for a mean: -a scorer.normalise=z or rank"
            ) from None

    def identity(self) -> dict[str, JSON]:
        """The members by the ids of their results, and how they are combined."""
        return {
            "kind": self.name,
            "members": list(self.members),
            "combine": self.combine,
            "normalise": self.normalise,
        }

    def recorded(self, example_id: str, k: int) -> Recorded | None:
        """The combined scores of an example of k candidates."""
        row = self.rows.get(example_id)
        if row is None:
            return None
        if len(row) != k:
            raise UsageError(f"example {example_id!r} has {k} candidates, and the ensemble's results have {len(row)}")
        return Recorded(scores=row, reasons=tuple("not_in_all" if math.isnan(s) else None for s in row))

    def check_ids(self, known: set[str]) -> None:
        """Raise `UsageError` where the results hold examples that the suite does not have."""
        strange = [name for name in self.rows if name not in known]
        if strange:
            hint = near_miss(strange[0], list(known)[:20000])
            raise UsageError(f"the ensemble's results hold {strange[0]!r}, which this suite does not have. {hint}")


def union(parts: Sequence[Scores]) -> list[str]:
    """Every id that any part has, in order of appearance."""
    return list(dict.fromkeys(name for part in parts for name in part))


def normalised(scores: Scores, how: Normalise) -> dict[str, tuple[float, ...]]:
    """One model's scores on a scale that others share; missing ones stay missing and count for nothing.

    >>> normalised({"a": (1.0, 3.0)}, "z")
    {'a': (-1.0, 1.0)}
    >>> normalised({"a": (1.0, 3.0), "b": (3.0, float("-inf"))}, "rank")
    {'a': (0.0, 0.75), 'b': (0.75, nan)}
    """
    finite = sorted(s for row in scores.values() for s in row if math.isfinite(s))
    if how == "none" or not finite:
        scale: Callable[[float], float] = float
    elif how == "z":
        size = max(1.0, -finite[0] / _FARTHEST, finite[-1] / _FARTHEST)  # beyond that their squares are no numbers
        mean, spread = statistics.fmean(s / size for s in finite), statistics.pstdev(s / size for s in finite)

        def scale(s: float) -> float:
            return (s / size - mean) / spread if spread else 0.0
    else:
        places: dict[float, float] = {}
        for value in dict.fromkeys(finite):
            at, n = finite.index(value), finite.count(value)
            places[value] = (at + (n - 1) / 2) / max(1, len(finite) - 1)

        def scale(s: float) -> float:
            return places[s]

    return {name: tuple(scale(s) if math.isfinite(s) else NAN for s in row) for name, row in scores.items()}


def _combined(rows: Sequence[tuple[float, ...]], combine: Combine) -> tuple[float, ...]:
    k = max(map(len, rows))
    if any(len(row) not in (0, k) for row in rows):
        raise UsageError("the results of an ensemble have different numbers of candidates: another suite, or version?")
    columns = [[row[c] if row else NAN for row in rows] for c in range(k)]
    return tuple(NAN if any(map(math.isnan, column)) else COMBINATIONS[combine](column) for column in columns)
