"""Rows of every schema: of suites through each reader, of a training, of `rmeval score`, pools, replays."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import fuzz_mutations as mutations
from fuzz_driving import REFUSED, Target, attempt
from fuzz_files import rows_of, written

from rmeval import strict_json
from rmeval.content import content_folder
from rmeval.plugins import READERS as READERS_BY_NAME
from rmeval.policy import monte_carlo, rollouts
from rmeval.policy.completions import prompts_of
from rmeval.probes.pool import read_pool, to_json
from rmeval.readers.layouts import _gathered, _prepared, from_path
from rmeval.readers.responses import read_responses
from rmeval.readers.rows import Row, _is_unicode, skipping
from rmeval.scorers.replay import Replay
from rmeval.suites import Suite, _all, load_suite
from rmeval.training import rows as training

WORDS = (
    "id", "prompt", "chosen", "rejected", "role", "content", "user", "assistant", "system", "label", "subset", "responses",
    "steps", "labels", "scores", "messages", "completions", "gold", "rewards", "\n\nHuman: a\n\nAssistant: b", "1", "-1",
    "first_error", "error_steps", "Step 1", "correct", "incorrect", "votes", "models", "<|channel|>final<|message|>",
)  # fmt: skip

READERS = {
    "pairs": ("pairs", "hh-rlhf", "reward-bench"),
    "labelled_pairs": ("llmbar", "ppe-human", "judgebench"),
    "graded_list": ("helpsteer2", "qwen25math-bon"),
    "best_of_k": ("rmb", "reward-bench-2"),
    "style_matrix": ("rm-bench",),
    "marked_list": ("rewardmath",),
    "steps": ("steps", "prmbench", "bigbench-mistake"),
    "mr_ben": ("mr-ben",),
    "sample_pools": ("prm800k-bon",),
}
"""Reader -> suites whose rows it reads."""


@cache
def _suite(name: str) -> Suite:
    return load_suite(name)


@cache
def _lines(name: str) -> tuple[Any, ...]:
    text = (content_folder("suites") / name / "sample.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines())


@cache
def _layout(name: str) -> Any:
    """The layout in which the few rows lie that we have of a suite."""
    return from_path(content_folder("suites") / name / "sample.jsonl", _suite(name).card).layout


def _of_reader(draw: random.Random, reader: str) -> str:
    name = draw.choice(READERS[reader])
    gathered = _layout(name).gather is not None
    return f"{name}\n{_jsonl(draw, _lines(name), whole=gathered)}"


def _jsonl(draw: random.Random, rows: tuple[Any, ...], words: tuple[str, ...] = WORDS, *, whole: bool = False) -> str:
    """A few of the rows, some spoilt, as lines or as one list."""
    chosen = list(rows) if whole else draw.sample(rows, k=min(len(rows), draw.choice((1, 2, 2, 3))))
    spoilt = draw.randrange(len(chosen))
    lines = [
        mutations.as_json(mutations.value(draw, row, words) if i == spoilt or draw.random() < 0.1 else row)
        for i, row in enumerate(chosen)
    ]
    case = "[" + ",\n".join(lines) + "]" if draw.random() < 0.15 else "\n".join(lines) + "\n"
    return mutations.text(draw, case, words) if draw.random() < 0.15 else case


def _read(case: str) -> bool:
    """What a reader makes of rows; the file that they come in is another parser's."""
    name, _, content = case.partition("\n")
    if name not in {suite for suites in READERS.values() for suite in suites}:
        return False  # what is left of a case that was made smaller
    made = []
    for number, line in enumerate(mutations.as_bytes(content).splitlines(), 1):
        value = attempt(strict_json.loads, line, f"line {number}")
        if isinstance(value, dict) and _is_unicode(value):
            made.append(Row(value, f"line {number}"))
    data = attempt(_examples, name, made)
    if data is REFUSED:
        with skipping():
            attempt(_examples, name, made)
        return False
    assert len({one.id for one in data.examples}) == len(data.examples), "an id twice"
    for one in data.examples:
        assert len(one.candidates) == len(one.labels.grades)
        assert all(abs(grade) < float("inf") for grade in one.labels.grades)
    return True


@cache
def _reader(name: str) -> Any:
    return READERS_BY_NAME.get(name)


def _examples(name: str, made: list[Row]) -> Any:
    suite, layout = _suite(name), _layout(name)
    there = _gathered(list(_prepared(made, layout, "rows.jsonl", {})), layout)
    found, notes = _all(_reader(suite.card.reader)(there, suite.card, layout, 0))
    return suite._checked(found, "file", layout, None, notes)


def _file_case(draw: random.Random) -> str:
    name = draw.choice(("pairs", "steps", "llmbar"))
    case = _jsonl(draw, _lines(name))
    return mutations.text(draw, case, ("[", "]", "{", "}", '"', ",", "\n", "\r\n")) if draw.random() < 0.8 else case


