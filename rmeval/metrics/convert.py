"""Sound conversions to one number per candidate, each named in the note of the metric that used it.

    step scores -> an aggregate of the steps        ratings -> the mean of the votes
    verdicts    -> the share of comparisons won

There is none from scores of whole responses to step scores: a number for the whole says nothing about where it broke.

What this module does not know: rules, tie policies, sections.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rmeval.errors import UsageError, near_miss
from rmeval.metrics.debias import decide
from rmeval.metrics.verdicts import ANSWERED, contests, winners
from rmeval.types import NAN, Judgement


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

MEAN = "mean"
"""Every verdict counts by itself."""


def aggregate_steps(steps: Sequence[float], aggregate: str) -> float:
    """One reward of step scores; NaN for no steps or a missing step. Unknown names raise `UsageError`.

    >>> aggregate_steps([0.5, 0.5], "prod")
    0.25
    """
    if aggregate not in AGGREGATES:
        raise UsageError(f"unknown aggregate {aggregate!r}. {near_miss(aggregate, AGGREGATES)}".rstrip())
    return AGGREGATES[aggregate](steps) if steps and not any(map(math.isnan, steps)) else NAN


# --- verdicts --------------------------------------------------------------------------------------------------------


def win_share(judgement: Judgement, unparsed: str = "missing", verdicts: str = MEAN) -> tuple[float, ...]:
    """Share of the comparisons that each candidate took part in and won; a tie is split evenly among those shown.

    `verdicts` names what counts as one: `mean`, every row by itself; or how the rows on the same candidates become one
    decision (`rmeval.metrics.debias`). A comparison that could not be read leaves every candidate it concerns without a
    share, unless `unparsed` is "wrong": then the wrong candidates shown win it; or "chance": then all shown share it.
    """
    k = len(judgement.grades)
    won, met = [0.0] * k, [0] * k
    top = max(judgement.grades)
    for order, favoured, reason in _comparisons(judgement, verdicts):
        given = favoured
        if favoured is None and reason in ANSWERED and unparsed == "wrong":
            given = frozenset(c for c in order if judgement.grades[c] < top) or frozenset(order)
        elif favoured is None and reason in ANSWERED and unparsed == "chance":
            given = frozenset(order)
        for candidate in order:
            met[candidate] += 1
            if given is None:
                won[candidate] = NAN
            elif candidate in given:
                won[candidate] += 1 / len(given)
    return tuple(won[c] / met[c] if met[c] else NAN for c in range(k))


def _comparisons(j: Judgement, verdicts: str) -> Iterator[tuple[tuple[int, ...], frozenset[int] | None, str | None]]:
    """(candidates compared, who is favoured, why nobody is) of each comparison."""
    for rows in contests(j):
        if verdicts == MEAN:
            yield from ((row.order, winners(row, j.id), row.reason or "unparsed") for row in rows)
            continue
        decision = decide(verdicts, rows, j.id)
        yield rows[0].order, decision.favoured, decision.reason


# --- whatever is there -> scores -------------------------------------------------------------------------------------


def scores_of(
    judgement: Judgement,
    aggregate: str = OWN,
    unparsed: str = "missing",
    unrated: float | None = None,
    verdicts: str = MEAN,
) -> Scored:
    """One number per candidate from whatever the judgement holds.

    `unrated` stands for ratings that could not be read, where at least one of the example could; `verdicts` as in
    `win_share`. Raises `UsageError` where the number of scores is not the number of candidates.
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
        counted = "comparisons" if verdicts == MEAN else "pairs, each decided over its orders,"
        return _scored(
            j,
            win_share(j, unparsed, verdicts),
            f"verdicts converted to the share of {counted} won",
            None if verdicts == MEAN else next((why for _, who, why in _comparisons(j, verdicts) if who is None), None),
        )
    return _scored(j, (NAN,) * len(j.grades), "")


def _mean_vote(votes: Sequence[float]) -> float:
    read = [vote for vote in votes if not math.isnan(vote)]
    return sum(read) / len(read) if read else NAN


def _scored(j: Judgement, values: tuple[float, ...], how: str, why: str | None = None) -> Scored:
    if len(values) != len(j.grades):
        raise UsageError(f"example {j.id!r}: {len(values)} scores for {len(j.grades)} candidates")
    finite = tuple(v if math.isfinite(v) else NAN for v in values)
    missing = next((i for i, v in enumerate(finite) if math.isnan(v)), None)
    return Scored(finite, None if missing is None else why or missing_reason(j, missing, values[missing]), how)


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
