"""From result files to a board: newest complete results, scores recomputed, ranks as ranges, nulls beside them.

    build(paths, out, submissions=folder) -> Board
    below `out`: leaderboard.json, results/ (what the pages link to), and the pages of `rmeval.leaderboard.site`

Results of one's own are checked by their headline; submissions are verified in full, and rejected with the code.

Whatever is not on the board is listed with the reason. A missing number is never 0 and never ranked.

What this module does not know: HTML, how rules give credit, where results come from.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
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
from rmeval.leaderboard.detail import Detail, detail
from rmeval.leaderboard.intake import Sent, excluded, newest, result_files, submitted
from rmeval.leaderboard.pairs import Duel, duels
from rmeval.leaderboard.shape import (
    LEAST_SHARED,
    Board,
    Cell,
    Correlation,
    Entry,
    Null,
    PublishedFigure,
    SuiteBoard,
    Versus,
    to_json,
)
from rmeval.leaderboard.site import write_site
from rmeval.leaderboard.submission import Declared
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
    sent: Sent | None = None
    """None for a result of one's own."""


def build(
    paths: Sequence[Path],
    out: Path,
    board_toml: Path | None = None,
    *,
    submissions: Path | None = None,
    verified: Path | None = None,
    built: datetime | None = None,
) -> Board:
    """Read result files (or folders of them) and verified submissions, rank them per suite, write the site to `out`.

    `verified` is the file in which maintainers recorded what they scored again, see `rmeval.leaderboard.verified`.
    Raises `UsageError` for a path that does not exist or a faulty board.toml; a faulty result is excluded and listed.
    """
    card = read_card(board_toml or content_folder("leaderboard") / "board.toml", BoardCard)
    made_before, held_apart = out.resolve(), submissions.resolve() if submissions else None
    files = [f for f in result_files(paths) if not {made_before, held_apart} & set(f.resolve().parents)]
    sent, refused = submitted(submissions, verified)
    views, left_out = newest(files, [view for view, _ in sent])
    left_out += refused
    by_path = {view.path: what for view, what in sent}
    boards: list[SuiteBoard] = []
    matches: dict[str, tuple[Duel, ...]] = {}
    details: dict[str, Detail] = {}
    for name in sorted(views):
        suite = load_suite(name)
        scored = []
        for view in views[name]:
            try:
                scored.append(replace(_recomputed(view, suite, card.most_unread), sent=by_path.get(view.path)))
            except UsageError as fault:
                left_out.append(excluded(view, str(fault)))
        if scored:
            made = _suite_board(suite, scored)
            by_file = {_link(one.view): one.view for one in scored}
            ranked = [by_file[entry.file] for entry in made.entries if entry.rank]
            matches[name] = duels(ranked, suite)
            details |= {file: detail(view, suite) for file, view in by_file.items()}
            boards.append(replace(made, pairs=f"pairs/{results.path_part(name)}.html" if matches[name] else ""))
    board = Board(
        title=card.title,
        built=f"{(built or datetime.now(UTC)).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        rmeval=package_version(),
        suites=tuple(boards),
        excluded=tuple(sorted(left_out, key=lambda e: (e.suite, e.model, e.file))),
        correlations=_correlations(boards),
    )
    shown = {entry.file for suite_board in boards for entry in suite_board.entries}
    for view in (view for same_suite in views.values() for view in same_suite):
        if _link(view) in shown:
            _publish(view, out)
    # in this order: the pages of the board before are known from its leaderboard.json
    write_site(board, details, matches, out)
    results.write_whole(out / "leaderboard.json", to_json(board).encode("utf-8"))
    return board


# --- one result -------------------------------------------------------------------------------------------------------


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
        told_apart=standing.told_apart if standing else None,
        solved_by_all=standing.solved[0] if standing and standing.solved else None,
        solved_by_none=standing.solved[1] if standing and standing.solved else None,
        page=f"suites/{results.path_part(suite.name)}.html",
    )


def _contamination(one: _Scored, suite: Suite) -> str:
    """Why an entry may have seen the suite: its sender says so, or a data set that it was trained on is the suite's."""
    declared = one.sent.declared if one.sent else Declared()
    if declared.contaminated:
        return "its sender declares that it has seen this suite"
    trained = {name.lower() for name in (*one.view.result.model.training_data, *declared.training_data)}
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


def _of_one_draw(scored: Sequence[_Scored], suite: Suite) -> list[_Scored]:
    """The entries, those over other prompts, labels or ids than most of the others marked as not ranked."""
    drawn = {one.view.path: _draw(one.view) for one in scored}
    draws = Counter(drawn[s.view.path] for s in scored if not s.note)
    if len(draws) < 2:
        return list(scored)
    usual = max(sorted(draws), key=lambda draw: draws[draw])
    reference = next(s.view for s in scored if drawn[s.view.path] == usual and not s.note)
    found = []
    for one in scored:
        if not one.note and drawn[one.view.path] != usual:
            source, whole = one.view.result.suite.data.source, len(reference.judgements)
            try:
                # the same examples read from another layout have another digest and can be paired all the same
                overlap = common_rows([reference.judgements, one.view.judgements], suite.plan, ("a", "b"))[1]
                if overlap.common < (1 - MOST_MISSING) * whole:  # else it would leave little to rank all others on
                    why = f"not ranked: shares {overlap.common} of the {whole} examples of most entries ({source})"
                    one = replace(one, note=why)  # noqa: PLW2901
            except UsageError:
                one = replace(one, note=f"not ranked: other data than the entries above ({source})")  # noqa: PLW2901
        found.append(one)
    return found


def _draw(view: ResultView) -> tuple[str, str]:
    """What tells draws of a suite apart: the digest that the result states, and that of the ids it holds."""
    ids = "\n".join(sorted(row.id for row in view.judgements))
    return view.result.suite.data.sha256, hashlib.sha256(ids.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Standing:
    """How the ranked entries of a suite stand to each other and to length, on the examples that all of them scored."""

    models: tuple[str, ...]
    ranks: stats.RankSets
    versus: tuple[dict[str, Versus], ...]
    common: int
    resolvable: float | None
    told_apart: tuple[int, int] | None
    solved: tuple[float, float] | None
    """Shares of the common examples on which all earn full credit, and on which none earns anything."""

    @classmethod
    def of(cls, views: Sequence[ResultView], suite: Suite, sign: int) -> _Standing | None:
        """None where there is nothing to rank."""
        if not views:
            return None
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
        ranks = stats.rank_sets(sign * paired.estimates[:k], sign * drawn[:, :k])
        couples, credit = k * (k - 1) // 2, paired.values[:, :k]
        return cls(
            models=models,
            ranks=ranks,
            versus=versus,
            common=overlap.common,
            resolvable=float(np.median(resolved)) if resolved else None,
            told_apart=(couples - sum(map(len, ranks.tied)) // 2, couples) if couples else None,
            solved=(float((credit >= 1 - 1e-9).all(axis=1).mean()), float((credit <= 1e-9).all(axis=1).mean()))
            if np.ptp(paired.weights, axis=1).max() < 1e-12  # elsewhere an item is a slope and not a credit
            else None,
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
        level="own" if one.sent is None else "reproduced" if one.sent.again else "recomputed",
        again=one.sent.again if one.sent else (),
        contaminated=_contamination(one, suite),
        flags=one.sent.flags if one.sent else (),
        page=_link(view).replace("results/", "entries/", 1).removesuffix(".json") + ".html",
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
