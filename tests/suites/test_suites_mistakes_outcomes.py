"""Mr-Ben, BIG-Bench Mistake, outcomes and own steps: ids, labels in our form, what is dropped, the numbers."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest
from command import rmeval
from made_steps import by, first_below, grades, run_steps, step_scores
from own_suites import assert_same, json_lines, json_list, parquet, replayed, sample, sample_file, without

from rmeval.errors import UsageError
from rmeval.suites import load_suite

PROCESS, PRM, MR, MISTAKE, OUTCOMES, POOLS, STEPS = (
    "processbench",
    "prmbench",
    "mr-ben",
    "bigbench-mistake",
    "gsm8k-outcomes",
    "prm800k-bon",
    "steps",
)

# --- Mr-Ben ----------------------------------------------------------------------------------------------------------


def mr_ben_repository(folder: Path, rows) -> Path:
    """One object per subject, key -> list of rows, over many lines."""
    folder.mkdir(parents=True)
    for subject, part in by(rows, "subject").items():
        groups = {key: without(members, "subject") for key, members in by(part, "Question_UUID").items()}
        (folder / f"{subject}.json").write_text(json.dumps(groups, indent=2), "utf-8")
    (folder / "k_shot_demo.json").write_text(json.dumps({"math": [{"Question": "demo"}]}, indent=2), "utf-8")
    return folder.parent


def test_mr_ben_finds_steps_by_label_and_lines_of_code_by_text(tmp_path):
    rows, suite = sample(MR), load_suite(MR)
    bare = suite.load(sample_file(MR))
    repository = suite.load(mr_ben_repository(tmp_path / "Mr-Ben/data", rows))
    assert_same(repository, bare)
    assert repository.layout == "official repository"
    assert grades(bare) == {
        "biology/0": (1, 1, 1), "biology/1": (1, 0, -1, -1), "chemistry/0": (1, 1, 1), "chemistry/1": (0, -1, -1, -1),
        "coding/0": (1, 1, 0), "coding/1": (1, 1), "coding/2": (-1, -1), "math/0": (1, 1), "math/1": (0, -1),
        "medicine/0": (1, 1), "medicine/1": (-1, -1, -1), "physics/0": (1, 1, 1), "physics/1": (1, 0, -1),
    }  # fmt: skip
    texts = {one.id: one for one in bare.examples}
    assert texts["coding/0"].candidates[0].steps[2] == "    return x * x"
    assert texts["biology/0"].prompt[0].content.startswith("Which organ pumps blood?\n\nA: Liver")
    assert texts["biology/0"].cluster == texts["biology/1"].cluster == "b-1"
    assert texts["coding/0"].prompt[0].content == "Write double(x)."
    assert "have no step labels: 2" in bare.notes[1]


def test_an_object_that_holds_no_lists_of_rows_is_refused(tmp_path):
    (tmp_path / "math.json").write_text('{\n "k": [{"Question": "q"}],\n "version": 3\n}', "utf-8")
    with pytest.raises(UsageError, match="an object of lists of objects is expected, and 'version' holds a number"):
        load_suite(MR).load(tmp_path)


def test_mr_ben_is_the_mean_of_the_subjects(tmp_path):
    scores = step_scores(MR)
    found = run_steps(MR, tmp_path, scores)
    data = load_suite(MR).load(sample_file(MR))
    values = []
    for subject in ("biology", "chemistry", "coding", "math", "medicine", "physics"):
        cells, located, locatable = Counter(), 0, 0
        for one in (one for one in data.examples if one.subset == subject):
            said, right = first_below(scores[one.id]), one.labels.grades == (1.0,)
            cells[right, said == -1] += 1
            labels = one.labels.step_grades[0]
            located += 0 in labels and said == labels.index(0)
            locatable += 0 in labels
        tp, fn, fp, tn = cells[True, True], cells[True, False], cells[False, True], cells[False, False]
        bottom = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        mcc = (tp * tn - fp * fn) / bottom if bottom else 0.0
        values.append((0.2 * max(0, mcc) + 0.3 * (located / locatable if locatable else 0)) / 0.5)
        assert found["MR-score without reasons", subject]["value"] == pytest.approx(values[-1]), subject
        assert found["MCC", subject]["value"] == pytest.approx(mcc)
    assert found["MR-score without reasons", None]["value"] == pytest.approx(fmean(values))


def test_mr_ben_counts(dev_data):
    data = load_suite(MR).load(dev_data / "mr-ben")
    assert data.complete
    assert data.labels_sha256 == load_suite(MR).card.labels_sha256
    found = Counter((one.subset, one.labels.grades[0]) for one in data.examples)
    right = {"biology": 617, "chemistry": 382, "coding": 74, "math": 149, "medicine": 257, "physics": 319}
    wrong = {"biology": 418, "chemistry": 466, "coding": 164, "math": 769, "medicine": 571, "physics": 348}
    assert found == {(s, 1.0): n for s, n in right.items()} | {(s, 0.0): n for s, n in wrong.items()}
    assert len({one.cluster for one in data.examples}) == 1532
    unlocated = Counter(one.subset for one in data.examples if set(one.labels.step_grades[0]) == {-1})
    assert unlocated == {"coding": 13, "biology": 2, "medicine": 2}
    assert data.notes[2] == "wrong lines that occur several times, of which the first is taken: 6"


# --- BIG-Bench Mistake -----------------------------------------------------------------------------------------------


def test_bigbench_mistake_reads_null_as_no_mistake_and_never_a_missing_column(tmp_path):
    rows, suite = sample(MISTAKE), load_suite(MISTAKE)
    bare = suite.load(sample_file(MISTAKE))
    for task, part in by(rows, "task").items():
        json_lines(tmp_path / f"repository/{task}.jsonl", without(part, "task"))
    repository = suite.load(tmp_path / "repository")
    assert_same(repository, bare)
    assert repository.layout == "official repository"
    parquet(tmp_path / "all.parquet", rows)
    assert_same(suite.load(tmp_path / "all.parquet"), bare)
    labels = [row["mistake_index"] for row in rows]
    assert [g.index(0) if 0 in g else None for g in grades(bare).values()] == labels
    with pytest.raises(UsageError, match="mistake_index"):
        suite.load(json_lines(tmp_path / "lines.jsonl", without(rows, "mistake_index")))


def test_bigbench_mistake_is_the_accuracy_per_task_and_the_mean_of_tasks(tmp_path):
    scores = step_scores(MISTAKE)
    found = run_steps(MISTAKE, tmp_path, scores)
    tasks = []
    for task, part in by(sample(MISTAKE), "task").items():
        hits = [
            first_below(scores[f"{task}/{i}"]) == (-1 if row["mistake_index"] is None else row["mistake_index"])
            for i, row in enumerate(part)
        ]
        tasks.append(fmean(hits))
        assert found["accuracy", task]["value"] == tasks[-1]
    assert found["accuracy", None]["value"] == pytest.approx(fmean(tasks))


def test_bigbench_mistake_counts(dev_data):
    data = load_suite(MISTAKE).load(dev_data / "bigbench-mistake")
    assert data.complete
    assert data.labels_sha256 == load_suite(MISTAKE).card.labels_sha256
    right = Counter(one.subset for one in data.examples if 0 not in one.labels.step_grades[0])
    assert right == {
        "dyck_languages": 336, "logical_deduction": 6, "multistep_arithmetic": 62, "tracking_shuffled_objects": 40,
        "word_sorting": 34,
    }  # fmt: skip
    assert sum(len(one.candidates[0].steps) for one in data.examples) == 24178 + 2497 + 1506 + 1617 + 3508


# --- outcomes --------------------------------------------------------------------------------------------------------


def test_gsm8k_outcomes_are_pools_of_four_in_the_order_of_the_systems(tmp_path):
    rows, suite = sample(OUTCOMES), load_suite(OUTCOMES)
    systems = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    json_lines(tmp_path / "grade_school_math/data/example_model_solutions.jsonl", rows)
    json_lines(tmp_path / "grade_school_math/data/test.jsonl", [{"question": "q", "answer": "#### 1"}])
    data = suite.load(tmp_path)
    assert_same(data, suite.load(sample_file(OUTCOMES)))
    for one, row in zip(data.examples, rows, strict=True):
        assert [c.text for c in one.candidates] == [row[s]["solution"] for s in systems]
        assert one.labels.grades == tuple(float(row[s]["is_correct"]) for s in systems)
    scores = {one.id: [float(i % 2) for i in range(4)] for one in data.examples}  # the verifiers share the top
    found = replayed(OUTCOMES, tmp_path, tmp_path / "work", {key: {"scores": s} for key, s in scores.items()})
    expected = fmean((one.labels.grades[1] + one.labels.grades[3]) / 2 for one in data.examples)
    assert found["best of 4", None]["value"] == pytest.approx(expected)
    chance = fmean(fmean(one.labels.grades) for one in data.examples)
    assert found["best_of_n[n=1]", None]["value"] == pytest.approx(chance)


def test_gsm8k_outcome_counts(dev_data):
    data = load_suite(OUTCOMES).load(dev_data / "gsm8k")
    assert data.complete
    assert data.labels_sha256 == load_suite(OUTCOMES).card.labels_sha256
    assert [sum(one.labels.grades[i] for one in data.examples) for i in range(4)] == [286, 515, 458, 742]
    assert sum(any(one.labels.grades) for one in data.examples) == 887
    assert sum(all(one.labels.grades) for one in data.examples) == 156


def test_prm800k_groups_samples_wherever_they_stand_and_never_chooses_one_without_an_answer(tmp_path):
    data = load_suite(POOLS).load(sample_file(POOLS))
    first, second, third = data.examples
    assert first.labels.grades == (1.0, 0.0, 1.0)  # 2 + 2: the third of its four samples has no answer
    assert second.labels.grades == (1.0, 0.0, 1.0)
    assert third.labels.grades == (0.0, 0.0)
    assert data.notes[0] == "samples without an answer, which are left out since none can be chosen: 1"
    scores = {}
    for problem, rows in by(sample(POOLS), "problem").items():
        key = next(one.id for one in data.examples if one.prompt[0].content == problem)
        scores[key] = {"scores": [row["prm_score"] for row in rows if row["answer"] is not None]}
    renamed = [{("given_answer" if k == "answer" else k): v for k, v in row.items()} for row in sample(POOLS)]
    path = json_lines(tmp_path / "prm800k/scored-test-samples.jsonl", renamed)
    assert_same(load_suite(POOLS).load(path.parent), data)
    found = replayed(POOLS, sample_file(POOLS), tmp_path, scores)
    # n = all: 2 + 2 right; 3 * 3 a tie at .8 of a wrong and a right one; 10 / 4 wrong
    assert found["best of 1860", None]["value"] == pytest.approx((1 + 0.5 + 0) / 3)
    # n = 10: a sample is drawn with chance 10/1860 each, and two at once hardly ever
    assert found["best_of_n[n=10,pool=1860]", None]["value"] == pytest.approx(4 / 3 * 10 / 1860, rel=0.01)
    got = rmeval("run", "length", "--suite", POOLS, "--data", sample_file(POOLS))
    assert got.code == 2
    assert "score-only" in got.stderr


# --- a user's own file, and faults in any ----------------------------------------------------------------------------


def test_own_steps_take_labels_in_three_forms():
    data = load_suite(STEPS).load(sample_file(STEPS))
    assert grades(data) == {"a": (1, 1), "b": (0, -1), "c": (1, 0, -1), "d": (1,), "e": (1, 1, 0)}
    assert [one.labels.grades[0] for one in data.examples] == [1, 0, 0, 1, 1]
    assert data.examples[0].cluster == data.examples[1].cluster


BAD = {
    "there are 2 steps, counted from 0": {"label": 2},
    "the first wrong step is -2": {"label": -2},
    "must be a whole number or null, found '1'": {"label": "1"},
    "must be a whole number or null, found True": {"label": True},
    "2 steps, labels 3": {"labels": [1, 1, 0]},
    "a label must be true or 1, false or 0": {"labels": [1, -1]},
    "step 5 is named wrong, but there are 2 steps": {"error_steps": [5]},
    "step -1 is named wrong": {"error_steps": [-1]},
    r"label \(the first wrong step\), error_steps \(all wrong steps\), labels \(a label per step\)": {"Label": 0},
    "labels and label name different first errors": {"label": 0, "labels": [1, 0]},
    "found an empty list": {"label": 0, "steps": []},
    r"steps\[1\] must be a text": {"label": 0, "steps": ["a", 3]},
    "outcome must be true or false": {"label": 0, "outcome": "yes"},
}


@pytest.mark.parametrize("said", BAD)
def test_bad_labels_are_refused_with_their_line(tmp_path, said):
    rows = [{"prompt": "q", "steps": ["a", "b"], "label": -1}, {"prompt": "q", "steps": ["a", "b"], **BAD[said]}]
    with pytest.raises(UsageError, match=said) as caught:
        load_suite(STEPS).load(json_lines(tmp_path / "mine.jsonl", rows))
    assert "mine.jsonl line 2" in str(caught.value)


def test_scores_that_miss_a_step_are_refused_and_a_null_is_a_missing_score(tmp_path):
    rows = [{"id": n, "prompt": n, "steps": ["a", "b"], "label": label} for n, label in (("x", -1), ("y", 0), ("z", 1))]
    path = json_lines(tmp_path / "mine.jsonl", rows)

    def run(scores, *more):
        lines = ({"id": n, "step_scores": [given]} for n, given in zip("xyz", scores, strict=True))
        replay = json_lines(tmp_path / "r.jsonl", lines)
        asked = ("--suite", STEPS, "--data", path, "--out", tmp_path / "out", "--json", *more)
        return rmeval("run", f"replay:{replay}", *asked)

    short = run([[0.9], [0.1, 0.9], [0.9, 0.1]])
    assert short.code == 2
    assert "1 step scores for 2 steps" in short.stderr
    nulled = [[0.9, 0.9], [0.1, 0.9], [0.9, None]]
    withheld = run(nulled)
    assert withheld.code == 3
    assert "1 score is missing (1 not_recorded)" in withheld.stderr
    holed = run(nulled, "--max-failed", 1)
    found = {(m["name"], m["subset"]): m for m in holed.document["metrics"]}
    assert (found["F1", None]["n"], found["F1", None]["n_missing"]) == (2, 1)
    assert found["F1[missing=wrong]", None]["value"] < found["F1", None]["value"] == 1


def test_one_folder_may_hold_a_folder_per_suite(tmp_path):
    mr_ben_repository(tmp_path / "data/mr-ben", sample(MR))
    for subset, part in by(sample(PROCESS), "_split").items():  # a math.json of its own
        json_list(tmp_path / f"data/processbench/{subset}.json", without(part, "_split"))
    got = rmeval("run", "all-correct", "--suite", f"{PROCESS},{MR}", "--data", tmp_path / "data", "--out", tmp_path)
    assert got.code == 0, got.stderr
    assert load_suite(PROCESS).load(tmp_path / "data").source == "file:processbench"


@pytest.mark.parametrize("name", [PROCESS, PRM, MR, MISTAKE])
def test_every_step_baseline_runs_on_every_suite(tmp_path, name):
    for model in ("all-correct", "first-step", "last-step", "random-step", "position-prior"):
        got = rmeval("run", model, "--suite", name, "--data", sample_file(name), "--out", tmp_path, "--json")
        assert got.code == 0, got.stderr
        head = got.document["metrics"][0]
        assert 0 <= head["value"] <= 1
        assert head["n_missing"] == 0
