"""From result files to a board: newest complete results, scores recomputed, ranks as ranges, nulls beside them.

    build(paths, out) -> Board       and below `out`: leaderboard.json, index.html, results/ (what the page links to)

Whatever is not on the board is listed with the reason. A missing number is never 0 and never ranked.

What this module does not know: HTML, how rules give credit, where results come from.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from rmeval import results, stats
from rmeval.cards import read_card
from rmeval.compare import common_rows, difference_interval, pair
from rmeval.content import content_folder
from rmeval.environment import package_version
from rmeval.errors import UsageError
from rmeval.leaderboard.page import render
from rmeval.leaderboard.shape import (
    Board,
    Cell,
    Entry,
    Excluded,
    Null,
    PublishedFigure,
    SuiteBoard,
    Versus,
    to_json,
)
from rmeval.metrics.evaluate import headline_items, joint_bootstrap
from rmeval.metrics.judge_calls import unread_share
from rmeval.metrics.nulls import NULLS
from rmeval.results import ResultView
from rmeval.suites import Suite, load_suite
from rmeval.types import Judgement

MOST_MISSING = 0.05
"""Share of examples without a score above which an entry is shown but not ranked."""
COMPARED = ("length", "random")
"""The null baselines that every ranked entry is compared with."""
MOST_COLUMNS = 12
"""Parts of a suite up to which its subsets are shown beside its sections."""
_EQUAL = 1e-9
"""How far a stated headline may lie from the recomputed one."""


class BoardCard(BaseModel):
    """`leaderboard/board.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(default="rmeval board", max_length=200)
    most_unread: float = Field(default=0.05, ge=0, le=1)
    """Share of a judge's answers that refuse or hold no verdict, above which it is shown but not ranked."""


@dataclass(frozen=True, slots=True)
class _Scored:
    """A result that is on the board."""

    view: ResultView
    value: float | None
    """The headline, recomputed from the samples."""
    note: str = ""
    """Why it is not ranked; empty where it may be."""


def build(paths: Sequence[Path], out: Path, board_toml: Path | None = None, *, built: datetime | None = None) -> Board:
    """Read result files (or folders of them), rank them per suite and write the board below `out`.

    Raises `UsageError` for a path that does not exist or a faulty board.toml; a faulty result is excluded and listed.
    """
    card = read_card(board_toml or content_folder("leaderboard") / "board.toml", BoardCard)
    made_before = out.resolve()
    views, excluded = _newest(f for f in result_files(paths) if made_before not in f.resolve().parents)
    boards = []
    for name in sorted(views):
        suite = load_suite(name)
        scored = []
        for view in views[name]:
            try:
                scored.append(_recomputed(view, suite, card.most_unread))
            except UsageError as fault:
                excluded.append(_excluded(view, str(fault)))
        if scored:
            boards.append(_suite_board(suite, scored))
    board = Board(
        title=card.title,
        built=f"{(built or datetime.now(UTC)).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        rmeval=package_version(),
        suites=tuple(boards),
        excluded=tuple(sorted(excluded, key=lambda e: (e.suite, e.model, e.file))),
    )
    shown = {entry.file for suite_board in boards for entry in suite_board.entries}
    for view in (view for same_suite in views.values() for view in same_suite):
        if _link(view) in shown:
            _publish(view, out)
    results.write_whole(out / "leaderboard.json", to_json(board).encode("utf-8"))
    results.write_whole(out / "index.html", render(board).encode("utf-8"))
    return board


# --- which results ---------------------------------------------------------------------------------------------------


def result_files(paths: Iterable[Path]) -> list[Path]:
    """The paths that are files, and all JSON files below those that are folders. Raises `UsageError` for neither."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found.update(dict.fromkeys(sorted(p for p in path.rglob("*.json") if not p.name.startswith("."))))
        elif path.is_file():
            found[path] = None
        else:
            raise UsageError(f"{path}: no such result file or folder")
    return list(found)


def _newest(files: Iterable[Path]) -> tuple[dict[str, list[ResultView]], list[Excluded]]:
    """(suite -> newest complete result of each model, everything else and why)."""
    newest: dict[tuple[str, str], ResultView] = {}
    excluded = []
    for file in files:
        try:
            view = results.load_result(file)
        except UsageError as fault:
            excluded.append(Excluded(file.name, "", "", str(fault).replace(str(file.parent), "…")))
            continue
        if why := _unfit(view):
            excluded.append(_excluded(view, why))
            continue
        key = view.result.suite.name, view.result.model.name
        other = newest.get(key)
        if other is not None:
            older, view = sorted((other, view), key=lambda v: (v.result.created, v.path.name))
            excluded.append(_excluded(older, "an older result; the newest one is shown"))
        newest[key] = view
    views: dict[str, list[ResultView]] = defaultdict(list)
    for (suite, _), view in sorted(newest.items()):
        views[suite].append(view)
    return views, excluded


def _unfit(view: ResultView) -> str:
    """Why a result may not stand on a board; empty where it may."""
    result = view.result
    if result.withheld:
        return f"its aggregates are withheld: {result.withheld}"
    if result.suite.limit is not None:
        return f"a limited run: {result.suite.examples} examples"
    if not result.complete:
        return "; ".join(("incomplete", *result.notes))
    if result.metric_options:
        options = ", ".join(f"{key} = {value}" for key, value in sorted(result.metric_options.items()))
        return f"not the official definition: {options}"
    try:
        card = load_suite(result.suite.name).card
    except UsageError as fault:
        return str(fault)
    if card.version != result.suite.version:
        return f"of version {result.suite.version} of the suite; the card has version {card.version}"
    if card.labels_sha256 and result.suite.data.labels_sha256 != card.labels_sha256:
        return "its labels are not those of the card (labels_sha256 differs)"
    return ""


def _excluded(view: ResultView, why: str) -> Excluded:
    return Excluded(view.path.name, view.result.model.name, view.result.suite.name, why)


def _recomputed(view: ResultView, suite: Suite, most_unread: float) -> _Scored:
    """The result with its headline from the samples; raises `UsageError` when it states another one."""
    stated = view.headline
    try:
        value: float | None = _value(view.judgements, suite)
    except UsageError as fault:
        if stated.value is not None:
            raise UsageError(f"states {suite.plan.headline} {stated.value:.6f}, but {fault}") from None
        return _Scored(view, None, f"not ranked: {fault}")
    if stated.value is None or value is None or abs(stated.value - value) > _EQUAL:
        said = "none" if stated.value is None else f"{stated.value:.9f}"
        raise UsageError(f"states {suite.plan.headline} {said}, but its samples give {value:.9f}")
    unread = unread_share(view.judgements)
    if unread > most_unread:
        why = f"{unread:.1%} of the judge's answers refuse or hold no verdict (limit {most_unread:.1%})"
        return _Scored(view, value, f"not ranked: {why}")
    share = stated.n_missing / max(1, stated.n + stated.n_missing)
    if share > MOST_MISSING:
        return _Scored(view, value, f"not ranked: {share:.1%} of the examples have no score")
    return _Scored(view, value)


def _value(rows: Sequence[Judgement], suite: Suite, part: str | None = None) -> float:
    return math.fsum(item.weight * item.value for item in headline_items(rows, suite.plan, part))


# --- one suite -------------------------------------------------------------------------------------------------------


def _suite_board(suite: Suite, scored: Sequence[_Scored]) -> SuiteBoard:
    card, sign = suite.card, 1 if scored[0].view.headline.higher_is_better else -1
    scored = _of_one_draw(scored, suite)
    ranked = [s for s in scored if not s.note]
    standing = _Standing.of([s.view for s in ranked], suite, sign)
    columns = _columns(suite, [s.view for s in scored])
    entries = []
    for one in scored:
        entry = _entry(one, suite, columns)
        if one in ranked and standing:
            entry = standing.placed(entry, ranked.index(one))
        entries.append(entry)
    entries.sort(key=lambda e: (e.value is None, -sign * (e.value or 0.0), e.model))
    head = scored[0].view.headline
    own_rule = head.note.partition("; interval")[0].removeprefix("undefined: ")
    return SuiteBoard(
        name=suite.name,
        version=card.version,
        title=card.title,
        summary=card.summary,
        homepage=card.homepage,
        licence=card.licence,
        headline=suite.plan.headline,
        higher_is_better=sign > 0,
        rule=". ".join(part[0].upper() + part[1:].rstrip(".") for part in (card.headline.note, own_rule) if part) + ".",
        examples=max(s.view.result.suite.examples for s in scored),
        common=standing.common if standing else 0,
        resolvable=standing.resolvable if standing else None,
        sections=columns,
        entries=tuple(entries),
        nulls=_nulls(scored),
        published=tuple(PublishedFigure(p.model, p.value, p.metric, p.source) for p in card.published),
        note="" if standing else "No ranks: no example is scored by every entry." if ranked else "No entry is ranked.",
    )


def _of_one_draw(scored: Sequence[_Scored], suite: Suite) -> list[_Scored]:
    """The entries, those over other prompts or labels than most of the others marked as not ranked."""
    draws = Counter(s.view.result.suite.data.sha256 for s in scored if not s.note)
    if len(draws) < 2:
        return list(scored)
    usual = max(sorted(draws), key=lambda digest: draws[digest])
    reference = next(s.view for s in scored if s.view.result.suite.data.sha256 == usual and not s.note)
    found = []
    for one in scored:
        if not one.note and one.view.result.suite.data.sha256 != usual:
            try:
                # the same examples read from another layout have another digest and can be paired all the same
                common_rows([reference.judgements, one.view.judgements], suite.plan, ("a", "b"))
            except UsageError:
                source = one.view.result.suite.data.source
                one = replace(one, note=f"not ranked: other data than the entries above ({source})")  # noqa: PLW2901
        found.append(one)
    return found


@dataclass(frozen=True, slots=True)
class _Standing:
    """How the ranked entries of a suite stand to each other and to length, on the examples that all of them scored."""

    models: tuple[str, ...]
    ranks: stats.RankSets
    versus: tuple[dict[str, Versus], ...]
    common: int
    resolvable: float | None

    @classmethod
    def of(cls, views: Sequence[ResultView], suite: Suite, sign: int) -> _Standing | None:
        """None where there is nothing to rank."""
        models = tuple(view.result.model.name for view in views)
        try:
            rows, overlap = common_rows([view.judgements for view in views], suite.plan, models)
            nulls = {name: run for name, run in _null_runs(rows).items() if name not in models}
            runs = [*rows, *nulls.values()]
            paired, drawn = pair(runs, suite.plan), joint_bootstrap(runs, suite.plan).replicates
        except UsageError:
            return None
        k = len(views)
        # a null that was run as a scorer stands for itself
        against = {name: j for j, name in enumerate((*models, *nulls)) if name in COMPARED}
        columns = [(i, j, name) for i in range(k) for name, j in against.items() if i != j]
        columns = [
            (i, j, name) for i, j, name in columns if not np.array_equal(paired.earned[:, i], paired.earned[:, j])
        ]
        p = stats.holm(
            [stats.sign_flip(paired.earned[:, i] - paired.earned[:, j], paired.clusters) for i, j, _ in columns]
        )
        versus: tuple[dict[str, Versus], ...] = tuple({} for _ in views)
        for (i, j, name), adjusted in zip(columns, p.tolist(), strict=True):
            difference = float(paired.estimates[i] - paired.estimates[j])
            versus[i][name] = Versus(difference, difference_interval(paired, drawn, i, j)[0], adjusted)
        errors = [difference_interval(paired, drawn, i, j)[1] for i, j in combinations(range(k), 2)]
        resolved = [stats.minimum_detectable_effect(se) for se in errors if se > 0]
        return cls(
            models=models,
            ranks=stats.rank_sets(sign * paired.estimates[:k], sign * drawn[:, :k]),
            versus=versus,
            common=overlap.common,
            resolvable=float(np.median(resolved)) if resolved else None,
        )

    def placed(self, entry: Entry, i: int) -> Entry:
        """The entry with its rank range."""
        return replace(
            entry,
            rank=(self.ranks.best[i], self.ranks.worst[i]),
            tied_with=tuple(self.models[j] for j in self.ranks.tied[i]),
            versus=self.versus[i],
        )


def _null_runs(rows: Sequence[Sequence[Judgement]]) -> dict[str, list[Judgement]]:
    """The common examples as `length` and `random` would score them; no `length` where no entry has all lengths."""
    known = next((one for one in rows if all(row.lengths for row in one)), None)
    bases = {"length": known, "random": rows[0]}
    return {name: [NULLS[name][0](row) for row in base] for name in COMPARED if (base := bases[name])}


def _columns(suite: Suite, views: Sequence[ResultView]) -> tuple[str, ...]:
    """The sections of the suite, and its subsets where there are not too many."""
    sections = [section.name for section in suite.plan.sections if section.subsets]
    alone = {section.subsets[0] for section in suite.plan.sections if len(section.subsets) == 1}
    subsets = dict.fromkeys((*suite.plan.expected, *(j.subset for v in views for j in v.judgements)))
    parts = dict.fromkeys((*sections, *(s for s in subsets if s not in alone)))
    if not sections or len(parts) <= MOST_COLUMNS:
        return tuple(parts) if len(parts) > 1 else ()
    return tuple(sections)


def _entry(one: _Scored, suite: Suite, columns: Sequence[str]) -> Entry:
    view, result, head = one.view, one.view.result, one.view.headline
    return Entry(
        model=result.model.name,
        revision=result.model.revision,
        kind=result.model.kind,
        value=one.value,
        ci=head.ci,
        rank=None,
        tied_with=(),
        n=head.n,
        n_missing=head.n_missing,
        sections={name: _cell(view, suite, name) for name in columns},
        versus={},
        created=result.created,
        rmeval=result.environment.rmeval,
        file=_link(view),
        note=one.note,
    )


def _cell(view: ResultView, suite: Suite, name: str) -> Cell:
    stated = next((m for m in view.metrics if m.name == suite.plan.headline and m.subset == name), None)
    n, n_missing = (stated.n, stated.n_missing) if stated else (0, 0)
    try:
        return Cell(_value(view.judgements, suite, name), n, n_missing)
    except UsageError as fault:
        return Cell(None, n, n_missing, str(fault))


def _nulls(scored: Sequence[_Scored]) -> tuple[Null, ...]:
    """The null baselines that the results state, unless they are entries themselves."""
    entries = {one.view.result.model.name for one in scored}
    found: dict[str, Null] = {}
    for one in sorted(scored, key=lambda s: bool(s.note)):
        for metric in one.view.metrics:
            name = metric.name.removeprefix("null:")
            if name != metric.name and metric.subset is None and metric.value is not None and name not in entries:
                found.setdefault(name, Null(name, metric.value, metric.note))
    return tuple(found.values())


# --- what is written -------------------------------------------------------------------------------------------------


def _link(view: ResultView) -> str:
    """Where the result lies below the page: made of safe parts only."""
    result = view.result
    stem = result.samples.file.removesuffix("-samples.jsonl.gz")
    return f"results/{results.path_part(result.model.name)}/{results.path_part(result.suite.name)}/{stem}.json"


def _publish(view: ResultView, out: Path) -> None:
    """Copy a result and its samples to where the page links."""
    target = out / _link(view)
    samples = view.path.parent / view.result.samples.file
    results.write_whole(target.parent / samples.name, samples.read_bytes())
    results.write_whole(target, view.path.read_bytes())
