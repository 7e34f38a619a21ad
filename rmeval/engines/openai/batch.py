"""Requests by batch: handed to a server as a file, collected within a day, often at a lower price.

    queued -> uploaded -> begun -> looked at until it has ended -> collected
       ^                                                             |
       +--- missing, expired, or a fault for which one asks again ---+

What is under way stands in the memory that the engine is given, before it is begun: a killed run goes on by the batch's
id. A line is told by its custom_id, which is the store key of its request: its place in the file means nothing. Answers
are read as those of single calls are, so that both are stored alike.

What this module does not know: how a call is made, what a verdict is, who runs it.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from rmeval.engines.openai import jobs, policy, wire
from rmeval.engines.openai.calls import Transport
from rmeval.engines.openai.client import Server, Watch
from rmeval.engines.openai.jobs import Calls, Gone, Refused, State
from rmeval.engines.openai.policy import Fault
from rmeval.engines.openai.secrets import Key
from rmeval.errors import CheckFailed
from rmeval.progress import note
from rmeval.protocols import Memory
from rmeval.types import Reply, Request

FIRST_LOOK = 2.0
"""Seconds until the first look at a batch; each next wait is twice as long, up to `Settings.poll`."""

_FRUITLESS = 2
"""Batches in a row without a single answer that stop the run."""

_MISSING = Fault("again", "api_error", "missing", "the files of the batch say nothing of a request")

_CROWDED = "token_limit_exceeded"
"""OpenAI's word for more tokens waiting in batches than the account may have."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How batches are made. Nothing of it changes an answer."""

    size: int = jobs.MOST_REQUESTS
    """Requests per batch at most."""
    poll: float = 60.0
    """Seconds between two looks, once nothing has changed for a while."""
    drop: str = ""
    """A batch that is given up, by its id: its requests are asked anew."""


@dataclass(slots=True)
class _Job:
    """A batch under way, as it is kept."""

    file: str
    """The uploaded file's id, which is also the job's name."""
    keys: list[str]
    attempt: int
    """The most often that one of its requests has been handed in."""
    submitted_at: int
    """Seconds since 1970."""
    batch: str | None = None
    """The batch's id, None until it is known to have been begun."""

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.submitted_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"batch {self.batch or f'of file {self.file}'} ({len(self.keys):,} requests, handed in {when})"


@dataclass(frozen=True, slots=True)
class Budget:
    """What bounds the batches that are begun."""

    left: Callable[[], float]
    """What may still be spent."""
    most: Callable[[Request], float]
    """What a request costs should it be answered at its longest."""


def waiting(memory: Memory, requests: Sequence[Request]) -> dict[str, int]:
    """Batch -> how many of the requests are under way in it."""
    jobs_ = memory.jobs()
    keys = {memory.key(request) for request in requests} if jobs_ else set()
    found = {job["batch"] or name: len(keys.intersection(job["keys"])) for name, job in jobs_.items()}
    return {batch: n for batch, n in found.items() if n}


class Batches:
    """One server, one model, by the batch."""

    def __init__(  # noqa: PLR0917 - what a client takes, and two more
        self, server: Server, key: Key, transport: Transport, watch: Watch, settings: Settings, memory: Memory
    ) -> None:
        self.server, self.key, self.transport, self.watch = server, key, transport, watch
        self.settings, self.memory = settings, memory

    def stream(self, requests: Sequence[Request], budget: Budget | None = None) -> Iterator[tuple[int, Reply]]:
        """(index, reply) batch by batch.

        Raises `CheckFailed` where the run is to stop, after all replies that came before.
        """
        with Calls(self.server.base_url, self.key, self.transport, self.watch.faulty) as calls:
            run = _Run(self, calls, requests, budget)
            try:
                yield from run.all()
            except BaseException:
                for job in run.under_way:
                    note(f"{job} goes on at the server: the same command collects it")
                raise


@dataclass(slots=True)
class _Found:
    """What the files of one batch hold."""

    settled: set[str] = field(default_factory=set)
    """Keys with a reply."""
    faults: dict[str, Fault] = field(default_factory=dict)
    twice: int = 0
    foreign: int = 0
    torn: int = 0

    def __str__(self) -> str:
        """What is odd about them, "" where nothing is."""
        kinds = (self.twice, "answered twice"), (self.foreign, "of no request of ours"), (self.torn, "torn")
        return ", ".join(f"{n:,} {kind}" for n, kind in kinds if n)


