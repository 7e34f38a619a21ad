"""A judge behind a loopback server that speaks `/v1/chat/completions`, and every way in which it may go wrong.

    with JudgeServer(lambda body: "[[A]]") as server:
        rmeval("run", "judge:scripted", "--base-url", server.url, ...)
        assert len(server.calls) == 20

What is served is a function of the request's body: text, or one of the answers below; a list of answers is given out
call by call, its last one for ever.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias


@dataclass(frozen=True)
class Says:
    """An answer of status 200."""

    text: str | None = ""
    finish: str = "stop"
    refusal: str | None = None
    logprobs: Mapping[str, float] | list[tuple[str, float]] | None = None
    """Token -> log-probability, as listed for the first token written; tokens may repeat in a list."""
    chosen: tuple[str, float] | None = None
    """The token drawn, the first of `logprobs` unless said otherwise."""
    usage: tuple[int, int] | None = (100, 10)
    model: str = ""
    """The model that is said to have answered; empty for the one asked for."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """More fields of the answer."""
    after: float = 0.0
    """Seconds that this one takes."""


@dataclass(frozen=True)
class Status:
    """An answer of another status; a text that is no dict goes out as it stands."""

    status: int
    error: Mapping[str, Any] | str = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """An answer of status 200 with this body, which need not be JSON."""

    body: str
    type: str = "application/json"


@dataclass(frozen=True)
class Hangs:
    """Nothing, for so long or until the server closes."""

    seconds: float = 60.0


@dataclass(frozen=True)
class Drips:
    """A byte now and then, without end."""

    every: float = 0.02


@dataclass(frozen=True)
class Breaks:
    """The connection is reset in the middle of the body."""


Answer: TypeAlias = "str | Says | Status | Raw | Hangs | Drips | Breaks"


@dataclass(frozen=True)
class Call:
    """A request as it came."""

    body: dict[str, Any]
    headers: dict[str, str]
    """By lower-case name."""
    at: float
    """Seconds on the monotonic clock."""

    @property
    def prompt(self) -> str:
        """The last turn."""
        return self.body["messages"][-1]["content"]


class JudgeServer:
    """A server on a free port of the loopback. `latency` is in seconds, before every answer."""

    def __init__(
        self, script: Callable[[dict[str, Any]], Answer] | Answer | list[Answer], latency: float = 0.0
    ) -> None:
        self.latency = latency
        self.calls: list[Call] = []
        self.at_once = 0
        """The most calls that were open at one moment."""
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._open = 0
        self._script = self._in_turn(script) if isinstance(script, list) else script
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.judge = self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    @property
    def prompts(self) -> list[str]:
        return [call.prompt for call in self.calls]

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    @contextlib.contextmanager
    def call(self, body: dict[str, Any], headers: Mapping[str, str]) -> Iterator[Answer]:
        """Take note of a call, and say how to answer it."""
        with self._lock:
            self.calls.append(Call(body, {name.lower(): headers[name] for name in headers}, time.monotonic()))
            self._open += 1
            self.at_once = max(self.at_once, self._open)
            answer = self._script(body) if callable(self._script) else self._script
        try:
            self.closing.wait(self.latency)
            yield answer
        finally:
            with self._lock:
                self._open -= 1

    @staticmethod
    def _in_turn(answers: list[Answer]) -> Callable[[dict[str, Any]], Answer]:
        left = list(answers)
        return lambda _: left.pop(0) if len(left) > 1 else left[0]


class _Server(ThreadingHTTPServer):
    judge: JudgeServer
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes, and the second would wait for 40 ms
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            self._send(404, "application/json", '{"error": {"message": "no such path"}}', {})
            return
        with self.server.judge.call(body, self.headers) as answer:
            match answer:
                case str():
                    self._send(200, "application/json", json.dumps(completion(Says(answer), body)), {})
                case Says():
                    self.server.judge.closing.wait(answer.after)
                    self._send(200, "application/json", json.dumps(completion(answer, body)), {})
                case Status(status, error, headers):
                    text = error if isinstance(error, str) else json.dumps({"error": dict(error)})
                    self._send(status, "application/json" if isinstance(error, Mapping) else "text/html", text, headers)
                case Raw(text, kind):
                    self._send(200, kind, text, {})
                case Hangs(seconds):
                    self.server.judge.closing.wait(seconds)
                    self.close_connection = True
                case Drips(every):
                    self._start(200, "application/json", 10_000, {})
                    while not self.server.judge.closing.wait(every):
                        self.wfile.write(b" ")
                        self.wfile.flush()
                case Breaks():
                    self._start(200, "application/json", 10_000, {})
                    self.wfile.write(b'{"choices": [')
                    self.wfile.flush()
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                    self.connection.close()

    def _start(self, status: int, kind: str, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, status: int, kind: str, text: str, headers: Mapping[str, str]) -> None:
        raw = text.encode()
        self._start(status, kind, len(raw), headers)
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def completion(says: Says, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an answer of status 200."""
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": says.finish,
        "message": {"role": "assistant", "content": says.text, "refusal": says.refusal},
        "logprobs": None,
    }
    if says.logprobs is not None:
        listed = list(says.logprobs.items() if isinstance(says.logprobs, Mapping) else says.logprobs)
        token, value = says.chosen or listed[0]
        top = [{"token": t, "logprob": v, "bytes": list(t.encode())} for t, v in listed]
        choice["logprobs"] = {"content": [{"token": token, "logprob": value, "top_logprobs": top}]}
    usage = says.usage and {"prompt_tokens": says.usage[0], "completion_tokens": says.usage[1]}
    answered = {"object": "chat.completion", "model": says.model or body["model"], "choices": [choice], "usage": usage}
    return {"id": "chatcmpl-1", "created": 0, **answered, **says.fields}
