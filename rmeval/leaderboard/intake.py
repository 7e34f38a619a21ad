"""Which results may stand on a board: one's own from files and folders, those of others as verified submissions.

What this module does not know: ranks, how an entry is shown.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rmeval import results
from rmeval.errors import UsageError
from rmeval.leaderboard.shape import Excluded
from rmeval.leaderboard.submission import FILE, Declared, open_submission
from rmeval.leaderboard.verified import audits_of, read_verified, said
from rmeval.leaderboard.verify import verify
from rmeval.results import ResultView
from rmeval.suites import load_suite


@dataclass(frozen=True, slots=True)
class Sent:
    """What a submission adds to its result."""

    declared: Declared
    flags: tuple[str, ...]
    again: tuple[str, ...] = ()
    """What scoring it again gave, where a maintainer did and every score was found; a failure is a flag."""


def neighbours(submissions: Path, suite: str, but: Path | None = None) -> list[ResultView]:
    """The results submitted on a suite, which a new one may be copied from; those of other suites stay unread.

    Faulty ones are left out: they are told when they are verified themselves.
    """
    found = []
    # by their folders: where a submission lies elsewhere, it is that one which is rejected
    for one in sorted(submissions.glob(f"*/{results.path_part(suite)}/{FILE}")):
        if one.parent != but:
            with contextlib.suppress(UsageError):
                found.append(open_submission(one.parent).view)
    return found


def result_files(paths: Iterable[Path]) -> list[Path]:
    """The paths that are files, and all JSON files below those that are folders. Raises `UsageError` for neither."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found.update(dict.fromkeys(sorted(p for p in path.rglob("*.json") if not p.name.startswith("."))))
        elif path.is_file():
            found[path] = None
        else:
            raise UsageError(f"{path}: no such result file or folder")
    return list(found)


def submitted(
    folder: Path | None, verified: Path | None = None
) -> tuple[list[tuple[ResultView, Sent]], list[Excluded]]:
    """(submissions that were verified, those that were rejected and why). `verified`: what maintainers recorded."""
    known = read_verified(verified, folder)
    there = folder.rglob(FILE) if folder is not None and folder.is_dir() else ()
    found = sorted(one.parent for one in there if not one.parent.name.startswith("."))  # those are being written
    opened, accepted, rejected = {}, [], []
    for one in found:
        with contextlib.suppress(UsageError):  # told when it is verified
            opened[one] = open_submission(one)
    others = [held.view for held in opened.values()]
    for one in found:
        if folder is not None and len(one.relative_to(folder).parts) != 2:
            rejected.append(Excluded(one.name, "", "", "rejected: name: not in a folder <model>/<suite>"))
            continue
        checked = verify(one, others)
        if not checked.accepted:
            first = checked.faults[0]
            why = f"rejected: {first.code}: {first.message}".replace(str(one), "…")
            rejected.append(Excluded(one.name, checked.model, checked.suite, why))
        elif (submission := opened[one].submission) is not None:
            view = opened[one].view
            audits = audits_of(view, known)
            failed = tuple(said(audit) for audit in audits if not audit.agrees)
            again = () if failed else tuple(said(audit) for audit in audits)
            accepted.append((view, Sent(submission.declared, (*checked.flags, *failed), again)))
    return accepted, rejected


def newest(files: Iterable[Path], verified: Sequence[ResultView]) -> tuple[dict[str, list[ResultView]], list[Excluded]]:
    """(suite -> newest complete result of each model, everything else and why)."""
    latest: dict[tuple[str, str], ResultView] = {}
    left_out = []
    loaded: list[ResultView] = []
    for file in files:
        try:
            loaded.append(results.load_result(file))
        except UsageError as fault:
            left_out.append(Excluded(file.name, "", "", str(fault).replace(str(file.parent), "…")))
    sent = {view.path for view in verified}
    for view in (*loaded, *verified):
        if why := _unfit(view):
            left_out.append(excluded(view, why))
            continue
        key = view.result.suite.name, view.result.model.name
        other = latest.get(key)
        if other is not None:
            # of a result and its own submission, the one that was verified in full
            older, view = sorted((other, view), key=lambda v: (v.result.created, v.path in sent, v.path.name))  # noqa: PLW2901
            same = older.result.id == view.result.id and older.result.created == view.result.created
            if not same:
                left_out.append(excluded(older, "an older result; the newest one is shown"))
        latest[key] = view
    views: dict[str, list[ResultView]] = defaultdict(list)
    for (suite, _), view in sorted(latest.items()):
        views[suite].append(view)
    return views, left_out


def _unfit(view: ResultView) -> str:
    """Why a result may not stand on a board; empty where it may."""
    result = view.result
    if result.withheld:
        return f"its aggregates are withheld: {result.withheld}"
    if result.suite.limit is not None:
        return f"a limited run: {result.suite.examples} examples"
    if not result.complete:
        return "; ".join(("incomplete", *result.notes))
    if result.metric_options:
        options = ", ".join(f"{key} = {value}" for key, value in sorted(result.metric_options.items()))
        return f"not the official definition: {options}"
    try:
        card = load_suite(result.suite.name).card
    except UsageError as fault:
        return str(fault)
    if card.version != result.suite.version:
        return f"of version {result.suite.version} of the suite; the card has version {card.version}"
    if card.labels_sha256 and result.suite.data.labels_sha256 != card.labels_sha256:
        return "its labels are not those of the card (labels_sha256 differs)"
    return ""


def excluded(view: ResultView, why: str) -> Excluded:
    """A result that is left out."""
    return Excluded(view.path.name, view.result.model.name, view.result.suite.name, why)
