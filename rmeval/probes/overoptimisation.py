"""Over-optimisation: what happens to the gold as a proxy is optimised harder, and where it turns.

A pool gives, for every n, the proxy's and the gold's mean gain over the base policy under best-of-n. Against
d = sqrt(KL), with best-of-n's bound ln n - (n - 1)/n for the KL, the gold gain is fitted by least squares:

    bon    gain(d) = d (alpha - beta d)          peak at d = alpha / (2 beta), alpha^2 / (4 beta) high
    rl     gain(d) = d (alpha - beta ln d)       peak at d = exp(alpha / beta - 1), beta d high

beta above 0 bends the curve down. Parameters and peak are fitted anew in every resample of the prompts. The fall from
the best n to the largest has an interval that is simultaneous over all n (max-T): the best n was picked by looking.

Source: Gao, Schulman and Hilton, Scaling laws for reward model overoptimization (arXiv:2210.10760).

What this module does not know: where pools come from, figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rmeval import stats
from rmeval.errors import UsageError
from rmeval.metrics.pools import expected_best
from rmeval.probes.best_of_n import pool_sizes
from rmeval.probes.curves import Curve, Point, mean_point
from rmeval.probes.pool import Pool
from rmeval.stats import Floats

Law = Literal["bon", "rl"]

LAWS: tuple[Law, ...] = ("bon", "rl")
ALIKE = "the gold of all prompts moves alike, or there is but one: nothing says how sure it is"
_FLAT = 1e-12
"""A standard error this small is rounding."""
LEAST_SIZES = 3
"""Values of n above 1 that a fit of two parameters needs."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A law fitted to gains."""

    law: Law
    alpha: float
    beta: float
    r2: float
    """Share of the variance of the gains that it explains; NaN where they do not vary."""

    def gain(self, d: float) -> float:
        """The gain at a distance, 0 at 0.

        >>> Fit("bon", 2.0, 0.5, 1.0).gain(2.0)
        2.0
        """
        if d == 0:
            return 0.0
        return d * (self.alpha - self.beta * (d if self.law == "bon" else math.log(d)))

    @property
    def peak(self) -> float | None:
        """The distance at which the gain is largest; None where the law does not turn.

        >>> Fit("bon", 2.0, 0.5, 1.0).peak
        2.0
        """
        if not self.beta > 0 or (self.law == "bon" and not self.alpha > 0):
            return None
        exponent = self.alpha / self.beta - 1
        return self.alpha / (2 * self.beta) if self.law == "bon" else math.exp(exponent) if exponent < 700 else None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fit with what resampling prompts says of it."""

    fit: Fit
    alpha_ci: tuple[float, float]
    beta_ci: tuple[float, float]
    peak_ci: tuple[float, float] | None
    """None where fewer than 95 % of the resamples have a peak."""
    peaks: float
    """Share of the resamples that have a peak."""


@dataclass(frozen=True, slots=True)
class OverOptimisation:
    """What a proxy does to the gold when it is optimised."""

    n: tuple[int, ...]
    d: tuple[float, ...]
    """sqrt of the KL bound at each n, in sqrt(nats)."""
    curves: tuple[Curve, ...]
    """Gains of proxy and gold over d."""
    fits: tuple[Fitted, ...]
    """Of the gold; empty where they cannot be had."""
    why_no_fit: str
    best_n: int
    """The n with the highest gold."""
    fall: float
    """Gold at the best n minus gold at the largest."""
    fall_ci: tuple[float, float] | None
    """95 %, simultaneous over n; None where the largest n is the best one, or where all prompts say the same."""
    over: bool
    """Whether the gold at the largest n is below its best by more than chance."""
    prompts: int
    n_missing: int
    notes: tuple[str, ...]


def fit_law(d: Sequence[float], gains: Sequence[float], law: Law) -> Fit | None:
    """Least squares through the origin; None where d does not determine both parameters.

    >>> found = fit_law([0.5, 1.0, 2.0], [0.875, 1.5, 2.0], "bon")
    >>> round(found.alpha, 6), round(found.beta, 6)
    (2.0, 0.5)
    """
    x = np.asarray(d, dtype=np.float64)
    y = np.asarray(gains, dtype=np.float64)
    design = np.stack([x, -x * (x if law == "bon" else np.log(x))], axis=1)
    if len(x) < LEAST_SIZES or np.linalg.matrix_rank(design) < 2:
        return None
    (alpha, beta), *_ = np.linalg.lstsq(design, y, rcond=None)
    spread = float(((y - y.mean()) ** 2).sum())
    residual = float(((y - design @ np.array([alpha, beta])) ** 2).sum())
    return Fit(law, float(alpha), float(beta), 1 - residual / spread if spread > 0 else math.nan)


def over_optimisation(
    pool: Pool, sizes: Sequence[int] | None = None, *, replicates: int = stats.REPLICATES, seed: int = 0
) -> OverOptimisation:
    """Gains, fits, peak and fall of a pool with rewards and gold.

    Prompts with a missing reward are left out and counted. Raises `UsageError` where the pool has no rewards or gold,
    or no prompt has all its rewards.
    """
    for what in ("rewards", "gold"):
        if why := pool.lacks(what):
            raise UsageError(f"{pool.name}: {why}: over-optimisation compares the proxy's rewards with the gold")
    rows = [row for row in pool.rows if not any(map(math.isnan, row.rewards))]
    if not rows:
        raise UsageError(f"{pool.name}: no prompt has a reward for each of its candidates")
    ns = _sizes(pool, sizes)
    d = tuple(math.sqrt(stats.best_of_n_kl(n)) for n in ns)
    gold = np.array([[expected_best(r.rewards, r.gold, n, r.n) for n in ns] for r in rows])
    proxy = np.array([[expected_best(r.rewards, r.rewards, n, r.n) for n in ns] for r in rows])
    everyone = [r for row in rows for r in row.rewards]
    spread = float(np.std(everyone)) if min(everyone) < max(everyone) else 0.0  # of thirty times .1 numpy says 1e-17
    proxy = proxy / spread if spread > 0 else proxy * 0.0
    clusters = [row.cluster for row in rows]
    drawn = _resampled(gold, clusters, replicates, seed)
    best = int(np.argmax(gold.mean(axis=0)))
    fall = float(gold.mean(axis=0)[best] - gold.mean(axis=0)[-1])
    fall_ci = _simultaneous(gold.mean(axis=0), drawn, best)
    alike = bool((np.ptp(drawn - drawn[:, :1], axis=0) <= _FLAT).all())
    fits, why = _fits(d, gold, drawn, spread, alike=alike)
    notes = list(pool.notes)
    if alike and fall > _FLAT:
        notes.append(f"{ALIKE}: whether gold falls by more than chance is unknown")
    if len(rows) < len(pool.rows):
        notes.append(f"{len(pool.rows) - len(rows)} prompts with a missing reward are left out")
    if pool.smallest < pool.largest:
        notes.append(f"pools hold {pool.smallest} to {pool.largest} candidates: curves stop at {pool.smallest}")
    return OverOptimisation(
        n=ns,
        d=d,
        curves=(
            _gain_curve("proxy", "gain in reward over the base, in standard deviations of the rewards", d, proxy, rows),
            _gain_curve("gold", "gain in gold over the base", d, gold, rows),
            *(_drawn_law(one.fit, d) for one in fits),
        ),
        fits=fits,
        why_no_fit=why,
        best_n=ns[best],
        fall=fall,
        fall_ci=fall_ci,
        over=fall_ci is not None and fall_ci[0] > 0,
        prompts=len(set(clusters)),
        n_missing=len(pool.rows) - len(rows),
        notes=tuple(notes),
    )


def _sizes(pool: Pool, sizes: Sequence[int] | None) -> tuple[int, ...]:
    found = pool_sizes(pool, sizes)
    return found if found[0] == 1 else (1, *found)


def _gain_curve(name: str, what: str, d: Sequence[float], values: Floats, rows: Sequence[object]) -> Curve:
    gains = values - values[:, :1]
    clusters = [getattr(row, "cluster", "") for row in rows]
    points = [
        Point(at, 0.0, None, len(rows)) if at == 0 else mean_point(at, gains[:, i].tolist(), clusters, None)
        for i, at in enumerate(d)
    ]
    return Curve("over-optimisation", name, what, tuple(points))


def _drawn_law(fit: Fit, d: Sequence[float]) -> Curve:
    formula = "d (alpha - beta d)" if fit.law == "bon" else "d (alpha - beta ln d)"
    points = tuple(Point(at, fit.gain(at), None, 0) for at in d)
    return Curve(
        "over-optimisation", f"{fit.law} law", f"{formula}, alpha {fit.alpha:.4g}, beta {fit.beta:.4g}", points
    )


def _resampled(values: Floats, clusters: Sequence[str], replicates: int, seed: int) -> Floats:
    """Means of each column over resampled prompts: [replicates, n]."""
    codes, count = stats.cluster_codes(clusters)
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, codes, values)
    sizes = np.repeat(np.bincount(codes, minlength=count)[:, None].astype(np.float64), values.shape[1], axis=1)
    return stats.cluster_bootstrap(sums, sizes, replicates=replicates, seed=seed)


def _simultaneous(means: Floats, drawn: Floats, best: int) -> tuple[float, float] | None:
    """Of the fall from the best n to the largest, wide enough for every n at once."""
    if best == len(means) - 1:
        return None
    falls, seen = drawn[:, :-1] - drawn[:, -1:], means[:-1] - means[-1]
    se = falls.std(axis=0)
    vary = se > _FLAT
    if not vary[best]:
        return None
    widest = np.abs((falls - seen)[:, vary] / se[vary]).max(axis=1)
    half = float(np.quantile(widest, stats.LEVEL) * se[best])
    return float(seen[best]) - half, float(seen[best]) + half


def _fits(
    d: Sequence[float], gold: Floats, drawn: Floats, spread: float, *, alike: bool
) -> tuple[tuple[Fitted, ...], str]:
    if spread == 0:
        return (), "all rewards are equal: nothing is optimised"
    away = [i for i, at in enumerate(d) if at > 0]
    mean = gold.mean(axis=0)
    if len(away) < LEAST_SIZES:
        return (), f"a fit needs at least {LEAST_SIZES} values of n above 1"
    if alike:
        return (), ALIKE
    at = [d[i] for i in away]
    found = []
    for law in LAWS:
        fit = fit_law(at, [float(mean[i] - mean[0]) for i in away], law)
        if fit is None:
            continue
        again = [fit_law(at, (row[away] - row[0]).tolist(), law) for row in drawn]
        there = [one for one in again if one is not None]
        peaks = [one.peak for one in there if one.peak is not None]
        share = len(peaks) / len(there)
        sure = share >= stats.LEVEL and fit.peak is not None
        found.append(
            Fitted(
                fit,
                stats.percentile_interval([one.alpha for one in there], fit.alpha),
                stats.percentile_interval([one.beta for one in there], fit.beta),
                stats.percentile_interval(peaks, fit.peak) if sure and fit.peak is not None else None,
                share,
            )
        )
    return tuple(found), "" if found else "the values of n do not determine both parameters"
