"""Calls of `/v1/chat/completions`: one server, one model, and the way in which it wants to be asked.

What this module does not know: stores, prices, what a reply means, when a call is made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from rmeval.engines.openai import calls, policy, wire
from rmeval.engines.openai.calls import Transport
from rmeval.engines.openai.policy import Fault
from rmeval.engines.openai.secrets import Key
from rmeval.strict_json import is_deep
from rmeval.types import Reply, Request

CONNECT = 10.0
"""Seconds until a connection must stand."""
MOST = 64 * 2**20
"""Bytes of an answer, unpacked: what a server packs small may be endless."""


@dataclass(frozen=True, slots=True)
class Server:
    """Who is asked."""

    base_url: str
    model: str
    dialect: wire.Dialect


@dataclass(frozen=True, slots=True)
class Watch:
    """What the engine wants to know while calls are made; called from the loop's thread."""

    answered: Callable[[Request, Any, Reply | None], None]
    """A decoded answer of status 200 came, and the reply where one can be read from it."""
    faulty: Callable[[Fault], None]
    """A call brought none."""
    adapted: Callable[[wire.Dialect], None]
    """The server wants to be asked in another way."""
    spent: Callable[[], str | None]
    """Why no further call is to be made, if so."""


class Client:
    """One server, one model: an `Asker`."""

    def __init__(self, server: Server, key: Key, transport: Transport, watch: Watch) -> None:
        self.base_url, self.model, self.dialect = server.base_url, server.model, server.dialect
        self.key, self.transport, self.watch = key, transport, watch
        self.who = f"{self.base_url}, model {self.model}"

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(index, reply) as each is ready, see `calls.stream`."""
        return calls.stream(self, requests, self.transport, self.key)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """The library's client."""
        async with opened(self.base_url, self.key, self.transport) as self._api:
            yield

    async def ask(self, item: Request, seconds: float) -> Reply | Fault | None:
        """One call; None where the server wants to be asked in another way, which is then remembered for all."""
        dialect = self.dialect
        got = await self._ask(item, dialect, seconds)
        return None if isinstance(got, Fault) and self._adapts(got, dialect, item) else got

    def answered(self, got: Reply, attempts: int) -> Reply:
        """A reply, which took so many calls."""
        return replace(got, attempts=attempts)

    def failed(self, item: Request, fault: Fault, attempts: int) -> Reply:
        """The reply that says why there is none."""
        del item
        return Reply(reason=fault.reason, attempts=attempts)

    def faulty(self, fault: Fault) -> None:
        """A call brought nothing."""
        self.watch.faulty(fault)

    def spent(self) -> str | None:
        """Why no further call is to be made, if so."""
        return self.watch.spent()

    def _adapts(self, fault: Fault, dialect: wire.Dialect, request: Request) -> bool:
        name = fault.refuses
        if not name or name not in wire.body(request, self.model, dialect):
            return False
        adapted = self.dialect.without(name)
        if adapted != self.dialect:  # else another call has met with the same since
            self.dialect = adapted
            self.watch.adapted(adapted)
        return adapted != dialect

    async def _ask(self, request: Request, dialect: wire.Dialect, seconds: float) -> Reply | Fault:
        asked = wire.body(request, self.model, dialect)

        async def create() -> Any:
            # the body as it stands: going through each message for fields to rename would take longer than the rest
            raw = await self._api.chat.completions.with_raw_response.create(
                model=self.model, messages=[], extra_body=asked
            )
            return raw.http_response

        answer = await answer_to(create, self.key, seconds)
        if isinstance(answer, Fault):
            return answer
        try:
            reply = wire.read(answer, request)
        except wire.Unreadable as unreadable:
            self.watch.answered(request, answer, None)
            return policy.of_answer(unreadable, datetime.now(UTC))
        self.watch.answered(request, answer, reply)
        return reply


def opened(base_url: str, key: Key, transport: Transport) -> Any:
    """The library's client, which makes one call for one call."""
    import openai

    return openai.AsyncOpenAI(
        api_key=key.value,
        base_url=base_url,
        max_retries=0,
        timeout=openai.Timeout(transport.timeout, connect=min(CONNECT, transport.timeout)),
        # a redirect would take the texts, and the verdicts, to a server that nobody named
        http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [_read]}, follow_redirects=False),
    )


async def _read(response: Any) -> None:
    held = bytearray()
    async for part in response.aiter_bytes():
        held += part
        if len(held) > MOST:
            break
    keep(held, response)


def keep(held: bytearray, response: Any) -> None:
    """Let the library have what came of an answer, as UTF-8: a header may name `hex`, with which it would fail.

    Raises its error for more than `MOST` bytes.
    """
    import openai

    response.encoding, response._content = "utf-8", held  # noqa: SLF001 - where it keeps what was read
    if len(held) > MOST:
        said = f"an answer of more than {MOST:,} bytes"
        raise openai.APIResponseValidationError(response=response, body=None, message=said)


async def answer_to(call: Callable[[], Any], key: Key, seconds: float) -> Any:
    """The decoded body of an answer of status 200 to one call of the library, or the `Fault` that came instead.

    `call` gives the library's own response, whatever its body holds.
    """
    import openai

    try:
        async with asyncio.timeout(seconds):
            response = await call()
    except (TimeoutError, openai.APITimeoutError):
        return Fault("again", "timeout", "timeout", f"no whole answer within {seconds:g} s")
    except openai.APIStatusError as fault:
        answer = decoded(key.hide(fault.response.text))
        return policy.of_status(fault.status_code, fault.response.headers, answer, datetime.now(UTC))
    except openai.APIResponseValidationError as fault:
        return Fault("again", "api_error", "too long an answer", str(fault))
    except openai.APIConnectionError as fault:
        return connection_fault(fault, key)
    except UnicodeEncodeError:
        return Fault("item", "api_error", "half a character", "the text holds one, so that it cannot be sent")
    return decoded(key.hide(response.text))


def connection_fault(fault: Exception, key: Key) -> Fault:
    """A connection that did not come about, or broke: then no whole answer came, as with a server that is silent."""
    causes: list[BaseException] = []
    cause = fault.__cause__
    while cause is not None and len(causes) < 5:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    text = key.hide("; ".join(dict.fromkeys(str(c) for c in causes if str(c))))
    if any("Connect" in type(c).__name__ and "Reset" not in type(c).__name__ for c in causes):
        return Fault("again", "api_error", "no connection", text)
    return Fault("again", "timeout", "connection broken", text)


def decoded(text: str) -> Any:
    """JSON, or the text where it is none, or nested so deeply that nothing could be made of it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if is_deep(value) else value
