"""`rmeval probe rejection`: generate, score, choose, describe beside luck, export, fine-tune.

What this module does not know: how candidates are written, scored, chosen or described, how policies are trained.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmeval.cli import output
from rmeval.cli.probe.pools import about_pool, read_pool
from rmeval.cli.probe.shown import Aggregate, Out, print_panels, rows_of, write_figure
from rmeval.cli.run import Arguments, AsJson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rmeval.policy.completions import Way
    from rmeval.policy.refinement import Refined
    from rmeval.probes.kept import Beside
    from rmeval.probes.pool import Pool
    from rmeval.store import Store

WRITING, TUNING = "Writing a pool", "Fine-tuning on the chosen"


def rejection(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[RESULT|POOL|SUITE]", help="A result, a pool file (JSONL), or a suite; or --generate."),
    ] = None,
    rule: Annotated[str, typer.Option(help="top, top-k, threshold, rso, random or random-k.")] = "top",
    k: Annotated[int, typer.Option("-k", help="Chosen per prompt; in all for top-k and random-k.")] = 1,
    normalise: Annotated[str, typer.Option(help="none, zscore or rank, within each prompt.")] = "none",
    threshold: Annotated[float, typer.Option(help="threshold: rewards above it are chosen.")] = 0.0,
    beta: Annotated[float, typer.Option(help="rso: near 0 the best k, large the first k.")] = 0.5,
    scorer: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Give the pool this model's rewards; as for `rmeval run`.")
    ] = None,
    aggregate: Aggregate = None,
    arg: Arguments = None,
    data: Annotated[Path | None, typer.Option(help="Read a suite's rows from a local file or folder.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws completions, choices and resamples; trains.")] = 0,
    store: Annotated[Path | None, typer.Option(help="Reply store; default in the user's cache.")] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the chosen as rows for `rmeval train sft --data`.")
    ] = None,
    out: Out = None,
    generate: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Write the pool with this language model.", rich_help_panel=WRITING),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|SUITE", help="Rows {prompt, id?, answer?}, or a suite's prompts.", rich_help_panel=WRITING
        ),
    ] = None,
    n: Annotated[int, typer.Option(help="Completions of each prompt.", rich_help_panel=WRITING)] = 16,
    temperature: Annotated[float, typer.Option(help="Above 0.", rich_help_panel=WRITING)] = 0.8,
    top_p: Annotated[float, typer.Option(help="Nucleus; 1 draws from all tokens.", rich_help_panel=WRITING)] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a completion.", rich_help_panel=WRITING)] = 512,
    engine: Annotated[str, typer.Option(help="What runs its weights.", rich_help_panel=WRITING)] = "transformers",
    base_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible server that runs it.", rich_help_panel=WRITING)
    ] = None,
    finetune: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Train this one on the chosen, and on a matched draw.", rich_help_panel=TUNING
        ),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|SUITE",
            help="Prompts with answers to compare on, none of the pool's.",
            rich_help_panel=TUNING,
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML with settings of `train sft`.", rich_help_panel=TUNING)
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Seeds of training, draw and sampling.", rich_help_panel=TUNING)
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Rejection sampling: what a choice by reward is worth beside random ones, from a pool or with one written anew.

    Figures of the choice stand beside those of as many drawn per prompt and of as many drawn from the whole pool; the
    curves go over the share that is kept. --generate writes the pool (OUT/pool.jsonl), --scorer gives it rewards,
    --export writes the chosen, and --finetune trains on them and on a matched draw and asks both held-out prompts.
    """
    from rmeval.errors import CheckFailed
    from rmeval.policy.completions import Way
    from rmeval.probes.kept import beside_luck, sweep, training_rows
    from rmeval.probes.pool import to_json
    from rmeval.results import check_writable, write_whole
    from rmeval.whole_files import refuse_what_is_read

    how = _how(rule, k, normalise, threshold, beta, seed)
    way = Way(n, temperature, top_p, max_tokens, seed)
    _refuse_unfit(source, generate, prompts, base_url, finetune, held_out, config, out)
    if out is not None:
        check_writable(out)
    if export is not None:
        refuse_what_is_read(export, *(Path(said) for said in (source, prompts, held_out) if said))
    document: dict[str, Any] = {}
    with _store(store) as kept:
        if generate is not None:
            assert prompts is not None
            pool, document["written"] = _written(generate, prompts, way, engine, base_url, arg or [], data, kept)
        else:
            assert source is not None
            pool = read_pool(source, data, aggregate, seed)
        if scorer is not None:
            pool, document["scorer"] = _scored(pool, scorer, aggregate, arg or [], kept)
        if out is not None and (generate is not None or scorer is not None):
            lines = "".join(f"{to_json(row)}\n" for row in pool.rows)
            write_whole(out / "pool.jsonl", lines.encode())
        found = beside_luck(pool, how)
        if export is not None:
            _write_rows(export, training_rows(pool, found.chosen.chosen))
        curves = sweep(pool, how)
        refined = None
        if finetune is not None:
            assert held_out is not None
            assert out is not None
            refined = _refined(pool, found, how, finetune, held_out, config, way, engine, arg or [], repeats, out, kept)
            curves = (*curves, *refined.curves)
    notes = found.chosen.notes
    document = {
        **about_pool("rejection", pool, notes),
        "rule": {name: value for name, value in asdict(how).items() if name in _USED[how.rule]},
        **document,
        "figures": _figures(found),
        "chosen": [[pool.rows[row].id, i] for row, i in found.chosen.chosen],
        "export": None if export is None else str(export),
        "finetuned": None if refined is None else _about_refined(refined),
        "rows": rows_of(curves),
        "curves": [asdict(curve) for curve in curves],
    }
    write_figure(out, "rejection", document, pool.name, curves)
    if as_json:
        output.json_document(document)
    else:
        _print(pool, document, found, refined, export)
        print_panels(curves)
        for note in notes:
            output.line(note)
        if out is not None:
            output.line(f"figure: {out / 'rejection.svg'}")
    if not pool.complete and generate is not None:
        raise CheckFailed(f"{sum(document['written']['failed'].values())} completions have no text: {notes[0]}")


