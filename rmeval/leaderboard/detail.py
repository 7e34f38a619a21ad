"""One result in depth: its parts, margins, calibration, length and step aggregation, for an entry's page or a report.

    detail(view, suite) -> Detail

Everything is computed from the samples file; where something is undefined, its text says why.

What this module does not know: the board, ranks, drawings, HTML.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from rmeval import stats
from rmeval.errors import UsageError
from rmeval.likelihood import NotIdentifiable, sigmoid
from rmeval.metrics import calibration, style
from rmeval.metrics.contrasts import Contrasts
from rmeval.metrics.convert import AGGREGATES, scores_of
from rmeval.metrics.evaluate import headline_items
from rmeval.records import Result
from rmeval.results import ResultView, with_options
from rmeval.suites import Suite
from rmeval.types import Judgement, Metric

BINS = 24
"""Most bars of a histogram of margins."""
LENGTH_BINS = 6
_OUTER = 0.01
"""Share of margins beyond each end of the histogram, which its outer bars hold."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram: margins in [low, high), the outer bars with all that is further out."""

    low: float
    high: float
    share: float
    """Of the examples, each counting once."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """The margins of a run: a right candidate's score minus a wrong one's."""

    bars: tuple[Bar, ...]
    n: int
    """Examples."""
    right: float
    """Share above 0."""
    tied: float
    median: float


@dataclass(frozen=True, slots=True)
class Point:
    """A share at a place, with Wilson's 95 % interval."""

    x: float
    y: float
    ci: tuple[float, float]
    n: float


@dataclass(frozen=True, slots=True)
class Swept:
    """The headline under another way to make one number of step scores."""

    name: str
    value: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Detail:
    """All that is shown of one result."""

    result: Result
    title: str
    """Of the suite."""
    headline: Metric
    parts: tuple[Metric, ...]
    """The headline's metric by section and subset."""
    beside: tuple[Metric, ...]
    """Other metrics of the whole suite that have a value, null baselines among them."""
    undefined: tuple[Metric, ...]
    """Metrics of the whole suite without a value; their notes say why."""
    margins: Histogram | None
    margins_why: str
    temperature: float | None
    reliability: tuple[Point, ...]
    """Share of confident calls that are right over the confidence they state, at the temperature."""
    reliability_why: str
    lengths: tuple[Point, ...]
    """Share of pairs decided rightly over the natural logarithm of right length / wrong length."""
    lengths_why: str
    sweep: tuple[Swept, ...]
    """Empty unless the run has step scores that a number per candidate is made of."""

    @property
    def command(self) -> str:
        """The command that was run, as its result records it; empty where it is not rmeval's own."""
        words = self.result.environment.command
        if not words or PurePath(words[0]).name not in ("rmeval", "__main__.py"):
            return ""
        return shlex.join(("rmeval", *words[1:]))


def detail(view: ResultView, suite: Suite) -> Detail:
    """What one result shows. Never raises for strange scores: what cannot be computed is said."""
    head, rows = view.headline, view.judgements
    whole = [m for m in view.metrics[1:] if m.subset is None]
    margins, margins_why = _margins(rows)
    temperature, reliability, reliability_why = _reliability(rows)
    lengths, lengths_why = _lengths(rows)
    return Detail(
        result=view.result,
        title=suite.card.title,
        headline=head,
        parts=tuple(m for m in view.metrics if m.name == head.name and m.subset is not None),
        beside=tuple(m for m in whole if m.value is not None),
        undefined=tuple(m for m in whole if m.value is None),
        margins=margins,
        margins_why=margins_why,
        temperature=temperature,
        reliability=reliability,
        reliability_why=reliability_why,
        lengths=lengths,
        lengths_why=lengths_why,
        sweep=_sweep(rows, suite),
    )


