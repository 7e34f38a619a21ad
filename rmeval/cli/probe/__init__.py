"""`rmeval probe ...`: questions asked of stored scores and of candidate pools, one file per family of probes.

What this module does not know: how any probe computes.
"""

from __future__ import annotations

import typer

from rmeval.cli.probe import pools, rejection, robustness, scores, search, stored

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def _about() -> None:
    """Ask stored scores and pools of candidates more than their headline says."""


app.command("steps")(stored.steps)
app.command("boundaries")(stored.boundaries)
app.command("bias")(scores.bias)
app.command("calibration")(scores.calibration)
app.command("best-of-n")(pools.best_of_n)
app.command("overopt")(pools.overopt)
app.command("rejection")(rejection.rejection)
app.command("robustness")(robustness.robustness)
app.command("search")(search.search)
