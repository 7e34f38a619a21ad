"""Which of a card's layouts a file, a folder or the hub holds, and its rows with all the columns that fields need.

A layout is found by file names first (globs are matched from the right, so a folder may be given at any depth) and by
columns second (a file under any name).

What this module does not know: what the columns mean, what becomes of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rmeval.cards import Layout, Source, SuiteCard
from rmeval.errors import UsageError, near_miss
from rmeval.readers.fields import lacking
from rmeval.readers.hub import read_hub, resolve_revision
from rmeval.readers.preference import fields_of
from rmeval.readers.rows import SUFFIXES, Row, data_files, held, read_file

_LOOK_AT = 50
"""Rows looked at to learn which columns a file has."""
PATTERN_SECONDS = 1.0
"""For one pattern of a card in one text."""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a suite, and where they come from."""

    rows: Sequence[Row]
    layout: Layout
    source: str
    """`hub:<id>@<commit>` or `file:<name>`."""
    revision: str | None
    notes: tuple[str, ...] = ()


def from_hub(card: SuiteCard) -> Table:
    """All rows from the hub, at the card's revision. Raises `UsageError` where the suite is not there."""
    layout = next((one for one in card.layouts if one.sources), None)
    if layout is None:
        homes = [one.repository for one in card.layouts if one.repository]
        home = f" Its rows lie in github.com/{homes[0]}: clone it, then give --data PATH." if homes else ""
        raise UsageError(f"suite {card.name!r} is not on the hub.{home or ' Give --data PATH.'}")
    asked = dict.fromkeys((one.hub, one.revision) for one in layout.sources)
    commits = {key: resolve_revision(*key) for key in asked}
    rows = [
        row
        for one in layout.sources
        for split in one.splits
        for row in _prepared(
            read_hub(one.hub, commits[one.hub, one.revision], one.config, split, one.files),
            layout,
            "",
            _columns_of_source(one, split),
        )
    ]
    source = "hub:" + ",".join(f"{hub}@{commit}" for (hub, _), commit in commits.items())
    return Table(_gathered(rows, layout), layout, source, ",".join(dict.fromkeys(commits.values())))


def from_path(path: Path, card: SuiteCard) -> Table:
    """All rows of a local file or folder in the first of the card's layouts that fits.

    Raises `UsageError` that says what was found and what each layout expects, the nearest first.
    """
    if not path.exists():
        siblings = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(f"{path}: no such file or folder. {near_miss(path.name, siblings)}".rstrip())
    files = data_files(path)
    if not files:
        raise UsageError(f"{path}: holds no file with rows ({', '.join(SUFFIXES)})")
    search = _Search(card, path if path.is_dir() else path.parent)
    for by_name in (True, False):
        for layout in card.layouts:
            chosen = _files_of(layout, files, by_name=by_name)
            notes: tuple[str, ...] = ()
            if layout.alternatives and len(chosen) > 1:
                several = len(chosen)
                chosen = search.best(layout, chosen)
                notes = (f"read {chosen[0].name}, one of {several} files that each hold the suite",)
            if chosen and search.fits(layout, chosen):
                rows = (row for file in chosen for row in search.rows(layout, file))
                return Table(
                    _gathered(rows, layout, in_json=search.in_json(chosen)),
                    layout,
                    f"file:{path.resolve().name}",
                    None,
                    notes,
                )
    raise UsageError(search.nothing_fits(path, files))


