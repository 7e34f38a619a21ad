"""`rmeval score`: rewards for a user's own prompts and responses.

What this module does not know: labels, suites, metrics.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from rmeval.cli import output
from rmeval.cli.run import Arguments


def score(
    model: Annotated[str, typer.Argument(help="As for `rmeval run`.")],
    file: Annotated[
        Path, typer.Argument(help="JSONL (or JSON, .gz): {prompt, response}, {prompt, responses}, {messages}.")
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write JSONL here instead of to stdout.")] = None,
    scorer: Annotated[str | None, typer.Option(help="Kind of scorer, where it cannot be detected.")] = None,
    engine: Annotated[str, typer.Option(help="What runs the weights.")] = "transformers",
    arg: Arguments = None,
    store: Annotated[Path | None, typer.Option(help="Reply store; default in the user's cache.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Score prompts and responses of your own; no labels needed. One line per row, in order."""
    import json

    from rmeval import arguments
    from rmeval.api import score_many
    from rmeval.errors import CheckFailed
    from rmeval.models import load_model
    from rmeval.readers.responses import read_responses
    from rmeval.store import Store, home
    from rmeval.whole_files import refuse_what_is_read, write_whole

    if out is not None:
        refuse_what_is_read(out, file)
    rows = read_responses(file)
    loaded = load_model(model, scorer=scorer, engine=engine, given=arguments.parse(arg or []))
    with Store(store or home() / "replies.sqlite") as kept:
        scored = score_many(loaded, [(row.prompt, row.responses) for row in rows], kept)
    documents: list[dict[str, Any]] = []
    for row, scores in zip(rows, scored, strict=True):
        values = [None if math.isnan(s.value) else s.value for s in scores]
        document: dict[str, Any] = {"id": row.id}
        document |= {row.key: values[0] if row.single else values}
        if any(s.reason for s in scores):
            reasons = [s.reason for s in scores]
            document |= {"reason": reasons[0]} if row.single else {"reasons": reasons}
        if any(s.steps for s in scores):
            steps = [[None if math.isnan(value) else value for value in s.steps] for s in scores]
            document |= {"step_scores": steps[0] if row.single else steps}
        documents.append(document)
    lines = "".join(json.dumps(d, ensure_ascii=False, allow_nan=False) + "\n" for d in documents)
    if out is not None:
        write_whole(out, lines.encode())
        output.line(f"{len(documents)} rows scored: {out}")
    elif as_json:
        output.json_document(documents)
    else:
        print(lines, end="")
    missing = sum(value is None for d in documents for value in _values(d))
    if missing:
        raise CheckFailed(f"{missing} responses have no score; the reasons stand beside them")


def _values(document: dict[str, Any]) -> list[float | None]:
    if "scores" in document:
        scores: list[float | None] = document["scores"]
        return scores
    return [document["score"]]
