"""Calibration of scores that are log-odds: whether a margin of m wins as often as sigma(m / T) says.

    margins(judgements) -> Margins -> calibrate -> Calibration(temperature, raw at T = 1, fitted across prompts)

Every margin is a right candidate's score minus a wrong one's, so the outcome is always "right wins" and the loss at a
margin is -log sigma(m / T); reading each pair in both orders would change nothing. T changes no order, so no accuracy.

Binning: confidence max(p, 1 - p) in ten bins of (0.5, 1], each closed on the right; 0.5 itself is in the first.

What this module does not know: names of metrics, files, how scores were made.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from rmeval import stats
from rmeval.likelihood import Derivatives, NotIdentifiable, clustered_covariance, maximise, sigmoid
from rmeval.metrics.contrasts import FARTHEST, Contrasts
from rmeval.metrics.table import Table
from rmeval.stats import Clusters, Floats, Ints
from rmeval.types import Judgement

BINS = 10
FOLDS = 5
_EXTREME = 1e6
"""A temperature this many times smaller than the margins is none: the loss only falls towards 0."""
_WIDE = 10.0
"""An interval of log T that reaches this far to both sides says nothing."""
_DRAWS = 4_000_000
"""Draws of a parametric bootstrap, over all its replicates."""

Binning: TypeAlias = Literal["width", "mass"]


# --- margins ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Margins:
    """P margins of n examples."""

    values: Floats
    """[P] score of a right candidate minus that of a wrong one."""
    weights: Floats
    """[P] those of one example sum to 1."""
    example: Ints
    """[P] index of the example."""
    clusters: Sequence[str]
    """[n] the prompt of each example."""
    n_missing: int = 0
    """Examples with right and wrong candidates, at least one of them without a score."""
    n_without_contrast: int = 0
    """Examples whose candidates all have the same grade."""
    n_not_scalar: int = 0
    """Examples read as verdicts, ratings or steps: those are no log-odds."""

    @property
    def n(self) -> int:
        """Examples that have margins."""
        return len(self.clusters)

    @cached_property
    def codes(self) -> tuple[Ints, int]:
        """[P] the prompt of each margin as 0..C-1, and C."""
        codes, c = stats.cluster_codes(self.clusters)
        return codes[self.example], c

    @cached_property
    def spread(self) -> float:
        """Weighted standard deviation of the margins: what scores are divided by before two models are compared."""
        mean = float(np.average(self.values, weights=self.weights))
        return math.sqrt(float(np.average(np.square(self.values - mean), weights=self.weights)))

    def per_example(self, quantity: Floats) -> Floats:
        """[n] the mean of a quantity [P] over the pairs of each example."""
        sums = np.bincount(self.example, weights=self.weights * quantity, minlength=self.n)
        return np.asarray(sums, dtype=np.float64)


def margins(judgements: Sequence[Judgement]) -> Margins:
    """The margin of every right candidate over every wrong one, each example counting once.

    An example that lacks one score is missing as a whole, as in every metric.

    >>> found = margins([Judgement("x", "", "", "p", (1.0, 0.0, 0.0), scores=(3.0, 1.0, 5.0))])
    >>> found.values.tolist(), found.weights.tolist(), found.n
    ([2.0, -2.0], [0.5, 0.5], 1)
    """
    if isinstance(judgements, Table):
        return _margins_of(judgements)
    graded = [j for j in judgements if len(set(j.grades)) > 1]
    scalar = [j for j in graded if j.scores or not (j.verdicts or j.ratings or j.step_scores)]
    scored = [j for j in scalar if len(j.scores) == len(j.grades) and all(map(math.isfinite, j.scores))]
    pairs = Contrasts(tuple(scored))
    return Margins(
        values=pairs.between(lambda j: j.scores),
        weights=pairs.weights,
        example=pairs.example,
        clusters=tuple(j.cluster for j in scored),
        n_missing=len(scalar) - len(scored),
        n_without_contrast=len(judgements) - len(graded),
        n_not_scalar=len(graded) - len(scalar),
    )


def _margins_of(table: Table) -> Margins:
    scored = table.take(np.flatnonzero(table.contrast & table.whole))
    pairs = Contrasts(scored)
    graded = int(table.contrast.sum())
    return Margins(
        values=pairs.between(scored.scores),
        weights=pairs.weights,
        example=pairs.example,
        clusters=scored.clusters,
        n_missing=graded - len(scored),
        n_without_contrast=len(table) - graded,
    )


# --- temperature -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Temperature:
    """The T that makes sigma(margin / T) fit best. Above 1 the scores are too sure of themselves."""

    value: float
    ci: tuple[float, float] | None
    """95 %, clustered by prompt, symmetric in log T; None for fewer than ten prompts, and where it says nothing."""


def fit_temperature(
    values: ArrayLike, clusters: Sequence[Hashable] | Ints | None = None, weights: ArrayLike | None = None
) -> Temperature:
    """Maximum-likelihood T of margins [P], on the rows given.

    The loss is convex in 1 / T, so it is found there, and no bounds are needed. Raises `NotIdentifiable` where no
    T above 0 fits best: no margin is negative (T falls to 0), or they average to nothing or less (T grows for ever).

    >>> round(fit_temperature([3, 2.5, 1, -0.5, 0.2, 2, -1, 0.8, 1.5, -0.2]).value, 6)
    0.869144
    """
    m = np.asarray(values, dtype=np.float64)
    w = np.ones(m.size) if weights is None else np.asarray(weights, dtype=np.float64)
    inverse = _inverse_temperature(m, w)
    codes, c = (np.arange(m.size), m.size) if clusters is None else stats.cluster_codes(clusters)
    if c < stats.FEW_CLUSTERS:
        return Temperature(1 / inverse, None)
    p = sigmoid(inverse * m)
    bread = np.full((1, 1), 1 / float(w @ (m * m * p * (1 - p))))
    se = math.sqrt(clustered_covariance((w * m * (1 - p))[:, None], codes, c, bread)[0, 0])
    half = stats.t_quantile(0.5 + stats.LEVEL / 2, c - 1) * se / inverse
    ends = (math.exp(-half) / inverse, math.exp(half) / inverse) if half < _WIDE else None
    return Temperature(1 / inverse, ends)


def _inverse_temperature(m: Floats, w: Floats) -> float:
    if not np.isfinite(m).all():
        raise ValueError("a temperature needs finite margins: missing scores are counted, not fitted")
    if not m.size or not m.any():
        raise NotIdentifiable("temperature not identifiable: every margin is zero" if m.size else "no margins")
    if (m >= 0).all():
        raise NotIdentifiable("temperature not identifiable: no margin is negative, so it falls to 0")
    # weights such as 1/3 leave a rest of rounding where margins cancel
    if float(w @ m) <= 1e-12 * float(w @ np.abs(m)):
        raise NotIdentifiable("temperature not identifiable: the margins do not favour the right candidates")
    scale = math.sqrt(float(np.average(m * m, weights=w)))
    z = m / scale

    def likelihood(at: Floats) -> Derivatives:
        p = sigmoid(at[0] * z)
        slope, bend = w @ (z * (1 - p)), -(w @ (z * z * p * (1 - p)))
        return -float(w @ _softplus(-at[0] * z)), np.array([slope]), np.array([[bend]])

    try:
        return float(maximise(likelihood, [0.0], _EXTREME)[0]) / scale
    except NotIdentifiable:
        raise NotIdentifiable("temperature not identifiable: hardly a margin is negative, so it falls to 0") from None


def cross_fitted(found: Margins, folds: int = FOLDS) -> Floats:
    """[P] for each margin the T fitted on the prompts of the other folds.

    Prompts are dealt to the folds in the order of a hash of their id, so that the order of rows changes nothing. Raises
    `NotIdentifiable` where a fold's rest determines no T.
    """
    codes, c = stats.cluster_codes(found.clusters)
    names = found.clusters.names if isinstance(found.clusters, Clusters) else sorted(set(found.clusters))
    if c < max(folds, stats.FEW_CLUSTERS):
        raise NotIdentifiable(f"temperature not cross-fitted: only {c} different prompts")
    digests = bytearray()
    for name in names:
        digests += hashlib.sha256(name.encode()).digest()
    fold_of = np.empty(c, dtype=np.intp)
    fold_of[np.lexsort(np.frombuffer(digests, dtype=">u8").reshape(c, 4).T[::-1])] = np.arange(c) % folds
    fold = fold_of[codes][found.example]
    fitted = np.empty(found.values.size)
    for held_out in range(folds):
        rest = fold != held_out
        fitted[~rest] = 1 / _inverse_temperature(found.values[rest], found.weights[rest])
    return fitted


# --- bins ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of a reliability diagram."""

    low: float
    high: float
    """Confidence in (low, high]."""
    n: float
    """Examples' worth of pairs: the sum of their weights."""
    confidence: float
    """Mean confidence."""
    accuracy: float
    """Share of the confident calls that are right."""
    ci: tuple[float, float]
    """Wilson's 95 % interval at n."""


