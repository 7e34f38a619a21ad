"""Searches on the arithmetic world at equal compute: what a step model is worth as a guide, beside best-of-n.

    probe_search(score, ...) -> SearchProbe(curves, notes)

Problems come from the test side of the world and solutions from its own policy (`rmeval.arithmetic.policy`), which errs
at a known rate, so the truth is computed and no weights write. Best-of-n, votes, oracle and luck are exact over one
pool per problem; each of the other searches is run once per problem, with draws of its own, and early rejection writes
as many steps as n solutions of that problem have. The same problems stand behind every value, and the gain over
best-of-n is paired by problem. A search that finishes no solution within its budget has no answer: a wrong one.

    oracle(noise)     scores of the truth: sigma(2 for a step before the first error, else -2, plus normal noise)
    ModelScores       the step scores of a model

What this module does not know: the command line, files, figures.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TypeAlias

from rmeval import runner
from rmeval.arithmetic.policy import Written, next_step
from rmeval.arithmetic.problems import Problem, draw_problems, seeded
from rmeval.errors import UsageError
from rmeval.metrics.convert import aggregate_steps
from rmeval.metrics.pools import expected_best
from rmeval.models import Model
from rmeval.probes.best_of_n import best_of_n
from rmeval.probes.curves import Curve, Point, mean_point
from rmeval.probes.pool import Pool, PoolRow
from rmeval.probes.search import (
    Found,
    Rules,
    Search,
    beam_search,
    check_width,
    complete,
    dvts,
    early_rejection,
    together,
)
from rmeval.types import NAN, Candidate, Example, Labels, Message

Score: TypeAlias = Callable[[Sequence[tuple[Problem, Written]]], Sequence[tuple[float, ...]]]
"""Step scores of partial solutions, one per step, NaN where missing."""

LOGIT = 2.0
"""Log-odds of the oracle's score of a right step, without noise."""
BEAM, DVTS, REJECTION, BEST = "beam search", "DVTS", "early rejection", "best of n"


@dataclass(frozen=True, slots=True)
class Setting:
    """How the searches are run."""

    sizes: tuple[int, ...] = (4, 8, 16, 32)
    """Solutions' worth of steps: the n of best-of-n."""
    problems: int = 200
    error: float = 0.5
    """The policy's chance of a wrong result at each operation."""
    width: int = 4
    aggregate: str = "last"
    cut: float = 0.5
    """Early rejection gives up at a step that scores less."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises `UsageError` for what cannot be searched."""
        if not self.sizes or min(self.sizes) < 1:
            raise UsageError("--budget: whole numbers of at least 1, such as 4,8,16,32")
        if not 0 < self.error < 1:
            raise UsageError(f"--error {self.error:g}: above 0 and below 1, or there is nothing to search for")
        if self.width < 2:
            raise UsageError(f"--width {self.width}: at least 2, or nothing is chosen from")
        if self.problems < 1:
            raise UsageError(f"--problems {self.problems}: at least 1")


