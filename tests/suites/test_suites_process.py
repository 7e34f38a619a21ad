"""ProcessBench and PRMBench in the layouts of their authors: ids, labels in our form, what is dropped, the numbers."""

from __future__ import annotations

from collections import Counter
from statistics import fmean

import pytest
from command import rmeval
from made_steps import by, first_below, grades, run_steps, step_scores
from own_suites import assert_same, json_lines, json_list, parquet, replayed, sample, sample_file, without

from rmeval.errors import UsageError
from rmeval.readers.process import steps
from rmeval.suites import load_suite

PROCESS, PRM = "processbench", "prmbench"

# --- ProcessBench ----------------------------------------------------------------------------------------------------


def test_processbench_is_the_same_from_the_hub_the_repository_and_lines(tmp_path):
    rows, suite = sample(PROCESS), load_suite(PROCESS)
    bare = suite.load(sample_file(PROCESS))
    for subset, part in by(rows, "_split").items():
        parquet(tmp_path / f"hub/data/{subset}-00000-of-00001.parquet", without(part, "_split"))
        json_list(tmp_path / f"repository/code/data/{subset}.json", without(part, "_split"))
    hub, repository = suite.load(tmp_path / "hub"), suite.load(tmp_path / "repository")
    assert_same(hub, bare)
    assert_same(repository, bare)
    assert (hub.layout, repository.layout) == ("hub", "official repository")
    for one, row in zip(bare.examples, rows, strict=True):
        (labels,), label = one.labels.step_grades, row["label"]
        assert labels == tuple(
            1 if label == -1 or i < label else 0 if i == label else -1 for i in range(len(row["steps"]))
        )
        assert one.labels.grades == (float(row["final_answer_correct"]),)
        assert one.candidates[0].steps == tuple(row["steps"])


def test_processbench_headline_is_the_mean_of_four_f1(tmp_path):
    scores = step_scores(PROCESS)
    found = run_steps(PROCESS, tmp_path, scores)
    f1s = []
    for subset, part in by(sample(PROCESS), "_split").items():
        hits = {True: [], False: []}
        for row in part:
            hits[row["label"] == -1].append(first_below(scores[row["id"]]) == row["label"])
        error, right = fmean(hits[False]), fmean(hits[True])
        f1s.append(2 * error * right / (error + right) if error + right else 0.0)
        assert found["F1", subset]["value"] == pytest.approx(f1s[-1])
        assert found["F1[threshold=oracle]", subset]["value"] >= f1s[-1]
    assert found["F1", None]["value"] == pytest.approx(fmean(f1s))
    assert found["threshold:gsm8k", "gsm8k"]["value"] == found["threshold:oracle", "gsm8k"]["value"]
    wrong_way = [row for row in sample(PROCESS) if row["final_answer_correct"] and row["label"] != -1]
    assert found["right_answer_wrong_process", None]["n"] == len(wrong_way) == 1


def test_a_threshold_asked_for_reaches_the_figures_beside_the_headline(tmp_path):
    replay = json_lines(
        tmp_path / "r.jsonl", ({"id": key, "step_scores": [steps]} for key, steps in step_scores(PROCESS).items())
    )
    got = rmeval(
        *("run", f"replay:{replay}", "--suite", PROCESS, "--data", sample_file(PROCESS), "--out", tmp_path, "--json"),
        *("-a", "metric.threshold=0.8"),
    )
    assert got.code == 0, got.stderr
    notes = {m["name"]: m["note"] for m in got.document["metrics"] if m["subset"] is None}
    assert "below 0.8" in notes["F1"]
    assert "below 0.8" in notes["right_answer_wrong_process[threshold=0.8]"]
    assert got.document["metric_options"] == {"threshold": 0.8}


