"""`rmeval probe ...`: questions asked of stored scores and of candidate pools.

What this module does not know: how any probe computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmeval.cli import output
from rmeval.cli.run import AsJson

if TYPE_CHECKING:
    from rmeval.probes.curves import Curve, Point
    from rmeval.probes.pool import Pool

Source = Annotated[str, typer.Argument(metavar="RESULT|POOL|SUITE", help="A result, a pool file (JSONL), or a suite.")]
Sizes = Annotated[str | None, typer.Option("-n", metavar="N,N,...", help="Where to look; default: 1, 2, 4, ...")]
Data = Annotated[Path | None, typer.Option(help="Read a suite's rows from a local file or folder.")]
Aggregate = Annotated[str | None, typer.Option(help="How step scores become rewards: prod, min, last, mean, ...")]
Seed = Annotated[int, typer.Option(help="Draws subsets and resamples.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write the figure (SVG, PNG) and the JSON here.")
]

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def _about() -> None:
    """Ask stored scores more than their headline says; no model runs."""


@app.command()
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
        "curves": [asdict(curve) for curve in found.curves],
    }
    _write_figure(out, "steps", document, title, found.curves)
    if as_json:
        output.json_document(document)
        return
    counted = f"{found.examples} examples, {found.responses} responses, {found.prompts} prompts"
    output.line(f"{title}: {counted}{'' if held.complete else ' (incomplete)'}")
    _print_panels(found.curves)
    if out:
        output.line(f"figure: {out / 'steps.svg'}")


@app.command()
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
    _finish(document, title, found.curves, (), out, "boundaries", as_json)


@app.command(name="best-of-n")
def best_of_n(
    source: Source,
    sizes: Sizes = None,
    data: Data = None,
    aggregate: Aggregate = None,
    seed: Seed = 0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """What choosing the best-rewarded of n is worth: exact curves beside oracle, majority, weighted vote and luck."""
    from rmeval.probes.best_of_n import answer_kl, best_of_n
    from rmeval.stats import best_of_n_kl

    pool = _pool(source, data, aggregate, seed)
    found = best_of_n(pool, _numbers(sizes), seed=seed)
    chosen = found.curves[0] if found.curves[0].points else found.curves[1]
    document = {
        **_about_pool("best-of-n", pool, found.notes),
        "of": chosen.name,
        "rows": [
            {
                "n": n,
                "value": point.value,
                "ci": point.ci,
                "n_missing": point.n_missing,
                "kl_bound": best_of_n_kl(n),
                "kl_answers": answer_kl(pool, n),
            }
            for n, point in zip(found.n, chosen.points, strict=True)
        ],
        "curves": [asdict(curve) for curve in found.curves],
    }
    _finish(document, pool.name, found.curves, found.notes, out, "best-of-n", as_json)


@app.command()
def overopt(
    source: Source,
    sizes: Sizes = None,
    data: Data = None,
    aggregate: Aggregate = None,
    seed: Seed = 0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Proxy against gold as best-of-n optimises harder: the laws of Gao et al., the peak, and the fall after it."""
    from rmeval.probes.overoptimisation import over_optimisation

    pool = _pool(source, data, aggregate, seed)
    found = over_optimisation(pool, _numbers(sizes), seed=seed)
    gold = found.curves[1]
    fits = [
        {**asdict(one.fit), "peak_d": one.fit.peak, "alpha_ci": one.alpha_ci, "beta_ci": one.beta_ci,
         "peak_ci": one.peak_ci, "peaks": one.peaks}
        for one in found.fits
    ]  # fmt: skip
    document = {
        **_about_pool("overopt", pool, found.notes),
        "rows": [
            {"n": n, "d": d, "value": point.value, "ci": point.ci}
            for n, d, point in zip(found.n, found.d, gold.points, strict=True)
        ],
        "fits": fits,
        "no_fit": found.why_no_fit,
        "best_n": found.best_n,
        "fall": found.fall,
        "fall_ci": found.fall_ci,
        "over_optimised": found.over,
        "curves": [asdict(curve) for curve in found.curves],
    }
    said = [_law(one) for one in fits] or [f"no fit: {found.why_no_fit}"]
    fall = f"{found.fall:.4g}" + (f" [{found.fall_ci[0]:.4g}, {found.fall_ci[1]:.4g}]" if found.fall_ci else "")
    verdict = "over-optimised" if found.over else "no over-optimisation shown"
    said.append(f"gold is best at n = {found.best_n}; at n = {found.n[-1]} it is lower by {fall}: {verdict}")
    _finish(document, pool.name, found.curves, (*found.notes, *said), out, "overopt", as_json)


