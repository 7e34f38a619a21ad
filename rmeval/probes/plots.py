"""The figure of a probe: one panel per group of curves that has points, as SVG and PNG.

Points that are undefined leave a gap; curves without points are named below the panels, with the reason.

What this module does not know: how any curve was computed, files.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rmeval.probes.curves import Curve, Point, reasons

COLUMNS = 3
RELIABILITY = "reliability "
"""What the names of panels begin with that show stated shares against those that came true."""
_GAP = 0.045
"""Distance between the bars of one place, as a share of the panel."""


@dataclass(slots=True)
class Drawing:
    """A figure under way."""

    figure: Any
    axes: Any
    """[rows][columns]"""
    files: dict[str, bytes] = field(default_factory=dict)
    """By suffix, `svg` and `png`, the content of its files; there once the figure is done."""


@contextmanager
def drawing(*, columns: int, rows: int = 1, size: tuple[float, float]) -> Iterator[Drawing]:
    """A new figure; text stays text in the SVG, and two figures of the same numbers are equal to the byte."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with mpl.rc_context({"svg.hashsalt": "rmeval", "svg.fonttype": "none", "font.size": 9}):
        made = Drawing(*plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False))
        try:
            yield made
            for suffix in ("svg", "png"):
                held = io.BytesIO()
                metadata = {"Date": None} if suffix == "svg" else None
                made.figure.savefig(held, format=suffix, dpi=120, metadata=metadata)
                made.files[suffix] = held.getvalue()
        finally:
            plt.close(made.figure)


def draw(title: str, curves: Sequence[Curve]) -> dict[str, bytes]:
    """The content of the figure's files by suffix, `svg` and `png`. At least one curve must have points."""
    panels: dict[str, list[Curve]] = {}
    for curve in curves:
        if curve.points:
            panels.setdefault(curve.panel, []).append(curve)
    rows = math.ceil(len(panels) / COLUMNS)
    columns = min(COLUMNS, len(panels))
    lines = _lines(curves, width=72 * columns)
    height = 3.5 * rows + 0.16 * len(lines) + 0.4
    with drawing(columns=columns, rows=rows, size=(4.6 * columns, height)) as made:
        made.figure.suptitle(title)
        if lines:
            made.figure.supxlabel("\n".join(lines), fontsize=7.5, color="0.3", x=0.01, ha="left")
        for axis in made.axes.flat[len(panels) :]:
            axis.set_axis_off()
        for axis, (panel, drawn) in zip(made.axes.flat, panels.items(), strict=False):
            axis.set_title(panel, fontsize=10)
            first = drawn[0].points
            if panel.startswith(RELIABILITY):
                _reliability(axis, drawn[0])
            else:
                (_bars if isinstance(first[0].at, str) or len(first) == 1 else _curves)(axis, drawn)
            axis.set_xlabel(_AT.get(panel, axis.get_xlabel()))
            if panel.startswith("calibration error"):  # small shares
                axis.autoscale(axis="x" if isinstance(first[0].at, str) else "y")
            if panel in _LOGARITHMIC:
                axis.set_xscale("log", base=2)
                axis.xaxis.set_major_formatter("{x:g}")
    return made.files


_AT = {
    "positions": "share of the steps",
    "step calibration": "share of the steps",
    "prefix calibration": "share of the tokens",
    "prefixes": "share of the tokens",
    "step rejection": "threshold",
    "prefix rejection": "threshold",
    "gold": "n",
    "regret": "n",
    "reward": "n",
    "gain": "n",
    "right": "n",
    "gain over best of n": "n",
    "steps written": "n",
    "over-optimisation": "sqrt(KL), nats",
    "gold of the kept": "share kept",
    "uplift": "share kept",
    "prompts kept": "share kept",
    "drift": "share kept",
    "accuracy by length": "log2 (right length / wrong length)",
    "score by length": "characters",
    "calibration error of prefixes": "share of the tokens",
    "pull": "log-odds per standard deviation",
}
_LOGARITHMIC = ("score by length",)


