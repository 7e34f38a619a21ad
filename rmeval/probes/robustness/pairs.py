"""Right against wrong before and after a transformation: the rows that drops and attacks are computed from.

What this module does not know: texts, how anything was scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rmeval import stats
from rmeval.metrics.convert import scores_of
from rmeval.probes.curves import Point, mean_point
from rmeval.types import NAN, Judgement


@dataclass(frozen=True, slots=True)
class PairScores:
    """One right and one wrong response, scored as they were and as transformed."""

    example: str
    cluster: str
    subset: str
    right: int
    wrong: int
    before: tuple[float, float]
    """(right, wrong), NaN where missing; of a judge, what each won of the comparisons of the two."""
    after: tuple[float, float]


def credit(two: tuple[float, float]) -> float:
    """1 where the right one scores higher, 0.5 for a tie, 0; NaN where a score is missing.

    >>> credit((2.0, 1.0)), credit((1.0, 1.0))
    (1.0, 0.5)
    """
    if not all(map(math.isfinite, two)):
        return NAN
    return 0.5 * (1 + (two[0] > two[1]) - (two[0] < two[1]))


def pair_scores(before: Judgement, after: Judgement, places: Sequence[int]) -> Iterator[PairScores]:
    """Every right candidate against every wrong one, of those that were transformed.

    places: for each candidate of `after`, which candidate of `before` it was.
    """
    top = max(before.grades)
    rights = [i for i, place in enumerate(places) if before.grades[place] == top]
    wrongs = [i for i, place in enumerate(places) if before.grades[place] < top]
    for r in rights:
        for w in wrongs:
            was = (places[r], places[w])
            yield PairScores(before.id, before.cluster, before.subset, *was, _two(before, *was), _two(after, r, w))


def by_example(
    rows: Iterable[PairScores], value: Callable[[PairScores], float]
) -> tuple[list[float], list[Hashable], list[str]]:
    """(mean over its pairs, cluster, subset) of every example; an example with a missing pair is missing."""
    held: dict[str, list[PairScores]] = {}
    for row in rows:
        held.setdefault(row.example, []).append(row)
    means = [math.fsum(map(value, members)) / len(members) for members in held.values()]
    first: Mapping[str, PairScores] = {name: members[0] for name, members in held.items()}
    return means, [row.cluster for row in first.values()], [row.subset for row in first.values()]


def difference_point(at: float | str, values: Sequence[float], clusters: Sequence[Hashable], nothing: str) -> Point:
    """The mean of differences of credits [n], each in [-1, 1], with its clustered interval; NaN are missing.

    Where none differs from 0 the interval is what so many prompts without any difference allow: the mean is at most the
    share of examples that differ, whose upper end of Wilson's interval bounds it on both sides.

    >>> [round(end, 4) for end in difference_point("typos", [0.0] * 100, range(100), "").ci]
    [-0.0379, 0.0379]
    """
    point = mean_point(at, values, clusters, (-1.0, 1.0), nothing=nothing)
    there = [cluster for value, cluster in zip(values, clusters, strict=True) if math.isfinite(value)]
    if point.ci is None or any(value for value in values if math.isfinite(value)):
        return point
    around = stats.clustered_wilson([0.0] * len(there), there)
    return replace(point, ci=(-around[1], around[1]) if around else None)


def _two(j: Judgement, a: int, b: int) -> tuple[float, float]:
    """What two candidates got; verdicts count where they are about these two alone, so that no third one matters."""
    met = tuple(v for v in j.verdicts if set(v.order) == {a, b}) if len(j.grades) > 2 else ()
    if met:
        order = {a: 0, b: 1}
        verdicts = tuple(replace(v, order=tuple(order[c] for c in v.order)) for v in met)
        values = scores_of(replace(j, grades=(1.0, 0.0), verdicts=verdicts)).values
        return values[0], values[1]
    values = scores_of(j).values
    return values[a], values[b]
