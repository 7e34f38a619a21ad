"""Every rule against a plain transcription of its official definition, on enumerations and small random cases."""

from __future__ import annotations

import itertools
import math
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmeval.errors import UsageError
from rmeval.metrics import rules
from rmeval.types import NAN, Judgement, Verdict

QUICK = settings(derandomize=True, max_examples=80, deadline=None, database=None)

few_scores = st.integers(-1, 2).map(float)


def judged(scores=(), grades=None, name="x", **more):
    grades = grades or (1.0, *[0.0] * (len(scores) - 1))
    return Judgement(name, "s", "", f"prompt of {name}", tuple(grades), scores=tuple(scores), **more)


def verdicts(*rows, grades=(1.0, 0.0), **more):
    """Each row is a vote of its own."""
    said = tuple(Verdict(order, one, vote=vote) for vote, (order, one) in enumerate(rows))
    return judged(grades=grades, verdicts=said, **more)


def credit(rule, judgement, component="accuracy", **options):
    (row,) = (r for r in rule([judgement], options).rows if r.component == component)
    return row.value


def reason(rule, judgement, **options):
    return {r.reason for r in rule([judgement], options).rows}


# --- accuracy ---


@pytest.mark.parametrize("scores", [*itertools.product([0.0, 1.0, 2.0], repeat=2)])
def test_accuracy_of_a_pair_is_the_strict_comparison(scores):
    chosen, rejected = scores
    assert credit(rules.accuracy, judged(scores)) == float(chosen > rejected)
    assert credit(rules.accuracy, judged(scores), ties="win") == float(chosen >= rejected)
    half = 0.5 if chosen == rejected else float(chosen > rejected)
    assert credit(rules.accuracy, judged(scores), ties="half") == half
    assert credit(rules.accuracy, judged(scores), ties="fraction") == half


@pytest.mark.parametrize("scores", [*itertools.product([0.0, 1.0, 2.0], repeat=4)])
def test_accuracy_of_best_of_4_is_reward_bench_2s_fraction(scores):
    official = 1 / scores.count(max(scores)) if scores[0] == max(scores) else 0
    assert credit(rules.accuracy, judged(scores), ties="fraction") == official
    assert credit(rules.accuracy, judged(scores)) == float(scores[0] > max(scores[1:]))  # RMB, RewardMATH
    assert credit(rules.accuracy, judged(scores), ties="win") == float(scores[0] >= max(scores[1:]))


@QUICK
@given(st.lists(st.tuples(few_scores, st.integers(0, 1)), min_size=2, max_size=5))
def test_accuracy_with_several_right_ones_is_the_expectation_over_tied_picks(rows):
    scores, grades = zip(*rows, strict=True)
    j = judged(scores, grades)
    right = [g == max(grades) for g in grades]
    if all(right):
        assert rules.accuracy([j], {}).rows == ()
        return
    picks = [right[i] for i, s in enumerate(scores) if s == max(scores)]
    assert credit(rules.accuracy, j, ties="fraction") == fmean(picks)
    assert credit(rules.accuracy, j, ties="lose") == min(picks)
    assert credit(rules.accuracy, j, ties="win") == max(picks)
    assert credit(rules.accuracy, j, ties="half") == (min(picks) + max(picks)) / 2


@QUICK
@given(st.lists(few_scores, min_size=2, max_size=5), st.floats(0.1, 10), st.floats(-5, 5))
def test_b13_shift_and_scale_leave_accuracy_unchanged(scores, scale, shift):
    moved = [round(scale * s + shift, 12) for s in scores]
    for ties in rules.TIES:
        assert credit(rules.accuracy, judged(scores), ties=ties) == credit(rules.accuracy, judged(moved), ties=ties)


@QUICK
@given(st.permutations(range(4)), st.lists(few_scores, min_size=4, max_size=4))
def test_candidate_order_never_matters(order, scores):
    grades = (1.0, 0.0, 0.0, 0.0)
    shuffled = judged([scores[i] for i in order], [grades[i] for i in order])
    for ties in rules.TIES:
        assert credit(rules.accuracy, shuffled, ties=ties) == credit(rules.accuracy, judged(scores), ties=ties)
    assert credit(rules.reciprocal_rank, shuffled, "reciprocal_rank") == credit(
        rules.reciprocal_rank, judged(scores), "reciprocal_rank"
    )


