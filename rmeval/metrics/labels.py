"""Rules for pairs with three outcomes (first, second, tie) and several annotators: PandaLM's agreement with people.

What this module does not know: sections, weights; who the annotators are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from rmeval.errors import UsageError
from rmeval.metrics.agreement import cohen_kappa, cross_table
from rmeval.metrics.convert import missing_reason
from rmeval.metrics.credit import Credits, Figures, Linear, Option, read_options
from rmeval.metrics.tally import CONVERT, Tally, top_of
from rmeval.metrics.verdicts import ANSWERED, winners
from rmeval.types import JSON, NAN, Judgement, Metric

TIE = -1
"""The outcome of a pair that neither candidate wins; otherwise it is the index of the winner."""

_OPTIONS = {
    "unparsed": Option("wrong", ("wrong", "missing")),
    "aggregate": CONVERT["aggregate"],
}


def majority_label(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Credits:
    """1 where the scorer's outcome (first, second or tie) is that of the label, ties included.

    Components: `accuracy`, over all pairs; `accuracy_without_ties`, over pairs whose label is no tie. A scorer of
    numbers says tie where they are equal. Verdicts in both orders that disagree are a tie. Options: `unparsed` wrong |
    missing, for a pair without any readable verdict; `aggregate` of step scores.
    """
    chosen = read_options("majority_label", options, _OPTIONS)
    tally = Tally()
    for j in judgements:
        _check_pair(j, "majority_label")
        said, reason = _outcome(j, tally, chosen["aggregate"])
        if reason in ANSWERED and chosen["unparsed"] == "wrong":
            credit, reason = 0.0, None
            tally.unread = True
        else:
            credit = NAN if reason else float(said == label_of(j))
        values = {"accuracy": credit}
        if label_of(j) != TIE:
            values["accuracy_without_ties"] = credit
        tally.add(j, values, reason)
        tally.mark_tie(j, said == TIE)
    unread = "; a verdict that could not be read counts as wrong" if chosen["unparsed"] == "wrong" else ""
    return tally.credits(
        Linear({"accuracy": 1.0}),
        f"share of pairs whose outcome (first, second, tie) is the annotators' majority{unread}",
        variants=(("unparsed", "missing"),) if tally.unread else (),
    )


def label_agreement(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Figures:
    """Cohen's kappa: of annotators with each other, and of the scorer with their majority; macro precision, recall, F1.

    Over the three outcomes first, second and tie. Pairs that the scorer left open are left out of its kappa and
    counted; in precision, recall and F1 they are wrong whatever the label. Option: `aggregate` of step scores.
    """
    chosen = read_options("label_agreement", options, {"aggregate": CONVERT["aggregate"]})
    tally = Tally()
    labels, said = [], []
    for j in judgements:
        _check_pair(j, "label_agreement")
        outcome, reason = _outcome(j, tally, chosen["aggregate"])
        labels.append(label_of(j))
        said.append(None if reason else outcome)
    metrics = []
    voters = {len(j.votes) for j in judgements}
    if len(voters) == 1 and (many := voters.pop()) > 1:
        for a, b in combinations(range(many), 2):
            kappa = _kappa([j.votes[a] for j in judgements], [j.votes[b] for j in judgements])
            note = "Cohen's kappa of two annotators; says nothing about the scorer"
            metrics.append(_figure(f"kappa:annotators_{a + 1}_{b + 1}", kappa, len(judgements), 0, note))
    both = [(label, one) for label, one in zip(labels, said, strict=True) if one is not None]
    missing = len(said) - len(both)
    kappa = _kappa([label for label, _ in both], [one for _, one in both])
    note = "Cohen's kappa of the scorer and the majority of annotators"
    metrics.append(_figure("kappa:majority", kappa, len(both), missing, note))
    for name, value in _macro(labels, said).items():
        metrics.append(
            _figure(f"macro:{name}", value, len(both), missing, "unweighted mean over first, second and tie")
        )
    return Figures(tuple(metrics))


def label_of(j: Judgement) -> int:
    """The outcome that the grades of a pair stand for."""
    a, b = j.grades
    return TIE if a == b else int(b > a)


def _outcome(j: Judgement, tally: Tally, aggregate: str) -> tuple[int, str | None]:
    """(outcome, reason why there is none) of what a scorer said about a pair."""
    if j.verdicts and not j.scores:
        said = [winners(row, j.id) for row in j.verdicts]
        read = {min(one) if len(one) == 1 else TIE for one in said if one is not None}
        if not read:
            return TIE, missing_reason(j)
        return (read.pop() if len(read) == 1 else TIE), None
    scored = tally.scores(j, aggregate, "missing")
    top = top_of(scored.values)
    return (min(top) if len(top) == 1 else TIE), scored.reason


def _kappa(first: Sequence[int], second: Sequence[int]) -> float:
    return cohen_kappa(cross_table(first, second)) if first else NAN


def _macro(labels: Sequence[int], said: Sequence[int | None]) -> dict[str, float]:
    """Macro precision, recall and F1 over the outcomes that occur in the labels; an undefined one of a class is 0."""
    hits = Counter(label for label, one in zip(labels, said, strict=True) if label == one)
    claimed, there = Counter(one for one in said if one is not None), Counter(labels)
    precision = [hits[c] / claimed[c] if claimed[c] else 0.0 for c in there]
    recall = [hits[c] / n for c, n in there.items()]
    f1 = [2 * p * r / (p + r) if p + r else 0.0 for p, r in zip(precision, recall, strict=True)]
    means = (sum(one) / len(one) if one else NAN for one in (precision, recall, f1))
    return dict(zip(("precision", "recall", "f1"), means, strict=True))


def _figure(name: str, value: float, n: int, missing: int, note: str) -> Metric:
    undefined = math.isnan(value)
    note = f"undefined; {note}" if undefined else note
    return Metric(name, None if undefined else value, n=n, n_missing=missing, note=note, unit="number")


def _check_pair(j: Judgement, rule: str) -> None:
    if len(j.grades) != 2:
        raise UsageError(f"example {j.id!r}: {rule} needs two candidates, and it has {len(j.grades)}")
