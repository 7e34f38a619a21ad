"""Scores per step reach the samples file with a reason for each that is missing, and none is dropped."""

from __future__ import annotations

import math

import pytest
from command import rmeval

from rmeval import api, runner, samples
from rmeval.errors import UsageError
from rmeval.models import Model
from rmeval.protocols import ByStep
from rmeval.scorers.baseline import Length
from rmeval.suites import load_suite
from rmeval.types import NAN, Candidate, Example, Labels, Message, Score


class AllRight:
    """Every step is right; `broken` names a step without a number."""

    name, arity, by_step = "all right", "one", True

    def __init__(self, broken: int | None = None, extra: int = 0):
        self.broken, self.extra = broken, extra

    def identity(self):
        return {"kind": "test"}

    def score(self, view):
        assert view.by_step
        steps = [1.0] * (len(view.candidates[0].steps) + self.extra)
        reasons = [None] * len(steps)
        if self.broken is not None:
            steps[self.broken], reasons[self.broken] = NAN, "non_finite"
        return Score(steps=tuple(steps), step_reasons=tuple(reasons) if self.broken is not None else ())
        yield []


def example() -> Example:
    return Example(
        "p/0", (Message("user", "15 % of 80?"),), (Candidate("0.15\n1.2", ("0.15", "1.2")),),
        Labels((0.0,), ((1, 0),)), "p", cluster="p",
    )  # fmt: skip


def test_steps_become_step_scores_and_leave_no_score():
    [judged] = runner.run([example()], AllRight(), by_step=True).judgements
    assert (judged.step_scores, judged.scores, judged.reasons, judged.step_reasons) == (((1.0, 1.0),), (), (), ())


def test_a_missing_step_keeps_its_place_its_reason_and_is_counted():
    outcome = runner.run([example()], AllRight(broken=1), by_step=True)
    [judged] = outcome.judgements
    assert judged.step_scores[0][0] == 1.0
    assert math.isnan(judged.step_scores[0][1])
    assert judged.step_reasons == ((None, "non_finite"),)
    assert judged.reasons == ("non_finite",)
    assert (outcome.counts.errors, outcome.reasons) == (1, {"non_finite": 1})
    row = samples.to_row(judged)
    assert row.step_scores == ((1.0, None),)
    assert samples.to_judgement(row).step_reasons == judged.step_reasons


def test_another_number_of_steps_than_there_are_is_a_fault():
    with pytest.raises(RuntimeError, match="3 step scores for 2 steps"):
        runner.run([example()], AllRight(extra=1), by_step=True)


def test_a_scorer_by_step_runs_on_a_step_suite_and_one_by_response_is_refused(tmp_path):
    assert isinstance(AllRight(), ByStep)
    assert not isinstance(Length(), ByStep)
    suite, settings = load_suite("arithmetic-steps"), api.Settings(limit=20, out=tmp_path, store=tmp_path / "s.sqlite")
    path = api.run_suite(Model("all-right", None, "test", AllRight()), suite, settings)
    assert api.results.read(path).headline.value == 0.0  # every right solution passes and no error is found
    with pytest.raises(UsageError, match="no sound conversion"):
        api.run_suite(Model("length", None, "baseline", Length()), suite, settings)


def test_the_command_line_refuses_it_too(tmp_path):
    assert rmeval("run", "length", "--suite", "arithmetic-steps", "--out", tmp_path).code == 2
