"""What a score depends on beside its text: one table about a model on this machine, for `rmeval doctor`.

The same 32 texts are scored alone; in batches of 2, 8 and 32; shuffled; beside one very long neighbour (so that all are
padded); as the engine plans them; by the class's own forward; and in another dtype. Everything is compared with alone.

| dtype | a score may move by | a decision |
|---|---|---|
| float32 | 1e-4 | may not change |
| bfloat16, float16 | 2 % of the margins' standard deviation | may change where its margin is below that |

What is beyond is called non-invariant. The other dtype is shown, and not held against the model.

What this module does not know: how a table is printed, metrics, result files.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from rmeval import runner
from rmeval.checks.own_forward import OwnForward
from rmeval.engines import hygiene
from rmeval.engines.roles import PolicyAndReference
from rmeval.engines.transformers import TransformersEngine
from rmeval.errors import CheckFailed, UsageError
from rmeval.models import Model, load_model
from rmeval.progress import note
from rmeval.protocols import Engine, Scorer
from rmeval.suites import Suite, stratified_sample
from rmeval.types import JSON, Candidate, Example, Judgement, Plan, Reply, Request
from rmeval.views import views

TEXTS = 32
"""Candidates that are scored."""
SIZES = (2, 8, 32)
LONGER = 10
"""How many times longer than the longest text the long neighbour is, where the model may read so much."""
FLOAT32 = 1e-4
"""How far a score may move in float32."""
HALF = 0.02
"""How far it may move in a dtype of 16 bits, in standard deviations of the margins."""
SHUFFLE_SEED = 0
_HERE = "the doctor looks at weights that run here: name a folder or a hub id (org/name), of a judge judge:FOLDER"


@dataclass(frozen=True, slots=True)
class Drift:
    """How far scores moved from those of each text alone."""

    name: str
    score: float
    """Largest absolute difference of a score; infinite where one of two is missing."""
    margin: float
    """The same of a difference between two candidates."""
    flips: int
    """Decisions that changed."""
    decisions: int
    tokens_per_second: float
    """Useful tokens: each text counted once, without padding and neighbours."""
    limit: float | None
    """None where it is only shown."""
    ok: bool

    @property
    def verdict(self) -> str:
        """`ok`, `NON-INVARIANT`, or `shown`."""
        return "shown" if self.limit is None else "ok" if self.ok else "NON-INVARIANT"

    def __str__(self) -> str:
        if not math.isfinite(self.score):
            return "some scores are missing here or there, and not both times"
        moved = f"score {self.score:.1e}, margin {self.margin:.1e}, " if self.margin or self.score else "equal, "
        return f"{moved}{self.flips} of {self.decisions} decisions flip, {self.tokens_per_second:,.0f} tokens/s"


@dataclass(frozen=True, slots=True)
class Checkup:
    """All that was found out about a model."""

    model: str
    kind: str
    suite: str
    texts: int
    dtype: str
    device: str
    path: str
    """How the weights are read, in words."""
    margin_sd: float
    """Standard deviation of the margins, in scores."""
    text: tuple[str, ...]
    """What the model reads, in words."""
    faults: tuple[str, ...]
    """What is unsound about it."""
    missing: tuple[str, ...]
    """Reasons for scores that are missing when each text is alone."""
    drifts: tuple[Drift, ...]
    left_out: tuple[str, ...]
    """What could not be compared, and why."""

    @property
    def invariant(self) -> bool:
        """Whether no score depends on its company."""
        return all(drift.ok for drift in self.drifts)

    def raise_if_failed(self) -> None:
        """Raise `CheckFailed` (exit 3) for whatever is beyond its limit."""
        found = [f"text: {fault}" for fault in self.faults]
        found += [f"scores are missing: {', '.join(self.missing)}"] if self.missing else []
        beyond = [drift.name for drift in self.drifts if not drift.ok]
        found += [f"non-invariant: {', '.join(beyond)}"] if beyond else []
        if found:
            raise CheckFailed(f"{self.model}: {'; '.join(found)}")


class Rebatched:
    """An engine whose batches are ours: so many requests together, in data order or shuffled, with a neighbour."""

    def __init__(self, engine: Engine, size: int, *, shuffled: bool = False, beside: Sequence[Request] = ()) -> None:
        """`beside` are requests of which one joins the first batch of its kind; its reply is dropped.

        One batch says as much as all would, of which each would take as long as the neighbour is.
        """
        self.name, self.engine, self.size = engine.name, engine, size
        self.shuffled, self.beside = shuffled, {_kind(one): one for one in reversed(beside)}

    def fingerprint(self) -> dict[str, JSON]:
        """The engine's."""
        return self.engine.fingerprint()

    def describe(self) -> dict[str, JSON]:
        """The engine's."""
        return self.engine.describe()

    def plan(self, requests: Sequence[Request]) -> Plan:
        """The engine's plan in other batches."""
        planned = self.engine.plan(requests)
        alike: dict[object, list[int]] = {}
        for i in sorted(i for batch in planned.batches for i in batch):
            alike.setdefault(_kind(requests[i]), []).append(i)
        batches = []
        for members in alike.values():
            if self.shuffled:
                random.Random(SHUFFLE_SEED).shuffle(members)  # noqa: S311 - any order will do
            batches += [tuple(members[i : i + self.size]) for i in range(0, len(members), self.size)]
        return replace(planned, batches=tuple(batches))

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        """One batch."""
        beside = self.beside.pop(_kind(requests[0]), None)
        return self.engine.run([*requests, beside] if beside else requests)[: len(requests)]


