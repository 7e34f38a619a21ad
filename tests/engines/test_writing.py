"""Texts that a model writes: as transformers writes them, the same in any company, drawn from a row's own generator."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
import step_models as sm
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.engines.writing import choose
from rmeval.errors import UsageError
from rmeval.store import Store, request_key
from rmeval.types import Chat, Message, Request, Sampling

AHEAD = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
QUESTIONS = ["Which one?", "A or B, and why? " * 5, "x", "Say it. " * 3, "How many are there?", "one two"]


def asked(question: str, *, begun: str = "", **how) -> Request:
    turns = [Message("user", question), *([Message("assistant", begun)] if begun else [])]
    return Request((Chat(tuple(turns)),), at="next", read="text", sampling=Sampling(**{"max_tokens": 24, **how}))


def replies(engine: TransformersEngine, requests: list[Request]):
    plan = engine.plan(requests)
    found = dict(plan.settled)
    for batch in plan.batches:
        found.update(zip(batch, engine.run([requests[i] for i in batch]), strict=True))
    return [found[plan.twins.get(i, i)] for i in range(len(requests))]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "writer"
    sm.saved(folder, "llama", "AutoModelForCausalLM", template=sm.CHATML + AHEAD, seed=3)
    return folder


@pytest.fixture(scope="module")
def counting_places(tmp_path_factory):
    """A model that learns a vector for each position, so that a wrong position shows."""
    from transformers import GPT2Config

    folder = tmp_path_factory.mktemp("models") / "gpt2"
    tok = sm.byte_tokenizer(sm.CHATML + AHEAD)
    config = GPT2Config(
        vocab_size=len(tok), n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.3,
        bos_token_id=1, eos_token_id=2, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def theirs(folder, question: str, max_tokens: int, **more) -> tuple[str, int]:
    """What transformers' own generate writes, greedily: (text, tokens)."""
    tok = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    turns = [{"role": "user", "content": question}]
    ids = tok.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    end = tok.convert_tokens_to_ids("<|im_end|>")
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_tokens,
        eos_token_id=[tok.eos_token_id, end], pad_token_id=0, **more,
    )[0, ids.shape[1] :]  # fmt: skip
    return tok.decode(out, skip_special_tokens=True), len(out)


@pytest.mark.parametrize(("kind", "config"), [("llama", {}), ("qwen2", {}), ("mistral", {"sliding_window": 16})])
def test_greedy_texts_are_those_of_transformers(tmp_path, kind, config):
    sm.saved(tmp_path / "m", kind, "AutoModelForCausalLM", template=sm.CHATML + AHEAD, seed=5, **config)
    found = replies(TransformersEngine(Checkpoint(str(tmp_path / "m"))), [asked(q) for q in QUESTIONS])
    expected = [theirs(tmp_path / "m", q, 24) for q in QUESTIONS]
    assert [(r.text, r.n_written) for r in found] == expected
    assert len({r.text for r in found}) > 1
    assert {r.reason for r in found} == {None}


def steered(folder, after: int):
    """A model that goes from each byte to the next one, and ends its turn after a certain one."""
    model = sm.saved(folder, "llama", "AutoModelForCausalLM", template=sm.CHATML + AHEAD, num_hidden_layers=1)
    tok = AutoTokenizer.from_pretrained(folder)
    size = len(tok)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                weights.zero_()  # what is left is the token's own embedding
        table = torch.nn.functional.normalize(torch.randn(size, 32, generator=torch.Generator().manual_seed(1)), dim=1)
        model.model.embed_tokens.weight.copy_(table)
        model.lm_head.weight.copy_(torch.roll(table, 1, dims=0))
        model.lm_head.weight[tok.convert_tokens_to_ids("<|im_end|>")] = 3 * table[after]
    model.save_pretrained(folder)
    return tok


def test_it_stops_at_the_end_of_the_turn_and_says_why(tmp_path):
    letter = sm.byte_tokenizer().convert_tokens_to_ids("e")
    steered(tmp_path / "m", letter)
    engine = TransformersEngine(Checkpoint(str(tmp_path / "m")))
    requests = [asked("?", begun=b) for b in ("ab", "a", "e", "x")] + [
        asked("?", begun="a", max_tokens=n) for n in (4, 5, 3)
    ]
    found = [(r.text, r.finish, r.n_written) for r in replies(engine, requests)]
    assert found[:3] == [("cde", "stop", 4), ("bcde", "stop", 5), ("", "stop", 1)]
    assert (found[3][1], found[3][2]) == ("length", 24)
    assert found[4:] == [("bcde", "length", 4), ("bcde", "stop", 5), ("bcd", "length", 3)]


def test_stop_tokens_of_the_generation_config_count_too(tmp_path):
    tok = steered(tmp_path / "m", sm.byte_tokenizer().convert_tokens_to_ids("z"))
    (tmp_path / "m/generation_config.json").write_text(
        json.dumps({"eos_token_id": [2, tok.convert_tokens_to_ids("g")]})
    )
    [reply] = replies(TransformersEngine(Checkpoint(str(tmp_path / "m"))), [asked("?", begun="a")])
    assert (reply.text, reply.finish, reply.n_written) == ("bcdef", "stop", 6)


