"""Edges of figures, their notes and their folds that altered code got through, found by tests/mutation."""

from __future__ import annotations

import numpy as np
import pytest
from made_pairs import LOSE, find, pair

from rmeval.likelihood import NotIdentifiable
from rmeval.metrics import calibration, rules
from rmeval.metrics.evaluate import evaluate
from rmeval.metrics.judge_calls import Reading, stability
from rmeval.metrics.plan import MetricPlan, Section
from rmeval.types import Judgement, Verdict


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
