"""`rmeval list`, `rmeval show` and `rmeval check`.

What this module does not know: what is listed, shown or checked; it imports none of it to list it.
"""

from __future__ import annotations

import importlib.util
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmeval.cli import output
from rmeval.errors import UsageError, near_miss
from rmeval.plugins import ENGINES, IMPORTERS, JUDGES, METRICS, PROBES, READERS, SCORER_CARDS, SCORERS, SUITES, Registry

if TYPE_CHECKING:
    from rmeval.cards import SuiteCard

KINDS: dict[str, tuple[Registry, ...]] = {
    "suites": (SUITES,),
    "scorers": (SCORERS, SCORER_CARDS),
    "judges": (JUDGES,),
    "engines": (ENGINES,),
    "metrics": (METRICS,),
    "probes": (PROBES,),
    "importers": (IMPORTERS,),
    "readers": (READERS,),
}

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Data = Annotated[Path | None, typer.Option(help="Read the rows from a local file or folder.")]


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(help="suites, scorers, judges, engines, metrics, probes, importers or readers; default: all."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what is there, by name; imports no plugin."""
    if kind is not None and kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}. {near_miss(kind, KINDS)} Known: {', '.join(KINDS)}.")
    found = {k: _entries(registries) for k, registries in KINDS.items() if kind in (None, k)}
    if as_json:
        output.json_document(found)
        return
    for name, entries in found.items():
        output.table(name, ("name", "what", "from"), [(e["name"], e["what"], e["from"]) for e in entries])


def show(
    name: Annotated[str, typer.Argument(help="A suite, a scorer card, or a judge's protocol (judge:NAME).")],
    data: Data = None,
    examples: Annotated[
        bool, typer.Option("--examples", help="List the examples: id, subset, group, candidates.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Draws a generated suite.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show what a suite, a scorer card or a judge's protocol says, or a suite's examples."""
    name = name.replace("\N{MINUS SIGN}", "-", 1)
    # a protocol and a suite may have one name (judgebench): judge:NAME is the protocol
    if name.startswith("judge:") or (name in JUDGES and name not in SUITES):
        from rmeval.cards import read_card
        from rmeval.scorers.judge import JudgeCard

        _print_record(read_card(JUDGES.get(name.removeprefix("judge:")), JudgeCard).model_dump(mode="json"), as_json)
    elif name in SUITES or name not in (*SCORER_CARDS.names(), *SCORERS.names()):
        _show_suite(name, data, seed, examples, as_json)
    elif name in SCORER_CARDS:
        from rmeval.cards import ScorerCard, read_card

        _print_record(read_card(SCORER_CARDS.get(name), ScorerCard).model_dump(mode="json"), as_json)
    else:
        import inspect

        origin = SCORERS.origin(name)
        _print_record({"name": name, "what": inspect.getdoc(SCORERS.get(name)) or "", "from": origin.where}, as_json)


def check(
    what: Annotated[str, typer.Argument(help="A card file or its folder, a suite name, or a model.")],
    as_json: AsJson = False,
) -> None:
    """Check a card and run its sample rows, or load a model and score the same texts alone and in batches."""
    from rmeval.checks import check as checks

    path = Path(what)
    if what in SUITES or path.suffix == ".toml" or path.is_file() or (path / "card.toml").is_file():
        report = checks.check_card(SUITES.get(what) if what in SUITES and not path.exists() else path)
    else:
        report = checks.check_model(what)
    if as_json:
        output.json_document(report.to_dict())
    else:
        output.table(report.title, ("check", "found", "verdict"), [(c.name, c.found, c.verdict) for c in report.checks])
    report.raise_if_failed()


def _entries(registries: tuple[Registry, ...]) -> list[dict[str, str]]:
    found = []
    for registry in registries:
        for name, origin in sorted(registry.origins().items()):
            what = ""
            where = origin.where
            if isinstance(origin.target, Path):
                what = _card_summary(origin.target)
                where = "built in" if registry.is_builtin(origin) else where
            elif isinstance(origin.target, str):
                what = _first_line(origin.target)
            found.append({"name": name, "what": what, "from": where})
    return found


def _first_line(target: str) -> str:
    """The first line of an object's docstring, read from the source: listing imports nothing, nor parses all of it."""
    module, _, attribute = target.partition(":")
    source = _source(module)
    found = re.search(rf"^(?:class|def) {re.escape(attribute)}\b", source, re.MULTILINE)
    if found is None:
        return target
    own = re.split(r"\n(?=[^\s)#])", source[found.start() :], maxsplit=1)[0]
    said = _DOCSTRING.search(own)
    return said[1].partition('"""')[0].strip() if said else target


_DOCSTRING = re.compile(r':[ ]*(?:#[^\n]*)?\n {4}r?"""([^\n]*)')
"""Of a class or function at the top of a module: what its body begins with."""


@cache
def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).read_text(encoding="utf-8") if spec is not None and spec.origin is not None else ""


