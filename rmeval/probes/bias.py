"""What a scorer's preferences follow besides the label: length, markup, slots and places, and who wrote the response.

    probe_bias(judgements) -> BiasProbe(curves, notes)

Every pair of a right and a wrong response is asked about; an example counts once in a value, however many pairs it has
there. The length is that in characters. In equal parts (tenths, fewer for fewer pairs) the place is the median.

    accuracy by length      how often the right response wins, by log2(right length / wrong length)
    score by length         the mean score of right and of wrong responses, by their length
    accuracy                the raw one, beside those that length and markup cannot lend anything
    pull                    log-odds per standard deviation of a feature at equal label and other features; 0 is neutral
    slots of k              verdicts on k responses: how often each slot is named, and holds the right one
    places                  how often each wrong response is the best-scored wrong one, by its place in the data
    writers                 how often a writer is wrongly preferred, less how often it is wrongly passed over

What this module does not know: files, figures, texts, what a length or a style is worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from rmeval.errors import UsageError
from rmeval.likelihood import NotIdentifiable
from rmeval.metrics import style
from rmeval.metrics.convert import scores_of
from rmeval.metrics.judge_position import Contest, contests_of, position
from rmeval.metrics.style import Preferences, Pull, Stratum, StyleFit
from rmeval.metrics.verdicts import winners
from rmeval.metrics.writers import Missed, favours
from rmeval.probes.curves import Curve, Point, mean_point
from rmeval.stats import Floats
from rmeval.types import NAN, Judgement, Metric

PARTS = 10
PER_PART = 20
"""Pairs, or responses, that a part must hold before there is one more of them."""
PLACES = 10
"""Places of the data that are asked about, from the first."""


@dataclass(frozen=True, slots=True)
class BiasProbe:
    """The curves of a result, the defined and the undefined ones, and what is to be said of them."""

    examples: int
    pairs: int
    prompts: int
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]

    def curve(self, panel: str, name: str) -> Curve:
        """A curve by its name. `KeyError` for one that there is not."""
        for curve in self.curves:
            if (curve.panel, curve.name) == (panel, name):
                return curve
        raise KeyError(f"{panel}: {name}")


def probe_bias(judgements: Sequence[Judgement], name: str = "") -> BiasProbe:
    """All curves that the judgements allow. `name` is the scorer's own, to find what it wrote itself.

    Raises `UsageError` where no example has both right and wrong responses.
    """
    graded = [j for j in judgements if len(set(j.grades)) > 1]
    if not graded:
        raise UsageError("no example has a right and a wrong response: there are no preferences to follow anything")
    found = style.preferences(judgements)
    notes = list(found.conversions)
    if found.n_missing:
        notes.append(f"{found.n_missing} of {len(graded)} examples lack a score and are in no figure")
    if found.n_without_text:
        notes.append(f"{found.n_without_text} examples without texts have no length")
    writers, said = _writers(graded, name)
    slots, flagged = _slots(judgements)
    curves = (
        _by_length(found),
        *_scores(graded),
        _accuracies(found),
        _pull(found),
        *slots,
        *_places(graded),
        writers,
    )
    prompts = len({j.cluster for j in graded})
    return BiasProbe(len(graded), found.margins.size, prompts, curves, (*notes, *said, *flagged))


# --- length and markup -----------------------------------------------------------------------------------------------


def parts(values: Sequence[float] | Floats) -> list[list[int]]:
    """The values' indices in up to ten parts of about equal size by rank; equal values share a part.

    >>> [len(part) for part in parts([1.0] * 30 + [2.0] * 30)]
    [30, 30]
    """
    x = np.asarray(values, dtype=np.float64)
    count = min(PARTS, max(1, x.size // PER_PART))
    if not x.size:
        return []
    ranked = np.sort(x)
    ends = np.unique(ranked[np.ceil(np.arange(1, count + 1) * x.size / count).astype(np.intp) - 1])
    where = np.searchsorted(ends, x, side="left")
    return [np.flatnonzero(where == part).tolist() for part in range(ends.size) if (where == part).any()]


def _by_length(found: Preferences) -> Curve:
    panel, name = "accuracy by length", "accuracy"
    what = "share of pairs whose right response wins, ties half; in equal parts by log2 of right over wrong length"
    if not found.margins.size:
        return Curve(panel, name, what, (), _no_pairs(found))
    ratio = found.log_ratio / math.log(2)
    points = []
    for part in parts(ratio):
        of: dict[int, list[float]] = {}
        for pair in part:
            of.setdefault(int(found.pairs.example[pair]), []).append(float(found.wins[pair]))
        clusters = [found.prompts[example] for example in of]
        points.append(mean_point(float(np.median(ratio[part])), [fmean(wins) for wins in of.values()], clusters))
    return Curve(panel, name, what, tuple(points))


def _scores(graded: Sequence[Judgement]) -> list[Curve]:
    """Right and wrong responses in the same parts, so that the curves differ in nothing but the label."""
    panel, words = "score by length", "mean score of {} responses, in equal parts of all by length in characters"
    rows: list[tuple[int, float, bool, str]] = []
    for j in graded:
        values, best = scores_of(j).values, max(j.grades)
        if len(j.lengths) == len(j.grades):
            rows += [
                (length, score, grade == best, j.cluster)
                for length, score, grade in zip(j.lengths, values, j.grades, strict=True)
            ]
    there = [math.isfinite(score) for _, score, _, _ in rows]
    why = "the texts were not at hand" if not rows else "" if any(there) else "every score is missing"
    if why:
        return [Curve(panel, side, words.format(side), (), why) for side in ("right", "wrong")]
    unit = all(0 <= score <= 1 for _, score, _, _ in rows if math.isfinite(score))
    lengths = [float(length) for length, _, _, _ in rows]
    made = []
    for side, label in (("right", True), ("wrong", False)):
        points = []
        for part in parts(lengths):
            here = [rows[i] for i in part if rows[i][2] is label]
            at = float(np.median([lengths[i] for i in part]))
            points.append(
                mean_point(
                    at,
                    [score for _, score, _, _ in here],
                    [cluster for *_, cluster in here],
                    (0.0, 1.0) if unit else None,
                    nothing=f"no {side} response of this length",
                )
            )
        made.append(Curve(panel, side, words.format(side), tuple(points)))
    return made


def _accuracies(found: Preferences) -> Curve:
    panel, name = "accuracy", "share"
    what = (
        "accuracy over pairs, ties half: where the right response is more than a tenth longer, within a tenth, or more "
        "than a tenth shorter; the mean of longer and shorter; and by logistic regression between equals"
    )
    if not found.margins.size:
        return Curve(panel, name, what, (), _no_pairs(found))
    per_example = np.bincount(found.pairs.example, found.pairs.weights * found.wins).tolist()
    strata = found.strata()
    split = {
        "right is longer": strata.longer,
        "about as long": strata.similar,
        "right is shorter": strata.shorter,
        "mean of longer and shorter": strata.controlled,
    }
    points = [mean_point("all", [min(v, 1.0) for v in per_example], found.prompts.tolist())]
    points += [_of_stratum(at, stratum, found) for at, stratum in split.items()]
    points += [_equal("equal length", *_fit(found, "length")), _equal("equal style", *_fit(found, "style"))]
    return Curve(panel, name, what, tuple(points))


def _of_stratum(at: str, stratum: Stratum | None, found: Preferences) -> Point:
    if stratum is None:
        return Point(at, None, None, 0, found.n_missing, "no such pairs")
    return Point(at, stratum.value, stratum.ci, stratum.n, found.n_missing)


def _equal(at: str, fit: StyleFit | None, n: int, why: str) -> Point:
    return Point(at, fit.accuracy.value, fit.accuracy.ci, n) if fit else Point(at, None, None, 0, 0, why)


def _fit(found: Preferences, which: str) -> tuple[StyleFit | None, int, str]:
    """The regression, its examples, and why there is none."""
    try:
        fit = found.length_fit() if which == "length" else found.style_fit()
    except NotIdentifiable as why:
        return None, 0, str(why)
    return fit, len(found.pairs.judgements), ""


def _pull(found: Preferences) -> Curve:
    panel, name = "pull", "log-odds"
    what = (
        "what one standard deviation more of a feature adds to the log-odds of winning at equal label: length by "
        "itself, then length and markup together; 0 is neutral"
    )
    if not found.margins.size:
        return Curve(panel, name, what, (), _no_pairs(found))
    alone, n, why = _fit(found, "length")
    points = [_of_pull("length alone", alone.features["length"] if alone else None, n, why)]
    together, n, why = _fit(found, "style")
    for feature in ("length", *style.MARKUP):
        there = together.features.get(feature) if together else None
        points.append(_of_pull(feature.replace("_", " "), there, n, why or f"no pair differs in {feature}"))
    return Curve(panel, name, what, tuple(points))


def _of_pull(at: str, pull: Pull | None, n: int, why: str) -> Point:
    return Point(at, pull.value, pull.ci, n) if pull else Point(at, None, None, 0, 0, why)


def _no_pairs(found: Preferences) -> str:
    return "the texts were not at hand" if found.n_without_text else "no example has all its scores"


# --- slots and places ------------------------------------------------------------------------------------------------


def _slots(judgements: Sequence[Judgement]) -> tuple[list[Curve], list[str]]:
    """How verdicts fall on the slots that responses are shown in, and what the house says of a pair's two orders."""
    contests = [c for c in contests_of(judgements) if c.right]
    sizes = sorted({len(c.shown) for c in contests})
    if not sizes:
        why = "the scorer gives no verdicts: it never sees one response beside another"
        return [Curve("slots", "named", "share of the verdicts that name a slot", (), why)], []
    made: list[Curve] = []
    for k in sizes:
        made += _named([c for c in contests if len(c.shown) == k], k)
    figures = {m.name.removeprefix("judge:"): m for m in position(contests)}
    known = ("consistency", "first_slot", "second_slot", "net_bias")
    points = tuple(_of_metric(one.replace("_", " "), figures[one]) for one in known if one in figures)
    what = (
        "over both orders of a pair: the same outcome; the slot shown first, or second, named both times; and their "
        "difference"
    )
    made.append(Curve("both orders", "share", what, points, "" if points else "no pair was shown in both orders"))
    flagged = [f"slots: {figures[one].note}" for one in ("net_bias_p",) if one in figures]
    return made, flagged


