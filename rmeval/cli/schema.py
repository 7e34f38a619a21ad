"""`rmeval schema`.

What this module does not know: any schema.
"""

from __future__ import annotations

from typing import Annotated

import typer

from rmeval.cli import output


def schema(
    kind: Annotated[str, typer.Argument(help="result, samples, suite, scorer, submission or verified.")],
) -> None:
    """Print the JSON Schema of a file format."""
    from rmeval.leaderboard.submission import Submission
    from rmeval.leaderboard.verified import Verified
    from rmeval.results import json_schema

    output.json_document(json_schema(kind, {"submission": Submission, "verified": Verified}))
