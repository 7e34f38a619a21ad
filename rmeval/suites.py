"""Suites by name: a card or a decorated function, its metric plan, and its examples with digests and counts.

    load_suite("rm-bench").load(Path("RM-Bench/data")) -> Data(examples, source, digests, notes, complete)

What this module does not know: scorers, engines, metrics.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from rmeval.cards import HeadlineCard, Layout, RuleCard, SuiteCard, read_card
from rmeval.errors import UsageError
from rmeval.metrics.plan import MetricPlan
from rmeval.packed import packed
from rmeval.plugins import READERS, SUITES
from rmeval.readers.fields import cluster_of
from rmeval.readers.layouts import Table, from_hub, from_path
from rmeval.readers.rows import BadRowsError, Row, faults_message, skipping
from rmeval.types import JSON, Candidate, Example, Labels, Message

Reader: TypeAlias = Callable[[Iterable[Row], SuiteCard, Layout | None, int], Iterator[Example]]
"""A generator may return notes, sentences that a reader of the result must know."""


SKIPPED = "skipped "
"""How the note begins that tells of rows that were left out."""


@dataclass(frozen=True, slots=True)
class Data:
    """The examples of a suite as loaded, and what is needed to say which ones they are."""

    examples: Sequence[Example]
    source: str
    """`hub:<id>@<commit>`, `file:<name>` or `generated:seed=<seed>`."""
    layout: str
    """The card's name of the layout that was read ("" for generated data)."""
    revision: str | None
    """Commit of the hub data set, where it could be learnt."""
    sha256: str
    """Digest of everything a scorer or a metric sees."""
    labels_sha256: str
    """Digest of (id, subset, cluster, grades) alone, which a submission can be checked against without texts."""
    notes: tuple[str, ...] = ()
    """What a reader of the result must know about these data."""
    complete: bool = True
    """Whether the counts are those of the full suite."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A benchmark: what its card says, how its credits add up, how its rows are read."""

    name: str
    card: SuiteCard
    plan: MetricPlan
    reader: Reader | None = None
    """The reader of a code suite; None for the reader that the card names."""
    ignored: tuple[str, ...] = ()
    """Python files beside the card. Nothing is ever imported from there: code comes as an installed package."""

    def load(self, data: Path | None = None, seed: int = 0, *, skip_bad_rows: bool = False) -> Data:
        """The examples: generated from the seed, read from `data` (a file or folder), or else from the hub.

        A folder that fits no layout may hold a folder per suite, by the suite's name. With `skip_bad_rows` malformed
        rows are left out: they are counted, they mark the digest, and the data are incomplete.
        Raises `UsageError` for a layout that does not fit, malformed rows, no rows at all, and labels that differ from
        the pinned ones, or texts that differ from those pinned in the layout, although all counts agree.
        """
        if not skip_bad_rows:
            try:
                return self._load(data, seed)
            except BadRowsError as fault:
                # lines that are no JSON are found before columns are looked at: all of both are said at once
                with skipping() as bad, suppress(UsageError):
                    self._load(data, seed)
                if len(bad) > fault.n:
                    raise UsageError(faults_message(f"suite {self.name!r}: {len(bad)} malformed rows", bad)) from None
                raise
        with skipping() as skipped:
            found = self._load(data, seed)
        if not skipped:
            return found
        said = f"{SKIPPED}{len(skipped)} bad row{'s' if len(skipped) > 1 else ''}: {_some(skipped)}"
        marked = hashlib.sha256(f"{found.sha256} {len(skipped)} skipped".encode()).hexdigest()
        return replace(found, sha256=marked, notes=(*found.notes, said), complete=False)

    def _load(self, data: Path | None, seed: int) -> Data:
        reader: Reader = self.reader or READERS.get(self.card.reader)
        notes: tuple[str, ...] = ()
        if self.card.embedded:
            if data is not None:
                raise UsageError(f"suite {self.name!r} is generated from --seed; it takes no --data")
            examples, said = _all(reader((), self.card, None, seed))
            source, layout, revision = f"generated:seed={seed}", None, None
        else:
            table = from_hub(self.card) if data is None else _from_path(data, self.card)
            examples, said = _all(reader(table.rows, self.card, table.layout, seed))
            source, layout, revision, notes = table.source, table.layout, table.revision, table.notes
        return self._checked(examples, source, layout, revision, (*notes, *said))

    def _checked(
        self,
        examples: Sequence[Example],
        source: str,
        layout: Layout | None,
        revision: str | None,
        notes: tuple[str, ...],
    ) -> Data:
        if not examples:
            raise UsageError(f"suite {self.name!r}: {source} holds no examples")
        differences = _count_differences(examples, self.card)
        labels = labels_digest(
            ((one.id, one.subset, one.cluster, one.labels.grades) for one in examples),
            {one.id: one.labels.step_grades for one in examples if one.labels.step_grades},
        )
        pinned = self.card.labels_sha256
        if pinned and not differences and labels != pinned:
            raise UsageError(
                f"suite {self.name!r}: the counts of {source} are right but its ids, prompts or labels differ from the "
                f"pinned ones (labels_sha256 {labels[:12]}..., the card says {pinned[:12]}...): the data were altered"
            )
        if layout and layout.contents_sha256 and not differences:
            contents = contents_digest(examples)
            if contents != layout.contents_sha256:
                raise UsageError(
                    f"suite {self.name!r}: the counts of {source} are right but its texts differ from the pinned ones "
                    f"(contents_sha256 {contents[:12]}..., the card says {layout.contents_sha256[:12]}...): the data "
                    "were altered"
                )
        code = (f"code in suite ignored: {_some(list(self.ignored))}",) if self.ignored else ()
        said = (*notes, *code, *differences, *_unwinnable(examples))
        name = layout.name if layout else ""
        return Data(examples, source, name, revision, digest(examples), labels, said, not differences)