def _named(contests: Sequence[Contest], k: int) -> list[Curve]:
    panel = f"slots of {k}"
    rows: list[list[tuple[tuple[float, float, float], str]]] = [[] for _ in range(k)]
    for c in contests:
        for row in c.rows:
            said = winners(row, c.judgement.id)
            for slot, candidate in enumerate(row.order):
                named = NAN if said is None else (candidate in said) / len(said)
                right = candidate in c.right
                credit = NAN if said is None or not right else len(said & c.right) / len(said)
                rows[slot].append(((named, right / len(c.right), credit), c.cluster))
    words = (
        ("named", "share of the verdicts that name the slot, ties shared; unread ones are missing"),
        ("holds the right one", "share of the verdicts in which the right response is shown there"),
        ("right when it is there", "share of these that name a right response, ties shared"),
    )
    made = []
    for column, (name, what) in enumerate(words):
        points = []
        for slot, shown in enumerate(rows):
            # only where the right one stands there can the third be asked
            kept = [(values[column], cluster) for values, cluster in shown if column < 2 or values[1] > 0]
            slot_name = chr(ord("A") + slot)
            points.append(mean_point(slot_name, [value for value, _ in kept], [cluster for _, cluster in kept]))
        made.append(Curve(panel, name, what, tuple(points)))
    return made


