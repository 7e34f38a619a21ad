"""Recorded outputs as a scorer: any published per-item file becomes a test of our metrics.

`replay:FILE` is JSONL, one object per line:

    {"id": "...", "scores": [s_0, ..., s_k-1]}      in the order of `rmeval show SUITE --examples --json`
    {"id": "...", "step_scores": [[...], ...]}      one list per candidate
    {"id": "...", "verdicts": [{"order": [0, 1], "verdict": "A", "reason": null, "p": null}, ...]}
    {"id": "...", "ratings": [[...], ...]}          one list of votes per candidate

A critic is shown one solution: its order is [0] and its verdict "-1", or the 0-based number of the first wrong step.
Several rows of one id add their verdicts, and verdicts on the same order are votes; anything else twice is an error.
null is a missing score. Ids that the file lacks are missing scores; ids that the suite lacks are an error, since they
mean another suite or another version.

What this module does not know: what the texts were, and which candidate is right.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from rmeval import strict_json
from rmeval.errors import UsageError, near_miss
from rmeval.types import JSON, NAN, Recorded, Verdict

KINDS = ("scores", "step_scores", "verdicts", "ratings")
_PAIR_VERDICTS = frozenset(("A>>B", "A>B", "A=B", "B>A", "B>>A", "tie"))


class Replay:
    """All rows of a replay file, by example id."""

    name = "replay"

    def __init__(self, path: Path) -> None:
        """Read and check the file. Raises `UsageError` with file and line."""
        self.path = path
        if not path.is_file():
            raise UsageError(f"replay file {path} does not exist")
        self.rows: dict[str, Recorded] = {}
        self.lines: dict[str, int] = {}
        for number, row in strict_json.read_lines(path):
            self._add(number, row)
        if not self.rows:
            raise UsageError(f"replay file {path} has no rows")

    def identity(self) -> dict[str, JSON]:
        """The digest of the file."""
        return {"kind": self.name, "file": self.path.name, "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest()}

    def recorded(self, example_id: str, k: int) -> Recorded | None:
        """The file's row for an example of k candidates, or None. A wrong number of scores raises `UsageError`."""
        row = self.rows.get(example_id)
        if row is None:
            return None
        where = f"{self.path} line {self.lines[example_id]}"
        for kind in ("scores", "step_scores", "ratings"):
            n = len(getattr(row, kind))
            if n and n != k:
                raise UsageError(f"{where}: {n} {kind} for {example_id!r}, which has {k} candidates")
        for verdict in row.verdicts:
            if max(verdict.order) >= k:
                raise UsageError(f"{where}: order {list(verdict.order)} for {example_id!r}, which has {k} candidates")
        return row

    def check_ids(self, known: set[str]) -> None:
        """Raise `UsageError` when the file names examples that the suite does not have."""
        strange = [i for i in self.rows if i not in known]
        if strange:
            first = strange[0]
            hint = near_miss(first, list(known)[:20000]) or f"It has {', '.join(map(repr, sorted(known)[:2]))}, ..."
            raise UsageError(
                f"{self.path} line {self.lines[first]}: the suite has no example {first!r} "
                f"({len(strange)} of {len(self.rows)} ids are unknown). {hint} "
                "List the ids: rmeval show SUITE --examples --json"
            )

    def _add(self, number: int, row: Any) -> None:
        where = f"{self.path} line {number}"
        if not isinstance(row, dict):
            raise UsageError(f"{where}: a row is an object, not {type(row).__name__}")
        unknown = [key for key in row if key not in {"id", "reasons", *KINDS}]
        if unknown:
            raise UsageError(f"{where}: unknown key {unknown[0]!r}. {near_miss(unknown[0], KINDS)}".rstrip())
        kinds = [kind for kind in KINDS if kind in row]
        if not isinstance(row.get("id"), str) or not kinds:
            raise UsageError(f"{where}: a row needs a string `id` and one of {', '.join(KINDS)}")
        found = Recorded(
            scores=_numbers(row["scores"], f"{where}: scores") if "scores" in row else (),
            step_scores=_lists(row["step_scores"], f"{where}: step_scores") if "step_scores" in row else (),
            ratings=_lists(row["ratings"], f"{where}: ratings") if "ratings" in row else (),
            verdicts=_verdicts(row["verdicts"], f"{where}: verdicts") if "verdicts" in row else (),
            reasons=_reasons(row["reasons"], f"{where}: reasons") if "reasons" in row else (),
        )
        before = self.rows.get(row["id"])
        if before is not None:
            if not (before.verdicts and kinds == ["verdicts"]):
                raise UsageError(f"{where}: id {row['id']!r} stands in line {self.lines[row['id']]} already")
            found = replace(before, verdicts=before.verdicts + found.verdicts)
        found = replace(found, verdicts=_as_votes(found.verdicts))
        self.rows[row["id"]] = found
        self.lines.setdefault(row["id"], number)