def bin_edges(confidence: ArrayLike, bins: int = BINS, binning: Binning = "width", low: float = 0.5) -> Floats:
    """Upper ends of the bins, the last one 1: equal widths of (low, 1], or about equally many rows.

    Equal confidences share a bin, so there may be fewer bins of equal mass than asked for.
    """
    if binning == "width":
        return np.linspace(low, 1.0, bins + 1)[1:]
    ranked = np.sort(np.asarray(confidence, dtype=np.float64))
    ends = ranked[np.ceil(np.arange(1, bins) * ranked.size / bins).astype(np.intp) - 1]
    return np.unique(np.append(ends, 1.0))


def reliability(
    confidence: ArrayLike,
    correct: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bins: int = BINS,
    binning: Binning = "width",
    low: float = 0.5,
) -> tuple[Bin, ...]:
    """The bins that hold something. confidence: [P] in [low, 1]. correct: [P] in [0, 1], 0.5 for a tie.

    `low` is 0.5 for the confidence in the better one of two, and 0 for probabilities of what may not happen at all.
    """
    c, y = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    w = np.ones(c.size) if weights is None else np.asarray(weights, dtype=np.float64)
    edges = bin_edges(c, bins, binning, low)
    where = np.searchsorted(edges, c, side="left")
    n, sums, hits = (np.bincount(where, weights=v, minlength=edges.size) for v in (w, w * c, w * y))
    lows = np.append(low, edges[:-1])
    filled = []
    for b in np.flatnonzero(n):
        accuracy = min(1.0, float(hits[b] / n[b]))
        ends = stats.wilson(accuracy, float(n[b]))
        filled.append(Bin(float(lows[b]), float(edges[b]), float(n[b]), float(sums[b] / n[b]), accuracy, ends))
    return tuple(filled)


