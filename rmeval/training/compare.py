"""`rmeval train compare`: two runs side by side, and what a score per step tells that one score does not.

The solutions are those that the process model has held out and the outcome model has never seen. On each, the process
model gives the probability that a step is right, and the outcome model, read at the same places, the probability that
the answer will be. Each then puts the first error at its largest drop from one step to the next: the same rule for
both, begun at 1 for the process model (no step is wrong yet) and at even odds for the outcome model.

What this module does not know: how the runs were trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmeval import strict_json
from rmeval.errors import UsageError
from rmeval.training import curves
from rmeval.training.config import TINY, ORMConfig, PRMConfig, TrainConfig
from rmeval.training.export import write_json
from rmeval.training.folders import load_run
from rmeval.training.run import one_thread
from rmeval.training.tasks import task_of

RUNS = Path("runs")
AROUND = 2
"""Steps before and after the first error that the figure shows."""


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run."""

    folder: Path
    config: TrainConfig
    log: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """What the figure calls it."""
        return f"{self.config.kind} ({self.folder.name})"


@dataclass(frozen=True, slots=True)
class Solution:
    """One held-out solution as both models read it."""

    id: str
    group: str
    first_wrong: int | None
    """0-based; None where every labelled step is right."""
    process: list[float]
    """Per step the probability that it is right."""
    outcome: list[float]
    """At the end of each step the probability that the answer will be right."""

    @property
    def by_process(self) -> int:
        """Where the process model puts the error: its largest drop, from no step being wrong."""
        return _largest_drop(1.0, self.process)

    @property
    def by_outcome(self) -> int:
        """Where the outcome model puts it: its largest drop, from even odds."""
        return _largest_drop(0.5, self.outcome)


def _largest_drop(start: float, found: Sequence[float]) -> int:
    """The step that lowers the probability most; the first of equals.

    >>> _largest_drop(1.0, [0.9, 0.2, 0.1])
    1
    """
    before = [start, *found[:-1]]
    return max(range(len(found)), key=lambda i: before[i] - found[i])


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was written, in words."""

    lines: list[str]
    document: dict[str, Any]


def compare_runs(given: Sequence[Path], out: Path) -> Comparison:
    """Compare two runs, or the newest finished orm and prm under `runs/`; write compare.png, .svg and .json to `out`.

    Raises `UsageError` where a run is missing, and says which command makes it.
    """
    if given and len(given) != 2:
        raise UsageError(f"train compare takes two runs or none, found {len(given)}")
    runs = [_load(path) for path in given] or [_newest("orm"), _newest("prm")]
    solutions = _solutions(runs)
    document = _document(runs, solutions)
    out.mkdir(parents=True, exist_ok=True)
    _draw(runs, solutions, out)
    write_json(out / "compare.json", document)
    lines = [_curve_line(run, document["runs"][i]) for i, run in enumerate(runs)]
    lines += _credit_lines(document.get("credit"))
    lines.append(" ".join(str(out / f"compare.{suffix}") for suffix in ("png", "svg", "json")))
    return Comparison(lines, document)


def _newest(kind: str) -> Run:
    found = [p.parent for p in RUNS.glob("*/config.json") if _kind(p) == kind and (p.parent / "metrics.json").is_file()]
    if not found:
        raise UsageError(
            f"no finished {kind} run under {RUNS}/: rmeval train {kind} --samples 400 --epochs 2 makes one"
        )
    return _load(max(found, key=lambda folder: (folder / "metrics.json").stat().st_mtime_ns))


def _kind(config: Path) -> str | None:
    try:
        kind = json.loads(config.read_text(encoding="utf-8"))["rmeval"]["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(kind)


def _load(folder: Path) -> Run:
    config = load_run(folder)
    return Run(folder, config, [row for _, row in strict_json.read_lines(folder / "train_log.jsonl", constants=True)])


# --- reading the same solutions --------------------------------------------------------------------------------------


def _solutions(runs: Sequence[Run]) -> list[Solution]:
    """The held-out solutions as both read them; none unless one run is an orm and the other a prm."""
    orm, prm = (next((run for run in runs if run.config.kind == kind), None) for kind in ("orm", "prm"))
    if orm is None or prm is None or prm.config.eval_data or not prm.config.val_ratio:
        return []
    from rmeval.training.run import held_out_rows

    rows = [row for row in held_out_rows(prm.config) if _unseen(row.group, orm.config)]
    with one_thread() if TINY in {orm.config.model, prm.config.model} else nullcontext():
        process = _read(prm, prm.config, rows)
        outcome = _read(orm, prm.config, rows)
    return [
        Solution(row.id, row.group, _first_wrong(row.labels), p, o)
        for row, p, o in zip(rows, process, outcome, strict=True)
        if p and len(p) == len(o) == len(row.steps)
    ]


def _unseen(group: str, config: TrainConfig) -> bool:
    from rmeval.training.rows import held_out

    return bool(config.val_ratio) and held_out(group, config.val_ratio, config.seed)


def _first_wrong(labels: Sequence[float]) -> int | None:
    return next((i for i, label in enumerate(labels) if label < 0), None)


def _read(run: Run, steps_as: TrainConfig, rows: Sequence[Any]) -> list[list[float]]:
    """Per solution the model's probability at the end of each step; empty where a solution does not fit."""
    import torch

    from rmeval.engines.checkpoint import Checkpoint
    from rmeval.training.backbone import quiet_transformers
    from rmeval.training.batches import pad
    from rmeval.training.render import Renderer

    assert isinstance(steps_as, PRMConfig)
    quiet_transformers()
    checkpoint = Checkpoint(str(run.folder))
    tokenizer, model = checkpoint.tokenizer(), checkpoint.load(dtype="float32", device="cpu", attention=None)
    boundary = steps_as.boundary if run.config.kind == "prm" else "last-token"
    rendered = Renderer(tokenizer).steps(
        [(row.prompt, row.steps) for row in rows], separator=steps_as.step_separator, boundary=boundary
    )
    found: list[list[float]] = [[] for _ in rows]
    usable = [i for i, r in enumerate(rendered) if r is not None and len(r.ids) <= run.config.max_length]
    usable.sort(key=lambda i: -len(rendered[i].ids))  # type: ignore[union-attr]  # those are not None
    with torch.inference_mode():
        for start in range(0, len(usable), 32):
            part = usable[start : start + 32]
            texts = [r for i in part if (r := rendered[i]) is not None]
            logits = model(**pad([r.ids for r in texts], tokenizer.pad_token_id)).logits
            # the last class of a process model is `correct`; an outcome model has one logit
            right = logits[..., 0].sigmoid() if isinstance(run.config, ORMConfig) else logits.softmax(-1)[..., -1]
            for row, i, text in zip(right, part, texts, strict=True):
                found[i] = [row[end].item() for end in text.step_ends]
    return found


