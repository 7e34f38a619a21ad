"""Progress of long work on stderr: a bar with rate and time left on a terminal, a plain line now and then elsewhere.

What this module does not know: what is being counted.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rmeval.secrecy import hide

_PLAIN_EVERY = 15.0
"""Seconds between two plain lines."""


class Progress(Protocol):
    """Called as work gets done."""

    def advance(self, items: int, tokens: int = 0) -> None:
        """So many more items, made of so many tokens."""
        ...


class Silent:
    """Shows nothing."""

    def advance(self, items: int, tokens: int = 0) -> None:
        """Nothing to do."""


class _Clock:
    """Counts items and tokens; says rate and time left. Work is measured in tokens where their total is known."""

    def __init__(self, total: int, tokens: int) -> None:
        self.total, self.all_tokens = total, tokens
        self.done = self.tokens = 0
        self.start = time.monotonic()

    def advance(self, items: int, tokens: int) -> None:
        self.done += items
        self.tokens += tokens

    def words(self, now: float) -> str:
        """`3,400 tokens/s, 1:20 left`."""
        seconds = max(now - self.start, 1e-9)
        share = self.tokens / self.all_tokens if self.all_tokens else self.done / self.total
        left = int(seconds / share - seconds) if share > 0 else 0
        rate = f"{self.tokens / seconds:,.0f} tokens/s" if self.tokens else f"{self.done / seconds:,.2f}/s"
        return f"{rate}, {left // 60}:{left % 60:02d} left" if share > 0 else rate


class _Plain:
    def __init__(self, title: str, clock: _Clock) -> None:
        self.title, self.clock = title, clock
        self.shown = clock.start

    def advance(self, items: int, tokens: int = 0) -> None:
        self.clock.advance(items, tokens)
        now = time.monotonic()
        if now - self.shown >= _PLAIN_EVERY:
            self.shown = now
            line = f"{self.title} {self.clock.done}/{self.clock.total}, {self.clock.words(now)}"
            _say(line)


class _Bar:
    def __init__(self, bar: object, task: object, clock: _Clock) -> None:
        self.bar, self.task, self.clock = bar, task, clock

    def advance(self, items: int, tokens: int = 0) -> None:
        self.clock.advance(items, tokens)
        words = self.clock.words(time.monotonic())
        self.bar.update(self.task, advance=items, words=words)  # type: ignore[attr-defined]  # rich is imported late


def note(text: str) -> None:
    """One line on stderr that a person should see while the answer goes to stdout."""
    _say(f"note: {printable(text)}")


def _say(line: str) -> None:
    """No work ends because nobody reads what is said of it."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        to_nowhere(sys.stderr)


def to_nowhere(stream: TextIO) -> None:
    """The reader of a stream has left, or its disk is full: what is still written to it is dropped."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def printable(text: str) -> str:
    r"""A message without secrets, and without control characters but line breaks: it may quote files of others.

    >>> printable("\x1b[2Jgone\nnext")
    '�[2Jgone\nnext'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in hide(text))


@contextmanager
def progress(title: str, total: int, tokens: int = 0) -> Iterator[Progress]:
    """A progress display for `total` items of so many tokens in all, open as long as the block runs."""
    clock = _Clock(total, tokens)
    if total == 0:
        yield Silent()
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
        )
        with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
            yield _Bar(bar, bar.add_task(title, total=total, words=""), clock)
    else:
        yield _Plain(title, clock)
