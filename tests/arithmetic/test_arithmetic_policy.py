"""The policy that errs at a known rate: without errors it is right, with them the truth of every step is known."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from rmeval.arithmetic.policy import FAR, NEAR, TOP, Written, next_step
from rmeval.arithmetic.problems import draw_problems, seeded

STEP = re.compile(r"\d+\. (?:So |Now |Hence )?(-?\d+) ([+\-×÷]) (-?\d+) = (-?\d+)")


def solve(problem, error, rng) -> Written:
    one = Written()
    while not one.done:
        one = next_step(problem, one, error, rng)
    return one


def problems(n: int):
    return list(islice(draw_problems("test", seeded("policy", 1)), n))


def test_without_errors_every_solution_is_right():
    rng = seeded("policy right", 0)
    for problem in problems(50):
        one = solve(problem, 0.0, rng)
        assert (one.answer, one.first_wrong, one.results) == (problem.answer, None, problem.results)
        assert len(one.steps) == len(problem.operations) + 1
        assert one.steps[-1] == f"Answer: {problem.answer}"


def test_the_first_wrong_step_is_the_first_whose_result_does_not_follow():
    rng = seeded("policy wrong", 0)
    for problem in problems(200):
        one = solve(problem, 0.5, rng)
        false = []
        for k, step in enumerate(one.steps[:-1]):
            left, sign, right, result = STEP.fullmatch(step).groups()
            a, b = int(left), int(right)
            truth = {"+": a + b, "-": a - b, "×": a * b, "÷": a // b if b else 0}[sign]
            off = abs(int(result) - truth)
            if off:
                false.append(k)
                assert off <= NEAR or (off >= FAR and int(result) <= TOP)
        assert one.first_wrong == (false[0] if false else None)
        if not false:
            assert one.answer == problem.answer
        assert one.results[-1] == one.answer


def test_the_rate_of_errors_is_the_one_asked_for():
    rng = seeded("policy rate", 0)
    first = [next_step(problem, Written(), 0.3, rng).first_wrong == 0 for problem in problems(300) for _ in range(5)]
    assert sum(first) / len(first) == pytest.approx(0.3, abs=0.04)
