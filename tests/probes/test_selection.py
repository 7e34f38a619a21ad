"""Which candidates rejection sampling takes: the worked matrix, ties, limits of RSO, baselines, missing rewards."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmeval.errors import UsageError
from rmeval.probes.pool import Pool, PoolRow
from rmeval.probes.selection import Choice, choose, normalised, rso, top

MATRIX = ((0.7, 0.3, 0.5, 0.2), (0.4, 0.8, 0.6, 0.5), (0.9, 0.3, 0.4, 0.7), (0.2, 0.5, 0.8, 0.6), (0.5, 0.4, 0.3, 0.6))
"""The worked example of rlhf-book, chapter 9."""


def pool(*rewards):
    return Pool("toy", tuple(PoolRow(f"r{i}", f"r{i}", len(r), rewards=tuple(r)) for i, r in enumerate(rewards)))


def flat(chosen):
    return sorted(4 * row + i for row, i in chosen)


def test_the_worked_matrix():
    assert [i + 1 for _, i in choose(pool(*MATRIX), Choice("top"))] == [1, 2, 1, 3, 4]
    assert flat(choose(pool(*MATRIX), Choice("top-k", k=5))) == sorted([8, 5, 14, 0, 11])
    six = flat(choose(pool(*MATRIX), Choice("top-k", k=6)))
    assert set(six) - {8, 5, 14, 0, 11} == {6}  # three are .6; the earliest of them


def test_normalising_within_prompts_spreads_the_choice():
    easy_and_hard = pool((9.0, 8.0, 7.0), (1.0, 0.0, 0.5))
    assert {row for row, _ in choose(easy_and_hard, Choice("top-k", k=2))} == {0}
    for how in ("zscore", "rank"):
        assert {row for row, _ in choose(easy_and_hard, Choice("top-k", k=2, normalise=how))} == {0, 1}
    assert normalised([2.0, 2.0], "zscore") == (0.0, 0.0)
    assert normalised([1.0, 3.0], "zscore") == (-1.0, 1.0)


def test_rso_tends_to_the_best_and_to_the_first():
    rewards = [0.1, 0.9, 0.5, 0.7, 0.3]
    for seed in range(20):
        assert sorted(rso(rewards, 2, 1e-9, random.Random(seed))) == [1, 3]
        assert rso(rewards, 2, 1e12, random.Random(seed)) == [0, 1]


def test_rso_accepts_as_often_as_it_should():
    """One of two, r and r + beta: the worse one, looked at first, is taken with probability 1/e."""
    taken = sum(rso([0.0, 1.0], 1, 1.0, random.Random(seed)) == [0] for seed in range(4000)) / 4000
    assert taken == pytest.approx(math.exp(-1), abs=0.03)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.integers(1, 10), st.floats(0.05, 5), st.integers(0, 99))
def test_rso_takes_each_once_and_as_many_as_there_are(rewards, k, beta, seed):
    found = rso(rewards, k, beta, random.Random(seed))
    assert len(found) == len(set(found)) == min(k, len(rewards))


def test_baselines_are_seeded_and_take_as_many():
    whole = pool(*MATRIX)
    for rule, k, n in (("random", 2, 10), ("random-k", 7, 7)):
        first = choose(whole, Choice(rule, k=k, seed=1))
        assert first == choose(whole, Choice(rule, k=k, seed=1))
        assert first != choose(whole, Choice(rule, k=k, seed=2))
        assert len(first) == len(set(first)) == n
    subset = Pool("toy", whole.rows[2:])
    assert {i for row, i in choose(whole, Choice("random")) if row == 2} == {
        i for row, i in choose(subset, Choice("random")) if row == 0
    }


def test_a_candidate_without_a_reward_is_never_taken_for_one():
    holes = pool((math.nan, 0.1), (math.nan, math.nan))
    assert choose(holes, Choice("top", k=2)) == ((0, 1),)
    assert choose(holes, Choice("threshold", threshold=-9)) == ((0, 1),)
    assert choose(holes, Choice("top-k", k=1)) == ((0, 1),)
    with pytest.raises(UsageError, match="top-k of 2, and there are 1"):
        choose(holes, Choice("top-k", k=2))
    assert top([math.nan], 1) == []


def test_what_means_nothing_is_refused():
    with pytest.raises(UsageError, match="k = 0"):
        Choice(k=0)
    with pytest.raises(UsageError, match="beta = 0"):
        Choice("rso", beta=0)
    with pytest.raises(UsageError, match="has no rewards: top chooses by reward"):
        choose(Pool("p", (PoolRow("a", "a", 2, gold=(1.0, 0.0)),)), Choice("top"))


def test_z_scores_of_equal_rewards_are_0_though_their_mean_is_rounded():
    for reward in (0.1, 0.7, -0.05):
        for n in (3, 6):
            assert normalised([reward] * n, "zscore") == (0.0,) * n
    assert normalised([0.1, math.nan, 0.1, 0.1], "zscore")[::2] == (0.0, 0.0)


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(UsageError, match="threshold = nan"):
        Choice("threshold", threshold=math.nan)
