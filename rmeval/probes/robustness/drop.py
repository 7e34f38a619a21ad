"""How much accuracy a transformation costs: paired by example, clustered by prompt, adjusted by Holm.

Accuracy here is the share of (right, wrong) pairs of an example in the right order, ties half, averaged over examples:
the same for every suite, and no suite's official number. Only pairs of which both responses were transformed count, on
both sides of the comparison.

What this module does not know: texts, how anything was scored, figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rmeval import stats
from rmeval.probes.curves import Point, mean_point
from rmeval.probes.robustness.pairs import PairScores, by_example, credit, difference_point

if TYPE_CHECKING:
    from rmeval.probes.robustness.transformations import Transformation

NOWHERE = "applies to no pair of these examples"


@dataclass(frozen=True, slots=True)
class Drop:
    """One transformation."""

    transformation: str
    group: str
    changes: str
    what: str
    original: Point
    """Accuracy on the pairs that it applies to, as they were."""
    transformed: Point
    """The same pairs, transformed."""
    drop: Point
    """Original minus transformed, paired by example."""
    p: float | None
    """Two-sided, sign-flip permutation of the prompts' summed drops; None where it applies nowhere."""
    p_holm: float | None
    """Over the transformations that apply somewhere."""
    pairs: int
    """(right, wrong) pairs behind it."""
    not_applicable: int
    """Examples without a pair that it applies to."""
    subsets: tuple[Point, ...] = ()
    """The drop per subset of the suite."""


@dataclass(frozen=True, slots=True)
class GroupDrop:
    """All transformations of a group: each example counts once, with the mean drop over those that apply to it."""

    group: str
    drop: Point
    transformations: int
    """Those that apply somewhere."""


def drops(
    rows: Mapping[str, Sequence[PairScores]], transformations: Sequence[Transformation], examples: int
) -> tuple[Drop, ...]:
    """One per transformation. rows: by its name. examples: how many there are, for those it does not apply to."""
    made = [_drop(rows[one.name], one, examples) for one in transformations]
    found = {one.transformation: one.p for one in made if one.p is not None}
    adjusted = dict(zip(found, stats.holm(list(found.values())).tolist(), strict=True))
    return tuple(replace(one, p_holm=adjusted.get(one.transformation)) for one in made)


def group_drops(
    rows: Mapping[str, Sequence[PairScores]], transformations: Sequence[Transformation]
) -> tuple[GroupDrop, ...]:
    """One per group that has transformations."""
    made = []
    for group in dict.fromkeys(one.group for one in transformations):
        members = [one.name for one in transformations if one.group == group]
        per_example: dict[str, list[float]] = {}
        clusters: dict[str, str] = {}
        for name in members:
            names = list(dict.fromkeys(row.example for row in rows[name]))
            lost, _, _ = by_example(rows[name], _lost)
            clusters |= {row.example: row.cluster for row in rows[name]}
            for example, value in zip(names, lost, strict=True):
                per_example.setdefault(example, []).append(value)
        values = [math.fsum(held) / len(held) for held in per_example.values()]
        point = difference_point(group, values, [clusters[e] for e in per_example], NOWHERE)
        made.append(GroupDrop(group, point, sum(bool(rows[name]) for name in members)))
    return tuple(made)


def _drop(rows: Sequence[PairScores], how: Transformation, examples: int) -> Drop:
    lost, clusters, subsets = by_example(rows, _lost)
    # where one side is missing, the example counts on neither
    before, _, _ = by_example(rows, lambda row: credit(row.before) + 0 * credit(row.after))
    after, _, _ = by_example(rows, lambda row: credit(row.after) + 0 * credit(row.before))
    there = [i for i, value in enumerate(lost) if math.isfinite(value)]
    p = stats.sign_flip([lost[i] for i in there], [clusters[i] for i in there]) if there else None
    each = []
    for subset in dict.fromkeys(subsets):
        inside = [i for i, name in enumerate(subsets) if name == subset]
        each.append(difference_point(subset, [lost[i] for i in inside], [clusters[i] for i in inside], NOWHERE))
    return Drop(
        transformation=how.name,
        group=how.group,
        changes=how.changes,
        what=how.what,
        original=mean_point(how.name, before, clusters, nothing=NOWHERE),
        transformed=mean_point(how.name, after, clusters, nothing=NOWHERE),
        drop=difference_point(how.name, lost, clusters, NOWHERE),
        p=p,
        p_holm=None,
        pairs=len(rows),
        not_applicable=examples - len(lost),
        subsets=tuple(each),
    )


def _lost(row: PairScores) -> float:
    return credit(row.before) - credit(row.after)
