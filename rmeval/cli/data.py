"""`rmeval data`: what a training or suite file holds, what is wrong with it, which tokens would carry loss.

What this module does not know: schemas, templates, how labels are made.
"""

from __future__ import annotations

import math
import sys
from typing import Annotated, Any

import typer

from rmeval.cli import output

app = typer.Typer(no_args_is_help=True, add_completion=False)

File = Annotated[str, typer.Argument(help="Rows: JSONL, JSON (.gz), parquet, csv; hf:NAME; or `arithmetic`.")]
KindFlag = Annotated[str | None, typer.Option(help="bt, orm, prm, value or sft; default: what the columns say.")]
Model = Annotated[str | None, typer.Option(help="Hub id or folder of a tokenizer; weights are not read.")]
Template = Annotated[str | None, typer.Option(help="chatml, zephyr, tulu, plain or a file; default: the tokenizer's.")]
Scale = Annotated[str, typer.Option(help="Meaning of step labels 0 and 1: binary (wrong, right) or ternary.")]
Soft = Annotated[bool, typer.Option("--soft", help="Step labels are rates in [0, 1].")]
Separator = Annotated[str, typer.Option(help=r"What ends a step; \n is a line end.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.callback()
def _about() -> None:
    """What a training file holds: show, lint, stats.

    bt: prompt, chosen, rejected, margin?; or prompt, responses and ranking or scores.

    orm: prompt, response, label (0 or 1); or prompt, completions and labels, gold or rewards.

    prm: prompt, steps and labels (-1 0 1, true false, or rates with --soft) or mc (per step right, rollouts).

    value: prompt, response and reward or token_rewards. sft: messages; or prompt, response.

    Rows of TRL, PRM800K, Math-Shepherd, ProcessBench, PRMBench, Mr-Ben, BIG-Bench-Mistake, the rlhf-book cache, ratings
    and ranks are recognised by their columns.
    """


@app.command("show")
def show(
    file: File,
    kind: KindFlag = None,
    mask: Annotated[bool, typer.Option("--mask", help="Mark the tokens that carry loss.")] = False,
    model: Model = None,
    chat_template: Template = None,
    rows: Annotated[int, typer.Option("-n", "--rows", help="Rows shown.", min=1)] = 3,
    label_scale: Scale = "auto",
    soft: Soft = False,
    step_separator: Separator = r"\n\n",
    boundary: Annotated[str, typer.Option(help="Where a step is judged: last-token, or special:TOKEN.")] = "last-token",
    loss_on: Annotated[str, typer.Option(help="sft: all-assistant, final or all.")] = "all-assistant",
    as_json: AsJson = False,
) -> None:
    """Show the first rows of a file as training reads them; all rows are checked."""
    from rmeval.conventions import typed
    from rmeval.training.describe import encoded

    _one_of("--loss-on", loss_on, ("all-assistant", "final", "all"))
    name, found = _read(file, kind, label_scale, soft)
    shown = found[:rows]
    if not mask:
        documents = [_plain(one) for one in shown]
        if as_json:
            output.json_document({"file": file, "kind": name, "rows": len(found), "shown": documents})
            return
        output.line(f"{file}: {len(found)} rows of kind {name}")
        for one in documents:
            output.line()
            for key, value in one.items():
                _block(f"{key}: {value}" if not isinstance(value, list) else f"{key}:")
                for item in value if isinstance(value, list) else ():
                    _block(f"  - {item}")
        return
    tokenizer = _tokenizer(model, chat_template)
    if boundary.startswith("special:"):
        tokenizer.add_tokens([boundary.removeprefix("special:")], special_tokens=True)
    separator = typed(step_separator)
    ready = encoded(shown, tokenizer, separator=separator, boundary=boundary, soft=soft, loss_on=loss_on)
    texts = [(row.id, ids, labels) for row in ready for ids, labels in _masks(row)]
    if as_json:
        output.json_document(
            {"file": file, "kind": name, "rows": len(found), "shown": _mask_document(texts, tokenizer)}
        )
        return
    output.line(f"{file}: {len(found)} rows of kind {name}; {_SAYS[name]}")
    if model is None:
        output.line("tokens are bytes here: name the model's tokenizer with --model")
    if len(ready) < len(shown):
        output.line(f"{len(shown) - len(ready)} of these rows would be left out: the template refuses their turns")
    for row_id, ids, labels in texts:
        count = sum(not math.isnan(label) for label in labels)
        output.line()
        output.line(f"{row_id}: {len(ids)} tokens, {count} with a label")
        _mask(ids, labels, tokenizer, of_tokens=name == "sft")


@app.command("lint")
def lint(
    file: File,
    eval_data: Annotated[str | None, typer.Option(help="Held-out rows, looked through for prompts of FILE.")] = None,
    kind: KindFlag = None,
    model: Model = None,
    chat_template: Template = None,
    max_length: Annotated[int | None, typer.Option(help="Length limit in tokens; needs --model.")] = None,
    cycles: Annotated[bool, typer.Option("--cycles", help="Only intransitive triads, even if there are none.")] = False,
    label_scale: Scale = "auto",
    soft: Soft = False,
    step_separator: Separator = r"\n\n",
    as_json: AsJson = False,
) -> None:
    """Look for contradictions, cycles, leaks, shortcuts, lost tokens; with the loss that no model can get below."""
    from dataclasses import asdict

    from rmeval.conventions import typed
    from rmeval.errors import UsageError
    from rmeval.training import lints
    from rmeval.training.describe import read_kind

    if max_length is not None and model is None:
        raise UsageError("--max-length counts tokens: name the tokenizer with --model")
    name, rows = _read(file, kind, label_scale, soft)
    held_out = read_kind(eval_data, _kind(name), soft=soft, label_scale=_scale(label_scale)) if eval_data else []
    tokenizer = _tokenizer(model, chat_template) if model is not None else None
    separator = typed(step_separator)
    found = lints.lint(rows, evaluation=held_out, tokenizer=tokenizer, max_length=max_length, separator=separator)
    if cycles:
        found = tuple(one for one in found if one.name == "cycles")
    if as_json:
        findings = [asdict(one) for one in found]
        output.json_document({"file": file, "kind": name, "rows": len(rows), "findings": findings})
        return
    if cycles and not found:
        output.line(f"{file}: 0 intransitive triads in {len(rows)} rows")
        return
    output.line(f"{file}: {len(rows)} rows of kind {name}, {len(found)} findings")
    for one in found:
        examples = f"; first {', '.join(one.examples)}" if one.examples else ""
        floor = f"; no loss below {one.floor:.6f}" if one.floor is not None else ""
        output.line(f"{one.level}: {one.name}: {one.text}{floor}{examples}")


@app.command("stats")
def stats(
    file: File,
    kind: KindFlag = None,
    model: Model = None,
    chat_template: Template = None,
    label_scale: Scale = "auto",
    soft: Soft = False,
    as_json: AsJson = False,
) -> None:
    """Count rows, prompts, labels and lengths."""
    from rmeval.training import describe

    name, rows = _read(file, kind, label_scale, soft)
    found = describe.stats(rows, _tokenizer(model, chat_template) if model is not None else None)
    if as_json:
        output.json_document({"file": file, "kind": name, **found})
        return
    output.line(f"{file}: kind {name}")
    for key, value in found.items():
        output.line(f"{key.replace('_', ' ')}: {_number(value)}")


_SAYS = {
    "bt": "the reward is read at the token in [ ]",
    "orm": "tokens in [ ] carry loss, with their label",
    "prm": "tokens in [ ] carry loss, with their class",
    "value": "tokens in [ ] carry loss, with their return",
    "sft": "tokens in [ ] carry loss",
}


def _read(file: str, kind: str | None, label_scale: str, soft: bool) -> tuple[str, list[Any]]:
    from rmeval.training.describe import kind_of, read_kind

    found = _kind(kind) if kind is not None else kind_of(file)
    return found, read_kind(file, found, soft=soft, label_scale=_scale(label_scale))


def _kind(given: str) -> Any:
    from rmeval.training.describe import KINDS

    return _one_of("--kind", given, KINDS)


def _scale(given: str) -> Any:
    return _one_of("--label-scale", given, ("auto", "binary", "ternary"))


def _one_of(flag: str, given: str, known: tuple[str, ...]) -> str:
    from rmeval.errors import UsageError, near_miss

    if given not in known:
        raise UsageError(f"{flag} {given}: one of {', '.join(known)}. {near_miss(given, known)}".rstrip())
    return given


def _tokenizer(model: str | None, template: str | None) -> Any:
    """The tokenizer of a model, or bytes; with a template of its own or the one that was asked for."""
    from rmeval.errors import UsageError
    from rmeval.training.backbone import quiet_transformers
    from rmeval.training.masks import byte_tokenizer
    from rmeval.training.templates import BUILT_IN, use_template

    quiet_transformers()
    if model is None:
        made = byte_tokenizer()
    else:
        from transformers import AutoTokenizer

        try:
            made = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as fault:
            first = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
            raise UsageError(f"--model {model}: no tokenizer can be read there: {first}") from None
    if template is not None:
        use_template(made, template)
    elif not isinstance(made.chat_template, str):
        made.chat_template = (made.chat_template or {}).get("default", BUILT_IN["plain"])
    return made


def _plain(row: Any) -> dict[str, Any]:
    """A row's fields, turns as `role: content`, labels that are none as null."""
    from dataclasses import fields

    shown: dict[str, Any] = {}
    for field in fields(row):
        value = getattr(row, field.name)
        if field.name in {"prompt", "messages"}:
            value = [f"{turn['role']}: {turn['content']}" for turn in value]
        elif isinstance(value, tuple):
            value = [_known(item) for item in value]
        else:
            value = _known(value)
        shown[field.name] = value
    return shown


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _masks(row: Any) -> list[tuple[list[int], list[float]]]:
    from rmeval.training.masks import read_at_last

    if hasattr(row, "chosen"):
        return read_at_last(row)
    if hasattr(row, "texts"):
        places = zip(row.texts, row.levels, strict=True)
        return [(ids, [math.nan] * (len(ids) - 1) + [float(level)]) for ids, level in places]
    return [(row.ids, row.labels)]


def _mask_document(texts: list[tuple[str, list[int], list[float]]], tokenizer: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": row_id,
            "ids": ids,
            "tokens": [tokenizer.decode([i]) for i in ids],
            "labels": [_known(label) for label in labels],
        }
        for row_id, ids, labels in texts
    ]


def _mask(ids: list[int], labels: list[float], tokenizer: Any, *, of_tokens: bool) -> None:
    """One text, in colours on a terminal and with marks elsewhere."""
    from rmeval.training import masks

    runs = masks.segments(ids, labels, tokenizer, of_tokens=of_tokens)
    if not sys.stdout.isatty():
        _block(masks.marked(runs))
        return
    from rich.console import Console
    from rich.text import Text

    text = Text()
    for run in runs:
        text.append(masks.shown(run.text) if run.labelled else run.text, "black on green" if run.labelled else "dim")
        if run.label is not None:
            text.append(f"={run.label:.6g}", "bold")
    Console(highlight=False).print(text)


def _block(text: str) -> None:
    for line in text.split("\n"):
        output.line(line)


def _number(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_number(one)}" for name, one in value.items())
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
