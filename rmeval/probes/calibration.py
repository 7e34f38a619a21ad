"""Whether scores mean what they say: reliability diagrams, temperatures, errors beside luck, and the noise ceiling.

    probe_calibration(judgements) -> CalibrationProbe(curves, figures, notes)

    margins      of pairs: is the right response ahead as often as sigma(margin / T) says?
    verdicts     of judges with probabilities, on pairs: is the named one right as often as its probability says?
    responses    scores in [0, 1] of responses that are right (1) or wrong (0): do as many come out right?
    steps        the same of labelled steps
    prefixes     the same after each tenth of the response

A bin holds what is stated, its place is the mean of it, its value the share that is right, its bar Wilson's 95 %
interval at the number of examples (or responses, or steps), as if they were independent. T is fitted on other prompts
than those it is applied to. The expected calibration error is never 0 on finite data, so what a perfectly calibrated
scorer of the same confidences shows stands beside it as luck; rows of one prompt are drawn together there, so with many
rows per prompt it is an upper bound.

What this module does not know: files, figures as pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rmeval import stats
from rmeval.errors import UsageError
from rmeval.likelihood import NotIdentifiable, sigmoid
from rmeval.metrics import calibration
from rmeval.metrics.calibration import Bin, Binning, Calibration
from rmeval.metrics.diagnostics import annotator_figures, margin_figures
from rmeval.metrics.figures import mean_figure, undefined
from rmeval.metrics.judge_position import contests_of
from rmeval.metrics.steps import UNLABELLED
from rmeval.metrics.verdicts import shares
from rmeval.probes.curves import Curve, Point
from rmeval.probes.steps import PLACES, responses
from rmeval.stats import Floats
from rmeval.types import Judgement, Metric

SHOWN_PREFIXES = (0.2, 0.5, 1.0)
"""Where a reliability diagram of prefixes is drawn; the error stands at every tenth."""
ALL = "all"
_EDGE = 1e-6
"""A probability this near to 0 or 1 is saturated."""
NOT_SCALAR = "no scores of single responses"
NOT_UNIT = "scores lie outside [0, 1], so they are no probabilities"


@dataclass(frozen=True, slots=True)
class CalibrationProbe:
    """The curves and figures of a result, the defined and the undefined ones."""

    examples: int
    prompts: int
    curves: tuple[Curve, ...]
    figures: tuple[Metric, ...]
    notes: tuple[str, ...]

    def curve(self, panel: str, name: str) -> Curve:
        """A curve by its name. `KeyError` for one that there is not."""
        for curve in self.curves:
            if (curve.panel, curve.name) == (panel, name):
                return curve
        raise KeyError(f"{panel}: {name}")

    def figure(self, name: str) -> Metric:
        """A figure by its name. `KeyError` for one that there is not."""
        return {figure.name: figure for figure in self.figures}[name]


def probe_calibration(judgements: Sequence[Judgement]) -> CalibrationProbe:
    """All curves and figures that the judgements allow. Raises `UsageError` where there is not one."""
    in_order = sorted(judgements, key=lambda j: j.id)
    contrast = [j for j in in_order if len(set(j.grades)) > 1]
    outcomes = _outcomes(in_order)
    voted = [j for j in in_order if j.votes and j.grades]
    figures = [*(margin_figures(in_order) if contrast else []), *(f for o in outcomes for f in _figures(o))]
    curves: list[Curve] = []
    if contrast:
        curves += [*_margins(contrast), *_by_subset(contrast), *_verdicts(contrast)]
    curves += [curve for outcome in outcomes for curve in _of_outcome(outcome)]
    curves += _prefixes(in_order)
    if voted:
        figures += annotator_figures(in_order)
        curves += _ceilings(voted)
    if not any(curve.points for curve in curves):
        said = "; ".join(dict.fromkeys(curve.undefined for curve in curves if curve.undefined))
        raise UsageError(f"nothing to calibrate: {said or 'no pairs, no outcomes in [0, 1], no votes'}")
    lost = next((f.n_missing for f in figures if f.n_missing), 0)
    notes = (f"{lost} examples or responses lack a score and are in no bin",) if lost else ()
    return CalibrationProbe(len(in_order), len({j.cluster for j in in_order}), tuple(curves), tuple(figures), notes)


# --- margins and verdicts of pairs -----------------------------------------------------------------------------------


def _margins(contrast: Sequence[Judgement]) -> Iterator[Curve]:
    found = calibration.margins(contrast)
    raw, fitted = "reliability of margins, T = 1", "reliability of margins, fitted T"
    name, of = "share right", "share of pairs whose preferred response is right, by the confidence"
    if not found.n:
        why = NOT_SCALAR if found.n_not_scalar else "no example has all its scores"
        yield from (Curve(panel, name, of, (), why) for panel in (raw, fitted))
        return
    ways: list[tuple[str, float | Floats, Binning]] = [(raw, 1.0, "width")]
    try:
        t = calibration.cross_fitted(found)
    except NotIdentifiable as why:
        yield Curve(fitted, name, of, (), str(why))
    else:
        ways += [(fitted, t, "width"), (f"{fitted}, equal mass", t, "mass")]
    for panel, temperature, binning in ways:
        z = found.values / temperature
        p = sigmoid(z)
        correct = np.where(z == 0, 0.5, z > 0)
        bins = calibration.reliability(np.maximum(p, 1 - p), correct, found.weights, binning=binning)
        rule = "ten bins of equal width" if binning == "width" else "up to ten bins of about as many pairs"
        yield Curve(panel, name, f"{of} sigma(|margin| / T) in it; {rule}", _points(bins))


def _points(bins: Sequence[Bin]) -> tuple[Point, ...]:
    """A point per bin: `n` is the examples' worth of pairs, rounded."""
    return tuple(Point(round(b.confidence, 6), b.accuracy, b.ci, max(1, round(b.n))) for b in bins)


