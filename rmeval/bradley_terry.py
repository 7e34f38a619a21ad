"""Ratings from comparisons: the Bradley-Terry model and its two extensions for ties.

    half       P(i beats j) = s_i / (s_i + s_j); a tie is half a win for each
    davidson   P(tie) is nu * sqrt(s_i * s_j) over s_i + s_j + nu * sqrt(s_i * s_j)   (Davidson 1970)
    rao-kupper P(i beats j) = s_i / (s_i + kappa * s_j), the rest is the tie          (Rao and Kupper 1967)

with s = exp(theta) and the thetas summing to zero. A player who never lost, or groups who never met, have no finite
rating; the fit says so and gives none.

What this module does not know: where comparisons come from, what the players are.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmeval.likelihood import Derivatives, NotIdentifiable, clustered_covariance, maximise, sigmoid
from rmeval.stats import LEVEL, Floats, Ints, cluster_codes, normal_quantile, t_quantile

Bools: TypeAlias = NDArray[np.bool_]
Ties: TypeAlias = Literal["half", "davidson", "rao-kupper"]
ELO = 400 / math.log(10)
"""Elo points per unit of theta: ten to one is 400 points."""


@dataclass(frozen=True, slots=True)
class Ratings:
    """A fitted model."""

    players: tuple[str, ...]
    """In sorted order."""
    theta: Floats
    """[K], log-strengths that sum to zero."""
    covariance: Floats
    """[K, K] of theta: the sandwich over clusters where clusters were given, else the inverse information."""
    ties: Ties
    tie_parameter: float | None
    """Davidson's nu or Rao and Kupper's kappa; None where ties are half wins or there are none."""
    log_likelihood: float
    clusters: int | None
    """Different prompts; None where the comparisons were taken as independent."""

    def standard_errors(self) -> Floats:
        """[K] standard errors of theta."""
        return np.asarray(np.sqrt(np.diag(self.covariance)), dtype=np.float64)

    def difference(self, a: str, b: str) -> tuple[float, float]:
        """theta_a - theta_b and its standard error, which the errors of the two alone do not give."""
        i, j = self.players.index(a), self.players.index(b)
        v = self.covariance
        return float(self.theta[i] - self.theta[j]), math.sqrt(v[i, i] + v[j, j] - 2 * v[i, j])

    def interval(self, player: str) -> tuple[float, float]:
        """95 % interval of a player's theta."""
        i = self.players.index(player)
        level = 0.5 + LEVEL / 2
        critical = normal_quantile(level) if self.clusters is None else t_quantile(level, self.clusters - 1)
        half = critical * math.sqrt(self.covariance[i, i])
        return float(self.theta[i] - half), float(self.theta[i] + half)

    def elo(self, centre: float = 1000.0) -> Floats:
        """[K] ratings on the Elo scale, `centre` on average."""
        return centre + ELO * self.theta


def fit(
    first: Sequence[str],
    second: Sequence[str],
    outcomes: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    clusters: Sequence[Hashable] | None = None,
    ties: Ties = "half",
) -> Ratings:
    """Maximum-likelihood ratings of comparisons between `first` and `second`.

    outcomes: [n], 1 where the first won, 0 where the second did, 0.5 for a tie; with `half` any share in between.
    weights: [n], how often each was seen. clusters: [n] prompts, for standard errors that hold where one prompt gives
    several comparisons. Raises `NotIdentifiable` where some players have no finite rating, and `ValueError` for input
    that is none.

    >>> found = fit(["A", "A"], ["B", "B"], [1, 0], weights=[30, 10])
    >>> [round(x, 6) for x in found.difference("A", "B")]
    [1.098612, 0.365148]
    """
    y = np.asarray(outcomes, dtype=np.float64)
    w = np.ones(y.size) if weights is None else np.asarray(weights, dtype=np.float64)
    if not len(first) == len(second) == y.size == w.size == (y.size if clusters is None else len(clusters)):
        raise ValueError("players, outcomes, weights and clusters must have the same length")
    _check(first, second, y, w, ties)
    players = tuple(sorted({*first, *second}))
    place = {name: i for i, name in enumerate(players)}
    i, j = np.array([place[p] for p in first]), np.array([place[p] for p in second])
    _check_identifiable(players, i, j, y)
    tied = (y == 0.5) & (ties != "half")
    half = not tied.any()
    if tied.all():
        raise NotIdentifiable("ratings are not identifiable: every comparison is a tie")
    k, rows = len(players), np.arange(y.size)
    design = np.zeros((y.size, k))
    design[rows, i] += 1
    design[rows, j] -= 1
    model = _half if half else _davidson if ties == "davidson" else _rao_kupper

    def likelihood(at: Floats) -> Derivatives:
        tie = 0.0 if half else float(at[k])
        if ties == "rao-kupper" and not half and tie <= 0:
            return -math.inf, np.zeros(k + 1), np.zeros((k + 1, k + 1))
        value, (by_gap, by_tie), (gap_gap, gap_tie, tie_tie) = model(design @ at[:k], tie, y, tied)
        slope, curve = design.T @ (w * by_gap), (design.T * (w * gap_gap)) @ design
        if not half:
            mixed = design.T @ (w * gap_tie)
            slope = np.append(slope, w @ by_tie)
            curve = np.block([[curve, mixed[:, None]], [mixed[None, :], np.full((1, 1), w @ tie_tie)]])
        return float(w @ value), slope, curve

    # the tie parameter is fitted as a logarithm; Rao and Kupper's lies above 0
    at = maximise(likelihood, np.zeros(k) if half else np.append(np.zeros(k), 1.0))
    value, _, hessian = likelihood(at)
    # a common shift of all thetas changes nothing: the pseudo-inverse holds their sum at zero
    covariance = np.asarray(np.linalg.pinv(-hessian, rcond=1e-12, hermitian=True), dtype=np.float64)
    c = None
    if clusters is not None:
        codes, c = cluster_codes(clusters)
        if c < 2:
            raise NotIdentifiable("standard errors are not identifiable: all comparisons share one prompt")
        _, (by_gap, by_tie), _ = model(design @ at[:k], 0.0 if half else float(at[k]), y, tied)
        scores = design * (w * by_gap)[:, None]
        if not half:
            scores = np.column_stack([scores, w * by_tie])
        covariance = clustered_covariance(scores, codes, c, covariance)
    theta = at[:k] - at[:k].mean()
    return Ratings(players, theta, covariance[:k, :k], ties, None if half else math.exp(at[k]), value, c)


