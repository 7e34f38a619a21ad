"""Prompts as numbers: one order, whatever they are called by and however they come."""

from __future__ import annotations

import numpy as np
import pytest

from rmeval.clusters import Clusters, cluster_codes


@pytest.mark.parametrize(
    "numbers",
    [
        [3, 0, 10, 3, 9, 99, 100, 1, 11, 101, 1000, 21],
        [0],
        [0, 9, 90, 900, 10**17, 10**18, 2, 19],
        [*range(120)],
        [7, 70, 700, 8],
    ],
)
def test_numbers_have_the_order_of_their_texts(numbers):
    codes, c = cluster_codes(np.array(numbers))
    names = sorted({str(n) for n in numbers})
    assert c == len(names)
    assert [names[code] for code in codes] == [str(n) for n in numbers]
    listed = cluster_codes(numbers)
    assert (listed[0].tolist(), listed[1]) == (codes.tolist(), c)


def test_no_rows_have_no_prompts():
    for none in ([], np.array([], dtype=np.intp)):
        codes, c = cluster_codes(none)
        assert (codes.size, c) == (0, 0)


def test_kept_codes_are_those_of_the_ids():
    ids = ["b", "a", "c", "b", "a"]
    kept = Clusters.of(ids)
    assert len(kept) == 5
    assert cluster_codes(kept)[0].tolist() == cluster_codes(ids)[0].tolist() == [1, 0, 2, 1, 0]
    assert cluster_codes(kept)[1] == 3
    some = kept.take(np.array([2, 0, 3]))
    assert cluster_codes(some)[0].tolist() == [1, 0, 0]
    assert cluster_codes(some)[1] == 2
    assert list(some[:]) == [2, 1, 1], "the numbers they had"
    named = Clusters(np.array([1, 0, 2, 1]), np.array(["x", "y", "z"]))
    assert named[0] == "y"
    part = named.take(np.array([True, False, True, True]))
    assert part.names.tolist() == ["y", "z"]
    assert part.codes.tolist() == [0, 1, 0]
    assert part[np.array([1, 2])].tolist() == ["z", "y"]
