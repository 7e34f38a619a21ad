"""Many values held small: a few thousand as they are, more as compressed JSON, made again when asked for.

A suite of a hundred thousand examples is gone through a few times and in order. Held as objects it takes several times
the memory of its file. What is packed lies in a temporary file that nobody else can open and that is gone with the
process; where none can be written, in memory.

What this module does not know: what the values are; whoever packs them says how they become JSON and back.
"""

from __future__ import annotations

import json
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import IO, Any, Generic, TypeVar, overload

PLAIN = 4096
"""Values that are held as they are, where there are no more."""
_BLOCK = 256

T = TypeVar("T")


class Packed(Sequence[T], Generic[T]):
    """A sequence that cannot be changed; equal to another with equal values."""

    def __init__(self, values: Iterable[T], to_json: Callable[[T], Any], from_json: Callable[[Any], T]) -> None:
        source = iter(values)
        self._from_json = from_json
        self._blocks: list[bytes | tuple[int, int]] = []
        self._file: IO[bytes] | None = None
        self._last: tuple[int, list[T]] = (-1, [])
        self._size = 0
        while block := [to_json(value) for value in islice(source, _BLOCK)]:
            self._blocks.append(self._kept(zlib.compress(json.dumps(block, separators=(",", ":")).encode(), 1)))
            self._size += len(block)

    def __len__(self) -> int:
        return self._size

    def _block(self, number: int) -> list[T]:
        if self._last[0] != number:
            held = self._blocks[number]
            if not isinstance(held, bytes):
                assert self._file is not None
                self._file.seek(held[0])
                held = self._file.read(held[1])
            self._last = number, [self._from_json(value) for value in json.loads(zlib.decompress(held))]
        return self._last[1]

    def _kept(self, block: bytes) -> bytes | tuple[int, int]:
        """Where in the file a block lies, or the block itself."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="rmeval-")  # noqa: SIM115 - open as long as this lives
                weakref.finalize(self, self._file.close)
            start = self._file.seek(0, 2)
            self._file.write(block)
            self._file.flush()
        except OSError:
            return block
        return start, len(block)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return tuple(self[place] for place in range(self._size)[index])
        number, within = divmod(range(self._size)[index], _BLOCK)
        return self._block(number)[within]

    def __iter__(self) -> Iterator[T]:
        for number in range(len(self._blocks)):
            yield from self._block(number)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def packed(values: Iterable[T], to_json: Callable[[T], Any], from_json: Callable[[Any], T]) -> Sequence[T]:
    """The values as a tuple where they are few, else packed.

    >>> packed("abc", str, str)
    ('a', 'b', 'c')
    >>> many = packed(range(10_000), str, int)
    >>> len(many), many[9_999], sum(many), many[8190:8194]
    (10000, 9999, 49995000, (8190, 8191, 8192, 8193))
    """
    source = iter(values)
    few = list(islice(source, PLAIN + 1))
    return tuple(few) if len(few) <= PLAIN else Packed(chain(_emptied(few), source), to_json, from_json)


def _emptied(values: list[T]) -> Iterator[T]:
    """The values, none of which the list holds any more once it is given."""
    values.reverse()
    while values:
        yield values.pop()
