"""`--engine vllm`: the same numbers as in transformers, from vLLM in one process (`make test-vllm`).

vLLM and rmeval's other dependencies need different versions of transformers on this platform, so vLLM's own venv runs the
engine, and gives its replies back in a file.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
from pathlib import Path

import pytest
import vllm_server
from command import ROOT
from test_vllm_pooling import saved, sequence_classifier

from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.types import Chat, Message, Reply, Request, Sampling, Special

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(
        not vllm_server.PYTHON.exists(), reason="vLLM is not installed: make test-vllm makes .venv-vllm (2.5 GB)"
    ),
]

SCRIPT = Path(__file__).with_name("vllm_offline.py")
TEXTS = ["good", "the answer is 4 .", "bad bad bad", "two and three", "not good , not bad", "1 2 3 4 5 6 7 8 9", "good"]


def in_vllm(folder: Path, requests, tmp_path: Path, code: int = 0, **options):
    """(replies, fingerprint, what is recorded), or what was said where it fails."""
    asked, said = tmp_path / "asked.pickle", tmp_path / "said.pickle"
    asked.write_bytes(pickle.dumps(requests))
    env = {**os.environ, **vllm_server.SETTINGS, "PYTHONPATH": str(ROOT), "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(
        [vllm_server.PYTHON, SCRIPT, folder, asked, said, json.dumps(options)],
        env=env, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert (done.returncode != 0) == bool(code), done.stderr[-3000:]
    return done.stderr if code else pickle.loads(said.read_bytes())


def here(folder: Path, requests) -> list[Reply]:
    engine = TransformersEngine(Checkpoint(str(folder)), dtype="float32")
    return [engine.run([request])[0] for request in requests]


def chat(text: str, **more) -> Request:
    return Request((Chat((Message("user", "what is the sum ?"), Message("assistant", text))),), **more)


def assert_close(there: list[Reply], at_home: list[Reply]) -> None:
    for a, b in zip(there, at_home, strict=True):
        assert (a.reason, a.n_tokens, a.truncated, len(a.values)) == (None, b.n_tokens, b.truncated, len(b.values))
        for x, y in zip(a.values, b.values, strict=True):
            assert x == pytest.approx(y, abs=1e-4)


def test_a_sequence_classifier(tmp_path):
    folder = sequence_classifier(tmp_path / "scalar")
    requests = [chat(text) for text in TEXTS]
    there, fingerprint, recorded = in_vllm(folder, requests, tmp_path)
    assert_close(there, here(folder, requests))
    assert fingerprint["engine"] == "vllm"
    assert recorded["parity_difference"] <= 1e-4


def test_a_token_classifier_at_its_places(tmp_path):
    folder = saved(tmp_path / "token", "AutoModelForTokenClassification", num_labels=2)
    requests = [chat(text, at="completion") for text in TEXTS]
    there, _, _ = in_vllm(folder, requests, tmp_path)
    assert_close(there, here(folder, requests))
    assert {len(place) for reply in there for place in reply.values} == {2}


def test_a_language_model_writes_and_names_next_tokens(tmp_path):
    folder = saved(tmp_path / "causal", "AutoModelForCausalLM")
    ask = [(Chat((Message("user", text),)),) for text in TEXTS]
    tokens = tuple(Special(word) for word in ("good", "bad", "4", "no-such-token"))
    written = [Request(parts, at="next", read="text", sampling=Sampling(max_tokens=8)) for parts in ask]
    named = [Request(parts, at="next", read="next_logprobs", tokens=tokens) for parts in ask]
    there, _, _ = in_vllm(folder, [*written, *named], tmp_path)
    at_home = here(folder, [*written, *named])
    for a, b in zip(there[: len(TEXTS)], at_home[: len(TEXTS)], strict=True):
        assert (a.text, a.finish, a.n_written, a.n_tokens) == (b.text, b.finish, b.n_written, b.n_tokens)
    for a, b in zip(there[len(TEXTS) :], at_home[len(TEXTS) :], strict=True):
        assert a.values[0][:3] == pytest.approx(b.values[0][:3], abs=1e-4)
        assert math.isnan(a.values[0][3])
