"""What maintainers found when they scored submissions again: `verified.jsonl`, one line per audit.

It lies beside the submissions and never among them: who sends a submission cannot write it, so no submission can call
itself reproduced. A line holds the digests of the files that were audited; a submission that changes afterwards, by one
byte, is no longer what was reproduced. Who looked, and when, is in the version control of the file.

What this module does not know: how examples are scored again, what a board shows.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rmeval import strict_json
from rmeval.environment import package_version
from rmeval.errors import UsageError
from rmeval.leaderboard.audit import TOLERANCE, Audit
from rmeval.records import Count, Digest, Name, Record, parse
from rmeval.results import ResultView
from rmeval.whole_files import writing_to

FILE = "verified.jsonl"
LEAST = 60
"""Examples, or all where there are fewer, that an audit must have scored again to be recorded: it then finds a made-up
share of 5 % with probability .95."""


class Verified(Record):
    """One audit of one submission: a line of `verified.jsonl`."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    model: Name
    suite: Name
    result_sha256: Digest
    """Of the result file."""
    samples_sha256: Digest
    """Of its samples file."""
    examples: Annotated[int, Field(ge=1)]
    """How many were scored again."""
    seed: int
    """What drew them."""
    compared: Count
    """Scores, or readings of a judge."""
    largest: float | None
    """Largest absolute difference of a score; null where nothing has numbers."""
    tolerance: float
    beyond: Count
    """How many differed by more."""
    differs: tuple[str, ...] = ()
    """Fields of the engine's fingerprint that were not those of the result."""
    agrees: bool
    rmeval: str
    """The version that looked."""


def refuse_few(view: ResultView, k: int) -> None:
    """Raise `UsageError` where so few examples are scored again that a record of it would say nothing."""
    needed = min(LEAST, len(view.judgements))
    if k < needed:
        raise UsageError(
            f"--record: {k} examples scored again prove little; --reproduce {needed} is the least recorded"
        )


def record(file: Path, view: ResultView, found: Audit) -> Verified:
    """Add an audit to the file; one write, so that two maintainers at once lose no line."""
    held = view.result
    made = Verified(
        model=held.model.name,
        suite=held.suite.name,
        result_sha256=hashlib.sha256(view.path.read_bytes()).hexdigest(),
        samples_sha256=held.samples.sha256,
        examples=found.examples,
        seed=found.seed,
        compared=found.candidates,
        largest=None if found.largest != found.largest else found.largest,
        tolerance=TOLERANCE,
        beyond=found.beyond,
        differs=found.differs,
        agrees=found.agrees,
        rmeval=package_version(),
    )
    line = json.dumps(made.model_dump(mode="json", by_alias=True), ensure_ascii=False, allow_nan=False)
    with writing_to(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "wb", buffering=0) as handle:
            whole, wanted = os.fstat(descriptor).st_size, f"{line}\n".encode()
            if handle.write(wanted) < len(wanted):  # a disk that is full takes what it can
                os.ftruncate(descriptor, whole)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return made


def read_verified(file: Path | None, submissions: Path | None) -> tuple[Verified, ...]:
    """All lines of the file; none where there is no file.

    Raises `UsageError` for a faulty line, and for a file among the submissions, which their senders could have written.
    """
    if file is None or not file.is_file():
        return ()
    if submissions is not None and submissions.resolve() in file.resolve().parents:
        raise UsageError(f"{file}: lies among the submissions, where their senders write; keep it outside")
    return tuple(parse(Verified, value, f"{file}:{number}") for number, value in strict_json.read_lines(file))


def audits_of(view: ResultView, known: Sequence[Verified]) -> tuple[Verified, ...]:
    """The audits of exactly this result and these samples."""
    mine = hashlib.sha256(view.path.read_bytes()).hexdigest()
    return tuple(one for one in known if (one.result_sha256, one.samples_sha256) == (mine, view.result.samples.sha256))


def said(one: Verified) -> str:
    """An audit as a sentence."""
    largest = "" if one.largest is None else f", largest difference {one.largest:.3g}"
    other = f"; the fingerprint differed in {', '.join(one.differs)}" if one.differs else ""
    if one.agrees:
        return f"{one.examples} random examples scored again{largest}{other}"
    beyond = f"{one.beyond} of {one.compared} scores of {one.examples} random examples"
    return f"not reproduced: {beyond} differ{largest}{other}"
