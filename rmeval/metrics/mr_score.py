"""The parts of the MR-score (MR-GSM8K, Mr-Ben) that need no judge: is a solution right, and where does it break.

    MR-score = 0.2 max(0, MCC) + 0.3 ACC_step + 0.5 ACC_reason
    MCC       Matthews correlation of "this solution is right" with the label
    ACC_step  share of the wrong solutions that are called wrong at exactly the labelled step

ACC_reason is the share of wrong solutions whose error is also explained rightly, which a judge decides.
Source: dvlab-research/Mr-Ben script/utils.py.

What this module does not know: judges, subjects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rmeval.errors import UsageError
from rmeval.metrics.credit import Credits, Figures, read_options
from rmeval.metrics.pooled import Ratio, by_subset, pooled_figures, ratio, spread
from rmeval.metrics.steps import THRESHOLD, VOTES, Solution, decided_by, solution
from rmeval.stats import Floats
from rmeval.types import JSON, Judgement

COMPONENTS = ("right_passed", "right", "wrong_flagged", "wrong", "located", "locatable")
"""Shares of all solutions: what is right or wrong, what of it is judged so, what is or could be located."""
_MCC, _STEP = 0.2, 0.3


@dataclass(frozen=True, slots=True)
class MRScore:
    """(0.2 max(0, MCC) + 0.3 ACC_step) / 0.5; an undefined ratio is 0, as upstream has it."""

    @property
    def components(self) -> tuple[str, ...]:
        """The shares it reads."""
        return COMPONENTS

    def value(self, means: Mapping[str, Floats]) -> Floats:
        """The score of mean shares, elementwise."""
        *cells, located, locatable = (np.asarray(means[name], dtype=np.float64) for name in COMPONENTS)
        return (_MCC * np.maximum(0.0, mcc(*cells)) + _STEP * ratio(located, locatable)) / (_MCC + _STEP)

    def slopes(self, means: Mapping[str, float]) -> dict[str, float]:
        """Derivatives, with the value spread over right and wrong, which add up to 1 for every solution."""
        arrays = {name: np.asarray(mean) for name, mean in means.items()}
        share = _MCC / (_MCC + _STEP) if mcc(*(arrays[name] for name in COMPONENTS[:4])) > 0 else 0.0
        slopes = {name: share * slope for name, slope in _mcc_slopes(*(means[n] for n in COMPONENTS[:4])).items()}
        located, locatable = means["located"], means["locatable"]
        scale = _STEP / (_MCC + _STEP) / locatable if locatable else 0.0
        slopes |= {"located": scale, "locatable": -scale * located / locatable if locatable else 0.0}
        return spread(slopes, means, float(self.value(arrays)), ("right", "wrong"))


def mcc(right_passed: Floats, right: Floats, wrong_flagged: Floats, wrong: Floats) -> Floats:
    """Matthews correlation of mean counts, elementwise; 0 where it is undefined.

    >>> float(mcc(*map(np.asarray, (0.5, 0.5, 0.5, 0.5)))), float(mcc(*map(np.asarray, (0.0, 0.5, 0.0, 0.5))))
    (1.0, -1.0)
    """
    right_flagged, wrong_passed = right - right_passed, wrong - wrong_flagged
    passed, flagged = right_passed + wrong_passed, wrong_flagged + right_flagged
    # differences of means may fall a hair below 0
    root = np.sqrt(np.maximum(0.0, passed * flagged * right * wrong))
    return ratio(right_passed * wrong_flagged - wrong_passed * right_flagged, root)


def _mcc_slopes(right_passed: float, right: float, wrong_flagged: float, wrong: float) -> dict[str, float]:
    """Derivatives of (right_passed wrong_flagged - wrong_passed right_flagged) / sqrt(passed flagged right wrong)."""
    names = COMPONENTS[:4]
    passed, flagged = right_passed + wrong - wrong_flagged, wrong_flagged + right - right_passed
    inside = passed * flagged * right * wrong
    if inside <= 0:
        return dict.fromkeys(names, 0.0)
    root = math.sqrt(inside)
    half = (right_passed * wrong - wrong * right + wrong_flagged * right) / root / 2
    # the numerator is right_passed * wrong + wrong_flagged * right - right * wrong
    by_passed, by_flagged, by_right, by_wrong = (half / part for part in (passed, flagged, right, wrong))
    values = (
        wrong / root - by_passed + by_flagged,
        (wrong_flagged - wrong) / root - by_flagged - by_right,
        right / root + by_passed - by_flagged,
        (right_passed - right) / root - by_passed - by_wrong,
    )
    return dict(zip(names, values, strict=True))


def mr_score(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Credits:
    """The MR-score without its reasons, scaled to [0, 1]; a solution is wrong from the first step below the threshold.

    Right solutions are those graded above 0. Wrong solutions whose wrong step is not known count in MCC and not in
    ACC_step (upstream counts them as missed). Options: `threshold`, 0.5; `votes` of a critic.
    """
    chosen = read_options("mr_score", options, {"threshold": THRESHOLD, "votes": VOTES})
    rows, nowhere = [], 0
    for one in (_solution(j, chosen["votes"]) for j in judgements):
        counts = _counts(one, chosen["threshold"])
        nowhere += counts[3] > counts[5]
        rows += [one.credit(name, value) for name, value in zip(COMPONENTS, counts, strict=True)]
    open_ones = [f"{nowhere} wrong solutions whose wrong step is not known count in MCC only"] if nowhere else []
    decides = "; ".join(decided_by(chosen, any(j.verdicts for j in judgements)))
    said = f"(0.2 max(0, MCC) + 0.3 ACC_step) / 0.5; {decides}"
    return Credits(tuple(rows), MRScore(), "; ".join([said, *open_ones]))


_FIGURES = {
    "MCC": Ratio(lambda rp, r, wf, w, *_: mcc(rp, r, wf, w), 3, "wrong solutions", "Matthews correlation"),
    "ACC_step": Ratio(
        lambda *counts: ratio(counts[4], counts[5]),
        5,
        "wrong solutions that say where",
        "wrong solutions called wrong at exactly the labelled step",
    ),
    "solution_accuracy": Ratio(
        lambda rp, r, wf, w, *_: ratio(rp + wf, r + w), 1, "right solutions", "solutions called what they are"
    ),
}


def mr_parts(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Figures:
    """`MCC`, `ACC_step` and `solution_accuracy`, over all rows and per subset. Options as in `mr_score`."""
    chosen = read_options("mr_parts", options, {"threshold": THRESHOLD, "votes": VOTES})

    def count(one: Solution) -> tuple[float, ...]:
        return _counts(one, chosen["threshold"])

    decided = "; ".join(["pooled", *decided_by(chosen, any(j.verdicts for j in judgements))])
    return Figures(
        tuple(
            metric
            for subset, rows in by_subset(judgements).items()
            for metric in pooled_figures(
                [_solution(j, chosen["votes"]) for j in rows], subset, count, _FIGURES, decided
            )
        )
    )


def _solution(j: Judgement, votes: str) -> Solution:
    if len(j.grades) != 1:
        raise UsageError(f"example {j.id!r}: the MR-score needs to know whether its one solution is right")
    return solution(j, "mr_score", votes)


def _counts(one: Solution, threshold: float) -> tuple[float, ...]:
    """What a solution adds to each component."""
    right, flagged = one.judgement.grades[0] > 0, one.predicted(threshold)
    known = not right and one.first_error is not None and not one.is_open
    shares = (
        right and flagged is None,
        right,
        not right and flagged is not None,
        not right,
        known and flagged == one.first_error,
        known,
    )
    return tuple(map(float, shares))