def _check(first: Sequence[str], second: Sequence[str], y: Floats, w: Floats, ties: Ties) -> None:
    if not y.size:
        raise NotIdentifiable("ratings are not identifiable: there are no comparisons")
    if not (np.isfinite(w).all() and (w > 0).all()):
        raise ValueError("weights must be finite and above 0: leave out what was never seen")
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError("outcomes lie in [0, 1]: a missing verdict is left out and counted, it is no tie")
    if ties != "half" and not np.isin(y, (0.0, 0.5, 1.0)).all():
        raise ValueError(f"ties={ties!r} takes wins (1), losses (0) and ties (0.5) only")
    if same := next((a for a, b in zip(first, second, strict=True) if a == b), None):
        raise ValueError(f"{same!r} is compared with itself")


def _check_identifiable(players: tuple[str, ...], i: Ints, j: Ints, y: Floats) -> None:
    """Raise unless a chain of wins (or ties) leads from every player to every other: Ford's condition (1957)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    k = len(players)
    winners = np.concatenate([i[y > 0], j[y < 1]])
    losers = np.concatenate([j[y > 0], i[y < 1]])
    won = coo_array((np.ones(winners.size), (winners, losers)), shape=(k, k))
    groups, group = connected_components(won, connection="strong")
    if groups == 1:
        return
    islands, island = connected_components(won, connection="weak")
    if islands > 1:
        here, there = (", ".join(p for p, g in zip(players, island, strict=True) if g == side) for side in (0, 1))
        raise NotIdentifiable(f"ratings are not identifiable: no comparison links {here} with {there}")
    beaten = {int(group[b]) for a, b in zip(winners, losers, strict=True) if group[a] != group[b]}
    top = next(g for g in range(groups) if g not in beaten)
    names = ", ".join(p for p, g in zip(players, group, strict=True) if g == top)
    raise NotIdentifiable(f"ratings are not identifiable: {names} never lost to the others, nor tied")


Model: TypeAlias = tuple[Floats, tuple[Floats, Floats], tuple[Floats, Floats, Floats]]
"""Per comparison: log-likelihood, its slopes in (gap, tie parameter), its curvatures (gap gap, gap tie, tie tie)."""


def _half(gap: Floats, tie: float, y: Floats, tied: Bools) -> Model:
    del tie, tied
    p, zero = sigmoid(gap), np.zeros_like(gap)
    value = y * _log_sigmoid(gap) + (1 - y) * _log_sigmoid(-gap)
    return value, (y - p, zero), (-p * (1 - p), zero, zero)


def _davidson(gap: Floats, tie: float, y: Floats, tied: Bools) -> Model:
    # a choice among win, loss and tie with utilities gap / 2, -gap / 2 and log nu
    utilities = np.stack([gap / 2, -gap / 2, np.full_like(gap, tie)])
    log_p = utilities - np.logaddexp.reduce(utilities, axis=0)
    win, loss, draw = np.exp(log_p)
    value = np.where(tied, log_p[2], np.where(y == 1, log_p[0], log_p[1]))
    slopes = (np.where(tied, 0.0, y - 0.5) - (win - loss) / 2, tied - draw)
    return value, slopes, (-(win + loss - (win - loss) ** 2) / 4, (win - loss) * draw / 2, -draw * (1 - draw))


def _rao_kupper(gap: Floats, tie: float, y: Floats, tied: Bools) -> Model:
    # P(tie) = (kappa^2 - 1) P(win) P(loss)
    up, down = sigmoid(gap - tie), sigmoid(-gap - tie)
    drew = tied.astype(np.float64)
    won, lost = drew + (y == 1), drew + (y == 0)
    odds = math.expm1(2 * tie)
    value = won * _log_sigmoid(gap - tie) + lost * _log_sigmoid(-gap - tie) + drew * math.log(odds)
    slopes = (won * (1 - up) - lost * (1 - down), -won * (1 - up) - lost * (1 - down) + drew * 2 * (1 + 1 / odds))
    bend_up, bend_down = won * up * (1 - up), lost * down * (1 - down)
    return (
        value,
        slopes,
        (
            -bend_up - bend_down,
            bend_up - bend_down,
            -bend_up - bend_down - drew * 4 * (1 + 1 / odds) / odds,
        ),
    )


def _log_sigmoid(z: Floats) -> Floats:
    return np.asarray(-np.logaddexp(0.0, -z), dtype=np.float64)
