"""What a choice of candidates is worth, and what it costs in coverage, ease, length and variety.

    uplift         mean gold of what was chosen, minus that of as many drawn at random from the whole pool
      within       of that, what comes from choosing well among a prompt's own candidates
      easy prompts of that, what comes from choosing prompts whose candidates are good anyway

The first is the sum of the other two. `within` is what a matched draw, as many per prompt, would not have; it is exact
(the mean over a prompt's candidates), with no draw. Intervals resample prompts.

What this module does not know: how the choice was made, models, files.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmeval import stats
from rmeval.errors import UsageError
from rmeval.probes.pool import Pool
from rmeval.probes.selection import Chosen
from rmeval.stats import Floats

NO_TEXTS = "the pool has no texts"
_FLAT = 1e-12
"""A difference this small is rounding."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number about a choice."""

    name: str
    value: float | None
    ci: tuple[float, float] | None
    what: str
    """In words, or why there is no value."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """What was chosen and what it is worth."""

    chosen: Chosen
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]

    def figure(self, name: str) -> Figure:
        """A figure by its name. `KeyError` for one that there is not."""
        for one in self.figures:
            if one.name == name:
                return one
        raise KeyError(name)


def describe_choice(pool: Pool, chosen: Chosen, *, replicates: int = stats.REPLICATES, seed: int = 0) -> Rejection:
    """All figures of a choice. Raises `UsageError` for an empty one."""
    if not chosen:
        nothing = all(math.isnan(r) for row in pool.rows for r in row.rewards)
        why = "every reward is missing" if nothing else "lower the threshold"
        raise UsageError(f"{pool.name}: no candidate was chosen; {why}")
    taken = Counter(row for row, _ in chosen)
    each = np.array([taken.get(i, 0) for i in range(len(pool.rows))], dtype=np.float64)
    figures = [
        Figure("chosen", float(len(chosen)), None, "candidates chosen"),
        Figure("coverage", float((each > 0).mean()), None, "share of the prompts with at least one chosen"),
        Figure(
            "effective prompts",
            float(each.sum() ** 2 / (each**2).sum()),
            None,
            "(sum of s)^2 / sum of s^2 over prompts with s chosen: as many as have any where all have the same",
        ),
        *_worth(pool, chosen, each, replicates, seed),
        *_lengths(pool, chosen, each, replicates, seed),
        *_variety(pool, chosen, seed),
    ]
    notes = list(pool.notes)
    unscored = sum(math.isnan(r) for row in pool.rows for r in row.rewards)
    if unscored:
        notes.append(f"{unscored} candidates have no reward and were never chosen for one")
    return Rejection(chosen, tuple(figures), tuple(notes))


def _worth(pool: Pool, chosen: Chosen, each: Floats, replicates: int, seed: int) -> list[Figure]:
    names = ("gold", "random gold", "uplift", "within", "easy prompts")
    if why := pool.lacks("gold"):
        return [Figure(name, None, None, f"undefined: {why}") for name in names]
    means = np.array([math.fsum(row.gold) / row.n for row in pool.rows])
    got = np.zeros(len(pool.rows))
    for row, i in chosen:
        got[row] += pool.rows[row].gold[i]
    sizes = np.array([row.n for row in pool.rows], dtype=np.float64)
    # gold of the chosen, what their prompts are worth, what everything is worth
    sums = np.stack([got, each * means, sizes * means], axis=1)
    counts = np.stack([each, each, sizes], axis=1)
    value, drawn = _ratios(pool, sums, counts, replicates, seed)
    of = {
        "gold": (value[0], drawn[:, 0], "mean gold of the chosen"),
        "random gold": (value[2], drawn[:, 2], "mean gold of the whole pool: what a random draw has"),
        "uplift": (value[0] - value[2], drawn[:, 0] - drawn[:, 2], "gold minus random gold"),
        "within": (value[0] - value[1], drawn[:, 0] - drawn[:, 1], "gold minus that of as many drawn per prompt"),
        "easy prompts": (
            value[1] - value[2],
            drawn[:, 1] - drawn[:, 2],
            "what the prompts chosen are worth beyond all",
        ),
    }
    return [
        Figure(name, float(v) if abs(v) > _FLAT else 0.0, _interval(rows, float(v)), what)
        for name, (v, rows, what) in of.items()
    ]


def _lengths(pool: Pool, chosen: Chosen, each: Floats, replicates: int, seed: int) -> list[Figure]:
    if pool.lacks("lengths"):
        return [Figure("length ratio", None, None, f"undefined: {NO_TEXTS}")]
    got = np.zeros(len(pool.rows))
    for row, i in chosen:
        got[row] += pool.rows[row].lengths[i]
    means = np.array([sum(row.lengths) / row.n for row in pool.rows])
    value, drawn = _ratios(
        pool, np.stack([got, each * means], axis=1), np.stack([each, each], axis=1), replicates, seed
    )
    if not value[1] > 0:
        return [Figure("length ratio", None, None, "undefined: every candidate is empty")]
    ratio = float(value[0] / value[1])
    what = "mean length of the chosen over that of their prompts' candidates"
    return [Figure("length ratio", ratio, _interval(drawn[:, 0] / drawn[:, 1], ratio), what)]


def _variety(pool: Pool, chosen: Chosen, seed: int) -> list[Figure]:
    """Of texts alone: how many are told twice, and how varied their words are beside a matched draw."""
    if pool.lacks("completions"):
        return [Figure(name, None, None, f"undefined: {NO_TEXTS}") for name in ("distinct", "distinct pairs ratio")]
    texts = [pool.rows[row].completions[i] for row, i in chosen]
    rng = random.Random(f"{seed}|variety")  # noqa: S311 - a draw, not a secret
    matched = []
    for row, count in sorted(Counter(row for row, _ in chosen).items()):
        matched += rng.sample(pool.rows[row].completions, count)
    ours, theirs = distinct_pairs(texts), distinct_pairs(matched)
    found = [Figure("distinct", len(set(texts)) / len(texts), None, "share of the chosen texts that are different")]
    what = "different pairs of neighbouring words per pair, over that of a matched random draw: below 1 is less varied"
    ratio = ours / theirs if ours is not None and theirs else None
    return [*found, Figure("distinct pairs ratio", ratio, None, what if ratio is not None else "undefined: no pairs")]


def distinct_pairs(texts: Sequence[str]) -> float | None:
    """Different pairs of neighbouring words over all pairs (distinct-2); None where there are none.

    >>> distinct_pairs(["a b a b"])
    0.6666666666666666
    """
    pairs = [pair for text in texts for words in (text.split(),) for pair in itertools.pairwise(words)]
    return len(set(pairs)) / len(pairs) if pairs else None


def _ratios(pool: Pool, sums: Floats, counts: Floats, replicates: int, seed: int) -> tuple[Floats, Floats]:
    """Column means, and the same over resampled prompts [replicates, columns]."""
    codes, clusters = stats.cluster_codes([row.cluster for row in pool.rows])
    top, bottom = np.zeros((clusters, sums.shape[1])), np.zeros((clusters, sums.shape[1]))
    np.add.at(top, codes, sums)
    np.add.at(bottom, codes, counts)
    one_stratum = [""] * clusters  # a prompt without a choice may be drawn instead of one with
    drawn = stats.cluster_bootstrap(top, bottom, one_stratum, replicates=replicates, seed=seed)
    return top.sum(axis=0) / bottom.sum(axis=0), drawn


def _interval(drawn: Floats, value: float) -> tuple[float, float] | None:
    """None where fewer than two prompts leave nothing to resample, or a resample has none of the chosen."""
    there = drawn[np.isfinite(drawn)]
    if len(there) < stats.LEVEL * len(drawn) or float(np.ptp(there)) <= _FLAT:
        return None
    return stats.percentile_interval(there, value)
