"""Probes of results, as files that `rmeval probe ... -o DIR` wrote, for the pages of those results.

A probe belongs to a result by the id that it names; one of a model and a suite (robustness) by their names.

What this module does not know: what any probe found, HTML.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmeval import strict_json
from rmeval.errors import UsageError
from rmeval.records import Result


@dataclass(frozen=True, slots=True)
class Probed:
    """One probe with its figure."""

    name: str
    notes: tuple[str, ...]
    image: str
    """The figure, a data URI of an SVG."""
    results: tuple[str, ...]
    """Ids of the results that it asked; empty where it asked a model itself."""
    of: tuple[str, str]
    """Names of model and suite."""

    def is_of(self, result: Result) -> bool:
        """Whether the result is what was asked."""
        if self.results:
            return result.id in self.results
        return self.of == (result.model.name, result.suite.name)


def read_probes(paths: Iterable[Path], results: Sequence[Result]) -> list[Probed]:
    """The probes of files, or of all files of folders. `UsageError` for one that is of none of the results."""
    found = []
    for path in paths:
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not files:
            raise UsageError(f"{path}: no probes (NAME.json beside NAME.svg) in this folder")
        for file in files:
            one = _read(file)
            if not any(one.is_of(result) for result in results):
                known = ", ".join(f"{r.model.name} on {r.suite.name} ({r.id[:12]})" for r in results)
                of = (
                    ", ".join(key[:12] for key in one.results)
                    or " on ".join(filter(None, one.of))
                    or "a pool, of no result"
                )
                raise UsageError(f"{file}: a probe of {of}, not of {known}")
            found.append(one)
    return found


def _read(file: Path) -> Probed:
    document: Any = strict_json.read(file)
    if not isinstance(document, dict) or not isinstance(document.get("probe"), str):
        raise UsageError(f"{file}: not what `rmeval probe ... -o DIR` writes: it names no probe")
    figure = file.with_suffix(".svg")
    if not figure.is_file():
        raise UsageError(f"{figure}: the figure of {file.name} is not beside it")
    named = document.get("result")
    results = document.get("results")
    ids = tuple(map(str, results.values())) if isinstance(results, dict) else (named,) if isinstance(named, str) else ()
    notes = document.get("notes")
    said = tuple(map(str, notes)) if isinstance(notes, list) else ()
    image = base64.b64encode(figure.read_bytes()).decode()
    of = (str(document.get("model", "")), str(document.get("suite", "")))
    return Probed(document["probe"], said, f"data:image/svg+xml;base64,{image}", ids, of)
