"""Names -> objects: one registry for suites, scorers, engines, metrics, importers and readers.

A name comes from our own table of built-ins (lazy `module:attribute` strings), from entry points of installed packages
(groups `rmeval.suites`, `rmeval.scorers`, `rmeval.engines`, `rmeval.metrics`, `rmeval.importers`, `rmeval.readers`), or
from card folders.
Listing names imports nothing; `get` imports the one object that was asked for.

What this module does not know: what the objects do.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from rmeval.content import card_folders, content_folder
from rmeval.errors import UsageError, near_miss


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a name comes from."""

    name: str
    where: str
    """In words: `built in`, `package acme-rm 1.0`, or the path of a card."""
    target: str | EntryPoint | Path
    """`module:attribute`, an entry point, or a card's path."""


class Registry:
    """All names of one kind.

    >>> Registry("metric", {"accuracy": "rmeval.metrics.rules:accuracy"}).names()
    ['accuracy']
    """

    def __init__(
        self, kind: str, builtin: dict[str, str] | None = None, cards: str | None = None, *, packages: bool = True
    ) -> None:
        """`packages`: whether packages can add names."""
        self.kind = kind
        self._packages = packages
        self._builtin = dict(builtin or {})
        self._cards = cards

    def origins(self) -> dict[str, Origin]:
        """Every name with its origin. Two origins for one name raise `UsageError` that names both."""
        found: dict[str, Origin] = {}
        for origin in (*self._from_builtin(), *self._from_cards(), *self._from_packages()):
            if (other := found.get(origin.name)) is not None:
                raise UsageError(
                    f"two {self.kind}s are called {origin.name!r}: one from {other.where}, one from {origin.where}. "
                    "Rename or remove one of them."
                )
            found[origin.name] = origin
        return found

    def is_builtin(self, origin: Origin) -> bool:
        """Whether a name is ours: in our table, or a card in our own folder."""
        if isinstance(origin.target, Path):
            return self._cards is not None and origin.target.is_relative_to(content_folder(self._cards))
        return isinstance(origin.target, str)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self.origins())

    def __contains__(self, name: str) -> bool:
        return name in self.origins()

    def get(self, name: str) -> Any:
        """The object behind a name; for a card, its path. Unknown names raise `UsageError` with the near miss."""
        target = self.origin(name).target
        if isinstance(target, Path):
            return target
        try:
            if isinstance(target, EntryPoint):
                return target.load()
            module, _, attribute = target.partition(":")
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as fault:
            raise UsageError(
                f"{self.kind} {name!r} from {self.origin(name).where} cannot be loaded: {fault}"
            ) from fault

    def origin(self, name: str) -> Origin:
        """Where a name comes from; unknown names raise `UsageError`."""
        found = self.origins()
        if name not in found:
            hint = near_miss(name, found) or f"Known: {', '.join(sorted(found)) or 'none'}."
            raise UsageError(f"unknown {self.kind} {name!r}. {hint} List them: rmeval list {self.kind}s")
        return found[name]

    def _from_builtin(self) -> list[Origin]:
        return [Origin(name, "built in", target) for name, target in self._builtin.items()]

    def _from_packages(self) -> list[Origin]:
        if not self._packages or os.environ.get("RMEVAL_NO_PLUGINS"):
            return []
        found = []
        for point in _entry_points(f"rmeval.{self.kind}s", _search_path()):
            dist = point.dist
            where = f"package {dist.name} {dist.version}" if dist else f"entry point {point.value}"
            found.append(Origin(point.name, where, point))
        return found

    def _from_cards(self) -> list[Origin]:
        if self._cards is None:
            return []
        pattern = "*/card.toml" if self._cards == "suites" else "*.toml"
        found = []
        for folder in card_folders(self._cards):
            for card in sorted(folder.glob(pattern)):
                name = card.parent.name if card.name == "card.toml" else card.stem
                found.append(Origin(name, str(card), card))
        return found


