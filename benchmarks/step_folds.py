"""Training rows for a process reward model from the step suites, without any problem of their `--limit 300` samples.

ProcessBench, PRMBench, Mr-Ben and BIG-Bench-Mistake have no training split. The sample that `rmeval run SUITE --limit
300 --seed 0` scores is drawn here by the same function, and what remains becomes rows of `rmeval train prm`. A problem
is known by its cluster, by its text (lower case; spaces, dollars, backslashes, points and commas left out) and in
PRMBench by its number, which nine variants share. Rows that have any of these in common hold one problem, across suites
too, and a problem of any sample is in no training row.

Rows end at the first wrong step where the steps after it have no labels. So that few rows teach much they are drawn
evenly over the suites, a third of them right solutions where there are so many, and right steps lose labels (null)
until a share of `WRONG_SHARE` of a suite's labels are wrong: a model that has seen one wrong step in ten calls none
wrong.

    RMEVAL_DEV_DATA=... python -m benchmarks.step_folds --model FOLDER --rows 1600 --max-length 512 -o steps.jsonl

What this module does not know: heads, losses, how a suite is scored.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rmeval.suites import load_suite, stratified_sample
from rmeval.types import Example

SUITES = ("processbench", "prmbench", "mr-ben", "bigbench-mistake")
LIMIT, SEED = 300, 0
WRONG_SHARE = 0.4
TEMPLATE_TOKENS = 40
"""Room for the chat template beside the texts that are counted."""


def problem_keys(suite: str, one: Example) -> frozenset[str]:
    """What a problem is known by. Texts are compared across suites, clusters and numbers within one."""
    keys = {f"text:{_plain(one.prompt[0].content)}", f"{suite}:{one.cluster}"}
    if suite == "prmbench":
        keys |= {f"text:{_plain(one.cluster)}", f"prmbench:{one.id.removeprefix(f'{one.subset}_')}"}
    return frozenset(keys)


def unseen(keys: Sequence[frozenset[str]], held_out: Iterable[int]) -> list[int]:
    """Places of the rows whose problem is not that of any row held out; rows that share a key are one problem.

    >>> unseen([frozenset("ab"), frozenset("bc"), frozenset("c"), frozenset("d")], held_out=[0])
    [3]
    """
    root: dict[str, str] = {}

    def find(key: str) -> str:
        while (above := root.setdefault(key, key)) != key:
            key = above
        return key

    for some in keys:
        first, *others = some
        for other in others:
            root[find(other)] = find(first)
    taken = {find(next(iter(keys[i]))) for i in held_out}
    return [i for i, some in enumerate(keys) if find(next(iter(some))) not in taken]


def training_row(suite: str, one: Example) -> dict[str, Any] | None:
    """The row of an example, up to its last labelled step; None where no step is labelled."""
    grades = one.labels.step_grades[0]
    labelled = [i for i, grade in enumerate(grades) if grade >= 0]
    steps = one.candidates[0].steps[: labelled[-1] + 1] if labelled else ()
    if not steps or not all(step.strip() for step in steps):
        return None
    labels = [bool(grade) if grade >= 0 else None for grade in grades[: len(steps)]]
    return {
        "id": f"{suite}/{one.id}",
        "prompt": [{"role": turn.role, "content": turn.content} for turn in one.prompt],
        "steps": list(steps),
        "labels": labels,
    }


def _plain(text: str) -> str:
    return re.sub(r"[\s$\\.,]+", "", text.casefold())  # brackets and signs are all there is to some problems


def _balanced(rows: list[dict[str, Any]], count: int, rng: random.Random) -> list[dict[str, Any]]:
    """`count` rows, a third of them right solutions where there are so many, with right labels thinned."""
    right = [row for row in rows if False not in row["labels"]]
    wrong = [row for row in rows if False in row["labels"]]
    rng.shuffle(right)
    rng.shuffle(wrong)
    some = right[: max(count // 3, count - len(wrong))]
    drawn = some + wrong[: count - len(some)]
    labels = [label for row in drawn for label in row["labels"]]
    kept = labels.count(False) * (1 - WRONG_SHARE) / WRONG_SHARE / max(1, labels.count(True))
    for row in drawn:
        row["labels"] = [None if one and rng.random() >= kept else one for one in row["labels"]]
    return [row for row in drawn if set(row["labels"]) != {None}]


def main(args: Sequence[str]) -> None:
    """Write the rows and print per suite how many there were, remained, were short enough and were drawn."""
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="folder with the tokenizer that lengths are counted with")
    parser.add_argument("--rows", type=int, default=1600, help="rows wanted, a quarter per suite")
    parser.add_argument("--max-length", type=int, default=512, help="longest row in tokens")
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args(args)
    data = Path(os.environ["RMEVAL_DEV_DATA"])
    tokenizer = AutoTokenizer.from_pretrained(asked.model)

    loaded = [(suite, load_suite(suite).load(data / suite).examples) for suite in SUITES]
    held = {(suite, one.id) for suite, examples in loaded for one in stratified_sample(examples, LIMIT, SEED)}
    every = [(suite, one) for suite, examples in loaded for one in examples]
    keys = [problem_keys(suite, one) for suite, one in every]
    kept = unseen(keys, [i for i, (suite, one) in enumerate(every) if (suite, one.id) in held])
    rng, written = random.Random(SEED), []
    print(f"{'suite':<18}{'rows':>7}{'unseen':>8}{'short':>8}{'drawn':>8}{'right':>8}{'labels':>8}{'wrong':>8}")
    for suite, examples in loaded:
        mine = [row for i in kept if every[i][0] == suite and (row := training_row(suite, every[i][1]))]
        texts = ["\n\n".join([row["prompt"][0]["content"], *row["steps"]]) for row in mine]
        lengths = [len(ids) + TEMPLATE_TOKENS for ids in tokenizer(texts, verbose=False)["input_ids"]]
        short = [row for row, length in zip(mine, lengths, strict=True) if length <= asked.max_length]
        drawn = _balanced(short, asked.rows // len(SUITES), rng)
        labels = [one for row in drawn for one in row["labels"] if one is not None]
        clean = sum(False not in row["labels"] for row in drawn)
        counts = (len(examples), len(mine), len(short), len(drawn), clean, len(labels), labels.count(False))
        print(f"{suite:<18}{counts[0]:>7}" + "".join(f"{n:>8}" for n in counts[1:]))
        written += drawn
    rng.shuffle(written)
    asked.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
