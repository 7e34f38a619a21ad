"""Ensembles by hand, and from stored results without a model."""

from __future__ import annotations

import math

import pytest
from command import rmeval
from hypothesis import given, settings
from hypothesis import strategies as st

from rmeval.errors import UsageError
from rmeval.scorers.ensemble import Ensemble, normalised
from rmeval.types import NAN

A = {"p": (1.0, 3.0), "q": (2.0, 2.0)}  # mean 2, sd sqrt(.5)
B = {"p": (30.0, 10.0), "q": (20.0, 20.0)}  # the other way round, on another scale
ROOT2 = math.sqrt(2)


def test_three_ways_by_hand():
    found = {
        how: Ensemble({"a": A, "b": B}, combine=how).recorded("p", 2).scores for how in ("mean", "worst", "mean-std")
    }
    assert found["mean"] == pytest.approx((0.0, 0.0))
    assert found["worst"] == pytest.approx((-ROOT2, -ROOT2))
    assert found["mean-std"] == pytest.approx((-ROOT2, -ROOT2))
    same = Ensemble({"a": A, "b": A}, combine="mean-std").recorded("p", 2).scores
    assert same == pytest.approx((-ROOT2, ROOT2))  # no disagreement, nothing taken away


@settings(derandomize=True, max_examples=50, deadline=None, database=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=9), st.floats(0.1, 9), st.floats(-9, 9))
def test_a_scale_of_its_own_changes_nothing(values, scale, shift):
    one = {"p": tuple(map(float, values))}
    other = {"p": tuple(scale * v + shift for v in values)}
    assert normalised(one, "z")["p"] == pytest.approx(normalised(other, "z")["p"], abs=1e-6)
    ranks = normalised(one, "rank")["p"]
    assert all(0 <= r <= 1 for r in ranks)
    assert all(
        (a < b) == (x < y) for a, x in zip(values, ranks, strict=True) for b, y in zip(values, ranks, strict=True)
    )


def test_what_one_member_lacks_is_missing_with_a_reason():
    row = Ensemble({"a": A | {"r": (1.0, 1.0)}, "b": B | {"p": (NAN, 10.0)}})
    found = row.recorded("p", 2)
    assert (math.isnan(found.scores[0]), found.reasons) == (True, ("not_in_all", None))
    assert row.recorded("r", 2).reasons == ("not_in_all", "not_in_all")
    assert row.recorded("s", 2) is None


def test_scores_at_the_end_of_numbers_are_normalised_and_not_averaged_raw():
    far, near = {"a": (1e308, -1e308), "b": (1e308, 0.0)}, {"a": (1.0, -1.0), "b": (1.0, 0.0)}
    z = normalised(far, "z")
    assert z["a"] == pytest.approx(normalised(near, "z")["a"])
    assert z["b"] == pytest.approx(normalised(near, "z")["b"])
    with pytest.raises(UsageError, match="normalise=z or rank"):
        Ensemble({"x": far, "y": far}, normalise="none")


def test_members_must_be_two_and_alike():
    with pytest.raises(UsageError, match="two results or more"):
        Ensemble({"a": A})
    with pytest.raises(UsageError, match="different numbers of candidates"):
        Ensemble({"a": A, "b": {"p": (1.0,)}})
    with pytest.raises(UsageError, match="holds? 'p'"):
        Ensemble({"a": A, "b": B}).check_ids({"q"})


def run(tmp_path, model, *more):
    return rmeval(
        "run",
        model,
        "--suite",
        "arithmetic",
        "--out",
        tmp_path / "out",
        "--store",
        tmp_path / "s",
        "--limit",
        40,
        *more,
        "--json",
    )


def test_from_stored_results_on_the_command_line(tmp_path):
    paths = []
    for name in ("length", "random"):
        assert run(tmp_path, name).code == 0
        paths += list((tmp_path / "out" / name / "arithmetic").glob("*Z-*[0-9a-f].json"))
    done = run(tmp_path, f"ensemble:{paths[0]},{paths[1]}", "-a", "scorer.combine=worst")
    assert done.code == 0, done.stderr
    scorer = done.document["scorer"]
    assert (scorer["kind"], scorer["combine"], len(scorer["members"])) == ("ensemble", "worst", 2)
    assert done.document["counts"]["errors"] == 0
    twice = run(tmp_path, f"ensemble:{paths[0]},{paths[0]}")
    assert (twice.code, "same result" in twice.stderr) == (2, True)
    other = rmeval("run", f"ensemble:{paths[0]},{paths[1]}", "--suite", "pairs", "--out", tmp_path)
    assert other.code == 2
    none = run(tmp_path, f"ensemble:{paths[0]},nowhere.json")
    assert (none.code, "no result file" in none.stderr) == (2, True)
    assert run(tmp_path, f"ensemble:{paths[0]},{paths[1]}", "-a", "scorer.combine=best").code == 2