class _Run:
    """The batches of one stream."""

    def __init__(self, of: Batches, calls: Calls, requests: Sequence[Request], budget: Budget | None) -> None:
        self.of, self.calls, self.budget = of, calls, budget
        self.memory, self.dialect, self.size = of.memory, of.server.dialect, of.settings.size
        self.requests: dict[str, Request] = {}
        self.places: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            key = self.memory.key(request)
            self.requests.setdefault(key, request)
            self.places.setdefault(key, []).append(i)
        self.attempts = dict.fromkeys(self.requests, 0)
        self.queue: deque[str] = deque()
        self.under_way: list[_Job] = []
        self.crowded = False
        """Whether the server takes no further batch before one has ended."""
        self.fruitless = 0
        """Batches in a row of which nothing came."""
        self.silent = 0
        """Looks in a row without an answer."""

    def all(self) -> Iterator[tuple[int, Reply]]:
        """Every reply."""
        self._recall()
        held = {key for job in self.under_way for key in job.keys}
        for key, request in self.requests.items():
            if not _sendable(wire.body(request, self.of.server.model, self.dialect)):
                yield from self._replies(key, Reply(reason="api_error"))
            elif key not in held:
                self.queue.append(key)
        shown: dict[str, tuple[str, int]] = {}
        first = seconds = min(FIRST_LOOK, self.of.settings.poll)
        while self.queue or self.under_way:
            while self.queue and not self.crowded and self._hand_in():
                seconds = first
            for job in list(self.under_way):
                if (state := self._look(job)) is None:
                    continue
                if shown.get(job.file) != (now := (state.status, state.done * 10 // len(job.keys))):
                    shown[job.file], seconds = now, first
                    failed = f", {state.failed:,} failed" if state.failed else ""
                    note(f"batch {job.batch}: {state.status}, {state.done:,} of {len(job.keys):,} done{failed}")
                if state.ended:
                    yield from self._end(job, state)
            if self.under_way:
                time.sleep(seconds)
                seconds = min(seconds * 2, self.of.settings.poll)

    # what an earlier process has left

    def _recall(self) -> None:
        for kept in self.memory.jobs().values():
            job = _Job(**kept)
            open_ = set(self.memory.unanswered(job.keys))
            if not open_ or (self.of.settings.drop and self.of.settings.drop in (job.batch, job.file)):
                self.memory.drop(job.file)
            elif mine := open_ & self.requests.keys():
                self.attempts.update(dict.fromkeys(mine, job.attempt))
                note(f"{job} is under way: it is waited for, and nothing of it is asked again")
                self._begin(job, search=True)

    # handing in

    def _hand_in(self) -> bool:
        """Begin one more batch of what is queued. False where the budget has no room while others are under way."""
        keys: list[str] = []
        room, size = self._room(), 0
        with tempfile.TemporaryFile() as handle:
            while self.queue and len(keys) < self.size:
                request = self.requests[self.queue[0]]
                body = wire.body(request, self.of.server.model, self.dialect)
                asked = {"custom_id": self.queue[0], "method": "POST", "url": jobs.ENDPOINT, "body": body}
                line = json.dumps(asked).encode() + b"\n"
                cost = self.budget.most(request) if self.budget else 0.0
                if cost > room or (keys and size + len(line) > jobs.MOST_BYTES):
                    break
                handle.write(line)
                keys.append(self.queue.popleft())
                room, size = room - cost, size + len(line)
            if not keys:
                if not self.under_way:
                    raise CheckFailed(
                        f"stopped: what is left of --max-cost ({room:,.4f}) would not cover one more request at "
                        "its longest. What was answered is kept: the same command goes on from there, with a budget of "
                        "its own"
                    )
                return False
            attempt = 1 + max(self.attempts[key] for key in keys)
            self.attempts.update((key, self.attempts[key] + 1) for key in keys)
            job = _Job(self.calls.upload(handle), keys, attempt, int(time.time()))
        self.memory.keep(job.file, asdict(job))
        self._begin(job, search=False)
        note(f"{job}: Ctrl-C stops the waiting alone, and the same command goes on with it")
        return True

    def _room(self) -> float:
        """What is left of the budget should all that is under way come to its most."""
        if self.budget is None:
            return math.inf
        held = (self.requests[key] for job in self.under_way for key in job.keys if key in self.requests)
        return self.budget.left() - sum(map(self.budget.most, held))

    def _begin(self, job: _Job, *, search: bool) -> None:
        self.under_way.append(job)
        if job.batch is None:
            try:
                job.batch = self.calls.begin(job.file, search=search)
            except Refused:
                self._forget(job)
                raise
            self.memory.keep(job.file, asdict(job))

    def _forget(self, job: _Job) -> None:
        """Nothing more is to come of it for this stream; what others may ask of it is kept for them."""
        self.under_way.remove(job)
        job.keys = self.memory.unanswered([key for key in job.keys if key not in self.requests])
        if job.keys and job.batch:
            self.memory.keep(job.file, asdict(job))
        else:
            self.memory.drop(job.file)

    # collecting

    def _look(self, job: _Job) -> State | None:
        """How it stands; None where no answer came, for which an hour's wait is not given up at once."""
        try:
            state = self.calls.look(str(job.batch))
        except Refused:
            raise
        except CheckFailed as fault:
            self.silent += 1
            if self.silent >= self.of.transport.give_up:
                raise
            note(f"{fault}. batch {job.batch} is looked at again later")
            return None
        except Gone as gone:
            raise CheckFailed(
                f"{job}: the server knows none such ({gone}): it is another key's, or was deleted. To give it up and "
                f"ask its requests anew, add -a engine.drop_batch={job.batch}"
            ) from None
        self.silent = 0
        return state

    def _end(self, job: _Job, state: State) -> Iterator[tuple[int, Reply]]:
        """The replies of a batch that has ended; what is to be asked again is queued."""
        if state.status == "failed":
            self._failed(job, state)
            return
        self.crowded = False
        found, keys, dialect = _Found(), set(job.keys), self.dialect
        for file in state.files:
            try:
                with self.calls.fetched(file) as lines:
                    for line in lines:
                        yield from self._take(line, keys, found)
            except Gone:
                note(f"{job}: its file {file} is no longer at the server")
        if str(found):
            note(f"{job}: lines {found}")
        again, stop = [], None
        for key in (key for key in job.keys if key in self.requests and key not in found.settled):
            fault = found.faults.get(key, _MISSING)
            if self._adapts(fault, dialect, key):
                found.settled.add(key)  # asked in another way, it is no failure
                again.append(key)
                continue
            self.of.watch.faulty(fault)
            if fault.scope == "run":
                stop = fault
            elif fault.scope == "item" or self.attempts[key] >= self.of.transport.attempts:
                yield from self._replies(key, Reply(reason=fault.reason, attempts=self.attempts[key]))
            else:
                again.append(key)
        self.fruitless = 0 if found.settled else self.fruitless + 1
        self._forget(job)
        kept = "What was answered is kept: the same command asks for the rest"
        if stop is not None:
            raise CheckFailed(f"{self.of.server.base_url}, model {self.of.server.model}: {stop}. {kept}")
        if again and state.status == "cancelled":
            raise CheckFailed(f"batch {job.batch} was cancelled at the server. {kept}")
        if again and self.fruitless >= _FRUITLESS:
            raise CheckFailed(f"stopped: {self.fruitless} batches in a row brought no answer. {kept}")
        if again:
            note(f"batch {job.batch}: {len(again):,} requests are asked for again")
        self.queue.extend(again)

    def _failed(self, job: _Job, state: State) -> None:
        """A batch that the server has not taken: made smaller or later where it holds too much, else the end."""
        keys = [key for key in job.keys if key in self.requests]
        self._forget(job)
        why = state.why.rstrip(".") or "it is not said why"
        said = f"batch {job.batch} was not taken: {state.code or 'failed'}: {why}"
        if state.code != _CROWDED or (len(keys) <= 1 and not self.under_way):
            raise CheckFailed(f"{self.of.server.base_url}, model {self.of.server.model}: {said}")
        self.queue.extendleft(reversed(keys))
        self.attempts.update((key, self.attempts[key] - 1) for key in keys)
        self.crowded = bool(self.under_way)
        if not self.crowded:
            self.size = (len(keys) + 1) // 2
        note(said + (". It waits for another to end" if self.crowded else f". Trying {self.size:,} requests at a time"))

    def _take(self, line: object, keys: set[str], found: _Found) -> Iterator[tuple[int, Reply]]:
        """The reply in a line, if there is one that is asked for."""
        if not isinstance(line, Mapping):
            found.torn += 1
            return
        key = line.get("custom_id")
        if not isinstance(key, str) or key not in keys:
            found.foreign += 1
        elif key in found.settled:
            found.twice += 1
        elif (request := self.requests.get(key)) is not None:
            reply = self._read(line, request)
            if isinstance(reply, Fault):
                found.faults.setdefault(key, reply)
                return
            found.settled.add(key)
            yield from self._replies(key, replace(reply, attempts=self.attempts[key]))

    def _read(self, line: Mapping[str, Any], request: Request) -> Reply | Fault:
        """A line as the answer of a single call."""
        answered, error = line.get("response"), line.get("error")
        if not isinstance(answered, Mapping):
            said = error if isinstance(error, Mapping) else {"message": "no response"}
            code, why = str(said.get("code") or "")[:60], str(said.get("message") or "")[:300]
            return Fault("again", "timeout" if "timeout" in code else "api_error", code or "no response", why)
        status, answer = answered.get("status_code"), answered.get("body")
        if status != 200:
            number = status if isinstance(status, int) and 100 <= status < 600 else 500
            return policy.of_status(number, {}, answer, datetime.now(UTC))
        try:
            reply = wire.read(answer, request)
        except wire.Unreadable as unreadable:
            self.of.watch.answered(request, answer, None)
            return policy.of_answer(unreadable, datetime.now(UTC))
        self.of.watch.answered(request, answer, reply)
        return reply

    def _adapts(self, fault: Fault, dialect: wire.Dialect, key: str) -> bool:
        """Whether the server wants to be asked in another way than `dialect`, which is then remembered for all."""
        name = fault.refuses
        if not name or name not in wire.body(self.requests[key], self.of.server.model, dialect):
            return False
        adapted = self.dialect.without(name)
        if adapted != self.dialect:
            self.dialect = adapted
            self.of.watch.adapted(adapted)
        return adapted != dialect

    def _replies(self, key: str, reply: Reply) -> Iterator[tuple[int, Reply]]:
        yield from ((i, reply) for i in self.places[key])


def _sendable(body: Mapping[str, Any]) -> bool:
    """Whether it is UTF-8: one line that is not would spoil the whole file."""
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