_USED = {
    "top": ("rule", "k", "normalise", "seed"),
    "top-k": ("rule", "k", "normalise", "seed"),
    "threshold": ("rule", "threshold", "normalise", "seed"),
    "rso": ("rule", "k", "beta", "normalise", "seed"),
    "random": ("rule", "k", "seed"),
    "random-k": ("rule", "k", "seed"),
}
"""The settings that a rule reads."""


def _how(rule: str, k: int, normalise: str, threshold: float, beta: float, seed: int) -> Any:
    from typing import get_args

    from rmeval.errors import UsageError, near_miss
    from rmeval.probes.selection import RULES, Choice, Normalise

    for flag, given, known in (("--rule", rule, RULES), ("--normalise", normalise, get_args(Normalise))):
        if given not in known:
            raise UsageError(f"{flag} {given}: one of {', '.join(known)}. {near_miss(given, known)}".rstrip())
    return Choice(rule, k, normalise, threshold, beta, seed)  # type: ignore[arg-type]  # checked above


def _refuse_unfit(
    source: str | None,
    generate: str | None,
    prompts: str | None,
    base_url: str | None,
    finetune: str | None,
    held_out: str | None,
    config: Path | None,
    out: Path | None,
) -> None:
    """Flags that go together, before anything is loaded."""
    from rmeval.errors import UsageError

    if (source is None) == (generate is None):
        both = "both a pool and --generate" if source is not None else "no pool: name a RESULT, POOL or SUITE"
        raise UsageError(f"{both}; or say --generate MODEL --prompts FILE|SUITE")
    if (generate is None) != (prompts is None):
        raise UsageError("--generate MODEL and --prompts FILE|SUITE go together")
    if base_url is not None and generate is None:
        raise UsageError("--base-url: is where the model of --generate runs")
    if finetune is not None and (held_out is None or out is None):
        raise UsageError("--finetune MODEL needs --held-out FILE|SUITE to compare on, and -o DIR for the checkpoints")
    if finetune is None and (held_out is not None or config is not None):
        raise UsageError(f"--{'held-out' if held_out else 'config'}: goes with --finetune MODEL")


@contextmanager
def _store(path: Path | None) -> Iterator[Store]:
    from rmeval.store import Store, home

    with Store(path or home() / "replies.sqlite") as kept:
        yield kept


def _written(
    model: str,
    prompts: str,
    way: Way,
    engine: str,
    base_url: str | None,
    given: list[str],
    data: Path | None,
    kept: Store,
) -> tuple[Pool, dict[str, Any]]:
    """The pool, and what is said of its writing."""
    from rmeval import arguments
    from rmeval.models import language_model
    from rmeval.policy.completions import prompts_of, write_pool

    asked = prompts_of(prompts, data=data, seed=way.seed)
    remote = {"base_url": base_url} if base_url or engine == "openai" else None
    runs, checkpoint = language_model(model, engine, arguments.parse(given)["engine"], remote, said=model)
    with kept.lock(f"pool of {prompts} by {model}"):
        found = write_pool(asked, runs, kept, way, name=f"{model} on {prompts}")
    return found.pool, {
        "model": {"name": model, "revision": checkpoint.identity if checkpoint else None, "engine": runs.name},
        "way": asdict(way),
        "prompts": len(asked),
        "failed": dict(found.failed),
        "cut": found.cut,
        "computed": found.computed,
        "cached": found.cached,
        "tokens": found.tokens,
    }


