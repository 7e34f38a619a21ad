"""Rules for candidates with graded labels: ratings from people (HelpSteer) rather than right and wrong.

What this module does not know: sections, weights; which attribute the grades rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from statistics import fmean

import numpy as np

from rmeval import stats
from rmeval.metrics.credit import Credits, Figures, Linear, Option, read_options
from rmeval.metrics.tally import CONVERT, Tally
from rmeval.types import JSON, NAN, Judgement, Metric

_TIES = {"lose": 0.0, "half": 0.5}
_REPLICATES = 500
"""Resamples for the interval of a correlation: each needs a ranking of all responses."""


def concordance(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Credits:
    """Of the pairs of an example with different grades, the share that the scores put in the same order.

    For two candidates it is pairwise accuracy. Options: `ties` lose | half, for equal scores; `aggregate`; `unparsed`.
    """
    chosen = read_options("concordance", options, {"ties": Option("lose", tuple(_TIES)), **CONVERT})
    tally = Tally()
    for j in tally.with_contrast(judgements):
        scored = tally.scores(j, chosen["aggregate"], chosen["unparsed"])
        s, g = scored.values, j.grades
        pairs = [(a, b) if g[a] > g[b] else (b, a) for a, b in combinations(range(len(g)), 2) if g[a] != g[b]]
        earned = [_TIES[chosen["ties"]] if s[a] == s[b] else float(s[a] > s[b]) for a, b in pairs]
        tally.add(j, {"accuracy": NAN if scored.reason else fmean(earned)}, scored.reason)
        tally.mark_tie(j, not scored.reason and any(s[a] == s[b] for a, b in pairs))
    words = {"lose": "equal scores count as wrong", "half": "equal scores count half"}
    return tally.credits(
        Linear({"accuracy": 1.0}),
        f"share of the pairs with different grades that the scores order alike; {words[chosen['ties']]}",
        variants=tuple(("ties", other) for other in _TIES if other != chosen["ties"]),
    )


def rating_correlation(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Figures:
    """Pearson's and Spearman's correlation of scores and grades over all responses, resampled by prompt.

    Responses without a score are left out and counted. Options: `aggregate`, `unparsed`.
    """
    chosen = read_options("rating_correlation", options, CONVERT)
    tally = Tally()
    rows: list[tuple[str, float, float]] = []
    missing = 0
    for j in judgements:
        scored = tally.scores(j, chosen["aggregate"], chosen["unparsed"])
        for score, grade in zip(scored.values, j.grades, strict=True):
            if math.isnan(score):
                missing += 1
            else:
                rows.append((j.cluster, score, grade))
    note = "over responses; 95 % interval by resampling prompts"
    names = ("rating:pearson", "rating:spearman")
    if not rows or len({r[1] for r in rows}) < 2 or len({r[2] for r in rows}) < 2:
        why = "undefined: scores or grades do not vary"
        return Figures(
            tuple(Metric(name, None, n=len(rows), n_missing=missing, note=why, unit="number") for name in names)
        )
    x, y = np.array([r[1] for r in rows]), np.array([r[2] for r in rows])
    metrics = []
    for name, measure in zip(names, (pearson, spearman), strict=True):
        ci = resampled(measure, x, y, [r[0] for r in rows])
        metrics.append(Metric(name, measure(x, y), ci=ci, n=len(rows), n_missing=missing, note=note, unit="number"))
    return Figures(tuple(metrics))


def resampled(
    measure: Callable[[stats.Floats, stats.Floats], float],
    x: stats.Floats,
    y: stats.Floats,
    clusters: Sequence[Hashable],
) -> tuple[float, float] | None:
    """The 95 % interval of a correlation of x and y [n], resampled by cluster; None for few of them."""
    codes, count = stats.cluster_codes(clusters)
    if count < stats.FEW_CLUSTERS:
        return None
    members = [np.flatnonzero(codes == c) for c in range(count)]
    rng = np.random.default_rng(0)
    drawn = (np.concatenate([members[c] for c in rng.integers(0, count, count)]) for _ in range(_REPLICATES))
    replicated = np.array([measure(x[d], y[d]) for d in drawn])
    replicated = replicated[~np.isnan(replicated)]
    return stats.percentile_interval(replicated, measure(x, y)) if replicated.size else None


def pearson(x: stats.Floats, y: stats.Floats) -> float:
    """Correlation of two samples [n]; NaN where one does not vary."""
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    return float((x * y).sum()) / scale if scale > 0 else NAN


def spearman(x: stats.Floats, y: stats.Floats) -> float:
    """Correlation of the ranks of two samples [n], ties at their mean rank; NaN where one does not vary."""
    from scipy.stats import rankdata

    return pearson(rankdata(x), rankdata(y))
