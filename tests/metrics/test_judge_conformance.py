"""The same verdicts under every protocol, as a user gets them: a replayed judge, `run`, `rescore`.

The table is judges.md's: 100 pairs, of which a judge gets 60 right in both orders, 10 wrong, names the first slot twice
in 20, the second in 5, and is right and then unreadable in 5.
"""

from __future__ import annotations

import hashlib
import json
import math

import pytest
from command import rmeval

from rmeval.metrics import rules
from rmeval.results import load_result

EXACT = 1e-9
TABLE = [("A", "B")] * 60 + [("B", "A")] * 10 + [("A", "A")] * 20 + [("B", "B")] * 5 + [("A", None)] * 5
"""What the judge says with the right candidate first, and with it second."""


@pytest.fixture
def judge(tmp_path):
    """Runs a judge given as one pair of verdicts per example; returns its result file and metrics by name."""

    def run(said, texts=None, suite="pairs", p=None):
        lines, rows = [], []
        for i, (one, two) in enumerate(said):
            chosen, rejected = texts[i] if texts else ("right", "wrong")
            lines.append({"id": f"p{i}", "prompt": f"q{i}", "chosen": chosen, "rejected": rejected})
            games = [{"order": [0, 1], "verdict": one}, {"order": [1, 0], "verdict": two}]
            if p:
                games = [{**game, "p": list(share)} for game, share in zip(games, p[i], strict=True)]
            rows.append({"id": f"p{i}", "verdicts": games})
        for name, content in (("data", lines), ("judge", rows)):
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in content))
        done = rmeval(
            "run", f"replay:{tmp_path / 'judge.jsonl'}", "--suite", suite, "--data", tmp_path / "data.jsonl",
            "--out", tmp_path / "out", "--store", tmp_path / "store", "--json",
        )  # fmt: skip
        assert done.code == 0, done.stderr
        (result,) = (f for f in (tmp_path / "out").rglob("*.json"))
        return result, {m["name"]: m for m in done.document["metrics"] if m["subset"] is None}

    return run


def rescored(result, *options):
    done = rmeval("rescore", result, *(word for option in options for word in ("-a", f"metric.{option}")), "--json")
    assert done.code == 0, done.stderr
    return done.document


def values(metrics):
    return {name: m["value"] for name, m in metrics.items()}


def test_the_table_of_one_judge_under_every_protocol(judge):
    _, metrics = judge(TABLE)
    found = values(metrics)
    assert found["judge:both_correct"] == pytest.approx(0.60, abs=EXACT)
    assert found["judge:sum_sign"] == pytest.approx(0.65, abs=EXACT)
    assert found["judge:order_1"] == pytest.approx(0.85, abs=EXACT)
    assert found["judge:average"] == pytest.approx(0.75, abs=EXACT)
    assert found["judge:expected"] == pytest.approx(0.7625, abs=EXACT)
    assert found["judge:adjusted_win_rate"] == pytest.approx(72.5 / 95, abs=EXACT)
    assert found["judge:win_rate"] == pytest.approx(60 / 95, abs=EXACT)
    assert found["judge:consistent_only"] == pytest.approx(60 / 70, abs=EXACT)
    assert found["judge:coverage"] == pytest.approx(0.70, abs=EXACT)
    assert found["judge:consistency"] == pytest.approx(70 / 95, abs=EXACT)
    assert found["judge:first_slot"] == pytest.approx(20 / 95, abs=EXACT)
    assert found["judge:second_slot"] == pytest.approx(5 / 95, abs=EXACT)
    assert found["judge:net_bias"] == pytest.approx(15 / 95, abs=EXACT)
    tail = sum(math.comb(25, k) for k in range(20, 26)) / 2**25
    assert found["judge:net_bias_p"] == pytest.approx(2 * tail, abs=EXACT)
    assert round(2 * tail, 6) == 0.004077
    # marginals of the 95 pairs: order 1 names the right one 80 times, order 2 names it 65 times
    chance = (80 * 65 + 15 * 30) / 95**2
    assert found["judge:order_kappa"] == pytest.approx((70 / 95 - chance) / (1 - chance), abs=EXACT)
    assert round(found["judge:order_kappa"], 6) == 0.296296
    printed = {"judge:adjusted_win_rate": 76.3158, "judge:win_rate": 63.1579, "judge:consistent_only": 85.7143,
               "judge:consistency": 73.6842, "judge:first_slot": 21.0526, "judge:second_slot": 5.2632,
               "judge:net_bias": 15.7895}  # fmt: skip
    assert {name: round(100 * found[name], 4) for name in printed} == printed
    assert found["judge:parse_failure"] == pytest.approx(5 / 200)
    assert (found["judge:failed_when_right_first"], found["judge:failed_when_wrong_first"]) == (0, 0.05)
    assert "POSITION BIAS towards the first slot" in metrics["judge:net_bias"]["note"]