# --- numbers ---------------------------------------------------------------------------------------------------------


def _document(runs: Sequence[Run], solutions: Sequence[Solution]) -> dict[str, Any]:
    described = []
    for run in runs:
        task = task_of(run.config)
        losses = [row["eval_loss"] for row in run.log if "eval_loss" in row]
        described.append(
            {
                "folder": str(run.folder),
                "kind": run.config.kind,
                "levels": [{"value": line.value, "says": line.says} for line in task.lines],
                "validation_loss": {"first": losses[0], "last": losses[-1], "lowest": min(losses)} if losses else None,
                "training_loss": [[row["step"], row["loss"]] for row in run.log if "loss" in row],
                "evaluations": [row for row in run.log if "eval_loss" in row],
            }
        )
    document: dict[str, Any] = {"runs": described}
    if solutions:
        document["credit"] = _credit(solutions)
    return document


def _credit(solutions: Sequence[Solution]) -> dict[str, Any]:
    from rmeval import stats

    wrong = [one for one in solutions if one.first_wrong is not None]
    credit: dict[str, Any] = {"solutions": len(solutions), "with_error": len(wrong)}
    if wrong:
        groups = [one.group for one in wrong]
        hits = {
            "process": [float(one.by_process == one.first_wrong) for one in wrong],
            "outcome": [float(one.by_outcome == one.first_wrong) for one in wrong],
            "chance": [1 / len(one.process) for one in wrong],
        }
        for name, values in hits.items():
            interval = stats.mean_interval(values, groups, (0.0, 1.0)) if name != "chance" else None
            credit[f"first_error_by_{name}"] = {
                "share": math.fsum(values) / len(values),
                "ci": None if interval is None else [interval.low, interval.high],
            }
        differences = [a - b for a, b in zip(hits["process"], hits["outcome"], strict=True)]
        credit["p_of_difference"] = stats.sign_flip(differences, groups)
        credit["around_the_error"] = _around(wrong)
    credit["examples"] = [
        {"id": one.id, "first_wrong": one.first_wrong, "process": one.process, "outcome": one.outcome}
        for one in solutions
    ]
    return credit


def _around(wrong: Sequence[Solution]) -> list[dict[str, Any]]:
    """Means by distance from the first error."""
    found = []
    for offset in range(-AROUND, AROUND + 1):
        at = [(one, one.first_wrong + offset) for one in wrong if one.first_wrong is not None]
        at = [(one, i) for one, i in at if 0 <= i < len(one.process)]
        if at:
            process, outcome = ([getattr(one, name)[i] for one, i in at] for name in ("process", "outcome"))
            means = {"process": math.fsum(process) / len(at), "outcome": math.fsum(outcome) / len(at)}
            found.append({"offset": offset, "n": len(at), **means})
    return found


