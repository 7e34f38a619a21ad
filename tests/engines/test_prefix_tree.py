"""Texts that share what they begin with score as if each were alone: every architecture, every way of reading."""

from __future__ import annotations

import random
import weakref

import pytest
import step_models as sm
import tiny
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rmeval.engines import attention, prepacked
from rmeval.engines.batches import Groups
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.errors import CheckFailed
from rmeval.types import Chat, Mark, Message, Request, Special, Text, Turn

KINDS = ["llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3", "phi", "phi3", "gpt2"]


def words(n: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices([*tiny.WORDS, *map(str, range(40))], k=n))


def groups() -> list[tuple[str, str]]:
    """(group, text): what is hard about prompts and candidates. A word is a token."""
    one, long, middle, many = "sum", words(40, 1), words(7, 2), words(5, 3)
    return [
        *(("one", f"{one} {end}") for end in (words(3, 4), words(9, 5), words(1, 6))),  # a prompt of one token
        ("long", f"{long} {words(4, 7)}"),  # longer than any window
        ("long", f"{long} {words(30, 8)}"),
        ("middle", f"{middle} {words(6, 9)}"),
        ("middle", f"{middle} {words(6, 9)}"),  # the same candidate
        ("middle", middle),  # an empty one
        ("middle", f"{middle} {words(6, 9)} {words(3, 10)}"),  # one that begins like another
        ("alone", words(12, 11)),  # k = 1
        ("", words(2, 12)),
        ("apart", words(3, 13)),  # nothing alike
        ("apart", "user " + words(3, 14)),
        *(("many", f"{many} {words(1 + i % 5, 100 + i)}") for i in range(64)),
    ]


def requests(cases) -> list[Request]:
    return [Request((Text(text),), group=group) for group, text in cases]


def one_by_one(folder, texts: list[str]) -> list[float]:
    """The reference: transformers alone, one unpadded text at a time."""
    tok = AutoTokenizer.from_pretrained(folder)
    # the plainest: one that every version of transformers has, and whole
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    model.config.pad_token_id = None
    with torch.no_grad():
        ids = [tok(text, add_special_tokens=False, return_tensors="pt")["input_ids"] for text in texts]
        return [float(model(input_ids=one).logits[0, 0]) for one in ids]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_scores_as_if_it_were_alone(tmp_path, kind):
    folder = tiny.classifier(tmp_path / kind, kind=kind)
    cases = groups()
    alone = one_by_one(folder, [text for _, text in cases])
    assert max(alone) - min(alone) > 0.05  # the texts are told apart at all
    for budget in (None, 24, 1):  # all in one pass; groups longer than one; each text by itself after what it shares
        engine = TransformersEngine(Checkpoint(str(folder)), batch_tokens=budget)
        found = [reply.values[0][0] for reply in engine.run(requests(cases))]
        assert engine.describe()["layout"] == "prefix tree"
        assert engine.describe()["drift"] < 1e-4
        assert found == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("share", [True, False])
def test_angles_that_depend_on_the_longest_text_do_not_reach_others(tmp_path, share):
    """Phi's long texts have frequencies of their own, which transformers picks by the longest text of a pass."""
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
    limits = {"max_position_embeddings": 256, "original_max_position_embeddings": 12}
    folder = tiny.classifier(tmp_path, kind="phi3", rope_parameters=rope, **limits)
    cases = [(group, text) for group, text in groups() if group != "many"]
    alone = one_by_one(folder, [text for _, text in cases])
    engine = TransformersEngine(Checkpoint(str(folder)), share=share)
    assert [reply.values[0][0] for reply in engine.run(requests(cases))] == pytest.approx(alone, abs=1e-5)
    assert engine.describe()["layout"] == ("prefix tree" if share else "padded")


def test_a_long_beginning_is_turned_as_far_as_the_texts_that_share_it(tmp_path):
    """Where it alone fills a part of a row, it would have the angles of a short text."""
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
    tok = tiny.tokenizer()
    tok.model_max_length = 4096
    limits = {"max_position_embeddings": 4096, "original_max_position_embeddings": 700}
    folder = tiny.classifier(tmp_path, kind="phi3", tok=tok, rope_parameters=rope, **limits)
    texts = [f"{words(650, 1)} {words(n, n)}" for n in (400, 420, 80)]
    engine = TransformersEngine(Checkpoint(str(folder)))
    found = [reply.values[0][0] for reply in engine.run(requests([("a", text) for text in texts]))]
    assert found == pytest.approx(one_by_one(folder, texts), abs=1e-5)
    assert engine.describe()["layout"] == "prefix tree"


def solved(answer: str, group: str, *, marks: bool = False) -> Request:
    """A question and an answer; with marks after the first five characters and at the end."""
    asked = Message("user", f"What is {group} and a half?")
    if not marks:
        return Request((Chat((asked, Message("assistant", answer))),), at="completion", group=group)
    pieces = (Text(answer[:5]), Mark(), Text(answer[5:]), Mark())
    return Request((Chat((asked, Turn("assistant", pieces))),), at="marks", group=group)


