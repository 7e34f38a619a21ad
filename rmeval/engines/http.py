"""Reward models behind servers: vLLM's `/classify` and `/pooling`, and what speaks OpenRLHF's `/get_reward`.

The checkpoint's config and tokenizer are read here, its weights run there: texts are rendered, cut and tokenised by
us, and token ids are sent, so no template or truncation of a server comes between. `/get_reward` takes texts: how its
server tokenises them cannot be seen, and is looked at through the scores.

Before the first text is scored, each server is looked at with a few of them:

- asked for raw outputs and for activated ones, it must give outputs that differ by exactly the activation;
- it must give as many numbers as the checkpoint's head has, and for `/pooling` one row per token;
- where the checkpoint's weights are at hand, they are run here on the same texts and must agree.

Whatever does not hold stops the run with exit 3. Calls are made, repeated, paused and given up as those of a judge's
server are (`rmeval.engines.openai.calls`); several servers are asked in turn.

What this module does not know: suites, scorers, what a number means.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import cycle
from typing import Any

from rmeval.engines import parity, pooling
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.openai import calls, policy
from rmeval.engines.openai.calls import Transport
from rmeval.engines.openai.client import answer_to, opened
from rmeval.engines.openai.policy import Fault
from rmeval.engines.openai.secrets import Key, endpoint, key_for
from rmeval.engines.openai.wire import Unreadable
from rmeval.engines.pooling import Api
from rmeval.engines.texts import LaidOut, Texts
from rmeval.engines.transformers import Lint, Truncation
from rmeval.errors import CheckFailed, UsageError
from rmeval.progress import note
from rmeval.types import JSON, Plan, Reply, Request

READING = 1
"""Goes into the fingerprint: raise it when the same answer would be read differently."""
_RAW = {"headers": {"X-Stainless-Raw-Response": "true"}}
"""Has the library give the response as it came, as its `with_raw_response` does for calls that it knows."""
SAME = 1e-5
"""How far two answers to one text may be apart and still be called the same."""


class HttpEngine:
    """Asks servers that hold a reward model. What they are asked with is read from the checkpoint's own files."""

    name = "http"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        base_url: str | None = None,
        api: str = "auto",
        served: str = "",
        dtype: str = "auto",
        check: parity.Check = "auto",
        key_env: str = "VLLM_API_KEY",
        batch_size: int = 8,
        concurrency: int = 16,
        attempts: int = 8,
        timeout: float = 120.0,
        deadline: float = 900.0,
        max_wait: float = 120.0,
        backoff: float = 0.5,
        give_up: int = 10,
        max_length: int | None = None,
        truncation: Truncation = "error",
        lint: Lint = "error",
    ) -> None:
        """Options as in `-a engine.NAME=VALUE`.

        `base_url` may name several servers, with commas between. `api` is classify, pooling or get_reward, and follows
        from checkpoint and address unless said; `served` is what the servers call the model. `dtype` is what they run
        in, which is how near they must come to the weights at hand; `check=off` trusts them. `batch_size` texts go
        into one call. The rest means what it means for a judge's server (`calls.Transport`), and for texts what it
        means for the transformers engine.
        """
        if not base_url:
            raise UsageError("--engine http: say where the servers are: --base-url http://127.0.0.1:8000[,URL...]")
        if dtype not in ("auto", *parity.ALLOWED):
            raise UsageError(f"engine.dtype={dtype!r}: one of auto, {', '.join(parity.ALLOWED)}")
        if not 1 <= batch_size <= 1000:
            raise UsageError(f"engine.batch_size={batch_size}: from 1 to 1000")
        self.checkpoint = checkpoint
        self.api, self.servers = _api_and_servers(checkpoint, base_url, api)
        self.dtype = checkpoint.stored_dtype if dtype == "auto" else dtype
        self.served, self.key_env, self.batch_size = served, key_env, batch_size
        self.transport = Transport(concurrency, attempts, timeout, deadline, max_wait, backoff, give_up)
        self.transport.refuse_unusable()
        self.texts = Texts(checkpoint, device="cpu", max_length=max_length, truncation=truncation, lint=lint)
        self.checked = parity.wanted(checkpoint, check)
        self.looked_at: dict[str, str] = {}
        """Server -> what it calls the model, once it was found to be as it should be."""
        self._found: dict[str, JSON] = {}
        self._faults: Counter[str] = Counter()

    @property
    def truncation(self) -> str:
        """What happens to texts over the limit."""
        return self.texts.truncation

    def follow(self, *, max_length: int, side: str, source: str) -> str:
        """Cut as a suite's official script does."""
        return self.texts.follow(max_length=max_length, side=side, source=source)

    def fingerprint(self) -> dict[str, JSON]:
        """What decides the values. Where they cannot be held against the weights, who is asked is part of it."""
        who: dict[str, JSON] = {"parity": "checked"} if self.checked else {"servers": list[JSON](sorted(self.servers))}
        if self.served and not self.checked:  # nothing else tells what several models behind one server said
            who |= {"served": self.served}
        return {
            "engine": self.name,
            "reading": READING,
            "api": self.api,
            **self.texts.identity(),
            "dtype": self.dtype,
            **who,
        }

    def describe(self) -> dict[str, JSON]:
        """Who was asked and how, in this process."""
        return {
            "name": self.name,
            "device": "server",
            "servers": list[JSON](self.servers),
            "concurrency": self.transport.concurrency,
            "batch_size": self.batch_size,
            **self._found,
            **({"faults": dict(self._faults.most_common(20))} if self._faults else {}),
        }

    def plan(self, requests: Sequence[Request]) -> Plan:
        """Each by itself, in the order of the requests: servers make batches, and share what a prompt begins with."""
        for request in requests:
            if request.read != "head" or (self.api != "pooling" and request.at != "last"):
                raise UsageError(
                    f"--engine http: {self.checkpoint.name} through /{self.api} gives the head's outputs at "
                    f"{'every token' if self.api == 'pooling' else 'the end of a text'}; the scorer asks for "
                    f"{request.read} at {request.at}"
                )
        return self.texts.one_by_one(requests)

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        """All of them, in their order."""
        replies = dict(self.stream(requests))
        return [replies[i] for i in range(len(requests))]

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(index, reply) as each is ready; closing the iterator cancels what is under way.

        Raises `CheckFailed` where a server is not what it should be, or too many calls have failed.
        """
        rows = self.texts.laid_out(requests)
        parts = [
            range(start, min(start + self.batch_size, len(rows))) for start in range(0, len(rows), self.batch_size)
        ]
        key = key_for(self.servers[0], self.key_env)
        new = [server for server in self.servers if server not in self.looked_at]
        asker = _Asker(self, key, self._probes(rows) if new else [])
        for n, replies in calls.stream(asker, [[rows[i] for i in part] for part in parts], self.transport, key):
            yield from zip(parts[n], replies, strict=True)
        self._faults += asker.faults

    def _probes(self, rows: Sequence[LaidOut]) -> list[_Probe]:
        """A few of the shortest texts, with what our own weights say of them where they are at hand."""
        few = parity.shortest(rows)
        if not self.checked:
            return [_Probe(row, None) for row in few]
        values = parity.here(self.checkpoint, [self._as_read(row) for row in few], every=self.api == "pooling")
        return [_Probe(row, value) for row, value in zip(few, values, strict=True)]

    def _as_read(self, row: LaidOut) -> list[int]:
        """The ids that a server makes of a text: those that it is sent, or those of its own tokenizer."""
        if self.api != "get_reward":
            return row.ids
        tokenizer = self.texts.tokenizer
        # OpenRLHF's server: pad and eos stripped (as sets of characters), eos appended, special tokens added
        text = self.sent(row)
        for token in (tokenizer.pad_token, tokenizer.eos_token):
            text = text.strip(token) if token else text
        ids: list[int] = tokenizer(text + (tokenizer.eos_token or ""))["input_ids"]
        return ids

    def sent(self, row: LaidOut) -> Any:
        """What stands for a text in a body: its ids, or for `/get_reward` its text, less a BOS that is added there."""
        if self.api != "get_reward":
            return row.ids
        tokenizer = self.texts.tokenizer
        text = row.encoded.text if len(row.ids) == len(row.encoded.ids) else str(tokenizer.decode(row.ids))
        before, _ = self.texts.encoder.added
        return text.removeprefix(tokenizer.bos_token or "") if before else text

    def learned(self, **facts: JSON) -> None:
        """Something about the servers, for the record."""
        self._found |= facts


@dataclass(frozen=True, slots=True)
class _Probe:
    row: LaidOut
    here: list[list[float]] | None
    """[places][channels] by our own weights."""


class _Asker:
    """Calls of one stream: an `Asker` of lists of texts."""

    def __init__(self, engine: HttpEngine, key: Key, probes: Sequence[_Probe]) -> None:
        self.engine, self.key, self.probes = engine, key, probes
        self.faults: Counter[str] = Counter()
        self.who = f"{', '.join(engine.servers)} ({engine.api})"
        self._turn = cycle(engine.servers)
        self._names = dict(engine.looked_at)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """The library's client, and every server looked at."""
        engine = self.engine
        async with opened(engine.servers[0], self.key, engine.transport) as self._api:
            for server in engine.servers:
                if server not in engine.looked_at:
                    engine.looked_at[server] = await self._look_at(server)
            yield

    async def ask(self, item: list[LaidOut], seconds: float) -> list[Reply] | Fault | None:
        """One call about several texts; where the server refuses one of them, each is asked for by itself."""
        server = next(self._turn)
        got = await self._call(server, item, seconds)
        if not isinstance(got, Fault):
            return got
        if got.scope != "item" or len(item) == 1:
            return got
        replies: list[Reply] = []
        for row in item:
            one = await self._call(server, [row], seconds)
            if isinstance(one, Fault) and one.scope != "item":
                return one
            replies += [row.without(one.reason)] if isinstance(one, Fault) else one
        return replies

    def answered(self, got: list[Reply], attempts: int) -> list[Reply]:
        """Replies, which took so many calls."""
        return [replace(reply, attempts=attempts) for reply in got]

    def failed(self, item: list[LaidOut], fault: Fault, attempts: int) -> list[Reply]:
        """The replies that say why there are none."""
        return [row.without(fault.reason, attempts=attempts) for row in item]

    def faulty(self, fault: Fault) -> None:
        """A call brought nothing."""
        if fault.kind not in self.faults and fault.scope != "run":
            note(f"{self.who}: {fault}")
        self.faults[fault.kind] += 1

    def spent(self) -> str | None:
        """Calls cost nothing that is counted."""
        return None

    async def _call(self, server: str, rows: list[LaidOut], seconds: float) -> list[Reply] | Fault:
        got = await self._values(server, rows, seconds)
        if isinstance(got, Fault):
            return got
        n = len(self.engine.checkpoint.labels)
        if self.engine.checkpoint.form != "layers" and any(len(place) != n for values in got for place in values):
            return Fault("run", "api_error", "another head", f"not {n} numbers everywhere: another model is served")
        return [
            row.reply(_placed(self.engine.api, row, values), served=self._names[server])
            for row, values in zip(rows, got, strict=True)
        ]

    async def _values(
        self, server: str, rows: list[LaidOut], seconds: float, *, activation: bool = False
    ) -> pooling.Read | Fault:
        """What a server says of texts, [texts][places][channels]."""
        api = self.engine.api
        asked = pooling.body(
            api, [self.engine.sent(row) for row in rows], model=self._names[server], activation=activation
        )
        answer = await self._post(f"{server}{pooling.path(api)}", asked, seconds)
        if isinstance(answer, Fault):
            return answer
        try:
            found = pooling.read(api, answer, len(rows))
        except Unreadable as unreadable:
            return policy.of_answer(unreadable, datetime.now(UTC))
        for row, values in zip(rows, found, strict=True):
            if api == "pooling" and len(values) != len(row.ids):
                text = (
                    f"{len(values)} rows for {len(row.ids)} tokens: the server reads other tokens, or only some of them"
                )
                return Fault("run", "api_error", "other tokens", text)
        return found

    async def _post(self, url: str, asked: dict[str, Any], seconds: float) -> Any:
        return await self._answer(lambda: self._api.post(url, body=asked, cast_to=object, options=_RAW), seconds)

    async def _answer(self, call: Callable[[], Any], seconds: float) -> Any:
        async def response() -> Any:
            return (await call()).http_response

        return await answer_to(response, self.key, seconds)

    # --- a server is looked at ---------------------------------------------------------------------------------------

    async def _look_at(self, server: str) -> str:
        """What a server calls the model. Raises `CheckFailed` where it is not what it should be."""
        asks = self.engine.api != "get_reward" and not self.engine.served
        name = self._names[server] = await self._name(server) if asks else self.engine.served
        rows = [probe.row for probe in self.probes]
        raw = await self._surely(server, rows)
        n = len(self.engine.checkpoint.labels)
        widths = {len(place) for values in raw for place in values}
        if self.engine.checkpoint.form != "layers" and widths != {n}:
            raise CheckFailed(
                f"{server}: its head gives {', '.join(map(str, sorted(widths)))} numbers, and "
                f"{self.engine.checkpoint.name} has {n} {'label' if n == 1 else 'labels'}: another model is served"
            )
        if self.engine.api != "get_reward":
            await self._check_activation(server, rows, raw)
        if self.engine.checked:
            self._check_parity(server, raw)
        return name

    async def _name(self, server: str) -> str:
        """What a server calls its model, where it has one; "" where it does not say."""
        answer = await self._answer(
            lambda: self._api.get(f"{server}/v1/models", cast_to=object, options=_RAW), self.engine.transport.timeout
        )
        models = answer.get("data") if isinstance(answer, dict) else None
        names = [str(one["id"]) for one in models or () if isinstance(one, dict) and "id" in one]
        if len(names) > 1:
            raise CheckFailed(f"{server} serves {', '.join(names)}: say which, -a engine.served=NAME")
        return names[0] if names else ""

    async def _surely(self, server: str, rows: list[LaidOut], *, activation: bool = False) -> pooling.Read:
        """Values of probes, asked for again as the policy says."""
        transport, draws, attempt = self.engine.transport, random.Random(0), 0  # noqa: S311 - spreads calls over time
        while True:
            attempt += 1
            got = await self._values(server, rows, transport.timeout, activation=activation)
            if not isinstance(got, Fault):
                return got
            self.faulty(got)
            wait = policy.wait(got, attempt, draws, backoff=transport.backoff, longest=transport.max_wait)
            if got.scope != "again" or wait is None or attempt >= transport.attempts:
                raise CheckFailed(f"{server}{pooling.path(self.engine.api)}: {got}. Nothing was scored")
            await asyncio.sleep(wait)

    async def _check_activation(self, server: str, rows: list[LaidOut], raw: pooling.Read) -> None:
        """Asked both ways, the answers must differ by the activation, or at least not look like what one makes."""
        on = await self._surely(server, rows, activation=True)
        flat = [place for values in raw for place in values]
        if parity.apart(raw, on, relative=False) > SAME or not pooling.seem_activated(flat):
            return
        raise CheckFailed(
            f"{server}: its outputs look like probabilities ({_shown(flat)}), and are the same whether an activation "
            "is asked for or not: it applies one always. Start it with --pooler-config '{\"use_activation\": false}'. "
            "Nothing was scored"
        )

    def _check_parity(self, server: str, raw: pooling.Read) -> None:
        engine = self.engine
        here = [probe.here or [] for probe in self.probes]
        found = parity.apart(raw, here)
        engine.learned(parity_difference=found if math.isfinite(found) else None)
        if found <= parity.ALLOWED[engine.dtype]:
            return
        more = "; or its tokenizer makes other tokens of a text, or it normalises" if engine.api == "get_reward" else ""
        raise CheckFailed(
            f"{server}: its outputs are not those of {engine.checkpoint.name} (apart by {found:.2g}, and "
            f"{parity.ALLOWED[engine.dtype]:g} is allowed in {engine.dtype}): {parity.why(raw, here)}{more}. Nothing "
            "was scored; to go on all the same: -a engine.check=off"
        )


