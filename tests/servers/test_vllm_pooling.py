"""Reward models through vLLM's build for CPUs beside the same weights in process (`make test-vllm`).

The models are small seeded Llamas: what counts is that both ways read the same numbers at the same places.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tiny
import vllm_server
from command import rmeval

from rmeval import results

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(
        not vllm_server.PYTHON.exists(), reason="no server is installed: make test-vllm makes .venv-vllm (2.5 GB)"
    ),
]

CLOSE = 1e-4
"""Largest difference of a score in fp32."""
SHAPE = {"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
"""Heads of 64: the server's kernels have none of 8."""


def long_reader():
    tok = tiny.tokenizer()
    tok.model_max_length = 1024
    return tok


def saved(folder: Path, auto: str, **config) -> Path:
    """A seeded Llama with a head, whose scores are about as large as those of trained ones."""
    import torch
    import transformers

    tok = long_reader()
    torch.manual_seed(1)
    special = {"pad_token_id": tok.pad_token_id, "bos_token_id": tok.bos_token_id, "eos_token_id": tok.eos_token_id}
    shape = {**SHAPE, "num_hidden_layers": 2, "max_position_embeddings": 1024, "initializer_range": 0.1}
    made = getattr(transformers, auto).from_config(
        transformers.LlamaConfig(vocab_size=len(tok), **shape, **special, **config)
    )
    made.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def sequence_classifier(folder: Path, labels: int = 1) -> Path:
    return saved(folder, "AutoModelForSequenceClassification", num_labels=labels)


@pytest.fixture(scope="module")
def scalar(tmp_path_factory) -> Path:
    return sequence_classifier(tmp_path_factory.mktemp("models") / "scalar")


@pytest.fixture(scope="module")
def process(tmp_path_factory) -> Path:
    """A process reward model of two labels, as `rmeval train prm` saves one."""
    about = {"kind": "prm", "step_separator": "\n", "aggregate": "min"}
    labels = {0: "incorrect", 1: "correct"}
    folder = tmp_path_factory.mktemp("models") / "prm"
    return saved(folder, "AutoModelForTokenClassification", num_labels=2, id2label=labels, rmeval=about)


@contextlib.contextmanager
def pooling(folder: Path, log: Path, *more: str) -> Iterator[str]:
    """A pooling server in fp32; gives its address without /v1."""
    with vllm_server.serving(folder, log, "--runner", "pooling", "--max-model-len", "1024", *more) as running:
        yield running.base_url.removesuffix("/v1")


@pytest.fixture(scope="module")
def classify(scalar, tmp_path_factory):
    with pooling(scalar, tmp_path_factory.mktemp("server") / "log.txt") as url:
        yield url


def run(model, out: Path, *more, suite="arithmetic"):
    answer = rmeval(
        *("run", model, "--suite", suite, "--limit", 24, "--out", out, "--store", f"{out}.sqlite"),
        *("-a", "engine.dtype=float32", *more),
    )
    assert answer.code == 0, answer.stderr
    return results.load_result(next(out.rglob("*.json")))


def assert_close(there, here) -> None:
    worst, n = 0.0, 0
    for a, b in zip(there.judgements, here.judgements, strict=True):
        assert a.n_tokens == b.n_tokens
        for x, y in zip((*a.step_scores, a.scores), (*b.step_scores, b.scores), strict=True):
            for one, other in zip(x, y, strict=True):
                worst, n = max(worst, abs(one - other)), n + 1
    at_start = there.result.environment.engine["parity_difference"]
    print(f"{n} scores, apart by at most {worst:.2g}; by {at_start:.2g} when the server was looked at")
    assert n > 40
    assert worst <= CLOSE
    assert there.headline.value == here.headline.value


def test_a_sequence_classifier_behind_classify(classify, scalar, tmp_path):
    there = run(scalar, tmp_path / "there", "--engine", "http", "--base-url", classify)
    assert_close(there, run(scalar, tmp_path / "here"))
    assert there.result.engine.model_dump()["parity"] == "checked"


def test_a_token_classifier_behind_pooling(process, tmp_path):
    with pooling(process, tmp_path / "log.txt", "--pooler-config", '{"task": "token_classify"}') as url:
        for suite in ("arithmetic", "arithmetic-steps"):
            there = run(process, tmp_path / f"there-{suite}", "--engine", "http", "--base-url", url, suite=suite)
            assert_close(there, run(process, tmp_path / f"here-{suite}", suite=suite))


@contextlib.contextmanager
def activating(url: str) -> Iterator[str]:
    """A proxy that always asks for the activation, as servers do that know no `use_activation`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(urllib.request.Request(f"{url}{self.path}"))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body.pop("use_activation")
            sent = {"content-type": "application/json"}
            self.answer(urllib.request.Request(f"{url}{self.path}", json.dumps(body).encode(), sent))

        def answer(self, asked: urllib.request.Request) -> None:
            text = urllib.request.urlopen(asked, timeout=120).read()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def refused(model, url: str, out: Path, *more) -> str:
    answer = rmeval(
        *("run", model, "--suite", "arithmetic", "--limit", 8, "--engine", "http", "--base-url", url),
        *("-a", "engine.dtype=float32", "--out", out, "--store", f"{out}.sqlite", *more),
    )
    assert answer.code == 3, answer.stderr
    assert not list(out.rglob("*.json"))
    return answer.stderr


def test_an_activation_stops_the_run(classify, scalar, tmp_path):
    with activating(classify) as url:
        said = refused(scalar, url, tmp_path / "r")
    assert "look like probabilities" in said
    assert "use_activation" in said


def test_another_head_stops_the_run(classify, scalar, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    sequence_classifier(tmp_path / "other")
    weights = load_file(tmp_path / "other" / "model.safetensors")
    weights["score.weight"] = torch.flip(weights["score.weight"], dims=(-1,))
    save_file(weights, tmp_path / "other" / "model.safetensors", metadata={"format": "pt"})
    assert "are not those of other" in refused(tmp_path / "other", classify, tmp_path / "r")
    two = sequence_classifier(tmp_path / "two", labels=2)
    said = refused(two, classify, tmp_path / "r2", "-a", "scorer.label=1")
    assert "gives 1 numbers, and two has 2 labels" in said
