"""Means of values at hand as metrics, with the interval of the house: what figures beside a headline are made with.

What this module does not know: what the values are.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from rmeval import stats
from rmeval.types import Metric


def mean_figure(
    name: str,
    values: Sequence[float],
    clusters: Sequence[Hashable],
    note: str,
    *,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    higher_is_better: bool = True,
) -> Metric:
    """The mean of the values that are there, clustered; NaN is missing and counted, and without any it is undefined.

    A share where the values lie in [0, 1], else a number.

    >>> mean_figure("judge:both_correct", [1.0, 0.0, math.nan], "abc", "right in both orders").n_missing
    1
    """
    there = [i for i, value in enumerate(values) if not math.isnan(value)]
    lost = len(values) - len(there)
    unit: Literal["fraction", "number"] = "fraction" if bounds == (0.0, 1.0) else "number"
    if not there:
        why = "nothing of the kind was judged" if not values else f"none of {len(values)} could be read"
        return Metric(name, None, None, None, 0, lost, higher_is_better, f"undefined: {why}; {note}", unit)
    numbers = np.array([values[i] for i in there])
    if bounds is not None:
        numbers = np.clip(numbers, *bounds)  # a mean of credits may pass 1 by rounding
    found = stats.mean_interval(numbers, [clusters[i] for i in there], bounds)
    value = math.fsum(numbers) / len(there)
    ci = (min(found.low, value), max(found.high, value)) if found else None
    return Metric(name, value, None, ci, len(there), lost, higher_is_better, note, unit)


def undefined(name: str, why: str, n_missing: int = 0) -> Metric:
    """A share that the data do not determine."""
    return Metric(name, None, n_missing=n_missing, note=f"undefined: {why}")
