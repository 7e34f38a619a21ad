"""Cases that altered statistics got through, found by tests/mutation: sixteen clusters, defaults, two rows."""

from __future__ import annotations

import numpy as np
import pytest

from rmeval import bradley_terry, stats


def test_sixteen_clusters_are_still_enumerated():
    draw = np.random.default_rng(0)
    differences = draw.normal(size=(16, 2)) + 0.3
    ids = list(range(16))
    exact = [stats.sign_flip(column) for column in differences.T]
    assert stats.sign_flips(differences, ids).tolist() == exact
    assert all(p * 2**16 == round(p * 2**16) for p in exact)


def test_seeds_are_0_unless_said():
    draw = np.random.default_rng(1)
    d, ids = draw.normal(size=(40, 1)) + 0.2, list(range(40))
    for test in (lambda **seed: stats.sign_flips(d, ids, **seed)[0], lambda **seed: stats.sign_flip(d[:, 0], **seed)):
        assert test() == test(seed=0) != test(seed=1)
    sums = draw.normal(size=(12, 1))
    means = [stats.cluster_bootstrap(sums, np.ones((12, 1)), **seed) for seed in ({}, {"seed": 0}, {"seed": 1})]
    assert means[0].tolist() == means[1].tolist() != means[2].tolist()
    assert len(means[0]) == 2000


