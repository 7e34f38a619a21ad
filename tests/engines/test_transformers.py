"""Scores do not depend on neighbours, padding or pad tokens; text is tokenised once; nothing is cut quietly."""

from __future__ import annotations

import random

import pytest
import tiny
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.errors import UsageError
from rmeval.types import Chat, Message, Request


def request(text: str, *, question: str = "what is the sum ?") -> Request:
    return Request((Chat((Message("user", question), Message("assistant", text))),))


def texts(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices([*tiny.WORDS, *map(str, range(40))], k=rng.randint(1, 60))) for _ in range(n)]


def scores(engine: TransformersEngine, requests: list[Request]) -> list[float]:
    found: dict[int, float] = {}
    for batch in engine.plan(requests).batches:
        found.update(zip(batch, (r.values[0][0] for r in engine.run([requests[i] for i in batch])), strict=True))
    return [found[i] for i in range(len(requests))]


def one_by_one(folder, requests: list[Request]) -> list[float]:
    """The reference: transformers alone, one unpadded text at a time, no pad token in sight."""
    tok = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model.config.pad_token_id = None
    found = []
    for r in requests:
        messages = [{"role": m.role, "content": m.content} for m in r.parts[0].messages]
        ids = tok(tok.apply_chat_template(messages, tokenize=False), add_special_tokens=False, return_tensors="pt")
        with torch.no_grad():
            found.append(float(model(input_ids=ids["input_ids"]).logits[0, 0]))
    return found


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2", "mistral", "gemma2", "gemma3", "phi3"])
def test_scores_equal_transformers_one_by_one(tmp_path, kind):
    folder = tiny.classifier(tmp_path / kind, kind=kind)
    requests = [request(t) for t in texts(24)]
    expected = one_by_one(folder, requests)
    assert max(expected) - min(expected) > 0.05  # the texts are told apart at all
    assert scores(TransformersEngine(Checkpoint(str(folder))), requests) == pytest.approx(expected, abs=1e-5)


@pytest.mark.fault("F17", "F18")
def test_f18_batch_composition_changes_no_score_and_no_decision(tiny_reward_model):
    requests = [request(t) for t in texts(64)]
    alone = scores(TransformersEngine(Checkpoint(str(tiny_reward_model)), batch_size=1), requests)
    order = random.Random(1).sample(range(64), 64)
    long = request(" ".join(texts(8, seed=2))[:600])
    for batch_size in (8, 32):
        engine = TransformersEngine(Checkpoint(str(tiny_reward_model)), batch_size=batch_size, max_length=512)
        shuffled = scores(engine, [requests[i] for i in order])
        beside = scores(engine, [long, *requests])[1:]
        for other in (scores(engine, requests), [shuffled[order.index(i)] for i in range(64)], beside):
            assert max(abs(a - b) for a, b in zip(alone, other, strict=True)) <= 1e-4
            flips = sum(
                (a > b) != (c > d) for a, b, c, d in zip(alone[::2], alone[1::2], other[::2], other[1::2], strict=True)
            )
            assert flips == 0


@pytest.mark.fault("F16")
def test_f16_pad_equal_to_eos_is_harmless(tmp_path):
    # transformers would read the token before the first trailing eos; we read where the mask ends
    tok = tiny.tokenizer(pad="</s>", template=tiny.CHATML + "</s>")
    folder = tiny.classifier(tmp_path / "pad-is-eos", tok=tok)
    requests = [request(t) for t in ["good answer", "bad", "the sum is 7 . </s> not 8"]]
    assert scores(TransformersEngine(Checkpoint(str(folder))), requests) == pytest.approx(
        one_by_one(folder, requests), abs=1e-5
    )


def test_special_tokens_stand_once(tmp_path):
    # the template writes <s>, the tokenizer would add one more
    folder = tiny.classifier(tmp_path / "bos", tok=tiny.tokenizer(bos=True))
    engine = TransformersEngine(Checkpoint(str(folder)))
    [ids] = engine._encode([request("good")])
    assert ids.count(engine.tokenizer.bos_token_id) == 1


def test_without_a_template_the_plain_one_is_used_and_named(tmp_path):
    folder = tiny.classifier(tmp_path / "plain", tok=tiny.tokenizer(template=None, bos=True))
    engine = TransformersEngine(Checkpoint(str(folder)))
    [ids] = engine._encode([request("good")])
    assert "plain" in engine.fingerprint()["template_source"]
    assert ids.count(engine.tokenizer.bos_token_id) == 1
    assert ids[0] == engine.tokenizer.bos_token_id
    assert ids[-1] == engine.tokenizer.eos_token_id
    assert ids.count(engine.tokenizer.eos_token_id) == 1


