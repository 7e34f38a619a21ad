"""Published per-item outputs, as `rmeval import` takes them: every format, as a list, as lines, as columns."""

from __future__ import annotations

import random
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import fuzz_mutations as mutations
from fuzz_driving import REFUSED, Target, attempt
from fuzz_files import written

sys.path.append(str(Path(__file__).resolve().parent.parent / "importers"))
import published_shapes as shapes

from rmeval import samples
from rmeval.gather import recorded
from rmeval.importers.imported import Published
from rmeval.plugins import IMPORTERS
from rmeval.published import named
from rmeval.suites import load_suite
from rmeval.types import Example

PLACES = {
    "rm-bench": "total_dataset_acme-rm.json",
    "rmb": "acme-rm_result.json",
    "judgebench": "dataset=judgebench,response_model=gpt,judge_name=arena_hard,judge_model=acme.json",
    "llmbar": "Natural/evaluators/judge-1/CoT/result.json",
    "ppe": "human_preference_v1/Acme-RM.json",
}
"""Where a file of a format lies, where that says something."""
WORDS = (
    "id", "subset", "model", "scores", "score", "scores_chosen", "scores_rejected", "results", "text", "num_correct", "null",
    "winner", "decision", "judgment", "A>B", "A=B", "swap = True", "score_1", "score_2", "pred_score", "idx", "pair_uid",
    "chosen_position", "is_correct", "chosen_reward", "question_id", "domain", "category_path", "model-0", "0.5", "[1]",
)  # fmt: skip


@cache
def _importer(form: str) -> Any:
    return IMPORTERS.get(form)


@cache
def _examples(form: str) -> tuple[Example, ...]:
    suite = shapes.NAMED.get(form, "ppe-human")
    if form == "rewardmath":  # its file holds the suite as well
        path = written(mutations.as_json(_documents(form)[0]), "import/rewardmath-examples.json")
        return load_suite("rewardmath").load(path).examples
    found = shapes.examples(suite)
    return tuple(one for one in found if one.subset == "Natural") if form == "llmbar" else found


@cache
def _documents(form: str) -> tuple[Any, ...]:
    """Sound files of a format, of one kind each."""
    if form == "rewardbench":
        judged = [{k: v for k, v in row.items() if "scores" not in k} for row in shapes.rewardbench_rows()]
        plain, nested = shapes.rewardbench_rows()[:3], shapes.rewardbench_rows(nested=True)[:3]
        return plain, judged[:3], shapes.columns(nested, **shapes.RB_ABOUT)
    if form == "rewardbench2":
        rows = shapes.rewardbench2_rows()[:3]
        return rows, shapes.columns(rows, **shapes.RB_ABOUT)
    if form == "judgebench":
        n = len(shapes.sample_rows("judgebench"))
        return tuple(
            shapes.judgebench_rows([said] * n)[:2] for said in (["A>B", "B>A"], ["A=B", "none at all"], ["A>B"])
        )
    if form == "rewardmath":
        scores, steps = [[*range(10)], [[0.5]] * 9 + [None]], [[[0.9, 0.5]] * 10, [[0.5]] * 8 + [[], [0.25]]]
        pairs = shapes.rewardmath_rows([["A"] * 9, ["B"] * 8 + [None]])
        places = {"solution_reference": shapes.WRITERS[1:], "chosen_position": [*"ABABABABA"]}
        return shapes.rewardmath_rows(scores), shapes.rewardmath_rows(steps), [{**row, **places} for row in pairs]
    if form == "ppe":
        return ([{"question_id": one.id, "score_1": [0.5], "score_2": -1} for one in _examples(form)[:3]],)
    if form == "llmbar":
        reading = {f"swap = {swap}": {"completion": ["a", "stop"], "winner": "1"} for swap in (False, True)}
        return ([{"results": [["text", "stop"], reading]} for _ in _examples(form)],)
    made = {"rm-bench": shapes.rm_bench_rows, "rmb": shapes.rmb_rows}
    return ((made[form]() if form in made else shapes.sample_rows(shapes.NAMED[form]))[:3],)


def _case(draw: random.Random, form: str) -> str:
    document = mutations.value(draw, draw.choice(_documents(form)), WORDS)
    if isinstance(document, list) and draw.random() < 0.3:
        case = "jsonl\n" + "\n".join(map(mutations.as_json, document))
    else:
        case = "json\n" + mutations.as_json(document)
    return mutations.text(draw, case, WORDS) if draw.random() < 0.1 else case


def _import(case: str, form: str) -> bool:
    kind, _, content = case.partition("\n")
    if kind not in ("json", "jsonl"):
        return False
    place = PLACES.get(form, "acme-rm.json")
    path = written(content, f"import/{form}/{place if kind == 'json' or form == 'llmbar' else f'{place}l'}")
    examples = _examples(form)
    found = attempt(_importer(form), [path], examples)
    if found is REFUSED or attempt(named, form, found, None) is REFUSED:
        return False
    assert {*found.rows} <= {one.id for one in examples}, "an example that is none of the suite's"
    recording = Published(form, found)
    for one in (one for one in examples if one.id in found.rows or one is examples[0]):
        judgement = recorded(one, recording)
        k = len(one.candidates)
        assert len(judgement.scores) in (0, k)
        assert len(judgement.step_scores) in (0, k)
        assert all(set(verdict.order) <= {*range(k)} for verdict in judgement.verdicts)
        samples.to_row(judgement)
    return True


TARGETS = tuple(
    Target(f"import: {form}", partial(_case, form=form), partial(_import, form=form)) for form in (*shapes.NAMED, "ppe")
)
