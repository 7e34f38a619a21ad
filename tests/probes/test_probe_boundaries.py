"""`rmeval probe boundaries`: every curve against plain loops, and the command on results of a real process model."""

from __future__ import annotations

import json
import math
import random
from itertools import combinations
from statistics import fmean

import pytest
import step_models as sm
from command import rmeval
from made_results import pairs, write
from scipy.stats import spearmanr

from rmeval.errors import UsageError
from rmeval.probes.boundaries import probe_boundaries
from rmeval.records import ScorerRecord
from rmeval.types import NAN, Judgement

COARSE = [0.1, 0.3, 0.3, 0.6, 0.9]
"""Few values, so that ties occur."""


def reading(seed: int, n: int = 24, k: int = 3, *, values=COARSE, missing: float = 0.0) -> list[Judgement]:
    """Examples of k responses, two per prompt; grades do not depend on the seed, steps and scores do."""
    labels, rng = random.Random(0), random.Random(seed)
    made = []
    for i in range(n):
        grades = (1.0, *(float(labels.random() < 0.5) for _ in range(k - 1)))
        steps = tuple(tuple(rng.choice(values) for _ in range(rng.randint(1, 4))) for _ in range(k))
        scores = tuple(NAN if rng.random() < missing else min(one) for one in steps)
        made.append(Judgement(f"e{i}", "s", "", f"p{i // 2}", grades, scores=scores, step_scores=steps))
    return made


def value(probe, panel, name, at):
    return next(point for point in probe.curve(panel, name).points if point.at == at)


def best(scores):
    return {i for i, s in enumerate(scores) if s == max(scores)}


def sign(x):
    return (x > 0) - (x < 0)


@pytest.fixture(scope="module")
def two():
    return reading(1), reading(2)


@pytest.fixture(scope="module")
def probe(two):
    return probe_boundaries({"line": two[0], "sentence": two[1]})


def test_counts_and_shifts_are_what_loops_say(two, probe):
    a, b = ([(len(s), v) for j in js for s, v in zip(j.step_scores, j.scores, strict=True)] for js in two)
    assert (probe.splits, probe.examples, probe.responses, probe.prompts) == (("line", "sentence"), 24, 72, 12)
    for name, rows in (("line", a), ("sentence", b)):
        assert value(probe, "steps", "steps per response", name).value == pytest.approx(fmean(n for n, _ in rows))
        assert value(probe, "level", "mean reward", name).value == pytest.approx(fmean(v for _, v in rows))
    at = "line to sentence"
    shifts = [y - x for (_, x), (_, y) in zip(a, b, strict=True)]
    assert value(probe, "shift", "mean shift", at).value == pytest.approx(fmean(shifts))
    assert value(probe, "shift", "mean distance", at).value == pytest.approx(fmean(map(abs, shifts)))
    alike = fmean(n == m for (n, _), (m, _) in zip(a, b, strict=True))
    assert value(probe, "cut alike", "same number of steps", at).value == pytest.approx(alike)


def test_orders_decisions_and_accuracies_are_what_loops_say(two, probe):
    at = "line to sentence"
    both = list(zip(*two, strict=True))
    x, y = ([v for j in js for v in j.scores] for js in two)
    rank = value(probe, "order", "rank correlation", at)
    assert rank.value == pytest.approx(spearmanr(x, y).statistic)
    assert rank.ci[0] < rank.value < rank.ci[1]
    kept = fmean(
        fmean(sign(p.scores[i] - p.scores[j]) == sign(q.scores[i] - q.scores[j]) for i, j in combinations(range(3), 2))
        for p, q in both
    )
    assert value(probe, "order", "order kept", at).value == pytest.approx(kept)
    changed = value(probe, "decisions", "another choice", at)
    assert changed.value == pytest.approx(fmean(best(p.scores) != best(q.scores) for p, q in both))
    assert changed.ci[0] < changed.value < changed.ci[1]
    crossed = fmean((v > 0.5) != (w > 0.5) for v, w in zip(x, y, strict=True))
    assert value(probe, "decisions", "crossed one half", at).value == pytest.approx(crossed)

    def hit(j):
        return fmean(j.grades[i] for i in best(j.scores))

    contrast = [(p, q) for p, q in both if 0.0 in p.grades]
    assert len(contrast) < len(both)
    for name, side in (("line", 0), ("sentence", 1)):
        assert value(probe, "accuracy", "accuracy", name).value == pytest.approx(fmean(hit(r[side]) for r in contrast))
    moved = value(probe, "accuracy moved", "difference", at)
    assert moved.value == pytest.approx(fmean(hit(q) - hit(p) for p, q in contrast))
    assert moved.n == len(contrast)


def test_the_same_reading_twice_changes_nothing(two):
    same = probe_boundaries({"a": two[0], "b": two[0]})
    found = {c.name: c.points[0].value for c in same.curves if c.points and c.points[0].at == "a to b"}
    assert found == {
        "same number of steps": 1.0, "mean shift": 0.0, "mean distance": 0.0, "rank correlation": pytest.approx(1.0),
        "order kept": 1.0, "another choice": 0.0, "crossed one half": 0.0, "difference": 0.0,
    }  # fmt: skip


def test_three_readings_have_three_pairs(two):
    found = probe_boundaries({"line": two[0], "paragraph": reading(3), "sentence": two[1]})
    ats = [point.at for point in found.curve("shift", "mean shift").points]
    assert ats == ["line to paragraph", "line to sentence", "paragraph to sentence"]