def examine(
    name: str,
    suite: Suite,
    *,
    data: Any = None,
    scorer: str | None = None,
    given: Mapping[str, Mapping[str, Any]] = {},
    seed: int = 0,
) -> Checkup:
    """Score `TEXTS` texts of a suite in every company and compare.

    Raises `UsageError` for what runs no weights here, and where fewer than two texts fit into the model.
    """
    by_step = suite.card.kind == "process"

    def loaded(**options: object) -> Model:
        engine = {"lint": "warn", **given.get("engine", {}), **options}
        return load_model(name, scorer=scorer, given={**given, "engine": engine}, by_step=by_step)

    judge, _, where = name.partition(":")
    if judge == "judge" and not (where.strip() and Path(where).expanduser().is_dir()) and where.count("/") != 1:
        raise UsageError(f"{name}: {_HERE}")  # loading it would ask for a server
    _engines(load_model(name, scorer=scorer, given=given, by_step=by_step))  # a baseline takes no engine options
    model = loaded()
    engines = list(_engines(model).values())
    examples, planned = _that_fit(model, suite.load(data, seed).examples, by_step, seed)
    engine = model.engine
    assert engine is not None  # _engines has looked

    def scored(by: Engine, of: Model = model) -> _Scored:
        outcome = runner.run(examples, of.scorer, by, title=f"{model.name}", by_step=by_step)
        return _Scored.of(outcome.judgements, outcome.counts.tokens / max(outcome.seconds, 1e-9))

    scored(Rebatched(engine, TEXTS))  # loads the weights and warms up
    alone = scored(Rebatched(engine, 1))
    dtype = engines[0].dtype
    sd = statistics.pstdev(alone.margins) if alone.margins and all(map(math.isfinite, alone.margins)) else 0.0
    limit = FLOAT32 if dtype == "float32" else HALF * sd

    drifts = [_drift("alone", alone, alone, limit)]
    drifts += [_drift(f"batches of {size}", alone, scored(Rebatched(engine, size)), limit) for size in SIZES]
    drifts.append(_drift("shuffled, batches of 8", alone, scored(Rebatched(engine, 8, shuffled=True)), limit))
    beside, times = _neighbours(model, examples, by_step)
    if beside:
        found = scored(Rebatched(engine, 8, beside=beside))
        drifts.append(_drift(f"padding: beside a text {times:.1f} times as long", alone, found, limit))
    drifts.append(_drift("as the engine plans", alone, scored(engine), limit))
    path = engines[0].path
    left_out = [] if beside else ["padding: the model may read no text longer than these"]
    others: list[tuple[str, Callable[[], _Scored], float | None]] = []
    if any(request.read == "text" for request in _asked(model, examples, by_step)):
        left_out.append("path: what a model writes is many forward passes, so its class has no single one to compare")
    else:
        others.append(("path: the class's own forward", lambda: scored(_own(model)), limit))
    other = "bfloat16" if dtype == "float32" else "float32"
    others.append((f"dtype: {other}", lambda: scored(*_in(loaded(dtype=other))), None))
    for engine_of_ours in engines:
        engine_of_ours.release()  # one copy of the weights at a time
    for label, measure, gate in others:
        try:
            drifts.append(_drift(label, alone, measure(), gate))
        except RuntimeError as fault:  # a dtype that a kernel of this device lacks
            left_out.append(f"{label}: {str(fault).partition(chr(10))[0]}")
    text = hygiene.report(planned.texts, engine.fingerprint())
    for what in left_out:
        note(f"{model.name}: not compared: {what}")
    return Checkup(
        model=model.name,
        kind=model.kind,
        suite=suite.name,
        texts=len(planned.tokens),
        dtype=dtype,
        device=str(engine.describe().get("device", "cpu")),
        path=path,
        margin_sd=sd,
        text=hygiene.lines(text) if text else (),
        faults=tuple(map(str, hygiene.lint(planned.texts))),
        missing=alone.missing,
        drifts=tuple(drifts),
        left_out=tuple(left_out),
    )


@dataclass(frozen=True, slots=True)
class _Scored:
    """The numbers of one run in the order of the examples."""

    values: tuple[float, ...]
    margins: tuple[float, ...]
    decisions: tuple[object, ...]
    missing: tuple[str, ...]
    tokens_per_second: float

    @classmethod
    def of(cls, judgements: Sequence[Judgement], tokens_per_second: float) -> _Scored:
        values: list[float] = []
        margins: list[float] = []
        decisions: list[object] = []
        for j in judgements:
            if j.verdicts:
                decisions += [row.verdict for row in j.verdicts]
                logits = [row.logmass[0] - row.logmass[1] for row in j.verdicts if row.logmass]
                values += logits
                margins += logits
                continue
            between = [a - b for a, b in combinations(j.scores, 2)]
            values += [*j.scores, *(step for steps in j.step_scores for step in steps)]
            margins += between
            decisions += [(m > 0) - (m < 0) for m in between]
        reasons = {reason for j in judgements for reason in j.reasons if reason}
        reasons |= {row.reason for j in judgements for row in j.verdicts if row.reason}
        return cls(tuple(values), tuple(margins), tuple(decisions), tuple(sorted(reasons)), tokens_per_second)


