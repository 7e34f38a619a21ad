"""Many calls at once: asked again by the policy, paused together, stopped together.

The calls live on an event loop in a thread of its own, so that this works inside a notebook's loop, too. An answer
counts as taken when the taker comes back for the next. Calls under way and answers not taken are together no more than
`concurrency` and an eighth: that is what a kill may lose, and what memory holds however long the list is.

What this module does not know: what is asked, and of whom; stores, prices.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from rmeval.engines.openai import policy
from rmeval.engines.openai.policy import Breaker, Fault
from rmeval.engines.openai.secrets import Key
from rmeval.errors import CheckFailed, UsageError

Item = TypeVar("Item")
Asked_contra = TypeVar("Asked_contra", contravariant=True)
Got = TypeVar("Got")
_Line: TypeAlias = "queue.SimpleQueue[tuple[int, Got] | BaseException | None]"
"""From the loop's thread to the taker: answers, then an exception or None."""

KEPT = "What was answered is kept: the same command goes on from there"


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

    def refuse_unusable(self) -> None:
        """Raise `UsageError` for a number that no run could be made with."""
        whole, seconds = ("concurrency", "attempts", "give_up"), ("timeout", "deadline", "max_wait")
        for name in whole:
            if not 1 <= getattr(self, name) <= 1000:
                raise UsageError(f"engine.{name}={getattr(self, name)}: from 1 to 1000")
        for name in (*seconds, "backoff"):
            value = getattr(self, name)
            if not 0 <= value < float("inf") or (value == 0 and name in seconds):
                raise UsageError(f"engine.{name}={value}: a number of seconds above 0")


class Asker(Protocol[Asked_contra, Got]):
    """Who asks: what is particular about one kind of server. All of it runs on the loop's thread."""

    @property
    def who(self) -> str:
        """The server, for messages."""
        ...

    def connected(self) -> AbstractAsyncContextManager[object]:
        """What must be open while calls are made."""
        ...

    async def ask(self, item: Asked_contra, seconds: float) -> Got | Fault | None:
        """One call. None: the server wants to be asked in another way, which is known now: ask again at once."""
        ...

    def answered(self, got: Got, attempts: int) -> Got:
        """An answer, which took so many calls."""
        ...

    def failed(self, item: Asked_contra, fault: Fault, attempts: int) -> Got:
        """What stands for an answer that never came."""
        ...

    def faulty(self, fault: Fault) -> None:
        """A call brought nothing."""
        ...

    def spent(self) -> str | None:
        """Why no further call is to be made, if so."""
        ...


def stream(asker: Asker[Item, Got], items: Sequence[Item], transport: Transport, key: Key) -> Iterator[tuple[int, Got]]:
    """(index, answer) as each is ready. Closing the iterator cancels what is under way.

    Raises `CheckFailed` where the run is to stop, after all answers that came before.
    """
    import openai  # noqa: F401 - its loggers must be there to be given a filter

    line: _Line[Got] = queue.SimpleQueue()
    calls = _Calls(asker, items, transport, line)
    thread = threading.Thread(target=calls.run, name="calls", daemon=True)
    with key.hidden_in_logs():
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


class _Calls(Generic[Item, Got]):
    """The calls of one stream."""

    def __init__(self, asker: Asker[Item, Got], items: Sequence[Item], transport: Transport, line: _Line[Got]) -> None:
        self.asker, self.items, self.transport, self.line = asker, items, transport, line
        self._opened = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    # the taker's thread

    def acknowledge(self) -> None:
        """The last answer taken is safe: there is room for another call."""
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
        transport = self.transport
        self._lines = asyncio.Semaphore(transport.concurrency)
        # Without the eighth a busy loop would keep the taker waiting for the interpreter, and new calls for the taker:
        # calls would start in bursts, and their replies come in bursts, ever again.
        self._room = asyncio.Semaphore(transport.concurrency + transport.concurrency // 8)
        self._paused_until = 0.0
        self._draws = random.Random(0)  # noqa: S311 - spreads calls over time, no secret
        self._breaker = Breaker(transport.give_up)
        self._stop, self._stopped = "", asyncio.Event()
        self._opened.set()
        async with self.asker.connected(), asyncio.TaskGroup() as group:
            for i, item in enumerate(self.items):
                await self._room.acquire()
                await self._lines.acquire()
                self._halt(self.asker.spent() or "")
                if self._stop:
                    break
                group.create_task(self._settle(i, item))
        if self._stop:
            raise CheckFailed(self._stop)

    async def _settle(self, i: int, item: Item) -> None:
        """Ask until there is an answer or no hope of one, and hand it over."""
        loop = asyncio.get_running_loop()
        end, attempt = loop.time() + self.transport.deadline, 0
        while True:
            while not self._stop and (pause := self._paused_until - loop.time()) > 0:  # others may prolong it
                await self._sleep(pause)
            if self._stop:
                return
            attempt += 1
            got = await self.asker.ask(item, min(self.transport.timeout, max(end - loop.time(), 0.01)))
            if got is None:
                continue
            if not isinstance(got, Fault):
                self._hand_over(i, self.asker.answered(got, attempt), None)
                return
            self.asker.faulty(got)
            if got.scope == "run":
                self._halt(f"{self.asker.who}: {str(got).rstrip('.')}. {KEPT}")
                self._room.release()
                self._lines.release()
                return
            wait = self._wait(got, attempt)
            if wait is None or max(loop.time() + wait, self._paused_until) > end:
                self._hand_over(i, self.asker.failed(item, got, attempt), got)
                return
            if got.shared:
                self._paused_until = max(self._paused_until, loop.time() + (got.after or wait))
            await self._sleep(wait)

    def _halt(self, why: str) -> None:
        """No call begins any more; those under way are heard out, for they may have cost something."""
        self._stop = self._stop or why
        if self._stop:
            self._stopped.set()

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    def _wait(self, fault: Fault, attempt: int) -> float | None:
        """Seconds until it is asked again; None to give up."""
        transport = self.transport
        if fault.scope == "item" or attempt >= transport.attempts:
            return None
        return policy.wait(fault, attempt, self._draws, backoff=transport.backoff, longest=transport.max_wait)

    def _hand_over(self, i: int, got: Got, fault: Fault | None) -> None:
        failed = fault is not None and fault.reason in ("api_error", "timeout")
        why = self._breaker.record(str(fault) if failed else None)
        self.line.put((i, got))
        self._lines.release()
        if why:
            raise CheckFailed(f"{self.asker.who}: stopped, since {why.rstrip('.')}. {KEPT}")


def _first(fault: BaseException) -> BaseException:
    """The first single exception in a group."""
    return _first(fault.exceptions[0]) if isinstance(fault, BaseExceptionGroup) else fault
