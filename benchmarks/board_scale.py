"""A board of 500 models on 20 suites, built cold and again: python -m benchmarks.board_scale [--folder F]

Results are made by the real writer from seeded scores, a tenth of them sent as submissions, under twenty cards of its
own: pairs, best-of-4 and steps, 200 to 3,000 examples, one to six subsets. The folder is kept and used again where it
is named (making 10,000 results takes about 15 minutes of a core); every build runs in a process of its own, which says
time and peak memory.

    cold     nothing is cached, the site does not exist
    warm     all is cached, the site is there
    fresh    all is cached, the site does not exist
    one more a model is added to every suite
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SIZES = (200, 200, 210, 220, 230, 240, 250, 250, 260, 280, 300, 300, 320, 350, 400, 450, 600, 805, 1200, 2985)
"""Examples per suite."""
KINDS = ("pairs", "pairs", "best-of-4", "pairs", "steps")
SENT = 0.1
"""Share of the models that are submissions, verified in full; the others are results of one's own."""
WITH_HOLES = 0.1
"""Share of the models without a score for some of the longest examples."""


@dataclass(frozen=True, slots=True)
class Made:
    """A suite to be scored."""

    name: str
    kind: str
    subsets: tuple[str, ...]
    size: int

    @property
    def number(self) -> int:
        """Which of the suites it is."""
        return int(self.name.rsplit("-", 1)[1])


def suites(count: int) -> list[Made]:
    """The suites, the smallest first."""
    found = []
    for i in range(count):
        subsets = tuple(f"part-{c}" for c in "abcdef"[: 1 + i % 6])
        found.append(Made(f"made-{i}", KINDS[i % len(KINDS)], subsets, SIZES[i % len(SIZES)]))
    return found


def labels(suite: Made) -> list[Any]:
    """The examples without scores: the same in every process."""
    from rmeval.types import Judgement

    rng = random.Random(suite.number)
    rows = []
    for i in range(suite.size):
        subset = suite.subsets[i % len(suite.subsets)]
        k = {"pairs": 2, "best-of-4": 4, "steps": 1}[suite.kind]
        steps: tuple[tuple[int, ...], ...] = ()
        grades = (1.0, *(0.0,) * (k - 1))
        if suite.kind == "steps":
            many, wrong = rng.randint(3, 8), rng.random() < 0.6
            first = rng.randrange(many) if wrong else many
            steps = (tuple(int(s < first) for s in range(many)),)
            grades = (float(not wrong),)
        lengths = tuple(rng.randint(80, 3000) for _ in range(k))
        rows.append(
            Judgement(f"{subset}/{i}", subset, "", f"prompt-{i // 2}", grades, steps, lengths=lengths)
        )  # two examples share a prompt
    return rows


def scored(suite: Made, rows: list[Any], model: int) -> list[Any]:
    """The rows with the scores of a model: its skill, the difficulty of each example, noise, a taste for length."""
    own = random.Random(1000 * suite.number + model)
    skill, taste = random.Random(model).gauss(0.9, 0.55), own.gauss(0.1, 0.15)
    hard = random.Random(suite.number)
    holes = random.Random(-model).random() < WITH_HOLES
    found = []
    for row in rows:
        difficulty = hard.gauss(0.0, 0.7)
        if row.step_grades:
            values = tuple(
                tuple(
                    round(
                        min(
                            0.999,
                            max(0.001, 0.5 + (0.18 if good else -0.18) * (skill - difficulty) + own.gauss(0, 0.2)),
                        ),
                        4,
                    )
                    for good in grades
                )
                for grades in row.step_grades
            )
            found.append(replace(row, step_scores=values))
            continue
        scores = [
            round(grade * (skill - difficulty) + taste * length / 1000 + own.gauss(0, 0.7), 4)
            for grade, length in zip(row.grades, row.lengths, strict=True)
        ]
        reasons: tuple[str | None, ...] = ()
        if holes and max(row.lengths) > 2975:
            scores[-1], reasons = float("nan"), (*(None,) * (len(scores) - 1), "truncated")
        found.append(replace(row, scores=tuple(scores), reasons=reasons))
    return found


