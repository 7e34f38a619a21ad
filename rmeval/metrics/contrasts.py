"""Right against wrong: every pair of candidates whose order a scorer must get right, as arrays.

Each example counts once however many pairs it has: its pairs share its weight of 1.

What this module does not know: which quantity is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rmeval.metrics.table import Table
from rmeval.stats import Floats, Ints
from rmeval.types import Judgement

FARTHEST = 1e150
"""Differences are held within this, so that their squares are numbers too. A sigmoid is 0 or 1 long before."""


@dataclass(frozen=True)
class Contrasts:
    """Every right candidate of some judgements against every wrong one: [P] pairs of [n] judgements.

    Judgements whose candidates all have the same grade have no pairs. Without any wrong or right candidate P is 0.

    >>> pairs = Contrasts((Judgement("x", "", "", "p", (1.0, 0.0, 0.0), scores=(3.0, 1.0, 5.0)),))
    >>> pairs.between(lambda j: j.scores).tolist(), pairs.weights.tolist()
    ([2.0, -2.0], [0.5, 0.5])
    """

    judgements: Sequence[Judgement]

    @cached_property
    def _groups(self) -> list[tuple[Ints, Ints, Ints]]:
        """(judgements [m], right candidates [p], wrong candidates [p]) of those that label the same ones right."""
        alike: dict[tuple[bool, ...], Sequence[int] | Ints] = {}
        if isinstance(self.judgements, Table):
            alike.update(_patterns(self.judgements))
        else:
            found: dict[tuple[bool, ...], list[int]] = {}
            for index, j in enumerate(self.judgements):
                best = max(j.grades, default=0.0)
                found.setdefault(tuple(grade == best for grade in j.grades), []).append(index)
            alike.update(found)
        groups = []
        for right, members in alike.items():
            pairs = [(r, w) for r, yes in enumerate(right) if yes for w, also in enumerate(right) if not also]
            if pairs:
                first, second = np.array(pairs, dtype=np.intp).T
                groups.append((np.array(members, dtype=np.intp), first, second))
        return groups

    @cached_property
    def example(self) -> Ints:
        """[P] which judgement each pair belongs to."""
        parts = [np.repeat(members, first.size) for members, first, _ in self._groups]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.intp)

    @cached_property
    def weights(self) -> Floats:
        """[P] 1 / the number of pairs of its judgement."""
        parts = [np.full(members.size * first.size, 1 / first.size) for members, first, _ in self._groups]
        return np.concatenate(parts) if parts else np.zeros(0)

    @cached_property
    def clusters(self) -> tuple[str, ...]:
        """[P] the prompt of each pair."""
        return tuple(self.judgements[i].cluster for i in self.example)

    def between(
        self,
        quantity: Callable[[Judgement], Sequence[float]] | Floats | Ints,
        scale: Callable[[Floats], Floats] | None = None,
    ) -> Floats:
        """[P] the right candidate's quantity minus the wrong one's, both on a `scale` such as the logarithm.

        Of a table the quantity may be the column itself, a number for each of all candidates.
        """
        parts = []
        for members, first, second in self._groups:
            if isinstance(quantity, np.ndarray):
                assert isinstance(self.judgements, Table)
                k = int(self.judgements.sizes[members[0]])
                table = quantity[self.judgements.starts[members][:, None] + np.arange(k)].astype(np.float64)
            else:
                table = np.array([quantity(self.judgements[i]) for i in members], dtype=np.float64)
            table = scale(table) if scale else table
            right, wrong = table[:, first], table[:, second]
            with np.errstate(over="ignore", invalid="ignore"):
                apart = right - wrong
            known = np.isfinite(right) & np.isfinite(wrong)
            parts.append(np.where(known, np.clip(apart, -FARTHEST, FARTHEST), apart).ravel())
        return np.concatenate(parts) if parts else np.zeros(0)


def _patterns(table: Table) -> dict[tuple[bool, ...], Ints]:
    """The rows of a table by which of their candidates are right, in the order in which these first appear."""
    found: list[tuple[int, tuple[bool, ...], Ints]] = []
    for k in np.unique(table.sizes).tolist():
        rows = np.flatnonzero(table.sizes == k)
        right = table.right[table.starts[rows][:, None] + np.arange(k)]
        packed = np.ascontiguousarray(np.packbits(right, axis=1))
        _, first, which = np.unique(packed.view(f"V{packed.shape[1]}").ravel(), return_index=True, return_inverse=True)
        for number, place in enumerate(first.tolist()):
            found.append((int(rows[place]), tuple(right[place].tolist()), rows[which == number]))
    return {pattern: members for _, pattern, members in sorted(found, key=lambda one: one[0])}
