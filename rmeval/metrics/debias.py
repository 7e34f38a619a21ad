"""What the verdicts on one set of candidates come to, when its orders and votes are put together.

    DECISIONS    name -> decide(rows): who is favoured over all orders, or why nobody can say
    swap         quality and slot bias of a pair, from probabilities in both orders
    slot_prior   the slot bias of a judge, estimated on pairs held out for it

Every decision is a pure function of stored rows and knows no labels, so that each can be computed again from one run of
a judge, and exchanging the candidates exchanges the answer.

What this module does not know: labels, which rule a suite uses, intervals.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple, TypeAlias

from rmeval.metrics.verdicts import ANSWERED, fault, log_shares, shares, winners
from rmeval.types import NAN, Verdict

NOBODY: frozenset[int] = frozenset()
"""A decision that is there and favours no candidate: wrong whoever is right."""
_DIGITS = 9
"""Split votes that differ beyond this many decimals only are level."""


class Decision(NamedTuple):
    """Who is favoured."""

    favoured: frozenset[int] | None
    """One candidate; several for a tie; `NOBODY`; None where it is missing."""
    reason: str | None = None
    """Why it is missing: that of a verdict, `inconsistent`, `one_order`, or `no_probabilities`."""


Outcomes: TypeAlias = Mapping[tuple[int, ...], frozenset[int] | None]
"""By order shown, who is favoured there; None where no vote could be read."""


def by_order(rows: Sequence[Verdict], example: str = "") -> dict[tuple[int, ...], frozenset[int] | None]:
    """The votes of each order as one outcome: whoever was named most often, all shown where candidates are level.

    >>> by_order([Verdict((0, 1), "A"), Verdict((0, 1), "tie"), Verdict((1, 0), None)])
    {(0, 1): frozenset({0}), (1, 0): None}
    """
    found: dict[tuple[int, ...], list[Verdict]] = {}
    for row in rows:
        found.setdefault(row.order, []).append(row)
    return {order: plurality([winners(row, example) for row in votes]) for order, votes in found.items()}


def plurality(said: Sequence[frozenset[int] | None]) -> frozenset[int] | None:
    """The candidates with the most votes, a tied vote split evenly; None where no vote could be read.

    Never the first of several: the order of a set or of the votes must not decide.

    >>> sorted(plurality([frozenset({0}), frozenset({1})]))
    [0, 1]
    """
    won: dict[int, float] = {}
    for favoured in said:
        for candidate in favoured or ():
            won[candidate] = won.get(candidate, 0.0) + 1 / len(favoured or ())
    if not won:
        return None
    most = round(max(won.values()), _DIGITS)
    return frozenset(c for c, votes in won.items() if round(votes, _DIGITS) == most)


# --- decisions -------------------------------------------------------------------------------------------------------


def tie_on_inconsistency(rows: Sequence[Verdict], example: str = "") -> Decision:
    """Whoever all orders favour; a tie where they disagree. Missing unless every order was read. Source: MT-Bench.

    >>> tie_on_inconsistency([Verdict((0, 1), "A"), Verdict((1, 0), "A")]).favoured == {0, 1}
    True
    """
    outcomes, lost = _both_orders(rows, example)
    if lost:
        return lost
    said = {favoured for favoured in outcomes.values() if favoured is not None}
    return Decision(next(iter(said)) if len(said) == 1 else frozenset(rows[0].order))


def consistent_only(rows: Sequence[Verdict], example: str = "") -> Decision:
    """The one candidate that all orders favour; missing (`inconsistent`) where they disagree or see a tie."""
    outcomes, lost = _both_orders(rows, example)
    if lost:
        return lost
    said = set(outcomes.values())
    one = next(iter(said)) if len(said) == 1 else None
    return Decision(one) if one is not None and len(one) == 1 else Decision(None, "inconsistent")


def both_correct(rows: Sequence[Verdict], example: str = "") -> Decision:
    """The one candidate that all orders favour, else nobody; what the judge left unread is for nobody.

    Source: "position-consistent accuracy" of J1, `correct_both` of LLMBar.
    """
    outcomes, lost = _both_orders(rows, example)
    if lost and lost.reason not in ANSWERED:
        return lost
    said = set(outcomes.values())
    one = next(iter(said)) if len(said) == 1 else None
    return Decision(one if one is not None and len(one) == 1 else NOBODY)


def sum_sign(rows: Sequence[Verdict], example: str = "") -> Decision:
    """The candidate that wins more orders than it loses, else nobody; a tie or an unread order counts for none.

    Source: JudgeBench, where a win beside a tie or an unread verdict suffices.

    >>> sorted(sum_sign([Verdict((0, 1), "A"), Verdict((1, 0), None, "unparsed")]).favoured)
    [0]
    """
    if lost := fault(rows):
        return Decision(None, lost)
    won = [min(one) for one in by_order(rows, example).values() if one is not None and len(one) == 1]
    return Decision(next((frozenset({c}) for c in won if 2 * won.count(c) > len(won)), NOBODY))


def majority(rows: Sequence[Verdict], example: str = "") -> Decision:
    """Whoever most readable votes of all orders name; those level are tied. Missing where an order was not read."""
    outcomes = by_order(rows, example)
    if None in outcomes.values():
        # the votes of the other order alone would carry its position bias
        return Decision(None, _reason(rows, outcomes))
    return Decision(plurality([winners(row, example) for row in rows]))


def swap_mean_prob(rows: Sequence[Verdict], example: str = "") -> Decision:
    """Whoever has the highest probability, averaged over the votes of each order and over orders."""
    return _highest(rows, example, shares)


def swap_mean_logit(rows: Sequence[Verdict], example: str = "") -> Decision:
    """Whoever has the highest log-probability so averaged: of a pair, the sign of `swap(...).delta`."""
    return _highest(rows, example, log_shares)


DECISIONS: dict[str, Callable[[Sequence[Verdict], str], Decision]] = {
    "tie_on_inconsistency": tie_on_inconsistency,
    "consistent_only": consistent_only,
    "both_correct": both_correct,
    "sum_sign": sum_sign,
    "majority": majority,
    "swap_mean_prob": swap_mean_prob,
    "swap_mean_logit": swap_mean_logit,
}
"""What a rule's option `verdicts` may say beside `mean`."""

