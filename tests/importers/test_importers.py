"""Every published format becomes the recorded rows that it states, on small files of our own in upstream's shape."""

from __future__ import annotations

import json
import math

import published_shapes as shapes
import pytest

from rmeval.errors import UsageError
from rmeval.importers.judgebench import judgebench
from rmeval.importers.llmbar import llmbar
from rmeval.importers.ppe import ppe
from rmeval.importers.qwen25math import qwen25math
from rmeval.importers.rewardbench import rewardbench
from rmeval.importers.rewardbench2 import rewardbench2
from rmeval.importers.rewardmath import rewardmath
from rmeval.importers.rm_bench import rm_bench
from rmeval.importers.rmb import rmb
from rmeval.plugins import IMPORTERS
from rmeval.suites import load_suite
from rmeval.types import Candidate, Example, Labels, Message, Verdict


def test_every_format_is_a_name():
    assert {*shapes.NAMED, "ppe"} == {name for name in IMPORTERS.names() if IMPORTERS.origin(name).where == "built in"}
    for name in IMPORTERS.names():
        assert callable(IMPORTERS.get(name))
    with pytest.raises(UsageError, match="Did you mean 'rewardbench'"):
        IMPORTERS.get("rewardbensh")


# --- Qwen2.5-Math ----------------------------------------------------------------------------------------------------


def test_qwen25math_rewards_stand_beside_the_samples(tmp_path):
    file, suite = shapes.sample("qwen25math-bon"), shapes.examples("qwen25math-bon")
    found = qwen25math([file], suite)
    rows = shapes.sample_rows("qwen25math-bon")
    assert {key: one.scores for key, one in found.rows.items()} == {
        str(row["idx"]): tuple(reward for (reward,) in row["pred_score"]) for row in rows
    }
    rows[1]["pred_score"][2] = [None]
    missing = qwen25math([shapes.write_lines(tmp_path / "a.jsonl", rows)], suite).rows["1"]
    assert math.isnan(missing.scores[2])
    assert missing.reasons[2] == "not_recorded"
    for change, said in (({"pred_score": [[1.0]]}, "1 "), ({"idx": 99}, "no example '99'"), ({"question": "x"}, "x")):
        wrong = shapes.write_lines(tmp_path / "b.jsonl", [{**rows[0], **change}, *rows[1:]])
        with pytest.raises(UsageError, match=said):
            qwen25math([wrong], suite)


# --- RewardBench -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True])
def test_rewardbench_scores(tmp_path, nested):
    rows = shapes.rewardbench_rows(nested)
    file = shapes.write(tmp_path / "reward-small.json", shapes.columns(rows, **shapes.RB_ABOUT))
    found = rewardbench([file], shapes.examples("reward-bench"))
    assert (found.model, found.files, found.options, found.notes) == ("acme/reward-small", (file,), {}, ())
    flat = shapes.rewardbench_rows()
    assert {key: row.scores for key, row in found.rows.items()} == {
        str(row["id"]): (row["scores_chosen"], row["scores_rejected"]) for row in flat
    }


def test_rewardbench_ids_in_another_order_are_the_same_rows(tmp_path):
    rows = shapes.rewardbench_rows()
    examples = shapes.examples("reward-bench")
    straight = rewardbench([shapes.write(tmp_path / "a.json", shapes.columns(rows))], examples)
    turned = rewardbench([shapes.write(tmp_path / "b.json", shapes.columns(rows[::-1]))], examples)
    assert straight.rows == turned.rows


def test_rewardbench_ids_that_count_anew_in_every_subset(tmp_path):
    rows = [{**row, "id": 0} for row in shapes.sample_rows("reward-bench")]
    data = shapes.write_lines(tmp_path / "rows.jsonl", rows)
    examples = load_suite("reward-bench").load(data).examples
    assert [one.id for one in examples][:2] == ["0", "mt-bench-hard/0"]
    outputs = [{**row, "id": 0} for row in shapes.rewardbench_rows()]
    found = rewardbench([shapes.write(tmp_path / "a.json", shapes.columns(outputs))], examples)
    assert [found.rows[one.id].scores[0] for one in examples] == [row["scores_chosen"] for row in outputs]


