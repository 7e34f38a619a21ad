"""Bad input: one readable message on stderr that names the thing and the near miss, the right exit code, no answer.

`refused` runs the command in this process, where a traceback would fail the test by itself; the last tests run some of
them as a person would.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import own_rows
import pytest
from command import Answer, rmeval, rmeval_process

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


@pytest.fixture
def pairs(tmp_path):
    return own_rows.pairs(tmp_path / "mine.jsonl", 8).name


@pytest.fixture
def checkpoint(tiny_reward_model, tmp_path):
    """A copy of the tiny reward model, to be spoilt."""
    return Path(shutil.copytree(tiny_reward_model, tmp_path / "spoilt"))


def refused(*arguments, code=2):
    """The message of a command that must refuse: it is all there is."""
    got = rmeval(*arguments)
    check_refusal(got, code)
    return got.stderr


def check_refusal(got: Answer, code: int) -> None:
    assert (got.code, got.stdout) == (code, "")
    assert got.stderr.count("error: ") == 1
    assert "Traceback" not in got.stderr
    assert not list(Path("results").rglob("*.json"))


def run_pairs(model, data, *more):
    return refused("run", model, "--suite", "pairs", "--data", data, *more)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "length", "--suite", "rm-bnech"], ["unknown suite 'rm-bnech'", "'rm-bench'", "rmeval list suites"]),
        (["run", "length", "--suite", "arithmetic,rmbb"], ["unknown suite 'rmbb'", "'rmb'"]),
        (["run", "length", "--suite", ","], ["--suite ','", "rmeval list suites"]),
        (["run", "lenght", "--suite", "arithmetic"], ["unknown model 'lenght'", "'length'", "rmeval list scorers"]),
        (["run", "", "--suite", "arithmetic"], ["name of the model is empty"]),
        (["run", "scalar", "--suite", "arithmetic"], ["scorer scalar reads a checkpoint"]),
        (["run", "replay", "--suite", "arithmetic"], ["replay:FILE"]),
        (["run", "replay:nowhere.jsonl", "--suite", "arithmetic"], ["nowhere.jsonl does not exist"]),
        (["run", "org/model-that-is-not-there", "--suite", "arithmetic"], ["org/model-that-is-not-there", "hub"]),
        (["run", "length", "--suite", "arithmetic", "--engine", "transfomers"], ["'transfomers'", "'transformers'"]),
        (["run", "length", "--suite", "arithmetic", "-a", "metric.tie=win"], ["no option 'tie'", "'ties'"]),
        (["run", "length", "--suite", "arithmetic", "-a", "metric.ties=wim"], ["'wim'", "'win'"]),
        (["run", "random", "--suite", "arithmetic", "-a", "scorer.sead=1"], ["scorer.sead", "'seed'"]),
        (["run", "random", "--suite", "arithmetic", "-a", "scorer.seed=x"], ["scorer.seed=x", "valid integer"]),
        (["run", "random", "--suite", "arithmetic", "-a", "scorrer.seed=1"], ["'scorrer'", "'scorer'"]),
        (["run", "random", "--suite", "arithmetic", "-a", "scorer.seed"], ["scope.key=value"]),
        (["run", "length", "--suite", "arithmetic", "-a", "engine.dtype=float32"], ["engine.dtype", "no weights"]),
        (["run", "length", "--suite", "arithmetic", "--dry-run", "-a", "metric.tie=win"], ["no option 'tie'", "'ties'"]),
        (["run", "judge:j", "--suite", "rmb", "-a", "votes=3"], ["-a votes: a judge takes -a judge.votes"]),
        (["run", "judge:j", "--suite", "rmb", "-a", "scorer.vote=3"], ["-a scorer.vote: ", "'votes'"]),
        (["run", "judge:j", "--suite", "rmb", "-a", "scorer.aggregate=min"], ["takes -a judge.*", "protocol"]),
        (["run", "length", "--suite", "arithmetic", "--limit", "0"], ["--limit is 0"]),
        (["run", "length", "--suite", "arithmetic", "--limit", "-3"], ["--limit is -3"]),
        (["run", "length", "--suite", "arithmetic", "--limit", "2.5"], ["--limit is 2.5"]),
        (["run", "length", "--suite", "arithmetic", "--limit", "nan"], ["--limit is nan"]),
        (["run", "length", "--suite", "arithmetic", "--data", "x"], ["generated from --seed", "no --data"]),
        (["run", "length", "--suite", "arithmetic-steps"], ["score per reasoning step", "no sound conversion"]),
        (["run", "length", "--suite", "rmb"], ["not on the hub", "Zhou-Zoey/RMB-Reward-Model-Benchmark", "--data"]),
        (["list", "suits"], ["'suits'", "'suites'"]),
        (["show", "rm-bnech"], ["'rm-bnech'", "'rm-bench'"]),
        (["schema", "resutl"], ["'resutl'", "'result'"]),
        (["check", "nowhere"], ["'nowhere'"]),
        (["rescore", "nowhere.json"], ["nowhere.json"]),
        (["compare", "a.json", "b.json"], ["a.json"]),
        (["leaderboard", "build", "nowhere"], ["nowhere"]),
        (["score", "length", "nowhere.jsonl"], ["nowhere.jsonl"]),
        *(([*command, "n" * 300], ["nnn: File name too long"]) for command in (
            ["run"], ["rescore"], ["verify"], ["data", "lint"], ["probe", "overopt"]
        )),
    ],
)  # fmt: skip
def test_one_message_names_the_thing_and_the_near_miss(arguments, said):
    message = refused(*arguments)
    assert message.count("\n") == 1
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rum"], "Did you mean 'run'?"),
        (["run", "length", "--sede", "1"], "--seed"),
        (["run"], "Missing argument"),
        (["run", "length", "--seed", "x"], "valid integer"),
        (["leaderboard", "bild"], "Did you mean 'build'?"),
        (["compare"], "Missing argument"),
    ],
)
def test_the_parser_of_the_command_line_answers_too(arguments, said):
    got = rmeval(*arguments)
    assert (got.code, got.stdout) == (2, "")
    assert said in got.stderr


# --- cards -----------------------------------------------------------------------------------------------------------

FIVE_FAULTS = """
name = "five"
version = 0
title = "Five faults"
sumary = "misspelt, so that summary is missing too"
licence = "ours"
reader = "pairs"
kind = "preferences"

