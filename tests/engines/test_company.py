"""Scores of classes that do more than a head on hidden states, and of weights that more is known about than is used."""

from __future__ import annotations

import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_prefix_tree import one_by_one, words
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rmeval.checks.own_forward import OwnForward
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.states import cannot_share
from rmeval.engines.transformers import TransformersEngine
from rmeval.errors import UsageError
from rmeval.models import load_model
from rmeval.types import Mark, Request, Special, Text

SIZES = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=256
)
DECODER = dict(d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4,
               encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=256)  # fmt: skip
CLASSES = {
    "convolves": ("ConvBertConfig", {**SIZES, "embedding_size": 32}),
    "knows no mask": ("FNetConfig", SIZES),
    "mixes by landmarks": ("NystromformerConfig", {**SIZES, "num_landmarks": 4, "segment_means_seq_len": 4}),
    "pools the last place": ("ModernBertDecoderConfig", {**SIZES, "layer_types": ["full_attention"] * 2}),
    "turns the end round": ("MBartConfig", DECODER),
}


def saved(folder, config: str, **given):
    tok = tiny.tokenizer()
    torch.manual_seed(0)
    made = getattr(transformers, config)(
        vocab_size=len(tok),
        num_labels=1,
        pad_token_id=1,
        bos_token_id=2,
        eos_token_id=3,
        initializer_range=0.3,
        **given,
    )
    made.initializer_range = 0.3
    AutoModelForSequenceClassification.from_config(made).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def asked(texts: list[str]) -> list[Request]:
    return [Request((Text(text),)) for text in texts]


@pytest.mark.parametrize("what", CLASSES)
def test_a_class_that_sees_padding_is_given_one_text_at_a_time(tmp_path, what):
    folder = saved(tmp_path, CLASSES[what][0], **CLASSES[what][1])
    texts = [f"{words(n, n)} </s>" for n in (3, 12, 7, 12, 30)]
    tok, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForSequenceClassification.from_pretrained(folder).eval(),
    )
    with torch.no_grad():
        alone = [
            float(model(tok(t, add_special_tokens=False, return_tensors="pt").input_ids).logits[0, 0]) for t in texts
        ]
    assert max(alone) - min(alone) > 0.05
    engine = TransformersEngine(Checkpoint(str(folder)))
    assert [reply.values[0][0] for reply in engine.run(asked(texts))] == pytest.approx(alone, abs=1e-5)
    assert engine.path.startswith("one text at a time")
    own = OwnForward(engine, {"policy": engine}).run(asked(texts))  # what the doctor compares with
    assert [reply.values[0][0] for reply in own] == pytest.approx(alone, abs=1e-5)


def test_a_class_that_masks_its_padding_keeps_its_batches(tmp_path):
    engine = TransformersEngine(Checkpoint(str(tiny.classifier(tmp_path, kind="bert"))))
    engine.run(asked([words(3, 1), words(9, 2)]))
    assert engine.path == "the model's own pooling"


def test_positions_that_begin_behind_the_pad_token_leave_less_room(tmp_path):
    tok = tiny.tokenizer()
    tok.model_max_length = 10**6
    folder = saved(tmp_path, "RobertaConfig", **{**SIZES, "max_position_embeddings": 40})
    tok.save_pretrained(folder)
    engine = TransformersEngine(Checkpoint(str(folder)))
    assert engine.max_length == 38
    plan = engine.plan(asked([words(39, 1), words(38, 2)]))
    assert plan.settled[0].reason == "truncated"
    assert 1 not in plan.settled
    assert len(engine.run(asked([words(38, 2)]))) == 1


def test_dynamic_angles_do_not_remember_a_longer_text(tmp_path):
    """transformers keeps the angles of the longest text so far, and batches begin with the longest."""
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    folder = tiny.classifier(tmp_path, rope_parameters=rope, max_position_embeddings=16)
    texts = [words(n, n) for n in (60, 25, 16, 9, 40)]
    alone = [one_by_one(folder, [text])[0] for text in texts]
    for share in (True, False):
        engine = TransformersEngine(Checkpoint(str(folder)), max_length=128, share=share)
        found = [engine.run([one])[0].values[0][0] for one in asked(texts)]
        assert found == pytest.approx(alone, abs=1e-5)


