"""Packed rows: the tokens that a prompt group's texts begin with alike once, and after them what each goes on with.

    texts          packed row                      positions
    a b c          a b | c | d e | (nothing)       0 1 | 2 | 2 3
    a b d e        shared  branches
    a b

What texts share is found in the ids of the whole texts, so no text is tokenised differently for having neighbours. A
row holds several groups, and a group stands in one row: what is too long for one pass is computed part by part.

What this module does not know: weights, attention, what is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Branch:
    """What one text goes on with after what its group shares."""

    row: int
    """Which text."""
    start: int
    """Where it stands in the packed row."""
    length: int
    """Tokens; 0 for a text that is all shared."""


@dataclass(frozen=True, slots=True)
class Stem:
    """Texts with their shared beginning, side by side in a packed row."""

    start: int
    shared: int
    """Tokens at `start` that all of them begin with; 0 where they begin differently."""
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """One row for a forward pass."""

    stems: tuple[Stem, ...]
    length: int

    def ids(self, rows: Sequence[Sequence[int]]) -> list[int]:
        """The row's token ids, [length]."""
        found: list[int] = []
        for stem in self.stems:
            found += rows[stem.branches[0].row][: stem.shared]
            for branch in stem.branches:
                found += rows[branch.row][stem.shared :]
        return found

    def positions(self) -> list[int]:
        """The place of each token in its own text, [length]."""
        found: list[int] = []
        for stem in self.stems:
            found += range(stem.shared)
            for branch in stem.branches:
                found += range(stem.shared, stem.shared + branch.length)
        return found

    def cuts(self, most: int) -> list[tuple[int, int]]:
        """The row in parts (start, end) of at most `most` tokens; no text is cut, nor what is shared from the first.

        >>> rows = [[1, 2, 3], [7], [1, 2, 4, 5]]
        >>> pack(rows, ["a", "", "a"], 99)[0].cuts(3)
        [(0, 3), (3, 6)]
        """
        # where a text ends: some rotary angles depend on how long the longest text of a part is
        ends = [0, *(branch.start + branch.length for stem in self.stems for branch in stem.branches)]
        found: list[tuple[int, int]] = []
        start = 0
        for before, end in pairwise(sorted(set(ends))):
            if end - start > most and before > start:
                found.append((start, before))
                start = before
        return [*found, (start, self.length)]

    def open_at(self, end: int) -> Stem | None:
        """The stem whose texts stand on both sides of a place, if any."""
        return next(
            (stem for stem in self.stems if stem.start < end < max(b.start + b.length for b in stem.branches)), None
        )

    def offsets(self) -> Iterator[tuple[int, int, int, int]]:
        """(text, tokens shared, where those start, where the text goes on) of each text."""
        for stem in self.stems:
            for branch in stem.branches:
                yield branch.row, stem.shared, stem.start, branch.start - stem.shared


def alike(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two texts begin with alike.

    >>> alike([1, 2, 3], [1, 2, 4, 5]), alike([1, 2], [1, 2, 3])
    (2, 2)
    """
    most = min(len(left), len(right))
    if left[:most] == right[:most]:
        return most
    low, high = 0, most  # alike up to low, not up to high
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low


def pack(rows: Sequence[Sequence[int]], groups: Sequence[str], most: int) -> list[Packed]:
    """Texts in packed rows of at most `most` tokens, or one group; "" is no group.

    >>> rows = [[1, 2, 3], [7], [1, 2, 4, 5]]
    >>> [row] = pack(rows, ["a", "", "a"], 99)
    >>> row.ids(rows), row.positions()
    ([1, 2, 3, 4, 5, 7], [0, 1, 2, 2, 3, 0])
    >>> [row.ids(rows) for row in pack(rows, ["a", "", "a"], 4)]
    [[1, 2, 3, 4, 5], [7]]
    """
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(f"g{group}" if group else str(i), []).append(i)
    found: list[Packed] = []
    stems: list[Stem] = []
    length = 0
    for texts in members.values():
        shared = shared_by([rows[i] for i in texts])
        size = shared + sum(len(rows[i]) - shared for i in texts)
        if stems and length + size > most:
            found.append(Packed(tuple(stems), length))
            stems, length = [], 0
        branches = []
        at = length + shared
        for i in texts:
            branches.append(Branch(i, at, len(rows[i]) - shared))
            at += len(rows[i]) - shared
        stems.append(Stem(length, shared, tuple(branches)))
        length = at
    if stems:
        found.append(Packed(tuple(stems), length))
    return found


def shared_by(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all of them begin with alike.

    >>> shared_by([[1, 2, 3], [1, 2], [1, 4]])
    1
    """
    shared = len(rows[0])
    for row in rows[1:]:
        shared = alike(rows[0][:shared], row)
    return shared
