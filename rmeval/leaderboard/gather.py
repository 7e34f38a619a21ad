"""All results and submissions that may stand on a board, as sheets: kept ones found again, new ones measured.

    gather(files, submissions, verified, shelf, jobs) -> Gathered

Every file is read and its digest taken, whether or not its sheet is known. A submission is verified by itself; those
that may have to do with each other (one model twice, names that differ in case, scores that follow each other) are
verified again side by side, so that verifying one does not take longer the more others there are.

What this module does not know: ranks, pages.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from rmeval import samples
from rmeval.errors import UsageError
from rmeval.leaderboard.intake import ahead_of_time
from rmeval.leaderboard.shape import Excluded
from rmeval.leaderboard.sheet import Measured, Sheet, Submitted, measured
from rmeval.leaderboard.shelf import Shelf
from rmeval.leaderboard.submission import FILE, MAX_BYTES, open_submission
from rmeval.leaderboard.verified import Verified, read_verified, said
from rmeval.leaderboard.verify import Verification, verify
from rmeval.progress import progress
from rmeval.results import MAX_BYTES as RESULT_BYTES
from rmeval.results import path_part

ALONE = 40
"""New results up to which no further processes are started."""
_ALIKE = 1 - 1e-5
"""Correlation above which the scores of two submissions are compared in full; `verify` draws its line further up."""


@dataclass(frozen=True, slots=True)
class Held:
    """An entry's sheet and where its files lie."""

    sheet: Sheet
    path: Path
    flags: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    """What scoring it again gave, where a maintainer did and every score was found."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that was found."""

    best: dict[str, list[Held]]
    """By suite, the newest complete result of each model, by name."""
    left_out: list[Excluded]
    """Everything else, and why."""
    sheets: dict[str, list[Sheet]]
    """By suite, all that was measured."""


def gather(
    files: Sequence[Path], submissions: Path | None, verified: Path | None, shelf: Shelf, jobs: int = 1
) -> Gathered:
    """What may stand on a board, and what may not. Raises `UsageError` for a faulty `verified`."""
    known = read_verified(verified, submissions)
    there = submissions.rglob(FILE) if submissions is not None and submissions.is_dir() else ()
    folders = sorted(one.parent for one in there if not one.parent.name.startswith("."))  # those are being written
    strange = [f for f in folders if submissions is not None and len(f.relative_to(submissions).parts) != 2]
    misplaced = [Excluded(f.name, "", "", "rejected: name: not in a folder <model>/<suite>") for f in strange]
    work = [*(_Work(file) for file in files), *(_Work(f, submitted=True) for f in folders if f not in set(strange))]
    found, left_out = _sheets(work, shelf, jobs)
    own = [Held(sheet, path) for one, sheet, path in found if not one.submitted]
    sent, refused = _side_by_side([(one.path, Held(sheet, path)) for one, sheet, path in found if one.submitted])
    sent = [_audited(held, known) for held in sent]
    best, older = _newest(own, sent)
    sheets: dict[str, list[Sheet]] = defaultdict(list)
    for _, sheet, _ in found:
        sheets[sheet.suite].append(sheet)
    return Gathered(best, [*misplaced, *left_out, *refused, *older], dict(sheets))


@dataclass(frozen=True, slots=True)
class _Work:
    """A result file, or the folder of a submission."""

    path: Path
    submitted: bool = False


def _sheets(work: Sequence[_Work], shelf: Shelf, jobs: int) -> tuple[list[tuple[_Work, Sheet, Path]], list[Excluded]]:
    """(what could be measured, or was; the rest and why)."""
    done: dict[_Work, tuple[Sheet, Path]] = {}
    new = []
    for one in work:
        if found := _kept(one, shelf):
            done[one] = found
        else:
            new.append(one)
    left_out = []
    with progress("measuring results", len(new)) as shown:
        for one, made in zip(new, _all_measured(new, jobs), strict=True):
            shown.advance(1)
            if isinstance(made, Excluded):
                left_out.append(made)
            else:
                path, held = made
                done[one] = shelf.add(held), path
    return [(one, *done[one]) for one in work if one in done], left_out


def _all_measured(new: Sequence[_Work], jobs: int) -> Iterable[tuple[Path, Measured] | Excluded]:
    if jobs < 2 or len(new) < ALONE:
        return map(_measure, new)
    return _beside(new, jobs)


