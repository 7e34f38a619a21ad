"""Candidate pools: several completions per prompt with a reward each, and what they are truly worth.

    a pool file      JSONL {"id", "prompt", "completions": [N], "rewards": [N]?, "gold": [N]?, "answers": [N]?}
    a result         its scores are the rewards, its grades the gold, its answers the answers
    a suite          gold and answers without rewards: what majority votes, luck and an oracle make of it

`answers` may be anything that says which completions agree: equal values are one answer. null is a missing reward.

What this module does not know: what is asked of a pool.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rmeval import strict_json
from rmeval.errors import UsageError, near_miss
from rmeval.metrics.convert import CHOICES, OWN, missing_reason, scores_of
from rmeval.types import NAN, Example, Judgement, Message

KEYS = ("id", "prompt", "completions", "rewards", "gold", "answers", "cluster")
_MOST = 1e100
"""Larger rewards are no rewards: their squares and sums would overflow."""


@dataclass(frozen=True, slots=True)
class PoolRow:
    """One prompt with its candidates; every list that is there has one entry per candidate."""

    id: str
    cluster: str
    """The prompt: rows that share it are resampled together."""
    n: int
    """Candidates."""
    prompt: tuple[Message, ...] = ()
    """Empty where only scores are at hand, as in a result."""
    completions: tuple[str, ...] = ()
    rewards: tuple[float, ...] = ()
    """NaN where missing; empty where the pool has none."""
    reasons: tuple[str | None, ...] = ()
    """Why a reward is missing; empty where all are there."""
    gold: tuple[float, ...] = ()
    """What each is truly worth: 1 and 0 for right and wrong, or any number, higher better."""
    answers: tuple[int, ...] = ()
    """The number of the final answer; equal answers share one."""
    lengths: tuple[int, ...] = ()
    """Characters of each candidate; empty where unknown."""


@dataclass(frozen=True, slots=True)
class Pool:
    """All rows of a pool."""

    name: str
    """What it holds, in words: `MODEL on SUITE`, or the file's name."""
    rows: tuple[PoolRow, ...]
    complete: bool = True
    notes: tuple[str, ...] = ()
    result: str | None = None
    """Id of the result that it is of."""

    @property
    def smallest(self) -> int:
        """Candidates of the smallest row."""
        return min(row.n for row in self.rows)

    @property
    def largest(self) -> int:
        """Candidates of the largest row."""
        return max(row.n for row in self.rows)

    def lacks(self, what: str) -> str:
        """Why `rewards`, `gold` or `answers` cannot be used; empty where every row has them."""
        without = [row.id for row in self.rows if not getattr(row, what)]
        if not without:
            return ""
        if len(without) == len(self.rows):
            return f"the pool has no {what}"
        return f"{len(without)} of {len(self.rows)} rows have no {what} (first: {without[0]!r})"

    @property
    def is_binary(self) -> bool:
        """Whether every gold value says right (1) or wrong (0)."""
        return all(value in (0.0, 1.0) for row in self.rows for value in row.gold)


def load_pool(source: str, *, aggregate: str = OWN, data: Path | None = None, seed: int = 0) -> Pool:
    """A pool by the path of a pool file or of a result, or by the name of a suite.

    `aggregate` turns the step scores of a result into rewards. Raises `UsageError` with file and line.
    """
    if aggregate not in CHOICES:
        raise UsageError(f"unknown aggregate {aggregate!r}. {near_miss(aggregate, CHOICES)}".rstrip())
    path = Path(source).expanduser()
    if path.suffix == ".json" and path.is_file():
        from rmeval.results import load_result

        view = load_result(path)
        held = view.result
        name = f"{held.model.name} on {held.suite.name}"
        pool = from_judgements(name, view.judgements, aggregate=aggregate, complete=held.complete)
        if far := next((row.id for row in pool.rows for value in row.rewards if abs(value) > _MOST), None):
            raise UsageError(f"{source}: example {far!r} has a reward beyond {_MOST:g}, of which no sum can be made")
        return replace(pool, result=held.id)
    if path.is_file():
        return read_pool(path)
    if path.suffix in (".json", ".jsonl", ".gz") or path.is_dir():
        raise UsageError(f"{source}: no such file" if not path.is_dir() else f"{source}: a folder; name a result file")
    from rmeval.suites import load_suite

    suite = load_suite(source)
    found = suite.load(data, seed)
    return from_examples(suite.name, found.examples, complete=found.complete)


def read_pool(path: Path) -> Pool:
    """The rows of a pool file, all faults of a row in one message with its line."""
    rows: list[PoolRow] = []
    lines: dict[str, int] = {}
    for number, value in strict_json.read_lines(path):
        if not _is_unicode(value):
            raise UsageError(f"{path} line {number}: holds half of a surrogate pair, which is no character")
        row = _row(value, f"{path} line {number}")
        if row.id in lines:
            raise UsageError(f"{path} line {number}: id {row.id!r} stands in line {lines[row.id]} already")
        lines[row.id] = number
        rows.append(row)
    if not rows:
        raise UsageError(f"{path}: the pool has no rows")
    return Pool(path.name, tuple(rows))


