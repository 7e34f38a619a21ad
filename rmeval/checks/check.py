"""Checks that an author runs before anyone else does: a suite card with its sample rows, or a checkpoint.

What this module does not know: the command line; how a check is shown.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rmeval import runner
from rmeval.cards import ScorerCard, SuiteCard, read_card
from rmeval.checks import doctor
from rmeval.errors import CheckFailed, UsageError
from rmeval.metrics.evaluate import evaluate
from rmeval.models import load_model
from rmeval.suites import load_suite, suite_from_card
from rmeval.types import JSON, Recorded


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    found: str
    ok: bool

    @property
    def verdict(self) -> str:
        """`ok` or `FAILED`."""
        return "ok" if self.ok else "FAILED"


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one card or model."""

    title: str
    checks: tuple[Check, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def raise_if_failed(self) -> None:
        """Raise `CheckFailed` (exit 3) that names the failed checks."""
        failed = [c.name for c in self.checks if not c.ok]
        if failed:
            raise CheckFailed(f"{self.title}: {', '.join(failed)} failed")


def check_card(path: Path) -> Report:
    """Read a suite or scorer card; for a suite, run the sample rows beside it through card, `length` and metric."""
    card_path = path / "card.toml" if path.is_dir() else path
    if card_path.is_file() and card_path.suffix != ".toml":
        raise UsageError(f"{path}: a card is a TOML file, for a suite card.toml in a folder of its name")
    if card_path.name != "card.toml":
        scorer = read_card(card_path, ScorerCard)
        return Report(f"scorer card {scorer.name}", (Check("card", "every key is known and well-typed", ok=True),))
    card = read_card(card_path, SuiteCard)
    named = card.name == card_path.parent.name
    checks = [
        Check("card", "every key is known and well-typed", ok=True),
        Check("name", f"{card.name!r} in folder {card_path.parent.name!r}", ok=named),
    ]
    suite = suite_from_card(card_path) if named else None
    sample = card_path.parent / "sample.jsonl"
    if suite is not None and (sample.is_file() or card.embedded):
        data = suite.load(None if card.embedded else sample)
        checks.append(Check("sample", f"{len(data.examples)} examples from {data.source}", ok=bool(data.examples)))
        by_step = suite.card.kind == "process"
        with_texts = all(c.body is not None for e in data.examples for c in e.candidates)
        null = load_model("position-prior" if by_step else "length").scorer if with_texts else _Equal()
        judgements = runner.run(data.examples, null, by_step=by_step).judgements
        metrics = evaluate(judgements, suite.plan)
        scored = any(m.value is not None for m in metrics)
        checks.append(Check("metric", f"{metrics[0].name} and {len(metrics) - 1} more numbers", ok=scored))
    else:
        checks.append(Check("sample", "no sample.jsonl beside the card", ok=False))
    checks.append(Check("README.md", "beside the card", ok=(card_path.parent / "README.md").is_file()))
    return Report(f"suite card {card.name}", tuple(checks))


def check_model(name: str) -> Report:
    """Whether a model's texts are sound, its scores are there, and no score depends on its company.

    What runs weights is looked at as `rmeval doctor` does, on the embedded suite; a baseline is asked for its scores.
    """
    model = load_model(name)
    if not model.needs_texts:
        raise UsageError(f"{name} holds recorded outputs; there is nothing to run")
    title = f"model {model.name} ({model.kind})"
    suite = load_suite("arithmetic")
    if model.engine is None:
        outcome = runner.run(suite.load(None, 0).examples, model.scorer)
        scores = [score for j in outcome.judgements for score in j.scores]
        finite = sum(map(math.isfinite, scores))
        return Report(title, (Check("finite scores", f"{finite} of {len(scores)}", ok=finite == len(scores)),))
    found = doctor.examine(name, suite)
    missing = ", ".join(found.missing) or "none"
    checks = [
        *(Check("text", line, ok=not found.faults) for line in found.text),
        *(Check("text", fault, ok=False) for fault in found.faults),
        Check("missing scores", missing, ok=not found.missing),
        *(Check(drift.name, str(drift), ok=drift.ok) for drift in found.drifts),
    ]
    return Report(title, tuple(checks))


class _Equal:
    """The same score for every candidate, for suites whose texts are not published."""

    name = "equal"

    def identity(self) -> dict[str, JSON]:
        """The name is all there is."""
        return {"name": self.name}

    def recorded(self, example_id: str, k: int) -> Recorded:
        """Zeros."""
        del example_id
        return Recorded(scores=(0.0,) * k)
