"""Replies by content key, in one SQLite file in WAL mode.

A key is the sha256 of a request's canonical JSON and the engine's fingerprint, so equal questions to equal weights
are answered once and a changed setting is a new key. A batch is committed as a whole: after a kill it is there or not.
A row ends in a checksum of its key and content, as SQLite keeps none; rows of earlier versions have none.

What this module does not know: what a reply means.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self, get_args

from rmeval import strict_json
from rmeval.errors import ResourceError, UsageError
from rmeval.locks import locked
from rmeval.progress import note
from rmeval.types import JSON, Chat, Finish, Mark, Message, Part, Reply, Request, Special, Text, Turn

SCHEMA = 1

_MAGIC = b"SQLite format 3\0"
_FRACTIONS = b"\x40\x20\x20"
"""What stands at bytes 21 to 23 of every SQLite file, also where the start was overwritten."""
_MOUNTS = Path("/proc/mounts")
_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "fuse.sshfs",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "glusterfs",
    "fuse.glusterfs",
    "afs",
)
_PAGE = 4096
"""Bytes of a page; the first one holds the header and what tables there are."""
_DAMAGE = ("not a database", "malformed", "unsupported file format")


def home() -> Path:
    """Where rmeval keeps its replies: `RMEVAL_HOME`, else the user's cache folder."""
    if chosen := os.environ.get("RMEVAL_HOME"):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("rmeval")


