"""Formats by name.

What this module does not know: how any format is written, and where to.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from rmeval.errors import UsageError, near_miss
from rmeval.exports.exported import Exported, Told
from rmeval.results import ResultView

FORMATS = {
    "csv": "rmeval.exports.candidates:csv",
    "eee": "rmeval.exports.every_eval_ever:every_eval_ever",
    "hf": "rmeval.exports.hub:eval_results",
    "json": "rmeval.exports.candidates:json",
    "parquet": "rmeval.exports.candidates:parquet",
    "rewardbench": "rmeval.exports.rewardbench:rewardbench",
}


def export(view: ResultView, to: str, told: Told) -> Exported:
    """A result in a format. `UsageError` for an unknown one, and for a result that the format cannot hold."""
    if to not in FORMATS:
        raise UsageError(f"--to {to}: no such format. {near_miss(to, FORMATS)} Known: {', '.join(FORMATS)}.")
    module, _, name = FORMATS[to].partition(":")
    write: Callable[[ResultView, Told], Exported] = getattr(importlib.import_module(module), name)
    return write(view, told)
