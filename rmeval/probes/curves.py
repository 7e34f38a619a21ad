"""What a probe says: curves of points with intervals, grouped in panels; what is undefined carries its reason.

What this module does not know: which probe asks, files, figures.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from rmeval import stats
from rmeval.metrics.best_of_k import clustered_auc
from rmeval.metrics.contrasts import FARTHEST

_FLAT = 1e-12
"""A standard error this small is rounding."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a curve."""

    at: float | str
    """Where: a share, a threshold, or the name of a bar."""
    value: float | None
    """None where it is undefined; `note` says why."""
    ci: tuple[float, float] | None
    """95 %, clustered by prompt; None where nothing can be said."""
    n: int
    """Values behind it."""
    n_missing: int = 0
    """Values that would be behind it, had they a score."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """Values of one quantity."""

    panel: str
    """Curves of one panel share their `at` and are drawn together."""
    name: str
    what: str
    """The quantity, in words."""
    points: tuple[Point, ...] = ()
    undefined: str = ""
    """Why there are no points."""


def mean_point(
    at: float | str,
    values: Sequence[float],
    clusters: Sequence[Hashable],
    bounds: tuple[float, float] | None = (0.0, 1.0),
    *,
    nothing: str = "no values",
) -> Point:
    """The mean of values [n] with its clustered interval; NaN are missing. `nothing` says what an empty one lacks.

    >>> mean_point(0.5, [1.0, 0.0, float("nan")], ["a", "b", "c"]).n_missing
    1
    """
    there = [(v, c) for v, c in zip(values, clusters, strict=True) if math.isfinite(v)]
    missing = len(values) - len(there)
    if not there:
        return Point(at, None, None, 0, missing, "every score is missing" if missing else nothing)
    x = [v for v, _ in there]
    if max(map(abs, x)) > FARTHEST:  # their squares, and their sum, may be no numbers, and no axis holds them
        return Point(at, None, None, len(x), missing, f"a value lies beyond {FARTHEST:g}")
    around = stats.mean_interval(x, [c for _, c in there], bounds)
    ci = (around.low, around.high) if around else None
    return Point(at, math.fsum(x) / len(x), ci, len(x), missing)


def auroc_point(at: float | str, scores: Sequence[float], right: Sequence[bool], clusters: Sequence[Hashable]) -> Point:
    """How often a right response outscores a wrong one, ties half; NaN are missing.

    The interval is Obuchowski's clustered one with t of C - 1 degrees; none below ten prompts, and none where the sides
    do not overlap, since the data then show no spread to reason from.
    """
    there = [i for i, score in enumerate(scores) if math.isfinite(score)]
    missing, ids = len(scores) - len(there), [clusters[i] for i in there]
    sides = np.array([float(right[i]) for i in there])
    area, se = clustered_auc(np.array([scores[i] for i in there], dtype=np.float64), sides, ids)
    if math.isnan(area):
        return Point(at, None, None, len(there), missing, "needs right and wrong responses with scores")
    c = len(set(ids))
    if c < stats.FEW_CLUSTERS or not se > _FLAT:
        return Point(at, area, None, len(there), missing)
    half = stats.t_quantile(0.5 + stats.LEVEL / 2, c - 1) * se
    return Point(at, area, (max(0.0, area - half), min(1.0, area + half)), len(there), missing)


def reasons(curves: Sequence[Curve]) -> dict[str, list[str]]:
    """What is undefined, by reason: a panel by its name where none of its curves has points, else the curve's.

    >>> reasons([Curve("drift", "all", "", (), "no steps"), Curve("drift", "right", "", (), "no steps")])
    {'no steps': ['drift']}
    """
    partly = {curve.panel for curve in curves if curve.points}
    found: dict[str, list[str]] = {}
    for curve in curves:
        if not curve.points:
            alike = {c.undefined for c in curves if c.panel == curve.panel}
            whole = curve.panel not in partly and len(alike) == 1
            named = found.setdefault(curve.undefined, [])
            name = curve.panel if whole else f"{curve.panel}: {curve.name}"
            if name not in named:
                named.append(name)
    return found
