"""How the ranked entries of a suite stand to each other and to the null baselines: one matrix, one bootstrap.

    standing_of(sheets, suite, sign, known) -> Standing      None where there is nothing to rank

The matrix holds a row per credit and a column per entry, on the examples that all of them scored. Most columns are
credits that were kept; an entry whose rule looks at several examples at once is measured again where some of its
examples are left out. The tree of the headline (weights, formulas, clusters) is that of one entry's rows, measured here
and now.

What this module does not know: where rows and sheets come from, pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rmeval import stats
from rmeval.errors import UsageError
from rmeval.leaderboard.shape import Versus
from rmeval.leaderboard.sheet import Frame, Layout, Sheet, laid_out
from rmeval.metrics.book import Book
from rmeval.metrics.nulls import NULLS
from rmeval.metrics.plan import MetricPlan
from rmeval.metrics.tree import Aggregate, Leaf
from rmeval.stats import Floats, Ints
from rmeval.suites import Suite
from rmeval.types import Judgement

COMPARED = ("length", "random")
"""The null baselines that every ranked entry is compared with."""
ROW_BY_ROW = frozenset({"accuracy", "style_matrix", "reciprocal_rank", "both_orders", "judgebench", "first_error"})
"""Rules that give an example the same credit whatever other examples there are."""
_TOGETHER = 64
"""Entries that are resampled at once; all see the same resamples."""


@dataclass(frozen=True, slots=True)
class Known:
    """What sheets name and do not hold."""

    frames: Mapping[str, Frame]
    layouts: Mapping[str, Layout]
    rows_of: Callable[[Sheet], Sequence[Judgement]]
    """The rows that a sheet was measured from."""


@dataclass(frozen=True)
class Standing:
    """The ranked entries, in the order of the sheets given."""

    models: tuple[str, ...]
    ranks: stats.RankSets
    versus: tuple[dict[str, Versus], ...]
    common: int
    """Examples that all of them scored."""
    estimates: Floats
    """[K] headlines on the common examples."""
    errors: Floats
    """[K, K] standard errors of their differences."""
    solved: tuple[float, float] | None
    """Shares of the common examples on which all earn full credit, and on which none earns anything."""

    @cached_property
    def resolvable(self) -> float | None:
        """The difference that two typical entries are told apart by with 80 % power."""
        upper = self.errors[np.triu_indices(len(self.models), 1)]
        found = upper[upper > 0]
        return float(stats.minimum_detectable_effect(float(np.median(found)))) if found.size else None

    @property
    def told_apart(self) -> tuple[int, int] | None:
        """Of how many pairs the order is known, and how many there are."""
        k = len(self.models)
        couples = k * (k - 1) // 2
        return (couples - sum(map(len, self.ranks.tied)) // 2, couples) if couples else None


def shared_examples(sheets: Sequence[Sheet], known: Known) -> list[str]:
    """The examples that all sheets have and scored, in the order of the first.

    Raises `UsageError` where ids agree and labels or texts do not, and where nothing is shared.
    """
    different = list(dict.fromkeys(s.frame for s in sheets))
    first = known.frames[different[0]]
    shared = set(first.ids)
    for name in different[1:]:
        _check_same(first, known.frames[name])
        shared &= set(known.frames[name].ids)
    for name in dict.fromkeys(s.layout for s in sheets):
        shared &= _credited([s for s in sheets if s.layout == name], known.layouts[name])
    if not shared:
        raise UsageError("no example is scored by every entry")
    return [key for key in first.ids if key in shared]


def _check_same(one: Frame, other: Frame) -> None:
    mine = dict(zip(one.ids, zip(one.labels, one.texts, strict=True), strict=True))
    for key, label, text in zip(other.ids, other.labels, other.texts, strict=True):
        if (here := mine.get(key)) is None:
            continue
        if label != here[0]:
            raise UsageError(f"example {key!r} has other labels in one of them")
        if text and here[1] and text != here[1]:
            raise UsageError(f"example {key!r} has another prompt or other candidates in one of them")


def _credited(sheets: Sequence[Sheet], layout: Layout) -> set[str]:
    """The examples for which each of some sheets of one layout has a credit."""
    names = sorted(set(layout.keys))
    place = {key: i for i, key in enumerate(names)}
    where = np.array([place[key] for key in layout.keys], dtype=np.intp)
    everywhere = np.ones(len(names), dtype=bool)
    for sheet in sheets:
        everywhere &= np.bincount(where, weights=np.isfinite(sheet.credits), minlength=len(names)) > 0
    return {names[i] for i in np.flatnonzero(everywhere)}


def standing_of(sheets: Sequence[Sheet], suite: Suite, sign: int, known: Known) -> Standing | None:
    """Ranks, intervals and comparisons of the sheets' entries; None where nothing can be ranked."""
    if not sheets:
        return None
    models = tuple(s.model for s in sheets)
    try:
        common = shared_examples(sheets, known)
        # score-only rows do not know which prompts are equal; those of a result with texts do
        base = next((s for s in sheets if _has_texts(known.frames[s.frame], common)), sheets[0])
        by_id = {j.id: j for j in known.rows_of(base)}
        matrix = _Matrix([by_id[key] for key in common], suite.plan)
        columns = [matrix.column(s, known) for s in sheets]
        nulls = {name: found for name in COMPARED if name not in models and (found := matrix.null(name)) is not None}
        columns += nulls.values()
    except UsageError:
        return None
    values = np.stack(columns, axis=1)
    drawn = matrix.replicates(values)
    earned, shares, clusters = matrix.earned(values)
    all_columns = _Columns((*models, *nulls), earned, np.array([math.fsum(c) for c in earned.T]), drawn, clusters)
    estimates, k = all_columns.estimates, len(sheets)
    errors = stats.paired_errors(drawn[:, :k])
    ranks = stats.rank_sets(sign * estimates[:k], sign * drawn[:, :k])
    linear = bool(np.ptp(shares, axis=1).max() < 1e-12)  # elsewhere an item is a slope and not a credit
    credit = np.divide(earned, shares, out=np.zeros_like(earned), where=shares != 0)[:, :k]
    return Standing(
        models=models,
        ranks=ranks,
        versus=_versus(all_columns, k),
        common=len(common),
        estimates=estimates[:k],
        errors=errors,
        solved=(float((credit >= 1 - 1e-9).all(axis=1).mean()), float((credit <= 1e-9).all(axis=1).mean()))
        if linear
        else None,
    )


