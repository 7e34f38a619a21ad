"""Many plain judgements as columns: what a row holds takes bytes here, and what metrics ask of all rows one pass.

A judgement is plain where it holds scores, and beside them only what every preference suite records: lengths, markup,
tokens, truncation, reasons. Verdicts, ratings, steps, votes and slices stay judgements one by one. A table is a
sequence of judgements like any other; whoever knows no columns gets each row made when it asks for it.

What this module does not know: files, rules, where the rows come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from rmeval.stats import Clusters, Floats, Ints
from rmeval.types import UNREAD, Judgement

if TYPE_CHECKING:
    import pyarrow as pa

REST = ("n_tokens", "truncated", "reasons")
"""Columns whose lists may be empty in some rows and not in others."""
OPTIONAL = ("lengths", "markup")
"""Columns whose lists are empty in all rows or in none."""
_ABOUT_LABELS = ("sizes", "right", "contrast", "clusters", "subsets")
"""What is worked out from anything but the scores."""
_BLOCK = 4096


def schema() -> pa.Schema:
    """The columns of a samples file that a plain row may have."""
    import pyarrow as pa

    number, text = pa.list_(pa.float64()), pa.string()
    kinds = dict.fromkeys(("id", "subset", "group", "cluster"), text) | {
        "grades": number,
        "scores": number,
        "lengths": pa.list_(pa.int64()),
        "markup": pa.list_(pa.list_(pa.int64())),
        "n_tokens": pa.list_(pa.int64()),
        "truncated": pa.list_(pa.bool_()),
        "reasons": pa.list_(text),
    }
    return pa.schema(list(kinds.items()))


@dataclass(frozen=True, eq=False)
class Texts(Sequence[str]):
    """Texts without an object for each."""

    array: pa.Array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.array[index].to_pylist()
        return Texts(self.array.take(index)) if isinstance(index, np.ndarray) else self.array[index].as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BLOCK):
            yield from self.array.slice(start, _BLOCK).to_pylist()


@dataclass(frozen=True, eq=False)
class Table(Sequence[Judgement]):
    """Rows [n] with candidates [P] over all rows, one row's after another's; see `from_arrow`."""

    source: pa.Table
    """The columns that no arithmetic needs, names and `REST`, of the table that all rows were taken from."""
    starts: Ints
    """[n + 1] where each row's candidates begin; every row has at least one."""
    grades: Floats
    """[P]"""
    scores: Floats
    """[P] NaN where missing."""
    lengths: Ints | None
    """[P] characters; None where no row says."""
    markup: Ints | None
    """[P, 3]; None where no row says."""
    places: Ints
    """[n] where each row stands in `source`."""
    origin: Clusters | None = None
    """The prompts of `source`, where they were asked for before."""
    reasons: tuple[str | None] | None = None
    """Why scores are missing, one reason for all; None leaves it to `source`."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> Judgement: ...

    @overload
    def __getitem__(self, index: slice) -> Table: ...

    def __getitem__(self, index: int | slice) -> Judgement | Table:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        place = range(len(self))[index]
        return next(self._rows(place, place + 1))

    def __iter__(self) -> Iterator[Judgement]:
        for start in range(0, len(self), _BLOCK):
            yield from self._rows(start, min(start + _BLOCK, len(self)))

    def _rows(self, start: int, end: int) -> Iterator[Judgement]:
        names = self.source.take(self.places[start:end]).to_pylist()
        for place, name in zip(range(start, end), names, strict=True):
            own = slice(int(self.starts[place]), int(self.starts[place + 1]))
            yield Judgement(
                id=name["id"],
                subset=name["subset"],
                group=name["group"] or "",
                cluster=name["cluster"] or "",
                n_tokens=tuple(name["n_tokens"] or ()),
                truncated=tuple(name["truncated"] or ()),
                reasons=tuple(name["reasons"] or ()) if self.reasons is None else self.reasons * (own.stop - own.start),
                grades=tuple(self.grades[own].tolist()),
                scores=tuple(self.scores[own].tolist()),
                lengths=tuple(self.lengths[own].tolist()) if self.lengths is not None else (),
                markup=tuple(map(tuple, self.markup[own].tolist())) if self.markup is not None else (),
            )

    # --- rows out of rows --------------------------------------------------------------------------------------------

    def take(self, index: Ints) -> Table:
        """These rows, in this order."""
        if len(index) == len(self) and bool((index == np.arange(len(self))).all()):
            return self
        sizes = self.sizes[index]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
        within = np.arange(starts[-1]) - np.repeat(starts[:-1], sizes)
        flat = np.repeat(self.starts[index], sizes) + within
        return replace(
            self,
            starts=starts,
            grades=self.grades[flat],
            scores=self.scores[flat],
            lengths=self.lengths[flat] if self.lengths is not None else None,
            markup=self.markup[flat] if self.markup is not None else None,
            places=self.places[index],
            origin=self._root,
        )

    def by_id(self) -> Table:
        """The rows in the order of their ids."""
        import pyarrow.compute as pc

        order = pc.sort_indices(self.names("id").array).to_numpy().astype(np.intp)  # UTF-8 sorts as code points do
        return self.take(order)

    def scored(self, scores: Floats, reason: str | None = None) -> Table:
        """The same rows with other scores [P], and this reason for all that are missing."""
        other = replace(self, scores=scores, reasons=(reason,), origin=self._root)
        other.__dict__.update({name: self.__dict__[name] for name in _ABOUT_LABELS if name in self.__dict__})
        return other

    def names(self, column: str) -> Texts:
        """[n] a column of texts."""
        return Texts(self.source[column].take(self.places).combine_chunks())

    # --- what metrics ask --------------------------------------------------------------------------------------------

    @cached_property
    def sizes(self) -> Ints:
        """[n] candidates."""
        return np.diff(self.starts)

    @cached_property
    def right(self) -> Any:
        """[P] whether a candidate has its row's highest grade."""
        return self.grades == np.repeat(np.maximum.reduceat(self.grades, self.starts[:-1]), self.sizes)

    @cached_property
    def contrast(self) -> Any:
        """[n] whether a row has candidates that are right and others that are wrong."""
        return ~np.logical_and.reduceat(self.right, self.starts[:-1])

    @cached_property
    def whole(self) -> Any:
        """[n] whether all scores are finite."""
        return np.logical_and.reduceat(np.isfinite(self.scores), self.starts[:-1])

    @cached_property
    def clusters(self) -> Clusters:
        """The prompts."""
        root = self._root
        is_whole = len(self) == len(root) and bool((self.places == np.arange(len(root))).all())
        return root if is_whole else root.take(self.places)

    @property
    def prompts(self) -> Ints:
        """[n] the prompt of each row by its number among those of the table that all rows were taken from."""
        return self._root.codes[self.places]

    @cached_property
    def _root(self) -> Clusters:
        if self.origin is not None:
            return self.origin
        import pyarrow as pa
        import pyarrow.compute as pc

        coded = self.source["cluster"].fill_null("").combine_chunks().dictionary_encode()
        order = pc.sort_indices(coded.dictionary).to_numpy()
        rank = np.empty(len(order), dtype=np.intp)
        rank[order] = np.arange(len(order))
        found = Clusters(rank[coded.indices.to_numpy()], Texts(coded.dictionary.take(order)))
        del coded
        pa.default_memory_pool().release_unused()
        return found

    @cached_property
    def subsets(self) -> tuple[Ints, tuple[str, ...]]:
        """[n] the subset of each row as a number, and their names, as they first appear."""
        coded = self.names("subset").array.dictionary_encode()
        return coded.indices.to_numpy().astype(np.intp), tuple(coded.dictionary.to_pylist())

    @cached_property
    def unread(self) -> Any:
        """[n] whether a reading was refused or could not be parsed."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.reasons is not None:
            return np.full(len(self), self.reasons[0] in UNREAD)
        why = self.source["reasons"].combine_chunks()
        found = np.zeros(len(why), dtype=bool)
        lost = pc.is_in(why.flatten(), pa.array(sorted(UNREAD))).to_numpy(zero_copy_only=False)
        if lost.any():
            found[pc.list_parent_indices(why).to_numpy()[lost]] = True
        return found[self.places]


def from_arrow(found: pa.Table) -> Table | None:
    """The rows of an arrow table of `schema`, or None where one is not plain or not sound: then look row by row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {name: found[name].combine_chunks() for name in found.column_names}
    for column in columns.values():
        column.validate(full=True)  # raises for what is no UTF-8
    sizes = {name: _sizes(columns[name]) for name in ("grades", "scores", "lengths", "markup", *REST)}
    k = sizes["grades"]
    flat = {name: columns[name].flatten() for name in sizes}
    values = {name: np.asarray(flat[name].to_numpy(zero_copy_only=False)) for name in ("grades", "scores")}
    there = flat["scores"].is_valid().to_numpy(zero_copy_only=False)
    sound = (
        len(found) > 0
        and bool((k > 0).all())
        and all(np.array_equal(sizes[name], k) for name in ("scores", *(n for n in OPTIONAL if len(flat[n]))))
        and bool(((sizes["reasons"] == 0) | (sizes["reasons"] == k)).all())
        and not any(flat[name].null_count for name in flat if name not in {"scores", "reasons"})
        and bool(np.isfinite(values["grades"]).all() and np.isfinite(values["scores"][there]).all())
        and all(_counts(flat[name]) for name in ("lengths", "n_tokens"))
        and not any(columns[name].null_count for name in ("id", "subset"))
        and pc.count_distinct(columns["id"]).as_py() == len(found)
        and pc.min(pc.binary_length(columns["id"])).as_py() > 0
    )
    if not sound:
        return None
    marks = flat["markup"]
    if len(marks) and not (bool((_sizes(marks) == 3).all()) and _counts(marks.flatten())):
        return None
    starts = np.concatenate([[0], np.cumsum(k)]).astype(np.intp)
    table = Table(
        pa.table({name: columns[name] for name in ("id", "subset", "group", "cluster", *REST)}),
        starts,
        values["grades"],
        values["scores"],
        _small(flat["lengths"].to_numpy()) if len(flat["lengths"]) else None,
        _small(marks.flatten().to_numpy()).reshape(-1, 3) if len(marks) else None,
        np.arange(len(found)),
    )
    unknown = np.searchsorted(starts, np.flatnonzero(~there), side="right") - 1
    return table if all(_has_reasons(table[int(place)]) for place in unknown) else None


