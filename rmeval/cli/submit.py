"""`rmeval submit` and `rmeval verify`.

What this module does not know: what makes a submission sound.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmeval.cli import output
from rmeval.cli.run import Arguments, AsJson

if TYPE_CHECKING:
    from rmeval.leaderboard.verify import Verification
    from rmeval.results import ResultView

Submissions = Annotated[Path, typer.Option("--submissions", help="Folder of the submissions.")]
_DEFAULT = Path("leaderboard/submissions")
_SHOWN = 8
"""Faults of one submission that are printed."""


def submit(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A complete result file.")],
    by: Annotated[str, typer.Option(help="Who sends it.")] = "",
    contact: Annotated[str, typer.Option(help="How to reach you.")] = "",
    first_party: Annotated[bool, typer.Option("--first-party", help="Sent by the makers of the model.")] = False,
    licence: Annotated[str, typer.Option(help="Licence of the model.")] = "",
    training_data: Annotated[
        list[str] | None, typer.Option(help="A data set it was trained on; repeat for more.")
    ] = None,
    contaminated: Annotated[
        bool | None,
        typer.Option("--contaminated/--clean", help="Whether it has seen this suite, where that is known."),
    ] = None,
    notes: Annotated[str, typer.Option(help="Anything a reader should know.")] = "",
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="Commit it to a branch, push it, and open a pull request with `gh`.")
    ] = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Send it as a pull request to this data set on the hub."),
    ] = None,
    submissions: Submissions = _DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Check a result, write it as a submission with what you declare, and print the git steps.

    Sends nothing unless --pull-request or --push-to-hub asks for it.
    """
    from rmeval.errors import UsageError
    from rmeval.leaderboard import send
    from rmeval.leaderboard.intake import neighbours
    from rmeval.leaderboard.submission import Declared, write_submission
    from rmeval.leaderboard.verify import verify
    from rmeval.results import load_result

    if pull_request:
        send.need_gh()
    view = load_result(result)
    first = verify(result, neighbours(submissions, view.result.suite.name))
    if not first.accepted:
        raise UsageError(_rejection(first))
    held = view.result.model
    folder = write_submission(
        view,
        submissions,
        Declared(
            by=by,
            contact=contact,
            party="first" if first_party else "third",
            licence=licence or held.licence,
            training_data=tuple(training_data or held.training_data),
            contaminated=contaminated,
            notes=notes,
        ),
    )
    found = verify(folder, neighbours(submissions, view.result.suite.name, but=folder))
    sent = send.letter(folder, view, found.level)
    if not as_json:
        _print(found)
        output.line(f"written: {folder}")
    addresses = {}
    if push_to_hub is not None:
        addresses["hub"] = send.push_to_hub(sent, push_to_hub)
    if pull_request:
        addresses["pull_request"] = send.open_pull_request(sent)
    if as_json:
        output.json_document({"folder": str(folder), **_document(found), **addresses})
        return
    for address in addresses.values():
        output.line(f"opened: {address}")
    if pull_request:
        return
    output.line("to send it:")
    for step in send.spelled(send.git_steps(sent)):
        output.line(f"  {step}")
    gh = "; or, since `gh` is here: the same command with --pull-request" if send.has_gh() else ""
    output.line(f"and open a pull request, which the repository verifies again with its own code{gh}")


def verify(
    path: Annotated[list[Path], typer.Argument(metavar="PATH", help="Submissions, folders of them, or result files.")],
    reproduce: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Score K random examples again with the model.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Where the model lies, if its name does not say.")] = None,
    scorer: Annotated[str | None, typer.Option(help="Kind of scorer, where it cannot be detected.")] = None,
    data: Annotated[Path | None, typer.Option(help="Read a suite's rows from a local file or folder.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Draws the examples to score again; default: one that nobody can foretell.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Add what scoring again gave to leaderboard/verified.jsonl, which gives the level on the board.",
        ),
    ] = None,
    arg: Arguments = None,
    submissions: Submissions = _DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Recompute every number of a submission from its samples: no model, no texts, no network. Exit 2 if one is off."""
    from rmeval import arguments
    from rmeval.errors import CheckFailed, UsageError
    from rmeval.leaderboard import verified
    from rmeval.leaderboard.audit import audit, audit_says
    from rmeval.leaderboard.intake import neighbours
    from rmeval.leaderboard.submission import open_submission
    from rmeval.leaderboard.verify import reproduced
    from rmeval.leaderboard.verify import verify as check
    from rmeval.progress import note

    if record is not None and reproduce is None:
        raise UsageError("--record: there is nothing to record without --reproduce K")
    given = arguments.parse(arg or [])
    everything = [one for p in path for one in _submissions(p)]
    known: dict[str, list[ResultView]] = {"": []}
    found, failed = [], []
    for one in everything:
        suite = _suite_of(one)
        if suite not in known:
            known[suite] = neighbours(submissions, suite)
        seen = check(one, known[suite])
        if seen.accepted and reproduce is not None:
            view = open_submission(one).view
            if record is not None:
                verified.refuse_few(view, reproduce)
            again = audit(view, reproduce, model=model, data=data, seed=seed, given=given, scorer=scorer)
            seen = reproduced(seen, again.agrees, f"{audit_says(again)} (--seed {again.seed})")
            if record is not None:
                verified.record(record, view, again)
                note(f"recorded in {record}")
            failed += [] if again.agrees else [seen.model]
        found.append(seen)
    if as_json:
        documents = [_document(one) for one in found]
        output.json_document(documents[0] if len(documents) == 1 else documents)
    else:
        for each in found:
            _print(each)
    rejected = [one for one in found if not one.accepted]
    if rejected:
        raise UsageError("\n".join(_rejection(one) for one in rejected))
    if failed:
        raise CheckFailed(f"scores of {', '.join(failed)} could not be reproduced")


def _submissions(path: Path) -> list[Path]:
    """Every submission below a folder, every result file where there is none, or the path itself."""
    from rmeval.leaderboard.submission import FILE

    if path.is_dir() and not (path / FILE).exists():
        found = sorted(one.parent for one in path.rglob(FILE)) or sorted(path.rglob("*.json"))
        if found:
            return found
    return [path]


def _suite_of(path: Path) -> str:
    """The suite of a submission or result file; empty where neither can be read, which verifying it tells."""
    from rmeval.errors import UsageError
    from rmeval.leaderboard.submission import open_submission

    try:
        return open_submission(path).view.result.suite.name
    except UsageError:
        return ""


def _document(found: Verification) -> dict[str, Any]:
    return {**asdict(found), "path": str(found.path)}


def _print(found: Verification) -> None:
    what = f"{found.model} on {found.suite}" if found.model else str(found.path)
    output.line(f"{what}: {found.level}" + (f" ({found.checked} metrics)" if found.checked else ""))
    for fault in found.faults[:_SHOWN]:
        output.line(f"  {fault.code}: {fault.message}")
    if len(found.faults) > _SHOWN:
        output.line(f"  and {len(found.faults) - _SHOWN} more: --json lists them")
    for flag in found.flags:
        output.line(f"  look: {flag}")
    for note in found.notes:
        output.line(f"  note: {note}")


def _rejection(found: Verification) -> str:
    first = found.faults[0]
    more = f" (and {len(found.faults) - 1} more)" if len(found.faults) > 1 else ""
    return f"{found.path} is rejected: {first.code}: {first.message}{more}"
