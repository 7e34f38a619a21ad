"""Log-probabilities of the next token: where a model would begin to write, over the whole vocabulary, no token twice."""

from __future__ import annotations

import math

import pytest
import step_models as sm
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.errors import UsageError
from rmeval.types import Chat, Message, Request, Special

AHEAD = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
LETTERS = tuple(map(Special, ("A", " A", "B", "<|im_end|>", "AB", "")))


def asked(*said: str, tokens=LETTERS) -> Request:
    """The turns of a conversation, the user's first."""
    turns = [Message(("user", "assistant")[i % 2], text) for i, text in enumerate(said)]
    return Request((Chat(tuple(turns)),), at="next", read="next_logprobs", tokens=tokens)


def replies(engine: TransformersEngine, requests: list[Request]):
    plan = engine.plan(requests)
    found = dict(plan.settled)
    for batch in plan.batches:
        found.update(zip(batch, engine.run([requests[i] for i in batch]), strict=True))
    return [found[plan.twins.get(i, i)] for i in range(len(requests))]


@pytest.mark.parametrize("kind", ["qwen2", "llama", "mistral"])
def test_they_are_those_of_transformers_alone(tmp_path, kind):
    sm.saved(tmp_path / "m", kind, "AutoModelForCausalLM", template=sm.CHATML + AHEAD)
    questions = ["Which one?", "A or B, and why? " * 5, "x"]
    found = replies(TransformersEngine(Checkpoint(str(tmp_path / "m"))), [asked(q) for q in questions])
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m").eval()
    tok = AutoTokenizer.from_pretrained(tmp_path / "m")
    ids = {text: tok(text, add_special_tokens=False)["input_ids"] for text in ("A", " ", "B", "<|im_end|>")}
    for question, reply in zip(questions, found, strict=True):
        turns = [{"role": "user", "content": question}]
        prompt = tok.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            theirs = model(input_ids=prompt).logits[0, -1].float().log_softmax(-1)
        [(a, space_a, b, end, two, nothing)] = reply.values
        assert [a, b, end] == pytest.approx([float(theirs[ids[t][0]]) for t in ("A", "B", "<|im_end|>")], abs=1e-5)
        assert all(map(math.isnan, (space_a, two, nothing)))  # two bytes are two tokens here
        assert reply.n_tokens == prompt.shape[1]
        assert reply.floor is None


def test_all_tokens_together_have_mass_one(tmp_path):
    sm.saved(tmp_path / "m", "llama", "AutoModelForCausalLM", template=sm.CHATML + AHEAD)
    engine = TransformersEngine(Checkpoint(str(tmp_path / "m")))
    every = tuple(Special(id=i) for i in range(len(engine.tokenizer)))
    [reply] = replies(engine, [asked("Which?", tokens=every)])
    assert math.fsum(map(math.exp, reply.values[0])) == pytest.approx(1, abs=1e-6)


def test_neighbours_do_not_matter(tmp_path):
    sm.saved(tmp_path / "m", "qwen2", "AutoModelForCausalLM", template=sm.CHATML + AHEAD)
    requests = [asked("word " * n) for n in (40, 1, 7, 23)]
    together = replies(TransformersEngine(Checkpoint(str(tmp_path / "m"))), requests)
    alone = [replies(TransformersEngine(Checkpoint(str(tmp_path / "m"))), [r])[0] for r in requests]
    for one, other in zip(together, alone, strict=True):
        assert one.values[0][::2][:2] == pytest.approx(other.values[0][::2][:2], abs=1e-5)