def _has_texts(frame: Frame, common: Sequence[str]) -> bool:
    if all(frame.texts):
        return True
    known = {key for key, text in zip(frame.ids, frame.texts, strict=True) if text}
    return all(key in known for key in common)


class _Matrix:
    """Credits of the common examples by place, under the tree that one entry's rows have."""

    def __init__(self, base: Sequence[Judgement], plan: MetricPlan) -> None:
        self._base, self._plan = base, plan
        whole = Book(base, plan).headline()
        if whole.value is None:
            raise UsageError(f"{plan.headline} is undefined: {whole.why_none}")
        self._tree = _in_order(whole)
        self.layout = laid_out(self._tree)[0]
        self._places: dict[str, Ints | None] = {}
        self._apart = all(s.rule.name in ROW_BY_ROW for s in plan.sections)

    def column(self, sheet: Sheet, known: Known) -> Floats:
        """The credits of a sheet on the common examples."""
        layout = known.layouts[sheet.layout]
        if sheet.layout not in self._places:
            self._places[sheet.layout] = _found(self.layout, layout)
        places = self._places[sheet.layout]
        if places is not None and (self._apart or len(self._base) == len(known.frames[sheet.frame].ids)):
            return sheet.credits[places]
        own = {j.id: j for j in known.rows_of(sheet)}
        return self.measured([replace(own[j.id], cluster=j.cluster) for j in self._base])

    def measured(self, rows: Sequence[Judgement]) -> Floats:
        """The credits of rows about the common examples. Raises `UsageError` where they make another tree."""
        whole = Book(rows, self._plan).headline()
        if whole.value is None:
            raise UsageError(f"{self._plan.headline} is undefined: {whole.why_none}")
        layout, values = laid_out(whole)
        if layout != self.layout:
            raise UsageError("their credits are about different things")
        return values

    def null(self, name: str) -> Floats | None:
        """The credits of a null baseline; None where it is undefined, as that of length is for steps."""
        try:
            return self.measured([NULLS[name][0](j) for j in self._base])
        except UsageError:
            return None

    def _leaves(self) -> list[tuple[Leaf, slice]]:
        found, start = [], 0
        for leaf in self._tree.leaves:
            found.append((leaf, slice(start, start + len(leaf.rows))))
            start += len(leaf.rows)
        return found

    def replicates(self, values: Floats) -> Floats:
        """The headline of every column in the same resamples of whole clusters: [R, K]."""
        leaves = self._leaves()
        names = sorted({row.cluster for leaf, _ in leaves for row in leaf.rows})
        code = {name: i for i, name in enumerate(names)}
        codes = [np.array([code[row.cluster] for row in leaf.rows], dtype=np.intp) for leaf, _ in leaves]
        there = np.isfinite(values)
        touched = np.zeros((len(names), len(leaves), values.shape[1]), dtype=bool)
        for number, (_, places) in enumerate(leaves):
            np.logical_or.at(touched[:, number], codes[number], there[places])
        strata = _strata(touched)
        drawn = []
        for start in range(0, values.shape[1], _TOGETHER):
            part, known = values[:, start : start + _TOGETHER], there[:, start : start + _TOGETHER]
            k = part.shape[1]
            sums, counts = np.zeros((len(names), len(leaves), k)), np.zeros((len(names), len(leaves), k))
            for number, (_, places) in enumerate(leaves):
                np.add.at(sums[:, number], codes[number], np.where(known[places], part[places], 0.0))
                np.add.at(counts[:, number], codes[number], known[places].astype(np.float64))
            flat = (len(names), len(leaves) * k)
            means = stats.cluster_bootstrap(sums.reshape(flat), counts.reshape(flat), strata)
            means = means.reshape(len(means), len(leaves), k)
            still = sums.sum(axis=0) / counts.sum(axis=0)
            means = np.where(np.isnan(means), still, means)  # a leaf that no drawn cluster touches says nothing
            column = {id(leaf): i for i, (leaf, _) in enumerate(leaves)}
            drawn.append(self._tree.combine(lambda leaf: means[:, column[id(leaf)]]))  # noqa: B023 - called at once
        return np.concatenate(drawn, axis=1)

    def earned(self, values: Floats) -> tuple[Floats, Floats, list[str]]:
        """What each example adds to each headline, its weight there, and its cluster: [n, K], [n, K], [n]."""
        clusters = {row.key: row.cluster for leaf in self._tree.leaves for row in leaf.rows}
        place = {key: i for i, key in enumerate(clusters)}
        earned, shares = np.zeros((len(place), values.shape[1])), np.zeros((len(place), values.shape[1]))
        where = {id(leaf): places for leaf, places in self._leaves()}
        for branch in self._tree.branches:
            parts = {name: values[where[id(leaf)]] for name, leaf in branch.leaves.items()}
            means = {name: np.nanmean(part, axis=0) for name, part in parts.items()}
            slopes = [
                branch.formula.slopes({name: float(mean[i]) for name, mean in means.items()})
                for i in range(values.shape[1])
            ]
            for name, leaf in branch.leaves.items():
                known = np.isfinite(parts[name])
                weight = branch.weight * np.array([slope[name] for slope in slopes]) / known.sum(axis=0)
                rows = np.array([place[row.key] for row in leaf.rows], dtype=np.intp)
                np.add.at(earned, rows, weight * np.where(known, parts[name], 0.0))
                np.add.at(shares, rows, weight * known)
        return earned, shares, list(clusters.values())


