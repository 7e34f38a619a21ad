"""`rmeval report`.

What this module does not know: what a report shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmeval.cli import output


def report(
    results: Annotated[list[Path], typer.Argument(help="Result files.", metavar="RESULT...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("report.html"),
    probe: Annotated[
        list[Path] | None,
        typer.Option(help="Also show what `rmeval probe ... -o DIR` wrote of these results: DIR, or its NAME.json."),
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write Markdown, for a model card.")] = None,
) -> None:
    """Show one result or several as a single page that needs nothing else: parts, margins, calibration, length."""
    from rmeval.errors import UsageError
    from rmeval.leaderboard import report as make
    from rmeval.leaderboard.probed import read_probes
    from rmeval.results import load_result, write_whole
    from rmeval.whole_files import refuse_what_is_read

    for path in (out, markdown):
        if path is not None:
            refuse_what_is_read(path, *results)
    if markdown is not None and markdown.resolve() == out.resolve():
        raise UsageError(f"--markdown {markdown}: is the page (--out), which would be lost; name another file")
    # a file named twice (a glob and its newest) is one result, not two that agree
    views = [load_result(path) for path in {path.resolve(): path for path in results}.values()]
    probes = read_probes(probe or (), [view.result for view in views])
    write_whole(out, make.html(views, probes).encode("utf-8"))
    output.line(f"page: {out}")
    if markdown is not None:
        write_whole(markdown, make.markdown(views).encode("utf-8"))
        output.line(f"markdown: {markdown}")
