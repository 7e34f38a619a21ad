"""A submission: a result with its samples, and what its sender declares about it.

    <submissions>/<model>/<suite>/submission.json       what is declared, and the digest of the result file
                                  <run>.json            the result as it was written, but for paths of its sender's
                                                        machine in the command line
                                  <run>-samples.jsonl.gz

No name from inside a file is ever used as a path: folders are made of safe parts, archives and links are refused.

What this module does not know: whether a result is true; see `rmeval.leaderboard.verify`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import stat
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rmeval import results, strict_json
from rmeval.environment import package_version
from rmeval.errors import UsageError
from rmeval.records import Digest, Record, parse
from rmeval.results import ResultView
from rmeval.suites import load_suite
from rmeval.whole_files import draft_folder

SCHEMA = 1
FILE = "submission.json"
MOST_FILES = 3
MAX_BYTES = 64 * 2**20
"""Of a submission's folder."""
MOST_ROWS = 2_000_000
"""Samples of a submission on a suite that does not say how many it has, and twice what is said of any."""

Line = Annotated[str, Field(max_length=500)]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/@:,+-]{0,127}")
_PLACE = re.compile(r"[/~\\]|[A-Za-z]:[/\\]|\.\.[/\\]|file:")
_SEPARATOR = re.compile(r"[/\\]")
_RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


class Declared(Record):
    """What the sender says; none of it is checked by rmeval."""

    by: Line = ""
    """Who sends it."""
    contact: Line = ""
    """How to reach them: an address, or an account."""
    party: Literal["first", "third"] = "third"
    """`first`: by the makers of the model."""
    licence: Line = ""
    """Of the model."""
    training_data: tuple[Line, ...] = ()
    """Data sets that it was trained on, by hub id."""
    contaminated: bool | None = None
    """Whether it has seen this suite's prompts or labels; None where nobody can say."""
    notes: Annotated[str, Field(max_length=4000)] = ""


