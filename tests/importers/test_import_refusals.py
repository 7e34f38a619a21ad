"""Outputs of other rows, of rows in another order, of too few, or of another format are refused, and the message says where."""

from __future__ import annotations

import published_shapes as shapes
import pytest

from rmeval.errors import UsageError
from rmeval.importers import rows as shared
from rmeval.importers.judgebench import judgebench
from rmeval.importers.llmbar import llmbar
from rmeval.importers.ppe import ppe
from rmeval.importers.rewardbench import rewardbench
from rmeval.importers.rewardbench2 import rewardbench2
from rmeval.importers.rewardmath import rewardmath
from rmeval.importers.rm_bench import rm_bench
from rmeval.importers.rmb import rmb
from rmeval.published import named
from rmeval.suites import load_suite


def refusal(importer, file, examples) -> str:
    with pytest.raises(UsageError) as caught:
        importer([file], examples)
    return str(caught.value)


def rewardbench_refusal(tmp_path, change, name="a.json") -> str:
    rows = shapes.rewardbench_rows()
    rows = change(rows) or rows
    return refusal(rewardbench, shapes.write(tmp_path / name, shapes.columns(rows)), shapes.examples("reward-bench"))


def test_an_unknown_example_is_named_with_the_near_miss(tmp_path):
    rows = shapes.judgebench_rows([["A>B", "A>B"]] * 9)
    rows[3]["pair_id"] = "00000000-0000-0000-0000-00000000000x"
    said = refusal(judgebench, shapes.write_lines(tmp_path / "o.jsonl", rows), shapes.examples("judgebench"))
    assert "o.jsonl line 4: the suite has no example '00000000-0000-0000-0000-00000000000x'. Did you mean" in said


def test_a_winner_of_another_type_is_refused(tmp_path):
    judged = [{k: v for k, v in row.items() if "scores" not in k} for row in shapes.rewardbench_rows()]
    for odd in ([1], {"a": 1}, "1"):
        file = shapes.write(tmp_path / "a.json", [{**row, "results": odd} for row in judged])
        assert "only 1, 0 and 0.5 say which" in refusal(rewardbench, file, shapes.examples("reward-bench"))


@pytest.mark.parametrize("name", ["two\nlines", "half \ud800", "long" * 100])
def test_a_name_that_cannot_stand_in_a_result_is_refused(tmp_path, name):
    file = shapes.write(tmp_path / "a.json", shapes.columns(shapes.rewardbench_rows(), model=name))
    found = rewardbench([file], shapes.examples("reward-bench"))
    with pytest.raises(UsageError, match="--model NAME gives another"):
        named("rewardbench", found, None)
    assert named("rewardbench", found, "mine").name == "mine"


def test_an_example_twice_is_refused(tmp_path):
    said = rewardbench_refusal(tmp_path, lambda rows: [*rows, rows[2]])
    assert said.endswith("a.json row 8: example '2' stands twice, first in " + str(tmp_path / "a.json row 3"))


def test_scores_that_slipped_by_one_row_are_refused_by_their_texts(tmp_path):
    def slip(rows):
        ids = [row["id"] for row in rows]
        for row, key in zip(rows, ids[1:] + ids[:1], strict=True):
            row["id"] = key
        subsets = [row["subset"] for row in rows]
        for row, subset in zip(rows, subsets[1:] + subsets[:1], strict=True):
            row["subset"] = subset

    said = rewardbench_refusal(tmp_path, slip)
    assert "a.json row 1: text_chosen does not hold the text of example '1': 'The rain came soft" in said


def test_the_first_difference_is_shown(tmp_path):
    rows = shapes.rm_bench_rows()
    rows[0]["prompt"] = rows[0]["prompt"].replace("leap", "long")
    said = refusal(rm_bench, shapes.write(tmp_path / "total_dataset_m.json", rows), shapes.examples("rm-bench"))
    assert "line 2: prompt is not that of example 'chat/0': character 31 on, 'ong year?' here, 'eap year?'" in said


def test_responses_in_another_order_are_refused(tmp_path):
    rows = shapes.rm_bench_rows()
    rows[1]["chosen"] = rows[1]["chosen"][::-1]
    said = refusal(rm_bench, shapes.write(tmp_path / "total_dataset_m.json", rows), shapes.examples("rm-bench"))
    assert "response 1 is not that of example 'chat/1'" in said


