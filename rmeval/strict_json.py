"""JSON read strictly: what the standard parser lets through quietly is an error with a line number here.

Refused: NaN and Infinity (also as 1e999), duplicate keys, invalid UTF-8, nesting beyond reason, oversized lines and
integers. A byte-order mark and CRLF line ends are harmless and accepted.

What this module does not know: what the values mean.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from rmeval.errors import UsageError

MAX_LINE = 64 * 2**20
"""Bytes in one line, or in one whole JSON document that is not line-based times sixteen."""
MAX_DEPTH = 100
"""Lists and objects inside each other: what is made of a value is made by functions that call themselves for each."""
MAX_GROWTH = 250
"""Times its own size that a packed file may come to; rows of texts come to ten, and nothing beyond 1,032 can be."""
MAX_BLANK = 100_000
"""Blank lines in one file."""
UNREADABLE = (OSError, EOFError, zlib.error)
"""What reading from `open_bytes` raises where the disk or the packing is at fault."""
_BLOCK = 2**20
_SMALL = 16 * 2**20


def loads(text: str | bytes, where: str, *, constants: bool = False) -> Any:
    """The value of one JSON document; `where` opens the message of the `UsageError` when it is not sound.

    With `constants`, here and below, NaN and Infinity are floats: files that others published hold them.

    >>> loads('{"a": 1}', "x.json")
    {'a': 1}
    >>> loads('{"a": 1, "a": 2}', "x.json line 3")
    Traceback (most recent call last):
    rmeval.errors.UsageError: x.json line 3: key 'a' stands twice
    """
    try:
        said = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        value = json.loads(
            said, parse_constant=_constant(constants), parse_float=_finite, object_pairs_hook=_object_without_twins
        )
    except json.JSONDecodeError as fault:
        place = f", column {fault.colno}" if "line" in where else f" line {fault.lineno}, column {fault.colno}"
        raise UsageError(f"{where}{place}: not valid JSON: {fault.msg}") from None
    except UnicodeDecodeError as fault:
        raise UsageError(f"{where}: not valid UTF-8 at byte {fault.start}") from None
    except RecursionError:
        raise UsageError(f"{where}: nested too deeply") from None
    except ValueError as fault:
        raise UsageError(f"{where}: {fault}") from None
    if said.count("[") + said.count("{") > MAX_DEPTH and is_deep(value):
        raise UsageError(f"{where}: nested too deeply")
    return value


def is_deep(value: Any) -> bool:
    """Whether lists and objects are nested beyond `MAX_DEPTH`.

    >>> is_deep([[{"a": []}]])
    False
    """
    level, depth = [value], 0
    while level:
        depth += 1
        inside = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [child for children in inside for child in children if isinstance(child, dict | list)]
    return depth > MAX_DEPTH + 1


def open_bytes(path: Path) -> IO[bytes]:
    """A file for reading bytes, decompressed when its name ends in `.gz`; faults become `UsageError`."""
    try:
        return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")
    except OSError as fault:
        raise UsageError(f"{path}: cannot be read: {fault.strerror or fault}") from None


def read(path: Path, *, constants: bool = False) -> Any:
    """One JSON document from a file."""
    return loads(_whole(path), str(path), constants=constants)


def _whole(path: Path) -> bytes:
    """All bytes of a file within the limit, block by block: asked for all at once, that much memory is taken first."""
    content = bytearray()
    with open_bytes(path) as handle:
        try:
            most = min(16 * MAX_LINE, _most(path))
            while block := handle.read(_BLOCK):
                content += block
                if len(content) > most:
                    raise UsageError(f"{path}: larger than {most >> 20} MiB{_unpacked(path)}")
        except UNREADABLE as fault:
            raise UsageError(f"{path}: cannot be read: {fault}") from None
    return bytes(content)


def _most(path: Path) -> int:
    """Bytes that a file may hold: one of a few kilobytes could unpack to terabytes."""
    return max(_SMALL, MAX_GROWTH * path.stat().st_size) if path.suffix == ".gz" else 2**63


def _unpacked(path: Path) -> str:
    return f" when it is unpacked, of {path.stat().st_size:,} bytes packed" if path.suffix == ".gz" else ""


def read_lines(path: Path, *, constants: bool = False) -> Iterator[tuple[int, Any]]:
    """(1-based line number, value) for each line of a JSONL file that is not blank."""
    for number, line in lines(path):
        yield number, loads(line, f"{path} line {number}", constants=constants)


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(1-based number, bytes) for each line that is not blank, for callers that go on after a bad one."""
    with open_bytes(path) as handle:
        number, size, blank, most = 0, 0, 0, _most(path)
        while True:
            try:
                line = handle.readline(MAX_LINE + 1)
            except UNREADABLE as fault:
                raise UsageError(f"{path} line {number + 1}: cannot be read: {fault}") from None
            if not line:
                return
            number += 1
            if len(line) > MAX_LINE:
                raise UsageError(f"{path} line {number}: longer than {MAX_LINE >> 20} MiB")
            size += len(line)
            if size > most:
                raise UsageError(f"{path} line {number}: larger than {most >> 20} MiB{_unpacked(path)}")
            if line.strip():
                yield number, line
            elif (blank := blank + 1) > MAX_BLANK:
                raise UsageError(f"{path} line {number}: more than {MAX_BLANK} blank lines")


def read_items(path: Path, *, constants: bool = False) -> Iterator[tuple[int, Any]]:
    """(1-based line on which it starts, value) for each element of a file that holds one JSON list.

    Raises `UsageError` where the file holds no list, and with the line where an element is not sound.
    """
    content = _whole(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        raise UsageError(f"{path} line {line}: not valid UTF-8") from None
    yield from _items(text, path, constants)


def _items(text: str, path: Path, constants: bool) -> Iterator[tuple[int, Any]]:
    decoder = json.JSONDecoder(
        parse_constant=_constant(constants), parse_float=_finite, object_pairs_hook=_object_without_twins
    )
    at, line = _skip_space(text, 0, 1)
    if text[at : at + 1] != "[":
        raise UsageError(f"{path} line {line}: a list of objects is expected here")
    at, line = _skip_space(text, at + 1, line)
    more = text[at : at + 1] != "]"
    while more:
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as fault:
            raise UsageError(f"{path} line {fault.lineno}, column {fault.colno}: not valid JSON: {fault.msg}") from None
        except RecursionError:
            raise UsageError(f"{path} line {line}: nested too deeply") from None
        except ValueError as fault:
            raise UsageError(f"{path} line {line}: {fault}") from None
        if is_deep(value):
            raise UsageError(f"{path} line {line}: nested too deeply")
        yield line, value
        at, line = _skip_space(text, end, line + text.count("\n", at, end))
        if text[at : at + 1] not in {",", "]"}:
            raise UsageError(f"{path} line {line}: not valid JSON: a comma or the end of the list is expected")
        more = text[at] == ","
        if more:
            at, line = _skip_space(text, at + 1, line)
    at, line = _skip_space(text, at + 1, line)
    if at < len(text):
        raise UsageError(f"{path} line {line}: not valid JSON: something follows the list")


def _skip_space(text: str, at: int, line: int) -> tuple[int, int]:
    end = at
    while end < len(text) and text[end] in " \t\r\n":
        end += 1
    return end, line + text.count("\n", at, end)


def _constant(allowed: bool) -> Callable[[str], float]:
    return float if allowed else _refuse_constant


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that JSON knows; write null and a reason")


def _finite(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError(f"{literal} is too large for a finite number")
    return value


def _object_without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} stands twice")
        found[key] = value
    return found
