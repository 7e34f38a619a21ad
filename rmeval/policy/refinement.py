"""What rejection sampling is for: the base fine-tuned on the chosen, and on as many drawn at random, both asked anew.

    chosen, matched draw -> train sft, the same rows, settings and seed -> completions of held-out prompts -> gold

The draw is one per prompt as many as were chosen of it, or, for rules that choose from the whole pool, as many of the
whole pool. With several repeats each has its own seed for training, draw and sampling, and a prompt's gold is the mean
over them: the interval is about prompts, and the repeats one by one show what chance in training does.

What this module does not know: how the choice was made, the command line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rmeval import results
from rmeval.errors import UsageError
from rmeval.models import language_model
from rmeval.policy.completions import Asked, Way, write_pool
from rmeval.probes.curves import Curve, Point, mean_point
from rmeval.probes.kept import drawn_per_prompt, training_rows
from rmeval.probes.pool import Pool
from rmeval.probes.selection import Choice, Chosen, choose
from rmeval.progress import note
from rmeval.store import Store
from rmeval.training.config import make_config, read_config
from rmeval.training.folders import has_checkpoint
from rmeval.training.run import train

BASE, CHOSEN, MATCHED = "base", "chosen", "matched draw"
HELD_OUT_SALT = 1
"""Added to the seed of the pool's sampling: held-out prompts are asked with draws of their own."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the policies are made and asked."""

    base: str
    """Folder or hub id of a language model."""
    sft: Mapping[str, Any]
    """Settings of `rmeval train sft`; model, data, out and seed are ours."""
    way: Way
    """How held-out prompts are asked."""
    repeats: int = 1
    engine: str = "transformers"
    engine_args: Mapping[str, Any] = ()  # type: ignore[assignment]  # a mapping without entries


@dataclass(frozen=True, slots=True)
class Refined:
    """What came of it."""

    rows: int
    """Rows that each policy was trained on."""
    prompts: int
    """Held-out prompts with gold."""
    gold: tuple[Point, ...]
    """Mean gold of the base, of the chosen's policy and of the matched draw's."""
    difference: Point
    """Chosen minus matched draw, paired by prompt."""
    gain: Point
    """Chosen minus base, paired by prompt."""
    each: tuple[float, ...]
    """The difference of every repeat."""
    folders: tuple[str, ...]
    """Checkpoints made."""

    @property
    def curves(self) -> tuple[Curve, ...]:
        """For the figure and the table."""
        what = "mean gold of completions of held-out prompts"
        return (
            Curve("fine-tuned: held-out gold", "gold", what, self.gold),
            Curve(
                "fine-tuned: differences",
                "difference",
                "held-out gold, paired by prompt",
                (self.difference, self.gain),
            ),
        )


def refine(
    pool: Pool,
    chosen: Chosen,
    how: Choice,
    *,
    held_out: Sequence[Asked],
    settings: Settings,
    store: Store,
    out: Path,
) -> Refined:
    """Train and ask. Raises `UsageError` for held-out prompts without answers, or that the pool holds too."""
    asked = _checked(pool, held_out)
    sums: dict[str, list[float]] = {name: [0.0] * len(asked) for name in (BASE, CHOSEN, MATCHED)}
    each, folders = [], []
    for repeat in range(settings.repeats):
        seed = how.seed + repeat
        way = replace(settings.way, seed=settings.way.seed + HELD_OUT_SALT + repeat)
        for name, so_far in sums.items():
            folder = settings.base
            if name != BASE:
                taken = chosen if name == CHOSEN else _matched(pool, chosen, replace(how, seed=seed))
                folder = str(_train(pool, taken, settings, seed, out / f"{name.replace(' ', '-')}-{seed}"))
                folders.append(folder)
            found = _gold(folder, asked, settings, way, store)
            so_far[:] = [a + b / settings.repeats for a, b in zip(so_far, found, strict=True)]
            if name == CHOSEN:
                before = found
        each.append(math.fsum(a - b for a, b in zip(before, found, strict=True)) / len(asked))
    clusters = [one.cluster for one in asked]

    def paired(at: str, minus: str) -> Point:
        return mean_point(at, [a - b for a, b in zip(sums[CHOSEN], sums[minus], strict=True)], clusters, None)

    return Refined(
        len(chosen),
        len(asked),
        tuple(mean_point(name, [min(1.0, g) for g in sums[name]], clusters) for name in sums),
        paired("chosen - matched draw", MATCHED),
        paired("chosen - base", BASE),
        tuple(each),
        tuple(folders),
    )


def _checked(pool: Pool, held_out: Sequence[Asked]) -> list[Asked]:
    known = [one for one in held_out if one.answer is not None]
    if not known:
        raise UsageError("--held-out: no prompt has an answer, so nobody can say what a completion is worth")
    if len(known) < len(held_out):
        note(f"--held-out: {len(held_out) - len(known)} prompts without an answer are left out")
    trained = {row.prompt for row in pool.rows}
    both = [one.id for one in known if one.prompt in trained]
    if both:
        raise UsageError(f"--held-out: {len(both)} prompts stand in the pool too (first: {both[0]!r})")
    return known


def _matched(pool: Pool, chosen: Chosen, how: Choice) -> Chosen:
    if how.rule in ("top-k", "random-k"):
        return choose(pool, Choice("random-k", len(chosen), seed=how.seed))
    return drawn_per_prompt(pool, chosen, how.seed)


def _train(pool: Pool, taken: Chosen, settings: Settings, seed: int, folder: Path) -> Path:
    """A policy, or the one that stands there, where it was made of the same rows and settings."""
    content = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in training_rows(pool, taken))
    rows = folder.with_name(f"{folder.name}.jsonl")
    same_rows = rows.is_file() and rows.read_bytes() == content.encode()
    results.write_whole(rows, content.encode())
    ours = {"model": settings.base, "data": (str(rows),), "seed": seed, "out": folder}
    config = make_config("sft", {"val_ratio": 0.0, **settings.sft, **ours})
    if not (folder / "config.json").exists():
        return train(config, resume=has_checkpoint(folder), show=note).out
    before = make_config("sft", {**read_config(folder / "config.toml", "sft"), "out": folder})
    if not same_rows or before.resolved(folder) != config.resolved(folder):
        raise UsageError(f"{folder}: holds a policy of other rows or settings; choose another -o DIR")
    return folder


def _gold(folder: str, asked: Sequence[Asked], settings: Settings, way: Way, store: Store) -> list[float]:
    """Mean gold of every prompt's completions."""
    engine, _ = language_model(folder, settings.engine, dict(settings.engine_args), None, said=folder)
    written = write_pool(asked, engine, store, way, name=Path(folder).name)
    for text in written.pool.notes:
        note(f"{folder}: {text}")
    if len(written.pool.rows) < len(asked):
        raise UsageError(f"{folder}: {written.pool.notes[-1]}")
    return [math.fsum(row.gold) / row.n for row in written.pool.rows]