def test_chosen_keys_are_chosen_among_a_texts_own(tmp_path):
    """Beyond so many keys DeepSeek V3.2 chooses, and its class chooses others where a text is padded."""
    tok = tiny.tokenizer()
    tok.save_pretrained(tmp_path)
    torch.manual_seed(0)
    model = transformers.DeepseekV32ForCausalLM(
        transformers.DeepseekV32Config(
            **SIZES, vocab_size=len(tok), num_key_value_heads=4, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8,
            qk_nope_head_dim=8, v_head_dim=8, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1,
            moe_intermediate_size=32, first_k_dense_replace=1, index_topk=8, index_head_dim=8, index_n_heads=2,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.2)
    model.save_pretrained(tmp_path)
    texts = [words(n, n) for n in (4, 20, 33, 20)]
    named = Special("good"), Special("bad")
    requests = [Request((Text(text), Mark()), "marks", "tokens", named, group="a") for text in texts]
    found = TransformersEngine(Checkpoint(str(tmp_path))).run(requests)
    for text, reply in zip(texts, found, strict=True):
        with torch.no_grad():
            whole = model(tok(text, add_special_tokens=False, return_tensors="pt")["input_ids"]).logits[0, -1]
        expected = whole[tok.convert_tokens_to_ids(["good", "bad"])].tolist()
        assert reply.values[0] == pytest.approx(expected, abs=1e-4)


def test_a_decoder_without_its_encoder_is_no_language_model(tmp_path):
    tok = tiny.tokenizer()
    tok.save_pretrained(tmp_path)
    made = transformers.BartConfig(vocab_size=len(tok), **DECODER)
    transformers.BartForConditionalGeneration(made).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="BartForConditionalGeneration reads with an encoder"):
        load_model(f"judge:{tmp_path}")
    with pytest.raises(UsageError, match="reads with an encoder"):
        load_model(str(tmp_path), scorer="implicit", given={"scorer": {"mode": "avg"}})


def test_llama_4_does_not_share():
    """It scales its queries by places in the row, from 8,192 on, where no check at the start would look."""

    class Config:
        attn_temperature_tuning = True
        is_encoder_decoder = False
        get_text_config = lambda self: self  # noqa: E731

    class Known:
        config, splits = Config(), True

    assert "scaled by places" in cannot_share(Known(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("score.bias", "of its head"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", "of an adapter that is not merged"),
    ],
)
def test_weights_that_the_class_would_leave_out_are_refused(tmp_path, name, said):
    folder = tiny.classifier(tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, name: torch.ones(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=f"holds {name}, {said}"):
        TransformersEngine(Checkpoint(str(folder))).run(asked(["good"]))


def test_other_weights_that_nobody_reads_are_named(tmp_path, capsys):
    folder = tiny.classifier(tmp_path)
    weights = load_file(folder / "model.safetensors")
    more = {"value_head.weight": torch.ones(1), "lm_head.weight": torch.ones(2)}
    save_file({**weights, **more}, folder / "model.safetensors", metadata={"format": "pt"})
    TransformersEngine(Checkpoint(str(folder))).run(asked(["good"]))
    said = capsys.readouterr().err
    assert "no use for 1 weights, such as value_head.weight" in said
    assert "lm_head" not in said


def test_a_class_that_reaches_for_a_layers_weight_keeps_its_plain_layers(tmp_path):
    folder = saved(
        tmp_path, "JambaConfig", **SIZES, num_key_value_heads=2, num_experts=2, attn_layer_period=2, attn_layer_offset=1,
        mamba_d_state=4, mamba_dt_rank=4, use_mamba_kernels=False,
    )  # fmt: skip
    texts = [words(n, n) for n in (3, 12, 7)]
    engine = TransformersEngine(Checkpoint(str(folder)))
    assert [r.values[0][0] for r in engine.run(asked(texts))] == pytest.approx(one_by_one(folder, texts), abs=1e-5)
    assert engine.describe()["linear"] == "torch"


def test_a_tokenizer_that_is_not_read_as_it_was_saved_is_named(tmp_path, capsys):
    """transformers has Qwen2's own splitting of words for every checkpoint of that architecture."""
    Checkpoint(str(tiny.classifier(tmp_path / "llama"))).tokenizer()
    assert "is read as" not in capsys.readouterr().err
    Checkpoint(str(tiny.classifier(tmp_path / "qwen2", kind="qwen2"))).tokenizer()
    assert "saved as TokenizersBackend and is read as Qwen2Tokenizer" in capsys.readouterr().err


def test_an_adapter_by_itself_is_told_from_an_empty_folder(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"no config.json .*an adapter is to be merged"):
        Checkpoint(str(tmp_path))
