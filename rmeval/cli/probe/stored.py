"""`rmeval probe steps` and `rmeval probe boundaries`: of stored step and prefix scores.

What this module does not know: how any probe computes.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rmeval.cli import output
from rmeval.cli.probe.shown import Aggregate, Out, finish, print_panels, rows_of, write_figure
from rmeval.cli.run import AsJson


def steps(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A result with step or prefix scores.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write steps.svg, steps.png and steps.json here.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Below it a step is judged wrong; default: 0.5 for scores in [0, 1].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Aggregates, drift, positions, prefixes, calibration and early rejection of step and prefix scores."""
    from rmeval.errors import UsageError
    from rmeval.probes.steps import probe_steps
    from rmeval.results import check_writable, load_result

    if out:
        check_writable(out)
    view = load_result(result)
    try:
        found = probe_steps(view.judgements, threshold)
    except UsageError as fault:
        raise UsageError(f"{result}: {fault}") from None
    held = view.result
    title = f"{held.model.name} on {held.suite.name}"
    document = {
        "probe": "steps",
        "result": held.id,
        "model": held.model.name,
        "suite": held.suite.name,
        "complete": held.complete,
        "examples": found.examples,
        "responses": found.responses,
        "prompts": found.prompts,
        "rows": rows_of(found.curves),
        "curves": [asdict(curve) for curve in found.curves],
    }
    write_figure(out, "steps", document, title, found.curves)
    if as_json:
        output.json_document(document)
        return
    counted = f"{found.examples} examples, {found.responses} responses, {found.prompts} prompts"
    output.line(f"{title}: {counted}{'' if held.complete else ' (incomplete)'}")
    print_panels(found.curves)
    if out:
        output.line(f"figure: {out / 'steps.svg'}")


def boundaries(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT RESULT...", help="Results under several -a scorer.split.")
    ],
    aggregate: Aggregate = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """What changes when the same responses are cut into steps elsewhere: rewards, their order, decisions."""
    from rmeval.metrics.convert import OWN
    from rmeval.probes.boundaries import probe_boundaries, splits_of
    from rmeval.results import load_result

    views = [load_result(path) for path in results]
    splits = splits_of([view.result for view in views])
    found = probe_boundaries({s: v.judgements for s, v in zip(splits, views, strict=True)}, aggregate or OWN)
    first = views[0].result
    document = {
        "probe": "boundaries",
        "results": {s: view.result.id for s, view in zip(splits, views, strict=True)},
        "model": first.model.name,
        "suite": first.suite.name,
        "complete": all(view.result.complete for view in views),
        "aggregate": aggregate or OWN,
        "examples": found.examples,
        "responses": found.responses,
        "prompts": found.prompts,
        "curves": [asdict(curve) for curve in found.curves],
    }
    title = f"{first.model.name} on {first.suite.name}: steps by {', '.join(splits)}"
    finish(document, title, found.curves, (), out, "boundaries", as_json)