@pytest.mark.parametrize("k", [2, 4, 10])
def test_a_constant_scorer_never_profits_from_chosen_standing_first(k):
    constant = judged([7.0] * k)
    assert credit(rules.accuracy, constant) == 0
    assert credit(rules.accuracy, constant, ties="fraction") == 1 / k
    assert credit(rules.reciprocal_rank, constant, "reciprocal_rank") == 1 / k


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("ties", rules.TIES)
def test_a_missing_score_of_any_candidate_makes_the_example_missing(where, ties):
    scores = [2.0, 1.0, 0.0]
    scores[where] = NAN
    reasons = [None] * 3
    reasons[where] = "truncated"
    j = judged(scores, reasons=tuple(reasons))
    for rule in (rules.accuracy, rules.reciprocal_rank):
        options = {"ties": ties} if rule is rules.accuracy else {}
        (row,) = rule([j], options).rows
        assert math.isnan(row.value)
        assert row.reason == "truncated"


def test_missing_without_a_recorded_reason_still_has_one():
    assert reason(rules.accuracy, judged([1.0, math.inf])) == {"non_finite"}
    assert reason(rules.accuracy, judged([1.0, NAN])) == {"non_finite"}
    assert reason(rules.accuracy, judged(grades=(1.0, 0.0))) == {"not_recorded"}


def test_examples_without_contrast_carry_no_credit_and_are_counted():
    got = rules.accuracy([judged([1.0, 0.0]), judged([1.0, 0.0], (1.0, 1.0), name="y")], {})
    assert [r.key for r in got.rows] == ["x"]
    assert "1 example whose candidates all have the same grade" in got.note


def test_tied_examples_are_named():
    got = rules.accuracy(
        [judged([1.0, 1.0], name="tie"), judged([1.0, 0.0], name="no"), judged([2.0, 1.0, 1.0], name="below")], {}
    )
    assert got.ties == {"tie"}


def test_accuracy_of_verdicts_is_the_mean_over_votes_and_orders():
    assert credit(rules.accuracy, verdicts(((0, 1), "A"), ((1, 0), "B"))) == 1
    assert credit(rules.accuracy, verdicts(((0, 1), "A"), ((1, 0), "A"))) == 0.5  # always the first shown
    tie = verdicts(((0, 1), "A>B"), ((1, 0), "tie"))
    assert [credit(rules.accuracy, tie, ties=t) for t in rules.TIES] == [0.5, 0.75, 0.75, 1.0]
    # three votes in one order, one in the other: the orders weigh the same
    uneven = verdicts(((0, 1), "A"), ((0, 1), "A"), ((0, 1), "A"), ((1, 0), "A"))
    assert credit(rules.accuracy, uneven) == 0.5


def test_accuracy_of_a_listwise_verdict():
    four = (0.0, 0.0, 1.0, 0.0)
    assert credit(rules.accuracy, verdicts(((3, 2, 1, 0), "B"), grades=four)) == 1
    assert credit(rules.accuracy, verdicts(((3, 2, 1, 0), "C"), grades=four)) == 0


def test_an_order_without_a_readable_verdict_is_missing_unless_the_option_says_wrong():
    j = verdicts(((0, 1), "A"), ((1, 0), None))
    assert reason(rules.accuracy, j) == {"unparsed"}
    assert math.isnan(credit(rules.accuracy, j))
    assert credit(rules.accuracy, j, unparsed="wrong") == 0.5
    refused = judged(grades=(1.0, 0.0), verdicts=(Verdict((0, 1), None, "refused"),))
    assert reason(rules.accuracy, refused) == {"refused"}
    # one readable vote of an order stands for it
    assert credit(rules.accuracy, verdicts(((0, 1), "A"), ((0, 1), None))) == 1


def test_pairwise_verdicts_on_more_candidates_become_win_shares():
    three = (1.0, 0.0, 0.0)
    beats_all = verdicts(((0, 1), "A"), ((2, 0), "B"), grades=three)
    assert credit(rules.accuracy, beats_all) == 1
    assert "share of comparisons won" in rules.accuracy([beats_all], {}).note
    beats_one = verdicts(((0, 1), "A"), ((2, 0), "A"), grades=three)
    assert credit(rules.accuracy, beats_one) == 0
    assert credit(rules.reciprocal_rank, beats_one, "reciprocal_rank") == 1 / 2


# --- style matrix ---


