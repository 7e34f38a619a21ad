"""Other projects' rows, by rows of their shape, and the published files where they are at hand."""

from __future__ import annotations

import json
import math

import pytest

from rmeval.errors import UsageError
from rmeval.training.rows import read_comparisons, read_dialogues, read_outcomes, read_rankings, read_steps

SIGN = "\u043a\u0438"


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def labels(one):
    return [None if math.isnan(x) else int(x) for x in one.labels]


def test_prm800k_alternatives_are_branches_and_never_successive_steps(tmp_path, capsys):
    def option(text, rating):
        return {"text": text, "rating": rating, "flagged": None}

    row = {
        "question": {"problem": "p"},
        "label": {
            "steps": [
                {"completions": [option("a", 1), option("a'", -1)], "human_completion": None, "chosen_completion": 0},
                {"completions": [option("b'", 0)], "human_completion": option("b", None), "chosen_completion": None},
                {
                    "completions": [option("c", 0), option("c'", -1), option("c''", None)],
                    "human_completion": None,
                    "chosen_completion": 0,
                },
            ],
            "finish_reason": "solution",
        },
    }
    found = read_steps(write(tmp_path / "a.jsonl", row))
    assert [(one.steps, labels(one)) for one in found] == [
        (("a", "b", "c"), [1, None, 0]),
        (("a'",), [-1]),
        (("a", "b'"), [1, 0]),
        (("a", "b", "c'"), [1, None, -1]),
    ]
    assert len({one.group for one in found}) == 1
    assert "adapter `prm800k`" in capsys.readouterr().err


def test_prm800k_a_solution_that_ends_in_an_error_is_not_told_twice(tmp_path):
    steps = [
        {"completions": [{"text": "a", "rating": 1}], "human_completion": None, "chosen_completion": 0},
        {"completions": [{"text": "b", "rating": -1}], "human_completion": None, "chosen_completion": None},
    ]
    row = {"question": {"problem": "p"}, "label": {"steps": steps, "finish_reason": "found_error"}}
    [one] = read_steps(write(tmp_path / "a.jsonl", row))
    assert (one.steps, labels(one)) == (("a", "b"), [1, -1])


def test_math_shepherd(tmp_path):
    text = f"Janet has 3 + 4 eggs. How many? Step 1: 3 + 4 = 7 {SIGN}\nStep 2: The answer is: 8 {SIGN}"
    row = {"input": text, "label": text.replace(SIGN, "+", 1).replace(SIGN, "-"), "task": "GSM8K"}
    [one] = read_steps(write(tmp_path / "a.jsonl", row))
    assert one.prompt[0]["content"] == "Janet has 3 + 4 eggs. How many?"
    assert (one.steps, labels(one)) == (("Step 1: 3 + 4 = 7", "Step 2: The answer is: 8"), [1, -1])
    with pytest.raises(UsageError, match=r"a.jsonl line 1: 'label' does not follow 'input'"):
        read_steps(write(tmp_path / "a.jsonl", {**row, "label": text.replace(SIGN, "x")}))


def test_trl(tmp_path):
    path = write(tmp_path / "a.jsonl", {"prompt": "p", "completions": ["a", "b"], "labels": [True, False]})
    assert labels(read_steps(path)[0]) == [1, -1]
    with pytest.raises(UsageError, match="--label-scale"):  # integers stay ambiguous
        read_steps(write(tmp_path / "b.jsonl", {"prompt": "p", "completions": ["a", "b"], "labels": [1, 0]}))
    path = write(tmp_path / "c.jsonl", {"prompt": "p", "completion": "a", "label": False})
    assert read_outcomes(path)[0].label == 0
    assert read_dialogues(path)[0].messages[-1] == {"role": "assistant", "content": "a"}


def test_scored_samples_ratings_and_ranks_are_rankings(tmp_path):
    cache = write(tmp_path / "a.jsonl", {"prompt": "p", "completions": ["a", "b"], "rewards": [0.2, 3.5]})
    assert read_rankings(cache)[0].levels == (1, 0)
    rated = [{"prompt": p, "response": r, "rating": n} for p, r, n in [("p", "a", 2), ("q", "x", 1), ("p", "b", 4)]]
    [one] = read_comparisons(write(tmp_path / "b.jsonl", *rated))
    assert (one.chosen, one.rejected) == ("b", "a")
    answers = [{"answer": "a", "rank": 2.0, "model": "m"}, {"answer": "b", "rank": 1.0, "model": "n"}]
    assert read_rankings(write(tmp_path / "c.jsonl", {"prompt": "p", "answers": answers}))[0].levels == (1, 0)


