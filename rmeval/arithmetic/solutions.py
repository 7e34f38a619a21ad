"""Solutions of the arithmetic world: right ones, wrong ones with a known first wrong step, in three styles.

A wrong solution goes astray at one step and then carries on consistently, as people and models do:

| fault       | the first wrong step                                                              |
|-------------|-----------------------------------------------------------------------------------|
| `slip`      | writes a wrong result under a right operation                                     |
| `operation` | adds where it should multiply, and so on; the result fits what is written         |
| `miscopied` | reads a number of the text wrongly                                                |
| `skipped`   | goes on from the value before the step above, so that this step has no effect     |
| `answer`    | all operations are right and the last line says something else                    |

A wrong solution has exactly as many digits as the right one, and its wording is drawn in the same way, so within a
style the lengths of right and wrong solutions have the same distribution: length says nothing about truth.

What this module does not know: stories, suites, grades.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from rmeval.arithmetic.problems import LARGEST, SMALLEST, SYMBOLS, Problem, Ref, Symbol, compute

Style: TypeAlias = Literal["concise", "detailed", "markdown"]
Fault: TypeAlias = Literal["slip", "operation", "miscopied", "skipped", "answer"]

STYLES: tuple[Style, ...] = get_args(Style)
FAULTS: tuple[Fault, ...] = get_args(Fault)
_TRIES = 20  # per fault, before another one is drawn: not every problem has room for every fault


@dataclass(frozen=True, slots=True)
class Equation:
    """One operation as it is written down, whether right or wrong."""

    symbol: Symbol
    left: int
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left} {self.symbol} {self.right} = {self.result}"


@dataclass(frozen=True, slots=True)
class Solution:
    """What is written down: one equation per operation, then the answer."""

    problem: Problem
    equations: tuple[Equation, ...]
    answer: int
    fault: Fault | None = None
    first_wrong: int | None = None
    """0-based step of the fault, the answer line being the last step; None for a right solution."""

    @property
    def step_grades(self) -> tuple[int, ...]:
        """Per step 1 right, 0 wrong. All steps from the first wrong one on are graded wrong: they build on it."""
        good = len(self.equations) + 1 if self.first_wrong is None else self.first_wrong
        return tuple(int(step < good) for step in range(len(self.equations) + 1))


def right_solution(problem: Problem) -> Solution:
    """The computation of the problem, carried out."""
    equations = _work(problem)
    assert equations is not None
    return Solution(problem, equations, equations[-1].result)


def wrong_solution(problem: Problem, rng: random.Random) -> Solution:
    """A solution with a fault drawn from `FAULTS` whose answer is not the right one."""
    truth = right_solution(problem)
    steps = len(truth.equations)
    while True:
        fault = rng.choice(FAULTS)
        for _ in range(_TRIES):
            at = steps if fault == "answer" else rng.randrange(steps)
            found = _corrupt(truth, fault, at, rng)
            if found and found.answer != truth.answer and _digits(found) == _digits(truth):
                return found


def wrong_solutions(problem: Problem, count: int, rng: random.Random) -> list[Solution]:
    """`count` wrong solutions that differ in what they compute."""
    found: dict[tuple[tuple[Equation, ...], int], Solution] = {}
    while len(found) < count:
        solution = wrong_solution(problem, rng)
        found.setdefault((solution.equations, solution.answer), solution)
    return list(found.values())


def render(solution: Solution, style: Style, rng: random.Random) -> tuple[str, ...]:
    r"""The solution as steps of text, the last one being the answer line; the response is `"\n".join(steps)`.

    The wording is drawn from `rng`, in the same way whether the solution is right or wrong.
    """
    write = {"concise": _concise, "detailed": _detailed, "markdown": _markdown}[style]
    steps = [write(number, solution, rng) for number in range(1, len(solution.equations) + 1)]
    answer = f"Answer: {solution.answer}"
    return (*steps, f"**{answer}**" if style == "markdown" else answer)


def _concise(number: int, solution: Solution, rng: random.Random) -> str:
    return concise_step(number, solution.equations[number - 1], rng)


def concise_step(number: int, equation: Equation, rng: random.Random) -> str:
    """One step of a concise solution, `number` from 1."""
    opening = rng.choice(("", "", "So ", "Now ", "Hence "))
    return f"{number}. {opening}{equation}"


def _detailed(number: int, solution: Solution, rng: random.Random) -> str:
    closing = rng.choice((":", ", so", ", which gives"))
    phrase, equation = _phrase(number, solution), solution.equations[number - 1]
    return f"{number}. {phrase}{closing} {equation} {solution.problem.unit}"


def _markdown(number: int, solution: Solution, rng: random.Random) -> str:
    opening = rng.choice(("No", "Step", "Stage"))
    return f"- **{opening} {number}:** {_phrase(number, solution)}\n  - {solution.equations[number - 1]}"


def _phrase(number: int, solution: Solution) -> str:
    """What happens in the operation, with its numbers as this solution read them."""
    operation, equation = solution.problem.operations[number - 1], solution.equations[number - 1]
    read = {str(operation.left): equation.left, str(operation.right): equation.right}
    return operation.phrase.format(**read)


def _work(
    problem: Problem,
    at: int | None = None,
    symbol: Symbol | None = None,
    operands: tuple[int | None, int | None] = (None, None),
    slip: int = 0,
) -> tuple[Equation, ...] | None:
    """The equations, with another symbol, operands or result at step `at`; None where a value leaves the world."""
    equations: list[Equation] = []
    for step, operation in enumerate(problem.operations):
        sign = operation.symbol
        left, right = (_value(problem, equations, ref) for ref in (operation.left, operation.right))
        if step == at:
            sign = symbol or sign
            left, right = operands[0] or left, operands[1] or right
        result = compute(sign, left, right)
        if result is None:
            return None
        if step == at and slip:
            result = compute("+", result, slip) if slip > 0 else compute("-", result, -slip)
            if result is None:
                return None
        equations.append(Equation(sign, left, right, result))
    return tuple(equations)


def _corrupt(truth: Solution, fault: Fault, at: int, rng: random.Random) -> Solution | None:
    """The fault at a step, or None where this draw does not make one."""
    problem = truth.problem
    if fault == "answer":
        other = truth.answer + _deviation(rng)
        sound = SMALLEST <= other <= LARGEST
        return Solution(problem, truth.equations, other, fault, at) if sound else None
    operation, equation = problem.operations[at], truth.equations[at]
    if fault == "slip":
        equations = _work(problem, at, slip=_deviation(rng))
    elif fault == "operation":
        equations = _work(problem, at, symbol=rng.choice([s for s in SYMBOLS if s != operation.symbol]))
    else:
        side = rng.randrange(2)
        ref, value = (operation.left, operation.right)[side], (equation.left, equation.right)[side]
        if fault == "miscopied":
            other = value + _deviation(rng)
            # texts repeat a given number, so it keeps its digits
            usable = (
                ref.source == "given"
                and SMALLEST <= other <= LARGEST
                and other not in problem.givens
                and len(str(other)) == len(str(value))
            )
        else:
            other = truth.equations[ref.index].left if ref.source == "result" else value
            usable = other != value
        if not usable:
            return None
        equations = _work(problem, at, operands=(other, None) if side == 0 else (None, other))
    return Solution(problem, equations, equations[-1].result, fault, at) if equations else None


def _deviation(rng: random.Random) -> int:
    """How far off a wrong number is: from one, which is hard to see, to far off, which is easy."""
    return rng.choice((-1, 1)) * rng.choice((1, 2, 5, 8, 10, 12, 15, 20, 25, 30))


def _value(problem: Problem, equations: list[Equation], ref: Ref) -> int:
    return problem.givens[ref.index] if ref.source == "given" else equations[ref.index].result


def _digits(solution: Solution) -> int:
    """Digits of every number written, the one thing in which wording cannot hide a fault."""
    numbers = [n for e in solution.equations for n in (e.left, e.right, e.result)]
    return sum(len(str(n)) for n in (*numbers, solution.answer))
