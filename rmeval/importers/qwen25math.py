"""Qwen2.5-Math: rows with samples and their rewards, as in `evaluation/data/eval_rm_maj_example/math_cot_100.jsonl`.

`pred_score` is the reward, a list of one number per sample (`score` says which are right and is no reward). Rows are
found by `idx`. The file does not say which model gave the rewards.

What this module does not know: which of the samples are right, votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rmeval.errors import UsageError
from rmeval.importers import rows as shared
from rmeval.importers.imported import Imported
from rmeval.types import Example, Recorded


def qwen25math(paths: Sequence[Path], examples: Sequence[Example]) -> Imported:
    """One reward per sample."""
    if len(paths) != 1:
        raise UsageError(f"rewards of Qwen2.5-Math stand in one file, and {len(paths)} were given")
    [table] = shared.read_tables(paths)
    matcher = shared.Matcher(examples)
    found: dict[str, Recorded] = {}
    for row in table.rows:
        one = matcher.by_id(str(shared.column(row, "idx")), row.place)
        shared.same(row, "question", shared.question(one), one)
        found[one.id] = shared.scores(shared.items(row, "pred_score"), one, row.place)
    return Imported(table.path.name.partition(".json")[0], found, tuple(paths))
