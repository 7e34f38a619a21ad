"""Every command on small things: what it prints, where, what it leaves on disk, and its exit code."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import command
import own_rows
import pytest
from command import rmeval

from rmeval.results import compared, load_result, read
from rmeval.suites import contents_digest, load_suite

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


@pytest.fixture
def pairs(tmp_path):
    return own_rows.pairs(tmp_path / "mine.jsonl")


def result_files(folder="results"):
    return sorted(Path(folder).rglob("*.json"))


def run_pairs(model, data, *more):
    """A run on the suite `pairs` that must succeed: (result as printed, the path of its file)."""
    before = set(result_files())
    got = rmeval("run", model, "--suite", "pairs", "--data", data, "--json", *more)
    assert got.code == 0, got.stderr
    [path] = set(result_files()) - before
    return got.document, path


# --- run -------------------------------------------------------------------------------------------------------------


def test_run_prints_a_table_and_writes_the_result(pairs):
    got = rmeval("run", "length", "--suite", "pairs", "--data", pairs)
    [path] = result_files()
    assert got.code == 0
    assert "length on pairs: accuracy 75.0" in got.stdout
    assert f"result: {path}" in got.stdout
    assert got.stderr == ""
    view = load_result(path)
    assert (view.headline.value, view.headline.n, view.result.complete) == (0.75, 40, True)
    assert len(view.judgements) == view.result.samples.rows == 40


def test_run_json_is_one_document_and_the_file_on_disk(pairs):
    document, path = run_pairs("length", pairs)
    assert document == json.loads(path.read_text())
    assert (document["model"]["name"], document["model"]["kind"]) == ("length", "baseline")
    assert document["suite"]["data"]["source"] == "file:mine.jsonl"
    assert document["engine"] is None


def test_run_of_a_checkpoint_says_what_ran_it(pairs, tiny_reward_model):
    document, path = run_pairs(tiny_reward_model, pairs)
    assert path.is_relative_to("results/tiny-rm/pairs")
    assert document["engine"]["dtype"] == "float32"
    assert document["engine"]["template_source"] == "checkpoint"
    assert document["scorer"]["reading"] == "raw logit"
    assert document["model"]["revision"].startswith("sha256:")
    assert document["counts"] == {
        "requests": 80, "cached": 0, "truncated": 0, "unparsed": 0, "refused": 0, "errors": 0,
    }  # fmt: skip


def test_a_second_run_asks_nothing_again_and_is_equal(pairs, tiny_reward_model):
    _, first = run_pairs(tiny_reward_model, pairs)
    again, second = run_pairs(tiny_reward_model, pairs)
    assert again["counts"]["cached"] == 80
    assert compared(read(first)) == compared(read(second))


def test_run_of_several_suites_is_a_list_in_the_order_asked_for(pairs, tmp_path, monkeypatch):
    for name in ("mine-a", "mine-b"):
        own_rows.card_folder(tmp_path / "cards", name)
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    got = rmeval("run", "length", "--suite", "mine-b, mine-a", "--data", pairs, "--json")
    assert [one["suite"]["name"] for one in got.document] == ["mine-b", "mine-a"]
    table = rmeval("run", "length", "--suite", "mine-b,mine-a", "--data", pairs)
    assert table.stdout.index("length on mine-b") < table.stdout.index("length on mine-a")


def test_run_without_a_suite_runs_the_embedded_ones(tmp_path):
    got = rmeval("run", "length", "--limit", "30", "--json")
    assert got.document["suite"]["name"] == "arithmetic"
    assert got.document["suite"]["data"]["source"] == "generated:seed=0"
    assert got.stderr.startswith("note: no --suite given: running the embedded arithmetic.")


def test_notes_go_to_stderr_and_into_the_result(tmp_path):
    data = own_rows.style_matrix(tmp_path / "data/chat_filtered.json", 12)
    got = rmeval("run", "length", "--suite", "rm-bench", "--data", data, "--json")
    assert got.code == 0
    assert not got.document["complete"]
    assert got.document["headline"]["value"] is None  # four of five subsets are missing: no number, never 0
    assert got.stderr.splitlines() == [f"note: rm-bench: {note}" for note in got.document["notes"]]


def test_a_seed_draws_another_embedded_suite():
    def drawn(*seed):
        return rmeval("run", "constant", "--suite", "arithmetic", "--json", *seed).document["suite"]["data"]

    zero, again, one = drawn(), drawn("--seed", 0), drawn("--seed", 1)
    assert zero == again
    assert zero["sha256"] != one["sha256"]


# --- limit, dry run, failures ----------------------------------------------------------------------------------------


def test_limit_is_seeded_stratified_and_incomplete(tmp_path):
    data = own_rows.pairs(tmp_path / "mine.jsonl", 100, subsets=("a", "a", "a", "b"))

    def ids(limit, seed=0):
        document, path = run_pairs("length", data, "--limit", limit, "--seed", seed)
        assert not document["complete"]
        assert document["suite"]["limit"] == float(limit)
        return {j.id: j.subset for j in load_result(path).judgements}

    twenty = ids("20")
    assert Counter(twenty.values()) == {"a": 15, "b": 5}
    assert ids("20") == twenty
    assert ids("20", seed=1).keys() != twenty.keys()
    assert ids("0.4").keys() > twenty.keys()
    assert len(ids("0.1")) == 10
    assert "incomplete: --limit 20" in rmeval("run", "length", "--suite", "pairs", "--data", data, "--limit", 20).stdout


def test_dry_run_counts_and_writes_nothing(pairs, tiny_reward_model, tmp_path):
    got = rmeval("run", tiny_reward_model, "--suite", "pairs", "--data", pairs, "--dry-run", "--json")
    forecast = got.document
    assert (forecast["examples"], forecast["candidates"], forecast["requests"]) == (40, 80, 80)
    assert forecast["batches"] >= 1
    assert forecast["writes"] == "results/tiny-rm/pairs"
    assert not Path("results").exists()
    document, _ = run_pairs(tiny_reward_model, pairs)
    assert document["usage"]["tokens"] == forecast["tokens"]
    assert "dry run: nothing was scored or written" in rmeval(
        "run", "length", "--suite", "pairs", "--data", pairs, "--dry-run"
    ).stdout  # fmt: skip


@pytest.mark.fault("F9")
def test_missing_scores_withhold_the_aggregates_and_exit_3(pairs):
    rows = [{"id": f"p{i}", "scores": [1.0, 0.0]} for i in range(39)]
    Path("r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    got = rmeval("run", "replay:r.jsonl", "--suite", "pairs", "--data", pairs, "--json")
    assert got.code == 3
    assert "2 scores are missing (2 not_recorded), more than --max-failed 0" in got.stderr
    assert got.document["headline"]["value"] is None
    assert {m["value"] for m in got.document["metrics"]} == {None}
    accepted, path = run_pairs("replay:r.jsonl", pairs, "--max-failed", 2)
    assert (accepted["headline"]["value"], accepted["metrics"][0]["n"], accepted["metrics"][0]["n_missing"]) == (
        1,
        39,
        1,
    )
    assert load_result(path).judgements[-1].reasons == ("not_recorded", "not_recorded")


@pytest.mark.fault("F14")
def test_a_text_that_is_too_long_is_missing_not_cut(pairs, tiny_reward_model):
    run = ("run", tiny_reward_model, "--suite", "pairs", "--data", pairs)
    got = rmeval(*run, "-a", "engine.max_length=24")
    assert got.code == 3
    assert "truncated" in got.stderr
    assert rmeval(*run, "-a", "engine.max_length=24", "-a", "engine.truncation=left").code == 0


def test_a_tie_rule_may_be_chosen_and_is_recorded(pairs):
    lost, _ = run_pairs("constant", pairs)
    won, _ = run_pairs("constant", pairs, "-a", "metric.ties=win")
    assert (lost["headline"]["value"], won["headline"]["value"]) == (0.0, 1.0)
    assert (lost["metric_options"], won["metric_options"]) == ({}, {"ties": "win"})


# --- list, show, schema, check ---------------------------------------------------------------------------------------


def test_list_names_every_kind():
    found = rmeval("list", "--json").document
    assert set(found) == {"suites", "scorers", "judges", "engines", "metrics", "probes", "importers", "readers"}
    suites = {one["name"]: one for one in found["suites"]}
    assert set(suites) >= {
        "arithmetic", "rm-bench", "rmb", "llmbar", "rewardmath", "judgebench", "reward-bench", "reward-bench-2",
    }  # fmt: skip
    assert all(one["what"] and one["from"] == "built in" for one in found["suites"])
    only = rmeval("list", "scorers", "--json").document
    assert only == {"scorers": found["scorers"]}
    assert {"length", "-length", "random", "constant", "markdown"} <= {one["name"] for one in only["scorers"]}
    assert "rm-bench" in rmeval("list", "suites").stdout


def test_show_a_suite_says_its_official_number():
    got = rmeval("show", "rm-bench")
    assert "official number: accuracy (style_matrix" in got.stdout
    assert "licence:" in got.stdout
    assert rmeval("show", "rm-bench", "--json").document["name"] == "rm-bench"


def test_list_names_the_probes_that_there_are_as_commands():
    from rmeval.cli.probe import app

    listed = rmeval("list", "probes", "--json").document["probes"]
    commands = {command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands}
    assert {probe["name"] for probe in listed} == commands
    assert all(probe["what"].endswith(".") for probe in listed)


def test_show_examples_lists_ids_in_the_order_of_the_data(pairs):
    rows = rmeval("show", "pairs", "--data", pairs, "--examples", "--json").document
    assert [row["id"] for row in rows] == [f"p{i}" for i in range(40)]
    assert rows[1] == {"id": "p1", "subset": "odd", "group": "", "candidates": 2, "steps": [0, 0]}
    shown = rmeval("show", "pairs", "--data", pairs, "--examples").stdout
    assert "pairs: 40 examples from file:mine.jsonl" in shown
    read = load_suite("pairs").load(pairs)
    assert f'to pin them: labels_sha256 = "{read.labels_sha256}"' in shown
    assert f'contents_sha256 = "{contents_digest(read.examples)}"' in shown


def test_show_a_scorer():
    assert "Longer is better" in rmeval("show", "length").stdout


@pytest.mark.parametrize("kind", ["result", "samples", "suite", "scorer", "submission", "verified"])
def test_schema_is_json_schema(kind):
    schema = rmeval("schema", kind).document
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False


def test_the_result_schema_names_the_keys_of_a_result(pairs):
    document, _ = run_pairs("length", pairs)
    assert set(rmeval("schema", "result").document["properties"]) == set(document)


@pytest.mark.parametrize("name", ["rm-bench", "rewardmath", "arithmetic"])
def test_check_runs_the_sample_of_a_card(name):
    got = rmeval("check", name)
    assert got.code == 0
    assert "FAILED" not in got.stdout
    assert "sample" in got.stdout


def test_check_scores_a_checkpoint_alone_and_in_company(tiny_reward_model):
    got = rmeval("check", tiny_reward_model, "--json")
    assert got.code == 0
    names = {one["name"] for one in got.document["checks"]}
    assert {"text", "missing scores", "batches of 8", "shuffled, batches of 8", "as the engine plans"} <= names
    assert all(one["ok"] for one in got.document["checks"])


def test_check_of_a_baseline_counts_its_scores():
    got = rmeval("check", "length", "--json")
    assert got.code == 0
    [found] = got.document["checks"]
    assert (found["name"], found["ok"]) == ("finite scores", True)
    n, _, total = found["found"].partition(" of ")
    assert 0 < int(n) == int(total)


# --- score -----------------------------------------------------------------------------------------------------------


def test_score_answers_line_by_line_in_order(tmp_path):
    rows = [
        {"prompt": "q", "response": "four"},
        {"id": "b", "prompt": [{"role": "user", "content": "q"}], "responses": ["a", "three"]},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "ok"}]},
        {"prompt": "q", "chosen": "ab", "rejected": "c"},
    ]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    got = rmeval("score", "length", "mine.jsonl")
    wanted = [
        {"id": 1, "score": 4.0},
        {"id": "b", "scores": [1.0, 5.0]},
        {"id": 3, "score": 2.0},
        {"id": 4, "scores": [2.0, 1.0]},
    ]
    assert [json.loads(line) for line in got.stdout.splitlines()] == wanted
    assert rmeval("score", "length", "mine.jsonl", "--json").document == wanted
    written = rmeval("score", "length", "mine.jsonl", "-o", "out/scores.jsonl")
    assert written.stdout == "4 rows scored: out/scores.jsonl\n"
    assert [json.loads(line) for line in Path("out/scores.jsonl").read_text().splitlines()] == wanted


def test_score_gives_the_scores_of_a_run(pairs, tiny_reward_model):
    _, path = run_pairs(tiny_reward_model, pairs)
    scored = rmeval("score", tiny_reward_model, pairs, "--json").document
    run = load_result(path).judgements
    assert [tuple(one["scores"]) for one in scored] == [j.scores for j in run]


def test_score_says_why_a_score_is_missing(tiny_reward_model):
    rows = [{"prompt": "q", "response": "good"}, {"prompt": "q", "response": "good " * 300}]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    got = rmeval("score", tiny_reward_model, "mine.jsonl")
    first, second = map(json.loads, got.stdout.splitlines())
    assert got.code == 3
    assert isinstance(first["score"], float)
    assert second == {"id": 2, "score": None, "reason": "truncated"}
    assert "1 responses have no score" in got.stderr


# --- rescore, compare, board -----------------------------------------------------------------------------------------


def test_rescore_without_options_is_the_same_and_with_options_says_so(pairs):
    document, path = run_pairs("constant", pairs)
    same = rmeval("rescore", path, "--json").document
    assert same["metrics"] == document["metrics"]
    won = rmeval("rescore", path, "-a", "metric.ties=win", "--json").document
    assert won["headline"]["value"] == 1.0
    assert won["notes"][-1] == 'scored again from stored samples under ties = "win"'
    assert result_files() == [path]
    written = rmeval("rescore", path, "-a", "ties=half", "--out", "again")
    [fresh] = result_files("again")
    assert f"result: {fresh}" in written.stdout
    assert load_result(fresh).headline.value == 0.5
    assert load_result(fresh).result.rescored_from == document["id"]


def test_compare_is_paired_and_signed(pairs):
    _, longer = run_pairs("length", pairs)
    _, shorter = run_pairs("-length", pairs)
    got = rmeval("compare", longer, shorter, "--json").document
    head = got["differences"][0]
    assert (head["level"], head["a"], head["b"], head["n"]) == ("headline", 0.75, 0.25, 40)
    assert head["difference"] == pytest.approx(0.5)
    assert 0 < head["ci"][0] < 0.5 < head["ci"][1]
    assert head["p"] < 0.01
    assert "length (a) against -length (b) on pairs" in rmeval("compare", longer, shorter).stdout
    _, constant = run_pairs("constant", pairs)
    assert len(rmeval("compare", longer, shorter, constant, "--json").document) > 1


def test_leaderboard_build_writes_board_and_page(pairs):
    run_pairs("length", pairs)
    run_pairs("-length", pairs)
    got = rmeval("leaderboard", "build", "results", "--out", "site")
    assert got.code == 0
    assert "page: site/index.html" in got.stdout
    board = json.loads(Path("site/leaderboard.json").read_text())
    [suite] = board["suites"]
    assert [(e["model"], tuple(e["rank"])) for e in suite["entries"]] == [("length", (1, 1)), ("-length", (2, 2))]
    page = Path("site/index.html").read_text()
    assert "-length" in page
    again = rmeval("leaderboard", "build", "results", "--out", "site", "--json").document
    assert again.keys() == board.keys()
    assert again["suites"] == board["suites"]


# --- the program itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["run", "list", "show", "score", "rescore", "compare", "check", "schema", "demo", "train bt", "leaderboard build"],
)
def test_every_command_has_help(name):
    got = rmeval(*name.split(), "--help")
    assert (got.code, got.stderr) == (0, "")
    assert f"rmeval {name}" in got.stdout


@pytest.mark.fault("F30")
def test_the_answer_is_utf8_in_every_locale(tmp_path):
    row = {"id": "é", "prompt": "q", "chosen": "long", "rejected": "x"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    for more in ([], ["--json"]):
        got = command.rmeval_process(
            "show", "pairs", "--data", "mine.jsonl", "--examples", *more, cwd=tmp_path, PYTHONIOENCODING="ascii"
        )
        assert (got.code, got.stderr) == (0, "")
        assert "é" in got.stdout


@pytest.mark.fault("F30")
def test_a_reader_that_leaves_early_is_no_fault(tmp_path):
    shell = f"set -o pipefail; {' '.join(command.PROGRAM)} show arithmetic --examples --json | head -n 1"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, cwd=tmp_path, env=command.environment(), check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[\n", "")