class _Search:
    """What is known about the files while a layout is looked for: each is read once."""

    def __init__(self, card: SuiteCard, folder: Path) -> None:
        self.card = card
        self._folder = folder
        self._read: dict[Path, Sequence[Row]] = {}
        self._lacks: dict[str, tuple[str, ...]] = {}
        self._empty = ""

    def rows(self, layout: Layout, file: Path) -> Iterator[Row]:
        """The rows of a file with the columns of a layout."""
        origin = _origin_of(file, layout)
        if origin is None and len(layout.sources) == 1 and len(layout.sources[0].splits) == 1:
            origin = layout.sources[0], layout.sources[0].splits[0]  # a file of any name can only be that one
        return _prepared(self._rows(file), layout, _posix(file), _columns_of_source(*origin) if origin else {})

    def _rows(self, file: Path) -> Sequence[Row]:
        """The rows of a file as they stand in it."""
        if file not in self._read:
            self._read[file] = read_file(file, file.relative_to(self._folder).as_posix())
        return self._read[file]

    @staticmethod
    def in_json(files: Iterable[Path]) -> bool:
        """Whether all values come out of JSON; parquet has dates and bytes."""
        return all(".json" in file.name.lower() or ".ndjson" in file.name.lower() for file in files)

    def fits(self, layout: Layout, files: list[Path]) -> bool:
        """Whether every file has rows, and all the columns that the layout needs."""
        for file in files:
            columns = _columns(self.rows(layout, file))
            needed = [column for field in fields_of(self.card, layout).values() for column in lacking(field, columns)]
            if layout.gather and layout.gather not in columns:
                needed.append(layout.gather)
            if not columns:
                self._empty = self._empty or file.relative_to(self._folder).as_posix()
            if needed or not columns:
                self._lacks[layout.name] = tuple(dict.fromkeys(needed))
                return False
        return True

    def best(self, layout: Layout, files: list[Path]) -> list[Path]:
        """Of alternatives the first that fits and has as many rows as the suite; failing that, the first that fits."""
        fitting = [file for file in files if self.fits(layout, [file])]
        full = sum(self.card.expected.values())
        return ([file for file in fitting if len(self._rows(file)) == full] or fitting or files)[:1]

    def nothing_fits(self, path: Path, files: list[Path]) -> str:
        """The message: what was found, and what each layout expects, the nearest first."""
        names = [file.relative_to(self._folder).as_posix() for file in files]
        shown = ", ".join(names[:5]) + (f", ... ({len(names)} files)" if len(names) > 5 else "")
        file = next(iter(self._read), files[0])
        columns = _columns(self._read.get(file) or read_file(file, names[0]))
        why = f": {self._empty} holds no rows" if self._empty else ""
        lines = [
            f"{path}: no layout of suite {self.card.name!r} fits{why}",
            f"  found: {shown}",
            f"  columns of {file.name}: {', '.join(columns) or 'none, it holds no rows'}",
            "  expected, nearest first:",
        ]
        for layout in sorted(self.card.layouts, key=lambda one: len(self._lacks.get(one.name, SUFFIXES))):
            needed = [column for field in fields_of(self.card, layout).values() for column in lacking(field, ())]
            where = f"files {', '.join(layout.files)} with " if layout.files else ""
            lacks = f"; lacking here: {', '.join(missing)}" if (missing := self._lacks.get(layout.name)) else ""
            lines.append(f"    {layout.name}: {where}columns {', '.join(dict.fromkeys(needed))}{lacks}")
        return "\n".join(lines)


def _columns(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(column for row in islice(rows, _LOOK_AT) for column in row.values))


def _files_of(layout: Layout, files: list[Path], *, by_name: bool) -> list[Path]:
    """The files that a layout would read, in the order of its globs; [] where it would read none."""
    if by_name:
        named = [file for glob in layout.files for file in files if file.resolve().match(glob)]
        return [file for file in dict.fromkeys(named) if layout.path is None or _searched(layout.path, _posix(file))]
    if layout.path is not None:
        return []
    order = {(one.hub, one.config, split): n for n, (one, split) in enumerate(_places(layout))}
    found = {file: origin for file in files if (origin := _origin_of(file, layout)) is not None}
    in_order = sorted(found, key=lambda file: (order[found[file][0].hub, found[file][0].config, found[file][1]], file))
    return in_order or ([] if len(layout.sources) > 1 else files)


def _places(layout: Layout) -> list[tuple[Source, str]]:
    """Every split of every source of a layout, in the order in which they are read."""
    return [(one, split) for one in layout.sources for split in one.splits]