def test_processbench_counts_are_the_published_ones(dev_data):
    data = load_suite(PROCESS).load(dev_data / "processbench")
    assert data.complete
    assert data.labels_sha256 == load_suite(PROCESS).card.labels_sha256
    counts = Counter()
    for one in data.examples:
        wrong, right = 0 in one.labels.step_grades[0], one.labels.grades == (1.0,)
        steps = len(one.candidates[0].steps)
        assert steps >= 2
        assert all(step.strip() for step in one.candidates[0].steps)
        counts += Counter(
            {(one.subset, key): n for key, n in
             {"error": wrong, "correct": not wrong, "answer": right, "both": wrong and right, "steps": steps}.items()}
        )  # fmt: skip
    table = {
        "gsm8k": (207, 193, 200, 7, 2082),
        "math": (594, 406, 500, 94, 6505),
        "olympiadbench": (661, 339, 500, 161, 8819),
        "omnimath": (759, 241, 500, 259, 8291),
    }
    names = ("error", "correct", "answer", "both", "steps")
    assert counts == {(s, name): n for s, row in table.items() for name, n in zip(names, row, strict=True)}
    clusters = {s: len({one.cluster for one in data.examples if one.subset == s}) for s in table}
    assert clusters == {"gsm8k": 375, "math": 955, "olympiadbench": 561, "omnimath": 951}


SIZES = {"gsm8k": (207, 193), "math": (594, 406), "olympiadbench": (661, 339), "omnimath": (759, 241)}
MISPRINTS = {  # arXiv 2501.07301, table 7: what it prints, and what its own F1 and the counts allow
    ("Skywork-PRM-7B", "math", "acc_correct"): (62.2, 69.2),
    ("Skywork-PRM-1.5B", "math", "acc_correct"): (65.2, 65.3),
    ("Llama-3.3-70B-Instruct (maj@8)", "math", "acc_correct"): (83.2, 94.6),
    ("RLHFlow-PRM-Deepseek-8B", "omnimath", "acc_error"): (10.9, 10.1),
    ("Qwen2.5-Math-7B-PRM800K", "omnimath", "acc_correct"): (86.1, 86.3),
}


def published(name):
    found = {}
    for one in load_suite(name).card.published:
        found.setdefault(one.model, {})[one.metric] = round(100 * one.value, 4)
    return found


def is_whole_count(percent, n):
    """Whether some i/n rounds to a percentage of one decimal (in either direction at the half)."""
    return abs(round(percent * n / 100) * 100 / n - percent) <= 0.05 + 1e-9


def agrees(error, right, f1):
    """Whether some accuracies that round to these have an F1 that rounds to that."""
    low, high = (2 * (error + d) * (right + d) / (error + right + 2 * d) for d in (-0.05, 0.05))
    return low - 0.05 - 1e-9 <= f1 <= high + 0.05 + 1e-9


def test_published_rows_of_processbench_agree_with_themselves_and_with_the_counts():
    rows = published(PROCESS)
    full = {model: row for model, row in rows.items() if "acc_error of gsm8k" in row}
    assert (len(full), len(rows)) == (17, 25)
    for model, row in rows.items():
        f1s = [row[s] for s in SIZES if s in row]
        assert not f1s or abs(fmean(f1s) - row[""]) <= 0.1 + 1e-9, model
    for model, row in full.items():
        for subset, (n_error, n_right) in SIZES.items():
            error, right = row[f"acc_error of {subset}"], row[f"acc_correct of {subset}"]
            assert agrees(error, right, row[subset]), (model, subset)
            assert is_whole_count(error, n_error), (model, subset)
            assert is_whole_count(right, n_right), (model, subset)


@pytest.mark.parametrize("where", MISPRINTS)
def test_the_misprints_are_caught_by_the_same_checks(where):
    model, subset, component = where
    printed, corrected = MISPRINTS[where]
    row = published(PROCESS)[model]
    assert row[f"{component} of {subset}"] == corrected
    pair = {c: row[f"{c} of {subset}"] for c in ("acc_error", "acc_correct")} | {component: printed}
    n = SIZES[subset][component == "acc_correct"]
    assert not (agrees(pair["acc_error"], pair["acc_correct"], row[subset]) and is_whole_count(printed, n))


