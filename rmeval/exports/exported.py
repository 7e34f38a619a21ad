"""What a format is told, what it gives back, and what several of them need to know of a result.

What this module does not know: any format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rmeval.errors import UsageError
from rmeval.records import Result
from rmeval.suites import load_suite


@dataclass(frozen=True, slots=True)
class Told:
    """What a result does not say and a format asks for."""

    task: str = "default"
    """hf: the task's id in the benchmark's `eval.yaml`."""
    by: str = ""
    """eee: the organisation that ran the evaluation."""
    first_party: bool = False
    """eee: whether the makers of the model ran it."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Files, and what whoever writes them must know."""

    files: Mapping[str, bytes]
    """Path below the folder that was asked for -> content; "" is the file itself where there is but one."""
    notes: tuple[str, ...] = ()


def refuse_unfinished(result: Result, to: str) -> None:
    """Raise `UsageError` for a result that is no result of the whole suite: it does not belong on a board of others."""
    if result.withheld:
        raise UsageError(f"--to {to}: the aggregates of this result are withheld: {result.withheld}")
    if not result.complete or result.headline.value is None:
        why = "it is of a part of the suite" if not result.complete else "its headline is undefined"
        raise UsageError(f"--to {to}: {why}, and others would take it for the whole. Use --to csv, json or parquet")


def dataset_of(result: Result) -> tuple[str, str | None] | None:
    """The data set on the hub that a result's suite is, and its commit where it was read from there.

    None for a suite that is generated, lies elsewhere, or in several data sets.
    """
    kind, _, where = result.suite.data.source.partition(":")
    if kind == "hub":
        hub, _, commit = where.partition("@")
        return None if "," in where else (hub, commit or None)
    if kind != "file":
        return None
    layouts = load_suite(result.suite.name).card.layouts
    hubs = next(({one.hub for one in layout.sources} for layout in layouts if layout.sources), set())
    return (hubs.pop(), None) if len(hubs) == 1 else None
