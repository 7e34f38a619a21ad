"""The rules of preference suites: what an example earns for its scores or verdicts, exactly as official code says.

Right candidates are those with the highest grade of the example. Examples whose candidates all have the same grade
carry no credit; the note counts them. A missing score of any candidate makes the example missing: NaN with its reason.

What this module does not know: sections, weights, intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from rmeval.errors import UsageError
from rmeval.metrics import columns
from rmeval.metrics.convert import MEAN, missing_reason
from rmeval.metrics.credit import Credits, Linear, Option, is_number_or_null, read_options
from rmeval.metrics.debias import SAYS, by_order, decide, mean_credit
from rmeval.metrics.table import Table
from rmeval.metrics.tally import CONVERT, VERDICTS, Tally, right_of, top_of
from rmeval.metrics.verdicts import ANSWERED, TIES, contests, fault, tie_credit, winners
from rmeval.types import JSON, NAN, UNREAD, Judgement

_TIE_WORDS = {
    "lose": "a tie at the top with a wrong candidate counts as wrong",
    "half": "a tie at the top between right and wrong counts half",
    "fraction": "a tie at the top counts the share of right candidates in it",
    "win": "a tie at the top counts as right",
}
UNRATED = Option(None, (), is_number_or_null, "a number or null")
UNPARSED = ("missing", "wrong", "chance")
_UNREAD_WORDS = {"wrong": "wrong", "chance": "chance, the share of right ones shown"}


# --- accuracy --------------------------------------------------------------------------------------------------------


def accuracy(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Credits:
    """1 where a right candidate has the highest score, 0 where a wrong one has.

    Options: `ties` lose | half | fraction | win, for a top shared by right and wrong candidates; `judge_ties`, the same
    for a judge's ratings and verdicts (null: as `ties`); `aggregate` of step scores; `unparsed` missing | wrong |
    chance (the share of right ones shown), for verdicts and ratings that could not be read; `unrated`, a score that
    stands for an unreadable rating while another of the example was read (null: none does). `verdicts` mean | one of
    `rmeval.metrics.debias.DECISIONS`: by `mean`, verdicts on all candidates earn credit one by one, the mean over the
    votes of each order shown, then over orders; by the others, they become one decision over all orders. Verdicts on
    some of the candidates become the share of comparisons won, each by itself or as decided.
    """
    chosen = read_options(
        "accuracy",
        options,
        {
            "ties": Option("lose", TIES),
            "judge_ties": Option(None, (), lambda v: v is None or v in TIES, f"null or one of {', '.join(TIES)}"),
            "unrated": UNRATED,
            "verdicts": VERDICTS,
            **CONVERT,
        },
    )
    ties, unparsed = chosen["ties"], chosen["unparsed"]
    judge_ties = chosen["judge_ties"] or ties
    tally = Tally()
    rated = False
    tally.column = columns.accuracy(judgements, ties) if isinstance(judgements, Table) else None
    if tally.column is not None:
        tally.without_contrast = len(judgements) - len(tally.column[0])
        judgements = ()
    for j in tally.with_contrast(judgements):
        right = right_of(j)
        if _only_full_verdicts(j):
            value, reason, tied = _verdict_credit(j, right, judge_ties, unparsed, chosen["verdicts"])
            tally.add(j, {"accuracy": value}, reason)
            tally.unread = tally.unread or any(row.verdict is None for row in j.verdicts)
            tally.mark_tie(j, tied)
            continue
        by_rating = bool(j.ratings) and not j.scores
        rated = rated or by_rating
        scored = tally.scores(j, chosen["aggregate"], unparsed, chosen["unrated"], chosen["verdicts"])
        tally.unread = tally.unread or scored.reason in UNREAD
        if by_rating and scored.reason in UNREAD and unparsed != "missing":
            tally.add(j, {"accuracy": 0.0 if unparsed == "wrong" else len(right) / len(j.grades)}, None)
            continue
        top = top_of(scored.values)
        credit = tie_credit(top, right, judge_ties if by_rating else ties) if not scored.reason else NAN
        tally.add(j, {"accuracy": credit}, scored.reason)
        tally.mark_tie(j, not scored.reason and 0 < len(top & right) < len(top))
    judged = tally.verdicts or rated
    option, in_force = ("judge_ties", judge_ties) if judged else ("ties", ties)
    parts = [_TIE_WORDS[ties]]
    if judged and judge_ties != ties:
        parts.append(f"of a judge, {_TIE_WORDS[judge_ties]}")
    if tally.verdicts and chosen["verdicts"] != MEAN:
        parts.append(SAYS[chosen["verdicts"]])
    if judged and unparsed != "missing":
        parts.append(f"what could not be read counts as {_UNREAD_WORDS[unparsed]}")
    if rated and chosen["unrated"] is not None:
        parts.append(f"a rating that could not be read is {chosen['unrated']:g}, unless none of the example could")
    return tally.credits(
        Linear({"accuracy": 1.0}),
        "; ".join(parts),
        variants=(
            *((option, other) for other in TIES if other != in_force),
            *((("unparsed", other) for other in UNPARSED if other != unparsed) if tally.unread else ()),
        ),
    )


def _only_full_verdicts(j: Judgement) -> bool:
    return bool(j.verdicts) and not j.scores and all(len(row.order) == len(j.grades) for row in j.verdicts)


def _verdict_credit(
    j: Judgement, right: frozenset[int], ties: str, unparsed: str, verdicts: str
) -> tuple[float, str | None, bool]:
    """(credit, why it is missing, whether a tie decides it) of verdicts that each show all candidates."""
    unread = {"missing": None, "wrong": 0.0, "chance": len(right) / len(j.grades)}[unparsed]
    (rows,) = contests(j)
    if verdicts == MEAN:
        value = mean_credit(rows, lambda top: tie_credit(top, right, ties), unread, j.id)
        tied = any(len(winners(row, j.id) or ()) > 1 for row in rows)
        return value, missing_reason(j) if math.isnan(value) else None, tied
    favoured, reason = decide(verdicts, rows, j.id)
    if favoured is not None:
        return tie_credit(favoured, right, ties), None, 0 < len(favoured & right) < len(favoured)
    if reason in ANSWERED and unread is not None:
        return unread, None, False
    return NAN, reason, False


# --- style matrix (RM-Bench) -----------------------------------------------------------------------------------------


def style_matrix(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Credits:
    """Every right response against every wrong one, by style: RM-Bench's matrix.

    The i-th right and the j-th wrong candidate in data order have styles i and j. Components: each cell
    `chosen_<i>>rejected_<j>`; `hard` (right one plainer: i < j), `normal` (i = j), `easy` (i > j); `accuracy`, the mean
    of all cells. Options: `styles`, plainest first; `ties` lose | half | win; `aggregate`; `unparsed`;
    `verdicts` as in `accuracy`.
    """
    chosen = read_options(
        "style_matrix",
        options,
        {
            "styles": Option(["concise", "detailed", "markdown"], (), _is_names, "a list of at least two style names"),
            "ties": Option("lose", ("lose", "half", "win")),
            "verdicts": VERDICTS,
            **CONVERT,
        },
    )
    styles, tied_credit = chosen["styles"], {"lose": 0.0, "half": 0.5, "win": 1.0}[chosen["ties"]]
    k = len(styles)
    cells = {(i, j): f"chosen_{styles[i]}>rejected_{styles[j]}" for i in range(k) for j in range(k)}
    parts = {
        "hard": [cell for cell in cells if cell[0] < cell[1]],
        "normal": [cell for cell in cells if cell[0] == cell[1]],
        "easy": [cell for cell in cells if cell[0] > cell[1]],
    }
    tally = Tally()
    for j in judgements:
        right = sorted(right_of(j))
        wrong = [c for c in range(len(j.grades)) if c not in right]
        if len(right) != k or len(wrong) != k:
            raise UsageError(
                f"example {j.id!r}: style_matrix needs {k} right and {k} wrong candidates "
                f"(styles {', '.join(styles)}), and it has {len(right)} and {len(wrong)}"
            )
        scored = tally.scores(j, chosen["aggregate"], chosen["unparsed"], None, chosen["verdicts"])
        s = scored.values
        won = {(a, b): NAN if scored.reason else _beats(s[right[a]], s[wrong[b]], tied_credit) for a, b in cells}
        values = {name: fmean(won[cell] for cell in members) for name, members in parts.items()}
        tally.add(j, {"accuracy": fmean(won.values()), **values, **{cells[c]: won[c] for c in cells}}, scored.reason)
        tally.mark_tie(j, any(s[right[a]] == s[wrong[b]] for a, b in cells))
    words = {"lose": "a tie loses", "half": "a tie counts half", "win": "a tie wins"}
    return tally.credits(
        Linear({"accuracy": 1.0}),
        f"mean of the {k * k} comparisons of right and wrong responses by style; {words[chosen['ties']]}",
        variants=tuple(("ties", other) for other in words if other != chosen["ties"]),
    )


def _is_names(value: JSON) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(v, str) and v for v in value)


def _beats(a: float, b: float, tied: float) -> float:
    return tied if a == b else float(a > b)


# --- reciprocal rank (RewardMATH) ------------------------------------------------------------------------------------


def reciprocal_rank(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Credits:
    """1 / rank of the best right candidate among the wrong ones; ties are ranked against it.

    Options: `aggregate`, `unparsed`, `unrated`, `verdicts` as in `accuracy`.
    """
    chosen = read_options("reciprocal_rank", options, {"unrated": UNRATED, "verdicts": VERDICTS, **CONVERT})
    tally = Tally()
    for j in tally.with_contrast(judgements):
        right = right_of(j)
        scored = tally.scores(j, chosen["aggregate"], chosen["unparsed"], chosen["unrated"], chosen["verdicts"])
        best = max(scored.values[c] for c in right)
        ahead = [c for c, s in enumerate(scored.values) if c not in right and s >= best]
        tally.add(j, {"reciprocal_rank": NAN if scored.reason else 1 / (1 + len(ahead))}, scored.reason)
        tally.mark_tie(j, not scored.reason and any(scored.values[c] == best for c in ahead))
    return tally.credits(
        Linear({"reciprocal_rank": 1.0}), "1 / rank of the right candidate; ties are ranked against it"
    )


# --- both orders (LLMBar) --------------------------------------------------------------------------------------------


def both_orders(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Credits:
    """Pairs judged in both orders: LLMBar's rule.

    Components: `accuracy`, the mean of the two orders; `order_1` (data order), `order_2`; `correct_both`; `agreement`,
    the same outcome in both orders. A verdict that could not be read is wrong, and two such agree; a call that failed
    is missing. Equal scores are right in one order and wrong in the other. No options.
    """
    chosen = read_options("both_orders", options, {"aggregate": CONVERT["aggregate"]})
    tally = Tally()
    for j in judgements:
        right = _right_of_pair(j, "both_orders")
        outcome: dict[tuple[int, ...], frozenset[int] | None] = {}
        if j.verdicts and not j.scores:
            outcome = _per_order(j)
            reason = fault(j.verdicts) or (None if len(outcome) == 2 else "not_recorded")
            tally.in_one_order += len(outcome) == 1
        else:
            scored = tally.scores(j, chosen["aggregate"], "missing")
            top = top_of(scored.values)
            # a judge that rates both equally is recorded as choosing the one shown second, in either order
            outcome = {
                (0, 1): top if len(top) == 1 else frozenset({1}),
                (1, 0): top if len(top) == 1 else frozenset({0}),
            }
            reason = scored.reason
            tally.mark_tie(j, not reason and len(top) == 2)
        if reason:
            values = dict.fromkeys(("accuracy", "order_1", "order_2", "correct_both", "agreement"), NAN)
        else:
            first, second = (_order_credit(outcome[order], right) for order in ((0, 1), (1, 0)))
            values = {
                "accuracy": (first + second) / 2,
                "order_1": first,
                "order_2": second,
                "correct_both": float(first == second == 1),
                "agreement": float(outcome[0, 1] == outcome[1, 0]),
            }
            tally.mark_tie(j, any(len(favoured or ()) > 1 for favoured in outcome.values()))
        tally.add(j, values, reason)
    return tally.credits(
        Linear({"accuracy": 1.0}),
        "mean of the accuracies in both orders; a verdict that could not be read is wrong, equal scores count half",
    )


def _order_credit(favoured: frozenset[int] | None, right: frozenset[int]) -> float:
    return 0.0 if favoured is None else tie_credit(favoured, right, "half")


# --- JudgeBench ------------------------------------------------------------------------------------------------------


def judgebench(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Credits:
    """JudgeBench's vote over two games.

    Each order adds +1 when the right response wins, -1 when the wrong one does, 0 for a tie or a verdict that could not
    be read; the pair is correct when the sum is above 0. Candidates stand as response_A, response_B. Scores play a
    single game as the official code advises: "A>B" iff s_A > s_B, else "B>A". Option: `single_game` true | false | null
    (null: one game for scores, two for verdicts).
    """
    chosen = read_options(
        "judgebench",
        options,
        {
            "single_game": Option(None, (), lambda v: v is None or isinstance(v, bool), "true, false or null"),
            "aggregate": CONVERT["aggregate"],
        },
    )
    tally = Tally()
    games: set[bool] = set()
    for j in judgements:
        right = _right_of_pair(j, "judgebench")
        by_verdict = bool(j.verdicts) and not j.scores
        single = not by_verdict if chosen["single_game"] is None else bool(chosen["single_game"])
        if by_verdict:
            outcome = _per_order(j)
            played_enough = outcome.keys() >= {(0, 1)} and (single or len(outcome) == 2)
            reason = fault(j.verdicts) or (None if played_enough else "not_recorded")
            tally.in_one_order += len(outcome) == 1 and not played_enough
        else:
            scored = tally.scores(j, chosen["aggregate"], "missing")
            reason, s = scored.reason, scored.values
            tally.mark_tie(j, not reason and s[0] == s[1])
            # the official scalar judge names the second response shown unless the first is strictly better
            outcome = {
                (0, 1): frozenset({0 if s[0] > s[1] else 1}),
                (1, 0): frozenset({1 if s[1] > s[0] else 0}),
            }
        played = [outcome.get((0, 1))] if single else list(outcome.values())
        votes = sum(_vote(favoured, right) for favoured in played)
        if not reason:
            games.add(single)
        tally.add(j, {"accuracy": NAN if reason else float(votes > 0)}, reason)
    names = {
        True: "single game: A>B only if A is strictly better, else B>A",
        False: "correct when the two games sum above 0",
    }
    return tally.credits(
        Linear({"accuracy": 1.0}),
        "; ".join(names[g] for g in sorted(games)) or names[False],
        variants=(("single_game", False),) if True in games and chosen["single_game"] is None else (),
    )


def _vote(favoured: frozenset[int] | None, right: frozenset[int]) -> int:
    if favoured is None or len(favoured) != 1:
        return 0
    return 1 if favoured <= right else -1


# --- shared ----------------------------------------------------------------------------------------------------------


def _right_of_pair(j: Judgement, rule: str) -> frozenset[int]:
    right = right_of(j)
    if len(j.grades) != 2 or len(right) != 1:
        raise UsageError(
            f"example {j.id!r}: {rule} needs two candidates, one of them right, and it has {len(j.grades)}, "
            f"{len(right)} right"
        )
    return right


def _per_order(j: Judgement) -> dict[tuple[int, ...], frozenset[int] | None]:
    """The winners by order shown; several votes of an order become the one that most of them name."""
    for row in j.verdicts:
        if sorted(row.order) != [0, 1]:
            raise UsageError(f"example {j.id!r}: verdict order {list(row.order)} is not [0, 1] or [1, 0]")
    (rows,) = contests(j)
    return by_order(rows, j.id)