READ = {
    "outcome, process and value": ("AutoModelForTokenClassification", ["completion", "marks"], "head", ()),
    "log-ratios": ("AutoModelForCausalLM", ["completion", "marks"], "next_logprob", ()),
    "named tokens": ("AutoModelForCausalLM", ["marks"], "tokens", (Special("+"), Special("-"))),
    "judges": ("AutoModelForCausalLM", ["next"], "next_logprobs", (Special("A"), Special("B"))),
}


@pytest.mark.parametrize("what", READ)
def test_every_place_reads_as_if_the_text_were_alone(tmp_path, what):
    auto, ats, read, tokens = READ[what]
    sm.saved(tmp_path, "mistral", auto, sliding_window=24)
    together, alone = (TransformersEngine(Checkpoint(str(tmp_path)), share=share) for share in (True, False))
    for at in ats:
        asked = [
            Request(one.parts, at, read, tokens, group=one.group)
            for group in ("three", "4")
            for answer in ("It is 4", "It is 4.", "It is 4", "Nothing at all, as you can see", "")
            for one in [solved(answer, group, marks=at == "marks")]
        ]
        found, expected = together.run(asked), [alone.run([one])[0] for one in asked]
        assert together.describe()["layout"] == "prefix tree"
        assert alone.describe()["layout"] == "padded"
        for ours, theirs in zip(found, expected, strict=True):
            assert len(ours.values) == len(theirs.values)
            for one, other in zip(ours.values, theirs.values, strict=True):
                assert one == pytest.approx(other, abs=2e-5)
        assert len({reply.values for reply in expected}) > 2


