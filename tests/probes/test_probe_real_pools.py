"""Best-of-n on published pools, by the commands that a user types, against figures counted from their files.

Needs the development data; skipped without.
"""

import json
import re
from collections import Counter
from fractions import Fraction
from statistics import fmean

import pytest
from command import rmeval


def probed(source, *options):
    told = rmeval("probe", "best-of-n", source, *options, "--json")
    assert told.code == 0, told.stderr
    return {(c["panel"], c["name"]): {p["at"]: p for p in c["points"]} for c in told.document["curves"]}


def result(tmp_path, *command):
    made = rmeval(*command, "--out", tmp_path / "r", "--json")
    assert made.code == 0, made.stderr
    [path] = [p for p in (tmp_path / "r").rglob("*.json") if p.stem.startswith("20")]
    return path


def test_eight_samples_of_qwen_math_with_the_rewards_of_its_reward_model(dev_data, tmp_path):
    [file] = (dev_data / "qwen25math-bon").rglob("math_cot_100.jsonl")
    found = probed(result(tmp_path, "import", "qwen25math", file, "--suite", "qwen25math-bon"))
    gold = {name: found["gold", name] for name in ("best of n", "oracle", "random", "majority", "weighted")}
    assert gold["best of n"][8]["value"] == pytest.approx(0.94)
    assert [gold["oracle"][n]["value"] for n in (1, 2, 4, 8)] == pytest.approx([0.91, 0.932857, 0.951, 0.96], abs=5e-7)
    assert gold["weighted"][8]["value"] == pytest.approx(0.94)
    # the official vote takes the first of the four tied ones and has 93; shared, two of them lose half
    assert gold["majority"][8]["value"] == pytest.approx(0.925)
    assert gold["random"][8]["value"] == pytest.approx(0.91)
    for curve in gold.values():
        assert all(point["ci"][0] <= point["value"] <= point["ci"][1] for point in curve.values())


def test_four_systems_on_gsm8k_as_a_suite_and_as_a_pool_file(dev_data, tmp_path):
    [file] = (dev_data / "gsm8k").rglob("example_model_solutions.jsonl")
    found = probed("gsm8k-outcomes", "--data", dev_data / "gsm8k")
    assert found["gold", "oracle"][4]["value"] == pytest.approx(887 / 1319)
    assert found["gold", "random"][4]["value"] == pytest.approx((286 + 515 + 458 + 742) / (4 * 1319))
    systems = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    pool, voted = tmp_path / "pool.jsonl", []
    with pool.open("w") as out:
        for i, line in enumerate(file.read_text().splitlines()):
            row = json.loads(line)
            texts = [row[name]["solution"] for name in systems]
            said = [
                (re.findall(r"A: (.*)", text) or [f"none {k}"])[-1].replace(",", "") for k, text in enumerate(texts)
            ]
            gold = [row[name]["is_correct"] for name in systems]
            print(json.dumps({"id": str(i), "completions": texts, "gold": gold, "answers": said}), file=out)
            top = [a for a, n in Counter(said).items() if n == max(Counter(said).values())]
            voted.append(fmean(fmean(g for g, a in zip(gold, said, strict=True) if a == answer) for answer in top))
    again = probed(pool)
    assert again["gold", "oracle"] == found["gold", "oracle"]
    assert again["gold", "majority"][4]["value"] == pytest.approx(fmean(voted))


@pytest.mark.slow
def test_best_of_three_to_seven_by_length_on_rmb(dev_data, tmp_path):
    path = result(tmp_path, "run", "length", "--suite", "rmb", "--data", dev_data / "rmb")
    found = probed(path)
    won = strict = rows = 0
    for file in (dev_data / "rmb").rglob("BoN_set/**/*.json"):
        for row in json.loads(file.read_text()):
            best, others = len(row["bon_best"]["answer"]), [len(one["answer"]) for one in row["loser_list"]]
            rows += 1
            strict += best > max(others)
            won += Fraction(best >= max(others), 1 + others.count(best))
    assert (rows, strict) == (3786, 1643)
    assert found["whole pools", "gold"]["best of n"]["value"] == pytest.approx(float(won / rows))
    assert found["whole pools", "gold"]["oracle"]["value"] == 1.0
    assert set(found["gold", "best of n"]) == {1, 2, 3}


@pytest.mark.parametrize(
    ("run", "aggregate", "right"),
    [
        ("internlm2", None, 180),
        ("Eurus-RM", None, 82),
        ("Math_Shepherd", "prod", 83),
        ("Math_Shepherd", "last", 88),
    ],
)
def test_best_of_ten_by_published_scores_on_rewardmath(dev_data, tmp_path, run, aggregate, right):
    [file] = (dev_data / "rewardmath").rglob(f"{run}_reward.json")
    found = probed(
        result(tmp_path, "import", "rewardmath", file, "--suite", "rewardmath"),
        *(("--aggregate", aggregate) if aggregate else ()),
    )
    assert found["gold", "best of n"][10]["value"] == pytest.approx(right / 483)
    assert found["gold", "oracle"][10]["value"] == 1.0
    assert [point["value"] for point in found["gold", "random"].values()] == pytest.approx([0.1] * 5)
    assert {point["ci"] for point in found["gold", "random"].values()} == {None}  # one right of ten: nothing estimated
