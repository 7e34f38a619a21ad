"""Step labels from counts of rollouts: per step how many of the solutions continued from it came out right.

    {prompt, steps, counts: [[right, rollouts], ...]}  ->  the row with `labels`, as `rmeval train prm` reads it

`mc` is read as `counts` is. Three rules are in use, and they disagree about a step of which 3 of 100 rollouts succeed:
`soft` keeps the rate .03, `any` (Math-Shepherd's hard estimate) calls the step right, `threshold` calls it wrong. Hard
labels are written as true and false, which training reads the same with and without `--soft`.

What this module does not know: how rollouts are drawn or checked, tokenizers, losses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmeval.errors import UsageError, near_miss
from rmeval.readers.fields import BadRow
from rmeval.readers.rows import SUFFIXES, Row, faults_message, read_file
from rmeval.stats import wilson
from rmeval.training.schemas import THRESHOLD, MCRule, rollout_counts, steps
from rmeval.whole_files import write_whole


@dataclass(frozen=True, slots=True)
class StepLabel:
    """What the rollouts from one step say."""

    right: int
    rollouts: int
    label: float | bool
    """The rate under the rule `soft`, else whether the step counts as right."""

    @property
    def rate(self) -> float:
        """Share of right rollouts, in [0, 1]."""
        return self.right / self.rollouts

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the rate.

        >>> [round(end, 3) for end in StepLabel(92, 100, 0.92).interval]
        [0.85, 0.959]
        """
        return wilson(self.rate, self.rollouts)


@dataclass(frozen=True, slots=True)
class Labelled:
    """One row with its labels."""

    values: Mapping[str, Any]
    """The row as it is written: its own columns, `labels`, `counts` and `intervals`."""
    steps: tuple[StepLabel | None, ...]
    """None for a step from which nothing was rolled out."""


def step_label(right: int, rollouts: int, rule: MCRule = "soft", threshold: float = THRESHOLD) -> StepLabel:
    """The label of a step by a rule; `threshold` is the rate from which a step counts as right.

    >>> [step_label(3, 100, rule).label for rule in ("soft", "any", "threshold")]
    [0.03, True, False]
    """
    rate = right / rollouts
    hard = {"any": right > 0, "threshold": rate >= threshold}
    return StepLabel(right, rollouts, rate if rule == "soft" else hard[rule])


def read_rows(path: Path) -> Sequence[Row]:
    """The rows of a file. Raises `UsageError` where it is none, or holds none."""
    if not path.is_file():
        beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = near_miss(path.name, beside) or f"It takes a file with rows: {', '.join(SUFFIXES)}."
        raise UsageError(f"{path}: no such file. {hint}")
    rows = read_file(path, path.name)
    if not rows:
        raise UsageError(f"{path}: holds no rows")
    return rows


def label_rows(rows: Sequence[Row], path: Path, rule: MCRule = "soft", threshold: float = THRESHOLD) -> list[Labelled]:
    """The rows of a file with labels. It is used whole or not at all: `UsageError` names up to 20 bad rows by line."""
    found, faults = [], []
    for row in rows:
        try:
            found.append(_labelled(row.values, rule, threshold))
        except BadRow as fault:
            faults.append(f"{row.place}: {fault}")
    if faults:
        raise UsageError(faults_message(f"{path}: {len(faults)} of {len(rows)} rows cannot be labelled", faults))
    return found


def _labelled(row: Mapping[str, Any], rule: MCRule, threshold: float) -> Labelled:
    if row.get("labels") is not None:
        raise BadRow("has 'labels' already")
    columns = [name for name in ("counts", "mc") if row.get(name) is not None]
    if len(columns) != 1:
        hint = near_miss("counts", row) or ("To roll out: --model MODEL" if row.get("answer") is not None else "")
        raise BadRow("has both 'counts' and 'mc'" if columns else f"no 'counts'. {hint}".rstrip())
    [column] = columns
    counts, texts = row[column], row.get("steps")
    if not isinstance(counts, Sequence) or isinstance(counts, str):
        raise BadRow(f"{column!r} must be a list of [right, rollouts], found {counts!r}"[:200])
    if isinstance(texts, Sequence) and not isinstance(texts, str) and len(texts) != len(counts):
        raise BadRow(f"{len(texts)} steps and {len(counts)} {column}")
    labels = tuple(
        None if one is None else step_label(*rollout_counts(one, f"{column}[{i}]"), rule, threshold)
        for i, one in enumerate(counts)
    )
    if labels and not any(labels):
        raise BadRow(f"{column!r} is null for every step")
    values = {name: value for name, value in row.items() if name not in {"mc", "counts", "labels"}}
    values["labels"] = [one and one.label for one in labels]
    steps(values, "", soft=rule == "soft")  # what training would refuse is refused here
    values["counts"] = [one and [one.right, one.rollouts] for one in labels]
    values["intervals"] = [one and list(one.interval) for one in labels]
    return Labelled(values, labels)


def write(rows: Sequence[Labelled], path: Path) -> None:
    """Write the rows as JSON lines. Raises `UsageError` where that cannot be done."""
    # a parquet file may have further columns of types that JSON has not, such as dates
    documents = (json.dumps(dict(row.values), ensure_ascii=False, allow_nan=False, default=str) for row in rows)
    lines = "".join(f"{document}\n" for document in documents)
    write_whole(path, lines.encode())


def summary(rows: Sequence[Labelled], threshold: float = THRESHOLD) -> dict[str, int]:
    """Counts that say how much the rule matters.

    `any_but_below`: steps with a right rollout and a rate below the threshold, which `any` and `threshold` label
    differently. `undecided`: steps whose interval holds the threshold, which more rollouts could turn.
    """
    every = [one for row in rows for one in row.steps]
    known = [one for one in every if one]
    return {
        "rows": len(rows),
        "steps": len(every),
        "without_rollouts": len(every) - len(known),
        "rollouts": sum(one.rollouts for one in known),
        "any_right": sum(one.right > 0 for one in known),
        "at_least_threshold": sum(one.rate >= threshold for one in known),
        "any_but_below": sum(one.right > 0 and one.rate < threshold for one in known),
        "undecided": sum(one.interval[0] < threshold < one.interval[1] for one in known),
    }