def test_another_subset_is_refused(tmp_path):
    said = rewardbench_refusal(tmp_path, lambda rows: rows[1].update(subset="alpacaeval-easy"))
    assert "row 2: example '1' is of subset 'alpacaeval-easy' here, of 'mt-bench-hard' in the suite" in said
    rows = shapes.rmb_rows()
    rows[0]["category_path"] = "Pairwise_set/Helpfulness/Code/x"
    said = refusal(rmb, shapes.write(tmp_path / "m_result.json", rows), shapes.examples("rmb"))
    assert "category_path is 'Pairwise_set/Helpfulness/Code/x', and example 'Pair/1' is of 'Help-Pair/Rewrite'" in said


def test_a_wrong_label_is_another_version_of_the_data(tmp_path):
    rows = shapes.judgebench_rows([["A>B", "A>B"]] * 9)
    rows[0]["label"] = {"A>B": "B>A", "B>A": "A>B"}[rows[0]["label"]]
    said = refusal(judgebench, shapes.write_lines(tmp_path / "o.jsonl", rows), shapes.examples("judgebench"))
    assert "line 1: label is not that of example" in said


def test_rows_without_ids_must_be_all_of_them_in_order(tmp_path):
    rows = shapes.rewardmath_rows([[float(i) for i in range(10)]] * 3)
    file = shapes.write(tmp_path / "a_reward.json", rows)
    examples = load_suite("rewardmath").load(file).examples
    short = refusal(rewardmath, shapes.write(tmp_path / "short_reward.json", rows[:2]), examples)
    assert "2 rows for the 3 examples of the suite; this format has no ids" in short
    turned = refusal(rewardmath, shapes.write(tmp_path / "turned_reward.json", rows[::-1]), examples)
    assert "turned_reward.json line 2: problem is not that of example 'rewardmath/0': character 9 on" in turned
    foreign = [{**row, "solution_reference": ["other", *shapes.WRITERS[1:]]} for row in rows]
    said = refusal(rewardmath, shapes.write(tmp_path / "foreign_reward.json", foreign), examples)
    assert "example 'rewardmath/0' has no solution of 'other'" in said


def test_rows_without_ids_and_texts_cannot_be_told_apart(tmp_path):
    said = rewardbench_refusal(
        tmp_path, lambda rows: [{"scores_chosen": 1.0, "scores_rejected": 0.0} for _ in rows], "a_all.json"
    )
    assert "no 'text_chosen', which every row of this format has" in said


def test_llmbar_one_strategy_at_a_time(tmp_path):
    folder = shapes.llmbar_folder(tmp_path)
    shapes.llmbar_folder(tmp_path, "Swap")
    examples = load_suite("llmbar").load(folder).examples
    assert "the files are of 2 models: judge-1 (CoT), judge-1 (Swap)" in refusal(llmbar, folder, examples)
    stray = shapes.write(tmp_path / "result.json", [])
    assert "does not lie in <set>/evaluators/<model>/<strategy>/" in refusal(llmbar, stray, examples)
    short = tmp_path / "Natural/evaluators/judge-1/CoT/result.json"
    rows = [{**row, "results": [{"winner": "1"}]} for row in shapes.sample_rows("llmbar")[:2]]
    assert "line 2: results holds no reading" in refusal(llmbar, shapes.write(short, rows), examples)
    shapes.write(short, [{"input": "x", "results": []}])
    assert "1 rows for the 2 examples of the set Natural" in refusal(llmbar, short, examples)


@pytest.mark.parametrize(
    ("importer", "suite", "content", "said"),
    [
        (rmb, "rmb", {"ArmoRM": {"ACC": 0.8, "rank": 1}}, "holds no per-item outputs"),
        (rmb, "rmb", [{"bon_uid": "1"}], "no 'pair_uid'"),
        (rewardbench, "reward-bench", {"id": [1, 2], "subset": ["a"]}, "id has 2 entries and subset has 1"),
        (rewardbench, "reward-bench", "text", "a list of rows, or an object of columns, is expected"),
        (rewardbench, "reward-bench", {"id": []}, "holds no rows"),
        (rewardbench2, "reward-bench-2", [{"id": "0", "subset": "Factuality", "scores": [1, 2, 3]}], "3 scores for ex"),
        (rewardbench2, "reward-bench-2", [{"id": "0", "subset": "Factuality", "scores": ["1"] * 4}], "'1' is not a sc"),
        (
            rewardbench2,
            "reward-bench-2",
            [{"id": "0", "subset": "Factuality", "scores": [1] * 4, "num_correct": 2}],
            "2 right responses for example '0', which has 1",
        ),
        (rm_bench, "rm-bench", [{"id": 0, "score_chosen": [], "score_rejected": []}], "no `domain`"),
        (ppe, "pairs", [{"question_id": "p0", "score_1": 1, "score_2": 0, "score_3": 0}], "no example 'p0'"),
        (judgebench, "judgebench", [1], "an object is expected, found int"),
    ],
)
def test_another_shape_is_refused(tmp_path, importer, suite, content, said):
    file = shapes.write(tmp_path / "m.json", content)
    assert said in refusal(importer, file, shapes.examples(suite))


