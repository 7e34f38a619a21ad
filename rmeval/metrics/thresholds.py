"""The threshold below which a step counts as wrong, tuned on labels: exactly, over every cut that makes a difference.

A solution is answered rightly at a threshold t iff low < t <= high: without an error low is -inf and high the least
score; with one at step e, low is the score of e and high the least score before it. So F1 is constant between
neighbouring ends of these intervals, and one look between each two of them is a search over all thresholds.

What this module does not know: which subset a paper tunes on; the headline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rmeval import stats
from rmeval.metrics.credit import Figures, Option, read_options
from rmeval.metrics.steps import Solution, first_error, solution
from rmeval.metrics.tree import Aggregate, Branch, Leaf, interval, replicate
from rmeval.types import JSON, Judgement, Metric


@dataclass(frozen=True, slots=True)
class Cut:
    """A threshold and what it gives on the solutions that it was tuned on."""

    threshold: float
    f1: float


def best_threshold(solutions: Iterable[tuple[Sequence[float], int | None]]) -> Cut | None:
    """The threshold with the highest F1 of (step scores, first wrong step) pairs; the lowest of several.

    It stands midway between the neighbouring scores that it separates. O(n log n) in the number of solutions. None
    unless there are solutions with an error and without.

    >>> best_threshold([([0.9, 0.2], 1), ([0.8, 0.6], None)])
    Cut(threshold=0.4, f1=1.0)
    """
    spans: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for scores, wrong in solutions:
        if wrong is None:
            spans[False].append((-math.inf, min(scores)))
        else:
            spans[True].append((scores[wrong], min(scores[:wrong], default=math.inf)))
    if not spans[True] or not spans[False]:
        return None
    possible = {error: [span for span in found if span[0] < span[1]] for error, found in spans.items()}
    ends = np.unique([end for found in possible.values() for span in found for end in span if math.isfinite(end)])
    cuts = _between(ends)
    error, right = (_answered(possible[is_error], cuts) / len(spans[is_error]) for is_error in (True, False))
    both = error + right
    f1 = np.where(both > 0, 2 * error * right / np.where(both > 0, both, 1.0), 0.0)
    best = int(np.argmax(f1))
    return Cut(float(cuts[best]), float(f1[best]))


def _between(ends: stats.Floats) -> stats.Floats:
    """One threshold in each of (-inf, e_0], (e_0, e_1], ..., (e_last, inf)."""
    middle = ends[:-1] + (ends[1:] - ends[:-1]) / 2
    # between neighbouring floats there is none, and the upper end is in the interval
    middle = np.where(middle > ends[:-1], middle, ends[1:])
    beyond = max(ends[-1] + 1, np.nextafter(ends[-1], np.inf))
    return np.concatenate([[ends[0] - 1], middle, [beyond]])


def _answered(spans: Sequence[tuple[float, float]], cuts: stats.Floats) -> stats.Floats:
    """How many of the intervals (low, high] hold each cut."""
    if not spans:
        return np.zeros(cuts.size)
    low, high = (np.sort(ends) for ends in np.array(spans, dtype=np.float64).T)
    held = np.searchsorted(low, cuts, side="left") - np.searchsorted(high, cuts, side="left")
    return held.astype(np.float64)


def first_error_thresholds(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Figures:
    """F1 of `first_error` at thresholds tuned on labels: on one subset for all, and on every subset for itself.

    Metrics, the mean of the subsets first, then each: `F1[threshold=<tune_on>]`, the rule of ProcessBench for scorers
    without a threshold of their own, in sample on that subset; `F1[threshold=oracle]`, an upper bound; and the
    thresholds as `threshold:<tune_on>` and `threshold:oracle`. Intervals take the thresholds as given. Option:
    `tune_on`, a subset, or null for the oracle only. Nothing for critics, who have no threshold.
    """
    known = {"tune_on": Option(None, (), lambda v: v is None or isinstance(v, str), "a subset or null")}
    tune_on = read_options("first_error_thresholds", options, known)["tune_on"]
    if any(j.verdicts for j in judgements):
        return Figures(())
    rows: dict[str, list[Judgement]] = {}
    for j in judgements:
        rows.setdefault(j.subset, []).append(j)
    oracle = {subset: _tuned(members) for subset, members in rows.items()}
    found = []
    if tune_on is not None:
        shared = oracle.get(tune_on)
        why = f"tuned on {tune_on}, where the figure is in sample"
        found += _policy(tune_on, rows, dict.fromkeys(rows, shared), why)
    return Figures((*found, *_policy("oracle", rows, oracle, "tuned on each subset's own labels: an upper bound")))


def _tuned(judgements: Sequence[Judgement]) -> Cut | None:
    found: list[Solution] = [solution(j, "first_error_thresholds") for j in judgements]
    return best_threshold((one.scores, one.first_error) for one in found if not one.reason and not one.is_open)


def _policy(name: str, rows: Mapping[str, list[Judgement]], cuts: Mapping[str, Cut | None], why: str) -> list[Metric]:
    """The metrics of one way to choose thresholds."""
    parts: dict[str, Aggregate] = {}
    for subset, members in rows.items():
        cut = cuts[subset]
        if cut is None:
            parts[subset] = Aggregate((), "no scored solutions with and without an error to tune on")
            continue
        earned = first_error(members, {"threshold": cut.threshold})
        leaves = {
            component: Leaf(f"{component} of {subset}", tuple(r for r in earned.rows if r.component == component))
            for component in earned.formula.components
        }
        parts[subset] = Aggregate((Branch(1.0, earned.formula, leaves),))
    undefined = [f"{subset}: {part.why_none}" for subset, part in parts.items() if part.why_none]
    undefined += [] if parts else ["no examples"]
    branches = tuple(branch for part in parts.values() for branch in part.scaled(1 / len(parts)))
    whole = Aggregate((), "; ".join(undefined)) if undefined else Aggregate(branches)
    everything: list[tuple[str | None, Aggregate]] = [(None, whole), *(parts.items() if len(parts) > 1 else ())]
    numbers = [part for _, part in everything if not part.why_none]
    drawn = replicate(numbers, replicates=stats.REPLICATES, seed=0, hold_steady=True) if numbers else None
    column = {id(part): index for index, part in enumerate(numbers)}
    made = []
    for name_of, part in everything:
        entered = list(part.keys.values())
        ci, said = None, f"undefined: {part.why_none}"
        if drawn is not None and not part.why_none:
            around = interval(part, drawn[:, column[id(part)]])
            ci = (around.low, around.high) if around else None
            said = f"{_said(cuts, name_of)}; {why}; the interval takes the threshold as given"
        made.append(
            Metric(
                f"F1[threshold={name}]",
                part.value,
                name_of,
                ci,
                n=sum(entered),
                n_missing=len(entered) - sum(entered),
                note=said,
            )
        )
    return made + [
        Metric(f"threshold:{name}", cut.threshold, subset, n=len(rows[subset]), note=f"{why}; F1 there {cut.f1:.4f}",
               unit="number")
        for subset, cut in cuts.items()
        if cut is not None
    ]  # fmt: skip


def _said(cuts: Mapping[str, Cut | None], subset: str | None) -> str:
    values = {f"{cut.threshold:.6g}" for name, cut in cuts.items() if cut is not None and subset in {None, name}}
    return f"wrong is below {values.pop()}" if len(values) == 1 else "a threshold per subset"