def test_encoders_use_their_own_pooling(tmp_path):
    folder = tiny.classifier(tmp_path / "bert", kind="bert", labels=2)
    engine = TransformersEngine(Checkpoint(str(folder)))
    requests = [request(t) for t in texts(9)]
    together = scores(engine, requests)
    alone = scores(TransformersEngine(Checkpoint(str(folder)), batch_size=1), requests)
    assert engine.path == "the model's own pooling"
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(alone)) > 1


@pytest.mark.fault("F15")
def test_f15_a_text_over_the_limit_fails_alone(tiny_reward_model):
    base = request("good " * 10)
    [n] = TransformersEngine(Checkpoint(str(tiny_reward_model))).plan([base]).tokens
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)), max_length=n)
    requests = [request("good " * 9), base, request("good " * 11)]
    plan = engine.plan(requests)
    assert sorted(i for batch in plan.batches for i in batch) == [0, 1]
    assert plan.settled[2].reason == "truncated"
    assert plan.settled[2].truncated


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.fault("F14", "F15")
def test_a_truncation_asked_for_keeps_first_and_scored_token(tiny_reward_model, side):
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)), max_length=12, truncation=side)
    [ids] = engine._encode([request("good bad " * 10)])
    cut = engine._cut(ids)
    assert len(cut) == 12
    assert (cut[0], cut[-1]) == (ids[0], ids[-1])
    [reply] = engine.run([request("good bad " * 10)])
    assert reply.truncated
    assert reply.n_tokens == len(ids)


def test_a_conversation_that_the_template_refuses_is_missing_with_a_reason(tmp_path):
    refusing = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ m.content }} </s>{% endfor %}"
    folder = tiny.classifier(tmp_path / "refuses", tok=tiny.tokenizer(template=refusing))
    bad = Request((Chat((Message("system", "a"), Message("user", "b"), Message("assistant", "c"))),))
    plan = TransformersEngine(Checkpoint(str(folder))).plan([bad, request("good")])
    assert plan.settled[0].reason == "template_refused"
    assert plan.batches == ((1,),)


def test_batches_hold_the_token_budget_and_every_request_once(tiny_reward_model):
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)), batch_tokens=200, share=False)
    requests = [request(t) for t in texts(50)]
    plan = engine.plan(requests)
    assert sorted(i for batch in plan.batches for i in batch) == list(range(50))
    assert all(len(b) * max(plan.tokens[i] for i in b) <= 200 or len(b) == 1 for b in plan.batches)
    assert plan == engine.plan(requests)


def test_a_head_that_does_more_than_a_linear_layer_is_read_through_its_own_forward(tiny_reward_model, monkeypatch):
    from transformers import LlamaForSequenceClassification

    plain = LlamaForSequenceClassification.forward

    def capped(self, *args, **kwargs):
        out = plain(self, *args, **kwargs)
        out.logits = torch.tanh(out.logits) * 30 + 5
        return out

    monkeypatch.setattr(LlamaForSequenceClassification, "forward", capped)
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)))
    requests = [request(t) for t in texts(4)]
    assert scores(engine, requests) == pytest.approx(one_by_one(tiny_reward_model, requests), abs=1e-5)
    assert engine.path.startswith("one text at a time")


def test_options_are_checked(tiny_reward_model):
    with pytest.raises(UsageError, match="one of error, left, right"):
        TransformersEngine(Checkpoint(str(tiny_reward_model)), truncation="centre")
    with pytest.raises(UsageError, match="bfloat16"):
        TransformersEngine(Checkpoint(str(tiny_reward_model)), dtype="int8")


@pytest.mark.fault("F18")
def test_the_same_tokens_have_the_same_score_to_the_last_bit(tiny_reward_model):
    # unknown words are one token each: different texts, equal ids; in two batches they could differ in the last bits
    from rmeval import runner
    from rmeval.scorers.scalar import ScalarScorer
    from rmeval.types import Candidate, Example, Labels

    pairs = [
        Example(
            f"e{i}",
            (Message("user", "what ?"),),
            (Candidate(f"xylo {t}"), Candidate(f"phone {t}")),
            Labels((1.0, 0.0)),
            "all",
        )
        for i, t in enumerate(texts(30))
    ]
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)), batch_tokens=150)
    outcome = runner.run(pairs, ScalarScorer(), engine)
    assert all(j.scores[0] == j.scores[1] for j in outcome.judgements)
    assert outcome.counts.computed == 30


def test_a_planned_text_is_tokenised_once(tiny_reward_model, monkeypatch):
    from rmeval.engines.encoding import Encoder, Kept

    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)))
    requests = [request(t) for t in texts(20)]
    expected = scores(engine, requests)
    seen = []
    encode = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda self, asked: seen.extend(asked) or encode(self, asked))
    assert scores(engine, requests) == expected
    assert seen == requests
    engine._planned = Kept(most=200)  # what memory does not hold is tokenised again
    assert scores(engine, requests) == expected
    assert len(requests) < len(seen) - len(requests) < 2 * len(requests)
