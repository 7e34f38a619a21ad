"""Results, comparisons and boards as tables on a terminal.

What this module does not know: how any number was computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rmeval.cli import output

if TYPE_CHECKING:
    from rmeval.compare import Comparison
    from rmeval.leaderboard.shape import Board, Versus
    from rmeval.records import MetricRecord, Result

_NULL = "null:"
_DIAGNOSTICS = ("calibration", "scale", "length", "style", "agreement", "judge")


def print_result(result: Result, path: Path | None) -> None:
    """The headline with its parts and what a null scorer gets there; then what stands beside it, and the rule."""
    name = result.headline.name
    title = f"{result.model.name} on {result.suite.name}: {name} {output.percent(result.headline.value)}"
    nulls = {(m.name.removeprefix(_NULL), m.subset): m for m in result.metrics if m.name.startswith(_NULL)}
    columns = list(dict.fromkeys(null for null, _ in nulls))
    rows: list[tuple[object, ...]] = []
    for m in result.metrics:
        if m.name == name:
            beside = [nulls.get((null, m.subset)) for null in columns]
            shown = [output.percent(other.value) if other else "" for other in beside]
            rows.append((m.subset or "all", *_numbers(m), *shown))
    output.table(
        f"{title} {output.interval(result.headline.ci)}",
        ("part", f"{name} %", "95 % interval", "n", "missing", *columns),
        rows,
        right=(f"{name} %", "95 % interval", "n", "missing", *columns),
    )
    _print_components(result)
    others = [
        m
        for m in result.metrics
        if m.subset is None and m.name != name and not m.name.startswith(_NULL) and not _is_diagnostic(m)
    ]
    output.table(
        "beside it",
        ("metric", "%", "95 % interval", "n", "missing"),
        [(m.name, *_numbers(m)) for m in others if m.unit == "fraction"],
        right=("%", "95 % interval", "n", "missing"),
    )
    if numbers := [m for m in others if m.unit == "number"]:
        output.table(
            "beside it, plain numbers",
            ("metric", "value", "95 % interval", "n", "missing"),
            [(m.name, *_numbers(m)) for m in numbers],
            right=("value", "95 % interval", "n", "missing"),
        )
    _print_diagnostics([m for m in result.metrics if m.subset is None and _is_diagnostic(m)])
    first = result.metrics[0]
    output.line(f"rule: {first.note}" if first.value is not None else f"no headline: {first.note}")
    _print_text(result)
    if not result.complete:
        output.line(f"incomplete: {_why_incomplete(result)}")
    if path is not None:
        output.line(f"result: {path}")
    output.line()


def _print_text(result: Result) -> None:
    """What the model was given to read, and the faults that the run was told to bear."""
    from rmeval.engines import hygiene

    if result.text is None:
        return
    what, how_long = hygiene.lines(result.text)
    output.line(f"text: {what}")
    output.line(f"      {how_long}")
    if result.complete:  # else they stand with the reasons
        for fault in (n for n in result.notes if n.startswith("text: ")):
            output.line(f"FAULT in the {fault}")


def _print_diagnostics(found: Sequence[MetricRecord]) -> None:
    """Calibration, length, style, annotators and judge, with the first clause of each note; then what is flagged."""
    rows = [(m.name, *_numbers(m), m.note.partition(";")[0]) for m in found if m.name != "mde" and m.value is not None]
    if rows:
        output.table(
            "diagnostics (shares in %)",
            ("figure", "value", "95 % interval", "n", "missing", "what it is"),
            rows,
            right=("value", "95 % interval", "n", "missing"),
        )
    for flag in dict.fromkeys(part for m in found for part in m.note.split("; ") if part.startswith("POSITION BIAS")):
        output.line(flag)
    undefined: dict[str, list[str]] = {}
    for m in found:
        if m.value is None:
            undefined.setdefault(m.note.removeprefix("undefined: ").partition(";")[0], []).append(m.name)
    for why, names in undefined.items():
        output.line(f"undefined ({why}): {', '.join(names)}")
    for m in found:
        if m.name == "mde" and m.value is not None:
            output.line(
                f"differences below {output.percent(m.value)} points from a scorer unrelated to this one are not "
                "resolvable here; `rmeval compare` knows the paired figure"
            )


def _is_diagnostic(m: MetricRecord) -> bool:
    return m.name == "mde" or (m.name.partition(":")[0] in _DIAGNOSTICS and ":" in m.name)


def _print_components(result: Result) -> None:
    """Components per part, such as hard, normal and easy; the single cells of a matrix are left to the result file."""
    parts: dict[str, dict[str, MetricRecord]] = {}
    for m in result.metrics:
        if (
            m.subset is not None
            and m.name != result.headline.name
            and not m.name.startswith(_NULL)
            and ">" not in m.name
        ):
            parts.setdefault(m.subset, {})[m.name] = m
    columns = list(dict.fromkeys(name for found in parts.values() for name in found))
    if columns:
        output.table(
            "components, %",
            ("part", *columns),
            [(part, *(_numbers(found[c])[0] if c in found else "" for c in columns)) for part, found in parts.items()],
            right=columns,
        )


def print_summary(results: Sequence[Result]) -> None:
    """One row per suite: the headline, what null scorers get there, ties and missing scores."""
    columns = ("suite", "headline", "%", "95 % interval", "n", "missing", "ties %")
    found = [{(m.name, m.subset): m for m in result.metrics} for result in results]
    nulls = list(dict.fromkeys(n for one in found for n, subset in one if subset is None and n.startswith(_NULL)))
    rows = []
    for result, metrics in zip(results, found, strict=True):
        head, tied = result.metrics[0], metrics.get(("tie_rate", None))
        shown = [output.percent(metrics[null, None].value) if (null, None) in metrics else "" for null in nulls]
        mark = "" if result.complete else "*"
        rate = output.percent(tied.value) if tied else ""
        rows.append((result.suite.name + mark, head.name, *_numbers(head), rate, *shown))
        if head.value is None:  # the parts that are there, each by itself
            parts = [m for m in result.metrics if m.name == head.name and m.subset in _section_names(result)]
            for m in parts:
                shown = [
                    output.percent(beside.value) if (beside := metrics.get((null, m.subset))) else "" for null in nulls
                ]
                rows.append((f"  {m.subset}", head.name, *_numbers(m), "", *shown))
    names = [null.removeprefix(_NULL) for null in nulls]
    output.table(
        f"{results[0].model.name} on {len(results)} suites", (*columns, *names), rows, right=(*columns[2:], *names)
    )
    if any(not result.complete for result in results):
        output.line("* incomplete: only part of the suite, or scores are missing; the tables above say why")


def _section_names(result: Result) -> set[str]:
    """Sections with a value: null baselines stand for the suite and for its sections, and for no subset."""
    valued = {m.subset for m in result.metrics if m.name == result.headline.name and m.value is not None}
    return {
        m.subset for m in result.metrics if m.name.startswith(_NULL) and m.subset in valued and m.subset is not None
    }


def _numbers(m: MetricRecord) -> tuple[object, ...]:
    if m.unit == "number":
        ci = "" if m.ci is None else f"[{_number(m.ci[0])}, {_number(m.ci[1])}]"
        return "-" if m.value is None else _number(m.value), ci, m.n, m.n_missing or ""
    return output.percent(m.value), output.interval(m.ci), m.n, m.n_missing or ""


def _number(value: float) -> str:
    """Three places, and no row of a hundred digits for what is far out.

    >>> _number(0.25), _number(-12345.678), _number(6.3e149)
    ('0.250', '-12345.678', '6.3e+149')
    """
    return f"{value:.3f}" if abs(value) < 1e9 else f"{value:.3g}"


def _why_incomplete(result: Result) -> str:
    reasons = list(result.notes)
    if result.suite.limit is not None:
        reasons.insert(0, f"--limit {result.suite.limit:g}")
    if result.shard is not None:
        reasons.insert(0, f"shard {result.shard.index}/{result.shard.of}: rmeval merge makes one result of all")
    if result.withheld:
        reasons.insert(0, result.withheld)
    return "; ".join(reasons)


def print_comparison(one: Comparison) -> None:
    """Differences of headline, sections and subsets, and on which examples they stand."""
    columns = (one.differences[0].name, "a", "b", "a - b", "95 % interval", "p", "adjusted", "n")
    rows = [
        (
            "all" if d.level == "headline" else d.name,
            output.percent(d.a),
            output.percent(d.b),
            f"{100 * d.difference:+.1f}",
            "" if d.ci is None else f"[{100 * d.ci[0]:+.1f}, {100 * d.ci[1]:+.1f}]",
            _p(d.p),
            _p(d.p_adjusted),
            d.n,
        )
        for d in one.differences
    ]
    output.table(f"{one.a} (a) against {one.b} (b) on {one.suite}", columns, rows, right=columns[1:])
    shared = f"{one.overlap.common} examples that both have and scored"
    if one.overlap.unscored or any(one.overlap.not_shared):
        only = " and ".join(str(n) for n in one.overlap.not_shared)
        shared += f" (left out: {one.overlap.unscored} without a score, {only} that only one has)"
    head = one.headline
    families = dict.fromkeys(d.family for d in one.differences if d.family != "alone")
    output.line(f"paired on {shared}, {head.clusters} prompts; p by sign flips of whole prompts")
    if families:
        output.line(f"adjusted: {'; '.join(families)}")
    if head.resolvable is not None:
        output.line(f"this comparison finds differences of {output.percent(head.resolvable)} points with 80 % power")
    for text in (head.note, *one.notes):
        if text:
            output.line(f"note: {text}")
    output.line()


MOST_ENTRIES = 25
"""Entries of a suite that the terminal shows; its page has all."""


def print_board(board: Board, out: Path, *, as_json: bool) -> None:
    """Entries per suite with ranks as ranges, null baselines below them, and what was left out."""
    if as_json:
        print((out / "leaderboard.json").read_text(encoding="utf-8"), end="")
        return
    for suite in board.suites:
        against = list(dict.fromkeys(name for e in suite.entries for name in e.versus))
        columns = (
            "rank",
            "model",
            f"{suite.headline} %",
            "95 % interval",
            "n",
            "missing",
            "tied with",
            *(f"against {n}" for n in against),
        )
        rows: list[tuple[object, ...]] = [
            (
                "-" if e.rank is None else str(e.rank[0]) if e.rank[0] == e.rank[1] else f"{e.rank[0]}-{e.rank[1]}",
                e.model + (" (may have seen it)" if e.contaminated else ""),
                output.percent(e.value),
                output.interval(e.ci),
                e.n,
                e.n_missing or "",
                _listed(e.tied_with),
                *(_versus(e.versus[name]) if name in e.versus else "" for name in against),
            )
            for e in suite.entries[:MOST_ENTRIES]
        ]
        rows += [("null", n.name, output.percent(n.value), "", "", "", "", "") for n in suite.nulls]
        output.table(f"{suite.title} (version {suite.version})", columns, rows, right=columns[2:6])
        if len(suite.entries) > MOST_ENTRIES:
            output.line(f"{len(suite.entries) - MOST_ENTRIES} more entries: {out / suite.page}")
        output.line(f"rule: {suite.rule}")
        if suite.resolvable is not None:
            output.line(f"differences below {output.percent(suite.resolvable)} points are not resolvable here")
        output.line()
    if not board.suites:
        output.line("the board has no entries")
    for left_out in board.excluded:
        output.line(f"left out: {left_out.file}: {left_out.why}")
    output.line(f"page: {out / 'index.html'}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 4 else ""
    return ", ".join(names[:3] if more else names) + more


def _versus(versus: Versus) -> str:
    # of too few prompts there is no interval: one of no width would say the opposite
    ends = "" if versus.ci is None else f" [{100 * versus.ci[0]:+.1f}, {100 * versus.ci[1]:+.1f}]"
    return f"{100 * versus.difference:+.1f}{ends} p {_p(versus.p)}"


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}"
