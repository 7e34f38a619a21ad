"""Whether a judge's verdict follows the slot that a candidate is shown in.

    n2   pairs with a readable verdict in both orders: a consistent and right, b consistent and wrong, f both times the
         one shown first, s both times the one shown second, the rest with a tie in it

What this module does not know: how verdicts are credited.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rmeval import stats
from rmeval.metrics.debias import Outcomes, Swap, by_order, swap
from rmeval.metrics.figures import mean_figure, undefined
from rmeval.metrics.verdicts import contests, winners
from rmeval.stats import Floats
from rmeval.types import Judgement, Metric, Verdict

ALPHA = 0.01
"""A judge whose preference for a slot would be this rare by chance is flagged."""


@dataclass(frozen=True)
class Contest:
    """The verdicts on the same candidates of an example."""

    judgement: Judgement
    rows: tuple[Verdict, ...]

    @cached_property
    def shown(self) -> tuple[int, ...]:
        """The candidates, in data order."""
        return tuple(sorted(self.rows[0].order))

    @cached_property
    def right(self) -> frozenset[int]:
        """The best graded of them; empty where they are graded alike."""
        grades = {c: self.judgement.grades[c] for c in self.shown}
        best = frozenset(c for c, grade in grades.items() if grade == max(grades.values()))
        return best if len(best) < len(grades) else frozenset()

    @cached_property
    def outcomes(self) -> Outcomes:
        """Who is favoured in each order shown."""
        return by_order(self.rows, self.judgement.id)

    @property
    def cluster(self) -> str:
        """The prompt."""
        return self.judgement.cluster

    @property
    def is_pair(self) -> bool:
        """Whether two candidates are shown."""
        return len(self.shown) == 2

    @property
    def in_both(self) -> tuple[frozenset[int], ...]:
        """The outcomes of all orders, that of the data first; empty unless there are several and all were read."""
        said = [self.outcomes[order] for order in sorted(self.outcomes)]
        read = tuple(one for one in said if one is not None)
        return read if len(read) == len(said) > 1 else ()

    @cached_property
    def net(self) -> int | None:
        """Of a pair, 1 where both orders name the slot shown first, -1 the second, else 0; None where one is unread."""
        if not self.is_pair or not self.in_both:
            return None
        slots = {_slot(order, one) for order, one in self.outcomes.items()}
        return (slots == {0}) - (slots == {1})

    @cached_property
    def swap(self) -> Swap | None:
        """Quality and slot bias of a pair with probabilities in both orders, for the first in data order."""
        return swap(self.rows, self.shown[0]) if self.is_pair and self.in_both else None


def contests_of(judgements: Sequence[Judgement]) -> list[Contest]:
    """All of them, where verdicts are what the judgement holds."""
    return [Contest(j, rows) for j in judgements if not j.scores for rows in contests(j)]


def position(found: Sequence[Contest]) -> list[Metric]:
    """The figures about slots that the orders shown allow."""
    made = [_slot_rate(found)]
    if not any(len(c.outcomes) > 1 for c in found):
        return made
    valid = [c for c in found if c.in_both]
    lost = sum(len(c.outcomes) > 1 for c in found) - len(valid)
    clusters = [c.cluster for c in valid]
    consistent = [float(len(set(c.in_both)) == 1) for c in valid]
    of = "of those read in every order"
    made.append(
        _with_lost(mean_figure("judge:consistency", consistent, clusters, f"same outcome in every order, {of}"), lost)
    )
    pairs = [c for c in valid if c.is_pair]
    if not pairs and any(not c.is_pair for c in found):
        return made
    nets = [c.net or 0 for c in pairs]
    clusters = [c.cluster for c in pairs]
    for name, sign, slot in (("first_slot", 1, "first"), ("second_slot", -1, "second")):
        values = [float(net == sign) for net in nets]
        note = f"pairs in which both orders name the one shown {slot}, {of}"
        made.append(_with_lost(mean_figure(f"judge:{name}", values, clusters, note, higher_is_better=False), lost))
    return made + _net_bias(nets, clusters, lost) + [_kappa(pairs, lost), *_beta(pairs)]


def _slot(order: tuple[int, ...], favoured: frozenset[int] | None) -> int | None:
    """The slot that one candidate was favoured in; None for a tie."""
    return order.index(min(favoured)) if favoured is not None and len(favoured) == 1 else None


def _with_lost(metric: Metric, lost: int) -> Metric:
    return replace(metric, n_missing=lost)


def _slot_rate(found: Sequence[Contest]) -> Metric:
    values, clusters, expected = [], [], []
    for contest in found:
        for row in contest.rows:
            slot = _slot(row.order, winners(row, contest.judgement.id))
            if slot is not None:
                values.append(float(slot == 0))
                clusters.append(contest.cluster)
                expected.append(1 / len(row.order))
    chance = f"; {sum(expected) / len(expected):.3g} by chance" if expected else ""
    once = found and all(len(c.rows) == 1 and c.is_pair for c in found)
    p = f"; {_verdict_on(sum(values), len(values))}" if once and values else ""
    note = f"verdicts for the slot shown first, of those that name one{chance}{p}"
    return mean_figure("judge:slot_a", values, clusters, note, higher_is_better=False)


def _net_bias(nets: Sequence[int], clusters: Sequence[str], lost: int) -> list[Metric]:
    by_prompt: Counter[str] = Counter()
    for net, cluster in zip(nets, clusters, strict=True):
        by_prompt[cluster] += net
    first, second = (sum(sign * net > 0 for net in by_prompt.values()) for sign in (1, -1))
    said = _verdict_on(first, first + second)
    total = sum(map(abs, nets)) / len(nets) if nets else 0.0
    note = f"first_slot less second_slot, 0 is neutral; {said}; JudgeLM's total_bias {total:.4g}"
    bias = mean_figure(
        "judge:net_bias", list(map(float, nets)), clusters, note, bounds=(-1.0, 1.0), higher_is_better=False
    )
    p = Metric(
        "judge:net_bias_p",
        _binomial(first, first + second) if nets else None,
        n=first + second,
        n_missing=lost,
        note=f"exact binomial p of prompts that lean to the first slot against the second; {said}"
        if nets
        else "undefined: no pair was read in both orders",
        unit="number",
    )
    return [_with_lost(bias, lost), p]


def _verdict_on(first: float, n: int) -> str:
    """The flag, in words."""
    p = _binomial(round(first), n)
    if p >= ALPHA:
        return f"no position bias at the {ALPHA:.0%} level: exact binomial p = {p:.4g}"
    return f"POSITION BIAS towards the {'first' if 2 * first > n else 'second'} slot: exact binomial p = {p:.4g}"


def _binomial(hits: int, n: int) -> float:
    """Exact two-sided p of a fair coin: both tails, which are alike."""
    from scipy import special

    return min(1.0, 2 * float(special.bdtr(min(hits, n - hits), n, 0.5))) if n else 1.0


def _kappa(pairs: Sequence[Contest], lost: int) -> Metric:
    """Cohen's kappa of the two orders over candidates (and ties), with a bootstrap of prompts."""
    name, note = "judge:order_kappa", "Cohen's kappa of the verdicts in the two orders, as candidates and ties"
    if not pairs:
        return undefined(name, "no pair was read in both orders", lost)
    codes, prompts = stats.cluster_codes([c.cluster for c in pairs])
    counts = np.zeros((prompts, 9))
    cells = np.array([3 * _side(c, c.in_both[0]) + _side(c, c.in_both[1]) for c in pairs], dtype=np.intp)
    np.add.at(counts, (codes, cells), 1.0)
    value = float(_kappas(counts.sum(axis=0) / len(pairs)))
    if math.isnan(value):
        return undefined(name, "both orders always say the same, as chance would", lost)
    ci = None
    if prompts >= stats.FEW_CLUSTERS:
        # the pairs of a prompt as the size of every cell: means are then shares of the table, drawn together
        drawn = stats.cluster_bootstrap(counts, np.repeat(counts.sum(axis=1, keepdims=True), 9, axis=1), [0] * prompts)
        kappas = _kappas(drawn)
        ci = stats.percentile_interval(kappas, value) if np.isfinite(kappas).all() else None
    return Metric(name, value, None, ci, len(pairs), lost, True, note, "number")


