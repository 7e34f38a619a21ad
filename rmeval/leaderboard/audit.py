"""`--reproduce k`: score k random examples of a result again with its model, and say how far the scores are apart.

The model is found by its name in the result, or where the caller says; engine settings that decide scores are those
that the result records. A model of another fingerprint is compared all the same, and the differences are named.

What this module does not know: what a submission is, who may stand on a board.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from rmeval import runner
from rmeval.errors import UsageError
from rmeval.metrics.convert import scores_of
from rmeval.models import Model, load_model
from rmeval.protocols import FollowsPreset
from rmeval.results import ResultView
from rmeval.suites import load_suite
from rmeval.types import Judgement

TOLERANCE = 1e-4
"""Largest difference of a score that counts as the same, in fp32; see `docs/architecture.md`, the store."""
_LABELS = (
    *("subset", "group", "cluster", "grades", "step_grades", "comparisons", "votes", "slices", "answers", "models"),
    "lengths",
)
"""What the data say of an example, and no digest pins all of."""
_ENGINE = ("dtype", "max_length", "truncation", "attention")
"""Settings of an engine that a result records under the name of the argument."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What scoring again gave."""

    examples: int
    candidates: int
    """Scores compared, and readings of a judge."""
    largest: float
    """Largest absolute difference; NaN where nothing could be compared."""
    where: str
    """The example that it is at."""
    beyond: int
    """Scores that differ by more than the tolerance or are missing on one side only, verdicts that differ, and
    examples about which the data say something else."""
    decisions: int
    """Examples whose best candidate is another."""
    differs: tuple[str, ...]
    """Fields of the fingerprint that differ from the result's."""
    seed: int = 0
    """What drew the examples."""

    @property
    def agrees(self) -> bool:
        """Whether every score was found again."""
        return self.candidates > 0 and self.beyond == 0


def audit(
    view: ResultView,
    k: int,
    *,
    model: str | None = None,
    data: Path | None = None,
    seed: int | None = None,
    given: Mapping[str, Mapping[str, Any]] | None = None,
    scorer: str | None = None,
) -> Audit:
    """Score k examples again. `model` says where the model lies if its name does not.

    Without a seed one is taken that nobody could know before: who can foretell which examples are looked at makes up
    the others. Raises `UsageError` for a model that cannot be loaded and for a suite without its texts.
    """
    held = view.result
    if held.model.kind in ("replay", "ensemble") or (held.engine is not None and held.engine.name == "published"):
        raise UsageError(
            f"{held.model.name} ({held.model.kind}) holds recorded scores: there is no model to score again"
        )
    suite = load_suite(held.suite.name)
    loaded = model_again(view, model, given or {}, scorer)
    if not loaded.needs_texts:
        raise UsageError(f"{loaded.name} scores no texts: it cannot audit {held.model.name}")
    examples = {e.id: e for e in suite.load(None if suite.card.embedded else data, held.suite.seed).examples}
    seed = secrets.randbelow(2**32) if seed is None else seed
    chosen = drawn(view.judgements, k, seed)
    strange = [j.id for j in chosen if j.id not in examples]
    if strange:
        raise UsageError(
            f"{suite.name}: the data have no example {strange[0]!r} ({len(strange)} of {len(chosen)} drawn)"
        )
    outcome = runner.run(
        [examples[j.id] for j in chosen],
        loaded.scorer,
        loaded.engine,
        None,
        title=f"scoring {len(chosen)} examples of {held.model.name} again",
        by_step=suite.card.kind == "process",
    )
    return replace(compared(chosen, outcome.judgements, _differs(view, loaded)), seed=seed)


def drawn(rows: Sequence[Judgement], k: int, seed: int) -> list[Judgement]:
    """The k examples that a seed draws: those whose hash with it is smallest, whatever their order in the file."""
    return sorted(rows, key=lambda j: hashlib.sha256(f"{seed}|{j.id}".encode()).digest())[:k]