def suite_names() -> list[str]:
    """All suites, sorted; nothing is imported for it."""
    return SUITES.names()


def embedded_suites(kind: str) -> list[str]:
    """Suites of a kind that our own code generates, so that they run without data or network."""
    loaded = (load_suite(name) for name, origin in SUITES.origins().items() if SUITES.is_builtin(origin))
    return sorted(s.name for s in loaded if s.card.embedded and s.card.kind == kind)


def suite_from_card(path: Path) -> Suite:
    """The suite of a card file, or of the `card.toml` in a folder."""
    path = path / "card.toml" if path.is_dir() else path
    card = read_card(path, SuiteCard)
    return Suite(card.name, card, card.plan(), ignored=tuple(sorted(one.name for one in path.parent.glob("*.py"))))


def load_suite(name: str) -> Suite:
    """A suite by its name in the registry: a card, or what a package declares as an entry point.

    `<suite>:<variant>` is a variant that the suite's card names. Raises `UsageError` with the near miss for an unknown
    name, and with all faults for a bad card.
    """
    base, colon, variant = name.partition(":")
    if colon:
        card = load_suite(base).card.variant(variant)
        return Suite(card.name, card, card.plan())
    found = SUITES.get(name)
    if callable(found) and not isinstance(found, Suite):
        found = found()
    if isinstance(found, str | Path):
        found = suite_from_card(Path(found))
    if not isinstance(found, Suite):
        raise UsageError(
            f"suite {name!r} from {SUITES.origin(name).where} is a {type(found).__name__}; "
            "an entry point must be a suite made with @suite, or the folder of a card"
        )
    if found.name != name:
        raise UsageError(f"suite {name!r} from {SUITES.origin(name).where} calls itself {found.name!r}; use one name")
    return found


def suite(
    name: str, *, version: int, metric: str, data: str, ties: str = "lose", licence: str = "unknown"
) -> Callable[[Callable[[Iterable[Mapping[str, Any]]], Iterable[Example]]], Suite]:
    """Make a suite of a function from rows to examples; its docstring is the summary.

    `data` names a file of a hub data set, at a commit: `hf://datasets/<owner>/<name>@<commit>/<file>`.

    >>> @suite("acme/refunds", version=1, metric="accuracy", data="hf://datasets/acme/refunds@0123abc/test.parquet")
    ... def refunds(rows):
    ...     for row in rows:
    ...         yield Example.pair(row["ticket"], row["question"], row["sent"], row["draft"], row["country"])
    >>> refunds.card.layouts[0].revision
    '0123abc'
    """
    found = re.fullmatch(r"hf://datasets/(?P<hub>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?/(?P<file>.+)", data)
    if found is None:
        raise UsageError(f"suite {name!r}: data is {data!r}, expected hf://datasets/<owner>/<name>@<commit>/<file>")
    layout = Layout(name="hub", hub=found["hub"], revision=found["revision"] or "main", files=(found["file"],))

    def decorate(read: Callable[[Iterable[Mapping[str, Any]]], Iterable[Example]]) -> Suite:
        lines = (read.__doc__ or name).strip().splitlines()
        card = SuiteCard(
            name=name,
            version=version,
            title=name,
            summary=lines[0][:200],
            licence=licence,
            reader=read.__name__,
            layout=(layout,),
            rule=RuleCard.model_validate({"name": metric, **({"ties": ties} if metric == "accuracy" else {})}),
            headline=HeadlineCard(name=metric),
        )

        def reader(rows: Iterable[Row], card: SuiteCard, layout: Layout | None, seed: int) -> Iterator[Example]:
            del card, layout, seed
            yield from read(row.values for row in rows)

        return Suite(name, card, card.plan(), reader)

    return decorate


