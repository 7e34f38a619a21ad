"""Calibration: the golden numbers of the statistics specification, section B8, its properties of B13, and its guards."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from rmeval.likelihood import NotIdentifiable
from rmeval.metrics import calibration as cal
from rmeval.types import NAN, Judgement, Verdict

QUICK = settings(derandomize=True, max_examples=40, deadline=None, database=None)
MARGINS = [3, 2.5, 1, -0.5, 0.2, 2, -1, 0.8, 1.5, -0.2]
P = [0.95, 0.9, 0.8, 0.8, 0.7, 0.6, 0.6, 0.55, 0.52, 0.51]
Y = [1, 1, 1, 0, 1, 1, 0, 0, 1, 0]


def judgement(name, grades, scores, cluster=None, **more):
    return Judgement(name, "s", "", cluster or name, grades, scores=scores, **more)


def as_margins(values, clusters=None):
    """One pair per margin."""
    names = clusters or [f"p{i:04d}" for i in range(len(values))]
    rows = [judgement(str(i), (1.0, 0.0), (v, 0.0), c) for i, (v, c) in enumerate(zip(values, names, strict=True))]
    return cal.margins(rows)


def simulated(n, temperature, seed=0, scale=2.0):
    """Margins of a scorer whose log-odds are `temperature` times too large."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=n) * scale
    return temperature * np.abs(true) * np.where(rng.random(n) < 1 / (1 + np.exp(-np.abs(true))), 1, -1)


# --- temperature ---


def test_b8_temperature_golden():
    found = cal.fit_temperature(MARGINS)
    assert found.value == pytest.approx(0.869144, abs=1e-6)
    assert 1 / found.value == pytest.approx(1.150557, abs=1e-6)
    assert np.logaddexp(0, -np.array(MARGINS) / found.value).mean() == pytest.approx(0.480213, abs=1e-6)
    raw = cal.calibrate(as_margins(MARGINS)).raw
    assert raw.nll == pytest.approx(0.482380, abs=1e-6)
    assert np.mean(np.array(MARGINS) > 0) == 0.7


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_is_where_a_bounded_search_of_log_t_ends(seed):
    values = simulated(200, 3.0, seed)
    searched = optimize.minimize_scalar(
        lambda log_t: np.logaddexp(0, -values / math.exp(log_t)).mean(), bounds=(-5, 5), method="bounded"
    )
    assert cal.fit_temperature(values).value == pytest.approx(math.exp(searched.x), rel=1e-4)


def test_b13_temperature_scales_with_the_scores_and_order_changes_nothing():
    values = simulated(300, 2.0)
    found = cal.fit_temperature(values)
    scaled = cal.fit_temperature(values * 1e4)
    assert scaled.value == pytest.approx(1e4 * found.value)
    assert scaled.ci == pytest.approx([1e4 * end for end in found.ci])
    assert cal.fit_temperature(values[::-1]).value == pytest.approx(found.value, rel=1e-12)


def test_the_interval_of_the_temperature_covers():
    covered = [
        (found := cal.fit_temperature(simulated(400, 2.5, seed))).ci[0] <= 2.5 <= found.ci[1] for seed in range(400)
    ]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_repeated_margins_of_a_prompt_do_not_narrow_the_interval():
    values = simulated(100, 1.0)
    once = cal.fit_temperature(values, range(100))
    twice = cal.fit_temperature(np.tile(values, 2), [*range(100)] * 2)
    assert twice.ci == pytest.approx(once.ci)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, 2.0, 0.5], "no margin is negative"),
        ([0.0, 2.0], "no margin is negative"),
        ([-1.0, -2.0], "do not favour"),
        ([1.0, -1.0], "do not favour"),
        ([0.0, 0.0], "every margin is zero"),
        ([], "no margins"),
    ],
)
@pytest.mark.fault("F62")
def test_f62_no_temperature_is_made_up(values, said):
    with pytest.raises(NotIdentifiable, match=said):
        cal.fit_temperature(values)


def test_margins_that_cancel_but_for_rounding_favour_nothing():
    weights = [1 / 3, 1 / 9, 1 / 9, 1 / 3]
    assert 0 < np.dot(weights, [0.5, 3.0, -1.5, -1.0]) < 1e-16
    with pytest.raises(NotIdentifiable, match="do not favour"):
        cal.fit_temperature([0.5, 3.0, -1.5, -1.0], None, weights)