def test_another_aggregate_of_the_steps_can_be_asked_for(two):
    found = probe_boundaries({"line": two[0], "sentence": two[1]}, "max")
    expected = fmean(max(s) for j in two[0] for s in j.step_scores)
    assert value(found, "level", "mean reward", "line").value == pytest.approx(expected)


def test_a_missing_reward_makes_its_pair_missing_and_is_counted(two):
    gaps = reading(2, missing=0.2)
    found = probe_boundaries({"line": two[0], "sentence": gaps})
    lost = sum(math.isnan(v) for j in gaps for v in j.scores)
    assert lost > 3
    for panel, name in (("shift", "mean shift"), ("order", "rank correlation"), ("decisions", "crossed one half")):
        point = value(found, panel, name, "line to sentence")
        assert (point.n, point.n_missing) == (72 - lost, lost)
    spoiled = sum(any(map(math.isnan, j.scores)) for j in gaps)
    assert value(found, "decisions", "another choice", "line to sentence").n_missing == spoiled


def test_what_cannot_be_said_is_undefined_with_its_reason():
    single = [
        Judgement(f"e{i}", "s", "", f"p{i}", (1.0,), scores=(2.0 * i,), step_scores=((2.0 * i,),)) for i in range(3)
    ]
    found = probe_boundaries({"a": single, "b": single})
    assert found.curve("order", "order kept").undefined == "no example has several responses"
    assert "outside [0, 1]" in found.curve("decisions", "crossed one half").undefined
    assert "right and a wrong response" in found.curve("accuracy", "accuracy").undefined
    level = [Judgement("e", "s", "", "p", (1.0,), scores=(1.0,), step_scores=((1.0,),))]
    flat = probe_boundaries({"a": level, "b": level})
    assert value(flat, "order", "rank correlation", "a to b").note == "needs rewards that differ"


def test_readings_of_other_responses_are_refused(two):
    with pytest.raises(UsageError, match="line and sentence are not about the same responses: example 'e23'"):
        probe_boundaries({"line": two[0], "sentence": two[1][:-1]})


# --- the command -----------------------------------------------------------------------------------------------------


def result(tmp_path, seed, split, hour, **changes):
    scorer = ScorerRecord(name="process", kind="process", split=split, resplit=True)
    return write(tmp_path / "r", reading(seed), hour, **({"scorer": scorer} | changes))


def test_the_command_on_results_of_a_process_model(tmp_path, monkeypatch):
    sm.saved(tmp_path / "m", "qwen2", "AutoModelForTokenClassification", num_labels=2)
    rows = [
        {"question": f"What is {i} + 1?", **{
            who: {"solution": f"We add 1 to {i}. Then, e.g. by counting, it is so.\nThe answer is {i + n}.",
                  "is_correct": n == 1}
            for n, who in enumerate(("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"))
        }}
        for i in range(3)
    ]  # fmt: skip
    data = tmp_path / "example_model_solutions.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = []
    for split in ("line", "paragraph", "sentence"):
        done = rmeval(
            "run", tmp_path / "m", "--scorer", "process", "-a", "scorer.separator=<tag>", "-a", f"scorer.split={split}",
            "--suite", "gsm8k-outcomes", "--data", data, "--out", tmp_path / "r", "--store", tmp_path / "s", "--json",
        )  # fmt: skip
        assert done.code == 0, done.stderr
        [path] = (tmp_path / "r").rglob(done.document["samples"]["file"].replace("-samples.jsonl.gz", ".json"))
        made.append(path)
    found = rmeval("probe", "boundaries", *made, "-o", tmp_path / "p", "--json")
    assert found.code == 0, found.stderr
    steps = next(c for c in found.document["curves"] if c["panel"] == "steps")
    assert [(p["at"], p["value"]) for p in steps["points"]] == [("line", 2.0), ("paragraph", 1.0), ("sentence", 3.0)]
    moved = next(c for c in found.document["curves"] if c["name"] == "mean distance")
    assert all(point["value"] > 0 for point in moved["points"])
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == [
        "boundaries.json", "boundaries.png", "boundaries.svg"
    ]  # fmt: skip
    assert "line to paragraph" in (tmp_path / "p" / "boundaries.svg").read_text()
    shown = rmeval("probe", "boundaries", *made)
    assert "steps per response" in shown.stdout
    assert "another choice" in shown.stdout


def test_results_that_differ_in_more_than_the_split_are_refused(tmp_path):
    line, sentence = result(tmp_path, 1, "line", 1), result(tmp_path, 2, "sentence", 2)
    ok = rmeval("probe", "boundaries", line, sentence)
    assert ok.code == 0, ok.stderr
    twice = result(tmp_path, 2, "line", 3)
    other = result(tmp_path, 2, "sentence", 4, suite="toy-others")
    prod = ScorerRecord(name="process", kind="process", split="sentence", resplit=True, aggregate="prod")
    ruled = result(tmp_path, 2, "sentence", 5, scorer=prod)
    scalar = write(tmp_path / "r", pairs(), 6)
    for wrong, said in (
        ((line, twice), "two results cut responses alike (line)"),
        ((line, other), "differ in more than where steps end: suite"),
        ((line, ruled), "scorer.aggregate: None and prod"),
        ((line, scalar), "cuts no responses into steps"),
        ((line,), "at least two results"),
    ):
        found = rmeval("probe", "boundaries", *wrong)
        assert found.code == 2, found.stdout
        assert said in " ".join(found.stderr.split())
