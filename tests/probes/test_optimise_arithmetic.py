"""The loop on the arithmetic world: the truth of steps, and the fast version of the whole."""

from __future__ import annotations

from itertools import islice

import pytest

from benchmarks.optimise_arithmetic import FAST, run, show, step_rows
from rmeval.arithmetic.problems import draw_problems, seeded
from rmeval.arithmetic.solutions import render, right_solution, wrong_solution
from rmeval.probes.pool import Pool, PoolRow


def test_steps_are_wrong_from_the_first_error_on():
    rng = seeded("steps of the loop", 0)
    problems = list(islice(draw_problems("train", rng), 60))
    solved = [(right_solution(p), wrong_solution(p, rng)) for p in problems]
    # as word tokenizers write them, with spaces around everything
    texts = [
        tuple("\n \n".join(render(one, "concise", rng)).replace(":", " :").replace(".", " .") for one in both)
        for both in solved
    ]
    pool = Pool("p", tuple(PoolRow(p.id, p.id, 2, completions=t) for p, t in zip(problems, texts, strict=True)))
    found = step_rows(problems, pool)
    grades = [one.step_grades for both in solved for one in both]
    assert [[int(label > 0) for label in row["labels"]] for row in found] == [list(g) for g in grades]


@pytest.mark.slow
def test_the_loop_in_its_fast_version(tmp_path):
    """Two minutes of one core. What trained models of this size reach is printed, not asserted: the oracle has to gain."""
    document = run(tmp_path / "loop", 0, FAST)
    oracle = document["best_of_n"]["oracle"]["gain"]
    assert [point["at"] for point in oracle] == [1, 2, 4, 8, 16]
    assert oracle[-1]["ci"][0] > 0
    assert set(document["best_of_n"]) == {"bt", "orm", "prm", "weak", "oracle"}
    assert document["rejection"]["oracle"]["uplift"]["ci"][0] > 0
    assert document["rejection"]["oracle"]["rows"] == 200
    assert len(document["over_optimisation"]["weak"]["fits"]) == 2
    assert (tmp_path / "loop" / "optimise.svg").stat().st_size > 10_000
    said = {one["claim"]: one for one in document["claims"]}
    assert said["best of 16 by oracle beats random"]["holds"] is True
    assert all(one["holds"] == (one["ci"] is not None and one["ci"][0] > 0) for one in said.values())
    lines = show(document)
    assert sum(line.startswith(("holds", "NOT SHOWN")) for line in lines) == len(said) == 12