def _of_metric(at: str, metric: Metric) -> Point:
    return Point(
        at, metric.value, metric.ci, metric.n, metric.n_missing, metric.note if metric.value is None else ""
    )  # fmt: skip


def _places(graded: Sequence[Judgement]) -> list[Curve]:
    """Whether the data's order tells which of the wrong responses is liked best; the right one may always be first."""
    panel = "places"
    words = {
        "best-scored": "share of examples whose wrong response at this place is the best-scored wrong one; "
        "a place may mean something in the data, such as a style",
        "by chance": "the same if all wrong responses of an example were alike: mean of 1 / wrong responses",
    }
    several = []
    for j in graded:
        best = max(j.grades)
        wrong = [i for i, grade in enumerate(j.grades) if grade < best]
        if len(wrong) > 1 and len({j.grades[i] for i in wrong}) == 1:
            several.append((j, wrong))
    if not several:
        why = "no example has two wrong responses of the same grade"
        return [Curve(panel, name, what, (), why) for name, what in words.items()]
    liked: list[list[float]] = [[] for _ in range(PLACES)]
    chance: list[list[float]] = [[] for _ in range(PLACES)]
    clusters: list[list[str]] = [[] for _ in range(PLACES)]
    for j, wrong in several:
        values = [scores_of(j).values[i] for i in wrong]
        for place, share in zip(range(PLACES), _tops(values), strict=False):
            liked[place].append(share)
            chance[place].append(NAN if math.isnan(share) else 1 / len(wrong))
            clusters[place].append(j.cluster)
    return [
        Curve(panel, name, words[name], tuple(
            mean_point(str(place + 1), held[place], clusters[place]) for place in range(PLACES) if held[place]
        ))
        for name, held in (("best-scored", liked), ("by chance", chance))
    ]  # fmt: skip