def canonical(value: Any) -> str:
    """JSON that is the same for equal values: sorted keys, no spaces, no NaN.

    >>> canonical({"b": 1, "a": [1.5, None]})
    '{"a":[1.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint_digest(fingerprint: Mapping[str, JSON]) -> str:
    """The sha256 of a fingerprint, in hex."""
    return hashlib.sha256(canonical(fingerprint).encode()).hexdigest()


def request_key(request: Request, fingerprint: str) -> str:
    """The store key of a request to an engine with this fingerprint digest; the prompt group is left out."""
    content: dict[str, Any] = {"parts": [_plain(p) for p in request.parts], "at": request.at, "engine": fingerprint}
    # what was added later counts where it is used, so that older replies keep their keys
    content |= {"read": request.read} if request.read != "head" else {}
    content |= {"tokens": [_plain(token) for token in request.tokens]} if request.tokens else {}
    content |= {"role": request.role} if request.role != "policy" else {}
    content |= {"sampling": asdict(request.sampling)} if request.sampling is not None else {}
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def _plain(part: Part) -> dict[str, Any]:
    """A part as JSON."""
    match part:
        case Chat():
            return {"chat": [_turn(turn) for turn in part.messages], **({} if part.bos else {"bos": False})}
        case Text():
            return {"text": part.text, **({"marks": list(part.marks)} if part.marks else {})}
        case Special():
            return {"special": [part.text, part.id, part.role]}
        case Mark():
            return {"mark": part.ahead}


def _turn(turn: Message | Turn) -> list[Any]:
    if isinstance(turn, Message):
        return [turn.role, turn.content]
    return [turn.role, [_plain(piece) for piece in turn.pieces]]


class Store:
    """The reply store. Several runs may share one file; SQLite serialises their commits."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises `UsageError` for a file that is no store of ours or of a newer rmeval."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():  # SQLite takes a short file of anything for an empty one of its own
                with path.open("rb") as handle:
                    start = handle.read(_PAGE)
                emptied = not start and _size(_log_of(path)) > 0  # SQLite would throw the log away
                if emptied or (start[:16] != _MAGIC and _was_a_store(path, start)):
                    raise _damaged(path, "the file has lost its header")
                if start and start[:16] != _MAGIC:
                    raise UsageError(f"{path}: not a reply store. Move it away, or name another with --store")
            if kind := _network(path):
                note(f"{path}: lies on a network file system ({kind}), where SQLite's log may lose what it committed. "
                     "Name a place on a disk of this machine with --store, or as RMEVAL_HOME")  # fmt: skip
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            _to_wal(self._db)
            self._db.execute("PRAGMA synchronous=NORMAL")
            [(version,)] = self._db.execute("PRAGMA user_version").fetchall()
            if version > SCHEMA:
                raise UsageError(f"{path}: written by a newer rmeval (store schema {version}, this one knows {SCHEMA})")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"
            )
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS runs (model TEXT, suite TEXT, fingerprint TEXT, PRIMARY KEY (model, suite))"
            )
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS jobs (engine TEXT, name TEXT, job TEXT, PRIMARY KEY (engine, name))"
            )
            self._db.execute(f"PRAGMA user_version={SCHEMA}")
        except (sqlite3.DatabaseError, OSError) as fault:
            raise _fault(path, fault) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def get(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The stored replies among the keys."""
        found: dict[str, Reply] = {}
        try:
            for start in range(0, len(keys), 500):
                part = keys[start : start + 500]
                marks = ",".join("?" * len(part))
                rows = self._db.execute(f"SELECT key, reply FROM replies WHERE key IN ({marks})", part)  # noqa: S608 - marks are only question marks
                for key, text in rows:
                    try:
                        found[key] = _reply(strict_json.loads(_unsealed(key, text), key, constants=True))
                    except (UsageError, ValueError, TypeError, KeyError, OverflowError):  # asked again, which mends it
                        note(f"{self.path}: the stored reply {key[:12]} cannot be read; it is asked for again")
        except sqlite3.DatabaseError as fault:
            raise _fault(self.path, fault) from None
        return found

    def put(self, replies: Mapping[str, Reply]) -> None:
        """Commit a batch as a whole. Replies without values (failures) are not stored: a new run asks again."""
        rows = [
            (key, _sealed(key, json.dumps(_written(reply)))) for key, reply in replies.items() if reply.reason is None
        ]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?)", rows)
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as fault:
            with contextlib.suppress(sqlite3.DatabaseError):
                self._db.execute("ROLLBACK")
            raise _fault(self.path, fault) from None

    def changed_fields(
        self, model: str, suite: str, settings: Mapping[str, JSON]
    ) -> dict[str, tuple[JSON | None, JSON | None]]:
        """Field -> (before, now) where this run differs from the last of the same model and suite; remembers this one.

        Fields of fields are named with a dot: `engine.dtype`.
        """
        rows = self._run("SELECT fingerprint FROM runs WHERE model=? AND suite=?", model, suite)
        now = dict(_flat("", dict(settings)))
        before = now
        with contextlib.suppress(UsageError, IndexError):  # none before, or none that can be read
            before = dict(_flat("", strict_json.loads(rows[0][0], "")))
        self._run("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", model, suite, canonical(settings))
        if before.keys().isdisjoint(now):  # written by a version that named them otherwise
            return {}
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        return {key: (before.get(key), now.get(key)) for key in changed}

    def memory(self, fingerprint: str) -> Jobs:
        """Where an engine with this fingerprint digest writes down what goes on elsewhere."""
        return Jobs(self, self._db, fingerprint)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """One writer per run. Raises `LockHeld` while a live process, or one on another host, holds it."""
        run = f"{self.path.name}\n{name}"  # runs with stores of their own do not meet
        path = self.path.parent / "locks" / f"{hashlib.sha256(run.encode()).hexdigest()[:16]}.lock"
        with locked(path, name):
            yield

    def _run(self, statement: str, *values: str) -> list[Any]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as fault:
            raise _fault(self.path, fault) from None


class Jobs:
    """What goes on outside of our processes, such as a batch at a server: kept beside the replies it will bring."""

    def __init__(self, store: Store, db: sqlite3.Connection, fingerprint: str) -> None:
        self._store, self._db, self._fingerprint = store, db, fingerprint

    def key(self, request: Request) -> str:
        """The store key of a request."""
        return request_key(request, self._fingerprint)

    def unanswered(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys without a stored reply."""
        stored = self._store.get(keys)
        return [key for key in keys if key not in stored]

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Name -> job."""
        rows = self._run("SELECT name, job FROM jobs WHERE engine=?")
        return {name: strict_json.loads(job, f"{self._store.path}: job {name}") for name, job in rows}

    def keep(self, name: str, job: Mapping[str, JSON]) -> None:
        """Write down a job; it is on the disk when this returns, since what was paid for hangs on it."""
        self._run("PRAGMA synchronous=FULL", bound=False)
        self._run("INSERT OR REPLACE INTO jobs (engine, name, job) VALUES (?, ?, ?)", name, canonical(job))
        self._run("PRAGMA synchronous=NORMAL", bound=False)

    def drop(self, name: str) -> None:
        """Forget a job."""
        self._run("DELETE FROM jobs WHERE engine=? AND name=?", name)

    def _run(self, statement: str, *values: str, bound: bool = True) -> list[Any]:
        try:
            return self._db.execute(statement, (self._fingerprint, *values) if bound else ()).fetchall()
        except sqlite3.DatabaseError as fault:
            raise _fault(self._store.path, fault) from None


def _flat(name: str, value: JSON) -> Iterator[tuple[str, JSON]]:
    """Fields by their dotted names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}".lstrip("."), inner)
    else:
        yield name, value


