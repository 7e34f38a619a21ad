"""The whole loop of optimising against a reward model, on the arithmetic world, where the gold is computed.

    policy     a tiny language model, supervised on the world's right solutions of training problems
    rewards    bt, orm, prm: of the policy's own samples for other training problems, labelled by the truth
               weak: an outcome model of few solutions with gross errors, none of them the policy's
               oracle: the truth itself
    best-of-N  N samples of each test problem, by every reward: exact curves over n with intervals by problem
    overopt    the laws of Gao et al. fitted to what the weak one does
    rejection  the policy fine-tuned on the best of its samples for further training problems, and on as many drawn
               at random, both asked the test problems anew

What came of --seed 1, once (development used other draws, and --seed 0 --fast): the oracle takes gold from 0.31 to 0.86
at n = 32, and fine-tuning on its choice beats the matched draw by 0.026 [0.001, 0.051], but not the base. The trained
models do not beat luck: all are below it at n = 8 and by 0.17 to 0.21 at 32; the weak one is found over-optimised. They
tell hard problems from easy ones (AUROC over all samples 0.75 orm, 0.77 prm) but not right from wrong within a problem
(0.50 to 0.56), and wrong solutions differ more in reward than right ones (2 to 6 times in sd): the top is wrong. Alone:
python -m benchmarks.optimise_arithmetic [OUT] [--seed 1] [--fast]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from rmeval.arithmetic.problems import Problem, draw_problems, seeded
from rmeval.arithmetic.solutions import right_solution
from rmeval.models import language_model, load_model
from rmeval.policy.completions import Asked, Way, rewarded, write_pool
from rmeval.policy.refinement import Settings, refine
from rmeval.probes import plots
from rmeval.probes.best_of_n import best_of_n
from rmeval.probes.curves import Curve, Point
from rmeval.probes.kept import beside_luck
from rmeval.probes.overoptimisation import over_optimisation
from rmeval.probes.pool import Pool, to_json
from rmeval.probes.selection import Choice
from rmeval.progress import note
from rmeval.store import Store
from rmeval.training.config import make_config
from rmeval.training.run import train
from rmeval.types import Message

TRAINED = ("bt", "orm", "prm")
SPLIT = {"scorer": {"split": "paragraph"}}
_EQUATION = re.compile(r"(\d+) ([+\-×÷]) (\d+) = (\d+)")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    policy: int = 2000
    """Problems whose solutions the policy learns, of the world's own draw."""
    epochs: float = 3.0
    labelled: int = 2000
    """Training problems that it then solves eight times each, for the reward models."""
    weak: int = 100
    test: int = 100
    n: int = 32
    chosen_from: int = 400
    """Training problems of the rejection sampling."""
    samples: int = 16
    kept: int = 4
    """Of the samples of each of them."""
    repeats: int = 2
    tuned: tuple[str, ...] = ("oracle", "prm")
    """Whose choices the policy is fine-tuned on."""


FAST = Size(
    policy=800, labelled=150, weak=40, test=40, n=16, chosen_from=80, samples=8, kept=2, repeats=1, tuned=("oracle",)
)