def _numbers(value: Any, where: str) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise UsageError(f"{where}: a list of numbers, not {type(value).__name__}")
    for item in value:
        if item is not None and (isinstance(item, bool) or not isinstance(item, int | float)):
            raise UsageError(f"{where}: {item!r} is not a number (write null for a missing score)")
    try:
        return tuple(NAN if item is None else float(item) for item in value)
    except OverflowError:
        raise UsageError(f"{where}: an integer is too large") from None


def _lists(value: Any, where: str) -> tuple[tuple[float, ...], ...]:
    if not isinstance(value, list):
        raise UsageError(f"{where}: a list of lists, one per candidate, not {type(value).__name__}")
    return tuple(_numbers(inner, f"{where}[{i}]") for i, inner in enumerate(value))


def _reasons(value: Any, where: str) -> tuple[str | None, ...]:
    if not isinstance(value, list) or not all(item is None or isinstance(item, str) for item in value):
        raise UsageError(f"{where}: a list of strings or nulls, one per candidate")
    return tuple(value)


def _verdicts(value: Any, where: str) -> tuple[Verdict, ...]:
    if not isinstance(value, list) or not value:
        raise UsageError(f"{where}: a list of objects with `order` and `verdict`")
    return tuple(_verdict(item, f"{where}[{i}]") for i, item in enumerate(value))


def _as_votes(verdicts: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    """Rows of the same order are votes, numbered as they come."""
    seen: Counter[tuple[int, ...]] = Counter()
    numbered = []
    for row in verdicts:
        numbered.append(replace(row, vote=seen[row.order]))
        seen[row.order] += 1
    return tuple(numbered)


def _verdict(item: Any, where: str) -> Verdict:
    if not isinstance(item, dict) or "order" not in item or "verdict" not in item:
        raise UsageError(f"{where}: an object with `order` and `verdict`")
    order, verdict = item["order"], item["verdict"]
    if (
        not isinstance(order, list)
        or not order
        or any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in order)
        or len(set(order)) != len(order)
    ):
        raise UsageError(f"{where}: order {order!r} is not a list of distinct candidate indices")
    letters = string.ascii_uppercase[: len(order)]
    allowed = {*letters, "tie"} | (_PAIR_VERDICTS if len(order) == 2 else set())
    if len(order) == 1:
        if verdict is not None and not (isinstance(verdict, str) and re.fullmatch("-1|[0-9]{1,6}", verdict)):
            raise UsageError(f'{where}: verdict {verdict!r} on one solution is no "-1", step number in quotes, or null')
    elif verdict is not None and (not isinstance(verdict, str) or verdict not in allowed):
        raise UsageError(f"{where}: verdict {verdict!r} is none of {', '.join(sorted(allowed))}, null")
    reason = item.get("reason")
    if reason is not None and not isinstance(reason, str):
        raise UsageError(f"{where}: reason {reason!r} is not a string")
    if verdict is None and reason is None:
        reason = "unparsed"
    p = item.get("p")
    return Verdict(tuple(order), verdict, reason, None if p is None else _numbers(p, f"{where}: p"))
