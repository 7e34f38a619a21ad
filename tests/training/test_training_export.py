"""T11 and T13 for every kind: what the folder holds, loaded by its Auto class in a process of its own."""

from __future__ import annotations

import json

import pytest
import tiny
import torch
from made_tasks import make
from safetensors.torch import load_file, save_file

from rmeval.errors import CheckFailed, UsageError
from rmeval.training import export
from rmeval.training.backbone import load_backbone
from rmeval.training.config import make_config
from rmeval.training.heads import OUTCOME, PROCESS_3
from rmeval.training.run import _Run, train

WRITTEN = {
    "bt": ("Qwen3ForSequenceClassification", "regression", {"0": "reward"}),
    "orm": ("Qwen3ForTokenClassification", "multi_label_classification", {"0": "correct"}),
    "prm": (
        "Qwen3ForTokenClassification",
        "single_label_classification",
        {"0": "incorrect", "1": "neutral", "2": "correct"},
    ),
    "value": ("Qwen3ForTokenClassification", "regression", {"0": "value"}),
    "sft": ("Qwen3ForCausalLM", None, None),
}
FILES = {
    *("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "train_log.jsonl", "metrics.json"),
    *("data.json", "config.toml", "curves.svg", "curves.png", "README.md"),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_t13_every_kind_loads_elsewhere_with_equal_scores(kind, tmp_path):
    config = make_config(
        kind,
        {"model": "tiny", "data": "arithmetic", "samples": 10, "val_ratio": 0.3, "out": tmp_path / "out"},
    )
    report = train(config)
    assert report.reload_difference <= export.TOLERANCE
    names = {path.name for path in report.out.iterdir()}
    assert names >= FILES | ({"generation_config.json"} if kind == "sft" else set())
    assert "checkpoints" not in names
    architecture, problem, labels = WRITTEN[kind]
    written = json.loads((report.out / "config.json").read_text())
    assert written["architectures"] == [architecture]
    assert written.get("problem_type") == problem
    if labels:
        assert written["id2label"] == labels
        assert load_file(report.out / "model.safetensors")["score.weight"].shape[0] == len(labels)
    about = written["rmeval"]
    assert about["kind"] == kind
    assert len(about["chat_template_sha"]) == 64
    assert about.get("step_separator") == ("\n\n" if kind == "prm" else None)
    assert f"kind: {kind}" in (report.out / "README.md").read_text()
    curves = (report.out / "curves.svg").read_text()
    assert {"bt": "ln 2", "orm": "ln 2", "prm": "ln 3"}.get(kind, "loss") in curves


def test_t13_a_lost_head_and_changed_tokens_are_noticed(tmp_path):
    made = make("prm", samples=2)
    probes = export.Probes(
        PROCESS_3, [made.task.messages(made_row(made))], [row.ids for row in made.rows[:2]], made.tokenizer
    )
    saved = export.save(tmp_path / "out", made.model, {"kind": "prm"}, probes)
    assert export.verify(saved, probes) <= export.TOLERANCE
    weights = load_file(tmp_path / "out" / "model.safetensors")
    without = {name: tensor for name, tensor in weights.items() if not name.startswith("score.")}
    save_file(without, tmp_path / "out" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckFailed, match=r"lacks score\.bias, score\.weight"):
        export.verify(saved, probes)
    save_file(weights, tmp_path / "out" / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "out" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    with pytest.raises(CheckFailed, match="renders the same conversation differently"):
        export.verify(saved, probes)


def made_row(made):
    return _Run(made.task.config, lambda _: None, None).rows()[0][0]


def test_a_mismatch_ends_with_exit_code_3(tmp_path, monkeypatch):
    from command import rmeval

    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    found = rmeval("train", "prm", "--samples", "8", "--val-ratio", "0.3", "--out", tmp_path / "out")
    assert found.code == 3
    assert "scores differently when loaded again" in found.stderr
    skipped = rmeval(
        "train", "prm", "--samples", "8", "--val-ratio", "0.3", "--out", tmp_path / "b", "--no-verify-export"
    )
    assert skipped.code == 0


def test_divergence_ends_with_exit_code_3_and_exports_nothing(tmp_path):
    from command import rmeval

    found = rmeval("train", "value", "--model", "tiny", "--data", "arithmetic", "--samples", "8", "--val-ratio", "0.3",
                   "--lr", "1e30", "--max-grad-norm", "1e30", "--epochs", "2", "--out", tmp_path / "out")  # fmt: skip
    assert found.code == 3
    assert "training diverged" in found.stderr
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("pad", ["</s>", None])
def test_t11_token_heads_get_a_pad_token_of_their_own(tmp_path, pad):
    source = tiny.classifier(tmp_path / "trap", tok=tiny.tokenizer(pad=pad))
    model, tokenizer = load_backbone(str(source), seed=0, head=OUTCOME)
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.get_input_embeddings().num_embeddings >= len(tokenizer)


def test_a_special_boundary_is_a_token_that_the_card_names(tmp_path):
    config = make_config(
        "prm",
        {"samples": 8, "val_ratio": 0.3, "out": tmp_path / "out", "boundary": "special:<step>", "verify_export": False},
    )
    out = train(config).out
    from transformers import AutoTokenizer

    about = json.loads((out / "config.json").read_text())["rmeval"]
    assert about["step_tag_id"] == AutoTokenizer.from_pretrained(out).convert_tokens_to_ids("<step>")


def test_a_special_boundary_leaves_the_other_special_tokens_special(tmp_path):
    """The list of the saved tokenizer once held the boundary alone."""
    tiny.tokenizer().save_pretrained(tmp_path)
    config = make_config("prm", {"model": str(tmp_path), "data": ("none",), "boundary": "special:<step>"})
    assert {"<|im_start|>", "<|im_end|>", "<step>"} <= {*_Run(config, print, None).tokenizer([]).all_special_tokens}


def test_a_new_head_starts_as_asked(tmp_path):
    source = tiny.classifier(tmp_path / "lm", labels=2)
    drawn = {}
    for how in ("normal:1/sqrt(h+1)", "zeros", "hf"):
        import transformers

        folder = tmp_path / "base"
        transformers.AutoModel.from_pretrained(source).save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        model, _ = load_backbone(str(folder), seed=0, head=PROCESS_3, head_init=how)
        drawn[how] = model.score.weight.detach()
        assert model.score.bias.abs().max() == 0
    assert drawn["zeros"].abs().max() == 0
    assert drawn["normal:1/sqrt(h+1)"].std() == pytest.approx(33**-0.5, rel=0.3)
    assert not torch.equal(drawn["hf"], drawn["normal:1/sqrt(h+1)"])


def test_a_backbone_that_lacks_weights_is_refused(tmp_path):
    source = tiny.classifier(tmp_path / "broken")
    weights = load_file(source / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="lacks model.layers.1.mlp.up_proj.weight"):
        load_backbone(str(source), seed=0)
