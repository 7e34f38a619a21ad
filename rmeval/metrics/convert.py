"""Sound conversions to one number per candidate, each named in the note of the metric that used it.

    step scores -> an aggregate of the steps        ratings -> the mean of the votes
    verdicts    -> the share of comparisons won

There is none from scores of whole responses to step scores: a number for the whole says nothing about where it broke.

What this module does not know: rules, tie policies, sections.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rmeval.errors import UsageError, near_miss
from rmeval.types import NAN, Judgement, Verdict


@dataclass(frozen=True, slots=True)
class Scored:
    """One number per candidate, and what became of the reading that they come from."""

    values: tuple[float, ...]
    """[k], NaN where missing."""
    reason: str | None
    """Why the first missing one is missing; None where all are there."""
    how: str = ""
    """The conversion, in words; empty where the scores are the scorer's own."""


# --- steps -> score --------------------------------------------------------------------------------------------------


def _odds(steps: Sequence[float]) -> list[float]:
    if not all(0 <= p <= 1 for p in steps):
        raise UsageError("step scores outside [0, 1] have no odds: choose another `aggregate`")
    return [p / (1 - p) if p < 1 else math.inf for p in steps]


def _geometric_mean(steps: Sequence[float]) -> float:
    product = math.prod(steps)
    if product < 0:
        raise UsageError("step scores below 0 have no geometric mean: choose another `aggregate`")
    return float(product ** (1 / len(steps)))


def _mean_logit(steps: Sequence[float]) -> float:
    logits = [math.log(odds) if odds > 0 else -math.inf for odds in _odds(steps)]
    mean = sum(logits) / len(logits)  # NaN where a step of 0 meets a step of 1: undefined
    return 0.0 if mean < -700 else 1 / (1 + math.exp(-mean))


AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "prod": lambda steps: float(math.prod(steps)),
    "min": min,
    "max": max,
    "last": lambda steps: steps[-1],
    "sum": lambda steps: float(sum(steps)),
    "mean": lambda steps: sum(steps) / len(steps),
    "geometric_mean": _geometric_mean,
    "mean_logit": _mean_logit,
    "mean_odd": lambda steps: sum(odds := _odds(steps)) / len(odds),
}
"""How step scores become one reward; the names are RewardMATH's, `sum` is for log-ratios."""

OWN = "own"
"""The scorer's own number where it gives one beside its steps, else their product."""

CHOICES = (*AGGREGATES, OWN)
"""What a rule's option `aggregate` may say."""


def aggregate_steps(steps: Sequence[float], aggregate: str) -> float:
    """One reward of step scores; NaN for no steps or a missing step. Unknown names raise `UsageError`.

    >>> aggregate_steps([0.5, 0.5], "prod")
    0.25
    """
    if aggregate not in AGGREGATES:
        raise UsageError(f"unknown aggregate {aggregate!r}. {near_miss(aggregate, AGGREGATES)}".rstrip())
    return AGGREGATES[aggregate](steps) if steps and not any(map(math.isnan, steps)) else NAN


# --- verdicts --------------------------------------------------------------------------------------------------------


def winners(verdict: Verdict, example: str) -> frozenset[int] | None:
    """The candidates (data set indices) that a verdict row favours: one, or all shown for a tie; None if unreadable.

    >>> sorted(winners(Verdict((1, 0), "A"), "x"))
    [1]
    """
    shown, said = verdict.order, verdict.verdict
    if said is None:
        return None
    if said in {"tie", "A=B", "B=A"}:
        return frozenset(shown)
    position = {"A>>B": 0, "A>B": 0, "B>A": 1, "B>>A": 1}.get(said)
    if position is None and len(said) == 1 and "A" <= said <= "Z":
        position = ord(said) - ord("A")
    if position is None or position >= len(shown):
        raise UsageError(
            f"example {example!r}: verdict {said!r} does not name one of the {len(shown)} candidates shown "
            "(A..Z, A>>B, A>B, A=B, B>A, B>>A, tie, or null)"
        )
    return frozenset({shown[position]})