def _drift(name: str, alone: _Scored, other: _Scored, limit: float | None) -> Drift:
    """Two runs of the same examples compared."""
    score, margin = _largest(alone.values, other.values), _largest(alone.margins, other.margins)
    flipped = [i for i, pair in enumerate(zip(alone.decisions, other.decisions, strict=True)) if pair[0] != pair[1]]
    excused = 0.0 if limit in (None, FLOAT32) else limit or 0.0
    paired = len(alone.margins) == len(alone.decisions)  # verdicts in words have no margin
    grave = [i for i in flipped if not (paired and abs(alone.margins[i]) < excused)]
    return Drift(
        name=name,
        score=score,
        margin=margin,
        flips=len(flipped),
        decisions=len(alone.decisions),
        tokens_per_second=other.tokens_per_second,
        limit=limit,
        ok=limit is None or (score <= limit and not grave),
    )


def _largest(before: Sequence[float], now: Sequence[float]) -> float:
    """The largest difference; infinite where a number is missing on one side alone.

    >>> _largest([1.0, math.nan], [1.5, math.nan]), _largest([1.0], [math.nan])
    (0.5, inf)
    """
    if len(before) != len(now) or any(math.isnan(a) != math.isnan(b) for a, b in zip(before, now, strict=True)):
        return math.inf
    return max((abs(a - b) for a, b in zip(before, now, strict=True) if not math.isnan(a) and a != b), default=0.0)


def _engines(model: Model) -> dict[str, TransformersEngine]:
    """The engines that hold weights, by role."""
    if isinstance(model.engine, PolicyAndReference):
        return model.engine.engines
    if isinstance(model.engine, TransformersEngine):
        return {"policy": model.engine}
    raise UsageError(f"{model.name}: {_HERE}")


def _own(model: Model) -> Engine:
    """The same weights through their class alone."""
    assert model.engine is not None
    return OwnForward(model.engine, _engines(model))


def _in(model: Model) -> tuple[Engine, Model]:
    assert model.engine is not None
    return model.engine, model


def _asked(model: Model, examples: Sequence[Example], by_step: bool) -> list[Request]:
    """What the scorer asks first."""
    return runner.plan(examples, model.scorer, None, by_step=by_step)[1]


def _that_fit(model: Model, examples: Sequence[Example], by_step: bool, seed: int) -> tuple[tuple[Example, ...], Plan]:
    """About `TEXTS` candidates' examples whose texts the model may read, and their plan."""
    if not examples:
        raise UsageError("the suite has no examples")
    many = stratified_sample(examples, min(len(examples), 4 * TEXTS), seed)
    assert model.engine is not None
    kept: list[Example] = []
    reasons: set[str | None] = set()
    room = TEXTS
    for example in many:
        k = len(example.candidates)
        if k > room:
            break
        *_, planned = runner.plan([example], model.scorer, model.engine, by_step=by_step)
        if planned is not None:
            reasons.update(reply.reason for reply in planned.settled.values())
        if planned is not None and not planned.settled:
            kept.append(example)
            room -= k
    *_, planned = runner.plan(kept, model.scorer, model.engine, by_step=by_step)
    if planned is None or len(planned.tokens) < 2:
        few = "fewer than two texts of the suite are within what it may read"
        said = "its chat template refuses the suite's texts" if "template_refused" in reasons else few
        raise UsageError(f"{model.name}: {said}")
    return tuple(kept), planned


def _neighbours(model: Model, examples: Sequence[Example], by_step: bool) -> tuple[list[Request], float]:
    """Requests about one text as long as the model may read, up to `LONGER` times the longest; how much longer."""
    engine, scorer = model.engine, model.scorer
    assert engine is not None
    assert isinstance(scorer, Scorer)
    longest = max(engine.plan(_asked(model, examples, by_step)).tokens)
    short = min(examples, key=lambda example: sum(len(c.text) for c in example.candidates))
    for times in range(4 * LONGER, 1, -1):
        repeated = (Candidate(" ".join([c.text] * times), c.steps * times, c.tags) for c in short.candidates)
        [view, *_] = [view for _, view in views([replace(short, candidates=tuple(repeated))], scorer, by_step=by_step)]
        requests = next(scorer.score(view))
        planned = engine.plan(requests)
        if requests and not planned.settled and longest < max(planned.tokens) <= LONGER * longest:
            return requests, max(planned.tokens) / longest
    return [], 0.0


def _kind(request: Request) -> object:
    """What the requests of a batch share."""
    return request.role, request.at, request.read, request.tokens
