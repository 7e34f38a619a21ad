"""One result or several as a single page, and as Markdown for a model card.

    html(views, probes) -> str   one file: style and figures inside, no script, nothing asked for from elsewhere
    markdown(views) -> str

Results of one suite are compared with each other, paired; the pieces are those of the board's pages.

What this module does not know: ranks, submissions, where files are written.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

from rmeval.compare import Comparison, compare_all
from rmeval.environment import package_version
from rmeval.errors import UsageError
from rmeval.leaderboard.chart import Axis, axis
from rmeval.leaderboard.detail import detail
from rmeval.leaderboard.page import TEMPLATES, templates
from rmeval.leaderboard.probed import Probed
from rmeval.leaderboard.shape import p_value
from rmeval.leaderboard.site import drawn
from rmeval.results import ResultView
from rmeval.suites import load_suite
from rmeval.types import Metric

_NULL = "null:"


def html(views: Sequence[ResultView], probes: Sequence[Probed] = ()) -> str:
    """The report of at least one result as one HTML page, with the figures of probes that are of these results."""
    shown = [drawn(detail(view, load_suite(view.result.suite.name))) for view in views]
    found, undone = comparisons(views)
    style = (TEMPLATES / "board.css").read_text(encoding="utf-8")
    if any(character in style for character in "<>&\"'"):
        raise ValueError(
            "board.css must not hold characters that HTML escapes: the policy's digest is of the plain text"
        )
    return (
        templates()
        .get_template("report.html")
        .render(
            root="",
            inline=style,
            inline_sha256=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            reports=shown,
            probes=[[one for one in probes if one.is_of(view.result)] for view in views],
            images=bool(probes),
            title=_title(views),
            comparisons=[(one, _axis(one)) for one in found],
            undone=undone,
            rmeval=package_version(),
        )
    )


def comparisons(views: Sequence[ResultView]) -> tuple[list[Comparison], list[str]]:
    """(the paired comparisons of all results that share a suite, why others cannot be paired)."""
    found: list[Comparison] = []
    undone = []
    for name in dict.fromkeys(view.result.suite.name for view in views):
        alike = [view for view in views if view.result.suite.name == name]
        if len(alike) > 1:
            try:
                found += compare_all(alike, load_suite(name).plan)
            except UsageError as why:
                undone.append(f"{name}: {why}")
    return found, undone


def markdown(views: Sequence[ResultView]) -> str:
    """The report as Markdown: one section per result, and a table of differences where results share a suite."""
    text = []
    for view in views:
        held, head = view.result, view.headline
        nulls = {(m.name.removeprefix(_NULL), m.subset): m for m in view.metrics if m.name.startswith(_NULL)}
        beside = list(dict.fromkeys(name for name, _ in nulls))
        rows = []
        for m in view.metrics:
            if m.name == head.name:
                own = [nulls.get((name, m.subset)) for name in beside]
                rows.append(
                    [
                        m.subset or "all",
                        _percent(m.value),
                        _interval(m.ci),
                        str(m.n),
                        str(m.n_missing),
                        *(_percent(null.value) if null else "" for null in own),
                    ]
                )
        data, kind, by = held.suite.data, held.model.kind, held.environment.rmeval
        text += [
            f"## {_plain(held.model.name)} on {_plain(held.suite.name)}",
            "",
            _first_line(head),
            "",
            *_table(
                ["part", f"{head.name}, %", "95 % interval", "n", "missing", *(f"null: {n}" for n in beside)], rows
            ),
            "",
            f"- rule: {_plain(head.note)}",
            f"- model: {_plain(held.model.name)}, revision {_plain(held.model.revision or 'none')}, {_plain(kind)}",
            f"- suite: {_plain(held.suite.name)} version {held.suite.version}, {_plain(data.source)}",
            f"- content of the suite: sha256 {data.sha256}",
            f"- engine: {_plain(held.engine.name if held.engine else 'none')}, rmeval {_plain(by)}",
            f"- result: {held.id[:12]}, made {held.created[:10]}",
            *([] if held.complete else [f"- **incomplete**: {_plain('; '.join((held.withheld, *held.notes)))}"]),
            "",
        ]
    for one in comparisons(views)[0]:
        rows = [
            [
                "all" if d.level == "headline" else d.name,
                _percent(d.a),
                _percent(d.b),
                f"{100 * d.difference:+.1f}",
                _interval(d.ci, "+.1f"),
                p_value(d.p_adjusted),
            ]
            for d in one.differences
        ]
        text += [
            f"## {_plain(one.a)} against {_plain(one.b)} on {_plain(one.suite)}",
            "",
            *_table(["part", "first, %", "second, %", "difference", "95 % interval", "adjusted"], rows),
            "",
            f"Paired on {one.overlap.common} examples; p by sign flips of {one.headline.clusters} prompts.",
            "",
        ]
    return "\n".join(text)


def _first_line(head: Metric) -> str:
    if head.value is None:
        return f"{_plain(head.name)}: no value. {_plain(head.note)}"
    missing = f", {head.n_missing} more have no score" if head.n_missing else ""
    interval = _interval(head.ci) or "not estimable"
    return f"{_plain(head.name)}: {_percent(head.value)} %, 95 % interval {interval}; {head.n} examples{missing}."


def _title(views: Sequence[ResultView]) -> str:
    models = list(dict.fromkeys(view.result.model.name for view in views))
    suites = list(dict.fromkeys(view.result.suite.name for view in views))
    of = models[0] if len(models) == 1 else f"{len(models)} scorers"
    return f"{of} on {suites[0] if len(suites) == 1 else f'{len(suites)} suites'}"


def _axis(one: Comparison) -> Axis:
    return axis([0.0, *(v for d in one.differences for v in (d.difference, *(d.ci or ())))])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = [f"| {' | '.join(map(_plain, columns))} |", f"|{'|'.join(['---', *['---:'] * (len(columns) - 1)])}|"]
    return [*head, *(f"| {' | '.join(map(_plain, row))} |" for row in rows)]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _interval(ci: tuple[float, float] | None, form: str = ".1f") -> str:
    return "" if ci is None else f"{100 * ci[0]:{form}} to {100 * ci[1]:{form}}"


def _plain(text: str) -> str:
    r"""Text that Markdown shows as it is: no HTML, link, image, code or table can come of it.

    >>> print(_plain("<b>a|b</b> [x](javascript:y)"))
    &lt;b&gt;a\|b&lt;/b&gt; \[x\](javascript:y)
    """
    visible = "".join(c if c.isprintable() else " " for c in text)
    inert = visible.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", inert)