class Submission(Record):
    """`submission.json`."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    created: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")
    rmeval: Line
    """The version that made it."""
    result: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}\.json$")
    """The result file beside this one."""
    result_sha256: Digest
    declared: Declared = Declared()


@dataclass(frozen=True, slots=True)
class Opened:
    """A submission with its result."""

    folder: Path
    submission: Submission | None
    """None for a bare result file."""
    view: ResultView


def open_submission(path: Path) -> Opened:
    """The submission in a folder, or a bare result file. Raises `UsageError` for what is neither, or unsafe."""
    if path.is_symlink():
        raise UsageError(f"{path}: a link; submissions are plain files")
    if path.is_file() and path.name != FILE:
        if path.suffix != ".json":
            raise UsageError(f"{path}: not a result file; archives are not accepted, send the files themselves")
        return Opened(path.parent, None, _loaded(path))
    folder = path.parent if path.name == FILE else path
    if not folder.is_dir():
        raise UsageError(f"{path}: no such submission")
    _refuse_unsafe(folder)
    held = parse(Submission, strict_json.read(folder / FILE), str(folder / FILE))
    result = folder / held.result
    if not result.is_file():
        raise UsageError(f"{folder}: the result file {held.result} is missing")
    digest = hashlib.sha256(result.read_bytes()).hexdigest()
    if digest != held.result_sha256:
        raise UsageError(f"{result}: altered: its sha256 is not the one that {FILE} states")
    return Opened(folder, held, _loaded(result))


def _loaded(path: Path) -> ResultView:
    """A result with its samples, unless they are many more than its suite has: packed, millions take little room."""
    held = results.read(path)
    most = MOST_ROWS
    with contextlib.suppress(UsageError):  # an unknown suite is told by whoever verifies
        most = 2 * sum(load_suite(held.suite.name).card.expected.values()) or most
    if held.samples.rows > most:
        raise UsageError(f"{path}: states {held.samples.rows:,} samples, where {held.suite.name} has {most // 2:,}")
    return ResultView(path, held, results.judgements(held, path))


def _refuse_unsafe(folder: Path) -> None:
    """Links, devices, further folders, too many or too large files."""
    there = sorted(folder.iterdir())
    if FILE not in {one.name for one in there}:
        raise UsageError(f"{folder}: no {FILE} in it; `rmeval submit RESULT` makes one")
    total = 0
    for one in there:
        found = one.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{one}: not a plain file; a submission has no links and no folders")
        if found.st_nlink > 1:
            raise UsageError(f"{one}: a hard link; a submission holds files of its own")
        total += found.st_size
    if len(there) > MOST_FILES:
        raise UsageError(
            f"{folder}: {len(there)} files, where a submission has {MOST_FILES}: {', '.join(p.name for p in there)}"
        )
    if total > MAX_BYTES:
        raise UsageError(f"{folder}: {total >> 20} MiB, more than the {MAX_BYTES >> 20} that a submission may have")


def name_fault(name: str) -> str:
    """Why a model may not be called this on a board; empty where it may.

    >>> name_fault("acme/rm-7b"), bool(name_fault("../../x")), bool(name_fault("CON"))
    ('', True, True)
    """
    if name != unicodedata.normalize("NFC", name) or not _NAME.fullmatch(name):
        return "letters, digits and . _ / @ : , + - (at most 128, the first a letter or digit) make a name"
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "a name has no empty parts and no `..`"
    if "  " in name or any(part != part.strip(" ") or part.endswith(".") for part in parts):
        return "a name has single blanks, inside its parts, and no part ends with a full stop: else two look like one"
    if any(_RESERVED.match(part) for part in parts):
        return "the name is reserved on some systems"
    return ""


def folder_of(view: ResultView, submissions: Path) -> Path:
    """Where the submission of a result belongs."""
    held = view.result
    return submissions / results.path_part(held.model.name) / results.path_part(held.suite.name)


def as_sent(view: ResultView) -> bytes:
    """The content of a result file without the paths of this machine that its command line may hold."""
    there = view.path.read_bytes()
    command = list(view.result.environment.command)
    sent = [without_places(argument) for argument in command]
    if sent == command:
        return there
    content = json.loads(there)  # and not the record of it, which may be of a later schema
    content["environment"]["command"] = sent
    return f"{json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)}\n".encode()


def without_places(argument: str) -> str:
    """An argument of a command line with the last part alone of a path that only one machine has.

    >>> without_places("/home/me/models/rm"), without_places("engine.key=~/key"), without_places("data/llmbar")
    ('rm', 'engine.key=key', 'data/llmbar')
    """
    name, equals, value = argument.rpartition("=")
    if not _PLACE.match(value):
        return argument
    return f"{name}{equals}{_SEPARATOR.split(value.rstrip('/'))[-1]}"


def write_submission(
    view: ResultView, submissions: Path, declared: Declared, *, created: datetime | None = None
) -> Path:
    """Write result, samples and declaration; returns the folder.

    Raises `UsageError` where another result of this model on this suite is there, also one that came in this moment:
    the newest is not always the better one, so the old one is removed by hand.
    """
    if why := name_fault(view.result.model.name):
        raise UsageError(f"model {view.result.model.name!r}: {why}. Run it again under such a name")
    folder = folder_of(view, submissions)
    mine = as_sent(view)
    there = open_submission(folder).view.path if (folder / FILE).is_file() else None
    # by its bytes: the same run made twice has one id and two files, and only the first lies here
    again = there is not None and there.read_bytes() == mine
    if there is not None and not again:
        raise UsageError(_taken(folder, view))
    samples = view.path.parent / view.result.samples.file
    made = Submission(
        created=f"{created or datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        rmeval=package_version(),
        result=there.name if there is not None else view.path.name,
        result_sha256=hashlib.sha256(mine).hexdigest(),
        declared=declared,
    )
    text = json.dumps(made.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False, allow_nan=False)
    content = f"{text}\n".encode()
    if again:
        results.write_whole(folder / FILE, content)
        return folder
    # made whole beside its place and then moved there, which only one of two senders can do
    with draft_folder(folder.parent) as draft:
        results.write_whole(draft / samples.name, samples.read_bytes())
        results.write_whole(draft / view.path.name, mine)
        results.write_whole(draft / FILE, content)
        try:
            draft.rename(folder)
        except OSError:
            raise UsageError(_taken(folder, view)) from None
    return folder


def _taken(folder: Path, view: ResultView) -> str:
    if not (folder / FILE).is_file():
        return f"{folder}: is there already and holds no submission; remove it first"
    return (
        f"{folder}: holds another result of {view.result.model.name} on {view.result.suite.name}; remove it first if "
        "this one is to stand instead"
    )
