"""A result made again: the same model, suite, arguments, limit and seed, from the first text on; then compared.

    reproduce(rmeval.load_result("result.json"), loaded, data=None, out=Path("again"))

Nothing is taken from the reply store. A stored result says how it was asked (scorer, engine, suite) but not every
argument in the words of the command line; those come from whoever calls, who knows the recorded command.

What this module does not know: the command line, what a model is called there.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmeval import api, results
from rmeval.errors import UsageError
from rmeval.leaderboard.audit import Audit, compared
from rmeval.leaderboard.verify import difference
from rmeval.models import Model
from rmeval.records import Record
from rmeval.results import ResultView
from rmeval.shards import Shard
from rmeval.suites import SKIPPED, Suite, load_suite

_ASKED = ("model", "suite", "scorer", "engine", "text")
"""Records that say what was asked; equal ones should give equal scores."""

_OF_ONE_RUN = ("command", "started")
"""What is another in every run."""


@dataclass(frozen=True, slots=True)
class Change:
    """A field of the result file that is not as it was."""

    field: str
    before: Any
    now: Any


@dataclass(frozen=True, slots=True)
class Reproduced:
    """A result beside the same run done again."""

    path: Path
    """The new result file."""
    audit: Audit
    """The comparison, score by score."""
    headline: tuple[float | None, float | None]
    """Before and now; None where it is undefined or withheld."""
    asked: tuple[Change, ...]
    """Of model, suite, data, scorer, engine and texts: where something stands, another thing was run."""
    environment: tuple[Change, ...]
    claims: tuple[str, ...] = ()
    """Stated numbers that the result's own samples do not give."""

    @property
    def agrees(self) -> bool:
        """Whether every score was found again, and every stated number follows from the scores."""
        return self.audit.agrees and not self.claims


def reproduce(view: ResultView, model: Model, *, data: Path | None, out: Path) -> Reproduced:
    """Run a result again with its model at hand, and compare every score. The new result is written below `out`.

    Raises `UsageError` for imported results, which nothing has run, and for data with other examples.
    """
    held = view.result
    refuse_imported(view)
    suite = load_suite(held.suite.name)
    with tempfile.TemporaryDirectory() as folder:
        settings = api.Settings(
            data=None if suite.card.embedded else data,
            limit=held.suite.limit,
            seed=held.suite.seed,
            out=out,
            store=Path(folder) / "replies.sqlite",  # a reply from another run would prove nothing
            max_failed=sys.maxsize,
            metric_options=held.metric_options,
            skip_bad_rows=any(note.startswith(SKIPPED) for note in held.notes),
            shard=Shard(held.shard.index, held.shard.of) if held.shard else None,
        )
        again = results.load_result(api.run_suite(model, suite, settings))
    now = {j.id: j for j in again.judgements}
    before = {j.id for j in view.judgements}
    if now.keys() != before:
        odd = min(now.keys() ^ before)
        raise UsageError(
            f"{suite.name}: other examples than in the result, {odd!r} among them "
            f"({len(before - now.keys())} are lacking, {len(now.keys() - before)} are new); are these its data?"
        )
    old, new = held.headline.value, again.result.headline.value
    around = again.result.environment
    return Reproduced(
        again.path,
        compared(view.judgements, [now[j.id] for j in view.judgements]),
        (old, None if held.withheld else new),
        tuple(change for name in _ASKED for change in changes(name, getattr(held, name), getattr(again.result, name))),
        tuple(c for c in changes("", held.environment, around) if not c.field.startswith(_OF_ONE_RUN)),
        tuple(_claims(view, suite)),
    )


def _claims(view: ResultView, suite: Suite) -> Iterator[str]:
    """What is wrong with the stated numbers, by the result's own samples; those that rmeval no longer has are left."""
    own = {(m.name, m.subset): m for m in results.metrics_of(results.rescore(view.path, suite.plan))}
    for stated in view.metrics:
        mine = own.get((stated.name, stated.subset))
        if mine is not None and (what := difference(stated, mine)):
            yield f"{stated.name}{f' of {stated.subset}' if stated.subset is not None else ''}: {what}"


def refuse_imported(view: ResultView) -> None:
    """Raise `UsageError` for a result that was made of published outputs."""
    held = view.result
    if held.engine is not None and held.engine.name == "published":
        raise UsageError(
            f"{held.model.name} was imported from published outputs: there is no run to repeat. The same files give "
            "the same numbers: rmeval import"
        )


def changes(name: str, before: Record | None, now: Record | None) -> Iterator[Change]:
    """Fields that differ, by their path in the result file."""
    old, new = (record.model_dump(mode="json") if record is not None else None for record in (before, now))
    yield from _differing(name, old, new)


def _differing(name: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differing(f"{name}.{key}".lstrip("."), old.get(key), new.get(key))
    elif old != new:
        yield Change(name, old, new)
