"""What all importers share: reading rows, reading a score, finding the example of a row, comparing texts.

What this module does not know: any format.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from rmeval import strict_json
from rmeval.errors import UsageError, near_miss
from rmeval.readers.rows import Row
from rmeval.types import NAN, Example, Recorded

_SHOWN = 30
"""Characters shown on either side where two texts differ."""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one published file."""

    path: Path
    rows: tuple[Row, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    """What the file says once of all rows, such as the model's name."""


def read_table(path: Path) -> Table:
    """The rows of a JSON list of objects, of JSON lines, or of one object of columns (lists of equal length).

    NaN and Infinity are taken as they are: `score` makes missing scores of them. Raises `UsageError` with the line.
    """
    with strict_json.open_bytes(path) as handle:
        try:
            start = handle.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        except strict_json.UNREADABLE as fault:
            raise UsageError(f"{path}: cannot be read: {fault}") from None
    if start == b"[":
        listed = strict_json.read_items(path, constants=True)
        return Table(path, tuple(Row(_object(v, path, n), f"{path} line {n}") for n, v in listed))
    if path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        lines = strict_json.read_lines(path, constants=True)
        return Table(path, tuple(Row(_object(v, path, n), f"{path} line {n}") for n, v in lines))
    return _columns(path, strict_json.read(path, constants=True))


def read_tables(paths: Sequence[Path]) -> list[Table]:
    """The tables of all paths; `UsageError` for one that is no file, or holds no rows."""
    tables = []
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path}: {'a folder; give its files' if path.is_dir() else 'no such file'}")
        table = read_table(path)
        if not table.rows:
            raise UsageError(f"{path}: holds no rows")
        tables.append(table)
    return tables


def _columns(path: Path, value: Any) -> Table:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: a list of rows, or an object of columns, is expected")
    columns = {name: column for name, column in value.items() if isinstance(column, list)}
    about = {name: said for name, said in value.items() if not isinstance(said, list)}
    if not columns:
        raise UsageError(f"{path}: holds no per-item outputs: no column is a list (keys: {', '.join(list(about)[:8])})")
    for (one, first), (other, second) in pairwise(columns.items()):
        if len(first) != len(second):
            raise UsageError(f"{path}: {one} has {len(first)} entries and {other} has {len(second)}")
    n = len(next(iter(columns.values())))
    rows = ({name: column[i] for name, column in columns.items()} for i in range(n))
    return Table(path, tuple(Row(row, f"{path} row {i}") for i, row in enumerate(rows, 1)), about)


def _object(value: Any, path: Path, line: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path} line {line}: an object is expected, found {type(value).__name__}")
    return value


def column(row: Row, name: str) -> Any:
    """A column that every row of the format has; `UsageError` with the near miss where it is not there."""
    if name not in row.values:
        hint = near_miss(name, row.values) or f"It has {', '.join(map(str, list(row.values)[:8]))}."
        raise UsageError(f"{row.place}: no {name!r}, which every row of this format has. {hint}")
    return row.values[name]


def items(row: Row, name: str) -> list[Any]:
    """A column that holds a list."""
    value = column(row, name)
    if not isinstance(value, list):
        raise UsageError(f"{row.place}: {name} is a list in this format, not {type(value).__name__}")
    return value


# --- scores ----------------------------------------------------------------------------------------------------------


