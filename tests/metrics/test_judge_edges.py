"""Edges of figures about judges, of listed pairs and of fits that altered code got through, found by tests/mutation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rmeval import stats
from rmeval.likelihood import _rank
from rmeval.metrics import arena, best_of_k, calibration, judge_calls, judging, length_control, prmbench
from rmeval.metrics.contrasts import Contrasts
from rmeval.metrics.judge_position import contests_of, position
from rmeval.metrics.mr_score import _mcc_slopes
from rmeval.metrics.steps import first_error
from rmeval.types import Judgement, Verdict


def judged(name, *said, **more):
    """A pair whose first candidate is the right one, shown in the order of the data and then in the other."""
    verdicts = tuple(Verdict(order, one) for order, one in zip(((0, 1), (1, 0)), said, strict=False))
    return Judgement(name, "s", "", f"prompt of {name}", (1.0, 0.0), verdicts=verdicts, **more)


def figures_of(rows):
    return {metric.name: metric for metric in position(contests_of(rows))}


def test_pairs_shown_in_one_order_are_neither_read_in_both_nor_lost():
    found = figures_of([judged("a", "A", "B"), judged("b", "A", "A"), judged("c", "A")])
    assert (found["judge:consistency"].value, found["judge:consistency"].n) == (0.5, 2)
    assert {m.n_missing for name, m in found.items() if name != "judge:slot_a"} == {0}


def test_the_total_bias_of_judgelm_is_the_share_of_pairs_that_follow_a_slot():
    found = figures_of([judged("a", "A", "A"), judged("b", "B", "B"), judged("c", "A", "B"), judged("d", "A", "B")])
    assert (found["judge:net_bias"].value, found["judge:net_bias"].note[-16:]) == (0.0, "s total_bias 0.5")


def test_intervals_of_ten_prompts_and_where_they_end():
    rows = [judged(str(i), "A", "B" if i % 3 == 0 else "A") for i in range(stats.FEW_CLUSTERS)]
    rows[1] = judged("1", "B", "A")
    low, high = figures_of(rows)["judge:order_kappa"].ci
    assert -1 <= low < figures_of(rows)["judge:order_kappa"].value < high <= 1
    leaning = [judged(str(i), "A", "A" if i else "B") for i in range(12)]
    assert figures_of(leaning)["judge:net_bias"].ci[1] == 1.0


def test_failures_and_level_ratings_are_no_merit():
    rows = [
        Judgement("x", "s", "", "x", (1.0, 0.0), ratings=((3.0,), (3.0,))),
        Judgement("y", "s", "", "y", (1.0, 0.0), ratings=((3.0,), (2.0,))),
    ]
    level, *_ = judging._ratings(rows)
    assert (level.name, level.value, level.higher_is_better) == ("judge:rating_ties", 0.5, False)
    assert not any(metric.higher_is_better for metric in judge_calls.failures(judge_calls.readings(rows)))


def test_listed_pairs_are_tied_where_the_decision_is():
    def tied(*said, **options):
        return best_of_k.conflict_pairs([judged("x", *said, comparisons=((0, 1),))], options).ties

    assert tied("A", "B") == tied("A", "B", verdicts="majority") == set()
    assert tied("tie", "B") == tied("A", "A", verdicts="majority") == {"x"}


def test_how_listed_pairs_were_read_is_said_where_scores_were_made():
    plain = Judgement("x", "s", "", "x", (1.0, 0.0), scores=(1.0, 0.0), comparisons=((0, 1),))
    steps = Judgement("x", "s", "", "x", (1.0, 0.0), step_scores=((0.9, 0.5), (0.2,)), comparisons=((0, 1),))
    notes = [best_of_k.conflict_pairs([row], options).note.split("; ") for row, options in (
        (plain, {}), (steps, {"aggregate": "min"})
    )]  # fmt: skip
    assert [len(note) for note in notes] == [2, 3]
    assert "" not in notes[1]


def test_curves_are_resampled_as_often_as_everything():
    rng = np.random.default_rng(0)
    drawn = best_of_k._resampled(rng.integers(0, 2, (10, 2, 3, 4)).astype(float), list("abcdefghij"), (0, 0))
    assert {len(one) for one in drawn.values()} == {stats.REPLICATES}
    rows = [Judgement(str(i), "s", "", str(i), (1.0, 0.0), scores=(float(i % 2), 0.5)) for i in range(3)]
    notes = {m.name: m.note for m in best_of_k.best_of_k_curves(rows, {"permutations": 2}).metrics}
    assert notes["oracle_score"].startswith("share of prompts that have a right candidate; interval: ")
    assert "; exact over all orders, equal scores share the pick" in notes["expected_end_score"]


def test_a_brier_score_of_ranks_divides_by_spreads_below_1():
    found = arena.pair_rank_brier(np.array([1.0, 2.0]), np.array([0.0, 1.0]), np.array([0.125, 0.125]))
    assert found == pytest.approx((0.5 * math.erfc(math.sqrt(2.0))) ** 2)  # the gap is two spreads


def test_scores_without_critics_are_decided_by_the_threshold():
    row = Judgement("x", "s", "", "x", (), step_grades=((1, 0),), step_scores=((0.9, 0.1),))
    assert first_error([row], {}).note.endswith("; wrong is below 0.5")


def test_where_nothing_is_flagged_the_correlation_leans_nowhere():
    assert set(_mcc_slopes(0.5, 0.5, 0.0, 0.5).values()) == {0.0}


def test_the_distance_of_a_solution_from_its_original():
    def solved(subset, scores):
        return Judgement(f"{subset}_1", subset, "", f"{subset} 1", (), step_grades=((1,) * 4,), step_scores=(scores,))

    rows = [solved("changed", (0.9, 0.1, 0.1, 0.1)), solved("original", (0.9, 0.9, 0.9, 0.1))]
    found = [m for m in prmbench.prm_steps(rows, {"originals": "original"}).metrics if m.name == "similarity"]
    assert [(m.value, m.n, m.n_missing) for m in found] == [(0.5, 1, 0)]


def test_no_pairs_have_no_weights_and_margins_lack_nothing_unless_said():
    assert Contrasts(()).weights.shape == (0,)
    assert calibration.Margins(np.ones(1), np.ones(1), np.arange(1), ("p",)).n_not_scalar == 0


def test_lengths_that_hardly_differ_are_fitted_all_the_same():
    rng = np.random.default_rng(5)
    t, y = 0.9 + 0.02 * rng.normal(size=400), (rng.random(400) < 0.6).astype(float)
    weights = np.ones((1, 400))
    at = np.zeros(2)
    for _ in range(30):  # the same by matrices
        x = np.column_stack([np.ones(400), t])
        p = 1 / (1 + np.exp(-x @ at))
        at = at + np.linalg.solve((x.T * (p * (1 - p))) @ x, x.T @ (y - p))
    assert length_control._newton(t, y, weights, np.zeros(2)) == pytest.approx(at[0], rel=1e-6)


def test_the_rank_of_very_small_numbers_is_that_of_their_ratios():
    assert _rank(1e-20 * np.eye(3)) == 3
    assert _rank(1e-20 * np.ones((3, 2))) == 1
    assert _rank(np.zeros((3, 2))) == 0