def card(suite: Made, rows: list[Any]) -> str:
    """The suite's card, its labels pinned."""
    from rmeval.suites import labels_digest

    digest = labels_digest(
        ((r.id, r.subset, r.cluster, r.grades) for r in rows),
        {r.id: [list(g) for g in r.step_grades] for r in rows if r.step_grades},
    )
    steps = suite.kind == "steps"
    rule = 'name = "first_error"' if steps else 'name = "accuracy"\nties = "lose"'
    sections = "".join(f'\n[[section]]\nname = "{s}"\nsubsets = ["{s}"]\n' for s in suite.subsets)
    counts = "\n".join(f"{s} = {sum(r.subset == s for r in rows)}" for s in suite.subsets)
    return f"""name = "{suite.name}"
version = 1
title = "Made suite {suite.number}"
summary = "Generated {suite.kind}, {suite.size} examples."
{'kind = "process"' if steps else ""}
licence = "Apache-2.0"
reader = "{"steps" if steps else "pairs"}"
labels_sha256 = "{digest}"

[rule]
{rule}

[headline]
name = "{"f1" if steps else "accuracy"}"
combine = "sections"
{sections}
[expected]
{counts}
"""


def few_metrics(rows: list[Any], plan: Any) -> list[Any]:
    """Headline and sections alone, of results that nobody verifies in full: all metrics take five times as long."""
    from rmeval.metrics.book import Book
    from rmeval.metrics.tree import interval, replicate
    from rmeval.types import Metric

    book = Book(rows, plan)
    parts = {None: book.headline(), **{s.name: book.section(s) for s in book.sections}}
    drawn = replicate(list(parts.values()), replicates=200, seed=0, hold_steady=True)
    found = []
    for column, (name, part) in enumerate(parts.items()):
        ends = interval(part, drawn[:, column])
        entered = list(part.keys.values())
        n, ci = sum(entered), (ends.low, ends.high) if ends else None
        found.append(Metric(plan.headline, part.value, name, ci, n, len(entered) - n, note=book.note()))
    return found


def write_all(home: Path, suite: Made, models: range) -> int:
    """Write the results of some models on a suite; the digest of a name says which are submissions."""
    from rmeval import results
    from rmeval.leaderboard.submission import Declared, write_submission
    from rmeval.metrics.evaluate import evaluate
    from rmeval.records import DataRecord, EngineRecord, ModelRecord, ScorerRecord, SuiteRecord
    from rmeval.suites import load_suite

    os.environ["RMEVAL_PATH"] = str(home / "cards")
    loaded, rows = load_suite(suite.name), labels(suite)
    pinned = loaded.card.labels_sha256
    around = results.current_environment(argv=["rmeval", "run", "made"])
    for model in models:
        name = f"maker-{model % 37}/reward-{model:03d}"
        judged = scored(suite, rows, model)
        sent = random.Random(f"sent {model}").random() < SENT
        draft = results.Draft(
            complete=True,
            model=ModelRecord(
                name=name, revision=f"{model:040x}", kind="process" if suite.kind == "steps" else "scalar"
            ),
            suite=SuiteRecord(
                name=suite.name,
                version=1,
                data=DataRecord(source="file:made", sha256=f"{suite.number:064x}", labels_sha256=pinned),
                examples=len(judged),
            ),
            scorer=ScorerRecord(name="scalar"),
            engine=EngineRecord(name="transformers", dtype="float32"),
            metrics=evaluate(judged, loaded.plan) if sent else few_metrics(judged, loaded.plan),
            environment=around,
        )
        path = results.write(
            draft, judged, home / ("sent" if sent else "results"), created=datetime(2026, 11, 1, tzinfo=UTC)
        )
        if sent:
            write_submission(results.load_result(path), home / "submissions", Declared(contact="made"))
    return len(models)


