"""A run in parts: which examples a shard has, what a part must say, and the parts as the one run that they are.

    rmeval run MODEL --suite S --shard 1/4        on one machine, 2/4 on the next, ... in any order, at any time
    rmeval merge RESULT RESULT RESULT RESULT      the result of one run: same numbers, same rows in the same order

Examples that share a prompt are never parted. The shard of a prompt is a hash of it, so it depends on neither the order
of the data nor who runs the others. Nothing is merged that was not asked in the same way, and nothing is left out.

What this module does not know: models, engines, where results are written.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rmeval import results
from rmeval.engines import hygiene
from rmeval.errors import UsageError
from rmeval.metrics.evaluate import evaluate, withhold
from rmeval.metrics.plan import MetricPlan
from rmeval.progress import note
from rmeval.records import Counts, Result, ShardRecord, TextFactsRecord, Usage
from rmeval.results import Draft, ResultView
from rmeval.runner import reasons_of
from rmeval.types import SKIPPED, UNREAD, Example, Judgement, TextFacts


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several parts of a run; the first is 1."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`2/4`. Raises `UsageError` for anything else.

        >>> Shard.parse("2/4")
        Shard(index=2, of=4)
        """
        found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
        if found and 1 <= int(found[1]) <= int(found[2]):
            return cls(int(found[1]), int(found[2]))
        hint = " (shards are counted from 1)" if found and int(found[1]) == 0 else ""
        raise UsageError(f"--shard {text}: write I/N with I from 1 to N, such as 1/4{hint}")

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