def _api_and_servers(checkpoint: Checkpoint, base_url: str, api: str) -> tuple[Api, tuple[str, ...]]:
    """How servers are asked, and their addresses without any path of an API."""
    given = [endpoint(part) for part in base_url.split(",") if part.strip()]
    said = {name for url in given for name in pooling.APIS if url.endswith(f"/{name}")}
    if api != "auto" and api not in pooling.APIS:
        raise UsageError(f"engine.api={api!r}: one of auto, {', '.join(pooling.APIS)}")
    if len(said | ({api} - {"auto"})) > 1:
        raise UsageError(
            f"--base-url {base_url}: one way of asking for all servers, not {', '.join(sorted(said | {api}))}"
        )
    form = checkpoint.form
    if form == "causal":
        raise UsageError(
            f"model {checkpoint.source}: {checkpoint.architecture} has no reward head for a server to read. A language "
            "model behind a server is a judge: judge:NAME --base-url URL"
        )
    if checkpoint.layers is not None and (checkpoint.layers.gated or checkpoint.layers.paired):
        raise UsageError(f"model {checkpoint.source}: no server gives what its head gives; run it with transformers")
    chosen: Any = api if api != "auto" else next(iter(said), "classify" if form == "sequence" else "pooling")
    if (chosen == "pooling") == (form == "sequence"):
        what = "one row of numbers per text" if form == "sequence" else "numbers per token"
        raise UsageError(f"engine.api={chosen}: {checkpoint.architecture} gives {what}")
    servers = [url.removesuffix(f"/{chosen}").removesuffix("/v1") for url in given]
    if not servers:
        raise UsageError(f"--base-url {base_url!r} names no server")
    return chosen, tuple(dict.fromkeys(servers))


def _placed(api: Api, row: LaidOut, values: list[list[float]]) -> list[list[float]]:
    """The numbers at the places that are read."""
    return [values[place] if place >= 0 else [] for place in row.places] if api == "pooling" else values


def _shown(rows: Sequence[Sequence[float]]) -> str:
    return ", ".join(f"{value:.4g}" for value in [v for row in rows for v in row][:4])
