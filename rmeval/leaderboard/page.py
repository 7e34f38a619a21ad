"""What the pages share: templates with their filters, and where the rows of a suite's table stand.

Everything shown is untrusted text: templates escape, only https links are links, and every page's own policy forbids
inline scripts and anything from elsewhere.

What this module does not know: which pages there are, result files, statistics.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from markupsafe import Markup

from rmeval.leaderboard.chart import WIDTH, Axis, axis
from rmeval.leaderboard.shape import Entry, Null, SuiteBoard, Versus, p_value
from rmeval.types import Metric

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
SHADES = 10
_NEAR = 46.0
"""Labels closer than this, in drawing units, are written as one."""
_LETTER = 5.6
"""Width of a letter of a label, in drawing units."""
_FAR = 0.25
"""A null baseline further than this below all entries is not drawn: it would squeeze what is to be compared."""


@dataclass(frozen=True, slots=True)
class Label:
    """Text at a place of the axis."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: an entry, or a null baseline among them."""

    entry: Entry | None = None
    null: Null | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """How a suite is drawn."""

    axis: Axis
    rows: tuple[Row, ...]
    null_lines: tuple[float, ...]
    null_labels: tuple[Label, ...]
    coldest: float
    warmest: float
    left_out: int
    """Rows that stand only on the suite's own page."""
    width: float = WIDTH

    def shade(self, value: float) -> int:
        """The shade of a section's cell, 0 to 9."""
        return shade(value, self.coldest, self.warmest)


@dataclass(frozen=True, slots=True)
class Glance:
    """A cell of the overview."""

    entry: Entry
    shade: int


def plot(suite: SuiteBoard, most: int | None = None) -> Plot:
    """Where everything of a suite stands; of more than `most` rows the best."""
    rows = _rows(suite)
    shown = [v for e in suite.entries if e.value is not None for v in (e.value, *(e.ci or ()))]
    near = [null for null in suite.nulls if not shown or null.value >= min(shown) - _FAR]
    line = axis([*shown, *(null.value for null in near)])
    groups: list[list[Null]] = []
    for null in sorted(near, key=lambda null: null.value):
        if groups and line.x(null.value) - line.x(groups[-1][-1].value) < _NEAR:
            groups[-1].append(null)
        else:
            groups.append([null])
    labels = [_label([line.x(null.value) for null in group], [null.name for null in group]) for group in groups]
    cells = [c.value for e in suite.entries for c in e.sections.values() if c.value is not None]
    return Plot(
        axis=line,
        rows=rows[:most],
        left_out=max(0, len(rows) - most) if most is not None else 0,
        null_lines=tuple(line.x(null.value) for null in near),
        null_labels=tuple(labels),
        coldest=min(cells, default=0.0),
        warmest=max(cells, default=1.0),
    )


def shade(value: float, coldest: float, warmest: float) -> int:
    """One of ten shades between two values; the middle one where they are equal.

    >>> shade(0.5, 0.0, 1.0), shade(1.0, 0.0, 1.0), shade(0.7, 0.7, 0.7)
    (5, 9, 5)
    """
    share = (value - coldest) / (warmest - coldest) if warmest > coldest else 0.5
    return min(SHADES - 1, int(share * SHADES))


def _label(places: Sequence[float], names: Sequence[str]) -> Label:
    """The names at the middle of their places, moved inwards where they would leave the drawing."""
    text = ", ".join(names)
    half = _LETTER * len(text) / 2
    return Label(round(min(max(sum(places) / len(places), half), WIDTH - half), 2), text)


def _rows(suite: SuiteBoard) -> tuple[Row, ...]:
    """Entries and null baselines in one order, best first; what has no value comes last."""
    rows = [*(Row(entry=e) for e in suite.entries), *(Row(null=n) for n in suite.nulls)]
    sign = -1 if suite.higher_is_better else 1

    def place(row: Row) -> tuple[bool, float]:
        value = row.entry.value if row.entry else row.null.value if row.null else None
        return (value is None, sign * (value or 0.0))

    return tuple(sorted(rows, key=place))


