"""What servers answer: bodies of single calls, faults, the files and the states of batches, rewards."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import fuzz_mutations as mutations
from fuzz_driving import Target
from fuzz_files import folder

from rmeval.engines import pooling
from rmeval.engines.openai import policy, wire
from rmeval.engines.openai.batch import Batches, Settings, _Found, _Run
from rmeval.engines.openai.calls import Transport
from rmeval.engines.openai.client import Server, Watch, decoded
from rmeval.engines.openai.cost import Meter, Prices
from rmeval.engines.openai.jobs import _state
from rmeval.engines.openai.secrets import Key
from rmeval.store import Store
from rmeval.types import Chat, Message, Reply, Request, Sampling, Special

NOW = datetime(2026, 11, 22, tzinfo=UTC)
HI = (Chat((Message("user", "Hi"),)),)
WRITES = Request(HI, at="next", read="text", sampling=Sampling(max_tokens=8))
READS = Request(HI, at="next", read="next_logprobs", tokens=(Special("A"), Special(" B")))

_ANSWERS = (
    {
        "id": "x", "object": "chat.completion", "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "[[A]]"}}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3},
    },
    {
        "model": "m", "usage": None,
        "choices": [{"finish_reason": "length", "message": {"content": [{"type": "text", "text": "[[B]]"}], "refusal": None}}],
    },
    {
        "model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 1},
        "choices": [{"finish_reason": "stop", "message": {"content": "A"}, "logprobs": {"content": [
            {"token": "A", "logprob": -0.25, "top_logprobs": [{"token": "A", "logprob": -0.25}, {"token": "\u0120B", "logprob": -1.5}]}
        ]}}],
    },
    {"error": {"code": "rate_limit_exceeded", "message": "slow down", "param": "temperature", "type": "requests"}},
    {"choices": [{"error": {"code": 502, "message": "bad gateway"}, "finish_reason": "error"}]},
)  # fmt: skip
WORDS = (
    "choices", "message", "content", "finish_reason", "error", "code", "usage", "logprobs", "top_logprobs", "token", "logprob",
    "refusal", "length", "content_filter", "insufficient_quota", "context_length_exceeded", "max_completion_tokens",
    "response_format unsupported", "model", "status_code", "response", "body", "custom_id", "data", "probs", "rewards", "index",
    "completed", "request_counts", "output_file_id", "429", "data: [DONE]", "<html>",
)  # fmt: skip


def _json(draw: random.Random, values: tuple[Any, ...]) -> str:
    case = mutations.as_json(mutations.value(draw, draw.choice(values), WORDS))
    return mutations.text(draw, case, WORDS) if draw.random() < 0.2 else case


def _answer(case: str) -> bool:
    answer = decoded(mutations.as_bytes(case).decode("utf-8", "replace"))
    taken = False
    for request in (WRITES, READS):
        reply = _reply(answer, request)
        if reply is None:
            continue
        taken = True
        assert isinstance(reply.text, str)
        assert isinstance(reply.served, str)
        assert reply.n_tokens >= 0
        assert reply.n_written >= 0
        assert all(math.isnan(value) or value <= 1e-3 for row in reply.values for value in row)
        meter = Meter(Prices(2.5, 10.0), 5.0)
        meter.add(*wire.usage(answer), (1, 1))
        assert math.isfinite(meter.left())
        assert json.dumps(meter.describe(), allow_nan=False)
    return taken


def _reply(answer: Any, request: Request) -> Reply | None:
    try:
        return wire.read(answer, request)
    except wire.Unreadable as unreadable:
        _in_short(unreadable)
        return None


def _in_short(unreadable: wire.Unreadable) -> None:
    assert len(str(policy.of_answer(unreadable, NOW))) < 1000


_HEADERS = (
    "7",
    "1.5",
    "inf",
    "-1",
    "soon",
    "Sun, 22 Nov 2026 12:00:30 GMT",
    "nan",
    "1e999",
    "9" * 400,
    "Sun, 99 Nov 99999",
)


def _fault_case(draw: random.Random) -> str:
    status = draw.choice((400, 401, 404, 408, 413, 422, 429, 500, 503, 599, 302, 1000))
    header = mutations.text(draw, draw.choice(_HEADERS)) if draw.random() < 0.5 else draw.choice(_HEADERS)
    return f"{status}\x1e{header}\x1e{_json(draw, _ANSWERS[3:])}"


def _fault(case: str) -> bool:
    status, header, body = (*case.split("\x1e"), "", "")[:3]
    answer = decoded(mutations.as_bytes(body).decode("utf-8", "replace"))
    headers = {"retry-after": header, "retry-after-ms": header} if len(header) % 2 else {"retry-after": header}
    fault = policy.of_status(int(status) if status.isascii() and status.isdigit() else 500, headers, answer, NOW)
    assert len(str(fault)) < 2000
    assert fault.after is None or (math.isfinite(fault.after) and fault.after >= 0)
    wait = policy.wait(fault, 40, random.Random(0), backoff=0.5, longest=120.0)
    assert wait is None or 0 <= wait <= 240
    return fault.scope != "run"


_POOLED = (
    {"data": [{"index": 1, "probs": [2.0]}, {"index": 0, "probs": [1.0]}]},
    {"data": [{"index": 0, "data": [[0.5], [1.5]]}, {"index": 1, "data": [[0.5], [None]]}]},
    {"rewards": [0.25, [1.5]]},
    {"error": {"code": 400, "message": "no"}},
)


def _pooled(case: str) -> bool:
    answer = decoded(mutations.as_bytes(case).decode("utf-8", "replace"))
    taken = False
    for api in pooling.APIS:
        try:
            found = pooling.read(api, answer, 2)
        except wire.Unreadable as unreadable:
            _in_short(unreadable)
            continue
        taken = True
        assert len(found) == 2
        assert all(type(value) is float for text in found for place in text for value in place)
    return taken


# --- batches ---------------------------------------------------------------------------------------------------------


@cache
def _batches() -> Batches:
    store = Store(folder() / "batches.sqlite")
    watch = Watch(lambda *_: None, lambda _: None, lambda _: None, lambda: None)
    server = Server("http://localhost:1/v1", "m", wire.Dialect())
    return Batches(server, Key("k"), Transport(), watch, Settings(), store.memory("engine"))


_KEY = "0" * 64
_LINES = (
    *({"id": "b", "custom_id": _KEY, "response": {"status_code": 200, "body": answer}, "error": None} for answer in _ANSWERS[:3]),
    {"custom_id": _KEY, "response": {"status_code": 400, "body": _ANSWERS[3]}, "error": None},
    {"custom_id": _KEY, "response": None, "error": {"code": "batch_expired", "message": "too late"}},
    {"custom_id": "x" * 64, "response": {"status_code": 200, "body": _ANSWERS[0]}},
)  # fmt: skip


def _line_case(draw: random.Random) -> str:
    lines = [_json(draw, _LINES) for _ in range(draw.choice((1, 1, 2, 3)))]
    case = "\n".join(line.replace("\n", " ") for line in lines)
    return mutations.text(draw, case, WORDS) if draw.random() < 0.1 else case


def _lines(case: str) -> bool:
    """The lines of a file of answers, as they come from the server."""
    run = _Run(_batches(), None, [WRITES], None)
    [mine] = run.requests
    found, replies = _Found(), []
    for line in mutations.as_bytes(case.replace(_KEY, mine)).split(b"\n"):
        replies += run._take(decoded(line.decode("utf-8", "replace")), {mine}, found)
    assert len(replies) <= 1, "an answer twice"
    assert len(str(found)) < 1000
    assert all(len(str(fault)) < 2000 for fault in found.faults.values())
    return bool(replies)


_STATES = (
    {
        "id": "batch_1", "status": "completed", "request_counts": {"completed": 3, "failed": 0, "total": 3},
        "output_file_id": "file-1", "error_file_id": None, "errors": None,
    },
    {"id": "batch_1", "status": "FAILED", "errors": {"data": [{"code": "token_limit_exceeded", "message": "too many"}]}},
)  # fmt: skip


def _state_of(case: str) -> bool:
    answer = decoded(mutations.as_bytes(case).decode("utf-8", "replace"))
    if not isinstance(answer, dict) or not isinstance(answer.get("id"), str):
        return False  # refused before it is read
    state = _state(answer)
    assert isinstance(state.done, int)
    assert all(isinstance(file, str) for file in state.files)
    assert len(state.why) <= 300
    return state.ended


def _of(values: tuple[Any, ...]) -> Callable[[random.Random], str]:
    return partial(_json, values=values)


TARGETS = (
    Target("chat completion", _of(_ANSWERS), _answer),
    Target("fault of a server", _fault_case, _fault),
    Target("answer of a reward server", _of(_POOLED), _pooled),
    Target("batch output file", _line_case, _lines),
    Target("state of a batch", _of(_STATES), _state_of),
)
