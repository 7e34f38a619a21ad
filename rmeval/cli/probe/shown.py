"""What every probe prints and writes: panels as tables, the figure and the document, and the flags they share.

What this module does not know: how any probe computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmeval.cli import output

if TYPE_CHECKING:
    from rmeval.probes.curves import Curve, Point

Aggregate = Annotated[str | None, typer.Option(help="How step scores become rewards: prod, min, last, mean, ...")]
Seed = Annotated[int, typer.Option(min=0, help="Draws subsets and resamples.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write the figure (SVG, PNG) and the JSON here.")
]


def finish(
    document: dict[str, Any],
    title: str,
    curves: Sequence[Curve],
    notes: Sequence[str],
    out: Path | None,
    name: str,
    as_json: bool,
) -> None:
    """Write the files, then print one document, or panel by panel and what is to be said.

    A document without `rows` of its own gets a row per point.
    """
    document.setdefault("rows", rows_of(curves))
    write_figure(out, name, document, title, curves)
    if as_json:
        output.json_document(document)
        return
    output.line(f"{title}: {document['prompts']} prompts{'' if document['complete'] else ' (incomplete)'}")
    print_panels(curves)
    for note in notes:
        output.line(note)
    if out:
        output.line(f"figure: {out / f'{name}.svg'}")


def write_figure(out: Path | None, name: str, document: dict[str, Any], title: str, curves: Sequence[Curve]) -> None:
    """Write NAME.json, NAME.svg and NAME.png below a folder, if there is one."""
    from rmeval.probes.plots import draw
    from rmeval.results import check_writable, write_whole

    if out is None:
        return
    check_writable(out)
    for suffix, content in {"json": f"{output.json_text(document)}\n".encode(), **draw(title, curves)}.items():
        write_whole(out / f"{name}.{suffix}", content)


def rows_of(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Every point as a row, for readers who want no nesting; n counts the values behind it."""
    return [
        {
            "panel": c.panel,
            "curve": c.name,
            "at": p.at,
            "n": p.n,
            "value": p.value,
            "ci": p.ci,
            "n_missing": p.n_missing,
        }
        for c in curves
        for p in c.points
    ]


def print_panels(everything: Sequence[Curve]) -> None:
    """A table per panel, what its columns mean, and what is undefined.

    Counts stand once where they are those of all columns. A law has none: nothing is behind it.
    """
    from rmeval.probes.curves import reasons

    panels: dict[str, list[Curve]] = {}
    for curve in everything:
        if curve.points:
            panels.setdefault(curve.panel, []).append(curve)
    for panel, curves in panels.items():
        rows = list(zip(*(curve.points for curve in curves), strict=True))
        counted = [any(point.n or point.n_missing for point in curve.points) for curve in curves]
        alike = all(len({_cells(p)[1] for p, n in zip(row, counted, strict=True) if n}) <= 1 for row in rows)
        widths = [1 + (n and not alike) for n in counted]
        columns = [column for curve, width in zip(curves, widths, strict=True) for column in (curve.name, "n")[:width]]
        cells = [
            [cell for point, width in zip(row, widths, strict=True) for cell in _cells(point)[:width]] for row in rows
        ]
        if alike and any(counted):
            columns.append("n")
            for row, line in zip(rows, cells, strict=True):
                line.append(_cells(row[counted.index(True)])[1])
        table = [(_place(row[0].at), *line) for row, line in zip(rows, cells, strict=True)]
        output.table(panel, ("at", *columns), table, right=columns)
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
