"""`rmeval probe search`: what a step model is worth as a guide.

What this module does not know: how a search goes.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmeval.cli.probe.pools import numbers
from rmeval.cli.probe.shown import Out, finish
from rmeval.cli.run import Arguments, AsJson

if TYPE_CHECKING:
    from rmeval.probes.search_world import Score


def search(
    model: Annotated[str, typer.Argument(metavar="MODEL|oracle", help="A step model; or the truth, with --noise.")],
    budget: Annotated[str, typer.Option(metavar="N,N,...", help="Solutions' worth of steps.")] = "4,8,16,32",
    problems: Annotated[int, typer.Option(help="Problems of the arithmetic world.")] = 200,
    error: Annotated[float, typer.Option(help="The policy's chance of an error at each operation.")] = 0.5,
    width: Annotated[int, typer.Option(help="Beam search and DVTS keep one in so many.")] = 4,
    aggregate: Annotated[str, typer.Option(help="How step scores become rewards: last, min, prod, mean, ...")] = "last",
    cut: Annotated[float, typer.Option(help="Early rejection gives up at a step below it.")] = 0.5,
    noise: Annotated[
        float, typer.Option(help="oracle: standard deviation of its log-odds, whose means are 2, -2.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Draws problems and solutions.")] = 0,
    arg: Arguments = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Beam search, DVTS and early rejection beside best-of-n with as many steps written, on the arithmetic world."""
    from rmeval.errors import UsageError, near_miss
    from rmeval.metrics.convert import AGGREGATES
    from rmeval.probes.search_world import Setting, probe_search
    from rmeval.results import check_writable

    if aggregate not in AGGREGATES:
        raise UsageError(f"--aggregate {aggregate!r}: unknown. {near_miss(aggregate, AGGREGATES)}".rstrip())
    how = Setting(tuple(numbers(budget, "--budget") or ()), problems, error, width, aggregate, cut, seed)
    if out:
        check_writable(out)
    score, about = _scores(model, noise, seed, arg or [])
    found = probe_search(score, how)
    title = f"{about['name']}: search on the arithmetic world, error {error:g} a step"
    document = {
        "probe": "search",
        "model": about,
        "setting": asdict(how),
        "complete": True,
        "prompts": found.problems,
        "n": list(found.n),
        "notes": list(found.notes),
        "curves": [asdict(curve) for curve in found.curves],
    }
    finish(document, title, found.curves, found.notes, out, "search", as_json)


def _scores(model: str, noise: float, seed: int, given: list[str]) -> tuple[Score, dict[str, Any]]:
    """What scores the steps, and what is said of it."""
    from rmeval import arguments
    from rmeval.errors import UsageError
    from rmeval.models import load_model
    from rmeval.probes.search_world import ModelScores, oracle

    if model == "oracle":
        if given:
            raise UsageError(f"-a {given[0]}: the oracle takes no arguments but --noise")
        return oracle(noise, seed), {"name": f"oracle (noise {noise:g})", "noise": noise, "kind": "oracle"}
    if noise:
        raise UsageError(f"--noise {noise:g}: only the oracle has it; write `rmeval probe search oracle --noise ...`")
    scoped = arguments.parse(given)
    loaded = load_model(model, given=scoped, by_step=True)
    return ModelScores(loaded), {"name": loaded.name, "revision": loaded.revision, "kind": loaded.kind}
