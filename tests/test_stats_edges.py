"""Cases that altered statistics got through, found by tests/mutation: sixteen clusters, defaults, two rows."""

from __future__ import annotations

import numpy as np

from rmeval import stats


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
