"""Many calls of a server at once: asked again by the policy, paused together, stopped together.

The calls live on an event loop in a thread of its own, so that this works inside a notebook's loop, too. A reply counts
as taken when the taker comes back for the next. Calls under way and replies not taken are together no more than
`concurrency` and an eighth: that is what a kill may lose, and what memory holds however long the list is.

What this module does not know: stores, prices, what a reply means.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from rmeval.engines.openai import policy, wire
from rmeval.engines.openai.policy import Breaker, Fault
from rmeval.engines.openai.secrets import Key
from rmeval.errors import CheckFailed
from rmeval.types import Reply, Request

_Line: TypeAlias = "queue.SimpleQueue[tuple[int, Reply] | BaseException | None]"
"""From the loop's thread to the taker: replies, then an exception or None."""

CONNECT = 10.0
"""Seconds until a connection must stand."""

_KEPT = "What was answered is kept: the same command goes on from there"


@dataclass(frozen=True, slots=True)
class Transport:
    """How calls are made. Nothing of it changes an answer."""

    concurrency: int = 16
    """Calls at once."""
    attempts: int = 8
    """Calls per request at most."""
    timeout: float = 120.0
    """Seconds per call, from its first byte to the last of the answer."""
    deadline: float = 900.0
    """Seconds per request with all its calls and waits."""
    max_wait: float = 120.0
    """Seconds that a server may ask to wait; for a longer wait the request is given up."""
    backoff: float = 0.5
    """Seconds of the first wait of our own choosing, at most."""
    give_up: int = 10
    """Failed requests in a row that stop the run."""


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
    """One server, one model."""

    def __init__(self, server: Server, key: Key, transport: Transport, watch: Watch) -> None:
        self.base_url, self.model, self.dialect = server.base_url, server.model, server.dialect
        self.key, self.transport, self.watch = key, transport, watch

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(index, reply) as each is ready. Closing the iterator cancels what is under way.

        Raises `CheckFailed` where the run is to stop, after all replies that came before.
        """
        import openai  # noqa: F401 - its loggers must be there to be given a filter

        line: _Line = queue.SimpleQueue()
        calls = _Calls(self, requests, line)
        thread = threading.Thread(target=calls.run, name="judge calls", daemon=True)
        with self.key.hidden_in_logs():
            thread.start()
            try:
                while (got := line.get()) is not None:
                    if isinstance(got, BaseException):
                        raise got from None
                    yield got
                    calls.acknowledge()
            finally:
                calls.cancel()
                thread.join()


class _Calls:
    """The calls of one stream."""

    def __init__(self, client: Client, requests: Sequence[Request], line: _Line) -> None:
        self.client, self.requests, self.line = client, requests, line
        self._opened = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._who = f"{client.base_url}, model {client.model}"

    # the taker's thread

    def acknowledge(self) -> None:
        """The last reply taken is safe: there is room for another call."""
        self._tell(self._room.release)

    def cancel(self) -> None:
        """Break off whatever is under way."""
        self._opened.wait()
        self._tell(lambda: self._task.cancel() if self._task else None)

    def _tell(self, what: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: all is done
            if self._loop is not None:
                self._loop.call_soon_threadsafe(what)

    # the loop's thread

    def run(self) -> None:
        """All calls, from the first to the end of the line."""
        end: BaseException | None = None
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass
        except BaseExceptionGroup as faults:
            end = _first(faults)
        except BaseException as fault:  # noqa: BLE001 - it is raised in the taker's thread
            end = fault
        finally:
            self._opened.set()
            self.line.put(end)

    async def _main(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        transport = self.client.transport
        self._lines = asyncio.Semaphore(transport.concurrency)
        # Without the eighth a busy loop would keep the taker waiting for the interpreter, and new calls for the taker:
        # calls would start in bursts, and their replies come in bursts, ever again.
        self._room = asyncio.Semaphore(transport.concurrency + transport.concurrency // 8)
        self._paused_until = 0.0
        self._draws = random.Random(0)  # noqa: S311 - spreads calls over time, no secret
        self._breaker = Breaker(transport.give_up)
        self._opened.set()
        import openai

        async with (
            openai.AsyncOpenAI(
                api_key=self.client.key.value,
                base_url=self.client.base_url,
                max_retries=0,
                timeout=openai.Timeout(transport.timeout, connect=min(CONNECT, transport.timeout)),
            ) as self._api,
            asyncio.TaskGroup() as group,
        ):
            stop = None
            for i, request in enumerate(self.requests):
                await self._room.acquire()
                await self._lines.acquire()
                if stop := self.client.watch.spent():
                    break
                group.create_task(self._settle(i, request))
        if stop:
            raise CheckFailed(stop)

    async def _settle(self, i: int, request: Request) -> None:
        """Ask until there is a reply or no hope of one, and hand it over."""
        loop = asyncio.get_running_loop()
        end, attempt = loop.time() + self.client.transport.deadline, 0
        while True:
            while (pause := self._paused_until - loop.time()) > 0:  # noqa: ASYNC110 - others may prolong it
                await asyncio.sleep(pause)
            attempt += 1
            dialect = self.client.dialect
            got = await self._ask(request, dialect, min(self.client.transport.timeout, max(end - loop.time(), 0.01)))
            if isinstance(got, Reply):
                self._hand_over(i, replace(got, attempts=attempt), None)
                return
            if self._adapts(got, dialect, request):
                continue
            self.client.watch.faulty(got)
            if got.scope == "run":
                raise CheckFailed(f"{self._who}: {got}. {_KEPT}")
            wait = self._wait(got, attempt)
            if wait is None or max(loop.time() + wait, self._paused_until) > end:
                self._hand_over(i, Reply(reason=got.reason, attempts=attempt), got)
                return
            if got.shared:
                self._paused_until = max(self._paused_until, loop.time() + (got.after or wait))
            await asyncio.sleep(wait)

    def _wait(self, fault: Fault, attempt: int) -> float | None:
        """Seconds until it is asked again; None to give up."""
        transport = self.client.transport
        if fault.scope == "item" or attempt >= transport.attempts:
            return None
        return policy.wait(fault, attempt, self._draws, backoff=transport.backoff, longest=transport.max_wait)

    def _adapts(self, fault: Fault, dialect: wire.Dialect, request: Request) -> bool:
        """Whether the server wants to be asked in another way, which is then remembered for all."""
        name = fault.refuses
        if not name or name not in wire.body(request, self.client.model, dialect):
            return False
        adapted = self.client.dialect.without(name)
        if adapted != self.client.dialect:  # else another call has met with the same since
            self.client.dialect = adapted
            self.client.watch.adapted(adapted)
        return adapted != dialect

    def _hand_over(self, i: int, reply: Reply, fault: Fault | None) -> None:
        failed = fault is not None and fault.reason in ("api_error", "timeout")
        why = self._breaker.record(str(fault) if failed else None)
        self.line.put((i, reply))
        self._lines.release()
        if why:
            raise CheckFailed(f"{self._who}: stopped, since {why}. {_KEPT}")

    async def _ask(self, request: Request, dialect: wire.Dialect, seconds: float) -> Reply | Fault:
        """One call."""
        import openai

        client = self.client
        asked = wire.body(request, client.model, dialect)
        try:
            async with asyncio.timeout(seconds):
                # the body as it stands: going through each message for fields to rename would take longer than the rest
                raw = await self._api.chat.completions.with_raw_response.create(
                    model=client.model, messages=[], extra_body=asked
                )
        except (TimeoutError, openai.APITimeoutError):
            return Fault("again", "timeout", "timeout", f"no whole answer within {seconds:g} s")
        except openai.APIStatusError as fault:
            answer = decoded(client.key.hide(fault.response.text))
            return policy.of_status(fault.status_code, fault.response.headers, answer, datetime.now(UTC))
        except openai.APIConnectionError as fault:
            return connection_fault(fault, client.key)
        except UnicodeEncodeError:
            return Fault("item", "api_error", "half a character", "the text holds one, so that it cannot be sent")
        answer = decoded(client.key.hide(raw.http_response.text))
        try:
            reply = wire.read(answer, request)
        except wire.Unreadable as unreadable:
            client.watch.answered(request, answer, None)
            return policy.of_answer(unreadable, datetime.now(UTC))
        client.watch.answered(request, answer, reply)
        return reply


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
    """JSON, or the text where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _first(fault: BaseException) -> BaseException:
    """The first single exception in a group."""
    return _first(fault.exceptions[0]) if isinstance(fault, BaseExceptionGroup) else fault