@pytest.mark.parametrize("how", [{}, {"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.8}])
@pytest.mark.parametrize("kind", ["model", "counting_places"])
def test_neighbours_order_and_batches_change_no_text(request, kind, how):
    folder = str(request.getfixturevalue(kind))
    # equal prompts of two votes differ by the vote alone, and prompts end one by one
    requests = [asked(q, vote=v, max_tokens=4 + 4 * i, **how) for i, q in enumerate(QUESTIONS) for v in range(2)]
    one = TransformersEngine(Checkpoint(folder), batch_size=1)
    alone = [replies(one, [r])[0].text for r in requests]
    for size in (3, 12):
        order = random.Random(size).sample(range(12), 12)
        engine = TransformersEngine(Checkpoint(folder), batch_size=size)
        shuffled = [r.text for r in replies(engine, [requests[i] for i in order])]
        assert [shuffled[order.index(i)] for i in range(12)] == alone
    different = sum(a != b for a, b in zip(alone[::2], alone[1::2], strict=True))
    assert different == (6 if how else 0)


def test_votes_of_a_greedy_text_are_one_and_drawn_ones_are_not(model):
    engine = TransformersEngine(Checkpoint(str(model)))
    assert len(engine.plan([asked("x", vote=v) for v in range(3)]).twins) == 2
    assert len(engine.plan([asked("x", vote=v, temperature=1.0) for v in range(3)]).twins) == 0
    assert len(engine.plan([asked("x", max_tokens=n) for n in (3, 4)]).twins) == 0


def test_seeds_draw_different_texts_and_a_seed_the_same(model):
    engine = TransformersEngine(Checkpoint(str(model)))
    first, again, other = (
        [r.text for r in replies(engine, [asked(q, temperature=1.0, seed=seed) for q in QUESTIONS])]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_draws_follow_the_distribution():
    # 0.5 at temperature 1 squares the ratios at temperature 0.5, and top_p .6 leaves the two likeliest of three
    logits = torch.tensor([[0.5, 0.3, 0.2, 0.0]]).log().repeat(6000, 1)
    rng = random.Random(0)
    for how, expected in (
        (Sampling(temperature=1.0), [0.5, 0.3, 0.2, 0]),
        (Sampling(temperature=0.5), [0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38, 0]),
        (Sampling(temperature=1.0, top_p=0.6), [0.625, 0.375, 0, 0]),
        (Sampling(temperature=1.0, top_p=0.5), [1, 0, 0, 0]),
        (Sampling(temperature=1.0, top_p=0.0), [1, 0, 0, 0]),
    ):
        counts = Counter(choose(logits, [how] * 6000, [rng] * 6000))
        shares = [counts[i] / 6000 for i in range(4)]
        assert shares == pytest.approx(expected, abs=0.03)  # more than four standard errors
        assert [bool(s) for s in shares] == [bool(e) for e in expected]


def test_of_equally_likely_tokens_the_lowest_is_taken():
    logits = torch.zeros(3, 50)
    logits[1, [7, 30]] = 1
    logits[2, [49, 48]] = 2
    assert choose(logits, [Sampling()] * 3, [random.Random(0)] * 3) == [0, 7, 48]


def test_a_prompt_needs_room_for_what_is_written(model):
    checkpoint = Checkpoint(str(model))
    [n] = TransformersEngine(checkpoint).plan([asked("word")]).tokens
    for room, reason in ((n + 24, None), (n + 23, "truncated")):
        [reply] = replies(TransformersEngine(checkpoint, max_length=room), [asked("word")])
        assert (reply.reason, reply.n_tokens) == (reason, n)
    [cut] = replies(TransformersEngine(checkpoint, max_length=n + 23, truncation="left"), [asked("word")])
    assert (cut.reason, cut.truncated, cut.n_written) == (None, True, 24)
    with pytest.raises(UsageError, match="writes up to 24 tokens, and may read 24 in all"):
        TransformersEngine(checkpoint, max_length=24).plan([asked("word")])


def test_a_reward_model_cannot_write(tiny_reward_model):
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)))
    with pytest.raises(UsageError, match="has no vocabulary to write with"):
        replies(engine, [asked("what")])


def test_broken_weights_write_nothing(tmp_path):
    broken = sm.saved(tmp_path / "m", "llama", "AutoModelForCausalLM", template=sm.CHATML + AHEAD)
    with torch.no_grad():
        broken.lm_head.weight[5] = float("nan")
    broken.save_pretrained(tmp_path / "m")
    [reply] = replies(TransformersEngine(Checkpoint(str(tmp_path / "m"))), [asked("Which?")])
    assert (reply.reason, reply.text) == ("non_finite", "")


def test_texts_come_back_from_the_store_as_they_were(model, tmp_path):
    engine = TransformersEngine(Checkpoint(str(model)))
    request = asked("Which?", temperature=1.0)
    [reply] = replies(engine, [request])
    with Store(tmp_path / "s.sqlite") as store:
        store.put({request_key(request, "e"): reply})
        assert store.get([request_key(request, "e")]) == {request_key(request, "e"): reply}


def test_the_plain_template_keeps_its_own_space(tmp_path):
    # "Assistant:" and " yes" are how such a model was taught: the space is the template's
    sm.saved(tmp_path / "m", "llama", "AutoModelForCausalLM", template=None)
    engine = TransformersEngine(Checkpoint(str(tmp_path / "m")))
    for begun, text in (("", "yes no"), ("I say", " yes no")):
        [encoded] = engine.encoder.encode([asked("?", begun=begun)])
        said = engine.tokenizer(" yes no</s>", add_special_tokens=False)["input_ids"]
        assert engine.encoder.written(said, encoded) == text


def test_a_model_without_a_cache_cannot_write():
    from transformers import MambaConfig, MambaForCausalLM

    from rmeval.engines.writing import write

    model = MambaForCausalLM(MambaConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, state_size=4))
    with pytest.raises(UsageError, match="MambaForCausalLM keeps no keys and values"):
        write(model, [[1, 2]], [Sampling()], stops=frozenset(), device="cpu")
