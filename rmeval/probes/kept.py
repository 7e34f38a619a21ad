"""Rejection sampling beside luck, and over how much is kept; the chosen as rows to train on.

    per prompt   as many of each prompt as were chosen of it, drawn
    whole pool   as many of all candidates, drawn

The two draws are real ones, of the kind that a policy is trained on to compare; `uplift` and `within` of the choice are
their expectations. The sweep chooses again for every k (1, 2, 4, ...), or for every threshold that keeps about a half,
a quarter, ... of the candidates.

What this module does not know: where pools come from, files, figures.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rmeval.errors import UsageError
from rmeval.probes.curves import Curve, Point
from rmeval.probes.pool import Pool
from rmeval.probes.rejection import Figure, Rejection, describe_choice
from rmeval.probes.selection import Choice, Chosen, choose, normalised

SHARES = 7
"""Halvings of a threshold's sweep, and at most so many of a rule that chooses from all."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A choice and what luck makes of the same counts."""

    chosen: Rejection
    per_prompt: Rejection
    whole_pool: Rejection


def beside_luck(pool: Pool, how: Choice) -> Beside:
    """The figures of a choice and of its two matched draws. Raises `UsageError` as `choose` does."""
    chosen = choose(pool, how)
    return Beside(
        describe_choice(pool, chosen, seed=how.seed),
        describe_choice(pool, drawn_per_prompt(pool, chosen, how.seed), seed=how.seed),
        describe_choice(pool, choose(pool, Choice("random-k", len(chosen), seed=how.seed)), seed=how.seed),
    )


def drawn_per_prompt(pool: Pool, chosen: Chosen, seed: int) -> Chosen:
    """As many of each prompt as were chosen of it; where each prompt has k, what the rule `random` draws.

    >>> from rmeval.probes.pool import PoolRow
    >>> pool = Pool("p", (PoolRow("a", "a", 4), PoolRow("b", "b", 4)))
    >>> [row for row, _ in drawn_per_prompt(pool, ((0, 1), (0, 2), (1, 0)), seed=0)]
    [0, 0, 1]
    """
    found = []
    for row, count in sorted(Counter(row for row, _ in chosen).items()):
        rng = random.Random(f"{seed}|random|{pool.rows[row].id}")  # noqa: S311 - a draw, not a secret
        found += [(row, i) for i in sorted(rng.sample(range(pool.rows[row].n), count))]
    return tuple(found)


def training_rows(pool: Pool, chosen: Chosen) -> list[dict[str, Any]]:
    """The chosen as rows of supervised fine-tuning: `id`, `prompt`, `response`, `candidate`, and its `reward`.

    Raises `UsageError` where the pool has no texts.
    """
    for what in ("prompt", "completions"):
        if why := pool.lacks(what):
            raise UsageError(f"{pool.name}: {why}: there are no texts to train on")
    rows = []
    for at, i in chosen:
        row = pool.rows[at]
        reward = row.rewards[i] if row.rewards else math.nan
        rows.append(
            {
                "id": f"{row.id}/{i}",
                "prompt": [{"role": m.role, "content": m.content} for m in row.prompt],
                "response": row.completions[i],
                "candidate": i,
                "reward": None if math.isnan(reward) else reward,
            }
        )
    return rows


# --- over how much is kept -------------------------------------------------------------------------------------------


def sweep(pool: Pool, how: Choice) -> tuple[Curve, ...]:
    """What the rule makes of the pool over the share of the candidates that it keeps."""
    total = sum(row.n for row in pool.rows)
    found: dict[int, Rejection] = {}
    for one in _ladder(pool, how):
        chosen = choose(pool, one)
        if chosen:
            found.setdefault(len(chosen), describe_choice(pool, chosen, seed=how.seed))
    points = [(count / total, one) for count, one in sorted(found.items())]

    def curve(panel: str, name: str, what: str, of: Callable[[Rejection], Figure]) -> Curve:
        figures = [(share, of(one)) for share, one in points]
        undefined = [figure.what for _, figure in figures if figure.value is None]
        if len(undefined) == len(figures):
            return Curve(panel, name, what, undefined=undefined[0].removeprefix("undefined: "))
        return Curve(
            panel,
            name,
            what,
            tuple(
                Point(share, f.value, f.ci, len(one.chosen))
                for (share, f), (_, one) in zip(figures, points, strict=True)
            ),
        )

    def named(name: str) -> Callable[[Rejection], Figure]:
        return lambda one: one.figure(name)

    prompts = len(pool.rows)
    return (
        curve("gold of the kept", how.rule, "mean gold of the chosen", named("gold")),
        curve("gold of the kept", "per prompt", "of as many drawn per prompt, expected", _expected),
        curve("gold of the kept", "whole pool", "of as many drawn from the whole pool, expected", named("random gold")),
        curve("uplift", "uplift", "gold minus that of the whole pool", named("uplift")),
        curve("uplift", "within", "of it, from choosing well among a prompt's candidates", named("within")),
        curve("uplift", "easy prompts", "of it, from choosing prompts that are easy", named("easy prompts")),
        curve("prompts kept", "coverage", "share of the prompts with any chosen", named("coverage")),
        curve(
            "prompts kept",
            "effective",
            "effective prompts as a share of all",
            lambda one: _scaled(one.figure("effective prompts"), prompts),
        ),
        curve("drift", "length", "length of the chosen over that of a matched draw", named("length ratio")),
        curve(
            "drift", "variety", "different pairs of words over those of a matched draw", named("distinct pairs ratio")
        ),
    )


def _expected(one: Rejection) -> Figure:
    gold, within = one.figure("gold"), one.figure("within")
    if gold.value is None or within.value is None:
        return gold
    return Figure("per prompt", gold.value - within.value, None, "gold minus within")


def _scaled(figure: Figure, by: int) -> Figure:
    return figure if figure.value is None else replace(figure, value=figure.value / by)


def _ladder(pool: Pool, how: Choice) -> Sequence[Choice]:
    """The choices of a sweep, the one asked for among them."""
    if how.rule == "threshold":
        rewards = sorted(
            (r for row in pool.rows for r in normalised(row.rewards, how.normalise) if not math.isnan(r)), reverse=True
        )
        cuts = {rewards[len(rewards) >> halvings] for halvings in range(1, SHARES) if len(rewards) >> halvings}
        return [replace(how, threshold=cut) for cut in (-math.inf, *sorted(cuts), how.threshold)]
    if how.rule in ("top-k", "random-k"):
        most = sum(
            row.n if how.rule == "random-k" else sum(not math.isnan(r) for r in row.rewards) for row in pool.rows
        )
        ks = {most >> halvings for halvings in range(SHARES)} - {0}
    else:
        ks = {pool.largest, *(2**i for i in range(pool.largest.bit_length()) if 2**i <= pool.largest)}
    return [replace(how, k=k) for k in sorted({*ks, how.k})]
