"""What the parts of rmeval ask of each other: scorers, recordings and engines, ours and those of plugins.

What this module does not know: who answers to these protocols.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from rmeval.types import JSON, Arity, Conversation, Plan, Recorded, Reply, Request, Showing, View


@runtime_checkable
class Shown(Protocol):
    """A scorer that says how candidates are to be shown to it; any other sees both orders once."""

    showing: Showing


@runtime_checkable
class Scorer(Protocol):
    """Knows how to ask and how to read. Never sees labels, never picks an order, never loads weights."""

    name: str
    arity: Arity

    def identity(self) -> dict[str, JSON]:
        """Settings that change scores, for the result file and the run fingerprint."""
        ...

    def score(self, view: View) -> Conversation:
        """Yield lists of requests, receive their replies, return the score of the view."""
        ...


@runtime_checkable
class Recording(Protocol):
    """Answers from a file instead of a conversation: it gets an example id and the number of candidates."""

    name: str

    def identity(self) -> dict[str, JSON]:
        """Settings that change scores."""
        ...

    def recorded(self, example_id: str, k: int) -> Recorded | None:
        """What the file holds for the example, or None."""
        ...


@runtime_checkable
class ByStep(Protocol):
    """A scorer that can give a score per step (`Score.steps`), and so runs on suites of kind process."""

    by_step: bool
    """True."""


class Engine(Protocol):
    """Runs weights. Knows nothing of suites, labels or metrics."""

    name: str

    def fingerprint(self) -> dict[str, JSON]:
        """Everything that decides the values of a reply: weights, dtype, template, truncation, head."""
        ...

    def describe(self) -> dict[str, JSON]:
        """What is recorded but does not decide values: device, batch budget, versions."""
        ...

    def plan(self, requests: Sequence[Request]) -> Plan:
        """Split into batches, the same for the same requests."""
        ...

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        """One batch, replies in the order of the requests."""
        ...


@runtime_checkable
class Streams(Protocol):
    """An engine whose replies do not depend on their neighbours and come as they are ready."""

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(index, reply) as each is ready. What was yielded is kept, whatever is raised after it."""
        ...


@runtime_checkable
class Spreads(Protocol):
    """An engine that works on many planned batches at once."""

    def run_all(self, batches: Sequence[Sequence[Request]]) -> Iterator[tuple[int, list[Reply]]]:
        """(index of the batch, its replies) as each is ready, in any order. What was yielded is kept."""
        ...


class Memory(Protocol):
    """What an engine writes down about work that goes on elsewhere while none of our processes runs."""

    def key(self, request: Request) -> str:
        """What a request is called, in 64 hexadecimal digits: the key that its reply is stored under."""
        ...

    def unanswered(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys without a stored reply."""
        ...

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Name -> what was kept under it by an engine of this fingerprint."""
        ...

    def keep(self, name: str, job: Mapping[str, JSON]) -> None:
        """Write down a job, or what has become of it; it is safe when this returns."""
        ...

    def drop(self, name: str) -> None:
        """Forget a job."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """An engine that can have work under way elsewhere; it is told where to write that down before it streams."""

    def remember(self, memory: Memory) -> None:
        """Use this memory from now on."""
        ...


@runtime_checkable
class FollowsPreset(Protocol):
    """An engine that can cut long texts as a suite's official script does."""

    truncation: str
    """`official` where it was asked to."""

    def follow(self, *, max_length: int, side: str, source: str) -> str:
        """Take over a suite's preset until the next; returns in words what is in force."""
        ...


@runtime_checkable
class Priced(Protocol):
    """An engine whose calls cost something."""

    def estimate(self, requests: Sequence[Request]) -> object:
        """What requests would come to; its `str` is for people. Nothing is asked."""
        ...