def _verdicts(contrast: Sequence[Judgement]) -> Iterator[Curve]:
    """Of judges that give probabilities; others have no such panel."""
    stated, correct, weights = [], [], []
    for c in contests_of(contrast):
        read = [share for row in c.rows if (share := shares(row)) is not None] if c.is_pair and c.right else []
        for share in read:
            p = sum(share[candidate] for candidate in c.right)
            stated.append(max(p, 1 - p))
            correct.append(0.5 if p == 0.5 else float(p > 0.5))
            weights.append(1 / len(read))
    if stated:
        what = "share of verdicts on a pair that name the right one, by the probability of the one named"
        bins = calibration.reliability(np.clip(stated, 0.5, 1.0), correct, weights)
        yield Curve("reliability of verdicts", "share right", what, _points(bins))


def _by_subset(contrast: Sequence[Judgement]) -> list[Curve]:
    """Temperature and error of each subset by itself."""
    blocks: dict[str, tuple[Calibration | None, int, str]] = {}
    for name, rows in _groups(contrast).items():
        found = calibration.margins(rows)
        if found.n:
            blocks[name] = calibration.calibrate(found), found.n, ""
        else:
            why = NOT_SCALAR if found.n_not_scalar else "no example has all its scores"
            blocks[name] = None, 0, why
    if not any(block for block, _, _ in blocks.values()):
        return [Curve("temperature", "T", "", (), blocks[ALL][2])]
    temperatures = []
    errors: dict[str, list[Point]] = {"as scored": [], "luck, as scored": [], "fitted T": [], "luck, fitted T": []}
    for name, (block, n, why) in blocks.items():
        t = block.temperature if block else None
        said = why or (block.why if block else "")
        temperatures.append(Point(name, t.value, t.ci, n) if t else Point(name, None, None, n, 0, said))
        for curve, one in (("as scored", block and block.raw), ("fitted T", block and block.fitted)):
            known = (one.ece, one.null_ece) if one else (None, None)
            for key, value in zip((curve, f"luck, {curve}"), known, strict=True):
                errors[key].append(Point(name, value, None, n, 0, "" if one else said))
    what = "the T at which sigma(margin / T) fits best, on all rows of the subset; above 1 the scores are too sure"
    words = {
        "as scored": "expected calibration error of sigma(margin), ten bins of equal width",
        "luck, as scored": "what a perfectly calibrated scorer of these confidences shows on average",
        "fitted T": "the same of sigma(margin / T), T fitted within the subset on other prompts",
        "luck, fitted T": "what a perfectly calibrated scorer of those confidences shows on average",
    }
    return [
        Curve("temperature", "T", what, tuple(temperatures)),
        *(Curve("calibration error", name, words[name], tuple(points)) for name, points in errors.items()),
    ]


