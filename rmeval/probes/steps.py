"""What step and prefix scores tell beside their headline: aggregates, drift, positions, calibration, early rejection.

    probe_steps(judgements) -> StepProbe(curves)

A response is right as its grade says (1 or 0). A step's position is the share of the steps that end with it, a prefix's
the share of the tokens, both in tenths. Intervals resample nothing and are clustered by prompt.

What this module does not know: files, models, figures, where scores come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rmeval.errors import UsageError
from rmeval.metrics.convert import AGGREGATES, OWN, aggregate_steps
from rmeval.metrics.steps import UNLABELLED, WRONG, first
from rmeval.probes.curves import Curve, Point, auroc_point, mean_point
from rmeval.types import NAN, Judgement

Bounds: TypeAlias = tuple[float, float] | None

TENTHS = 10
PLACES = tuple(k / TENTHS for k in range(1, TENTHS + 1))
CUTS = tuple(round(0.05 * k, 2) for k in range(1, 20))
"""Thresholds of the rejection curve for scores in [0, 1]; for others, these quantiles of the lowest scores."""
HALF = 0.5

NO_STEPS = "this result has no step scores"
NO_PREFIXES = "this result has no prefix scores: only scorers that read every token of a response give them"
NO_OUTCOMES = "the grades do not say right or wrong (1 or 0)"
ONE_SIDE = "all graded responses are {}"
NOT_UNIT = "scores lie outside [0, 1], so they are no probabilities"


@dataclass(frozen=True, slots=True)
class Response:
    """One candidate with what was read of it."""

    id: str
    """Its example's."""
    cluster: str
    right: bool | None
    """None where the grade says neither."""
    own: float
    """The scorer's own number for the whole; NaN where there is none."""
    steps: tuple[float, ...]
    """[steps], NaN where missing; empty where none was read."""
    labels: tuple[int, ...]
    """[steps]: 1 right, 0 wrong, -1 not labelled; empty without labels."""
    prefixes: tuple[float, ...]
    """[10] the reward after each tenth of the tokens; empty where none was read."""


@dataclass(frozen=True, slots=True)
class StepProbe:
    """The curves of a result, the defined and the undefined ones."""

    examples: int
    responses: int
    prompts: int
    curves: tuple[Curve, ...]

    def curve(self, panel: str, name: str) -> Curve:
        """A curve by its name. `KeyError` for one that no probe makes."""
        for curve in self.curves:
            if (curve.panel, curve.name) == (panel, name):
                return curve
        raise KeyError(f"{panel}: {name}")


def probe_steps(judgements: Sequence[Judgement], threshold: float | None = None) -> StepProbe:
    """All curves that the judgements allow, and the reasons why others are undefined.

    `threshold`: below it a step counts as judged wrong; 0.5 by default for scores in [0, 1], none for others. Raises
    `UsageError` where there are neither step nor prefix scores.

    >>> from rmeval.types import Judgement
    >>> rows = [Judgement("x", "", "", "p", (1.0, 0.0), step_scores=((0.9, 0.8), (0.9, 0.2)))]
    >>> {p.at: p.value for p in probe_steps(rows).curve("aggregates", "accuracy").points}["max"]
    0.5
    """
    if threshold is not None and not math.isfinite(threshold):
        raise UsageError(f"threshold {threshold}: give a finite number")
    everything = [found for j in judgements for found in responses(j)]
    if not any(r.steps or r.prefixes for r in everything):
        raise UsageError(
            "no step scores and no prefix scores: this probe needs the result of a scorer that reads steps or every "
            "token (process, outcome, value, a step baseline), or replayed or imported step scores"
        )
    curves = (
        *_aggregates(judgements, everything),
        *_drift(everything),
        *_wrong_process(everything, threshold),
        *_prefixes(everything),
        *_step_calibration(everything),
        *_prefix_calibration(everything),
        *_rejection("step rejection", [(r, r.steps) for r in everything], NO_STEPS),
        *_rejection("prefix rejection", [(r, r.prefixes) for r in everything], NO_PREFIXES),
    )
    return StepProbe(len(judgements), len(everything), len({j.cluster for j in judgements}), curves)


