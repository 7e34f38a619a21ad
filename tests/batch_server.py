"""A judge that also takes batches: `/v1/files` and `/v1/batches` beside the `/v1/chat/completions` of `JudgeServer`.

    with BatchServer(lambda body: "[[A]]") as server:
        rmeval("run", "judge:scripted", "--base-url", server.url, "-a", "engine.batch=true", ...)
        assert [len(batch.lines) for batch in server.batches] == [20]

A batch is done at its third look. What its files then hold is what the script says line by line, unless `ends` says how
the batches end, in their turn; `trouble` holds answers that are given first, by "METHOD /path".
"""

from __future__ import annotations

import email
import email.policy
import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from judge_server import Answer, JudgeServer, Says, Status, _Handler, completion


@dataclass
class Batch:
    """A batch, as the server keeps it."""

    id: str
    file: str
    lines: list[dict[str, Any]]
    """The requests."""
    status: str = "validating"
    looks: int = 0
    output: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [line["custom_id"] for line in self.lines]

    @property
    def prompts(self) -> list[str]:
        return [line["body"]["messages"][-1]["content"] for line in self.lines]

    def described(self) -> dict[str, Any]:
        done = self.status in ("completed", "expired", "cancelled")
        return {
            "id": self.id,
            "object": "batch",
            "status": self.status,
            "input_file_id": self.file,
            "output_file_id": f"{self.id}-output" if done and self.output else None,
            "error_file_id": f"{self.id}-faults" if done and self.faults else None,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "request_counts": {
                "total": len(self.lines), "completed": len(self.output), "failed": len(self.faults),
            },
        }  # fmt: skip


End: TypeAlias = Callable[[Batch], None]


@dataclass(frozen=True)
class AfterThat:
    """What is asked for is done, and then the connection breaks."""


class BatchServer(JudgeServer):
    """See above. `ends` change a batch whose files are written, each one batch, the last for ever."""

    def __init__(
        self, script: Callable[[dict[str, Any]], Answer] | Answer, *ends: End, looks: float = 2, most: int = 10**9
    ) -> None:
        super().__init__(script)
        self._http.RequestHandlerClass = _BatchHandler
        self.ends, self.looks, self.most = list(ends), looks, most
        """So many looks find a batch under way; more requests in all of them than `most` are not taken."""
        self.files: dict[str, bytes] = {}
        self.batches: list[Batch] = []
        self.trouble: dict[str, list[Status | AfterThat]] = {}
        self.asked: list[str] = []
        """METHOD /path of everything."""
        self.keys: set[str] = set()
        """Authorization headers that came."""
        self.lock = threading.Lock()

    def begin(self, file: str) -> Batch:
        lines = [json.loads(line) for line in self.files[file].split(b"\n") if line]
        batch = Batch(f"batch_{len(self.batches)}", file, lines)
        self.batches.append(batch)
        assert len(set(batch.ids)) == len(batch.ids)
        assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}
        under_way = sum(len(b.lines) for b in self.batches if b.status in ("validating", "in_progress"))
        if under_way > self.most:
            batch.status = "failed"
            batch.errors = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached."}]
        return batch

    def look(self, batch: Batch) -> None:
        """Time goes by as it is looked at."""
        batch.looks += 1
        if batch.status == "validating":
            batch.status = "in_progress"
        elif batch.status == "in_progress" and batch.looks > self.looks:
            batch.status = "completed"
            for line in batch.lines:
                self._answer(batch, line)
            if self.ends:
                (self.ends.pop(0) if len(self.ends) > 1 else self.ends[0])(batch)

    def _answer(self, batch: Batch, line: dict[str, Any]) -> None:
        answer = self._script(line["body"]) if callable(self._script) else self._script
        if isinstance(answer, Status):
            error = answer.error if isinstance(answer.error, str) else {"error": dict(answer.error)}
            said = {"status_code": answer.status, "body": error}
        else:
            says = Says(answer) if isinstance(answer, str) else answer
            said = {"status_code": 200, "body": completion(says, line["body"])}
        done = {"id": "batch_req", "custom_id": line["custom_id"], "response": said, "error": None}
        (batch.output if said["status_code"] == 200 else batch.faults).append(json.dumps(done))


