"""Examples in, judgements out: conversations, batches, the store. The only place with concurrency and progress.

    example -> views (label-free) -> scorer asks -> plan over the whole run -> batch stored? else engine -> scorer reads
            -> gather

Batches are planned before the store is read, and a batch that is only partly stored is computed whole, so that a
resumed run computes every score beside the same neighbours as an undisturbed one. A run of very many examples is
planned part by part.

What this module does not know: how metrics work, where examples come from, in which order candidates are shown.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from rmeval.errors import UsageError
from rmeval.gather import gather, recorded
from rmeval.metrics import table
from rmeval.progress import progress
from rmeval.protocols import Engine, Recording, Remembers, Scorer, Spreads, Streams
from rmeval.store import Store, fingerprint_digest, request_key
from rmeval.types import SKIPPED, UNREAD, Conversation, Example, Judgement, Plan, Reply, Request, Score, TextFacts, View
from rmeval.views import views

PART = 4096
"""Examples from which on a run is worked through in parts: what a conversation and a plan hold is held for one part."""


@dataclass(slots=True)
class Counts:
    """What a run did, for the result file."""

    requests: int = 0
    """Requests the scorer made, before identical ones were answered once."""
    cached: int = 0
    """Distinct requests answered from the store."""
    computed: int = 0
    """Distinct requests that the engine ran."""
    truncated: int = 0
    """Candidates whose text was longer than the limit, scored or not."""
    errors: int = 0
    """Candidates without a score for a fault of the instrument: engine errors, non-finite values, truncation."""
    unparsed: int = 0
    """Readings in which no verdict was found, other than refusals."""
    refused: int = 0
    tokens: int = 0
    """Tokens of all distinct texts, each counted once."""
    written: int = 0
    """Tokens that a model wrote, as stored ones were once written."""
    attempts: int = 0
    """Calls of a server, those included that failed and were made again; stored replies need none."""
    served: Counter[str] = field(default_factory=Counter)
    """Model that a server says has answered -> its replies."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything a run produced."""

    judgements: Sequence[Judgement]
    counts: Counts
    seconds: float
    reasons: dict[str, int] = field(default_factory=dict)
    """Reason -> candidates that lack a score for it."""
    texts: tuple[TextFacts, ...] = ()
    """What the distinct texts look like as tokens; empty where no engine saw any."""


def run(
    examples: Sequence[Example],
    scorer: Scorer | Recording,
    engine: Engine | None = None,
    store: Store | None = None,
    *,
    title: str = "scoring",
    by_step: bool = False,
) -> Outcome:
    """Score all examples, `by_step` with a score per step. `UsageError` for texts that the suite does not have."""
    start = time.monotonic()
    counts = Counts()
    desk = _Desk(engine, store, counts, title)
    judgements = _together([_judged(part, scorer, desk, by_step) for part in _parts(examples, desk)])
    reasons = Counter(reason for j in judgements for reason in reasons_of(j))
    for name, n in missed(judgements).items():
        setattr(counts, name, n)
    return Outcome(judgements, counts, time.monotonic() - start, dict(reasons), tuple(desk.texts))


def missed(judgements: Sequence[Judgement]) -> dict[str, int]:
    """The counts of a result that follow from its samples: `truncated`, `refused`, `unparsed`, `errors`."""
    reasons = Counter(reason for j in judgements for reason in reasons_of(j))
    return {
        "truncated": sum(sum(j.truncated) for j in judgements),
        "refused": reasons["refused"],
        "unparsed": sum(reasons[reason] for reason in UNREAD - {"refused"}),
        "errors": sum(n for reason, n in reasons.items() if reason not in UNREAD | {SKIPPED}),
    }


def plan(
    examples: Sequence[Example], scorer: Scorer | Recording, engine: Engine | None, *, by_step: bool = False
) -> tuple[int, list[Request], Plan | None]:
    """What a run would ask first: (requests, the distinct ones, the engine's plan over those). Loads no weights."""
    if isinstance(scorer, Recording):
        return 0, [], None
    shown = views(examples, scorer, by_step=by_step)
    requests = [r for _, view in shown for r in _Talk(scorer.score(view)).asked]
    distinct = list(dict.fromkeys(requests))
    return len(requests), distinct, engine.plan(distinct) if engine is not None and requests else None


def ask(
    requests: Sequence[Request], engine: Engine, store: Store | None = None, *, title: str = "asking"
) -> tuple[dict[Request, Reply], Counts]:
    """Replies to requests that no scorer makes, through the same batches and store, and what was done for them."""
    counts = Counts(requests=len(requests))
    desk = _Desk(engine, store, counts, title)
    return desk.answer(list(dict.fromkeys(requests)), title), counts