def test_b8_ratings_closer_than_the_gap_tie(tmp_path):
    rated = [{"prompt": "p", "response": str(n), "rating": n} for n in (1, 2, 3)]
    path = write(tmp_path / "a.jsonl", *rated)
    pairs = {gap: [c.chosen + c.rejected for c in read_comparisons(path, min_gap=gap)] for gap in (0, 2)}
    assert pairs == {0: ["21", "31", "32"], 2: ["31"]}
    half = read_comparisons(path, min_gap=2, ties="half")
    assert [(c.chosen + c.rejected, c.target) for c in half] == [("21", 0.5), ("31", 1.0), ("32", 0.5)]
    with pytest.raises(UsageError, match="none of 3 rows"):
        read_comparisons(path, min_gap=9)


def test_pairs_whose_two_columns_are_closer_than_the_gap_tie(tmp_path):
    rows = [{"prompt": f"p{b}", "chosen": "c", "rejected": "r", "a": 4, "b": b} for b in (1, 3, 5, 7)]
    asked = {"source": write(tmp_path / "a.jsonl", *rows), "margin_from": ("a", "b"), "min_gap": 2}
    assert [(c.margin, c.target) for c in read_comparisons(**asked)] == [(3, 1), (-3, 1)]
    half = read_comparisons(**asked, ties="half")
    assert [(c.margin, c.target) for c in half] == [(3, 1), (0, 0.5), (0, 0.5), (-3, 1)]


def test_first_errors_label_what_is_known(tmp_path):
    wrong = {"problem": "p", "steps": ["a", "b", "c"], "label": 1}
    right = {"problem": "p", "steps": ["a"], "label": -1}
    assert [labels(one) for one in read_steps(write(tmp_path / "a.jsonl", wrong, right))] == [[1, -1, None], [1]]
    with pytest.raises(UsageError, match=r"line 1: 'label' must be -1 or the 0-based index of one of 3 steps, found 3"):
        read_steps(write(tmp_path / "b.jsonl", {**wrong, "label": 3}))
    mistake = {"input": "i", "steps": ["a", "b"], "mistake_index": None}
    assert labels(read_steps(write(tmp_path / "c.jsonl", mistake))[0]) == [1, 1]
    bench = {"modified_question": "q", "modified_process": ["a", "b", "c"], "error_steps": [2, 9], "idx": "i"}
    assert labels(read_steps(write(tmp_path / "d.jsonl", bench))[0]) == [1, -1, 1]


def test_a_row_that_does_not_follow_its_file_is_named(tmp_path):
    good = {"problem": "p", "steps": ["a"], "label": -1}
    with pytest.raises(UsageError, match=r"line 2: no 'steps', which the adapter `processbench` needs"):
        read_steps(write(tmp_path / "a.jsonl", good, {"problem": "p", "label": -1}))


PUBLISHED = {
    # file: (rows, rows with an error, steps), as the data sets' own descriptions count them
    "processbench/gsm8k.json": (400, 207, 2082),
    "processbench/math.json": (1000, 594, 6505),
    "bigbench-mistake/word_sorting.jsonl": (300, 266, 3508),
    "mr-ben/data/biology.json": (1033, 416, None),  # in 2 of 1,035 no item bears the number of the error
    "mr-ben/data/math.json": (918, 769, None),
}


@pytest.mark.parametrize("file", PUBLISHED)
def test_published_step_files(dev_data, file):
    found = read_steps(dev_data / file)
    rows, errors, steps = PUBLISHED[file]
    assert (len(found), sum(-1.0 in one.labels for one in found)) == (rows, errors)
    if steps is not None:
        assert sum(len(one.steps) for one in found) == steps
    for one in found:
        at = one.labels.index(-1.0) if -1.0 in one.labels else len(one.labels)
        assert set(one.labels[:at]) <= {1.0}
        assert all(map(math.isnan, one.labels[at + 1 :]))


def test_published_prmbench(dev_data):
    folder = dev_data / "prmbench/mr_eval/tasks/prmtest_classified/data"
    found = read_steps(sorted(folder.glob("*.jsonl")))
    assert len(found) == 6216
    assert sum(len(one.steps) for one in found) == 83456
    assert sum(label == -1 for one in found for label in one.labels) == 13149


def test_published_gsm8k_solutions(dev_data):
    found = read_outcomes(dev_data / "gsm8k/grade_school_math/data/example_model_solutions.jsonl")
    assert (len(found), len({one.group for one in found})) == (5276, 1319)
    assert sum(one.label for one in found) == 286 + 515 + 458 + 742


def test_a_file_of_which_no_row_can_be_used_is_refused(dev_data):
    with pytest.raises(UsageError, match="none of 238 rows can be used for prm"):
        read_steps(dev_data / "mr-ben/data/coding.json")
