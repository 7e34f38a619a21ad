"""`rmeval merge`: the shards of a run as one result.

What this module does not know: what is compared before they are merged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmeval.cli import output
from rmeval.cli.run import AsJson
from rmeval.cli.tables import print_result


def merge(
    result: Annotated[list[Path], typer.Argument(metavar="RESULT...", help="The results of all shards, in any order.")],
    out: Annotated[Path, typer.Option(help="Where the merged result is written.")] = Path("results"),
    max_failed: Annotated[
        int, typer.Option(min=0, help="Missing scores accepted before aggregates are withheld (exit 3).")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Make one result of what `rmeval run --shard I/N` wrote: the same numbers and rows as one run's."""
    from rmeval import api, results, shards
    from rmeval.suites import load_suite

    results.check_writable(out)
    views = [results.load_result(path) for path in result]
    plan = load_suite(views[0].result.suite.name).plan
    draft, judgements = shards.merge(views, plan, max_failed=max_failed)
    path = results.write(draft, judgements, out)
    merged = results.read(path)
    if as_json:
        output.json_document(results.to_dict(merged))
    else:
        print_result(merged, path)
    api.raise_if_failed(merged, path)