def expired(line: dict[str, Any]) -> str:
    """The line of a request that no time was left for."""
    error = {"code": "batch_expired", "message": "not executed within the completion window"}
    return json.dumps({"id": "batch_req", "custom_id": line["custom_id"], "response": None, "error": error})


def expires(answered: int) -> End:
    """It runs out of time after so many."""

    def end(batch: Batch) -> None:
        batch.status = "expired"
        batch.output = batch.output[:answered]
        batch.faults = [expired(line) for line in batch.lines[answered:]]

    return end


def as_it_came(_: Batch) -> None:
    """All is well."""


def in_disorder(missing: int, twice: int) -> End:
    """So many lines are missing, so many come twice, none stands in its place."""

    def end(batch: Batch) -> None:
        batch.output = batch.output[missing:]
        batch.output += batch.output[:twice]
        random.Random(3).shuffle(batch.output)

    return end


class _BatchHandler(_Handler):
    def do_GET(self) -> None:  # noqa: N802 - the library's name
        self._take("GET", b"")

    def do_POST(self) -> None:  # noqa: N802 - the library's name
        if self.path == "/v1/chat/completions":
            super().do_POST()
        else:
            self._take("POST", self.rfile.read(int(self.headers["Content-Length"])))

    def _take(self, method: str, raw: bytes) -> None:
        server, path = self.server.judge, urlsplit(self.path).path
        with server.lock:
            server.asked.append(f"{method} {path}")
            server.keys.add(self.headers["Authorization"])
            trouble = server.trouble.get(f"{method} {path}") or [None]
            now = trouble.pop(0)
            if isinstance(now, Status):
                self._send(now.status, "application/json", json.dumps({"error": dict(now.error)}), now.headers)
                return
            answer = self._done(method, path.removeprefix("/v1").split("/")[1:], raw)
        if isinstance(now, AfterThat):
            self._start(200, "application/json", 10_000, {})
            self.wfile.write(b'{"id')
            self.wfile.flush()
            self.close_connection = True
        elif answer is None:
            self._send(404, "application/json", json.dumps({"error": {"message": f"no such thing: {path}"}}), {})
        else:
            self._send(200, "application/json", answer, {})

    def _done(self, method: str, path: list[str], raw: bytes) -> str | None:
        server = self.server.judge
        known = {batch.id: batch for batch in server.batches}
        match method, path:
            case "POST", ["files"]:
                name = f"file-{len(server.files)}"
                server.files[name] = _uploaded(self.headers["Content-Type"], raw)
                return json.dumps({"id": name, "object": "file"})
            case "POST", ["batches"]:
                asked = json.loads(raw)
                assert (asked["endpoint"], asked["completion_window"]) == ("/v1/chat/completions", "24h")
                return json.dumps(server.begin(asked["input_file_id"]).described())
            case "GET", ["batches"]:
                after = parse_qs(urlsplit(self.path).query).get("after", [None])[0]
                names = [batch.id for batch in reversed(server.batches)]
                rest = names[names.index(after) + 1 :] if after else names
                page = [known[name].described() for name in rest[:2]]  # small pages, so that there are several
                return json.dumps({"object": "list", "data": page, "has_more": len(rest) > 2})
            case "GET", ["batches", name] if name in known:
                server.look(known[name])
                return json.dumps(known[name].described())
            case "GET", ["files", name, "content"]:
                batch = known.get(name.rpartition("-")[0])
                if batch is not None:
                    return "".join(f"{line}\n" for line in (batch.output if "output" in name else batch.faults))
        return None


def _uploaded(kind: str, raw: bytes) -> bytes:
    """The file in an upload of purpose batch."""
    message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + raw, policy=email.policy.HTTP)
    parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
    assert parts["purpose"].get_payload(decode=True).strip() == b"batch"
    return parts["file"].get_payload(decode=True)
