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
from dataclasses import dataclass, field, replace
from typing import Any

from rmeval.probes.curves import Curve, Point, reasons
from rmeval.stats import best_of_n_kl

COLUMNS = 2
WIDTH = 3.65
"""Of a panel, in inches: two of them are 700 pixels wide, where the smallest text is ten high."""
INSIDE = 3
"""Lines whose names find room among them; those of more stand below their panel."""
_LINES, _MARKS = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1))), ("o", "s", "^", "D", "v")
RELIABILITY = "reliability "
"""What the names of panels begin with that show stated shares against those that came true."""
_DARK = "<style>@media (prefers-color-scheme: dark) { svg { filter: invert(0.9) hue-rotate(180deg) } }</style>"
"""What is white turns dark and the hues stay, where the reader asked for it."""


@dataclass(slots=True)
class Drawing:
    """A figure under way."""

    figure: Any
    axes: Any
    """[rows][columns]"""
    files: dict[str, bytes] = field(default_factory=dict)
    """By suffix, `svg` and `png`, the content of its files; there once the figure is done."""


@contextmanager
def drawing(
    *, columns: int, rows: int = 1, size: tuple[float, float], heights: Sequence[float] | None = None
) -> Iterator[Drawing]:
    """A new figure; text stays text in the SVG, and two figures of the same numbers are equal to the byte."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with mpl.rc_context({"svg.hashsalt": "rmeval", "svg.fonttype": "none", "font.size": 9}):
        made = Drawing(
            *plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, height_ratios=heights)
        )
        try:
            yield made
            for suffix in ("svg", "png"):
                held = io.BytesIO()
                metadata = {"Date": None} if suffix == "svg" else None
                made.figure.savefig(held, format=suffix, dpi=120, metadata=metadata)
                made.files[suffix] = held.getvalue()
            made.files["svg"] = made.files["svg"].replace(b" <defs>", f" {_DARK}\n <defs>".encode(), 1)
        finally:
            plt.close(made.figure)


def _plain(curve: Curve) -> Curve:
    """A curve whose words are words: between two dollar signs matplotlib reads mathematics, and fails at most names."""
    points = tuple(replace(p, at=p.at.replace("$", r"\$")) if isinstance(p.at, str) else p for p in curve.points)
    names = ("panel", "name", "what", "undefined")
    return replace(curve, points=points, **{name: getattr(curve, name).replace("$", r"\$") for name in names})


def draw(title: str, curves: Sequence[Curve]) -> dict[str, bytes]:
    """The content of the figure's files by suffix, `svg` and `png`. At least one curve must have points."""
    panels: dict[str, list[Curve]] = {}
    curves = [_plain(curve) for curve in _seen(curves)]
    for curve in curves:
        if curve.points:
            panels.setdefault(curve.panel, []).append(curve)
    columns = min(COLUMNS, len(panels))
    rows = [tuple(panels.items())[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [max(_height(drawn) for _, drawn in row) for row in rows]
    lines = _lines(curves, width=58 * columns)
    size = (WIDTH * max(columns, 1.4), sum(heights) + 0.17 * len(lines) + 0.4)
    with drawing(columns=columns, rows=len(rows), size=size, heights=heights) as made:
        made.figure.suptitle(title.replace("$", r"\$"), fontsize=11)
        if lines:
            made.figure.supxlabel("\n".join(lines), fontsize=8, color="0.3", x=0.01, ha="left")
        for axis in made.axes.flat[len(panels) :]:
            axis.set_axis_off()
        for axis, (panel, drawn) in zip(made.axes.flat, panels.items(), strict=False):
            axis.set_title(panel, fontsize=10)
            if panel.startswith(RELIABILITY):
                _reliability(axis, drawn[0])
            elif _is_bars(drawn):
                _bars(axis, drawn)
            else:
                _curves(axis, drawn)
                axis.set_ylabel(_VALUE.get(panel, drawn[0].name if len(drawn) == 1 else ""))
            axis.set_xlabel(_label(panel, drawn) or axis.get_xlabel())
            if panel.startswith("calibration error"):  # small shares
                axis.autoscale(axis="x" if isinstance(drawn[0].points[0].at, str) else "y")
            if panel in _LOGARITHMIC and not _is_bars(drawn):
                at = [float(point.at) for point in drawn[0].points]
                marks = _doubling(axis, at, counts=panel != "score by length")
                if panel == "gold" and marks:
                    _moved(axis, marks)
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
    "KL from the base": "n",
    "flipped by the best of n edits": "n",
    "over-optimisation": "sqrt(KL), by the bound of best-of-n, sqrt(nats)",
    "gold of the kept": "share kept",
    "uplift": "share kept",
    "prompts kept": "share kept",
    "drift": "share kept",
    "accuracy by length": "log2 (right length / wrong length)",
    "score by length": "characters",
    "calibration error of prefixes": "share of the tokens",
    "pull": "log-odds per standard deviation",
}
_VALUE = {
    "gold": "mean gold",
    "regret": "oracle - best of n",
    "gain": "best of n - random",
    "reward": "reward of the chosen",
    "right": "share right",
    "gain over best of n": "share right, difference",
    "steps written": "steps per problem",
    "KL from the base": "nats",
    "flipped by the best of n edits": "share of pairs",
    "over-optimisation": "gain over the base",
    "gold of the kept": "mean gold",
    "uplift": "gold, difference",
    "prompts kept": "share of the prompts",
    "drift": "ratio to a matched draw",
    "positions": "mean score",
    "prefixes": "value",
    "step rejection": "share",
    "prefix rejection": "share",
    "step calibration": "share",
    "prefix calibration": "share",
    "score by length": "mean score",
}
"""What the height of a line means, where its name does not say it."""
_LOGARITHMIC = (*(panel for panel, at in _AT.items() if at == "n"), "score by length")


def _seen(curves: Sequence[Curve]) -> Sequence[Curve]:
    """Lines that are undefined everywhere as curves without points, where others have any; bars say it row by row."""
    blank = [bool(c.points) and all(p.value is None and not isinstance(p.at, str) for p in c.points) for c in curves]
    if not any(c.points and not empty for c, empty in zip(curves, blank, strict=True)):
        return curves
    return [replace(c, points=(), undefined=c.points[0].note) if b else c for c, b in zip(curves, blank, strict=True)]


def _is_bars(curves: Sequence[Curve]) -> bool:
    return isinstance(curves[0].points[0].at, str) or len(curves[0].points) == 1


def _height(curves: Sequence[Curve]) -> float:
    """Of a panel, in inches: rows of names need as much as there are of them."""
    if curves[0].panel.startswith(RELIABILITY) or not _is_bars(curves):
        return 2.7 + (0.17 * math.ceil(len(curves) / 3) if len(curves) > INSIDE else 0.0)
    return 1.2 + _row(curves) * len(curves[0].points)


def _row(curves: Sequence[Curve]) -> float:
    """Height of a row of bars, in inches."""
    return 0.19 + 0.07 * (len(curves) - 1)


def _label(panel: str, curves: Sequence[Curve]) -> str:
    """Below the panel; panels of names say there what is measured."""
    if not _is_bars(curves) or panel == "pull":
        return _AT.get(panel, "")
    return curves[0].name if len(curves) == 1 else ""


def _moved(axis: Any, marks: Sequence[float]) -> None:
    """Above the panel, how far best-of-n moves a policy at the n below."""
    above = axis.secondary_xaxis("top")
    above.set_xticks(marks, [f"{best_of_n_kl(int(n)):.2g}" for n in marks])
    above.minorticks_off()
    above.set_xlabel("KL from the base, at most, nats", fontsize=8)


def _doubling(axis: Any, at: Sequence[float], *, counts: bool) -> list[float]:
    """A logarithmic axis; where n is counted, with a mark at every n that has room for its number: the marks."""
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")
    if counts and min(at) > 0:
        marks = [n for i, n in enumerate(at) if n == at[-1] or (math.log2(at[-1] / n) > 0.4 and _apart(at, i))]
        axis.set_xticks(marks)
        axis.minorticks_off()
    return marks if counts and min(at) > 0 else []


def _apart(at: Sequence[float], i: int) -> bool:
    return i == 0 or math.log2(at[i] / at[i - 1]) > 0.4


def _curves(axis: Any, curves: Sequence[Curve]) -> None:
    """Lines with bands; a gap where a value is undefined."""
    for n, curve in enumerate(curves):
        at = [float(point.at) for point in curve.points]
        values = [math.nan if point.value is None else point.value for point in curve.points]
        line, mark = _LINES[n % len(_LINES)], _MARKS[n % len(_MARKS)]  # told apart where they lie on each other
        if not any(point.n for point in curve.points):  # a law, not observations
            mark = ""
        axis.plot(
            at, values, marker=mark, linestyle=line, color=f"C{n}", markersize=3.5, linewidth=1.3, label=curve.name
        )
        low, high = zip(*(point.ci or (math.nan, math.nan) for point in curve.points), strict=True)
        axis.fill_between(at, low, high, color=f"C{n}", alpha=0.15, linewidth=0)
    _level([point for curve in curves for point in curve.points], axis.set_ylim, axis.axhline, least=0.5)
    if len(curves) > INSIDE:
        _legend_below(axis, points=30)
    elif len(curves) > 1:
        axis.legend(frameon=False, fontsize=8)


def _legend_below(axis: Any, points: float) -> None:
    """The names in three columns so far below the panel, where they hide nothing."""
    from matplotlib.transforms import offset_copy

    axis.legend(
        frameon=False, fontsize=8, loc="upper center", ncols=3, columnspacing=1.0, handlelength=1.6, borderaxespad=0.0,
        bbox_to_anchor=(0.45, 0.0), bbox_transform=offset_copy(axis.transAxes, axis.figure, y=-points, units="points"),
    )  # fmt: skip


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
            textcoords="offset points", fontsize=7.5, color="0.35", rotation=90, ha="center", va="bottom",
        )  # fmt: skip
    axis.plot(at, [point.value for point in curve.points], "o-", color="C0", markersize=4, linewidth=1.0)
    axis.set_xlim(floor - 0.02, 1.02)
    axis.set_ylim(-0.02, 1.04)
    axis.set_xlabel("stated")
    axis.set_ylabel(curve.name)


