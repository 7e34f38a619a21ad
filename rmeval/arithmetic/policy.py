"""A policy that writes solutions step by step and errs at a known rate: no weights, no training, the truth at hand.

At each operation it writes a wrong result with the chance `error`, and then goes on from what it has written, as people
and models do; the answer line states the last result. Most wrong results are far off and one in ten is near, as in
`rollouts`, which step models are trained on. Steps are concise.

What this module does not know: scorers, searches, suites.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from rmeval.arithmetic.problems import SMALLEST, Problem, Ref, Symbol
from rmeval.arithmetic.solutions import Equation, concise_step

SUBTLE, NEAR, FAR, TOP = 0.1, 5, 20, 99
"""Share of the errors that are near, how near they are, how far off the others are, and the largest of those."""


@dataclass(frozen=True, slots=True)
class Written:
    """A solution, or the beginning of one."""

    steps: tuple[str, ...] = ()
    results: tuple[int, ...] = ()
    """Of the operations done so far, as written."""
    first_wrong: int | None = None
    """0-based step of the first error."""
    answer: int | None = None
    """What the answer line says; None before it."""

    @property
    def done(self) -> bool:
        """Whether the answer line stands."""
        return self.answer is not None


def next_step(problem: Problem, so_far: Written, error: float, rng: random.Random) -> Written:
    """One more step, the answer line after the last operation.

    >>> from rmeval.arithmetic.problems import draw_problems, seeded
    >>> rng = seeded("doctest", 0)
    >>> problem, written = next(draw_problems("test", rng)), Written()
    >>> while not written.done:
    ...     written = next_step(problem, written, 0.0, rng)
    >>> written.answer == problem.answer, len(written.steps) == len(problem.operations) + 1
    (True, True)
    """
    done = len(so_far.results)
    if done == len(problem.operations):
        answer = so_far.results[-1]
        return Written((*so_far.steps, f"Answer: {answer}"), so_far.results, so_far.first_wrong, answer)
    operation = problem.operations[done]
    left, right = (_value(problem, so_far.results, ref) for ref in (operation.left, operation.right))
    result, first_wrong = _carried_out(operation.symbol, left, right), so_far.first_wrong
    if rng.random() < error:
        result = _wrong(result, rng)
        first_wrong = done if first_wrong is None else first_wrong
    step = concise_step(done + 1, Equation(operation.symbol, left, right, result), rng)
    return Written((*so_far.steps, step), (*so_far.results, result), first_wrong)


def _value(problem: Problem, results: tuple[int, ...], ref: Ref) -> int:
    return problem.givens[ref.index] if ref.source == "given" else results[ref.index]


def _carried_out(symbol: Symbol, left: int, right: int) -> int:
    """What follows from any numbers: after an error they may leave the world's range, and shares are rounded down."""
    return {"+": left + right, "-": left - right, "×": left * right, "÷": left // right if right else 0}[symbol]


def _wrong(truth: int, rng: random.Random) -> int:
    if rng.random() < SUBTLE:
        return truth + rng.choice([n for n in range(-NEAR, NEAR + 1) if n])
    return rng.choice([n for n in range(SMALLEST, TOP + 1) if abs(n - truth) >= FAR])
