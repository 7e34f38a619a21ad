"""The samples file: one strict JSON row per example, gzipped, enough to compute every metric again without a model.

A row holds the fields of a `Judgement`, empty ones left out. A missing score is null and its reason stands in `reasons`
at the same place. Texts are never written. The bytes depend on the rows alone: no clock, no file name.

What this module does not know: the result file, suites, rules.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from rmeval import strict_json
from rmeval.errors import UsageError
from rmeval.metrics.table import Table, from_arrow, schema
from rmeval.records import Record, SamplesRecord, parse, say
from rmeval.types import NAN, Judgement, Verdict

MAX_BYTES = 512 * 2**20
"""Compressed size above which a samples file is not opened."""

Index = Annotated[int, Field(ge=0)]
Scores = tuple[float | None, ...]


class VerdictRow(Record):
    """One reading of a judge."""

    order: tuple[Index, ...] = Field(min_length=1)
    """Candidate indices as shown; a critic is shown one."""
    verdict: str | None
    """What was read, or null."""
    reason: str | None = None
    """Why the verdict is null."""
    p: tuple[float, ...] | None = None
    """Probability per candidate shown."""
    vote: Index = 0
    """Which of several readings of this order it is."""
    logmass: tuple[float, ...] | None = None
    """Log of the probability of each candidate shown, and last of a tie where the protocol has one."""
    bounded: bool = False
    """Whether one of them stands at its upper bound."""
    marked: bool = False
    """Whether what was shown holds what a judge's answer, a delimiter or a template is made of."""


class SampleRow(Record):
    """One example with its scores. Lists have one entry per candidate, in the suite's own order."""

    id: str = Field(min_length=1)
    """The example's id, unique in the suite."""
    subset: str
    """The official subset."""
    group: str = ""
    """The section or category above the subset."""
    cluster: str = ""
    """The prompt: examples that share it are resampled together."""
    grades: tuple[float, ...] = ()
    """The label: one grade per candidate, higher is better."""
    step_grades: tuple[tuple[int, ...], ...] = ()
    """The step labels: 1 right, 0 wrong, -1 not labelled."""
    scores: Scores = ()
    """One score per candidate; null where it is missing."""
    step_scores: tuple[Scores, ...] = ()
    """One list of step scores per candidate."""
    step_reasons: tuple[tuple[str | None, ...], ...] = ()
    """Why a step's score is missing; null where it is not."""
    prefix_scores: tuple[Scores, ...] = ()
    """The reward after each tenth of the response, one list per candidate."""
    verdicts: tuple[VerdictRow, ...] = ()
    """Every reading of a judge."""
    ratings: tuple[Scores, ...] = ()
    """One list of votes per candidate."""
    reasons: tuple[str | None, ...] = ()
    """Why a candidate's score is missing; null where it is not."""
    n_tokens: tuple[Index, ...] = ()
    """Tokens of each text before any truncation."""
    truncated: tuple[bool, ...] = ()
    """Whether each text was longer than the model was allowed to read."""
    marked: tuple[bool, ...] = ()
    """Whether what a judge that rates was shown of the candidate could be taken for its own answer."""
    lengths: tuple[Index, ...] = ()
    """Characters of each candidate."""
    markup: tuple[tuple[Index, Index, Index], ...] = ()
    """Headings, list items and bold spans of each candidate."""
    models: tuple[str, ...] = ()
    """Who wrote each candidate."""
    comparisons: tuple[tuple[Index, Index], ...] = ()
    """Pairs of candidates that the official metric compares."""
    votes: tuple[Annotated[int, Field(ge=-1)], ...] = ()
    """Per annotator, the candidate preferred; -1 for a tie."""
    slices: tuple[str, ...] = ()
    """Further groups that the example belongs to."""
    answers: tuple[Index, ...] = ()
    """The number of the final answer that each candidate came to; equal answers share one."""

    @model_validator(mode="after")
    def _is_sound(self) -> SampleRow:
        per_candidate = (
            *("grades", "step_grades", "scores", "step_scores", "step_reasons", "prefix_scores", "ratings"),
            *("reasons", "marked", "lengths", "markup", "models", "answers"),
        )
        counts = {name: len(getattr(self, name)) for name in per_candidate if getattr(self, name)}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{n} {name}" for name, n in counts.items())
            raise ValueError(f"candidates are counted differently: {said}")
        k = next(iter(counts.values()), 0)
        for verdict in self.verdicts:
            if len(set(verdict.order)) < len(verdict.order) or (k and max(verdict.order) >= k):
                raise ValueError(f"order {list(verdict.order)} does not name different candidates out of {k}")
            if verdict.p is not None and len(verdict.p) != len(verdict.order):
                raise ValueError(f"{len(verdict.p)} probabilities for {len(verdict.order)} candidates shown")
        if k and any(i >= k for i in (*self.votes, *(c for pair in self.comparisons for c in pair))):
            raise ValueError(f"votes or comparisons name a candidate beyond the {k} there are")
        for reasons, steps in zip(self.step_reasons, self.step_scores, strict=False):
            if len(reasons) != len(steps):
                raise ValueError(f"{len(reasons)} step reasons for {len(steps)} step scores")
        missing = [i for i, score in enumerate(self.scores) if score is None]
        if any(i >= len(self.reasons) or not self.reasons[i] for i in missing):
            raise ValueError("a missing score (null) needs its reason in `reasons`")
        if not (self.scores or self.step_scores or self.verdicts or self.ratings or any(self.reasons)):
            raise ValueError("neither scores, step_scores, verdicts or ratings, nor reasons why there are none")
        return self