def causal(folder, tok, seed=0):
    """A language model of words."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tok), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=256, initializer_range=0.3, pad_token_id=None,
        bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def test_a_second_name_of_a_token_and_an_unknown_word_are_no_tokens(tmp_path):
    # in a vocabulary of words ` good` is `good`: counted twice, one answer would weigh double
    engine = TransformersEngine(Checkpoint(str(causal(tmp_path / "m", tiny.tokenizer()))))
    [reply] = replies(engine, [asked("what is good ?", tokens=tuple(map(Special, ("good", " good", "worse"))))])
    assert [math.isnan(value) for value in reply.values[0]] == [False, True, True]


def test_none_of_the_tokens_is_one(tmp_path):
    engine = TransformersEngine(Checkpoint(str(causal(tmp_path / "m", tiny.tokenizer()))))
    with pytest.raises(UsageError, match="none of 'worse', ' best' is one token of its tokenizer"):
        engine.plan([asked("what ?", tokens=(Special("worse"), Special(" best")))])


def ids_of(engine: TransformersEngine, request: Request) -> list[str]:
    [encoded] = engine.encoder.encode([request])
    return engine.tokenizer.convert_ids_to_tokens(encoded.ids)


def test_the_plain_template_lets_the_assistant_begin_without_an_end(tmp_path):
    engine = TransformersEngine(Checkpoint(str(causal(tmp_path / "m", tiny.tokenizer(template=None, bos=True)))))
    assert ids_of(engine, asked("what is good ?")) == "<s> User : what is good ? Assistant :".split()
    assert ids_of(engine, asked("good ?", "the sum is")) == "<s> User : good ? Assistant : the sum is".split()


def test_a_turn_that_is_begun_goes_on_as_it_stands(tmp_path):
    template = sm.LLAMA3 + "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    sm.saved(tmp_path / "m", "llama", "AutoModelForCausalLM", template=template)
    engine = TransformersEngine(Checkpoint(str(tmp_path / "m")))
    [encoded] = engine.encoder.encode([asked("How many?", "Step 1.\n")])  # the template would trim it, and close it
    assert encoded.text.endswith("<|start_header_id|>assistant<|end_header_id|>\n\nStep 1.\n")
    assert encoded.ids[-1] == engine.tokenizer("\n", add_special_tokens=False)["input_ids"][0]
    [begun] = engine.encoder.encode([asked("How many?")])
    assert begun.text.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")


def test_nothing_has_to_close_it_and_what_is_read_is_said(tmp_path):
    sm.saved(tmp_path / "m", "llama", "AutoModelForCausalLM", template=sm.CHATML + AHEAD)
    engine = TransformersEngine(Checkpoint(str(tmp_path / "m")))
    for said in (("Which?",), ("Which?", "I think")):
        [facts] = engine.plan([asked(*said)]).texts
        assert (facts.closed, facts.shows_response, facts.template) == (None, None, "checkpoint")
    assert engine.encoder.turn_end == engine.tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_prompt_over_the_limit_has_no_answer_and_may_lose_its_start_only(tmp_path):
    sm.saved(tmp_path / "m", "llama", "AutoModelForCausalLM", template=sm.CHATML + AHEAD)
    requests = [asked("word " * 30), asked("word")]
    checkpoint = Checkpoint(str(tmp_path / "m"))
    long, short = replies(TransformersEngine(checkpoint, max_length=60), requests)
    assert (long.reason, long.truncated, short.reason) == ("truncated", True, None)
    cut, same = replies(TransformersEngine(checkpoint, max_length=60, truncation="left"), requests)
    assert (cut.reason, cut.truncated) == (None, True)
    assert same.values == short.values or same.values[0][0] == pytest.approx(short.values[0][0], abs=1e-5)
    with pytest.raises(UsageError, match="take left"):
        TransformersEngine(checkpoint, max_length=60, truncation="right").plan(requests)


def test_broken_weights_are_no_missing_token(tmp_path):
    model = sm.saved(tmp_path / "m", "llama", "AutoModelForCausalLM", template=sm.CHATML + AHEAD)
    with torch.no_grad():
        model.lm_head.weight[5] = math.nan
    model.save_pretrained(tmp_path / "m")
    [reply] = replies(TransformersEngine(Checkpoint(str(tmp_path / "m"))), [asked("Which?")])
    assert (reply.reason, reply.values) == ("non_finite", ())
