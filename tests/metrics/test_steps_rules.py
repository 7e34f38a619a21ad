"""The rules of step suites against definitions written out again, brute force and hand computations."""

from __future__ import annotations

import math
import random
import time
from itertools import combinations, pairwise
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmeval import stats
from rmeval.errors import UsageError
from rmeval.metrics.evaluate import evaluate, headline_items
from rmeval.metrics.mr_score import MRScore, mr_parts, mr_score
from rmeval.metrics.plan import MetricPlan, RuleSpec, Section
from rmeval.metrics.pools import best_of_n, expected_best, outcome_auroc
from rmeval.metrics.prmbench import COUNTS, PooledF1, prm_score, prm_steps
from rmeval.metrics.steps import first_error, first_error_parts, right_answer_wrong_process
from rmeval.metrics.thresholds import best_threshold, first_error_thresholds
from rmeval.types import NAN, Judgement

QUICK = settings(derandomize=True, max_examples=60, deadline=None, database=None)


def judged(grades, scores, name="x", *, right=None, subset="s", reasons=()):
    outcome = (float(0 not in grades) if right is None else float(right),)
    return Judgement(
        name, subset, "", f"p {name}", outcome, step_grades=(tuple(grades),), step_scores=(tuple(scores),),
        reasons=reasons,
    )  # fmt: skip


def up_to(label, count):
    return [1] * count if label is None else [1] * label + [0] + [-1] * (count - label - 1)


def plan(rule, **options):
    return MetricPlan("headline", "rows", (Section("headline", (), RuleSpec(rule, options)),))


def value(judgements, rule, **options):
    return evaluate(judgements, plan(rule, **options), replicates=50)[0].value


# --- thresholds ------------------------------------------------------------------------------------------------------


def f1_at(threshold, rows):
    hits = {True: [], False: []}
    for scores, label in rows:
        predicted = next((i for i, s in enumerate(scores) if s < threshold), None)
        hits[label is None].append(predicted == label)
    error, right = fmean(hits[False]), fmean(hits[True])
    return 2 * error * right / (error + right) if error + right else 0.0


def drawn_rows(draw, n, steps=6, levels=None):
    rows = []
    for i in range(n):
        count = draw.randint(1, steps)
        scores = [draw.choice(levels) if levels else draw.gauss(0, 1) for _ in range(count)]
        label = None if i == 0 else 0 if i == 1 else draw.choice([None, *range(count)])
        rows.append((scores, label))
    return rows


@pytest.mark.parametrize("seed", range(200))
def test_the_threshold_search_finds_what_a_grid_over_every_cut_finds(seed):
    draw = random.Random(seed)
    levels = [0.0, 0.25, 0.5, 0.75, 1.0] if seed % 2 else None
    rows = drawn_rows(draw, draw.randint(2, 12), levels=levels)
    ends = sorted({s for scores, _ in rows for s in scores})
    grid = [ends[0] - 1, *((a + b) / 2 for a, b in pairwise(ends)), ends[-1] + 1, *ends]
    found = best_threshold(rows)
    assert found.f1 == pytest.approx(max(f1_at(t, rows) for t in grid), abs=1e-12)
    assert found.f1 == pytest.approx(f1_at(found.threshold, rows), abs=1e-12)


def test_a_thousand_solutions_take_no_second():
    rows = drawn_rows(random.Random(0), 1000, steps=30)
    start = time.process_time()
    best_threshold(rows)
    assert time.process_time() - start < 1


def test_neighbouring_floats_are_told_apart_and_one_class_has_no_threshold():
    low, high = 0.5, math.nextafter(0.5, 1)
    found = best_threshold([([low], 0), ([high], None)])
    assert found.f1 == 1
    assert low < found.threshold <= high
    assert best_threshold([([0.1], 0)]) is None
    assert best_threshold([([0.1], None)]) is None


def test_three_policies_stand_beside_each_other_with_their_thresholds():
    gsm = [judged(up_to(1, 2), [0.9, 0.3], f"a{i}", subset="gsm8k") for i in range(3)]
    gsm += [judged(up_to(None, 2), [0.9, 0.4], f"b{i}", subset="gsm8k") for i in range(3)]
    maths = [judged(up_to(0, 2), [0.6, 0.9], f"c{i}", subset="math") for i in range(3)]
    maths += [judged(up_to(None, 1), [0.8], f"d{i}", subset="math") for i in range(3)]
    found = {(m.name, m.subset): m for m in first_error_thresholds(gsm + maths, {"tune_on": "gsm8k"}).metrics}
    assert found["threshold:gsm8k", "math"].value == pytest.approx(0.35)
    assert found["F1[threshold=gsm8k]", "gsm8k"].value == 1
    assert found["F1[threshold=gsm8k]", "math"].value == 0
    assert found["F1[threshold=gsm8k]", None].value == 0.5
    assert found["threshold:oracle", "math"].value == pytest.approx(0.7)
    assert found["F1[threshold=oracle]", None].value == 1
    assert "0.35" in found["F1[threshold=gsm8k]", None].note
    assert value(gsm, "first_error") == value(maths, "first_error") == 0  # at 0.5: passes nothing, finds nothing