def test_without_a_temperature_the_errors_as_they_are_remain():
    found = cal.calibrate(as_margins([1.0] * 20))
    assert found.temperature is None
    assert found.fitted is None
    assert "no margin is negative" in found.why
    assert found.raw.nll == pytest.approx(math.log1p(math.exp(-1)))
    with pytest.raises(NotIdentifiable, match="no margins"):
        cal.calibrate(as_margins([]))


def test_few_prompts_have_no_interval_and_no_cross_fit():
    found = cal.calibrate(as_margins(MARGINS[:8]))
    assert found.temperature.ci is None
    assert found.fitted is None
    assert "only 8 different prompts" in found.why


def test_missing_margins_are_refused():
    with pytest.raises(ValueError, match="finite"):
        cal.fit_temperature([1.0, NAN, -0.5])


# --- cross-fit ---


def test_each_prompt_gets_the_temperature_of_the_others():
    values = simulated(60, 2.0)
    prompts = [f"p{i // 3}" for i in range(60)]
    fitted = cal.cross_fitted(as_margins(values, prompts))
    assert len(set(fitted)) == 5
    for name in set(prompts):
        (own,) = {t for t, prompt in zip(fitted, prompts, strict=True) if prompt == name}
        fold = fitted == own
        assert own == pytest.approx(cal.fit_temperature(values[~fold]).value)


def test_cross_fitting_does_not_depend_on_the_order_of_rows():
    values, prompts = simulated(60, 2.0), [f"p{i // 2}" for i in range(60)]
    shuffled = np.random.default_rng(1).permutation(60)
    found = cal.cross_fitted(as_margins(values, prompts))
    again = cal.cross_fitted(as_margins(values[shuffled], [prompts[i] for i in shuffled]))
    assert again == pytest.approx(found[shuffled])


def test_fitting_repairs_an_overconfident_scorer():
    found = cal.calibrate(as_margins(simulated(2000, 4.0)))
    assert found.temperature.value == pytest.approx(4.0, rel=0.1)
    assert found.raw.ece > 5 * found.raw.null_ece
    assert found.fitted.ece < found.fitted.null_ece_95
    assert found.fitted.nll < found.raw.nll
    assert found.fitted.brier < found.raw.brier
    assert found.fitted.nll_ci[0] < found.fitted.nll < found.fitted.nll_ci[1]
    assert found.fitted.brier_ci[0] < found.fitted.brier < found.fitted.brier_ci[1]


# --- errors and bins ---


def test_b8_brier_log_loss_and_ece_golden():
    assert cal.calibration_error(P, Y, bins=5) == pytest.approx(0.183, abs=1e-12)
    # read as margins: a wrong call of confidence p is a margin of -logit(p)
    values = [math.log(p / (1 - p)) * (1 if y else -1) for p, y in zip(P, Y, strict=True)]
    raw = cal.errors_at(as_margins(values), 1.0)
    assert raw.brier == pytest.approx(0.20955, abs=1e-6)
    assert raw.nll == pytest.approx(0.593881, abs=1e-6)
    assert raw.ece == pytest.approx(cal.calibration_error(P, Y))


def test_b8_null_ece_golden():
    for n, expected, tolerance in [(100, 0.100, 0.005), (1000, 0.031, 0.001), (10000, 0.0097, 0.0005)]:
        confidence = 0.5 + (np.arange(n) + 0.5) / (2 * n)
        mean, high = cal.null_calibration_error(confidence)
        assert mean == pytest.approx(expected, abs=tolerance)
        assert mean < high < 2 * mean


def test_null_ece_knows_that_pairs_of_a_prompt_hang_together():
    confidence = np.tile(0.5 + (np.arange(100) + 0.5) / 200, 3)
    apart, _ = cal.null_calibration_error(confidence)
    together, _ = cal.null_calibration_error(confidence, codes=np.tile(np.arange(100), 3))
    once, _ = cal.null_calibration_error(confidence[:100])
    assert together == pytest.approx(once, rel=0.03)
    assert apart < 0.7 * together


def test_a_bin_is_closed_on_the_right():
    found = cal.reliability([0.5, 0.55, 0.5500001, 1.0], [1, 0, 1, 1])
    assert [(round(b.low, 2), round(b.high, 2), b.n) for b in found] == [(0.5, 0.55, 2), (0.55, 0.6, 1), (0.95, 1.0, 1)]
    assert found[0].confidence == pytest.approx(0.525)
    assert found[0].accuracy == 0.5
    assert found[2].ci == pytest.approx((0.206549, 1.0), abs=1e-6)