def _scored(
    pool: Pool, scorer: str, aggregate: str | None, given: list[str], kept: Store
) -> tuple[Pool, dict[str, Any]]:
    from rmeval import arguments
    from rmeval.metrics.convert import OWN
    from rmeval.models import load_model
    from rmeval.policy.completions import rewarded

    scoped = arguments.parse(given)
    model = load_model(scorer, given={"scorer": scoped["scorer"], "judge": scoped["judge"]})
    with kept.lock(f"rewards of {pool.name} by {scorer}"):
        scored = rewarded(pool, model, kept, aggregate=aggregate or OWN)
    return scored, {"name": model.name, "revision": model.revision, "kind": model.kind}


def _refined(
    pool: Pool,
    found: Beside,
    how: Any,
    model: str,
    held_out: str,
    config: Path | None,
    way: Way,
    engine: str,
    given: list[str],
    repeats: int,
    out: Path,
    kept: Store,
) -> Refined:
    from rmeval import arguments
    from rmeval.policy.completions import prompts_of
    from rmeval.policy.refinement import Settings, refine
    from rmeval.training.config import read_config

    settings = Settings(
        base=model,
        sft=read_config(config, "sft") if config is not None else {},
        way=way,
        repeats=repeats,
        engine="transformers" if engine == "openai" else engine,
        engine_args=arguments.parse(given)["engine"],
    )
    asked = prompts_of(held_out, seed=how.seed)
    return refine(pool, found.chosen.chosen, how, held_out=asked, settings=settings, store=kept, out=out)


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    import json

    from rmeval.results import write_whole

    lines = "".join(f"{json.dumps(row, ensure_ascii=False, allow_nan=False)}\n" for row in rows)
    write_whole(path, lines.encode())


def _figures(found: Beside) -> list[dict[str, Any]]:
    """A row per figure with the choice and the two draws."""
    return [
        {
            "name": one.name,
            "what": one.what,
            "value": one.value,
            "ci": one.ci,
            "per_prompt": {"value": same.value, "ci": same.ci},
            "whole_pool": {"value": whole.value, "ci": whole.ci},
        }
        for one, same, whole in zip(
            found.chosen.figures, found.per_prompt.figures, found.whole_pool.figures, strict=True
        )
    ]


def _about_refined(refined: Refined) -> dict[str, Any]:
    return {
        "rows": refined.rows,
        "held_out_prompts": refined.prompts,
        "gold": [asdict(point) for point in refined.gold],
        "difference": asdict(refined.difference),
        "gain": asdict(refined.gain),
        "each": list(refined.each),
        "checkpoints": list(refined.folders),
    }


def _print(pool: Pool, document: dict[str, Any], found: Beside, refined: Refined | None, export: Path | None) -> None:
    said = ", ".join(f"{name} {value}" for name, value in document["rule"].items() if name != "rule")
    output.line(f"{pool.name}: {document['prompts']} prompts{'' if pool.complete else ' (incomplete)'}")
    if "written" in document:
        made = document["written"]
        texts = f"{made['computed']} texts written now, {made['cached']} before, {made['tokens']:,} tokens"
        output.line(f"{texts}, {made['cut']} cut off by --max-tokens")
    columns = (document["rule"]["rule"], "per prompt", "whole pool")
    figures = zip(found.chosen.figures, found.per_prompt.figures, found.whole_pool.figures, strict=True)
    rows = [(a.name, *(_cell(f) for f in (a, b, c)), a.what) for a, b, c in figures]
    output.table(f"{document['rule']['rule']} ({said})", ("", *columns, ""), rows, right=columns)
    output.line("per prompt, whole pool: as many drawn of each prompt, and of all candidates")
    if export is not None:
        output.line(f"{len(found.chosen.chosen)} rows for `rmeval train sft --data`: {export}")
    if refined is not None:
        each = ", ".join(f"{value:+.3f}" for value in refined.each)
        output.line(
            f"fine-tuned on {refined.rows} rows, asked {refined.prompts} held-out prompts: chosen - matched draw "
            f"{_cell(refined.difference)}; repeat by repeat {each}"
        )


def _cell(one: Any) -> str:
    if one.value is None:
        return "-"
    return f"{one.value:.3f}" + (f" [{one.ci[0]:.3f}, {one.ci[1]:.3f}]" if one.ci else "")
