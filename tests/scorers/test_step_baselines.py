"""What the null scorers of steps say, and that they say it without labels."""

from __future__ import annotations

from collections import Counter

import pytest
from command import rmeval

from rmeval import runner
from rmeval.plugins import SCORERS
from rmeval.protocols import ByStep
from rmeval.scorers.step_baseline import AllCorrect, FirstStep, LastStep, PositionPrior, RandomStep
from rmeval.types import Candidate, Example, Labels, Message


def solution(steps: int, name: str = "x") -> Example:
    texts = tuple(f"step {i}" for i in range(steps))
    labels = Labels((1.0,), ((1,) * steps,))
    return Example(name, (Message("user", "q"),), (Candidate("\n".join(texts), texts),), labels, "s", cluster="q")


def said(scorer, *examples):
    return [j.step_scores[0] for j in runner.run(examples, scorer, by_step=True).judgements]


def test_each_says_what_its_name_says():
    for name, expected in {"all-correct": (1, 1, 1), "first-step": (0, 1, 1), "last-step": (1, 1, 0)}.items():
        scorer = SCORERS.get(name)()
        assert isinstance(scorer, ByStep)
        assert said(scorer, solution(3)) == [expected]
    assert said(FirstStep(), solution(1)) == said(LastStep(), solution(1)) == [(0.0,)]
    assert said(AllCorrect(), solution(1)) == [(1.0,)]


def test_the_random_one_names_each_step_and_none_as_often():
    drawn = Counter(said(RandomStep(), *(solution(3, f"x{i}") for i in range(4000))))
    assert set(drawn) == {(1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0)}
    assert all(abs(n - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5 for n in drawn.values())
    assert said(RandomStep(1), solution(3)) == said(RandomStep(1), solution(3))
    assert len({said(RandomStep(seed), solution(9))[0] for seed in range(20)}) > 5


def test_the_prior_falls_below_a_half_at_the_seventh_step():
    (scores,) = said(PositionPrior(), solution(8))
    assert scores == pytest.approx([0.9**i for i in range(1, 9)])
    assert [s < 0.5 for s in scores].index(True) == 6
    got = rmeval("run", "position-prior", "--suite", "arithmetic-steps", "-a", "scorer.hazard=1.5")
    assert got.code == 2
    assert "lies between 0 and 1" in got.stderr


def test_a_response_without_steps_is_missing_with_the_reason():
    whole = Example("x", (Message("user", "q"),), (Candidate("all in one"),), Labels((1.0,)), "s")
    (j,) = runner.run([whole], AllCorrect(), by_step=True).judgements
    assert (j.step_scores, j.reasons) == ((), ("no_steps",))
