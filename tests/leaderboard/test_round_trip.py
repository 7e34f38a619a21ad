"""Result, submission, board, export, import: the numbers stay the same. And what is sent stays readable and whole."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import made_results
import pandas as pd
import pytest
from command import environment, rmeval

from rmeval import results, samples, strict_json
from rmeval.leaderboard.board import build
from rmeval.leaderboard.submission import open_submission
from rmeval.leaderboard.verify import verify
from rmeval.suites import load_suite

WORDS = "one two three four five six seven eight nine ten".split()


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite of 160 pairs whose labels its card pins, and the file of its rows."""
    draw = random.Random(0)
    rows = [
        {"id": f"{subset}/{i}", "subset": subset, "prompt": f"{subset} {i // 2}?"}
        | {name: " ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for name in ("chosen", "rejected")}
        for subset in ("easy", "hard")
        for i in range(80)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    fields = '[[layout]]\nname = "rows"\n[fields]\nid = "id"\nsubset = "subset"\nprompt = "prompt"\nchosen = "chosen"\nrejected = "rejected"\n'
    card = tmp_path / "cards/suites/toy-pairs/card.toml"
    card.parent.mkdir(parents=True)
    card.write_text(made_results.CARD + fields)
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    digest = load_suite("toy-pairs").load(data).labels_sha256
    card.write_text(f'labels_sha256 = "{digest}"\n{made_results.CARD}{fields}')
    monkeypatch.setenv("RMEVAL_PATH", str(shutil.copytree(tmp_path / "cards", tmp_path / "pinned")))
    assert load_suite("toy-pairs").card.labels_sha256 == digest
    return data


def numbers(document: dict) -> dict:
    return {(m["name"], m["subset"]): (m["value"], m["ci"], m["n"], m["n_missing"]) for m in document["metrics"]}


def test_a_result_comes_back_the_same_through_submission_board_and_every_export(toy: Path, tmp_path: Path) -> None:
    shared = ("--suite", "toy-pairs", "--data", toy, "--json")
    first = rmeval("run", "random", *shared, "--out", tmp_path / "results").document
    was = numbers(first)
    [path] = (tmp_path / "results").rglob("*[0-9a-f].json")

    subs = tmp_path / "subs"
    assert rmeval("submit", path, "--by", "us", "--submissions", subs).code == 0
    said = rmeval("verify", subs, "--submissions", subs, "--json").document
    assert (said["level"], said["flags"], said["faults"]) == ("recomputed", [], [])
    assert not any("not pinned" in note for note in said["notes"]), "ids and grades were checked without the rows"
    sent = open_submission(subs / "random" / "toy-pairs").view
    board = rmeval("leaderboard", "build", subs, "--submissions", subs, "--out", tmp_path / "site", "--json").document
    [suite] = board["suites"]
    [entry] = suite["entries"]
    assert entry["value"] == pytest.approx(first["headline"]["value"], abs=1e-12)
    assert entry["ci"] == first["headline"]["ci"]
    for part in ("simple", "subtle"):
        assert entry["sections"][part]["value"] == pytest.approx(was["accuracy", part][0], abs=1e-12)
    published = results.load_result(tmp_path / "site" / entry["file"])
    assert numbers(results.to_dict(published.result)) == was

    def exported(to: str) -> Path:
        out = tmp_path / f"out.{to}"
        assert rmeval("export", sent.path, "--to", to, "-o", out).code == 0
        return out

    for to in ("csv", "parquet"):
        table = pd.read_csv(exported(to)) if to == "csv" else pd.read_parquet(exported(to))
        scores = table.sort_values("candidate").groupby("id")["score"].agg(list)
        replay = tmp_path / f"{to}.jsonl"
        replay.write_text("".join(f"{json.dumps({'id': i, 'scores': s})}\n" for i, s in scores.items()))
        again = rmeval("run", f"replay:{replay}", *shared, "--out", tmp_path / to).document
        assert numbers(again) == was, to

    whole = strict_json.read(exported("json"))
    held = results.validate(whole["result"], "json")
    rows = [samples.to_judgement(samples.parse(samples.SampleRow, row, "row")) for row in whole["samples"]]
    back = results.write(results.as_draft(held), rows, tmp_path / "json")
    assert numbers(results.to_dict(results.read(back))) == was
    assert verify(back).level == "recomputed"

    [scores_file] = (exported("rewardbench") / "eval-set-scores").rglob("*.json")
    imported = rmeval("import", "rewardbench", scores_file, *shared, "--out", tmp_path / "rewardbench").document
    assert numbers(imported) == was

    record = json.loads(exported("eee").read_text())
    for one in record["evaluation_results"]:
        part = one["evaluation_name"].partition(".")[2] or None
        value, ci, n, _ = was["accuracy", part]
        assert one["score_details"]["score"] == value
        told = one["score_details"]["uncertainty"]
        assert [told["confidence_interval"][end] for end in ("lower", "upper")] == ci
        assert told["num_samples"] == n


# --- schemas ----------------------------------------------------------------------------------------------------------


def test_a_submission_of_an_older_schema_is_read_verified_and_ranked(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schema before the first, made up here: its headline was called `score`."""
    assert rmeval("run", "random", "--suite", "toy-pairs", "--data", toy, "--out", tmp_path / "results").code == 0
    [path] = (tmp_path / "results").rglob("*[0-9a-f].json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "schema": 0, "score": content["headline"]} | {"headline": None}))
    assert "schema 0 is not known" in verify(path).faults[0].message

    def renamed(old: dict) -> dict:
        return {**{key: value for key, value in old.items() if key != "score"}, "headline": old["score"]}

    monkeypatch.setitem(results.MIGRATIONS, 0, renamed)
    subs = tmp_path / "subs"
    assert rmeval("submit", path, "--submissions", subs).code == 0
    [kept] = (p for p in subs.rglob("*.json") if p.name != "submission.json")
    assert json.loads(kept.read_text())["schema"] == 0, "byte for byte what was written"
    [suite] = build([], tmp_path / "site", submissions=subs).suites
    assert suite.entries[0].value == pytest.approx(content["headline"]["value"], abs=1e-12)


@pytest.mark.fault("F57")
def test_f57_an_unknown_schema_is_rejected_with_its_code(toy: Path, tmp_path: Path) -> None:
    assert rmeval("run", "random", "--suite", "toy-pairs", "--data", toy, "--out", tmp_path / "results").code == 0
    [path] = (tmp_path / "results").rglob("*[0-9a-f].json")
    assert rmeval("submit", path, "--submissions", tmp_path / "subs").code == 0
    held = tmp_path / "subs/random/toy-pairs/submission.json"
    held.write_text(json.dumps(json.loads(held.read_text()) | {"schema": 2}))
    found = verify(held.parent)
    assert [fault.code for fault in found.faults] == ["unreadable"]
    assert "schema" in found.faults[0].message


# --- F51: two gigabytes -----------------------------------------------------------------------------------------------

MEASURED = """
import json, resource, sys, time
from pathlib import Path
from rmeval.leaderboard.verify import verify
import numpy, scipy.stats
before, found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
for path in map(Path, sys.argv[1:]):
    start = time.process_time()
    codes = [fault.code for fault in verify(path).faults]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found.append([codes, time.process_time() - start, (most - before) / 1024])
print(json.dumps(found))
"""


@pytest.mark.fault("F51")
def test_f51_two_gigabytes_are_rejected_in_two_seconds_and_300_megabytes(toy: Path, tmp_path: Path) -> None:
    assert rmeval("run", "random", "--suite", "toy-pairs", "--data", toy, "--out", tmp_path / "results").code == 0
    [path] = (tmp_path / "results").rglob("*[0-9a-f].json")
    assert rmeval("submit", path, "--submissions", tmp_path / "subs").code == 0
    long, long_rows, bomb = (shutil.copytree(path.parent, tmp_path / name) / path.name for name in ("a", "b", "c"))
    content = json.loads(path.read_text())
    rows = content["samples"]["file"]
    # sparse: they take no room on the disk
    for file in (long, long_rows.parent / rows, tmp_path / "subs/random/toy-pairs" / rows):
        os.truncate(file, 2 * 2**30)
    # small on the disk, without end once it is opened
    (bomb.parent / rows).write_bytes(gzip.compress(b"[" * 300_000_000, compresslevel=1, mtime=0))
    content["samples"]["sha256"] = hashlib.sha256((bomb.parent / rows).read_bytes()).hexdigest()
    bomb.write_text(json.dumps(content))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, long, long_rows, bomb, tmp_path / "subs/random/toy-pairs"],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for codes, seconds, megabytes in json.loads(done.stdout):
        assert codes == ["unreadable"]
        assert seconds < 2
        assert megabytes < 300