def test_many_columns_are_flipped_as_each_alone():
    """Columns of too many clusters to enumerate, with small, middling and large p, and one that moves in few."""
    draw = np.random.default_rng(2)
    d = draw.normal(size=(60, 5)) + np.array([0.0, 0.15, 0.3, 3.0, 0.0])
    d[10:, 4] = 0.0
    ids = [i // 2 for i in range(60)]
    found = stats.sign_flips(d, ids, flips=20_000)
    alone = [stats.sign_flip(column, ids, flips=200_000, seed=7) for column in d.T]
    assert found[:3] == pytest.approx(alone[:3], abs=0.015)
    assert found[4] == alone[4] == stats.sign_flip(d[:10, 4], ids[:10])
    # beyond what flips can resolve there is a bound in closed form
    sums = d[:, 3].reshape(30, 2).sum(axis=1)
    assert found[3] == pytest.approx(2 * np.exp(-(sums.sum() ** 2) / (2 * np.square(sums).sum())))
    assert found[3] < 1 / 20_001


def test_of_many_columns_none_has_a_p_of_0_or_above_1():
    even = np.tile([[1.0], [-1.0]], (20, 1))  # every flip reaches a sum of at least 0
    assert stats.sign_flips(even, range(40), flips=500).tolist() == [1.0]
    assert stats.sign_flips(np.zeros((40, 1)), range(40)).tolist() == [1.0]
    hits = stats.sign_flips(np.full((20, 1), 1.0) + np.eye(20)[:, :1], range(20), flips=1).tolist()
    assert hits[0] > 0


def test_two_prompts_are_enough_for_an_error_of_ratings():
    rows = {"first": ["a", "b", "a", "b"], "second": ["b", "a", "b", "a"], "outcomes": [1.0, 1.0, 1.0, 0.0]}
    fitted = bradley_terry.fit(*rows.values(), clusters=["p", "p", "q", "q"])
    assert np.isfinite(fitted.covariance).all()


def test_what_is_drawn_in_blocks_is_as_much_as_was_asked_for(monkeypatch):
    even = np.tile([1.0, -1.0], 20)  # every flip reaches a sum of 0: each one counts
    sums, counts = np.arange(7.0)[:, None], np.ones((7, 1))
    for block in (10, 25, 1_000):  # the last block smaller than the others, of their size, and the only one
        monkeypatch.setattr(stats, "_BLOCK", block * 40)
        assert stats.sign_flip(even, flips=25) == 1.0
        assert stats.sign_flips(even[:, None], range(40), flips=25).tolist() == [1.0]
        monkeypatch.setattr(stats, "_BLOCK", block * 7)
        means = stats.cluster_bootstrap(sums, counts, replicates=25)
        assert means.shape == (25, 1)
        assert ((means >= 0) & (means <= 6)).all()
        assert len(np.unique(means)) > 5


def test_one_value_that_is_missing_is_enough_to_refuse():
    d = np.ones((20, 2))
    d[3, 1] = np.nan
    with pytest.raises(ValueError, match="finite differences"):
        stats.sign_flips(d, range(20))
    with pytest.raises(ValueError, match="finite differences"):
        stats.sign_flip(d[:, 1])
    with pytest.raises(ValueError, match="finite values"):
        stats.mean_interval(d[:, 1])


@pytest.mark.parametrize("k", [1, 2, 6])
@pytest.mark.parametrize("close", [None, 1, 40])
def test_rank_sets_are_those_of_all_pairs_one_by_one(monkeypatch, k, close):
    if close is not None:
        monkeypatch.setattr(stats, "_CLOSE", close)
    draw = np.random.default_rng(k)
    theta = np.round(draw.normal(size=k), 1)
    boot = theta + draw.normal(size=(301, k)) * draw.uniform(0.05, 0.3, size=k)
    boot[0] = theta + 3 * np.arange(k)  # the largest of all is the first
    found = stats.rank_sets(theta, boot)
    pairs = [(i, j) for i in range(k) for j in range(k) if i != j]
    error = {(i, j): (boot[:, i] - boot[:, j]).std(ddof=1) for i, j in pairs}
    largest = [max((abs(b[i] - b[j] - theta[i] + theta[j]) / error[i, j] for i, j in pairs), default=0.0) for b in boot]
    critical = float(np.quantile(largest, 0.95))
    assert found.critical == pytest.approx(critical)
    better = {(i, j) for i, j in pairs if theta[j] - theta[i] > critical * error[i, j]}
    assert found.best == tuple(1 + sum((i, j) in better for j in range(k)) for i in range(k))
    assert found.worst == tuple(k - sum((j, i) in better for j in range(k)) for i in range(k))
    assert found.tied == tuple(
        tuple(j for j in range(k) if j != i and (i, j) not in better and (j, i) not in better) for i in range(k)
    )
    assert stats.paired_errors(boot) == pytest.approx(
        np.array([[error.get((i, j), 0.0) for j in range(k)] for i in range(k)])
    )


def test_errors_of_pairs_that_move_together_are_those_of_their_differences():
    """Of two that differ by a millionth of what each moves the squares cancel."""
    draw = np.random.default_rng(0)
    common, own = draw.normal(size=(200, 1)), 1e-6 * draw.normal(size=(200, 3))
    boot = np.concatenate([common + own, draw.normal(size=(200, 1))], axis=1)
    exact = np.array([[(boot[:, i] - boot[:, j]).std(ddof=1) for j in range(4)] for i in range(4)])
    assert stats.paired_errors(boot) == pytest.approx(exact, rel=1e-9)
    assert stats.paired_errors(boot[:2])[0, 3] == pytest.approx((boot[:2, 0] - boot[:2, 3]).std(ddof=1))
    assert stats.paired_errors(boot[:1]).tolist() == np.zeros((4, 4)).tolist()


def test_two_clusters_have_an_error():
    assert stats.clustered_se([1.0, 0.0, 1.0, 1.0], "aabb") == pytest.approx(0.25)  # means of 0.5 and 1
    assert stats.clustered_se([1.0, 0.0], "ab") == stats.iid_se([1.0, 0.0]) == 0.5
    assert np.isnan(stats.iid_se([1.0]))


def test_seventeen_clusters_are_too_many_to_enumerate():
    """Above what flips resolve they are flipped; below, the bound in closed form is the p."""
    sums = np.concatenate([np.ones(12), -np.ones(5)])
    for flips in (100, 12_000):
        for p in (stats.sign_flips(sums[:, None], range(17), flips=flips)[0], stats.sign_flip(sums, flips=flips)):
            assert p * (1 + flips) == pytest.approx(round(p * (1 + flips)), abs=1e-9)
    bound = 2 * np.exp(-17 / 2)
    assert stats.sign_flips(np.ones((17, 1)), range(17), flips=1000)[0] == pytest.approx(bound, rel=1e-12)
    # of 20 clusters the bound, 2 exp(-10), lies below 1 / 11013 and above 1 / 11014
    for flips in (11_013, 12_000):
        flipped = stats.sign_flips(np.ones((20, 1)), range(20), flips=flips)[0] * (1 + flips)
        assert flipped == pytest.approx(round(flipped), abs=1e-9)
    for flips in (10_000, 11_012):
        found = stats.sign_flips(np.ones((20, 1)), range(20), flips=flips)[0]
        assert found == pytest.approx(2 * np.exp(-10), rel=1e-12)


def test_there_are_ten_thousand_flips_unless_said():
    d = np.random.default_rng(4).normal(size=(40, 1)) + 0.1
    for found in (stats.sign_flip(d[:, 0]), stats.sign_flips(d, range(40))[0]):
        assert found > 0.1
        assert found * 10_001 == pytest.approx(round(found * 10_001), abs=1e-6)


def test_sums_that_are_not_exact_are_taken_in_one_order():
    """Numbers that are no multiples of 2^-20, and multiples whose sums pass 2^53: a BLAS adds in an order of its own."""
    draw = np.random.default_rng(0)
    times = draw.integers(0, 4, size=(30, 3000)).astype(float)
    large = draw.integers(0, 2**20, size=(3000, 2)) * 2.0**-20 + 2.0**32
    large[0] = 0.0
    middling = draw.integers(2**41, 2**42, size=(3000, 2)) * 2.0**-20  # 3000 of the largest lie between 2^53 and 2^54
    shares = draw.integers(0, 8, size=(3000, 2))
    for part in (draw.random((3000, 2)), large, middling, shares % 4 / 3, shares / 10):
        assert (stats._weighed(times, part) == np.einsum("rc,cl->rl", times, part)).all()


def test_a_pair_that_never_moves_against_each_other_has_no_part_in_the_critical_value():
    common = np.linspace(0.0, 1.0, 50)[:, None]
    found = stats.rank_sets([0.6, 0.5], common + np.array([[0.4, 0.1]]))
    assert found.critical == pytest.approx(0.0)
    assert stats.rank_sets([0.6, 0.5], np.empty((0, 2))).critical == 0.0
    assert (found.best, found.worst) == ((1, 2), (1, 2))


def test_an_interval_of_a_proportion_never_passes_its_ends_by_rounding():
    for n in range(1, 60):
        for critical in (1.959963984540054, 2.0, 12.706):
            assert stats.wilson(0.0, n, critical)[0] == 0.0
            assert stats.wilson(1.0, n, critical)[1] == 1.0


def test_an_even_split_has_a_mid_p_below_one():
    assert stats.mcnemar(3, 3) == 1.0
    assert stats.mcnemar_mid_p(3, 3) == pytest.approx(1 - 20 / 64)
    assert stats.mcnemar_mid_p(1, 0) == pytest.approx(0.5)


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_p_values_know_no_unit(scale):
    draw = np.random.default_rng(5)
    d = np.concatenate([draw.normal(size=(40, 2)) + 0.2, np.ones((40, 1)), draw.integers(-1, 2, size=(40, 1))], axis=1)
    d[20:, 2] = 0.0  # of 20 clusters, and beyond what flips resolve
    assert stats.sign_flips(scale * d, range(40)) == pytest.approx(stats.sign_flips(d, range(40)), rel=1e-12)
    assert stats.sign_flip(scale * d[:, 3]) == stats.sign_flip(d[:, 3])


def test_strata_of_clusters_that_touch_different_columns():
    counts = np.array([[1.0, 0.0]] * 300 + [[1.0, 1.0]] * 300)
    means = stats.cluster_bootstrap(counts * [0.25, 0.75], counts, ["all"] * 600, replicates=20)
    assert means == pytest.approx(np.tile([0.25, 0.75], (20, 1)))


def test_values_beyond_either_bound_are_refused():
    for odd in ([-1.0, 0.5, 0.5], [0.5, 1.5, 0.5]):
        with pytest.raises(ValueError, match="outside the bounds"):
            stats.mean_interval(odd)
