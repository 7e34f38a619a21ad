"""One row per example and candidate, as CSV or parquet; and a whole result as one JSON document.

The columns are those of `ResultView.to_pandas`. Where a judge answered, `score` is what its verdicts or ratings come to
(share of the comparisons won, mean of the votes) and `conversion` says so; the verdicts themselves stand in the JSON.
A missing score is an empty cell with its reason beside it.

What this module does not know: rules, headlines, boards.
"""

from __future__ import annotations

import csv as table
import io
import json as notation
import math
from typing import TYPE_CHECKING, Any

from rmeval.exports.exported import Exported, Told
from rmeval.metrics.convert import scores_of
from rmeval.results import ResultView, to_dict
from rmeval.samples import to_row

if TYPE_CHECKING:
    import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def frame(view: ResultView) -> pd.DataFrame:
    """One row per example and candidate; a judge's verdicts or ratings converted to a score where that is sound."""
    rows = view.to_pandas()
    if "reason" not in rows:  # nothing is missing, which a reader of the columns should see too
        rows["reason"] = None
    judged = [j for j in view.judgements if (j.verdicts or j.ratings) and not j.scores and j.grades]
    if judged:
        found = {j.id: scores_of(j) for j in judged}
        places = list(zip(rows["id"], rows["candidate"], strict=True))
        before = rows["score"] if "score" in rows else [math.nan] * len(rows)
        rows["score"] = [
            found[key].values[i] if key in found else score  # noqa: PD011 - of a `Scored`
            for (key, i), score in zip(places, before, strict=True)
        ]
        rows["conversion"] = [found[key].how if key in found else "" for key, _ in places]
    return rows


def csv(view: ResultView, told: Told) -> Exported:
    """The rows as CSV (RFC 4180, UTF-8). A text that a spreadsheet would run as a formula begins with an apostrophe."""
    del told
    rows = frame(view)
    out = io.StringIO(newline="")
    write = table.writer(out, lineterminator="\r\n")
    write.writerow(rows.columns)
    write.writerows(map(cell, row) for row in rows.itertuples(index=False, name=None))
    return Exported({"": out.getvalue().encode()})


def cell(value: Any) -> str:
    """One CSV cell: numbers as Python writes them, nothing for a missing one, lists as JSON, texts made inert.

    >>> cell("=cmd|' /C calc'!A0"), cell(-0.5), cell(float("nan")), cell((0.5, float("nan")))
    ("'=cmd|' /C calc'!A0", '-0.5', '', '[0.5, null]')
    """
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    if isinstance(value, tuple | list):
        return notation.dumps(_plain(value), allow_nan=False)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value)


def parquet(view: ResultView, told: Told) -> Exported:
    """The rows as parquet: lists stay lists, a missing score is NaN."""
    del told
    rows = frame(view)
    for name in rows.columns:
        if rows[name].dtype == object:  # pandas fills what is not there with NaN, which is neither a text nor a list
            rows[name] = [None if isinstance(value, float) else value for value in rows[name]]
    out = io.BytesIO()
    rows.to_parquet(out, index=False)
    return Exported({"": out.getvalue()})


def json(view: ResultView, told: Told) -> Exported:
    """`{"result": ..., "samples": [...]}`: the result file and the rows of its samples file in one JSON document."""
    del told
    rows = [notation.loads(to_row(j).model_dump_json(exclude_defaults=True)) for j in view.judgements]
    whole = {"result": to_dict(view.result), "samples": rows}
    return Exported({"": (notation.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()})


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
