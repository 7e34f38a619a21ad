"""From judgements and a plan to all metrics of a run, the headline first.

Names of metrics (a contract; `subset` is None for the whole suite, else a section or a subset):

    <headline>                      the official number; again per section, per subset, and per slice
    <component>                     parts of it, such as `hard`, `agreement`, `ref_accuracy`; again per section, subset
    <rule>[<option>=<value>,...]    further rules of the plan, pooled over all rows; no brackets without options
    <headline>[<definition>]        the headline under another definition of the card (weights, sections)
    <headline>[<option>=<value>]    the headline under another definition in use, such as `accuracy[ties=half]`
    <headline>[missing=wrong|right] bounds, where scores are missing
    tie_rate missing_rate unparsed_rate
    null:length null:random null:constant     the headline of scorers that know nothing; again per section
    calibration:* scale:* length:* style:* agreement:* judge:* mde    see `rmeval.metrics.diagnostics`

A section or headline that lacks an expected subset has no value and says which; it is never a mean over what is there.

What this module does not know: files, readers, how scores were made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rmeval import stats
from rmeval.errors import UsageError
from rmeval.metrics.book import Book
from rmeval.metrics.columns import Column, Places, rates
from rmeval.metrics.credit import Credit, Credits, Figures, Linear
from rmeval.metrics.diagnostics import diagnostics
from rmeval.metrics.nulls import NULLS, draws, random, stood_in
from rmeval.metrics.plan import MetricPlan, RuleSpec, Section
from rmeval.metrics.table import Table
from rmeval.metrics.tree import Aggregate, Branch, Leaf, interval, replicate
from rmeval.stats import Floats
from rmeval.types import JSON, UNREAD, Judgement, Metric


@dataclass(frozen=True, slots=True)
class Item:
    """What one example adds to a headline."""

    key: str
    """The example's id."""
    cluster: str
    weight: float
    """Its weight in the aggregate; weight * value summed over the items is the value."""
    value: float
    """Its credit."""


@dataclass(frozen=True, slots=True)
class Joint:
    """The same aggregate of several runs, resampled together."""

    values: tuple[float, ...]
    """[K], one per run."""
    replicates: Floats
    """[R, K]: in each row all runs saw the same resampled clusters."""


def evaluate(
    judgements: Sequence[Judgement], plan: MetricPlan, *, replicates: int = stats.REPLICATES, seed: int = 0
) -> list[Metric]:
    """All metrics of a run, the headline first, with 95 % intervals clustered by prompt.

    Pooled means have clustered t or Wilson intervals; nested numbers the percentile bootstrap of the whole tree with
    `replicates` resamples from `seed`. Raises `UsageError` for unknown rules or options and for rows that a rule
    cannot take.
    """
    finished, beside = _by_plan(Book(judgements, plan), replicates, seed)
    # sums of floats depend on their order; the figures must not depend on that of the rows
    in_order = judgements.by_id() if isinstance(judgements, Table) else sorted(judgements, key=lambda j: j.id)
    return [*finished, *beside, *diagnostics(in_order, finished[0])]


def _by_plan(book: Book, replicates: int, seed: int) -> tuple[list[Metric], list[Metric]]:
    """What the plan says and what stands beside it; none of the credits of many rows is held any longer than this."""
    drafts = [
        _Draft(book.plan.headline, None, book.headline(), book.note()),
        *_parts(book),
        *_components(book),
        *_definitions(book),
        *_slices(book),
        *_also(book),
        *_alternatives(book),
        *_rates(book),
        *_nulls(book),
    ]
    first: dict[tuple[str, str | None], _Draft] = {}
    for draft in drafts:
        first.setdefault((draft.name, draft.subset), draft)
    finished = _finish(list(first.values()), replicates, seed)
    del drafts, first, draft
    return finished, [*_random_null(book), *_figures(book)]


def headline_items(judgements: Sequence[Judgement], plan: MetricPlan, subset: str | None = None) -> list[Item]:
    """The examples that have a credit in the headline (or in the section or subset named), each with its weight.

    Missing examples are not among them: to compare two runs, keep the examples that both answered first. For a formula
    that is not linear (F1) the weights are its slopes at the value, which still sum to it. Raises `UsageError` where
    the number is undefined.
    """
    aggregate = Book(judgements, plan).part(subset)
    if aggregate.value is None:
        raise UsageError(f"{subset or plan.headline} is undefined: {aggregate.why_none}")
    return [Item(key, *rest) for key, rest in aggregate.influence().items()]