def _beside(new: Sequence[_Work], jobs: int) -> Iterable[tuple[Path, Measured] | Excluded]:
    # not forked: threads of a library may hold locks
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_measure, new, chunksize=8)


def _measure(one: _Work) -> tuple[Path, Measured] | Excluded:
    """A result, or a submission that is verified first; why it is left out where it cannot stand."""
    if not one.submitted:
        try:
            return one.path, measured(one.path)
        except UsageError as fault:
            return Excluded(one.path.name, "", "", str(fault).replace(str(one.path.parent), "…"))
    content = folder_digest(one.path)
    checked = verify(one.path)
    if refused := _refused(one.path, checked):
        return refused
    opened = open_submission(one.path)
    assert opened.submission is not None
    sent = Submitted(content, opened.submission.declared, checked.flags)
    return opened.view.path, measured(opened.view.path, sent)


def _refused(folder: Path, checked: Verification) -> Excluded | None:
    if checked.accepted:
        return None
    first = checked.faults[0]
    why = f"rejected: {first.code}: {first.message}".replace(str(folder), "…")
    return Excluded(folder.name, checked.model, checked.suite, why)


# --- what is kept ----------------------------------------------------------------------------------------------------


def _kept(one: _Work, shelf: Shelf) -> tuple[Sheet, Path] | None:
    """The kept sheet of exactly these files."""
    folder = folder_digest(one.path) if one.submitted else ""
    results = [p for p in one.path.glob("*.json") if p.name != FILE] if one.submitted and folder else [one.path]
    with contextlib.suppress(OSError):
        for path in results:
            if path.stat().st_size > RESULT_BYTES:
                continue
            for sheet in shelf.find(hashlib.sha256(path.read_bytes()).hexdigest()):
                beside = path.parent / sheet.samples_file
                same = (sheet.sent.folder if sheet.sent else "") == folder
                if same and (one.submitted or _sha256(beside) == sheet.samples):
                    return sheet, path
    return None


def folder_digest(folder: Path) -> str:
    """Over names and contents of a submission's files; empty for a folder that holds anything but a few plain files."""
    running = hashlib.sha256()
    try:
        there = sorted(folder.iterdir())
        facts = [one.lstat() for one in there]
        plain = all(stat.S_ISREG(f.st_mode) and f.st_nlink == 1 for f in facts) and not folder.is_symlink()
        if not plain or sum(f.st_size for f in facts) > MAX_BYTES:
            return ""
        for one in there:
            running.update(f"{one.name}\n{hashlib.sha256(one.read_bytes()).hexdigest()}\n".encode())
    except (OSError, UnicodeEncodeError):
        return ""
    return running.hexdigest()


def _sha256(file: Path) -> str:
    if file.stat().st_size > samples.MAX_BYTES:
        return ""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


# --- submissions beside each other -----------------------------------------------------------------------------------


def _side_by_side(found: Sequence[tuple[Path, Held]]) -> tuple[list[Held], list[Excluded]]:
    """Submissions with what they say of each other; those that cannot stand beside the others, and why."""
    beside: dict[int, set[int]] = defaultdict(set)
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, (_, held) in enumerate(found):
        groups["name", path_part(held.sheet.model).lower()].append(i)
        groups["suite", held.sheet.suite].append(i)
    for (kind, _), members in groups.items():
        if kind == "name":
            # an entry per suite is what a model has; twice on one, or another spelling, is looked at
            one_each = len({found[i][1].sheet.suite for i in members}) == len(members)
            if one_each and len({found[i][1].sheet.model for i in members}) == 1:
                continue
            for i in members:
                beside[i] |= set(members) - {i}
        else:
            for i, j in _alike([found[i][1].sheet for i in members]):
                beside[members[i]].add(members[j])
                beside[members[j]].add(members[i])
    accepted, refused = [], []
    for i, (folder, held) in enumerate(found):
        flags = held.sheet.sent.flags if held.sheet.sent else ()
        if beside[i]:
            checked = verify(folder, [open_submission(found[j][0]).view for j in sorted(beside[i])])
            if fault := _refused(folder, checked):
                refused.append(fault)
                continue
            flags = checked.flags
        accepted.append(replace(held, flags=flags))
    return accepted, refused