def describe(data: Data) -> list[dict[str, JSON]]:
    """One object per example, in the suite's order: id, subset, group, number of candidates, steps of each."""
    return [
        {
            "id": one.id,
            "subset": one.subset,
            "group": one.group,
            "candidates": len(one.candidates),
            "steps": [len(candidate.steps) for candidate in one.candidates],
        }
        for one in data.examples
    ]


def stratified_sample(examples: Iterable[Example], limit: float, seed: int) -> tuple[Example, ...]:
    """About the same share of every subset, at least one example of each where the limit allows, in data order.

    `limit` is a number of examples, or below 1 a share of them. The choice depends on the seed and the ids alone, so a
    larger limit extends a smaller one within each subset.

    >>> def rows(subset, n): return [Example.pair(f"{subset}/{i}", "q", "a", "b", subset) for i in range(n)]
    >>> [one.subset for one in stratified_sample(rows("chat", 90) + rows("code", 10), 10, seed=0)].count("code")
    1
    """
    everything = tuple(examples)
    if not 0 < limit < math.inf or (limit > 1 and limit != int(limit)):
        raise UsageError(f"--limit is {limit}: give a number of examples, or a share between 0 and 1")
    wanted = min(len(everything), max(1, round(limit * len(everything)) if limit < 1 else int(limit)))
    strata: dict[str, list[Example]] = defaultdict(list)
    for one in everything:
        strata[one.subset].append(one)
    quota = _quotas({subset: len(members) for subset, members in strata.items()}, wanted)
    kept = {
        one.id
        for subset, members in strata.items()
        for one in sorted(members, key=lambda one: hashlib.sha256(f"{seed}\n{one.id}".encode()).digest())[
            : quota[subset]
        ]
    }
    return tuple(one for one in everything if one.id in kept)