@dataclass(frozen=True, slots=True)
class SearchProbe:
    """The curves over n, the defined and the undefined ones."""

    n: tuple[int, ...]
    problems: int
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]

    def curve(self, panel: str, name: str) -> Curve:
        """A curve by its name. `KeyError` for one that there is not."""
        for curve in self.curves:
            if (curve.panel, curve.name) == (panel, name):
                return curve
        raise KeyError(f"{panel}: {name}")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One kind of search at one n, problem by problem."""

    worth: list[float]
    """1 or 0; NaN where a score was missing."""
    written: list[float]
    """Steps."""
    unfinished: int
    """Problems without a finished solution."""


def probe_search(score: Score, how: Setting) -> SearchProbe:
    """All curves. `score` may be asked for the same partial solution again and must answer the same."""
    problems = list(islice(draw_problems("test", seeded("arithmetic search", how.seed)), how.problems))
    pool = _pool(problems, score, how)
    sizes = tuple(sorted(set(how.sizes)))
    exact = best_of_n(pool, sizes, seed=how.seed)
    clusters = [problem.id for problem in problems]
    base = {n: [_best(row, n) for row in pool.rows] for n in sizes}
    curves = [replace(c, panel="right") for c in exact.curves if c.panel == "gold"]
    gains: list[Curve] = []
    steps = {BEST: [mean_point(n, [n * _length(p) for p in problems], clusters, None) for n in sizes]}
    notes: list[str] = []
    words = {
        BEAM: f"beams keep the best 1 in {how.width} after each step",
        DVTS: f"n / {how.width} trees, each keeping the best of {how.width} next steps",
        REJECTION: f"solutions are given up at their first step below {how.cut:g}, the steps saved go into others",
    }
    for name, what in words.items():
        worth: list[Point] = []
        gain: list[Point] = []
        cost: list[Point] = []
        for n in sizes:
            why = "" if name == REJECTION else check_width(n, how.width)
            if why:
                for points in (worth, gain, cost):
                    points.append(Point(n, None, None, 0, 0, why))
                continue
            one = _run(name, n, problems, score, how)
            worth.append(mean_point(n, one.worth, clusters))
            paired = [got - exact_ for got, exact_ in zip(one.worth, base[n], strict=True)]
            gain.append(mean_point(n, paired, clusters, (-1.0, 1.0)))
            cost.append(mean_point(n, one.written, clusters, None))
            if one.unfinished:
                notes.append(f"{name}, n = {n}: {one.unfinished} of {len(problems)} problems without a finished answer")
        curves.append(Curve("right", name, f"share right: {what}", tuple(worth)))
        gains.append(
            Curve("gain over best of n", name, f"share right more than best of n, paired: {what}", tuple(gain))
        )
        steps[name] = cost
    cost_curves = [Curve("steps written", name, "mean per problem", tuple(points)) for name, points in steps.items()]
    return SearchProbe(sizes, len(problems), (*curves, *gains, *cost_curves), (*exact.notes, *notes))


def _length(problem: Problem) -> int:
    """Steps of a solution: one per operation, and the answer line."""
    return len(problem.operations) + 1


def _rules(problem: Problem, how: Setting, purpose: str) -> Rules[Written]:
    def write(so_far: Written, rng: random.Random) -> Written:
        return next_step(problem, so_far, how.error, rng)

    return Rules(Written(), write, seeded("arithmetic search", purpose, how.seed, problem.id), how.aggregate)


def _pool(problems: Sequence[Problem], score: Score, how: Setting) -> Pool:
    """As many solutions of each problem as the largest n, with rewards, answers and truth."""
    most = max(how.sizes)
    rows = []
    written = []
    for problem in problems:
        rules = _rules(problem, how, "pool")
        written.append([complete(rules) for _ in range(most)])
    pairs = [(problem, one) for problem, row in zip(problems, written, strict=True) for one in row]
    scores = iter(score(pairs))
    for problem, row in zip(problems, written, strict=True):
        rewards = tuple(aggregate_steps(next(scores), how.aggregate) for _ in row)
        lost = any(map(math.isnan, rewards))
        said = list(dict.fromkeys(one.answer for one in row))
        rows.append(
            PoolRow(
                problem.id,
                problem.id,
                most,
                rewards=rewards,
                reasons=tuple("not_recorded" if math.isnan(r) else None for r in rewards) if lost else (),
                gold=tuple(float(one.answer == problem.answer) for one in row),
                answers=tuple(said.index(one.answer) for one in row),
            )
        )
    return Pool("arithmetic search", tuple(rows))


def _best(row: PoolRow, n: int) -> float:
    return NAN if any(map(math.isnan, row.rewards)) else expected_best(row.rewards, row.gold, n, row.n)


def _run(name: str, n: int, problems: Sequence[Problem], score: Score, how: Setting) -> _Outcome:
    searches: list[Search[Written]] = []
    for problem in problems:
        rules = _rules(problem, how, f"{name} {n}")
        if name == BEAM:
            searches.append(beam_search(rules, n, how.width))
        elif name == DVTS:
            searches.append(dvts(rules, n, how.width))
        else:
            searches.append(early_rejection(rules, n * _length(problem), how.cut))
    found = together(searches, lambda asked: score([(problems[number], one) for number, one in asked]))
    worth = [_worth(one, problem) for one, problem in zip(found, problems, strict=True)]
    unfinished = sum(one.chosen is None and not one.missing for one in found)
    return _Outcome(worth, [NAN if one.missing else float(one.written) for one in found], unfinished)


def _worth(found: Found[Written], problem: Problem) -> float:
    if found.missing:
        return NAN
    return float(found.chosen is not None and found.chosen.answer == problem.answer)


# --- scores ----------------------------------------------------------------------------------------------------------


def oracle(noise: float, seed: int = 0) -> Score:
    """Scores of the truth with normal noise of this standard deviation in log-odds; the same steps get the same noise.

    >>> problem = next(draw_problems("test", seeded("doctest", 0)))
    >>> [round(score, 4) for score in oracle(0.0)([(problem, Written(("a", "b"), first_wrong=1))])[0]]
    [0.8808, 0.1192]
    """
    if not 0 <= noise < math.inf:
        raise UsageError(f"--noise {noise:g}: at least 0")
    return partial(_oracle, noise=noise, seed=seed)


def _oracle(asked: Sequence[tuple[Problem, Written]], *, noise: float, seed: int) -> list[tuple[float, ...]]:
    answers = []
    for problem, one in asked:
        scores = []
        for k in range(len(one.steps)):
            sound = one.first_wrong is None or k < one.first_wrong
            odds = LOGIT if sound else -LOGIT
            if noise:
                odds += noise * seeded("noisy oracle", seed, problem.id, *one.steps[: k + 1]).gauss(0.0, 1.0)
            scores.append((1 + math.tanh(odds / 2)) / 2)  # sigma, for odds of any size
        answers.append(tuple(scores))
    return answers


class ModelScores:
    """The step scores of a model, each text asked for once."""

    def __init__(self, model: Model) -> None:
        """Raises `UsageError` for recorded outputs: they hold no new texts."""
        if not model.needs_texts:
            raise UsageError(f"{model.name} holds recorded outputs; it cannot score new texts")
        self.model = model
        self._known: dict[tuple[str, tuple[str, ...]], tuple[float, ...]] = {}

    def __call__(self, asked: Sequence[tuple[Problem, Written]]) -> list[tuple[float, ...]]:
        """One score per step. Raises `UsageError` for a model that gives none."""
        fresh = {(problem.text, one.steps): None for problem, one in asked}.keys() - self._known.keys()
        if fresh:
            self._score(sorted(fresh))
        return [self._known[problem.text, one.steps] for problem, one in asked]

    def _score(self, fresh: Sequence[tuple[str, tuple[str, ...]]]) -> None:
        examples = [
            Example(
                id=str(i),
                prompt=(Message("user", text),),
                candidates=(Candidate("\n".join(steps), steps),),
                labels=Labels((0.0,), ((0,) * len(steps),)),
                subset="",
                cluster=text,
            )
            for i, (text, steps) in enumerate(fresh)
        ]
        outcome = runner.run(examples, self.model.scorer, self.model.engine, None, title=self.model.name, by_step=True)
        for (text, steps), j in zip(fresh, outcome.judgements, strict=True):
            if not j.step_scores and j.scores:
                raise UsageError(f"{self.model.name} gives no step scores: a search needs a step model")
            scores = j.step_scores[0] if j.step_scores else ()
            self._known[text, steps] = scores if len(scores) == len(steps) else (NAN,) * len(steps)