@QUICK
@given(st.lists(st.floats(0.5, 1), min_size=10, max_size=60), st.integers(2, 10))
def test_bins_of_equal_mass_part_the_rows_evenly(confidence, bins):
    found = cal.reliability(confidence, [1] * len(confidence), bins=bins, binning="mass")
    assert sum(b.n for b in found) == len(confidence)
    if len(set(confidence)) == len(confidence):
        assert max(b.n for b in found) - min(b.n for b in found) <= 1
    assert all(a.high == b.low for a, b in itertools.pairwise(found))
    error = cal.calibration_error(confidence, [1] * len(confidence), bins=bins, binning="mass")
    assert error == pytest.approx(1 - np.mean(confidence))


@QUICK
@given(st.lists(st.integers(-40, 40), min_size=2, max_size=40), st.randoms(use_true_random=False))
def test_b13_permuting_rows_changes_no_error(values, random):
    names = [f"p{i}" for i in range(len(values))]
    order = list(range(len(values)))
    random.shuffle(order)
    found = cal.errors_at(as_margins(values, names), 1.5)
    again = cal.errors_at(as_margins([values[i] for i in order], [names[i] for i in order]), 1.5)
    assert again.nll == pytest.approx(found.nll)
    assert again.ece == pytest.approx(found.ece)
    assert again.ece_equal_mass == pytest.approx(found.ece_equal_mass)
    assert again.nll_ci == (found.nll_ci and pytest.approx(found.nll_ci))


@pytest.mark.fault("F10")
def test_huge_margins_do_not_overflow():
    found = cal.errors_at(as_margins([1e4, -1e4, 1e-300, 0.0] * 5), 1.0)
    assert found.nll == pytest.approx((1e4 + 2 * math.log(2)) / 4)
    assert 0 <= found.brier <= 1


# --- margins and scale ---


def test_margins_count_each_example_once_and_drop_none_silently():
    rows = [
        judgement("pair", (1.0, 0.0), (2.0, 1.5)),
        judgement("best of 4", (0.0, 1.0, 0.0, 0.0), (0.0, 3.0, 1.0, 4.0)),
        judgement("two right", (1.0, 1.0, 0.0), (1.0, 2.0, 0.0)),
        judgement("missing", (1.0, 0.0), (NAN, 1.0), reasons=("truncated", None)),
        judgement("infinite", (1.0, 0.0), (math.inf, 1.0)),
        judgement("unrecorded", (1.0, 0.0), ()),
        judgement("all right", (1.0, 1.0), (1.0, 2.0)),
        judgement("judged", (1.0, 0.0), (), verdicts=(Verdict((0, 1), "A"),)),
    ]
    found = cal.margins(rows)
    assert (found.n, found.n_missing, found.n_without_contrast, found.n_not_scalar) == (3, 3, 1, 1)
    assert found.clusters == ("pair", "best of 4", "two right")
    by_example = [found.values[found.example == i].tolist() for i in range(3)]
    assert by_example == [[0.5], [3.0, 2.0, -1.0], [1.0, 2.0]]
    assert found.per_example(np.ones(6)) == pytest.approx([1, 1, 1])
    assert found.per_example(found.values) == pytest.approx([0.5, 4 / 3, 1.5])


def test_the_scale_block():
    rows = [judgement("a", (1.0, 0.0), (1.0, 0.0)), judgement("b", (1.0, 0.0), (0.5, NAN))]
    found = cal.scale(rows)
    assert (found.n, found.n_missing, found.mean, found.sd) == (3, 1, 0.5, 0.5)
    assert found.quantiles == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert found.saturated == pytest.approx(2 / 3)
    assert cal.scale([judgement("a", (1.0, 0.0), (7.0, 0.0))]).saturated is None
    assert cal.scale([judgement("a", (1.0, 0.0), (NAN, NAN))]) is None


def test_the_spread_of_margins_weighs_examples_alike():
    rows = [judgement("a", (1.0, 0.0, 0.0), (1.0, 0.0, 0.0)), judgement("b", (1.0, 0.0), (3.0, 0.0))]
    assert cal.margins(rows).spread == pytest.approx(1.0)
