"""`rmeval reproduce`: reads the command that a result records, and runs it again.

What this module does not know: how scores are compared.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from rmeval.cli import output
from rmeval.cli.run import Arguments, AsJson

if TYPE_CHECKING:
    from rmeval.checks.reproduce import Reproduced
    from rmeval.models import Model
    from rmeval.results import ResultView

_COMMIT = re.compile(r"[0-9a-f]{40}")
_WHERE = {"base_url", "key_env"}
"""Arguments of engines that say where a key is sent, and which."""


def reproduce(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A result file.")],
    data: Annotated[Path | None, typer.Option(help="Where the suite's rows lie; default: as recorded.")] = None,
    model: Annotated[str | None, typer.Option(help="Where the model lies; default: as recorded.")] = None,
    base_url: Annotated[str | None, typer.Option(help="A judge's server; default: as recorded.")] = None,
    arg: Arguments = None,
    out: Annotated[Path | None, typer.Option(help="Keep the new result below this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a result again as it was recorded and compare every score. Exit 3 when one differs, or a number is off."""
    from dataclasses import asdict

    from rmeval.checks.reproduce import refuse_imported
    from rmeval.checks.reproduce import reproduce as again
    from rmeval.errors import CheckFailed
    from rmeval.leaderboard.audit import audit_says
    from rmeval.results import load_result

    view = load_result(result)
    refuse_imported(view)
    asked = _recorded(view)
    loaded = _model(view, asked, model, base_url, arg or [])
    recorded = asked.get("data")
    if data is None and recorded is not None and not view.result.suite.data.source.startswith("hub:"):
        data = Path(recorded)
    with tempfile.TemporaryDirectory() as folder:
        found = again(view, loaded, data=data, out=out or Path(folder))
    if as_json:
        document = {**asdict(found), "agrees": found.agrees, "path": str(found.path) if out else None}
        largest = found.audit.largest
        document["audit"]["largest"] = None if largest != largest else largest  # noqa: PLR0124 - NaN
        output.json_document(document)
    else:
        output.line(f"{view.result.model.name} on {view.result.suite.name}: {audit_says(found.audit)}")
        _print(found, view.result.headline.name)
        if out is not None:
            output.line(f"written: {found.path}")
    if not found.audit.agrees:
        raise CheckFailed(f"{result}: {found.audit.beyond} of {found.audit.candidates} scores were not found again")
    if found.claims:
        raise CheckFailed(
            f"{result}: {len(found.claims)} of its numbers do not follow from its own scores: {found.claims[0]}"
        )


def _recorded(view: ResultView) -> dict[str, Any]:
    """What the command that a result records said, option by option; nothing where rmeval was called from Python."""
    from typer.main import get_command

    from rmeval.cli import with_dashed_names
    from rmeval.cli.app import app

    words = list(view.result.environment.command)
    if words[1:2] != ["run"]:
        return {}
    run: Any = get_command(app)
    context = run.commands["run"].make_context("run", with_dashed_names(words[2:]), resilient_parsing=True)
    return dict(context.params)


def _model(view: ResultView, asked: dict[str, Any], name: str | None, base_url: str | None, more: list[str]) -> Model:
    """The model of a result, as its command named it unless the caller says otherwise."""
    from rmeval import arguments
    from rmeval.errors import UsageError
    from rmeval.leaderboard.audit import model_again
    from rmeval.models import load_model
    from rmeval.progress import note
    from rmeval.secrecy import HIDDEN
    from rmeval.suites import load_suite

    held = view.result
    if not asked:
        note(f"{view.path.name} records no `rmeval run`: its arguments are those that the result itself states")
        return model_again(view, name, arguments.parse(more))
    kept = [one for one in asked.get("arg") or () if HIDDEN not in one]
    if len(kept) < len(asked.get("arg") or ()):
        note("the recorded command hides a secret, which is left out here; -a says it again")
    kept += ["engine.deterministic=true"] if asked.get("deterministic") else []
    source = name or str(asked["model"])
    plain = source.removeprefix("judge:")
    given, said = arguments.parse([*kept, *more]), arguments.parse(more)["engine"]
    # the result may be a stranger's: where a key is sent, and which one, is for its owner to say
    recorded = {name: given["engine"].pop(name) for name in _WHERE - said.keys() if name in given["engine"]}
    stated = str(recorded.get("base_url") or asked.get("base_url") or "")
    if not base_url and "base_url" not in said:
        if not all(map(_is_here, filter(None, stated.split(",")))):
            raise UsageError(
                f"{view.path.name} was asked of {stated}: to send this, and a key, there again: --base-url {stated}"
            )
        base_url = stated or None
    if "key_env" in recorded:
        note(f"the recorded command takes its key from {recorded['key_env']}: -a engine.key_env=NAME says it again")
    pinned = held.model.revision if _COMMIT.fullmatch(held.model.revision or "") else None
    if name is None and pinned and plain.count("/") == 1 and "@" not in plain and not Path(plain).exists():
        source = f"{source}@{pinned}"  # what the hub calls main has moved on since
    return load_model(
        source,
        scorer=asked.get("scorer"),
        engine=str(asked.get("engine") or "transformers"),
        given=given,
        base_url=base_url,
        by_step=load_suite(held.suite.name).card.kind == "process",
    )


def _is_here(url: str) -> bool:
    """Whether a server is on this machine."""
    try:
        return urlsplit(url.strip()).hostname in {"127.0.0.1", "localhost", "::1"}
    except ValueError:
        return False


def _print(found: Reproduced, headline: str) -> None:
    before, now = (output.percent(value, 4) for value in found.headline)
    output.line(f"{headline}: {before} before, {now} now")
    for what, differing in (("asked", found.asked), ("environment", found.environment)):
        for change in differing:
            output.line(f"differs: {what}: {change.field}: {change.before} before, {change.now} now")
