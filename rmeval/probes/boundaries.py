"""What changes when the same responses are cut into steps in other places: the rewards, their order, the decisions.

    rmeval run PRM --suite S -a scorer.split=line         ... paragraph         ... sentence
    probe_boundaries({"line": judgements, "sentence": judgements}) -> BoundaryProbe(curves)

Curves stand at a split or at a pair of splits, `line to sentence`: what the second changes of the first. Every quantity
is paired by response or example; where either reading lacks a score, the pair is missing. Intervals are clustered by
prompt.

What this module does not know: how responses are cut, models, figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from rmeval.errors import UsageError
from rmeval.metrics.convert import OWN
from rmeval.metrics.graded import resampled, spearman
from rmeval.probes.curves import Curve, Point, mean_point
from rmeval.probes.steps import HALF, Response, choice, responses, reward
from rmeval.records import Result
from rmeval.types import NAN, Judgement

GIVEN = "default"
"""The name of a result without `scorer.split`: steps as the suite gives them, else by the scorer's own rule."""
_OWN_TO_A_SPLIT = frozenset(("split", "resplit"))


@dataclass(frozen=True, slots=True)
class BoundaryProbe:
    """The curves of several readings of the same responses."""

    splits: tuple[str, ...]
    examples: int
    responses: int
    prompts: int
    curves: tuple[Curve, ...]

    def curve(self, panel: str, name: str) -> Curve:
        """A curve by its name. `KeyError` for one that no probe makes."""
        for curve in self.curves:
            if (curve.panel, curve.name) == (panel, name):
                return curve
        raise KeyError(f"{panel}: {name}")


@dataclass(frozen=True, slots=True)
class _Row:
    """One response under every split."""

    id: str
    cluster: str
    right: bool | None
    steps: tuple[int, ...]
    """[splits] steps that were scored."""
    rewards: tuple[float, ...]
    """[splits], NaN where missing."""


def splits_of(results: Sequence[Result]) -> tuple[str, ...]:
    """How each result cut the responses.

    Raises `UsageError` where results differ in more than that, where two do not differ, or where a scorer cuts nothing.
    """
    names = []
    for result in results:
        scorer = result.scorer.model_dump()
        if "split" not in scorer:
            raise UsageError(
                f"{result.model.name} on {result.suite.name}: scorer {result.scorer.name} cuts no responses into "
                "steps; this probe compares results of a process reward model under several -a scorer.split"
            )
        names.append(str(scorer["split"]) if scorer.get("resplit") else GIVEN)
    if len(results) < 2:
        raise UsageError("name at least two results, of the same model and suite under different -a scorer.split")
    first = _asked(results[0])
    for result in results[1:]:
        other = _asked(result)
        differ = [key for key in first | other if first.get(key) != other.get(key)]
        if differ:
            said = "; ".join(f"{key}: {first.get(key)} and {other.get(key)}" for key in differ[:3])
            raise UsageError(f"the results differ in more than where steps end: {said}")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise UsageError(f"two results cut responses alike ({twice[0]}): name one per -a scorer.split")
    return tuple(names)


def probe_boundaries(readings: Mapping[str, Sequence[Judgement]], aggregate: str = OWN) -> BoundaryProbe:
    """All curves of two or more readings; `aggregate` makes one reward of the steps, by default the scorer's own.

    Raises `UsageError` where the readings are not about the same responses, or hold no step scores.

    >>> from rmeval.types import Judgement
    >>> by_line = [Judgement("x", "", "", "p", (1.0, 0.0), scores=(0.9, 0.2), step_scores=((0.9, 0.9), (0.2,)))]
    >>> by_word = [Judgement("x", "", "", "p", (1.0, 0.0), scores=(0.1, 0.2), step_scores=((0.1,) * 4, (0.2,)))]
    >>> probe_boundaries({"line": by_line, "word": by_word}).curve("decisions", "another choice").points[0].value
    1.0
    """
    splits = tuple(readings)
    rows = _rows({name: [r for j in js for r in responses(j)] for name, js in readings.items()}, aggregate)
    groups: dict[str, list[_Row]] = {}
    for row in rows:
        groups.setdefault(row.id, []).append(row)
    pairs = [(i, j, f"{splits[i]} to {splits[j]}") for i, j in combinations(range(len(splits)), 2)]
    curves = (
        *_counts(rows, splits, pairs),
        *_shifts(rows, splits, pairs),
        *_orders(rows, groups, pairs),
        *_decisions(rows, groups, pairs),
        *_accuracies(groups, splits, pairs),
    )
    return BoundaryProbe(splits, len(groups), len(rows), len({row.cluster for row in rows}), curves)