def _search_path() -> tuple[tuple[str, int], ...]:
    """Where packages may lie, and when something was last installed there or removed."""
    found = []
    for folder in sys.path:
        with contextlib.suppress(OSError):
            found.append((folder, Path(folder or ".").stat().st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=32)
def _entry_points(group: str, path: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """What packages declare. Reading the records of all packages takes milliseconds, and a name is looked up often."""
    del path
    return tuple(entry_points(group=group))


SUITES = Registry("suite", cards="suites")

SCORER_CARDS = Registry("scorer card", cards="scorers")

JUDGES = Registry("judge", cards="scorers/judges")

SCORERS = Registry(
    "scorer",
    {
        "scalar": "rmeval.scorers.scalar:ScalarScorer",
        "outcome": "rmeval.scorers.outcome:OutcomeScorer",
        "process": "rmeval.scorers.process:ProcessScorer",
        "value": "rmeval.scorers.value:ValueScorer",
        "implicit": "rmeval.scorers.implicit:ImplicitScorer",
        "pairwise": "rmeval.scorers.pairwise:PairwiseScorer",
        "ensemble": "rmeval.scorers.ensemble:Ensemble",
        "replay": "rmeval.scorers.replay:Replay",
        "length": "rmeval.scorers.baseline:Length",
        "-length": "rmeval.scorers.baseline:Shortness",
        "random": "rmeval.scorers.baseline:Random",
        "constant": "rmeval.scorers.baseline:Constant",
        "markdown": "rmeval.scorers.baseline:Markdown",
        "all-correct": "rmeval.scorers.step_baseline:AllCorrect",
        "first-step": "rmeval.scorers.step_baseline:FirstStep",
        "last-step": "rmeval.scorers.step_baseline:LastStep",
        "random-step": "rmeval.scorers.step_baseline:RandomStep",
        "position-prior": "rmeval.scorers.step_baseline:PositionPrior",
    },
)

ENGINES = Registry(
    "engine",
    {
        "transformers": "rmeval.engines.transformers:TransformersEngine",
        "openai": "rmeval.engines.openai:OpenAIEngine",
        "http": "rmeval.engines.http:HttpEngine",
        "vllm": "rmeval.engines.vllm:VllmEngine",
        "ray": "rmeval.engines.ray:RayEngine",
    },
)

METRICS = Registry(
    "metric",
    {
        "accuracy": "rmeval.metrics.rules:accuracy",
        "style_matrix": "rmeval.metrics.rules:style_matrix",
        "reciprocal_rank": "rmeval.metrics.rules:reciprocal_rank",
        "both_orders": "rmeval.metrics.rules:both_orders",
        "judgebench": "rmeval.metrics.rules:judgebench",
        "ties": "rmeval.metrics.ties:ties",
        "concordance": "rmeval.metrics.graded:concordance",
        "rating_correlation": "rmeval.metrics.graded:rating_correlation",
        "majority_label": "rmeval.metrics.labels:majority_label",
        "label_agreement": "rmeval.metrics.labels:label_agreement",
        "first_error": "rmeval.metrics.steps:first_error",
        "first_error_thresholds": "rmeval.metrics.thresholds:first_error_thresholds",
        "first_error_parts": "rmeval.metrics.steps:first_error_parts",
        "right_answer_wrong_process": "rmeval.metrics.steps:right_answer_wrong_process",
        "prm_score": "rmeval.metrics.prmbench:prm_score",
        "prm_steps": "rmeval.metrics.prmbench:prm_steps",
        "mr_score": "rmeval.metrics.mr_score:mr_score",
        "mr_parts": "rmeval.metrics.mr_score:mr_parts",
        "best_of_n": "rmeval.metrics.pools:best_of_n",
        "outcome_auroc": "rmeval.metrics.pools:outcome_auroc",
        "votes": "rmeval.metrics.votes:votes",
        "conflict_pairs": "rmeval.metrics.best_of_k:conflict_pairs",
        "best_of_k_curves": "rmeval.metrics.best_of_k:best_of_k_curves",
        "human_ranking": "rmeval.metrics.arena:human_ranking",
    },
)

PROBES = Registry(
    "probe",
    {
        "steps": "rmeval.cli.probe.stored:steps",
        "boundaries": "rmeval.cli.probe.stored:boundaries",
        "bias": "rmeval.cli.probe.scores:bias",
        "calibration": "rmeval.cli.probe.scores:calibration",
        "best-of-n": "rmeval.cli.probe.pools:best_of_n",
        "overopt": "rmeval.cli.probe.pools:overopt",
        "rejection": "rmeval.cli.probe.rejection:rejection",
        "search": "rmeval.cli.probe.search:search",
        "robustness": "rmeval.cli.probe.robustness:robustness",
    },
    packages=False,
)
"""Questions about stored scores, `rmeval probe NAME`: each is a command of its own."""

IMPORTERS = Registry(
    "importer",
    {
        "rewardbench": "rmeval.importers.rewardbench:rewardbench",
        "rewardbench2": "rmeval.importers.rewardbench2:rewardbench2",
        "rm-bench": "rmeval.importers.rm_bench:rm_bench",
        "rmb": "rmeval.importers.rmb:rmb",
        "judgebench": "rmeval.importers.judgebench:judgebench",
        "rewardmath": "rmeval.importers.rewardmath:rewardmath",
        "qwen25math": "rmeval.importers.qwen25math:qwen25math",
        "llmbar": "rmeval.importers.llmbar:llmbar",
        "ppe": "rmeval.importers.ppe:ppe",
    },
)

READERS = Registry(
    "reader",
    {
        "pairs": "rmeval.readers.preference:pairs",
        "labelled_pairs": "rmeval.readers.preference:labelled_pairs",
        "best_of_k": "rmeval.readers.preference:best_of_k",
        "style_matrix": "rmeval.readers.preference:style_matrix",
        "marked_list": "rmeval.readers.preference:marked_list",
        "graded_list": "rmeval.readers.preference:graded_list",
        "steps": "rmeval.readers.process:steps",
        "mr_ben": "rmeval.readers.process:mr_ben",
        "sample_pools": "rmeval.readers.process:sample_pools",
        "arithmetic": "rmeval.arithmetic.suite:read",
        "arithmetic_steps": "rmeval.arithmetic.suite:read_steps",
    },
)
