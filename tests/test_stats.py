"""Golden numbers and properties of the statistics; test names say which section of the specification they prove."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as sps

from rmeval import stats

QUICK = settings(derandomize=True, max_examples=60, deadline=None, database=None)

# values 1110|10|11|00|11 in clusters of 4, 2, 2, 2, 2
VALUES = [1, 1, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1]
CLUSTERS = list("aaaabbccddee")


@st.composite
def clustered(draw, least=2, soft=True):
    """Values in [0, 1] with cluster ids."""
    n = draw(st.integers(least, 40))
    value = st.floats(0, 1, allow_subnormal=False) if soft else st.sampled_from([0.0, 1.0])
    values = draw(st.lists(value, min_size=n, max_size=n))
    clusters = draw(st.lists(st.integers(0, max(1, n // 2)), min_size=n, max_size=n))
    return np.array(values), [f"c{c}" for c in clusters]


# --- B2: means and intervals ---


def test_b2_standard_errors_golden():
    assert stats.iid_se(VALUES) == pytest.approx(0.142134, abs=5e-7)
    assert stats.clustered_se(VALUES, CLUSTERS) == pytest.approx(0.158358, abs=5e-7)


def test_b2_clustered_se_is_ols_with_cluster_robust_covariance():
    # the sandwich of an intercept-only regression, written out
    x = np.ones((12, 1))
    residual = np.array(VALUES) - np.mean(VALUES)
    bread = np.linalg.inv(x.T @ x)
    meat = sum(
        np.outer(s := x[rows].T @ residual[rows], s)
        for rows in ([i for i, c in enumerate(CLUSTERS) if c == name] for name in sorted(set(CLUSTERS)))
    )
    correction = 5 / 4 * 11 / 11  # C/(C-1) * (n-1)/(n-k), k = 1
    assert stats.clustered_se(VALUES, CLUSTERS) == pytest.approx(math.sqrt((correction * bread @ meat @ bread)[0, 0]))


def test_b2_cluster_bootstrap_matches_all_3125_resamples():
    sums, sizes = np.array([3, 1, 2, 0, 2.0]), np.array([4, 2, 2, 2, 2.0])
    exact = [sums[list(pick)].sum() / sizes[list(pick)].sum() for pick in itertools.product(range(5), repeat=5)]
    assert np.std(exact) == pytest.approx(0.149775, abs=5e-7)
    drawn = stats.cluster_bootstrap(sums[:, None], sizes[:, None], replicates=60_000, seed=1)[:, 0]
    assert drawn.std() == pytest.approx(np.std(exact), rel=0.01)
    assert drawn.mean() == pytest.approx(np.mean(exact), abs=0.002)
    for p in (2.5, 50, 97.5):
        assert np.percentile(drawn, p) == pytest.approx(np.percentile(exact, p), abs=0.01)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(90, 100, 0.825634, 0.944771), (5, 5, 0.565518, 1), (0, 10, 0, 0.277533), (743, 1000, 0.715022, 0.769118)],
)
def test_b2_wilson_golden(k, n, low, high):
    assert stats.wilson(k / n, n) == pytest.approx((low, high), abs=5e-7)
    oracle = sps.binomtest(k, n).proportion_ci(method="wilson")
    assert stats.wilson(k / n, n) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_b2_clustered_wilson_is_wilson_at_the_effective_size():
    p, se = np.mean(VALUES), 0.158358
    n_eff, t = p * (1 - p) / se**2, sps.t.ppf(0.975, 4)
    assert n_eff < 12
    assert stats.clustered_wilson(VALUES, CLUSTERS) == pytest.approx(stats.wilson(p, n_eff, t), abs=1e-5)


def test_b2_effective_size_is_never_above_n():
    # negative correlation within prompts would make the rows worth more than independent ones
    values, clusters = [1, 0, 1, 0, 1, 0, 1, 1], list("aabbccdd")
    assert stats.clustered_se(values, clusters) < stats.iid_se(values)
    assert stats.clustered_wilson(values, clusters) == pytest.approx(stats.wilson(0.625, 8, sps.t.ppf(0.975, 3)))


@pytest.mark.parametrize("values", [[1.0] * 30, [0.0] * 30])
@pytest.mark.fault("F59")
def test_f59_all_right_or_all_wrong_has_a_finite_interval(values):
    found = stats.mean_interval(values)
    assert found.method == "clustered Wilson"
    assert found.low <= values[0] <= found.high
    assert 0 < found.high - found.low < 0.2
    assert math.isfinite(found.low + found.high)


def test_all_right_is_worth_as_many_rows_as_prompts():
    many_rows = stats.mean_interval([1.0] * 30, [f"p{i // 3}" for i in range(30)])
    ten_prompts = stats.mean_interval([1.0] * 10)
    assert (many_rows.low, many_rows.high) == (ten_prompts.low, ten_prompts.high)


def test_mean_interval_uses_t_from_ten_prompts_on_and_wilson_below_and_for_proportions():
    values = [0.0, 0.25, 0.75, 1.0, 0.5] * 2
    t = stats.mean_interval(values)
    assert t.method == "clustered t"
    half = sps.t.ppf(0.975, 9) * stats.iid_se(values)
    assert (t.low, t.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert stats.mean_interval(values[:9]).method == "clustered Wilson"
    assert stats.mean_interval([0.0, 1.0] * 50).method == "clustered Wilson"
    # one row per prompt: the effective size is that of the rows (n - 1 for n in the variance), t for the normal
    low, high = stats.wilson(0.5, 99, sps.t.ppf(0.975, 99))
    found = stats.mean_interval([0.0, 1.0] * 50)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_what_cannot_be_resampled_honestly_does_not_depend_on_the_kind_of_interval():
    assert stats.hardly_varies([1.0] * 50, range(50))
    assert stats.hardly_varies([0.0, 1.0], range(2))
    assert not stats.hardly_varies([0.0, 1.0] * 50, range(100))


@pytest.mark.fault("F60")
def test_f60_one_cluster_is_not_estimable_and_all_distinct_equals_iid():
    assert stats.mean_interval([1, 0, 1], ["p", "p", "p"]) is None
    assert math.isnan(stats.clustered_se([1, 0, 1], ["p", "p", "p"]))
    assert stats.clustered_se(VALUES, range(12)) == pytest.approx(stats.iid_se(VALUES))
    with pytest.raises(ValueError, match="3 values but 2 cluster ids"):
        stats.mean_interval([1, 0, 1], ["p", "q"])


def test_mean_interval_refuses_missing_and_out_of_range_values():
    with pytest.raises(ValueError, match="finite"):
        stats.mean_interval([1.0, math.nan])
    with pytest.raises(ValueError, match="outside the bounds"):
        stats.mean_interval([0.0, 2.0])


def test_mean_interval_without_bounds_serves_differences():
    d = [1, -1, 0, 0, 1, 1, 0, 1, -1, 1, 0, 1]
    found = stats.mean_interval(d, bounds=None)
    half = sps.t.ppf(0.975, 11) * stats.iid_se(d)
    assert (found.low, found.high) == pytest.approx((np.mean(d) - half, np.mean(d) + half))
    assert stats.mean_interval([0.25] * 12, bounds=None) is None


# --- bootstrap ---


@pytest.mark.fault("F64")
def test_f64_bootstrap_is_the_same_in_every_run_and_differs_by_seed():
    rng = np.random.default_rng(0)
    sums, counts = rng.random((50, 3)), np.ones((50, 3))
    again = [stats.cluster_bootstrap(sums, counts, replicates=200, seed=7) for _ in range(2)]
    assert (again[0] == again[1]).all()
    assert (again[0] != stats.cluster_bootstrap(sums, counts, replicates=200, seed=8)).any()


def test_bootstrap_blocks_draw_the_same_distribution(monkeypatch):
    rng = np.random.default_rng(0)
    sums, counts = (rng.random((40, 1)) < 0.7) * 1.0, np.ones((40, 1))
    whole = stats.cluster_bootstrap(sums, counts, replicates=4000)
    monkeypatch.setattr(stats, "_BLOCK", 1000)  # 25 replicates at a time
    assert (stats.cluster_bootstrap(sums, counts, replicates=4000) == whole).all()


def test_bootstrap_strata_keep_every_column_populated():
    # 3 prompts of a rare subset beside 500 others: unstratified resamples would lose it about one time in twenty
    counts = np.zeros((503, 2))
    counts[:3, 0] = 1
    counts[3:, 1] = 1
    drawn = stats.cluster_bootstrap(counts * [[0.0, 1.0]], counts, replicates=500)
    assert np.isfinite(drawn).all()
    pooled = stats.cluster_bootstrap(counts * [[0.0, 1.0]], counts, ["all"] * 503, replicates=500)
    assert np.isnan(pooled[:, 0]).any()


def test_b6_macro_of_three_subsets_golden():
    hits, sizes = [45, 80, 190], [50, 100, 200]
    rows = [(s, float(i < h)) for s, (h, n) in enumerate(zip(hits, sizes, strict=True)) for i in range(n)]
    sums, counts = np.zeros((350, 3)), np.zeros((350, 3))
    for c, (s, v) in enumerate(rows):
        sums[c, s], counts[c, s] = v, 1
    drawn = stats.cluster_bootstrap(sums, counts, replicates=20_000)
    assert drawn.std(axis=0) == pytest.approx([0.042426, 0.04, 0.015411], rel=0.02)
    assert sums.sum(axis=0) / counts.sum(axis=0) == pytest.approx([0.9, 0.8, 0.95])
    assert drawn.mean(axis=1).std() == pytest.approx(0.020104, rel=0.02)  # macro
    micro = (drawn * counts.sum(axis=0)).sum(axis=1) / 350
    assert micro.std() == pytest.approx(0.015649, rel=0.02)  # stratified


def test_percentile_interval_holds_the_estimate():
    low, high = stats.percentile_interval(np.linspace(0, 1, 2001), 0.5)
    assert (low, high) == pytest.approx((0.025, 0.975))
    assert stats.percentile_interval([0.4, 0.5], 0.9)[1] == 0.9


# --- B3: comparing two ---


def test_b3_paired_differences_golden():
    a, b = (np.array([int(c) for c in row]) for row in ("1101101101", "1001101011"))
    d = a - b
    assert d.mean() == pytest.approx(0.1)
    assert stats.iid_se(d) == pytest.approx(0.179505, abs=5e-7)
    assert math.hypot(stats.iid_se(a), stats.iid_se(b)) == pytest.approx(0.223607, abs=5e-7)
    t = d.mean() / stats.iid_se(d)
    assert 2 * sps.t.sf(t, 9) == pytest.approx(0.591051, abs=5e-7)


@pytest.mark.parametrize(("b", "c", "p"), [(6, 16, 0.0524788), (121, 59, 4.43445e-06), (60, 40, 0.0568879)])
def test_b3_mcnemar_golden(b, c, p):
    assert stats.mcnemar(b, c) == pytest.approx(p, rel=2e-6)
    assert stats.mcnemar(c, b) == stats.mcnemar(b, c)


def test_b3_mcnemar_mid_p_golden():
    assert stats.mcnemar_mid_p(6, 16) == pytest.approx(0.0346897, abs=5e-8)
    assert stats.mcnemar(0, 0) == stats.mcnemar_mid_p(0, 0) == 1.0


def test_b3_sign_flip_golden():
    assert stats.sign_flip([1, 1, 1, 0, -1, 1, 0, 1, 1, 1]) == 18 / 256
    assert stats.sign_flip([0.5, 0.25, -0.25, 0.75, 0, 1, 0.5, -0.5]) == 56 / 256


def test_b3_sign_flip_equals_scipys_exact_permutation_test():
    d = np.array([0.5, 0.25, -0.25, 0.75, 0, 1, 0.5, -0.5])
    oracle = sps.permutation_test(
        (d, np.zeros(8)), lambda x, y: np.sum(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert stats.sign_flip(d) == pytest.approx(oracle.pvalue, abs=1e-12)


def test_sign_flip_flips_clusters_whole():
    # within a prompt the differences cancel or add before any sign is drawn
    assert stats.sign_flip([1, 1, 1, 1], list("aabb")) == stats.sign_flip([2, 2]) == 0.5
    assert stats.sign_flip([1, -1, 1, -1], list("aabb")) == 1.0


def test_sign_flip_tolerates_the_rounding_of_sums():
    # .1 + .2 - .3 and its mirror must count as equal
    d = [0.1, 0.2, -0.3, 0.1, 0.2]
    assert stats.sign_flip(d) == stats.sign_flip([10 * x for x in d]) == stats.sign_flip([1, 2, -3, 1, 2])
    assert stats.sign_flip([x * 1e-9 for x in d]) == stats.sign_flip(d)


def test_sign_flip_random_agrees_with_exact():
    rng = np.random.default_rng(3)
    d = rng.normal(0.6, 1, 17)  # one more than is enumerated
    signs = np.array(list(itertools.product([-1, 1], repeat=17)))
    exact = (np.abs(signs @ d) >= abs(d.sum()) - 1e-12).mean()
    drawn = stats.sign_flip(d, flips=20_000)
    assert 0.02 < exact < 0.5
    assert drawn == pytest.approx(exact, abs=0.012)
    assert drawn == stats.sign_flip(d, flips=20_000)


# --- B4: many comparisons ---


def test_b4_holm_and_bh_golden():
    p = [0.01, 0.04, 0.03, 0.005]
    assert stats.holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.benjamini_hochberg(p) == pytest.approx([0.02, 0.04, 0.04, 0.02])


def test_b4_benjamini_and_hochbergs_15_p_values():
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1,
    ]
    assert (stats.benjamini_hochberg(p) <= 0.05).sum() == 4
    assert (stats.holm(p) <= 0.05).sum() == 3
    assert stats.benjamini_hochberg(p) == pytest.approx(sps.false_discovery_control(p))


def test_adjusted_p_of_nothing_is_nothing():
    assert stats.holm([]).size == stats.benjamini_hochberg([]).size == 0


@QUICK
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_adjusted_p_follow_their_hypotheses_and_never_shrink(p, random):
    order = list(range(len(p)))
    random.shuffle(order)
    for adjust in (stats.holm, stats.benjamini_hochberg):
        adjusted = adjust(p)
        assert (adjusted >= np.array(p) - 1e-15).all()
        assert (adjusted <= 1).all()
        assert adjust([p[i] for i in order]) == pytest.approx(adjusted[order])
    assert (stats.holm(p) >= stats.benjamini_hochberg(p) - 1e-12).all()


# --- B5: ranks ---


def test_b5_rank_sets_golden():
    rng = np.random.default_rng(0)
    theta = np.array([0.82, 0.80, 0.79, 0.70])
    found = stats.rank_sets(theta, theta + 0.01 * rng.standard_normal((200_000, 4)))
    assert sps.studentized_range.ppf(0.95, 4, np.inf) / math.sqrt(2) == pytest.approx(2.569032, abs=1e-4)
    assert found.critical == pytest.approx(2.569032, abs=0.01)
    assert (found.best, found.worst) == ((1, 1, 1, 4), (3, 3, 3, 4))
    assert found.tied == ((1, 2), (0, 2), (0, 1), ())


def test_rank_sets_at_the_edges():
    alone = stats.rank_sets([0.5], np.full((10, 1), 0.5))
    assert (alone.best, alone.worst, alone.tied) == ((1,), (1,), ((),))
    same = np.linspace(0.4, 0.6, 11)[:, None] * np.ones((1, 3))
    tied = stats.rank_sets([0.5, 0.5, 0.5], same)
    assert (tied.best, tied.worst) == ((1, 1, 1), (3, 3, 3))
    # a constant difference has no sampling error left to doubt it
    shifted = stats.rank_sets([0.6, 0.5], same[:, :2] + [[0.1, 0.0]])
    assert (shifted.best, shifted.worst) == ((1, 2), (1, 2))


def test_rank_sets_use_the_covariance_of_paired_scorers():
    rng = np.random.default_rng(0)
    common, own = 0.05 * rng.standard_normal((4000, 1)), 0.002 * rng.standard_normal((4000, 2))
    theta = np.array([0.80, 0.78])
    assert stats.rank_sets(theta, theta + common + own).best == (1, 2)
    independent = 0.05 * rng.standard_normal((4000, 2))
    assert stats.rank_sets(theta, theta + independent).best == (1, 1)


# --- B7: power ---


@pytest.mark.parametrize(
    ("n", "discordant", "mde"),
    [
        (1763, 0.10, 0.0211),
        (1763, 0.20, 0.0298),
        (2985, 0.10, 0.0162),
        (500, 0.10, 0.0396),
        (1763, 2 * 0.8 * 0.2, 0.0377),
    ],
)
def test_b7_minimum_detectable_effect_golden(n, discordant, mde):
    assert stats.minimum_detectable_effect(math.sqrt(discordant / n)) == pytest.approx(mde, abs=5e-5)


def test_b7_sample_size_golden():
    assert stats.minimum_detectable_effect(1.0) == pytest.approx(2.801585, abs=5e-7)
    assert [stats.sample_size(d, 1 / 9) for d in (0.03, 0.02, 0.05)] == [969, 2181, 349]


# --- B11: best-of-n ---


def test_b11_expected_best_of_n_golden():
    got = [stats.expected_best_of_n([0.1, 0.9, 0.4, 0.7], [0, 1, 1, 0], n) for n in (1, 2, 3, 4)]
    assert got == pytest.approx([0.5, 2 / 3, 0.75, 1])
    assert [stats.best_of_n_kl(n) for n in (1, 2, 4, 16)] == pytest.approx([0, 0.193147, 0.636294, 1.835089], abs=5e-7)


@QUICK
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=7), st.data())
def test_b11_best_of_n_is_the_mean_over_all_subsets_with_ties_shared(pool, data):
    n = data.draw(st.integers(1, len(pool)))
    scores, rewards = zip(*pool, strict=True)
    exhaustive = []
    for pick in itertools.combinations(range(len(pool)), n):
        top = max(scores[i] for i in pick)
        winners = [rewards[i] for i in pick if scores[i] == top]
        exhaustive.append(sum(winners) / len(winners))
    assert stats.expected_best_of_n(scores, rewards, n) == pytest.approx(np.mean(exhaustive))


def test_best_of_n_refuses_a_small_pool_and_missing_scores():
    with pytest.raises(ValueError, match="at least 3"):
        stats.expected_best_of_n([0.1, 0.2], [0, 1], 3)
    with pytest.raises(ValueError, match="missing score"):
        stats.expected_best_of_n([0.1, math.nan], [0, 1], 1)


# --- B13: properties ---


@QUICK
@given(clustered())
def test_b13_interval_contains_the_estimate_and_stays_in_range(data):
    values, clusters = data
    found = stats.mean_interval(values, clusters)
    if found is None:
        assert len(set(clusters)) < 2
        return
    assert -1e-12 <= found.low <= values.mean() + 1e-12
    assert values.mean() - 1e-12 <= found.high <= 1 + 1e-12


@QUICK
@given(clustered(), st.randoms(use_true_random=False))
def test_b13_permuting_rows_and_renaming_prompts_change_nothing(data, random):
    values, clusters = data
    order = list(range(len(values)))
    random.shuffle(order)
    shuffled = values[order], [clusters[i] for i in order]
    assert stats.clustered_se(*shuffled) == pytest.approx(stats.clustered_se(values, clusters), nan_ok=True, abs=1e-12)
    d = values - 0.5
    assert stats.sign_flip(d[order], shuffled[1]) == pytest.approx(stats.sign_flip(d, clusters), abs=0.02)
    assert stats.sign_flip(-d, clusters) == stats.sign_flip(d, clusters)


@QUICK
@given(clustered())
def test_b13_duplicating_rows_inside_clusters(data):
    values, clusters = data
    n = len(values)
    twice, both = np.concatenate([values, values]), [*clusters, *clusters]
    assert stats.clustered_se(twice, both) == pytest.approx(
        stats.clustered_se(values, clusters), nan_ok=True, abs=1e-12
    )
    assume(stats.iid_se(values) > 1e-9)
    factor = math.sqrt((2 * n - 1) / (n - 1))
    assert stats.iid_se(values) / stats.iid_se(twice) == pytest.approx(factor)


@QUICK
@given(clustered(least=4, soft=False))
def test_b13_complement_mirrors_the_interval(data):
    values, clusters = data
    found, mirrored = stats.mean_interval(values, clusters), stats.mean_interval(1 - values, clusters)
    if found is not None:
        assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)


# --- simulation ---


@pytest.mark.slow
def test_b13_p_values_are_uniform_under_the_null():
    rng = np.random.default_rng(0)
    p = [stats.sign_flip(rng.normal(size=30), flips=999, seed=run) for run in range(4000)]
    assert sps.kstest(p, "uniform").pvalue > 0.01


@pytest.mark.slow
def test_b13_coverage_and_type_one_error_with_correlated_rows():
    rng = np.random.default_rng(0)
    covered = naive = rejected = 0
    runs, prompts, rows = 4000, 60, 3
    clusters = np.repeat(np.arange(prompts), rows)
    for _ in range(runs):
        ease = np.repeat(rng.beta(2, 1, prompts), rows)  # mean 2/3
        values = (rng.random(prompts * rows) < ease) * 1.0
        found = stats.mean_interval(values, clusters.tolist())
        covered += found.low <= 2 / 3 <= found.high
        naive += abs(values.mean() - 2 / 3) <= 1.96 * stats.iid_se(values)
        shared = rng.normal(size=prompts)[clusters]
        rejected += stats.sign_flip(shared + rng.normal(size=values.size), clusters.tolist(), flips=199) <= 0.05
    assert 0.93 <= covered / runs <= 0.97
    assert naive / runs < 0.92
    assert 0.035 <= rejected / runs <= 0.065
