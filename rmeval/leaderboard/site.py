"""A board as a folder of static pages that work from `file://`: tables, one page per suite, entry and comparison.

    write_site(board, depths, matches, out)
    out/index.html  models.html  board.css  board.js
    out/suites/<suite>.html  entries/<model>/<suite>/<run>.html  pairs/<suite>.html

Everything is there without scripts; `board.js` adds sorting, filtering and a choice of two entries. No page asks for
anything outside the folder: each one's policy says so.

What this module does not know: where numbers come from, result files.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from rmeval.leaderboard.chart import Axis, Chart, axis, lengths_chart, margins_chart, reliability_chart
from rmeval.leaderboard.detail import Detail, Histogram
from rmeval.leaderboard.page import TEMPLATES, overview, plot, templates
from rmeval.leaderboard.pairs import Duel, Everyone, Matches
from rmeval.leaderboard.shape import Board, Correlation, Entry, SuiteBoard
from rmeval.records import Result
from rmeval.whole_files import write_whole

MOST_ON_INDEX = 25
"""Rows of a suite's table, and models, on the first page; pages of their own have all."""
MANY_SUITES, FEW_ROWS = 5, 10
"""From so many suites on, a suite's table has so many rows there."""
ASSETS = ("board.css", "board.js")
MODELS = "models.html"
_PAGE = re.compile(r"(entries|suites|pairs)/[A-Za-z0-9._/-]+\.html")
_STEPS = 2**16 - 1
"""Into which the largest standard error is divided where a page holds those of all pairs."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One result, with its charts."""

    detail: Detail
    parts: Axis
    sweep: Axis
    margins: Chart | None
    reliability: Chart | None
    lengths: Chart | None
    facts: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """Groups of (name, value): what ran, on what, where."""


def write_site(board: Board, depths: Mapping[str, str], matches: Mapping[str, Matches], out: Path) -> int:
    """Write all pages that are new or differ; returns how many there are now.

    `depths`: by the entries' files, what `depth` made; `matches`: by suite. Pages of the board that was built there
    before are removed where this one has them no more; a page of what was rejected or withdrawn must not stay.
    """
    pages: dict[str, None] = {}

    def write(name: str, text: str) -> None:
        write_changed(out / name, text.encode("utf-8"))
        pages[name] = None

    for name in ASSETS:
        write_changed(out / name, (TEMPLATES / name).read_bytes())
    write("index.html", index(board))
    if len(_models(board)) > MOST_ON_INDEX and len(board.suites) > 1:
        write(MODELS, models_page(board))
    else:
        (out / MODELS).unlink(missing_ok=True)
    for suite in board.suites:
        write(suite.page, suite_page(board, suite))
        if suite.pairs:
            write(suite.pairs, pairs_page(board, suite, matches[suite.name]))
        for entry in suite.entries:
            write(entry.page, entry_page(board, suite, entry, depths[entry.file]))
    for name in _pages_before(out) - pages.keys():
        (out / name).unlink(missing_ok=True)
    return len(pages)


def write_changed(path: Path, content: bytes) -> None:
    """Write a file that is not there with this content already. It can be made again: nothing waits for the disk."""
    try:
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            return
    except OSError:
        pass
    write_whole(path, content, synced=False)


def _pages_before(out: Path) -> set[str]:
    """The pages below `out` that its leaderboard.json names, whatever else that may hold."""
    try:
        suites = json.loads((out / "leaderboard.json").read_bytes())["suites"]
        named = {str(one.get(key)) for s in suites for one in (s, *s["entries"]) for key in ("page", "pairs")}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return set()
    return {name for name in named if _PAGE.fullmatch(name) and ".." not in name}


def index(board: Board) -> str:
    """The first page: every suite's best entries, and the models over all suites."""
    rows = overview(board.suites)
    most = MOST_ON_INDEX if len(board.suites) < MANY_SUITES else min(FEW_ROWS, MOST_ON_INDEX)
    return _render(
        "board.html",
        "",
        board=board,
        models=len(rows),
        more=MODELS if len(rows) > MOST_ON_INDEX else "",
        plots={suite.name: plot(suite, most) for suite in board.suites},
        overview_rows=rows[:MOST_ON_INDEX],
        correlations=_by_pair(board.correlations),
    )


def models_page(board: Board) -> str:
    """Every model on every suite."""
    return _render("models.html", "", board=board, more="", overview_rows=overview(board.suites))


def _models(board: Board) -> set[str]:
    return {entry.model for suite in board.suites for entry in suite.entries}


def suite_page(board: Board, suite: SuiteBoard) -> str:
    """All entries of a suite, how far it tells them apart, and how it orders them beside other suites."""
    beside = [c for c in board.correlations if suite.name in (c.a, c.b)]
    titles = {s.name: s for s in board.suites}
    others = [(titles[c.b if c.a == suite.name else c.a], c) for c in beside]
    return _render("suite_page.html", "../", board=board, suite=suite, plots={suite.name: plot(suite)}, others=others)


