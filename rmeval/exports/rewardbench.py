"""RewardBench's result files, as its scripts write them and its leaderboard reads them, in upstream's own folders.

    eval-set/<org>/<model>.json            accuracy by subset, and model, model_type, chat_template
    eval-set-scores/<org>/<model>.json     columns: id, subset, results and scores; `rmeval import rewardbench` reads it

Pairs have the columns `scores_chosen` and `scores_rejected` of RewardBench; more candidates have `scores` (the right
ones first) and `num_correct` of RewardBench 2, which `rmeval import rewardbench2` reads. Texts are left out. Source:
`scripts/run_rm.py`, `scripts/run_v2.py` and `rewardbench/utils.py` of allenai/reward-bench at 045c7f8.

What this module does not know: how sections are weighed; upstream's board does that from the subsets.
"""

from __future__ import annotations

import json
import math
from typing import Any

from rmeval.errors import UsageError
from rmeval.exports.exported import Exported, Told
from rmeval.metrics.verdicts import tie_credit, winners
from rmeval.records import Result
from rmeval.results import ResultView, path_part
from rmeval.types import Judgement

BOARDS = ("reward-bench", "reward-bench-2")
"""Suites that upstream has a board of."""
_TYPES = {"scalar": "Seq. Classifier", "implicit": "DPO", "judge": "Generative"}
"""Kind -> what upstream calls it; any other is called by its own name."""


def rewardbench(view: ResultView, told: Told) -> Exported:
    """Accuracies by subset, and scores by example. Raises `UsageError` for results that these columns cannot hold."""
    del told
    result, rows = view.result, view.judgements
    if result.metric_options:
        said = ", ".join(f"{key}={value}" for key, value in result.metric_options.items())
        raise UsageError(f"--to rewardbench: the numbers are of other rules than the official ones ({said})")
    pairs = all(len(j.grades) == 2 for j in rows)
    columns = _pairs(rows) if pairs else _lists(rows)
    about = {
        "model": result.model.name,
        "model_type": _TYPES.get(result.model.kind, result.model.kind),
        "chat_template": _template(result),
    }
    named = {m.subset: m.value for m in reversed(result.metrics) if m.name == result.headline.name and m.subset}
    present = sorted({j.subset for j in rows})
    known = {subset: named[subset] for subset in present if named.get(subset) is not None}
    notes = []
    if len(known) < len(present):
        lacking = ", ".join(repr(subset) for subset in present if subset not in known)
        notes.append(f"left out of eval-set, since this result has no {result.headline.name} of them: {lacking}")
    if result.suite.name not in BOARDS:
        notes.append(f"RewardBench's board does not know the subsets of {result.suite.name}")
    if not result.complete:
        notes.append("this result is not of the whole suite; upstream's board takes what is not there for zero")
    path = "/".join(path_part(part) for part in result.model.name.split("/") if part)
    files = {"eval-set": {**known, **about}, "eval-set-scores": {**columns, **about}}
    return Exported(
        {
            f"{folder}/{path}.json": json.dumps(content, indent=4, sort_keys=True, allow_nan=False).encode()
            for folder, content in files.items()
        },
        tuple(notes),
    )


def _pairs(rows: tuple[Judgement, ...]) -> dict[str, list[Any]]:
    columns = _columns(rows) | {name: [] for name in ("scores_chosen", "scores_rejected", "results")}
    for j in rows:
        if j.grades[0] <= j.grades[1]:
            raise UsageError(f"--to rewardbench: example {j.id!r} does not have its chosen response first")
        chosen, rejected, result = _judged(j) if j.verdicts else _scored(j)
        columns["scores_chosen"].append(chosen)
        columns["scores_rejected"].append(rejected)
        columns["results"].append(result)
    return columns


def _scored(j: Judgement) -> tuple[float | None, float | None, int | None]:
    """Scores of the chosen and the rejected response, and whether the chosen one has more; a tie is lost."""
    chosen, rejected = _scores(j)
    return chosen, rejected, None if chosen is None or rejected is None else int(chosen > rejected)


def _judged(j: Judgement) -> tuple[None, None, float]:
    """A judge's choice as upstream has it: 1, 0, and 0.5 for a tie or an answer that could not be read."""
    if len(j.verdicts) != 1:
        raise UsageError(
            f"--to rewardbench: example {j.id!r} has {len(j.verdicts)} readings of a judge, and these files hold one. "
            "A run with -a judge.orders=single has one"
        )
    favoured = winners(j.verdicts[0], j.id)
    if favoured is None or len(favoured) > 1:
        return None, None, 0.5
    return None, None, float(favoured == {0})


def _lists(rows: tuple[Judgement, ...]) -> dict[str, list[Any]]:
    columns = _columns(rows) | {name: [] for name in ("scores", "num_correct", "results")}
    for j in rows:
        scores = _scores(j)
        right = sum(grade == max(j.grades, default=0) for grade in j.grades)
        if list(j.grades) != sorted(j.grades, reverse=True) or right == len(j.grades):
            raise UsageError(f"--to rewardbench: example {j.id!r} does not have its right responses first")
        best = max((s for s in scores if s is not None), default=None)
        top = frozenset(i for i, score in enumerate(scores) if score == best)
        credit = None if None in scores else tie_credit(top, frozenset(range(right)), "fraction")
        columns["scores"].append(scores)
        columns["num_correct"].append(right)
        columns["results"].append(credit)
    return columns


def _scores(j: Judgement) -> list[float | None]:
    if len(j.scores) != len(j.grades):
        raise UsageError(
            f"--to rewardbench: example {j.id!r} has no score per response, which is what these files hold"
        )
    return [None if math.isnan(score) else score for score in j.scores]


def _columns(rows: tuple[Judgement, ...]) -> dict[str, list[Any]]:
    """Ids are whole numbers upstream; where one is not, all are texts, since a column has one type."""
    numbers = all(j.id.isascii() and j.id.isdigit() and str(int(j.id)) == j.id for j in rows)
    return {"id": [int(j.id) if numbers else j.id for j in rows], "subset": [j.subset for j in rows]}


def _template(result: Result) -> str:
    """Upstream says `tokenizer` where the checkpoint's own chat template wrote the texts."""
    written = result.text.template if result.text else "none"
    return {"checkpoint": "tokenizer", "ours": "rmeval plain", "none": "none"}[written]
