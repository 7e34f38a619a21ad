"""Best-of-n: what choosing by reward is worth, from a pool of N candidates per prompt.

    best of n      gold of the best-rewarded of n, exact over all subsets of n; ties share the choice
    oracle         the same, chosen by gold: pass@n where gold is right or wrong
    random         the mean gold, whatever n
    majority       gold of the most frequent answer of n, exact; tied answers share
    weighted       gold of the answer with the largest sum of rewards, over up to 200 subsets of n; of sigma(reward)
                   where any reward of the pool is negative, since weights may not be
    regret         oracle minus best of n
    reward         the reward itself of the best-rewarded of n: what the optimiser sees
    KL             how far that moves a policy, in nats: the bound ln n - (n - 1)/n, and the refined estimate at the
                   level of answers, with each answer's share of the pool for its probability

Every value is a mean over prompts, the same prompts at every n, so curves stop at the smallest pool; where pools differ
in size, a panel of its own takes each prompt's whole pool. Intervals are clustered by prompt. Values at different n
share their samples: compare them by `optimised - random`, not by intervals.

Sources: WebGPT (arXiv:2112.09332) for the estimator, Beirami et al. (arXiv:2401.01879) for bound and refinement.

What this module does not know: where pools come from, figures.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rmeval.errors import UsageError
from rmeval.metrics.pools import expected_best
from rmeval.metrics.votes import expected_vote
from rmeval.probes.curves import Curve, Point, mean_point
from rmeval.probes.pool import Pool, PoolRow
from rmeval.stats import best_of_n_kl
from rmeval.types import NAN

SUBSETS = 200
"""Subsets of n looked at per prompt for the weighted vote, which has no closed form; drawn where there are more."""
PANEL, WHOLE, KL = "gold", "whole pools", "KL from the base"
_GIVEN = "the same for every prompt"
_FLAT = 1e-12
"""Values this close are the same number, rounded."""


@dataclass(frozen=True, slots=True)
class BestOfN:
    """The curves of a pool over n."""

    curves: tuple[Curve, ...]
    n: tuple[int, ...]
    """Where they stand."""
    prompts: int
    notes: tuple[str, ...]

    def curve(self, name: str) -> Curve:
        """A curve by its name. `KeyError` for one that there is not."""
        return next(curve for curve in self.curves if curve.name == name)


def best_of_n(pool: Pool, sizes: Sequence[int] | None = None, *, seed: int = 0) -> BestOfN:
    """All curves that a pool allows, at the given n or at 1, 2, 4, ... and the smallest pool.

    Raises `UsageError` for an n that is larger than a row's pool, and for a pool without gold.
    """
    if why := pool.lacks("gold"):
        raise UsageError(f"{pool.name}: {why}: nobody can say what a choice is worth")
    ns = pool_sizes(pool, sizes)
    rows, clusters = pool.rows, [row.cluster for row in pool.rows]
    bounds = (0.0, 1.0) if pool.is_binary else None
    notes = list(pool.notes)
    if pool.smallest < pool.largest:
        notes.append(
            f"pools hold {pool.smallest} to {pool.largest} candidates: curves stop at {pool.smallest}, "
            "so that every n is about the same prompts"
        )
    if ns[-1] == pool.smallest:
        notes.append(f"at n = {ns[-1]} a pool of as many is one draw: its interval is about prompts alone")
    tied = [row for row in rows if row.n > 1 and len({*row.rewards}) == 1 and not math.isnan(row.rewards[0])]
    if tied:
        notes.append(f"{len(tied)} prompts have one reward for all candidates: the choice there is random")

    def curve(name: str, what: str, of: Callable[[PoolRow, int], float], why: str = "", panel: str = PANEL) -> Curve:
        if why:
            return Curve(panel, name, what, undefined=why)
        points = tuple(_point(n, [of(row, n) for row in rows], clusters, bounds, panel) for n in ns)
        return Curve(panel, name, what, points)

    no_rewards, no_answers = pool.lacks("rewards"), pool.lacks("answers")
    negative = any(r < 0 for row in rows for r in row.rewards)
    weights = "sigma(reward), as some rewards are negative" if negative else "rewards"
    curves: tuple[Curve, ...] = (
        curve("best of n", "gold of the best-rewarded of n, ties share", _chosen, no_rewards),
        curve("oracle", "gold of the best of n" + (" (pass@n)" if pool.is_binary else ""), _oracle),
        curve("random", "mean gold", lambda row, _: math.fsum(row.gold) / row.n),
        curve("majority", "gold of the most frequent answer of n, ties share", _majority, no_answers),
        curve(
            "weighted",
            f"gold of the answer with the largest sum of {weights}; over all subsets of n, or {SUBSETS} drawn",
            lambda row, n: weighted_vote(row, n, seed, squash=negative),
            no_rewards or no_answers,
        ),
        curve("regret", "oracle minus best of n", lambda r, n: _oracle(r, n) - _chosen(r, n), no_rewards, "regret"),
        curve(
            "optimised - random",
            "best of n minus mean gold, paired by prompt",
            lambda row, n: _chosen(row, n) - math.fsum(row.gold) / row.n,
            no_rewards,
            "gain",
        ),
        curve("reward", "reward of the best-rewarded of n", _reward, no_rewards, "reward"),
        Curve(KL, "bound", "ln n - (n - 1)/n, at most", tuple(Point(n, best_of_n_kl(n), None, 0) for n in ns)),
        curve("by answers", "refined by the share of the answer chosen", _answer_kl, no_rewards or no_answers, KL),
    )
    if pool.smallest < pool.largest:
        curves = (*curves, _whole_pools(pool, seed, squash=negative))
    if any(point.note == _GIVEN for one in curves for point in one.points):
        notes.append(f"values without an interval are {_GIVEN}: the suite fixes them, nothing is estimated")
    return BestOfN(curves, ns, len(rows), tuple(notes))


def _whole_pools(pool: Pool, seed: int, *, squash: bool) -> Curve:
    """One value per rule, where every prompt offers all of its candidates."""
    ways: dict[str, tuple[str, Callable[[PoolRow], float]]] = {
        "best of n": (pool.lacks("rewards"), lambda row: _chosen(row, row.n)),
        "oracle": ("", lambda row: _oracle(row, row.n)),
        "random": ("", lambda row: math.fsum(row.gold) / row.n),
        "majority": (pool.lacks("answers"), lambda row: _majority(row, row.n)),
        "weighted": (
            pool.lacks("rewards") or pool.lacks("answers"),
            lambda row: weighted_vote(row, row.n, seed, squash=squash),
        ),
    }
    clusters = [row.cluster for row in pool.rows]
    bounds = (0.0, 1.0) if pool.is_binary else None
    points = (
        _point(name, [of(row) for row in pool.rows], clusters, bounds, WHOLE)
        for name, (why, of) in ways.items()
        if not why
    )
    words = f"gold, with all candidates of each prompt, {pool.smallest} to {pool.largest}"
    return Curve(WHOLE, "gold", words, tuple(points))


def pool_sizes(pool: Pool, sizes: Sequence[int] | None) -> tuple[int, ...]:
    """The n asked for in order, or 1, 2, 4, ... and the smallest pool. `UsageError` for one that a row cannot give."""
    most = pool.smallest
    if sizes is None:
        doubling = [2**k for k in range(most.bit_length()) if 2**k <= most]
        return tuple(dict.fromkeys([*doubling, most]))
    wrong = [n for n in sizes if n < 1]
    large = [n for n in sizes if n > most]
    if wrong or large or not sizes:
        asked = [*wrong, *large]
        said = f"n = {asked[0]}" if asked else "no n"
        small = min(pool.rows, key=lambda row: row.n)
        raise UsageError(f"{pool.name}: {said}: from 1 to {most}, the candidates of its smallest row ({small.id!r})")
    return tuple(sorted(set(sizes)))


def _point(
    at: int | str, values: Sequence[float], clusters: Sequence[str], bounds: tuple[float, float] | None, panel: str
) -> Point:
    if panel in ("gain", "reward", KL):
        bounds = None
    clipped = [min(1.0, max(0.0, v)) if bounds and not math.isnan(v) else v for v in values]  # rounding of exact sums
    point = mean_point(at, clipped, clusters, bounds)
    there = [v for v in clipped if not math.isnan(v)]
    if point.value is None or max(there) - min(there) > _FLAT:
        return point
    if at == 1 and panel in ("regret", "gain", KL):
        return replace(point, value=0.0, ci=None, note="one candidate is no choice")
    if bounds is not None and bounds[0] < point.value < bounds[1]:
        return replace(point, ci=None, note=_GIVEN)  # as with one right of ten everywhere
    return point


def _chosen(row: PoolRow, n: int) -> float:
    """NaN where a reward of the prompt is missing: which one would have been chosen is unknown."""
    return NAN if any(map(math.isnan, row.rewards)) else expected_best(row.rewards, row.gold, n, row.n)


def _oracle(row: PoolRow, n: int) -> float:
    return expected_best(row.gold, row.gold, n, row.n)


def _reward(row: PoolRow, n: int) -> float:
    return NAN if any(map(math.isnan, row.rewards)) else expected_best(row.rewards, row.rewards, n, row.n)


def _majority(row: PoolRow, n: int) -> float:
    return expected_vote(row.answers, row.gold, n)


def weighted_vote(row: PoolRow, n: int, seed: int, *, squash: bool = False) -> float:
    """Mean gold of the answer with the largest sum of rewards over seeded subsets of n; tied answers share.

    `squash` sums sigma(reward): a negative weight would take votes away. Exact where there are no more subsets than are
    drawn. NaN where a reward is missing.
    """
    if any(map(math.isnan, row.rewards)):
        return NAN
    weights = [_sigmoid(r) for r in row.rewards] if squash else row.rewards
    if math.comb(row.n, n) <= SUBSETS:
        subsets = list(itertools.combinations(range(row.n), n))
    else:
        rng = random.Random(f"{seed}|{row.id}|{n}")  # noqa: S311 - a draw, not a secret
        subsets = [tuple(rng.sample(range(row.n), n)) for _ in range(SUBSETS)]
    return math.fsum(_weighted(row, weights, subset) for subset in subsets) / len(subsets)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _weighted(row: PoolRow, weights: Sequence[float], subset: Sequence[int]) -> float:
    total: dict[int, float] = {}
    members: dict[int, list[float]] = {}
    for i in subset:
        total[row.answers[i]] = total.get(row.answers[i], 0.0) + weights[i]
        members.setdefault(row.answers[i], []).append(row.gold[i])
    most = max(total.values())
    top = [math.fsum(members[a]) / len(members[a]) for a, weight in total.items() if weight >= most - 1e-12]
    return math.fsum(top) / len(top)


# --- how far best-of-n moves a policy --------------------------------------------------------------------------------


def refined_kl(n: int, share: float) -> float:
    """Best-of-n's KL from its base in nats, given the base probability of the response chosen; at most the bound.

    With few distinct responses the bound ln n - (n - 1)/n is loose; share -> 0 gives it back.

    >>> round(refined_kl(16, 0.1), 3), round(refined_kl(4, 0.5), 3), round(refined_kl(8, 0.0), 3)
    (1.756, 0.499, 1.204)
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a probability of {share}")
    if share == 0:
        return best_of_n_kl(n)
    if share == 1:
        return 0.0
    missed = math.exp(n * math.log1p(-share))
    return missed * (math.log(n) + (n - 1) * math.log1p(-share) - (n - 1) / n) + (1 - missed) * math.log(
        (1 - missed) / share
    )


def answer_kl(pool: Pool, n: int) -> float | None:
    """Mean refined KL over prompts at the level of answers, with each answer's share of the pool; None without them."""
    if pool.lacks("answers") or pool.lacks("rewards"):
        return None
    values = [value for row in pool.rows if not math.isnan(value := _answer_kl(row, n))]
    return math.fsum(values) / len(values) if values else None


def _answer_kl(row: PoolRow, n: int) -> float:
    """Over the candidate that best-of-n would choose."""
    if any(map(math.isnan, row.rewards)):
        return NAN
    share = {answer: refined_kl(n, count / row.n) for answer, count in Counter(row.answers).items()}
    return expected_best(row.rewards, [share[answer] for answer in row.answers], n, row.n)
