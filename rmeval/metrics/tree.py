"""The aggregation tree: credits -> means -> formulas -> the number of a section or suite, with its interval.

    Leaf (the credits of one component in some subsets) -> Branch (a formula over leaves, with a weight) -> Aggregate

A plain pooled mean has a clustered interval. Anything nested is recomputed exactly in every replicate of a cluster
bootstrap. Leaves that cannot be resampled honestly (all credits equal, or few clusters) are held still there and enter
through the ends of their own Wilson interval (MOVER: Zou and Donner, 2008).

What this module does not know: rules, plans, names of metrics.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rmeval import stats
from rmeval.metrics.columns import Column, entered
from rmeval.metrics.credit import Credit, Formula, Linear
from rmeval.stats import Floats, Ints


@dataclass(frozen=True)
class Leaf:
    """The credits of one component over the subsets it pools."""

    name: str
    """For messages: the subsets and the component."""
    rows: Sequence[Credit]
    bounds: tuple[float, float] = (0.0, 1.0)

    @cached_property
    def scored(self) -> Sequence[Credit]:
        """The rows that have a value."""
        if isinstance(self.rows, Column):
            return self.rows.take(~self.rows.missing)
        return tuple(row for row in self.rows if not math.isnan(row.value))

    @cached_property
    def values(self) -> Floats:
        """The values that are there: [n]."""
        if isinstance(self.rows, Column):
            there = self.rows.values[~self.rows.missing] if self.rows.missing.any() else self.rows.values
            return np.asarray(there, dtype=np.float64)
        return np.array([row.value for row in self.scored], dtype=np.float64)

    @cached_property
    def clusters(self) -> Sequence[str]:
        """Their clusters: [n]."""
        if isinstance(self.rows, Column):
            return self.rows.clusters
        return tuple(row.cluster for row in self.scored)

    @cached_property
    def mean(self) -> float:
        """Mean of the values that are there; NaN where there is none."""
        # fsum: the mean must not depend on the order of the rows
        return math.fsum(self.values) / len(self.values) if len(self.values) else math.nan

    @cached_property
    def interval(self) -> stats.Interval | None:
        """The clustered interval of the mean."""
        return stats.mean_interval(self.values, self.clusters, self.bounds) if len(self.values) else None

    @cached_property
    def steady(self) -> bool:
        """Whether a bootstrap of this leaf would claim too much, so that it enters by its own interval."""
        return self.interval is None or stats.hardly_varies(self.values, self.clusters)

    def filled(self, end: int) -> Leaf:
        """The leaf with every missing value at the low (0) or high (1) end of its range."""
        fill = self.bounds[end]
        if isinstance(self.rows, Column):
            return replace(self, rows=self.rows.filled(fill))
        return replace(self, rows=tuple(replace(r, value=fill) if math.isnan(r.value) else r for r in self.rows))


@dataclass(frozen=True, slots=True)
class Branch:
    """A formula over the leaves of some subsets, and its weight in the aggregate."""

    weight: float
    formula: Formula
    leaves: dict[str, Leaf]
    """By component."""

    @property
    def is_mean(self) -> bool:
        """Whether it is no more than the mean of one leaf."""
        return self.weight == 1 and isinstance(self.formula, Linear) and list(self.formula.weights.values()) == [1.0]


@dataclass(frozen=True)
class Aggregate:
    """A number: the sum of its branches, or the reason why there is none."""

    branches: tuple[Branch, ...]
    undefined: str = ""
    """What is missing, in words; the value is None then."""

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """Every leaf that enters the value."""
        return tuple(leaf for branch in self.branches for leaf in branch.leaves.values())

    @cached_property
    def why_none(self) -> str:
        """Why the value is None; empty where it is a number."""
        empty = [leaf.name for leaf in self.leaves if not leaf.values.size]
        return self.undefined or (f"no scored examples for {', '.join(empty)}" if empty else "")

    @cached_property
    def value(self) -> float | None:
        """The number; None where it is undefined."""
        return None if self.why_none else float(self.combine(lambda leaf: np.asarray(leaf.mean)))

    @cached_property
    def keys(self) -> dict[str, bool]:
        """The examples that should enter the value, by id: whether each does."""
        entered: dict[str, bool] = {}
        for leaf in self.leaves:
            for row in leaf.rows:
                entered[row.key] = entered.get(row.key, True) and not math.isnan(row.value)
        return entered

    @cached_property
    def entered(self) -> tuple[int, int]:
        """How many examples enter the value, and how many should and do not."""
        columns = [leaf.rows for leaf in self.leaves if isinstance(leaf.rows, Column)]
        if columns and len(columns) == len(self.leaves):
            return entered(columns)
        n = sum(self.keys.values())
        return n, len(self.keys) - n

    @cached_property
    def prompts(self) -> int:
        """How many clusters the scored examples come from."""
        if len(self.leaves) == 1:
            return stats.cluster_codes(self.leaves[0].clusters)[1]
        return len({name for leaf in self.leaves for name in leaf.clusters})

    @property
    def is_plain(self) -> bool:
        """Whether it is the pooled mean of one leaf."""
        return len(self.leaves) == 1 and self.branches[0].is_mean

    def combine(self, mean_of: Callable[[Leaf], Floats]) -> Floats:
        """The aggregate of the means that `mean_of` says, elementwise."""
        total = sum(
            branch.weight * branch.formula.value({name: mean_of(leaf) for name, leaf in branch.leaves.items()})
            for branch in self.branches
        )
        return np.asarray(total, dtype=np.float64)

    def scaled(self, factor: float) -> tuple[Branch, ...]:
        """Its branches inside a larger aggregate."""
        return tuple(replace(branch, weight=branch.weight * factor) for branch in self.branches)

    def filled(self, end: int) -> Aggregate:
        """The aggregate with every missing value at the low (0) or high (1) end of its range."""
        return replace(
            self,
            branches=tuple(
                replace(b, leaves={name: leaf.filled(end) for name, leaf in b.leaves.items()}) for b in self.branches
            ),
        )

    def influence(self) -> dict[str, tuple[str, float, float]]:
        """What each scored example adds, linearised at the value: id -> (cluster, weight, value).

        sum(weight * value) is the value. An example that enters several leaves has the sum of its weights and the
        weighted mean of its values.
        """
        shares: dict[str, list[tuple[float, float]]] = {}
        cluster: dict[str, str] = {}
        for branch in self.branches:
            slopes = branch.formula.slopes({name: leaf.mean for name, leaf in branch.leaves.items()})
            for name, leaf in branch.leaves.items():
                weight = branch.weight * slopes[name] / leaf.values.size
                for row in leaf.scored:
                    shares.setdefault(row.key, []).append((weight, row.value))
                    cluster[row.key] = row.cluster
        items = {}
        for key, parts in shares.items():
            total = math.fsum(w for w, _ in parts)
            items[key] = cluster[key], total, math.fsum(w * v for w, v in parts) / total if total else 0.0
        return items


def replicate(aggregates: Sequence[Aggregate], *, replicates: int, seed: int, hold_steady: bool) -> Floats:
    """Every aggregate recomputed in the same resamples of whole clusters: [replicates, len(aggregates)].

    hold_steady keeps leaves that cannot be resampled honestly at their mean, for `interval` to widen by.
    """
    leaves = list({id(leaf): leaf for aggregate in aggregates for leaf in aggregate.leaves}.values())
    column = {id(leaf): index for index, leaf in enumerate(leaves)}
    numbers, size = _numbered(leaves)
    sums, counts = np.zeros((size, len(leaves))), np.zeros((size, len(leaves)))
    for index, (leaf, rows) in enumerate(zip(leaves, numbers, strict=True)):
        np.add.at(sums[:, index], rows, leaf.values)
        np.add.at(counts[:, index], rows, 1)
    patterns = [row.tobytes() for row in counts > 0]
    alike = Counter(patterns)
    # a stratum of a few clusters would hardly vary: those are drawn together
    strata = [pattern if alike[pattern] >= stats.FEW_CLUSTERS else b"few" for pattern in patterns]
    means = stats.cluster_bootstrap(sums, counts, strata, replicates=replicates, seed=seed)
    for index, leaf in enumerate(leaves):
        # a leaf that no drawn cluster touches says nothing in that replicate
        idle = np.isnan(means[:, index]) if not (hold_steady and leaf.steady) else slice(None)
        means[idle, index] = leaf.mean
    return np.stack([a.combine(lambda leaf: means[:, column[id(leaf)]]) for a in aggregates], axis=1)


def _numbered(leaves: Sequence[Leaf]) -> tuple[list[Ints], int]:
    """The cluster of each row of each leaf as a number, in sorted order of their names, and how many there are."""
    columns = [leaf.rows for leaf in leaves if isinstance(leaf.rows, Column)]
    if len(columns) == len(leaves):
        known = [column.table.prompts[~column.missing] for column in columns]
        used, codes = np.unique(np.concatenate(known), return_inverse=True)
        return np.split(codes, np.cumsum([len(rows) for rows in known])[:-1]), used.size
    code = {name: i for i, name in enumerate(sorted({name for leaf in leaves for name in leaf.clusters}))}
    return [np.array([code[name] for name in leaf.clusters], dtype=np.intp) for leaf in leaves], len(code)


def interval(aggregate: Aggregate, replicated: Floats | None = None) -> stats.Interval | None:
    """The 95 % interval of an aggregate that has a value; None where it cannot be estimated.

    replicated: [replicates], its column of `replicate(..., hold_steady=True)`; not needed for a plain mean.
    """
    if aggregate.is_plain:
        return aggregate.leaves[0].interval
    value = aggregate.value
    assert value is not None
    assert replicated is not None
    low, high = stats.percentile_interval(replicated, value)
    steady = [leaf for leaf in aggregate.leaves if leaf.steady]
    down, up = (value - low) ** 2, (high - value) ** 2
    for moved in steady:
        if moved.interval is None:
            return None
        for end in (moved.interval.low, moved.interval.high):
            shift = float(_moved(aggregate, moved, end)) - value
            down, up = down + min(0.0, shift) ** 2, up + max(0.0, shift) ** 2
    if down == up == 0:
        return None
    least = float(aggregate.combine(lambda leaf: np.asarray(leaf.bounds[0])))
    most = float(aggregate.combine(lambda leaf: np.asarray(leaf.bounds[1])))
    return stats.Interval(
        max(least, value - math.sqrt(down)),
        min(most, value + math.sqrt(up)),
        "cluster bootstrap of the whole tree" + (" with clustered Wilson where subsets hardly vary" if steady else ""),
    )


def _moved(aggregate: Aggregate, moved: Leaf, mean: float) -> Floats:
    return aggregate.combine(lambda leaf: np.asarray(mean if leaf is moved else leaf.mean))