def test_every_headline_of_the_table_follows_from_the_stored_verdicts(judge):
    result, _ = judge(TABLE)
    expected = {
        ("verdicts=mean",): (72.5 / 95, 5),
        ("verdicts=both_correct",): (0.60, 0),
        ("verdicts=sum_sign",): (0.65, 0),
        ("verdicts=tie_on_inconsistency",): (60 / 95, 5),
        ("verdicts=tie_on_inconsistency", "ties=half"): (72.5 / 95, 5),
        ("verdicts=consistent_only",): (60 / 70, 30),
        ("verdicts=majority", "ties=half"): (72.5 / 95, 5),
        ("unparsed=wrong",): (0.75, 0),
        ("unparsed=chance",): (0.7625, 0),
    }
    for options, (value, missing) in expected.items():
        head = rescored(result, *options)["metrics"][0]
        assert head["value"] == pytest.approx(value, abs=EXACT), options
        assert (head["n"], head["n_missing"]) == (100 - missing, missing), options


def test_the_official_rules_of_judgebench_and_llmbar_on_the_table(judge):
    result, _ = judge(TABLE)
    rows = load_result(result).judgements

    def mean(rule, component="accuracy", **options):
        earned = [row.value for row in rule(rows, options).rows if row.component == component]
        return sum(earned) / len(earned)

    assert mean(rules.judgebench) == pytest.approx(0.65, abs=EXACT)
    assert mean(rules.judgebench, single_game=True) == pytest.approx(0.85, abs=EXACT)
    assert mean(rules.both_orders) == pytest.approx(0.75, abs=EXACT)
    assert mean(rules.both_orders, "correct_both") == pytest.approx(0.60, abs=EXACT)


def test_what_a_judge_did_not_give_is_said_and_never_guessed(judge):
    result, _ = judge(TABLE)
    refused = rmeval("rescore", result, "-a", "metric.verdicts=swap_mean_logit")
    assert refused.code == 2
    assert "without probabilities" in refused.stderr
    wrong = rmeval("rescore", result, "-a", "metric.verdicts=majorty")
    assert wrong.code == 2
    assert "majority" in wrong.stderr


def hashed(*parts):
    return hashlib.sha256("|".join(map(str, parts)).encode()).digest()[0] % 2


@pytest.mark.fault("F43")
def test_always_first(judge):
    _, metrics = judge([("A", "A")] * 100)
    found = values(metrics)
    assert found["judge:expected"] == found["judge:average"] == found["judge:adjusted_win_rate"] == 0.5
    assert found["judge:both_correct"] == found["judge:sum_sign"] == found["judge:consistency"] == 0
    assert found["judge:first_slot"] == found["judge:net_bias"] == found["judge:slot_a"] == 1
    assert found["judge:net_bias_p"] == pytest.approx(2 * 0.5**100)
    assert found["judge:consistent_only"] is None
    assert found["judge:coverage"] == 0
    assert "POSITION BIAS" in metrics["judge:net_bias"]["note"]


@pytest.mark.fault("F43")
def test_always_unparsable_is_undefined_and_never_zero(judge):
    _, metrics = judge([(None, None)] * 100)
    found = values(metrics)
    assert found["judge:expected"] == 0.5
    assert found["judge:both_correct"] == found["judge:sum_sign"] == found["judge:average"] == 0
    for name in ("adjusted_win_rate", "win_rate", "consistency", "consistent_only", "net_bias", "net_bias_p", "slot_a"):
        assert found[f"judge:{name}"] is None, name
        assert metrics[f"judge:{name}"]["note"].startswith("undefined: ")
    assert metrics["accuracy"]["value"] is None
    assert found["judge:parse_failure"] == found["judge:failed"] == 1


@pytest.mark.fault("F43")
def test_perfect(judge):
    _, metrics = judge([("A", "B")] * 100)
    found = values(metrics)
    for name in ("expected", "adjusted_win_rate", "both_correct", "sum_sign", "consistency", "average", "win_rate"):
        assert found[f"judge:{name}"] == 1, name
    assert found["judge:net_bias"] == 0
    assert found["judge:net_bias_p"] == 1
    assert "no position bias" in metrics["judge:net_bias"]["note"]


@pytest.mark.fault("F43")
def test_random_by_seed(judge):
    said = [("AB"[hashed(0, i)], "AB"[hashed(1, i)]) for i in range(100)]
    _, metrics = judge(said)
    found = values(metrics)
    count = {kind: said.count(kind) for kind in (("A", "B"), ("B", "A"), ("A", "A"), ("B", "B"))}
    right, wrong, first, second = count.values()
    assert found["judge:both_correct"] == found["judge:sum_sign"] == pytest.approx(right / 100, abs=EXACT)
    assert found["judge:consistency"] == pytest.approx((right + wrong) / 100, abs=EXACT)
    assert found["judge:adjusted_win_rate"] == pytest.approx((right + (first + second) / 2) / 100, abs=EXACT)
    assert found["judge:net_bias"] == pytest.approx((first - second) / 100, abs=EXACT)
    assert "no position bias" in metrics["judge:net_bias"]["note"]