def model_again(
    view: ResultView, name: str | None, given: Mapping[str, Mapping[str, Any]], scorer: str | None = None
) -> Model:
    """The model of a result with the engine settings that the result states; `name` says where it lies now."""
    held = view.result
    stated = held.engine.model_dump() if held.engine is not None else {}
    engine = {key: stated[key] for key in _ENGINE if stated.get(key) not in (None, "default")}
    if str(engine.get("truncation", "")).startswith("official"):
        engine["truncation"] = "official"
    source = name or held.model.name
    if name is None and held.model.revision and source.count("/") == 1:
        source = f"{source}@{held.model.revision}"
    args = {**given, "engine": {**(engine if held.engine is not None else {}), **given.get("engine", {})}}
    kind = scorer or (held.model.kind if held.engine is not None and name is not None else None)
    loaded = load_model(source, scorer=kind, given=args)
    preset = load_suite(held.suite.name).card.truncation
    if preset and isinstance(loaded.engine, FollowsPreset) and loaded.engine.truncation == "official":
        loaded.engine.follow(max_length=preset.max_length, side=preset.side, source=preset.source)
    return loaded


def _differs(view: ResultView, loaded: Model) -> tuple[str, ...]:
    stated = view.result.engine.model_dump() if view.result.engine is not None else {}
    ours = dict(loaded.engine.fingerprint()) if loaded.engine is not None else {}
    return tuple(sorted(key for key in stated.keys() & ours.keys() if stated[key] != ours[key]))


def compared(before: Sequence[Judgement], after: Sequence[Judgement], differs: tuple[str, ...] = ()) -> Audit:
    """Scores of the same examples in the same order, a judge's verdicts, reading by reading, and what is so labelled.

    Raises `UsageError` where an example has another number of scores.
    """
    largest, where, beyond, candidates, decisions = math.nan, "", 0, 0, 0
    for old, new in zip(before, after, strict=True):
        decisions += _best(old) != _best(new)
        beyond += any(getattr(old, name) != getattr(new, name) for name in _LABELS)
        said, again = _readings(old), _readings(new)
        candidates += len(said)
        beyond += sum(said.get(key, "") != again.get(key, "") for key in said.keys() | again.keys())
        a, b = _numbers(old), _numbers(new)
        if len(a) != len(b):
            raise UsageError(f"example {old.id!r}: {len(b)} scores, where the result has {len(a)}")
        for x, y in zip(a, b, strict=True):
            candidates += 1
            if math.isnan(x) or math.isnan(y):
                beyond += math.isnan(x) != math.isnan(y)
                continue
            gap = abs(x - y)
            beyond += gap > TOLERANCE * max(1.0, abs(x))
            if math.isnan(largest) or gap > largest:
                largest, where = gap, old.id
    return Audit(len(before), candidates, largest, where, beyond, decisions, differs)


def _readings(j: Judgement) -> dict[tuple[tuple[int, ...], int], str | None]:
    """(order shown, vote) -> what was read; None where nothing was."""
    return {(verdict.order, verdict.vote): verdict.verdict for verdict in j.verdicts}


def _numbers(j: Judgement) -> list[float]:
    """All numbers that a scorer gave for an example, in one order: of several kinds each may decide a metric."""
    return [*j.scores, *chain.from_iterable(j.step_scores), *chain.from_iterable(j.ratings)]


def _best(j: Judgement) -> frozenset[int]:
    values = scores_of(j).values
    there = [v for v in values if not math.isnan(v)]
    return frozenset(i for i, v in enumerate(values) if there and v == max(there))


def audit_says(found: Audit) -> str:
    """An audit in one line."""
    largest = "no numbers to compare" if math.isnan(found.largest) else f"largest difference {found.largest:.3g}"
    at = f" at {found.where!r}" if found.largest > 0 else ""
    other = f"; its fingerprint differs in {', '.join(found.differs)}" if found.differs else ""
    return (
        f"{found.candidates} scores of {found.examples} examples again: {largest}{at}, {found.beyond} beyond "
        f"{TOLERANCE:g}, {found.decisions} decisions changed{other}"
    )
