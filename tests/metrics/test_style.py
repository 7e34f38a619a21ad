"""Length and markup: closed forms, what they recover from made scorers, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmeval import stats
from rmeval.likelihood import NotIdentifiable
from rmeval.metrics import style
from rmeval.metrics.contrasts import Contrasts
from rmeval.types import NAN, Judgement, Verdict

QUICK = settings(derandomize=True, max_examples=40, deadline=None, database=None)


def judgement(name, scores, lengths, grades=(1.0, 0.0), cluster=None, **more):
    return Judgement(str(name), "s", "", cluster or f"p{name}", grades, scores=scores, lengths=lengths, **more)


def made(n, label=1.0, length=0.0, bold=0.0, seed=0):
    """Pairs scored by label, log length and bold spans, with logistic noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        sizes = np.exp(rng.normal(5, 0.5, 2)).astype(int) + 1
        spans = rng.integers(0, 6, 2)
        scores = length * np.log(sizes) + bold * np.log1p(spans) + [label, 0.0]
        noise = rng.logistic()  # the difference of two Gumbel draws
        markup = tuple((0, int(rng.integers(0, 4)), int(b)) for b in spans)
        rows.append(judgement(i, (scores[0] + noise, scores[1]), tuple(sizes.tolist()), markup=markup))
    return rows


# --- regression ---


def test_a6_length_regression_golden():
    # right 30 of 40 times when longer, 15 of 40 when shorter
    rows = [
        judgement(f"{sign}{i}", (1.0, 0.0) if i < right else (0.0, 1.0), (200, 100) if sign > 0 else (100, 200))
        for sign, right in ((1, 30), (-1, 15))
        for i in range(40)
    ]
    found = style.preferences(rows).length_fit()
    assert found.features["length"].value == pytest.approx(0.804719, abs=1e-6)
    assert found.accuracy.value == pytest.approx(1 / (1 + math.exp(-0.293893)), abs=1e-6)
    low, high = found.features["length"].ci
    assert (high - low) / 2 == pytest.approx(stats.t_quantile(0.975, 79) * 0.244949 * math.sqrt(80 / 79), abs=1e-5)
    assert found.sd["length"] == pytest.approx(math.log(2))


@pytest.mark.parametrize(("label", "length", "bold"), [(1.0, 0.0, 0.0), (0.5, 1.2, 0.0), (0.5, -0.8, 0.7)])
def test_the_regression_recovers_what_a_scorer_goes_by(label, length, bold):
    found = style.preferences(made(4000, label, length, bold)).style_fit()
    per_unit = {name: pull.value / found.sd[name] for name, pull in found.features.items()}
    assert per_unit["length"] == pytest.approx(length, abs=0.15)
    assert per_unit["bold"] == pytest.approx(bold, abs=0.15)
    assert found.accuracy.value == pytest.approx(1 / (1 + math.exp(-label)), abs=0.03)
    assert found.accuracy.ci[0] < found.accuracy.value < found.accuracy.ci[1]
    for name, truth in (("length", length), ("bold", bold), ("list_items", 0.0)):
        low, high = found.features[name].ci
        assert low < truth * found.sd[name] < high
    assert found.constant == ("headings",)


@QUICK
@given(st.integers(0, 10_000))
def test_the_order_of_candidates_has_no_influence(seed):
    rows = made(40, 0.3, 0.5, 0.0, seed)
    turned = [
        replace(j, grades=j.grades[::-1], scores=j.scores[::-1], lengths=j.lengths[::-1]) if i % 2 else j
        for i, j in enumerate(rows)
    ]
    found, again = (style.preferences(r).length_fit() for r in (rows, turned))
    assert again.features["length"].value == pytest.approx(found.features["length"].value)
    assert again.features["length"].ci == pytest.approx(found.features["length"].ci)
    assert again.accuracy.value == pytest.approx(found.accuracy.value)


def test_b13_a_constant_or_a_scale_on_all_scores_changes_nothing():
    rows = made(60, 0.5, 0.5)
    changed = [replace(j, scores=tuple(7.0 + 3.0 * s for s in j.scores)) for j in rows]
    found, again = style.preferences(rows), style.preferences(changed)
    assert again.length_fit().features == found.length_fit().features
    assert again.strata() == found.strata()


def test_prompts_that_repeat_do_not_narrow_the_interval():
    rows = made(60, 0.5, 0.5)
    twice = [replace(j, id=f"{j.id}/{copy}") for copy in "ab" for j in rows]
    once, again = (style.preferences(r).length_fit().features["length"] for r in (rows, twice))
    assert again.value == pytest.approx(once.value)
    assert again.ci == pytest.approx(once.ci)


def test_examples_of_many_candidates_count_once():
    rows = made(60, 0.5, 0.5)
    # the same wrong candidate three times over
    wide = [
        replace(j, grades=(1.0, 0.0, 0.0, 0.0), scores=(j.scores[0], *[j.scores[1]] * 3), lengths=(j.lengths[0], *[j.lengths[1]] * 3))
        if i % 2
        else j
        for i, j in enumerate(rows)
    ]  # fmt: skip
    found, again = style.preferences(rows), style.preferences(wide)
    assert again.length_fit().features["length"].value == pytest.approx(found.length_fit().features["length"].value)
    assert again.strata().longer.value == pytest.approx(found.strata().longer.value)
    assert again.strata().longer.n == found.strata().longer.n


