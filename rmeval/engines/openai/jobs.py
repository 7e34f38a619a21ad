"""The calls that a batch takes at a server: upload, begin, look, fetch. Each is made again by the policy.

A batch is begun once: before a call that begins one is made again, the batches at the server are searched for the
uploaded file, so that neither a broken connection nor a kill between the call and its answer pays for it twice.

Limits as documented for OpenAI's API (read on 2026-11-22): 50,000 requests and 200 MB a file, a window of 24 h.

What this module does not know: what is in the files, which request is which.
"""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, Final, Self

from rmeval.engines.openai import policy
from rmeval.engines.openai.calls import Transport
from rmeval.engines.openai.client import CONNECT, MOST, connection_fault, decoded, keep
from rmeval.engines.openai.policy import Fault
from rmeval.engines.openai.secrets import Key
from rmeval.errors import CheckFailed

ENDPOINT: Final = "/v1/chat/completions"
WINDOW: Final = "24h"
MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000

ENDED = ("completed", "failed", "expired", "cancelled")


class Gone(Exception):  # noqa: N818 - it is about what was asked for
    """The server does not know what it was asked for (404)."""


class Refused(CheckFailed):
    """A call that will never be taken as it is, so that nothing has come of it."""


class _Foreign(Exception):  # noqa: N818 - it is about an answer
    """An answer of status 200 that is none of such a server."""


