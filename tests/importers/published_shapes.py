"""Published per-item outputs of our own making, in the exact shape of upstream's files, on the suites' sample rows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from command import ROOT

from rmeval.suites import load_suite
from rmeval.types import Example

NAMED = {
    # format: the suite it is about
    "rewardbench": "reward-bench",
    "rewardbench2": "reward-bench-2",
    "rm-bench": "rm-bench",
    "rmb": "rmb",
    "judgebench": "judgebench",
    "rewardmath": "rewardmath",
    "qwen25math": "qwen25math-bon",
    "llmbar": "llmbar",
}


def sample(suite: str) -> Path:
    return ROOT / "suites" / suite / "sample.jsonl"


def sample_rows(suite: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sample(suite).read_text(encoding="utf-8").splitlines()]


def examples(suite: str) -> tuple[Example, ...]:
    return load_suite(suite).load(sample(suite)).examples


def write(path: Path, content: Any) -> Path:
    """A JSON document; NaN is written as Python writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4), encoding="utf-8")
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def formatted(prompt: str, response: str) -> str:
    """A conversation as a chat template writes it: whitespace at the ends is lost."""
    return f"<s><|user|>\n{prompt.strip()}</s>\n<|assistant|>\n{response.strip()}</s>"


def columns(rows: list[dict[str, Any]], **about: Any) -> dict[str, Any]:
    """Rows as an object of columns, as `Dataset.to_dict()` gives it, with what is said once."""
    return {**{name: [row[name] for row in rows] for name in rows[0]}, **about}


def rewardbench_rows(nested: bool = False) -> list[dict[str, Any]]:
    draw = random.Random(1)
    made = []
    for row in sample_rows("reward-bench"):
        chosen, rejected = draw.gauss(1, 1), draw.gauss(0, 1)
        made.append(
            {
                "id": row["id"],
                "subset": row["subset"],
                "text_chosen": formatted(row["prompt"], row["chosen"]),
                "text_rejected": formatted(row["prompt"], row["rejected"]),
                "results": int(chosen > rejected),
                "scores_chosen": [chosen] if nested else chosen,
                "scores_rejected": [rejected] if nested else rejected,
            }
        )
    return made


RB_ABOUT = {"model": "acme/reward-small", "model_type": "Seq. Classifier", "chat_template": "tokenizer"}


def rewardbench2_rows() -> list[dict[str, Any]]:
    draw = random.Random(2)
    made = []
    for row in sample_rows("reward-bench-2"):
        texts = [*row["chosen"], *row["rejected"]]
        scores = [[draw.gauss(0, 1)] for _ in texts]
        made.append(
            {
                "id": row["id"],
                "subset": row["subset"],
                "num_correct": row["num_correct"],
                "scores": scores,
                "text": [formatted(row["prompt"], text) for text in texts],
                "results": float(scores[0] == max(scores)),
            }
        )
    return made


def rm_bench_rows() -> list[dict[str, Any]]:
    draw = random.Random(3)
    return [
        {**row, **{f"score_{side}": [draw.gauss(0, 1) for _ in range(3)] for side in ("chosen", "rejected")}}
        for row in sample_rows("rm-bench")
    ]


def rmb_rows() -> list[dict[str, Any]]:
    made = []
    for i, row in enumerate(row for row in sample_rows("rmb") if "pair_uid" in row):
        reward = {"chosen_reward": 0.5 - i, "reject_reward": 0.25, "is_correct": int(i == 0)}
        made.append({"pair_uid": row["pair_uid"], "category_path": row["category_path"], **reward})
    return made


def judgebench_rows(decisions: list[list[str | None]], judge: str = "arena_hard") -> list[dict[str, Any]]:
    """One list of decisions per sample row; a decision "none at all" stands for a judgment that is null."""
    made = []
    for row, said in zip(sample_rows("judgebench"), decisions, strict=True):
        judgments = [
            None
            if one == "none at all"
            else {"judgment": {"judge_model": "acme/judge", "prompt": "", "response": ""}, "decision": one}
            for one in said
        ]
        made.append({**row, "judge_name": judge, "judgments": judgments})
    return made


WRITERS = ["human_to_GPT-4", *(f"model-{i}" for i in range(8)), "model-0"]
"""Who wrote the ten solutions of a problem: one wrote two of them, as in 77 rows of upstream's."""


def rewardmath_rows(scores: list[list[Any]]) -> list[dict[str, Any]]:
    return [
        {"problem": f"What is {i} + 1?", "solution_reference": WRITERS, "score": said} for i, said in enumerate(scores)
    ]


def llmbar_folder(folder: Path, strategy: str = "CoT", model: str = "judge-1") -> Path:
    """The official folders: `<set>/dataset.json` and a result.json per set, every winner the first output."""
    sets: dict[str, list[dict[str, Any]]] = {}
    for row in sample_rows("llmbar"):
        sets.setdefault(row["_split"].removeprefix("Adversarial_"), []).append(
            {k: v for k, v in row.items() if k != "_split"}
        )
    for name, rows in sets.items():
        place = folder / ("Natural" if name == "Natural" else f"Adversarial/{name}")
        write(place / "dataset.json", rows)
        reading = {f"swap = {swap}": {"completion": ["Output (a)", "stop"], "winner": "1"} for swap in (False, True)}
        judged = [{**row, "results": [reading]} for row in rows]
        write(place / f"evaluators/{model}/{strategy}/result.json", judged)
    return folder