def calibration_error(
    confidence: ArrayLike,
    correct: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bins: int = BINS,
    binning: Binning = "width",
    low: float = 0.5,
) -> float:
    """Expected calibration error: mean distance of accuracy and confidence over the bins, by their mass.

    >>> p = [0.95, 0.9, 0.8, 0.8, 0.7, 0.6, 0.6, 0.55, 0.52, 0.51]
    >>> round(calibration_error(p, [1, 1, 1, 0, 1, 1, 0, 0, 1, 0], bins=5), 6)
    0.183
    """
    found = reliability(confidence, correct, weights, bins=bins, binning=binning, low=low)
    return sum(b.n * abs(b.accuracy - b.confidence) for b in found) / sum(b.n for b in found)


def null_calibration_error(
    confidence: ArrayLike,
    weights: ArrayLike | None = None,
    codes: Ints | None = None,
    *,
    bins: int = BINS,
    binning: Binning = "width",
    low: float = 0.5,
    replicates: int | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """(mean, 95th percentile) of the calibration error that a perfectly calibrated scorer of these confidences shows.

    Parametric bootstrap: every pair is right with the probability it states. codes: [P] the prompt of each pair; pairs
    of one prompt are drawn together, as far as pairs can hang together, so with several pairs per prompt the figure is
    an upper bound. Fewer replicates are drawn for more rows, which vary less.
    """
    c = np.asarray(confidence, dtype=np.float64)
    w = np.ones(c.size) if weights is None else np.asarray(weights, dtype=np.float64)
    shared = np.arange(c.size) if codes is None else codes
    repeats = replicates or int(np.clip(_DRAWS // max(c.size, 1), 20, 1000))
    order = np.argsort(c, kind="stable")
    where = np.searchsorted(bin_edges(c, bins, binning, low), c[order], side="left")
    starts = np.flatnonzero(np.diff(where, prepend=-1))
    expected = np.add.reduceat(w[order] * c[order], starts)
    rng = np.random.default_rng(seed)
    prompts = int(shared.max()) + 1
    errors = np.empty(repeats)
    for r in range(repeats):
        hits = rng.random(prompts)[shared[order]] < c[order]
        errors[r] = np.abs(np.add.reduceat(w[order] * hits, starts) - expected).sum()
    errors /= w.sum()
    return float(errors.mean()), float(np.quantile(errors, 0.95))


# --- all together ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Errors:
    """How far p = sigma(margin / T) is from what happened."""

    nll: float
    """Mean -log p, in nats; log 2 for a coin."""
    nll_ci: tuple[float, float] | None
    brier: float
    """Mean (1 - p)^2; 0.25 for a coin."""
    brier_ci: tuple[float, float] | None
    ece: float
    """Over ten bins of equal width."""
    ece_equal_mass: float
    null_ece: float
    """What a perfectly calibrated scorer of the same confidences shows on average: ECE is never 0 on finite data."""
    null_ece_95: float
    """What one in twenty such scorers exceeds."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration block of a run."""

    temperature: Temperature | None
    """Fitted on all rows; None where it is not identifiable, and `why` says so."""
    raw: Errors
    """At T = 1: the scores as they are."""
    fitted: Errors | None
    """At temperatures fitted on other prompts than those they are applied to; None where there are none."""
    why: str = ""


def calibrate(found: Margins) -> Calibration:
    """Temperature and errors of some margins. Raises `NotIdentifiable` for none."""
    if not found.n:
        raise NotIdentifiable("no margins")
    codes, _ = found.codes
    temperature, fitted, why = None, None, ""
    try:
        # codes and not names: sorting them is quicker, and only equality matters
        temperature = fit_temperature(found.values, codes, found.weights)
        fitted = errors_at(found, cross_fitted(found))
    except NotIdentifiable as undetermined:
        why = str(undetermined)
    return Calibration(temperature, errors_at(found, 1.0), fitted, why)


def errors_at(found: Margins, temperature: float | Floats) -> Errors:
    """The errors of some margins at one temperature, or at one per margin [P]."""
    z = found.values / temperature
    p = sigmoid(z)
    confidence, correct = np.maximum(p, 1 - p), np.where(z == 0, 0.5, z > 0)
    codes, _ = found.codes
    names = Clusters.of(codes[np.unique(found.example, return_index=True)[1]])
    nll, brier = found.per_example(_softplus(-z)), found.per_example(np.square(1 - p))
    null, null_95 = null_calibration_error(confidence, found.weights, codes)
    return Errors(
        nll=float(nll.mean()),
        nll_ci=_ends(stats.mean_interval(nll, names, bounds=None)),
        brier=float(brier.mean()),
        brier_ci=_ends(stats.mean_interval(np.minimum(brier, 1.0), names)),
        ece=calibration_error(confidence, correct, found.weights),
        ece_equal_mass=calibration_error(confidence, correct, found.weights, binning="mass"),
        null_ece=null,
        null_ece_95=null_95,
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """What the scores look like, before anything is made of them."""

    n: int
    """Scores."""
    n_missing: int
    mean: float
    sd: float
    quantiles: tuple[float, float, float, float, float]
    """At 0, 25, 50, 75 and 100 %."""
    saturated: float | None
    """Share of scores within 1e-6 of 0 or 1; None where they are no probabilities."""


def scale(judgements: Sequence[Judgement]) -> Scale | None:
    """Describe the scalar scores of a run, all candidates together; None where there are none."""
    if isinstance(judgements, Table):
        flat = judgements.scores
    else:
        flat = np.array([score for j in judgements for score in j.scores], dtype=np.float64)
    scores = np.clip(flat[np.isfinite(flat)], -FARTHEST, FARTHEST)
    if not scores.size:
        return None
    quantiles = np.quantile(scores, [0, 0.25, 0.5, 0.75, 1])
    low, q1, median, q3, high = quantiles.tolist()
    near = np.minimum(np.abs(scores), np.abs(1 - scores)) <= 1e-6
    return Scale(
        n=scores.size,
        n_missing=flat.size - scores.size,
        mean=float(scores.mean()),
        sd=float(scores.std(ddof=1)) if scores.size > 1 else math.nan,
        quantiles=(low, q1, median, q3, high),
        saturated=float(near.mean()) if low >= 0 and high <= 1 else None,
    )


def _ends(found: stats.Interval | None) -> tuple[float, float] | None:
    return (found.low, found.high) if found else None


def _softplus(z: Floats) -> Floats:
    return np.asarray(np.logaddexp(0.0, z), dtype=np.float64)