def test_soft_capped_logits_share_too(tmp_path):
    """Gemma 2 caps the logits of its attention and those over its vocabulary."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    tok = tiny.tokenizer()
    tok.save_pretrained(tmp_path)
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, head_dim=8)
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=len(tok), num_key_value_heads=2, sliding_window=8, initializer_range=0.3,
            attn_logit_softcapping=2.0, final_logit_softcapping=3.0, **sizes,
        )
    ).eval()  # fmt: skip
    model.set_attn_implementation("eager")  # the class's own choice leaves the caps out in some versions
    model.save_pretrained(tmp_path)
    texts = [f"{words(12, 1)} {words(n, n)}" for n in (1, 4, 9)]
    asked = [Request((Text(t), Mark()), "marks", "tokens", (Special("good"), Special("bad")), group="a") for t in texts]
    engine = TransformersEngine(Checkpoint(str(tmp_path)))
    found = engine.run(asked)
    assert engine.path == "last hidden state, then head"
    assert engine.describe()["layout"] == "prefix tree"
    named = tok.convert_tokens_to_ids(["good", "bad"])
    for text, reply in zip(texts, found, strict=True):
        with torch.no_grad():
            whole = model(tok(text, add_special_tokens=False, return_tensors="pt")["input_ids"]).logits[0, -1]
        assert reply.values[0] == pytest.approx(whole[named].tolist(), abs=1e-5)


def test_layers_beside_a_backbone_share_too(tmp_path):
    sm.saved_with_layers(
        tmp_path, "qwen2", {"score.0": (32, 32), "score.2": (2, 32)}, architecture="Qwen2ForProcessRewardModel"
    )
    together, alone = (TransformersEngine(Checkpoint(str(tmp_path)), share=share) for share in (True, False))
    asked = [solved(answer, "7", marks=True) for answer in ("It is 4", "It is 4, or 5", "No")]
    for ours, theirs in zip(together.run(asked), [alone.run([one])[0] for one in asked], strict=True):
        assert [v for place in ours.values for v in place] == pytest.approx(
            [v for place in theirs.values for v in place], abs=1e-5
        )
    assert together.describe()["layout"] == "prefix tree"


def test_a_model_that_sees_its_neighbours_is_found_out_and_padded(tmp_path, monkeypatch, capsys):
    """What is wrong here is the attention itself: a branch sees its own tokens only."""
    folder = tiny.classifier(tmp_path)
    alone = one_by_one(folder, [text for _, text in groups()])
    whole = attention._pieces

    def forgetful(*given):
        for piece in whole(*given):
            yield attention._Piece(piece.queries, piece.keys[-1:], None)

    monkeypatch.setattr(attention, "_pieces", forgetful)
    engine = TransformersEngine(Checkpoint(str(folder)))
    assert [reply.values[0][0] for reply in engine.run(requests(groups()))] == pytest.approx(alone, abs=1e-5)
    assert engine.describe()["layout"].startswith("padded: the two ways differ by")
    assert engine.describe()["drift"] > 1e-3
    assert "do not share what they begin with: the two ways differ" in capsys.readouterr().err
    with pytest.raises(CheckFailed, match=r"share=false"):  # where the way is part of a score's key
        TransformersEngine(Checkpoint(str(folder)), dtype="bfloat16").run(requests(groups()[:2]))


def test_models_that_look_ahead_or_remember_otherwise_are_padded(tmp_path):
    bert = TransformersEngine(Checkpoint(str(tiny.classifier(tmp_path / "bert", kind="bert"))))
    assert not bert.shares
    hybrid = TransformersEngine(Checkpoint(str(tiny.classifier(tmp_path / "mixed", kind="qwen3"))))
    hybrid.checkpoint.config.layer_types = ["linear_attention", "full_attention"]
    assert not hybrid.shares
    flash = TransformersEngine(hybrid.checkpoint, attention="flash_attention_2")
    assert not flash.shares


def test_half_precision_names_the_way_in_the_key_and_float_does_not(tiny_reward_model):
    def layout(**options):
        return TransformersEngine(Checkpoint(str(tiny_reward_model)), **options).fingerprint().get("layout")

    assert layout(dtype="bfloat16") == "prefix tree"
    assert layout(dtype="bfloat16", share=False) is None
    assert layout() is None


def test_groups_are_planned_whole_and_counted_once(tiny_reward_model):
    asked = requests(groups())
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)), batch_tokens=60)
    plan = engine.plan(asked)
    places = sorted(i for batch in plan.batches for i in batch)
    assert places == [i for i in range(len(asked)) if i not in plan.twins]
    for group in ("one", "long", "middle", "many"):
        members = {i for i, request in enumerate(asked) if request.group == group and i not in plan.twins}
        assert [members <= set(batch) for batch in plan.batches].count(True) == 1
    assert plan == engine.plan(asked)
    assert len(engine.plan(asked).batches) < len(TransformersEngine(engine.checkpoint, batch_tokens=60, share=False).plan(asked).batches)  # fmt: skip
    alone = one_by_one(tiny_reward_model, [text for _, text in groups()])
    for batch in plan.batches:
        found = [reply.values[0][0] for reply in engine.run([asked[i] for i in batch])]
        assert found == pytest.approx([alone[i] for i in batch], abs=1e-5)


def test_out_of_memory_halves_the_pass_and_loses_nothing(tiny_reward_model, capsys):
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)))
    asked = requests(groups())
    expected = [reply.values[0][0] for reply in engine.run(asked)]
    sizes = []

    def full(module, args, given):
        sizes.append(given["input_ids"].numel())
        if sizes[-1] > 90:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    hook = engine.reader.states.body.register_forward_pre_hook(full, with_kwargs=True)
    assert [reply.values[0][0] for reply in engine.run(asked)] == pytest.approx(expected, abs=1e-5)
    assert engine.reader.states.most <= 90
    assert "tokens at once: at most" in capsys.readouterr().err
    over = [size for size in sizes if size > 90]
    assert sizes[: len(over)] == over  # the smaller size holds from then on
    hook.remove()
    engine.reader.states.body.register_forward_pre_hook(
        lambda *_: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    )
    assert [reply.reason for reply in engine.run(asked[:3])] == ["engine_error"] * 3


def test_a_cpu_meets_few_sizes_of_parts(tiny_reward_model):
    # oneDNN keeps code and memory for each: of texts of all lengths a run's memory would grow with their number
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)))
    asked = requests([("", words(n, n)) for n in range(1, 40)])
    expected = [engine.run([one])[0].values[0][0] for one in asked]
    sizes = []
    engine.reader.states.body.register_forward_pre_hook(
        lambda _, args, given: sizes.append(given["input_ids"].numel()), with_kwargs=True
    )
    assert [engine.run([one])[0].values[0][0] for one in asked] == pytest.approx(expected, abs=1e-6)
    assert len(sizes) == len(asked)
    assert not any(size % 16 for size in sizes)


def test_linear_layers_are_laid_out_once_where_that_changes_nothing(tiny_reward_model):
    if not prepacked.available():
        pytest.skip("this torch lacks oneDNN's operators")
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)))
    model = engine.reader.model
    assert engine.describe()["linear"] == "oneDNN, laid out once (14 layers)"
    assert type(model.score) is torch.nn.Linear  # a head has few outputs
    shared = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Embedding(4, 4))
    shared[1].weight = shared[0].weight
    half = torch.nn.Linear(4, 4, dtype=torch.bfloat16)
    assert prepacked.prepack(torch.nn.ModuleList([shared, half])) == 0
    layer = torch.nn.Linear(33, 17)
    given = torch.randn(2, 5, 33)
    plain = weakref.ref(layer)
    with torch.inference_mode():
        expected, packed = layer(given), prepacked.pack(layer)
        del layer
        assert plain() is None  # its weights are let go
        assert torch.allclose(packed(given), expected, atol=1e-6)


def test_a_group_seen_long_ago_is_planned_as_if_it_shared_nothing():
    from array import array

    found = Groups()
    for i in range(5000):
        found.add(i, f"g{i}", array("i", [1, 2, i]))
    found.add(5000, "g0", array("i", [1, 2, 3, 4]))
    found.add(5001, "g4999", array("i", [1, 2, 3, 4]))
    first, *rest = found.packed(budget=5)
    assert first == (4999, 5001)
    assert (5000,) in rest
