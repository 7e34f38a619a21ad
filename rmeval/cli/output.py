"""Tables and JSON on stdout.

What this module does not know: what the numbers mean.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rmeval.progress import to_nowhere


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print a table; columns named in `right` are right-aligned, columns without content are left out.

    In a narrow terminal words wrap; numbers and the first column's names never do.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[_plain(cell) for cell in row] + [""] * (len(columns) - len(row)) for row in rows]
    filled = [i for i in range(len(columns)) if not cells or any(row[i] for row in cells)]
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 240  # a file or a pipe has no width; nothing is wrapped there
    with contextlib.suppress(SystemExit):  # rich's way where the reader has left
        console.print(Text(_plain(title), style="bold"))
    whole = {i for i in filled if i == filled[0] or columns[i] in right}
    entries = {i: [row[i] for row in cells] for i in filled}
    natural = {i: max(map(len, [columns[i], *entries[i]])) for i in filled}
    width = {
        i: max(map(len, [*columns[i].split(), *(p for e in entries[i] for p in ([e] if i in whole else e.split()))]))
        for i in filled
    }
    between = 3 if sum(natural.values()) + 3 * len(filled) <= console.width else 2
    for _ in range(console.width - between * len(filled) - sum(width.values())):
        widest = max(filled, key=lambda i: natural[i] - width[i])
        width[widest] += width[widest] < natural[widest]
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, between - 2))
    for i in filled:
        shown.add_column(columns[i], justify="right" if columns[i] in right else "left", width=width[i])
    for row in cells:
        shown.add_row(*(Text(row[i]) for i in filled))
    console.width = max(
        console.width, sum(width.values()) + between * len(filled)
    )  # the terminal's own way with the rest
    with contextlib.suppress(SystemExit):
        console.print(shown)


def line(text: str = "") -> None:
    """Print one line of the answer."""
    _print(_plain(text))


def json_document(value: Any) -> None:
    """Print exactly one JSON document."""
    _print(json_text(value))


def _print(text: str) -> None:
    """Where the reader has left, the work goes on that the answer is about, and ends with its own exit code."""
    try:
        print(text)
    except BrokenPipeError:
        to_nowhere(sys.stdout)


def json_text(value: Any) -> str:
    """A value as strict JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as per cent.

    >>> percent(0.8114), percent(None)
    ('81.1', '-')
    """
    return "-" if value is None else f"{100 * value:.{digits}f}"


def interval(ci: tuple[float, float] | None, digits: int = 1) -> str:
    """A 95 % interval as per cent.

    >>> interval((0.5, 0.625))
    '[50.0, 62.5]'
    """
    return "" if ci is None else f"[{percent(ci[0], digits)}, {percent(ci[1], digits)}]"


def _plain(value: object) -> str:
    """Text without control characters: names may come from others."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
