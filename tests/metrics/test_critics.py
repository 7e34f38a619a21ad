"""A critic names the first wrong step; its votes and its silence count as the official code has it."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter

import pytest
from command import rmeval

from rmeval.errors import UsageError
from rmeval.metrics import mr_score, prmbench, steps, thresholds
from rmeval.metrics.diagnostics import diagnostics
from rmeval.types import NAN, Judgement, Verdict


def solved(label, *said, name="x", grade=0.0, reason="unparsed"):
    """A solution of four steps, the labelled one wrong (-1: none), and what a critic said of it."""
    grades = (1,) * 4 if label < 0 else (1,) * label + (0,) + (-1,) * (3 - label)
    rows = tuple(Verdict((0,), one, None if one is not None else reason, vote=v) for v, one in enumerate(said))
    return Judgement(name, "s", "", name, (grade,), (grades,), verdicts=rows)


def credit(judgement, **options):
    (row,) = steps.first_error([judgement], options).rows
    return row.value, row.reason


@pytest.mark.parametrize(
    ("label", "said", "hit"), [(-1, "-1", 1), (-1, "0", 0), (2, "2", 1), (2, "1", 0), (2, "-1", 0)]
)
def test_a_critique_is_compared_with_the_label(label, said, hit):
    assert credit(solved(label, said)) == (hit, None)
    assert credit(solved(label, said), over="solutions") == (hit, None)


def official(said):
    """code/run_eval.py of QwenLM/ProcessBench with voting: the commonest of what was read, the first of several."""
    read = [one for one in said if one is not None]
    return int(Counter(read).most_common(1)[0][0]) if read else None


def test_votes_come_to_what_upstream_makes_of_them():
    for said in itertools.product(("-1", "0", "2", None), repeat=4):
        for label in (-1, 0, 2):
            value, reason = credit(solved(label, *said), unparsed="wrong")
            assert (value, reason) == (float(official(said) == label), None), (said, label)


def test_a_tie_of_votes_can_be_left_open():
    assert credit(solved(2, "2", "1")) == (1.0, None)
    assert credit(solved(2, "1", "2")) == (0.0, None)
    for said in (("2", "1"), ("1", "2")):
        value, reason = credit(solved(2, *said), votes="decided")
        assert (math.isnan(value), reason) == (True, "unparsed")
    assert credit(solved(2, "1", "2", "2"), votes="decided") == (1.0, None)


@pytest.mark.parametrize("reason", ["unparsed", "refused", "truncated", "empty"])
def test_silence_is_missing_unless_the_suite_calls_it_wrong(reason):
    for label in (-1, 2):
        silent = solved(label, None, reason=reason)
        value, why = credit(silent)
        assert (math.isnan(value), why) == (True, reason)
        assert credit(silent, unparsed="wrong") == (0.0, None)
    assert steps.first_error([solved(2, None)], {}).variants == (("unparsed", "wrong"),)
    assert steps.first_error([solved(2, "1")], {}).variants == ()


def test_silence_about_a_right_answer_by_a_wrong_way_follows_the_same_rule():
    rows = [solved(1, "1", name="found", grade=1.0), solved(1, None, name="silent", grade=1.0)]

    def values(**options):
        return {row.key: row.value for row in steps.right_answer_wrong_process(rows, options).rows}

    assert values() == {"found": 1.0, "silent": 0.0}  # as in the headline of ProcessBench
    assert math.isnan(values(unparsed="missing")["silent"])


def test_a_failed_call_is_missing_under_either_rule():
    for unparsed in ("missing", "wrong"):
        value, why = credit(solved(2, None, reason="api_error"), unparsed=unparsed)
        assert (math.isnan(value), why) == (True, "api_error")


def test_a_scorer_of_steps_earns_nothing_from_the_rule_for_critics():
    lost = Judgement(
        "x", "s", "", "x", (1.0,), ((1, 0),), step_scores=((0.9, NAN),), step_reasons=((None, "truncated"),)
    )
    value, why = credit(lost, unparsed="wrong")
    assert (math.isnan(value), why) == (True, "truncated")


def test_the_mr_score_reads_critics_and_prmbench_says_why_it_cannot():
    rows = [solved(-1, "-1", name="a", grade=1.0), solved(1, "1", name="b"), solved(1, "0", name="c")]
    (mcc, located, accuracy) = mr_score.mr_parts(rows, {}).metrics
    assert (mcc.value, located.value, accuracy.value) == (1.0, 0.5, 1.0)
    with pytest.raises(UsageError, match="a verdict on every step"):
        prmbench.prm_score(rows, {})
    assert thresholds.first_error_thresholds(rows, {}).metrics == ()


def test_a_verdict_on_a_pair_is_no_critique():
    pair = Judgement("x", "s", "", "x", (1.0,), ((1, 0),), verdicts=(Verdict((0,), "A"),))
    with pytest.raises(UsageError, match="needs a critic's verdicts"):
        steps.first_error([pair], {})


def test_figures_of_a_critic():
    rows = [solved(-1, "-1", "-1", name="a"), solved(1, "1", "0", name="b"), solved(1, None, "1", name="c")]
    found = {m.name: m for m in diagnostics(rows)}
    assert found["judge:flagged"].value == pytest.approx(3 / 5)
    assert found["judge:parse_failure"].value == pytest.approx(1 / 6)
    assert found["judge:unanimous"].value == pytest.approx(1 / 3)
    assert found["judge:failed_when_wrong_first"].value == pytest.approx(1 / 4)
    assert not {"judge:slot_a", "judge:average"} & set(found)


def test_a_replayed_critic_is_scored_and_rescored(tmp_path):
    rows = [(-1, ["-1", "-1"]), (-1, ["1", "-1"]), (1, ["0", "1"]), (1, ["1", "1"]), (0, [None, None])]
    data = [
        {"id": f"s{i}", "problem": f"p{i}", "steps": ["a", "b"], "label": label} for i, (label, _) in enumerate(rows)
    ]
    said = [
        {"id": f"s{i}", "verdicts": [{"order": [0], "verdict": one} for one in votes]}
        for i, (_, votes) in enumerate(rows)
    ]
    for name, lines in (("data", data), ("critic", said)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = ("run", f"replay:{tmp_path / 'critic.jsonl'}", "--suite", "steps", "--data", tmp_path / "data.jsonl")
    done = rmeval(*run, "--out", tmp_path / "out", "--store", tmp_path / "store", "--json")
    assert done.code == 0, done.stderr
    # wrong solutions: the first of two votes errs in one of two, the third has no vote; right ones: one of two passes
    assert done.document["headline"]["value"] == pytest.approx(2 * (1 / 2) * (1 / 2) / (1 / 2 + 1 / 2))
    assert done.document["metrics"][0]["n_missing"] == 1
    (result,) = (tmp_path / "out").rglob("*Z-*[0-9a-f].json")
    again = rmeval("rescore", result, "-a", "metric.unparsed=wrong", "--json").document
    assert again["headline"]["value"] == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    decided = rmeval("rescore", result, "-a", "metric.votes=decided", "--json").document
    assert decided["headline"]["value"] == pytest.approx(1.0)
    assert decided["metrics"][0]["n_missing"] == 3
