"""All commands in one application. Importing it imports no model code.

What this module does not know: what any command does.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from rmeval.cli import (
    board,
    compare,
    data,
    doctor,
    export,
    fetch,
    import_,
    label,
    listing,
    merge,
    probe,
    report,
    reproduce,
    run,
    schema,
    score,
    submit,
    train,
)

app = typer.Typer(
    name="rmeval",
    help="Evaluate reward models: any scorer on any benchmark, with honest error bars.",
    epilog="Start with: rmeval demo   |   rmeval run MODEL --suite NAME   |   rmeval list",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("run")(run.run)
app.command("list")(listing.list_names)
app.command("show")(listing.show)
app.command("merge")(merge.merge)
app.command("score")(score.score)
app.command("rescore")(run.rescore)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.add_typer(board.app, name="leaderboard", help="Build the board and its pages, and serve them.")
app.add_typer(data.app, name="data")
app.add_typer(probe.app, name="probe")
app.add_typer(train.app, name="train", help="Train a reward model.")
app.add_typer(label.app, name="label", help="Make labels for training data.")
app.command("submit")(submit.submit)
app.command("verify")(submit.verify)
app.command("import")(import_.import_outputs)
app.command("export")(export.export)
app.command("reproduce")(reproduce.reproduce)
app.command("schema")(schema.schema)
app.command("fetch")(fetch.fetch)
app.command("check")(listing.check)
app.command("doctor")(doctor.doctor)
app.command("demo")(board.demo)


@app.callback()
def _about(
    no_plugins: Annotated[bool, typer.Option("--no-plugins", help="Leave out what installed packages add.")] = False,
) -> None:
    if no_plugins:
        os.environ["RMEVAL_NO_PLUGINS"] = "1"
