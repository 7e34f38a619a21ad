"""Which files a board reads, and which results may stand on it at all.

What this module does not know: ranks, how an entry is shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rmeval import results
from rmeval.errors import UsageError
from rmeval.leaderboard.submission import FILE, open_submission
from rmeval.results import ResultView
from rmeval.suites import load_suite

PART = "one part of a run that was shared out; `rmeval merge` makes the whole of its parts"


def result_files(paths: Iterable[Path]) -> list[Path]:
    """The paths that are files, and all JSON files below those that are folders, without what senders declare.

    Raises `UsageError` for a path that is neither.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            there = (p for p in path.rglob("*.json") if not p.name.startswith(".") and p.name != FILE and p.is_file())
            found.update(dict.fromkeys(sorted(there)))
        elif path.is_file():
            found[path] = None
        else:
            raise UsageError(f"{path}: no such result file or folder")
    return list(found)


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


def ahead_of_time(created: str, now: datetime | None = None) -> str:
    """Why a time at which something says it was made cannot be; empty where it can. Clocks may be a day apart.

    The newest result of a model stands for it, so one of the year 2099 would stand for ever.
    """
    try:
        made = datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return f"{created} is no time"
    return f"made at {created}, which is yet to come" if made > (now or datetime.now(UTC)) + timedelta(days=1) else ""


def unfit(view: ResultView) -> str:
    """Why a result may not stand on a board; empty where it may."""
    result = view.result
    if result.withheld:
        return f"its aggregates are withheld: {result.withheld}"
    if result.suite.limit is not None:
        return f"a limited run: {result.suite.examples} examples"
    if result.shard is not None:
        return PART
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