def joint_bootstrap(
    runs: Sequence[Sequence[Judgement]],
    plan: MetricPlan,
    subset: str | None = None,
    *,
    replicates: int = stats.REPLICATES,
    seed: int = 0,
) -> Joint:
    """The headline (or a section or subset) of several runs on the same resampled clusters.

    The runs must hold the same examples, all answered, or their numbers are about different things. Raises `UsageError`
    where one is undefined. Feeds rank sets and the interval of a paired difference.
    """
    aggregates = [Book(run, plan).part(subset) for run in runs]
    for aggregate in aggregates:
        if aggregate.value is None:
            raise UsageError(f"{subset or plan.headline} is undefined: {aggregate.why_none}")
    drawn = replicate(aggregates, replicates=replicates, seed=seed, hold_steady=False)
    return Joint(tuple(a.value for a in aggregates if a.value is not None), drawn)


def withhold(metrics: Sequence[Metric], why: str) -> list[Metric]:
    """The metrics without values and intervals: counts stay, and the note says why."""
    return [replace(m, value=None, ci=None, note=f"withheld: {why}") for m in metrics]


# --- drafts: what to report, before intervals ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Draft:
    name: str
    subset: str | None
    aggregate: Aggregate
    note: str = ""
    higher_is_better: bool = True
    with_interval: bool = True


def _parts(book: Book) -> list[_Draft]:
    name = book.plan.headline
    drafts = [_Draft(name, s.name, book.section(s), _section_note(book, s)) for s in book.sections]
    for subset in book.subsets:
        section, aggregate = book.holder(subset), book.subset(subset)
        if section is not None and aggregate is not None:
            drafts.append(_Draft(name, subset, aggregate, book.credits(section).note))
    return drafts


def _section_note(book: Book, section: Section) -> str:
    # a definition's weights stand in the card too
    by = f" for {book.plan.definition!r}" if book.plan.definition else ""
    weights = f"subsets weighted as the card says{by}; " if section.weights else ""
    return weights + book.credits(section).note


def _components(book: Book) -> list[_Draft]:
    note = f"part of {book.plan.headline}"
    drafts = []
    shared = [
        name for name in _extra(book, book.in_headline[0]) if all(name in _extra(book, s) for s in book.in_headline)
    ]
    drafts += [_Draft(name, None, book.headline(name), note) for name in shared]
    for section in book.sections:
        drafts += [_Draft(name, section.name, book.section(section, name), note) for name in _extra(book, section)]
    for subset in book.subsets:
        holder = book.holder(subset)
        for name in _extra(book, holder) if holder else ():
            aggregate = book.subset(subset, name)
            if aggregate is not None:
                drafts.append(_Draft(name, subset, aggregate, note))
    return drafts


def _extra(book: Book, section: Section) -> tuple[str, ...]:
    """Components of a section beside its number itself."""
    earned = book.credits(section)
    rows = earned.rows[:1] if isinstance(earned.rows, Column) else earned.rows
    names = dict.fromkeys((*earned.formula.components, *(row.component for row in rows)))
    itself = earned.formula.components if len(earned.formula.components) == 1 else ()
    return tuple(name for name in names if name not in itself)


def _definitions(book: Book) -> list[_Draft]:
    plan = book.plan
    drafts = []
    for one in plan.definitions:
        name, subset = (plan.headline, one.name) if one.is_part else (f"{plan.headline}[{one.name}]", None)
        drafts.append(_Draft(name, subset, book.definition(one), one.note))
    if plan.definition is not None:
        official = Book(book.judgements, replace(plan, definition=None), book.rules)
        drafts.append(_Draft(f"{plan.headline}[official]", None, official.headline(), official.note()))
    return drafts


def _slices(book: Book) -> list[_Draft]:
    """The headline's rule over the rows of each slice; slices may overlap, so they are no sections."""
    rows: dict[str, list[Judgement]] = {}
    for j in () if isinstance(book.judgements, Table) else book.judgements:
        for name in j.slices:
            rows.setdefault(name, []).append(j)
    section = replace(book.in_headline[0], name=book.plan.headline, subsets=(), weights=None)
    plan = MetricPlan(book.plan.headline, "rows", (section,))
    books = {name: Book(members, plan, book.rules) for name, members in sorted(rows.items())}
    return [_Draft(plan.headline, name, one.headline(), one.note()) for name, one in books.items()]


