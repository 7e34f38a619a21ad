"""Intervals, paired tests, many comparisons, ranks and power: small, clustered by prompt, proved by golden numbers.

Everything takes plain numbers and cluster ids. Rows that share a cluster (a prompt) are never treated as independent.
Seeded functions give the same answer in every run and process.

What this module does not know: judgements, rules, suites, files.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmeval.clusters import Clusters as Clusters  # noqa: PLC0414 - offered here too
from rmeval.clusters import Ints as Ints  # noqa: PLC0414
from rmeval.clusters import cluster_codes as cluster_codes  # noqa: PLC0414

Floats: TypeAlias = NDArray[np.float64]

LEVEL = 0.95
FEW_CLUSTERS = 10
"""Below this many clusters a t interval or a bootstrap claims too much."""
REPLICATES = 2000
_FLAT = 1e-12
"""A standard error this small is rounding."""
_BLOCK = 4_000_000
"""Numbers held at once while resampling (32 MB)."""
_CLOSE = 120_000
"""Numbers that stay near the processor while all pairs are gone through (1 MB)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval and how it was made."""

    low: float
    high: float
    method: str


# --- means and intervals ---------------------------------------------------------------------------------------------


def iid_se(values: ArrayLike) -> float:
    """Standard error of the mean of independent rows: sqrt(sum (s - mean)^2 / (n (n - 1))). NaN for n < 2."""
    x = np.asarray(values, dtype=np.float64)
    if x.size < 2:
        return math.nan
    return float(np.sqrt(np.square(x - x.mean()).sum() / (x.size * (x.size - 1))))


def clustered_se(values: ArrayLike, clusters: Sequence[Hashable]) -> float:
    """Standard error of the mean of rows that come in clusters, with the C/(C-1) correction. NaN for C < 2.

    Source: Miller, arXiv:2411.00640, appendix A; equal to an intercept-only OLS with cluster-robust covariance.

    >>> round(clustered_se([1, 1, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1], "aaaabbccddee"), 6)
    0.158358
    """
    x = np.asarray(values, dtype=np.float64)
    codes, c = _codes(x, clusters)
    if c < 2:
        return math.nan
    sums = np.bincount(codes, weights=x - x.mean(), minlength=c)
    return float(np.sqrt(c / (c - 1) * np.square(sums).sum()) / x.size)


def wilson(p: float, n: float, critical: float | None = None) -> tuple[float, float]:
    """Wilson's interval of a proportion `p` of `n` rows; `critical` defaults to the normal quantile of 95 %.

    `n` need not be whole: clustered data enter with their effective size.

    >>> [round(end, 6) for end in wilson(0.9, 100)]
    [0.825634, 0.944771]
    """
    z = normal_quantile(0.5 + LEVEL / 2) if critical is None else critical
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # rounding may put an end a hair beyond the estimate or beyond [0, 1]
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def clustered_wilson(values: ArrayLike, clusters: Sequence[Hashable]) -> tuple[float, float] | None:
    """Wilson's interval at the effective size p(1-p)/SE^2 (at most n), with t of C-1 degrees; None for C < 2.

    Where the clusters do not differ the data say nothing about the design effect, so the effective size is C: rows of
    one prompt may well succeed together.
    """
    x = np.asarray(values, dtype=np.float64)
    _, c = _codes(x, clusters)
    if c < 2:
        return None
    p, se = float(x.mean()), clustered_se(x, clusters)
    n_eff = min(float(x.size), p * (1 - p) / se**2) if se > _FLAT else float(c)
    return wilson(p, n_eff, t_quantile(0.5 + LEVEL / 2, c - 1))


def mean_interval(
    values: ArrayLike, clusters: Sequence[Hashable] | None = None, bounds: tuple[float, float] | None = (0.0, 1.0)
) -> Interval | None:
    """The 95 % interval of a mean: clustered t, or clustered Wilson where t would claim too much.

    values: [n], finite. clusters: [n] ids; None makes every row its own cluster. bounds: the range each value lies in,
    None if it has none. Wilson is used for proportions (every value at one of its bounds), where the clusters do not
    differ, and below ten clusters: of 50 prompts with three rows each and 95 % right, t covers 91 % and Wilson 94 %
    (`python -m benchmarks.intervals`). Returns None where nothing can be said: fewer than two clusters, or no spread
    and no bounds.

    >>> mean_interval([1.0] * 20).method
    'clustered Wilson'
    """
    x = np.asarray(values, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("mean_interval takes finite values: missing scores are counted, not averaged")
    ids: Sequence[Hashable] = range(x.size) if clusters is None else clusters
    _, c = _codes(x, ids)
    if c < 2:
        return None
    mean, se = float(x.mean()), clustered_se(x, ids)
    if bounds is None:
        half = t_quantile(0.5 + LEVEL / 2, c - 1) * se
        return Interval(mean - half, mean + half, "clustered t") if se > _FLAT else None
    low, high = bounds
    if x.min() < low or x.max() > high:
        raise ValueError(f"values from {x.min()} to {x.max()} lie outside the bounds {bounds}")
    if hardly_varies(x, ids) or bool(((x == low) | (x == high)).all()):
        ends = clustered_wilson((x - low) / (high - low), ids)
        assert ends is not None
        return Interval(low + ends[0] * (high - low), low + ends[1] * (high - low), "clustered Wilson")
    half = t_quantile(0.5 + LEVEL / 2, c - 1) * se
    return Interval(max(low, mean - half), min(high, mean + half), "clustered t")


def hardly_varies(values: ArrayLike, clusters: Sequence[Hashable]) -> bool:
    """Whether resampling would claim too much: fewer than ten clusters, or none that differ."""
    x = np.asarray(values, dtype=np.float64)
    _, c = _codes(x, clusters)
    return c < FEW_CLUSTERS or not clustered_se(x, clusters) > _FLAT


# --- cluster bootstrap -----------------------------------------------------------------------------------------------


def cluster_bootstrap(
    sums: ArrayLike,
    counts: ArrayLike,
    strata: Sequence[Hashable] | None = None,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Floats:
    """Means of each column in `replicates` resamples of whole clusters: [replicates, L].

    sums, counts: [C, L], the sum of the values and the number of rows that cluster c has in column (subset, component,
    scorer ...) l. strata: [C]; clusters are drawn with replacement within their stratum. By default a stratum is the
    set of columns a cluster touches, which keeps every column populated. Any vectorised statistic of the means follows
    from the result, with the covariance between columns kept, because all columns share the resampled clusters.
    """
    s, n = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    touched = n > 0
    keys: Sequence[Hashable] = [row.tobytes() for row in touched] if strata is None else strata
    members: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        members.setdefault(key, []).append(index)
    rng = np.random.default_rng(seed)
    top, bottom = np.zeros((replicates, s.shape[1])), np.zeros((replicates, s.shape[1]))
    for indices in members.values():
        rows = np.array(indices)
        columns = np.flatnonzero(touched[rows].any(axis=0))
        if not columns.size:
            continue
        m = rows.size
        block = max(1, _BLOCK // m)
        s_part, n_part = s[np.ix_(rows, columns)], n[np.ix_(rows, columns)]
        for start in range(0, replicates, block):
            times = _times_drawn(rng, min(block, replicates - start), m)
            where = np.ix_(np.arange(start, start + len(times)), columns)
            top[where] += _weighed(times, s_part)
            bottom[where] += _weighed(times, n_part)
    with np.errstate(invalid="ignore"):
        means: Floats = top / bottom
    return means


def _weighed(times: Floats, part: Floats) -> Floats:
    """The product of the two, the same to the last bit whatever BLAS and however many threads."""
    whole = part * 2.0**20
    # counts, credits of 0, 1/2 and 1: every sum is exact, so that its order does not matter
    if bool((whole == np.rint(whole)).all()) and len(part) * float(np.abs(whole).max(initial=0.0)) < 2.0**53:
        found: Floats = times @ part
        return found
    return np.asarray(np.einsum("rc,cl->rl", times, part), dtype=np.float64)


def _times_drawn(rng: np.random.Generator, replicates: int, m: int) -> Floats:
    """How often each of m clusters is drawn in m draws: [replicates, m]."""
    drawn = rng.integers(0, m, size=(replicates, m)) + m * np.arange(replicates)[:, None]
    return np.bincount(drawn.ravel(), minlength=replicates * m).reshape(replicates, m).astype(np.float64)


def percentile_interval(replicated: ArrayLike, estimate: float) -> tuple[float, float]:
    """The central 95 % of the replicates, widened to hold the estimate where it lies outside."""
    low, high = np.quantile(np.asarray(replicated, dtype=np.float64), [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return min(float(low), estimate), max(float(high), estimate)


# --- paired tests ----------------------------------------------------------------------------------------------------


def sign_flip(
    differences: ArrayLike, clusters: Sequence[Hashable] | None = None, *, flips: int = 10_000, seed: int = 0
) -> float:
    """Two-sided p of a paired permutation test: the sign of every cluster's summed difference is flipped.

    differences: [n], one per row, a_i - b_i (any weights already in). Exact by enumeration up to 16 clusters that are
    not zero, else (1 + hits) / (1 + flips). Handles ties, soft scores and clusters. 1.0 where nothing differs.

    >>> sign_flip([1, 1, 1, 0, -1, 1, 0, 1, 1, 1])
    0.0703125
    """
    d = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(d).all():
        raise ValueError("sign_flip takes finite differences: compare on the examples that both scorers answered")
    codes, c = _codes(d, range(d.size) if clusters is None else clusters)
    sums = np.bincount(codes, weights=d, minlength=c)
    sums = sums[np.abs(sums) > 1e-12 * np.abs(d).sum()]
    observed = abs(float(sums.sum()))
    # a sign pattern that reaches the same sum by another order of addition must count as equal
    least = observed - 1e-12 * float(np.abs(sums).sum())
    if sums.size <= 16:
        totals = np.zeros(1)
        for value in sums:
            totals = np.concatenate([totals + value, totals - value])
        return float((np.abs(totals) >= least).mean())
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // sums.size)
    hits = 0
    for start in range(0, flips, block):
        signs = rng.integers(0, 2, size=(min(block, flips - start), sums.size)) * 2.0 - 1.0
        hits += int((np.abs(np.einsum("rc,c->r", signs, sums)) >= least).sum())
    return (1 + hits) / (1 + flips)


def sign_flips(differences: ArrayLike, clusters: Sequence[Hashable], *, flips: int = 10_000, seed: int = 0) -> Floats:
    """`sign_flip` of many columns at once: [K], for families too large for what flips can resolve.

    differences: [n, K]. Where Hoeffding's bound, 2 exp(-T^2 / 2 sum D_c^2), lies below 1 / (1 + flips), it is the p:
    the exact p is smaller still, and a thousand entries compared with a baseline keep a p that survives Holm. All
    other columns see the same flips.
    """
    d = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(d).all():
        raise ValueError("sign_flips takes finite differences: compare on the examples that both scorers answered")
    codes, c = cluster_codes(clusters)
    sums = np.zeros((c, d.shape[1]))
    np.add.at(sums, codes, d)
    size = np.abs(d).sum(axis=0)
    sums[np.abs(sums) <= 1e-12 * size] = 0.0
    moving, squares = (sums != 0).sum(axis=0), np.square(sums).sum(axis=0)
    observed = np.abs(sums.sum(axis=0))
    p: Floats = 2 * np.exp(-np.square(observed) / (2 * np.where(squares > 0, squares, 1.0)))
    open_ = np.flatnonzero((p >= 1 / (1 + flips)) & (moving > 16))
    for column in np.flatnonzero(moving <= 16):
        p[column] = sign_flip(d[:, column], clusters)
    if not open_.size:
        return p
    part = sums[:, open_]
    least = observed[open_] - 1e-12 * np.abs(part).sum(axis=0)
    rng, hits = np.random.default_rng(seed), np.zeros(open_.size)
    block = max(1, _BLOCK // max(c, open_.size))
    for start in range(0, flips, block):
        signs = rng.integers(0, 2, size=(min(block, flips - start), c), dtype=np.int8) * 2.0 - 1.0
        hits += (np.abs(signs @ part) >= least).sum(axis=0)  # what @ rounds is far below the tolerance of `least`
    p[open_] = (1 + hits) / (1 + flips)
    return p


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided p of McNemar's test; b and c count the examples that only one of two scorers gets right.

    Binary, unclustered data only.

    >>> round(mcnemar(6, 16), 7)
    0.0524788
    """
    from scipy import stats as sps

    return 1.0 if b + c == 0 else float(sps.binomtest(min(b, c), b + c).pvalue)


