"""What the rules share: which candidates are right or on top, scores out of whatever is there, credits gathered.

What this module does not know: any rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rmeval.errors import UsageError
from rmeval.metrics.columns import Column, Places
from rmeval.metrics.convert import CHOICES, MEAN, OWN, Scored, scores_of
from rmeval.metrics.credit import Credit, Credits, Linear, Option
from rmeval.metrics.debias import DECISIONS
from rmeval.types import JSON, Judgement

CONVERT = {
    "aggregate": Option(OWN, CHOICES),
    "unparsed": Option("missing", ("missing", "wrong", "chance")),
}
"""Options of rules that read one number per candidate: how steps become one, what an unreadable verdict is worth."""

VERDICTS = Option(MEAN, (MEAN, *DECISIONS))
"""How the verdicts on the same candidates in several orders and votes become one."""

_LACKS = {
    "no_probabilities": "these verdicts come without probabilities; swap_mean_logit and swap_mean_prob need them, "
    "the others (majority, sum_sign, tie_on_inconsistency, ...) do not",
    "one_order": "every pair was shown in one order only, and this needs both (judge.orders=both)",
}
"""Reasons that mean, where no example has a credit, that the run lacks what was asked for."""


def right_of(j: Judgement) -> frozenset[int]:
    """The right candidates: those with the highest grade. A row without grades raises `UsageError`."""
    if not j.grades:
        raise UsageError(f"example {j.id!r} has no grades: this metric needs to know which candidates are right")
    best = max(j.grades)
    return frozenset(c for c, grade in enumerate(j.grades) if grade == best)


def top_of(scores: Sequence[float]) -> frozenset[int]:
    """The candidates that share the highest score; empty if any score is missing, for NaN has no rank."""
    if any(map(math.isnan, scores)):
        return frozenset()
    best = max(scores)
    return frozenset(c for c, score in enumerate(scores) if score == best)


class Tally:
    """Gathers the credits of one rule, and what its note must confess."""

    def __init__(self) -> None:
        self.rows: list[Credit] = []
        self.tied: set[str] = set()
        self.conversions: dict[str, None] = {}
        self.without_contrast = 0
        self.in_one_order = 0
        """Pairs that a rule of two games leaves out, since one was played."""
        self.column: tuple[Column, Any] | None = None
        """The credits of a table, and where ties decide them, in place of rows one by one."""
        self.verdicts = False
        self.unread = False

    def with_contrast(self, judgements: Sequence[Judgement]) -> list[Judgement]:
        """Those that have a right and a wrong candidate."""
        kept = [j for j in judgements if len(right_of(j)) < len(j.grades)]
        self.without_contrast += len(judgements) - len(kept)
        return kept

    def scores(
        self, j: Judgement, aggregate: str, unparsed: str, unrated: float | None = None, verdicts: str = MEAN
    ) -> Scored:
        """One number per candidate; remembers the conversion."""
        scored = scores_of(j, aggregate, unparsed, unrated, verdicts)
        if scored.how:
            self.conversions[scored.how] = None
        return scored

    def add(self, j: Judgement, values: Mapping[str, float], reason: str | None) -> None:
        """What an example earns, by component."""
        self.verdicts = self.verdicts or bool(j.verdicts)
        self.rows += [Credit(j.id, j.cluster, j.subset, name, value, reason) for name, value in values.items()]

    def mark_tie(self, j: Judgement, tied: bool) -> None:
        """Remember an example whose credit an exact tie decides."""
        if tied:
            self.tied.add(j.id)

    def credits(self, formula: Linear, note: str, variants: tuple[tuple[str, JSON], ...] = ()) -> Credits:
        """All credits, with the rule in words and the conversions made.

        Raises `UsageError` where no example at all holds what the option `verdicts` asks for.
        """
        reasons = {row.reason for row in self.rows}
        for reason, lacks in _LACKS.items():
            if None not in reasons and reason in reasons:
                raise UsageError(f"option 'verdicts': {lacks}")
        parts = [note, *self.conversions]
        if self.without_contrast:
            n = self.without_contrast
            which = "1 example whose candidates" if n == 1 else f"{n} examples whose candidates"
            carry = "carries" if n == 1 else "carry"
            parts.append(f"{which} all have the same grade {carry} no credit")
        if n := self.in_one_order:
            pairs = "1 pair was" if n == 1 else f"{n} pairs were"
            parts.append(f"{pairs} judged in one order only, and this rule needs both: -a judge.orders=both")
        note = "; ".join(parts)
        if self.column is not None:
            rows, tied = self.column
            return Credits(rows, formula, note, ties=Places(rows.table, tied), variants=variants)
        return Credits(tuple(self.rows), formula, note, ties=frozenset(self.tied), variants=variants)
