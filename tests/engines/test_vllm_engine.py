"""`--engine vllm` where vLLM is not installed: what can be said without it is, and the way on is named."""

from __future__ import annotations

import importlib.util

import pytest
import step_models as sm
import tiny

from rmeval.errors import UsageError
from rmeval.models import load_model
from rmeval.types import Chat, Message, Request

pytestmark = pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")


def request(text: str, **more) -> Request:
    return Request((Chat((Message("user", "what is the sum ?"), Message("assistant", text))),), **more)


def test_texts_are_planned_as_ever_and_then_the_library_is_missed(tmp_path):
    tiny.classifier(tmp_path)
    engine = load_model(str(tmp_path), engine="vllm", given={"engine": {"batch_size": 2}}).engine
    planned = engine.plan([request("good"), request("bad"), request("good"), request("4 " * 200), request("two")])
    assert planned.batches == ((0, 1), (4,))
    assert planned.twins == {2: 0}
    assert planned.settled[3].reason == "truncated"
    with pytest.raises(UsageError, match=r"pip install 'rmeval\[vllm\]'"):
        engine.run([request("good")])


def test_the_engine_and_the_dtype_are_part_of_what_was_asked(tmp_path):
    tiny.classifier(tmp_path)
    prints = [
        load_model(str(tmp_path), engine="vllm", given={"engine": {"dtype": d}}).engine.fingerprint()
        for d in ("float32", "bfloat16")
    ]
    assert prints[0] != prints[1]
    assert {found["engine"] for found in prints} == {"vllm"}
    assert prints[0]["weights"] == load_model(str(tmp_path)).engine.fingerprint()["weights"]


def test_what_it_does_not_read_is_refused_with_the_engine_that_does(tmp_path):
    sm.saved(tmp_path, "qwen2", "AutoModelForCausalLM")
    loaded = load_model(str(tmp_path), engine="vllm", scorer="implicit", given={"scorer": {"mode": "avg"}})
    with pytest.raises(UsageError, match="--engine transformers"):
        loaded.engine.plan([request("good", at="completion", read="next_logprob")])