def mcnemar_mid_p(b: int, c: int) -> float:
    """Mid-p of McNemar's test: the exact p less the probability of the observed split.

    >>> round(mcnemar_mid_p(6, 16), 7)
    0.0346897
    """
    from scipy import stats as sps

    return 1.0 if b + c == 0 else mcnemar(b, c) - float(sps.binom.pmf(min(b, c), b + c, 0.5))


# --- many comparisons ------------------------------------------------------------------------------------------------


def holm(p: ArrayLike) -> Floats:
    """Holm's adjusted p-values (family-wise error), in the order given.

    >>> holm([0.01, 0.04, 0.03, 0.005]).round(4).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    x = np.asarray(p, dtype=np.float64)
    order = np.argsort(x, kind="stable")
    stepped = np.maximum.accumulate(x[order] * np.arange(x.size, 0, -1)) if x.size else x
    return _put_back(np.minimum(stepped, 1.0), order)


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Benjamini and Hochberg's adjusted p-values (false discovery rate), in the order given.

    >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.005]).round(4).tolist()
    [0.02, 0.04, 0.04, 0.02]
    """
    x = np.asarray(p, dtype=np.float64)
    order = np.argsort(x, kind="stable")
    stepped = np.minimum.accumulate((x[order] * x.size / np.arange(1, x.size + 1))[::-1])[::-1] if x.size else x
    return _put_back(stepped, order)