def _file(case: str) -> bool:
    rows = rows_of(case, "file.jsonl")
    if rows is REFUSED:
        return False
    assert json.loads(json.dumps([row.values for row in rows], allow_nan=False)) == [row.values for row in rows]
    return True


# --- training --------------------------------------------------------------------------------------------------------

_TURNS = [{"role": "user", "content": "What is 2 + 2?"}]
_ANSWERS = [[*_TURNS, {"role": "assistant", "content": text}] for text in ("It is 4.", "It is 5.")]
TRAINING: dict[str, tuple[Callable[[Path], Any], tuple[Any, ...]]] = {
    "pairs": (
        training.read_comparisons,
        (
            {"id": "a", "prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5", "margin": 0.5, "group": "g"},
            {"prompt": _TURNS, "chosen": "4", "rejected": "5"},
            {"chosen": _ANSWERS[0], "rejected": _ANSWERS[1]},
            {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: Go"},
        ),
    ),
    "ranked": (
        training.read_rankings,
        (
            {"id": 7, "prompt": "Hi", "responses": ["a", "b", "c"], "ranking": [2, 0, 1]},
            {"prompt": _TURNS, "responses": ["a", "b"], "scores": [0.5, 2]},
        ),
    ),
    "outcomes": (
        training.read_outcomes,
        (
            {"prompt": "Hi", "response": "4", "label": 1},
            {"prompt": "Hi", "completions": ["4", "5"], "labels": [True, False]},
            {"prompt": "Hi", "completions": ["4", "5"], "gold": [1, 0]},
        ),
    ),
    "steps": (
        partial(training.read_steps, label_scale="ternary"),
        (
            {"prompt": "Hi", "steps": ["a", "b"], "labels": [1, -1]},
            {"prompt": "Hi", "steps": ["a", "b"], "labels": [True, None]},
            {"prompt": "Hi", "steps": ["a", "b"], "mc": [[3, 4], [0, 4]]},
            {"prompt": "Hi", "completions": ["a", "b"], "labels": [True, False]},
        ),
    ),
    "returns": (
        training.read_returns,
        (
            {"prompt": "Hi", "response": "4", "reward": 0.25},
            {"prompt": "Hi", "response": "4", "token_rewards": [0, 0.5]},
        ),
    ),
    "dialogues": (training.read_dialogues, ({"messages": _ANSWERS[0]}, {"prompt": "Hi", "response": "4"})),
}


def _trains(case: str, kind: str) -> bool:
    read, _ = TRAINING[kind]
    found = attempt(read, written(case, "train.jsonl"))
    if found is REFUSED:
        return False
    assert training.data_digest(found)
    return True


_STEP = {"completions": [{"text": "a", "rating": 1}, {"text": "b", "rating": -1}], "chosen_completion": 0}
OTHERS: dict[str, tuple[Any, ...]] = {
    "pairs": (
        {"prompt": "Hi", "completions": ["4", "5"], "rewards": [0.5, 1]},
        {"prompt": "Hi", "response": "4", "rating": 3},
        {"prompt": "Hi", "response": "5", "rating": 1},
        {"prompt": "Hi", "answers": [{"answer": "4", "rank": 1}, {"answer": "5", "rank": 2}]},
    ),
    "outcomes": (
        {"prompt": "Hi", "completion": "4", "label": True},
        {
            "question": "Hi",
            "6b_finetuning": {"is_correct": True, "solution": "4"},
            "175b_verification": {"is_correct": False, "solution": "5"},
        },
    ),
    "steps": (
        {"prompt": "Hi", "completions": ["a", "b"], "labels": [True, False]},
        {"question": {"problem": "Hi"}, "label": {"steps": [_STEP, {**_STEP, "human_completion": None}]}},
        {
            "input": "Hi Step 1: a \u043a\u0438\nStep 2: b \u043a\u0438",
            "label": "Hi Step 1: a +\nStep 2: b -",
            "task": "x",
        },
        {"problem": "Hi", "steps": ["a", "b"], "label": 1},
        {"input": "Hi", "steps": ["a", "b"], "mistake_index": None},
        {"modified_question": "Hi", "modified_process": ["a", "b"], "error_steps": [2], "idx": 3},
        {
            "Question_UUID": "u",
            "Sampled_Model": "m",
            "Question": "Hi",
            "Options": ["A"],
            "Model_Solution_Steps": ["Step 1: a", "Step 2: b"],
            "Model_Solution_Correctness": "incorrect",
            "Model_Solution_First_Error_Step": 2,
        },
    ),
    "dialogues": ({"prompt": _TURNS, "completion": [{"role": "assistant", "content": "4"}]},),
}
"""Rows of other projects, by the kind of training that adapts them."""


def _others_case(draw: random.Random) -> str:
    kind = draw.choice(("pairs", "outcomes", "steps", "steps", "steps", "dialogues"))
    row = draw.choice(OTHERS[kind])
    words = (*WORDS, *row)
    return f"{kind}\n{_jsonl(draw, (row, row), words)}"


def _others(case: str) -> bool:
    kind, _, content = case.partition("\n")
    return kind in OTHERS and _trains(content, kind)


_COUNTED = (
    {"prompt": "Hi", "steps": ["a", "b"], "counts": [[3, 4], None]},
    {"prompt": "Hi", "steps": ["a", "b"], "mc": [[0, 4], [1, 1]]},
    {"prompt": "Hi", "steps": ["a"], "answer": "4", "counts": [[1, 2]]},
)


def _counted(case: str) -> bool:
    """Counts of rollouts, as `rmeval label mc` takes them."""
    path = written(case, "counted.jsonl")
    rows = attempt(monte_carlo.read_rows, path)
    if rows is REFUSED:
        return False
    attempt(rollouts.problems, rows, path.name)
    labelled = attempt(monte_carlo.label_rows, rows, path, "soft")
    if labelled is REFUSED:
        return False
    out = path.with_name("labelled.jsonl")
    monte_carlo.write(labelled, out)
    assert monte_carlo.summary(labelled)["rows"] == len(labelled)
    assert attempt(partial(training.read_steps, soft=True), out) is not REFUSED, "labels that no training takes"
    return True


_PROMPTS = ({"prompt": "Hi", "id": 1, "answer": "#### 4"}, {"prompt": _TURNS}, {"prompt": "Who?", "answer": 4.5})


def _asked(case: str) -> bool:
    found = attempt(prompts_of, str(written(case, "prompts.jsonl")))
    return found is not REFUSED and all(one.prompt for one in found)


# --- files of our own ------------------------------------------------------------------------------------------------

_RESPONSES = (
    {"prompt": "Hi", "response": "4"},
    {"id": "a", "prompt": _TURNS, "responses": ["4", "5"]},
    {"messages": _ANSWERS[0]},
    {"prompt": "Hi", "chosen": "4", "rejected": "5"},
    {"chosen": _ANSWERS[0], "rejected": _ANSWERS[1]},
)
_POOL = (
    {
        "id": "a",
        "prompt": "Hi",
        "completions": ["4", "5"],
        "rewards": [0.5, None],
        "gold": [1, 0],
        "answers": ["4", 5.0],
    },
    {"id": "b", "completions": ["4"], "gold": [True], "cluster": "q"},
    {"id": "c", "prompt": _TURNS, "completions": ["", "x"], "rewards": [1, 2]},
)
_REPLAY = (
    {"id": "a", "scores": [0.5, -1.25], "reasons": [None, None]},
    {"id": "b", "step_scores": [[0.5, 0.25], []]},
    {"id": "c", "verdicts": [{"order": [0, 1], "verdict": "A", "reason": None, "p": [0.75, 0.25]}]},
    {"id": "c", "verdicts": [{"order": [1, 0], "verdict": None, "reason": "refused"}]},
    {"id": "d", "ratings": [[7, 8], [3, None]]},
    {"id": "e", "verdicts": [{"order": [0], "verdict": "-1"}]},
)
_KEYS = (
    *WORDS,
    "verdicts",
    "order",
    "verdict",
    "reason",
    "p",
    "ratings",
    "step_scores",
    "rewards",
    "answers",
    "cluster",
    "tie",
)


def _scored(case: str) -> bool:
    return attempt(read_responses, written(case, "score.jsonl")) is not REFUSED


def _pool(case: str) -> bool:
    pool = attempt(read_pool, written(case, "pool.jsonl"))
    if pool is REFUSED:
        return False
    text = "".join(f"{to_json(row)}\n" for row in pool.rows)
    again = read_pool(written(text, "pool-again.jsonl"))
    assert "".join(f"{to_json(row)}\n" for row in again.rows) == text, "a pool that is written and read is another"
    return True


def _replay(case: str) -> bool:
    held = attempt(Replay, written(case, "replay.jsonl"))
    if held is REFUSED:
        return False
    assert held.identity()["sha256"]
    for name in held.rows:
        for k in (1, 2, 3):
            attempt(held.recorded, name, k)
    attempt(held.check_ids, set("abcde"))
    return True


def _made_of(rows: tuple[Any, ...], words: tuple[str, ...] = _KEYS) -> Callable[[random.Random], str]:
    return lambda draw: _jsonl(draw, rows, words)


TARGETS = (
    *(Target(f"rows: {reader}", partial(_of_reader, reader=reader), _read) for reader in READERS),
    *(
        Target(f"training rows: {kind}", _made_of(TRAINING[kind][1], WORDS), partial(_trains, kind=kind))
        for kind in TRAINING
    ),
    Target("training rows of others", _others_case, _others),
    Target("rollouts that are counted", _made_of(_COUNTED, (*WORDS, "counts", "mc", "answer")), _counted),
    Target("prompts to complete", _made_of(_PROMPTS, (*WORDS, "answer", "\\boxed{", "####")), _asked),
    Target("file of rows", _file_case, _file),
    Target("rows to score", _made_of(_RESPONSES), _scored),
    Target("pool file", _made_of(_POOL), _pool),
    Target("replay file", _made_of(_REPLAY), _replay),
)
