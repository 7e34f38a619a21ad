"""`rmeval probe bias` and `rmeval probe calibration`: what stored scores follow, and whether they say what they mean.

What this module does not know: how any probe computes.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmeval.cli import output
from rmeval.cli.probe.shown import Out, finish
from rmeval.cli.run import AsJson

if TYPE_CHECKING:
    from rmeval.records import Result
    from rmeval.types import Metric

Stored = Annotated[Path, typer.Argument(metavar="RESULT", help="A result with right and wrong responses.")]


def bias(result: Stored, out: Out = None, as_json: AsJson = False) -> None:
    """What preferences follow besides the label: length, markup, slots and places, and who wrote the response."""
    from rmeval.errors import UsageError
    from rmeval.probes.bias import probe_bias
    from rmeval.results import check_writable, load_result

    if out:
        check_writable(out)
    view = load_result(result)
    held = view.result
    try:
        found = probe_bias(view.judgements, held.model.name)
    except UsageError as fault:
        raise UsageError(f"{result}: {fault}") from None
    document = {
        **_about("bias", held),
        "examples": found.examples,
        "pairs": found.pairs,
        "prompts": found.prompts,
        "notes": list(found.notes),
        "curves": [asdict(curve) for curve in found.curves],
    }
    finish(document, _title(held), found.curves, found.notes, out, "bias", as_json)


def calibration(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A result with scores.")],
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Whether scores mean what they say: reliability, temperature, saturation, errors beside luck, noise ceiling."""
    from rmeval.errors import UsageError
    from rmeval.probes.calibration import probe_calibration
    from rmeval.results import check_writable, load_result

    if out:
        check_writable(out)
    view = load_result(result)
    held = view.result
    try:
        found = probe_calibration(view.judgements)
    except UsageError as fault:
        raise UsageError(f"{result}: {fault}") from None
    document = {
        **_about("calibration", held),
        "examples": found.examples,
        "prompts": found.prompts,
        "notes": list(found.notes),
        "figures": [asdict(figure) for figure in found.figures],
        "curves": [asdict(curve) for curve in found.curves],
    }
    finish(document, _title(held), found.curves, found.notes, out, "calibration", as_json)
    if not as_json:
        rows = [(f.name, *_cells(f), f.note) for f in found.figures]
        output.table("figures", ("", "value", "n", ""), rows, right=("value", "n"))


def _cells(figure: Metric) -> tuple[str, str]:
    n = f"{figure.n} ({figure.n_missing} missing)" if figure.n_missing else str(figure.n)
    if figure.value is None:
        return "-", n
    return f"{figure.value:.4g}" + (f" [{figure.ci[0]:.4g}, {figure.ci[1]:.4g}]" if figure.ci else ""), n


def _about(probe: str, held: Result) -> dict[str, Any]:
    """What the document of a probe of one result begins with."""
    return {
        "probe": probe,
        "result": held.id,
        "model": held.model.name,
        "suite": held.suite.name,
        "complete": held.complete,
    }


def _title(held: Result) -> str:
    return f"{held.model.name} on {held.suite.name}"