def test_rewardbench_messages_instead_of_a_formatted_text(tmp_path):
    rows = shapes.rewardbench_rows()
    for row, told in zip(rows, shapes.sample_rows("reward-bench"), strict=True):
        for side in ("chosen", "rejected"):
            row[f"text_{side}"] = [
                {"role": "user", "content": told["prompt"]},
                {"role": "assistant", "content": told[side]},
            ]
    found = rewardbench([shapes.write(tmp_path / "a.json", shapes.columns(rows))], shapes.examples("reward-bench"))
    assert len(found.rows) == len(rows)


def test_rewardbench_lines_of_the_command_line_go_by_place(tmp_path):
    rows = [{k: v for k, v in row.items() if k not in ("id", "subset")} for row in shapes.rewardbench_rows()]
    file = shapes.write_lines(tmp_path / "reward-small_outputs.jsonl", rows)
    found = rewardbench([file], shapes.examples("reward-bench"))
    assert found.model == "reward-small"
    assert [row.scores[0] for row in found.rows.values()] == [row["scores_chosen"] for row in rows]


def test_rewardbench_judges_have_choices_and_no_scores(tmp_path):
    rows = [{**row, "scores_chosen": None, "scores_rejected": None} for row in shapes.rewardbench_rows()]
    for row, credit in zip(rows, (1, 0, 0.5, 1.0, 0, 1, 1), strict=True):
        row["results"] = credit
    found = rewardbench([shapes.write(tmp_path / "a.json", shapes.columns(rows))], shapes.examples("reward-bench"))
    assert [row.verdicts[0].verdict for row in found.rows.values()] == ["A", "B", "tie", "A", "B", "A", "A"]
    assert found.options == {}
    assert "1 ties or unread answers" in found.notes[1]


def test_nan_and_null_are_missing_with_a_reason(tmp_path):
    rows = shapes.rewardbench_rows()
    rows[0]["scores_chosen"], rows[1]["scores_rejected"] = math.nan, None
    file = shapes.write(tmp_path / "a.json", shapes.columns(rows))
    assert "NaN" in file.read_text(encoding="utf-8")
    found = list(rewardbench([file], shapes.examples("reward-bench")).rows.values())
    assert math.isnan(found[0].scores[0])
    assert found[0].reasons == ("non_finite", None)
    assert found[1].reasons == (None, "not_recorded")
    assert found[2].reasons == ()


# --- RewardBench 2 ---------------------------------------------------------------------------------------------------


def test_rewardbench2_scores(tmp_path):
    rows = shapes.rewardbench2_rows()
    file = shapes.write(tmp_path / "m.json", shapes.columns(rows, **shapes.RB_ABOUT))
    found = rewardbench2([file], shapes.examples("reward-bench-2"))
    assert {key: row.scores for key, row in found.rows.items()} == {
        row["id"]: tuple(one for [one] in row["scores"]) for row in rows
    }
    assert {len(row.scores) for row in found.rows.values()} > {4}


def test_rewardbench2_rows_of_a_judge_without_scores_are_left_out_and_said(tmp_path):
    rows = shapes.rewardbench2_rows()
    rows[0]["scores"] = None
    file = shapes.write(tmp_path / "m.json", shapes.columns(rows))
    found = rewardbench2([file], shapes.examples("reward-bench-2"))
    assert "0" not in found.rows
    assert "1 rows hold no scores" in found.notes[0]


# --- RM-Bench, RMB ---------------------------------------------------------------------------------------------------


def test_rm_bench_in_one_file(tmp_path):
    rows = shapes.rm_bench_rows()
    folder = tmp_path / "results/Seq_Classifier/acme/reward-small"
    file = shapes.write(folder / "total_dataset_reward-small_REWORD_MODEL_20260101_120000.json", rows)
    found = rm_bench([file], shapes.examples("rm-bench"))
    assert found.model == "acme/reward-small"
    expected = {f"{row['domain']}/{row['id']}": (*row["score_chosen"], *row["score_rejected"]) for row in rows}
    assert {key: row.scores for key, row in found.rows.items()} == expected


