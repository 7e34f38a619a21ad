"""Judges of every mode from question to figures: scripted words, the real scorers, runner, rules and diagnostics."""

from __future__ import annotations

import random

import pytest
from scripted_judge import ScriptedJudge, between, example

from rmeval import runner
from rmeval.cards import read_card
from rmeval.metrics.evaluate import evaluate
from rmeval.metrics.plan import MetricPlan, RuleSpec, Section
from rmeval.plugins import JUDGES
from rmeval.scorers.judge import JudgeCard, judge_scorer
from rmeval.types import Labels

PAIRS = [example(f"x{i}", f"the better {i}", f"the other {i}") for i in range(40)]
FOURS = [example(f"x{i}", f"the better {i}", f"second {i}", f"third {i}", f"fourth {i}") for i in range(12)]


def figures(protocol, rows, answer=None, *, masses=None, rule="accuracy", by_step=False, options=None, **given):
    """All metrics of a scripted judge on the rows, by name."""
    judge = judge_scorer(read_card(JUDGES.get(protocol), JudgeCard), given)
    judgements = runner.run(rows, judge, ScriptedJudge(answer, masses), by_step=by_step).judgements
    plan = MetricPlan("headline", "rows", (Section("headline", (), RuleSpec(rule, options or {})),))
    return {m.name: m for m in evaluate(judgements, plan, replicates=50) if m.subset is None}


def likes_better(turns):
    return "[[A]]" if "better" in between(turns[-1], "response A") else "[[B]]"


@pytest.mark.fault("F43")
def test_a_perfect_judge_and_one_that_looks_at_the_slot():
    fair = figures("pairwise", PAIRS, likes_better)
    assert fair["headline"].value == fair["judge:both_correct"].value == 1
    assert "no position bias" in fair["judge:net_bias"].note
    first = figures("pairwise", PAIRS, lambda turns: "[[A]]")
    assert (first["headline"].value, first["judge:both_correct"].value, first["judge:first_slot"].value) == (0.5, 0, 1)
    assert "POSITION BIAS" in first["judge:net_bias"].note
    once = figures("pairwise", PAIRS, lambda turns: "[[A]]", orders="single")
    assert "POSITION BIAS" in once["judge:slot_a"].note
    assert 0.2 < once["headline"].value < 0.8  # whichever the hash put first
    assert "judge:net_bias" not in once


def test_probabilities_lose_their_slot_bias():
    def masses(turns):
        odds = (
            3.0 if "better" in between(turns[-1], "response A") else 1 / 3
        ) * 9  # the first slot gets 9 to 1 for nothing
        return {"A": 0.9 * odds / (1 + odds), "B": 0.9 / (1 + odds)}

    found = figures("pairwise-logprob", PAIRS, masses=masses)
    assert found["headline"].value == found["judge:average"].value == 0.5
    assert found["judge:swap_mean_logit"].value == 1
    assert found["judge:unbiased_win_probability"].value == pytest.approx(0.75)
    unbiased = figures("pairwise-logprob", PAIRS, masses=masses, options={"verdicts": "swap_mean_logit"})
    assert unbiased["headline"].value == 1
    assert unbiased["judge:beta"].value == pytest.approx(2.1972245773)


def test_votes_of_an_unsteady_judge_are_put_together():
    rng = random.Random(1)

    def unsteady(turns):
        said = likes_better(turns)
        return said if rng.random() < 0.8 else {"[[A]]": "[[B]]", "[[B]]": "[[A]]"}[said]

    options = {"verdicts": "majority", "ties": "half"}
    found = figures("pairwise", PAIRS, unsteady, votes=5, temperature=1.0, options=options)
    assert found["judge:majority"].value == found["headline"].value > found["judge:vote_accuracy"].value
    assert 0.2 < found["judge:unanimous"].value < 0.6
    assert found["judge:failed"].n == 40 * 2 * 5


def test_refusals_are_counted_missing_and_by_label():
    def refuses(turns):
        return (
            "I'm sorry, but I can't help with that."
            if "other 3" in between(turns[-1], "response B")
            else likes_better(turns)
        )

    found = figures("pairwise", PAIRS, refuses)
    lost = 11  # 3 and 30 to 39
    assert found["headline"].n_missing == lost
    assert found["judge:refusal"].value == pytest.approx(lost / 80)
    assert found["judge:failed_when_right_first"].value == pytest.approx(lost / 40)
    assert found["judge:failed_when_wrong_first"].value == 0
    assert found["judge:average"].value == pytest.approx(1 - lost / 80)


def test_best_of_four_by_pairs_and_all_at_once():
    by_pairs = figures("pairwise", FOURS, likes_better)
    assert by_pairs["headline"].value == 1
    assert by_pairs["judge:both_correct"].n == 36
    letters = figures("listwise", FOURS, lambda turns: "[[A]]", options={"ties": "fraction"})
    assert letters["headline"].value == letters["judge:average"].value == 0.25
    assert letters["judge:slot_a"].value == 1


def test_ratings_that_are_level_or_lost():
    def rates(turns):
        text = between(turns[-1], "response")
        if "other 7" in text:
            return "no idea"
        return "[[4]]" if "other" in text and "other 1" not in text else "[[9]]"

    found = figures("rating", PAIRS, rates, options={"ties": "half"})
    assert found["judge:rating_ties"].value == pytest.approx(11 / 39)  # 1 and 10 to 19, of those read
    assert found["judge:failed_when_wrong_first"].value == pytest.approx(1 / 40)
    assert found["headline"].value == pytest.approx((28 + 11 / 2) / 39)


def test_a_critic():
    rows = [
        example(f"s{i}", "ab", steps=("a", "b", "c"), labels=Labels((1.0,), ((1, 1, 1) if i % 2 else (1, 0, -1),)))
        for i in range(12)
    ]
    found = figures("critic", rows, lambda turns: "[[1]]", rule="first_error", by_step=True)
    assert (found["acc_error"].value, found["acc_correct"].value) == (1, 0)
    assert found["judge:flagged"].value == 1
    silent = figures(
        "critic", rows, lambda turns: "hm", rule="first_error", by_step=True, options={"unparsed": "wrong"}
    )
    assert silent["headline"].value == 0
    assert silent["judge:failed"].value == 1