def histogram(values: Sequence[float], weights: Sequence[float], n: int) -> Histogram:
    """Margins in bars of equal, round width; 0 is always a boundary.

    >>> found = histogram([-1.0, 0.5, 1.5, 1.5], [1, 1, 1, 1], 4)
    >>> [(bar.low, bar.high, bar.share) for bar in found.bars if bar.share]
    [(-1.0, -0.8, 0.25), (0.4, 0.6, 0.25), (1.4, 1.6, 0.5)]
    >>> found.right, found.tied, found.median
    (0.75, 0.0, 1.5)
    """
    m, w = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    w = w / w.sum()
    order = np.argsort(m, kind="stable")
    reached = np.cumsum(w[order])
    low, high, median = (
        float(m[order][min(int(np.searchsorted(reached, q)), m.size - 1)]) for q in (_OUTER, 1 - _OUTER, 0.5 + 1e-12)
    )
    low, high = min(low, 0.0), max(high, 0.0)
    width = _round_width((high - low) / BINS) if high > low else 1.0
    first, last = math.floor(low / width + 1e-9), max(math.floor(high / width + 1e-9), math.floor(low / width) + 1)
    where = np.clip(np.floor(m / width + 1e-9), first, last).astype(np.intp) - first
    shares = np.bincount(where, weights=w, minlength=last - first + 1)
    bars = tuple(
        Bar(float(f"{(first + i) * width:.10g}"), float(f"{(first + i + 1) * width:.10g}"), float(share))
        for i, share in enumerate(shares)
    )
    return Histogram(bars, n, float(w[m > 0].sum()), float(w[m == 0].sum()), median)


def _round_width(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))


def _margins(rows: Sequence[Judgement]) -> tuple[Histogram | None, str]:
    kept, values, conversions = [], {}, dict[str, None]()
    for j in rows:
        scored = scores_of(j)
        if len(set(j.grades)) > 1 and not scored.reason:
            kept.append(j)
            values[j.id] = scored.values
            conversions[scored.how] = None
    pairs = Contrasts(tuple(kept))
    if not kept:
        return None, "No example has right and wrong candidates with all their scores."
    margins = pairs.between(lambda j: values[j.id])
    found = histogram(margins.tolist(), pairs.weights.tolist(), len(kept))
    return found, "; ".join(how for how in conversions if how)


def _reliability(rows: Sequence[Judgement]) -> tuple[float | None, tuple[Point, ...], str]:
    found = calibration.margins(rows)
    if not found.n:
        return None, (), "No scores of single candidates that could be read as log-odds."
    try:
        temperature = calibration.fit_temperature(found.values, found.codes[0].tolist(), found.weights).value
    except NotIdentifiable as why:
        return None, (), f"{str(why)[0].upper()}{str(why)[1:]}."
    p = sigmoid(found.values / temperature)
    correct = np.where(found.values == 0, 0.5, found.values > 0)
    bins = calibration.reliability(np.maximum(p, 1 - p), correct, found.weights)
    return temperature, tuple(Point(b.confidence, b.accuracy, b.ci, b.n) for b in bins), ""


def _lengths(rows: Sequence[Judgement]) -> tuple[tuple[Point, ...], str]:
    found = style.preferences(rows)
    if not found.margins.size:
        return (), "The texts were not at hand." if found.n_without_text else "No pair has all its scores."
    x, y, w = found.log_ratio, found.wins, found.pairs.weights
    order = np.argsort(x, kind="stable")
    # pairs of equal ratio stay together, so that the order of rows changes nothing
    ends = np.unique(np.searchsorted(x[order], np.quantile(x, np.arange(1, LENGTH_BINS) / LENGTH_BINS), side="right"))
    points = []
    for part in np.split(order, ends):
        if part.size:
            n = float(w[part].sum())
            share = min(1.0, float(w[part] @ y[part]) / n)
            points.append(Point(float(np.median(x[part])), share, stats.wilson(share, n), n))
    return tuple(points), ""


def _sweep(rows: Sequence[Judgement], suite: Suite) -> tuple[Swept, ...]:
    if suite.card.kind == "process" or not any(j.step_scores for j in rows):
        return ()
    found = []
    for name in AGGREGATES:
        try:
            plan = with_options(suite.plan, {"aggregate": name})
            found.append(Swept(name, math.fsum(i.weight * i.value for i in headline_items(rows, plan)), ""))
        except UsageError as why:
            found.append(Swept(name, None, str(why)))
    return tuple(found)
