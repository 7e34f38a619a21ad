"""The win rate that a candidate would have at the length of its rival: AlpacaEval 2's, in its smallest form.

    P(candidate preferred) = sigma(theta + phi tanh(d / sd)),   d its length minus the rival's

sigma(theta) is the length-controlled win rate. Upstream's terms for the difficulty of each instruction, and its two
made-up baselines against gaming, need tables of their own and are left out; its standard error is that of the fitted
values, which ignores the fit, so the whole fit is resampled here. Source: tatsu-lab/alpaca_eval metrics/glm_winrate.py.

What this module does not know: verdicts, names of metrics.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rmeval import stats
from rmeval.likelihood import EXTREME, NotIdentifiable, logistic, sigmoid
from rmeval.stats import Floats

REPLICATES = 500
_STEPS = 50
_BLOCK = 2_000_000
"""Numbers held at once while resampling (16 MB an array)."""


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """A win rate at equal length."""

    value: float
    """sigma(theta)"""
    ci: tuple[float, float] | None
    """Percentiles over resampled prompts; None where some resamples have no finite fit."""
    theta: float
    phi: float
    """Log-odds for the longer, where tanh is 1."""
    raw: float
    """The mean preference."""

    @property
    def is_far(self) -> bool:
        """Whether it lies outside the band around the raw rate that upstream warns about."""
        low, high = self.raw - max(0.1, self.raw / 4), self.raw + max(0.1, (1 - self.raw) / 4)
        return not low <= self.value <= high


def length_controlled(
    preferred: Floats, longer_by: Floats, clusters: Sequence[Hashable], *, replicates: int = REPLICATES, seed: int = 0
) -> LengthControlled:
    """The fit, and its interval from resamples of whole prompts.

    preferred: [n] in [0, 1], soft or hard. longer_by: [n] in characters or tokens. Raises `NotIdentifiable` below ten
    prompts, where no lengths differ, and where length separates the outcomes.

    >>> longer = np.repeat([1.0, -1.0], 40)  # 30 of 40 preferred when longer, 15 of 40 when shorter
    >>> found = length_controlled(np.repeat([1.0, 0.0, 1.0, 0.0], [30, 10, 15, 25]), longer, range(80))
    >>> round(found.theta, 6), round(found.phi * float(np.tanh(1)), 6)
    (0.293893, 0.804719)
    """
    prompts = len(set(clusters))
    if prompts < stats.FEW_CLUSTERS:
        raise NotIdentifiable(f"only {prompts} different prompts")
    sd = float(longer_by.std())
    if not sd > 0:
        raise NotIdentifiable("all lengths differ by the same")
    x = np.column_stack([np.ones(preferred.size), np.tanh(longer_by / sd)])
    theta, phi = logistic(x, preferred, clusters).coefficients.tolist()
    start = np.array([theta, phi])
    fits = [_newton(x[:, 1], preferred, times, start) for times in _resampled(clusters, replicates, seed)]
    drawn = sigmoid(np.concatenate(fits))
    value = float(sigmoid(np.array(theta)))
    ci = stats.percentile_interval(drawn, value) if np.isfinite(drawn).all() else None
    return LengthControlled(value, ci, theta, phi, float(preferred.mean()))


def _resampled(clusters: Sequence[Hashable], replicates: int, seed: int) -> Iterator[Floats]:
    """How often each row counts when whole prompts are drawn with replacement: blocks of [r, n]."""
    codes, c = stats.cluster_codes(clusters)
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // codes.size)
    for begin in range(0, replicates, block):
        many = min(block, replicates - begin)
        picked = rng.integers(0, c, size=(many, c)) + c * np.arange(many)[:, None]
        times = np.bincount(picked.ravel(), minlength=many * c).reshape(many, c).astype(np.float64)
        yield times[:, codes]


def _newton(t: Floats, y: Floats, weights: Floats, start: Floats) -> Floats:
    """Theta of theta + phi t under each row of weights [R, n], from a start near the answer."""
    at = np.tile(start, (len(weights), 1))
    for _ in range(_STEPS):
        p = sigmoid(at[:, :1] + at[:, 1:] * t)
        rest, curve = weights * (y - p), weights * p * (1 - p)
        gradient = np.stack([rest.sum(axis=1), (rest * t).sum(axis=1)])
        a, b, d = curve.sum(axis=1), (curve * t).sum(axis=1), (curve * t * t).sum(axis=1)
        det = a * d - b * b
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.stack([d * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]]) / det
        runs = ~np.isfinite(step).all(axis=0) | (np.abs(at) > EXTREME).any(axis=1)
        step = np.where(runs, 0.0, np.clip(step, -2, 2))
        at = at + step.T
        if np.abs(step).max() < 1e-10:
            break
    lost = runs | (np.abs(at) > EXTREME).any(axis=1) | (np.abs(step).max(axis=0) > 1e-6)
    return np.where(lost, np.nan, at[:, 0])
