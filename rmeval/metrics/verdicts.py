"""What a row of a judge says: who won, against whom, and how sure; rows about the same candidates put together.

What this module does not know: how several rows become one decision, which candidates are right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rmeval.errors import UsageError
from rmeval.types import UNREAD, Judgement, Verdict

TIES = ("lose", "half", "fraction", "win")
"""What a top shared by right and wrong candidates may be worth."""
ANSWERED = UNREAD | {"truncated"}
"""Reasons of a verdict that is not there although the judge answered; any other is a fault of the call."""
_LEVEL = frozenset(("tie", "A=B", "B=A"))
_SLOTS = {"A>>B": 0, "A>B": 0, "B>A": 1, "B>>A": 1}


def winners(verdict: Verdict, example: str) -> frozenset[int] | None:
    """The candidates (data set indices) that a verdict row favours: one, or all shown for a tie; None if unreadable.

    >>> sorted(winners(Verdict((1, 0), "A"), "x"))
    [1]
    """
    shown, said = verdict.order, verdict.verdict
    if said is None:
        return None
    if said in _LEVEL:
        return frozenset(shown)
    position = _SLOTS.get(said)
    if position is None and len(said) == 1 and "A" <= said <= "Z":
        position = ord(said) - ord("A")
    if position is None or position >= len(shown):
        raise UsageError(
            f"example {example!r}: verdict {said!r} does not name one of the {len(shown)} candidates shown "
            "(A..Z, A>>B, A>B, A=B, B>A, B>>A, tie, or null)"
        )
    return frozenset({shown[position]})


def tie_credit(top: frozenset[int], right: frozenset[int], ties: str) -> float:
    """Credit of a set of top candidates against the right ones, for any number of either.

    >>> [tie_credit(frozenset({0, 3}), frozenset({0}), ties) for ties in TIES]
    [0.0, 0.5, 0.5, 1.0]
    """
    hit = len(top & right)
    if hit in (0, len(top)):
        return float(hit > 0)
    return {"lose": 0.0, "half": 0.5, "fraction": hit / len(top), "win": 1.0}[ties]


def contests(j: Judgement) -> list[tuple[Verdict, ...]]:
    """The verdict rows of an example, those about the same candidates together; a critic's rows are not among them.

    A later row of the same order and vote (a retry, a synthesis of both orders) replaces an earlier one.
    """
    found: dict[frozenset[int], dict[tuple[tuple[int, ...], int], Verdict]] = {}
    for row in j.verdicts:
        check_order(row, j)
        if len(row.order) > 1:
            found.setdefault(frozenset(row.order), {})[row.order, row.vote] = row
    return [tuple(found[shown].values()) for shown in sorted(found, key=sorted)]


def check_order(row: Verdict, judgement: Judgement) -> None:
    """Raise `UsageError` for a row that does not show different candidates of its example."""
    if not row.order or len(set(row.order)) < len(row.order) or not set(row.order) <= set(range(len(judgement.grades))):
        raise UsageError(
            f"example {judgement.id!r}: verdict order {list(row.order)} is not a choice of its "
            f"{len(judgement.grades)} candidates"
        )


def log_shares(row: Verdict) -> dict[int, float] | None:
    """Log-probability of each candidate shown, up to one constant per row; None where the judge gave none.

    What it put on a tie, or on other tokens, is left out. An unreadable verdict has none: its mass lay elsewhere.

    >>> log_shares(Verdict((1, 0), "A", logmass=(-0.25, -1.75)))
    {1: -0.25, 0: -1.75}
    """
    if row.verdict is None:
        return None
    if row.logmass is not None:
        return dict(zip(row.order, row.logmass, strict=False))
    if row.p is None:
        return None
    return {c: math.log(p) if p > 0 else -math.inf for c, p in zip(row.order, row.p, strict=True)}


def shares(row: Verdict) -> dict[int, float] | None:
    """Probability of each candidate shown, scaled to sum to 1; None where the judge gave none.

    As the judge's protocol has it (`p`: a tie's mass may be split), else from the masses on the candidates alone.

    >>> round(shares(Verdict((0, 1), "A", logmass=(-0.25, -1.75)))[0], 6)
    0.817574
    """
    logs = log_shares(row)
    if logs is None:
        return None
    highest = max(logs.values())
    masses = {c: math.exp(log - highest) for c, log in logs.items()} if math.isfinite(highest) else {}
    if row.p is not None:
        masses = dict(zip(row.order, row.p, strict=True))
    total = math.fsum(masses.values())
    return {c: mass / total for c, mass in masses.items()} if total > 0 else None


def fault(rows: Sequence[Verdict]) -> str | None:
    """Why a call failed, where one did: a verdict that is missing for no fault of the judge's."""
    lost = (row.reason or "unparsed" for row in rows if row.verdict is None)
    return next((reason for reason in lost if reason not in ANSWERED), None)