@QUICK
@given(st.lists(few_scores, min_size=6, max_size=6), st.sampled_from(["lose", "half", "win"]))
def test_style_matrix_is_rm_benchs_matrix(scores, ties):
    chosen, rejected = scores[:3], scores[3:]
    tied = {"lose": 0.0, "half": 0.5, "win": 1.0}[ties]
    m = [[tied if c == r else float(c > r) for r in rejected] for c in chosen]
    got = {r.component: r.value for r in rules.style_matrix([judged(scores, (1, 1, 1, 0, 0, 0))], {"ties": ties}).rows}
    assert got["hard"] == pytest.approx((m[0][1] + m[0][2] + m[1][2]) / 3)
    assert got["normal"] == pytest.approx((m[0][0] + m[1][1] + m[2][2]) / 3)
    assert got["easy"] == pytest.approx((m[1][0] + m[2][0] + m[2][1]) / 3)
    assert got["accuracy"] == pytest.approx(sum(map(sum, m)) / 9)
    assert got["accuracy"] == pytest.approx((got["hard"] + got["normal"] + got["easy"]) / 3)
    assert got["chosen_concise>rejected_markdown"] == m[0][2]
    assert got["chosen_markdown>rejected_detailed"] == m[2][1]
    assert len(got) == 13


def test_style_matrix_reads_styles_within_right_and_wrong_whatever_their_places():
    mixed = judged([1.0, 5.0, 9.0, 0.0], (0.0, 1.0, 0.0, 1.0))
    got = {r.component: r.value for r in rules.style_matrix([mixed], {"styles": ["plain", "rich"]}).rows}
    # right: 5 (plain), 0 (rich); wrong: 1 (plain), 9 (rich)
    assert (got["hard"], got["normal"], got["easy"]) == (0.0, 0.5, 0.0)
    assert got["chosen_plain>rejected_plain"] == 1.0


def test_style_matrix_missing_score_and_wrong_shape():
    got = rules.style_matrix([judged([1, 1, NAN, 0, 0, 0.0], (1, 1, 1, 0, 0, 0))], {}).rows
    assert all(math.isnan(r.value) and r.reason == "non_finite" for r in got)
    with pytest.raises(UsageError, match="example 'x'.*3 right and 3 wrong.*has 1 and 1"):
        rules.style_matrix([judged([1.0, 0.0])], {})


# --- reciprocal rank ---


@QUICK
@given(st.lists(few_scores, min_size=2, max_size=6))
def test_reciprocal_rank_is_reward_maths_sort(scores):
    tagged = sorted([(scores[0], "cho"), *((s, "rej") for s in scores[1:])], reverse=True)
    official = 1 / (1 + [tag for _, tag in tagged].index("cho"))
    assert credit(rules.reciprocal_rank, judged(scores), "reciprocal_rank") == official


# --- both orders ---

VERDICTS = ["A", "B", None]


@pytest.mark.parametrize(("label", "first", "second"), [*itertools.product([0, 1], VERDICTS, VERDICTS)])
def test_both_orders_is_llmbars_count(label, first, second):
    grades = (1.0, 0.0) if label == 0 else (0.0, 1.0)
    winners = (
        {"A": 0, "B": 1, None: None}[first],
        {"A": 1, "B": 0, None: None}[second],
    )
    rows = rules.both_orders([verdicts(((0, 1), first), ((1, 0), second), grades=grades)], {}).rows
    got = {r.component: r.value for r in rows}
    right = [w == label for w in winners]
    assert got == {
        "accuracy": sum(right) / 2,
        "order_1": right[0],
        "order_2": right[1],
        "correct_both": all(right),
        "agreement": winners[0] == winners[1],
    }


@pytest.mark.parametrize("label", [0, 1])
def test_both_orders_equal_scores_are_half_whatever_the_label(label):
    grades = (1.0, 0.0) if label == 0 else (0.0, 1.0)
    got = {r.component: r.value for r in rules.both_orders([judged([3.0, 3.0], grades)], {}).rows}
    assert (got["accuracy"], got["correct_both"], got["agreement"]) == (0.5, 0.0, 0.0)
    assert got["order_1"] + got["order_2"] == 1
    assert rules.both_orders([judged([3.0, 3.0], grades)], {}).ties == {"x"}


def test_a_retry_replaces_and_a_vote_counts_beside_others():
    again = (Verdict((0, 1), "B"), Verdict((1, 0), "B"), Verdict((0, 1), "A"))
    for rule in (rules.both_orders, rules.judgebench, rules.accuracy):
        assert credit(rule, judged(grades=(1.0, 0.0), verdicts=again)) == 1
    votes = verdicts(((0, 1), "B"), ((1, 0), "B"), ((0, 1), "A"), ((0, 1), "B"))
    assert credit(rules.both_orders, votes, "order_1") == 0
    assert credit(rules.both_orders, votes) == 0.5
    assert credit(rules.judgebench, votes) == 0


def test_both_orders_need_both_and_a_failed_call_is_missing():
    assert reason(rules.both_orders, verdicts(((0, 1), "A"))) == {"not_recorded"}
    failed = judged(grades=(1.0, 0.0), verdicts=(Verdict((0, 1), "A"), Verdict((1, 0), None, "timeout")))
    assert reason(rules.both_orders, failed) == {"timeout"}
    assert reason(rules.judgebench, failed) == {"timeout"}
    assert reason(rules.both_orders, judged([1.0, NAN])) == {"non_finite"}
    with pytest.raises(UsageError, match="two candidates"):
        rules.both_orders([judged([1.0, 0.0, 0.0])], {})


