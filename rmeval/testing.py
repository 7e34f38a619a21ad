"""Conformance checks for plugin authors, as plain functions to call from pytest.

    from rmeval.testing import check_scorer, check_suite

    def test_my_scorer():
        check_scorer(MyScorer())

    def test_my_suite():
        check_suite("my-suite", data="rows.jsonl")

Each raises `AssertionError` with what to mend. What this module does not know: pytest.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from rmeval import runner
from rmeval.metrics.evaluate import evaluate
from rmeval.protocols import Engine, Recording, Scorer
from rmeval.scorers.baseline import Constant, Random
from rmeval.scorers.step_baseline import AllCorrect, RandomStep
from rmeval.suites import Suite, describe, load_suite
from rmeval.types import Candidate, Example, Labels, Message

_EXAMPLES = tuple(
    Example(
        id=f"conformance/{i}",
        prompt=(Message("user", f"Question {i}: what is {i} + {i}?"),),
        candidates=(Candidate(f"The answer is {2 * i}."), Candidate(f"It is {2 * i + 1}!"), Candidate("")),
        labels=Labels((1.0, 0.0, 0.0)),
        subset="conformance",
        cluster=str(i),
    )
    for i in range(8)
)


def check_scorer(scorer: Scorer, engine: Engine | None = None) -> None:
    """Name, arity and identity are in order; scores are finite or have a reason, repeatable, and blind to order."""
    assert isinstance(scorer, Scorer), "a scorer has name, arity, identity() and score(view)"
    assert scorer.arity == "one", f"arity {scorer.arity!r}: this version runs scorers of arity one"
    try:
        json.dumps(scorer.identity(), allow_nan=False)  # goes into the result file and the fingerprint
    except (TypeError, ValueError) as fault:
        raise AssertionError(f"identity() is not plain JSON: {fault}") from fault
    first = runner.run(_EXAMPLES, scorer, engine).judgements
    again = runner.run(_EXAMPLES, scorer, engine).judgements
    backward = runner.run(_EXAMPLES[::-1], scorer, engine).judgements[::-1]
    for one, two, three in zip(first, again, backward, strict=True):
        for i, score in enumerate(one.scores):
            reason = one.reasons[i] if one.reasons else None
            assert math.isfinite(score) != bool(reason), f"{one.id}: {score} with reason {reason!r}"
            assert _same(score, two.scores[i]), f"{one.id}: {score} the first time, {two.scores[i]} the second"
            assert math.isnan(score) or abs(score - three.scores[i]) <= 1e-4, (
                f"{one.id}: {score}, and {three.scores[i]} when the examples came in another order"
            )
        for i, steps in enumerate(one.step_scores):
            why = one.step_reasons[i] if one.step_reasons else (None,) * len(steps)
            for score, reason in zip(steps, why, strict=True):
                assert math.isfinite(score) != bool(reason), f"{one.id}: a step of {score} with reason {reason!r}"


def check_recording(recording: Recording, suite: str, data: str | Path | None = None) -> None:
    """The recording answers for the suite's examples, with as many scores as there are candidates."""
    examples = load_suite(suite).load(Path(data) if data else None).examples
    judged = runner.run(examples, recording).judgements
    answered = [j for j in judged if not j.reasons or None in j.reasons]
    assert answered, "the recording knows none of the suite's examples"


def check_suite(suite: str | Suite, data: str | Path | None = None) -> None:
    """Examples are well formed, loading twice is the same, and the official metric is finite for null scorers."""
    loaded = load_suite(suite) if isinstance(suite, str) else suite
    path = Path(data) if data else None
    first, second = loaded.load(path), loaded.load(path)
    assert first.examples, "the suite has no examples"
    assert (first.sha256, first.labels_sha256) == (second.sha256, second.labels_sha256), "loading twice differs"
    ids = [e.id for e in first.examples]
    assert len(set(ids)) == len(ids), "ids are not unique"
    for e in first.examples:
        assert len(e.labels.grades) == len(e.candidates) > 0, f"{e.id}: one grade per candidate"
        assert e.cluster, f"{e.id}: no cluster, so no honest interval"
        assert not e.labels.step_grades or [len(s) for s in e.labels.step_grades] == [
            len(c.steps) for c in e.candidates
        ], f"{e.id}: one step grade per step"
    json.dumps(describe(first), allow_nan=False)
    by_step = loaded.card.kind == "process"
    if all(c.body is not None for e in first.examples for c in e.candidates):
        for scorer in (AllCorrect(), RandomStep()) if by_step else (Constant(), Random()):
            metrics = evaluate(runner.run(first.examples, scorer, by_step=by_step).judgements, loaded.plan)
            assert metrics, "the suite's plan gives no metric"
            assert all(m.value is None or math.isfinite(m.value) for m in metrics), "a metric is not finite"


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