def _alike(sheets: Sequence[Sheet]) -> list[tuple[int, int]]:
    """Pairs of one suite whose scores are nearly the same up to scale and shift, or not about the same candidates."""
    about: dict[str, list[int]] = defaultdict(list)
    for i, sheet in enumerate(sheets):
        if sheet.scored and float(np.nanstd(sheet.scores)) > 0:
            about[sheet.scored].append(i)
    usual = max(about.values(), key=len, default=[])
    found = [(i, j) for members in about.values() if members is not usual for i in members for j in usual]
    for members in about.values():
        found += [(members[a], members[b]) for a, b in follows(np.stack([sheets[i].scores for i in members]))]
    return found


def follows(scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> list[tuple[int, int]]:
    """Pairs of rows that correlate almost perfectly where both have a score: [K, n], each row of mean 0 and sd 1.

    >>> up, down = [-1.2247449, 0, 1.2247449], [1.2247449, 0, -1.2247449]
    >>> follows(np.array([up, up, down, [np.nan, -1, 1]], dtype=np.float32))
    [(0, 1), (0, 3), (1, 3)]
    """
    there = np.isfinite(scores)
    x = np.where(there, scores, 0.0).astype(np.float64)
    known = there.astype(np.float64)
    holes = np.flatnonzero(~there.all(axis=1))
    n = float(scores.shape[1])
    close = x @ x.T >= _ALIKE * n
    # where one lacks a score, over the scores that both have
    if holes.size:
        counts = known[holes] @ known.T
        a, b = x[holes] @ known.T, known[holes] @ x.T
        aa, bb = (x[holes] ** 2) @ known.T, known[holes] @ (x**2).T
        with np.errstate(divide="ignore", invalid="ignore"):
            shared = x[holes] @ x.T - a * b / counts
            rho = shared / np.sqrt((aa - a * a / counts) * (bb - b * b / counts))
        close[holes] = np.nan_to_num(rho, nan=0.0) >= _ALIKE
        close[:, holes] = close[holes].T
    rows, columns = np.nonzero(np.triu(close, 1))
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _audited(held: Held, known: Sequence[Verified]) -> Held:
    """With what maintainers recorded of exactly these files."""
    mine = (held.sheet.result, held.sheet.samples)
    audits = [one for one in known if (one.result_sha256, one.samples_sha256) == mine]
    failed = tuple(said(audit) for audit in audits if not audit.agrees)
    again = () if failed else tuple(said(audit) for audit in audits)
    return replace(held, flags=(*held.flags, *failed), again=again)


# --- the newest of each model ----------------------------------------------------------------------------------------


def _newest(own: Sequence[Held], sent: Sequence[Held]) -> tuple[dict[str, list[Held]], list[Excluded]]:
    latest: dict[tuple[str, str], Held] = {}
    places: dict[str, str] = {}
    left_out = []
    for held in (*own, *sent):
        sheet = held.sheet
        # what is yet to come is looked at each time: a day later it may be fit
        if why := sheet.unfit or ahead_of_time(sheet.created):
            left_out.append(excluded(held, why))
            continue
        # the name of a file is its sender's choice
        if sheet.entry and (other := places.setdefault(sheet.entry.file, sheet.model)) != sheet.model:
            left_out.append(excluded(held, f"its page and files would lie where those of {other} lie"))
            continue
        key = sheet.suite, sheet.model
        if (before := latest.get(key)) is not None:
            # of a result and its own submission, the one that was verified in full
            older, held = sorted(  # noqa: PLW2901
                (before, held), key=lambda h: (h.sheet.created, h.sheet.sent is not None, h.path.name)
            )
            if (older.sheet.id, older.sheet.created) != (held.sheet.id, held.sheet.created):
                left_out.append(excluded(older, "an older result; the newest one is shown"))
        latest[key] = held
    best: dict[str, list[Held]] = defaultdict(list)
    for (suite, _), held in sorted(latest.items()):
        if held.sheet.wrong:
            left_out.append(excluded(held, held.sheet.wrong))
        else:
            best[suite].append(held)
    return dict(best), left_out


def excluded(held: Held, why: str) -> Excluded:
    """A result that is left out."""
    return Excluded(held.path.name, held.sheet.model, held.sheet.suite, why)


def processes() -> int:
    """How many processes measure results where nobody says."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
