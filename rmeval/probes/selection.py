"""Rejection sampling's choice: which candidates of a pool become training data, by reward.

    top           the k best-rewarded of each prompt, the first of tied ones
    top-k         the k best-rewarded of all candidates together, the first of tied ones (row by row)
    threshold     every candidate whose reward is above a threshold (ReST)
    rso           k per prompt by statistical rejection: each candidate is accepted with probability
                  exp((r - r_max) / beta), r_max over those that remain, until k are accepted (arXiv:2309.06657)
    random        k of each prompt, drawn
    random-k      k of all candidates together, drawn

Rewards may be normalised within each prompt (z-score or rank) first: `top-k` over raw rewards favours prompts that are
easy, or that the reward model happens to like. A candidate without a reward is never chosen by one. Tied candidates
stand in the order of the pool, which is that of sampling; a choice that is drawn depends on seed and row id alone.

What this module does not know: what a choice is worth, models, files.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from rmeval.errors import UsageError
from rmeval.probes.pool import Pool, PoolRow
from rmeval.types import NAN

Rule = Literal["top", "top-k", "threshold", "rso", "random", "random-k"]
Normalise = Literal["none", "zscore", "rank"]

RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True, slots=True)
class Choice:
    """How candidates are chosen."""

    rule: Rule = "top"
    k: int = 1
    """Per prompt, or in all for `top-k` and `random-k`."""
    normalise: Normalise = "none"
    threshold: float = 0.0
    beta: float = 0.5
    """rso: the temperature; towards 0 the best k, towards infinity the first k."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises `UsageError` for values that mean nothing."""
        if self.k < 1:
            raise UsageError(f"k = {self.k}: at least 1")
        if not self.beta > 0:
            raise UsageError(f"beta = {self.beta}: above 0")
        if math.isnan(self.threshold):
            raise UsageError("threshold = nan: a number")


Chosen = tuple[tuple[int, int], ...]
"""(row, candidate) pairs in the order of the pool."""


def choose(pool: Pool, how: Choice) -> Chosen:
    """The candidates chosen. Raises `UsageError` where a rule needs rewards and the pool has none."""
    drawn = how.rule in ("random", "random-k")
    if not drawn and (why := pool.lacks("rewards")):
        raise UsageError(f"{pool.name}: {why}: {how.rule} chooses by reward. Score the pool first")
    found = _OVERALL[how.rule](pool, how) if how.rule in _OVERALL else _by_row(pool, how)
    return tuple(sorted(found))


def normalised(rewards: Sequence[float], how: Normalise) -> tuple[float, ...]:
    """Rewards of one prompt on its own scale, NaN where missing; z-scores of equal rewards are 0, tied ranks share.

    >>> normalised([1.0, 3.0, 3.0], "rank")
    (0.0, 0.75, 0.75)
    """
    there = [r for r in rewards if not math.isnan(r)]
    if how == "none" or not there:
        return tuple(rewards)
    if how == "rank":
        most = max(len(there) - 1, 1)
        return tuple(
            NAN if math.isnan(r) else (sum(x < r for x in there) + (sum(x == r for x in there) - 1) / 2) / most
            for r in rewards
        )
    mean = math.fsum(there) / len(there)
    if min(there) == max(there):  # their mean may be rounded, and three times .1 would be one deviation below it
        return tuple(NAN if math.isnan(r) else 0.0 for r in rewards)
    spread = math.sqrt(math.fsum((r - mean) ** 2 for r in there) / len(there))
    return tuple(NAN if math.isnan(r) else (r - mean) / spread if spread > 0 else 0.0 for r in rewards)


def top(rewards: Sequence[float], k: int) -> list[int]:
    """The k largest, the first of tied ones; fewer where fewer have a reward.

    >>> top([0.4, 0.8, 0.8, float("nan")], 1)
    [1]
    """
    there = [i for i, r in enumerate(rewards) if not math.isnan(r)]
    return sorted(there, key=lambda i: (-rewards[i], i))[:k]


def rso(rewards: Sequence[float], k: int, beta: float, rng: random.Random) -> list[int]:
    """K candidates by statistical rejection sampling, each at most once; fewer where fewer have a reward.

    The best of those that remain is accepted with certainty whenever it is looked at, so every round accepts one.
    """
    left = [i for i, r in enumerate(rewards) if not math.isnan(r)]
    found: list[int] = []
    while left and len(found) < k:
        best = max(rewards[i] for i in left)
        for i in tuple(left):
            if rng.random() < math.exp((rewards[i] - best) / beta):
                found.append(i)
                left.remove(i)
                if len(found) == k:
                    break
    return found


def _by_row(pool: Pool, how: Choice) -> list[tuple[int, int]]:
    of: dict[str, Callable[[PoolRow, Sequence[float], random.Random], Sequence[int]]] = {
        "top": lambda _, rewards, __: top(rewards, how.k),
        "threshold": lambda _, rewards, __: [i for i, r in enumerate(rewards) if r > how.threshold],
        "rso": lambda _, rewards, rng: rso(rewards, how.k, how.beta, rng),
        "random": lambda row, _, rng: rng.sample(range(row.n), min(how.k, row.n)),
    }
    found = []
    for index, row in enumerate(pool.rows):
        rng = random.Random(f"{how.seed}|{how.rule}|{row.id}")  # noqa: S311 - a draw, not a secret
        found += [(index, i) for i in of[how.rule](row, normalised(row.rewards, how.normalise), rng)]
    return found


def _top_overall(pool: Pool, how: Choice) -> list[tuple[int, int]]:
    everyone = [
        (reward, row, i)
        for row, one in enumerate(pool.rows)
        for i, reward in enumerate(normalised(one.rewards, how.normalise))
        if not math.isnan(reward)
    ]
    _enough(pool, how, len(everyone))
    return [(row, i) for _, row, i in sorted(everyone, key=lambda one: (-one[0], one[1], one[2]))[: how.k]]


def _random_overall(pool: Pool, how: Choice) -> list[tuple[int, int]]:
    everyone = [(row, i) for row, one in enumerate(pool.rows) for i in range(one.n)]
    _enough(pool, how, len(everyone))
    rng = random.Random(f"{how.seed}|{how.rule}")  # noqa: S311 - a draw, not a secret
    return rng.sample(everyone, how.k)


def _enough(pool: Pool, how: Choice, there: int) -> None:
    if how.k > there:
        raise UsageError(f"{pool.name}: {how.rule} of {how.k}, and there are {there} candidates to choose from")


_OVERALL: dict[str, Callable[[Pool, Choice], list[tuple[int, int]]]] = {
    "top-k": _top_overall,
    "random-k": _random_overall,
}
