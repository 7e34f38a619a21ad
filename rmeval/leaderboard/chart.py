"""Where things stand in a drawing: interval bars, histograms, curves, computed here so that a page needs no script.

What this module does not know: boards, entries, results, HTML.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rmeval.leaderboard.detail import Histogram, Point

Scale: TypeAlias = Callable[[float], float]

WIDTH = 320.0
"""Width of the drawing, in its own units."""
MARGIN = 8.0
"""Room left and right, so that a mark at the end is not cut."""
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Axis:
    """A line from `low` to `high` that all rows of a table share."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def x(self, value: float) -> float:
        """The place of a value, in drawing units; values outside stand at the end.

        >>> Axis(0.0, 1.0, ()).x(0.5)
        160.0
        """
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(MARGIN + share * (WIDTH - 2 * MARGIN), 2)

    def holds(self, value: float) -> bool:
        """Whether the value lies on the line."""
        return self.low <= value <= self.high


def axis(values: Iterable[float], most: int = 5) -> Axis:
    """The shortest line with round ends that holds all values and has at most `most` intervals.

    >>> axis([0.62, 0.81])
    Axis(low=0.6, high=0.85, ticks=(0.6, 0.65, 0.7, 0.75, 0.8, 0.85))
    >>> axis([0.5])
    Axis(low=0.45, high=0.55, ticks=(0.45, 0.5, 0.55))
    """
    found = [value for value in values if math.isfinite(value)]
    if not found:
        return Axis(0.0, 1.0, (0.0, 0.5, 1.0))
    low, high = min(found), max(found)
    if high - low < 0.02:
        low, high = low - 0.05, high + 0.05
    for step in _STEPS:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            break
    ticks = tuple(round(i * step, 6) for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


# --- small charts with two axes --------------------------------------------------------------------------------------

PLOT_WIDTH, PLOT_HEIGHT = 360.0, 220.0
"""Of a chart with two axes, in its own units."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 12.0, 12.0, 44.0
_GAP = 1.0
"""Between two bars."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis and what is written there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Box:
    """A bar of a chart."""

    x: float
    y: float
    width: float
    height: float
    good: bool
    """Whether it lies where right answers lie."""
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with its interval."""

    x: float
    y: float
    low: float
    high: float
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with two axes, everything in its own units."""

    alt: str
    """What it shows, in a sentence: for those who do not see it."""
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    boxes: tuple[Box, ...] = ()
    marks: tuple[Mark, ...] = ()
    reference: tuple[float, float, float, float] | None = None
    """A dashed line, from (x, y) to (x, y)."""
    width: float = PLOT_WIDTH
    height: float = PLOT_HEIGHT
    left: float = _LEFT
    right: float = PLOT_WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = PLOT_HEIGHT - _BOTTOM


def margins_chart(found: Histogram) -> Chart:
    """The margins as bars, those of right decisions in the colour of the accent."""
    low, high = found.bars[0].low, found.bars[-1].high
    top = axis([0.0, max(bar.share for bar in found.bars)], most=4)
    x, y = _scales((low, high), (0.0, top.high))
    boxes = tuple(
        Box(
            x(bar.low) + _GAP / 2,
            y(bar.share),
            round(x(bar.high) - x(bar.low) - _GAP, 2),
            round(y(0.0) - y(bar.share), 2),
            bar.low >= 0,
            f"{bar.low:g} to {bar.high:g}: {bar.share:.1%}",
        )
        for bar in found.bars
    )
    line = axis([low, high], most=6) if high - low <= 60 else _coarse(low, high)
    return Chart(
        alt=f"Margins of {found.n} examples: {found.right:.1%} above 0, median {found.median:.3g}",
        x_label="score of the right one minus that of the wrong one",
        y_label="share of examples, %",
        x_ticks=tuple(Tick(x(t), f"{t:g}") for t in line.ticks if low <= t <= high),
        y_ticks=tuple(Tick(y(t), f"{100 * t:g}") for t in top.ticks),
        boxes=boxes,
        reference=(x(0.0), y(0.0), x(0.0), y(top.high)),
    )


def reliability_chart(points: Sequence[Point]) -> Chart:
    """How often confident calls are right, against the diagonal of a calibrated scorer."""
    x, y = _scales((0.5, 1.0), (0.0, 1.0))
    return Chart(
        alt="Reliability: share of right calls by stated confidence, "
        + ", ".join(f"{p.x:.2f}: {p.y:.2f}" for p in points),
        x_label="stated confidence, %",
        y_label="right, %",
        x_ticks=tuple(Tick(x(t), f"{100 * t:g}") for t in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
        y_ticks=tuple(Tick(y(t), f"{100 * t:g}") for t in (0.0, 0.25, 0.5, 0.75, 1.0)),
        marks=_marks(points, x, y, lambda p: f"{p.x:.0%} sure"),
        reference=(x(0.5), y(0.5), x(1.0), y(1.0)),
    )


def lengths_chart(points: Sequence[Point]) -> Chart:
    """How often the right candidate wins, by how much longer it is than the wrong one."""
    reach = max(math.log(2), *(abs(p.x) for p in points)) * 1.08
    x, y = _scales((-reach, reach), (0.0, 1.0))
    places = [t for t in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0) if abs(math.log(t)) <= reach]
    return Chart(
        alt="Right decisions by relative length: "
        + ", ".join(f"{math.exp(p.x):.2f} times as long: {p.y:.2f}" for p in points),
        x_label="length of the right one, times that of the wrong one",
        y_label="right, %",
        x_ticks=tuple(Tick(x(math.log(t)), f"{t:g}×") for t in places),
        y_ticks=tuple(Tick(y(t), f"{100 * t:g}") for t in (0.0, 0.25, 0.5, 0.75, 1.0)),
        marks=_marks(points, x, y, lambda p: f"{math.exp(p.x):.2f} times as long"),
        reference=(x(-reach), y(0.5), x(reach), y(0.5)),
    )


def _marks(points: Sequence[Point], x: Scale, y: Scale, where: Callable[[Point], str]) -> tuple[Mark, ...]:
    return tuple(
        Mark(
            x(p.x),
            y(p.y),
            y(p.ci[0]),
            y(p.ci[1]),
            f"{where(p)}: {p.y:.1%} right [{p.ci[0]:.1%}, {p.ci[1]:.1%}], {p.n:.0f} examples",
        )
        for p in points
    )


def _scales(across: tuple[float, float], up: tuple[float, float]) -> tuple[Scale, Scale]:
    (x0, x1), (y0, y1) = across, up

    def x(value: float) -> float:
        return round(_LEFT + (value - x0) / (x1 - x0) * (PLOT_WIDTH - _LEFT - _RIGHT), 2)

    def y(value: float) -> float:
        return round(PLOT_HEIGHT - _BOTTOM - (value - y0) / (y1 - y0) * (PLOT_HEIGHT - _TOP - _BOTTOM), 2)

    return x, y


def _coarse(low: float, high: float) -> Axis:
    """An axis of any size: steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / 5))
    step = next(s * power for s in (1, 2, 5, 10) if (high - low) / (s * power) <= 6)
    ticks = tuple(step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1))
    return Axis(low, high, ticks)
