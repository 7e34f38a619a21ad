"""Rows in files that are no plain JSON: packed by gzip, CSV, parquet, and samples that are read as columns."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
import zlib
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import fuzz_mutations as mutations
from fuzz_driving import REFUSED, Target, attempt
from fuzz_files import rows_of, written

from rmeval import samples
from rmeval.importers.rows import read_tables
from rmeval.readers.rows import Row, read_file
from rmeval.types import NAN, Judgement, Verdict

ROWS = (
    {"id": "01", "prompt": "What is 2 + 2?", "chosen": "4, of course", "rejected": 'It is "5"', "subset": "NA"},
    {"id": "02", "prompt": "Hi\nthere", "chosen": "", "rejected": "Go\u00e9", "subset": "None"},
    {"id": "03", "prompt": "a", "chosen": "1e5", "rejected": "b" * 40, "subset": "x"},
)
MOST_CELLS = 10_000


# --- gzip ------------------------------------------------------------------------------------------------------------


@cache
def _bombs() -> tuple[bytes, ...]:
    """A hundred kilobytes each that unpack to a hundred megabytes: blank lines, brackets, one long line, one text."""
    size = 100 * 2**20
    return tuple(
        gzip.compress(start + letter * size, 9, mtime=0)
        for start, letter in ((b"", b"\n"), (b"", b"["), (b"", b"{}\n"[:1]), (b'[{"a":"', b"x"), (b"", b"1\n"))
    )


def _spoilt_bytes(draw: random.Random, content: bytes) -> bytes:
    """Bytes with one to four changes."""
    made = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at, kind = draw.randrange(len(made) + 1), draw.randrange(6)
        if kind == 0:
            del made[at:]
        elif kind == 1:
            del made[at : at + draw.choice((1, 4, 20))]
        elif kind == 2:
            made[at:at] = made[at : at + draw.choice((1, 4, 100))]
        elif kind == 3:
            made[at : at + 4] = draw.choice(
                (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\x80\x80\x80\x80")
            )
        elif made:
            made[min(at, len(made) - 1)] ^= 1 << draw.randrange(8)
    return bytes(made)


def _packed_case(draw: random.Random) -> str:
    suffix = draw.choice(("jsonl", "jsonl", "json"))
    if draw.random() < 0.0005:  # each takes a fifth of a second
        return f"{suffix}\n{mutations.from_bytes(draw.choice(_bombs()))}"
    lines = [mutations.as_json(mutations.value(draw, row) if draw.random() < 0.3 else row) for row in ROWS]
    text = "\n".join(lines) if suffix == "jsonl" else f"[{','.join(lines)}]"
    content = gzip.compress(mutations.as_bytes(text), draw.choice((0, 1, 9)), mtime=0)
    content = content * draw.choice((1, 1, 1, 2))
    return f"{suffix}\n{mutations.from_bytes(_spoilt_bytes(draw, content) if draw.random() < 0.8 else content)}"


def _packed(case: str) -> bool:
    suffix, _, content = case.partition("\n")
    if suffix not in ("json", "jsonl"):
        return False
    path = written(content, f"packed/rows.{suffix}.gz")
    attempt(read_tables, [path])
    rows = attempt(read_file, path, path.name)
    if rows is REFUSED:
        return False
    try:
        plain = gzip.decompress(mutations.as_bytes(content))
    except (OSError, EOFError, zlib.error) as fault:
        raise AssertionError("what no gzip is was read") from fault
    again = attempt(read_file, written(mutations.from_bytes(plain), f"packed/rows.{suffix}"), path.name)
    assert [row.values for row in rows] == [row.values for row in again]
    return True


# --- CSV, parquet ----------------------------------------------------------------------------------------------------


@cache
def _csv() -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=list(ROWS[0]))
    table.writeheader()
    table.writerows(ROWS)
    return text.getvalue()


def _csv_case(draw: random.Random) -> str:
    return mutations.text(draw, _csv(), (",", '"', '""', "\n", "\r\n", '"\n', "id", ",,"))


def _csv_file(case: str) -> bool:
    rows = rows_of(case, "table.csv")
    if rows is REFUSED:
        return False
    assert all(isinstance(cell, str) for row in rows for cell in row.values.values())
    assert len({tuple(row.values) for row in rows}) <= 1, "rows of other columns"
    return True


@cache
def _parquets() -> tuple[bytes, ...]:
    """Small sound files, packed in several ways."""
    import pyarrow as pa
    from pyarrow import parquet

    nested = [
        {**row, "n": i, "x": i / 3, "turns": [{"role": "user", "content": "Hi"}] * i} for i, row in enumerate(ROWS)
    ]
    found = []
    for rows in (list(ROWS), nested):
        for options in (
            {"compression": "none"},
            {"compression": "snappy"},
            {"compression": "gzip"},
            {"compression": "zstd", "use_dictionary": False},
            {"compression": "none", "use_dictionary": False, "data_page_version": "2.0"},
        ):
            content = io.BytesIO()
            parquet.write_table(pa.Table.from_pylist(rows), content, **options)
            found.append(content.getvalue())
    return tuple(found)


def _parquet_case(draw: random.Random) -> str:
    return mutations.from_bytes(_spoilt_bytes(draw, draw.choice(_parquets())))


def _parquet(case: str) -> bool:
    path = written(case, "table.parquet")
    rows = attempt(read_file, path, path.name)
    if rows is REFUSED:
        return False
    assert len(rows) <= path.stat().st_size
    assert all(isinstance(row, Row) and all(isinstance(key, str) for key in row.values) for row in rows)
    return True


# --- samples as columns ----------------------------------------------------------------------------------------------


@cache
def _lines() -> tuple[dict[str, Any], ...]:
    rows = (
        Judgement("a", "s", "", "c", (1.0, 0.0), scores=(0.5, 0.25), lengths=(10, 12)),
        Judgement("b", "s", "", "d", (1.0, 0.0), scores=(0.5, NAN), reasons=(None, "truncated"), models=("x", "y")),
        Judgement("c", "t", "", "e", (1.0, 0.0), scores=(1.0, 2.0), verdicts=(Verdict((0, 1), "A"),)),
        Judgement("d", "t", "g", "f", (1.0, 0.0, 0.5), scores=(-1.0, 1e300, 5e-324)),
    )
    return tuple(map(json.loads, gzip.decompress(samples.dump(rows)[0]).splitlines()))


def _samples_case(draw: random.Random) -> str:
    words = ("id", "scores", "grades", "reasons", "null", "cluster", "subset", "verdicts", "lengths")
    lines = [
        json.dumps(row, separators=(",", ":"))
        if draw.random() < 0.6
        else mutations.as_json(mutations.value(draw, row, words)).replace(": ", ":").replace(", ", ",")
        for row in draw.choices(_lines(), k=draw.choice((1, 2, 3)))
    ]
    case = "\n".join(line.replace('"id":"', f'"id":"{i}', 1) for i, line in enumerate(lines)) + "\n"
    return mutations.text(draw, case, words) if draw.random() < 0.3 else case


def _samples(case: str) -> bool:
    """Both ways to read samples: the quick one says nothing, or what the other says."""
    path = written(case, "samples.jsonl")
    rows = case.count("\n") + bool(case.rpartition("\n")[2])
    read = attempt(partial(samples.load, path), rows)
    table: Sequence[Judgement] | None = samples.load_table(path, rows)
    if read is REFUSED:
        assert table is None, "read as columns, and refused as rows"
        return False
    assert table is None or _shown(table) == _shown(read), "other rows as columns"
    return table is not None


def _shown(rows: Sequence[Judgement]) -> str:
    """With NaN equal to itself, and without the sign of zero: `-0` is a whole number, which has none."""
    return re.sub(r"-(0\.0)\b", r"\1", repr(tuple(rows)))


TARGETS = (
    Target("rows packed by gzip", _packed_case, _packed),
    Target("CSV file of rows", _csv_case, _csv_file),
    Target("parquet file of rows", _parquet_case, _parquet, forked=True),
    Target("samples as columns", _samples_case, _samples, forked=True),
)