def to_row(judgement: Judgement) -> SampleRow:
    """The row of a judgement. A judgement that could not be read back (see `SampleRow`) raises `ValueError`.

    >>> row = to_row(Judgement("a", "s", "", "c", (1.0, 0.0), scores=(0.5, NAN), reasons=(None, "truncated")))
    >>> row.scores, row.reasons
    ((0.5, None), (None, 'truncated'))
    """
    plain = {field.name: _nan_to_null(getattr(judgement, field.name)) for field in fields(Judgement)}
    plain["verdicts"] = tuple(
        VerdictRow(**{field.name: getattr(v, field.name) for field in fields(Verdict)}) for v in judgement.verdicts
    )
    try:
        return SampleRow(**plain)
    except ValidationError as error:
        said = "; ".join(say(fault, SampleRow) for fault in error.errors()[:3])
        raise ValueError(f"example {judgement.id!r} cannot be written: {said}") from None


def to_judgement(row: SampleRow) -> Judgement:
    """The judgement of a row: null becomes NaN."""
    content = {field.name: _null_to_nan(getattr(row, field.name)) for field in fields(Judgement)}
    content["verdicts"] = tuple(
        Verdict(**{field.name: getattr(v, field.name) for field in fields(Verdict)}) for v in row.verdicts
    )
    content |= {"reasons": row.reasons, "step_reasons": row.step_reasons}  # there null stays null
    return Judgement(**content)


def dump(judgements: Iterable[Judgement]) -> tuple[bytes, int]:
    """(gzipped JSON lines, number of rows); equal judgements give equal bytes."""
    seen = set()
    zipped = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # a header without time and name
    found = []
    for judgement in judgements:
        if judgement.id in seen:
            raise ValueError(f"example {judgement.id!r} stands twice")
        seen.add(judgement.id)
        found.append(zipped.compress(f"{to_row(judgement).model_dump_json(exclude_defaults=True)}\n".encode()))
    return b"".join((*found, zipped.flush())), len(seen)


def beside(held: SamplesRecord, path: Path) -> Path:
    """The samples file beside the result file `path`. `UsageError` where it is missing, or not what the result says."""
    found = path.parent / held.file
    if not found.is_file():
        raise UsageError(f"{found}: the samples of {path.name} are missing; keep both files together")
    if found.stat().st_size > MAX_BYTES:
        raise UsageError(f"{found}: larger than {MAX_BYTES >> 20} MiB")
    with found.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if digest != held.sha256:
        raise UsageError(f"{found}: altered: its sha256 is not the one that {path.name} states")
    return found


def load(path: Path, rows: int) -> tuple[Judgement, ...]:
    """The judgements of a samples file that must hold exactly `rows` rows. `UsageError` names the line of a fault."""
    found: list[Judgement] = []
    lines: dict[str, int] = {}
    for number, value in strict_json.read_lines(path):
        where = f"{path} line {number}"
        if len(found) == rows:
            raise UsageError(f"{where}: more rows than the {rows} that the result file states")
        row = parse(SampleRow, value, where)
        if row.id in lines:
            raise UsageError(f"{where}: id {row.id!r} stands in line {lines[row.id]} already")
        lines[row.id] = number
        found.append(to_judgement(row))
    if len(found) != rows:
        raise UsageError(f"{path}: {len(found)} rows, but the result file states {rows}")
    return tuple(found)


def load_table(path: Path, rows: int) -> Table | None:
    """The same as columns, at a tenth of the time and memory; None where a row is not plain or anything is amiss.

    What `load` refuses is never read here: whatever looks odd is left to `load`, which says what it is.
    """
    import pyarrow as pa
    from pyarrow import json as arrow_json

    parse = arrow_json.ParseOptions(explicit_schema=schema(), unexpected_field_behavior="error")
    found, seen, rest = [], 0, b""
    with strict_json.open_bytes(path) as handle:
        while True:
            try:
                more = handle.read(_BLOCK)
            except strict_json.UNREADABLE:
                return None
            if not more:
                break
            whole, newline, rest = (rest + more).rpartition(b"\n")
            if len(rest) > _BLOCK:
                return None
            block = whole + newline
            lines = block.count(b"\n")
            # each line is one object and begins one; a null stands in lists alone
            if not block:
                continue
            if not block.startswith(_START) or block.count(b"}\n" + _START) != lines - 1 or not _nulls_in_lists(block):
                return None
            reading = arrow_json.ReadOptions(block_size=2 * len(block), use_threads=False)
            try:
                found.append(arrow_json.read_json(pa.BufferReader(block), reading, parse))
            except (pa.ArrowInvalid, UnicodeDecodeError):
                return None
            seen += len(found[-1])
            if len(found[-1]) != lines or seen > rows:
                return None
    if rest or seen != rows:
        return None
    try:
        return from_arrow(pa.concat_tables(found))
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None


_BLOCK = 16 * 2**20
_START = b'{"id":"'


def _nulls_in_lists(block: bytes) -> bool:
    """Whether each null follows a bracket or a comma, and so stands in a list; one in a text counts as elsewhere."""
    return block.count(b"null") == block.count(b"[null") + block.count(b",null")


def _nan_to_null(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_nan_to_null(item) for item in value)
    return None if isinstance(value, float) and math.isnan(value) else value


def _null_to_nan(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_null_to_nan(item) for item in value)
    return NAN if value is None else value
