"""The real data sets of development, where they are at hand: counts, ids, orders, known defects."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from rmeval.errors import UsageError
from rmeval.suites import load_suite


def count(data, key=lambda one: one.subset):
    return Counter(key(one) for one in data.examples)


@pytest.mark.parametrize("below", ["rm-bench", "rm-bench/data"])
def test_rm_bench(dev_data, below):
    data = load_suite("rm-bench").load(dev_data / below)
    assert count(data) == {"chat": 129, "code": 228, "safety-refuse": 284, "safety-response": 157}
    assert data.notes == ("1 of 5 subsets are missing: math",)
    assert not data.complete
    assert len({one.id for one in data.examples}) == 798
    assert data.examples[0].id == "chat/8"
    refuse = [one for one in data.examples if one.subset == "safety-refuse"]
    assert len({one.cluster for one in refuse}) == 282
    twins = Counter()
    for one in data.examples:
        texts = [candidate.text for candidate in one.candidates]
        assert len(texts) == 6
        assert not set(texts[:3]) & set(texts[3:])
        twins[one.subset, "chosen 1 = 2"] += texts[1] == texts[2]
        twins[one.subset, "chosen 0 = 1"] += texts[0] == texts[1]
        twins[one.subset, "rejected 0 = 1"] += texts[3] == texts[4]
    assert +twins == {
        ("chat", "chosen 1 = 2"): 12,
        ("safety-response", "chosen 1 = 2"): 24,
        ("code", "chosen 0 = 1"): 13,
        ("code", "rejected 0 = 1"): 6,
        ("safety-refuse", "rejected 0 = 1"): 11,
    }


def test_rm_bench_one_file(dev_data):
    data = load_suite("rm-bench").load(dev_data / "rm-bench/data/chat_filtered.json")
    assert count(data) == {"chat": 129}


@pytest.mark.parametrize("below", ["llmbar", "llmbar/Dataset", "llmbar/Dataset/LLMBar"])
def test_llmbar_is_whole_and_its_labels_are_the_pinned_ones(dev_data, below):
    data = load_suite("llmbar").load(dev_data / below)
    assert count(data) == {"Natural": 100, "Neighbor": 134, "GPTInst": 92, "GPTOut": 47, "Manual": 46}
    assert data.complete
    assert data.labels_sha256 == load_suite("llmbar").card.labels_sha256
    first = Counter(one.subset for one in data.examples if one.labels.grades == (1.0, 0.0))
    assert first == {"Natural": 42, "Neighbor": 75, "GPTInst": 45, "GPTOut": 22, "Manual": 22}
    assert data.examples[100].id == "Neighbor/0"


def turned(row):
    row["label"] = 3 - row["label"]


def spaced(row):
    row["output_2"] += " "


@pytest.mark.fault("F12")
@pytest.mark.parametrize("alter", [turned, spaced])
def test_llmbar_with_one_altered_byte_is_refused(alter, dev_data, tmp_path):
    source = dev_data / "llmbar/Dataset/LLMBar"
    for name in ["Natural", *(f"Adversarial/{s}" for s in ("Neighbor", "GPTInst", "GPTOut", "Manual"))]:
        (tmp_path / name).mkdir(parents=True)
        rows = json.loads((source / name / "dataset.json").read_text("utf-8"))
        if name == "Natural":
            alter(rows[0])
        (tmp_path / name / "dataset.json").write_text(json.dumps(rows), "utf-8")
    with pytest.raises(UsageError, match="the data were altered"):
        load_suite("llmbar").load(tmp_path)


def test_judgebench_is_whole_and_its_labels_are_the_pinned_ones(dev_data):
    data = load_suite("judgebench").load(dev_data / "judgebench/data")
    assert data.complete
    assert data.labels_sha256 == load_suite("judgebench").card.labels_sha256
    gpt = {"gpt/MMLU-Pro": 154, "gpt/Reasoning": 98, "gpt/Math": 56, "gpt/Code": 42}
    assert {s: n for s, n in count(data).items() if s.startswith("gpt/")} == gpt
    assert count(data, lambda one: one.subset.partition("/")[0]) == {"gpt": 350, "claude": 270}
    assert len({one.id for one in data.examples}) == 620


def test_judgebench_candidates_stand_a_before_b(dev_data):
    (path,) = (dev_data / "judgebench/data").glob("*gpt-4o*.jsonl")
    rows = {row["pair_id"]: row for row in map(json.loads, path.read_text("utf-8").splitlines())}
    data = load_suite("judgebench").load(path)
    assert len(data.examples) == len(rows) == 350
    for one in data.examples:
        row = rows[one.id]
        assert [candidate.text for candidate in one.candidates] == [row["response_A"], row["response_B"]]
        assert one.labels.grades == ((1.0, 0.0) if row["label"] == "A>B" else (0.0, 1.0))


def test_rmb_best_of_n(dev_data):
    data = load_suite("rmb").load(dev_data / "rmb")
    assert len(data.examples) == 3786
    assert count(data, lambda one: one.group) == {"Help-BoN": 2109, "Harm-BoN": 1677}
    assert count(data, lambda one: len(one.candidates)) == {3: 2878, 4: 712, 5: 165, 6: 24, 7: 7}
    assert count(data, lambda one: len(one.prompt)) == {1: 3261, 3: 373, 5: 152}
    assert len({one.id for one in data.examples}) == 3786
    unwinnable = sum(one.candidates[0] in one.candidates[1:] for one in data.examples)
    assert unwinnable == 6
    longest = sum(
        all(len(one.candidates[0].text) > len(other.text) for other in one.candidates[1:]) for one in data.examples
    )
    assert longest == 1643
    assert data.notes[0].startswith("24 of 48 subsets are missing: Help-Pair/Brainstorming")


@pytest.mark.parametrize("run", ["internlm2", "oasst-rm", "beaver", "Eurus-RM", "Math_Shepherd"])
def test_rewardmath_result_files_are_all_the_same_examples(dev_data, run):
    folder = dev_data / "rewardmath/results/RewardMATH"
    data = load_suite("rewardmath").load(folder / f"{run}_reward.json")
    assert (len(data.examples), data.complete, data.notes) == (483, True, ())
    assert {one.labels.grades for one in data.examples} == {(1.0, *[0.0] * 9)}
    assert data.labels_sha256 == load_suite("rewardmath").load(folder).labels_sha256


def test_rewardmath_folder_names_the_file_it_read(dev_data):
    data = load_suite("rewardmath").load(dev_data / "rewardmath")
    assert len(data.examples) == 483
    assert data.notes == ("read Eurus-RM_reward.json, one of 7 files that each hold the suite",)


def test_rewardmath_of_chatgpt_has_two_problems_twice(dev_data):
    data = load_suite("rewardmath").load(dev_data / "rewardmath/results/RewardMATH/chatgpt_reward.json")
    assert (len(data.examples), data.complete) == (485, False)
    assert len({one.cluster for one in data.examples}) == 483
    assert data.notes == (
        "counts that differ from the full suite: rewardmath has 485 of 483",
        "these are the counts of the variant rewardmath:consecutive: name that suite to evaluate it whole",
    )


def test_rewardmath_refuses_pairwise_results(dev_data):
    with pytest.raises(UsageError, match="10 marked candidates expected, found 9"):
        load_suite("rewardmath").load(dev_data / "rewardmath/results/RewardMATH/llama3_8B_pairwise_reward.json")


def test_hh_transcripts(dev_data):
    data = load_suite("pairs").load(dev_data / "hh-rlhf/harmless-base/test.jsonl.gz")
    assert len(data.examples) == 2312
    assert len({one.cluster for one in data.examples}) == 2310
    chosen = [one.candidates[0].text for one in data.examples]
    assert sum(not text for text in chosen) == 4
    marked = sum(any("\n\nAssistant:" in candidate.text for candidate in one.candidates) for one in data.examples)
    assert marked == 5
    assert {one.prompt[-1].role for one in data.examples} == {"user"}


def test_the_wrong_set_is_refused_with_what_each_layout_wants(dev_data):
    with pytest.raises(UsageError, match="no layout of suite 'rm-bench' fits") as caught:
        load_suite("rm-bench").load(dev_data / "judgebench")
    assert "columns of" in str(caught.value)
    assert "official repository: files *_filtered.json" in str(caught.value)
