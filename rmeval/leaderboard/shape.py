"""What a board says, as plain values: entries with ranks as ranges, null baselines, published figures set apart.

`leaderboard.json` is exactly these dataclasses; the page is drawn from them and knows nothing else.

What this module does not know: result files, statistics, HTML.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

SCHEMA = 1
"""The number of the shape of `leaderboard.json`; additions keep it, anything else raises it."""


@dataclass(frozen=True, slots=True)
class Versus:
    """An entry against a null baseline on the same examples."""

    difference: float
    """Entry minus null, in units of the headline."""
    ci: tuple[float, float] | None
    """95 %, paired cluster bootstrap."""
    p: float
    """Sign-flip permutation by prompt, two-sided, adjusted by Holm over entries and nulls."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One section of an entry."""

    value: float | None
    """None where it is undefined; `note` says why. Missing is not 0."""
    n: int
    n_missing: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model on one suite."""

    model: str
    revision: str | None
    kind: str
    value: float | None
    """The headline, recomputed from the samples; None where it is undefined."""
    ci: tuple[float, float] | None
    rank: tuple[int, int] | None
    """Simultaneous 95 % range of ranks; None where the entry is not ranked, and `note` says why."""
    tied_with: tuple[str, ...]
    """The models that it cannot be told apart from."""
    n: int
    n_missing: int
    sections: dict[str, Cell]
    versus: dict[str, Versus]
    """By null baseline: `length` (where texts were at hand) and `random`, each as the entry of that name where there is
    one. Empty for an entry without a rank."""
    created: str
    rmeval: str
    """Version that made the result."""
    file: str
    """The result file, relative to the page."""
    note: str = ""
    level: Literal["own", "recomputed", "reproduced"] = "own"
    """`own`: a result of whoever built the board, its headline recomputed. `recomputed`: a submission of which every
    metric, and ids and grades as far as the suite's card pins them, were checked from the samples. `reproduced`: a
    maintainer besides scored random examples again and recorded that every score was found."""
    again: tuple[str, ...] = ()
    """What was scored again, for the level `reproduced`."""
    contaminated: str = ""
    """Why it may have seen the suite; empty where nothing says so."""
    flags: tuple[str, ...] = ()
    """What a reader should look at: scores that are constant, copied, follow length, ..."""
    page: str = ""
    """Its own page, relative to the site."""


@dataclass(frozen=True, slots=True)
class Null:
    """What a scorer that has read nothing would get on the same rows. Never ranked."""

    name: str
    value: float
    note: str


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """A figure that somebody else published; neither recomputed nor ranked."""

    model: str
    value: float
    metric: str
    source: str


@dataclass(frozen=True, slots=True)
class SuiteBoard:
    """All entries of one suite, best first; entries without a rank come last."""

    name: str
    version: int
    title: str
    summary: str
    homepage: str
    licence: str
    headline: str
    higher_is_better: bool
    rule: str
    """The rule in force, as a sentence."""
    examples: int
    """Examples of the full suite."""
    common: int
    """Examples on which all ranked entries have a score; ranks are decided on these."""
    resolvable: float | None
    """The difference that two ranked entries can be told apart by with 80 % power: the median over all pairs."""
    sections: tuple[str, ...]
    """The parts shown in columns: sections, and subsets where there are few."""
    entries: tuple[Entry, ...]
    nulls: tuple[Null, ...]
    published: tuple[PublishedFigure, ...]
    note: str = ""
    """Why there are no ranks, where there are none."""
    told_apart: tuple[int, int] | None = None
    """Of how many pairs of ranked entries the order is known, and how many pairs there are; None below two entries."""
    solved_by_all: float | None = None
    """Share of the common examples on which every ranked entry earns full credit."""
    solved_by_none: float | None = None
    """Share of the common examples on which no ranked entry earns anything."""
    page: str = ""
    """Its own page, relative to the site."""
    pairs: str = ""
    """The page of entries against entries; empty where fewer than two are ranked."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """How alike two suites order the entries that stand on both."""

    a: str
    b: str
    """Names of the suites."""
    spearman: float | None
    """None where fewer than `LEAST_SHARED` entries are shared, or all of them tie on one suite."""
    n: int
    """Models with a rank on both."""


LEAST_SHARED = 4
"""Entries on both suites below which no rank correlation is stated."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """A file that is not on the board, and why."""

    file: str
    model: str
    suite: str
    why: str


@dataclass(frozen=True, slots=True)
class Board:
    """A leaderboard."""

    title: str
    built: str
    """UTC time."""
    rmeval: str
    suites: tuple[SuiteBoard, ...]
    excluded: tuple[Excluded, ...] = ()
    correlations: tuple[Correlation, ...] = ()
    schema: int = field(default=SCHEMA)


def claim(null: str, versus: Versus) -> str:
    """What the comparison with a null baseline says, as a sentence.

    >>> claim("length", Versus(0.21, (0.15, 0.27), 0.0004))
    'beats length by 21.0 points [15.0, 27.0], sign-flip p < .001'
    >>> claim("length", Versus(0.01, None, 0.4))
    'is not told apart from length: +1.0 points, sign-flip p = .400'
    """
    ends = "" if versus.ci is None else f" [{100 * versus.ci[0]:.1f}, {100 * versus.ci[1]:.1f}]"
    p = f"sign-flip {p_value(versus.p)}"
    points = 100 * versus.difference
    if versus.p >= 0.05:
        return f"is not told apart from {null}: {points:+.1f} points{ends}, {p}"
    if points < 0:
        return f"is beaten by {null}: {points:+.1f} points{ends}, {p}"
    return f"beats {null} by {points:.1f} points{ends}, {p}"


def p_value(p: float) -> str:
    """A p-value in three decimals.

    >>> p_value(0.0004), p_value(0.03), p_value(1.0)
    ('p < .001', 'p = .030', 'p = 1')
    """
    if p < 0.001:
        return "p < .001"
    return "p = 1" if p >= 0.9995 else f"p = {p:.3f}".replace("0.", ".", 1)


def to_json(board: Board) -> str:
    """The text of `leaderboard.json`: strict JSON, sorted keys."""
    content: dict[str, Any] = asdict(board)
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
