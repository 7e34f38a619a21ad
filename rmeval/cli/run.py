"""`rmeval run` and `rmeval rescore`.

What this module does not know: how anything is scored, measured or written.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmeval.cli import output
from rmeval.cli.tables import print_result, print_summary
from rmeval.errors import UsageError

if TYPE_CHECKING:
    from rmeval.records import Result

Arguments = Annotated[
    list[str] | None,
    typer.Option(
        "-a", "--arg", metavar="SCOPE.KEY=VALUE", help="Scoped argument: scorer.x= engine.x= judge.x= metric.x="
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]


def run(
    model: Annotated[
        str,
        typer.Argument(
            help="Hub id (org/name@revision), folder, scorer card, judge:MODEL, replay:FILE, or a baseline: length."
        ),
    ],
    suite: Annotated[
        str | None, typer.Option("--suite", metavar="A[,B...]", help="Suites; default: the embedded ones, offline.")
    ] = None,
    scorer: Annotated[str | None, typer.Option(help="Kind of scorer, where it cannot be detected.")] = None,
    engine: Annotated[str, typer.Option(help="What runs the weights.")] = "transformers",
    data: Annotated[Path | None, typer.Option(help="Read the rows from a local file or folder.")] = None,
    arg: Arguments = None,
    limit: Annotated[
        float | None,
        typer.Option(help="So many examples (or a share below 1), stratified; marks the result incomplete."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws a limited sample and generated suites.")] = 0,
    out: Annotated[Path, typer.Option(help="Where results are written.")] = Path("results"),
    store: Annotated[Path | None, typer.Option(help="Reply store; default in the user's cache.")] = None,
    max_failed: Annotated[
        int, typer.Option(min=0, help="Missing scores accepted before aggregates are withheld (exit 3).")
    ] = 0,
    base_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible server that runs a judge, such as http://127.0.0.1:8000/v1.")
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(help="Stop asking once a judge has cost this; needs -a engine.price_in= and price_out=."),
    ] = None,
    skip_bad_rows: Annotated[
        bool,
        typer.Option("--skip-bad-rows", help="Leave out malformed rows: counted, and the result is incomplete."),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Score part I of N, such as 2/4; rmeval merge makes one result of all parts."),
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="float32, eager attention, one text at a time, deterministic algorithms."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; load no weights.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score a model on one or more suites and write the results."""
    from rmeval import api, arguments, results
    from rmeval.models import load_model
    from rmeval.progress import note
    from rmeval.protocols import ByStep
    from rmeval.shards import Shard
    from rmeval.suites import embedded_suites, load_suite

    given = arguments.parse(arg or [])
    if deterministic:
        given["engine"]["deterministic"] = True
    names = None if suite is None else list(dict.fromkeys(name.strip() for name in suite.split(",") if name.strip()))
    if names == []:
        raise UsageError(f"--suite {suite!r} names no suite. List them: rmeval list suites")
    suites = [load_suite(name) for name in names or ()]
    loaded = load_model(
        model,
        scorer=scorer,
        engine=engine,
        given=given,
        base_url=base_url,
        max_cost=max_cost,
        by_step=bool(suites) and all(one.card.kind == "process" for one in suites),
    )
    if names is None:
        by_step = isinstance(loaded.scorer, ByStep) and loaded.scorer.by_step
        names = embedded_suites("preference") + (embedded_suites("process") if by_step else [])
        note(f"no --suite given: running the embedded {', '.join(names)}. Others: rmeval list suites")
        suites = [load_suite(name) for name in names]
    api.refuse_without_preset(loaded, suites)
    settings = api.Settings(
        data=data,
        limit=int(limit) if limit is not None and limit.is_integer() else limit,
        seed=seed,
        out=out,
        store=store,
        max_failed=max_failed,
        metric_options=given["metric"],
        skip_bad_rows=skip_bad_rows,
        shard=Shard.parse(shard) if shard is not None else None,
    )
    if dry_run:
        _print_forecasts([api.forecast(loaded, s, settings) for s in suites], as_json)
        return
    written: list[tuple[Path, Result]] = []
    refused: list[str] = []
    for one in suites:
        try:
            path = api.run_suite(loaded, one, settings)
        except UsageError as fault:
            if len(suites) == 1:
                raise
            refused.append(str(fault))  # the other suites go on
            note(f"{one.name}: {fault}")
        else:
            written.append((path, results.read(path)))
    if as_json:
        documents = [results.to_dict(result) for _, result in written]
        output.json_document(documents[0] if len(suites) == 1 else documents)
    else:
        for path, result in written:
            print_result(result, path)
        if len(written) > 1:
            print_summary([result for _, result in written])
    if refused:
        raise UsageError("\n".join([f"{len(refused)} of {len(suites)} suites could not be run", *refused]))
    for path, result in written:
        api.raise_if_failed(result, path)


def rescore(
    result: Annotated[Path, typer.Argument(help="A result file.")],
    arg: Arguments = None,
    out: Annotated[Path | None, typer.Option(help="Write the rescored result below this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compute all metrics again from stored scores, under other definitions if asked; runs no model."""
    from rmeval import arguments, results
    from rmeval.suites import load_suite

    old = results.read(result)
    asked = arguments.parse(arg or [])
    if idle := [f"-a {scope}.{key}" for scope in ("engine", "judge") for key in asked[scope]]:
        raise UsageError(f"{', '.join(idle)}: rescore reads stored scores and runs no model; rmeval run takes it")
    options = asked["metric"] | asked["scorer"]
    fresh = results.rescore(result, load_suite(old.suite.name).plan, options)
    path = result
    if out is not None:
        path = results.write(results.as_draft(fresh), results.rows(old, result), out)
        fresh = results.read(path)
    if as_json:
        output.json_document(results.to_dict(fresh))
    else:
        print_result(fresh, path if out is not None else None)


def _print_forecasts(forecasts: list[Any], as_json: bool) -> None:
    from dataclasses import asdict

    documents = [asdict(f) for f in forecasts]
    if as_json:
        output.json_document(documents[0] if len(documents) == 1 else documents)
        return
    costs = {d["suite"]: d.pop("cost") for d in documents}
    columns = tuple(documents[0])
    output.table(
        "dry run: nothing was scored or written",
        columns,
        [tuple(d.values()) for d in documents],
        right=columns[1:-1],
    )
    for suite, cost in costs.items():
        if cost:
            output.line(f"{suite}: {cost}")
