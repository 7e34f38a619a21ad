"""`rmeval reproduce`: the same run again, compared score by score."""

from __future__ import annotations

import gzip
import hashlib
import json

import judge_server
import own_rows
import pytest
from command import rmeval

import rmeval as library


def results_of(folder):
    return sorted(folder.rglob("*[0-9a-f].json"))


def run(tmp_path, *arguments):
    """(result file, its document) of a run."""
    got = rmeval("run", *arguments, "--out", tmp_path / "results", "--json")
    assert got.code == 0, got.stderr
    [path] = results_of(tmp_path / "results")
    return path, got.document


def altered(path, change):
    """The result with other rows, its digest put right: what somebody who invents scores would do."""
    held = json.loads(path.read_text())
    beside = path.parent / held["samples"]["file"]
    rows = [json.loads(line) for line in gzip.decompress(beside.read_bytes()).decode().splitlines()]
    change(rows)
    content = gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode(), mtime=0)
    beside.write_bytes(content)
    held["samples"]["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(held))


@pytest.mark.parametrize("model", ["-length", "random"])
def test_a_generated_suite_with_limit_and_seed_comes_back(tmp_path, model):
    path, was = run(tmp_path, model, "--suite", "arithmetic", "--limit", 50, "--seed", 7)
    got = rmeval("reproduce", path, "--json")
    assert got.code == 0, got.stderr
    found = got.document
    assert (found["agrees"], found["audit"]["beyond"], found["audit"]["largest"]) == (True, 0, 0.0)
    assert found["audit"]["examples"] == 50
    assert found["headline"] == [was["headline"]["value"]] * 2
    assert (found["asked"], found["environment"], found["path"]) == ([], [], None)
    assert results_of(tmp_path) == [path]


def test_every_argument_of_the_recorded_command_counts(tmp_path, tiny_reward_model):
    rows = own_rows.pairs(tmp_path / "pairs.jsonl")
    asked = ("-a", "engine.max_length=24", "-a", "engine.truncation=left", "-a", "metric.ties=half")
    path, was = run(tmp_path, tiny_reward_model, "--suite", "pairs", "--data", rows, *asked, "--max-failed", 9)
    assert was["engine"]["max_length"] == 24
    got = rmeval("reproduce", path, "--out", tmp_path / "again")
    assert got.code == 0, got.stderr
    assert "80 scores of 40 examples again: largest difference 0, 0 beyond" in got.stdout
    assert "differs" not in got.stdout
    [again] = results_of(tmp_path / "again")
    assert json.loads(again.read_text())["metric_options"] == {"ties": "half"}
    assert list((tmp_path / "again").rglob("*.sqlite*")) == []
    got = rmeval("reproduce", path, "-a", "engine.max_length=12")
    assert got.code == 3
    assert "differs: asked: engine.max_length: 24 before, 12 now" in got.stdout


def test_another_model_is_another_result(tmp_path):
    path, _ = run(tmp_path, "length", "--suite", "pairs", "--data", own_rows.pairs(tmp_path / "pairs.jsonl"))
    got = rmeval("reproduce", path, "--model", "-length")
    assert got.code == 3
    assert "differs: asked: model.name: length before, -length now" in got.stdout
    assert "80 of 80 scores were not found again" in got.stderr


def test_one_invented_score_is_found(tmp_path):
    path, _ = run(tmp_path, "length", "--suite", "pairs", "--data", own_rows.pairs(tmp_path / "pairs.jsonl"))

    def change(rows):
        rows[3]["scores"][0] += 0.5

    altered(path, change)
    got = rmeval("reproduce", path)
    assert got.code == 3
    assert "largest difference 0.5 at" in got.stdout
    assert "1 of 80 scores were not found again" in got.stderr


def test_what_differs_in_the_environment_is_named(tmp_path):
    path, _ = run(tmp_path, "length", "--suite", "pairs", "--data", own_rows.pairs(tmp_path / "pairs.jsonl"))
    held = json.loads(path.read_text())
    held["environment"] |= {"python": "3.9.1", "packages": held["environment"]["packages"] | {"torch": "1.0"}}
    path.write_text(json.dumps(held))
    got = rmeval("reproduce", path)
    assert got.code == 0, got.stderr
    assert "differs: environment: python: 3.9.1 before, 3." in got.stdout
    assert "differs: environment: packages.torch: 1.0 before, " in got.stdout


def test_other_data_are_refused(tmp_path):
    path, _ = run(tmp_path, "length", "--suite", "pairs", "--data", own_rows.pairs(tmp_path / "pairs.jsonl"))
    got = rmeval("reproduce", path, "--data", own_rows.pairs(tmp_path / "other.jsonl", n=39))
    assert got.code == 2
    assert "other examples than in the result, 'p39' among them (1 are lacking, 0 are new)" in got.stderr


def test_a_run_from_python_is_done_again_with_what_it_states(tmp_path, tiny_reward_model):
    rows = own_rows.pairs(tmp_path / "pairs.jsonl")
    view = library.run(
        str(tiny_reward_model),
        "pairs",
        data=rows,
        args={"engine": {"max_length": 24, "truncation": "left"}},
        out=tmp_path / "results",
    )
    got = rmeval("reproduce", view.path, "--model", tiny_reward_model, "--data", rows)
    assert got.code == 0, got.stdout + got.stderr
    assert "records no `rmeval run`" in got.stderr
    assert "engine.max_length" not in got.stdout


def test_a_judge_is_compared_verdict_by_verdict(tmp_path):
    rows = own_rows.pairs(tmp_path / "pairs.jsonl", n=4)
    said = ["[[A]]"]
    with judge_server.JudgeServer(lambda _: judge_server.Says(said[0])) as server:
        asked = ("judge:gpt-x", "--suite", "pairs", "--data", rows, "--base-url", server.url)
        path, _ = run(tmp_path, *asked)
        got = rmeval("reproduce", path)
        assert got.code == 0, got.stderr
        n = len(server.calls)
        said[0] = "[[B]]"
        got = rmeval("reproduce", path)
        assert got.code == 3
        assert "8 of 8 scores were not found again" in got.stderr
        assert len(server.calls) == n + n // 2, "asked again, not taken from a store"


def test_imported_results_have_no_run(tmp_path):
    rows = own_rows.pairs(tmp_path / "pairs.jsonl")
    path, _ = run(tmp_path, "length", "--suite", "pairs", "--data", rows)
    rmeval("export", path, "--to", "rewardbench", "-o", tmp_path / "out")
    scores = tmp_path / "out/eval-set-scores/length.json"
    got = rmeval("import", "rewardbench", scores, "--suite", "pairs", "--data", rows, "--out", tmp_path / "imported")
    assert got.code == 0, got.stderr
    [imported] = results_of(tmp_path / "imported")
    got = rmeval("reproduce", imported)
    assert got.code == 2
    assert "imported from published outputs" in got.stderr
