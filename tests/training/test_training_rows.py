"""Preference files for training: every shape that is accepted, and what is said about the rest."""

from __future__ import annotations

import gzip
import json
import math

import pytest

from rmeval.arithmetic import training_pairs
from rmeval.errors import UsageError
from rmeval.training.rows import (
    Comparison,
    data_digest,
    read_comparisons,
    read_dialogues,
    read_outcomes,
    read_rankings,
    read_returns,
    read_steps,
    split_by_prompt,
)

PLAIN = {"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def test_the_shapes_of_the_field_all_mean_the_same_comparison(tmp_path):
    user = [{"role": "user", "content": "1 + 1?"}]
    shapes = [
        PLAIN,
        {**PLAIN, "prompt": user},
        {
            "prompt": user,
            "chosen": [{"role": "assistant", "content": "2"}],
            "rejected": [{"role": "assistant", "content": "3"}],
        },
        {
            "chosen": [*user, {"role": "assistant", "content": "2"}],
            "rejected": [*user, {"role": "assistant", "content": "3"}],
        },
        {"chosen": "\n\nHuman: 1 + 1?\n\nAssistant: 2", "rejected": "\n\nHuman: 1 + 1?\n\nAssistant: 3"},
    ]
    found = read_comparisons(write(tmp_path / "a.jsonl", shapes))
    assert len({(str(c.prompt), c.chosen, c.rejected, c.margin, c.group) for c in found}) == 1
    assert (found[0].chosen, found[0].rejected, found[0].margin) == ("2", "3", 0.0)
    assert [c.id for c in found] == ["0", "1", "2", "3", "4"]


def test_json_gz_and_parquet_are_read_too(tmp_path):
    rows = [{**PLAIN, "id": "x", "margin": 1.5}, {**PLAIN, "prompt": "other", "id": "y", "margin": 0.5}]
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as handle:
        handle.write("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.json").write_text(json.dumps(rows))
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    found = [read_comparisons(str(tmp_path / name)) for name in ("a.jsonl.gz", "b.json", "c.parquet")]
    assert found[0] == found[1] == found[2]
    assert [(c.id, c.margin) for c in found[0]] == [("x", 1.5), ("y", 0.5)]


def test_the_margin_column_can_have_another_name(tmp_path):
    path = write(tmp_path / "a.jsonl", [{**PLAIN, "gap": 2, "margin": 9}])
    assert read_comparisons(path, margin_field="gap")[0].margin == 2.0
    with pytest.raises(UsageError, match="--margin gpa: no row .* Did you mean 'gap'"):
        read_comparisons(path, margin_field="gpa")
    assert read_comparisons(write(tmp_path / "b.jsonl", [PLAIN]), margin_field="gap")[0].margin == 0.0


def test_all_bad_rows_are_reported_at_once_with_their_lines(tmp_path):
    rows = [
        PLAIN,
        {"prompt": "p", "chosn": "a", "rejected": "b"},
        {**PLAIN, "prompt": ""},
        {**PLAIN, "margin": "big"},
        {"chosen": "a", "rejected": "b"},
        {**PLAIN, "rejected": 3},
    ]
    with pytest.raises(UsageError) as caught:
        read_comparisons(write(tmp_path / "bad.jsonl", rows))
    lines = str(caught.value).splitlines()
    assert "5 of 6 rows" in lines[0]
    assert "line 2" in lines[1]
    assert "Did you mean 'chosn'?" in lines[1]
    assert "line 3" in lines[2]
    assert "'margin' must be a number, found 'big'" in lines[3]
    assert "no prompt column" in lines[4]
    assert "line 6" in lines[5]


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(PLAIN) + "\n{oops\n")
    with pytest.raises(UsageError, match=r"a\.jsonl line 2"):
        read_comparisons(str(path))


