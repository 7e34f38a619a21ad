"""One writer at a time: a file that says which process holds a place.

Files rather than kernel locks: they hold pid, host and start time, so that a message can say who works there, and one
of a process that is gone is taken over.

What this module does not know: what is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from rmeval.errors import LockHeld
from rmeval.progress import note
from rmeval.whole_files import alive, writing_to

LOCK = ".rmeval.lock"
"""Name of the lock of a folder."""


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file while the block runs; `what` is written, such as `the board in site`.

    Raises `LockHeld` while a live process, or one on another host, holds it, and `UsageError` or `ResourceError` where
    it cannot be made.
    """
    pid, host = os.getpid(), socket.gethostname()
    mine = {"pid": pid, "began": _began(pid), "host": host, "started": time.time(), "run": what}
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                _clear_if_stale(path, host)
                continue
            try:
                with os.fdopen(handle, "w") as out:
                    json.dump(mine, out)
            except BaseException:  # half a lock would be taken for one that is being written
                path.unlink(missing_ok=True)
                raise
            break
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _clear_if_stale(path: Path, host: object) -> None:
    """Remove a lock whose process is gone; raise `LockHeld` for any other."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as stale:
        with contextlib.suppress(OSError):  # where the file system has none, two may meet here
            fcntl.flock(stale, fcntl.LOCK_EX)
        if os.fstat(stale.fileno()).st_ino == path.stat().st_ino:  # else another one took it over since
            _clear(path, stale.read(), host)


def _began(pid: int) -> str | None:
    """When a process of this host began, in ticks since the host did, which no change of its clock moves."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):  # it is gone, or a system without such files
        return None


def _clear(path: Path, content: bytes, host: object) -> None:
    try:
        held = json.loads(content)
    except (ValueError, RecursionError):
        held = None
    if not isinstance(held, dict) or type(held.get("pid")) is not int or not 0 < held["pid"] < 2**31:
        held = {}  # being written this moment, or torn by a crash: only its age tells
        if time.time() - path.stat().st_mtime > 60:
            path.unlink(missing_ok=True)
            return
    # a container that was started again gives its processes the same numbers: another one may have it now
    now = _began(held["pid"]) if held.get("host") == host else None
    reused = now is not None and held.get("began") not in (None, now)
    if held.get("host") == host and (reused or not alive(held["pid"])):
        note(f"took over the lock of process {held['pid']}, which has ended without giving it back")
        path.unlink(missing_ok=True)
        return
    raise LockHeld(
        f"{held.get('run', 'this run')} is being written by process {held.get('pid', '?')} on {held.get('host', '?')}. "
        f"Wait for it, or if that process is gone delete {path}"
    )
