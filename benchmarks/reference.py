"""The reference board made again: what stands in `results/reference` and, of ours, in `leaderboard/submissions`.

    RMEVAL_DEV_DATA=DIR python -m benchmarks.reference      # DIR relative to here: results record the command
    python -m benchmarks.reference --check                  # into a temporary folder, compared with what is committed

Our own results: null baselines on the embedded suites, and on public ones whose licences allow ids and labels; no
texts. Where RMEVAL_DEV_DATA names no folder, what needs public data is left as it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from rmeval import results
from rmeval.records import Result
from rmeval.types import Judgement

RESULTS, SUBMISSIONS = Path("results/reference"), Path("leaderboard/submissions")
VERIFIED = Path("leaderboard/verified.jsonl")
TRAINED = Path("runs/reference")
SAME, TOLERANCE = "same", 1e-4
BASELINES = {
    # suite -> (folder below RMEVAL_DEV_DATA, baselines); an empty folder: embedded
    "arithmetic": ("", ("length", "random")),
    "arithmetic-steps": ("", ("all-correct", "first-step", "last-step", "random-step", "position-prior")),
    # on large suites one: chance stands beside every board anyway, and all of this has to stay small
    "llmbar": ("llmbar", ("length", "random")),
    "pandalm": ("pandalm", ("length", "random")),
    "qwen25math-bon": ("qwen25math-bon", ("length", "random")),
    "hh-rlhf:harmless-base": ("hh-rlhf", ("length",)),
    "gsm8k-outcomes": ("gsm8k", ("length",)),
    "mr-ben": ("mr-ben", ("first-step",)),
    "bigbench-mistake": ("bigbench-mistake", ("first-step",)),
}
TRAINING = {
    # the recipe of `rmeval demo`; the others as README types them
    "arithmetic-rm": "bt --model scratch --data arithmetic --samples 11000 --val-ratio 0.05 --batch-size 8 --lr 7e-4 "
    "--warmup-ratio 0.05 --max-length 256 --group-by-length",
    "arithmetic-orm": "orm --samples 400 --epochs 2",
    "arithmetic-prm": "prm --samples 400 --epochs 2",
}
SCORED = {
    "arithmetic-rm": ("arithmetic",),
    "arithmetic-orm": ("arithmetic", "arithmetic-steps"),
    "arithmetic-prm": ("arithmetic", "arithmetic-steps"),
}
REWARD_MATH = {
    # model -> (file, suite, file that holds the rows); the judge's file lists the wrong solutions alone
    "internlm2-7b-reward": ("internlm2", "rewardmath", ""),
    "oasst-rm": ("oasst-rm", "rewardmath", ""),
    "beaver-7b": ("beaver", "rewardmath", ""),
    "Eurus-RM-7B": ("Eurus-RM", "rewardmath", ""),
    "Math-Shepherd": ("Math_Shepherd", "rewardmath", ""),
    "ChatGPT-rating": ("chatgpt", "rewardmath:consecutive", ""),
    "Llama-3-8B-pairwise": ("llama3_8B_pairwise", "rewardmath", "internlm2"),
}
US = ("--by", "rmeval maintainers", "--contact", "CONTRIBUTING.md")
OURS = (
    *(*US, "--first-party", "--clean", "--licence", "Apache-2.0", "--notes"),
    "Trained on train draws of the embedded world. The recipe of arithmetic-rm was chosen by accuracy on this draw.",
)
THEIRS = (
    *(*US, "--notes"),
    (
        "Per-item scores published by kimsh0507/RewardMATH_official at cde06ab3f5466e1f94e74ba4fadf0e6561434ecb; "
        "imported, not run again. MIT licence, Copyright (c) 2024 Sunghwan Kim: see leaderboard/README.md."
    ),
)


@dataclass(frozen=True)
class Places:
    """Where results, submissions and audits are written."""

    results: Path = RESULTS
    submissions: Path = SUBMISSIONS
    verified: Path = VERIFIED

    @property
    def passing(self) -> Path:
        """Where results lie that are submitted and not kept."""
        return TRAINED / "results"


def rmeval(*words: object) -> None:
    """A command as a person types it; stops where it fails."""
    print("rmeval", *words, flush=True)
    program = Path(sys.executable).with_name("rmeval")
    done = subprocess.run([str(program), *map(str, words)], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"rmeval {words[0]} failed with exit code {done.returncode}")


def make(places: Places, data: Path | None) -> None:
    """Everything, in place of what was there."""
    shutil.rmtree(places.passing, ignore_errors=True)
    for suite, (folder, names) in BASELINES.items():
        if folder and data is None:
            continue
        where = ("--data", data / folder) if data and folder else ()
        for name in names:
            shutil.rmtree(places.results / name / results.path_part(suite), ignore_errors=True)
            rmeval("run", name, "--suite", suite, *where, "--out", places.results)
    for name, recipe in TRAINING.items():
        if not (TRAINED / name / "model.safetensors").is_file():
            rmeval("train", *recipe.split(), "--out", TRAINED / name)
        for suite in SCORED[name]:
            rmeval("run", TRAINED / name, "--suite", suite, "--out", places.passing)
            folder = submit(places, name, suite, OURS)
            audit = ("--reproduce", 60, "--model", TRAINED / name, "--record", places.verified)
            rmeval("verify", folder, *audit)
    for name, (file, suite, rows) in REWARD_MATH.items() if data else ():
        files = [data / f"rewardmath/results/RewardMATH/{one}_reward.json" for one in (file, rows) if one and data]
        more = ("--data", files[1]) if rows else ()
        rmeval("import", "rewardmath", files[0], "--suite", suite, *more, "--model", name, "--out", places.passing)
        submit(places, name, suite, THEIRS)


def submit(places: Places, name: str, suite: str, declared: Sequence[str]) -> Path:
    """The passing result of a model on a suite as a submission; its folder."""
    part = Path(results.path_part(name)) / results.path_part(suite)
    shutil.rmtree(places.submissions / part, ignore_errors=True)
    [result] = (p for p in (places.passing / part).glob("*.json"))
    rmeval("submit", result, *declared, "--submissions", places.submissions)
    return places.submissions / part


def found(places: Places) -> Iterator[tuple[tuple[str, str], Path]]:
    """(model, suite) and the result file of all that there is."""
    for folder in (places.results, places.submissions):
        for path in sorted(folder.rglob("*.json")):
            if path.name != "submission.json":
                held = results.read(path)
                yield (held.model.name, held.suite.name), path


def told(result: Result) -> object:
    """The question, the samples and every number: what may not differ, while the words of a note may."""
    numbers = [(m.name, m.subset, m.value, m.ci, m.n, m.n_missing) for m in result.metrics]
    return result.id, result.samples.sha256, numbers


def verdict(old: Path, new: Path) -> str:
    """`same`, `same within 1e-04` for a model that was trained again, or why the two results differ.

    Training is repeated to the last bit on one machine and thread count only. Elsewhere the weights, and with them the
    id, are others: then every score must be within the tolerance, and no candidate may overtake another.
    """
    a, b = results.load_result(old), results.load_result(new)
    if told(a.result) == told(b.result):
        return SAME
    if a.result.model.name not in TRAINING:
        return "differs: the question, a sample or a number"
    asked = [
        r.model_copy(
            update={
                "model": r.model.model_copy(update={"revision": None}),
                "engine": r.engine and r.engine.model_copy(update={"weights": None}),
            }
        )
        for r in (a.result, b.result)
    ]
    if any(getattr(asked[0], part) != getattr(asked[1], part) for part in ("model", "engine", "suite", "scorer")):
        return "differs: the question"
    worst = 0.0
    for one, other in zip(a.judgements, b.judgements, strict=True):
        if blank(one) != blank(other):
            return f"differs: example {one.id!r}"
        lists = zip(*((j.scores, *j.step_scores, *j.prefix_scores) for j in (one, other)), strict=True)
        worst = max([worst, *(abs(x - y) for left, right in lists for x, y in zip(left, right, strict=True))])
        if order(one.scores) != order(other.scores):
            return f"differs: example {one.id!r} is decided otherwise"
    return f"{SAME} within {TOLERANCE:g}" if worst <= TOLERANCE else f"differs: a score by {worst:.2g}"


def blank(row: Judgement) -> Judgement:
    """A row without what a model says."""
    return replace(row, scores=(), step_scores=(), prefix_scores=())


def order(scores: Sequence[float]) -> list[int]:
    """Of each two candidates, who is ahead."""
    return [(a > b) - (a < b) for a, b in combinations(scores, 2)]


def check(data: Path | None) -> int:
    """Make all of it elsewhere; says what is not what was committed, and returns how many."""
    committed = dict(found(Places()))
    with tempfile.TemporaryDirectory() as folder:
        places = Places(*(Path(folder) / name for name in ("results", "submissions", "verified.jsonl")))
        make(places, data)
        again = dict(found(places))
        differing = 0
        for key, path in again.items():
            said = verdict(committed[key], path) if key in committed else "differs: none is committed"
            differing += not said.startswith(SAME)
            print(f"{key[0]} on {key[1]}: {said}")
    print(f"{len(again) - differing} of {len(again)} made again are equal; {len(committed)} are committed")
    return differing


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the reference board's results again.")
    parser.add_argument("--check", action="store_true", help="compare with what is committed, change nothing")
    asked = parser.parse_args()
    data = Path(os.environ["RMEVAL_DEV_DATA"]) if os.environ.get("RMEVAL_DEV_DATA") else None
    if asked.check:
        sys.exit(3 if check(data) else 0)
    make(Places(), data)
    rmeval("verify", RESULTS, "--submissions", SUBMISSIONS)
    rmeval("verify", SUBMISSIONS)


if __name__ == "__main__":
    main()