def _put_back(ordered: Floats, order: Ints) -> Floats:
    out = np.empty_like(ordered)
    out[order] = ordered
    return out


# --- ranks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RankSets:
    """Simultaneous 95 % confidence sets of ranks: with that probability every true rank lies in its range."""

    best: tuple[int, ...]
    """Per scorer, 1 + the number of scorers that are significantly better."""
    worst: tuple[int, ...]
    """Per scorer, K - the number of scorers that are significantly worse."""
    critical: float
    """The max-T quantile that a standardised difference must exceed."""
    tied: tuple[tuple[int, ...], ...]
    """Per scorer, the others that it cannot be told apart from."""


def rank_sets(values: ArrayLike, replicates: ArrayLike) -> RankSets:
    """Rank ranges from one joint bootstrap of all scorers (max-T over pairs).

    values: [K], higher is better. replicates: [R, K], every row one resample of the prompts shared by all scorers.
    Source: Mogstad, Romano, Shaikh and Wilhelm, Inference for Ranks.
    """
    theta, boot = np.asarray(values, dtype=np.float64), np.asarray(replicates, dtype=np.float64)
    k = theta.size
    gap = theta[:, None] - theta[None, :]
    spread = paired_errors(boot)
    scale = np.where(spread > _FLAT, 1 / np.where(spread > _FLAT, spread, 1.0), 0.0)
    largest = np.zeros(len(boot))
    block = max(1, _CLOSE // max(k, 1))
    for start in range(0, len(boot), block):
        moved = np.ascontiguousarray((boot[start : start + block] - theta).T)
        for i in range(k - 1):
            away = moved[i + 1 :] - moved[i]
            np.abs(away, out=away)
            away *= scale[i + 1 :, i, None]
            np.maximum(largest[start : start + block], away.max(axis=0), out=largest[start : start + block])
    critical = float(np.quantile(largest, LEVEL)) if len(boot) else 0.0
    better = np.maximum(critical * spread, _FLAT) < gap.T  # better[i, j]: j is better than i
    best = 1 + better.sum(axis=1)
    worst = k - better.sum(axis=0)
    tied = tuple(tuple(j for j in range(k) if j != i and not better[i, j] and not better[j, i]) for i in range(k))
    return RankSets(tuple(best.tolist()), tuple(worst.tolist()), critical, tied)


def paired_errors(replicates: ArrayLike) -> Floats:
    """Standard errors of all paired differences from one joint bootstrap: [K, K], 0 where two never differ.

    replicates: [R, K]; zeros for R < 2.

    >>> paired_errors([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [2.0, 2.0, 1.0]]).tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    """
    boot = np.asarray(replicates, dtype=np.float64)
    k = boot.shape[1]
    if len(boot) < 2:
        return np.zeros((k, k))
    centred = boot - boot.mean(axis=0)
    shared = centred.T @ centred / (len(boot) - 1)
    both = np.diag(shared)[:, None] + np.diag(shared)[None, :]
    square = both - 2 * shared
    spread: Floats = np.sqrt(np.maximum(square, 0.0))
    # of two that hardly differ the squares cancel: their differences themselves say
    for i in range(k):
        close = np.flatnonzero(square[i] <= 1e-6 * both[i])
        spread[i, close] = spread[close, i] = (boot[:, close] - boot[:, i : i + 1]).std(axis=0, ddof=1)
    np.fill_diagonal(spread, 0.0)
    return spread


# --- power -----------------------------------------------------------------------------------------------------------


def minimum_detectable_effect(se: float, power: float = 0.8) -> float:
    """The difference that a two-sided 5 % test finds with the given power, from the SE of the paired difference.

    For paired binary scores se = sqrt(share of discordant examples / n).

    >>> round(minimum_detectable_effect((0.10 / 1763) ** 0.5), 4)
    0.0211
    """
    return (normal_quantile(0.5 + LEVEL / 2) + normal_quantile(power)) * se


def sample_size(effect: float, variance: float, power: float = 0.8) -> int:
    """Prompts needed to find a difference of means; `variance` is that of one prompt's paired difference.

    Source: Miller, arXiv:2411.00640: variance = omega^2 + sigma_A^2 / K_A + sigma_B^2 / K_B.

    >>> sample_size(0.03, 1 / 9)
    969
    """
    return math.ceil(minimum_detectable_effect(1.0, power) ** 2 * variance / effect**2)


# --- best-of-n -------------------------------------------------------------------------------------------------------


def expected_best_of_n(scores: ArrayLike, rewards: ArrayLike, n: int) -> float:
    """Expected reward of the best-scored of n candidates drawn without replacement from N; exact, ties shared.

    scores, rewards: [N]. The unbiased estimate of best-of-n from a pool of N samples.

    >>> [round(expected_best_of_n([0.1, 0.9, 0.4, 0.7], [0, 1, 1, 0], n), 6) for n in (1, 2, 3, 4)]
    [0.5, 0.666667, 0.75, 1.0]
    """
    s, r = np.asarray(scores, dtype=np.float64), np.asarray(rewards, dtype=np.float64)
    if not 1 <= n <= s.size:
        raise ValueError(f"best-of-{n} needs a pool of at least {max(n, 1)} candidates, and this one has {s.size}")
    if not np.isfinite(s).all():
        raise ValueError("best-of-n takes finite scores: a missing score has no rank")
    order = np.argsort(s, kind="stable")
    levels, level_of = np.unique(s[order], return_inverse=True)
    shared = np.bincount(level_of, weights=r[order]) / np.bincount(level_of, minlength=levels.size)
    chosen = [math.comb(i, n - 1) / math.comb(s.size, n) for i in range(s.size)]
    return float(np.dot(chosen, shared[level_of]))


def best_of_n_kl(n: int) -> float:
    """KL(best-of-n || base policy) = ln n - (n - 1) / n in nats, an upper bound where scores tie.

    >>> round(best_of_n_kl(4), 6)
    0.636294
    """
    return math.log(n) - (n - 1) / n


# --- quantiles -------------------------------------------------------------------------------------------------------


def normal_quantile(p: float) -> float:
    """Quantile of the standard normal distribution."""
    from scipy import special

    return float(special.ndtri(p))


def t_quantile(p: float, df: float) -> float:
    """Quantile of Student's t distribution."""
    from scipy import special

    return float(special.stdtrit(df, p))


def _codes(x: NDArray[Any], clusters: Sequence[Hashable]) -> tuple[Ints, int]:
    if len(clusters) != x.size:
        raise ValueError(f"{x.size} values but {len(clusters)} cluster ids")
    return cluster_codes(clusters)