def _origin_of(file: Path, layout: Layout) -> tuple[Source, str] | None:
    """The source and split that a file of a hub snapshot belongs to, by its folders and its name."""
    several = len({one.hub for one in layout.sources}) > 1
    folders = {part.lower() for part in file.resolve().parts[:-1]}
    for one, split in _places(layout):
        if several and one.hub.rpartition("/")[2].lower() not in folders:
            continue
        named = one.config is not None and _split_of(file, (one.config,)) is not None
        if one.config is not None and not named and one.config.lower() not in folders:
            continue
        if _split_of(file, (split,)) or (named and len(one.splits) == 1):
            return one, split
    return None


def _columns_of_source(source: Source, split: str) -> dict[str, str]:
    """What rows learn from the place they come from."""
    config = {"_config": source.config} if source.config else {}
    return {"_hub": source.hub, **config, "_split": split, **source.columns}


def _split_of(file: Path, splits: tuple[str, ...]) -> str | None:
    """The split that a file of a hub snapshot belongs to, as in `gpt.jsonl` or `train/0000.parquet`.

    >>> _split_of(Path("data/filtered-00000-of-00001.parquet"), ("raw", "filtered"))
    'filtered'
    """
    stem = file.name.partition(".")[0]
    return next((one for one in splits if stem == one or stem.startswith(f"{one}-") or file.parent.name == one), None)


def _prepared(rows: Iterable[Row], layout: Layout, path: str, origin: Mapping[str, str]) -> Iterator[Row]:
    """Rows with the columns that a layout takes from origin, path and other columns, values in our spelling."""
    shared = {**origin, **((_searched(layout.path, path) or {}) if layout.path else {})}
    for row in rows:
        values: dict[str, Any] = {**shared, **row.values}
        for column, pattern in layout.extract.items():
            if isinstance(values.get(column), str):
                values |= _searched(pattern, values[column]) or {}
        for column, spelling in layout.values.items():
            if column in values:
                values[column] = spelling.get(str(values[column]), values[column])
        yield Row(values, row.place)


def _searched(pattern: str, text: str) -> dict[str, Any] | None:
    """The named groups of a card's pattern in a text; None where it is not there.

    `regex` finds what `re` does and can be told to stop: `(a+)+$` would take years over forty letters. Raises
    `UsageError` where that happens.
    """
    import regex

    try:
        found = regex.search(pattern, text, timeout=PATTERN_SECONDS)
    except TimeoutError:
        raise UsageError(
            f"the card's pattern {pattern[:60]!r} was not through with a text of {len(text)} characters after "
            f"{PATTERN_SECONDS:g} s"
        ) from None
    except (regex.error, MemoryError, RecursionError) as fault:
        raise UsageError(f"the card's pattern {pattern[:60]!r} cannot be used: {fault}") from None
    return None if found is None else dict(found.groupdict())


def _gathered(rows: Iterable[Row], layout: Layout, *, in_json: bool = False) -> Sequence[Row]:
    """Neighbouring rows with the same value of the column to gather by, as one row of lists."""
    if not layout.gather:
        return held(rows) if in_json else tuple(rows)
    groups: list[list[Row]] = []
    for row in rows:
        if groups and groups[-1][0].values.get(layout.gather) == row.values.get(layout.gather):
            groups[-1].append(row)
        else:
            groups.append([row])
    return tuple(Row(_columns_of(group, layout.lists), group[0].place) for group in groups)


def _columns_of(group: list[Row], lists: tuple[str, ...]) -> Mapping[str, Any]:
    """Lists for columns that differ within the group, single values for those that do not."""
    columns = {}
    for column in group[0].values:
        values = [row.values.get(column) for row in group]
        columns[column] = values if column in lists or any(v != values[0] for v in values) else values[0]
    return columns


def _posix(file: Path) -> str:
    return file.resolve().as_posix()
