"""One result as the board needs it: its entry, the credits behind its headline, and the drawing of its page.

    measured(path) -> Sheet      every number recomputed from the samples, which are then let go of

500 models on 20 suites are ten million rows: no board holds them all, and none reads them twice
(`rmeval.leaderboard.shelf`).

What this module does not know: ranks, other entries, where sheets are kept.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rmeval import results
from rmeval.errors import UsageError
from rmeval.leaderboard.detail import detail
from rmeval.leaderboard.intake import unfit
from rmeval.leaderboard.shape import Cell, Entry, Null
from rmeval.leaderboard.site import depth
from rmeval.leaderboard.submission import Declared
from rmeval.metrics.book import Book
from rmeval.metrics.convert import scores_of
from rmeval.metrics.judge_calls import unread_share
from rmeval.metrics.tree import Aggregate
from rmeval.results import ResultView
from rmeval.stats import Floats
from rmeval.suites import Suite, load_suite
from rmeval.types import Judgement

MOST_COLUMNS = 12
"""Parts of a suite up to which its subsets are shown beside its sections."""
_EQUAL = 1e-9
"""How far a stated headline may lie from the recomputed one."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The examples of a result: most results of a suite share one."""

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    """Per example, a digest of subset and grades."""
    texts: tuple[str, ...]
    """Per example, a digest of prompt and lengths; empty where the texts were not at hand."""

    @property
    def digest(self) -> str:
        """What equal frames share."""
        return _digest([self.ids, self.labels, self.texts])


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each credit behind a headline stands: leaf by leaf, the examples by id."""

    leaves: tuple[tuple[str, tuple[str, ...]], ...]
    """(branch and component, ids of the examples)."""

    @property
    def digest(self) -> str:
        """What equal layouts share."""
        return _digest(self.leaves)

    @property
    def keys(self) -> list[str]:
        """The example of each place."""
        return [key for _, keys in self.leaves for key in keys]


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a submission adds to its result."""

    folder: str
    """Digest of all that lies in its folder."""
    declared: Declared
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A result, measured."""

    result: str
    """sha256 of the result file."""
    samples: str
    """sha256 of the samples file."""
    samples_file: str
    suite: str
    model: str
    created: str
    id: str
    unfit: str = ""
    """Why it may not stand on a board; what follows is empty then."""
    wrong: str = ""
    """Which other headline it states."""
    entry: Entry | None = None
    """Its entry as far as it does not depend on others: sections and subsets as columns, no rank."""
    note: str = ""
    """Why it cannot be ranked, whatever the others."""
    rule: str = ""
    """Of the headline."""
    higher_is_better: bool = True
    examples: int = 0
    stated: str = ""
    """The digest of the data that it states."""
    source: str = ""
    """Where the data came from, in words."""
    subsets: tuple[str, ...] = ()
    nulls: tuple[Null, ...] = ()
    unread: float = 0.0
    """Share of a judge's answers that refuse or hold no verdict."""
    training_data: tuple[str, ...] = ()
    sent: Submitted | None = None
    frame: str = ""
    layout: str = ""
    scored: str = ""
    """Digest of the ids and numbers of candidates that `scores` is about."""
    credits: Floats = field(default_factory=lambda: np.empty(0))
    """By the places of its layout; NaN where missing."""
    scores: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    """Of a submission: all candidates' scores by example id, mean 0 and sd 1; NaN where missing."""
    depth: str = ""
    """What its page shows below the head, drawn."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A sheet with the frame and layout that it names."""

    sheet: Sheet
    frame: Frame | None = None
    layout: Layout | None = None


def measured(path: Path, sent: Submitted | None = None) -> Measured:
    """A result file from its samples. Raises `UsageError` for what cannot be read."""
    content = _read(path)
    view = results.load_result(path)
    held = view.result
    sheet = Sheet(
        result=hashlib.sha256(content).hexdigest(),
        samples=held.samples.sha256,
        samples_file=held.samples.file,
        suite=held.suite.name,
        model=held.model.name,
        created=held.created,
        id=held.id,
        sent=sent,
        training_data=held.model.training_data,
    )
    if why := unfit(view):
        return Measured(replace(sheet, unfit=why))
    suite = load_suite(held.suite.name)
    book = Book(view.judgements, suite.plan)
    whole, stated = book.headline(), view.headline
    if wrong := _wrong(whole, stated.value, suite):
        return Measured(replace(sheet, wrong=wrong))
    frame, (layout, earned) = framed(view.judgements), laid_out(whole)
    scored, scores = _scores(view.judgements) if sent else ("", np.empty(0, dtype=np.float32))
    sheet = replace(
        sheet,
        entry=_entry(view, suite, book, whole.value, sent),
        note="" if whole.value is not None else f"not ranked: {suite.plan.headline} is undefined: {whole.why_none}",
        rule=book.note(),  # of the suite, not what the file says: all entries stand below it
        higher_is_better=stated.higher_is_better,
        examples=held.suite.examples,
        stated=held.suite.data.sha256,
        source=held.suite.data.source,
        subsets=tuple(dict.fromkeys(j.subset for j in view.judgements)),
        nulls=_nulls(view),
        unread=unread_share(view.judgements),
        frame=frame.digest,
        layout=layout.digest,
        scored=scored,
        credits=earned,
        scores=scores,
        depth=depth(detail(view, suite)),
    )
    return Measured(sheet, frame, layout)