def win_share(judgement: Judgement, unparsed: str = "missing") -> tuple[float, ...]:
    """Share of the comparisons that each candidate took part in and won; a tie is split evenly among those shown.

    A verdict that could not be read leaves every candidate it concerns without a share, unless `unparsed` is "wrong":
    then the wrong candidates shown win it; or "chance": then all shown share it.
    """
    k = len(judgement.grades)
    won, met = [0.0] * k, [0] * k
    top = max(judgement.grades)
    for row in judgement.verdicts:
        _check_order(row, judgement)
        favoured = winners(row, judgement.id)
        if favoured is None and unparsed == "wrong":
            favoured = frozenset(c for c in row.order if judgement.grades[c] < top) or frozenset(row.order)
        elif favoured is None and unparsed == "chance":
            favoured = frozenset(row.order)
        for candidate in row.order:
            met[candidate] += 1
            if favoured is None:
                won[candidate] = NAN
            elif candidate in favoured:
                won[candidate] += 1 / len(favoured)
    return tuple(won[c] / met[c] if met[c] else NAN for c in range(k))


def _check_order(row: Verdict, judgement: Judgement) -> None:
    if not row.order or len(set(row.order)) < len(row.order) or not set(row.order) <= set(range(len(judgement.grades))):
        raise UsageError(
            f"example {judgement.id!r}: verdict order {list(row.order)} is not a choice of its "
            f"{len(judgement.grades)} candidates"
        )


# --- whatever is there -> scores -------------------------------------------------------------------------------------


def scores_of(
    judgement: Judgement, aggregate: str = OWN, unparsed: str = "missing", unrated: float | None = None
) -> Scored:
    """One number per candidate from whatever the judgement holds.

    `unrated` stands for ratings that could not be read, where at least one of the example could. Raises `UsageError`
    where the number of scores is not the number of candidates.
    """
    j = judgement
    if j.scores and not (j.step_scores and aggregate != OWN):
        return _scored(j, j.scores, "")
    if j.ratings:
        means = tuple(map(_mean_vote, j.ratings))
        if unrated is not None and not all(map(math.isnan, means)):
            means = tuple(unrated if math.isnan(mean) else mean for mean in means)
        return _scored(j, means, "ratings averaged over the votes that could be read")
    if j.step_scores:
        name = "prod" if aggregate == OWN else aggregate
        values = tuple(aggregate_steps(steps, name) for steps in j.step_scores)
        return _scored(j, values, f"step scores aggregated by {name}")
    if j.verdicts:
        return _scored(j, win_share(j, unparsed), "verdicts converted to the share of comparisons won")
    return _scored(j, (NAN,) * len(j.grades), "")


def _mean_vote(votes: Sequence[float]) -> float:
    read = [vote for vote in votes if not math.isnan(vote)]
    return sum(read) / len(read) if read else NAN


def _scored(j: Judgement, values: tuple[float, ...], how: str) -> Scored:
    if len(values) != len(j.grades):
        raise UsageError(f"example {j.id!r}: {len(values)} scores for {len(j.grades)} candidates")
    finite = tuple(v if math.isfinite(v) else NAN for v in values)
    missing = next((i for i, v in enumerate(finite) if math.isnan(v)), None)
    return Scored(finite, None if missing is None else missing_reason(j, missing, values[missing]), how)


def missing_reason(j: Judgement, candidate: int = 0, value: float = NAN) -> str:
    """Why a candidate has no score: the recorded reason, else what the judgement shows."""
    recorded = j.reasons[candidate] if candidate < len(j.reasons) else None
    if recorded:
        return recorded
    if math.isinf(value):
        return "non_finite"
    if candidate < len(j.ratings) and j.ratings[candidate] and not j.scores:
        return "unparsed"
    unread = [row.reason or "unparsed" for row in j.verdicts if row.verdict is None and candidate in row.order]
    if unread:
        return unread[0]
    return "non_finite" if j.scores else "not_recorded"
