"""TOML as strangers write it: within bounds, and every fault one message.

Python's own reader has no bounds: nested deeply a document of a few kilobytes overflows the stack, and one of a
megabyte with a key of many dots takes hours.

What this module does not know: what the values mean.
"""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

from rmeval import strict_json
from rmeval.errors import UsageError

MAX_BYTES = 2**18
"""Of a document; our longest card has an eighth of it."""
_MOST_DOTS = 200
"""In one line: each dot of a key is gone through once for every other."""
_INTEGERS = 2**63
"""What lies beyond on either side is more than TOML promises to hold."""


def loads(text: str, where: str) -> dict[str, Any]:
    """The table of a document; `where` opens the message of the `UsageError` when it is not sound.

    >>> loads("a.b = [1, 2]", "x.toml")
    {'a': {'b': [1, 2]}}
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > _MOST_DOTS:
            raise UsageError(f"{where} line {number}: more than {_MOST_DOTS} dots")
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{where}: nested too deeply") from None
    except ValueError as fault:  # TOMLDecodeError, and what Python says of an integer of thousands of digits
        raise UsageError(f"{where}: not valid TOML: {fault}") from None
    if strict_json.is_deep(table):
        raise UsageError(f"{where}: nested too deeply")
    for key, value in table.items():
        _check(value, f"{where}: {key}")
    return table


def _check(value: object, where: str) -> None:
    """Results hold what cards say, and are JSON, which has no dates and no infinity. Raises `UsageError`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for inner in value:
            _check(inner, where)
    elif isinstance(value, int | float):
        if not math.isfinite(value) if isinstance(value, float) else not -_INTEGERS <= value < _INTEGERS:
            raise UsageError(f"{where}: a number that is not finite, or of more than 64 bits")
    elif not isinstance(value, str):
        raise UsageError(f"{where}: dates and times are no values of a card; write them as a string")


def read(path: Path) -> dict[str, Any]:
    """The table of a file. Raises `UsageError` for one that is not there, too large, or no TOML."""
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
    except OSError as fault:
        raise UsageError(f"{path}: cannot be read: {fault.strerror or fault}") from None
    if len(content) > MAX_BYTES:
        raise UsageError(f"{path}: larger than {MAX_BYTES >> 10} KiB, which no card is")
    try:
        return loads(content.decode("utf-8"), str(path))
    except UnicodeDecodeError as fault:
        raise UsageError(f"{path}: not valid UTF-8 at byte {fault.start}") from None
