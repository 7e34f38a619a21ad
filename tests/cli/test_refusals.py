"""Refusals that only one kind of model, suite or file meets: each says what is wrong and what to write instead."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import own_rows
import pytest
from command import rmeval

from rmeval.errors import UsageError
from rmeval.leaderboard.submission import FILE, open_submission
from rmeval.types import Showing
from rmeval.views import orders

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


@pytest.fixture
def pairs(tmp_path):
    return own_rows.pairs(tmp_path / "mine.jsonl", 8).name


def refused(*arguments):
    got = rmeval(*arguments)
    assert (got.code, got.stdout) == (2, "")
    assert got.stderr.count("error: ") == 1
    return got.stderr


def results_in(folder):
    return [path for path in Path(folder).rglob("*.json") if not path.name.startswith(".")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay:"], ["'replay:' names no file", "write replay:FILE"]),
        (["judge:"], ["'judge:' names no model", "judge:NAME --base-url URL"]),
        (["judge:a/b", "--scorer", "scalar"], ["judge:a/b is read as a judge", "-a judge.protocol=NAME"]),
        (["length", "--base-url", "http://127.0.0.1:1/v1"], ["--base-url: asks a server", "write judge:length", "--engine http"]),
        (["length", "--max-cost", "1"], ["--max-cost: asks a server", "write judge:length"]),
        (["length", "--engine", "openai"], ["--engine openai: asks a server", "write judge:length"]),
    ],
)  # fmt: skip
def test_a_model_that_is_named_by_half(arguments, said):
    message = refused("run", *arguments, "--suite", "arithmetic")
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"scores": 3}, "scores: a list of numbers, not int"),
        ({"scores": [1, 10**400]}, "an integer is too large"),
        ({"ratings": [1, 2]}, "ratings[0]: a list of numbers, not int"),
        ({"ratings": 1}, "a list of lists, one per candidate, not int"),
        ({"scores": [1, None], "reasons": [1, 2]}, "a list of strings or nulls"),
        ({"verdicts": []}, "a list of objects with `order` and `verdict`"),
        ({"verdicts": [{"order": [0, 1]}]}, "an object with `order` and `verdict`"),
        ({"verdicts": [{"order": [0], "verdict": "A"}]}, "verdict 'A' on one solution"),
        ({"verdicts": [{"order": [0, 1], "verdict": None, "reason": 3}]}, "reason 3 is not a string"),
    ],
)
def test_a_recorded_row_that_is_none(pairs, row, said):
    Path("r.jsonl").write_text(json.dumps({"id": "p0", **row}))
    message = refused("run", "replay:r.jsonl", "--suite", "pairs", "--data", pairs)
    assert said in message
    assert "r.jsonl line 1" in message


@pytest.mark.parametrize(
    ("architecture", "arguments", "said"),
    [
        ("LlamaForCausalLM", ["rm", "--scorer", "implicit"], "the implicit reward is a log-ratio to a reference model"),
        (
            "LlamaForCausalLM",
            ["rm", "--scorer", "implicit", "-a", "scorer.reference=org/base", "--engine", "vllm"],
            "policy and reference are loaded in turn, which --engine vllm does not do",
        ),
        ("LlamaForTokenClassification", ["rm"], "scores tokens, and its config does not say what they mean"),
        (
            "LlamaForTokenClassification",
            ["rm", "--scorer", "scalar"],
            "scores tokens; as scalar it has nothing to read",
        ),
        (
            "LlamaForSequenceClassification",
            ["rm", "--scorer", "process"],
            "gives one number per text, and process reads",
        ),
        ("LlamaForSequenceClassification", ["rm", "--scorer", "pairwise"], "reads one response at a time; as pairwise"),
        (
            "LlamaForSequenceClassification",
            ["rm", "--scorer", "implicit"],
            "is no language model, so it has no implicit",
        ),
        ("LlamaForSequenceClassification", ["judge:rm"], "is no language model, so it has no words"),
        ("LlamaForSomethingElse", ["rm"], "cannot tell what kind of scorer LlamaForSomethingElse is"),
    ],
)
def test_a_checkpoint_that_is_read_as_what_it_is_not(tiny_reward_model, tmp_path, architecture, arguments, said):
    shutil.copytree(tiny_reward_model, tmp_path / "rm")
    config = json.loads((tmp_path / "rm" / "config.json").read_text())
    (tmp_path / "rm" / "config.json").write_text(json.dumps({**config, "architectures": [architecture]}))
    assert said in refused("run", *arguments, "--suite", "arithmetic", "--limit", "2")


def test_an_ensemble_of_results_about_different_suites(pairs):
    assert rmeval("run", "length", "--suite", "arithmetic", "--limit", "8", "--out", "a").code == 0
    assert rmeval("run", "length", "--suite", "pairs", "--data", pairs, "--out", "b").code == 0
    [one], [other] = results_in("a"), results_in("b")
    message = refused("run", f"ensemble:{one},{other}", "--suite", "pairs", "--data", pairs)
    assert "its results are about different suites" in message
    assert f"{one} is about arithmetic version" in message
    assert f"{other} is about pairs version" in message
    assert "is the same result as another member" in refused(
        "run", f"ensemble:{other},{other}", "--suite", "pairs", "--data", pairs
    )


def test_of_several_suites_those_that_can_be_run_are_and_the_others_are_named():
    got = rmeval("run", "length", "--suite", "arithmetic,pairs", "--limit", "8")
    assert got.code == 2
    assert "arithmetic" in got.stdout
    assert "error: 1 of 2 suites could not be run" in got.stderr
    assert "--data" in got.stderr
    [written] = results_in("results")
    assert "arithmetic" in str(written)


def test_every_order_of_eight_candidates_is_too_much():
    with pytest.raises(UsageError, match=r"example 'x' has 8 candidates, and so 40320 orders: .* Use orders = latin"):
        orders(tuple(range(8)), Showing("all"), "x")


def test_checks_of_a_card_without_sample_or_page(tmp_path):
    folder = own_rows.card_folder(tmp_path, "bare")
    (folder / "README.md").unlink()
    got = rmeval("check", folder)
    assert got.code == 3
    assert "no sample.jsonl beside the card" in got.stdout
    assert "suite card bare: sample, README.md failed" in got.stderr


def test_recorded_outputs_are_not_checked_as_a_model(pairs):
    Path("r.jsonl").write_text('{"id": "p0", "scores": [1, 2]}')
    assert "replay:r.jsonl holds recorded outputs; there is nothing to run" in refused("check", "replay:r.jsonl")


def test_what_is_no_submission(tmp_path):
    assert rmeval("run", "length", "--suite", "arithmetic", "--out", "a").code == 0
    [result] = results_in("a")
    made = rmeval("submit", result, "--by", "us", "--contact", "us@example.org", "--submissions", "subs")
    assert made.code == 0, made.stderr
    [sent] = Path("subs").rglob(FILE)
    assert open_submission(sent).submission == open_submission(sent.parent).submission
    link = tmp_path / "link"
    link.symlink_to(sent.parent)
    for path, said in ((link, "a link; submissions are plain files"), (tmp_path / "nowhere", "no such submission")):
        with pytest.raises(UsageError, match=said):
            open_submission(path)
    lacking = Path(shutil.copytree(sent.parent, tmp_path / "lacking"))
    (lacking / json.loads((lacking / FILE).read_text())["result"]).unlink()
    with pytest.raises(UsageError, match="the result file .* is missing"):
        open_submission(lacking)
