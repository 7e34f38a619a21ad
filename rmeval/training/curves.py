"""`curves.png` and `curves.svg` of a run: loss with the levels it should be read against, main metric, learning rate.

What this module does not know: how the numbers came about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rmeval.probes.plots import drawing
from rmeval.training.tasks import Line
from rmeval.whole_files import write_whole

Log = Sequence[Mapping[str, Any]]


class Described(Protocol):
    """What the figure needs to know of a task."""

    metric: str
    lines: tuple[Line, ...]


@contextmanager
def figure(out: Path, name: str, *, columns: int, rows: int = 1, size: tuple[float, float]) -> Iterator[Any]:
    """The axes of a new figure, [rows][columns], written as `<name>.png` and `<name>.svg` at the end."""
    with drawing(columns=columns, rows=rows, size=size) as made:
        yield made.axes
    for suffix, content in made.files.items():
        write_whole(out / f"{name}.{suffix}", content)


def series(history: Log, name: str) -> tuple[list[float], list[float]]:
    """(steps, values) of a logged name."""
    rows = [(row["step"], row[name]) for row in history if name in row]
    return [step for step, _ in rows], [value for _, value in rows]


def smoothed(values: Sequence[float], width: int) -> list[float]:
    """Means of the last `width` values."""
    return [sum(part) / len(part) for i in range(len(values)) if (part := values[max(0, i + 1 - width) : i + 1])]


def draw_loss(axis: Any, history: Log, lines: Sequence[Line], *, color: str) -> None:
    """Training and validation loss with their levels."""
    steps, losses = series(history, "loss")
    if steps:
        axis.plot(steps, losses, color=color, alpha=0.2, linewidth=0.8)
        smooth = smoothed(losses, max(1, len(losses) // 20))
        axis.plot(steps, smooth, color=color, alpha=0.6, linewidth=1.2, label="training (smoothed)")
    steps, losses = series(history, "eval_loss")
    if steps:
        axis.plot(steps, losses, "o-", color=color, markersize=3.5, label="validation")
        band(axis, history, "eval_loss", color)
    for line in lines:
        axis.axhline(line.value, color="0.3", linestyle=":", linewidth=1, label=line.says)
    axis.set(xlabel="step", ylabel="loss", ylim=(0, None))
    axis.legend(frameon=False, fontsize=8)


def band(axis: Any, history: Log, name: str, color: str) -> None:
    """The 95 % intervals of a metric."""
    rows = [row for row in history if f"{name}_low" in row]
    if rows:
        low, high = ([row[f"{name}_{end}"] for row in rows] for end in ("low", "high"))
        axis.fill_between([row["step"] for row in rows], low, high, color=color, alpha=0.15, linewidth=0)


def draw(out: Path, history: Log, task: Described) -> None:
    """Three panels: loss, main metric with its 95 % band, learning rate."""
    with figure(out, "curves", columns=3, size=(12, 3.6)) as axes:
        loss, metric, rate = axes[0]
        draw_loss(loss, history, task.lines, color="C0")
        steps, values = series(history, f"eval_{task.metric}")
        metric.set(xlabel="step", ylabel=f"validation {task.metric}")
        if steps:
            metric.plot(steps, values, "o-", color="C1", markersize=3.5)
            band(metric, history, f"eval_{task.metric}", "C1")
            if task.metric != "loss":
                metric.set_ylim(0, 1)
        else:
            metric.text(0.5, 0.5, "no rows held out", ha="center", transform=metric.transAxes)
        if task.metric in ("accuracy", "auroc"):
            metric.axhline(0.5, color="0.3", linestyle=":", linewidth=1)
        majority = series(history, "eval_majority")[1]
        if majority and task.metric == "accuracy":
            metric.axhline(majority[-1], color="0.3", linestyle="--", linewidth=1)
        rate.plot(*series(history, "learning_rate"), color="C2")
        rate.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
