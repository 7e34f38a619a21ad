"""Which texts are computed together, planned over the whole run from their lengths and what they share.

    padded   the longest first, as many as the budget holds padded
    packed   prompt groups whole, those with the most tokens first; a group counts what it shares once

What this module does not know: text, weights.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from rmeval.engines.prefix_tree import alike

_OPEN = 4096
"""Groups whose beginnings are remembered at one time; a text of an older group is planned as if it shared nothing."""


def padded(texts: Iterable[tuple[int, int]], budget: int, rows: int) -> list[tuple[int, ...]]:
    """(index, tokens) of texts in their order -> batches of at most `rows`, at least one.

    >>> padded([(0, 9), (1, 4), (2, 4), (3, 1)], budget=9, rows=8)
    [(0,), (1, 2), (3,)]
    """
    found: list[list[int]] = []
    longest = 0
    for i, tokens in texts:  # what is to be written counts too, so the first need not be the longest
        if found and max(longest, tokens) * (len(found[-1]) + 1) <= budget and len(found[-1]) < rows:
            found[-1].append(i)
            longest = max(longest, tokens)
        else:
            found.append([i])
            longest = tokens
    return [tuple(batch) for batch in found]


@dataclass(slots=True)
class _Group:
    texts: list[int]
    shared: int
    tokens: int
    """Of all its texts together, those that are shared counted in each."""

    @property
    def computed(self) -> int:
        return self.tokens - (len(self.texts) - 1) * self.shared


class Groups:
    """Texts by prompt group, as they come."""

    def __init__(self) -> None:
        self._groups: list[_Group] = []
        self._open: OrderedDict[Hashable, tuple[_Group, array[int]]] = OrderedDict()

    def add(self, text: int, group: Hashable, ids: array[int]) -> None:
        """A text of a group; None is no group."""
        if group is not None and group in self._open:
            known, start = self._open[group]
            known.shared = alike(start[: known.shared], ids)
            known.texts.append(text)
            known.tokens += len(ids)
            return
        new = _Group([text], len(ids), len(ids))
        self._groups.append(new)
        if group is not None:
            self._open[group] = new, ids
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)

    def packed(self, budget: int, rows: int | None = None) -> list[tuple[int, ...]]:
        """Batches of whole groups; one with more tokens than the budget is alone. Only `rows` cuts a group.

        >>> groups = Groups()
        >>> for text, (group, ids) in enumerate([("a", [1, 2, 3]), ("b", [5]), ("a", [1, 2, 4])]):
        ...     groups.add(text, group, array("i", ids))
        >>> groups.packed(budget=4), groups.packed(budget=9), groups.packed(budget=9, rows=1)
        ([(0, 2), (1,)], [(0, 2, 1)], [(0,), (2,), (1,)])
        """
        found: list[list[int]] = []
        size = 0
        for group in sorted(self._groups, key=lambda group: (-group.computed, group.texts[0])):
            many = rows is not None and len(group.texts) > rows
            parts = [group.texts[i : i + rows] for i in range(0, len(group.texts), rows)] if many and rows else []
            for part in parts or [group.texts]:
                full = size + group.computed > budget or (rows is not None and found and len(found[-1] + part) > rows)
                if found and not full:
                    found[-1] += part
                    size += group.computed
                else:
                    found.append(list(part))
                    size = group.computed
        return [tuple(batch) for batch in found]