def responses(j: Judgement) -> Iterator[Response]:
    """The candidates of an example. Raises `UsageError` where scores and labels are counted differently."""
    outcome = bool(j.grades) and set(j.grades) <= {0.0, 1.0}
    count = max(len(j.grades), len(j.step_scores), len(j.prefix_scores))
    for i in range(count):
        steps = j.step_scores[i] if i < len(j.step_scores) else ()
        labels = j.step_grades[i] if i < len(j.step_grades) else ()
        prefixes = j.prefix_scores[i] if i < len(j.prefix_scores) else ()
        if steps and labels and len(steps) != len(labels):
            raise UsageError(f"example {j.id!r}: {len(steps)} step scores for {len(labels)} steps")
        if prefixes and len(prefixes) != TENTHS:
            raise UsageError(
                f"example {j.id!r}: {len(prefixes)} prefix scores, one per tenth of the response is {TENTHS}"
            )
        yield Response(
            j.id,
            j.cluster,
            j.grades[i] > 0 if outcome else None,
            j.scores[i] if i < len(j.scores) else NAN,
            tuple(s if math.isfinite(s) else NAN for s in steps),
            labels,
            tuple(s if math.isfinite(s) else NAN for s in prefixes),
        )


# --- aggregates ------------------------------------------------------------------------------------------------------


def _aggregates(judgements: Sequence[Judgement], found: Sequence[Response]) -> list[Curve]:
    """How well each way to make one reward of the steps chooses and orders responses."""
    panel = "aggregates"
    accuracy = "share of examples whose best-scored response is right, ties shared"
    auroc = "how often a right response outscores a wrong one of any example; ties count half"
    reason = _no_contrast(found, NO_STEPS if not any(r.steps for r in found) else "")
    if reason:
        return [Curve(panel, "accuracy", accuracy, (), reason), Curve(panel, "auroc", auroc, (), reason)]
    groups: dict[str, list[Response]] = {j.id: [] for j in judgements}
    for r in found:
        groups[r.id].append(r)
    choices = [g for g in groups.values() if {r.right for r in g} >= {True, False}]
    graded = [r for r in found if r.right is not None]
    names = [*AGGREGATES, *([OWN] if any(math.isfinite(r.own) for r in found) else [])]
    chosen: list[Point] = []
    ordered: list[Point] = []
    for name in names:
        try:
            values = {id(r): reward(r, name) for r in graded}
        except UsageError as refusal:
            chosen.append(Point(name, None, None, 0, len(choices), str(refusal)))
            ordered.append(Point(name, None, None, 0, len(graded), str(refusal)))
            continue
        hits = [choice([(values[id(r)], r.right is True) for r in group]) for group in choices]
        chosen.append(mean_point(name, hits, [group[0].cluster for group in choices]))
        right = [r.right is True for r in graded]
        ordered.append(auroc_point(name, [values[id(r)] for r in graded], right, [r.cluster for r in graded]))
    no_choice = "" if choices else "no example has a right and a wrong response to choose from"
    return [
        Curve(panel, "accuracy", accuracy, () if no_choice else tuple(chosen), no_choice),
        Curve(panel, "auroc", auroc, tuple(ordered)),
    ]


def reward(response: Response, aggregate: str) -> float:
    """One number of a response's steps, or the scorer's own; NaN where a step is missing or it is not finite."""
    value = response.own if aggregate == OWN else aggregate_steps(response.steps, aggregate)
    return value if math.isfinite(value) else NAN


def choice(scored: Sequence[tuple[float, bool]]) -> float:
    """Chance that the best-scored one is right when ties are broken at random; NaN where a score is missing."""
    if not all(math.isfinite(value) for value, _ in scored):
        return NAN
    top = max(value for value, _ in scored)
    tied = [right for value, right in scored if value == top]
    return sum(tied) / len(tied)


# --- drift and positions ---------------------------------------------------------------------------------------------