class _Talk:
    """One conversation under way."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.asked: list[Request] = []
        self.score: Score | None = None
        self._step(None)

    def answer(self, replies: list[Reply]) -> None:
        self._step(replies)

    def _step(self, replies: list[Reply] | None) -> None:
        try:
            self.asked = next(self.conversation) if replies is None else self.conversation.send(replies)
        except StopIteration as end:
            self.asked, self.score = [], end.value


def _parts(examples: Sequence[Example], desk: _Desk) -> Iterator[Sequence[Example]]:
    """The examples, very many of them in parts, which are told one after another.

    Where a part ends depends on nothing but the examples, so that a resumed run plans the same batches. Engines that
    work on many requests at once get all of them, and where nothing is stored nothing could be asked only once.
    """
    if len(examples) <= PART or isinstance(desk.engine, Streams | Spreads) or (desk.engine and desk.store is None):
        yield examples
        return
    desk.parts = -(-len(examples) // PART)
    source = iter(examples)
    for _ in range(desk.parts):
        desk.part += 1
        yield tuple(islice(source, PART))


def _together(parts: Sequence[Sequence[Judgement]]) -> Sequence[Judgement]:
    if len(parts) == 1:
        return parts[0]
    tables = [part for part in parts if isinstance(part, table.Table)]
    whole = table.joined(tables) if len(tables) == len(parts) else None
    return tuple(chain.from_iterable(parts)) if whole is None else whole


def _judged(examples: Sequence[Example], scorer: Scorer | Recording, desk: _Desk, by_step: bool) -> Sequence[Judgement]:
    """The judgements of a part; what is kept of each of very many examples must be little."""
    if isinstance(scorer, Recording):
        found = tuple(recorded(example, scorer) for example in examples)
    else:
        found = _converse(examples, scorer, desk, by_step)
    return found if desk.parts == 1 else table.of(found) or found


def _converse(examples: Sequence[Example], scorer: Scorer, desk: _Desk, by_step: bool) -> tuple[Judgement, ...]:
    """What became of every example."""
    shown = list(views(examples, scorer, by_step=by_step))
    talks = [_Talk(scorer.score(view)) for _, view in shown]
    while open_talks := [talk for talk in talks if talk.asked]:
        requests = [request for talk in open_talks for request in talk.asked]
        desk.counts.requests += len(requests)
        replies = desk.answer(list(dict.fromkeys(requests)), scorer.name)
        for talk in open_talks:
            talk.answer([replies[request] for request in talk.asked])
    scored: dict[str, list[tuple[View, Score]]] = {example.id: [] for example in examples}
    for (example, view), talk in zip(shown, talks, strict=True):
        if talk.score is None:
            raise RuntimeError("a conversation ended without a score")  # a bug in a scorer, not the user's fault
        scored[example.id].append((view, talk.score))
    return tuple(gather(example, scored[example.id], by_step=by_step) for example in examples)


@dataclass(slots=True)
class _Desk:
    """Where requests are answered: from the store where a whole planned batch is there, else by the engine."""

    engine: Engine | None
    store: Store | None
    counts: Counts
    title: str
    texts: list[TextFacts] = field(default_factory=list)
    """Filled as requests are planned."""
    part: int = 0
    parts: int = 1
    """Of how many parts of the run the one at hand is which."""
    _alike: dict[TextFacts, TextFacts] = field(default_factory=dict)
    _asked: list[array[int]] = field(default_factory=list)
    """What earlier parts have asked, by the start of its key, sorted; the store knows all of it."""

    def answer(self, requests: list[Request], asked_by: str) -> dict[Request, Reply]:
        """Replies to distinct requests."""
        if self.engine is None:
            raise UsageError(f"scorer {asked_by} asks for a model, and there is none")
        earlier = self._earlier(requests, self.engine) if self.parts > 1 else {}
        requests = [request for request in requests if request not in earlier]
        batches = self.engine.plan(requests)
        self.texts.extend(self._alike.setdefault(facts, facts) for facts in batches.texts)
        replies = {requests[i]: reply for i, reply in batches.settled.items()}
        digest = fingerprint_digest(self.engine.fingerprint())
        work = [i for batch in batches.batches for i in batch]
        title = self.title if self.parts == 1 else f"{self.title}, part {self.part} of {self.parts}"
        with progress(title, len(work), sum(batches.tokens[i] for i in work)) as shown:
            if isinstance(self.engine, Streams):
                for request, reply in self._streamed([requests[i] for i in work], digest, self.engine):
                    replies[request] = reply
                    shown.advance(1, reply.n_tokens + reply.n_written)
            elif isinstance(self.engine, Spreads):
                for n, fresh in self._spread([[requests[i] for i in b] for b in batches.batches], digest, self.engine):
                    replies.update(fresh)
                    shown.advance(len(fresh), sum(batches.tokens[i] for i in batches.batches[n]))
            else:
                for batch in batches.batches:
                    asked = [requests[i] for i in batch]
                    replies.update(self._batch(asked, [request_key(r, digest) for r in asked], self.engine))
                    shown.advance(len(asked), sum(batches.tokens[i] for i in batch))
        replies.update((requests[i], replies[requests[first]]) for i, first in batches.twins.items())
        self.counts.tokens += sum(count or replies[requests[i]].n_tokens for i, count in enumerate(batches.tokens))
        self.counts.written += sum(reply.n_written for reply in replies.values())
        self.counts.served.update(reply.served for reply in replies.values() if reply.served)
        return replies | earlier

    def _earlier(self, requests: list[Request], engine: Engine) -> dict[Request, Reply]:
        """Stored replies to what another part has asked: nothing is computed twice, in a resumed run neither."""
        digest = fingerprint_digest(engine.fingerprint())
        keys = [request_key(request, digest) for request in requests]
        starts = [int(key[:12], 16) for key in keys]
        again = [
            pair for pair, start in zip(zip(requests, keys, strict=True), starts, strict=True) if self._was_asked(start)
        ]
        self._asked.append(array("Q", sorted(starts)))
        stored = self.store.get([key for _, key in again]) if self.store is not None else {}
        return {request: stored[key] for request, key in again if key in stored}

    def _was_asked(self, start: int) -> bool:
        places = ((part, bisect_left(part, start)) for part in self._asked)
        return any(place < len(part) and part[place] == start for part, place in places)

    def _streamed(self, asked: list[Request], digest: str, engine: Streams) -> Iterator[tuple[Request, Reply]]:
        """Replies that stand for themselves: each is stored before the next is looked at."""
        keys = [request_key(request, digest) for request in asked]
        stored = self.store.get(keys) if self.store is not None else {}
        self.counts.cached += len(stored)
        yield from ((request, stored[key]) for request, key in zip(asked, keys, strict=True) if key in stored)
        open_ = [(request, key) for request, key in zip(asked, keys, strict=True) if key not in stored]
        if isinstance(engine, Remembers) and self.store is not None:
            engine.remember(self.store.memory(digest))
        for i, reply in engine.stream([request for request, _ in open_]) if open_ else ():
            request, key = open_[i]
            if self.store is not None:
                self.store.put({key: reply})
            self.counts.computed += 1
            self.counts.attempts += reply.attempts
            yield request, reply

    def _spread(
        self, batches: list[list[Request]], digest: str, engine: Spreads
    ) -> Iterator[tuple[int, dict[Request, Reply]]]:
        """Batches that are worked on at once: each is stored whole before the next is looked at."""
        keys = [[request_key(request, digest) for request in batch] for batch in batches]
        open_ = []
        for n, batch in enumerate(batches):
            if (known := self._stored(batch, keys[n])) is not None:
                yield n, known
            else:
                open_.append(n)
        for place, fresh in engine.run_all([batches[n] for n in open_]) if open_ else ():
            yield open_[place], self._kept(batches[open_[place]], keys[open_[place]], fresh)

    def _batch(self, asked: list[Request], keys: list[str], engine: Engine) -> dict[Request, Reply]:
        known = self._stored(asked, keys)
        return known if known is not None else self._kept(asked, keys, engine.run(asked))

    def _stored(self, asked: list[Request], keys: list[str]) -> dict[Request, Reply] | None:
        """The replies of a batch that is stored as a whole."""
        stored = self.store.get(keys) if self.store is not None else {}
        if len(stored) < len(keys):
            return None
        self.counts.cached += len(keys)
        return {request: stored[key] for request, key in zip(asked, keys, strict=True)}

    def _kept(self, asked: list[Request], keys: list[str], fresh: list[Reply]) -> dict[Request, Reply]:
        """The replies of a batch, stored."""
        self.counts.computed += len(fresh)
        if self.store is not None:
            self.store.put(dict(zip(keys, fresh, strict=True)))
        return dict(zip(asked, fresh, strict=True))


def reasons_of(judgement: Judgement) -> Iterable[str]:
    """Why scores are missing, one reason a candidate or verdict that lacks one."""
    yield from (reason for reason in judgement.reasons if reason)
    yield from (verdict.reason or "unparsed" for verdict in judgement.verdicts if verdict.verdict is None)