SAYS = {
    "tie_on_inconsistency": "verdicts that change with the order are a tie (MT-Bench)",
    "consistent_only": "of pairs whose verdict names the same one in every order; the others are missing",
    "both_correct": "right in every order; an unread verdict is not (J1, LLMBar's correct_both)",
    "sum_sign": "right in more orders than wrong; a tie or an unread verdict counts for neither (JudgeBench)",
    "majority": "most of the readable votes of all orders",
    "swap_mean_prob": "the higher probability, averaged over both orders",
    "swap_mean_logit": "the higher log-odds, averaged over both orders, which takes out a slot bias",
}
"""What each is, in words."""


def decide(name: str, rows: Sequence[Verdict], example: str = "") -> Decision:
    """The decision of that name; `name` is one of `DECISIONS`."""
    return DECISIONS[name](rows, example)


def _both_orders(rows: Sequence[Verdict], example: str) -> tuple[Outcomes, Decision | None]:
    """The outcomes by order, and why they do not do: a single order, or one that could not be read."""
    outcomes = by_order(rows, example)
    if lost := fault(rows):
        return outcomes, Decision(None, lost)
    if len(outcomes) < 2:
        return outcomes, Decision(None, "one_order")
    return outcomes, Decision(None, _reason(rows, outcomes)) if None in outcomes.values() else None


def _reason(rows: Sequence[Verdict], outcomes: Outcomes) -> str:
    return next(row.reason or "unparsed" for row in rows if outcomes[row.order] is None)


def _highest(rows: Sequence[Verdict], example: str, quantity: Callable[[Verdict], dict[int, float] | None]) -> Decision:
    outcomes, lost = _both_orders(rows, example)
    if lost:
        return lost
    found: dict[tuple[int, ...], list[dict[int, float]]] = {order: [] for order in outcomes}
    for row in rows:
        if (one := quantity(row)) is not None:
            found[row.order].append(one)
    if not all(found.values()):
        return Decision(None, "no_probabilities")
    means = {c: fmean(fmean(one[c] for one in votes) for votes in found.values()) for c in rows[0].order}
    highest = round(max(means.values()), 12)
    return Decision(frozenset(c for c, mean in means.items() if round(mean, 12) == highest))


# --- credit over orders ----------------------------------------------------------------------------------------------


def mean_credit(
    rows: Sequence[Verdict], credit: Callable[[frozenset[int]], float], unread: float | None = None, example: str = ""
) -> float:
    """What verdicts earn, averaged over the votes of each order, then over orders; NaN where an order has none.

    `credit` is what favouring some candidates is worth, `unread` a verdict that the judge left open (None: it is
    missing). A call that failed is missing whatever that is worth.
    """
    orders: dict[tuple[int, ...], list[float]] = {}
    for row in rows:
        votes = orders.setdefault(row.order, [])
        favoured = winners(row, example)
        if favoured is not None:
            votes.append(credit(favoured))
        elif unread is not None and (row.reason or "unparsed") in ANSWERED:
            votes.append(unread)
    # an order without a readable vote is missing: the mean of the other alone would carry its position bias
    return fmean(map(fmean, orders.values())) if orders and all(orders.values()) else NAN


