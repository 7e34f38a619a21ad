"""Which rows share a prompt, as numbers: the one order in which clusters are summed, whatever the order of the rows.

What this module does not know: what is measured of the rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Clusters(Sequence[Any]):
    """Cluster ids of many rows without a text for each: a number per row, and the ids in sorted order."""

    codes: Ints
    """[n] in 0..C-1"""
    names: Any
    """[C], a range or a sequence that an array of places picks from."""

    def __len__(self) -> int:
        return self.codes.size

    def __getitem__(self, index: Any) -> Any:
        return self.names[self.codes[index]]

    def take(self, index: NDArray[Any]) -> Clusters:
        """Some of the rows: places, or true where a row is kept."""
        used, codes = np.unique(self.codes[index], return_inverse=True)
        return Clusters(codes, used if isinstance(self.names, range) else self.names[used])

    @classmethod
    def of(cls, clusters: Sequence[Hashable] | Ints) -> Clusters:
        """Ids that are asked about again and again."""
        codes, c = cluster_codes(clusters)
        return cls(codes, range(c))


def cluster_codes(clusters: Sequence[Hashable] | Ints) -> tuple[Ints, int]:
    """Cluster ids as 0..C-1 in sorted order of their text, and C, so that row order changes nothing.

    >>> cluster_codes(["b", "a", "b"])
    (array([1, 0, 1]), 2)
    >>> cluster_codes(np.array([10, 9, 10]))
    (array([0, 1, 0]), 2)
    """
    if isinstance(clusters, Clusters):
        return clusters.codes, len(clusters.names)
    if isinstance(clusters, np.ndarray):
        return _number_codes(clusters)
    order = {name: code for code, name in enumerate(sorted(set(clusters), key=str))}
    return np.array([order[c] for c in clusters], dtype=np.intp), len(order)


def _number_codes(numbers: Ints) -> tuple[Ints, int]:
    """`cluster_codes` of whole numbers from 0: as texts they sort by their digits from the left."""
    found, where = np.unique(numbers, return_inverse=True)
    digits = np.searchsorted(10 ** np.arange(1, 19), found, side="right") + 1
    order = np.lexsort((digits, found * 10 ** (digits.max(initial=0) - digits)))
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    return rank[where], found.size