def entry_page(board: Board, suite: SuiteBoard, entry: Entry, below: str) -> str:
    """One entry in depth; `below` is what `depth` made."""
    return _render("entry.html", "../../../", board=board, suite=suite, entry=entry, below=Markup(below))  # noqa: S704


def depth(one: Detail) -> str:
    """All of an entry's page that does not depend on other entries, as HTML: what it shows is escaped by templates."""
    return str(templates().get_template("charts.html").module.depth(drawn(one)))  # type: ignore[attr-defined]


def pairs_page(board: Board, suite: SuiteBoard, matches: Matches) -> str:
    """The best entries of a suite against each other, neighbours in rank, and what it takes to compare any two."""
    found = matches.duels
    names = list(dict.fromkeys(name for duel in found for name in (duel.a, duel.b)))
    places = {name: i for i, name in enumerate(names)}
    shown = [(duel, places[duel.a], places[duel.b], _gap_axis(duel)) for duel in found]
    everyone = matches.everyone
    many = range(len(everyone.names) - 1 if len(everyone.names) > max(2, len(names)) else 0)
    return _render(
        "pairs.html",
        "../",
        board=board,
        suite=suite,
        duels=shown,
        names=names,
        matrix={(a, b): duel for duel, a, b, _ in shown},
        pages={entry.model: entry.page for entry in suite.entries if entry.rank},
        ranks={entry.model: entry.rank for entry in suite.entries},
        neighbours=[(everyone.names[i], everyone.names[i + 1], everyone.gap(i, i + 1)) for i in many],
        everyone=everyone,
        packed=_packed(everyone),
    )


def _packed(everyone: Everyone) -> str:
    """Headlines, and the standard errors of all differences (upper triangle, row by row, 16 bits each), as JSON."""
    upper = everyone.errors[np.triu_indices(len(everyone.names), 1)]
    most = float(upper.max(initial=0.0))
    steps = np.rint(upper / (most or 1.0) * _STEPS).astype("<u2")
    return json.dumps(
        {
            "values": [round(value, 6) for value in everyone.values],
            "errors": base64.b64encode(steps.tobytes()).decode(),
            "step": most / _STEPS,
            "critical": round(everyone.critical, 6),
        }
    )


def drawn(one: Detail) -> Drawn:
    """A result with its charts."""
    return Drawn(
        detail=one,
        parts=axis([v for m in (one.headline, *one.parts) if m.value is not None for v in (m.value, *(m.ci or ()))]),
        sweep=axis([s.value for s in one.sweep if s.value is not None]),
        margins=_margins(one.margins),
        reliability=reliability_chart(one.reliability) if one.reliability else None,
        lengths=lengths_chart(one.lengths) if one.lengths else None,
        facts=_facts(one.result),
    )


def _margins(found: Histogram | None) -> Chart | None:
    return margins_chart(found) if found is not None else None


def _render(name: str, root: str, **values: Any) -> str:
    """A template; `root` leads from the page to the top of the site."""
    return templates().get_template(name).render(root=root, inline="", **values)


def _gap_axis(duel: Duel) -> Axis:
    return axis([0.0, *(v for gap in duel.gaps for v in (gap.difference, *(gap.ci or ())))])


def _by_pair(found: Sequence[Correlation]) -> dict[tuple[str, str], Correlation]:
    return {key: one for one in found for key in ((one.a, one.b), (one.b, one.a))}


def _facts(held: Result) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """What is known of a run, as text."""
    model, data, around = held.model, held.suite.data, held.environment
    groups: list[tuple[str, dict[str, Any]]] = [
        ("Model", {**model.model_dump(mode="json")}),
        ("Data", {"suite": f"{held.suite.name}, version {held.suite.version}", **data.model_dump(mode="json")}),
        ("Scorer", held.scorer.model_dump(mode="json")),
        ("Engine", held.engine.model_dump(mode="json") if held.engine else {}),
        ("Requests", held.counts.model_dump(mode="json")),
        ("Cost", held.usage.model_dump(mode="json")),
        (
            "Environment",
            {
                "rmeval": around.rmeval,
                "commit": around.git and f"{around.git}{' with changes' if around.dirty else ''}",
                "python": around.python,
                "system": around.os,
                "device": around.device,
                "processors": around.cpus,
                "threads": around.threads,
                **around.packages,
            },
        ),
    ]
    shown = []
    for name, values in groups:
        rows = tuple((key.replace("_", " "), _said(value)) for key, value in values.items() if value not in _NOTHING)
        if rows:
            shown.append((name, rows))
    return tuple(shown)


_NOTHING: tuple[Any, ...] = (None, "", [], {}, ())


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(inner)}" for key, inner in value.items())
    return str(value)
