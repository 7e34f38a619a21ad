"""What is refused before or while loading: one readable message each, and no code or pickle is ever run."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.errors import UsageError
from rmeval.models import load_model
from rmeval.training.backbone import load_backbone
from rmeval.types import Chat, Message, Request

REQUEST = Request((Chat((Message("user", "what ?"), Message("assistant", "good"))),))


def copy(source, target):
    shutil.copytree(source, target)
    return target


def test_a_head_that_the_checkpoint_does_not_hold_is_refused(tiny_reward_model, tmp_path):
    folder = copy(tiny_reward_model, tmp_path / "headless")
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"does not hold score\.weight"):
        TransformersEngine(Checkpoint(str(folder))).run([REQUEST])


def test_a_language_model_is_refused_with_what_to_do(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=80, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "lm")
    tiny.tokenizer().save_pretrained(tmp_path / "lm")
    with pytest.raises(UsageError, match=r"without a reward head.*rmeval train bt"):
        load_model(str(tmp_path / "lm"))


@pytest.mark.fault("F1")
def test_f1_pickled_weights_are_refused_and_never_read(tiny_reward_model, tmp_path):
    folder = copy(tiny_reward_model, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return (canary.write_text, ("ran",))

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    checkpoint = Checkpoint(str(folder))
    with pytest.raises(UsageError, match=r"only pickled weights \(pytorch_model\.bin\).*safetensors"):
        checkpoint.refuse_unless_loadable()
    assert not canary.exists()


@pytest.mark.fault("F2")
def test_f2_a_pickle_beside_safetensors_is_ignored(tiny_reward_model, tmp_path):
    folder = copy(tiny_reward_model, tmp_path / "both")
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return (canary.write_text, ("ran",))

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    [reply] = TransformersEngine(Checkpoint(str(folder))).run([REQUEST])
    assert reply.reason is None
    assert not canary.exists()


@pytest.mark.fault("F3")
def test_f3_code_in_a_checkpoint_is_refused(tiny_reward_model, tmp_path):
    folder = copy(tiny_reward_model, tmp_path / "coded")
    canary = tmp_path / "canary"
    (folder / "modeling_x.py").write_text(f"open({str(canary)!r}, 'w').write('ran')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "x", "auto_map": {"AutoConfig": "modeling_x.XConfig"}, "architectures": ["XForReward"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="runs no code from checkpoints"):
        Checkpoint(str(folder))
    assert not canary.exists()


@pytest.mark.fault("F6")
def test_f6_a_damaged_safetensors_file_is_one_message(tiny_reward_model, tmp_path):
    folder = copy(tiny_reward_model, tmp_path / "damaged")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="damaged|cannot be loaded"):
        TransformersEngine(Checkpoint(str(folder))).run([REQUEST])


@pytest.mark.fault("F6")
@pytest.mark.parametrize("kind", ["LlamaForSequenceClassification", "Qwen2ForRewardModel"])
def test_a_config_of_far_more_weights_than_there_are_is_refused_before_they_are_made_up(
    kind, tiny_reward_model, tmp_path
):
    folder = copy(tiny_reward_model, tmp_path / "overstated")
    config = json.loads((folder / "config.json").read_text())
    del config["num_hidden_layers"]  # 32 is the class's own
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 10**6, "architectures": [kind]}))
    for load in (
        lambda: TransformersEngine(Checkpoint(str(folder))).run([REQUEST]),
        lambda: load_backbone(str(folder), seed=0),
    ):
        with pytest.raises(
            UsageError, match=r"overstated: .*config\.json describes [\d,]+ weights, and its files have"
        ):
            load()


def test_a_hub_model_of_which_only_some_files_were_fetched_is_not_called_overstated(
    tiny_reward_model, tmp_path, monkeypatch
):
    folder = copy(tiny_reward_model, tmp_path / "half")
    monkeypatch.setattr(Checkpoint, "weight_bytes", 10)
    checkpoint = Checkpoint(str(folder))
    with pytest.raises(UsageError, match="describes"):
        checkpoint.refuse_unless_loadable()
    monkeypatch.setattr(Checkpoint, "_weights", lambda _: [])
    monkeypatch.setattr(checkpoint, "folder", None)
    checkpoint.refuse_unless_loadable()


def test_a_folder_without_config_and_a_name_that_is_nothing(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match=r"no config\.json in this folder \(found notes\.txt\)"):
        Checkpoint(str(tmp_path))
    with pytest.raises(UsageError, match="no such folder, and not a hub id"):
        Checkpoint("nothing-here")
    with pytest.raises(UsageError, match="the hub did not give its config"):
        Checkpoint("nobody/nothing")


def test_identity_follows_weights_template_and_config(tiny_reward_model, tmp_path):
    folder = copy(tiny_reward_model, tmp_path / "changed")
    before = Checkpoint(str(folder)).identity
    assert before == Checkpoint(str(tiny_reward_model)).identity  # where it lies does not matter
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"] = weights["score.weight"] + torch.tensor(1e-3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert Checkpoint(str(folder)).identity != before


def test_a_class_without_a_table_of_tokens_knows_any(tmp_path, tiny_reward_model):
    from transformers import CanineConfig

    config = CanineConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    config.architectures = ["CanineForSequenceClassification"]
    config.save_pretrained(tmp_path)
    assert Checkpoint(str(tmp_path)).vocabulary == 10**9
    assert Checkpoint(str(tiny_reward_model)).vocabulary < 10**9