def _drift(found: Sequence[Response]) -> list[Curve]:
    """Whether scores fall towards the end, whatever the step says."""
    lowest = "share of responses of two steps or more whose lowest step is the last one; ties shared"
    place = "mean step score by position"
    if not any(r.steps for r in found):
        known = (("lowest step", "at the last", lowest), ("positions", "all", place))
        return [Curve(panel, name, what, (), NO_STEPS) for panel, name, what in known]
    sides = _sides(found)
    # a response without any score is missing, whatever its length
    several = {name: [r for r in side if len(r.steps) != 1] for name, side in sides.items()}
    short = "no response of two steps or more"
    shares = {
        "at the last": (lowest, _last_is_lowest),
        "by chance": ("the same if every step were as likely to be the lowest: mean of 1 / steps", _one_of),
    }
    bounds = _bounds(s for r in found for s in r.steps)
    return [
        *(
            Curve(
                "lowest step",
                name,
                what,
                tuple(
                    mean_point(side, [of(r.steps) for r in rows], [r.cluster for r in rows], nothing=short)
                    for side, rows in several.items()
                ),
            )
            for name, (what, of) in shares.items()
        ),
        *(
            Curve("positions", name, f"{place}, {name} responses", _by_place(side, bounds))
            for name, side in sides.items()
        ),
    ]


def _sides(found: Sequence[Response]) -> dict[str, list[Response]]:
    """All responses, and where there are both, the right and the wrong ones."""
    sides = {"all": list(found)}
    if not _no_contrast(found, ""):
        sides |= {"right": [r for r in found if r.right is True], "wrong": [r for r in found if r.right is False]}
    return sides


def _last_is_lowest(steps: Sequence[float]) -> float:
    if not _complete(steps):
        return NAN
    low = min(steps)
    return float(steps[-1] == low) / sum(s == low for s in steps)


def _one_of(steps: Sequence[float]) -> float:
    return 1 / len(steps) if _complete(steps) else NAN