def _law(fit: Mapping[str, Any]) -> str:
    peak = "no peak" if fit["peak_d"] is None else f"peak at d = {fit['peak_d']:.4g}"
    if fit["peak_ci"]:
        peak += f" [{fit['peak_ci'][0]:.4g}, {fit['peak_ci'][1]:.4g}]"
    elif fit["peak_d"] is not None:
        peak += f" (only {fit['peaks']:.0%} of the resamples have one)"
    parameters = ", ".join(
        f"{name} {fit[name]:.4g} [{fit[f'{name}_ci'][0]:.4g}, {fit[f'{name}_ci'][1]:.4g}]" for name in ("alpha", "beta")
    )
    return f"{fit['law']} law: {parameters}, R2 {fit['r2']:.3f}, {peak}"


def _pool(source: str, data: Path | None, aggregate: str | None, seed: int) -> Pool:
    from rmeval.metrics.convert import OWN
    from rmeval.probes.pool import load_pool

    return load_pool(source, aggregate=aggregate or OWN, data=data, seed=seed)


def _about_pool(probe: str, pool: Pool, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "probe": probe,
        "pool": pool.name,
        "complete": pool.complete,
        "prompts": len({row.cluster for row in pool.rows}),
        "candidates": [pool.smallest, pool.largest],
        "notes": list(notes),
    }


def _numbers(text: str | None) -> list[int] | None:
    """`1,2,4` as numbers."""
    from rmeval.errors import UsageError

    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not part.isdigit()]
    if wrong:
        raise UsageError(f"-n {text}: {wrong[0]!r} is not a whole number; write -n 1,2,4,8")
    return [int(part) for part in parts]


def _finish(
    document: dict[str, Any],
    title: str,
    curves: Sequence[Curve],
    notes: Sequence[str],
    out: Path | None,
    name: str,
    as_json: bool,
) -> None:
    """Write the files, then print one document, or panel by panel and what is to be said."""
    _write_figure(out, name, document, title, curves)
    if as_json:
        output.json_document(document)
        return
    output.line(f"{title}: {document['prompts']} prompts{'' if document['complete'] else ' (incomplete)'}")
    _print_panels(curves)
    for note in notes:
        output.line(note)
    if out:
        output.line(f"figure: {out / f'{name}.svg'}")


def _write_figure(out: Path | None, name: str, document: dict[str, Any], title: str, curves: Sequence[Curve]) -> None:
    from rmeval.probes.plots import draw
    from rmeval.results import check_writable, write_whole

    if out is None:
        return
    check_writable(out)
    for suffix, content in {"json": f"{output.json_text(document)}\n".encode(), **draw(title, curves)}.items():
        write_whole(out / f"{name}.{suffix}", content)


def _print_panels(everything: Sequence[Curve]) -> None:
    """A table per panel, what its columns mean, and what is undefined."""
    from rmeval.probes.curves import reasons

    panels: dict[str, list[Curve]] = {}
    for curve in everything:
        if curve.points:
            panels.setdefault(curve.panel, []).append(curve)
    for panel, curves in panels.items():
        columns = [column for curve in curves for column in (curve.name, "n")]
        rows = [
            (_place(points[0].at), *(cell for point in points for cell in _cells(point)))
            for points in zip(*(curve.points for curve in curves), strict=True)
        ]
        output.table(panel, ("at", *columns), rows, right=columns)
        for curve in curves:
            output.line(f"  {curve.name}: {curve.what}")
            for note, places in _notes(curve).items():
                output.line(f"    undefined at {', '.join(places)}: {note}")
        output.line()
    for reason, names in reasons(everything).items():
        output.line(f"undefined: {', '.join(names)}: {reason}")


def _place(at: float | str) -> str:
    return at if isinstance(at, str) else f"{at:g}"


def _cells(point: Point) -> tuple[str, str]:
    """Value with interval, and how many stand behind it."""
    n = f"{point.n} ({point.n_missing} missing)" if point.n_missing else str(point.n)
    if point.value is None:
        return "-", n
    ci = f" [{point.ci[0]:.3f}, {point.ci[1]:.3f}]" if point.ci else ""
    return f"{point.value:.3f}{ci}", n


def _notes(curve: Curve) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for point in curve.points:
        if point.value is None:
            found.setdefault(point.note, []).append(_place(point.at))
    return found