def _tops(values: Sequence[float]) -> Iterable[float]:
    """The share of the first rank that each has; NaN where a score is missing."""
    if not all(map(math.isfinite, values)):
        return [NAN] * len(values)
    level = values.count(max(values))
    return [float(value == max(values)) / level for value in values]


# --- writers ---------------------------------------------------------------------------------------------------------


def _writers(graded: Sequence[Judgement], name: str) -> tuple[Curve, list[str]]:
    panel, of = "writers", "favoured by"
    what = (
        "how often a writer is preferred where the other is right, less how often the other is where it is right, "
        "ties half; 0 is neutral, and of the scorer's own family it is self-preference"
    )
    named = [j for j in graded if len(j.models) == len(j.grades)]
    if not named:
        return Curve(panel, of, what, (), "the suite does not say who wrote the responses"), []
    missed = [one for j in named for one in _missed(j)]
    found = favours(missed)
    if not found:
        return Curve(panel, of, what, (), "no writer has ten prompts on either side"), []
    points = tuple(Point(one, f.value, f.ci, f.n) for one, f in found.items())
    own = [one for one in found if _plain(one) == _plain(name)]
    said = f"itself: {own[0]}" if own else "none of these writers has the scorer's own name"
    return Curve(panel, of, what, points), [f"writers: {said}"]


def _missed(j: Judgement) -> Iterable[Missed]:
    """Its pairs of different writers; each example counts once."""
    values, best = scores_of(j).values, max(j.grades)
    for right, wrong in ((r, w) for r in range(len(values)) for w in range(len(values))):
        if not j.grades[right] == best > j.grades[wrong]:
            continue
        mine, other, margin = j.models[right], j.models[wrong], values[right] - values[wrong]
        if mine and other and mine != other and math.isfinite(margin):
            yield Missed(mine, other, (1.0 - float(np.sign(margin))) / 2, j.cluster)


def _plain(name: str) -> str:
    """A model's name without what hubs and protocols add."""
    return name.removeprefix("judge:").rsplit("/", 1)[-1].partition("@")[0].casefold()
