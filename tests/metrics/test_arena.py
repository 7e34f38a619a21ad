"""Human-preference figures against scipy, a brute-force fit, plain loops and cases computed by hand."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as sps

from rmeval import bradley_terry
from rmeval.errors import UsageError
from rmeval.metrics import arena
from rmeval.metrics.arena import human_ranking
from rmeval.metrics.evaluate import evaluate
from rmeval.metrics.plan import MetricPlan, RuleSpec, Section
from rmeval.types import NAN, Judgement, Verdict

QUICK = settings(derandomize=True, max_examples=30, deadline=None, database=None)
FEW = {"replicates": 100}


def battle(name, models, grades, scores, **more):
    return Judgement(
        f"h/{name}", "h", "", f"prompt {name}", tuple(grades), scores=tuple(scores), models=tuple(models), **more
    )


def battles(n, models=5, seed=0, skill=1.0):
    """Battles whose human winners follow the models' strengths, and whose scores do so as far as `skill`."""
    rng = np.random.default_rng(seed)
    theta = np.linspace(-0.8, 0.8, models)
    rows = []
    for i in range(n):
        a, b = (int(x) for x in rng.choice(models, 2, replace=False))
        won = rng.random() < 1 / (1 + math.exp(theta[b] - theta[a]))
        grades = (0.5, 0.5) if rng.random() < 0.2 else (float(won), float(not won))
        scores = skill * theta[[a, b]] + rng.normal(size=2)
        rows.append(battle(i, (f"m{a}", f"m{b}"), grades, map(float, scores)))
    return rows


def found(judgements, **options):
    return {m.name: m for m in human_ranking(judgements, {**FEW, **options}).metrics}


def values(judgements, **options):
    return {name: m.value for name, m in found(judgements, **options).items()}


def random_wins(models, seed):
    rng = np.random.default_rng(seed)
    wins = rng.integers(0, 30, (models, models)) / 2
    np.fill_diagonal(wins, 0)
    return wins


# --- ratings ---


@pytest.mark.parametrize(("models", "seed"), [(2, 0), (3, 1), (5, 2), (9, 3)])
def test_ratings_maximise_the_likelihood(models, seed):
    wins = random_wins(models, seed) + 0.5 * (1 - np.eye(models))

    def loss(theta):
        gap = theta[:, None] - theta[None, :]
        return (wins * np.logaddexp(0, -gap)).sum() + theta.sum() ** 2

    best = optimize.minimize(loss, np.zeros(models), tol=1e-12).x
    assert arena.ratings(wins) == pytest.approx(1000 + 400 / math.log(10) * best, abs=1e-2)


def test_ratings_are_those_of_the_general_fit():
    rows = battles(300, 6, 4)
    first, second = ([j.models[side] for j in rows] for side in (0, 1))
    outcomes = [0.5 if j.grades[0] == j.grades[1] else j.grades[0] for j in rows]
    fitted = bradley_terry.fit(first, second, outcomes)
    place = {name: i for i, name in enumerate(fitted.players)}
    numbers = [np.array([place[name] for name in side]) for side in (first, second)]
    wins = arena.win_matrix(*numbers, np.array(outcomes), np.ones(300), 6)
    assert arena.ratings(wins) == pytest.approx(fitted.elo(), abs=1e-5)


def test_ratings_of_the_wikipedia_example():
    wins = np.zeros((4, 4))
    for pair, n in {"AB": 2, "BA": 3, "AD": 1, "DA": 4, "BC": 5, "CB": 3, "CD": 1, "DC": 3}.items():
        wins["ABCD".index(pair[0]), "ABCD".index(pair[1])] = n
    assert arena.ratings(wins) == pytest.approx([922.427, 1007.366, 927.768, 1142.439], abs=1e-3)


def test_a_stack_is_fitted_as_each_alone_even_where_one_has_no_ratings():
    stack = np.stack([random_wins(4, seed) + 0.5 for seed in range(3)] + [np.triu(np.ones((4, 4)), 1)])
    together = arena.ratings(stack)
    assert together[:3] == pytest.approx(np.stack([arena.ratings(wins) for wins in stack[:3]]), abs=1e-6)
    assert np.isnan(together[3]).all()


@pytest.mark.parametrize("ratio", [1.0, 1e3, 1e6])
def test_lopsided_records_are_fitted(ratio):
    assert np.diff(arena.ratings(np.array([[0, 1.0], [ratio, 0]]))) == pytest.approx(400 * math.log10(ratio), abs=1e-4)


def test_identifiable_is_a_chain_of_wins_between_all():
    for cells in itertools.product([0.0, 1.0], repeat=6):
        wins = np.zeros((3, 3))
        wins[~np.eye(3, dtype=bool)] = cells
        reach = wins > 0
        for k, i, j in itertools.product(range(3), repeat=3):
            reach[i, j] |= reach[i, k] and reach[k, j]
        assert arena.identifiable(wins) == (reach | np.eye(3, dtype=bool)).all()


