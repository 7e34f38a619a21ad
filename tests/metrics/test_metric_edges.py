"""Cases that altered code got through, found by tests/mutation: bounds, single rows, options that are on by default."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_pairs import LOSE, find, pair, pairs

from rmeval import stats
from rmeval.errors import UsageError
from rmeval.metrics import arena, best_of_k, tree
from rmeval.metrics.agreement import cross_table, vote_counts
from rmeval.metrics.arena import human_ranking
from rmeval.metrics.best_of_k import best_of_k_curves, clustered_auc, conflict_pairs
from rmeval.metrics.calibration import bin_edges
from rmeval.metrics.convert import missing_reason
from rmeval.metrics.credit import Credit, Linear
from rmeval.metrics.diagnostics import annotator_figures, diagnostics
from rmeval.metrics.evaluate import evaluate
from rmeval.metrics.figures import undefined
from rmeval.metrics.nulls import constant, random
from rmeval.metrics.plan import Definition, MetricPlan, Section
from rmeval.metrics.pools import outcome_auroc
from rmeval.metrics.prmbench import _share, prm_steps
from rmeval.metrics.steps import first_error_parts
from rmeval.metrics.thresholds import first_error_thresholds
from rmeval.metrics.tree import Aggregate, Branch, Leaf
from rmeval.metrics.votes import votes
from rmeval.types import Judgement, Verdict


def judged(name, grades, scores=(), subset="s", **more):
    return Judgement(f"{subset}/{name}", subset, "", f"{subset} {name}", tuple(grades), scores=tuple(scores), **more)


# --- votes, curves, conflict pairs ---


def test_the_largest_count_must_be_within_the_pool():
    row = judged("x", (1.0, 0.0, 0.0), (3, 2, 1), answers=(0, 1, 1))
    with pytest.raises(UsageError, match="the first 4 of 3 samples are asked for"):
        votes([row], {"k": [1, 4]})
    assert len(votes([row], {"k": [1, 3]}).metrics) == 12


def test_the_area_over_subsets_has_the_error_of_a_mean_of_independent_means():
    draw = np.random.default_rng(4)
    rows = [
        judged(i, grades := (draw.random(4) < 0.5).astype(float), draw.normal(size=4) + grades, subset)
        for subset, n in (("a", 14), ("b", 25))
        for i in range(n)
    ]
    found = {m.subset: m for m in best_of_k_curves(rows, {"permutations": 3}).metrics if m.name == "auc"}
    squares = 0.0
    for subset, n in (("a", 14), ("b", 25)):
        low, high = found[subset].ci
        assert (low + high) / 2 == pytest.approx(found[subset].value)
        squares += ((high - low) / 2 / stats.t_quantile(0.975, n - 1)) ** 2
    half = stats.t_quantile(0.975, 37) * math.sqrt(squares) / 2
    assert found[None].ci == pytest.approx((found[None].value - half, found[None].value + half))


def test_the_numbers_of_many_curves_are_those_of_each():
    curves = np.random.default_rng(6).random((5, 2, 4, 3))  # 5 resamples, 3 orders and the exact one, 3 candidates
    together = best_of_k._summary(curves)
    for r, one in enumerate(curves):
        for name, value in best_of_k._summary(one).items():
            assert together[name][r] == pytest.approx(float(value)), name


def test_the_area_over_all_solutions_has_its_clustered_error_on_both_sides():
    draw = np.random.default_rng(8)
    rows = [judged(i, (1.0, 0.0, 0.0), draw.normal(size=3) + np.array([0.8, 0.0, 0.0])) for i in range(40)]  # fmt: skip
    [found] = outcome_auroc(rows, {}).metrics
    area, se = clustered_auc(
        np.array([s for j in rows for s in j.scores]), np.array([g for j in rows for g in j.grades]),
        [j.cluster for j in rows for _ in j.scores],
    )  # fmt: skip
    assert found.value == area
    assert found.ci == pytest.approx((area - 1.959964 * se, area + 1.959964 * se), abs=1e-6)
    [sure] = outcome_auroc([judged(i, (1.0, 0.0), (1.0, 0.0)) for i in range(12)], {}).metrics
    assert (sure.value, sure.ci) == (1.0, None)


@pytest.mark.parametrize("how", ["mean", "tie_on_inconsistency"])
def test_pairs_that_a_server_lost_are_missing_even_where_the_unread_are_wrong(how):
    def row(reason):
        rows = (Verdict((0, 1), None, reason), Verdict((1, 0), None, reason))
        return judged("x", (1.0, 0.0), verdicts=rows, comparisons=((0, 1),))

    def credit(reason):
        [one] = conflict_pairs([row(reason)], {"unparsed": "wrong", "verdicts": how}).rows
        return one.value, one.reason

    assert credit("unparsed") == (0.0, None)
    value, reason = credit("api_error")
    assert math.isnan(value)
    assert reason == "api_error"


def test_a_tie_of_a_judge_is_won_by_the_second_of_the_pair_listed():
    def credit(pair):
        row = judged("x", (1.0, 0.0), verdicts=(Verdict((0, 1), "tie"), Verdict((1, 0), "tie")), comparisons=(pair,))
        [one] = conflict_pairs([row], {"ties": "second"}).rows
        return one.value

    assert (credit((0, 1)), credit((1, 0))) == (0.0, 1.0)


# --- arena ---


def test_the_correlation_of_rows_is_that_of_the_only_row_that_has_one():
    human, scorer = np.zeros((3, 3)), np.zeros((3, 3))
    for wins, first, second in ((human, 8, 4), (scorer, 2, 6)):
        wins[0, 1], wins[1, 0] = first, 10 - first
        wins[0, 2], wins[2, 0] = second, 10 - second  # 1 and 2 never met: of each there is one rate
    assert arena.row_wise_pearson(human, scorer) == pytest.approx(-1.0)


def test_intervals_of_correlations_are_196_bootstrap_errors_to_each_side():
    draw = np.random.default_rng(3)
    rows = []
    for i in range(120):
        a, b = sorted(int(x) for x in draw.choice(4, 2, replace=False))
        grades = (1.0, 0.0) if draw.random() < 0.5 - 0.1 * (b - a) else (0.0, 1.0)
        scores = draw.normal(size=2) + np.array([0.0, 0.2 * (b - a)])
        rows.append(judged(f"{i:03}", grades, map(float, scores), models=(f"m{a}", f"m{b}")))
    battles, _ = arena._battles(rows, "own", "missing")
    human, scorer = arena._resampled(battles, 100, 0)
    drawn = arena.row_wise_pearson(human, scorer)
    [found] = [m for m in human_ranking(rows, {"replicates": 100}).metrics if m.name == "row_wise_pearson"]
    half = 1.959963984540054 * drawn.std()
    low, high = max(-1.0, found.value - half), min(1.0, found.value + half)
    assert high - low < 2
    assert found.ci == pytest.approx((low, high))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_interval_of_a_correlation_ends_where_correlations_do(sign):
    draw = np.random.default_rng(2)
    rows = []
    for i in range(300):
        a, b = (int(x) for x in draw.choice(4, 2, replace=False))
        won = draw.random() < 1 / (1 + math.exp(0.4 * (b - a)))
        scores = (float(won), float(not won)) if draw.random() < 0.9 else (float(not won), float(won))
        rows.append(judged(i, (float(won), float(not won)), [sign * s for s in scores], models=(f"m{a}", f"m{b}")))
    [found] = [m for m in human_ranking(rows, {"replicates": 100}).metrics if m.name == "spearman"]
    assert sign * found.value > 0.9
    assert found.ci[sign > 0] == sign
    assert -1 < found.ci[sign < 0] < 1


def test_a_correlation_that_no_resample_moves_has_no_interval():
    rows = []
    for i in range(200):
        a, b = sorted(np.random.default_rng(i).choice(3, 2, replace=False))
        won = (i % 7 > 1) if b - a == 1 else (i % 7 > 0)
        rows.append(judged(i, (float(won), float(not won)), (float(won), float(not won)), models=(f"m{a}", f"m{b}")))
    found = {m.name: m for m in human_ranking(rows, {"replicates": 100}).metrics}
    assert (found["spearman"].value, found["spearman"].ci) == (pytest.approx(1.0), None)


def test_a_stack_is_fitted_until_its_last_member_is_done():
    even, lopsided = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 1e6], [1.0, 0.0]])
    together = arena.ratings(np.stack([even, lopsided]))
    assert together[0].tolist() == [1000.0, 1000.0]
    assert np.diff(together[1]) == pytest.approx(-2400, abs=1e-4)


def test_a_thousand_resamples_unless_said(monkeypatch):
    asked = []
    nothing = dict.fromkeys(arena._MEANS, (None, None, "nothing was fitted"))
    monkeypatch.setattr(
        arena, "_figures", lambda battles, replicates, seed: asked.append((replicates, seed)) or nothing
    )
    human_ranking([], {})
    human_ranking([], {"replicates": 200, "seed": 3})
    assert asked == [(1000, 0), (200, 3)]


# --- sections, thresholds, figures ---


def test_twelve_sections_are_listed_and_more_are_counted():
    def note(n):
        names = [f"s{i:02}" for i in range(n)]
        plan = MetricPlan("accuracy", "sections", tuple(Section(name.upper(), (name,), LOSE) for name in names))
        return find(evaluate([pair(i, s, 1) for s in names for i in range(2)], plan, replicates=50), "accuracy").note

    assert "unweighted mean of S00, S01, " in note(12)
    assert "S11" in note(12)
    assert "unweighted mean of 13 sections" in note(13)


def test_bins_of_equal_mass_end_at_1():
    edges = bin_edges([0.55, 0.6, 0.7, 0.9], bins=2, binning="mass")
    assert edges.tolist() == [0.6, 1.0]


def test_wrong_steps_have_a_figure_where_the_first_of_them_is_missed():
    row = Judgement("x", "s", "", "p", (0.0,), step_grades=((1, 0, 0),), step_scores=((0.9, 0.8, 0.1),))
    found = {m.name: m.value for m in prm_steps([row], {}).metrics if m.subset is None}
    assert (found["wrong_step_accuracy"], found["first_error_accuracy"]) == (0.5, 0.0)
    assert _share((2.0, 2.0, 1.0, 3.0)) == pytest.approx((2 + 2) / 5)  # called right: both right ones, two wrong ones


def test_the_definition_in_force_is_the_one_of_that_name():
    rows = [*pairs("a", [1] * 12), *pairs("b", [1, 0] * 6)]
    plan = MetricPlan(
        "accuracy", "sections", (Section("A", ("a",), LOSE), Section("B", ("b",), LOSE)),
        definitions=(Definition("light", {"A": 1.0, "B": 3.0}), Definition("heavy", {"A": 3.0, "B": 1.0})),
    )  # fmt: skip

    def headline(definition):
        return find(evaluate(rows, replace(plan, definition=definition), replicates=50), "accuracy").value

    assert [headline(name) for name in (None, "light", "heavy")] == [0.75, 0.625, 0.875]


def test_five_missing_subsets_are_named_and_more_are_counted():
    def why(*names):
        plan = MetricPlan("accuracy", "rows", (Section("Accuracy", names, LOSE),))
        return find(evaluate(pairs("z", [1, 0]), plan, replicates=50), "accuracy").note

    assert "no examples of a, b, c, d, e; " in why(*"abcde") + "; "
    assert "no examples of a, b, c, d, e and 1 more" in why(*"abcdef")


def test_the_threshold_of_a_subset_is_said_beside_its_figure():
    def solution(name, subset, grades, scores):
        return Judgement(
            f"{subset}/{name}", subset, "", f"p {subset} {name}", (float(0 not in grades),),
            step_grades=(grades,), step_scores=(scores,),
        )  # fmt: skip

    rows = [solution(i, "a", (1, 0), (0.9, 0.3)) for i in range(3)]
    rows += [solution(i + 3, "a", (1, 1), (0.9, 0.4)) for i in range(3)]
    rows += [solution(i, "b", (0, -1), (0.6, 0.9)) for i in range(3)]
    rows += [solution(i + 3, "b", (1,), (0.8,)) for i in range(3)]
    found = {m.subset: m for m in first_error_thresholds(rows, {}).metrics if m.name == "F1[threshold=oracle]"}
    assert found["a"].note.startswith("wrong is below 0.35;")
    assert found["b"].note.startswith("wrong is below 0.7;")
    assert found[None].note.startswith("a threshold per subset;")


def test_what_is_undefined_has_lost_nothing_unless_said():
    assert (undefined("x", "why").n_missing, undefined("x", "why", 3).n_missing) == (0, 3)


def leaf(name, values):
    rows = [Credit(f"{name}/{i}", f"{name} {i}", name, "accuracy", v, None) for i, v in enumerate(values)]
    return Leaf(name, tuple(rows))


def mean_of(*leaves):
    return Aggregate(tuple(Branch(1 / len(leaves), Linear({"accuracy": 1.0}), {"accuracy": one}) for one in leaves))


def test_subsets_of_ten_prompts_are_resampled_each_by_itself_and_smaller_ones_together():
    def spread(n):
        ones, zeros = leaf("a", [1.0] * n), leaf("b", [0.0] * n)
        both = Leaf("both", ones.rows + zeros.rows)
        aggregates = [Aggregate((Branch(1.0, Linear({"accuracy": 1.0}), {"accuracy": one}),)) for one in (both, ones)]
        return np.ptp(tree.replicate(aggregates, replicates=200, seed=0, hold_steady=False)[:, 0])

    assert spread(10) == 0
    assert spread(9) > 0.1


def test_a_number_that_no_resample_moves_has_no_interval():
    aggregate = mean_of(leaf("a", [0.0, 1.0] * 6), leaf("b", [1.0, 0.0] * 6))
    assert tree.interval(aggregate, np.full(50, 0.5)) is None
    found = tree.interval(aggregate, np.linspace(0.4, 0.6, 401))
    assert (found.low, found.high) == pytest.approx((0.405, 0.595))


def test_parts_are_told_by_subset_where_there_are_several():
    def rows(*subsets):
        return [
            Judgement(f"{s}/{i}", s, "", f"p{i}", (0.0,), step_grades=((1, 0),), step_scores=((0.9, 0.1),))
            for s in subsets
            for i in range(3)
        ]

    assert {m.subset for m in first_error_parts(rows("a", "b"), {}).metrics} == {None, "a", "b"}
    assert {m.subset for m in first_error_parts(rows("a"), {}).metrics} == {None}


# --- people ---


@pytest.mark.parametrize("vote", [-2, 3])
def test_a_vote_for_nobody_is_refused(vote):
    with pytest.raises(ValueError, match=f"vote {vote} is none of the 3 candidates"):
        vote_counts([[0, vote]], 3)


def test_a_cross_table_counts_each_item_once():
    assert cross_table("aabb", "abbb").tolist() == [[1, 1], [0, 2]]


def test_examples_without_votes_are_not_among_the_annotated():
    rows = [judged(i, (1.0, 0.0), (2, 1), votes=(0, 0, 1) if i < 3 else ()) for i in range(5)]
    found = {m.name: m for m in annotator_figures(rows)}
    assert {m.n for m in found.values()} == {3}
    assert found["agreement:scorer"].value == pytest.approx(2 / 3)
    assert "3 votes per example" in found["agreement:scorer"].note


# --- baselines, diagnostics ---


def test_the_constant_baseline_says_one_half_of_everything():
    row = Judgement("x", "s", "", "p", (1.0, 0.0), step_grades=((1, 0), (1,)), step_scores=((0.9, 0.1), (0.2,)))
    assert constant(row).step_scores == ((0.5, 0.5), (0.5,))
    assert constant(judged("x", (1.0, 0.0), (2, 1))).scores == (0.5, 0.5)


def test_the_reason_is_that_of_the_first_candidate_unless_said():
    row = judged("x", (1.0, 0.0), (math.nan, math.nan), reasons=("truncated", "api_error"))
    assert (missing_reason(row), missing_reason(row, 1)) == ("truncated", "api_error")


def test_the_random_baseline_is_uniform():
    draws = [score for i in range(500) for score in random(judged(i, (1.0, 0.0, 0.0))).scores]
    assert np.quantile(draws, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.05)


def test_what_is_better_low_says_so_and_nothing_else_does():
    draw = np.random.default_rng(0)
    rows = [
        judged(
            i,
            (1.0, 0.0),
            (float(draw.logistic() + 1), 0.0),
            lengths=(int(draw.integers(50, 500)), 200),
            votes=(0, 0, 1),
        )
        for i in range(100)
    ]
    low = {m.name for m in diagnostics(rows) if not m.higher_is_better}
    assert low == {"calibration:nll", "calibration:brier", "calibration:ece"}