def _quotas(sizes: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Shares of `wanted` in proportion to the sizes, by largest remainders, none empty where `wanted` allows.

    >>> _quotas({"chat": 90, "code": 9, "math": 1}, 10)
    {'chat': 8, 'code': 1, 'math': 1}
    """
    floor = 1 if wanted >= len(sizes) else 0
    total = sum(sizes.values())
    exact = {subset: wanted * size / total for subset, size in sizes.items()}
    quota = {subset: max(floor, int(share)) for subset, share in exact.items()}
    while (gap := wanted - sum(quota.values())) != 0:
        step = 1 if gap > 0 else -1
        open_to = [s for s in sizes if (quota[s] < sizes[s] if step > 0 else quota[s] > floor)]
        subset = max(open_to, key=lambda s: step * (exact[s] - quota[s]))
        quota[subset] += step
    return quota


def digest(examples: Iterable[Example]) -> str:
    """sha256 over the canonical JSON lines of all that the examples hold."""
    return _sha256(_content(one) for one in examples)


def contents_digest(examples: Iterable[Example]) -> str:
    """sha256 over the digests of the examples, each of all that it holds, sorted so that no order matters."""
    return hashlib.sha256("\n".join(sorted(_sha256([_content(one)]) for one in examples)).encode()).hexdigest()


def _content(example: Example) -> dict[str, Any]:
    """All that an example holds; what was added after version 0.1 counts where it says something."""
    content = asdict(example)
    later = ("comparisons", "votes", "marks", "answers")
    content["labels"] = {k: v for k, v in content["labels"].items() if v or k not in later}
    return {k: v for k, v in content.items() if v or k != "slices"}


def labels_digest(
    rows: Iterable[tuple[str, str, str, Iterable[float]]], steps: Mapping[str, Sequence[Sequence[int]]] | None = None
) -> str:
    """sha256 over the canonical JSON lines of (id, subset, cluster, grades), sorted by id so that no order matters.

    `steps`: id -> the step grades, which are part of a row that has any.

    >>> labels_digest([("a", "s", "c", (1, 0))]) == labels_digest([("a", "s", "c", [1.0, 0.0])])
    True
    """
    plain = sorted((key, subset, cluster, [float(g) for g in grades]) for key, subset, cluster, grades in rows)
    return _sha256(
        {"id": r[0], "subset": r[1], "cluster": r[2], "grades": r[3]}
        | ({"step_grades": given} if (given := (steps or {}).get(r[0])) else {})
        for r in plain
    )


def _sha256(rows: Iterable[Mapping[str, Any]]) -> str:
    running = hashlib.sha256()
    for row in rows:
        line = json.dumps(row, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        running.update(f"{line}\n".encode())
    return running.hexdigest()


def _from_path(data: Path, card: SuiteCard) -> Table:
    """The rows of a folder; where no layout fits, those of the folder in it that has the suite's name."""
    try:
        return from_path(data, card)
    except UsageError:
        own = data / card.name.partition(":")[0]
        if not own.is_dir():
            raise
    return from_path(own, card)


def _all(reading: Iterator[Example]) -> tuple[Sequence[Example], tuple[str, ...]]:
    """The examples of a reader, many of them packed, and the notes that it returns after the last one, if it does."""
    notes: list[str] = []

    def read() -> Iterator[Example]:
        while True:
            try:
                one = next(reading)
            except StopIteration as end:
                notes.extend(end.value or ())
                return
            yield _with_cluster(one)

    return packed(read(), _as_json, _from_json), tuple(notes)


def _as_json(one: Example) -> list[JSON]:
    """An example as lists, see `_from_json`; shorter than an object of names."""
    candidates: list[JSON] = [[c.body, [*c.steps], dict(c.tags)] for c in one.candidates]
    labels = [getattr(one.labels, field.name) for field in fields(Labels)]
    prompt: list[JSON] = [[m.role, m.content] for m in one.prompt]
    return [one.id, prompt, candidates, labels, one.subset, one.group, one.cluster, [*one.slices]]


def _from_json(plain: Any) -> Example:
    key, prompt, candidates, labels, subset, group, cluster, slices = plain
    return Example(
        key,
        tuple(Message(role, content) for role, content in prompt),
        tuple(Candidate(body, tuple(steps), tags) for body, steps, tags in candidates),
        Labels(*map(_tuples, labels)),
        subset,
        group,
        cluster,
        tuple(slices),
    )


def _tuples(values: list[Any]) -> Any:
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def _with_cluster(example: Example) -> Example:
    return example if example.cluster else replace(example, cluster=cluster_of(example.prompt))


def _count_differences(examples: Sequence[Example], card: SuiteCard) -> tuple[str, ...]:
    """What differs from the card's counts, in sentences; () when nothing does."""
    expected = card.expected
    if not expected:
        return ()
    found = Counter(one.subset for one in examples)
    notes = []
    if other := [f"{s} has {found[s]} of {full}" for s, full in expected.items() if full and found[s] not in {0, full}]:
        notes.append(f"counts that differ from the full suite: {_some(other)}")
    if missing := [subset for subset in expected if not found[subset]]:
        notes.append(f"{len(missing)} of {len(expected)} subsets are missing: {_some(missing)}")
    if unknown := [subset for subset in found if subset not in expected and subset not in card.optional_subsets]:
        notes.append(f"subsets that the full suite does not have: {_some(unknown)}")
    if notes and (same := [v for v, over in card.variants.items() if over.get("expected") == dict(found)]):
        notes.append(f"these are the counts of the variant {card.name}:{same[0]}: name that suite to evaluate it whole")
    return tuple(notes)


def _unwinnable(examples: Sequence[Example]) -> tuple[str, ...]:
    """A note where data are beyond any scorer of texts: every right response is, word for word, a wrong one too."""
    found = []
    for one in examples:
        best = max(one.labels.grades, default=0.0)
        texts: dict[bool, set[str | None]] = {True: set(), False: set()}
        for candidate, grade in zip(one.candidates, one.labels.grades, strict=True):
            texts[grade == best].add(candidate.body)
        if texts[False] and None not in texts[True] and texts[True] <= texts[False]:
            found.append(one.id)
    if not found:
        return ()
    ids = f"{_some(found)}: " if len(found) > 1 else f"{found[0]}: "
    return (f"{len(found)} of {len(examples)} examples cannot be won, {ids}the right response is also a wrong one",)


def _some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