def shard_of(example: Example, of: int) -> int:
    """The shard that an example belongs to: from 1, the same for all that share its prompt.

    >>> shard_of(Example.pair("a", "Why?", "x", "y"), 1)
    1
    """
    digest = hashlib.sha256(f"shard\n{example.cluster or example.id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % of + 1


def places(shard: Shard, examples: Sequence[Example]) -> tuple[int, ...]:
    """The places of a shard's examples among those of the whole run."""
    return tuple(i for i, example in enumerate(examples) if shard_of(example, shard.of) == shard.index)


def record(
    shard: Shard,
    at: Sequence[int],
    *,
    examples: int,
    complete: bool,
    notes: Sequence[str],
    texts: Sequence[TextFacts],
    served: Mapping[str, int],
) -> ShardRecord:
    """What a part must say so that the parts can become one. `examples`: how many the whole run has."""
    names = [field.name for field in fields(TextFacts)]
    return ShardRecord(
        index=shard.index,
        of=shard.of,
        examples=examples,
        places=_ranges(at),
        complete=complete,
        notes=tuple(notes),
        texts=tuple(
            TextFactsRecord(n=n, **{name: getattr(facts, name) for name in names})
            for facts, n in sorted(Counter(texts).items(), key=repr)
        ),
        served=dict(served),
    )


def merge(views: Sequence[ResultView], plan: MetricPlan, *, max_failed: int = 0) -> tuple[Draft, tuple[Judgement, ...]]:
    """The one run that these are the parts of, as a draft, and its rows.

    Raises `UsageError` for results that are no shards, are not of one run, overlap, or are not all of it.
    """
    parts = _sorted(views)
    _refuse_different(parts)
    first, shards = parts[0].result, [shard for _, shard in _with_shards(parts)]
    rows: dict[int, Judgement] = {}
    for view, shard in _with_shards(parts):
        at = _unranged(shard.places, view.path)
        if len(at) != len(view.judgements):
            raise UsageError(f"{view.path}: {len(view.judgements)} rows for {len(at)} places")
        for place, row in zip(at, view.judgements, strict=True):
            if place in rows:
                raise UsageError(f"{view.path}: example {row.id!r} is in another shard, too: the shards overlap")
            rows[place] = row
    if rows.keys() != set(range(shards[0].examples)):
        raise UsageError(f"{len(rows)} examples are in the shards, and the run has {shards[0].examples}")
    judgements = tuple(rows[place] for place in range(len(rows)))
    metrics = evaluate(judgements, results.with_options(plan, first.metric_options))
    reasons = Counter(reason for j in judgements for reason in reasons_of(j))
    said = withheld(reasons, max_failed)
    texts = [facts for shard in shards for facts in _facts(shard)]
    served = sum((Counter(shard.served) for shard in shards), Counter[str]())
    draft = replace(
        results.as_draft(first),
        complete=all(shard.complete for shard in shards) and first.suite.limit is None and not said,
        suite=first.suite.model_copy(update={"examples": len(judgements)}),
        shard=None,
        text=hygiene.report(texts, first.engine.model_dump(mode="json")) if first.engine else None,
        metrics=withhold(metrics, said) if said else metrics,
        counts=Counts(**{name: sum(getattr(v.result.counts, name) for v in parts) for name in Counts.model_fields}),
        usage=Usage(**{name: sum(getattr(v.result.usage, name) for v in parts) for name in Usage.model_fields}),
        withheld=said,
        notes=(
            *dict.fromkeys(n for shard in shards for n in shard.notes),
            *faults(texts),
            *flagged(judgements),
            *answered(served),
        ),
    )
    return draft, judgements


def withheld(reasons: Mapping[str, int], max_failed: int) -> str:
    """Why aggregates are withheld, from how many candidates lack a score for which reason; "" where they are not."""
    failed = sum(n for reason, n in reasons.items() if reason not in UNREAD | {SKIPPED})
    if failed <= max_failed:
        return ""
    said = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
    are = "score is" if failed == 1 else "scores are"
    return f"{failed} {are} missing ({said}), more than --max-failed {max_failed}"


def faults(texts: Sequence[TextFacts]) -> list[str]:
    """The notes of a run that was told to bear unsound texts."""
    return [f"text: {fault}" for fault in hygiene.lint(texts)]


def flagged(judgements: Sequence[Judgement]) -> list[str]:
    """Notes that list the examples with a text over the limit, an empty response, or what may mislead a judge."""
    cut, empty, marked = [], [], []
    for j in judgements:
        if any(j.truncated):
            cut.append(j.id)
        if 0 in j.lengths:
            empty.append(j.id)
        if any(j.marked) or any(verdict.marked for verdict in j.verdicts):
            marked.append(j.id)
    found = {
        "truncated: a text is over the limit": cut,
        "empty_completion: a response is empty": empty,
        "marker_in_input: what the judge was shown could be taken for its own answer": marked,
    }
    return [
        f"{what} in {len(ids)} of {len(judgements)} examples: {', '.join(ids[:20])}{', ...' if len(ids) > 20 else ''}"
        for what, ids in found.items()
        if ids
    ]


def answered(served: Mapping[str, int]) -> list[str]:
    """Which model a server says has answered; said aloud where it was not always the same."""
    said = ", ".join(f"{name} ({n} replies)" for name, n in sorted(served.items()))
    if len(served) > 1:
        note(f"mixed: the server answered with different models: {said}")
        return [f"mixed: answered by different models: {said}"]
    return [f"answered by {said}"] if served else []


def _with_shards(parts: Iterable[ResultView]) -> Iterator[tuple[ResultView, ShardRecord]]:
    for view in parts:
        if view.result.shard is None:
            raise UsageError(f"{view.path}: is no shard; merge takes what rmeval run --shard I/N wrote")
        yield view, view.result.shard


def _sorted(views: Sequence[ResultView]) -> list[ResultView]:
    """All shards of one number, each once, the first first."""
    found: dict[int, Path] = {}
    of = {shard.of: view.path for view, shard in _with_shards(views)}
    if len(of) > 1:
        said = "; ".join(f"{path} is one of {n}" for n, path in of.items())
        raise UsageError(f"the shards are not of one run: {said}")
    for view, shard in _with_shards(views):
        if shard.index in found:
            raise UsageError(
                f"shard {shard.index}/{shard.of} stands twice: {found[shard.index]} and {view.path}. Name one of them"
            )
        found[shard.index] = view.path
    for n in of:
        if lacking := [str(i) for i in range(1, n + 1) if i not in found]:
            are = "shard {} of {} is" if len(lacking) == 1 else "shards {} of {} are"
            raise UsageError(f"{are.format(', '.join(lacking), n)} missing: run it with --shard I/{n}, and name it")
    return [view for view, _ in sorted(_with_shards(views), key=lambda pair: pair[1].index)]


def _refuse_different(parts: Sequence[ResultView]) -> None:
    """Raise `UsageError` with the first field in which what was asked differs."""
    one, before = parts[0], dict(_flat("", _asked(parts[0].result)))
    for other in parts[1:]:
        now = dict(_flat("", _asked(other.result)))
        for key in sorted(before.keys() | now.keys(), key=lambda key: (not key.endswith(".name"), key)):
            if before.get(key) != now.get(key):
                raise UsageError(
                    f"the shards are not of one run: {key} is {before.get(key)!r} in {one.path} and "
                    f"{now.get(key)!r} in {other.path}"
                )


def _asked(result: Result) -> dict[str, Any]:
    """What was asked, the shard left out."""
    content = result.model_dump(mode="json")
    asked = {name: content[name] for name in ("model", "suite", "scorer", "engine", "metric_options", "rescored_from")}
    asked["suite"] = {**asked["suite"], "examples": content["shard"]["examples"]}
    return asked


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}".lstrip("."), inner)
    else:
        yield name, value


def _facts(shard: ShardRecord) -> Iterator[TextFacts]:
    for row in shard.texts:
        plain = row.model_dump()
        yield from [TextFacts(**{name: value for name, value in plain.items() if name != "n"})] * row.n


def _ranges(numbers: Sequence[int]) -> str:
    """Rising numbers as ranges.

    >>> _ranges([0, 3, 4, 5, 9]), _ranges([])
    ('0 3-5 9', '')
    """
    found: list[tuple[int, int]] = []
    for n in numbers:
        if found and n == found[-1][1] + 1:
            found[-1] = (found[-1][0], n)
        else:
            found.append((n, n))
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def _unranged(text: str, path: Path) -> list[int]:
    """The numbers of ranges. Raises `UsageError` for what are none.

    >>> _unranged("0 3-5 9", Path("x.json"))
    [0, 3, 4, 5, 9]
    """
    found: list[int] = []
    for part in text.split():
        first, _, last = part.partition("-")
        a, b = int(first), int(last or first)
        if b < a or b - a > 10**8 or (found and a <= found[-1]):
            raise UsageError(f"{path}: shard.places: {part!r} is out of order")
        found += range(a, b + 1)
    return found
