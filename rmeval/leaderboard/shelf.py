"""Sheets kept between two builds: one npz per suite, each sheet under the digests of the files it was measured from.

    shelf = Shelf(folder); shelf.find(result_sha256) -> sheets; shelf.keep(suite, sheets, ...)

Nothing is believed that the files do not say again: a sheet counts for a result file whose sha256 it names, beside a
samples file whose sha256 it names, under the same card and the same code of rmeval. A file that is damaged is left out
with a note, and made again. What is kept was made from files whose content was checked; the folder itself is trusted
like the site, and is no place for files of others.

What this module does not know: how a sheet is measured, what is ranked.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rmeval.errors import UsageError
from rmeval.leaderboard.pairs import Duel, Gap
from rmeval.leaderboard.shape import Cell, Entry, Null
from rmeval.leaderboard.sheet import Frame, Layout, Measured, Sheet, Submitted
from rmeval.leaderboard.submission import Declared
from rmeval.results import path_part, write_whole
from rmeval.suites import load_suite

FORMAT = 1


class Shelf:
    """Kept sheets of all suites. Without a folder it keeps nothing beyond its own life."""

    def __init__(self, folder: Path | None, say: Callable[[str], None] = lambda _: None) -> None:
        self.folder = folder
        self.frames: dict[str, Frame] = {}
        self.layouts: dict[str, Layout] = {}
        self._sheets: dict[str, list[Sheet]] = {}
        self._duels: dict[str, tuple[Duel, ...]] = {}
        self._written: dict[str, set[str]] = {}
        for file in sorted(folder.glob("*.npz")) if folder is not None and folder.is_dir() else []:
            try:
                self._load(file)
            except Exception as fault:  # noqa: BLE001 - whatever is wrong with it, it is made again
                say(f"{file}: kept score matrices cannot be read ({type(fault).__name__}): they are made again")

    def find(self, result: str) -> list[Sheet]:
        """The sheets of a result file with this sha256; its samples must be compared by who asks."""
        return self._sheets.get(result, [])

    def add(self, made: Measured) -> Sheet:
        """A new sheet."""
        if made.frame is not None:
            self.frames[made.sheet.frame] = made.frame
        if made.layout is not None:
            self.layouts[made.sheet.layout] = made.layout
        self._sheets.setdefault(made.sheet.result, []).append(made.sheet)
        return made.sheet

    def duels(self, key: str, make: Callable[[], tuple[Duel, ...]]) -> tuple[Duel, ...]:
        """The comparisons of the best entries, made where those of exactly these entries are not known."""
        if key not in self._duels:
            self._duels[key] = make()
        return self._duels[key]

    def keep(self, suite: str, sheets: Iterable[Sheet], duels: Iterable[str]) -> None:
        """Write what was used of a suite, and forget the rest. Does nothing where nothing changed."""
        used, compared = sorted(sheets, key=_key), sorted(set(duels))
        keys = {*(_key(s) for s in used), *compared}
        if self.folder is None or self._written.get(suite) == keys:
            return
        write_whole(self.folder / f"{path_part(suite)}.npz", self._packed(suite, used, compared))
        self._written[suite] = keys

    def _packed(self, suite: str, sheets: list[Sheet], duels: list[str]) -> bytes:
        arrays: dict[str, Any] = {}
        where: dict[str, list[Any]] = {}
        for i, sheet in enumerate(sheets):
            for kind, about, values in (
                ("credits", sheet.layout, sheet.credits),
                ("scores", sheet.scored, sheet.scores),
            ):
                if about:
                    where.setdefault(f"{kind}_{about}", []).append((i, values))
        rows = {name: [i for i, _ in members] for name, members in where.items()}
        for number, (name, members) in enumerate(sorted(where.items())):
            arrays[f"a{number}"] = np.stack([values for _, values in members])
            rows[name].insert(0, number)
        drawn = [zlib.compress(s.depth.encode(), 6) for s in sheets]
        ends = np.cumsum([len(one) for one in drawn], dtype=np.int64)
        meta = {
            "format": FORMAT,
            "code": code_digest(),
            "suite": suite,
            "card": _card_digest(suite),
            "sheets": [_plain(s) for s in sheets],
            "frames": {k: asdict(self.frames[k]) for k in sorted({s.frame for s in sheets if s.frame})},
            "layouts": {k: asdict(self.layouts[k]) for k in sorted({s.layout for s in sheets if s.layout})},
            "rows": rows,
            "duels": {key: [asdict(one) for one in self._duels[key]] for key in duels},
        }
        arrays["meta"] = np.frombuffer(zlib.compress(json.dumps(meta, ensure_ascii=False).encode(), 1), dtype=np.uint8)
        arrays["drawn"] = np.frombuffer(b"".join(drawn), dtype=np.uint8)
        arrays["ends"] = ends
        held = io.BytesIO()
        np.savez(held, **arrays)
        return held.getvalue()

    def _load(self, file: Path) -> None:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as held:
            meta = json.loads(zlib.decompress(held["meta"].tobytes()))
            if (meta["format"], meta["code"]) != (FORMAT, code_digest()) or meta["card"] != _card_digest(meta["suite"]):
                return
            arrays: list[dict[str, Any]] = [{} for _ in meta["sheets"]]
            for name, (number, *places) in meta["rows"].items():
                matrix = held[f"a{number}"]
                for place, row in zip(places, matrix, strict=True):
                    arrays[place][name.partition("_")[0]] = row
            drawn, starts = held["drawn"].tobytes(), [0, *held["ends"].tolist()]
        frames = {k: Frame(**{n: tuple(v) for n, v in one.items()}) for k, one in meta["frames"].items()}
        layouts = {
            k: Layout(tuple((name, tuple(keys)) for name, keys in one["leaves"])) for k, one in meta["layouts"].items()
        }
        sheets = []
        for i, (plain, own) in enumerate(zip(meta["sheets"], arrays, strict=True)):
            text = zlib.decompress(drawn[starts[i] : starts[i + 1]]).decode()
            sheets.append(replace(_sheet(plain), **own, depth=text))
        self._duels |= {key: tuple(map(_duel, found)) for key, found in meta["duels"].items()}
        self.frames |= frames
        self.layouts |= layouts
        for sheet in sheets:
            self._sheets.setdefault(sheet.result, []).append(sheet)
        self._written[meta["suite"]] = {*map(_key, sheets), *meta["duels"]}


@cache
def code_digest() -> str:
    """What a kept sheet depends on beside its files: every module and template of rmeval, and numpy's version."""
    root = Path(__file__).resolve().parents[1]
    running = hashlib.sha256(np.__version__.encode())
    for file in sorted(p for p in root.rglob("*") if p.suffix in {".py", ".html"}):
        running.update(f"{file.relative_to(root).as_posix()}\n".encode())
        running.update(file.read_bytes())
    return running.hexdigest()


