"""`rmeval probe best-of-n` and `rmeval probe overopt`: of candidate pools.

What this module does not know: how any probe computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmeval.cli.probe.shown import Aggregate, Out, Seed, finish
from rmeval.cli.run import AsJson

if TYPE_CHECKING:
    from rmeval.probes.pool import Pool

Source = Annotated[str, typer.Argument(metavar="RESULT|POOL|SUITE", help="A result, a pool file (JSONL), or a suite.")]
Sizes = Annotated[str | None, typer.Option("-n", metavar="N,N,...", help="Where to look; default: 1, 2, 4, ...")]
Data = Annotated[Path | None, typer.Option(help="Read a suite's rows from a local file or folder.")]


def best_of_n(
    source: Source,
    sizes: Sizes = None,
    data: Data = None,
    aggregate: Aggregate = None,
    seed: Seed = 0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """What choosing the best-rewarded of n is worth: exact curves beside oracle, majority, weighted vote and luck."""
    from rmeval.probes.best_of_n import answer_kl, best_of_n
    from rmeval.stats import best_of_n_kl

    pool = read_pool(source, data, aggregate, seed)
    found = best_of_n(pool, numbers(sizes), seed=seed)
    chosen = found.curves[0] if found.curves[0].points else found.curves[1]
    document = {
        **about_pool("best-of-n", pool, found.notes),
        "of": chosen.name,
        "rows": [
            {
                "n": n,
                "value": point.value,
                "ci": point.ci,
                "n_missing": point.n_missing,
                "kl_bound": best_of_n_kl(n),
                "kl_answers": answer_kl(pool, n),
            }
            for n, point in zip(found.n, chosen.points, strict=True)
        ],
        "curves": [asdict(curve) for curve in found.curves],
    }
    finish(document, pool.name, found.curves, found.notes, out, "best-of-n", as_json)


def overopt(
    source: Source,
    sizes: Sizes = None,
    data: Data = None,
    aggregate: Aggregate = None,
    seed: Seed = 0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Proxy against gold as best-of-n optimises harder: the laws of Gao et al., the peak, and the fall after it."""
    from rmeval.probes.overoptimisation import over_optimisation

    pool = read_pool(source, data, aggregate, seed)
    found = over_optimisation(pool, numbers(sizes), seed=seed)
    gold = found.curves[1]
    fits = [
        {**asdict(one.fit), "peak_d": one.fit.peak, "alpha_ci": one.alpha_ci, "beta_ci": one.beta_ci,
         "peak_ci": one.peak_ci, "peaks": one.peaks}
        for one in found.fits
    ]  # fmt: skip
    document = {
        **about_pool("overopt", pool, found.notes),
        "rows": [
            {"n": n, "d": d, "value": point.value, "ci": point.ci}
            for n, d, point in zip(found.n, found.d, gold.points, strict=True)
        ],
        "fits": fits,
        "no_fit": found.why_no_fit,
        "best_n": found.best_n,
        "fall": found.fall,
        "fall_ci": found.fall_ci,
        "over_optimised": found.over,
        "curves": [asdict(curve) for curve in found.curves],
    }
    said = [_law(one) for one in fits] or [f"no fit: {found.why_no_fit}"]
    fall = f"{found.fall:.4g}" + (f" [{found.fall_ci[0]:.4g}, {found.fall_ci[1]:.4g}]" if found.fall_ci else "")
    verdict = "over-optimised" if found.over else "no over-optimisation shown"
    said.append(f"gold is best at n = {found.best_n}; at n = {found.n[-1]} it is lower by {fall}: {verdict}")
    finish(document, pool.name, found.curves, (*found.notes, *said), out, "overopt", as_json)


def _law(fit: Mapping[str, Any]) -> str:
    peak = "no peak" if fit["peak_d"] is None else f"peak at d = {fit['peak_d']:.4g}"
    if fit["peak_ci"]:
        peak += f" [{fit['peak_ci'][0]:.4g}, {fit['peak_ci'][1]:.4g}]"
    elif fit["peak_d"] is not None:
        peak += f" (only {fit['peaks']:.0%} of the resamples have one)"
    parameters = ", ".join(
        f"{name} {fit[name]:.4g} [{fit[f'{name}_ci'][0]:.4g}, {fit[f'{name}_ci'][1]:.4g}]" for name in ("alpha", "beta")
    )
    return f"{fit['law']} law: {parameters}, R2 {fit['r2']:.3f}, {peak}"


def read_pool(source: str, data: Path | None, aggregate: str | None, seed: int) -> Pool:
    """The pool that a command was given."""
    from rmeval.metrics.convert import OWN
    from rmeval.probes.pool import load_pool

    return load_pool(source, aggregate=aggregate or OWN, data=data, seed=seed)


def about_pool(probe: str, pool: Pool, notes: Sequence[str]) -> dict[str, Any]:
    """What the document of every probe of a pool begins with."""
    return {
        "probe": probe,
        "pool": pool.name,
        "result": pool.result,
        "complete": pool.complete,
        "prompts": len({row.cluster for row in pool.rows}),
        "candidates": [pool.smallest, pool.largest],
        "notes": list(notes),
    }


def numbers(text: str | None, flag: str = "-n") -> list[int] | None:
    """`1,2,4` as numbers."""
    from rmeval.errors import UsageError

    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not part.isdecimal()]
    if wrong:
        raise UsageError(f"{flag} {text}: {wrong[0]!r} is not a whole number; write {flag} 1,2,4,8")
    return [int(part) for part in parts]
