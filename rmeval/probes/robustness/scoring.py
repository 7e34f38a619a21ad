"""From a model and examples to drops and an attack: originals and transformed ones through the runner and the store.

    examples ─ transform ─▶ examples ─ runner ─▶ judgements ─ pairs ─▶ drops, groups, attack, curves

The originals are asked as `rmeval run` asks them, so that replies at hand serve both; every transformation is a run of
its own over the examples that it applies to.

What this module does not know: the command line, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rmeval import runner
from rmeval.errors import UsageError
from rmeval.models import Model
from rmeval.probes.curves import Curve
from rmeval.probes.robustness.attack import Attack, attack
from rmeval.probes.robustness.drop import Drop, GroupDrop, drops, group_drops
from rmeval.probes.robustness.pairs import PairScores, pair_scores
from rmeval.probes.robustness.transformations import Changed, Transformation, as_texts, transform
from rmeval.protocols import Scorer
from rmeval.store import Store
from rmeval.types import Example, Judgement


@dataclass(frozen=True, slots=True)
class Found:
    """What the probe says."""

    drops: tuple[Drop, ...]
    groups: tuple[GroupDrop, ...]
    attack: Attack
    examples: int
    """Examples with a right and a wrong response."""
    prompts: int
    requests: int
    cached: int
    """Distinct requests that the store answered."""
    notes: tuple[str, ...]

    @property
    def curves(self) -> tuple[Curve, ...]:
        """For the figure: drops by transformation and by group, and the attack."""
        return (*_drop_curves(self), *self.attack.curves)


def probe_robustness(
    model: Model,
    examples: Sequence[Example],
    transformations: Sequence[Transformation],
    store: Store | None = None,
    *,
    title: str = "robustness",
) -> Found:
    """Score the examples as they are and under each transformation, and compare pair by pair.

    Raises `UsageError` for a model that cannot score new texts, for one that is shown all of several responses at once,
    and where no example has a right and a wrong response.
    """
    if not model.needs_texts or not isinstance(model.scorer, Scorer):
        raise UsageError(
            f"{model.name} holds recorded outputs; a transformed response is a new text, which needs a model"
        )
    originals = [as_texts(one) for one in examples if len(set(one.labels.grades)) > 1]
    if not originals:
        raise UsageError("no example has a right and a wrong response, so that no transformation could flip them")
    if model.scorer.arity == "all" and any(len(one.candidates) > 2 for one in originals):
        raise UsageError(
            f"{model.name} is shown all responses of an example at once, and a transformation that applies to some of "
            "them would change what it is shown; choose a suite of pairs, or a protocol for pairs"
        )
    changed = {one.name: [new for e in originals if (new := transform(e, one))] for one in transformations}
    asked, cached = 0, 0
    reasons: dict[str, int] = {}

    def judged(these: Sequence[Example], what: str) -> dict[str, Judgement]:
        nonlocal asked, cached
        outcome = runner.run(these, model.scorer, model.engine, store, title=f"{title}: {what}")
        asked, cached = asked + outcome.counts.requests, cached + outcome.counts.cached
        for reason, n in outcome.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + n
        return {j.id: j for j in outcome.judgements}

    before = judged(originals, "originals")
    rows = {
        name: _rows(before, judged([one.example for one in these], name) if these else {}, these)
        for name, these in changed.items()
    }
    of_responses = {one.name: rows[one.name] for one in transformations if one.changes == "responses"}
    return Found(
        drops=drops(rows, transformations, len(originals)),
        groups=group_drops(rows, transformations),
        attack=attack(of_responses, judged=any(j.verdicts for j in before.values())),
        examples=len(originals),
        prompts=len({j.cluster for j in before.values()}),
        requests=asked,
        cached=cached,
        notes=_notes(examples, originals, reasons),
    )


def _rows(before: dict[str, Judgement], after: dict[str, Judgement], changed: Sequence[Changed]) -> list[PairScores]:
    return [row for one in changed for row in pair_scores(before[one.example.id], after[one.example.id], one.places)]


def _notes(examples: Sequence[Example], originals: Sequence[Example], reasons: dict[str, int]) -> tuple[str, ...]:
    said = [
        "accuracy: share of an example's (right, wrong) pairs in the right order, ties half; not the official number",
        "a pair counts, before and after, where the transformation applies to both of its responses",
        "p: sign flips by prompt, adjusted by Holm over the transformations",
    ]
    if len(originals) < len(examples):
        said.append(f"{len(examples) - len(originals)} examples have no right and wrong response and were left out")
    if any(candidate.steps for one in examples for candidate in one.candidates):
        said.append("responses were scored as texts: the suite's own steps would not follow an edit")
    if reasons:
        missing = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
        said.append(f"missing scores: {missing}; an example that lacks one on either side counts on neither")
    return tuple(said)


def _drop_curves(found: Found) -> list[Curve]:
    what = "accuracy lost, original minus transformed, paired by example"
    curves = []
    for group in found.groups:
        points = tuple(d.drop for d in found.drops if d.group == group.group and d.drop.value is not None)
        nowhere = "" if points else "none of them applies to these examples"
        curves.append(Curve(f"drop, {group.group}", "drop", what, points, nowhere))
    points = tuple(one.drop for one in found.groups if one.drop.value is not None)
    mean = "mean drop over the transformations that apply to an example"
    return [*curves, Curve("drop by group", "drop", mean, points, "" if points else "nothing applies")]