def test_a_policy_without_its_subset_or_without_scores_says_so():
    js = [judged(up_to(0, 1), [0.1], "a"), judged(up_to(None, 1), [0.9], "b"), judged(up_to(0, 1), [NAN], "c")]
    found = {(m.name, m.subset): m for m in first_error_thresholds(js, {"tune_on": "gsm8k"}).metrics}
    assert found["F1[threshold=gsm8k]", None].value is None
    assert "to tune on" in found["F1[threshold=gsm8k]", None].note
    oracle = found["F1[threshold=oracle]", None]
    assert (oracle.value, oracle.n, oracle.n_missing) == (1, 2, 1)


# --- first error -----------------------------------------------------------------------------------------------------


def test_over_solutions_every_trace_counts_once():
    js = [judged(up_to(1, 2), [0.9, 0.1], "a"), judged(up_to(0, 2), [0.9, 0.1], "b")]
    js += [judged(up_to(None, 2), [0.9, 0.9], f"c{i}") for i in range(2)]
    assert value(js, "first_error", over="solutions") == 0.75
    parts = {m.name: m.value for m in first_error_parts(js, {}).metrics}
    assert parts == {"acc_error": 0.5, "acc_correct": 1.0}


def test_labels_that_leave_the_first_error_open_earn_nothing_and_are_counted():
    js = [judged((1, -1), [0.9, 0.9], "a"), judged((-1, 0), [0.9, 0.1], "b"), judged((1, 0), [0.9, 0.1], "c")]
    earned = first_error(js, {})
    assert [row.key for row in earned.rows] == ["c"]
    assert "2 solutions whose labels leave the first error open" in earned.note


def test_one_missing_step_makes_the_solution_missing_with_the_step_s_reason():
    j = Judgement(
        "x", "s", "", "p", (0.0,), step_grades=((1, 0),), step_scores=((0.9, NAN),),
        step_reasons=((None, "truncated"),), reasons=("truncated",),
    )  # fmt: skip
    for rule in (first_error, prm_score, mr_score):
        rows = rule([j], {}).rows
        assert rows
        assert all(math.isnan(row.value) and row.reason == "truncated" for row in rows)
    assert all(m.value is None and m.n_missing == 1 for m in prm_steps([j], {}).metrics)


def test_a_right_answer_by_a_wrong_way_is_a_question_of_its_own():
    js = [judged(up_to(1, 2), [0.9, 0.1], "a", right=True), judged(up_to(1, 2), [0.1, 0.9], "b", right=True)]
    js += [judged(up_to(0, 2), [0.1, 0.9], "c"), judged(up_to(None, 1), [0.9], "d")]
    rows = right_answer_wrong_process(js, {}).rows
    assert {row.key: row.value for row in rows} == {"a": 1.0, "b": 0.0}


# --- PRM-Score -------------------------------------------------------------------------------------------------------


@st.composite
def labelled(draw):
    made = []
    for i in range(draw(st.integers(1, 8))):
        grades = draw(st.lists(st.sampled_from([0, 1, -1]), min_size=1, max_size=5))
        scores = draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=len(grades), max_size=len(grades)))
        made.append(judged(grades, scores, f"x{i}"))
    return made


def by_hand(js):
    """PRM-Score from precision and recall, as it is defined."""
    pairs = [
        (score > 0.5, bool(grade))
        for j in js
        for score, grade in zip(j.step_scores[0], j.step_grades[0], strict=True)
        if grade != -1
    ]

    def f1(kind):
        hits = sum(said == kind == grade for said, grade in pairs)
        said_so, are_so = sum(s == kind for s, _ in pairs), sum(g == kind for _, g in pairs)
        precision, recall = hits / said_so if said_so else 0, hits / are_so if are_so else 0
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    return f1(True), f1(False)