# --- correlations ---


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_scipys(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 4, (2, 9)).astype(float)
    assert arena.spearman(a, b) == pytest.approx(sps.spearmanr(a, b).statistic, abs=1e-12)
    assert arena.kendall(a, b) == pytest.approx(sps.kendalltau(a, b).statistic, abs=1e-12)


def test_correlations_of_a_constant_are_undefined():
    assert np.isnan(arena.spearman(np.ones(4), np.arange(4.0)))
    assert np.isnan(arena.kendall(np.ones(4), np.arange(4.0)))


def test_row_wise_pearson_is_the_mean_over_rows_that_both_have():
    human, scorer = random_wins(5, 1), random_wins(5, 2)
    human[0, 3] = human[3, 0] = 0  # these two never met
    rows = []
    for i in range(5):
        pairs = [
            (human[i, j] / (human[i, j] + human[j, i]), scorer[i, j] / (scorer[i, j] + scorer[j, i]))
            for j in range(5)
            if j != i and human[i, j] + human[j, i] > 0
        ]
        rows.append(sps.pearsonr(*zip(*pairs, strict=True)).statistic)
    assert arena.row_wise_pearson(human, scorer) == pytest.approx(fmean(rows), abs=1e-12)


# --- confidence ---


def notebook(people, scorer):
    """Separability and agreement as loops over pairs of (low, high)."""

    def overlap(a, b):
        return max(0, min(a[1], b[1]) - max(a[0], b[0])) > 0

    apart, sure, agree = 0, 0, 0.0
    for i, j in itertools.combinations(range(len(people)), 2):
        apart += not overlap(scorer[i], scorer[j])
        if overlap(people[i], people[j]):
            continue
        sure += 1
        if overlap(scorer[i], scorer[j]):
            agree += 0.5
        elif (scorer[i] < scorer[j]) == (people[i] < people[j]):
            agree += 1
    return apart / math.comb(len(people), 2), agree / sure


@pytest.mark.parametrize("seed", range(6))
def test_separability_and_agreement_are_the_published_loops(seed):
    rng = np.random.default_rng(seed)
    people, scorer = (np.sort(rng.normal(scale=3, size=(7, 1)) + rng.random((7, 2)), axis=1) for _ in range(2))
    want = notebook([tuple(x) for x in people], [tuple(x) for x in scorer])
    sure_people, sure_scorer = arena.separated(*people.T), arena.separated(*scorer.T)
    assert (arena.separability(sure_scorer), arena.confidence_agreement(sure_people, sure_scorer)) == pytest.approx(
        want
    )


def test_models_rated_alike_in_every_resample_are_not_separated():
    alike = arena.separated(np.full(3, 1000.0), np.full(3, 1000.0))
    assert not alike.any()
    assert arena.confidence_agreement(arena.separated(np.arange(3.0), np.arange(3.0)), alike) == 0.5
    assert math.isnan(arena.confidence_agreement(alike, alike))


def test_brier_by_hand():
    human, mean = np.array([1.0, 2.0, 2.0]), np.array([0.0, 1.0, 0.0])
    # pairs 01 and 02 count: 1 and 2 are rated alike by people; P(0 below 1) = Phi(1/1), P(0 below 2) = Phi(0)
    want = fmean([(sps.norm.cdf(1.0) - 1) ** 2, 0.25])
    assert arena.pair_rank_brier(human, mean, np.full(3, 0.5)) == pytest.approx(want, abs=1e-12)
    assert arena.pair_rank_brier(human, mean, np.zeros(3)) == pytest.approx(fmean([0.0, 0.25]))


# --- the rule ---


def test_people_agree_with_themselves():
    rows = [replace(j, scores=j.grades) for j in battles(600)]
    got = values(rows)
    assert [got[name] for name in ("spearman", "kendall", "row_wise_pearson")] == pytest.approx([1.0] * 3, abs=1e-12)
    assert got["confidence_agreement"] == 1.0
    assert got["separability"] == got["human_separability"] > 0.3
    assert got["brier"] < 0.05


def test_the_opposite_scorer_is_the_mirror_image():
    rows = [replace(j, scores=j.grades[::-1]) for j in battles(600)]
    got = values(rows)
    assert [got[name] for name in ("spearman", "kendall", "row_wise_pearson")] == pytest.approx([-1.0] * 3, abs=1e-12)
    assert got["confidence_agreement"] == 0.0


def test_a_constant_scorer_ranks_nothing_and_gains_nothing():
    got = found([replace(j, scores=(1.0, 1.0)) for j in battles(300)])
    assert got["spearman"].value is got["kendall"].value is None
    assert "tell no models apart" in got["spearman"].note
    assert (got["separability"].value, got["confidence_agreement"].value, got["brier"].value) == (0.0, 0.5, 0.25)
    assert "300 ties of the scorer" in got["brier"].note


