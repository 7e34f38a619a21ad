"""Several orders and votes become one decision: golden numbers, symmetry, and what upstream's code gets wrong."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmeval.errors import UsageError
from rmeval.metrics import best_of_k, debias, rules
from rmeval.metrics.convert import scores_of, win_share
from rmeval.metrics.debias import DECISIONS, NOBODY, Swap, decide, swap
from rmeval.metrics.verdicts import contests, log_shares, shares
from rmeval.types import Judgement, Verdict

SAID = ("A", "B", "tie", None)
BOTH = ((0, 1), (1, 0))
PROBABILITIES = st.floats(0.001, 0.999)


def games(first, second, **more):
    return [
        Verdict(order, said, None if said else "unparsed", **more)
        for order, said in zip(BOTH, (first, second), strict=True)
    ]


def exchanged(rows):
    """The same verdicts with the names of the candidates exchanged."""
    return [Verdict(tuple(1 - c for c in r.order), r.verdict, r.reason, r.p, r.vote, r.logmass) for r in rows]


def judged(rows, grades=(1.0, 0.0)):
    return Judgement("x", "s", "", "prompt", grades, verdicts=tuple(rows))


# --- log-odds --------------------------------------------------------------------------------------------------------


def test_quality_and_slot_bias_of_the_golden_pair():
    rows = [Verdict((0, 1), "A", p=(0.9, 0.1)), Verdict((1, 0), "A", p=(0.7, 0.3))]
    found = swap(rows, 0)
    assert (round(found.delta, 6), round(found.beta, 6)) == (0.674963, 1.522261)
    assert round(1 / (1 + math.exp(-found.delta)), 6) == 0.662614
    assert round(1 / (1 + math.exp(-found.beta)), 6) == 0.820871
    assert debias.mean_share(rows, frozenset({0})) == pytest.approx(0.60)


@given(first=PROBABILITIES, second=PROBABILITIES)
def test_exchanging_the_candidates_turns_the_quality_around_exactly(first, second):
    rows = [Verdict((0, 1), "A", p=(first, 1 - first)), Verdict((1, 0), "A", p=(second, 1 - second))]
    there, back = swap(rows, 0), swap(exchanged(rows), 0)
    assert back == Swap(-there.delta, there.beta)
    assert swap(rows, 1) == Swap(-there.delta, there.beta)
    assert debias.mean_share(rows, frozenset({0})) == pytest.approx(1 - debias.mean_share(rows, frozenset({1})))
    if abs(there.delta) > 1e-9:
        assert decide("swap_mean_logit", rows).favoured == {int(there.delta < 0)}


@given(delta=st.floats(-5, 5), beta=st.floats(-5, 5))
def test_a_slot_bias_alone_never_decides(delta, beta):
    first, second = (1 / (1 + math.exp(-(sign * delta + beta))) for sign in (1, -1))
    rows = [Verdict((0, 1), "A", p=(first, 1 - first)), Verdict((1, 0), "A", p=(second, 1 - second))]
    found = swap(rows, 0)
    assert (found.delta, found.beta) == (pytest.approx(delta, abs=1e-6), pytest.approx(beta, abs=1e-6))


@given(first=PROBABILITIES, second=PROBABILITIES)
def test_of_one_vote_per_order_logits_and_probabilities_decide_alike(first, second):
    rows = [Verdict((0, 1), "A", p=(first, 1 - first)), Verdict((1, 0), "A", p=(second, 1 - second))]
    if abs(first - second) > 1e-9:  # p + q > 1 exactly where logit p + logit q > 0
        assert decide("swap_mean_logit", rows).favoured == decide("swap_mean_prob", rows).favoured


def test_of_several_votes_one_that_is_very_sure_decides_by_logits_only():
    rows = [Verdict((0, 1), "A", p=(0.5, 0.5))]
    rows += [Verdict((1, 0), "B", p=(1 - x, x), vote=v) for v, x in enumerate((0.8, 0.8, 0.01))]
    assert decide("swap_mean_prob", rows).favoured == {0}
    assert decide("swap_mean_logit", rows).favoured == {1}


def test_alpaca_eval_of_the_golden_log_probabilities():
    row = Verdict((0, 1), "A", logmass=(-0.25, -1.75))
    assert round(shares(row)[0], 6) == 0.817574
    assert round(sum(map(math.exp, row.logmass)), 6) == 0.952575
    assert round(2 - shares(row)[0], 6) == 1.182426
    # a tie's mass is left out of the comparison of the two, unless the protocol says what becomes of it
    assert shares(Verdict((0, 1), "A", logmass=(-0.25, -1.75, -3.0))) == shares(row)
    split = Verdict((0, 1), "A", p=(0.7, 0.3), logmass=(-0.25, -1.75, -3.0))
    assert shares(split) == {0: 0.7, 1: 0.3}
    assert log_shares(split) == {0: -0.25, 1: -1.75}


def test_a_probability_of_none_decides_without_a_crash_and_has_no_log_odds():
    rows = [Verdict((0, 1), "A", p=(1.0, 0.0)), Verdict((1, 0), "A", p=(0.6, 0.4))]
    assert decide("swap_mean_logit", rows).favoured == {0}
    assert swap(rows, 0) is None
    level = [Verdict((0, 1), "A", p=(1.0, 0.0)), Verdict((1, 0), "A", p=(1.0, 0.0))]
    assert decide("swap_mean_logit", level).favoured == {0, 1}


def test_an_unreadable_verdict_has_no_probabilities_whatever_its_mass():
    row = Verdict((0, 1), None, "low_verdict_mass", logmass=(-5.0, -6.0))
    assert (log_shares(row), shares(row)) == (None, None)
    rows = [row, Verdict((1, 0), "B", logmass=(-2.0, -0.2))]
    assert decide("swap_mean_logit", rows) == (None, "low_verdict_mass")


# --- decisions -------------------------------------------------------------------------------------------------------

POINT = {"A": 1, "B": -1, "tie": 0, None: None}


def by_hand(name, first, second):
    """The credit of candidate 0 under each rule, from its own definition: v = +1, 0, -1 or unread, per order."""
    v1, v2 = POINT[first], None if POINT[second] is None else -POINT[second]
    read = [v for v in (v1, v2) if v is not None]
    if name == "both_correct":
        return float(v1 == v2 == 1)
    if name == "sum_sign":
        return float(sum(read) > 0)
    if len(read) < 2:
        return None
    if name == "majority":
        return {-1: 0.0, 0: 0.5, 1: 1.0}[(sum(read) > 0) - (sum(read) < 0)]
    if name == "tie_on_inconsistency":
        return {1: 1.0, -1: 0.0}.get(v1, 0.5) if v1 == v2 else 0.5
    return {1: 1.0, -1: 0.0}.get(v1) if v1 == v2 else None


@pytest.mark.parametrize("name", ["both_correct", "sum_sign", "majority", "tie_on_inconsistency", "consistent_only"])
def test_each_rule_on_every_pair_of_verdicts(name):
    for first, second in itertools.product(SAID, SAID):
        (row,) = rules.accuracy([judged(games(first, second))], {"verdicts": name, "ties": "half"}).rows
        expected = by_hand(name, first, second)
        assert (None if math.isnan(row.value) else row.value) == expected, (first, second)
        if expected is None:
            unread = None in {first, second}
            assert row.reason == ("unparsed" if unread else "inconsistent")


@given(st.lists(st.tuples(st.sampled_from(BOTH), st.sampled_from(SAID)), min_size=1, max_size=6), st.randoms())
def test_decisions_are_symmetric_and_know_no_order_of_rows(said, random):
    rows = [Verdict(order, one, None if one else "unparsed") for order, one in said]
    for name in ("both_correct", "sum_sign", "majority", "tie_on_inconsistency", "consistent_only"):
        found = decide(name, rows)
        back = decide(name, exchanged(rows))
        assert back.favoured == (None if found.favoured is None else {1 - c for c in found.favoured})
        shuffled = random.sample(rows, len(rows))
        assert decide(name, shuffled).favoured == found.favoured


def test_a_failed_call_is_missing_under_every_rule():
    rows = [Verdict((0, 1), "A"), Verdict((1, 0), None, "api_error")]
    for name in DECISIONS:
        assert decide(name, rows) == (None, "api_error"), name
    for unparsed in ("missing", "wrong", "chance"):
        (row,) = rules.accuracy([judged(rows)], {"unparsed": unparsed}).rows
        assert (math.isnan(row.value), row.reason) == (True, "api_error")


def test_one_order_is_not_two():
    rows = [Verdict((0, 1), "A")]
    for name in ("tie_on_inconsistency", "consistent_only", "both_correct", "swap_mean_prob"):
        assert decide(name, rows) == (None, "one_order")
        with pytest.raises(UsageError, match="needs both"):
            rules.accuracy([judged(rows)], {"verdicts": name})
    assert decide("majority", rows).favoured == decide("sum_sign", rows).favoured == {0}


def test_votes_of_an_order_are_put_together_before_orders_are():
    rows = [Verdict((0, 1), "A", vote=v) for v in range(3)] + [Verdict((1, 0), "A", vote=v) for v in range(2)]
    assert decide("majority", rows).favoured == {0}  # three votes against two
    assert decide("tie_on_inconsistency", rows).favoured == {0, 1}
    assert decide("sum_sign", rows).favoured == NOBODY
    assert rules.accuracy([judged(rows)], {}).rows[0].value == 0.5  # by mean, each order counts once


def test_level_votes_are_a_tie_and_never_the_first_of_a_set():
    # RewardBench takes max(set(votes), key=votes.count): whichever the set happens to list first
    for votes in set(itertools.permutations(["A", "A", "B", "B"])):
        rows = [Verdict((0, 1), one, vote=v) for v, one in enumerate(votes)]
        assert decide("majority", rows).favoured == {0, 1}


# --- more than two ---------------------------------------------------------------------------------------------------


def test_latin_shifts_of_four_share_their_wins():
    shifts = [(0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2)]
    rows = [Verdict(order, said) for order, said in zip(shifts, "ADAB", strict=True)]  # 0, 0, 2, 0
    four = judged(rows, (1.0, 0.0, 0.0, 0.0))
    assert scores_of(four).values == (0.75, 0, 0.25, 0)
    assert decide("majority", rows).favoured == {0}
    assert decide("sum_sign", rows).favoured == {0}
    assert decide("tie_on_inconsistency", rows).favoured == {0, 1, 2, 3}
    always_first = [Verdict(order, "A") for order in shifts]
    assert decide("majority", always_first).favoured == {0, 1, 2, 3}
    (row,) = rules.accuracy(
        [judged(always_first, (1.0, 0.0, 0.0, 0.0))], {"verdicts": "majority", "ties": "fraction"}
    ).rows
    assert row.value == 0.25
    sure = [Verdict(order, "A", p=tuple(0.4 if c == 2 else 0.2 for c in order)) for order in shifts]
    assert decide("swap_mean_prob", sure).favoured == decide("swap_mean_logit", sure).favoured == {2}


def test_pairs_of_four_are_decided_pair_by_pair():
    # candidate 0 beats 1 and 2 in both orders and 3 in one of two
    rows = [Verdict(pair, said) for other, said in ((1, "AB"), (2, "AB"), (3, "AA"))
            for pair, said in zip(((0, other), (other, 0)), said, strict=True)]  # fmt: skip
    four = judged(rows, (1.0, 0.0, 0.0, 0.0))
    assert [len(group) for group in contests(four)] == [2, 2, 2]
    assert win_share(four) == (pytest.approx(5 / 6), 0, 0, 0.5)
    assert win_share(four, verdicts="tie_on_inconsistency") == (pytest.approx(5 / 6), 0, 0, 0.5)
    assert win_share(four, verdicts="both_correct") == (pytest.approx(2 / 3), 0, 0, 0)
    (row,) = rules.accuracy([four], {"verdicts": "both_correct"}).rows
    assert row.value == 1
    (row,) = rules.accuracy([four], {"verdicts": "consistent_only"}).rows
    assert (math.isnan(row.value), row.reason) == (True, "inconsistent")


def test_conflict_pairs_take_the_same_decisions():
    rows = [*games("A", "A"), Verdict((0, 2), "A"), Verdict((2, 0), "B")]
    j = Judgement("x", "s", "", "p", (1.0, 0.0, 0.0), verdicts=tuple(rows), comparisons=((0, 1), (0, 2)))
    earned = {name: best_of_k.conflict_pairs([j], {"verdicts": name, "ties": "half"}).rows[0].value
              for name in ("mean", "both_correct", "tie_on_inconsistency")}  # fmt: skip
    assert earned == {"mean": 0.75, "both_correct": 0.5, "tie_on_inconsistency": 0.75}
    (row,) = best_of_k.conflict_pairs([j], {"verdicts": "consistent_only"}).rows
    assert (math.isnan(row.value), row.reason) == (True, "inconsistent")


# --- strong verdicts, slot prior -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("game_1", "game_2", "rows"),
    [("B>>A", "A>B", [1, 1, 1, 1]), ("A>B", "A>B", [1, 0]), ("A=B", "B>A", [0, 0.5]), ("B>A", "A>>B", [1, 1, 1, 1]),
     ("A>>B", "B>>A", [0] * 6), ("A>B", None, []), (None, None, [])],
)  # fmt: skip
def test_arena_hard_makes_these_rows(game_1, game_2, rows):
    # game 1 shows the baseline (1) first, game 2 the candidate (0)
    shown = [Verdict((1, 0), game_1), Verdict((0, 1), game_2)]
    assert debias.arena_hard_rows(shown, 0) == rows


def test_arena_hard_reads_a_bare_letter_and_one_game_is_none():
    # upstream's regex lets [[A]] through and its table then raises KeyError for the whole report
    assert debias.arena_hard_rows([Verdict((1, 0), "A"), Verdict((0, 1), "A")], 0) == [1, 0]
    assert debias.arena_hard_rows([Verdict((1, 0), "A")], 0) == []


@pytest.mark.parametrize(
    ("said", "margin", "reward"),
    [("A>>B", 500, 1), ("A>B", None, 0.5), ("A>B", 500, 0), ("A>B", 600, 0.5), ("A=B", 500, 0), ("B>A", 500, -0.5),
     ("B>>A", 500, -1), ("tie", None, 0), (None, None, None)],
)  # fmt: skip
def test_wildbench_takes_a_slight_win_by_length_for_a_tie(said, margin, reward):
    assert debias.wildbench_reward(Verdict((0, 1), said), 0, {0: 900, 1: 300}, margin) == reward


def test_a_slight_loss_to_a_longer_output_is_a_tie_as_well():
    assert debias.wildbench_reward(Verdict((1, 0), "A>B"), 0, {0: 300, 1: 900}, 500) == 0


def test_the_slot_prior_comes_from_prompts_that_are_named():
    swaps = {f"p{i}": [Swap(0.1, 2.0 if i % 2 else 1.0)] for i in range(80)}
    prior, held_out = debias.slot_prior(swaps)
    assert len(held_out) == 50
    assert prior == pytest.approx(sum(swaps[p][0].beta for p in held_out) / 50)
    assert debias.slot_prior(dict(reversed(swaps.items()))) == (prior, held_out)


def test_plurality_is_a_count():
    for said in itertools.product([frozenset({0}), frozenset({1}), frozenset({2}), None], repeat=4):
        counts = Counter(min(one) for one in said if one is not None)
        most = max(counts.values(), default=0)
        expected = {c for c, n in counts.items() if n == most} if counts else None
        assert debias.plurality(said) == expected
