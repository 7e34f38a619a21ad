"""Whether a scorer favours a writer: how often one is wrongly preferred, less how often it is wrongly passed over.

What this module does not know: how preferences were read, who the scorer is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rmeval import stats


@dataclass(frozen=True, slots=True)
class Missed:
    """A pair of different writers, one of them right."""

    right: str
    wrong: str
    share: float
    """How far the wrong one was preferred, in [0, 1]."""
    cluster: str


@dataclass(frozen=True, slots=True)
class Favour:
    """What one writer gets."""

    value: float
    """`gained - lost`; 0 is neutral."""
    ci: tuple[float, float]
    """95 %, prompts resampled."""
    gained: float
    """How often it is preferred where the other is right."""
    lost: float
    """How often the other is preferred where it is right."""
    n: int
    """Pairs."""


def favours(missed: Sequence[Missed]) -> Mapping[str, Favour]:
    """What each writer gets, by name; those with fewer than ten prompts on either side are left out.

    >>> rows = [Missed("a", "b", 0.0, str(i)) for i in range(10)] + [Missed("b", "a", 0.5, str(i)) for i in range(10)]
    >>> {name: found.value for name, found in favours(rows).items()}
    {'a': 0.5, 'b': -0.5}
    """
    rows: dict[str, list[tuple[bool, float, str]]] = {}
    for one in missed:
        rows.setdefault(one.right, []).append((False, one.share, one.cluster))
        rows.setdefault(one.wrong, []).append((True, one.share, one.cluster))
    found = {}
    for name in sorted(rows):
        prompts = [{cluster for gained, _, cluster in rows[name] if gained is side} for side in (True, False)]
        if min(map(len, prompts)) >= stats.FEW_CLUSTERS:
            found[name] = _favour(rows[name])
    return found


def _favour(rows: Sequence[tuple[bool, float, str]]) -> Favour:
    codes, n = stats.cluster_codes([cluster for _, _, cluster in rows])
    sums, counts = np.zeros((n, 2)), np.zeros((n, 2))
    for code, (gained, share, _) in zip(codes.tolist(), rows, strict=True):
        sums[code, int(not gained)] += share
        counts[code, int(not gained)] += 1
    gained_, lost = (sums.sum(axis=0) / counts.sum(axis=0)).tolist()
    drawn = stats.cluster_bootstrap(sums, counts)
    value = gained_ - lost
    ci = stats.percentile_interval(drawn[:, 0] - drawn[:, 1], value)
    return Favour(value, ci, gained_, lost, len(rows))