def make(home: Path, models: range, count: int, jobs: int) -> float:
    """All cards and results of the models; returns the seconds that it took. What is there already stays."""
    start = time.perf_counter()
    made = suites(count)
    for suite in made:
        file = home / "cards" / "suites" / suite.name / "card.toml"
        if not file.is_file():
            file.parent.mkdir(parents=True)
            file.write_text(card(suite, labels(suite)), encoding="utf-8")
    step = 50
    parts = [
        (home, s, range(i, min(i + step, models.stop))) for s in made for i in range(models.start, models.stop, step)
    ]
    parts = [p for p in parts if not (home / "done" / f"{p[1].name}-{p[2].start}-{p[2].stop}").exists()]
    (home / "done").mkdir(exist_ok=True)
    with ProcessPoolExecutor(jobs) as pool:
        for (_, suite, some), _ in zip(
            parts, pool.map(write_all, *zip(*parts, strict=True)) if parts else [], strict=True
        ):
            (home / "done" / f"{suite.name}-{some.start}-{some.stop}").touch()
    return time.perf_counter() - start


# --- builds ----------------------------------------------------------------------------------------------------------


def build(home: Path, out: Path, jobs: int) -> dict[str, Any]:
    """One build in this process: seconds, peak memory, and what it wrote."""
    from rmeval.leaderboard.board import build as build_board

    os.environ["RMEVAL_PATH"] = str(home / "cards")
    start, used = time.perf_counter(), time.process_time()
    sent = home / "submissions"
    board = build_board([home / "results"], out, submissions=sent, cache=out.with_name("kept"), jobs=jobs)
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    beside = resource.getrusage(resource.RUSAGE_CHILDREN)
    pages = list(out.rglob("*.html"))
    return {
        "seconds": round(seconds, 1),
        "cpu seconds": round(cpu + beside.ru_utime + beside.ru_stime, 1),
        "beside": round(beside.ru_utime + beside.ru_stime, 1),
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "entries": sum(len(s.entries) for s in board.suites),
        "ranked": sum(e.rank is not None for s in board.suites for e in s.entries),
        "least common": min((s.common / s.examples for s in board.suites), default=0.0),
        "pages": len(pages),
        "largest page KiB": max(p.stat().st_size for p in pages) >> 10,
        "pages MiB": sum(p.stat().st_size for p in pages) >> 20,
        "site MiB": sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) >> 20,
        "kept MiB": sum(p.stat().st_size for p in out.with_name("kept").rglob("*") if p.is_file()) >> 20,
        "load": round(os.getloadavg()[0], 1),
    }


def measure(home: Path, models: int, count: int, jobs: int, only: str = "") -> dict[str, Any]:
    """A row per build."""
    rows: list[dict[str, Any]] = []
    seconds = make(home, range(models), count, jobs)
    rows.append({"build": "made", "seconds": round(seconds, 1), "results": models * count})
    site, again = home / "out" / "site", home / "out" / "fresh"
    for name, out in (("cold", site), ("warm", site), ("fresh", again), ("one more", site)):
        if only and name not in only.split(","):
            continue
        if name == "one more":
            make(home, range(models, models + 1), count, 1)
        arguments = [sys.executable, "-m", "benchmarks.board_scale", "--build", str(out), "--folder", str(home)]
        run = subprocess.run([*arguments, "--jobs", str(jobs)], check=True, stdout=subprocess.PIPE, text=True)
        rows.append({"build": name, **json.loads(run.stdout)})
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return {"title": f"{models} models on {count} suites", "rows": rows}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where results are made and kept; default: a temporary one")
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--suites", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="some of cold,warm,fresh,one more")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        print(json.dumps(build(given.folder, given.build, given.jobs)))
    elif given.folder:
        measure(given.folder, given.models, given.suites, given.jobs, given.only)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), given.models, given.suites, given.jobs, given.only)


if __name__ == "__main__":
    main()