def from_judgements(name: str, judgements: Sequence[Judgement], *, aggregate: str = OWN, complete: bool = True) -> Pool:
    """The pool of a scored suite: rewards from the scores, gold from the grades."""
    how: dict[str, None] = {}
    rows = []
    for j in judgements:
        scored = scores_of(j, aggregate)
        if scored.how:
            how[scored.how] = None
        missing = any(map(math.isnan, scored.values))
        rows.append(
            PoolRow(
                j.id,
                j.cluster or j.id,
                len(j.grades),
                rewards=scored.values,
                reasons=tuple(missing_reason(j, i) if math.isnan(v) else None for i, v in enumerate(scored.values))
                if missing
                else (),
                gold=j.grades,
                answers=j.answers,
                lengths=j.lengths,
            )
        )
    return Pool(name, tuple(rows), complete, tuple(how))


def from_examples(name: str, examples: Iterable[Example], *, complete: bool = True) -> Pool:
    """The pool of a suite's candidates, without rewards."""
    return Pool(
        name,
        tuple(
            PoolRow(
                e.id,
                e.cluster or e.id,
                len(e.candidates),
                prompt=e.prompt,
                completions=tuple(c.body or "" for c in e.candidates) if all(c.body for c in e.candidates) else (),
                gold=e.labels.grades,
                answers=e.labels.answers,
                lengths=tuple(len(c.body or "") for c in e.candidates) if all(c.body for c in e.candidates) else (),
            )
            for e in examples
        ),
        complete,
    )


def to_json(row: PoolRow) -> str:
    """A row as a line of a pool file.

    >>> to_json(PoolRow("a", "a", 1, completions=("4",), rewards=(NAN,), gold=(1.0,)))
    '{"id": "a", "completions": ["4"], "rewards": [null], "gold": [1.0]}'
    """
    content: dict[str, Any] = {"id": row.id}
    if row.prompt:
        content["prompt"] = [{"role": m.role, "content": m.content} for m in row.prompt]
    content["completions"] = list(row.completions)
    if row.rewards:
        content["rewards"] = [None if math.isnan(r) else r for r in row.rewards]
    content |= {"gold": list(row.gold)} if row.gold else {}
    content |= {"answers": list(row.answers)} if row.answers else {}
    content |= {"cluster": row.cluster} if row.cluster != row.id else {}
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


# --- reading a row ---------------------------------------------------------------------------------------------------


def _row(value: Any, where: str) -> PoolRow:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: a row is an object, not {type(value).__name__}")
    strange = [key for key in value if key not in KEYS]
    if strange:
        near = near_miss(strange[0], KEYS) or f"There are {', '.join(KEYS)}"
        raise UsageError(f"{where}: unknown key {strange[0]!r}. {near}")
    if not isinstance(value.get("id"), str) or not value["id"]:
        raise UsageError(f"{where}: a row needs a string `id`")
    completions = value.get("completions")
    if not isinstance(completions, list) or not completions or not all(isinstance(c, str) for c in completions):
        raise UsageError(f"{where}: `completions` is a list of at least one text")
    n = len(completions)
    lists = {name: value[name] for name in ("rewards", "gold", "answers") if value.get(name) is not None}
    for name, given in lists.items():
        if not isinstance(given, list) or len(given) != n:
            has = f"{len(given)}" if isinstance(given, list) else type(given).__name__
            raise UsageError(f"{where}: {name} has {has} entries for {n} completions of {value['id']!r}")
    rewards = _numbers(lists.get("rewards", []), f"{where}: rewards", missing=True)
    gold = _numbers(lists.get("gold", []), f"{where}: gold", missing=False)
    seen: dict[str, int] = {}
    answers = tuple(seen.setdefault(_same(a), len(seen)) for a in lists.get("answers", []))
    cluster = value.get("cluster", value["id"])
    if not isinstance(cluster, str):
        raise UsageError(f"{where}: cluster is a string")
    return PoolRow(
        value["id"],
        cluster,
        n,
        _prompt(value.get("prompt"), where),
        tuple(completions),
        rewards,
        tuple("not_recorded" if math.isnan(r) else None for r in rewards) if any(map(math.isnan, rewards)) else (),
        gold,
        answers,
        tuple(map(len, completions)),
    )


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _prompt(value: Any, where: str) -> tuple[Message, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (Message("user", value),)
    if isinstance(value, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in value
    ):
        return tuple(Message(m["role"], m["content"]) for m in value)
    raise UsageError(f"{where}: `prompt` is a text, or a list of messages with role and content")


def _same(answer: Any) -> str:
    """What equal answers share: 4 and 4.0 are one number, "4" is a text."""
    whole = isinstance(answer, float) and answer.is_integer()
    return json.dumps(int(answer) if whole else answer, sort_keys=True)


def _numbers(values: Sequence[Any], where: str, *, missing: bool) -> tuple[float, ...]:
    found = []
    for value in values:
        if value is None and missing:
            found.append(NAN)
        elif isinstance(value, int | float) and not (missing and isinstance(value, bool)):  # gold may say true, false
            if abs(value) > _MOST:
                raise UsageError(f"{where}: a number beyond {_MOST:g} is too large")
            found.append(float(value))
        else:
            rest = " (write null for a missing one)" if missing else ""
            raise UsageError(f"{where}: {value!r} is not a number{rest}")
    return tuple(found)
