"""Recorded step scores with a step missing: it has a reason, is counted, and the headline is withheld for it."""

import json
import math

import pytest
from command import rmeval

from rmeval.gather import recorded
from rmeval.types import NAN, Candidate, Example, Labels, Message, Recorded

ROWS = [
    {"id": name, "problem": f"What is 2 + {n}?", "steps": ["First.", "Second."], "label": label}
    for n, (name, label) in enumerate([("a", -1), ("b", 0), ("c", -1)])
]


@pytest.fixture
def run(tmp_path):
    def replayed(*steps, more=()):
        (tmp_path / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        rows = ({"id": row["id"], "step_scores": [one]} for row, one in zip(ROWS, steps, strict=True))
        (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        told = ("--suite", "steps", "--data", tmp_path / "steps.jsonl", "--out", tmp_path / "out", "--json", *more)
        return rmeval("run", f"replay:{tmp_path / 'scores.jsonl'}", *told)

    return replayed


def test_a_null_step_is_counted_and_the_headline_withheld(run):
    answer = run([0.9, None], [0.2, 0.1], [0.9, 0.8])
    assert answer.code == 3
    assert "1 score is missing (1 not_recorded)" in answer.stderr
    [document] = answer.document if isinstance(answer.document, list) else [answer.document]
    assert (document["headline"]["value"], document["complete"], document["counts"]["errors"]) == (None, False, 1)


def test_accepted_by_number_it_is_counted_all_the_same(run):
    answer = run([0.9, None], [0.2, 0.1], [0.9, 0.8], more=("--max-failed", "1"))
    assert answer.code == 0
    [document] = answer.document if isinstance(answer.document, list) else [answer.document]
    assert (document["headline"]["value"], document["counts"]["errors"]) == (1.0, 1)


def test_every_step_that_lacks_has_its_reason():
    example = Example(
        "a", (Message("user", "2 + 3?"),), (Candidate("1\n2", ("1", "2")), Candidate("3", ("3",))), Labels((1.0, 0.0)), "s",
    )  # fmt: skip
    found = recorded(example, Rows(Recorded(step_scores=((0.5, NAN), (0.25,)))))
    assert (found.step_reasons, found.reasons) == (((None, "not_recorded"), (None,)), ("not_recorded", None))
    assert math.isnan(found.step_scores[0][1])
    whole = recorded(example, Rows(Recorded(scores=(0.5, 0.25), step_scores=((0.5, NAN), (0.25,)))))
    assert whole.reasons == ()  # the candidate has its score, a step of it has none


class Rows:
    """One row, whatever is asked."""

    name = "rows"

    def __init__(self, row):
        self.row = row

    def identity(self):
        return {"kind": self.name}

    def recorded(self, example_id, k):
        del example_id, k
        return self.row

    def check_ids(self, known):
        del known
