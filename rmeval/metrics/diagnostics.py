"""Figures beside the headline that say what a score is worth, as ready metrics.

Names (a contract; all of the whole suite):

    calibration:temperature calibration:nll calibration:brier calibration:ece     margins as log-odds
    scale:margin_sd scale:saturated                                               what raw scores look like
    length:accuracy_when_longer | _similar | _shorter                             the right candidate, beside the wrong
    length:controlled_accuracy length:accuracy_at_equal_length length:coefficient
    style:length style:headings style:list_items style:bold style:accuracy_at_equal_style     where markup is recorded
    agreement:ceiling agreement:annotators agreement:scorer                       where votes of annotators are
    judge:*                                                                       see `rmeval.metrics.judging`
    mde                                                                           differences below are not resolvable

Suites without right and wrong candidates have none of the first four groups. A figure that the data do not determine
has no value, and its note says why.

What this module does not know: files, plans, how figures are shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from rmeval import stats
from rmeval.likelihood import NotIdentifiable
from rmeval.metrics import agreement, calibration, style
from rmeval.metrics.calibration import Calibration, Errors, Margins
from rmeval.metrics.convert import scores_of
from rmeval.metrics.judging import judging
from rmeval.metrics.table import Table
from rmeval.stats import Floats
from rmeval.types import Judgement, Metric


def diagnostics(judgements: Sequence[Judgement], headline: Metric | None = None) -> list[Metric]:
    """All diagnostics of a run that its judgements allow; `headline` is what the resolvable difference is about."""
    found: list[Metric] = []
    plain = isinstance(judgements, Table)
    if judgements.contrast.any() if isinstance(judgements, Table) else any(len(set(j.grades)) > 1 for j in judgements):
        found += [*margin_figures(judgements), *_length_and_style(judgements)]
    if not plain and any(j.votes for j in judgements):
        found += annotator_figures(judgements)
    found += judging(judgements)
    if headline is not None:
        found.append(resolvable(headline))
    return found


# --- calibration -----------------------------------------------------------------------------------------------------


def margin_figures(judgements: Sequence[Judgement]) -> list[Metric]:
    """`calibration:*` and `scale:*`; at least one example must have right and wrong candidates."""
    found = calibration.margins(judgements)
    names = ("temperature", "nll", "brier", "ece")
    if not found.n:
        why = "no scores of single candidates" if found.n_not_scalar else "no example has all its scores"
        return [_undefined(f"calibration:{name}", why, found.n_missing) for name in names]
    block = calibration.calibrate(found)
    made = [_temperature(found, block)]
    for name, says in _ERRORS.items():
        raw = f"at T = 1: {getattr(block.raw, name):.4g}"
        if block.fitted is None:
            made.append(_undefined(f"calibration:{name}", f"{block.why}; {raw}", found.n_missing))
            continue
        value: float = getattr(block.fitted, name)
        ci = {"nll": block.fitted.nll_ci, "brier": block.fitted.brier_ci}.get(name)
        note = f"{says(block.fitted)}; T fitted on the other prompts in {calibration.FOLDS} folds; {raw}"
        made.append(
            _metric(f"calibration:{name}", value, ci, found.n, missing=found.n_missing, note=note, better_high=False)
        )
    return made + _scale(judgements, found)


_ERRORS: dict[str, Callable[[Errors], str]] = {
    "nll": lambda _: "mean -log sigma(margin / T), 0.6931 for a coin",
    "brier": lambda _: "mean (1 - sigma(margin / T))^2, 0.25 for a coin",
    "ece": lambda e: (
        f"ten bins of equal width (equal mass: {e.ece_equal_mass:.4g}); a perfectly calibrated scorer would show "
        f"{e.null_ece:.4g} on average and one in twenty more than {e.null_ece_95:.4g}"
    ),
}
"""The errors, and what is to be said of each."""


def _temperature(found: Margins, block: Calibration) -> Metric:
    name = "calibration:temperature"
    if block.temperature is None:
        return _undefined(name, block.why, found.n_missing)
    note = "the T at which sigma(margin / T) fits best, on all rows; above 1 the scores are too sure; order unchanged"
    return _metric(name, block.temperature.value, block.temperature.ci, found.n, missing=found.n_missing, note=note)


def _scale(judgements: Sequence[Judgement], found: Margins) -> list[Metric]:
    seen = calibration.scale(judgements)
    assert seen is not None  # there are margins, so there are scores
    quartiles = ", ".join(f"{q:.4g}" for q in seen.quantiles)
    note = f"scores: mean {seen.mean:.4g}, sd {seen.sd:.4g}, least, quartiles and largest {quartiles}"
    made = [_metric("scale:margin_sd", found.spread, None, found.n, missing=found.n_missing, note=note)]
    if seen.saturated is not None:
        words = "share of scores within 1e-6 of 0 or 1"
        made.append(
            _metric(
                "scale:saturated", seen.saturated, None, found.n, missing=found.n_missing, note=words, better_high=False
            )
        )
    return made


# --- length and style ------------------------------------------------------------------------------------------------


def _length_and_style(judgements: Sequence[Judgement]) -> list[Metric]:
    found = style.preferences(judgements)
    n, missing = len(found.pairs.judgements), found.n_missing
    how = "".join(f"; {words}" for words in found.conversions)
    if found.n_without_text:
        how += f"; {found.n_without_text} examples without texts left out"
    if not n:
        why = "the texts were not at hand" if found.n_without_text else "no example has all its scores"
        return [_undefined(name, why, missing) for name in (*_STRATA, *_LENGTH)]
    by_length = found.strata()
    made = []
    for name, (stratum, words) in _STRATA.items():
        part: style.Stratum | None = getattr(by_length, stratum)
        if part is None:
            made.append(_undefined(name, f"no pairs where {words}", missing))
        else:
            made.append(
                _metric(name, part.value, part.ci, part.n, missing=missing, note=f"{words}; a tie counts half{how}")
            )
    try:
        fit = found.length_fit()
    except NotIdentifiable as why:
        made += [_undefined(name, str(why), missing) for name in _LENGTH]
    else:
        said = "logistic regression of the preference on label and log length"
        equal, pull = fit.accuracy, fit.features["length"]
        made.append(
            _metric("length:accuracy_at_equal_length", equal.value, equal.ci, n, missing=missing, note=f"{said}{how}")
        )
        note = f"{said}: log-odds per sd ({fit.sd['length']:.3g}) for the longer at equal label, 0 is neutral{how}"
        made.append(_metric("length:coefficient", pull.value, pull.ci, n, missing=missing, note=note))
    return made + (_markup(found, how) if found.has_markup else [])


_LENGTH = ("length:accuracy_at_equal_length", "length:coefficient")
"""What the regression on length gives."""
_STRATA = {
    "length:accuracy_when_longer": ("longer", "the right candidate is more than a tenth longer"),
    "length:accuracy_when_similar": ("similar", "the lengths are within a tenth"),
    "length:accuracy_when_shorter": ("shorter", "the right candidate is more than a tenth shorter"),
    "length:controlled_accuracy": (
        "controlled",
        "the mean of the accuracies where the right candidate is longer and where it is shorter",
    ),
}
"""Metric -> the stratum it is about, and what that is."""


def _markup(found: style.Preferences, how: str) -> list[Metric]:
    n, missing = len(found.pairs.judgements), found.n_missing
    names = ("length", *style.MARKUP)
    try:
        fit = found.style_fit()
    except NotIdentifiable as why:
        return [_undefined(f"style:{name}", str(why), missing) for name in (*names, "accuracy_at_equal_style")]
    said = "logistic regression of the preference on label, log length and markup together"
    made = []
    for name in names:
        if name in fit.constant:
            made.append(_undefined(f"style:{name}", f"no pair differs in {name}", missing))
            continue
        pull = fit.features[name]
        note = f"{said}: log-odds per sd ({fit.sd[name]:.3g}) for more at equal label, 0 is neutral{how}"
        made.append(_metric(f"style:{name}", pull.value, pull.ci, n, missing=missing, note=note))
    equal = fit.accuracy
    made.append(
        _metric("style:accuracy_at_equal_style", equal.value, equal.ci, n, missing=missing, note=f"{said}{how}")
    )
    return made


# --- annotators ------------------------------------------------------------------------------------------------------


def annotator_figures(judgements: Sequence[Judgement]) -> list[Metric]:
    """`agreement:*`; at least one example must have votes."""
    voted = [j for j in judgements if j.votes and j.grades]
    best, agreed = np.empty(len(voted)), np.empty(len(voted))
    chosen, missing = np.full(len(voted), math.nan), 0
    alike: dict[int, list[int]] = {}
    for index, j in enumerate(voted):
        alike.setdefault(len(j.grades), []).append(index)
    for k, members in alike.items():
        counts = agreement.vote_counts([voted[i].votes for i in members], k)
        shares = agreement.vote_shares(counts)
        best[members], agreed[members] = agreement.ceiling(shares), agreement.pair_agreement(counts)
        for index, share in zip(members, shares.tolist(), strict=True):
            scored = scores_of(voted[index])
            if scored.reason:
                missing += 1
                continue
            top = max(scored.values)
            chosen[index] = fmean(s for s, score in zip(share, scored.values, strict=True) if score == top)
    least, most = min(len(j.votes) for j in voted), max(len(j.votes) for j in voted)
    votes = f"{least} votes per example" if least == most else f"{least} to {most} votes per example"
    figures = (
        ("ceiling", best, 0, "the best possible agreement with an annotator drawn at random, too high for few votes"),
        ("annotators", agreed, 0, "how often two annotators agree, unbiased"),
        ("scorer", chosen, missing, "how often the scorer's choice is that of an annotator drawn at random"),
    )
    clusters = [j.cluster for j in voted]
    return [_mean(f"agreement:{name}", v, clusters, gone, f"{note}; {votes}") for name, v, gone, note in figures]


def _mean(name: str, values: Floats, clusters: Sequence[str], missing: int, note: str) -> Metric:
    """The clustered mean of one value in [0, 1] per row; NaN where a row has none."""
    there = np.flatnonzero(~np.isnan(values))
    if not there.size:
        return _undefined(name, f"no example has it; {note}", missing)
    numbers = np.minimum(values[there], 1.0)
    found = stats.mean_interval(numbers, [clusters[i] for i in there.tolist()])
    ci = (found.low, found.high) if found else None
    return _metric(name, math.fsum(numbers) / there.size, ci, there.size, missing=missing, note=note)


# --- power -----------------------------------------------------------------------------------------------------------


def resolvable(headline: Metric) -> Metric:
    """The smallest difference to another scorer on the same rows that would be found with 80 % power.

    A paired comparison has a smaller error than this, by as much as the two scorers fail on the same prompts; without
    the other scorer the bound for unrelated ones is what can be said.

    >>> one = Metric("accuracy", 0.8, ci=(0.8 - 0.018672, 0.8 + 0.018672), n=1763)
    >>> round(resolvable(one).value, 4)
    0.0377
    """
    if headline.value is None or headline.ci is None:
        why = "undefined" if headline.value is None else "without an interval"
        return _undefined("mde", f"{headline.name} is {why}", headline.n_missing)
    se = (headline.ci[1] - headline.ci[0]) / (2 * stats.normal_quantile(0.5 + stats.LEVEL / 2))
    value = stats.minimum_detectable_effect(math.sqrt(2) * se)
    note = (
        f"differences of {headline.name} below this are not resolvable (two-sided 5 %, power 80 %), if the two scorers "
        "err on unrelated prompts and are as precise as this one; `rmeval compare` knows the paired figure, which is "
        "mostly smaller"
    )
    return _metric("mde", value, None, headline.n, missing=headline.n_missing, note=note, better_high=False)


# --- shared ----------------------------------------------------------------------------------------------------------


def _metric(
    name: str,
    value: float,
    ci: tuple[float, float] | None,
    n: int,
    *,
    missing: int,
    note: str,
    better_high: bool = True,
) -> Metric:
    return replace(_blank(name), value=value, ci=ci, n=n, n_missing=missing, higher_is_better=better_high, note=note)


def _undefined(name: str, why: str, n_missing: int) -> Metric:
    return replace(_blank(name), n_missing=n_missing, note=f"undefined: {why}")


def _blank(name: str) -> Metric:
    group, _, figure = name.partition(":")
    share = group == "agreement" or name == "mde" or figure == "saturated" or "accuracy" in figure
    return Metric(name, None, unit="fraction" if share else "number")
