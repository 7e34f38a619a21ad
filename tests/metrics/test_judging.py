"""Figures of a judge: which there are, what they are over, and that biased judges are caught and fair ones are not."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, replace

import numpy as np
import pytest

from rmeval import stats
from rmeval.likelihood import NotIdentifiable, logistic
from rmeval.metrics import judge_calls, length_control
from rmeval.metrics.evaluate import evaluate
from rmeval.metrics.judging import judging
from rmeval.metrics.plan import MetricPlan, RuleSpec, Section
from rmeval.types import NAN, Judgement, Verdict

BOTH = ((0, 1), (1, 0))


def pair(i, *said, cluster=None, **more):
    """A pair judged in both orders, or in the first only."""
    rows = tuple(
        Verdict(order, one, None if one else "unparsed") for order, one in zip(BOTH[: len(said)], said, strict=True)
    )
    return Judgement(f"p{i:04}", "s", "", cluster or f"c{i:04}", (1.0, 0.0), verdicts=rows, **more)


def named(judgements):
    found = judging(judgements)
    assert len({m.name for m in found}) == len(found)
    for m in found:
        assert m.name.startswith("judge:")
        assert m.note
        json.dumps(asdict(m), allow_nan=False)
        if m.value is None:
            assert m.note.startswith("undefined: ")
        elif m.ci:
            assert m.ci[0] <= m.value <= m.ci[1]
    return {m.name: m for m in found}


# --- which figures ---------------------------------------------------------------------------------------------------

CALLS = ["parse_failure", "refusal", "truncation", "low_verdict_mass", "api_failure", "failed", "failed_when_right_first",
         "failed_when_wrong_first"]  # fmt: skip
SLOTS = ["slot_a", "consistency", "first_slot", "second_slot", "net_bias", "net_bias_p", "order_kappa"]
ORDERS = [
    "order_1",
    "order_2",
    "both_correct",
    "sum_sign",
    "win_rate",
    "adjusted_win_rate",
    "consistent_only",
    "coverage",
]


def test_the_names_are_a_contract():
    rows = [pair(i, "A", "B" if i % 3 else "A") for i in range(30)]
    assert [n.removeprefix("judge:") for n in named(rows)] == [*CALLS, *SLOTS, "average", "expected", *ORDERS]
    once = [pair(2 * i, "A") for i in range(30)] + [
        replace(pair(2 * i + 1, "A"), verdicts=(Verdict((1, 0), "B"),)) for i in range(30)
    ]
    assert [n.removeprefix("judge:") for n in named(once)] == [*CALLS, "slot_a", "average", "expected"]
    assert judging([Judgement("x", "s", "", "c", (1.0, 0.0), scores=(1.0, 0.0))]) == []
    missing = Judgement("x", "s", "", "c", (1.0, 0.0), scores=(NAN, NAN), reasons=("not_recorded",) * 2)
    assert judging([missing]) == []


def test_a_reward_model_beside_its_own_probabilities_is_no_judge():
    both = Judgement("x", "s", "", "c", (1.0, 0.0), scores=(1.0, 0.0), verdicts=(Verdict((0, 1), "A"),))
    assert judging([both]) == []


# --- slots -----------------------------------------------------------------------------------------------------------


def test_one_order_is_judged_by_how_often_the_first_slot_wins():
    def shown(i, slot):
        order = (i % 2, 1 - i % 2)
        return replace(pair(i), verdicts=(Verdict(order, slot),))

    biased = named([shown(i, "A" if i % 10 else "B") for i in range(100)])["judge:slot_a"]
    assert biased.value == 0.9
    assert "POSITION BIAS towards the first slot" in biased.note
    fair = named([shown(i, "AB"[i % 2]) for i in range(100)])["judge:slot_a"]
    assert "no position bias" in fair.note


def test_pairs_of_one_prompt_are_one_witness_against_a_judge():
    rows = [pair(i, "A", "A", cluster=f"c{i % 5}") for i in range(100)]
    found = named(rows)
    assert found["judge:net_bias"].value == 1
    assert found["judge:net_bias_p"].value == pytest.approx(2 * 0.5**5)
    assert found["judge:net_bias_p"].n == 5
    assert "no position bias at the 1% level" in found["judge:net_bias"].note


@pytest.mark.fault("F43")
def test_fair_judges_are_flagged_one_time_in_a_hundred():
    flagged = 0
    for seed in range(60):
        rng = random.Random(seed)
        rows = [pair(i, rng.choice("AB"), rng.choice("AB")) for i in range(60)]
        flagged += "POSITION BIAS" in named(rows)["judge:net_bias"].note
    assert flagged <= 3  # P(> 3 of 60 at 1 %) = 0.003
    rng = random.Random(0)
    leaning = [pair(i, *rng.choices("AB", weights=(4, 1), k=2)) for i in range(60)]
    assert "POSITION BIAS" in named(leaning)["judge:net_bias"].note


def test_the_p_of_a_slot_is_the_exact_binomial():
    for first in range(13):
        found = named([pair(i, *("AA" if i < first else "BB")) for i in range(12)])
        assert found["judge:net_bias_p"].value == pytest.approx(stats.mcnemar(first, 12 - first))


def test_ties_in_both_orders_are_consistent_and_no_side_of_a_bias():
    found = named([pair(i, "tie", "tie") for i in range(10)] + [pair(i, "A", "tie") for i in range(10, 20)])
    assert found["judge:consistency"].value == 0.5
    assert found["judge:first_slot"].value == found["judge:net_bias"].value == 0
    assert found["judge:slot_a"].n == 10


def test_the_interval_of_order_kappa_holds_it_and_narrows_with_prompts():
    def kappa(n):
        rng = random.Random(7)
        return named([pair(i, rng.choice("AAB"), rng.choice("ABB")) for i in range(n)])["judge:order_kappa"]

    few, many = kappa(60), kappa(600)
    assert few.ci[1] - few.ci[0] > 2 * (many.ci[1] - many.ci[0])
    assert kappa(9).ci is None


# --- several candidates, votes ---------------------------------------------------------------------------------------


def test_pairs_of_an_example_count_one_by_one_and_swapped_copies_do_not():
    # flexeval counted the swapped copy of a pair as an example of its own
    rows = []
    for i in range(12):
        games = tuple(Verdict(order, "A" if order[0] == 0 else "B") for c in (1, 2, 3) for order in ((0, c), (c, 0)))
        rows.append(Judgement(f"x{i}", "s", "", f"x{i}", (1.0, 0.0, 0.0, 0.0), verdicts=games))
    found = named(rows)
    assert found["judge:both_correct"].value == 1
    assert found["judge:both_correct"].n == 36
    assert found["judge:failed"].n == 72
    plan = MetricPlan("accuracy", "rows", (Section("accuracy", (), RuleSpec("accuracy", {})),))
    assert evaluate(rows, plan)[0].n == 12


def test_all_at_once_has_rates_by_slot_and_consistency():
    shifts = [(0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2)]
    rows = [
        Judgement(f"x{i}", "s", "", f"x{i}", (1.0, 0.0, 0.0, 0.0),
                  verdicts=tuple(Verdict(order, "A" if i % 2 else "ABCD"[order.index(0)]) for order in shifts))
        for i in range(20)
    ]  # fmt: skip
    found = named(rows)
    assert found["judge:slot_a"].value == pytest.approx((1 + 0.25) / 2)
    assert "0.25 by chance" in found["judge:slot_a"].note
    assert found["judge:consistency"].value == 0.5
    assert found["judge:both_correct"].value == 0.5
    assert found["judge:average"].value == pytest.approx((1 + 0.25) / 2)
    assert not {"judge:net_bias", "judge:first_slot"} & set(found)


def test_votes_are_stable_or_not():
    def voted(i, first, second):
        rows = [Verdict(order, one, vote=v) for order, votes in zip(BOTH, (first, second), strict=True)
                for v, one in enumerate(votes)]  # fmt: skip
        return replace(pair(i), verdicts=tuple(rows))

    found = named([voted(0, "AAA", "BBA"), voted(1, "ABA", "BBB")])
    assert found["judge:unanimous"].value == 0.5
    assert found["judge:vote_share"].value == pytest.approx((1 + 2 / 3) / 2)
    assert found["judge:vote_accuracy"].value == pytest.approx(5 / 6)
    assert found["judge:majority"].value == 1


def test_failures_are_told_apart_and_by_label():
    reasons = ["unparsed", "empty", "refused", "truncated", "low_verdict_mass", "api_error", "timeout"]
    rows = [
        replace(pair(i), verdicts=(Verdict((0, 1), None, why), Verdict((1, 0), "B"))) for i, why in enumerate(reasons)
    ]
    found = named(rows)
    n = 2 * len(reasons)
    expected = {"parse_failure": 2, "refusal": 1, "truncation": 1, "low_verdict_mass": 1, "api_failure": 2, "failed": 4}
    assert {name: round(found[f"judge:{name}"].value * n) for name in expected} == expected
    assert "1 api_error; 1 timeout" in found["judge:api_failure"].note
    assert found["judge:failed_when_right_first"].value == pytest.approx(4 / 7)
    assert found["judge:failed_when_wrong_first"].value == 0
    assert judge_calls.unread_share(rows) == pytest.approx(4 / 14)


@pytest.mark.fault("F40")
def test_texts_that_look_like_a_verdict_are_counted():
    plain = [pair(i, "A", "B") for i in range(9)]
    assert "judge:marked" not in named(plain)
    planted = replace(pair(9, "A"), verdicts=(Verdict((0, 1), "A", marked=True), Verdict((1, 0), "B")))
    assert named([*plain, planted])["judge:marked"].value == 0.05


# --- ratings ---------------------------------------------------------------------------------------------------------


def rated(i, *votes, grades=(1.0, 0.0), reasons=()):
    ratings = tuple(tuple(map(float, one)) for one in votes)
    return Judgement(f"r{i}", "s", "", f"r{i}", grades, ratings=ratings, reasons=reasons)


def test_a_judge_that_rates():
    rows = [
        rated(0, [7, 8], [7, 3]),
        rated(1, [5, 5], [5, 5]),
        rated(2, [2, 9], [8, 3]),
        rated(3, [NAN, 6], [1, 2], reasons=("unparsed", None)),
    ]
    found = named(rows)
    assert found["judge:rating_ties"].value == pytest.approx((0 + 1 + 1 + 0) / 4)
    assert found["judge:parse_failure"].value == pytest.approx(1 / 16)
    assert found["judge:failed_when_right_first"].value == pytest.approx(1 / 8)
    assert found["judge:vote_accuracy"].value == pytest.approx((0.75 + 0.5 + 0.5 + 1) / 4)
    assert found["judge:majority"].value == pytest.approx((1 + 0.5 + 0.5 + 1) / 4)
    # 15 against 10, 10 against 10, 11 against 11; the fourth has an unread vote, and a sum over fewer is no sum
    assert found["judge:vote_sum"].value == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert found["judge:vote_sum"].n_missing == 1
    assert not {"judge:slot_a", "judge:average"} & set(found)


def test_a_judge_that_rates_nothing_is_a_failure_and_not_silent():
    rows = [
        Judgement(f"r{i}", "s", "", f"r{i}", (1.0, 0.0), scores=(NAN, NAN), reasons=("unparsed",) * 2) for i in range(5)
    ]
    assert named(rows)["judge:failed"].value == 1
    assert judge_calls.unread_share(rows) == 1


def test_two_ratings_that_could_not_be_read_are_no_draw():
    # JudgeLM scores both -1, which is level, which is a draw
    lost = rated(0, [NAN], [NAN], reasons=("unparsed", "unparsed"))
    found = named([lost, rated(1, [5], [5]), rated(2, [7], [5])])
    assert found["judge:rating_ties"].value == 0.5
    assert found["judge:rating_ties"].n_missing == 1
    assert found["judge:parse_failure"].value == pytest.approx(2 / 6)


# --- length, writers, prior ------------------------------------------------------------------------------------------


def test_each_resample_of_the_length_fit_is_the_fit_of_its_rows():
    rng = np.random.default_rng(3)
    t, y = np.tanh(rng.normal(size=60)), rng.integers(0, 2, 60).astype(float)
    weights = rng.integers(0, 4, size=(5, 60)).astype(float)
    found = length_control._newton(t, y, weights, np.zeros(2))
    x = np.column_stack([np.ones(60), t])
    expected = [logistic(x, y, range(60), w).coefficients[0] for w in weights]
    assert found == pytest.approx(expected, abs=1e-8)


def test_the_interval_at_equal_length_is_that_of_the_closed_form():
    longer = np.repeat([1.0, -1.0], 400)  # the golden pairs ten times: the standard error of theta is .244949 / sqrt 10
    preferred = np.repeat([1.0, 0.0, 1.0, 0.0], [300, 100, 150, 250])
    found = length_control.length_controlled(preferred, longer, range(800))
    low, high = (math.log(end / (1 - end)) for end in found.ci)
    assert (high - low) / (2 * stats.normal_quantile(0.975)) == pytest.approx(0.244949 / math.sqrt(10), rel=0.1)
    assert found.theta == pytest.approx(0.293893, abs=1e-6)
    assert not found.is_far
    assert found.raw == 450 / 800


def test_the_length_fit_says_where_it_cannot_be_made():
    longer = np.repeat([1.0, -1.0], 20)
    with pytest.raises(NotIdentifiable, match="separate"):
        length_control.length_controlled((longer > 0).astype(float), longer, range(40))
    with pytest.raises(NotIdentifiable, match="differ by the same"):
        length_control.length_controlled(np.ones(40), np.ones(40), range(40))
    with pytest.raises(NotIdentifiable, match="prompts"):
        length_control.length_controlled(np.ones(40), longer, [0] * 40)


def test_a_judge_that_prefers_what_it_wrote_is_seen():
    rows = []
    for i in range(80):
        models = ("mine", "other") if i % 2 else ("other", "mine")  # the right candidate is the first
        wrong = (
            i % 2 == 0 and i % 8 < 4
        ) or i % 16 == 1  # errs in 1 of 2 when the other is right, in 1 of 8 when it is
        rows.append(pair(i, "B" if wrong else "A", "A" if wrong else "B", models=models))
    found = named(rows)
    assert found["judge:favours:mine"].value == pytest.approx(0.5 - 0.125)
    assert found["judge:favours:other"].value == pytest.approx(0.125 - 0.5)
    assert found["judge:favours:mine"].ci[0] > 0
    assert not any("favours" in name for name in named([replace(j, models=()) for j in rows]))
    assert not any("favours" in name for name in named(rows[:10]))


def test_the_slot_prior_is_taken_off_prompts_that_it_did_not_come_from():
    def logs(i, delta, beta=2.0):
        p = [1 / (1 + math.exp(-(sign * delta + beta))) for sign in (1, -1)]
        rows = tuple(Verdict(order, "A" if x > 0.5 else "B", p=(x, 1 - x)) for order, x in zip(BOTH, p, strict=True))
        return replace(pair(i), verdicts=rows)

    rows = [logs(i, 1.0 if i % 4 else -1.0) for i in range(120)]
    found = named(rows)
    # a bias of 2 drowns a quality of 1 in every single verdict
    assert found["judge:average"].value == 0.5
    assert found["judge:slot_a"].value == 1
    assert found["judge:beta"].value == pytest.approx(2)
    assert found["judge:swap_mean_logit"].value == 0.75
    held_out = found["judge:slot_prior"]
    assert held_out.n == 70
    assert "50 prompts that are left out" in held_out.note
    assert held_out.value == pytest.approx(0.75, abs=0.1)
    few = named(rows[:40])["judge:slot_prior"]
    assert few.value is None
    assert "held out" in few.note


def test_bounds_of_tokens_that_were_not_listed_are_confessed():
    rows = [
        replace(pair(i), verdicts=tuple(Verdict(o, "A", logmass=(-0.1, -3.0), bounded=True) for o in BOTH))
        for i in range(12)
    ]
    assert "24 verdicts hold a bound" in named(rows)["judge:win_probability"].note


def test_a_suite_that_lacks_a_subset_is_undefined_for_a_judge_as_well():
    rows = [pair(i, "A", "B") for i in range(12)]
    section = Section("all", ("s", "absent"), RuleSpec("accuracy", {}))
    plan = MetricPlan("accuracy", "sections", (section,), expected={"s": 12, "absent": 5})
    head = evaluate(rows, plan)[0]
    assert head.value is None
    assert "absent" in head.note
