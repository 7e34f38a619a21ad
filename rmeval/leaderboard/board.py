"""From result files to a board: newest complete results, scores recomputed, ranks as ranges, nulls beside them.

    build(paths, out, submissions=folder) -> Board
    below `out`: leaderboard.json, results/ (what the pages link to), and the pages of `rmeval.leaderboard.site`

Results of one's own are checked by their headline; submissions are verified in full, and rejected with the code.

Whatever is not on the board is listed with the reason. A missing number is never 0 and never ranked.

What this module does not know: HTML, how rules give credit, where results come from.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from rmeval import results
from rmeval.cards import read_card
from rmeval.content import content_folder
from rmeval.environment import package_version
from rmeval.errors import UsageError
from rmeval.leaderboard.gather import Held, gather
from rmeval.leaderboard.intake import result_files
from rmeval.leaderboard.pairs import MOST, Duel, Everyone, Matches, duels
from rmeval.leaderboard.shape import (
    LEAST_SHARED,
    Board,
    Cell,
    Correlation,
    Entry,
    Null,
    PublishedFigure,
    SuiteBoard,
    to_json,
)
from rmeval.leaderboard.sheet import MOST_COLUMNS, Sheet
from rmeval.leaderboard.shelf import Shelf
from rmeval.leaderboard.site import write_changed, write_site
from rmeval.leaderboard.standing import Known, Standing, shared_examples, standing_of
from rmeval.leaderboard.submission import Declared
from rmeval.suites import Suite, load_suite

MOST_MISSING = 0.05
"""Share of examples without a score above which an entry is shown but not ranked."""


class BoardCard(BaseModel):
    """`leaderboard/board.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(default="rmeval board", max_length=200)
    most_unread: float = Field(default=0.05, ge=0, le=1)
    """Share of a judge's answers that refuse or hold no verdict, above which it is shown but not ranked."""
    least_examples: int = Field(default=10, ge=1)
    """Examples below which an entry is shown but not ranked: intervals and tests of so few say nothing."""


def build(
    paths: Sequence[Path],
    out: Path,
    board_toml: Path | None = None,
    *,
    submissions: Path | None = None,
    verified: Path | None = None,
    built: datetime | None = None,
    cache: Path | None = None,
    jobs: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> Board:
    """Read result files (or folders of them) and verified submissions, rank them per suite, write the site to `out`.

    `verified` is the file in which maintainers recorded what they scored again, see `rmeval.leaderboard.verified`.
    `cache` is a folder in which score matrices are kept for the next build, see `rmeval.leaderboard.shelf`; `jobs`
    processes measure what is new; `say` is told what a person should know.
    Raises `UsageError` for a path that does not exist or a faulty board.toml; a faulty result is excluded and listed.
    """
    card = read_card(board_toml or content_folder("leaderboard") / "board.toml", BoardCard)
    made_before, held_apart = out.resolve(), submissions.resolve() if submissions else None
    files = [f for f in result_files(paths) if not {made_before, held_apart} & set(f.resolve().parents)]
    shelf = Shelf(cache, say)
    found = gather(files, submissions, verified, shelf, jobs)
    boards: list[SuiteBoard] = []
    shown: dict[str, Held] = {}
    matches: dict[str, Matches] = {}
    used: dict[str, list[str]] = {}
    for name, entries in found.best.items():
        suite = load_suite(name)
        made, standing, ranked = _suite_board(suite, entries, shelf, card)
        shown |= {_entry_of(held).file: held for held in entries}
        by_file = {_entry_of(held).file: held for held in ranked}
        best = [by_file[entry.file] for entry in made.entries if entry.rank][:MOST]
        key = _digest([(held.sheet.result, held.sheet.samples) for held in best])
        compared = shelf.duels(key, partial(_duels, best, suite))
        if standing and len(best) > 1:
            matches[name] = Matches(compared, _everyone(standing, [e.model for e in made.entries if e.rank]))
            made = replace(made, pairs=f"pairs/{results.path_part(name)}.html")
        boards.append(made)
        used[name] = [key]
    for name, sheets in found.sheets.items():
        shelf.keep(name, sheets, used.get(name, []))
    board = Board(
        title=card.title,
        built=f"{(built or datetime.now(UTC)).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        rmeval=package_version(),
        suites=tuple(boards),
        excluded=tuple(sorted(found.left_out, key=lambda e: (e.suite, e.model, e.file))),
        correlations=_correlations(boards),
    )
    for file, held in shown.items():
        _publish(held, out / file)
    # in this order: the pages of the board before are known from its leaderboard.json
    write_site(board, {file: held.sheet.depth for file, held in shown.items()}, matches, out)
    results.write_whole(out / "leaderboard.json", to_json(board).encode("utf-8"))
    return board


# --- one suite -------------------------------------------------------------------------------------------------------


def _suite_board(
    suite: Suite, entries: Sequence[Held], shelf: Shelf, limits: BoardCard
) -> tuple[SuiteBoard, Standing | None, list[Held]]:
    """(the suite's part of the board, how its ranked entries stand, and which those are)."""
    card = suite.card
    paths = {id(held.sheet): held.path for held in entries}
    known = Known(shelf.frames, shelf.layouts, lambda sheet: results.load_result(paths[id(sheet)]).judgements)
    notes = _of_one_draw({held.path: _note(held.sheet, limits) for held in entries}, entries, known)
    ranked = [held for held in entries if not notes[held.path]]
    first = entries[0].sheet
    sign = 1 if first.higher_is_better else -1
    standing = standing_of([held.sheet for held in ranked], suite, sign, known)
    columns = _columns(suite, [held.sheet for held in entries])
    places = {held.path: i for i, held in enumerate(ranked)}
    shown = []
    for held in entries:
        entry = _entry(held, notes[held.path], suite, columns)
        if standing and held.path in places:
            entry = _placed(entry, standing, places[held.path])
        shown.append(entry)
    shown.sort(key=lambda e: (e.value is None, -sign * (e.value or 0.0), e.model))
    board = SuiteBoard(
        name=suite.name,
        version=card.version,
        title=card.title,
        summary=card.summary,
        homepage=card.homepage,
        licence=card.licence,
        headline=suite.plan.headline,
        higher_is_better=sign > 0,
        rule=". ".join(part[0].upper() + part[1:].rstrip(".") for part in (card.headline.note, first.rule) if part)
        + ".",
        examples=max(held.sheet.examples for held in entries),
        common=standing.common if standing else 0,
        resolvable=standing.resolvable if standing else None,
        sections=columns,
        entries=tuple(shown),
        nulls=_nulls(entries, notes),
        published=tuple(PublishedFigure(p.model, p.value, p.metric, p.source) for p in card.published),
        note="" if standing else "No ranks: no example is scored by every entry." if ranked else "No entry is ranked.",
        told_apart=standing.told_apart if standing else None,
        solved_by_all=standing.solved[0] if standing and standing.solved else None,
        solved_by_none=standing.solved[1] if standing and standing.solved else None,
        page=f"suites/{results.path_part(suite.name)}.html",
    )
    return board, standing, ranked


def _note(sheet: Sheet, limits: BoardCard) -> str:
    """Why an entry is not ranked, whatever the others are; empty where it may be."""
    if sheet.note:
        return sheet.note
    if sheet.examples < limits.least_examples:
        return f"not ranked: too few examples: {sheet.examples}, where a rank needs {limits.least_examples}"
    if sheet.unread > limits.most_unread:
        why = f"{sheet.unread:.1%} of the judge's answers refuse or hold no verdict (limit {limits.most_unread:.1%})"
        return f"not ranked: {why}"
    entry = sheet.entry
    assert entry is not None
    share = entry.n_missing / max(1, entry.n + entry.n_missing)
    return f"not ranked: {share:.1%} of the examples have no score" if share > MOST_MISSING else ""


def _contamination(held: Held, suite: Suite) -> str:
    """Why an entry may have seen the suite: its sender says so, or a data set that it was trained on is the suite's."""
    declared = held.sheet.sent.declared if held.sheet.sent else Declared()
    if declared.contaminated:
        return "its sender declares that it has seen this suite"
    trained = {name.lower() for name in (*held.sheet.training_data, *declared.training_data)}
    own = {hub for layout in suite.card.layouts for hub in (layout.hub, *(s.hub for s in layout.source)) if hub}
    shared = sorted(hub for hub in own if hub.lower() in trained)
    return f"trained on {', '.join(shared)}, from which this suite is read" if shared else ""


def _correlations(boards: Sequence[SuiteBoard]) -> tuple[Correlation, ...]:
    """Spearman's correlation of the headlines of entries that are ranked on both suites, for every two suites."""
    from scipy.stats import rankdata

    found = []
    for a, b in combinations(boards, 2):
        left, right = (
            {e.model: (1 if s.higher_is_better else -1) * e.value for e in s.entries if e.rank and e.value is not None}
            for s in (a, b)
        )
        shared = sorted(left.keys() & right.keys())
        x, y = (rankdata([side[model] for model in shared]) for side in (left, right))
        varied = len(shared) >= LEAST_SHARED and x.std() > 0 and y.std() > 0
        rho = float(np.corrcoef(x, y)[0, 1]) if varied else None
        found.append(Correlation(a.name, b.name, rho, len(shared)))
    return tuple(found)


def _of_one_draw(notes: Mapping[Path, str], entries: Sequence[Held], known: Known) -> dict[Path, str]:
    """The notes, those over other prompts, labels or ids than most of the others marked as not ranked."""
    ids = {frame: _digest(sorted(known.frames[frame].ids)) for frame in {h.sheet.frame for h in entries}}
    drawn = {held.path: (held.sheet.stated, ids[held.sheet.frame]) for held in entries}
    draws = Counter(drawn[held.path] for held in entries if not notes[held.path])
    found = dict(notes)
    if len(draws) < 2:
        return found
    usual = max(sorted(draws), key=lambda draw: draws[draw])
    reference = next(held.sheet for held in entries if drawn[held.path] == usual and not notes[held.path])
    whole = len(known.frames[reference.frame].ids)
    for held in entries:
        if not notes[held.path] and drawn[held.path] != usual:
            try:
                # the same examples read from another layout have another digest and can be paired all the same
                common = len(shared_examples([reference, held.sheet], known))
            except UsageError:
                found[held.path] = f"not ranked: other data than the entries above ({held.sheet.source})"
                continue
            if common < (1 - MOST_MISSING) * whole:  # else it would leave little to rank all others on
                found[held.path] = (
                    f"not ranked: shares {common} of the {whole} examples of most entries ({held.sheet.source})"
                )
    return found


def _placed(entry: Entry, standing: Standing, i: int) -> Entry:
    """The entry with its rank range."""
    return replace(
        entry,
        rank=(standing.ranks.best[i], standing.ranks.worst[i]),
        tied_with=tuple(standing.models[j] for j in standing.ranks.tied[i]),
        versus=standing.versus[i],
    )


def _columns(suite: Suite, sheets: Sequence[Sheet]) -> tuple[str, ...]:
    """The sections of the suite, and its subsets where there are not too many."""
    sections = [section.name for section in suite.plan.sections if section.subsets]
    alone = {section.subsets[0] for section in suite.plan.sections if len(section.subsets) == 1}
    subsets = dict.fromkeys((*suite.plan.expected, *(name for sheet in sheets for name in sheet.subsets)))
    parts = dict.fromkeys((*sections, *(s for s in subsets if s not in alone)))
    if not sections or len(parts) <= MOST_COLUMNS:
        return tuple(parts) if len(parts) > 1 else ()
    return tuple(sections)


def _entry(held: Held, note: str, suite: Suite, columns: Sequence[str]) -> Entry:
    entry = _entry_of(held)
    absent = {
        name: Cell(None, 0, 0, f"{name} is undefined: there is no section or subset {name!r}") for name in columns
    }
    return replace(
        entry,
        sections={name: entry.sections.get(name, absent[name]) for name in columns},
        note=note,
        level="reproduced" if held.again else entry.level,
        again=held.again,
        contaminated=_contamination(held, suite),
        flags=held.flags,
    )


def _entry_of(held: Held) -> Entry:
    assert held.sheet.entry is not None
    return held.sheet.entry


def _nulls(entries: Sequence[Held], notes: Mapping[Path, str]) -> tuple[Null, ...]:
    """The null baselines that the results state, unless they are entries themselves."""
    names = {held.sheet.model for held in entries}
    found: dict[str, Null] = {}
    for held in sorted(entries, key=lambda h: bool(notes[h.path])):
        for null in held.sheet.nulls:
            if null.name not in names:
                found.setdefault(null.name, null)
    return tuple(found.values())


def _duels(best: Sequence[Held], suite: Suite) -> tuple[Duel, ...]:
    return duels([results.load_result(held.path) for held in best], suite)


def _everyone(standing: Standing, names: Sequence[str]) -> Everyone:
    place = {name: i for i, name in enumerate(standing.models)}
    order = np.array([place[name] for name in names], dtype=np.intp)
    values = tuple(standing.estimates[order].tolist())
    return Everyone(tuple(names), values, standing.errors[np.ix_(order, order)], standing.ranks.critical)


# --- what is written -------------------------------------------------------------------------------------------------


def _publish(held: Held, target: Path) -> None:
    """Copy a result and its samples to where the page links."""
    beside = held.path.parent / held.sheet.samples_file
    write_changed(target.parent / held.sheet.samples_file, beside.read_bytes())
    write_changed(target, held.path.read_bytes())


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()
