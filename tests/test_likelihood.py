"""Logistic regression: closed forms, clustering by prompt, and data that do not determine a coefficient."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rmeval.likelihood import NotIdentifiable, clustered_covariance, logistic, maximise

# A longer: right 30 of 40; A shorter: right 15 of 40 (the length check of the judges' specification)
LENGTH = np.repeat([1.0, 1.0, -1.0, -1.0], [30, 10, 15, 25])
RIGHT = np.repeat([1.0, 0.0, 1.0, 0.0], [30, 10, 15, 25])
X = np.column_stack([np.ones(80), LENGTH])


def test_a6_length_regression_golden():
    found = logistic(X, RIGHT, range(80))
    assert found.coefficients == pytest.approx([0.293893, 0.804719], abs=1e-6)
    assert np.sqrt(np.diag(found.model_covariance)) == pytest.approx([0.244949] * 2, abs=1e-6)
    # saturated and independent: the sandwich is the model's own, up to C/(C-1)
    assert found.standard_error(1) == pytest.approx(0.244949 * math.sqrt(80 / 79), abs=1e-6)
    low, high = found.interval(1)
    assert (low + high) / 2 == pytest.approx(0.804719, abs=1e-6)
    assert (high - low) / 2 == pytest.approx(1.990450 * found.standard_error(1), rel=1e-6)


def test_repeating_rows_inside_their_prompt_adds_no_information():
    twice = logistic(np.tile(X, (2, 1)), np.tile(RIGHT, 2), [*range(80)] * 2)
    assert twice.standard_error(1) == pytest.approx(logistic(X, RIGHT, range(80)).standard_error(1), rel=1e-9)
    assert twice.model_covariance[1, 1] == pytest.approx(logistic(X, RIGHT, range(80)).model_covariance[1, 1] / 2)


def test_a_weight_of_two_is_two_rows_of_one_prompt():
    weighted = logistic(X, RIGHT, range(80), np.full(80, 2.0))
    twice = logistic(np.tile(X, (2, 1)), np.tile(RIGHT, 2), [*range(80)] * 2)
    assert weighted.coefficients == pytest.approx(twice.coefficients)
    assert weighted.covariance == pytest.approx(twice.covariance)


def test_an_intercept_alone_has_the_clustered_error_of_a_mean():
    from rmeval import stats

    y, clusters = [1, 1, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1], "aaaabbccddee"
    found = logistic(np.ones((12, 1)), y, clusters)
    slope = (8 / 12) * (4 / 12)  # d p / d log-odds
    assert found.standard_error(0) * slope == pytest.approx(stats.clustered_se(y, clusters), rel=1e-9)


@pytest.mark.parametrize(
    ("x", "y", "clusters", "said"),
    [
        (np.ones((20, 1)), np.ones(20), range(20), "separate"),
        (np.column_stack([np.ones(20), np.arange(20.0)]), np.arange(20) > 7, range(20), "separate"),
        (X[:, [0, 0]], RIGHT, range(80), "follow from each other"),
        (np.column_stack([np.ones(80), np.zeros(80)]), RIGHT, range(80), "follow from each other"),
        (X, RIGHT, [0] * 80, "1 different prompt"),
    ],
)
def test_f62_no_coefficient_is_made_up(x, y, clusters, said):
    with pytest.raises(NotIdentifiable, match=said):
        logistic(x, y, clusters)


def test_quasi_separation_is_noticed():
    # only z = 0 has both outcomes
    z = np.repeat([-1.0, 0.0, 0.0, 1.0], 10)
    y = np.repeat([0.0, 0.0, 1.0, 1.0], 10)
    with pytest.raises(NotIdentifiable, match="separate"):
        logistic(np.column_stack([np.ones(40), z]), y, range(40))


def test_maximise_halves_steps_that_leave_the_domain():
    # log x - x: a full Newton step from 5 leads below 0
    def function(x):
        if x[0] <= 0:
            return -math.inf, np.zeros(1), np.zeros((1, 1))
        return math.log(x[0]) - x[0], np.array([1 / x[0] - 1]), np.array([[-1 / x[0] ** 2]])

    assert maximise(function, [5.0]) == pytest.approx([1.0])


def test_maximise_halves_steps_that_lead_down():
    # -sqrt(1 + x^2): a full Newton step from x leads to -x^3, further away each time
    def function(x):
        root = math.sqrt(1 + x[0] ** 2)
        return -root, np.array([-x[0] / root]), np.array([[-1 / root**3]])

    assert maximise(function, [1.5], limit=1e6) == pytest.approx([0.0], abs=1e-9)


def test_a_quadratic_is_done_in_one_step_whatever_its_curvatures():
    asked = []

    def function(x):
        asked.append(x)
        return -float(x @ (np.array([1.0, 400.0]) * x)) / 2, -np.array([1.0, 400.0]) * x, -np.diag([1.0, 400.0])

    assert maximise(function, [5.0, 5.0]) == pytest.approx([0.0, 0.0], abs=1e-12)
    assert len(asked) == 2


def test_directions_that_are_flat_but_for_rounding_are_not_moved_in():
    found = maximise(lambda x: (-float(x[0] ** 2) / 2, np.array([-x[0], 1e-9]), -np.diag([1.0, 1e-15])), [5.0, 5.0])
    assert found.tolist() == [0.0, 5.0]


def test_two_prompts_are_enough_for_a_coefficient():
    found = logistic(np.ones((4, 1)), [1, 0, 1, 1], "aabb")
    assert found.clusters == 2
    assert found.coefficients[0] == pytest.approx(math.log(3))
    assert found.standard_error(0) > 0


def test_features_are_told_apart_whatever_their_unit():
    with pytest.raises(NotIdentifiable, match="follow from each other"):
        logistic(np.zeros((80, 2)), RIGHT, range(80))
    tiny = logistic(X * 1e-16, RIGHT, range(80), limit=math.inf).coefficients
    assert tiny * 1e-16 == pytest.approx([0.293893, 0.804719], abs=1e-5)


def test_coefficients_beyond_15_are_taken_for_separation():
    per_unit = logistic(X, RIGHT, range(80)).coefficients[1]
    scaled = [X * [1.0, per_unit / most] for most in (14.9, 15.1)]
    assert logistic(scaled[0], RIGHT, range(80)).coefficients[1] == pytest.approx(14.9)
    with pytest.raises(NotIdentifiable, match="separate"):
        logistic(scaled[1], RIGHT, range(80))


def test_maximise_stays_where_no_step_however_small_leads_up():
    # -|x| has a kink at its top, where the slope that is told is wrong
    kink = maximise(lambda x: (-abs(float(x[0])), np.array([1.0]), np.array([[-1.0]])), [0.0])
    assert kink.tolist() == [0.0]


def test_the_sandwich_sums_scores_within_prompts():
    scores = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    assert clustered_covariance(scores, np.array([0, 0, 1, 1]), 2, np.eye(1))[0, 0] == pytest.approx(2 * 8)
    assert clustered_covariance(scores, np.array([0, 1, 0, 1]), 2, np.eye(1))[0, 0] == 0