def _also(book: Book) -> list[_Draft]:
    drafts = []
    for spec in book.plan.also:
        whole = Section(spec.name, (), spec)
        if isinstance(book.earned(whole), Credits):
            drafts.append(_Draft(_label(spec.name, spec.options), None, book.section(whole), book.credits(whole).note))
    return drafts


def _figures(book: Book) -> list[Metric]:
    """What the rules under `also` say that is no mean of credits."""
    earned = (book.earned(Section(spec.name, (), spec)) for spec in book.plan.also)
    return [metric for one in earned if isinstance(one, Figures) for metric in one.metrics]


def _vary(section: Section, option: str, value: JSON) -> Section:
    return replace(section, rule=RuleSpec(section.rule.name, {**section.rule.options, option: value}))


def _label(name: str, options: Mapping[str, JSON]) -> str:
    """A metric's name with the options that tell it apart.

    >>> _label("accuracy", {"ties": "win"})
    'accuracy[ties=win]'
    """
    shown = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in sorted(options.items())
    ]
    return f"{name}[{','.join(shown)}]" if shown else name


def _alternatives(book: Book) -> list[_Draft]:
    plan = book.plan
    variants = dict.fromkeys(json.dumps(v) for s in book.in_headline for v in book.credits(s).variants)
    drafts = []
    for option, value in map(json.loads, variants):
        sections = tuple(
            _vary(s, option, value) if (option, value) in book.credits(s).variants else s for s in plan.sections
        )
        varied = Book(book.judgements, replace(plan, sections=sections), book.rules)
        drafts.append(_Draft(_label(plan.headline, {option: value}), None, varied.headline(), varied.note()))
    headline = book.headline()
    if headline.entered[1]:
        for end, word in enumerate(("wrong", "right")):
            note = f"bound: every missing credit at its {'highest' if end else 'lowest'}"
            name = f"{plan.headline}[missing={word}]"
            drafts.append(_Draft(name, None, headline.filled(end), note, with_interval=False))
    return drafts


def _rates(book: Book) -> list[_Draft]:
    earned = [book.credits(s) for s in book.in_headline]
    said = {
        "tie_rate": "examples whose credit an exact tie decides, of those scored",
        "missing_rate": "examples without a credit",
        "unparsed_rate": "examples with a reading that was refused or could not be parsed",
    }
    found = [(c.rows, c.ties.rows) for c in earned if isinstance(c.rows, Column) and isinstance(c.ties, Places)]
    if isinstance(book.judgements, Table) and len(found) == len(earned):
        return [
            _flagged(column, said[column.component]) for column in rates(book.judgements, *zip(*found, strict=True))
        ]
    rows: dict[str, Credit] = {}
    for row in (row for c in earned for row in c.rows):
        if row.key not in rows or math.isnan(row.value):
            rows[row.key] = row
    scored = [row for row in rows.values() if not math.isnan(row.value)]
    drafts = []
    if all(c.ties is not None for c in earned):
        tied = {key for c in earned for key in c.ties or ()}
        drafts.append(_rate("tie_rate", scored, lambda row: row.key in tied, said["tie_rate"]))
    unread = {j.id for j in book.judgements if _unparsed(j)}
    every = list(rows.values())
    drafts.append(_rate("missing_rate", every, lambda row: math.isnan(row.value), said["missing_rate"]))
    drafts.append(_rate("unparsed_rate", every, lambda row: row.key in unread, said["unparsed_rate"]))
    return drafts


def _rate(name: str, rows: Sequence[Credit], counts: Callable[[Credit], bool], note: str) -> _Draft:
    flags = tuple(Credit(row.key, row.cluster, row.subset, name, float(counts(row))) for row in rows)
    return _flagged(flags, note, name)


def _flagged(flags: Sequence[Credit], note: str, name: str = "") -> _Draft:
    """The share of the rows that are flagged with 1."""
    name = name or flags[0].component
    aggregate = Aggregate((Branch(1.0, Linear({name: 1.0}), {name: Leaf(name, flags)}),))
    return _Draft(name, None, aggregate, note, higher_is_better=False)