@QUICK
@given(labelled())
def test_prm_score_is_the_mean_of_two_pooled_f1(js):
    positive, negative = by_hand(js)
    assert value(js, "prm_score") == pytest.approx((positive + negative) / 2)
    assert value(js, "prm_score", part="F1") == pytest.approx(positive)
    if any(grade != -1 for j in js for grade in j.step_grades[0]):
        items = headline_items(js, plan("prm_score"))
        assert sum(i.weight * i.value for i in items) == pytest.approx((positive + negative) / 2, abs=1e-9)


def test_the_worked_counts():
    """10 right and 4 wrong steps: 8 right called right, 3 wrong called wrong."""
    js = [judged([1] * 10, [0.9] * 8 + [0.1] * 2, "a"), judged([0] * 4, [0.1] * 3 + [0.9], "b")]
    f1, negative = 16 / (16 + 1 + 2), 6 / (6 + 2 + 1)
    assert value(js, "prm_score") == pytest.approx((f1 + negative) / 2)
    found = {m.name: m.value for m in prm_steps(js, {}).metrics}
    assert found == pytest.approx({
        "F1": f1, "negative_F1": negative, "right_step_accuracy": 0.8, "wrong_step_accuracy": 0.75,
        "step_accuracy": 11 / 14, "first_error_accuracy": 1.0,
    })  # fmt: skip


def test_the_first_wrong_step_is_found_whatever_stands_before_it_and_whatever_comes_after():
    js = [
        judged([1, 0, 0], [0.1, 0.2, 0.9], "a"),  # found, though the step before is doubted too
        judged([1, 0, 0], [0.9, 0.6, 0.1], "b"),  # the second error alone
        judged([0], [0.5], "c"),  # 0.5 is not above 0.5
        judged([1, 1], [0.9, 0.1], "d"),  # nothing to find
    ]
    found = {m.name: m for m in prm_steps(js, {}).metrics}["first_error_accuracy"]
    assert found.value == pytest.approx(2 / 3)
    [right] = [m for m in prm_steps(js[3:], {}).metrics if m.name == "first_error_accuracy"]
    assert (right.value, right.note) == (None, "undefined: no wrong steps")


def test_the_decision_rule_is_strict_and_may_look_at_differences():
    js = [judged([1, 1, 0, 0], [0.5, 0.9, 0.86, 0.8])]
    assert value(js, "prm_score") == pytest.approx(by_hand(js)[0] / 2)  # 0.5 is not above 0.5
    # differences .5 .4 -.04 -.06: only the last one falls by more than .05
    score = value(js, "prm_score", decide="difference", threshold=-0.05)
    assert score == pytest.approx((2 * 2 / (4 + 1) + 2 * 1 / (2 + 1)) / 2)
    assert "step before" in prm_score(js, {"decide": "difference", "threshold": -0.05}).note


@pytest.mark.parametrize("positive_only", [False, True])
def test_slopes_of_prm_score_are_its_derivatives_up_to_the_share_in_the_steps(positive_only):
    formula = PooledF1(positive_only)
    means = dict(zip(COUNTS, (6.0, 8.0, 2.0, 3.0), strict=True))
    check_slopes(formula, means, {"right_steps": 1.0, "wrong_steps": 1.0})


def check_slopes(formula, means, carries):
    """Slopes are numerical derivatives, plus the value per unit of what carries it, and add up to the value."""
    slopes = formula.slopes(means)
    at = float(formula.value({n: np.asarray(m) for n, m in means.items()}))
    whole = sum(means[name] for name in carries)
    for name in means:
        up, down = ({**means, name: means[name] + h} for h in (1e-6, -1e-6))
        derivative = (formula.value(up) - formula.value(down)) / 2e-6
        assert slopes[name] == pytest.approx(float(derivative) + at * carries.get(name, 0.0) / whole, abs=1e-6)
    assert sum(slopes[name] * mean for name, mean in means.items()) == pytest.approx(at)


# --- MR-score --------------------------------------------------------------------------------------------------------


def test_mr_score_by_hand():
    js = [judged(up_to(None, 2), [0.9, 0.9], f"r{i}") for i in range(3)]  # right, passed
    js += [judged(up_to(None, 2), [0.9, 0.1], "f")]  # right, flagged
    js += [judged(up_to(1, 2), [0.9, 0.1], f"w{i}") for i in range(2)]  # wrong, located
    js += [judged(up_to(0, 2), [0.9, 0.1], "x"), judged(up_to(0, 2), [0.9, 0.9], "y")]  # flagged elsewhere; passed
    js += [judged([-1, -1], [0.9, 0.1], "u", right=False)]  # wrong, nobody says where
    tp, fn, tn, fp = 3, 1, 4, 1
    mcc = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    found = {m.name: m.value for m in mr_parts(js, {}).metrics}
    assert found == pytest.approx({"MCC": mcc, "ACC_step": 2 / 4, "solution_accuracy": 7 / 9})
    assert value(js, "mr_score") == pytest.approx((0.2 * mcc + 0.3 * 0.5) / 0.5)
    assert "1 wrong solutions whose wrong step is not known" in mr_score(js, {}).note
    items = headline_items(js, plan("mr_score"))
    assert sum(i.weight * i.value for i in items) == pytest.approx((0.2 * mcc + 0.3 * 0.5) / 0.5)


