"""PRMBench's PRM-Score: two F1 over steps pooled from all solutions, of the right steps and of the wrong ones.

    TP a right step called right     FN a right step called wrong     F1          = 2 TP / (2 TP + FP + FN)
    TN a wrong step called wrong     FP a wrong step called right     negative F1 = 2 TN / (2 TN + FN + FP)

    PRM-Score = (F1 + negative F1) / 2

Upstream's `similarity` is how far the share of steps called right is from that of the original solution, the mean over
solutions, and needs the originals beside them.

Ratios without a denominator are 0 (upstream says -1 for them and shows 0).
Source: ssmisya/PRMBench@a1ae4eab.

What this module does not know: classes and dimensions, which are subsets and sections of a card.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rmeval import stats
from rmeval.errors import UsageError
from rmeval.metrics.credit import Credits, Figures, Option, read_options
from rmeval.metrics.pooled import Ratio, by_subset, pooled_figures, ratio, spread
from rmeval.metrics.steps import THRESHOLD, WRONG, Solution, solution
from rmeval.stats import Floats
from rmeval.types import JSON, NAN, Judgement, Metric

COUNTS = ("right_passed", "right_steps", "wrong_found", "wrong_steps")
"""What a solution adds: TP, TP + FN, TN, TN + FP."""
_OPTIONS = {
    "threshold": THRESHOLD,
    "decide": Option("score", ("score", "difference")),
    "originals": Option("", (), lambda v: isinstance(v, str), "the name of a subset"),
}
_DECIDES = {
    "score": "a step is right if it scores above {}",
    "difference": "a step is right if it scores more than {} above the step before (the first one: above 0)",
}


@dataclass(frozen=True, slots=True)
class PooledF1:
    """PRM-Score, or F1 alone, of counts per solution.

    Each solution's share in the steps carries the number itself, see `spread`.
    """

    positive_only: bool = False

    @property
    def components(self) -> tuple[str, ...]:
        """The counts it reads."""
        return COUNTS

    def value(self, means: Mapping[str, Floats]) -> Floats:
        """The score of mean counts, elementwise."""
        tp, right, tn, wrong = (np.asarray(means[name], dtype=np.float64) for name in COUNTS)
        positive = ratio(2 * tp, tp + right + wrong - tn)
        return positive if self.positive_only else (positive + ratio(2 * tn, tn + wrong + right - tp)) / 2

    def slopes(self, means: Mapping[str, float]) -> dict[str, float]:
        """Derivatives, with the value spread over the steps."""
        tp, right, tn, wrong = (means[name] for name in COUNTS)
        slopes = dict(zip(COUNTS, _f1_slopes(tp, tp + right + wrong - tn), strict=True))
        if not self.positive_only:
            swapped = ("wrong_found", "wrong_steps", "right_passed", "right_steps")
            negative = dict(zip(swapped, _f1_slopes(tn, tn + wrong + right - tp), strict=True))
            slopes = {name: (slopes[name] + negative[name]) / 2 for name in COUNTS}
        value = float(self.value({name: np.asarray(mean) for name, mean in means.items()}))
        return spread(slopes, means, value, ("right_steps", "wrong_steps"))


def _f1_slopes(hits: float, bottom: float) -> tuple[float, float, float, float]:
    """Derivatives of 2 hits / bottom, bottom = hits + all of the class + all of the other - hits of the other."""
    if bottom <= 0:
        return 0.0, 0.0, 0.0, 0.0
    by_bottom = -2 * hits / bottom**2
    return 2 / bottom + by_bottom, by_bottom, -by_bottom, by_bottom


def prm_score(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Credits:
    """PRM-Score over all labelled steps, pooled.

    Options: `threshold`, 0.5, above which a step is right; `decide`: `score`, by its score, or `difference`, by what it
    adds to the score of the step before (upstream does so for one family, with threshold -0.05); `part`: `score`, or
    `F1` for rows without wrong steps; `originals`, a subset that has no part in it, see `prm_steps`. A missing step
    score makes the solution missing (upstream leaves steps without a prediction out). Components are counts per
    solution.
    """
    chosen = read_options("prm_score", options, {**_OPTIONS, "part": Option("score", ("score", "F1"))})
    rows, most = [], dict.fromkeys(COUNTS, 2.0)  # the most that a solution can add: a count, never a share
    for one in (solution(j, "prm_score") for j in _changed(judgements, chosen["originals"])):
        counts = _counts(one, chosen["threshold"], chosen["decide"])
        wrong = one.grades.count(WRONG)
        for name, count in zip(COUNTS, counts, strict=False):
            most[name] = max(most[name], float(wrong if name.startswith("wrong") else len(one.grades) - wrong))
            rows.append(one.credit(name, count))
    positive_only = chosen["part"] == "F1"
    what = "F1 of the right steps" if positive_only else "half F1 of the right steps, half F1 of the wrong ones"
    return Credits(
        tuple(rows),
        PooledF1(positive_only),
        f"{what}, pooled over all steps; {_DECIDES[chosen['decide']].format(format(chosen['threshold'], 'g'))}",
        ranges={name: (0.0, top) for name, top in most.items()},
    )


def _counts(one: Solution, threshold: float, decide: str) -> tuple[float, ...]:
    """TP, right steps, TN, wrong steps; first wrong step found, is there one. NaN where scores are missing."""
    if one.reason:
        return (NAN,) * 6
    if one.critique is not None:
        raise UsageError(
            f"example {one.judgement.id!r}: PRMBench needs a verdict on every step, and this critic names the first "
            "wrong one. There is no sound conversion: what it thinks of the steps after that is not known"
        )
    levels = list(one.scores)
    if decide == "difference":
        levels = [score - before for score, before in zip(levels, [0.0, *levels], strict=False)]
    called = [level > threshold for level in levels]
    right = [said for said, grade in zip(called, one.grades, strict=True) if grade > WRONG]
    wrong = [said for said, grade in zip(called, one.grades, strict=True) if grade == WRONG]
    counts = (sum(right), len(right), len(wrong) - sum(wrong), len(wrong), bool(wrong) and not wrong[0], bool(wrong))
    return tuple(map(float, counts))


_FIGURES = {
    "F1": Ratio(
        lambda tp, right, tn, wrong, *_: ratio(2 * tp, tp + right + wrong - tn), 1, "right steps", "F1 of right steps"
    ),
    "negative_F1": Ratio(
        lambda tp, right, tn, wrong, *_: ratio(2 * tn, tn + wrong + right - tp), 3, "wrong steps", "F1 of wrong steps"
    ),
    "right_step_accuracy": Ratio(lambda tp, right, *_: ratio(tp, right), 1, "right steps", "right steps called right"),
    "wrong_step_accuracy": Ratio(
        lambda _tp, _right, tn, wrong, *_: ratio(tn, wrong), 3, "wrong steps", "wrong steps called wrong"
    ),
    "step_accuracy": Ratio(
        lambda tp, right, tn, wrong, *_: ratio(tp + tn, right + wrong), 1, "right steps", "steps called what they are"
    ),
    "first_error_accuracy": Ratio(
        lambda *counts: ratio(*counts[4:]), 5, "wrong steps", "first wrong steps called wrong, whatever stands before"
    ),
}


def prm_steps(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Figures:
    """What PRM-Score is made of, over all rows and per subset: `F1 negative_F1 right_step_accuracy ...`.

    Options: `threshold` and `decide` as in `prm_score`; `originals`, the subset that holds the solutions which the
    others were made from: `<subset>_x` from `<originals>_x`. With them there is `similarity`. A figure about wrong
    steps is undefined where there are none.
    """
    chosen = read_options("prm_steps", options, _OPTIONS)
    decided = f"pooled; {_DECIDES[chosen['decide']].format(format(chosen['threshold'], 'g'))}"

    def count(one: Solution) -> tuple[float, ...]:
        return _counts(one, chosen["threshold"], chosen["decide"])

    parts = by_subset(_changed(judgements, chosen["originals"]))
    pooled = [
        metric
        for subset, rows in parts.items()
        for metric in pooled_figures([solution(j, "prm_steps") for j in rows], subset, count, _FIGURES, decided)
    ]
    if not chosen["originals"]:
        return Figures(tuple(pooled))
    shares = {j.id: _share(count(solution(j, "prm_steps"))) for j in judgements}
    return Figures(
        (*pooled, *(_similarity(rows, subset, shares, chosen["originals"]) for subset, rows in parts.items()))
    )


def _changed(judgements: Sequence[Judgement], originals: str) -> list[Judgement]:
    """All but the originals."""
    return [j for j in judgements if not originals or j.subset != originals]


def _share(counts: Sequence[float]) -> float:
    """Share of the steps called right; NaN where scores are missing."""
    tp, right, tn, wrong = counts[:4]
    return (tp + wrong - tn) / (right + wrong) if right + wrong > 0 else NAN


def _similarity(rows: Sequence[Judgement], subset: str | None, shares: Mapping[str, float], originals: str) -> Metric:
    """The mean distance of a solution's share of steps called right from its original's."""
    pairs = [(j.cluster, shares[j.id], shares.get(f"{originals}{j.id.removeprefix(j.subset)}", NAN)) for j in rows]
    # upstream leaves out an original of which no step is called right
    compared = [(c, abs(share - before)) for c, share, before in pairs if before != 0]
    there = [(c, value) for c, value in compared if not math.isnan(value)]
    missing = len(compared) - len(there)
    words = "mean distance of the share of steps called right from that of the original; originals without any left out"
    if not there:
        return Metric("similarity", None, subset, n_missing=missing, note="undefined: no solution with its original")
    values = [value for _, value in there]
    around = stats.mean_interval(values, [c for c, _ in there], (0.0, 1.0))
    ci = (around.low, around.high) if around else None
    return Metric("similarity", math.fsum(values) / len(values), subset, ci, len(values), missing, note=words)
