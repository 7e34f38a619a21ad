"""Concave log-likelihoods: the maximum by damped Newton steps, and standard errors that respect prompts.

    maximise(function, start)        the maximum, or NotIdentifiable where there is none
    clustered_covariance(...)        the sandwich: rows of one prompt are never treated as independent
    logistic(features, outcomes)     logistic regression without an intercept of its own

Fits that the data do not determine raise `NotIdentifiable`: there is never a finite stand-in for an infinite estimate.

What this module does not know: scorers, judgements, what a feature means.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from rmeval.stats import LEVEL, Floats, Ints, cluster_codes, t_quantile

_STEPS = 100
_HALVINGS = 40
_ENOUGH = 1e-9
"""A step this small, relative to the size of the parameters, has arrived."""
EXTREME = 15.0
"""A coefficient beyond this makes odds of millions: the outcomes are separated and the fit is running away."""


class NotIdentifiable(ValueError):  # noqa: N818 - it reads as what the data are
    """The data do not determine the number; the message says why."""


Derivatives: TypeAlias = tuple[float, Floats, Floats]
"""A log-likelihood (-inf outside its domain), its gradient [p] and its Hessian [p, p]."""


def maximise(function: Callable[[Floats], Derivatives], start: ArrayLike, limit: float = np.inf) -> Floats:
    """Where a concave function is highest: [p].

    A Hessian may be singular in directions along which the function is flat; they are not moved in. Raises
    `NotIdentifiable` where a parameter passes `limit` in size or nothing is reached in 100 steps.

    >>> maximise(lambda x: (-float((x @ x) - 4 * x[0]), np.array([4 - 2 * x[0]]), np.array([[-2.0]])), [0.0]).tolist()
    [2.0]
    """
    at = np.asarray(start, dtype=np.float64)
    value, gradient, hessian = function(at)
    for _ in range(_STEPS):
        step = np.linalg.lstsq(-hessian, gradient, rcond=1e-13)[0]
        if np.abs(step).max() <= _ENOUGH * max(1.0, float(np.abs(at).max())):
            return at
        for _ in range(_HALVINGS):
            tried, *derivatives = function(at + step)
            # near the top a full step changes the value by less than rounding
            if tried >= value - 1e-12 * abs(value):
                break
            step = step / 2
        else:
            return at
        at, value, (gradient, hessian) = at + step, tried, derivatives
        if np.abs(at).max() > limit:
            break
    raise NotIdentifiable("no finite value fits best: the estimate runs away")


def clustered_covariance(scores: Floats, codes: Ints, clusters: int, bread: Floats) -> Floats:
    """The sandwich covariance of a maximum-likelihood estimate: [p, p], with the C/(C-1) correction of the means.

    scores: [n, p], the gradient of each row's log-likelihood. codes: [n] in 0..clusters-1. bread: [p, p], the inverse
    of the observed information.
    """
    sums = np.stack([np.bincount(codes, weights=column, minlength=clusters) for column in scores.T], axis=1)
    half = sums @ bread
    covariance: Floats = half.T @ half * (clusters / (clusters - 1))
    return covariance


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """Log-odds per unit of each feature."""

    coefficients: Floats
    """[p]"""
    covariance: Floats
    """[p, p], clustered by prompt."""
    model_covariance: Floats
    """[p, p], as if all rows were independent: for comparison."""
    clusters: int

    def standard_error(self, index: int) -> float:
        """Clustered standard error of one coefficient."""
        return float(np.sqrt(self.covariance[index, index]))

    def interval(self, index: int) -> tuple[float, float]:
        """95 % interval of one coefficient, with t of C-1 degrees."""
        half = t_quantile(0.5 + LEVEL / 2, self.clusters - 1) * self.standard_error(index)
        return float(self.coefficients[index] - half), float(self.coefficients[index] + half)


def logistic(
    features: ArrayLike,
    outcomes: ArrayLike,
    clusters: Sequence[Hashable] | Ints,
    weights: ArrayLike | None = None,
    *,
    limit: float = EXTREME,
) -> LogisticFit:
    """P(outcome) = sigma(features @ coefficients), by weighted maximum likelihood.

    features: [n, p], a column of ones where an intercept is meant. outcomes: [n] in [0, 1]; 0.5 is a tie. clusters: [n]
    prompt of each row. Raises `NotIdentifiable` for fewer than two prompts, features that follow from each other, and
    outcomes that the features separate.

    >>> fit = logistic([[1.0], [1.0], [1.0], [1.0]], [1, 1, 1, 0], "abcd")
    >>> round(float(fit.coefficients[0]), 6)  # log(3 / 1)
    1.098612
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    codes, c = cluster_codes(clusters)
    if c < 2:
        raise NotIdentifiable(f"{c} different prompt{'' if c == 1 else 's'}")
    if _rank(x * np.sqrt(w)[:, None]) < x.shape[1]:
        raise NotIdentifiable("the features follow from each other")
    signed = 2 * y - 1

    def likelihood(b: Floats) -> Derivatives:
        z = x @ b
        p = sigmoid(z)
        # y log p + (1 - y) log(1 - p), without overflow
        value = float(w @ (signed * z / 2 - np.abs(z) / 2 - np.log1p(np.exp(-np.abs(z)))))
        return value, x.T @ (w * (y - p)), -(x.T * (w * p * (1 - p))) @ x

    try:
        b = maximise(likelihood, np.zeros(x.shape[1]), limit)
    except NotIdentifiable:
        raise NotIdentifiable("the features separate the outcomes") from None
    _, _, hessian = likelihood(b)
    bread: Floats = np.asarray(np.linalg.inv(-hessian), dtype=np.float64)
    scores = x * (w * (y - sigmoid(x @ b)))[:, None]
    return LogisticFit(b, clustered_covariance(scores, codes, c, bread), bread, c)


def _rank(x: Floats) -> int:
    """What numpy's `matrix_rank` says of [n, p], by way of a triangle [p, p]: of many rows it takes much memory."""
    found = np.linalg.svd(np.linalg.qr(x, mode="r"), compute_uv=False)
    return int((found > found.max(initial=0.0) * max(x.shape) * np.finfo(np.float64).eps).sum())


def sigmoid(z: Floats) -> Floats:
    """1 / (1 + exp(-z)), without overflow."""
    small = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1.0, small) / (1 + small), dtype=np.float64)