# --- PRMBench --------------------------------------------------------------------------------------------------------


def test_prmbench_counts_from_one_drops_what_is_past_the_end_and_keeps_the_first(tmp_path):
    rows, suite = sample(PRM), load_suite(PRM)
    bare = suite.load(sample_file(PRM))
    json_lines(tmp_path / "hub/prmbench_preview.jsonl", rows)
    for name, part in by(rows, "classification").items():
        prefix = "prm_test_p12" if name == "multi_solutions" else "prm800k_test_p1_4o"
        json_lines(tmp_path / f"repository/mr_eval/data/{prefix}_{name}.jsonl", part)
    parquet(tmp_path / "converted/default/train/0000.parquet", rows)
    for folder in ("hub", "repository", "converted"):
        assert_same(suite.load(tmp_path / folder), bare)
    assert grades(bare) == {
        "redundency_own_p1_0": (1, 0, 1, 1), "circular_own_p1_0": (0, 1, 0), "counterfactual_own_p1_0": (0, 0, 0),
        "step_contradiction_own_p1_0": (1, 0, 1), "domain_inconsistency_own_p1_0": (1, 0, 1),
        "confidence_own_p1_0": (1, 0, 0), "missing_condition_own_p1_0": (1, 1), "deception_own_p1_0": (1, 1, 0),
        "multi_solutions_own_p2_0": (1, 1, 1),
    }  # fmt: skip
    assert len({one.cluster for one in bare.examples}) == 1  # one original question
    assert bare.examples[-1].candidates[0].steps[0].startswith("1. Three boxes hold 12 red pens")
    assert bare.notes[:3] == (
        "rows that repeat an id, of which the first is read: 1",
        "wrong steps listed past the end of a solution, which are dropped: 2, in 2 rows, of which none left in 1",
        "blank steps, which stand as they are since labels count them: 1",
    )


def prm_score_of(pairs):
    tp = sum(said and grade for said, grade in pairs)
    fp = sum(said and not grade for said, grade in pairs)
    fn = sum(grade and not said for said, grade in pairs)
    tn = len(pairs) - tp - fp - fn
    f1 = 2 * tp / (2 * tp + fp + fn) if tp else 0.0
    negative = 2 * tn / (2 * tn + fp + fn) if tn else 0.0
    return f1, negative


def test_prmbench_pools_steps_and_averages_classes_into_dimensions(tmp_path):
    scores = step_scores(PRM)
    found = run_steps(PRM, tmp_path, scores)
    data = load_suite(PRM).load(sample_file(PRM))
    pairs = {
        one.subset: [(s > 0.5, g == 1) for s, g in zip(scores[one.id], grades(data)[one.id], strict=True)]
        for one in data.examples
    }
    classes = {name: fmean(prm_score_of(part)) for name, part in pairs.items()}
    classes["multi_solutions"] = prm_score_of(pairs["multi_solutions"])[0]
    for name, value in classes.items():
        assert found["PRM-Score", name]["value"] == pytest.approx(value), name
    whole = [pair for part in pairs.values() for pair in part]
    assert found["PRM-Score", None]["value"] == pytest.approx(fmean(prm_score_of(whole)))
    assert found["F1", None]["value"] == pytest.approx(prm_score_of(whole)[0])
    assert found["negative_F1", "multi_solutions"]["value"] is None
    for dimension, members in DIMENSIONS.items():
        name = f"PRM-Score[{dimension}]"
        assert found[name, None]["value"] == pytest.approx(fmean(classes[m] for m in members))