def length_is_all(n):
    return [judgement(i, tuple(map(float, pair)), pair) for i in range(n) for pair in [(100 + i, 150 - 2 * i)]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (made(9), "only 9 different prompts"),
        (length_is_all(30), "separate"),
        ([judgement(i, (1.0, i % 2), (100, 100)) for i in range(20)], "no pair differs in length"),
        ([judgement(i, (i % 3, 1.0), (200, 100)) for i in range(20)], "follow from each other"),
        ([], "only 0 different prompts"),
    ],
)
@pytest.mark.fault("F62")
def test_f62_no_coefficient_is_made_up(rows, said):
    with pytest.raises(NotIdentifiable, match=said):
        style.preferences(rows).length_fit()


def test_markup_must_be_known_of_every_example():
    rows = made(30)
    rows[3] = replace(rows[3], markup=())
    assert not style.preferences(rows).has_markup
    with pytest.raises(NotIdentifiable, match="not recorded"):
        style.preferences(rows).style_fit()


# --- strata ---


def test_accuracy_by_which_is_longer():
    rows = (
        [judgement(f"l{i}", (1.0, 0.0) if i < 18 else (0.0, 1.0), (120, 100)) for i in range(20)]
        + [judgement(f"s{i}", (1.0, 0.0) if i < 6 else (0.0, 1.0), (100, 120)) for i in range(12)]
        + [judgement(f"e{i}", (1.0, 1.0), (110, 100)) for i in range(3)]
    )
    found = style.preferences(rows).strata()
    assert (found.longer.value, found.longer.n) == (0.9, 20)
    assert (found.shorter.value, found.shorter.n) == (0.5, 12)
    assert (found.similar.value, found.similar.n) == (0.5, 3)
    assert found.controlled.value == pytest.approx(0.7)
    expected = stats.mean_interval([1.0] * 18 + [0.0] * 2)
    assert found.longer.ci == (expected.low, expected.high)
    variance = (0.9 * 0.1 / 20 + 0.5 * 0.5 / 12) / 4 * 32 / 31
    assert found.controlled.ci[1] - 0.7 == pytest.approx(stats.t_quantile(0.975, 31) * math.sqrt(variance))


def test_a_scorer_that_goes_by_length_is_at_chance_where_length_is_controlled():
    rng = np.random.default_rng(0)
    # the right candidate is longer three times in four
    sizes = [(300, 100) if rng.random() < 0.75 else (100, 300) for _ in range(400)]
    found = style.preferences([judgement(i, tuple(map(float, s)), s) for i, s in enumerate(sizes)]).strata()
    assert (found.longer.value, found.shorter.value, found.controlled.value) == (1.0, 0.0, 0.5)
    assert found.controlled.ci is None
    assert found.longer.ci[0] < 1


def test_prompts_in_both_strata_keep_their_covariance():
    # each prompt has one pair of either kind, right together or wrong together
    rows = [
        judgement(f"{kind}{i}", (1.0, 0.0) if i % 2 else (0.0, 1.0), size, cluster=f"p{i}")
        for i in range(40)
        for kind, size in (("l", (200, 100)), ("s", (100, 200)))
    ]
    found = style.preferences(rows).strata()
    half = stats.t_quantile(0.975, 39) * stats.iid_se([float(i % 2) for i in range(40)])
    assert found.controlled.ci == pytest.approx((0.5 - half, 0.5 + half))


def test_empty_strata_have_no_accuracy():
    found = style.preferences([judgement(i, (1.0, 0.0), (200, 100)) for i in range(12)]).strata()
    assert found.shorter is None
    assert found.similar is None
    assert found.controlled is None


# --- from judgements ---


def test_what_cannot_enter_is_counted():
    rows = [
        judgement("kept", (1.0, 0.0), (10, 20)),
        judgement("missing", (NAN, 0.0), (10, 20)),
        judgement("no text", (1.0, 0.0), ()),
        judgement("no contrast", (1.0, 0.0), (10, 20), grades=(1.0, 1.0)),
        judgement("judged", (), (10, 20), verdicts=(Verdict((0, 1), "A"), Verdict((1, 0), "A"))),
    ]
    found = style.preferences(rows)
    assert [j.id for j in found.pairs.judgements] == ["kept", "judged"]
    assert (found.n_missing, found.n_without_text) == (1, 1)
    assert found.wins.tolist() == [1.0, 0.5]
    assert found.conversions == ("verdicts converted to the share of comparisons won",)


def test_an_empty_response_counts_as_one_character():
    assert style.preferences([judgement("x", (1.0, 0.0), (0, 10))]).log_ratio.tolist() == [-math.log(10)]


@QUICK
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=5), st.integers(0, 100))
def test_contrasts_are_every_right_candidate_against_every_wrong_one(grades, seed):
    values = np.random.default_rng(seed).integers(0, 9, len(grades)).tolist()
    rows = (judgement("x", tuple(values), (), grades=tuple(grades)), judgement("y", (3, 1), (), grades=(0.0, 1.0)))
    found = Contrasts(rows)
    best = max(grades)
    expected = [a - b for a, g in zip(values, grades, strict=True) if g == best for b, h in zip(values, grades, strict=True) if h != best]  # fmt: skip
    got = found.between(lambda j: j.scores)
    assert sorted(got[found.example == 0].tolist()) == sorted(expected)
    assert got[found.example == 1].tolist() == [-2]
    assert found.weights[found.example == 0].sum() == pytest.approx(float(bool(expected)))
    assert found.clusters == tuple(rows[i].cluster for i in found.example)