def _network(path: Path) -> str:
    """The kind of network file system that a path lies on; empty for others, and where the system does not say."""
    found = ("", "")
    with contextlib.suppress(OSError):
        for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
            _, at, kind, *_ = (*line.split(" "), "", "", "")
            at = at.replace("\\040", " ")
            if len(at) >= len(found[0]) and path.resolve().is_relative_to(at):
                found = at, kind
    return found[1] if found[1].startswith(_NETWORK) else ""


def _to_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite does not wait for its turn at this, as it does at everything else."""
    until = time.monotonic() + 30
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as fault:
            if "locked" not in str(fault) or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


_BLANK = Reply()
_FINISHES = get_args(Finish)


def _written(reply: Reply) -> dict[str, Any]:
    """A reply as JSON: what every reply has, and the rest where it says something."""
    always = {"values", "reason", "n_tokens", "truncated"}
    blank = asdict(_BLANK)
    return {name: value for name, value in asdict(reply).items() if name in always or value != blank[name]}


_SEAL = ', "crc32": '
"""Stands in no JSON text but as what it is: quotes within a text are escaped."""


def _sealed(key: str, body: str) -> str:
    return f"{body[:-1]}{_SEAL}{zlib.crc32((key + body).encode())}}}"


def _unsealed(key: str, text: str) -> str:
    """The row without its checksum; ValueError where that is one of another key or content."""
    body, seal, said = text.rpartition(_SEAL)
    if seal and zlib.crc32(f"{key}{body}}}".encode()) != int(said[:-1]):
        raise ValueError
    return body + "}" if seal else text


_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("text", "finish", "served"), (str,)),
    **dict.fromkeys(("n_tokens", "n_written", "attempts"), (int,)),
    "truncated": (bool,),
    "reason": (str, type(None)),
    "floor": (float, type(None)),
    "values": (list,),
}


def _reply(raw: Any) -> Reply:
    """The reply of a row; for one that none of ours wrote, one of the plain exceptions."""
    if not isinstance(raw, dict) or any(type(value) not in _TYPES[name] for name, value in raw.items()):
        raise TypeError
    if raw.get("finish", "stop") not in _FINISHES:
        raise ValueError
    if raw.get("n_tokens", 0) < 0 or not {type(v) for row in raw["values"] for v in row} <= {int, float}:
        raise ValueError
    values = tuple(tuple(float(v) for v in row) for row in raw["values"])
    return replace(_BLANK, **{**raw, "values": values})


def _fault(path: Path, fault: Exception) -> Exception:
    text = str(fault)
    if "full" in text or "disk I/O" in text:
        return ResourceError(f"{path}: {text}. What was committed is intact: free space and run the same command again")
    if isinstance(fault, sqlite3.DatabaseError) and any(said in text for said in _DAMAGE):
        return _damaged(path, text)
    return UsageError(f"{path}: the reply store cannot be used: {text}. Name another with --store")


def _was_a_store(path: Path, start: bytes) -> bool:
    """Whether a file that does not start as SQLite's do looks like one of ours that was written over."""
    return (
        start[21:24] == _FRACTIONS
        or b"TABLE replies" in start
        or (len(start) == _PAGE and path.stat().st_size % _PAGE == 0)
    )


def _damaged(path: Path, what: str) -> UsageError:
    """A store that cannot be read is left as it is and copied; whoever owns it says what becomes of it."""
    try:
        kept = f"a copy is kept at {_copied(path)}"
    except OSError as fault:
        kept = f"it could not be copied ({fault.strerror or fault})"
    return UsageError(
        f"{path}: the reply store is damaged: {what}. It is left as it is, and {kept}. To go on, move it away and run "
        "the same command again, which asks for all replies anew, or name another with --store. What is in it may come "
        f"back with: sqlite3 {path} .recover"
    )


def _copied(path: Path) -> Path:
    """A copy of a store with its log, beside it: one a day of one file, however often it is met."""
    copy = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d')}-{path.stat().st_ino}")
    if not copy.exists():
        # the store last: it says that all is there
        for source, target in ((_log_of(path), _log_of(copy)), (path, copy)):
            if source.is_file():
                part = target.with_name(f"{target.name}.part")
                shutil.copyfile(source, part)
                part.replace(target)
    return copy


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