@pytest.mark.fault("F43")
def test_length_preferring(judge):
    texts = [("longer answer" if hashed(2, i) else "short", "middling") for i in range(100)]
    said = [("A", "B") if len(a) > len(b) else ("B", "A") for a, b in texts]
    _, metrics = judge(said, texts)
    found = values(metrics)
    longer = sum(len(a) > len(b) for a, b in texts) / 100
    for name in ("both_correct", "sum_sign", "win_rate", "consistent_only", "average"):
        assert found[f"judge:{name}"] == pytest.approx(longer, abs=EXACT), name
    assert found["judge:consistency"] == 1
    assert "no position bias" in metrics["judge:net_bias"]["note"]
    # length explains everything: no finite fit, and none is made up
    assert found["judge:length_controlled"] is None
    assert "separate" in metrics["judge:length_controlled"]["note"]
    assert (found["length:accuracy_when_longer"], found["length:accuracy_when_shorter"]) == (1, 0)


@pytest.mark.fault("F43")
def test_a_tenth_unparsable(judge):
    said = [("A", "B" if i % 10 else None) for i in range(100)]
    _, metrics = judge(said)
    found = values(metrics)
    assert found["judge:both_correct"] == found["judge:coverage"] == 0.9
    assert found["judge:sum_sign"] == found["judge:adjusted_win_rate"] == found["judge:consistent_only"] == 1
    assert found["judge:average"] == 0.95
    assert found["judge:expected"] == 0.975
    assert found["judge:failed"] == 0.05
    assert "no position bias" in metrics["judge:net_bias"]["note"]


def test_arena_hard_rows(judge):
    # the right candidate is shown first in game 2: these are (verdict of game 2, verdict of game 1)
    games = [("A>B", "B>>A"), ("A>B", "A>B"), ("B>A", "A=B"), ("A>>B", "B>A")]
    _, metrics = judge(games)
    rows = [[1, 1, 1, 1], [1, 0], [0, 0.5], [1, 1, 1, 1]]
    assert metrics["judge:arena_hard"]["value"] == pytest.approx(sum(map(sum, rows)) / sum(map(len, rows)), abs=EXACT)
    assert metrics["judge:arena_hard"]["n"] == 4
    rewards = [(0.5 + 1) / 2, 0, (-0.5 + 0) / 2, (1 + 0.5) / 2]
    assert metrics["judge:wildbench_reward"]["value"] == pytest.approx(sum(rewards) / 4, abs=EXACT)


def test_probabilities_in_both_orders(judge):
    # the golden pair; the same with the slots exchanged; one that is very sure in each order
    p = [((0.9, 0.1), (0.7, 0.3)), ((0.3, 0.7), (0.1, 0.9)), ((0.999, 0.001), (0.98, 0.02))]
    said = [("A", "A"), ("B", "B"), ("A", "A")]
    result, metrics = judge(said * 10, p=p * 10)
    found = values(metrics)
    assert found["judge:swap_mean_logit"] == found["judge:swap_mean_prob"] == 1
    nine, seven = math.log(9), math.log(7 / 3)
    betas = [(nine + seven) / 2, -(nine + seven) / 2, (math.log(999) + math.log(49)) / 2]
    assert round(betas[0], 6) == 1.522261
    assert found["judge:beta"] == pytest.approx(sum(betas) / 3, abs=1e-9)
    assert found["judge:win_probability"] == pytest.approx((0.6 + 0.6 + (0.999 + 0.02) / 2) / 3, abs=EXACT)
    deltas = [(nine - seven) / 2, (nine - seven) / 2, (math.log(999) - math.log(49)) / 2]
    sigmas = [1 / (1 + math.exp(-delta)) for delta in deltas]
    assert round(sigmas[0], 6) == 0.662614
    assert found["judge:unbiased_win_probability"] == pytest.approx(sum(sigmas) / 3, abs=EXACT)
    for how in ("swap_mean_logit", "swap_mean_prob"):
        assert rescored(result, f"verdicts={how}")["headline"]["value"] == 1
    assert rescored(result, "verdicts=tie_on_inconsistency", "ties=half")["headline"]["value"] == 0.5


def test_the_length_controlled_win_rate_of_the_golden_pairs(judge):
    lengths = [(20, 10)] * 40 + [(10, 20)] * 40
    right = [True] * 30 + [False] * 10 + [True] * 15 + [False] * 25
    texts = [("x" * a, "y" * b) for a, b in lengths]
    _, metrics = judge([("A", "B") if yes else ("B", "A") for yes in right], texts)
    found = metrics["judge:length_controlled"]
    assert found["value"] == pytest.approx(1 / (1 + math.exp(-0.2938933)), abs=1e-6)
    assert "theta 0.2939, phi 1.057" in found["note"]  # 0.804719 / tanh(1)
    assert found["ci"][0] < found["value"] < found["ci"][1]
    assert metrics["length:coefficient"]["value"] == pytest.approx(0.804719, abs=1e-6)


def test_reward_bench_scores_a_missing_verdict_half_and_counts_it(judge):
    result, metrics = judge([("A", "B")] * 30 + [(None, None)] * 10)
    assert metrics["judge:expected"]["value"] == pytest.approx(35 / 40)
    assert metrics["accuracy"]["value"] == 1
    assert metrics["accuracy"]["n_missing"] == 10
    assert rescored(result, "unparsed=chance")["headline"]["value"] == pytest.approx(35 / 40)