def test_rm_bench_one_file_per_domain(tmp_path):
    files = []
    for domain in ("chat", "safety-refuse"):
        rows = [row for row in shapes.rm_bench_rows() if row["domain"] == domain]
        bare = [{k: v for k, v in row.items() if k != "domain"} for row in rows]
        name = f"{domain}_filtered_my_model_REWORD_MODEL_20260101_120000.json"
        files.append(shapes.write(tmp_path / name, bare))
    found = rm_bench(files, shapes.examples("rm-bench"))
    assert found.model == "my_model"
    assert list(found.rows) == ["chat/0", "chat/1", "safety-refuse/0"]


def test_rmb_rewards_and_bare_winners(tmp_path):
    rows = shapes.rmb_rows()
    assert len(rows) == 2
    rows[1] |= {"chosen_reward": None, "reject_reward": None, "is_correct": 0}
    found = rmb([shapes.write(tmp_path / "ArmoRM_result.json", rows)], shapes.examples("rmb"))
    first, second = found.rows.values()
    assert (found.model, first.scores) == ("ArmoRM", (0.5, 0.25))
    assert second.verdicts == (Verdict((0, 1), "B"),)
    assert "1 rows hold no rewards" in found.notes[0]


# --- JudgeBench ------------------------------------------------------------------------------------------------------


def test_judgebench_decisions_are_kept_as_published(tmp_path):
    said = [["A>B", "B>A"], ["A=B", None], ["B>A", "none at all"], *([["A>B", "A>B"]] * 6)]
    found = judgebench([shapes.write_lines(tmp_path / "o.jsonl", shapes.judgebench_rows(said))], shapes.examples("judgebench"))  # fmt: skip
    first, second, third, *_ = found.rows.values()
    assert first.verdicts == (Verdict((0, 1), "A>B"), Verdict((1, 0), "B>A"))
    assert second.verdicts == (Verdict((0, 1), "A=B"), Verdict((1, 0), None, "unparsed"))
    assert third.verdicts[1] == Verdict((1, 0), None, "not_recorded")
    assert (found.model, found.options) == ("acme/judge (arena_hard)", {})


def test_judgebench_single_game_sets_the_official_option(tmp_path):
    rows = shapes.judgebench_rows([["A>B"]] * 9, judge="reward_model")
    found = judgebench([shapes.write_lines(tmp_path / "o.jsonl", rows)], shapes.examples("judgebench"))
    assert (found.model, found.options) == ("acme/judge", {"single_game": True})


# --- RewardMATH ------------------------------------------------------------------------------------------------------


def rewardmath_examples(path):
    return load_suite("rewardmath").load(path).examples


def test_rewardmath_scores_and_step_scores(tmp_path):
    scores = [[float(i) for i in range(10)], [[0.5]] * 9 + [None]]
    file = shapes.write(tmp_path / "acme_reward.json", shapes.rewardmath_rows(scores))
    found = rewardmath([file], rewardmath_examples(file))
    first, second = found.rows.values()
    assert (found.model, first.scores) == ("acme", tuple(range(10)))
    assert second.scores[:9] == (0.5,) * 9
    assert second.reasons[-1] == "not_recorded"
    steps = [[[0.9, 0.5]] * 10, [[0.5]] * 8 + [[], [math.nan, 0.5]]]
    found = rewardmath([shapes.write(tmp_path / "prm_reward.json", shapes.rewardmath_rows(steps))], rewardmath_examples(file))  # fmt: skip
    first, second = found.rows.values()
    assert first.step_scores == ((0.9, 0.5),) * 10
    assert second.reasons == (*[None] * 8, "not_recorded", "non_finite")


def test_rewardmath_solutions_in_another_order_are_found_by_their_writers(tmp_path):
    file = shapes.write(tmp_path / "a_reward.json", shapes.rewardmath_rows([[float(i) for i in range(10)]]))
    examples = rewardmath_examples(file)
    [row] = shapes.rewardmath_rows([[float(i) for i in range(10)]])
    row |= {"solution_reference": row["solution_reference"][::-1], "score": row["score"][::-1]}
    turned = rewardmath([shapes.write(tmp_path / "b_reward.json", [row])], examples)
    # model-0 wrote solutions 1 and 9: which of its two scores is whose, only the order listed can say
    assert turned.rows["rewardmath/0"].scores == (0, 9, 2, 3, 4, 5, 6, 7, 8, 1)