_Pairs = Sequence[tuple[int, int, str]]


def _counts(rows: Sequence[_Row], splits: Sequence[str], pairs: _Pairs) -> list[Curve]:
    clusters = [row.cluster for row in rows]
    counts = [[float(row.steps[s]) if row.steps[s] else NAN for row in rows] for s in range(len(splits))]
    alike = [[_both(a, b, lambda x, y: float(x == y)) for a, b in zip(counts[i], counts[j], strict=True)]
             for i, j, _ in pairs]  # fmt: skip
    return [
        Curve("steps", "steps per response", "mean number of steps of a response",
              tuple(mean_point(name, counts[s], clusters, None) for s, name in enumerate(splits))),
        Curve("cut alike", "same number of steps", "share of responses that both splits cut into as many steps",
              tuple(mean_point(at, values, clusters) for (_, _, at), values in zip(pairs, alike, strict=True))),
    ]  # fmt: skip


def _shifts(rows: Sequence[_Row], splits: Sequence[str], pairs: _Pairs) -> list[Curve]:
    clusters = [row.cluster for row in rows]
    unit = _unit(rows)

    def moved(i: int, j: int, of: Callable[[float], float]) -> list[float]:
        return [_both(row.rewards[i], row.rewards[j], lambda a, b: of(b - a)) for row in rows]

    share = (0.0, 1.0) if unit else None
    return [
        Curve("level", "mean reward", "mean reward of a response",
              tuple(mean_point(name, [r.rewards[s] for r in rows], clusters, share) for s, name in enumerate(splits))),
        Curve("shift", "mean shift", "mean of the second reward minus the first",
              tuple(mean_point(at, moved(i, j, float), clusters, (-1.0, 1.0) if unit else None) for i, j, at in pairs)),
        Curve("shift", "mean distance", "mean distance of the two rewards of a response",
              tuple(mean_point(at, moved(i, j, abs), clusters, share) for i, j, at in pairs)),
    ]  # fmt: skip


def _orders(rows: Sequence[_Row], groups: Mapping[str, Sequence[_Row]], pairs: _Pairs) -> list[Curve]:
    rank = "rank correlation (Spearman) of the two rewards over all responses, resampled by prompt"
    kept = "share of the pairs of an example's responses that both order alike, ties too; mean over examples"
    several = [group for group in groups.values() if len(group) > 1]
    points = [
        mean_point(at, [_kept(group, i, j) for group in several], [group[0].cluster for group in several])
        for i, j, at in pairs
    ]
    return [
        Curve("order", "rank correlation", rank, tuple(_rank_point(at, rows, i, j) for i, j, at in pairs)),
        Curve("order", "order kept", kept, tuple(points) if several else (), "" if several else _ONE_RESPONSE),
    ]


def _rank_point(at: str, rows: Sequence[_Row], i: int, j: int) -> Point:
    there = [row for row in rows if math.isfinite(row.rewards[i]) and math.isfinite(row.rewards[j])]
    missing = len(rows) - len(there)
    x, y = (np.array([row.rewards[s] for row in there], dtype=np.float64) for s in (i, j))
    if not there or len(set(x)) < 2 or len(set(y)) < 2:
        return Point(at, None, None, len(there), missing, "needs rewards that differ")
    return Point(at, spearman(x, y), resampled(spearman, x, y, [r.cluster for r in there]), len(there), missing)


def _kept(group: Sequence[_Row], i: int, j: int) -> float:
    """Share of the pairs of an example in the same order under both; NaN where a reward is missing."""
    if not all(math.isfinite(row.rewards[s]) for row in group for s in (i, j)):
        return NAN
    signs = [
        (_sign(a.rewards[i] - b.rewards[i]), _sign(a.rewards[j] - b.rewards[j])) for a, b in combinations(group, 2)
    ]
    return fmean(float(x == y) for x, y in signs)


_ONE_RESPONSE = "no example has several responses"