def _side(contest: Contest, favoured: frozenset[int]) -> int:
    return 2 if len(favoured) > 1 else int(min(favoured) == contest.shown[1])


def _kappas(shares: Floats) -> Floats:
    """Cohen's kappa of tables given as shares: [..., 9] -> [...]; NaN where chance alone would always agree."""
    table = shares.reshape(*shares.shape[:-1], 3, 3)
    observed = np.trace(table, axis1=-2, axis2=-1)
    chance = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1)
    sure = chance > 1 - 1e-12
    return np.asarray(np.where(sure, np.nan, (observed - chance) / np.where(sure, 1.0, 1 - chance)), dtype=np.float64)


def _beta(pairs: Sequence[Contest]) -> list[Metric]:
    biases = [c.swap.beta for c in pairs if c.swap is not None]
    if not biases:
        return []
    mean = math.fsum(biases) / len(biases)
    note = (
        "log-odds that the slot shown first gets for nothing, 0 is neutral; of two equal candidates it would win "
        f"{1 / (1 + math.exp(-mean)):.3g}"
    )
    clusters = [c.cluster for c in pairs if c.swap is not None]
    found = mean_figure("judge:beta", biases, clusters, note, bounds=None, higher_is_better=False)
    return [_with_lost(found, len(pairs) - len(biases))]