def score(value: Any, where: str) -> tuple[float, str | None]:
    """A published score and why it is missing: `[x]` is x, null is `not_recorded`, NaN and Infinity `non_finite`.

    >>> score([0.5], "a.json"), score(None, "a.json")
    ((0.5, None), (nan, 'not_recorded'))
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return NAN, "not_recorded"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{where}: {str(value)[:_SHOWN]!r} is not a score")
    try:
        found = float(value)
    except OverflowError:
        raise UsageError(f"{where}: an integer is too large for a score") from None
    return (found, None) if math.isfinite(found) else (NAN, "non_finite")


def scores(values: Sequence[Any], example: Example, where: str) -> Recorded:
    """One score per candidate of the example, as a recorded row."""
    check_count(values, example, where)
    read = [score(value, where) for value in values]
    reasons = tuple(reason for _, reason in read)
    return Recorded(scores=tuple(found for found, _ in read), reasons=reasons if any(reasons) else ())


def step_scores(values: Sequence[Any], example: Example, where: str) -> Recorded:
    """One list of step scores per candidate of the example; a candidate without steps is missing."""
    check_count(values, example, where)
    steps, reasons = [], []
    for one in values:
        if not isinstance(one, list):
            raise UsageError(f"{where}: {str(one)[:_SHOWN]!r} is not a list of step scores, as it is in other rows")
        read = [score(step, where) for step in one]
        steps.append(tuple(found for found, _ in read))
        reasons.append(next((why for _, why in read if why), None if read else "not_recorded"))
    return Recorded(step_scores=tuple(steps), reasons=tuple(reasons) if any(reasons) else ())


def check_count(values: Sequence[Any], example: Example, where: str) -> None:
    """Raise `UsageError` unless there is one value per candidate."""
    k = len(example.candidates)
    if len(values) != k:
        raise UsageError(f"{where}: {len(values)} scores for example {example.id!r}, which has {k} candidates")


# --- the example of a row --------------------------------------------------------------------------------------------


class Matcher:
    """Finds the example of each row, each example once."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = {one.id: one for one in examples}
        self._taken: dict[str, str] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._examples

    def by_id(self, key: str, where: str) -> Example:
        """The example of an id. `UsageError` with the near miss for an unknown one, or for one that another row has."""
        if key not in self._examples:
            known = list(self._examples)
            hint = near_miss(key, known[:20000]) or f"It has {', '.join(map(repr, known[:2]))}, ..."
            raise UsageError(
                f"{where}: the suite has no example {key!r}. {hint} List them: rmeval show SUITE --examples --json"
            )
        if key in self._taken:
            raise UsageError(f"{where}: example {key!r} stands twice, first in {self._taken[key]}")
        self._taken[key] = where
        return self._examples[key]


def in_order(table: Table, examples: Sequence[Example], what: str) -> Iterator[tuple[Row, Example]]:
    """Rows and examples by place; `UsageError` where their numbers differ, for then no row is sure of its example."""
    if len(table.rows) != len(examples):
        raise UsageError(
            f"{table.path}: {len(table.rows)} rows for the {len(examples)} examples of {what}; this format has no ids, "
            "so rows are matched by place and all of them are needed"
        )
    return zip(table.rows, examples, strict=True)


def by_subset(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Examples by subset, in the suite's order."""
    found: dict[str, list[Example]] = defaultdict(list)
    for one in examples:
        found[one.subset].append(one)
    return dict(found)


def one_name(names: Mapping[str, Path]) -> str:
    """The name that all files give the model; `UsageError` where there are several."""
    if len(names) > 1:
        some = ", ".join(list(names)[:8]) + (", ..." if len(names) > 8 else "")
        first, path = next(iter(names.items()))
        raise UsageError(f"the files are of {len(names)} models: {some}. Give those of one; {path} is of {first}")
    return next(iter(names))


# --- texts -----------------------------------------------------------------------------------------------------------


def same(row: Row, name: str, expected: str | None, example: Example) -> None:
    """Raise `UsageError`, with the first difference, where the row holds another text than the example.

    Nothing is compared where either has none: an example whose texts are not at hand, a row without the column.
    """
    found = row.values.get(name)
    if found is None or expected is None or str(found) == expected:
        return
    at = first_difference(str(found), expected)
    raise UsageError(
        f"{row.place}: {name} is not that of example {example.id!r}: character {at + 1} on, "
        f"{str(found)[at : at + _SHOWN]!r} here, {expected[at : at + _SHOWN]!r} in the suite. Outputs of other "
        "rows, or of the same rows in another order, cannot be imported"
    )


def holds(row: Row, name: str, published: Any, expected: str | None, example: Example) -> None:
    """Raise `UsageError` where a formatted text does not hold the example's own, whitespace aside.

    Published texts went through a chat template, so they are longer. A list of messages is joined.
    """
    if published is None or expected is None:
        return
    if isinstance(published, list):
        published = "\n".join(str(m.get("content", "")) if isinstance(m, dict) else str(m) for m in published)
    if "".join(expected.split()) not in "".join(str(published).split()):
        raise UsageError(
            f"{row.place}: {name} does not hold the text of example {example.id!r}: {expected[:_SHOWN]!r} is expected, "
            f"in {str(published)[: 2 * _SHOWN]!r}. Outputs of other rows, or of the same rows in another order, cannot "
            "be imported"
        )


def first_difference(one: str, other: str) -> int:
    """0-based index of the first character that differs.

    >>> first_difference("abc", "abd"), first_difference("ab", "abc")
    (2, 2)
    """
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def question(example: Example) -> str:
    """The last turn of the prompt."""
    return example.prompt[-1].content if example.prompt else ""