@QUICK
@given(st.permutations(range(150)), st.lists(st.booleans(), min_size=150, max_size=150), st.floats(0.1, 9))
def test_rows_sides_and_scales_change_nothing(order, turn, scale):
    rows = battles(150, 3, 6)
    want = values(rows)
    assert None not in want.values()
    moved = []
    for i in order:
        step = -1 if turn[i] else 1
        j = rows[i]
        scores = tuple(scale * s for s in j.scores[::step])
        moved.append(replace(j, models=j.models[::step], grades=j.grades[::step], scores=scores))
    assert values(moved) == pytest.approx(want, abs=1e-9)


def test_a_missing_score_is_missing_on_the_scorers_side_alone():
    rows = battles(400)
    lost = [replace(j, scores=(NAN, 0.0), reasons=("truncated", None)) if i < 7 else j for i, j in enumerate(rows)]
    got, whole = found(lost), found(rows)
    assert (got["spearman"].n, got["spearman"].n_missing) == (393, 7)
    assert (got["human_separability"].n, got["human_separability"].n_missing) == (400, 0)
    assert got["human_separability"].value == whole["human_separability"].value


def test_intervals_hold_the_figure_and_need_prompts():
    got = found(battles(500, skill=0.5))
    for name in ("spearman", "kendall", "row_wise_pearson"):
        low, high = got[name].ci
        assert -1 <= low < got[name].value <= high <= 1
        assert "bootstrap standard errors" in got[name].note
    assert all(got[name].higher_is_better is (name != "brier") for name in got)
    few = [replace(j, cluster=f"p{i % 5}") for i, j in enumerate(battles(500))]
    assert found(few)["spearman"].ci is None


def test_prompts_are_resampled_whole():
    rows = battles(200, 4, 2)
    double = [replace(j, id=f"{j.id}/{copy}") for j in rows for copy in (0, 1)]
    assert values(double)["brier"] == pytest.approx(values(rows)["brier"], abs=1e-9)
    apart = [replace(j, cluster=j.id) for j in double]
    assert values(apart)["separability"] >= values(double)["separability"]


@pytest.mark.fault("F61")
def test_an_undefeated_model_has_no_rating_and_the_note_says_so():
    rows = battles(300, 4, 1)
    won = [replace(j, scores=tuple(float(m == "m3") for m in j.models)) if "m3" in j.models else j for j in rows]
    got = found(won)
    assert got["spearman"].value is None
    assert "by the scorer: no finite ratings" in got["spearman"].note
    assert got["row_wise_pearson"].value is not None
    rare = found(battles(12, 4, 3))
    assert {rare[name].value for name in ("separability", "brier", "confidence_agreement")} == {None}


def test_verdicts_are_winners_too():
    rows = battles(200)
    judged = [
        replace(
            j,
            scores=(),
            verdicts=(
                Verdict((0, 1), "A" if j.scores[0] > j.scores[1] else "B"),
                Verdict((1, 0), "B" if j.scores[0] > j.scores[1] else "A"),
            ),
        )
        for j in rows
    ]
    assert values(judged) == values(rows)


def test_battles_against_oneself_are_left_out_and_others_refused():
    rows = battles(200)
    own = battle("own", ("m1", "m1"), (1.0, 0.0), (0.0, 1.0))
    assert values([*rows, own]) == values(rows)
    assert "1 battles of a model against itself" in found([*rows, own])["brier"].note
    with pytest.raises(UsageError, match=r"'h/0'.*who wrote each.*0 names"):
        human_ranking([replace(rows[0], models=())], {})
    with pytest.raises(UsageError, match=r"50 is not a whole number of at least 100"):
        human_ranking(rows, {"replicates": 50})
    two = [j for j in rows if set(j.models) == {"m0", "m1"}]
    assert {m.value for m in human_ranking(two, FEW).metrics} == {None}
    assert {m.value for m in human_ranking([], FEW).metrics} == {None}


def test_beside_an_accuracy_without_human_ties():
    rows = battles(120, 3)
    plan = MetricPlan(
        "accuracy", "rows", (Section("accuracy", (), RuleSpec("accuracy", {})),), also=(RuleSpec("human_ranking", FEW),)
    )
    got = {m.name: m for m in evaluate(rows, plan, replicates=50) if m.subset is None}
    decided = [j for j in rows if j.grades[0] != j.grades[1]]
    assert got["accuracy"].n == len(decided) < len(rows) == got["spearman"].n
    assert got["accuracy"].value == fmean((j.scores[0] > j.scores[1]) == (j.grades[0] == 1) for j in decided)