def _card_summary(path: Path) -> str:
    """A card's own words, without checking the card: listing must not fail because of one bad card."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "(this card cannot be read: rmeval check)"
    return str(raw.get("summary") or raw.get("title") or raw.get("model") or "")


def _show_suite(name: str, data: Path | None, seed: int, examples: bool, as_json: bool) -> None:
    from rmeval.suites import contents_digest, describe, load_suite

    suite = load_suite(name)
    if not examples:
        _print_suite(suite.card, as_json)
        return
    loaded = suite.load(data, seed)
    rows: list[dict[str, Any]] = [dict(row) for row in describe(loaded)]
    if as_json:
        output.json_document(rows)
        return
    counts: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        counts.setdefault((row["group"], row["subset"]), []).append(row["candidates"])
    output.table(
        f"{name}: {len(rows)} examples from {loaded.source} ({loaded.layout})",
        ("group", "subset", "examples", "candidates"),
        [
            (group, subset, len(ks), str(min(ks)) if min(ks) == max(ks) else f"{min(ks)}-{max(ks)}")
            for (group, subset), ks in counts.items()
        ],
        right=("examples", "candidates"),
    )
    output.line(f"first ids: {', '.join(row['id'] for row in rows[:5])}")
    if loaded.layout:
        output.line(f'to pin them: labels_sha256 = "{loaded.labels_sha256}"')
        output.line(f'in the layout: contents_sha256 = "{contents_digest(loaded.examples)}"')
    for text in loaded.notes:
        output.line(f"note: {text}")


def _print_suite(card: SuiteCard, as_json: bool) -> None:
    record = card.model_dump(mode="json", by_alias=True)
    if as_json:
        output.json_document(record)
        return
    output.line(f"{card.title} ({card.name}, version {card.version})")
    output.line(card.summary)
    official = f"official number: {card.headline.name} ({card.rule.name}"
    options = ", ".join(f"{k} = {v}" for k, v in (card.rule.model_extra or {}).items())
    output.line(f"{official}{', ' + options if options else ''}). {card.headline.note}")
    for one in card.definitions:
        output.line(f"also as {card.headline.name}[{one.name}]: {one.note}")
    for variant, over in card.variants.items():
        output.line(f"variant {card.name}:{variant}: {over.get('title', card.title)}")
    output.line(f"licence: {card.licence}")
    if card.homepage:
        output.line(f"home: {card.homepage}")
    for layout in card.layouts:
        where = ", ".join(dict.fromkeys(f"hub {one.hub}@{one.revision}" for one in layout.sources))
        where = where or f"repository {layout.repository}" + (f"@{layout.commit[:7]}" if layout.commit else "")
        output.line(f"layout {layout.name}: {where}; files {', '.join(layout.files) or 'any'}")
    if card.expected:
        output.table("examples", ("subset", "n"), list(card.expected.items()), right=("n",))
    if card.published:
        output.table(
            "published figures",
            ("model", "metric", "%", "source"),
            [(p.model, p.metric, output.percent(p.value), p.source) for p in card.published],
            right=("%",),
        )


def _print_record(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.json_document(record)
        return
    for key, value in record.items():
        if isinstance(value, str) and "\n" in value.strip():
            output.line(f"{key}:")
            for line in value.strip().splitlines():
                output.line(f"    {line}")
        elif value not in (None, "", [], {}):
            output.line(f"{key}: {value}")