def _decisions(rows: Sequence[_Row], groups: Mapping[str, Sequence[_Row]], pairs: _Pairs) -> list[Curve]:
    chosen = "share of examples whose best-scored response, or set of them, is another"
    crossed = "share of responses whose reward lies on the other side of one half"
    several = [group for group in groups.values() if len(group) > 1]
    at_half = ""
    if not _unit(rows):
        at_half = "rewards lie outside [0, 1], so that one half decides nothing"
    return [
        Curve("decisions", "another choice", chosen,
              tuple(mean_point(at, [_both_sets(_best(g, i), _best(g, j)) for g in several],
                               [g[0].cluster for g in several]) for i, j, at in pairs) if several else (),
              "" if several else _ONE_RESPONSE),
        Curve("decisions", "crossed one half", crossed,
              () if at_half else tuple(
                  mean_point(at, [_both(r.rewards[i], r.rewards[j], lambda a, b: float((a > HALF) != (b > HALF)))
                                  for r in rows], [r.cluster for r in rows]) for i, j, at in pairs), at_half),
    ]  # fmt: skip


def _accuracies(groups: Mapping[str, Sequence[_Row]], splits: Sequence[str], pairs: _Pairs) -> list[Curve]:
    share = "share of examples whose best-scored response is right, ties shared"
    moved = "accuracy of the second split minus that of the first, paired by example"
    contrast = [group for group in groups.values() if {row.right for row in group} >= {True, False}]
    why = "" if contrast else "no example has a right and a wrong response to choose from"
    clusters = [group[0].cluster for group in contrast]
    hits = [[choice([(r.rewards[s], r.right is True) for r in g]) for g in contrast] for s in range(len(splits))]
    each = (mean_point(name, hits[s], clusters) for s, name in enumerate(splits))
    changes = (
        mean_point(at, [b - a for a, b in zip(hits[i], hits[j], strict=True)], clusters, (-1.0, 1.0))
        for i, j, at in pairs
    )
    return [
        Curve("accuracy", "accuracy", share, () if why else tuple(each), why),
        Curve("accuracy moved", "difference", moved, () if why else tuple(changes), why),
    ]


# --- shared ----------------------------------------------------------------------------------------------------------


def _asked(result: Result) -> dict[str, Any]:
    """Everything that two results to be compared must share."""
    suite, scorer = result.suite, result.scorer.model_dump()
    return {
        "model": f"{result.model.name} at {result.model.revision}",
        "suite": f"{suite.name} version {suite.version}, data {suite.data.sha256[:12]}",
        "limit and seed": (suite.limit, suite.seed),
        "engine": result.engine.model_dump() if result.engine else None,
        **{f"scorer.{key}": _without_split(value) for key, value in scorer.items() if key not in _OWN_TO_A_SPLIT},
    }


def _without_split(value: Any) -> Any:
    return {k: v for k, v in value.items() if k not in _OWN_TO_A_SPLIT} if isinstance(value, dict) else value


def _rows(found: Mapping[str, Sequence[Response]], aggregate: str) -> list[_Row]:
    """Responses side by side, in the order of the first reading."""
    by_place = [_by_place(held) for held in found.values()]
    for name, other in zip(list(found)[1:], by_place[1:], strict=True):
        if other.keys() != by_place[0].keys():
            example, _ = next(iter(other.keys() ^ by_place[0].keys()))
            raise UsageError(f"{next(iter(found))} and {name} are not about the same responses: example {example!r}")
    if not all(any(r.steps for r in held) for held in found.values()):
        raise UsageError("a result without step scores: nothing says where its steps ended")
    return [
        _Row(
            first.id,
            first.cluster,
            first.right,
            tuple(len(held[place].steps) for held in by_place),
            tuple(reward(held[place], aggregate) for held in by_place),
        )
        for place, first in by_place[0].items()
    ]


def _by_place(found: Sequence[Response]) -> dict[tuple[str, int], Response]:
    """(example, candidate) -> response."""
    count: dict[str, int] = {}
    placed = {}
    for r in found:
        place = count.get(r.id, 0)
        count[r.id] = place + 1
        placed[r.id, place] = r
    return placed


def _best(group: Sequence[_Row], split: int) -> frozenset[int] | None:
    """The candidates with the highest reward; None where one is missing."""
    values = [row.rewards[split] for row in group]
    if not all(map(math.isfinite, values)):
        return None
    return frozenset(i for i, value in enumerate(values) if value == max(values))


def _both_sets(a: frozenset[int] | None, b: frozenset[int] | None) -> float:
    return NAN if a is None or b is None else float(a != b)


def _both(a: float, b: float, of: Callable[[float, float], float]) -> float:
    """A function of two numbers; NaN where one is missing."""
    return of(a, b) if math.isfinite(a) and math.isfinite(b) else NAN


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _unit(rows: Sequence[_Row]) -> bool:
    """Whether all rewards are in [0, 1]."""
    return all(0 <= value <= 1 for row in rows for value in row.rewards if math.isfinite(value))
