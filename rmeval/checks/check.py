"""Checks that an author runs before anyone else does: a suite card with its sample rows, or a checkpoint.

What this module does not know: the command line; how a check is shown.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rmeval import runner
from rmeval.cards import ScorerCard, SuiteCard, read_card
from rmeval.engines import hygiene
from rmeval.errors import CheckFailed, UsageError
from rmeval.metrics.evaluate import evaluate
from rmeval.models import Model, load_model
from rmeval.protocols import Scorer
from rmeval.suites import load_suite, suite_from_card
from rmeval.types import JSON, Candidate, Example, Judgement, Labels, Recorded

PAIRS = 32
BATCH_TOLERANCE = 1e-4
"""Largest accepted difference in fp32 between a text scored alone and among others."""


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
    """Score 64 responses (32 pairs) of the embedded suite alone, by 8, by 32, shuffled and beside a long text.

    A model that reads two responses together gives two numbers per pair too, its log-odds in both orders.
    """
    model = load_model(name)
    if not model.needs_texts:
        raise UsageError(f"{name} holds recorded outputs; there is nothing to run")
    title = f"model {model.name} ({model.kind})"
    pairs = [e for e in load_suite("arithmetic").load(None, 0).examples if e.subset == "pairs"][:PAIRS]
    try:
        texts_found = _texts(model, pairs)
    except CheckFailed as fault:  # before any weight is read
        return Report(title, (Check("text", str(fault), ok=False),))
    read = [_texts_of(model, pair) for pair in pairs]
    judged = [[runner.run([text], model.scorer, model.engine).judgements[0] for text in texts] for texts in read]
    fits = [i for i, found in enumerate(judged) if not any(_truncated(j) for j in found)]
    texts = [text for i in fits for text in read[i]]
    alone = [number for i in fits for j in judged[i] for number in _numbers(model, j)]
    finite = sum(map(math.isfinite, alone))
    found = f"{finite} of {len(alone)}"
    if len(fits) < len(pairs):
        found += f"; {2 * (len(pairs) - len(fits))} more texts are in pairs with one that is longer than it reads"
    checks = [*texts_found, Check("finite scores", found, ok=0 < finite == len(alone))]
    tolerance = BATCH_TOLERANCE
    if model.engine is not None:
        dtype = str(model.engine.fingerprint()["dtype"])
        spread = max(alone) - min(alone) if alone else 0.0
        tolerance = BATCH_TOLERANCE if dtype == "float32" else 0.02 * spread
        checks.append(Check("dtype", dtype, ok=True))
    if finite == len(alone) and texts:
        checks += [_compared(label, alone, other, tolerance) for label, other in _company(model, texts)]
    return Report(title, tuple(checks))


def _texts(model: Model, examples: list[Example]) -> list[Check]:
    """What the model would read; raises `CheckFailed` where its texts are unsound."""
    *_, planned = runner.plan(examples, model.scorer, model.engine)
    text = hygiene.report(planned.texts, model.engine.fingerprint()) if planned and model.engine else None
    names = ("text", "text length")
    return [Check(n, line, ok=True) for n, line in zip(names, hygiene.lines(text), strict=True)] if text else []


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


def _texts_of(model: Model, pair: Example) -> list[Example]:
    """What the model reads of a pair, each an example: both responses one by one, or the pair."""
    return [pair] if _reads_two(model) else [_alone(pair, c) for c in (0, 1)]


def _reads_two(model: Model) -> bool:
    return isinstance(model.scorer, Scorer) and model.scorer.arity != "one"


def _truncated(j: Judgement) -> bool:
    return "truncated" in (*j.reasons, *(row.reason for row in j.verdicts))


def _numbers(model: Model, j: Judgement) -> tuple[float, ...]:
    """The score of the one candidate, or of a pair the log-odds that the first shown is better, in both orders."""
    if not _reads_two(model):
        return j.scores[:1]
    rows = sorted(j.verdicts, key=lambda row: row.order)
    if any(row.verdict is not None and row.logmass is None for row in rows):
        raise UsageError(f"{model.name} answers in words, which are not compared here: rmeval run --limit 5 shows some")
    return tuple(math.nan if row.logmass is None else row.logmass[0] - row.logmass[1] for row in rows)


def _alone(example: Example, candidate: int) -> Example:
    """One candidate of an example, as an example of its own."""
    name = f"{example.id}/{candidate}"
    return Example(name, example.prompt, (example.candidates[candidate],), Labels((0.0,)), "")


def _company(model: Model, texts: list[Example]) -> Iterator[tuple[str, list[float]]]:
    """The same texts scored in different company, in their own order."""
    for size in (8, 32):
        parts = [texts[i : i + size] for i in range(0, len(texts), size)]
        yield f"in batches of {size}", [score for part in parts for score in _scores(model, part)]
    order = random.Random(0).sample(range(len(texts)), len(texts))  # noqa: S311 - any order will do
    found = _scores(model, [texts[i] for i in order])
    each = len(found) // len(texts)
    shuffled = {i: found[each * place : each * (place + 1)] for place, i in enumerate(order)}
    yield "shuffled", [score for i in range(len(texts)) for score in shuffled[i]]
    yield "beside a long text", _scores(model, [_long_neighbour(model, texts), *texts])[each:]


def _compared(label: str, alone: list[float], other: list[float], tolerance: float) -> Check:
    worst = max(abs(a - b) for a, b in zip(alone, other, strict=True))
    decided = [(a > b, c > d) for a, b, c, d in zip(alone[::2], alone[1::2], other[::2], other[1::2], strict=True)]
    flips = sum(before != after for before, after in decided)
    found = f"largest difference {worst:.2e} (limit {tolerance:.0e}), {flips} of {len(decided)} pairs flip"
    return Check(label, found, ok=worst <= tolerance and flips == 0)


def _scores(model: Model, examples: list[Example]) -> list[float]:
    """The numbers of each example, all scored in one run."""
    judgements = runner.run(examples, model.scorer, model.engine).judgements
    return [number for j in judgements for number in _numbers(model, j)]


def _long_neighbour(model: Model, examples: list[Example]) -> Example:
    """As many of the texts in one as the model still reads."""
    for n in range(8, 0, -1):
        k = len(examples[0].candidates)
        long = tuple(Candidate(" ".join(e.candidates[c].text for e in examples[:n])) for c in range(k))
        joined = Example("neighbour", examples[0].prompt, long, Labels((0.0,) * k), "")
        if math.isfinite(_scores(model, [joined])[0]):
            return joined
    return examples[0]
