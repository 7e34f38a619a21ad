"""Edges of pooled figures, curves and slices that altered code got through, found by tests/mutation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_pairs import LOSE, find, pair

from rmeval.errors import UsageError
from rmeval.metrics import arena, best_of_k, diagnostics, labels, prmbench, rules, table
from rmeval.metrics import evaluate as evaluate_module
from rmeval.metrics.book import _check
from rmeval.metrics.credit import Credit, HarmonicMean, Linear
from rmeval.metrics.evaluate import evaluate
from rmeval.metrics.figures import mean_figure
from rmeval.metrics.judge_calls import readings
from rmeval.metrics.mr_score import mr_parts
from rmeval.metrics.nulls import draws
from rmeval.metrics.plan import Definition, MetricPlan, Section
from rmeval.metrics.pooled import by_subset
from rmeval.metrics.pools import outcome_auroc
from rmeval.metrics.steps import first_error
from rmeval.metrics.tree import Aggregate, Branch, Leaf
from rmeval.metrics.verdicts import shares
from rmeval.metrics.votes import votes
from rmeval.types import NAN, Judgement, Verdict

PLAN = MetricPlan("accuracy", "rows", (Section("accuracy", (), LOSE),))


def scored(name, grades, scores, subset="s", **more):
    return Judgement(f"{subset}/{name}", subset, "", f"{subset} {name}", grades, scores=scores, **more)


def solved(name, labels, scores):
    return Judgement(name, "s", "", name, (), step_grades=(labels,), step_scores=(scores,))


def test_an_interval_of_a_curve_needs_an_error_and_ten_prompts():
    assert best_of_k._around(0.5, 0.0, 30) is None
    assert best_of_k._around(0.5, NAN, 30) is None
    assert best_of_k._around(0.5, 0.1, 8) is None
    assert best_of_k._around(0.5, 0.1, 9) is not None


def test_curves_of_rows_that_have_no_scores_count_them():
    rows = [scored(i, (1.0, 0.0), (NAN, 1.0), reasons=("truncated", None)) for i in range(3)]
    for metric in best_of_k.best_of_k_curves(rows, {"permutations": 2}).metrics:
        assert (metric.value, metric.n, metric.n_missing) == (None, 0, 3), metric.name


def test_one_row_of_a_table_that_refuses_makes_readings_of_all():
    rows = [scored("a", (1.0, 0.0), (1.0, NAN), reasons=(None, "refused")), scored("b", (1.0, 0.0), (1.0, 0.0))]
    assert len(readings(table.of(rows))) == len(readings(rows)) == 4


def test_two_subsets_stand_beside_the_whole():
    rows = [scored("a", (1.0, 0.0), (1.0, 0.0), "x"), scored("b", (1.0, 0.0), (1.0, 0.0), "y")]
    assert list(by_subset(rows)) == [None, "x", "y"]
    assert list(by_subset(rows[:1])) == [None]


def test_pooled_figures_need_what_they_are_about_alone():
    rows = [solved(f"{i}", (1, 1, 1), (0.9, 0.8, 0.1 if i % 3 else 0.7)) for i in range(12)]
    found = {m.name: m for m in prmbench.prm_steps(rows, {}).metrics if m.subset is None}
    assert found["right_step_accuracy"].value == pytest.approx(28 / 36)
    low, high = found["right_step_accuracy"].ci
    assert low < 28 / 36 < high
    assert found["wrong_step_accuracy"].value is None
    assert prmbench._f1_slopes(0, 0) == (0.0, 0.0, 0.0, 0.0)
    assert prmbench._share((3.0, 4.0, 1.0, 2.0, 1.0, 1.0)) == pytest.approx(4 / 6)


def test_solutions_whose_labels_leave_the_first_error_open_are_counted():
    rows = [solved("a", (1, 0), (0.9, 0.1)), solved("b", (1, -1, 0), (0.9, 0.5, 0.1))]
    assert "; 1 solutions whose labels leave the first error open" in first_error(rows, {}).note


def test_counts_of_votes_are_whole_numbers_all():
    for k in ([1, "2"], [1, 0], []):
        with pytest.raises(UsageError, match="option 'k'"):
            votes([], {"k": k})


def test_probabilities_of_nothing_are_none():
    assert shares(Verdict((0, 1), "A", p=(0.0, 0.0))) is None


def test_one_model_without_a_rating_is_enough_to_say_so():
    rated, unrated = np.array([1.0, 2.0]), np.array([1.0, NAN])
    assert arena._unfit(rated, rated, "") == ""
    assert "by people:" in arena._unfit(unrated, rated, "")
    assert "by the scorer:" in arena._unfit(rated, unrated, "")


def test_an_optional_section_without_rows_is_none():
    plan = MetricPlan(
        "accuracy", "sections", (Section("A", ("a",), LOSE), Section("B", ("b",), LOSE, optional=True))
    )  # fmt: skip
    found = evaluate([pair(i, "a", 1) for i in range(3)], plan, replicates=20)
    assert not [m for m in found if m.subset == "B"]


def test_slices_have_the_headline_over_their_rows():
    rows = [pair(i, "a", i % 2, slices=("long",) if i % 2 else ()) for i in range(6)]
    assert find(evaluate(rows, PLAN, replicates=20), "accuracy", "long").value == 1.0


def test_an_unread_verdict_that_counts_as_wrong_is_no_tie():
    verdicts = (Verdict((0, 1), None, "unparsed"), Verdict((1, 0), None, "unparsed"))
    row = Judgement("x", "s", "", "c", (1.0, 0.0), verdicts=verdicts)
    found = rules.accuracy([row], {"verdicts": "majority", "unparsed": "wrong"})
    assert [(r.value, found.ties) for r in found.rows] == [(0.0, frozenset())]
    lost = rules.accuracy([row], {"verdicts": "majority"})
    assert math.isnan(lost.rows[0].value)
    assert not lost.ties


def test_the_area_over_all_solutions_needs_right_and_wrong_ones_of_several_problems():
    def row(name, grades, scores):
        reasons = tuple("truncated" if math.isnan(s) else None for s in scores)
        return Judgement(name, "s", "", name, grades, scores=scores, reasons=reasons)

    lost = row("c", (1.0, 0.0), (NAN, 1.0))
    for rows in (
        [row("a", (1.0, 0.0), (1.0, 0.0)), lost],  # one problem
        [row("a", (1.0, 1.0), (1.0, 0.0)), row("b", (1.0, 1.0), (1.0, 0.0)), lost],  # none wrong
        [lost],
    ):
        [found] = outcome_auroc(rows, {}).metrics
        assert (found.value, found.n, found.n_missing) == (None, len(rows) - 1, 1)
        assert found.note == "undefined: needs right and wrong solutions of several problems"


def test_two_problems_are_enough_for_an_error_of_the_area():
    area, se = best_of_k.clustered_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0.0, 0.0, 1.0, 1.0]), "aabb")
    assert (area, math.isfinite(se)) == (0.75, True)
    with pytest.raises(UsageError, match=r"comparison \[0, 5\] is no pair"):
        best_of_k._better(scored("a", (1.0, 0.0), (1.0, 0.0)), 0, 5)


def test_figures_say_their_unit_and_what_is_undefined():
    assert mean_figure("x", [0.5, 1.0], "ab", "n").unit == "fraction"
    assert mean_figure("x", [0.5, 7.0], "ab", "n", bounds=None).unit == "number"
    assert (labels._figure("x", NAN, 0, 3, "n").note, labels._figure("x", 0.5, 3, 0, "n").note) == ("undefined; n", "n")
    assert math.isnan(labels._kappa([], []))
    assert diagnostics._mean("agreement:x", np.array([NAN]), ["c"], 1, "n").note == "undefined: no example has it; n"
    assert (draws(10), draws(500)) == (16, 16)
    assert not Definition("x", {}).is_part


def test_the_harmonic_mean_of_nothing_is_0():
    means = {"a": np.array([0.0, 1.0]), "b": np.array([0.0, 0.5])}
    assert HarmonicMean("a", "b").value(means).tolist() == [0.0, 2 / 3]


def test_means_of_what_is_no_share_are_numbers():
    def leaf(high):
        rows = tuple(Credit(str(i), str(i), "s", "a", 1.0) for i in range(3))
        return Aggregate((Branch(1.0, Linear({"a": 1.0}), {"a": Leaf("a", rows, (0.0, high))}),))

    assert (evaluate_module._is_count(leaf(1.0)), evaluate_module._is_count(leaf(9.0))) == (False, True)


def test_rows_of_a_table_without_a_prompt_are_refused():
    rows = [scored("a", (1.0, 0.0), (1.0, 0.0)), replace(scored("b", (1.0, 0.0), (1.0, 0.0)), cluster="")]
    for given in (rows, table.of(rows)):
        with pytest.raises(UsageError, match="example 's/b' has no cluster"):
            evaluate(given, PLAN)
        with pytest.raises(UsageError, match="example 's/b' has no cluster"):
            _check(rules.accuracy(given, {}), "accuracy")


def test_verdicts_that_could_not_be_read_have_their_rate():
    rows = [
        Judgement(str(i), "s", "", str(i), (1.0, 0.0), verdicts=(Verdict((0, 1), said, why), Verdict((1, 0), "B")))
        for i, (said, why) in enumerate([("A", None), (None, "unparsed")])
    ]
    assert find(evaluate(rows, PLAN), "unparsed_rate").value == 0.5


def test_parts_of_a_score_of_solutions_need_what_they_are_about_alone():
    right, wrong = solved("a", (1, 1), (0.9, 0.8)), solved("b", (1, 0), (0.9, 0.8))  # the wrong one passes
    rows = [replace(right, grades=(1.0,)), replace(wrong, grades=(0.0,))]
    found = {m.name: m.value for m in mr_parts(rows, {}).metrics if m.subset is None}
    assert found["solution_accuracy"] == 0.5


def test_ten_prompts_have_an_interval_of_pooled_figures():
    rows = [solved(f"{i}", (1, 1), (0.9, 0.1 if i % 3 else 0.7)) for i in range(10)]
    [found] = [m for m in prmbench.prm_steps(rows, {}).metrics if m.name == "right_step_accuracy" and m.subset is None]
    assert found.ci is not None