def of(judgements: Sequence[Judgement]) -> Table | None:
    """The table of some judgements, or None where one is not plain."""
    import pyarrow as pa

    others = [field.name for field in fields(Judgement) if field.name not in schema().names]
    if any(getattr(j, name) for j in judgements for name in others):
        return None
    columns = {
        field.name: pa.array([_plain(getattr(j, field.name)) for j in judgements], field.type) for field in schema()
    }
    found = from_arrow(pa.table(columns))
    del columns
    pa.default_memory_pool().release_unused()
    return found


def _plain(value: Any) -> Any:
    """A missing score is null."""
    return [None if isinstance(v, float) and math.isnan(v) else v for v in value] if isinstance(value, tuple) else value


def joined(tables: Sequence[Table]) -> Table | None:
    """The rows of tables that `of` has made, one after another; None where only some say lengths or markup."""
    import pyarrow as pa

    numbers: dict[str, Any] = {}
    for name in ("grades", "scores", *OPTIONAL):
        parts = [getattr(table, name) for table in tables]
        if any(part is None for part in parts) and not all(part is None for part in parts):
            return None
        numbers[name] = None if parts[0] is None else np.concatenate(parts)
    sizes = np.concatenate([table.sizes for table in tables])
    return Table(
        pa.concat_tables([table.source for table in tables]),
        starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp),
        places=np.arange(sizes.size),
        **numbers,
    )


def _sizes(column: Any) -> Ints:
    """How many items each list holds; none where there is no list."""
    import pyarrow.compute as pc

    return np.asarray(pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.intp)


def _small(numbers: Any) -> Any:
    """Counts in as few bytes as the largest needs."""
    return numbers.astype(np.min_scalar_type(int(numbers.max())))


def _counts(column: Any) -> bool:
    return not column.null_count and (not len(column) or int(column.to_numpy().min()) >= 0)


def _has_reasons(j: Judgement) -> bool:
    return all(j.reasons[c:] and j.reasons[c] for c, score in enumerate(j.scores) if math.isnan(score))
