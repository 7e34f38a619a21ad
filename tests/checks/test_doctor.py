"""`rmeval doctor`: every kind of scorer is looked at, and one whose scores depend on their company is found out."""

from __future__ import annotations

import math

import pytest
import step_models as sm
import tiny
from command import rmeval

from rmeval.checks import doctor
from rmeval.errors import UsageError
from rmeval.suites import load_suite

ALWAYS = ["alone", "batches of 2", "batches of 8", "batches of 32", "shuffled, batches of 8", "as the engine plans"]


@pytest.fixture
def few(monkeypatch):
    """Eight texts are as good as 32 here, and a neighbour three times as long as one of ten times."""
    monkeypatch.setattr(doctor, "TEXTS", 8)
    monkeypatch.setattr(doctor, "LONGER", 3)


def scalar(folder):
    tok = tiny.tokenizer()
    tok.model_max_length = 4096
    tiny.classifier(folder, tok=tok, max_position_embeddings=4096)
    return {}


def pooled(folder):
    tok = tiny.tokenizer()
    tok.model_max_length = 512
    tiny.classifier(folder, kind="bert", tok=tok, max_position_embeddings=512)
    return {}


def outcome(folder):
    about = {"kind": "orm", "aggregate": "min"}
    sm.saved(folder, "qwen2", "AutoModelForTokenClassification", num_labels=1, rmeval=about)
    return {}


def process(folder):
    labels = {0: "incorrect", 1: "correct"}
    about = {"kind": "prm", "step_separator": "\n", "aggregate": "min"}
    sm.saved(folder, "llama", "AutoModelForTokenClassification", num_labels=2, id2label=labels, rmeval=about)
    return {}


def layered(folder):
    layers = {"score.0": (32, 32), "score.2": (1, 32)}
    sm.saved_with_layers(folder, "qwen2", layers, architecture="Qwen2ForRewardModel")
    return {}


def implicit(folder):
    sm.saved(folder, "qwen2", "AutoModelForCausalLM", seed=1)
    sm.saved(folder / "reference", "qwen2", "AutoModelForCausalLM", seed=2)
    return {"scorer": "implicit", "given": {"scorer": {"reference": str(folder / "reference")}}}


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("made", [scalar, pooled, outcome, process, layered, implicit])
def test_every_kind_of_scorer_is_compared_in_every_company(tmp_path, made):
    found = doctor.examine(str(tmp_path), load_suite("arithmetic"), **made(tmp_path))
    names = [drift.name for drift in found.drifts]
    assert [name for name in names if name in ALWAYS] == ALWAYS
    assert {"path: the class's own forward", "dtype: bfloat16"} <= set(names)
    assert any(name.startswith("padding: beside a text") for name in names)
    assert found.invariant
    assert not found.missing
    assert not found.faults
    found.raise_if_failed()
    by_name = {drift.name: drift for drift in found.drifts}
    assert by_name["alone"].score == 0
    assert 0 < by_name["dtype: bfloat16"].score < math.inf  # another dtype is another number, and is only shown
    assert by_name["dtype: bfloat16"].verdict == "shown"
    assert all(drift.decisions == 4 for drift in found.drifts)
    assert all(drift.tokens_per_second > 0 for drift in found.drifts)


@pytest.mark.usefixtures("few")
def test_steps_are_compared_one_by_one_on_a_suite_of_steps(tmp_path):
    process(tmp_path)
    found = doctor.examine(str(tmp_path), load_suite("arithmetic-steps"))
    assert found.invariant
    assert found.suite == "arithmetic-steps"
    assert {drift.name: drift.score for drift in found.drifts}["dtype: bfloat16"] > 0


@pytest.mark.usefixtures("few")
def test_a_judge_that_reads_the_next_token_is_compared_in_both_orders(tmp_path):
    sm.saved(tmp_path, "qwen2", "AutoModelForCausalLM")
    given = {"judge": {"protocol": "pairwise-logprob", "floor": 0}, "engine": {"max_length": 8192}}
    found = doctor.examine(f"judge:{tmp_path}", load_suite("arithmetic"), given=given)
    assert found.kind == "judge"
    assert found.invariant
    assert found.drifts[0].decisions == 8


def test_neighbours_that_are_attended_to_are_found_out(tmp_path, monkeypatch):
    """Padding that the mask does not hide: the fault that the doctor is for."""
    from rmeval.engines import reading

    pooled(tmp_path)
    padded = reading.padded

    def attended(rows, device):
        input_ids, mask = padded(rows, device)
        return input_ids, mask.fill_(1)

    monkeypatch.setattr(reading, "padded", attended)
    monkeypatch.setattr(
        reading, "TOLERANCE", dict.fromkeys(reading.TOLERANCE, math.inf)
    )  # where the engine itself has not noticed
    answer = rmeval("doctor", tmp_path, "--json")
    assert answer.code == 3
    assert "non-invariant: " in answer.stderr
    rows = {row["name"]: row for row in answer.document["drifts"]}
    assert not answer.document["invariant"]
    assert rows["alone"]["ok"]
    assert rows["path: the class's own forward"]["ok"]
    assert rows["batches of 8"]["verdict"] == "NON-INVARIANT"
    assert rows["batches of 8"]["score"] > 1e-4


def test_the_table_has_every_row_and_json_the_same_numbers(tmp_path):
    scalar(tmp_path)
    table, document = rmeval("doctor", tmp_path), rmeval("doctor", tmp_path, "--json")
    assert (table.code, document.code) == (0, 0), table.stderr
    for row in document.document["drifts"]:
        assert row["name"] in table.stdout
    assert document.document["texts"] == 32
    assert "read at '<|im_end|>' 100 %" in table.stdout


def test_unsound_texts_are_a_row_and_fail(tmp_path):
    template = "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}{% endfor %}"  # nothing closes a turn
    tok = tiny.tokenizer(template=template)
    tiny.classifier(tmp_path, tok=tok)
    answer = rmeval("doctor", tmp_path)
    assert answer.code == 3
    assert "response not closed" in answer.stdout
    assert "UNSOUND" in answer.stdout


def test_broken_weights_have_no_scores_to_compare(tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    scalar(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["score.weight"] = torch.full_like(weights["score.weight"], math.nan)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    answer = rmeval("doctor", tmp_path, "--json")
    assert answer.code == 3
    assert answer.document["missing"] == ["non_finite"]


@pytest.mark.parametrize("model", ["length", "random", "judge:gpt-4", "judge:"])
def test_what_runs_no_weights_is_refused(model):
    with pytest.raises(UsageError, match="weights that run here") as said:
        doctor.examine(model, load_suite("arithmetic"))
    assert "--" not in str(said.value), "no option that the doctor does not take"


def test_flips_below_the_limit_are_excused_in_16_bits_alone():
    before = doctor._Scored((0.0, 1e-3), (-1e-3,), (-1,), (), 1.0)
    now = doctor._Scored((1e-3, 0.0), (1e-3,), (1,), (), 1.0)
    assert doctor._drift("x", before, now, 0.02).ok
    assert not doctor._drift("x", before, now, 5e-4).ok
    assert not doctor._drift("x", before, doctor._Scored((2e-5, 0.0), (2e-5,), (1,), (), 1.0), doctor.FLOAT32).ok
