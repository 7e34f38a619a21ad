"""`rmeval label`: labels for training data.

What this module does not know: schemas, rules, how rollouts are drawn, how intervals are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmeval.cli import output

if TYPE_CHECKING:
    from rmeval.policy.monte_carlo import Labelled
    from rmeval.policy.rollouts import Tally, Way

app = typer.Typer(no_args_is_help=True, add_completion=False)

SHOWN = 10
"""Steps in the table; the file has all."""

ROLLING = "Rolling out"
"""The panel of the help that only --model makes use of."""


@app.callback()
def _about() -> None:
    """Make labels for training data."""


@app.command("mc")
def label_mc(
    file: Annotated[
        Path, typer.Argument(help="Rows {prompt, steps, counts | answer}; JSONL, JSON (.gz), parquet, csv.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Write the labelled rows here, as JSONL.")],
    rule: Annotated[
        str, typer.Option(help="soft: the rate; any: right if one rollout is; threshold: right from a rate on.")
    ] = "soft",
    threshold: Annotated[
        float | None, typer.Option(help="Rate from which a step is right; needs --rule threshold.", show_default="0.5")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Language model that goes on from every step: folder, hub id or a server's name for it.",
            rich_help_panel=ROLLING,
        ),
    ] = None,
    rollouts: Annotated[int, typer.Option(min=1, help="Rollouts from each step.", rich_help_panel=ROLLING)] = 8,
    temperature: Annotated[float, typer.Option(help="Above 0.", rich_help_panel=ROLLING)] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus; 1 draws from all tokens.", rich_help_panel=ROLLING)] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a rollout.", rich_help_panel=ROLLING)] = 512,
    step_separator: Annotated[
        str, typer.Option(help=r"What ends a step; \n is a line end.", rich_help_panel=ROLLING)
    ] = r"\n\n",
    seed: Annotated[int, typer.Option(help="Draws the rollouts.", rich_help_panel=ROLLING)] = 0,
    engine: Annotated[str, typer.Option(help="What runs the weights.", rich_help_panel=ROLLING)] = "transformers",
    base_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible server that runs the model.", rich_help_panel=ROLLING)
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option("-a", "--arg", metavar="engine.KEY=VALUE", help="Engine argument.", rich_help_panel=ROLLING),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Reply store; default in the user's cache.", rich_help_panel=ROLLING)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Label steps by Monte Carlo: from counts of rollouts that you have, or by rolling out with a model.

    counts has one entry per step: how many of the solutions sampled from there on came out right, and how many there
    were; null where none were. With --model they are made: the model goes on from the end of each step, and a rollout
    is right whose final answer is the row's `answer` (boxed, else "answer is", "answer:" or "####", else the last
    number; numbers are compared as numbers). What was written is kept: the same command goes on where it was stopped.

    The rows written have labels, counts and intervals (Wilson, 95 %), and are what `rmeval train prm --data OUT` takes;
    with rates (rule soft) add --soft.
    """
    from rmeval.errors import CheckFailed, UsageError
    from rmeval.policy import monte_carlo
    from rmeval.training.schemas import THRESHOLD
    from rmeval.whole_files import refuse_what_is_read

    known = _rule(rule)
    if threshold is not None and rule != "threshold":
        raise UsageError(f"--threshold {threshold:g}: the rule is {rule}; say --rule threshold")
    cut = THRESHOLD if threshold is None else threshold
    if not 0 < cut <= 1:
        raise UsageError(f"--threshold {cut:g}: a rate above 0 and at most 1 is needed")
    refuse_what_is_read(out, file)
    given = monte_carlo.read_rows(file)
    document: dict[str, Any] = {"file": str(file), "out": str(out), "rule": rule, "threshold": cut}
    fault = ""
    if model is None:
        if base_url is not None or arg:
            raise UsageError(f"{'--base-url' if base_url else '-a'}: is about a model to roll out with; say --model")
    else:
        from rmeval.conventions import typed
        from rmeval.policy.rollouts import Way

        way = Way(rollouts, temperature, top_p, max_tokens, seed, typed(step_separator))
        given, tally, about = _rolled_out(given, file, model, way, engine, base_url, arg or [], store)
        document |= about
        fault = _fault(tally)
    rows = monte_carlo.label_rows(given, file, known, cut)
    monte_carlo.write(rows, out)
    counts = monte_carlo.summary(rows, cut)
    if as_json:
        output.json_document({**document, **counts})
    else:
        _print(rows, counts, file, out, rule, cut)
        if model is not None:
            output.line(_said_of(tally))
    if fault:
        raise CheckFailed(fault)


