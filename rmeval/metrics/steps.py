"""Where does a solution first go wrong? The rules of ProcessBench and BIG-Bench Mistake, and what rules of steps share.

What this module does not know: how step scores were read, thresholds tuned on data, sections.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rmeval.errors import UsageError
from rmeval.metrics.credit import Credit, Credits, Figures, HarmonicMean, Linear, Option, read_options
from rmeval.metrics.verdicts import ANSWERED
from rmeval.stats import mean_interval
from rmeval.types import JSON, NAN, UNREAD, Judgement, Metric

WRONG, UNLABELLED = 0, -1


def is_number(value: JSON) -> bool:
    """For `Option.accepts`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


THRESHOLD = Option(0.5, (), is_number, "a number")
VOTES = Option("most_common", ("most_common", "decided"))
"""What several critiques of a solution come to: the commonest, of equally common ones that said first, as upstream has
it; or the same with such a tie left open (`unparsed`)."""
FINE, NOWHERE = -1, -2
"""What a critic says of a solution without a wrong step; an unread critique that counts as wrong whatever the label."""
_VOTES_SAY = {
    "most_common": "of several critiques the commonest, of equally common ones that said first",
    "decided": "of several critiques the commonest, none where two are equally common",
}


@dataclass(frozen=True, slots=True)
class Solution:
    """The one solution of an example: its step labels, and a score per step or the reason why there is none."""

    judgement: Judgement
    grades: tuple[int, ...]
    """[steps]: 1 right, 0 wrong, -1 not labelled."""
    scores: tuple[float, ...]
    """[steps], all finite; () where `reason` says why."""
    reason: str | None
    critique: int | None = None
    """The step that a critic calls the first wrong one, or `FINE`; None for a scorer of steps, or with a reason."""

    @property
    def is_open(self) -> bool:
        """Whether the labels leave open which step is the first wrong one, or whether one is."""
        before = self.grades[: self.first_error] if self.first_error is not None else self.grades
        return UNLABELLED in before

    @property
    def first_error(self) -> int | None:
        """The first step labelled wrong, None without one."""
        return first(grade == WRONG for grade in self.grades)

    def predicted(self, threshold: float) -> int | None:
        """The first step that scores below a threshold, or that a critic calls wrong; None without one."""
        if self.critique is not None:
            return None if self.critique == FINE else self.critique
        return first(score < threshold for score in self.scores)

    def credit(self, component: str, value: float) -> Credit:
        """What it earns in a component; missing where its scores are."""
        j = self.judgement
        return Credit(j.id, j.cluster, j.subset, component, NAN if self.reason else value, self.reason)


def solution(j: Judgement, rule: str, votes: str = "most_common") -> Solution:
    """The solution of an example. Raises `UsageError` for an example without one, and for scores that are not its own.

    A missing step score makes the whole solution missing: where the first error lies cannot be said without it. A
    critic's verdicts stand for step scores; `votes` as in `VOTES`.
    """
    if len(j.step_grades) != 1:
        raise UsageError(f"example {j.id!r}: {rule} needs one solution with step labels")
    if j.verdicts and not j.scores:
        critique, why = _critique(j, rule, votes)
        return Solution(j, j.step_grades[0], (), why, critique)
    grades, scores = j.step_grades[0], j.step_scores[0] if j.step_scores else ()
    if j.scores and not j.step_scores and not all(map(math.isnan, j.scores)):
        raise UsageError(
            f"example {j.id!r}: {rule} needs a score per step, and this scorer gives one per response. "
            "There is no sound conversion: a number for the whole does not say where it broke"
        )
    if scores and len(scores) != len(grades):
        raise UsageError(f"example {j.id!r}: {len(scores)} step scores for {len(grades)} steps")
    reason = None
    if not scores or not all(map(math.isfinite, scores)):
        by_step = next((r for r in j.step_reasons[0] if r), None) if j.step_reasons else None
        reason = by_step or (j.reasons[0] if j.reasons else None) or ("non_finite" if scores else "not_recorded")
    return Solution(j, grades, () if reason else scores, reason)


def _critique(j: Judgement, rule: str, votes: str) -> tuple[int | None, str | None]:
    """(what a critic's votes come to, why they come to nothing)."""
    said: Counter[int] = Counter()
    for row in j.verdicts:
        if row.order != (0,) or (row.verdict is not None and not _is_step(row.verdict)):
            raise UsageError(
                f"example {j.id!r}: {rule} needs a critic's verdicts on one solution (-1, or the 0-based number of the "
                f"first wrong step), not {row.verdict!r} on {list(row.order)}"
            )
        if row.verdict is not None:
            said[int(row.verdict)] += 1
    if not said:
        return None, next((row.reason for row in j.verdicts if row.reason), "unparsed")
    (most, times), *others = said.most_common()
    if votes == "decided" and others and others[0][1] == times:
        return None, "unparsed"
    return most, None


def _is_step(verdict: str) -> bool:
    return verdict == str(FINE) or (verdict.isascii() and verdict.isdigit())