@pytest.mark.parametrize(
    ("source", "says"), [("pears.jsonl", "Did you mean 'pairs.jsonl'"), ("arithmetc", "'arithmetic'")]
)
def test_a_missing_file_names_the_near_miss(tmp_path, monkeypatch, source, says):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pairs.jsonl", [PLAIN])
    with pytest.raises(UsageError, match=says):
        read_comparisons(source)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(UsageError, match="no rows"):
        read_comparisons(str(tmp_path / "a.jsonl"))


def test_the_embedded_world_is_a_source():
    found = read_comparisons("arithmetic", samples=5, seed=3)
    assert [c.chosen for c in found] == [pair["chosen"] for pair in training_pairs(5, 3)]


def test_samples_are_drawn_by_the_seed_and_keep_file_order(tmp_path):
    path = write(tmp_path / "a.jsonl", [{**PLAIN, "prompt": f"q{i}", "id": str(i)} for i in range(50)])
    drawn = [[int(c.id) for c in read_comparisons(path, samples=10, seed=seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] == sorted(drawn[0])
    assert drawn[0] != drawn[2]


def comparisons(n, per_prompt=3):
    return [Comparison(str(i), (), "a", "b", 0.0, f"group {i // per_prompt}") for i in range(n)]


@pytest.mark.parametrize("seed", range(4))
def test_t14_no_prompt_is_on_both_sides_of_the_split(seed):
    train, validation = split_by_prompt(comparisons(600), 0.2, seed)
    assert not {c.group for c in train} & {c.group for c in validation}
    assert sorted((c.id for c in train + validation), key=int) == [str(i) for i in range(600)]
    assert 0.1 < len(validation) / 600 < 0.3


def test_a_split_with_an_empty_side_is_refused():
    with pytest.raises(UsageError, match="of 1 prompts"):
        split_by_prompt(comparisons(3), 0.1, 0)
    assert split_by_prompt(comparisons(3), 0.0, 0) == (comparisons(3), [])


def test_the_digest_covers_what_training_sees():
    base = comparisons(3)
    changed = [*base[:2], Comparison("2", (), "a", "c", 0.0, "group 0")]
    renamed = [*base[:2], Comparison("other id", (), "a", "b", 0.0, "group 0")]
    assert data_digest(base) == data_digest(renamed) != data_digest(changed)


# --- the other kinds ---

ASK = [{"role": "user", "content": "1 + 1?"}]


def test_s15_schema_of_every_kind_is_read(tmp_path):
    ranked = [
        {"prompt": "p", "responses": ["a", "b", "c"], "ranking": [2, 0, 1]},
        {"prompt": "p", "responses": ["a", "b", "c"], "scores": [1.0, 4.0, 4.0]},
        {"prompt": "p", "chosen": "a", "rejected": "b"},
    ]
    path = write(tmp_path / "k.jsonl", ranked)
    assert [one.levels for one in read_rankings(path)] == [(1, 2, 0), (1, 0, 0), (0, 1)]
    assert read_rankings(path, min_gap=5.0)[1].levels == (0, 0, 0)
    outcomes = [
        {"prompt": "p", "response": "r", "label": True},
        {"prompt": "p", "response": "r", "label": 0},
        {"prompt": "p", "completions": ["x", "y"], "rewards": [0.0, 1.0]},
        # rewards are a model's scores as soon as there is truth beside them
        {"prompt": "p", "completions": ["x"], "rewards": [-3.7], "gold": [1]},
    ]
    found = read_outcomes(write(tmp_path / "o.jsonl", outcomes))
    assert [(one.response, one.label) for one in found] == [("r", 1), ("r", 0), ("x", 0), ("y", 1), ("x", 1)]
    returns = [
        {"prompt": "p", "response": "r", "reward": 0.73},
        {"prompt": ASK, "response": "r", "token_rewards": [0, 0.5]},
    ]
    whole, tokens = read_returns(write(tmp_path / "v.jsonl", returns))
    assert (whole.reward, whole.token_rewards, tokens.token_rewards) == (0.73, (), (0.0, 0.5))
    assert math.isnan(tokens.reward)
    texts = [
        {"messages": [*ASK, {"role": "assistant", "content": "2"}]},
        {"prompt": "1 + 1?", "response": "2"},
    ]
    first, second = read_dialogues(write(tmp_path / "s.jsonl", texts))
    assert (first.messages, first.group) == (second.messages, second.group)


def test_rankings_give_all_their_pairs_and_ties_count_as_told(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 2, 2]}])
    assert [(c.chosen, c.rejected, c.target) for c in read_comparisons(path)] == [("b", "a", 1.0), ("c", "a", 1.0)]
    half = read_comparisons(path, ties="half")
    assert [(c.chosen, c.rejected, c.target) for c in half] == [("b", "a", 1.0), ("c", "a", 1.0), ("b", "c", 0.5)]