def test_an_undefined_or_negative_correlation_adds_nothing():
    passes = [judged(up_to(None, 1), [0.9], "a"), judged(up_to(0, 1), [0.9], "b")]
    turned = [judged(up_to(None, 1), [0.1], "a"), judged(up_to(0, 1), [0.9], "b")]
    assert value(passes, "mr_score") == value(turned, "mr_score") == 0
    assert {m.name: m.value for m in mr_parts(turned, {}).metrics}["MCC"] == -1


def test_slopes_of_the_mr_score_are_its_derivatives():
    names = ("right_passed", "right", "wrong_flagged", "wrong", "located", "locatable")
    means = dict(zip(names, (0.3, 0.4, 0.45, 0.6, 0.2, 0.5), strict=True))
    check_slopes(MRScore(), means, {"right": 1.0, "wrong": 1.0})


def test_the_interval_of_a_good_scorer_reaches_above_what_mcc_alone_could_give():
    js = [judged(up_to(None, 1), [0.9], f"r{i}") for i in range(30)]
    js += [judged(up_to(0, 1), [0.1 if i else 0.9], f"w{i}") for i in range(30)]
    metric = evaluate(js, plan("mr_score"), replicates=200)[0]
    assert metric.ci[0] < metric.value < metric.ci[1] <= 1
    assert metric.ci[1] > 0.98


# --- pools -----------------------------------------------------------------------------------------------------------


def pooled(scores, grades, name="x"):
    return Judgement(name, "s", "", f"p {name}", tuple(grades), scores=tuple(scores))


@QUICK
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6), st.integers(0, 2), st.data())
def test_best_of_n_is_the_mean_over_all_subsets_with_ties_shared(samples, absent, data):
    pool = len(samples) + absent
    n = data.draw(st.integers(1, pool))
    everything = [*((float(s), float(g)) for s, g in samples), *[(-math.inf, 0.0)] * absent]
    credit = []
    for subset in combinations(everything, n):
        best = max(s for s, _ in subset)
        credit.append(fmean(g for s, g in subset if s == best))
    scores, grades = zip(*samples, strict=True)
    assert expected_best(scores, grades, n, pool) == pytest.approx(fmean(credit))
    if not absent:
        assert expected_best(scores, grades, n, pool) == pytest.approx(
            stats.expected_best_of_n(scores, list(map(float, grades)), n)
        )


def test_a_pool_of_1860_is_exact_at_both_ends_and_quick():
    draw = random.Random(0)
    scores, grades = [draw.random() for _ in range(1500)], [float(draw.random() < 0.3) for _ in range(1500)]
    assert expected_best(scores, grades, 1, 1860) == pytest.approx(sum(grades) / 1860)
    assert expected_best(scores, grades, 1860, 1860) == grades[scores.index(max(scores))]
    assert 0 < expected_best(scores, grades, 10, 1860) < 1


def test_best_of_n_keeps_problems_without_a_right_sample_and_refuses_too_small_pools():
    js = [pooled([0.9, 0.1], [1, 0], "a"), pooled([0.9, 0.1], [0, 0], "b"), pooled([0.5, NAN], [1, 0], "c")]
    rows = {row.key: row for row in best_of_n(js, {"n": 2}).rows}
    assert (rows["a"].value, rows["b"].value) == (1, 0)
    assert math.isnan(rows["c"].value)
    with pytest.raises(UsageError, match="best of 3 needs 3 of its 2 samples"):
        best_of_n(js, {"n": 3})
    with pytest.raises(UsageError, match="the pool is 1"):
        best_of_n(js, {"n": 1, "pool": 1})


def test_the_area_under_the_curve_is_over_solutions_of_all_problems():
    js = [pooled([0.9, 0.2], [1, 0], "a"), pooled([0.8, 0.85], [1, 0], "b"), pooled([0.2], [0], "c")]
    (metric,) = outcome_auroc(js, {}).metrics
    right, wrong = [0.9, 0.8], [0.2, 0.85, 0.2]
    assert metric.value == pytest.approx(fmean((r > w) + (r == w) / 2 for r in right for w in wrong))
    assert metric.n == 3