def _rolled_out(
    rows: Sequence[Any],
    file: Path,
    model: str,
    way: Way,
    engine: str,
    base_url: str | None,
    given: list[str],
    store: Path | None,
) -> tuple[list[Any], Tally, dict[str, Any]]:
    """The rows with counts, as far as there are any; what came of the rollouts, and what is said of them in JSON."""
    from dataclasses import asdict, replace

    from rmeval import arguments
    from rmeval.errors import CheckFailed
    from rmeval.models import language_model
    from rmeval.policy import rollouts
    from rmeval.store import Store, home

    asked = rollouts.problems(rows, str(file))
    remote = {"base_url": base_url} if base_url or engine == "openai" else None
    runs, checkpoint = language_model(model, engine, arguments.parse(given)["engine"], remote, said=model)
    with Store(store or home() / "replies.sqlite") as replies, replies.lock(f"rollouts of {file.resolve()} by {model}"):
        counted, tally = rollouts.roll_out(asked, runs, replies, way)
    found = [replace(row, values=values) for row, values in zip(rows, counted, strict=True) if any(values["counts"])]
    if not found:
        raise CheckFailed(f"{_fault(tally)}: there is nothing to label")
    about = {"name": model, "revision": checkpoint.identity if checkpoint else None, "engine": runs.name}
    said = {**asdict(tally), "failed": dict(tally.failed), "rows_without": len(rows) - len(found)}
    return found, tally, {"model": about, "way": asdict(way), "made": said}


def _fault(tally: Tally) -> str:
    """What is missing, in words; empty where all rollouts have a text."""
    if not tally.failed:
        return ""
    why = ", ".join(f"{n} {reason}" for reason, n in sorted(tally.failed.items()))
    return f"{tally.failed.total()} of {tally.rollouts} rollouts have no text ({why}) and are not counted"


def _said_of(tally: Tally) -> str:
    texts = f"{tally.computed} texts written now, {tally.cached} before, {tally.written:,} tokens"
    without = f"{tally.cut} cut off by --max-tokens, {tally.unanswered} without any answer"
    return f"{tally.right} of {tally.rollouts} rollouts right; {without}; {texts}"


def _print(rows: list[Labelled], counts: dict[str, int], file: Path, out: Path, rule: str, cut: float) -> None:
    soft = " --soft" if rule == "soft" else ""
    shown = [
        (
            f"{at}",
            f"{number}",
            f"{one.right}/{one.rollouts}",
            f"{one.rate:.3f}",
            f"[{low:.3f}, {high:.3f}]",
            _said(one.label),
        )
        for at, row in enumerate(rows, 1)
        for number, one in enumerate(row.steps)
        if one
        for low, high in (one.interval,)
    ]
    columns = ("row", "step", "right", "rate", "95 % interval", "label")
    output.table(f"{file}: rule {rule}", columns, shown[:SHOWN], right=columns)
    if len(shown) > SHOWN:
        output.line(f"... and {len(shown) - SHOWN} more steps")
    output.line(
        f"{counts['rows']} rows, {counts['steps']} steps ({counts['without_rollouts']} without rollouts), "
        f"{counts['rollouts']} rollouts: {out}"
    )
    output.line(
        f"right by any: {counts['any_right']}, by threshold {cut:g}: {counts['at_least_threshold']}; the two disagree "
        f"about {counts['any_but_below']}. Steps whose interval holds {cut:g}: {counts['undecided']}"
    )
    output.line(f"train: rmeval train prm --data {out}{soft}")


def _rule(given: str) -> Any:
    from rmeval.errors import UsageError, near_miss

    rules = ("soft", "any", "threshold")
    if given not in rules:
        raise UsageError(f"--rule {given}: one of {', '.join(rules)}. {near_miss(given, rules)}".rstrip())
    return given


def _said(label: float | bool) -> str:
    if isinstance(label, bool):
        return "right" if label else "wrong"
    return f"{label:.3f}"