def _groups(judgements: Sequence[Judgement]) -> dict[str, list[Judgement]]:
    """All, and each subset where there are several."""
    found: dict[str, list[Judgement]] = {}
    for j in judgements:
        found.setdefault(j.subset or "-", []).append(j)
    return {ALL: list(judgements), **(dict(sorted(found.items())) if len(found) > 1 else {})}


# --- outcomes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """Stated probabilities and what came true."""

    kind: str
    """`responses`, `steps`, or `prefix <share>`."""
    stated: tuple[float, ...]
    """[n] in [0, 1]"""
    right: tuple[float, ...]
    """[n] 1 or 0"""
    clusters: tuple[str, ...]
    subsets: tuple[str, ...]
    n_missing: int

    def of(self, subset: str) -> Outcome:
        """The rows of one subset."""
        at = [i for i, name in enumerate(self.subsets) if name == subset]
        return replace(
            self,
            stated=tuple(self.stated[i] for i in at),
            right=tuple(self.right[i] for i in at),
            clusters=tuple(self.clusters[i] for i in at),
            subsets=(subset,) * len(at),
            n_missing=0,
        )

    def error(self) -> tuple[float, float, float]:
        """Expected calibration error in ten bins of [0, 1], its mean for a calibrated scorer, and what 5 % exceed."""
        codes, _ = stats.cluster_codes(self.clusters)
        luck = calibration.null_calibration_error(self.stated, codes=codes, low=0.0)
        return calibration.calibration_error(self.stated, self.right, low=0.0), *luck


def _outcomes(judgements: Sequence[Judgement]) -> list[Outcome]:
    """Responses and steps, where their scores are probabilities of something that is known."""
    whole: list[tuple[float, float, str, str]] = []
    steps: list[tuple[float, float, str, str]] = []
    for j in judgements:
        for r in responses(j):
            if r.right is not None and j.scores:
                whole.append((r.own, float(r.right), j.cluster, j.subset or "-"))
            if r.steps:
                steps += [
                    (score, float(label), j.cluster, j.subset or "-")
                    for score, label in zip(r.steps, r.labels, strict=bool(r.labels))
                    if label != UNLABELLED
                ]
    found = (_outcome("responses", whole), _outcome("steps", steps))
    return [one for one in found if one is not None]


def _outcome(kind: str, rows: Sequence[tuple[float, float, str, str]]) -> Outcome | None:
    there = [row for row in rows if math.isfinite(row[0])]
    if not there or not all(0 <= row[0] <= 1 for row in there):
        return None
    stated, right, clusters, subsets = zip(*there, strict=True)
    return Outcome(kind, stated, right, clusters, subsets, len(rows) - len(there))


def _figures(one: Outcome) -> Iterator[Metric]:
    kind, missing = one.kind, one.n_missing
    rate = math.fsum(one.right) / len(one.right)
    squared = [(p - y) ** 2 for p, y in zip(one.stated, one.right, strict=True)]
    note = f"mean (score - outcome)^2, {rate * (1 - rate):.4g} for a constant: {rate:.4g} are right"
    yield _counted(mean_figure(f"{kind}:brier", squared, one.clusters, note, higher_is_better=False), missing)
    ece, luck, luck_95 = one.error()
    note = f"ten bins of equal width of [0, 1]; luck is {luck:.4g} on average, one in twenty times above {luck_95:.4g}"
    yield Metric(f"{kind}:ece", ece, None, None, len(squared), missing, False, note, "number")
    yield _temperature(one)
    edge = [float(min(p, 1 - p) <= _EDGE) for p in one.stated]
    words = "share of scores within 1e-6 of 0 or 1"
    yield _counted(
        mean_figure(f"{kind}:saturated", edge, one.clusters, words, higher_is_better=False), missing
    )  # fmt: skip