def run(out: Path, seed: int, size: Size, *, temperature: float = 1.0) -> dict[str, Any]:
    """All steps; figures and pools go to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    clock = time.monotonic()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.monotonic()
        seconds[name], clock = round(now - clock, 1), now
        note(f"{name}: {seconds[name]} s")

    with Store(out / "replies.sqlite") as store:
        policy = _train("sft", out / "policy", seed, samples=size.policy, epochs=size.epochs)
        lap("policy")
        way = Way(8, temperature, 1.0, 64, seed)
        labelled = _problems("train", f"labelled {seed}", size.labelled)
        own = _write(policy, labelled, way, store, "labelled")
        _save(out / "labelled.jsonl", own)
        (out / "steps.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in step_rows(labelled, own)))
        models = _reward_models(out, policy, seed, size)
        lap("reward models")

        test = _problems("test", f"test {seed}", size.test)
        pool = _write(policy, test, replace(way, n=size.n), store, "test")
        by_reward = {name: _rewards(pool, name, models, store) for name in (*models, "oracle")}
        for name, scored in by_reward.items():
            _save(out / f"pool-{name}.jsonl", scored)
        found = {name: best_of_n(scored) for name, scored in by_reward.items()}
        weak = over_optimisation(by_reward["weak"])
        lap("best-of-N")

        train_side = _write(
            policy,
            _problems("train", f"chosen {seed}", size.chosen_from),
            replace(way, n=size.samples),
            store,
            "chosen",
        )
        tuned = {}
        for name in size.tuned:
            scored = _rewards(train_side, name, models, store)
            how = Choice("top", k=size.kept, seed=seed)
            beside = beside_luck(scored, how)
            settings = Settings(
                str(policy),
                {"lr": 1e-3, "epochs": 3.0, "max_length": 256, "verify_export": False},
                replace(way, n=8),
                size.repeats,
            )
            refined = refine(
                scored,
                beside.chosen.chosen,
                how,
                held_out=[_asked(problem) for problem in test],
                settings=settings,
                store=store,
                out=out / f"tuned-{name}",
            )
            tuned[name] = {
                "uplift": asdict(beside.chosen.figure("uplift")),
                "random uplift": asdict(beside.per_prompt.figure("uplift")),
                "rows": refined.rows,
                "gold": [asdict(point) for point in refined.gold],
                "difference": asdict(refined.difference),
                "each": list(refined.each),
            }
        lap("rejection sampling")

    curves = [
        *(
            Curve("gold of the best of n", name, one.curve("best of n").what, one.curve("best of n").points)
            for name, one in found.items()
        ),
        Curve("gold of the best of n", "random", "mean gold", found["oracle"].curve("random").points),
        *(replace(curve, panel="weak: over-optimisation") for curve in weak.curves),
        *(_tuned_curves(tuned)),
    ]
    for suffix, content in plots.draw(f"arithmetic world, seed {seed}", curves).items():
        (out / f"optimise.{suffix}").write_bytes(content)
    document = {
        "seed": seed,
        "size": asdict(size),
        "temperature": temperature,
        "best_of_n": {
            name: {
                "gold": [asdict(point) for point in one.curve("best of n").points],
                "gain": [asdict(point) for point in one.curve("optimised - random").points],
            }
            for name, one in found.items()
        },
        "weak": {
            "best_n": weak.best_n,
            "fall": weak.fall,
            "fall_ci": weak.fall_ci,
            "over_optimised": weak.over,
            "fits": [asdict(one) for one in weak.fits],
        },
        "rejection": tuned,
        "seconds": seconds,
    }
    (out / "optimise.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document


# --- the parts -------------------------------------------------------------------------------------------------------


def _train(kind: str, folder: Path, seed: int, **settings: Any) -> Path:
    given = {"model": "tiny", "data": ("arithmetic",), "max_length": 256, "verify_export": False, "seed": seed}
    # one evaluation is enough: the world's own is what counts
    return train(make_config(kind, {"eval_steps": 10**6, **given, **settings, "out": folder}), show=note).out  # type: ignore[arg-type]


def _reward_models(out: Path, policy: Path, seed: int, size: Size) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> (folder, arguments of its scorer)."""
    own, steps = str(out / "labelled.jsonl"), str(out / "steps.jsonl")
    shared = {"model": str(policy), "lr": 2e-3, "batch_size": 16}
    _train(
        "bt", out / "bt", seed, **shared | {"batch_size": 4}, data=(own,), from_outcomes=True, comparisons="per-prompt"
    )
    _train("orm", out / "orm", seed, **shared, data=(own,))
    _train("prm", out / "prm", seed, **shared, data=(steps,), num_classes=2, label_scale="ternary")
    _train("orm", out / "weak", seed, samples=size.weak, epochs=4.0)
    return {
        "bt": (str(out / "bt"), {}),
        "orm": (str(out / "orm"), {}),
        "prm": (str(out / "prm"), SPLIT),
        "weak": (str(out / "weak"), {}),
    }


def _rewards(pool: Pool, name: str, models: dict[str, tuple[str, dict[str, Any]]], store: Store) -> Pool:
    if name == "oracle":
        return replace(pool, rows=tuple(replace(row, rewards=row.gold) for row in pool.rows))
    folder, given = models[name]
    return rewarded(pool, load_model(folder, given=given), store, aggregate="own")


def _problems(split: Any, name: str, count: int) -> list[Problem]:
    return list(islice(draw_problems(split, seeded("optimise", name)), count))


def _asked(problem: Problem) -> Asked:
    return Asked(problem.id, problem.id, (Message("user", problem.text),), str(problem.answer))