def _bars(axis: Any, curves: Sequence[Curve]) -> None:
    """Points with whiskers, one row per name; "undefined" stands where there is no value."""
    names = [point.at for point in curves[0].points]
    gap = min(0.25, 0.8 / len(curves))  # of rows that are one apart
    for n, curve in enumerate(curves):
        axis.plot([], [], "o", color=f"C{n}", markersize=4, label=curve.name)
        shift = gap * (n - (len(curves) - 1) / 2)
        for row, point in enumerate(curve.points):
            if point.value is None:
                where = axis.get_yaxis_transform()
                axis.text(0.02, row + shift, "undefined", color=f"C{n}", fontsize=8, va="center", transform=where)
                continue
            low, high = point.ci or (point.value, point.value)
            axis.plot([low, high], [row + shift] * 2, color=f"C{n}", linewidth=1.2)
            axis.plot(point.value, row + shift, "o", color=f"C{n}", markersize=4)
    said = {"n": "n =", "share kept": "kept"}.get(_AT.get(curves[0].panel, ""), "below")
    axis.set_yticks(range(len(names)), [at if isinstance(at, str) else f"{said} {at:g}" for at in names])
    axis.set_ylim(len(names) - 0.5, -0.5)  # the first name on top
    axis.grid(axis="y", alpha=0.2)
    _level([point for curve in curves for point in curve.points], axis.set_xlim, axis.axvline)
    if len(curves) > 1:
        _legend_below(axis, points=20)


def _level(points: Sequence[Point], limit: Any, line: Any, least: float = 0.0) -> None:
    """The range of the values: that of shares where they are shares and span `least`; a line at 0 amid them."""
    values = [end for p in points if p.value is not None for end in (p.value, *(p.ci or ()))]
    span = max(values) - min(values) if values else 0.0
    if values and min(values) >= 0 and max(values) <= 1 and not 0 < span < least:
        limit(-0.02, 1.02)
    elif values and min(values) < 0 < max(values):
        line(0, color="0.5", linewidth=0.7)


def _lines(curves: Sequence[Curve], width: int) -> list[str]:
    """What is not drawn and why."""
    said = [f"not drawn: {', '.join(names)} ({reason})" for reason, names in reasons(curves).items()]
    return [line for one in said for line in textwrap.wrap(one, width)]