def tenth(step: int, of: int) -> int:
    """The tenth of a response, 1 to 10, in which a step (from 0) ends.

    >>> [tenth(i, 4) for i in range(4)]
    [3, 5, 8, 10]
    """
    return -(-TENTHS * (step + 1) // of)


def _by_place(found: Sequence[Response], bounds: Bounds) -> tuple[Point, ...]:
    """The mean score of the steps that end in each tenth of their response."""
    held: list[list[tuple[float, str]]] = [[] for _ in PLACES]
    for r in found:
        of = len(r.steps) or len(r.labels)
        for i in range(of):
            held[tenth(i, of) - 1].append((_score(r, i), r.cluster))
    return tuple(
        mean_point(at, [v for v, _ in rows], [c for _, c in rows], bounds, nothing="no step ends here")
        for at, rows in zip(PLACES, held, strict=True)
    )


def _score(r: Response, i: int) -> float:
    return r.steps[i] if r.steps else NAN


# --- right answer, wrong process -------------------------------------------------------------------------------------


def _wrong_process(found: Sequence[Response], threshold: float | None) -> list[Curve]:
    """Whether the first wrong step of responses with a right answer is found, and whether any step is doubted."""
    panel = "right answer, wrong process"
    exact = "share whose first step below the threshold is the first wrong one"
    doubted = "share that has a step below the threshold"
    cases = [r for r in found if r.right and WRONG in r.labels and UNLABELLED not in r.labels[: r.labels.index(WRONG)]]
    unit = _bounds(s for r in found for s in r.steps) is not None
    reason = (
        NO_STEPS
        if not any(r.steps for r in found)
        else "this suite has no step labels"
        if not any(r.labels for r in found)
        else "no response has a right answer and a wrong step"
        if not cases
        else f"{NOT_UNIT} with a natural threshold: give one"
        if threshold is None and not unit
        else ""
    )
    if reason:
        return [Curve(panel, "found exactly", exact, (), reason), Curve(panel, "doubted", doubted, (), reason)]
    cut, clusters = HALF if threshold is None else threshold, [r.cluster for r in cases]
    named = [first(s < cut for s in r.steps) if _complete(r.steps) else -1 for r in cases]
    hits = [NAN if at == -1 else float(at == r.labels.index(WRONG)) for at, r in zip(named, cases, strict=True)]
    alarms = [NAN if at == -1 else float(at is not None) for at in named]
    return [
        Curve(panel, "found exactly", exact, (mean_point(cut, hits, clusters),)),
        Curve(panel, "doubted", doubted, (mean_point(cut, alarms, clusters),)),
    ]


# --- prefixes --------------------------------------------------------------------------------------------------------


def _prefixes(found: Sequence[Response]) -> list[Curve]:
    """How early the reward knows the outcome."""
    panel, graded = "prefixes", [r for r in found if r.right is not None]
    words = {
        "auroc": "how often the prefix of a right response outscores that of a wrong one; ties count half",
        "brier": "mean squared distance of the score from the outcome (1 right, 0 wrong); lower is better",
        "brier of the base rate": "the same if every response got the share of right ones",
    }
    has = any(r.prefixes for r in found)
    contrast = _no_contrast(found, "" if has else NO_PREFIXES)
    unit = _bounds(s for r in found for s in r.prefixes) is not None
    brier = (NO_PREFIXES if not has else "" if graded else NO_OUTCOMES) or ("" if unit else NOT_UNIT)
    right, clusters = [r.right is True for r in graded], [r.cluster for r in graded]
    at = {k: [r.prefixes[k] if r.prefixes else NAN for r in graded] for k in range(TENTHS)}
    area: tuple[Point, ...] = ()
    if not contrast:
        area = tuple(auroc_point(place, at[k], right, clusters) for k, place in enumerate(PLACES))
    loss: tuple[Point, ...] = ()
    flat: tuple[Point, ...] = ()
    if not brier:
        loss = tuple(
            mean_point(place, [(p - y) ** 2 for p, y in zip(at[k], right, strict=True)], clusters)
            for k, place in enumerate(PLACES)
        )
        flat = tuple(_base_rate(place, at[k], right) for k, place in enumerate(PLACES))
    return [
        Curve(panel, "auroc", words["auroc"], area, contrast),
        Curve(panel, "brier", words["brier"], loss, brier),
        Curve(panel, "brier of the base rate", words["brier of the base rate"], flat, brier),
    ]


def _base_rate(at: float, scores: Sequence[float], right: Sequence[bool]) -> Point:
    """The Brier score of a constant, over the responses that have a score."""
    sides = [y for p, y in zip(scores, right, strict=True) if math.isfinite(p)]
    if not sides:
        return Point(at, None, None, 0, len(scores), "every score is missing")
    rate = sum(sides) / len(sides)
    return Point(at, rate * (1 - rate), None, len(sides), len(scores) - len(sides))


# --- calibration by position -----------------------------------------------------------------------------------------

_MEAN, _SHARE, _GAP = "mean score", "share right", "mean score - share right"


def _step_calibration(found: Sequence[Response]) -> list[Curve]:
    """Whether the steps that end in a tenth score what share of them is right; steps without label are left out."""
    panel = "step calibration"
    words = "labelled steps that end in each tenth of their response"
    unit = _bounds(s for r in found for s in r.steps) is not None
    labelled = any(label != UNLABELLED for r in found for label in r.labels)
    reason = (NO_STEPS if not any(r.steps for r in found) else "" if labelled else "this suite has no step labels") or (
        "" if unit else NOT_UNIT
    )
    if reason:
        return [Curve(panel, name, f"{name} of {words}", (), reason) for name in (_MEAN, _SHARE, _GAP)]
    kept = [(r, i, _score(r, i), label) for r in found for i, label in enumerate(r.labels) if label != UNLABELLED]
    rows = [(tenth(i, len(r.labels)), r.cluster, p, float(label)) for r, i, p, label in kept]
    return _calibration(panel, words, rows, "no labelled step ends here")


def _prefix_calibration(found: Sequence[Response]) -> list[Curve]:
    """Whether the score after each tenth of the tokens says what share of the responses comes out right."""
    panel, words = "prefix calibration", "responses after each tenth of their tokens"
    graded = [r for r in found if r.right is not None]
    unit = _bounds(s for r in found for s in r.prefixes) is not None
    reason = (NO_PREFIXES if not any(r.prefixes for r in found) else "" if graded else NO_OUTCOMES) or (
        "" if unit else NOT_UNIT
    )
    if reason:
        return [Curve(panel, name, f"{name} of {words}", (), reason) for name in (_MEAN, _SHARE, _GAP)]
    rows = [
        (k + 1, r.cluster, r.prefixes[k] if r.prefixes else NAN, float(r.right is True))
        for r in graded
        for k in range(TENTHS)
    ]
    return _calibration(panel, words, rows, "no response")


def _calibration(panel: str, words: str, rows: Sequence[tuple[int, str, float, float]], nothing: str) -> list[Curve]:
    """Rows of (tenth, prompt, score, right): both means over the rows that have a score, and their difference."""
    held: list[list[tuple[str, float, float]]] = [[] for _ in PLACES]
    for place, cluster, p, y in rows:
        held[place - 1].append((cluster, p, y if math.isfinite(p) else NAN))
    quantities: dict[str, tuple[Callable[[float, float], float], Bounds]] = {
        _MEAN: (lambda p, _: p, (0.0, 1.0)),
        _SHARE: (lambda _, y: y, (0.0, 1.0)),
        _GAP: (lambda p, y: p - y, (-1.0, 1.0)),
    }
    return [
        Curve(
            panel,
            name,
            f"{name} of {words}",
            tuple(
                mean_point(at, [of(p, y) for _, p, y in here], [c for c, _, _ in here], bounds, nothing=nothing)
                for at, here in zip(PLACES, held, strict=True)
            ),
        )
        for name, (of, bounds) in quantities.items()
    ]


# --- early rejection -------------------------------------------------------------------------------------------------


def _rejection(panel: str, found: Sequence[tuple[Response, tuple[float, ...]]], lacking: str) -> list[Curve]:
    """What goes, what of the right ones, what is saved if responses are given up at their first score below a cut."""
    words = {
        "rejected": "share of responses with a score below the threshold",
        "right ones lost": "share of the right responses that is rejected",
        "wrong ones caught": "share of the wrong responses that is rejected",
        "saved": "mean share of a response that lies behind the place where it is rejected",
    }
    read = [(r, scores) for r, scores in found if _complete(scores)]
    if not read:
        why = "every response lacks a score" if any(scores for _, scores in found) else lacking
        return [Curve(panel, name, what, (), why) for name, what in words.items()]
    cuts = _cuts([min(scores) for _, scores in read], _bounds(s for _, scores in read for s in scores))
    sides: dict[str, list[tuple[Response, tuple[float, ...]]]] = {
        "rejected": list(found),
        "right ones lost": [(r, scores) for r, scores in found if r.right is True],
        "wrong ones caught": [(r, scores) for r, scores in found if r.right is False],
        "saved": list(found),
    }
    graded = any(r.right is not None for r, _ in found)
    made = []
    for name, what in words.items():
        rows, of = sides[name], _share_behind if name == "saved" else _is_rejected
        if not rows:
            why = ONE_SIDE.format("wrong" if name.startswith("right") else "right") if graded else NO_OUTCOMES
            made.append(Curve(panel, name, what, (), why))
            continue
        clusters = [r.cluster for r, _ in rows]
        points = (mean_point(cut, [of(scores, cut) for _, scores in rows], clusters) for cut in cuts)
        made.append(Curve(panel, name, what, tuple(points)))
    return made


def _cuts(lowest: Sequence[float], bounds: Bounds) -> tuple[float, ...]:
    """Thresholds to ask about."""
    if bounds:
        return CUTS
    ordered = sorted(lowest)
    return tuple(sorted({ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in CUTS}))


def _is_rejected(scores: Sequence[float], cut: float) -> float:
    return float(min(scores) < cut) if _complete(scores) else NAN


def _share_behind(scores: Sequence[float], cut: float) -> float:
    """Share of a response that need not be written when it is given up at its first score below the cut."""
    if not _complete(scores):
        return NAN
    at = first(score < cut for score in scores)
    return 0.0 if at is None else (len(scores) - 1 - at) / len(scores)


# --- shared ----------------------------------------------------------------------------------------------------------


def _complete(scores: Sequence[float]) -> bool:
    return bool(scores) and all(map(math.isfinite, scores))


def _bounds(scores: Iterable[float]) -> Bounds:
    """(0, 1) where every score that is there lies in it, as probabilities do; None for others."""
    return (0.0, 1.0) if all(0 <= s <= 1 for s in scores if math.isfinite(s)) else None


def _no_contrast(found: Sequence[Response], reason: str) -> str:
    """Why right and wrong responses cannot be told apart by grade; "" where they can."""
    sides = {r.right for r in found} - {None}
    if reason or not sides:
        return reason or NO_OUTCOMES
    return "" if len(sides) > 1 else ONE_SIDE.format("right" if True in sides else "wrong")