def _temperature(one: Outcome) -> Metric:
    """What the log-odds of the scores are to be divided by."""
    name = f"{one.kind}:temperature"
    exact = sum(p in (0.0, 1.0) for p in one.stated)
    if exact:
        return undefined(name, f"{exact} scores are 0 or 1 exactly, which have no log-odds", one.n_missing)
    signed = [(2 * y - 1) * math.log(p / (1 - p)) for p, y in zip(one.stated, one.right, strict=True)]
    try:
        t = calibration.fit_temperature(signed, one.clusters)
    except NotIdentifiable as why:
        return undefined(name, str(why), one.n_missing)
    note = "what the log-odds of the scores are best divided by, on all rows; above 1 they are too sure"
    return Metric(name, t.value, None, t.ci, len(signed), one.n_missing, True, note, "number")


def _counted(metric: Metric, missing: int) -> Metric:
    return replace(metric, n_missing=metric.n_missing + missing)


def _of_outcome(one: Outcome) -> Iterator[Curve]:
    yield _diagram(f"reliability of {one.kind}", one)
    names = sorted(set(one.subsets))
    parts = {ALL: one, **({name: one.of(name) for name in names} if len(names) > 1 else {})}
    yield from _errors(f"calibration error of {one.kind}", parts)


def _diagram(panel: str, one: Outcome) -> Curve:
    what = "share right by the score, ten bins of equal width of [0, 1]"
    return Curve(panel, "share right", what, _points(calibration.reliability(one.stated, one.right, low=0.0)))


def _errors(panel: str, parts: Mapping[str, Outcome] | Mapping[float, Outcome]) -> Iterator[Curve]:
    found = {at: (one.error(), len(one.stated), one.n_missing) for at, one in parts.items()}
    words = {
        "as scored": "expected calibration error, ten bins of equal width of [0, 1]",
        "luck": "what a perfectly calibrated scorer of these scores shows on average",
        "luck, one in twenty": "what one in twenty such scorers exceeds",
    }
    for column, (name, what) in enumerate(words.items()):
        points = (Point(at, error[column], None, n, missing) for at, (error, n, missing) in found.items())
        yield Curve(panel, name, what, tuple(points))


def _prefixes(judgements: Sequence[Judgement]) -> Iterator[Curve]:
    """Nothing where no response has prefix scores."""
    read = [(j, r) for j in judgements for r in responses(j) if r.prefixes and r.right is not None]
    if not read:
        return
    by_place: dict[float, Outcome] = {}
    for k, place in enumerate(PLACES):
        rows = [(r.prefixes[k], float(r.right is True), j.cluster, j.subset) for j, r in read]
        one = _outcome(f"prefix {place:g}", rows)
        if one is None:
            yield Curve("calibration error of prefixes", "as scored", "expected calibration error", (), NOT_UNIT)
            return
        by_place[place] = one
    for place in SHOWN_PREFIXES:
        yield _diagram(f"reliability after {place:.0%} of the tokens", by_place[place])
    yield from _errors("calibration error of prefixes", by_place)


# --- the noise ceiling -----------------------------------------------------------------------------------------------


def _ceilings(voted: Sequence[Judgement]) -> list[Curve]:
    points: dict[str, list[Point]] = {}
    what: dict[str, str] = {}
    for name, rows in _groups(voted).items():
        for metric in annotator_figures(rows):
            key = metric.name.removeprefix("agreement:")
            note = metric.note if metric.value is None else ""
            points.setdefault(key, []).append(Point(name, metric.value, metric.ci, metric.n, metric.n_missing, note))
            what.setdefault(key, metric.note.removeprefix("undefined: "))
    return [Curve("noise ceiling", name, what[name], tuple(found)) for name, found in points.items()]