def _write(policy: Path, problems: Sequence[Problem], way: Way, store: Store, name: str) -> Pool:
    engine, _ = language_model(str(policy), "transformers", {}, None, said=str(policy))
    return write_pool([_asked(problem) for problem in problems], engine, store, way, name=name).pool


def _save(path: Path, pool: Pool) -> None:
    path.write_text("".join(f"{to_json(row)}\n" for row in pool.rows), encoding="utf-8")


def step_rows(problems: Sequence[Problem], pool: Pool) -> list[dict[str, Any]]:
    """Every completion with its steps, right (1) while each does what the problem asks for next, -1 from there on."""
    rows = []
    for problem, row in zip(problems, pool.rows, strict=True):
        for number, text in enumerate(row.completions):
            steps = [step.strip() for step in re.split(r"\n\s*\n", text) if step.strip()]
            if steps:
                labels = _labels(problem, steps)
                rows.append({"id": f"{row.id}/{number}", "prompt": problem.text, "steps": steps, "labels": labels})
    return rows


def _labels(problem: Problem, steps: Sequence[str]) -> list[int]:
    truth = [str(equation) for equation in right_solution(problem).equations]
    turned = [f"{e.right} {e.symbol} {e.left} = {e.result}" for e in right_solution(problem).equations]
    labels: list[int] = []
    for at, step in enumerate(steps):
        found = _EQUATION.search(step)
        if at < len(truth):
            same = found is not None and found[0] == truth[at]
            right = same or (found is not None and found[2] in "+×" and found[0] == turned[at])
        else:
            right = at == len(truth) and re.fullmatch(rf"Answer\s*:\s*{problem.answer}", step) is not None
        labels.append(1 if right and (not labels or labels[-1] == 1) else -1)
    return labels


def _tuned_curves(tuned: dict[str, Any]) -> list[Curve]:
    points = [
        Point(f"{name}: {point['at']}", point["value"], point["ci"], point["n"])
        for name, one in tuned.items()
        for point in one["gold"]
    ]
    return (
        [Curve("fine-tuned on the chosen: gold of the test problems", "gold", "mean gold", tuple(points))]
        if points
        else []
    )


def show(document: dict[str, Any]) -> list[str]:
    """The outcome in lines."""

    def cell(point: dict[str, Any]) -> str:
        ci = point["ci"]
        return f"{point['value']:.3f}" + (f" [{ci[0]:.3f}, {ci[1]:.3f}]" if ci else "")

    lines = [f"arithmetic world, seed {document['seed']}, temperature {document['temperature']}"]
    lines += [
        f"best of n by {n}: " + ", ".join(f"{p['at']} {cell(p)}" for p in one["gold"])
        for n, one in document["best_of_n"].items()
    ]
    lines += [
        f"gain over random at the largest n by {n}: {cell(one['gain'][-1])}" for n, one in document["best_of_n"].items()
    ]
    weak = document["weak"]
    ends = f" [{weak['fall_ci'][0]:.3f}, {weak['fall_ci'][1]:.3f}]" if weak["fall_ci"] else ""
    said = "over-optimised" if weak["over_optimised"] else "no over-optimisation shown"
    lines.append(f"weak: best at n = {weak['best_n']}, then lower by {weak['fall']:.3f}{ends}: {said}")
    for one in weak["fits"]:
        fit = one["fit"]
        lines.append(
            f"  {fit['law']} law: alpha {fit['alpha']:.3f}, beta {fit['beta']:.3f} {one['beta_ci']}, R2 {fit['r2']:.3f}"
        )
    for name, one in document["rejection"].items():
        lines.append(
            f"fine-tuned on {one['rows']} chosen by {name} (uplift {cell(one['uplift'])}): "
            + ", ".join(f"{point['at']} {cell(point)}" for point in one["gold"])
            + f"; chosen - matched draw {cell(one['difference'])}; each {[round(d, 3) for d in one['each']]}"
        )
    return [*lines, f"seconds: {document['seconds']}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="The loop of optimising against reward models, on the arithmetic world."
    )
    parser.add_argument("out", nargs="?", type=Path, default=Path("runs/optimise"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fast", action="store_true")
    given = parser.parse_args()
    if (given.out / "policy").exists():
        sys.exit(f"{given.out}: holds a run already; name another folder")
    document = run(given.out, given.seed, FAST if given.fast else Size())
    for line in show(document):
        print(line)
    print(f"figure: {given.out / 'optimise.svg'}")


if __name__ == "__main__":
    main()