def test_rewardmath_pairwise_verdicts_name_the_solution_by_its_writer(tmp_path):
    data = shapes.write(tmp_path / "a_reward.json", shapes.rewardmath_rows([[0.0] * 10]))
    [row] = shapes.rewardmath_rows([[]])
    wrong = [*shapes.WRITERS[2:], shapes.WRITERS[1]]
    row |= {"solution_reference": wrong, "score": ["A", "B", None, *"AAAAAA"], "chosen_position": [*"ABABABABA"]}
    found = rewardmath([shapes.write(tmp_path / "j_pairwise_reward.json", [row])], rewardmath_examples(data))
    verdicts = found.rows["rewardmath/0"].verdicts
    assert [sorted(v.order) for v in verdicts] == [[0, i] for i in (2, 3, 4, 5, 6, 7, 8, 1, 9)]
    assert verdicts[:3] == (Verdict((0, 2), "A"), Verdict((3, 0), "B"), Verdict((0, 4), None, "unparsed"))
    assert (found.model, found.options) == ("j_pairwise", {})


# --- LLMBar ----------------------------------------------------------------------------------------------------------


def test_llmbar_winners_are_turned_back_to_what_was_shown(tmp_path):
    folder = shapes.llmbar_folder(tmp_path / "LLMBar")
    file = folder / "Natural/evaluators/judge-1/CoT/result.json"
    rows = json.loads(file.read_text(encoding="utf-8"))
    rows[0]["results"].insert(0, ["1. Is it one word?", "stop"])  # the metrics that a judge wrote for itself
    rows[0]["results"].append({"swap = False": {"winner": "2", "prompt": "which?"}, "swap = True": {"winner": None}})
    shapes.write(file, rows)
    found = llmbar([folder], load_suite("llmbar").load(folder).examples)
    assert found.model == "judge-1 (CoT)"
    assert found.rows["Natural/0"].verdicts == (
        Verdict((0, 1), "A"),
        Verdict((1, 0), "B"),
        Verdict((0, 1), "B"),
        Verdict((1, 0), None, "unparsed"),
    )
    assert len(found.files) == 5
    assert len(found.rows) == 6


# --- PPE -------------------------------------------------------------------------------------------------------------


def ppe_example(key, k=2, subset="human"):
    candidates = tuple(Candidate(f"answer {i}") for i in range(k))
    return Example(key, (Message("user", f"question {key}"),), candidates, Labels((1.0,) + (0.0,) * (k - 1)), subset)


def test_ppe_scores_by_question(tmp_path):
    human = ppe_example("human/q1")
    best = [ppe_example(f"{name}/q1", 3) for name in ("math_best_of_k/model-a", "math_best_of_k/model-b")]
    examples = (human, *best)
    rows = [
        {"question_id": "q1", "model_name": "model-b", "score_1": [0.5], "score_2": [1.5], "score_3": [math.nan]},
        {"question_id": "q1", "model_name": "model-a", "score_1": 1, "score_2": 2, "score_3": 3},
    ]
    found = ppe([shapes.write(tmp_path / "math_best_of_k/Acme-RM.json", rows)], examples)
    assert found.model == "Acme-RM"
    assert found.rows["math_best_of_k/model-b/q1"].scores[:2] == (0.5, 1.5)
    assert found.rows["math_best_of_k/model-b/q1"].reasons == (None, None, "non_finite")
    assert found.rows["math_best_of_k/model-a/q1"].scores == (1, 2, 3)
    row = {"question_id": "q1", "prompt": "question human/q1", "response_2": "answer 1", "score_1": 0.25, "score_2": 0}
    found = ppe([shapes.write(tmp_path / "human_preference_v1/Acme-RM.json", [row])], (human,))
    assert found.rows["human/q1"].scores == (0.25, 0)