def _curve_line(run: Run, described: dict[str, Any]) -> str:
    losses = described["validation_loss"]
    if losses is None:
        return f"{run.name}: no rows were held out"
    levels = "".join(f"; {level['says']}, {level['value']:.4f}" for level in described["levels"])
    return f"{run.name}: validation loss {losses['first']:.4f} -> {losses['last']:.4f}{levels}"


def _credit_lines(credit: dict[str, Any] | None) -> list[str]:
    if credit is None:
        return ["no orm beside a prm with held-out solutions: only the curves are compared"]
    if not credit["with_error"]:
        return [f"{credit['solutions']} held-out solutions, none of them wrong: there is no error to locate"]
    shares = []
    for name, words in (("process", "prm"), ("outcome", "orm"), ("chance", "a guess")):
        found = credit[f"first_error_by_{name}"]
        between = "" if found["ci"] is None else f" [{found['ci'][0]:.2f}, {found['ci'][1]:.2f}]"
        shares.append(f"{words} {found['share']:.2f}{between}")
    before, at = (
        next((row for row in credit["around_the_error"] if row["offset"] == offset), None) for offset in (-1, 0)
    )
    found = f"first error of {credit['with_error']} wrong held-out solutions, put at the largest drop: "
    lines = [f"{found}{', '.join(shares)} (p of prm against orm {credit['p_of_difference']:.2g})"]
    if before and at:
        lines.append(
            f"from the step before the error to the error: prm {before['process']:.2f} -> {at['process']:.2f}, "
            f"orm {before['outcome']:.2f} -> {at['outcome']:.2f}"
        )
    return lines


# --- the figure ------------------------------------------------------------------------------------------------------


def _draw(runs: Sequence[Run], solutions: Sequence[Solution], out: Path) -> None:
    colors = ("C0", "C1")
    wrong = [one for one in solutions if one.first_wrong is not None]
    columns = 2
    with curves.figure(
        out, "compare", columns=columns, rows=2 if wrong else 1, size=(11, 7.4 if wrong else 3.8)
    ) as axes:
        for axis, run, color in zip(axes[0], runs, colors, strict=True):
            curves.draw_loss(axis, run.log, task_of(run.config).lines, color=color)
            axis.set_title(f"{run.name}: loss".replace("$", r"\$"))
        axes[0][1].text(
            0.98, 0.5, "two scales: these losses are of\ndifferent tasks, compare each with its own line",
            transform=axes[0][1].transAxes, ha="right", fontsize=8, color="0.35",
        )  # fmt: skip
        if wrong:
            _draw_credit(axes[1][0], wrong)
            _draw_found(axes[1][1], wrong)


def _draw_credit(axis: Any, wrong: Sequence[Solution]) -> None:
    """Probabilities by distance from the first error."""
    rows = _around(wrong)
    offsets = [row["offset"] for row in rows]
    for name, color, words in (
        ("process", "C1", "prm: this step is right"),
        ("outcome", "C0", "orm: the answer will be right"),
    ):
        axis.plot(offsets, [row[name] for row in rows], "o-", color=color, label=words)
    axis.axvline(0, color="0.3", linestyle=":", linewidth=1)
    labels = [
        ("the first error" if o == 0 else f"{o:+d}") + f"\nn = {row['n']}" for o, row in zip(offsets, rows, strict=True)
    ]
    axis.set_xticks(offsets, labels)
    axis.set(title="credit around the first error (mean)", xlabel="steps from it", ylabel="probability", ylim=(0, 1))
    axis.legend(frameon=False, fontsize=8)


def _draw_found(axis: Any, wrong: Sequence[Solution]) -> None:
    """Share of first errors found, with intervals."""
    credit = _credit(wrong)
    names = (
        ("process", "prm:\nlargest drop", "C1"),
        ("outcome", "orm:\nlargest drop", "C0"),
        ("chance", "a guess", "0.6"),
    )
    for place, (name, _, color) in enumerate(names):
        found = credit[f"first_error_by_{name}"]
        axis.bar(place, found["share"], color=color, width=0.6)
        if found["ci"]:
            low, high = found["ci"]
            below, above = max(found["share"] - low, 0.0), max(high - found["share"], 0.0)
            axis.errorbar(place, found["share"], yerr=[[below], [above]], color="0.2", capsize=4)
        axis.text(place, 0.03, f"{found['share']:.2f}", ha="center", color="white", fontweight="bold")
    axis.set_xticks(range(len(names)), [words for _, words, _ in names])
    axis.set(title=f"first error found, {len(wrong)} wrong held-out solutions (95 %)", ylabel="share", ylim=(0, 1))