def _curves(axis: Any, curves: Sequence[Curve]) -> None:
    """Lines with bands; a gap where a value is undefined."""
    for n, curve in enumerate(curves):
        at = [float(point.at) for point in curve.points]
        values = [math.nan if point.value is None else point.value for point in curve.points]
        axis.plot(at, values, "o-", color=f"C{n}", markersize=2.5, linewidth=1.2, label=curve.name)
        low, high = zip(*(point.ci or (math.nan, math.nan) for point in curve.points), strict=True)
        axis.fill_between(at, low, high, color=f"C{n}", alpha=0.15, linewidth=0)
    _level([point for curve in curves for point in curve.points], axis.set_ylim, axis.axhline)
    axis.legend(frameon=False, fontsize=7.5)


def _reliability(axis: Any, curve: Curve) -> None:
    """Bins with bars on the diagonal's two sides, each with its count below."""
    at = [float(point.at) for point in curve.points]
    floor = 0.5 if min(at) >= 0.5 else 0.0
    axis.plot([floor, 1], [floor, 1], "--", color="0.6", linewidth=0.8)
    for place, point in zip(at, curve.points, strict=True):
        low, high = point.ci or (point.value, point.value)
        axis.plot([place, place], [low, high], color="C0", linewidth=1.2)
        axis.annotate(
            f"{point.n:,}", (place, 0.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", fontsize=6.5, color="0.4", rotation=90, ha="center", va="bottom",
        )  # fmt: skip
    axis.plot(at, [point.value for point in curve.points], "o-", color="C0", markersize=4, linewidth=1.0)
    axis.set_xlim(floor - 0.02, 1.02)
    axis.set_ylim(-0.02, 1.04)
    axis.set_xlabel("stated")
    axis.set_ylabel(curve.name)


def _bars(axis: Any, curves: Sequence[Curve]) -> None:
    """Points with whiskers, one row per name; "undefined" stands where there is no value."""
    names = [point.at for point in curves[0].points]
    for n, curve in enumerate(curves):
        axis.plot([], [], "o", color=f"C{n}", markersize=4, label=curve.name)
        shift = _GAP * len(names) * (n - (len(curves) - 1) / 2)
        for row, point in enumerate(curve.points):
            if point.value is None:
                axis.text(0.02, row + shift, "undefined", color=f"C{n}", fontsize=7, va="center")
                continue
            low, high = point.ci or (point.value, point.value)
            axis.plot([low, high], [row + shift] * 2, color=f"C{n}", linewidth=1.2)
            axis.plot(point.value, row + shift, "o", color=f"C{n}", markersize=4)
    axis.set_yticks(range(len(names)), [at if isinstance(at, str) else f"below {at:g}" for at in names])
    axis.set_ylim(len(names) - 0.5, -0.5 - 0.1 * len(names))  # the first name on top, below room for the legend
    axis.grid(axis="y", alpha=0.2)
    _level([point for curve in curves for point in curve.points], axis.set_xlim, axis.axvline)
    axis.legend(frameon=False, fontsize=7.5, loc="upper right", ncols=2)


def _level(points: Sequence[Point], limit: Any, line: Any) -> None:
    """The range of the values: that of shares where they are shares; a line at 0 where they are on both sides of it."""
    values = [end for p in points if p.value is not None for end in (p.value, *(p.ci or ()))]
    if values and min(values) >= 0 and max(values) <= 1:
        limit(-0.02, 1.02)
    elif values and min(values) < 0 < max(values):
        line(0, color="0.5", linewidth=0.7)


def _lines(curves: Sequence[Curve], width: int) -> list[str]:
    """What is not drawn and why."""
    said = [f"not drawn: {', '.join(names)} ({reason})" for reason, names in reasons(curves).items()]
    return [line for one in said for line in textwrap.wrap(one, width)]