def _card_digest(suite: str) -> str:
    try:
        found = load_suite(suite)
    except UsageError:
        return ""
    return hashlib.sha256(f"{found.card!r}\n{found.plan!r}".encode()).hexdigest()


def _key(sheet: Sheet) -> str:
    return f"{sheet.result} {sheet.samples} {sheet.sent.folder if sheet.sent else ''}"


_ARRAYS = ("credits", "scores", "depth")


def _plain(sheet: Sheet) -> dict[str, Any]:
    plain = {f.name: getattr(sheet, f.name) for f in fields(Sheet) if f.name not in _ARRAYS}
    plain["entry"] = asdict(sheet.entry) if sheet.entry else None
    plain["nulls"] = [asdict(one) for one in sheet.nulls]
    if sheet.sent:
        sent = sheet.sent
        plain["sent"] = {"folder": sent.folder, "declared": sent.declared.model_dump_json(), "flags": sent.flags}
    return plain


def _sheet(plain: Mapping[str, Any]) -> Sheet:
    entry, sent = plain["entry"], plain["sent"]
    return Sheet(
        **{
            **plain,
            "entry": _entry(entry) if entry else None,
            "nulls": tuple(Null(**one) for one in plain["nulls"]),
            "subsets": tuple(plain["subsets"]),
            "training_data": tuple(plain["training_data"]),
            "sent": Submitted(sent["folder"], Declared.model_validate_json(sent["declared"]), tuple(sent["flags"]))
            if sent
            else None,
        }
    )


def _entry(plain: Mapping[str, Any]) -> Entry:
    tuples = {name: tuple(plain[name]) for name in ("tied_with", "flags") if name in plain}
    ci = tuple(plain["ci"]) if plain["ci"] else None
    again = {"again": tuple(plain["again"])} if "again" in plain else {}
    cells = {name: Cell(**cell) for name, cell in plain["sections"].items()}
    return Entry(**{**plain, **tuples, **again, "ci": ci, "sections": cells})


def _duel(plain: Mapping[str, Any]) -> Duel:
    gaps = tuple(Gap(**{**gap, "ci": tuple(gap["ci"]) if gap["ci"] else None}) for gap in plain["gaps"])
    return Duel(**{**plain, "gaps": gaps})
