"""Files -> rows: json, jsonl (both also as .gz), parquet and csv, each row with the place it came from.

JSON is read by our own strict parser, which can name the line of a fault. Parquet is read by pyarrow, a few thousand
rows at a time; nothing of it is believed that its size contradicts.

What this module does not know: the hub, suites, cards, what the columns mean.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmeval import strict_json
from rmeval.errors import UsageError
from rmeval.packed import packed

SUFFIXES = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz", ".parquet", ".csv")
"""Endings of the files that can hold rows."""

_MAX_GROWTH, _SMALL = 1000, 64 * 2**20
"""Times its own size that the rows of a parquet file may come to, beyond so many bytes."""
MAX_BAD = 10_000
"""Bad rows of one file after which it is none of rows, whether or not they are to be left out."""
MAX_FAULTS = 20
"""Faults named in one message; the rest is counted."""
BOM = b"\xef\xbb\xbf"
_HAS_BOM = "starts with a byte-order mark; save the file as UTF-8 without it"


@dataclass(frozen=True, slots=True)
class Row:
    """One row as published, columns by name."""

    values: Mapping[str, Any]
    place: str
    """Where it stands, for messages: `chat_filtered.json line 12`, `test.parquet row 3`."""


def held(rows: Iterable[Row]) -> Sequence[Row]:
    """Rows of JSON values, many of them packed."""
    return packed(rows, lambda row: [row.values, row.place], lambda plain: Row(plain[0], plain[1]))


def faults_message(head: str, faults: list[str]) -> str:
    """One message for many faults: the first of them, then a count.

    >>> print(faults_message("a.jsonl: 2 malformed rows", ["line 1: no prompt", "line 7: no prompt"]))
    a.jsonl: 2 malformed rows
      line 1: no prompt
      line 7: no prompt
    """
    lines = [head, *(f"  {fault}" if len(fault) < 400 else f"  {fault[:400]}..." for fault in faults[:MAX_FAULTS])]
    if len(faults) > MAX_FAULTS:
        lines.append(f"  ... and {len(faults) - MAX_FAULTS} more")
    return "\n".join(lines)


_skipped: ContextVar[list[str] | None] = ContextVar("skipped", default=None)


@contextmanager
def skipping() -> Iterator[list[str]]:
    """Inside the block bad rows are left out; what was wrong with each of them is added to the list."""
    found: list[str] = []
    token = _skipped.set(found)
    try:
        yield found
    finally:
        _skipped.reset(token)


class BadRowsError(UsageError):
    """Rows were refused; others may be bad in a way that is looked at later."""

    def __init__(self, message: str, n: int) -> None:
        super().__init__(message)
        self.n = n


def refuse(message: str, faults: list[str]) -> None:
    """Raise `BadRowsError` with the message for rows with these faults, unless bad rows are to be left out."""
    skipped = _skipped.get()
    if skipped is None:
        raise BadRowsError(message, len(faults))
    known = set(skipped)
    skipped += [fault for fault in faults if fault not in known]  # a file may be read once per layout


def data_files(path: Path) -> list[Path]:
    """The files that can hold rows: the path itself, or all of them below a folder, sorted, hidden ones left out."""
    if path.is_file():
        return [path]
    found = (file for file in path.rglob("*") if file.is_file() and file.name.lower().endswith(SUFFIXES))
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))


def read_file(path: Path, name: str) -> Sequence[Row]:
    """All rows of one file; `name` is how messages call it.

    Raises `UsageError` that names file and line for anything but well-formed rows, all faulty lines of a JSONL file at
    once.
    """
    lowered = path.name.lower()
    if lowered.endswith(".parquet"):
        return _read_parquet(path, name)
    if lowered.endswith(".csv"):
        return _read_csv(path, name)
    if lowered.endswith(SUFFIXES):
        return _read_json(path, name)
    raise UsageError(f"{path}: unknown kind of file. Rows are read from {', '.join(SUFFIXES)}")


def _read_json(path: Path, name: str) -> Sequence[Row]:
    with strict_json.open_bytes(path) as handle:
        try:
            start = handle.read(4096)
        except strict_json.UNREADABLE as fault:
            raise UsageError(f"{path}: cannot be read: {fault}") from None
    faults: list[str] = []
    body = start.removeprefix(BOM).lstrip()
    is_list = body[:1] == b"["
    is_object = body.split(b"\n", 1)[0].strip() == b"{"  # over many lines, so these are no JSONL
    if start.startswith(BOM) and (is_list or is_object):
        raise UsageError(f"{path} line 1: {_HAS_BOM}")
    if is_list:
        values = strict_json.read_items(path)
    elif is_object:
        return _of_lists(path, name)
    else:
        values = _lines(path, faults)
    rows = held(_sound(values, path, name, faults))
    if faults:
        head = f"{path}: {len(faults)} bad lines; a list of objects, or one object per line, is expected"
        refuse(faults_message(head, faults) if len(faults) > 1 else faults[0], faults)
    return rows


def _sound(values: Iterable[tuple[int, Any]], path: Path, name: str, faults: list[str]) -> Iterator[Row]:
    """Rows of the values that are objects of text; what is wrong with others goes to `faults`."""
    for line, value in values:
        if not isinstance(value, dict):
            _note(faults, f"{path} line {line}: an object is expected, found {_kind(value)}")
        elif not _is_unicode(value):
            _note(faults, f"{path} line {line}: holds half of a surrogate pair, which is no character")
        else:
            yield Row(value, f"{name} line {line}")


def _of_lists(path: Path, name: str) -> list[Row]:
    """The rows of one object of lists, as a data set that is grouped by a key is published; the keys are left out."""
    whole = strict_json.read(path)
    rows = []
    for key, items in whole.items():
        if not isinstance(items, list) or not all(isinstance(item, dict) and _is_unicode(item) for item in items):
            raise UsageError(f"{path}: an object of lists of objects is expected, and {key!r} holds {_kind(items)}")
        rows += [Row(item, f"{name} {key!r} row {number}") for number, item in enumerate(items, 1)]
    return rows


def _lines(path: Path, faults: list[str]) -> Iterator[tuple[int, Any]]:
    """The values of a JSONL file; lines that are no JSON go to `faults`, so that all of them are reported at once."""
    for number, line in strict_json.lines(path):
        if number == 1 and line.startswith(BOM):
            _note(faults, f"{path} line 1: {_HAS_BOM}")
            continue
        try:
            yield number, strict_json.loads(line, f"{path} line {number}")
        except UsageError as fault:
            _note(faults, str(fault))


def _note(faults: list[str], fault: str) -> None:
    faults.append(fault)
    if len(faults) > MAX_BAD:
        raise UsageError(faults_message(f"more than {MAX_BAD} bad rows: no file of rows", faults))


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null" if value is None else type(value).__name__)


def _read_csv(path: Path, name: str) -> Sequence[Row]:
    """Every cell is the text it is: ids keep their zeros, and `None` or `NA` stay words."""
    csv.field_size_limit(strict_json.MAX_LINE)
    faults: list[str] = []
    with path.open(encoding="utf-8-sig", newline="") as handle:
        table = csv.reader(handle, strict=True)
        try:
            rows = held(_cells(table, name, faults))
        except (OSError, UnicodeDecodeError, csv.Error) as fault:
            line = table.line_num + (not isinstance(fault, csv.Error))
            raise UsageError(f"{path} line {line}: cannot be read: {fault}") from None
    if faults:
        head = f"{path}: {len(faults)} bad rows; as many cells as columns are expected"
        refuse(faults_message(head, faults), faults)
    return rows


def _cells(table: Any, name: str, faults: list[str]) -> Iterator[Row]:
    header: list[str] = next(table, [])
    if len(set(header)) < len(header):
        raise UsageError(f"{name} line 1: a column name stands twice")
    for number, cells in enumerate(filter(None, table), 1):
        if len(cells) == len(header):
            yield Row(dict(zip(header, cells, strict=True)), f"{name} row {number}")
        else:
            _note(faults, f"{name} row {number}: {len(cells)} cells for {len(header)} columns")


def _read_parquet(path: Path, name: str) -> list[Row]:
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            return _rows_of(file, path, name)
    except UsageError:
        raise
    except Exception as fault:  # noqa: BLE001
        # what pyarrow raises on a broken file has no common base
        said = " ".join(str(fault).split())[:300] or type(fault).__name__
        raise UsageError(f"{path}: not a readable parquet file: {said}") from None


def _rows_of(file: Any, path: Path, name: str) -> list[Row]:
    size, spent = path.stat().st_size, 0
    columns = file.schema_arrow.names
    if len(set(columns)) < len(columns):
        raise UsageError(f"{name}: a column name stands twice")
    # a row takes a byte at least, a text that many rows share a thousandth: more is made to fill the memory
    if file.metadata.num_rows > size:
        raise UsageError(f"{path}: says it holds {file.metadata.num_rows} rows, in {size} bytes")
    rows: list[Row] = []
    for batch in file.iter_batches(batch_size=1024, use_threads=False):
        spent += batch.nbytes
        if spent > max(_SMALL, _MAX_GROWTH * size):
            raise UsageError(f"{path}: more than {spent >> 20} MiB of rows in {size} bytes")
        rows += [Row(values, f"{name} row {n}") for n, values in enumerate(batch.to_pylist(), len(rows) + 1)]
    return rows