[rule]
name = "accuracy"

[headline]
combin = "rows"
"""


def five(folder: Path) -> Path:
    path = folder / "suites" / "five" / "card.toml"
    path.parent.mkdir(parents=True)
    path.write_text(FIVE_FAULTS)
    return path


@pytest.mark.parametrize("command", [["check", "{card}"], ["run", "length", "--suite", "five"], ["show", "five"]])
def test_all_five_faults_of_a_card_at_once(tmp_path, monkeypatch, command):
    card = five(tmp_path / "cards")
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    message = refused(*(part.format(card=card) for part in command))
    head, *faults = message.splitlines()
    assert head == f"error: {card}: 5 faults in this card"
    assert sorted(fault.split(":")[0].strip() for fault in faults) == [
        "headline.combin", "kind", "sumary", "summary", "version",
    ]  # fmt: skip
    assert "headline.combin: unknown key. Did you mean 'combine'?" in message
    assert "sumary: unknown key. Did you mean 'summary'?" in message


def test_a_bad_card_does_not_stop_the_list(tmp_path, monkeypatch):
    five(tmp_path / "cards").write_text("name = ")
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    found = {one["name"]: one["what"] for one in rmeval("list", "suites", "--json").document["suites"]}
    assert found["five"] == "(this card cannot be read: rmeval check)"
    assert "not valid TOML" in refused("check", "five")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reader": '"pair"'}, ["unknown reader 'pair'", "'pairs'"]),
        ({"fields": '{ chosn = "chosen" }'}, ["chosn", "chosen"]),
    ],
)
def test_names_inside_a_card_are_checked_too(tmp_path, monkeypatch, pairs, change, said):
    if "fields" in change:
        made = own_rows.card_folder(tmp_path / "cards", "mine")
        card = made / "card.toml"
        card.write_text(card.read_text().replace("\nchosen = ", "\nchosn = "))
    else:
        own_rows.card_folder(tmp_path / "cards", "mine", **change)
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    message = refused("run", "length", "--suite", "mine", "--data", pairs)
    for part in said:
        assert part in message


def test_two_suites_of_one_name_are_both_named(tmp_path, monkeypatch):
    made = own_rows.card_folder(tmp_path / "cards", "rm-bench")
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    message = refused("run", "length", "--suite", "arithmetic")
    assert "two suites are called 'rm-bench'" in message
    assert str(made / "card.toml") in message
    assert "suites/rm-bench/card.toml" in message.replace(str(made), "")


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.fault("F11")
def test_all_malformed_rows_with_their_lines():
    rows = ['{"prompt": "a", "chosen": "b", "rejected": "c"}', '{"prompt": "a", "chosen": "b"}',
            '{"prompt": "a", "chosen": 3, "rejected": "c"}']  # fmt: skip
    Path("mine.jsonl").write_text("\n".join(rows))
    message = run_pairs("length", "mine.jsonl")
    assert message.splitlines() == [
        "error: suite 'pairs': 2 malformed rows",
        "  mine.jsonl line 2: no 'rejected'",
        "  mine.jsonl line 3: chosen must be a text, found a number",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "a", ', ["line 2", "not valid JSON"]),
        (b'{"prompt": "a", "chosen": "b", "rejected": "c", "x": NaN}', ["line 1", "NaN"]),
        (b'{"prompt": "a", "prompt": "b", "chosen": "b", "rejected": "c"}', ["line 1", "'prompt' stands twice"]),
        (b'{"prompt": "\xff", "chosen": "b", "rejected": "c"}', ["line 1", "not valid UTF-8"]),
        (b'"a text"\n', ["line 1"]),
        (b"", ["holds no rows"]),
    ],
)
@pytest.mark.fault("F11", "F13")
def test_a_faulty_file_names_the_line(content, said):
    Path("mine.jsonl").write_bytes(content)
    message = run_pairs("length", "mine.jsonl")
    assert "mine.jsonl" in message
    for part in said:
        assert part in message


def test_a_torn_gzip_file():
    Path("mine.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 99)[:40])
    assert "mine.jsonl.gz" in run_pairs("length", "mine.jsonl.gz")


def test_a_missing_file_names_its_neighbour(pairs):
    assert run_pairs("length", "mien.jsonl") == (
        "error: mien.jsonl: no such file or folder. Did you mean 'mine.jsonl'?\n"
    )


def test_a_wrong_layout_says_what_was_found_and_what_is_expected(pairs):
    message = refused("run", "length", "--suite", "rm-bench", "--data", pairs)
    assert "mine.jsonl: no layout of suite 'rm-bench' fits" in message
    assert "columns of mine.jsonl: id, subset, prompt, chosen, rejected" in message
    assert "official repository: files *_filtered.json" in message
    assert "lacking here: domain" in message


def test_a_folder_without_rows(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty: holds no file with rows" in run_pairs("length", "empty")


# --- recorded outputs and a user's own texts -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"id": "p00", "scores": [1, 2]}', ["no example 'p00'", "1 of 1 ids are unknown", "'p0'"]),
        ('{"id": "p0", "scores": [1, 2, 3]}', ["3 scores for 'p0', which has 2 candidates"]),
        ('{"id": "p0", "score": [1, 2]}', ["unknown key 'score'", "'scores'"]),
        ('{"id": "p0", "scores": [1, "2"]}', ["'2' is not a number"]),
        ('{"id": "p0", "scores": [1, NaN]}', ["NaN"]),
        ('{"id": "p0", "verdicts": [{"order": [0, 1], "verdict": "C"}]}', ["verdict 'C' is none of A,"]),
        ('{"id": "p0", "verdicts": [{"order": [0, 0], "verdict": "A"}]}', ["order [0, 0]"]),
        ('{"id": "p0", "scores": [1, 2]}\n{"id": "p0", "scores": [1, 2]}', ["line 2", "'p0' stands in line 1"]),
        ("[1]", ["a row is an object"]),
        ("", ["no rows"]),
    ],
)
@pytest.mark.fault("F10")
def test_a_faulty_replay_file_names_the_line(pairs, row, said):
    Path("r.jsonl").write_text(row)
    message = run_pairs("replay:r.jsonl", pairs)
    assert "r.jsonl" in message
    for part in said:
        assert part in message


def test_rows_without_responses_are_named_with_the_forms_that_are_read():
    Path("mine.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b", "response": "c"}\n{"x": 1}\n')
    head, *faults = refused("score", "length", "mine.jsonl").splitlines()
    assert "2 malformed rows; a row is {prompt, response}, {prompt, responses}" in head
    assert faults == ["  mine.jsonl line 1: no response (it has prompt)", "  mine.jsonl line 3: no prompt (it has x)"]


def test_recorded_outputs_score_no_new_texts(pairs):
    Path("r.jsonl").write_text('{"id": "p0", "scores": [1, 2]}')
    assert "cannot score new texts" in refused("score", "replay:r.jsonl", pairs)


# --- checkpoints -----------------------------------------------------------------------------------------------------


def change_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_language_model_has_no_reward_head(checkpoint, pairs):
    change_config(checkpoint, architectures=["LlamaForCausalLM"])
    message = run_pairs("spoilt", pairs)
    assert "LlamaForCausalLM is a language model without a reward head" in message
    assert "rmeval train bt --model spoilt" in message
    assert "without a reward head" in run_pairs("spoilt", pairs, "--scorer", "scalar")


def test_a_head_that_the_checkpoint_does_not_hold(checkpoint, pairs):
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    assert "does not hold score.weight, so these weights would be random" in run_pairs("spoilt", pairs)


@pytest.mark.fault("F1")
def test_pickled_weights_are_not_opened(checkpoint, pairs):
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    message = run_pairs("spoilt", pairs)
    assert "only pickled weights (pytorch_model.bin)" in message
    assert "safetensors only" in message


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json in this folder"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: cannot be used"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no *.safetensors in this folder"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 99), "model.safetensors: damaged, or no safetensors file"),
        (lambda folder: change_config(folder, model_type="mystery", auto_map={"AutoConfig": "x.X"}),
         "runs no code from checkpoints"),
        (lambda folder: change_config(folder, architectures=["LlamaForTokenClassification"]), "scores tokens"),
        (lambda folder: [f.unlink() for f in folder.glob("tokenizer*")], "its tokenizer cannot be read"),
    ],
)  # fmt: skip
@pytest.mark.fault("F3", "F6")
def test_a_spoilt_checkpoint_says_what_is_wrong(checkpoint, pairs, spoil, said):
    spoil(checkpoint)
    message = run_pairs("spoilt", pairs)
    assert "spoilt" in message
    assert said in message


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("engine.dtyp=float32", "Did you mean 'dtype'?"),
        ("engine.dtype=float31", "one of auto, float32, bfloat16, float16"),
        ("engine.truncation=lefft", "should be 'error', 'left', 'right', 'middle', 'skip' or 'official'"),
        ("engine.lint=off", "should be 'error' or 'warn'"),
        ("engine.max_length=-5", "engine.max_length=-5: at least 1"),
        ("engine.max_length=many", "valid integer"),
        ("engine.device=cpuu", "engine.device='cpuu': cannot be used here"),
        ("scorer.label=good", "no such label. It has LABEL_0."),
        ("scorer.lable=good", "Did you mean 'label'?"),
    ],
)
def test_an_argument_of_scorer_or_engine_that_cannot_be(tiny_reward_model, pairs, argument, said):
    assert said in run_pairs(tiny_reward_model, pairs, "-a", argument)


def test_a_misspelt_kind_of_scorer(tiny_reward_model, pairs):
    assert "unknown scorer 'scalr'. Did you mean 'scalar'?" in run_pairs(tiny_reward_model, pairs, "--scorer", "scalr")


def test_a_name_with_control_characters(tiny_reward_model, tmp_path, pairs):
    shutil.copytree(tiny_reward_model, tmp_path / "red\x1b[31m")
    assert "'red\\x1b[31m': its name holds control" in run_pairs("red\x1b[31m", pairs)


def test_a_folder_has_no_revisions(tiny_reward_model, pairs):
    assert "a folder has no revisions" in run_pairs(f"{tiny_reward_model}@main", pairs)


# --- results, stores, places to write --------------------------------------------------------------------------------


@pytest.fixture
def result(pairs):
    got = rmeval("run", "length", "--suite", "pairs", "--data", pairs, "--out", "kept")
    assert got.code == 0
    [path] = Path("kept").rglob("*.json")
    return path


def test_altered_samples(result):
    [samples] = result.parent.glob("*.jsonl.gz")
    rows = gzip.decompress(samples.read_bytes())
    samples.write_bytes(gzip.compress(rows.replace(b'"grades":[1', b'"grades":[2', 1), mtime=0))
    for command in (["rescore", result], ["compare", result, result]):
        assert f"{samples}: altered" in refused(*command)


def test_missing_samples(result):
    [samples] = result.parent.glob("*.jsonl.gz")
    samples.unlink()
    assert "are missing; keep both files together" in refused("rescore", result)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 99}, "schema 99 is not known"),
        ({"completed": True}, "completed: unknown key. Did you mean 'complete'"),
        ({"headline": {"name": "accuracy", "value": 1.0, "ci": None}}, "differs from the first metric"),
        ({"id": "x"}, "id:"),
    ],
)
def test_an_altered_result(result, change, said):
    result.write_text(json.dumps({**json.loads(result.read_text()), **change}))
    message = refused("rescore", result)
    assert str(result) in message
    assert said in message


def test_an_option_that_no_rule_takes(result):
    assert "Did you mean 'ties'?" in refused("rescore", result, "-a", "metric.tie=win")
    assert "-a engine.dtype: rescore reads stored scores" in refused("rescore", result, "-a", "engine.dtype=float16")


def test_results_of_two_suites_are_not_compared(result):
    assert rmeval("run", "length", "--suite", "arithmetic", "--limit", 20, "--out", "kept").code == 0
    [other] = Path("kept").rglob("arithmetic/*.json")
    message = refused("compare", result, other)
    assert "pairs" in message
    assert "arithmetic" in message


@pytest.mark.parametrize("option", ["--out", "--store"])
@pytest.mark.fault("F23")
def test_a_file_where_a_folder_or_a_store_should_be(pairs, option):
    Path("notes.txt").write_text("mine")
    message = run_pairs("length", pairs, option, "notes.txt")
    assert "notes.txt" in message
    assert Path("notes.txt").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder where not even root can write")
@pytest.mark.parametrize(
    "command",
    [
        ["run", "length", "--suite", "pairs", "--data", "{data}", "--out", "/proc/nothing"],
        ["run", "length", "--suite", "pairs", "--data", "{data}", "--store", "/proc/nothing/store"],
        ["score", "length", "{data}", "-o", "/proc/nothing/scores.jsonl"],
        ["leaderboard", "build", "kept", "--out", "/proc/nothing"],
    ],
)
@pytest.mark.fault("F23")
def test_a_place_where_nothing_can_be_written(pairs, result, command):
    assert "/proc/nothing" in refused(*(part.format(data=pairs) for part in command))


# --- as a person sees it ---------------------------------------------------------------------------------------------


def test_a_name_that_is_not_utf8(tmp_path):
    got = rmeval_process("run", "length", "--data", b"\xff.jsonl".decode("utf-8", "surrogateescape"), cwd=tmp_path)
    check_refusal(got, 2)
    assert "argument '\\udcff.jsonl' is not UTF-8" in got.stderr


def test_in_a_process_of_its_own(tmp_path, pairs):
    card = five(tmp_path / "cards")
    for arguments in (
        ["run", "length", "--suite", "rm-bnech"],
        ["run", "lenght", "--suite", "arithmetic"],
        ["check", card],
        ["run", "length", "--suite", "rm-bench", "--data", pairs],
    ):
        got = rmeval_process(*arguments, cwd=tmp_path)
        check_refusal(got, 2)
        assert got.stderr == refused(*arguments)


@pytest.mark.fault("F23")
def test_f23_a_place_that_cannot_be_written_is_noticed_before_scoring(tmp_path, monkeypatch):
    from rmeval import runner

    monkeypatch.setattr(runner, "run", lambda *_, **__: pytest.fail("scored although the result cannot be written"))
    (tmp_path / "results").write_text("a file")
    answer = rmeval("run", "length", "--suite", "arithmetic", "--out", str(tmp_path / "results"))
    assert answer.code == 2
    assert "cannot be written" in answer.stderr
