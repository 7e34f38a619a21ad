"""Errors a user can act on, each with its exit code.

    RmevalError            (1)  never raised itself
    ├── UsageError         (2)  bad input: names the file, the key, the near miss, the command that helps
    ├── CheckFailed        (3)  a run or export that failed its own check
    ├── ResourceError      (4)  disk or memory
    └── LockHeld           (5)  another process writes the same run

The command line prints the message alone; a traceback means a bug of ours (exit 1).

What this module does not know: what can go wrong; every room says that itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 9000
"""Characters of a message: twenty faults of a file and what helps."""


_LONGEST_NAME = 200


class RmevalError(Exception):
    """Base of all errors with a readable message."""

    exit_code = 1

    def __str__(self) -> str:
        """The message; of one that quotes a file of strangers at length, its two ends."""
        said = super().__str__()
        return said if len(said) <= _LONGEST else f"{said[: _LONGEST - 1500]} ... {said[-1500:]}"


class UsageError(RmevalError):
    """The input is wrong and the message says where."""

    exit_code = 2


class CheckFailed(RmevalError):  # noqa: N818 - it reads as what happened
    """Incomplete, or a check of our own failed: failures over the limit, export mismatch, divergence."""

    exit_code = 3


class ResourceError(RmevalError):
    """Out of disk or memory; what was committed is intact."""

    exit_code = 4


class LockHeld(RmevalError):  # noqa: N818 - it reads as what happened
    """Another live process holds the lock of this run."""

    exit_code = 5


def near_miss(name: str, known: Iterable[str]) -> str:
    """A sentence that names the closest known names, or "" when nothing is close.

    >>> near_miss("rm-bnech", ["rm-bench", "rmb"])
    "Did you mean 'rm-bench'?"
    """
    if len(name) > _LONGEST_NAME:  # of no name that we know, and the search would take long
        return ""
    close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