def _in_order(whole: Aggregate) -> Aggregate:
    """The aggregate with the rows of each leaf by id, as layouts have them."""
    branches = tuple(
        replace(
            b,
            leaves={
                name: replace(leaf, rows=tuple(sorted(leaf.rows, key=lambda row: row.key)))
                for name, leaf in b.leaves.items()
            },
        )
        for b in whole.branches
    )
    return replace(whole, branches=branches)


def _found(wanted: Layout, layout: Layout) -> Ints | None:
    """Where the places of one layout lie in another; None where some do not."""
    if wanted == layout:
        return np.arange(len(layout.keys), dtype=np.intp)
    there: dict[tuple[str, str], int] = {}
    start = 0
    for name, keys in layout.leaves:
        there |= {(name, key): start + i for i, key in enumerate(keys)}
        start += len(keys)
    if len(there) < start:  # an example with several credits in a leaf
        return None
    try:
        return np.array([there[name, key] for name, keys in wanted.leaves for key in keys], dtype=np.intp)
    except KeyError:
        return None


def _strata(touched: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[bytes]:
    """Clusters that touch the same leaves of the same entries; those of rare patterns together."""
    patterns = [np.packbits(one).tobytes() for one in touched]
    size: dict[bytes, int] = {}
    for pattern in patterns:
        size[pattern] = size.get(pattern, 0) + 1
    return [pattern if size[pattern] >= stats.FEW_CLUSTERS else b"few" for pattern in patterns]


@dataclass(frozen=True, slots=True)
class _Columns:
    """Entries and null baselines, measured and resampled together."""

    names: tuple[str, ...]
    earned: Floats
    """[n, K]"""
    estimates: Floats
    """[K]"""
    drawn: Floats
    """[R, K]"""
    clusters: Sequence[str]
    """[n]"""


def _versus(all_columns: _Columns, k: int) -> tuple[dict[str, Versus], ...]:
    """Each of the first k columns against the null baselines, which are columns too."""
    names, earned, drawn, estimates = all_columns.names, all_columns.earned, all_columns.drawn, all_columns.estimates
    clusters = all_columns.clusters
    versus: tuple[dict[str, Versus], ...] = tuple({} for _ in range(k))
    against = {name: j for j, name in enumerate(names) if name in COMPARED}
    moving = {j: ~(earned[:, :k] == earned[:, [j]]).all(axis=0) for j in against.values()}
    columns = [(i, j, name) for i in range(k) for name, j in against.items() if i != j and moving[j][i]]
    if not columns:
        return versus
    left, right = np.array([i for i, _, _ in columns]), np.array([j for _, j, _ in columns])
    p = stats.holm(stats.sign_flips(earned[:, left] - earned[:, right], clusters))
    few = len(set(clusters)) < stats.FEW_CLUSTERS
    for start in range(0, len(columns), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        moved = drawn[:, left[some]] - drawn[:, right[some]]
        low, high = np.quantile(moved, [0.5 - stats.LEVEL / 2, 0.5 + stats.LEVEL / 2], axis=0)
        for (i, j, name), a, b, adjusted in zip(columns[some], low, high, p[some], strict=True):
            gap = float(estimates[i] - estimates[j])
            ci = None if few else (min(float(a), gap), max(float(b), gap))
            versus[i][name] = Versus(gap, ci, float(adjusted))
    return versus
