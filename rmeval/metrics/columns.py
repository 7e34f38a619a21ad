"""Credits of a table of judgements as arrays: what rules, leaves and baselines do to one row, done to all of them.

Every number is the one that the rows one by one would give, to the last bit: a table is a matter of time and memory.

What this module does not know: sections, intervals, which metrics are reported.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, overload

import numpy as np

from rmeval.metrics.convert import scores_of
from rmeval.metrics.credit import Credit
from rmeval.metrics.table import Table
from rmeval.stats import Clusters, Floats
from rmeval.types import Judgement


@dataclass(frozen=True, eq=False)
class Column(Sequence[Credit]):
    """The credits of one component on all rows of a table."""

    table: Table
    component: str
    values: Floats
    """[n]"""

    def __len__(self) -> int:
        return self.values.size

    @overload
    def __getitem__(self, index: int) -> Credit: ...

    @overload
    def __getitem__(self, index: slice) -> Column: ...

    def __getitem__(self, index: int | slice) -> Credit | Column:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return self._credit(self.table[index], float(self.values[index]))

    def __iter__(self) -> Iterator[Credit]:
        return map(self._credit, self.table, self.values.tolist())

    def _credit(self, j: Judgement, value: float) -> Credit:
        reason = scores_of(j).reason if math.isnan(value) else None
        return Credit(j.id, j.cluster, j.subset, self.component, value, reason)

    def take(self, index: Any) -> Column:
        """The credits of these rows: places, or true where one is kept."""
        places = np.flatnonzero(index) if index.dtype == bool else index
        whole = index.dtype == bool and places.size == len(self)
        return self if whole else replace(self, table=self.table.take(places), values=self.values[places])

    @cached_property
    def missing(self) -> Any:
        """[n] which have no value."""
        return np.isnan(self.values)

    @property
    def clusters(self) -> Clusters:
        """The prompts of the rows that have a value."""
        return self.table.clusters.take(~self.missing) if self.missing.any() else self.table.clusters

    def of(self, subsets: Collection[str]) -> Column:
        """The credits of some subsets."""
        codes, names = self.table.subsets
        return self.take(np.array([name in subsets for name in names], dtype=bool)[codes])

    def filled(self, value: float) -> Column:
        """With a value in place of every missing one."""
        return replace(self, values=np.where(self.missing, value, self.values))


@dataclass(frozen=True, eq=False)
class Places(Collection[str]):
    """The ids of some rows of a table, read when somebody asks."""

    table: Table
    rows: Any
    """[n] true for those meant."""

    @cached_property
    def _ids(self) -> frozenset[str]:
        return frozenset(self.table.take(np.flatnonzero(self.rows)).names("id"))

    def __len__(self) -> int:
        return int(self.rows.sum())

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __contains__(self, key: object) -> bool:
        return key in self._ids


def accuracy(table: Table, ties: str) -> tuple[Column, Any] | None:
    """Credits of the rule `accuracy` and where [n] a tie decides them, of rows with contrast; None for none scored."""
    kept = table.take(np.flatnonzero(table.contrast))
    if not len(kept) or not bool(kept.whole.any()) or bool(kept.unread.any()):
        return None
    starts = kept.starts[:-1]
    best = np.repeat(np.maximum.reduceat(kept.scores, starts), kept.sizes)  # NaN where one is missing
    top = kept.scores == best
    many = np.add.reduceat(top, starts, dtype=np.intp)
    hits = np.add.reduceat(top & kept.right, starts, dtype=np.intp)
    shared = kept.whole & (hits > 0) & (hits < many)
    at_ties = {"lose": 0.0, "half": 0.5, "win": 1.0}
    worth = at_ties[ties] if ties in at_ties else hits / np.maximum(many, 1)
    values = np.where(shared, worth, (hits > 0).astype(np.float64))
    return Column(kept, "accuracy", np.where(kept.whole, values, math.nan)), shared


def entered(columns: Sequence[Column]) -> tuple[int, int]:
    """Examples that have a credit in every column that they are in, and the other ones."""
    if len(columns) == 1:
        lost = int(columns[0].missing.sum())
        return len(columns[0]) - lost, lost
    there, whole = _states(columns, *(column.table for column in columns))
    return int((there & whole).sum()), int((there & ~whole).sum())


def _states(columns: Sequence[Column], *tables: Table) -> tuple[Any, Any]:
    """By place in the first table: whether an example is in any column, and whether it lacks a credit in none.

    As far as any row of `tables` stands there, which hold those of the columns and may hold others.
    """
    size = 1 + max((int(table.places.max(initial=-1)) for table in tables), default=-1)
    there, whole = np.zeros(size, dtype=bool), np.ones(size, dtype=bool)
    for column in columns:
        there[column.table.places] = True
        whole[column.table.places[column.missing]] = False
    return there, whole


def rates(table: Table, earned: Sequence[Column], tied: Sequence[Any]) -> tuple[Column, Column, Column]:
    """(whether a tie decides it, of those scored; whether it lacks a credit; whether it could not be read)."""
    there, whole = _states(earned, table)
    by_tie = np.zeros(there.size, dtype=bool)
    for column, where in zip(earned, tied, strict=True):
        by_tie[column.table.places[where]] = True
    rows = table.take(np.flatnonzero(there[table.places]))
    scored = rows.take(np.flatnonzero(whole[rows.places]))
    return (
        Column(scored, "tie_rate", by_tie[scored.places].astype(np.float64)),
        Column(rows, "missing_rate", (~whole[rows.places]).astype(np.float64)),
        Column(rows, "unparsed_rate", rows.unread.astype(np.float64)),
    )


# --- null baselines, see `rmeval.metrics.nulls` ----------------------------------------------------------------------


def length(table: Table) -> Table:
    """Longer is better; missing where the texts are not at hand."""
    if table.lengths is None:
        return table.scored(np.full(table.scores.size, math.nan), "no_text")
    return table.scored(table.lengths.astype(np.float64), "no_text")


def constant(table: Table) -> Table:
    """The same score for every candidate."""
    return table.scored(np.full(table.scores.size, 0.5))


def random(table: Table, draw: int = 0) -> Table:
    """One draw per candidate: the first eight bytes of a digest, as a fraction."""
    digests = bytearray()
    numbers = [str(c).encode() for c in range(int(table.sizes.max(initial=0)))]
    for key, k in zip(table.names("id"), table.sizes.tolist(), strict=True):
        start = f"{draw}\n{key}\n".encode()
        for number in numbers[:k]:
            digests += sha256(start + number).digest()[:8]
    return table.scored(np.frombuffer(bytes(digests), dtype=">u8").astype(np.float64) / 2**64)
