"""The readings of a judge one by one: which were lost and why, and whether repeated ones agree.

A reading is a verdict, a rating of one candidate, or a critic's verdict on one solution.

What this module does not know: what verdicts come to together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rmeval.metrics.figures import mean_figure
from rmeval.metrics.table import Table
from rmeval.types import UNREAD, Judgement, Metric

FAILURES = {
    "parse_failure": (("unparsed", "empty"), "answers without a verdict that could be read"),
    "refusal": (("refused",), "answers that refuse"),
    "truncation": (("truncated",), "answers cut off at the token limit, or whose reasoning does not end"),
    "low_verdict_mass": (("low_verdict_mass",), "answers whose next token was mostly no verdict"),
    "api_failure": ((), "calls that failed for no fault of the judge"),
}
"""Metric -> the reasons it counts (none: all others), and what it is."""
NEVER_ASKED = frozenset(("not_recorded", "no_text", "no_steps"))
"""Reasons of a missing score that no call stands behind."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer of a judge, or one that did not come."""

    cluster: str
    said: str | float | None
    """The verdict or the rating; None where it is missing."""
    reason: str | None
    """Why it is missing."""
    about: tuple[str, tuple[int, ...]]
    """(example, candidates in the order shown): readings about the same are votes."""
    right_first: bool | None
    """Whether the candidate shown first is a right one; None where the example has no wrong one."""
    marked: bool = False
    """Whether what was shown could be taken for a judge's own answer."""


def readings(judgements: Sequence[Judgement]) -> list[Reading]:
    """All readings of a judge; empty where the scores are no judge's."""
    if isinstance(judgements, Table) and not judgements.unread.any():
        return []
    judged = any(((j.verdicts or j.ratings) and not j.scores) or j.marked for j in judgements)
    refused = any(UNREAD.intersection(filter(None, j.reasons)) for j in judgements)
    return [reading for j in judgements for reading in _of(j)] if judged or refused else []


def _of(j: Judgement) -> list[Reading]:
    right = _right_first(j)
    if j.verdicts and not j.scores:
        return [
            Reading(
                j.cluster,
                row.verdict,
                None if row.verdict is not None else row.reason or "unparsed",
                (j.id, row.order),
                right[row.order[0]],
                row.marked,
            )
            for row in j.verdicts
            if row.verdict is not None or row.reason not in NEVER_ASKED
        ]
    found = []
    lists = j.ratings if j.ratings and not j.scores else tuple((score,) for score in j.scores)
    for candidate, votes in enumerate(lists):
        why = j.reasons[candidate] if candidate < len(j.reasons) else None
        marked = candidate < len(j.marked) and j.marked[candidate]
        for vote in votes:
            lost = (why or "unparsed") if math.isnan(vote) else None
            if lost not in NEVER_ASKED:
                said = None if lost else vote
                found.append(Reading(j.cluster, said, lost, (j.id, (candidate,)), right[candidate], marked))
    return found


def _right_first(j: Judgement) -> list[bool | None]:
    """Per candidate, whether it is a right one."""
    if j.step_grades:
        return [0 not in grades for grades in j.step_grades]
    if len(set(j.grades)) < 2:
        return [None] * len(j.grades)
    return [grade == max(j.grades) for grade in j.grades]


def unread_share(judgements: Sequence[Judgement]) -> float:
    """Share of a judge's answers that refuse or hold nothing to be read; 0 where no judge answered.

    Calls that failed and answers cut off are faults of the run, which has a limit of its own for them.
    """
    found = readings(judgements)
    return sum(one.reason in UNREAD for one in found) / len(found) if found else 0.0


def failures(found: Sequence[Reading]) -> list[Metric]:
    """Failure rates of the readings: each kind, those that keep a judge from being ranked, and these by label."""
    named = {reason for reasons, _ in FAILURES.values() for reason in reasons}
    made = []
    for name, (reasons, words) in FAILURES.items():
        hits = [bool(one.reason) and (one.reason in reasons if reasons else one.reason not in named) for one in found]
        which = Counter(one.reason for one, hit in zip(found, hits, strict=True) if hit)
        listed = "".join(f"; {n} {reason}" for reason, n in sorted(which.items(), key=str))
        made.append(_rate(f"judge:{name}", found, hits, f"{words}, of all calls{listed}"))
    unread = [one.reason in UNREAD for one in found]
    made.append(_rate("judge:failed", found, unread, "answers that refuse or hold no verdict, of all calls"))
    for side in ("right", "wrong"):
        members = [one for one in found if one.right_first is (side == "right")]
        if members:
            words = f"the same where the candidate shown first is a {side} one; a difference between the two biases"
            flags = [one.reason in UNREAD for one in members]
            made.append(_rate(f"judge:failed_when_{side}_first", members, flags, f"{words} every accuracy"))
    if any(one.marked for one in found):
        words = "calls in which what was shown holds a verdict, a delimiter or a template's field"
        made.append(_rate("judge:marked", found, [one.marked for one in found], words))
    return made


def _rate(name: str, found: Sequence[Reading], flags: Sequence[bool], note: str) -> Metric:
    return mean_figure(name, list(map(float, flags)), [one.cluster for one in found], note, higher_is_better=False)


def stability(found: Sequence[Reading]) -> list[Metric]:
    """How far repeated readings of the same candidates in the same order agree; nothing where there is one of each."""
    votes: dict[tuple[str, tuple[int, ...]], list[Reading]] = {}
    for one in found:
        votes.setdefault(one.about, []).append(one)
    repeated = [same for same in votes.values() if len(same) > 1]
    if not repeated:
        return []
    most, same, clusters = [], [], []
    for group in repeated:
        share = Counter(one.said for one in group).most_common(1)[0][1] / len(group)
        most.append(share)
        same.append(float(share == 1))
        clusters.append(group[0].cluster)
    least, largest = min(map(len, repeated)), max(map(len, repeated))
    n = f"{least}" if least == largest else f"{least} to {largest}"
    lost = "an unread vote is an outcome of its own"
    return [
        mean_figure("judge:unanimous", same, clusters, f"orders whose {n} votes all say the same; {lost}"),
        mean_figure("judge:vote_share", most, clusters, f"share of the {n} votes that say the commonest; {lost}"),
    ]