def test_b9_the_margin_may_be_the_difference_of_two_columns(tmp_path):
    path = write(tmp_path / "a.jsonl", [{**PLAIN, "score_chosen": 5, "score_rejected": 2, "margin": 9}])
    assert read_comparisons(path, margin_from=("score_chosen", "score_rejected"))[0].margin == 3.0
    assert read_comparisons(path, margin_field=None)[0].margin == 0.0
    with pytest.raises(UsageError, match="Did you mean 'score_chosen'"):
        read_comparisons(path, margin_from=("score_chose", "score_rejected"))


def test_b17_outcomes_make_pairs_of_right_and_wrong(tmp_path):
    rows = [{"prompt": p, "completions": ["a", "b", "c"], "labels": [1, 0, 0]} for p in ("p", "q")]
    found = read_comparisons(write(tmp_path / "a.jsonl", rows), from_outcomes=True)
    assert [(c.chosen, c.rejected) for c in found] == [("a", "b"), ("a", "c")] * 2
    with pytest.raises(UsageError, match="no pair"):
        read_comparisons(
            write(tmp_path / "b.jsonl", [{"prompt": "p", "response": "r", "label": 1}]), from_outcomes=True
        )


def steps_file(tmp_path, *labels, key="labels"):
    return write(tmp_path / "s.jsonl", [{"prompt": "p", "steps": ["x"] * len(one), key: list(one)} for one in labels])


def labels_of(path, **options):
    return [[None if math.isnan(x) else x for x in one.labels] for one in read_steps(path, **options)]


def test_step_labels_mean_what_they_say(tmp_path):
    assert labels_of(steps_file(tmp_path, [1, 0, -1, None])) == [[1, 0, -1, None]]
    assert labels_of(steps_file(tmp_path, [True, False])) == [[1, -1]]
    assert labels_of(steps_file(tmp_path, [1, 1])) == [[1, 1]]  # both scales agree on 1
    assert labels_of(steps_file(tmp_path, [0.5, 1, 0]), soft=True) == [[0.5, 1, 0]]
    assert labels_of(steps_file(tmp_path, [1, 0]), label_scale="binary") == [[1, -1]]
    assert labels_of(steps_file(tmp_path, [1, 0]), label_scale="ternary") == [[1, 0]]


@pytest.mark.parametrize("labels", [[[0, 1]], [[1], [0]], [[0]], [[1.0, 0.0]]])
def test_integer_labels_of_0_and_1_alone_are_refused(tmp_path, labels):
    with pytest.raises(UsageError, match=r"s.jsonl line \d: step label 0.*--label-scale binary"):
        read_steps(steps_file(tmp_path, *labels))


def test_p5_rollouts_become_rates_or_hard_labels_by_the_rule(tmp_path):
    path = steps_file(tmp_path, [[92, 100], [3, 100]], key="mc")
    assert labels_of(path, soft=True) == [[0.92, 0.03]]
    assert labels_of(path, mc_rule="any") == [[1, 1]]  # the trap: one lucky rollout in a hundred
    assert labels_of(path) == labels_of(path, mc_rule="threshold") == [[1, -1]]


