"""What must hold of intervals, tests and ranks whatever the numbers: they contain, shrink, mirror and do not depend on order."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rmeval import stats

SHARES = st.floats(0, 1)
VALUES = st.floats(-100, 100).map(lambda value: round(value, 3))
COUNTS = st.integers(0, 60)
POOLS = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=9)


@given(SHARES, st.integers(1, 10_000))
def test_wilson_holds_the_estimate_mirrors_and_shrinks_with_n(p, n):
    low, high = stats.wilson(p, n)
    assert 0 <= low <= p <= high <= 1
    assert stats.wilson(1 - p, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    more_low, more_high = stats.wilson(p, 2 * n)
    assert more_high - more_low <= high - low + 1e-12
    wider_low, wider_high = stats.wilson(p, n, critical=3.0)
    assert wider_low <= low + 1e-12
    assert high <= wider_high + 1e-12


@given(SHARES, SHARES, st.integers(1, 500))
def test_wilsons_ends_grow_with_the_share(p, q, n):
    less, more = sorted((p, q))
    assert all(a <= b + 1e-12 for a, b in zip(stats.wilson(less, n), stats.wilson(more, n), strict=True))


@settings(max_examples=50)
@given(st.lists(VALUES, min_size=1, max_size=12), VALUES)
def test_the_percentile_interval_holds_the_estimate_and_moves_with_the_numbers(replicated, estimate):
    low, high = stats.percentile_interval(replicated, estimate)
    assert low <= estimate <= high
    moved = stats.percentile_interval([one + 5 for one in replicated], estimate + 5)
    assert moved == pytest.approx((low + 5, high + 5))
    turned = stats.percentile_interval([-one for one in replicated], -estimate)
    assert turned == pytest.approx((-high, -low))


@settings(max_examples=50)
@given(st.lists(VALUES, min_size=2, max_size=20), st.randoms())
def test_the_clustered_error_knows_no_order_and_is_iid_where_every_cluster_is_one_row(values, random):
    assert stats.clustered_se(values, range(len(values))) == pytest.approx(stats.iid_se(values), rel=1e-9, abs=1e-12)
    clusters = [random.randrange(3) for _ in values]
    assume(len(set(clusters)) > 1)
    both = list(zip(values, clusters, strict=True))
    random.shuffle(both)
    again = stats.clustered_se([v for v, _ in both], [f"named {c}" for _, c in both])
    assert again == pytest.approx(stats.clustered_se(values, clusters), rel=1e-9, abs=1e-12)


@settings(max_examples=50)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=12), st.randoms())
def test_sign_flips_know_no_side_no_order_and_no_row_without_a_difference(differences, random):
    p = stats.sign_flip(differences)
    assert 0 < p <= 1
    assert stats.sign_flip([-one for one in differences]) == p
    assert stats.sign_flip([*differences, 0.0]) == p
    shuffled = list(differences)
    random.shuffle(shuffled)
    assert stats.sign_flip(shuffled) == pytest.approx(p)
    if len(set(differences)) == 1 and differences[0]:
        assert p == pytest.approx(2.0 ** (1 - len(differences)))


@settings(max_examples=40)
@given(COUNTS, COUNTS)
def test_mcnemar_is_symmetric_and_the_sign_flip_of_binary_rows(b, c):
    exact, mid = stats.mcnemar(b, c), stats.mcnemar_mid_p(b, c)
    assert 0 < exact <= 1
    assert exact == stats.mcnemar(c, b)
    assert mid <= exact
    if b + c <= 12:
        assert stats.sign_flip([1.0] * b + [-1.0] * c) == pytest.approx(exact)


@given(st.lists(SHARES, min_size=1, max_size=10))
def test_the_false_discovery_rate_corrects_less_than_the_family(p):
    holm, found = stats.holm(p), stats.benjamini_hochberg(p)
    assert all(a <= b + 1e-15 <= 1 + 1e-12 for a, b in zip(found, holm, strict=True))


@settings(max_examples=30)
@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_rank_sets_hold_the_rank_and_follow_their_scorers(k, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=k).round(2)
    drawn = values + rng.normal(scale=0.2, size=(60, k))
    found = stats.rank_sets(values, drawn)
    for i in range(k):
        rank = 1 + sum(values > values[i])
        assert 1 <= found.best[i] <= rank <= found.worst[i] <= k
        assert i not in found.tied[i]
        assert all(i in found.tied[j] for j in found.tied[i])
    order = rng.permutation(k)
    turned = stats.rank_sets(values[order], drawn[:, order])
    assert turned.best == tuple(found.best[i] for i in order)
    assert turned.worst == tuple(found.worst[i] for i in order)


@settings(max_examples=50)
@given(POOLS, st.randoms())
def test_best_of_n_grows_for_a_scorer_that_knows_and_lies_among_the_rewards(pool, random):
    scores, rewards = [s for s, _ in pool], [r for _, r in pool]
    known = [stats.expected_best_of_n(rewards, rewards, n) for n in range(1, len(pool) + 1)]
    assert all(a <= b + 1e-9 for a, b in pairwise(known))
    assert known[0] == pytest.approx(np.mean(rewards), abs=1e-9)
    assert known[-1] == pytest.approx(max(rewards), abs=1e-9)
    random.shuffle(pool)
    for n in range(1, len(pool) + 1):
        value = stats.expected_best_of_n(scores, rewards, n)
        assert min(rewards) - 1e-9 <= value <= known[n - 1] + 1e-9
        assert stats.expected_best_of_n([s for s, _ in pool], [r for _, r in pool], n) == pytest.approx(value, abs=1e-9)


@given(st.floats(0.001, 0.5), st.floats(0.001, 2), st.floats(0.5, 0.99))
def test_so_many_prompts_find_the_effect_that_they_are_for(effect, variance, power):
    n = stats.sample_size(effect, variance, power)
    assert stats.minimum_detectable_effect(math.sqrt(variance / n), power) <= effect * (1 + 1e-9)
    if n > 1:
        assert stats.minimum_detectable_effect(math.sqrt(variance / (n - 1)), power) > effect * (1 - 1e-9)


@given(st.integers(1, 10_000))
def test_the_distance_of_best_of_n_grows_and_is_none_for_one(n):
    assert stats.best_of_n_kl(1) == 0
    assert 0 <= stats.best_of_n_kl(n) < stats.best_of_n_kl(n + 1)
