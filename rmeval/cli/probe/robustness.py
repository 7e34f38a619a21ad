"""`rmeval probe robustness`: what edits that keep the better response the better one do to a scorer.

What this module does not know: how texts are transformed, how anything is scored.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmeval.cli import output
from rmeval.cli.probe.shown import Out, print_panels, write_figure
from rmeval.cli.run import Arguments, AsJson

if TYPE_CHECKING:
    from rmeval.probes.curves import Point
    from rmeval.probes.robustness import Drop, Found


def robustness(
    model: Annotated[str, typer.Argument(help="As of `rmeval run`: hub id, folder, scorer card, judge:MODEL, length.")],
    suite: Annotated[str, typer.Option("--suite", metavar="SUITE", help="A suite of kind preference.")] = "arithmetic",
    data: Annotated[Path | None, typer.Option(help="Read the rows from a local file or folder.")] = None,
    limit: Annotated[float | None, typer.Option(help="So many examples, or a share below 1; stratified.")] = None,
    transformations: Annotated[
        str | None, typer.Option(metavar="A[,B...]", help="Transformations or groups of them; default: all.")
    ] = None,
    scorer: Annotated[str | None, typer.Option(help="Kind of scorer, where it cannot be detected.")] = None,
    engine: Annotated[str, typer.Option(help="What runs the weights.")] = "transformers",
    arg: Arguments = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws a limited sample and generated suites.")] = 0,
    store: Annotated[Path | None, typer.Option(help="Reply store; default in the user's cache.")] = None,
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible server that runs a judge.")] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Accuracy lost under typos, other formats, padding and the like, and an attack that edits the worse response."""
    from rmeval import arguments
    from rmeval.errors import UsageError
    from rmeval.models import load_model
    from rmeval.probes.robustness import chosen, probe_robustness
    from rmeval.results import check_writable
    from rmeval.store import Store, home
    from rmeval.suites import load_suite, stratified_sample

    names = None if transformations is None else [name.strip() for name in transformations.split(",") if name.strip()]
    wanted = chosen(names)
    if not wanted:
        raise UsageError("--transformations names none; leave it out for all of them")
    if out:
        check_writable(out)
    on = load_suite(suite)
    if on.card.kind != "preference":
        raise UsageError(f"suite {on.name} is of kind {on.card.kind}; this probe asks suites of kind preference")
    loaded = load_model(model, scorer=scorer, engine=engine, given=arguments.parse(arg or []), base_url=base_url)
    held = on.load(data, seed)
    examples = held.examples if limit is None else stratified_sample(held.examples, limit, seed)
    title = f"{loaded.name} on {on.name}"
    with Store(store or home() / "replies.sqlite") as replies, replies.lock(f"robustness of {title}"):
        found = probe_robustness(loaded, examples, wanted, replies, title=title)
    complete = held.complete and limit is None
    document = _document(found) | {"model": loaded.name, "suite": on.name, "complete": complete}
    write_figure(out, "robustness", document, f"{title}: robustness", found.curves)
    if as_json:
        output.json_document(document)
        return
    counted = f"{found.examples} examples, {found.prompts} prompts{'' if complete else ' (incomplete)'}"
    output.line(f"{title}: {counted}")
    _print(found)
    if out:
        output.line(f"figure: {out / 'robustness.svg'}")


def _document(found: Found) -> dict[str, Any]:
    return {
        "probe": "robustness",
        "examples": found.examples,
        "prompts": found.prompts,
        "counts": {"requests": found.requests, "cached": found.cached},
        "rows": [{"n": one.drop.n, "value": one.drop.value, "ci": one.drop.ci, **asdict(one)} for one in found.drops],
        "groups": [asdict(one) for one in found.groups],
        "attack": asdict(found.attack),
        "curves": [asdict(curve) for curve in found.curves],
        "notes": list(found.notes),
    }


def _print(found: Found) -> None:
    columns = ("transformation", "group", "changes", "original", "transformed", "drop", "p", "p (Holm)", "n", "n/a")
    there = [one for one in found.drops if one.p is not None or one.drop.n_missing]
    output.table("accuracy lost", columns, [_row(one) for one in there], right=columns[3:])
    if absent := [one.transformation for one in found.drops if one not in there]:
        output.line(f"applies to no pair of these examples: {', '.join(absent)}")
    groups = [(one.group, one.transformations, _value(one.drop), _n(one.drop)) for one in found.groups]
    output.table("by group", ("group", "transformations", "mean drop", "n"), groups, right=("mean drop", "n"))
    print_panels(found.attack.curves)
    if found.attack.best:
        best = ", ".join(f"{name} {share:.0%}" for name, share in list(found.attack.best.items())[:5])
        output.line(f"best edit of the rejected response, of {found.attack.pairs} pairs: {best}")
    for note in found.notes:
        output.line(note)


def _row(one: Drop) -> tuple[str, ...]:
    return (
        one.transformation, one.group, one.changes, _share(one.original), _share(one.transformed), _value(one.drop),
        _p(one.p), _p(one.p_holm), _n(one.drop), str(one.not_applicable),
    )  # fmt: skip


def _share(point: Point) -> str:
    return "-" if point.value is None else f"{point.value:.3f}"


def _value(point: Point) -> str:
    if point.value is None:
        return "-"
    return f"{point.value:+.3f}" + (f" [{point.ci[0]:+.3f}, {point.ci[1]:+.3f}]" if point.ci else "")


def _n(point: Point) -> str:
    return f"{point.n} ({point.n_missing} missing)" if point.n_missing else str(point.n)


def _p(p: float | None) -> str:
    return "" if p is None else "< .001" if p < 0.001 else f"{p:.3f}"