@dataclass(frozen=True, slots=True)
class State:
    """A batch as the server describes it."""

    id: str
    status: str
    """In lower case, as some servers write it in upper."""
    done: int
    failed: int
    files: tuple[str, ...]
    """What can be fetched: the file of answers, the file of faults; none, one or both."""
    code: str = ""
    """Why it failed as a whole, in the server's word: `token_limit_exceeded`."""
    why: str = ""
    """And in its sentence."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ENDED


class Calls:
    """The calls of one server. Use as a context."""

    def __init__(self, base_url: str, key: Key, transport: Transport, faulty: Callable[[Fault], None]) -> None:
        self.base_url, self.key, self.transport, self.faulty = base_url, key, transport, faulty
        self._draws = random.Random(0)  # noqa: S311 - spreads calls over time, no secret
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        import openai

        timeout = openai.Timeout(self.transport.timeout, connect=min(CONNECT, self.transport.timeout))
        self._open.enter_context(self.key.hidden_in_logs())
        self._api = self._open.enter_context(
            openai.OpenAI(
                api_key=self.key.value,
                base_url=self.base_url,
                max_retries=0,
                timeout=timeout,
                http_client=openai.DefaultHttpxClient(event_hooks={"response": [_read]}, follow_redirects=False),
            )
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def upload(self, handle: IO[bytes]) -> str:
        """The id of a file of requests."""

        def make() -> Any:
            handle.seek(0)
            raw = self._api.files.with_raw_response.create(
                file=("requests.jsonl", handle, "application/jsonl"), purpose="batch"
            )
            return raw.http_response.text

        try:
            return _id(self._json(make, "a file"))
        except Gone as gone:
            raise CheckFailed(f"{self.base_url} takes no batches: {gone}. Leave -a engine.batch= out") from None

    def begin(self, file: str, *, search: bool) -> str:
        """The id of the batch of a file, `search` where it may have been begun before.

        Raises `Refused` where it has not been begun and never will be.
        """
        tries = int(search)

        def make() -> Any:
            nonlocal tries
            tries += 1  # should no answer come, it may have been begun all the same
            if tries > 1 and (found := self._batch_of(file)):
                return found
            raw = self._api.batches.with_raw_response.create(
                input_file_id=file, endpoint=ENDPOINT, completion_window=WINDOW
            )
            return raw.http_response.text

        try:
            return _id(self._json(make, "a batch"))
        except Gone as gone:
            raise Refused(f"{self.base_url} takes no batches: {gone}. Leave -a engine.batch= out") from None
        except Refused as refused:
            raise (refused if tries == 1 else CheckFailed(str(refused))) from None

    def look(self, batch: str) -> State:
        """How a batch stands. Raises `Gone` where the server knows none of this id."""
        return _state(self._json(lambda: self._api.batches.with_raw_response.retrieve(batch).http_response.text, batch))

    @contextlib.contextmanager
    def fetched(self, file: str) -> Iterator[Iterator[Any]]:
        """The lines of a file, decoded; a torn one as its text. Raises `Gone` for a file that is no longer there."""
        with tempfile.TemporaryFile() as handle:

            def make() -> None:
                handle.seek(0)
                handle.truncate()
                with self._api.files.with_streaming_response.content(file) as answer:
                    for block in answer.iter_bytes():
                        handle.write(block)

            self._made(make)
            handle.seek(0)
            lines = iter(lambda: handle.readline(MOST), b"")  # what is longer comes in parts, each torn
            yield (decoded(self.key.hide(line.decode("utf-8", "replace"))) for line in lines if line.strip())

    def _batch_of(self, file: str) -> str | None:
        """What the server says of the batch that reads a file, as JSON; None where there is none."""
        after: dict[str, Any] = {}
        while True:
            found = decoded(self._api.batches.with_raw_response.list(limit=100, **after).http_response.text)
            batches = found.get("data") if isinstance(found, Mapping) else None
            if not isinstance(batches, list):
                raise _Foreign("no list of batches")
            for one in batches:
                if isinstance(one, Mapping) and one.get("input_file_id") == file:
                    return json.dumps(one)
            if not found.get("has_more") or not batches:
                return None
            after = {"after": batches[-1]["id"]}

    def _json(self, make: Callable[[], Any], what: str) -> Mapping[str, Any]:
        """A call whose answer is a JSON object with an id."""

        def made() -> Mapping[str, Any]:
            answer = decoded(self.key.hide(make()))
            if not isinstance(answer, Mapping) or not isinstance(answer.get("id"), str):
                raise _Foreign(f"the answer about {what} is no JSON object with an id")
            return answer

        found: Mapping[str, Any] = self._made(made)
        return found

    def _made(self, make: Callable[[], Any]) -> Any:
        """A call, made again as the policy says. Raises `Gone`, or `CheckFailed` where there is no hope."""
        import openai

        attempt = 0
        while True:
            attempt += 1
            try:
                return make()
            except openai.NotFoundError as fault:
                raise Gone(self.key.hide(fault.message)) from None
            except openai.APITimeoutError:
                found = Fault("again", "timeout", "timeout", f"silence for {self.transport.timeout:g} s")
            except openai.APIStatusError as fault:
                answer = decoded(self.key.hide(fault.response.text))
                found = policy.of_status(fault.status_code, fault.response.headers, answer, datetime.now(UTC))
            except openai.APIConnectionError as fault:
                found = connection_fault(fault, self.key)
            except _Foreign as fault:
                found = Fault("again", "api_error", "unreadable answer", str(fault))
            except openai.APIResponseValidationError as fault:
                found = Fault("again", "api_error", "too long an answer", str(fault))
            except openai.OpenAIError:
                raise
            except Exception as fault:
                # a body that breaks off while it is read raises the transport library's own, of a name of each version
                if not type(fault).__module__.startswith(("httpx", "httpcore")):
                    raise
                found = connection_fault(fault, self.key)
            self.faulty(found)
            seconds = policy.wait(
                found, attempt, self._draws, backoff=self.transport.backoff, longest=self.transport.max_wait
            )
            if found.scope != "again":
                raise Refused(f"{self.base_url}: {found}") from None
            if attempt >= self.transport.attempts or seconds is None:
                raise CheckFailed(f"{self.base_url}: {found}") from None
            time.sleep(seconds)


def _read(response: Any) -> None:
    """Take an answer in; a file is read when it is written to disk."""
    if response.is_success and response.request.url.path.endswith("/content"):
        return
    held = bytearray()
    for part in response.iter_bytes():
        held += part
        if len(held) > MOST:
            break
    keep(held, response)


def _id(answer: Mapping[str, Any]) -> str:
    return str(answer["id"])


def _state(batch: Mapping[str, Any]) -> State:
    """A batch in our words."""
    counts = batch.get("request_counts")
    done, failed = (
        n if isinstance(counts, Mapping) and isinstance(n := counts.get(name), int) else 0
        for name in ("completed", "failed")
    )
    files = tuple(f for name in ("output_file_id", "error_file_id") if isinstance(f := batch.get(name), str) and f)
    errors = batch.get("errors")
    listed = errors.get("data") if isinstance(errors, Mapping) else None
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], Mapping) else {}
    code, why = (" ".join(str(first.get(name) or "").split())[:300] for name in ("code", "message"))
    return State(_id(batch), str(batch.get("status", "")).lower(), done, failed, files, code, why)
