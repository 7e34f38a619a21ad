"""`rmeval import`: from files to a result that rescore, compare and the leaderboard take like any other."""

from __future__ import annotations

import hashlib
import json

import own_rows
import published_shapes as shapes
import pytest
from command import rmeval


@pytest.fixture
def pairs(tmp_path):
    """Forty pairs of the suite `pairs`, which states no counts, so that a result on them is complete."""
    return own_rows.pairs(tmp_path / "pairs.jsonl")


def outputs(path, pairs, skill):
    """RewardBench's shape on those pairs: the chosen response wins in `skill` of four rows."""
    rows = []
    for i, line in enumerate(pairs.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        won = i % 4 < skill
        texts = {f"text_{side}": shapes.formatted(row["prompt"], row[side]) for side in ("chosen", "rejected")}
        scores = {"scores_chosen": float(won), "scores_rejected": float(not won) / 2, "results": int(won)}
        rows.append({"id": row["id"], "subset": row["subset"], **texts, **scores})
    return shapes.write(path, shapes.columns(rows, **(shapes.RB_ABOUT | {"model": f"acme/{path.stem}"})))


def test_import_then_rescore_compare_and_board(tmp_path, pairs):
    results, paths = tmp_path / "results", []
    for name, skill in (("good", 3), ("poor", 2)):
        file = outputs(tmp_path / f"{name}.json", pairs, skill)
        got = rmeval("import", "rewardbench", file, "--suite", "pairs", "--data", pairs, "--out", results, "--json")
        assert got.code == 0, got.stderr
        result = got.document
        assert (result["complete"], result["model"]["name"]) == (True, f"acme/{name}")
        assert (result["model"]["kind"], result["scorer"]["format"]) == ("published", "rewardbench")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert result["engine"] == {"name": "published", "files": [{"name": f"{name}.json", "sha256": digest}]}
        assert result["headline"]["value"] == skill / 4
        assert result["counts"] == dict.fromkeys(result["counts"], 0)
        paths += (results / f"acme__{name}/pairs").glob("*[0-9a-f].json")
    again = rmeval("rescore", paths[0], "--json").document
    assert again["headline"] == rmeval("rescore", paths[0], "-a", "metric.ties=half", "--json").document["headline"]
    compared = rmeval("compare", *paths, "--json")
    assert compared.code == 0, compared.stderr
    assert "0.25" in compared.stdout
    board = rmeval("leaderboard", "build", results, "--out", tmp_path / "site", "--json")
    assert board.code == 0, board.stderr
    assert "acme/good" in board.stdout
    assert "acme/good" in (tmp_path / "site/index.html").read_text(encoding="utf-8")


def test_what_the_file_lacks_is_missing_and_withholds_the_aggregates(tmp_path, pairs):
    file = outputs(tmp_path / "short.json", pairs, 3)
    held = json.loads(file.read_text(encoding="utf-8"))
    short = {k: v[1:] if isinstance(v, list) else v for k, v in held.items()}
    file = shapes.write(file, short)
    asked = ("import", "rewardbench", file, "--suite", "pairs", "--data", pairs, "--out", tmp_path, "--json")
    got = rmeval(*asked)
    assert got.code == 3
    assert "2 scores are missing (2 not_recorded), more than --max-failed 0" in got.stderr
    assert (got.document["complete"], got.document["headline"]["value"]) == (False, None)
    assert "2 not_recorded" in got.document["withheld"]
    got = rmeval(*asked, "--max-failed", "2")
    first = got.document["metrics"][0]
    assert (got.code, first["n"], first["n_missing"]) == (0, 39, 1)


def test_the_file_itself_may_hold_the_rows(tmp_path):
    scores = [[float(9 - i) for i in range(10)], [0.0] * 10]
    file = shapes.write(tmp_path / "acme_reward.json", shapes.rewardmath_rows(scores))
    got = rmeval(
        "import", "rewardmath", file, "--suite", "rewardmath", "--model", "acme/rm", "--out", tmp_path, "--json"
    )
    assert got.code == 0, got.stderr
    assert got.document["model"]["name"] == "acme/rm"
    assert (got.document["headline"]["value"], got.document["complete"]) == (0.5, False)
    assert "rewardmath has 2 of 483" in " ".join(got.document["notes"])
    assert list(tmp_path.glob("acme__rm/rewardmath/*.json"))


def test_the_official_rule_for_judges_is_the_suites_and_may_be_overruled(tmp_path):
    data = shapes.write(tmp_path / "a_reward.json", shapes.rewardmath_rows([[0.0] * 10]))
    [row] = shapes.rewardmath_rows([[]])
    judged = {"solution_reference": shapes.WRITERS[1:], "score": [*"AAAAAAAA", None], "chosen_position": ["A"] * 9}
    file = shapes.write(tmp_path / "j_pairwise_reward.json", [row | judged])
    asked = ("import", "rewardmath", file, "--suite", "rewardmath", "--data", data, "--out", tmp_path, "--json")
    official = rmeval(*asked).document
    assert official["metric_options"] == {}
    assert "what could not be read counts as wrong" in official["metrics"][0]["note"]
    assert (official["headline"]["value"], official["counts"]["unparsed"]) == (0.0, 1)
    assert "a verdict that could not be read is a loss: the official rule" in official["notes"]
    other = rmeval(*asked, "-a", "metric.unparsed=missing").document
    assert (other["metric_options"], other["metrics"][0]["n_missing"]) == ({"unparsed": "missing"}, 1)
    assert official["id"] != other["id"]


def test_a_folder_of_llmbar_is_data_and_outputs_at_once(tmp_path):
    folder = shapes.llmbar_folder(tmp_path / "LLMBar")
    got = rmeval("import", "llmbar", folder, "--suite", "llmbar", "--out", tmp_path / "results", "--json")
    assert got.code == 0, got.stderr
    names = [file["name"] for file in got.document["engine"]["files"]]
    assert names[0] == "Adversarial/GPTInst/evaluators/judge-1/CoT/result.json"
    assert len(names) == 5
    found = {(m["name"], m["subset"]): m["value"] for m in got.document["metrics"]}
    labels = [row["label"] == 1 for row in shapes.sample_rows("llmbar")]
    assert found["agreement", "Natural"] == 1
    parts = ("Natural", "Neighbor", "GPTInst", "GPTOut", "Manual")
    n = {m["subset"]: m["n"] for m in got.document["metrics"] if m["name"] == "accuracy"}
    assert sum(found["accuracy", part] * n[part] for part in parts) == sum(labels)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rewardbensh", "pairs.jsonl", "--suite", "pairs"), "unknown importer 'rewardbensh'. Did you mean 'rewardbench'"),
        (("ppe", "pears.jsonl", "--suite", "pairs"), "no such file or folder. Did you mean 'pairs.jsonl'"),
        (("ppe", "pairs.jsonl", "--suite", "pears"), "unknown suite 'pears'. Did you mean 'pairs'"),
        (("ppe", "pairs.jsonl", "--suite", "pairs", "-a", "engine.x=1"), "nothing is run, so there is no engine"),
        (("ppe", "pairs.jsonl", "--suite", "pairs", "--data", "pairs.jsonl"), "no 'question_id'"),
        (("rewardbench", "a.json", "--suite", "rmb"), "--data does not say where they are"),
        (("rewardbench", "a.json", "--suite", "pairs", "--data", "pairs.jsonl"), "the suite has no example '0'"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_said_in_one_message(tmp_path, monkeypatch, pairs, arguments, said):
    monkeypatch.chdir(tmp_path)
    shapes.write(tmp_path / "a.json", shapes.columns(shapes.rewardbench_rows()))
    got = rmeval("import", *arguments)
    assert (got.code, got.stdout) == (2, "")
    assert said in got.stderr
    assert not list(tmp_path.glob("results/*/*"))


@pytest.mark.parametrize(("form", "suite"), shapes.NAMED.items())
def test_sample_rows_of_every_suite_by_command(tmp_path, form, suite):
    data = shapes.sample(suite)
    made = {
        "rewardbench": lambda: [shapes.write(tmp_path / "m.json", shapes.columns(shapes.rewardbench_rows()))],
        "rewardbench2": lambda: [shapes.write(tmp_path / "m.json", shapes.columns(shapes.rewardbench2_rows()))],
        "rm-bench": lambda: [shapes.write(tmp_path / "total_dataset_m.json", shapes.rm_bench_rows())],
        "rmb": lambda: [shapes.write(tmp_path / "m_result.json", shapes.rmb_rows())],
        "judgebench": lambda: [shapes.write_lines(tmp_path / "o.jsonl", shapes.judgebench_rows([["A>B", "B>A"]] * 9))],
        "rewardmath": lambda: [shapes.write(tmp_path / "m_reward.json", shapes.rewardmath_rows([[1.0] * 10]))],
        "qwen25math": lambda: [data],  # the rewards stand beside the samples
        "llmbar": lambda: [shapes.llmbar_folder(tmp_path)],
    }  # fmt: skip
    files = made[form]()
    if form == "rewardmath":  # its sample is in the hub's layout and has problems of its own
        data = files[0]
    got = rmeval("import", form, *files, "--suite", suite, "--data", data, "--out", tmp_path / "r", "--json")
    assert got.code == (3 if form == "rmb" else 0), got.stderr  # RMB publishes no per-item outputs of best-of-N
    assert got.document["model"]["kind"] == "published"
    assert got.document["samples"]["rows"] == got.document["suite"]["examples"] > 0
