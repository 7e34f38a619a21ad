"""Whether a submission is what it says: everything recomputed from its samples, without model, texts or network.

    reported     a published figure without samples: nothing can be checked
    recomputed   every metric follows from the samples, whose ids and grades are the suite's own
    reproduced   besides, a random part was scored again with the model and agrees
    rejected     a fault, with its code

Recomputing stops arithmetic forgery and mixed-up data. Scores themselves can be made up: only scoring again finds that,
a made-up share f with probability 1 - (1 - f)^k from k examples. Flags are what a reader should look at; they reject
nothing, since honest scorers can be constant, copied or perfect.

What this module does not know: models, the board, how a submission is laid out.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from rmeval.errors import UsageError
from rmeval.leaderboard.intake import PART, ahead_of_time
from rmeval.leaderboard.submission import Opened, folder_of, name_fault, open_submission
from rmeval.metrics.convert import scores_of
from rmeval.metrics.evaluate import evaluate, withhold
from rmeval.models import CHECKPOINT_KINDS
from rmeval.plugins import SCORERS
from rmeval.records import Result
from rmeval.results import ResultView, metrics_of, with_options
from rmeval.runner import missed
from rmeval.suites import Suite, labels_digest, load_suite
from rmeval.types import Judgement, Metric

Level = Literal["reported", "recomputed", "reproduced", "rejected"]

Code = Literal["unreadable", "name", "suite", "incomplete", "definition", "ids", "labels", "unpinned", "claim"]

EQUAL = 1e-9
"""How far a stated number may lie from the recomputed one."""
ALIKE = 1 - 1e-9
"""Correlation above which two entries' scores are called the same."""
RECORDED = ("replay", "ensemble", "published")
"""Kinds of models that are recordings: whoever runs one again needs what was recorded."""
FOLLOWS_LENGTH = 0.95
SATURATED = 0.5
MOSTLY = 0.9
"""Share of the examples from which on something is said of them all."""
FEW = 10
"""Fewer examples say nothing of a distribution, and scores of fewer values have few margins in all honesty."""
_PINNED = re.compile(r"[0-9a-f]{40}|(sha256:)?[0-9a-f]{64}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a submission is rejected."""

    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of it."""

    path: Path
    model: str
    suite: str
    level: Level
    faults: tuple[Fault, ...] = ()
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    checked: int = 0
    """Metrics that were recomputed."""

    @property
    def accepted(self) -> bool:
        """Whether it may stand on a board."""
        return self.level != "rejected"


def verify(path: Path, others: Iterable[ResultView] = ()) -> Verification:
    """Check a submission (its folder, or a bare result file). `others`: entries that its scores may be copied from."""
    try:
        opened = open_submission(path)
    except UsageError as fault:
        return Verification(path, "", "", "rejected", (Fault("unreadable", str(fault)),))
    held = opened.view.result
    found = Verification(path, held.model.name, held.suite.name, "recomputed")
    try:
        suite = load_suite(held.suite.name)
    except UsageError as fault:
        return _with(found, [Fault("suite", str(fault))])
    others = list(others)
    faults = [*_about_run(opened, suite), *_about_time(opened), *_about_place(opened, others)]
    labels, notes = _about_labels(opened.view, suite)
    faults += labels
    claims: list[Fault] = []
    checked = 0
    if not faults:
        faults += _about_counts(opened.view)
        claims, more, checked = _about_claims(opened.view, suite)
        notes += more
    try:
        flags = (*screens(opened.view.judgements), *_copied(opened.view, others), *_twins(opened.view, others))
    except UsageError as fault:  # rows that no score can be made of
        return _with(found, [*faults, *claims, Fault("unreadable", str(fault))])
    made = Verification(
        path,
        held.model.name,
        held.suite.name,
        "recomputed",
        (),
        flags,
        (*notes, *_about_declared(opened)),
        checked,
    )
    return _with(made, [*faults, *claims])


def reproduced(found: Verification, agrees: bool, said: str) -> Verification:
    """What scoring again adds: the level where it agrees, a flag where it does not."""
    level: Level = "reproduced" if agrees else found.level
    flags = found.flags if agrees else (*found.flags, f"not reproduced: {said}")
    notes = (*found.notes, said) if agrees else found.notes
    return replace(found, level=level, flags=flags, notes=notes)


def _with(found: Verification, faults: Sequence[Fault]) -> Verification:
    if not faults:
        return found
    return replace(found, level="rejected", faults=tuple(faults))


# --- the run ---------------------------------------------------------------------------------------------------------


def _about_run(opened: Opened, suite: Suite) -> Iterable[Fault]:
    held, card = opened.view.result, suite.card
    if why := name_fault(held.model.name):
        yield Fault("name", f"model {held.model.name!r}: {why}")
    for what, said in (("kind", held.model.kind), ("version of rmeval", held.environment.rmeval)):
        if not _WORD.fullmatch(said):  # both stand beside the name on the board
            yield Fault("name", f"{what} {said[:100]!r}: one word of letters, digits and . _ + -")
    if held.suite.version != card.version:
        yield Fault("suite", f"version {held.suite.version} of {suite.name}; the card has version {card.version}")
    if held.withheld:
        yield Fault("incomplete", f"its aggregates are withheld: {held.withheld}")
    elif held.suite.limit is not None:
        yield Fault("incomplete", f"a limited run: {held.suite.examples} examples")
    elif held.shard is not None:
        yield Fault("incomplete", PART)
    elif not held.complete:
        yield Fault("incomplete", "; ".join(("incomplete", *held.notes)))
    if held.metric_options:
        options = ", ".join(f"{key} = {value}" for key, value in sorted(held.metric_options.items()))
        yield Fault("definition", f"not the official definition: {options}")
    if not _without_weights(held) and not _PINNED.fullmatch(held.model.revision or ""):
        yield Fault("unpinned", f"model revision {held.model.revision!r} is no commit and no digest of its files")


def _about_time(opened: Opened) -> Iterable[Fault]:
    stated = {"the result": opened.view.result.created}
    if opened.submission is not None:
        stated["the submission"] = opened.submission.created
    for what, created in stated.items():
        if why := ahead_of_time(created):
            yield Fault("claim", f"{what}: {why}")


def _about_counts(view: ResultView) -> Iterable[Fault]:
    """What the run says happened to its requests, against the samples."""
    counts = view.result.counts
    for name, own in missed(view.judgements).items():
        if (stated := getattr(counts, name)) != own:
            yield Fault("claim", f"counts: states {stated} {name}, its samples have {own}")
    if counts.cached > counts.requests:
        yield Fault("claim", f"counts: states {counts.cached} stored replies to {counts.requests} requests")


def _without_weights(held: Result) -> bool:
    """Whether there are none that a digest could pin: recorded scores, a served judge, a scorer that is all code.

    Which kind a sender states is not enough: a scorer that is all code goes by a name that is known here.
    """
    kind, name = held.model.kind, held.model.name
    if kind == "judge":
        return held.engine is not None and held.engine.name == "openai"
    code = name in SCORERS and not isinstance(SCORERS.origin(name).target, Path)
    return kind in RECORDED or (kind not in CHECKPOINT_KINDS and code)


def _about_place(opened: Opened, others: Sequence[ResultView]) -> Iterable[Fault]:
    """A second submission of a model on a suite stands only where its name puts it, or the newer one would win."""
    here, held = opened.folder.resolve(), opened.view.result
    if opened.submission is None or here == folder_of(opened.view, here.parent.parent):
        return
    # by their folders: a/b and a__b are two names, and one place for files
    mine = folder_of(opened.view, Path())
    elsewhere = [other for other in others if other.path.parent.resolve() != here]
    if twin := next((other for other in elsewhere if folder_of(other, Path()) == mine), None):
        name = twin.result.model.name
        yield Fault("name", f"{name} on {held.suite.name} has a submission in another folder already")


def _about_declared(opened: Opened) -> list[str]:
    said = []
    if opened.view.result.model.kind in RECORDED:
        said.append(f"{opened.view.result.model.kind}: recorded scores, which cannot be scored again")
    if opened.submission is None:
        return [*said, "a bare result: nothing is declared about training data, contact or party"]
    held = opened.submission.declared
    said += [] if held.contact else ["no contact is declared"]
    if held.contaminated:
        said.append("its sender declares that the model has seen this suite")
    return said


# --- ids and grades --------------------------------------------------------------------------------------------------


def _about_labels(view: ResultView, suite: Suite) -> tuple[list[Fault], list[str]]:
    """Whether the samples are about the suite's own examples with the suite's own grades."""
    rows, held = view.judgements, view.result
    if len(rows) != held.suite.examples:
        return [Fault("ids", f"{len(rows)} samples for {held.suite.examples} examples")], []
    expected = suite.card.expected
    there = Counter(row.subset for row in rows)
    wrong = [
        f"{subset}: {there.get(subset, 0)} of {count}"
        for subset, count in expected.items()
        if there.get(subset, 0) != count
    ]
    strange = [subset for subset in there if expected and subset not in expected]
    if wrong or strange:
        said = [*wrong[:5], *(f"{subset}: not of this suite" for subset in strange[:5])]
        return [Fault("ids", f"samples per subset differ from the card: {'; '.join(said)}")], []
    named = {name for row in rows for name in row.slices if name.partition(": ")[0] not in suite.card.slices}
    if named:  # each becomes a figure of its own on the entry's page
        return [Fault("labels", f"slices that the suite does not have: {', '.join(sorted(named)[:5])[:200]}")], []
    steps = {row.id: [list(grades) for grades in row.step_grades] for row in rows if row.step_grades}
    digest = labels_digest(((row.id, row.subset, row.cluster, row.grades) for row in rows), steps)
    stated = held.suite.data.labels_sha256
    if stated and stated != digest:
        return [Fault("labels", f"its samples give the label digest {digest[:12]}, and it states {stated[:12]}")], []
    pinned = suite.card.labels_sha256
    if pinned is None and suite.card.embedded:
        own = suite.load(None, held.suite.seed)
        pinned = own.labels_sha256
        if pinned == digest and held.suite.data.sha256 != own.sha256:
            why = f"it states the data digest {held.suite.data.sha256[:12]}, the suite's is {own.sha256[:12]}"
            return [Fault("suite", why)], []
    if pinned is None:
        return [], [f"the labels of {suite.name} are not pinned in its card: ids and grades could not be checked"]
    if pinned != digest:
        return [
            Fault("labels", f"ids or grades are not the suite's: label digest {digest[:12]}, not {pinned[:12]}")
        ], []
    return [], []


# --- claims ----------------------------------------------------------------------------------------------------------


def _about_claims(view: ResultView, suite: Suite) -> tuple[list[Fault], list[str], int]:
    """Every stated metric against the one that the samples give."""
    try:
        metrics = evaluate(view.judgements, with_options(suite.plan, {}))
    except UsageError as fault:
        return [Fault("claim", f"its samples cannot be measured: {fault}")], [], 0
    if view.result.withheld:
        metrics = withhold(metrics, view.result.withheld)
    ours = {(m.name, m.subset): m for m in metrics}
    faults, stated, head = [], metrics_of(view.result), metrics[0]
    if (stated[0].name, stated[0].subset) != (head.name, head.subset):
        what = stated[0].name if stated[0].subset is None else f"{stated[0].name} of {stated[0].subset}"
        faults.append(Fault("claim", f"its headline is {what}, the suite's is {head.name}"))
    for metric in stated:
        own = ours.pop((metric.name, metric.subset), None)
        what = metric.name if metric.subset is None else f"{metric.name} of {metric.subset}"
        if own is None:
            faults.append(Fault("claim", f"{what} is not a metric of this suite in this version of rmeval"))
        elif said := difference(metric, own):
            faults.append(Fault("claim", f"{what}: {said}"))
    notes = [f"{len(ours)} metrics that this version reports are not stated"] if ours else []
    return faults, notes, len(stated)


def difference(stated: Metric, own: Metric) -> str:
    """What differs, both numbers printed; empty where nothing does."""
    pairs: list[tuple[str, float | None, float | None]] = [("value", stated.value, own.value)]
    for place, name in enumerate(("lower end", "upper end")):
        pairs.append((name, stated.ci[place] if stated.ci else None, own.ci[place] if own.ci else None))
    pairs += [("n", stated.n, own.n), ("n_missing", stated.n_missing, own.n_missing)]
    for name, a, b in pairs:
        if (a is None) != (b is None) or (a is not None and b is not None and abs(a - b) > EQUAL * max(1.0, abs(b))):
            return f"states {name} {_said(a)}, its samples give {_said(b)}"
    # what says how the number is read: the board takes the direction of its order from it
    for name, said, is_said in (
        ("unit", stated.unit, own.unit),
        ("higher_is_better", stated.higher_is_better, own.higher_is_better),
    ):
        if said != is_said:
            return f"states {name} {said}, the suite has {is_said}"
    return ""


def _said(value: float | None) -> str:
    return "none" if value is None else f"{value:.9g}"


# --- what a reader should look at ------------------------------------------------------------------------------------


def screens(rows: Sequence[Judgement]) -> list[str]:
    """Flags that the scores raise by themselves."""
    scored = [(row, scores_of(row).values) for row in rows]
    whole = [(row, values) for row, values in scored if values and not any(map(math.isnan, values))]
    if not whole:
        return ["no example has all its scores"]
    found = []
    everything = [value for _, values in whole for value in values]
    if len(set(everything)) == 1:
        found.append("constant: every score is the same")
    graded = [(row, values) for row, values in whole if len(set(row.grades)) > 1]
    if graded and all(_echoes(row.grades, values) for row, values in graded):
        exact = len({value for _, values in graded for value in values}) <= len(
            {g for row, _ in graded for g in row.grades}
        )
        found.append(
            "gold echo: the scores take as few values as the grades and follow them"
            if exact
            else "perfect: no pair is wrong"
        )
    with_length = [(row, values) for row, values in whole if row.lengths]
    if with_length and len(set(everything)) > 1:
        rho = _spearman(
            [value for _, values in with_length for value in values],
            [float(length) for row, _ in with_length for length in row.lengths],
        )
        if abs(rho) >= FOLLOWS_LENGTH:
            found.append(f"follows length: rank correlation {rho:.3f} with the number of characters")
    unit = all(0 <= value <= 1 for value in everything) and len(set(everything)) > 2
    at_ends = sum(min(value, 1 - value) < 1e-6 for value in everything) / len(everything)
    if unit and at_ends > SATURATED:
        found.append(f"saturated: {at_ends:.0%} of the scores lie within 1e-6 of 0 or 1")
    return [*found, *_odd_margins(graded), *_above_ceiling(whole), *_telling_ids(rows)]


Scored = tuple[Judgement, tuple[float, ...]]


def _odd_margins(graded: Sequence[Scored]) -> list[str]:
    """Scores that most likely were made from the grades: they are them, or lie one distance apart."""
    found = []
    own = [row for row, _ in graded if row.scores]  # a judge's verdicts are as few as the grades
    same = sum(tuple(row.scores) == tuple(row.grades) for row in own)
    wrong = any(not _echoes(row.grades, row.scores) for row in own)  # else it is called a gold echo already
    if wrong and len(own) >= FEW and same >= MOSTLY * len(own):
        found.append(f"near gold echo: in {same / len(own):.0%} of the examples the scores are the grades themselves")
    if len({value for _, values in graded for value in values}) > FEW < len(graded):
        # a gap of 1e308 scores is no number
        gaps = Counter(float(f"{abs(max(values) / 2 - min(values) / 2) * 2:.9g}") for _, values in graded)
        [(gap, times)] = gaps.most_common(1)
        if times >= MOSTLY * len(graded):
            share = times / len(graded)
            found.append(f"degenerate margins: best and worst lie {gap:g} apart in {share:.0%} of the examples")
    return found


def _above_ceiling(whole: Sequence[Scored]) -> list[str]:
    """Agreement with annotators beyond what any choice can reach that was made without their votes.

    With votes v of +1, 0 (tie) and -1, a choice agrees by E|E v| at most, which is at most the root of E(E v)^2; the
    mean product of two different votes estimates that without bias. Beyond three standard errors it is said.
    """
    voted = [(row.votes, values) for row, values in whole if len(row.votes) > 1 and len(values) == 2]
    if len(voted) < FEW:
        return []
    votes = [[(1, -1, 0)[vote] for vote in said] for said, _ in voted]
    agrees = np.array([np.sign(a - b) * np.mean(v) for v, (_, (a, b)) in zip(votes, voted, strict=True)])
    products = np.array([(sum(v) ** 2 - sum(x * x for x in v)) / (len(v) * (len(v) - 1)) for v in votes])
    most = math.sqrt(max(products.mean(), 0.0))
    # the product's own error, through the root; at a root near 0 it is as good as the root of the error
    errors = agrees.var(), products.var() / max(4 * most * most, products.std() / math.sqrt(len(voted)), 1e-12)
    if agrees.mean() <= most + 3 * math.sqrt(sum(errors) / len(voted)):
        return []
    said = (f"{(1 + share) / 2:.1%}" for share in (agrees.mean(), most))
    return [f"above the noise ceiling: agrees with the suite's annotators in {' where '.join(said)} can be reached"]


def _telling_ids(rows: Sequence[Judgement]) -> list[str]:
    """Ids from which a label can be read: a scorer is shown them."""
    labels = [float(np.argmax(row.grades)) if len(row.grades) > 1 else row.grades[0] for row in rows if row.grades]
    ids = [row.id for row in rows if row.grades]
    if len(ids) < FEW or len(set(labels)) < 2:
        return []
    words: dict[str, set[float]] = {}
    for name, label in zip(ids, labels, strict=True):
        words.setdefault(re.sub(r"\d+", "#", name), set()).add(label)
    numbers = [float((re.findall(r"\d{1,15}", name) or ["nan"])[-1]) for name in ids]
    rho = 0.0 if any(map(math.isnan, numbers)) else _spearman(numbers, labels)
    if abs(rho) >= FOLLOWS_LENGTH:
        return [f"ids tell the label: rank correlation {rho:.3f} with the last number of an id"]
    told = len(words) * FEW <= len(ids) and all(len(found) == 1 for found in words.values())
    return ["ids tell the label: whatever stands in them beside numbers has one label"] if told else []


def _echoes(grades: Sequence[float], values: Sequence[float]) -> bool:
    """Whether every candidate with a higher grade has a higher score."""
    pairs = [(a, b) for a in range(len(grades)) for b in range(len(grades)) if grades[a] > grades[b]]
    return all(values[a] > values[b] for a, b in pairs)


def _copied(view: ResultView, others: Iterable[ResultView]) -> list[str]:
    """Entries of other models whose scores are the same up to scale and shift."""
    mine = _vector(view.judgements)
    if len(set(mine.values())) < 2:
        return []
    found = []
    for other in others:
        # by name: the id of a result is part of what can be copied
        itself = other.result.model.name == view.result.model.name
        if itself or other.result.suite.name != view.result.suite.name:
            continue
        theirs = _vector(other.judgements)
        keys = sorted(mine.keys() & theirs.keys())
        a, b = (np.array([side[key] for key in keys]) for side in (mine, theirs))
        if len(keys) > 2 and a.std() > 0 and b.std() > 0 and float(np.corrcoef(a, b)[0, 1]) > ALIKE:
            found.append(f"copied: the same scores as {other.result.model.name}, up to scale and shift")
    return found


def _twins(view: ResultView, others: Iterable[ResultView]) -> list[str]:
    """Entries whose names differ in upper and lower case only."""
    mine = view.result.model.name
    names = {other.result.model.name for other in others}
    return [
        f"its name differs from {name} in case only" for name in sorted(names - {mine}) if name.lower() == mine.lower()
    ]


def _vector(rows: Sequence[Judgement]) -> dict[tuple[str, int, int], float]:
    """(example, candidate, step) -> score; a candidate without step scores has one number."""
    found: dict[tuple[str, int, int], float] = {}
    for row in rows:
        numbers = row.step_scores or [(value,) for value in scores_of(row).values]
        for i, one in enumerate(numbers):
            found |= {(row.id, i, j): value for j, value in enumerate(one) if not math.isnan(value)}
    return found


def _spearman(a: Sequence[float], b: Sequence[float]) -> float:
    from scipy.stats import rankdata

    x, y = rankdata(a), rankdata(b)
    return float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else 0.0


def audit_power(share: float, k: int) -> float:
    """The chance that k examples scored again hold at least one of a made-up share.

    >>> round(audit_power(0.05, 60), 3)
    0.954
    """
    return 1 - (1 - share) ** k


def ranked_level(level: Level) -> bool:
    """Whether entries of this level are ranked together: those whose numbers follow from samples."""
    return level in ("recomputed", "reproduced")
