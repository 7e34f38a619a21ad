"""`rmeval doctor`: what a score depends on beside its text.

What this module does not know: what is compared, and how.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from rmeval.cli import output
from rmeval.cli.run import Arguments, AsJson


def doctor(
    model: Annotated[str, typer.Argument(help="Hub id (org/name@revision), folder, scorer card, or judge:MODEL.")],
    suite: Annotated[str, typer.Option(help="Whose texts are scored.")] = "arithmetic",
    data: Annotated[Path | None, typer.Option(help="Read the suite's rows from a local file or folder.")] = None,
    scorer: Annotated[str | None, typer.Option(help="Kind of scorer, where it cannot be detected.")] = None,
    arg: Arguments = None,
    seed: Annotated[int, typer.Option(help="Draws the texts.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Score 32 texts alone, in batches, shuffled, padded and in another dtype. Exit 3 where a score depends on that."""
    from rmeval import arguments
    from rmeval.checks import doctor as doctors
    from rmeval.suites import load_suite

    found = doctors.examine(
        model, load_suite(suite), data=data, scorer=scorer, given=arguments.parse(arg or []), seed=seed
    )
    if as_json:
        output.json_document(_plain(found))
    else:
        _print(found)
    found.raise_if_failed()


def _print(found: Any) -> None:
    limit = next((d.limit for d in found.drifts if d.limit is not None), 0.0)
    text = [("text", line, "", "UNSOUND" if found.faults else "ok") for line in found.text]
    rows = [
        *text,
        *(("text", fault, "", "UNSOUND") for fault in found.faults),
        *(("missing scores", reason, "none", "FAILED") for reason in found.missing),
        *((d.name, str(d), "" if d.limit is None else f"{d.limit:.1e}", d.verdict) for d in found.drifts),
        *(("not compared", what, "", "") for what in found.left_out),
    ]
    output.table(
        f"{found.model} ({found.kind}), {found.texts} texts of {found.suite}, {found.dtype} on {found.device}",
        ("check", "found, against each text alone", "limit", "verdict"),
        rows,
    )
    output.line(f"read by: {found.path}")
    rule = "no decision may flip" if found.dtype == "float32" else "2 % of the margins' standard deviation"
    output.line(
        f"limit: a score may move by {limit:.1e} ({rule}); margins have a standard deviation of {found.margin_sd:.3g}"
    )


def _plain(found: Any) -> dict[str, Any]:
    from dataclasses import asdict

    document = asdict(found)
    for row, drift in zip(document["drifts"], found.drifts, strict=True):
        row["verdict"] = drift.verdict
        for name in ("score", "margin"):  # JSON has no infinity: null is a score that was missing once
            row[name] = row[name] if math.isfinite(row[name]) else None
    return {**document, "invariant": found.invariant}
