"""Scores of views -> the judgement of their example: candidates back in data set order, beside their labels.

What this module does not know: who gave the scores, how metrics use them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from rmeval.markup import count_markup
from rmeval.protocols import Recording
from rmeval.types import Example, Judgement, Recorded, Score, Verdict, View
from rmeval.views import label_free_order


def gather(example: Example, scored: Sequence[tuple[View, Score]], *, by_step: bool = False) -> Judgement:
    """One example with the scores of all its views, `by_step` where the suite asks for a score per step."""
    label_free = label_free_order(example)
    judged = [one for one in scored if one[1].verdicts or one[1].ratings or len(one[0].order) > 1]
    if judged:
        return _judged(example, label_free, scored)
    found: dict[int, Score] = {}
    for view, score in scored:
        [place] = view.order
        _check_steps(example, label_free[place], score, by_step)
        found[label_free[place]] = score
    return _scored(example, tuple(found[i] for i in range(len(example.candidates))))


def recorded(example: Example, recording: Recording) -> Judgement:
    """A recorded row as a judgement; whatever the file lacks is missing with its reason."""
    k = len(example.candidates)
    row = recording.recorded(example.id, k) or Recorded()
    scores, reasons = row.scores, row.reasons
    if not (scores or row.step_scores or row.verdicts or row.ratings):
        scores, reasons = (math.nan,) * k, ("not_recorded",) * k
    elif not reasons:
        lacks = [math.isnan(s) for s in scores] or [any(map(math.isnan, steps)) for steps in row.step_scores]
        reasons = tuple("not_recorded" if lacking else None for lacking in lacks) if any(lacks) else ()
    by_step = tuple(tuple("not_recorded" if math.isnan(s) else None for s in steps) for steps in row.step_scores)
    return replace(
        unscored(example),
        scores=scores,
        step_scores=row.step_scores,
        step_reasons=by_step if any(map(any, by_step)) else (),
        verdicts=row.verdicts,
        ratings=row.ratings,
        reasons=reasons,
    )


def unscored(example: Example) -> Judgement:
    """What a judgement says of its example, before any score."""
    has_text = all(c.body is not None for c in example.candidates)
    models = tuple(c.tags.get("model", "") for c in example.candidates)
    return Judgement(
        id=example.id,
        subset=example.subset,
        group=example.group,
        cluster=example.cluster,
        grades=example.labels.grades,
        step_grades=example.labels.step_grades,
        lengths=tuple(len(c.text) for c in example.candidates) if has_text else (),
        markup=tuple(count_markup(c.text) for c in example.candidates) if has_text else (),
        models=models if any(models) else (),
        comparisons=example.labels.comparisons,
        votes=example.labels.votes,
        slices=example.slices,
        answers=example.labels.answers,
    )


def _scored(example: Example, scores: tuple[Score, ...]) -> Judgement:
    """One score per candidate."""
    stepwise = any(s.steps for s in scores)
    # a scorer of steps alone leaves the whole open; one that tried and failed says why
    whole = not stepwise or any(s.reason or not math.isnan(s.value) for s in scores)
    return replace(
        unscored(example),
        scores=tuple(s.value for s in scores) if whole else (),
        step_scores=tuple(s.steps for s in scores) if stepwise else (),
        step_reasons=tuple(map(_step_reasons, scores)) if any(any(s.step_reasons) for s in scores) else (),
        prefix_scores=tuple(s.prefixes for s in scores) if any(s.prefixes for s in scores) else (),
        reasons=tuple(s.why for s in scores) if any(s.why for s in scores) else (),
        n_tokens=tuple(s.n_tokens for s in scores) if any(s.n_tokens for s in scores) else (),
        truncated=tuple(s.truncated for s in scores) if any(s.truncated for s in scores) else (),
        marked=tuple(s.marked for s in scores) if any(s.marked for s in scores) else (),
    )


def _judged(example: Example, label_free: Sequence[int], scored: Sequence[tuple[View, Score]]) -> Judgement:
    """Verdicts and ratings as they were given, one per reading."""
    k = len(example.candidates)
    verdicts: list[Verdict] = []
    ratings: list[list[float]] = [[] for _ in range(k)]
    reasons: list[str | None] = [None] * k
    cut, marked = [False] * k, [False] * k
    rated = any(score.ratings for _, score in scored)
    for view, score in scored:
        shown = [label_free[place] for place in view.order]
        for index in shown:
            cut[index] |= score.truncated
            marked[index] |= score.marked and not score.verdicts
        for row in score.verdicts:
            indices = tuple(label_free[place] for place in row.order)
            verdicts.append(replace(row, order=indices, vote=view.vote if row.vote == 0 else row.vote))
        if score.verdicts:
            continue
        if rated:
            for index, rating in zip(shown, score.ratings or (math.nan,) * len(shown), strict=True):
                ratings[index].append(rating)
                reasons[index] = reasons[index] or (score.why or "unparsed" if math.isnan(rating) else None)
        else:
            verdicts.append(Verdict(tuple(shown), None, score.why or "unparsed", vote=view.vote))
    return replace(
        unscored(example),
        verdicts=tuple(verdicts),
        ratings=tuple(map(tuple, ratings)) if rated else (),
        reasons=tuple(reasons) if any(reasons) else (),
        truncated=tuple(cut) if any(cut) else (),
        marked=tuple(marked) if any(marked) else (),
    )


def _step_reasons(score: Score) -> tuple[str | None, ...]:
    return score.step_reasons or (None,) * len(score.steps)


def _check_steps(example: Example, candidate: int, score: Score, by_step: bool) -> None:
    """A scorer that gives another number of steps than have labels would shift every later one: a bug, not a value."""
    given, there = len(score.steps), len(example.candidates[candidate].steps)
    if by_step and given and given != there:
        raise RuntimeError(f"example {example.id!r}: {given} step scores for {there} steps")
    if score.step_reasons and len(score.step_reasons) != given:
        raise RuntimeError(f"example {example.id!r}: {len(score.step_reasons)} step reasons for {given} steps")
