"""Edges of figures, their notes and their folds that altered code got through, found by tests/mutation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_pairs import LOSE, find, pair

from rmeval.errors import UsageError
from rmeval.likelihood import NotIdentifiable
from rmeval.metrics import calibration, diagnostics, rules, table
from rmeval.metrics import evaluate as evaluate_module
from rmeval.metrics.best_of_k import best_of_k_curves
from rmeval.metrics.contrasts import Contrasts
from rmeval.metrics.evaluate import evaluate, joint_bootstrap
from rmeval.metrics.judge_calls import Reading, readings, stability
from rmeval.metrics.plan import Definition, MetricPlan, Section
from rmeval.metrics.steps import right_answer_wrong_process
from rmeval.metrics.style import strata
from rmeval.metrics.thresholds import first_error_thresholds
from rmeval.types import NAN, Judgement, Verdict


def test_two_sections_are_a_mean_that_is_said():
    plan = MetricPlan("accuracy", "sections", (Section("A", ("a",), LOSE), Section("B", ("b",), LOSE)))
    rows = [pair(i, s, 1) for s in "ab" for i in range(3)]
    assert find(evaluate(rows, plan, replicates=50), "accuracy").note.startswith("unweighted mean of A, B; ")


def test_how_many_votes_there_were_is_said_as_one_number_or_a_range():
    def note(*votes):
        readings = [Reading("c", "A", None, (f"x{i}", (0, 1)), None) for i, n in enumerate(votes) for _ in range(n)]
        return stability(readings)[0].note

    assert "orders whose 3 votes all say the same" in note(3, 3)
    assert "orders whose 2 to 5 votes all say the same" in note(2, 5, 3, 1)


def test_an_order_is_tied_where_both_are_favoured():
    def tied(first, second):
        verdicts = (Verdict((0, 1), first), Verdict((1, 0), second))
        return rules.both_orders([Judgement("x", "s", "", "c", (1.0, 0.0), verdicts=verdicts)], {}).ties

    assert tied("A", "B") == tied("A", "A") == set()
    assert tied("tie", "B") == tied("A", "tie") == {"x"}


def test_ten_prompts_are_enough_to_cross_fit_a_temperature():
    draw = np.random.default_rng(0)

    def fitted(c):
        found = calibration.Margins(
            draw.normal(size=6 * c) + 0.5, np.ones(6 * c), np.arange(6 * c), [f"p{i % c}" for i in range(6 * c)]
        )
        return calibration.cross_fitted(found)

    assert np.isfinite(fitted(10)).all()
    with pytest.raises(NotIdentifiable, match="only 9 different prompts"):
        fitted(9)


def scored(name, grades, scores, subset="s", **more):
    return Judgement(f"{subset}/{name}", subset, "", f"{subset} {name}", grades, scores=scores, **more)


def test_only_one_game_of_scores_has_the_other_definition_beside_it():
    two = (Verdict((0, 1), "A"), Verdict((1, 0), "B"))
    by_score, by_verdict = scored("a", (1.0, 0.0), (2.0, 1.0)), scored("b", (1.0, 0.0), (), verdicts=two)
    assert rules.judgebench([by_score], {}).variants == (("single_game", False),)
    assert rules.judgebench([by_verdict], {}).variants == ()
    assert rules.judgebench([by_score], {"single_game": True}).variants == ()


def test_a_rating_that_could_not_be_read_is_worth_what_the_option_says():
    row = scored("a", (1.0, 0.0, 0.0), (), ratings=((NAN,), (NAN,), (NAN,)), reasons=("unparsed",) * 3)
    for unparsed, worth in (("wrong", 0.0), ("chance", 1 / 3)):
        assert [r.value for r in rules.accuracy([row], {"unparsed": unparsed}).rows] == [worth]


def test_ties_of_a_matrix_and_of_ranks_are_those_with_the_right_candidate():
    styles = {"styles": ["plain", "long"]}

    def tied(*scores):
        return rules.style_matrix([scored("x", (1.0, 1.0, 0.0, 0.0), scores)], styles).ties

    assert tied(3.0, 4.0, 1.0, 1.0) == tied(3.0, 3.0, 1.0, 2.0) == set()
    assert tied(3.0, 4.0, 1.0, 3.0) == {"s/x"}
    first = [scored(i, (1.0, 0.0, 0.0), s) for i, s in enumerate([(2.0, 2.0, 3.0), (2.0, 1.0, 3.0), (2.0, 2.0, 2.0)])]
    assert rules.reciprocal_rank(first, {}).ties == {"s/0", "s/2"}
    with pytest.raises(UsageError, match="option 'styles'"):
        rules.style_matrix([], {"styles": ["plain", 3]})
    with pytest.raises(UsageError, match="option 'styles'"):
        rules.style_matrix([], {"styles": ["plain", ""]})


def test_thresholds_may_be_tuned_on_nothing():
    rows = [
        Judgement(f"{i}", "s", "", f"{i}", (), step_grades=((1, grade),), step_scores=((0.9, score),))
        for i, (grade, score) in enumerate([(1, 0.8), (0, 0.2), (1, 0.7), (0, 0.3)])
    ]
    alone, both = (first_error_thresholds(rows, {"tune_on": on}).metrics for on in (None, "s"))
    assert {m.name for m in alone} == {"F1[threshold=oracle]", "threshold:oracle"}
    assert {m.name for m in both} == {"F1[threshold=oracle]", "threshold:oracle", "F1[threshold=s]", "threshold:s"}


def test_rates_of_a_table_of_which_one_section_has_no_score():
    lost = {"reasons": (None, "truncated")}
    rows = [scored(i, (1.0, 0.0), (float(i), 1.0), "a") for i in range(4)]
    rows += [scored(i, (1.0, 0.0), (1.0, NAN), "b", **lost) for i in range(4)]
    plan = MetricPlan("accuracy", "sections", (Section("A", ("a",), LOSE), Section("B", ("b",), LOSE)))
    found, plain = (evaluate(these, plan, replicates=20) for these in (table.of(rows), rows))
    assert repr(found) == repr(plain)
    assert find(found, "missing_rate").value == 0.5


def test_shares_and_numbers_have_their_unit():
    units = {
        name: diagnostics._blank(name).unit
        for name in ("length:accuracy_longer", "agreement:top", "mde", "x:saturated")
    }
    assert set(units.values()) == {"fraction"}
    assert diagnostics._blank("length:slope").unit == diagnostics._blank("accuracy:slope").unit == "number"
    rows = [pair(i, "a", 1) for i in range(3)]
    assert (
        find(evaluate(rows, MetricPlan("accuracy", "rows", (Section("accuracy", (), LOSE),))), "accuracy").unit
        == "fraction"
    )


def test_pairs_a_tenth_longer_are_similar_and_none_is_left_out():
    ratio = np.array(
        [math.log(1.1), -math.log(1.1), 0.0, np.nextafter(math.log(1.1), 1), -np.nextafter(math.log(1.1), 1)]
    )
    found = strata(np.array([1.0, 1.0, 0.0, 1.0, 0.0]), ratio, np.arange(5), list("abcde"))
    assert (found.similar.n, found.longer.n, found.shorter.n) == (3, 1, 1)
    assert (found.similar.value, found.longer.value, found.shorter.value) == (2 / 3, 1.0, 0.0)


def test_joint_resamples_have_the_seed_0_unless_said():
    plan = MetricPlan("accuracy", "rows", (Section("accuracy", (), LOSE),))
    rows = [pair(i, "a", i % 3 > 0) for i in range(40)]
    drawn = [
        joint_bootstrap([rows], plan, replicates=9, **seed).replicates.tolist()
        for seed in ({}, {"seed": 0}, {"seed": 1})
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_one_row_that_refuses_makes_readings_of_all():
    refusing = scored("a", (1.0, 0.0), (1.0, NAN), reasons=(None, "refused"))
    plain = scored("b", (1.0, 0.0), (1.0, 0.0))
    ratings = scored("c", (1.0, 0.0), (), ratings=((1.0,), (2.0,)))
    assert [len(readings(rows)) for rows in ([plain], [plain, refusing], [plain, ratings])] == [0, 4, 4]


def test_one_row_and_patterns_that_stand_alone_are_read_from_a_table():
    rows = [
        scored("a", (1.0, 0.0), (1.0, 0.5)),
        scored("b", (1.0, 0.0, 0.0), (1.0, 2.0, 0.0)),
        scored("c", (0.0, 1.0, 1.0, 0.0), (3.0, 2.0, 5.0, 1.0)),
    ]
    columned = table.of(rows)
    assert Contrasts(columned).between(columned.scores).tolist() == Contrasts(rows).between(lambda j: j.scores).tolist()
    plan = MetricPlan("accuracy", "rows", (Section("accuracy", (), LOSE),))
    assert repr(evaluate(table.of(rows[:1]), plan)) == repr(evaluate(rows[:1], plan))


def test_ties_of_ratings_are_those_of_a_judge():
    def varied(*rows):
        return {option for option, _ in rules.accuracy(rows, {}).variants}

    rating, score = scored("a", (1.0, 0.0), (), ratings=((1.0,), (2.0,))), scored("b", (1.0, 0.0), (1.0, 0.0))
    assert varied(score) == {"ties"}
    assert varied(rating) == varied(rating, score) == varied(score, rating) == {"judge_ties"}


def test_a_random_baseline_is_that_of_its_own_rows():
    plan = MetricPlan("accuracy", "rows", (Section("accuracy", (), LOSE),))

    def chance(names):
        return find(evaluate([scored(name, (1.0, 0.0), (1.0, 0.0)) for name in names], plan), "null:random").value

    evaluate_module._CHANCE.clear()
    alone = []
    for names in ("abcdefgh", "ijklmnop"):
        alone.append(chance(names))
        evaluate_module._CHANCE.clear()
    assert alone[0] != alone[1]
    assert [chance("abcdefgh"), chance("ijklmnop"), chance("abcdefgh")] == [*alone, alone[0]]


def test_a_definition_of_a_part_stands_beside_the_headline_as_a_part():
    sections = (Section("A", ("a",), LOSE), Section("B", ("b",), LOSE))
    plan = MetricPlan(
        "accuracy", "sections", sections,
        definitions=(Definition("half", {"A": 1.0}, is_part=True), Definition("weighted", {"A": 3.0, "B": 1.0})),
    )  # fmt: skip
    found = evaluate([pair(i, s, s == "a") for s in "ab" for i in range(3)], plan, replicates=20)
    assert find(found, "accuracy", "half").value == 1.0
    assert find(found, "accuracy[weighted]").value == 0.75


def test_rules_of_one_number_are_its_mean():
    for rule in (
        rules.accuracy,
        rules.reciprocal_rank,
        rules.judgebench,
        rules.both_orders,
        right_answer_wrong_process,
    ):
        assert list(rule([], {}).formula.weights.values()) == [1.0], rule


def test_a_verdict_is_tied_where_the_decision_is_or_one_order():
    def tied(first, second, **options):
        verdicts = (Verdict((0, 1), first), Verdict((1, 0), second))
        return rules.accuracy([Judgement("x", "s", "", "c", (1.0, 0.0), verdicts=verdicts)], options).ties

    assert tied("A", "A") == tied("A", "B", verdicts="majority") == set()
    assert tied("tie", "B") == tied("A", "tie") == tied("A", "A", verdicts="majority") == {"x"}


def test_no_margin_is_half_right():
    even = calibration.Margins(np.zeros(12), np.ones(12), np.arange(12), [f"p{i}" for i in range(12)])
    found = calibration.errors_at(even, 1.0)
    assert (found.ece, found.ece_equal_mass, found.brier) == (0.0, 0.0, 0.25)


def test_two_sections_without_rows_are_both_named():
    plan = MetricPlan("accuracy", "sections", tuple(Section(s.upper(), (s,), LOSE) for s in "abc"))
    found = find(evaluate([pair(i, "a", 1) for i in range(3)], plan, replicates=20), "accuracy")
    assert found.note.startswith("undefined: B: no examples of b; C: no examples of c; unweighted mean of A, B, C; ")


def test_curves_are_shares_and_losses_numbers():
    rows = [scored(i, (1.0, 0.0, 0.0), (float(i % 3), 1.0, 0.5)) for i in range(4)]
    units = {m.name: m.unit for m in best_of_k_curves(rows, {"permutations": 3}).metrics}
    assert (
        {name for name, unit in units.items() if unit == "number"} == {n for n in units if n.endswith("loss")} != set()
    )


def test_saturated_scores_are_no_merit():
    rows = [scored(i, (1.0, 0.0), (0.5 + i / 40, 0.5 - i / 40)) for i in range(1, 12)]
    found = find(diagnostics.diagnostics(rows), "scale:saturated")
    assert not found.higher_is_better
    assert find(diagnostics.diagnostics(rows), "scale:margin_sd").higher_is_better


def test_scores_of_a_table_are_no_readings_of_a_judge():
    assert readings(table.of([scored("a", (1.0, 0.0), (1.0, 0.0))])) == []