def first_error(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Credits:
    """The first step that scores below the threshold against the first wrong step.

    Components: `acc_error`, over solutions with an error: the predicted step is exactly the labelled one;
    `acc_correct`, over solutions without: no step is below the threshold. Options: `threshold`, 0.5; `over`: `classes`,
    the value is their harmonic mean (F1), 0 where both are 0 (upstream divides by zero there); `solutions`, it is the
    share of all solutions that are answered rightly. A missing step score makes the solution missing. Solutions whose
    labels leave the first error open carry no credit and are counted. Of critics: `votes`, see `VOTES`; `unparsed`
    missing | wrong, for a solution without a critique that could be read.
    Source: QwenLM/ProcessBench, code/run_eval.py for critics (e802463); WHGTyen/BIG-Bench-Mistake for `solutions`.
    """
    known = {
        "threshold": THRESHOLD,
        "over": Option("classes", ("classes", "solutions")),
        "votes": VOTES,
        "unparsed": Option("missing", ("missing", "wrong")),
    }
    chosen = read_options("first_error", options, known)
    rows, unknown, critics, unread = [], 0, False, False
    for j in judgements:
        one = solution(j, "first_error", chosen["votes"])
        if one.is_open:
            unknown += 1
            continue
        critics = critics or bool(j.verdicts)
        if one.reason in (ANSWERED if j.verdicts else UNREAD):
            unread = True
            if chosen["unparsed"] == "wrong":
                one = replace(one, reason=None, critique=NOWHERE)
        labelled = one.first_error
        hit = float(one.predicted(chosen["threshold"]) == labelled)
        by_class = "acc_correct" if labelled is None else "acc_error"
        rows.append(one.credit(by_class if chosen["over"] == "classes" else "accuracy", hit))
    says = {
        "classes": "F1 of finding the first wrong step and of passing right solutions",
        "solutions": "share of solutions whose first wrong step, or lack of one, is named exactly",
    }[chosen["over"]]
    return Credits(
        tuple(rows),
        Linear({"accuracy": 1.0}) if chosen["over"] == "solutions" else HarmonicMean("acc_error", "acc_correct"),
        "; ".join([says, *decided_by(chosen, critics), *_left_open(unknown)]),
        variants=tuple(("unparsed", w) for w in ("missing", "wrong") if unread and w != chosen["unparsed"]),
    )


def decided_by(chosen: Mapping[str, JSON], critics: bool) -> list[str]:
    """What decides which step is the first wrong one, in words."""
    if not critics:
        return [f"wrong is below {chosen['threshold']:g}"]
    words = [_VOTES_SAY[str(chosen["votes"])]]
    return words + (["without one that could be read it is wrong"] if chosen.get("unparsed") == "wrong" else [])


def first_error_parts(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Figures:
    """`acc_error` and `acc_correct` of `first_error`, over all rows and per subset.

    For suites whose headline is a share of all solutions: as parts of that, they would hold the mix of right and wrong
    solutions still when it is resampled. Options: `threshold`, 0.5; `votes` and `unparsed` as there.
    """
    known = {"threshold": THRESHOLD, "votes": VOTES, "unparsed": Option("missing", ("missing", "wrong"))}
    chosen = read_options("first_error_parts", options, known)
    earned = first_error(judgements, chosen).rows
    decides = "; ".join(decided_by(chosen, any(j.verdicts for j in judgements)))
    subsets = dict.fromkeys(row.subset for row in earned)
    made = []
    for subset in (None, *(subsets if len(subsets) > 1 else ())):
        for name, words in (("acc_error", "with an error: found exactly"), ("acc_correct", "without one: passed")):
            rows = [r for r in earned if r.component == name and subset in {None, r.subset}]
            values = [r.value for r in rows if not math.isnan(r.value)]
            note = f"solutions {words}; {decides}"
            around = mean_interval(values, [r.cluster for r in rows if not math.isnan(r.value)]) if values else None
            made.append(
                Metric(
                    name,
                    math.fsum(values) / len(values) if values else None,
                    subset,
                    (around.low, around.high) if around else None,
                    n=len(values),
                    n_missing=len(rows) - len(values),
                    note=note if values else f"undefined: no scored {note}",
                )
            )
    return Figures(tuple(made))


def right_answer_wrong_process(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Credits:
    """Of the solutions with a right final answer and a wrong step, the share whose first wrong step is found exactly.

    Options: `threshold`, 0.5; `votes` of a critic; `unparsed` wrong | missing, for one that could not be read, wrong as
    in ProcessBench's headline. Right final answers are those graded above 0.
    Source: arXiv:2501.07301.
    """
    rule = "right_answer_wrong_process"
    known = {"threshold": THRESHOLD, "votes": VOTES, "unparsed": Option("wrong", ("missing", "wrong"))}
    chosen = read_options(rule, options, known)
    rows = []
    for j in judgements:
        if not any(grade > 0 for grade in j.grades):
            continue
        one = solution(j, rule, chosen["votes"])
        if one.first_error is None or one.is_open:
            continue
        if chosen["unparsed"] == "wrong" and one.reason in (ANSWERED if j.verdicts else UNREAD):
            one = replace(one, reason=None, critique=NOWHERE)
        rows.append(one.credit("accuracy", float(one.predicted(chosen["threshold"]) == one.first_error)))
    note = "solutions with a right answer and a wrong step whose first wrong step is named exactly"
    decides = "; ".join(decided_by(chosen, any(j.verdicts for j in judgements)))
    return Credits(tuple(rows), Linear({"accuracy": 1.0}), f"{note}; {decides}")


def _left_open(count: int) -> list[str]:
    return [f"{count} solutions whose labels leave the first error open carry no credit"] if count else []


def first(flags: Iterable[bool]) -> int | None:
    """Index of the first true flag, None if there is none.

    >>> first([False, True, True])
    1
    """
    return next((i for i, flag in enumerate(flags) if flag), None)