@pytest.mark.parametrize("rule", [rules.both_orders, rules.judgebench])
def test_pairs_judged_in_one_order_are_counted_and_told_what_would_help(rule):
    one, both = verdicts(((0, 1), "A")), verdicts(((0, 1), "A"), ((1, 0), "B"))
    said = "pairs were judged in one order only, and this rule needs both: -a judge.orders=both"
    assert rule([one, one, both], {}).note.endswith(f"; 2 {said}")
    assert "in one order" not in rule([both], {}).note
    assert "in one order" not in rules.judgebench([one], {"single_game": True}).note


# --- JudgeBench ---


@pytest.mark.parametrize(
    ("label", "d1", "shown"),
    [*itertools.product(["A>B", "B>A"], ["A>B", "B>A", "A=B", None], ["A>B", "B>A", "A=B", None])],
)
def test_judgebench_is_the_official_vote(label, d1, shown):
    flip = {"A>B": "B>A", "B>A": "A>B"}
    d2 = flip.get(shown, shown)  # tie and None pass through
    counter = sum(1 if d == label else -1 if d == flip[label] else 0 for d in (d1, d2))
    grades = (1.0, 0.0) if label == "A>B" else (0.0, 1.0)
    j = verdicts(((0, 1), d1), ((1, 0), shown), grades=grades)
    assert credit(rules.judgebench, j) == float(counter > 0)
    assert credit(rules.judgebench, j, single_game=True) == float(d1 == label)


@pytest.mark.parametrize(
    ("scores", "right_is_a"), [*itertools.product([(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)], [True, False])]
)
def test_judgebench_scalars_say_b_unless_a_is_strictly_better(scores, right_is_a):
    said = "A" if scores[0] > scores[1] else "B"
    j = judged(scores, (1.0, 0.0) if right_is_a else (0.0, 1.0))
    assert credit(rules.judgebench, j) == float((said == "A") == right_is_a)
    # two games cancel on a tie
    strict = scores[0] != scores[1] and (scores[0] > scores[1]) == right_is_a
    assert credit(rules.judgebench, j, single_game=False) == float(strict)
    assert "single game" in rules.judgebench([j], {}).note


def test_judgebench_a_game_not_played_is_missing():
    assert reason(rules.judgebench, verdicts(((0, 1), "A"))) == {"not_recorded"}
    assert credit(rules.judgebench, verdicts(((0, 1), "A")), single_game=True) == 1
    got = rules.judgebench([verdicts(((0, 1), "A"), ((1, 0), "B")), judged(grades=(1.0, 0.0), name="y")], {})
    assert [r.reason for r in got.rows] == [None, "not_recorded"]
    assert "single" not in got.note


# --- messages ---


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        (rules.accuracy, {"tie": "lose"}, "'accuracy' has no option 'tie'. Did you mean 'ties'?"),
        (rules.accuracy, {"ties": "loose"}, "'loose' is none of lose, half, fraction, win. Did you mean 'lose'?"),
        (rules.accuracy, {"ties": ["lose"]}, "is none of"),
        (rules.accuracy, {"aggregate": "product"}, "'product' is none of prod, .*Did you mean 'prod'"),
        (rules.style_matrix, {"styles": "concise"}, "is not a list of at least two style names"),
        (rules.both_orders, {"ties": "half"}, "It takes: aggregate"),
        (rules.judgebench, {"single_game": "yes"}, "is not true, false or null"),
    ],
)
def test_unknown_and_ill_typed_options_name_the_near_miss(rule, options, message):
    with pytest.raises(UsageError, match=message):
        rule([], options)


def test_rows_that_do_not_fit_are_named():
    with pytest.raises(UsageError, match="example 'x': 3 scores for 2 candidates"):
        rules.accuracy([judged([1.0, 2.0, 3.0], (1.0, 0.0))], {})
    with pytest.raises(UsageError, match="example 'x'.*verdict 'C' does not name one of the 2 candidates"):
        rules.accuracy([verdicts(((0, 1), "C"))], {})
    with pytest.raises(UsageError, match=r"verdict order \[0, 5\] is not a choice of its 3 candidates"):
        rules.accuracy([verdicts(((0, 5), "A"), grades=(1.0, 0.0, 0.0))], {})
    with pytest.raises(UsageError, match="has no grades"):
        rules.accuracy([Judgement("x", "s", "", "p", ())], {})
