"""Cases that once went wrong: `corpus.jsonl`, a line each.

    {"parser": "lock file", "was": "AttributeError", "case": "2"}

What repeats within a case is written once, with how often: `["{\"a\":", ["[", 1000], "}"]`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

CORPUS = Path(__file__).with_name("corpus.jsonl")

_REPEATED = re.compile(r'(\{"a":|a\.|\\boxed\{|\\\(|\\\[|\\\$|Therefore |.)\1{29,}', re.DOTALL)


class Case(NamedTuple):
    """A case, and what it did."""

    parser: str
    was: str
    case: str


def read() -> list[Case]:
    """All of them."""
    lines = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    return [Case(line["parser"], line["was"], _long(line["case"])) for line in lines]


def line_of(case: Case) -> str:
    """A case as a line of the corpus."""
    return json.dumps({"parser": case.parser, "was": case.was, "case": _short(case.case)})


def _long(parts: str | list[str | list[str | int]]) -> str:
    if isinstance(parts, str):
        return parts
    return "".join(part if isinstance(part, str) else str(part[0]) * int(part[1]) for part in parts)


def _short(case: str) -> str | list[str | list[str | int]]:
    parts: list[str | list[str | int]] = []
    done = 0
    for found in _REPEATED.finditer(case):
        parts += [case[done : found.start()]] if found.start() > done else []
        parts.append([found[1], len(found[0]) // len(found[1])])
        done = found.end()
    return [*parts, case[done:]] if parts and done < len(case) else parts or case