def framed(rows: Sequence[Judgement]) -> Frame:
    """The examples of some rows."""
    return Frame(
        ids=tuple(j.id for j in rows),
        labels=tuple(_digest([j.subset, j.grades, j.step_grades])[:16] for j in rows),
        texts=tuple(_digest([j.cluster, j.lengths])[:16] if j.lengths else "" for j in rows),
    )


def laid_out(whole: Aggregate) -> tuple[Layout, Floats]:
    """The credits of an aggregate by leaf and id, and where each stands."""
    leaves, values = [], []
    for number, branch in enumerate(whole.branches):
        for component, leaf in branch.leaves.items():
            rows = sorted(leaf.rows, key=lambda row: row.key)
            leaves.append((f"{number} {component}", tuple(row.key for row in rows)))
            values += [row.value for row in rows]
    return Layout(tuple(leaves)), np.array(values, dtype=np.float64)


def page_file(view: ResultView) -> str:
    """Where the result lies below the page: made of safe parts only."""
    result = view.result
    stem = result.samples.file.removesuffix("-samples.jsonl.gz")
    return f"results/{results.path_part(result.model.name)}/{results.path_part(result.suite.name)}/{stem}.json"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise UsageError(f"{path}: cannot be read: {fault.strerror or fault}") from None


def _wrong(whole: Aggregate, stated: float | None, suite: Suite) -> str:
    """How the stated headline differs from the recomputed one; empty where it does not."""
    name, value = suite.plan.headline, whole.value
    if value is None:
        why = f"{name} is undefined: {whole.why_none}"
        return f"states {name} {stated:.6f}, but {why}" if stated is not None else ""
    if stated is None or abs(stated - value) > _EQUAL:
        said = "none" if stated is None else f"{stated:.9f}"
        return f"states {name} {said}, but its samples give {value:.9f}"
    return ""


def _entry(view: ResultView, suite: Suite, book: Book, value: float | None, sent: Submitted | None) -> Entry:
    result, head = view.result, view.headline
    link = page_file(view)
    sections = [section.name for section in suite.plan.sections if section.subsets]
    shown = list(dict.fromkeys((*sections, *suite.plan.expected, *book.subsets)))
    stated = {m.subset: m for m in view.metrics if m.name == suite.plan.headline}
    cells = {}
    for name in shown if len(shown) <= 2 * MOST_COLUMNS else sections:
        metric, part = stated.get(name), book.part(name)
        n, n_missing = (metric.n, metric.n_missing) if metric else (0, 0)
        why = "" if part.value is not None else f"{name} is undefined: {part.why_none}"
        cells[name] = Cell(part.value, n, n_missing, why)
    return Entry(
        model=result.model.name,
        revision=result.model.revision,
        kind=result.model.kind,
        value=value,
        ci=head.ci,
        rank=None,
        tied_with=(),
        n=head.n,
        n_missing=head.n_missing,
        sections=cells,
        versus={},
        created=result.created,
        rmeval=result.environment.rmeval,
        file=link,
        level="recomputed" if sent else "own",
        page=link.replace("results/", "entries/", 1).removesuffix(".json") + ".html",
    )


def _nulls(view: ResultView) -> tuple[Null, ...]:
    """The null baselines that the result states."""
    found: dict[str, Null] = {}
    for metric in view.metrics:
        name = metric.name.removeprefix("null:")
        if name != metric.name and metric.subset is None and metric.value is not None:
            found.setdefault(name, Null(name, metric.value, metric.note))
    return tuple(found.values())


def _scores(rows: Sequence[Judgement]) -> tuple[str, NDArray[np.float32]]:
    """All scores by example id, standardised, and what they are about."""
    by_id = sorted(((j.id, scores_of(j).values) for j in rows), key=lambda one: one[0])
    values = np.array([value for _, scores in by_id for value in scores], dtype=np.float64)
    there = values[~np.isnan(values)]
    spread = float(there.std()) if there.size else 0.0
    if spread > 0 and math.isfinite(spread):
        values = (values - there.mean()) / spread
    about = _digest([[key, len(scores)] for key, scores in by_id])
    return about, values.astype(np.float32)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