BAD = {
    "bt": [
        ({"prompt": "p", "responses": ["a"], "ranking": [0]}, "'responses' must hold at least 2, found 1"),
        ({"prompt": "p", "responses": ["a", "b"], "ranking": [1, 2]}, "must name each of the 2 responses once"),
        ({"prompt": "p", "responses": ["a", "b"], "scores": [1]}, "2 responses and 1 scores"),
        ({"prompt": "p", "responses": ["a", "b"]}, "needs either 'ranking' or 'scores'"),
        ({"prompt": "p", "responses": ["a", "b"], "ranking": [0, 1], "scores": [2, 1]}, "has both"),
        ({**PLAIN, "margin": True}, "'margin' must be a number, found True"),
        ({**PLAIN, "margin": 1e308}, "'margin' must be a number of a size below 1e300, found 1e+308"),
        ({**PLAIN, "chosen": None}, "no 'chosen'. It is null"),
        ({**PLAIN, "group": [1]}, "'group' must be a text"),
        ({**PLAIN, "chosen": "<|channel|>analysis<|message|>hm<|end|>"}, "without a final channel"),
    ],
    "orm": [
        ({"prompt": "p", "response": "r", "label": 0.5}, "'label' must be 0 or 1, or true or false, found 0.5"),
        ({"prompt": "p", "response": "r", "label": "yes"}, "found 'yes'"),
        ({"prompt": "p", "response": "r", "labl": 1}, "no 'label'. Did you mean 'labl'?"),
        ({"prompt": "p", "completions": ["a", "b"], "gold": [1]}, "2 completions and 1 gold"),
        ({"prompt": "p", "completions": ["a"], "rewards": [2.5]}, "rewards of a model are no truth"),
        ({"prompt": "p", "response": "r", "label": -1}, "found -1"),
    ],
    "prm": [
        ({"prompt": "p", "steps": ["a", "b"], "labels": [1]}, "2 steps and 1 labels"),
        ({"prompt": "p", "steps": [], "labels": []}, "'steps' is empty"),
        ({"prompt": "p", "steps": ["a"], "labels": [2]}, "'labels[0]' must be -1, 0 or 1"),
        ({"prompt": "p", "steps": ["a"], "labels": [0.92]}, "rates in [0, 1] are trained on with --soft"),
        ({"prompt": "p", "steps": ["a", 3], "labels": [1, 1]}, "'steps[1]' must be a text, found 3"),
        ({"prompt": "p", "steps": "a", "labels": [1]}, "'steps' must be a list"),
        ({"prompt": "p", "steps": ["a"], "mc": [[5, 4]]}, "at most as many right ones as rollouts"),
        ({"prompt": "p", "steps": ["a"], "mc": [[0, 0]]}, "one rollout at least"),
        ({"prompt": "p", "steps": ["a"], "labels": [1], "mc": [[1, 1]]}, "has both"),
        ({"prompt": "p", "steps": ["a"]}, "needs either 'labels' or 'mc'"),
    ],
    "value": [
        ({"prompt": "p", "response": "r", "rewrd": 1}, "Did you mean 'rewrd'?"),
        ({"prompt": "p", "response": "r", "reward": "1"}, "'reward' must be a number, found '1'"),
        ({"prompt": "p", "response": "r", "reward": 1, "token_rewards": [1]}, "has both"),
        ({"prompt": "p", "response": "r", "token_rewards": []}, "'token_rewards' is empty"),
        ({"prompt": "p", "response": "r", "token_rewards": [1, None]}, "'token_rewards[1]' must be a number"),
    ],
    "sft": [
        ({"messages": ASK}, "must end with a turn of the assistant, found 'user'"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "role 'boss'"),
        ({"mesages": []}, "Did you mean 'mesages'?"),
        ({"prompt": "p"}, "no 'response'"),
        ({"messages": [{"role": "user"}]}, "messages must be a text or a list of messages"),
    ],
}  # fmt: skip
READ = {
    "bt": read_comparisons, "orm": read_outcomes, "prm": lambda path: read_steps(path, label_scale="ternary"),
    "value": read_returns, "sft": read_dialogues,
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_every_fault_of_a_schema_is_named_with_its_line_all_at_once(tmp_path, kind):
    path = write(tmp_path / "bad.jsonl", [row for row, _ in BAD[kind]])
    with pytest.raises(UsageError) as caught:
        READ[kind](path)
    said = str(caught.value).splitlines()
    assert f"{len(BAD[kind])} of {len(BAD[kind])} rows cannot be used" in said[0]
    for number, (line, (_, says)) in enumerate(zip(said[1:], BAD[kind], strict=True), 1):
        assert says in line
        assert f"bad.jsonl line {number}:" in line


def test_twenty_faults_are_named_and_the_rest_counted(tmp_path):
    with pytest.raises(UsageError, match=r"25 of 25 rows(.|\n)*and 5 more") as caught:
        read_outcomes(write(tmp_path / "a.jsonl", [{"prompt": "p", "response": "r", "label": 7}] * 25))
    assert str(caught.value).count("line ") == 20


def test_a_prompt_has_one_group_and_a_group_stays_on_one_side(tmp_path):
    rows = [{**PLAIN, "prompt": f"q{i}", "group": i // 2} for i in range(40)]
    train, held_out = split_by_prompt(read_comparisons(write(tmp_path / "a.jsonl", rows)), 0.3, 0)
    assert not {c.group for c in train} & {c.group for c in held_out}
    assert len({c.group for c in train + held_out}) == 20
    with pytest.raises(UsageError, match=r"a.jsonl line 2: the prompt of a.jsonl line 1 again, in another group"):
        read_comparisons(write(tmp_path / "a.jsonl", [{**PLAIN, "group": "a"}, {**PLAIN, "group": "b"}]))


def test_samples_counts_problems_and_keeps_all_their_rows(tmp_path):
    rows = [{"prompt": f"q{i // 4}", "response": str(i), "label": i % 2} for i in range(80)]
    found = read_outcomes(write(tmp_path / "a.jsonl", rows), samples=5, seed=1)
    assert len(found) == 20
    assert len({one.group for one in found}) == 5


def test_several_files_are_one_source(tmp_path):
    paths = [write(tmp_path / f"{name}.jsonl", [{**PLAIN, "prompt": name}]) for name in "ab"]
    assert [c.prompt[0]["content"] for c in read_comparisons(paths)] == ["a", "b"]


def test_every_kind_can_be_drawn_from_the_embedded_world():
    outcomes, steps = read_outcomes("arithmetic", samples=6, seed=1), read_steps(["arithmetic"], samples=6, seed=1)
    assert [one.id for one in outcomes] == [one.id for one in steps]
    assert [one.label for one in outcomes] == [float(-1 not in one.labels) for one in steps]
    assert [one.group for one in outcomes] == [one.group for one in steps]
    assert [one.reward for one in read_returns("arithmetic", samples=6, seed=1)] == [one.label for one in outcomes]
    assert len(read_dialogues("arithmetic", samples=6, seed=1)) == sum(one.label for one in outcomes)
    ranked = read_rankings("arithmetic", samples=6, seed=1)
    assert [level for one in ranked for level in one.levels] == [int(1 - one.label) for one in outcomes]
    assert {x for one in read_steps("arithmetic", samples=6, seed=1, soft=True) for x in one.labels} == {0.0, 1.0}


def test_s14_only_the_final_channel_of_a_harmony_response_is_kept(tmp_path):
    said = "<|channel|>analysis<|message|>Easy.<|end|><|start|>assistant<|channel|>final<|message|>2<|return|>"
    [one] = read_comparisons(write(tmp_path / "a.jsonl", [{**PLAIN, "chosen": said}]))
    assert (one.chosen, one.rejected) == ("2", "3")


def test_hh_rlhf_as_published(dev_data):
    found = read_comparisons(dev_data / "hh-rlhf" / "harmless-base" / "test.jsonl.gz")
    assert (len(found), len({one.group for one in found})) == (2312, 2310)
    assert sum(one.chosen == "" for one in found) == 4