def test_prmbench_originals_add_what_the_errors_were_put_into(tmp_path):
    data = load_suite("prmbench:originals").load(sample_file(PRM))
    [original] = [one for one in data.examples if one.subset == "correct"]
    [row] = [row for row in sample(PRM) if row["classification"] == "redundency"]
    assert original.id == "correct_own_p1_0"
    assert original.candidates[0].steps == tuple(row["original_process"])
    assert original.labels.step_grades == ((1, 1, 1),)
    assert [one for one in data.examples if one is not original] == list(
        load_suite(PRM).load(sample_file(PRM)).examples
    )

    scores = {one.id: [0.9, 0.2, 0.9, 0.9, 0.9][: len(one.candidates[0].steps)] for one in data.examples}
    plain = run_steps(PRM, tmp_path / "plain", {k: v for k, v in scores.items() if k != original.id})
    found = with_originals(tmp_path / "more", scores)
    assert found["PRM-Score", None]["value"] == plain["PRM-Score", None]["value"]
    assert found["F1", None] == plain["F1", None]
    # two of three steps of the original are called right, and so are three of the four with a redundant one
    assert found["similarity", "redundency"]["value"] == pytest.approx(3 / 4 - 2 / 3)
    assert found["similarity", "circular"]["value"] == 0.0
    # the sample's only solution of another problem has no original
    assert (found["similarity", "multi_solutions"]["value"], found["similarity", None]["n_missing"]) == (None, 1)
    assert ("similarity", None) not in plain
    none_right = with_originals(tmp_path / "none", scores | {original.id: [0.1, 0.1, 0.1]})
    assert none_right["similarity", None]["value"] is None  # as upstream: nothing to compare with


def with_originals(work, scores):
    rows = {key: {"step_scores": [steps]} for key, steps in scores.items()}
    return replayed("prmbench:originals", sample_file(PRM), work, rows)


def test_prmbench_originals_say_what_they_lack():
    suite = load_suite("prmbench:originals")
    card = suite.card.model_copy(update={"fields": {k: v for k, v in suite.card.fields.items() if "_prompt" not in k}})
    with pytest.raises(UsageError, match="'originals' needs the fields original_prompt"):
        list(steps([], card, None, 0))


DIMENSIONS = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception", "multi_solutions"),
}


def test_published_rows_of_prmbench_have_dimensions_that_are_means_of_their_classes():
    rows = published(PRM)
    assert len(rows) == 14
    for model, row in rows.items():
        assert len(row) == 13
        for dimension, members in DIMENSIONS.items():
            assert abs(fmean(row[m] for m in members) - row[dimension]) <= 0.1 + 1e-9, (model, dimension)


def test_prmbench_counts(dev_data):
    data = load_suite(PRM).load(dev_data / "prmbench")
    assert data.complete
    assert len(data.examples) == 6211
    steps, wrong = Counter(), Counter()
    for one in data.examples:
        steps[one.subset] += len(one.candidates[0].steps)
        wrong[one.subset] += one.labels.step_grades[0].count(0)
    assert (sum(steps.values()), sum(wrong.values())) == (83371, 13149)
    more = load_suite("prmbench:originals").load(dev_data / "prmbench")
    assert more.complete
    assert Counter(one.subset for one in more.examples)["correct"] == len(more.examples) - 6211 == 758
    assert wrong["missing_condition"] == 1869
    assert steps["multi_solutions"] == 2241
    assert data.notes == (
        "rows that repeat an id, of which the first is read: 5",
        "wrong steps listed past the end of a solution, which are dropped: 151, in 100 rows, of which none left in 16",
        "blank steps, which stand as they are since labels count them: 15",
    )


def test_the_cluster_of_prmbench_is_no_text():
    """Its card clusters by the original question; a result holds the digest of it, and the same rows stay together."""
    found = [one.cluster for one in load_suite(PRM).load(sample_file(PRM)).examples]
    questions = {row["original_question"] for row in sample(PRM)}
    assert not set(found) & questions
    assert len(set(found)) == len(questions)
    assert all(len(cluster) == 16 for cluster in found)
