"""A model behind any OpenAI-compatible server.

    wire      a request as a body, an answer as a reply          policy   what to make of a fault
    calls     many calls at once                                 cost     what they come to
    client    one call of a chat server
    batch     files of requests, collected later                 jobs     the calls that one of those takes
    secrets   the key, and keeping it out of everything

What this module does not know: suites, labels, protocols of judges.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rmeval.engines.openai import jobs, wire
from rmeval.engines.openai.batch import Batches, Budget, Settings, waiting
from rmeval.engines.openai.calls import Transport
from rmeval.engines.openai.client import Client, Server, Watch
from rmeval.engines.openai.cost import Estimate, Meter, estimate, prices, prompt_tokens, text_tokens
from rmeval.engines.openai.policy import Fault
from rmeval.engines.openai.secrets import OPENAI, endpoint, key_for
from rmeval.errors import UsageError, near_miss
from rmeval.progress import note
from rmeval.protocols import Memory
from rmeval.secrecy import hide, names_a_secret
from rmeval.types import JSON, Plan, Reply, Request

READING = 1
"""Goes into the fingerprint: raise it when the same answer would be read differently."""

MOST_LISTED = 1000
"""Likeliest tokens that may be asked for; OpenAI lists 20, vLLM as many as it was started with (`--max-logprobs`)."""
_KINDS_SHOWN = 20


class OpenAIEngine:
    """Asks a server. The key is read when the first call is made; it is in no fingerprint, record or message."""

    name = "openai"

    def __init__(
        self,
        *,
        model: str,
        base_url: str | None = None,
        key_env: str = "OPENAI_API_KEY",
        concurrency: int = 16,
        attempts: int = 8,
        timeout: float = 120.0,
        deadline: float = 900.0,
        max_wait: float = 120.0,
        backoff: float = 0.5,
        give_up: int = 10,
        price_in: float | None = None,
        price_out: float | None = None,
        max_cost: float | None = None,
        batch: bool = False,
        batch_size: int = jobs.MOST_REQUESTS,
        poll: float = 60.0,
        drop_batch: str = "",
        top_logprobs: int = 20,
        omit: list[str] | None = None,
        extra: str = "",
    ) -> None:
        """Options as in `-a engine.NAME=VALUE`; what those of the transport mean says `calls.Transport`.

        `omit` leaves out fields that a model refuses (`temperature`, `top_p`, `seed`, `response_format`), `extra` is a
        JSON object of further fields, such as `{"reasoning_effort": "low"}`. `batch` hands requests in by the file, at
        most `batch_size` at once, and looks every `poll` seconds whether they are done; `drop_batch` names a batch that
        is given up, so that its requests are asked anew. Prices are per million tokens; without `base_url` it is
        `OPENAI_BASE_URL`, else OpenAI's own server.
        """
        self.model, self.base_url, self.key_env = model, endpoint(base_url), key_env
        self.transport = Transport(concurrency, attempts, timeout, deadline, max_wait, backoff, give_up)
        self.transport.refuse_unusable()
        if not 1 <= batch_size <= jobs.MOST_REQUESTS:
            raise UsageError(f"engine.batch_size={batch_size}: from 1 to {jobs.MOST_REQUESTS}")
        if not (math.isfinite(poll) and poll > 0):
            raise UsageError(f"engine.poll={poll}: a number of seconds above 0")
        self.batches = Settings(batch_size, poll, drop_batch) if batch else None
        self._memory: Memory | None = None
        if not 1 <= top_logprobs <= MOST_LISTED:
            raise UsageError(f"engine.top_logprobs={top_logprobs}: from 1 to {MOST_LISTED}")
        for name in omit or ():
            if name not in wire.OMISSIBLE:
                hint = near_miss(name, wire.OMISSIBLE) or f"One of {', '.join(wire.OMISSIBLE)}."
                raise UsageError(f"engine.omit: {name!r} cannot be left out. {hint}")
        self._said = wire.Dialect(
            "max_completion_tokens" if self.base_url == OPENAI else "max_tokens",
            top_logprobs,
            frozenset(omit or ()),
            _extra(extra),
        )
        self._dialect = self._said
        self.prices = prices(price_in, price_out, max_cost)
        self.meter = Meter(self.prices, max_cost)
        self._faults: Counter[str] = Counter()
        self._fingerprints: Counter[str] = Counter()

    def fingerprint(self) -> dict[str, JSON]:
        """What decides the answers and is ours to say: the server's address, the model, the fields asked for."""
        return {
            "engine": self.name,
            "reading": READING,
            "endpoint": self.base_url,
            "model": self.model,
            "top_logprobs": self._said.top_logprobs,
            "omit": list[JSON](sorted(self._said.omit)),
            "extra": dict(self._said.extra),
        }

    def describe(self) -> dict[str, JSON]:
        """How it was asked and what that came to, in this process."""
        counts = self._fingerprints, self._faults
        prints, faults = (dict[str, JSON](found.most_common(_KINDS_SHOWN)) for found in counts)
        told = {"response_format"} & (self._dialect.omit - self._said.omit)
        return {
            "device": "server",
            **({"batch": True} if self.batches else {"concurrency": self.transport.concurrency}),
            "limit": self._dialect.limit,
            **({"response_format": "refused by the server: texts are not held to a schema"} if told else {}),
            **({"system_fingerprints": prints} if prints else {}),
            **({"faults": faults} if faults else {}),
            "usage": self.cost(),
        }

    def plan(self, requests: Sequence[Request]) -> Plan:
        """Each by itself. Raises `UsageError` for what a server cannot be asked."""
        for request in requests:
            wire.check(request)
        return Plan(tuple((i,) for i in range(len(requests))), (0,) * len(requests), {})

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """What requests would come to; `str` of it is a line for people. Nothing is asked."""
        return estimate(requests, self.prices)

    def cost(self) -> dict[str, JSON]:
        """What the calls of this process came to: `calls tokens_in tokens_out`, and a `cost` that may be "unknown"."""
        return self.meter.describe()

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        """All of them, in their order."""
        replies = dict(self.stream(requests))
        return [replies[i] for i in range(len(requests))]

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(index, reply) as each is ready; closing the iterator cancels what is under way.

        Raises `UsageError` before the first call for a missing key, and `CheckFailed` where the server refuses the
        key, the model or the quota, where too many requests have failed, or where the cost has reached `max_cost`.
        """
        key = key_for(self.base_url, self.key_env)
        watch = Watch(self._answered, self._faulty, self._adapted, self._spent)
        server = Server(self.base_url, self.model, self._dialect)
        if self.batches is None:
            for name, n in waiting(self._memory, requests).items() if self._memory else ():
                note(f"{n:,} requests of batch {name} are asked again: -a engine.batch=true collects them")
            return Client(server, key, self.transport, watch).stream(requests)
        if self._memory is None:
            raise UsageError("engine.batch: what is under way is kept in the reply store, and this run has none")
        batches = Batches(server, key, self.transport, watch, self.batches, self._memory)
        return batches.stream(requests, Budget(self.meter.left, self._most) if self.meter.most is not None else None)

    def remember(self, memory: Memory) -> None:
        """Where batches that are under way are written down."""
        self._memory = memory

    def _most(self, request: Request) -> float:
        at_most = self.estimate([request]).cost
        return at_most[1] if at_most else 0.0

    def _answered(self, request: Request, answer: Any, reply: Reply | None) -> None:
        """Count an answer's tokens, and what the server says it ran on."""
        if not isinstance(answer, dict):
            return
        guess = (prompt_tokens(request), text_tokens(reply.text if reply else ""))
        self.meter.add(*wire.usage(answer), guess=guess)
        if isinstance(said := answer.get("system_fingerprint"), str):
            self._fingerprints[said[:200]] += 1

    def _faulty(self, fault: Fault) -> None:
        if fault.kind not in self._faults and fault.scope != "run":
            note(f"{self.base_url}: {fault}")
        self._faults[fault.kind] += 1

    def _spent(self) -> str | None:
        if not self.meter.spent:
            return None
        return (
            f"stopped at a cost of {self.meter.cost:,.4f}: --max-cost {self.meter.most:g} is reached. What was "
            "answered is kept: the same command goes on from there, with a budget of its own"
        )

    def _adapted(self, dialect: wire.Dialect) -> None:
        if "response_format" in dialect.omit - self._dialect.omit:
            note(f"{self.base_url} takes no response_format: texts are not held to a schema")
        self._dialect = dialect


def _extra(text: str) -> dict[str, Any]:
    """The further fields of a body. Raises `UsageError` for what is no JSON object, or says what a request says."""
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError(f'engine.extra={text}: a JSON object, such as {{"reasoning_effort": "low"}}')
    ours = {"model", "messages", "n", "stream", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs"}
    for name in sorted(found.keys() & {*ours, *wire.OMISSIBLE}):
        raise UsageError(f"engine.extra: {name} is set by the protocol; say -a judge.{name}= where it takes one")
    if any(map(names_a_secret, _keys(found))) or hide(text, []) != text:  # it is written into results
        raise UsageError("engine.extra holds a secret: put a key into an environment variable, -a engine.key_env=NAME")
    return found


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(inner)