def _unparsed(j: Judgement) -> bool:
    return any(row.verdict is None for row in j.verdicts) or bool(UNREAD & set(j.reasons))


def _nulls(book: Book) -> list[_Draft]:
    drafts = []
    for name, (stand_in, what) in NULLS.items():
        if stand_in is random:
            continue  # see `_random_null`
        nothing = Book(stood_in(name, book.judgements), book.plan, book.rules)
        note = f"null baseline on the same rows: {what}"
        drafts.append(_Draft(f"null:{name}", None, nothing.headline(), note))
        drafts += [_Draft(f"null:{name}", s.name, nothing.section(s), note) for s in nothing.sections]
    return drafts


def _random_null(book: Book) -> list[Metric]:
    """The mean of several random draws: what chance is worth under this rule, without the luck of one draw."""
    if isinstance(book.judgements, Table):
        return _drawn_null(book)  # what it would be kept by is larger than the table
    asked = (repr(book.plan), frozenset(book.rules.items()), tuple(_about(j) for j in book.judgements))
    if asked not in _CHANCE:
        while len(_CHANCE) >= _CHANCES:
            del _CHANCE[next(iter(_CHANCE))]
        _CHANCE[asked] = _drawn_null(book)
    return _CHANCE[asked]


_CHANCES = 3
_CHANCE: dict[Hashable, list[Metric]] = {}
"""The last random baselines: they do not depend on the scores, and a board asks for one suite's again and again."""


def _about(j: Judgement) -> Hashable:
    """All of a row that its random draws and the rules can read: not what the draws replace, nor counts of tokens."""
    return (
        *(j.id, j.subset, j.group, j.cluster, j.grades, j.step_grades, j.step_reasons, j.lengths, j.markup, j.models),
        *(j.comparisons, j.votes, j.slices, j.answers),
    )


def _drawn_null(book: Book) -> list[Metric]:
    drawn: dict[str | None, list[Metric]] = {}
    many = draws(len(book.judgements))
    for draw in range(many):
        nothing = Book(stood_in("random", book.judgements, draw), book.plan, book.rules)
        for subset, aggregate in [
            (None, nothing.headline()),
            *((s.name, nothing.section(s)) for s in nothing.sections),
        ]:
            note = f"null baseline on the same rows: a random score per candidate, mean of {many} draws"
            one = _metric(_Draft("null:random", subset, aggregate, note, with_interval=False), None)
            drawn.setdefault(subset, []).append(one)
    return [replace(ms[0], value=_mean([m.value for m in ms])) for ms in drawn.values()]


def _mean(values: Sequence[float | None]) -> float | None:
    """None where one of them is undefined."""
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(values) if len(there) == len(values) else None


# --- intervals -------------------------------------------------------------------------------------------------------


def _finish(drafts: Sequence[_Draft], replicates: int, seed: int) -> list[Metric]:
    nested = [
        d.aggregate for d in drafts if d.with_interval and d.aggregate.value is not None and not d.aggregate.is_plain
    ]
    drawn = replicate(nested, replicates=replicates, seed=seed, hold_steady=True) if nested else np.empty((0, 0))
    column = {id(aggregate): drawn[:, index] for index, aggregate in enumerate(nested)}
    return [_metric(draft, column.get(id(draft.aggregate))) for draft in drafts]


def _metric(draft: _Draft, replicated: Floats | None) -> Metric:
    aggregate, value = draft.aggregate, draft.aggregate.value
    parts, ci = [draft.note], None
    if value is None:
        parts.insert(0, f"undefined: {aggregate.why_none}")
    elif draft.with_interval:
        found = interval(aggregate, replicated)
        parts.append(f"interval: {found.method}, {aggregate.prompts} clusters" if found else "interval not estimable")
        ci = (found.low, found.high) if found else None
    n, n_missing = aggregate.entered
    return Metric(
        name=draft.name,
        value=value,
        subset=draft.subset,
        ci=ci,
        n=n,
        n_missing=n_missing,
        higher_is_better=draft.higher_is_better,
        note="; ".join(part for part in parts if part),
        unit="number" if _is_count(aggregate) else "fraction",
    )


def _is_count(aggregate: Aggregate) -> bool:
    """Whether it is a mean of what is no share, such as steps per solution."""
    return aggregate.is_plain and aggregate.leaves[0].bounds != (0.0, 1.0)
