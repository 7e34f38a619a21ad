"""`rmeval export`.

What this module does not know: any format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmeval.cli import output


def export(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A result file.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="csv, parquet, json, rewardbench, hf or eee.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where it is written; for rewardbench a folder.")
    ],
    task: Annotated[
        str, typer.Option(help="hf: the id of the task, as the eval.yaml of the benchmark's data set names it.")
    ] = "default",
    by: Annotated[str, typer.Option(help="eee: the organisation that ran the evaluation.")] = "",
    first_party: Annotated[
        bool, typer.Option("--first-party", help="eee: it was run by the makers of the model.")
    ] = False,
) -> None:
    """Write a result in the format of others. Sends nothing."""
    from rmeval.exports.exported import Told
    from rmeval.exports.formats import export as in_format
    from rmeval.progress import note
    from rmeval.results import load_result, write_whole
    from rmeval.whole_files import refuse_what_is_read

    refuse_what_is_read(out, result)
    made = in_format(load_result(result), to, Told(task, by, first_party))
    for said in made.notes:
        note(said)
    for name, content in made.files.items():
        path = out / name if name else out
        write_whole(path, content)
        output.line(f"written: {path}")