def test_a_decision_outside_the_format_is_refused(tmp_path):
    rows = shapes.judgebench_rows([["A>B", "A>>B"]] * 9)
    said = refusal(judgebench, shapes.write_lines(tmp_path / "o.jsonl", rows), shapes.examples("judgebench"))
    assert "decision 'A>>B' is none of A>B, B>A, A=B, null" in said
    rows = shapes.judgebench_rows([["A>B", "A>B"]] * 8 + [["A>B"]])
    said = refusal(judgebench, shapes.write_lines(tmp_path / "o.jsonl", rows), shapes.examples("judgebench"))
    assert "one game is played in" in said


def test_a_number_beyond_all_floats_is_refused():
    with pytest.raises(UsageError, match="too large for a score"):
        shared.score(10**400, "a.json line 1")


def test_a_byte_order_mark_is_harmless_and_a_broken_archive_is_not(tmp_path):
    rows = shapes.write(tmp_path / "a.json", [{"pair_uid": "1"}])
    rows.write_bytes(b"\xef\xbb\xbf" + rows.read_bytes())
    assert [row.values for row in shared.read_table(rows).rows] == [{"pair_uid": "1"}]
    broken = tmp_path / "a.json.gz"
    broken.write_bytes(b"no archive")
    with pytest.raises(UsageError, match=r"a\.json\.gz: cannot be read"):
        shared.read_table(broken)


def test_a_set_of_no_suite_a_set_twice_and_a_winner_that_is_none_are_refused(tmp_path):
    folder = shapes.llmbar_folder(tmp_path / "a")
    examples = load_suite("llmbar").load(folder).examples
    [natural] = (folder / "Natural").rglob("result.json")
    strange = folder / "Naturel" / natural.relative_to(folder / "Natural")
    shapes.write(strange, [{}])
    assert "the suite has no set 'Naturel'. Did you mean 'Natural'?" in refusal(llmbar, strange, examples)
    again = shapes.llmbar_folder(tmp_path / "b") / natural.relative_to(folder)
    with pytest.raises(UsageError, match="the set Natural stands in .* already"):
        llmbar([natural, again], examples)
    rows = [
        {**row, "results": [{"swap = False": {"winner": "3"}}]}
        for row in shapes.sample_rows("llmbar")
        if row["_split"] == "Natural"
    ]
    assert "winner '3' is none of 1, 2, null" in refusal(llmbar, shapes.write(again, rows), examples)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no result.json" in refusal(llmbar, empty, examples)
    assert "no such file or folder" in refusal(llmbar, tmp_path / "none", examples)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": [1.0] * 9}, "9 scores for 10 solutions"),
        ({"solution_reference": ["nobody", *shapes.WRITERS[1:]]}, "has no solution of 'nobody' (or not so many)"),
        ({"chosen_position": [*"ABABABABAB"], "score": [*"AAAAAAAAAA"]}, "10 verdicts and 10 places for the 9 wrong"),
        (
            {
                "chosen_position": [*"ABABABABA"],
                "score": [*"AAAAAAAAC"],
                "solution_reference": [*shapes.WRITERS[2:], shapes.WRITERS[1]],
            },
            "verdict 'C', right solution at 'A'; A, B or null is expected",
        ),
    ],
)
def test_rewardmath_of_other_solutions_is_refused(tmp_path, change, said):
    [row] = shapes.rewardmath_rows([[float(i) for i in range(10)]])
    examples = load_suite("rewardmath").load(shapes.write(tmp_path / "a_reward.json", [row])).examples
    assert said in refusal(rewardmath, shapes.write(tmp_path / "b_reward.json", [{**row, **change}]), examples)
    with pytest.raises(UsageError, match="one file, and 2 were given"):
        rewardmath([tmp_path / "a_reward.json", tmp_path / "b_reward.json"], examples)