def overview(suites: Sequence[SuiteBoard]) -> list[tuple[str, list[Glance | None]]]:
    """Per model, one cell per suite; models on most suites first, then by the mean of the best ranks they may have."""
    names = {entry.model for suite in suites for entry in suite.entries}
    found: dict[str, list[Glance | None]] = {name: [] for name in names}
    for suite in suites:
        best = {e.model: e for e in reversed(suite.entries)}
        values = [e.value for e in best.values() if e.value is not None]
        for name in names:
            entry = best.get(name)
            known = entry is not None and entry.value is not None
            found[name].append(Glance(entry, shade(entry.value, min(values), max(values))) if known else None)  # type: ignore[union-attr,arg-type]

    def place(item: tuple[str, list[Glance | None]]) -> tuple[int, float, str]:
        ranks = [cell.entry.rank[0] for cell in item[1] if cell is not None and cell.entry.rank]
        return sum(cell is None for cell in item[1]), sum(ranks) / len(ranks) if ranks else math.inf, item[0]

    return sorted(found.items(), key=place)


def visible(value: Any) -> Any:
    """What a template shows, without characters that steer how a page reads: escaping leaves them as they are.

    >>> visible("baseline\N{RIGHT-TO-LEFT OVERRIDE}1 knar"), visible(0.5)
    ('baseline\ufffd1 knar', 0.5)
    """
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    steers = (c not in "\n\t" and unicodedata.category(c).startswith("C") for c in value)
    return "".join("\N{REPLACEMENT CHARACTER}" if is_one else c for c, is_one in zip(value, steers, strict=True))


@cache
def templates() -> Environment:
    """The templates: autoescaped, and strict about names."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    made.filters |= FILTERS
    return made


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _metric(m: Metric) -> str:
    """The value of a metric in its unit: points for a share."""
    if m.value is None:
        return "–"
    return f"{100 * m.value:.1f} %" if m.unit == "fraction" else f"{m.value:.4g}"


def _metric_interval(m: Metric) -> str:
    if m.ci is None:
        return ""
    low, high = m.ci
    return f"{100 * low:.1f} to {100 * high:.1f}" if m.unit == "fraction" else f"{low:.4g} to {high:.4g}"


def _signed(value: float) -> str:
    text = f"{100 * value:+.1f}"
    return "0.0" if text in {"+0.0", "-0.0"} else text.replace("-", "−")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _counted(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} others"


def _verdict(versus: Versus) -> str:
    if versus.p >= 0.05:
        return ""
    return "better" if versus.difference > 0 else "worse"


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname)


FILTERS: dict[str, Any] = {
    "points": _points,
    "metric": _metric,
    "metric_interval": _metric_interval,
    "signed2": lambda value: f"{value:+.2f}".replace("-", "−"),
    "tick": lambda value: f"{100 * value:.4g}",
    "signed": _signed,
    "interval": lambda ci: f"{_points(ci[0])} to {_points(ci[1])}",
    "interval_signed": lambda ci: f"[{_signed(ci[0])}, {_signed(ci[1])}]",
    "ranks": lambda rank: str(rank[0]) if rank[0] == rank[1] else f"{rank[0]}–{rank[1]}",
    "p_value": p_value,
    "grouped": lambda n: f"{n:,}".replace(",", "\u202f"),
    "plural": lambda n, noun: f"{n} {noun}" + ("" if n == 1 else "s"),
    "listed": _listed,
    "counted": _counted,
    "key": lambda value: "" if value is None else f"{value:.9g}",
    "verdict": _verdict,
    "day": lambda time: time[:10],
    "is_https": _is_https,
    "host": lambda url: urlsplit(url).hostname,
}
"""What templates may call. Each takes a value and gives text, which is escaped like all other text."""