def mean_share(rows: Sequence[Verdict], candidates: frozenset[int]) -> float:
    """Probability that one of some candidates is best, averaged over the votes of each order, then over orders.

    Of a pair in one order it is AlpacaEval 2's preference less 1. NaN where an order has no probabilities.

    >>> row = Verdict((1, 0), "A", logmass=(-0.25, -1.75))
    >>> round(2 - mean_share([row], frozenset({1})), 6)  # AlpacaEval, where token m stands for the baseline
    1.182426
    """
    orders: dict[tuple[int, ...], list[float]] = {}
    for row in rows:
        votes = orders.setdefault(row.order, [])
        if (found := shares(row)) is not None:
            votes.append(math.fsum(p for c, p in found.items() if c in candidates))
    return fmean(map(fmean, orders.values())) if orders and all(orders.values()) else NAN


# --- quality and slot bias -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Swap:
    """A pair's log-odds in both orders, taken apart: delta + beta where `a` is shown first, -delta + beta elsewhere."""

    delta: float
    """Log-odds for candidate `a` over the other, free of a slot bias that is the same in both orders."""
    beta: float
    """Log-odds that the slot shown first gets for nothing."""


def swap(rows: Sequence[Verdict], a: int) -> Swap | None:
    """Quality and slot bias of a pair; None unless both orders have finite log-odds.

    >>> found = swap([Verdict((0, 1), "A", p=(0.9, 0.1)), Verdict((1, 0), "A", p=(0.7, 0.3))], 0)
    >>> round(found.delta, 6), round(found.beta, 6)
    (0.674963, 1.522261)
    """
    first, second = (_log_odds([row for row in rows if (row.order[0] == a) is leads], a) for leads in (True, False))
    if not (math.isfinite(first) and math.isfinite(second)):
        return None
    return Swap((first + second) / 2, (first - second) / 2)


def _log_odds(rows: Sequence[Verdict], a: int) -> float:
    """Mean log-odds for `a`; NaN without any."""
    found = [logs for row in rows if (logs := log_shares(row)) is not None]
    odds = [logs[a] - next(log for c, log in logs.items() if c != a) for logs in found]
    return fmean(odds) if odds else NAN


def slot_prior(swaps: Mapping[str, Sequence[Swap]], prompts: int = 50) -> tuple[float, frozenset[str]]:
    """(mean slot bias over the pairs of some held-out prompts, those prompts), drawn by hash of their names.

    swaps: by prompt. The prompts that the bias was estimated on must stay out of whatever it corrects.
    Source: PriDe (arXiv:2309.03882), which subtracts the prior of the slots in log space.
    """
    drawn = sorted(swaps, key=lambda prompt: hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest())[:prompts]
    return fmean(one.beta for prompt in drawn for one in swaps[prompt]), frozenset(drawn)


# --- strong and slight verdicts --------------------------------------------------------------------------------------

_STRENGTH = {"A>>B": 2, "A>B": 1, "A": 1, "A=B": 0, "B=A": 0, "tie": 0, "B>A": -1, "B": -1, "B>>A": -2}
"""How far a verdict on a pair favours the one shown first."""
STRONG = 3
"""How often a strong verdict counts in Arena-Hard."""


def strength(row: Verdict, candidate: int) -> int | None:
    """-2 (much worse) to 2 (much better) for a candidate of a pair; None where the verdict could not be read.

    >>> strength(Verdict((1, 0), "B>>A"), 0)
    2
    """
    if row.verdict is None:
        return None
    return _STRENGTH[row.verdict] * (1 if row.order[0] == candidate else -1)


def arena_hard_rows(rows: Sequence[Verdict], candidate: int) -> list[float]:
    """Arena-Hard's rows of a prompt: one per game, 1 for a win, .5 for a tie, a strong verdict three times.

    Game 2, in which the candidate is shown first, stands first, as upstream. Empty unless each game has one verdict:
    upstream drops such prompts.

    >>> arena_hard_rows([Verdict((1, 0), "A=B"), Verdict((0, 1), "B>A")], 0)
    [0.0, 0.5]
    """
    games = {row.order[0] == candidate: strength(row, candidate) for row in rows}
    if len(rows) != 2 or len(games) != 2 or None in games.values():
        return []
    made: list[float] = []
    for game in (games[True], games[False]):
        assert game is not None
        made += [(1 + (game > 0) - (game < 0)) / 2] * (STRONG if abs(game) == 2 else 1)
    return made


def wildbench_reward(
    row: Verdict, candidate: int, lengths: Mapping[int, int] | None = None, margin: int | None = None
) -> float | None:
    """WB-Reward of a candidate of a pair, -1 to 1 in halves; None where the verdict could not be read.

    With a `margin` (upstream's K, in characters) a slight win by an output longer by more than that is a tie; a strong
    one stands.

    >>> wildbench_reward(Verdict((0, 1), "A>B"), 0, {0: 900, 1: 300}, 500)
    0.0
    """
    won = strength(row, candidate)
    if won is None:
        return None
    if abs(won) == 1 and lengths is not None and margin is not None:
        other = next(c for c in row.order if c != candidate)
        if won * (lengths[candidate] - lengths[other]) > margin:
            return 0.0
    return won / 2
