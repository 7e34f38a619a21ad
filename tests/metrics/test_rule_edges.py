"""Edges of rules and judges' figures that altered code showed untested."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_pairs import POOLED, find, pairs

from rmeval.metrics import judge_calls, labels, length_control
from rmeval.metrics.contrasts import Contrasts
from rmeval.metrics.debias import mean_share
from rmeval.metrics.evaluate import evaluate
from rmeval.metrics.graded import concordance, resampled
from rmeval.metrics.judging import judging
from rmeval.metrics.length_control import LengthControlled
from rmeval.metrics.nulls import random
from rmeval.metrics.rules import accuracy, judgebench, reciprocal_rank
from rmeval.metrics.steps import first_error_parts
from rmeval.metrics.tally import Tally
from rmeval.metrics.ties import ties
from rmeval.types import Judgement, Verdict


def judged(name, grades, scores=(), subset="s", **more):
    return Judgement(f"{subset}/{name}", subset, "", f"{subset} {name}", tuple(grades), scores=tuple(scores), **more)


# --- rules ---


def test_a_top_that_is_wrong_alone_is_no_tie():
    rows = [
        judged("wrong", (1.0, 0.0, 0.0), (1, 2, 0)),
        judged("wrong ones", (1.0, 0.0, 0.0), (1, 2, 2)),
        judged("right", (1.0, 0.0, 0.0), (3, 2, 2)),
        judged("right ones", (1.0, 1.0, 0.0), (3, 3, 2)),
        judged("both", (1.0, 0.0, 0.0), (2, 2, 0)),
    ]
    assert accuracy(rows, {}).ties == {"s/both"}


def test_scores_and_ratings_say_the_outcome_where_there_are_some():
    verdicts = (Verdict((0, 1), "B"), Verdict((1, 0), "A"))
    said = [
        judged("verdicts", (1.0, 0.0), verdicts=verdicts),
        judged("both", (1.0, 0.0), (2, 1), verdicts=verdicts),
        judged("ratings", (1.0, 0.0), ratings=((7.0,), (5.0,))),
    ]
    assert [labels._outcome(j, Tally(), "own") for j in said] == [(1, None), (0, None), (0, None)]


def test_differences_are_held_where_both_sides_are_numbers_and_stay_infinite_elsewhere():
    row = judged("x", (1.0, 0.0, 0.0, 0.0), (1e300, -1e308, -math.inf, math.nan))
    far, endless, unknown = Contrasts((row,)).between(lambda j: j.scores)
    assert (far, endless) == (1e150, math.inf)
    assert math.isnan(unknown)


def test_equal_scores_are_a_tie_of_judgebench():
    rows = [
        judged("level", (1.0, 0.0), (2, 2)),
        judged("right", (1.0, 0.0), (2, 1)),
        judged("wrong", (1.0, 0.0), (1, 2)),
    ]
    assert judgebench(rows, {}).ties == {"s/level"}


@pytest.mark.parametrize(
    ("votes", "figures"),
    [
        (((0, 0, 1), (1, 1, 1)), {"kappa:annotators_1_2", "kappa:annotators_1_3", "kappa:annotators_2_3"}),
        (((0, 0), (1, 1, 1)), set()),
        (((0,), (1,)), set()),
    ],
)
def test_annotators_are_compared_where_all_examples_have_as_many(votes, figures):
    rows = [judged(i, (1.0, 0.0), (2, 1), votes=of) for i, of in enumerate(votes)]
    names = {m.name for m in labels.label_agreement(rows, {}).metrics}
    assert {name for name in names if "annotators" in name} == figures


def test_one_pair_of_equal_scores_is_a_tie_of_the_order():
    rows = [judged("one", (2.0, 1.0, 0.0), (2, 1, 1)), judged("none", (2.0, 1.0, 0.0), (2, 0, 1))]
    assert concordance(rows, {}).ties == {"s/one"}


def test_the_rank_is_that_of_the_best_right_candidate():
    rows = [judged(0, (1.0, 1.0, 0.0), (1, 3, 2)), judged(1, (1.0, 1.0, 0.0, 0.0), (1, 2, 2, 4))]
    assert [row.value for row in reciprocal_rank(rows, {}).rows] == [1.0, pytest.approx(1 / 3)]


def test_every_prompt_can_be_drawn():
    x = np.array([1.0] + [0.0] * 19)
    low, high = resampled(lambda a, _: float(a.mean()), x, x, [f"p{i:02}" for i in range(20)])
    assert (low, high) == pytest.approx((0.0, 3 / 20))  # of 20 draws: Poisson of 1, whose 97.5 % point is 3


def test_unread_ratings_have_the_other_readings_too():
    lost = judged("x", (1.0, 0.0), ratings=((math.nan,), (math.nan,)), reasons=("unparsed", "unparsed"))
    read = judged("y", (1.0, 0.0), ratings=((7.0,), (5.0,)))
    assert ("unparsed", "wrong") in accuracy([lost, read], {}).variants
    assert ("unparsed", "wrong") not in accuracy([read], {}).variants


def test_ties_prompts_without_a_spread_are_counted():
    def row(kind, pid, grades):
        return Judgement(f"{kind}:{pid}", "Ties", "", f"{kind} {pid}", grades, scores=(3.0, 2.0, 1.0))

    rows = [row(kind, pid, (1.0, 0.0, 0.0)) for kind in ("ref", "tied") for pid in "ab"]
    rows += [row("ref", "c", (1.0, 0.0, 0.0)), row("tied", "c", (1.0, 1.0, 0.0))]
    assert "; 2 tied prompts with a single correct answer" in ties(rows, {}).note
    assert "single correct answer" not in ties(rows[-2:], {}).note


def test_a_gap_of_nothing_is_the_tie_of_the_ties_rule():
    def row(pid, best_wrong):
        return Judgement(f"ref:{pid}", "Ties", "", f"ref {pid}", (1.0, 0.0), scores=(3.0, best_wrong))

    assert ties([row("a", 3.0), row("b", 2.0), row("c", 4.0)], {}).ties == {"ref:a"}


def test_one_draw_of_the_random_baseline_is_enough_for_very_many_rows(monkeypatch):
    monkeypatch.setattr("rmeval.metrics.evaluate.draws", lambda _: 1)
    rows = pairs("s", [1, 0] * 40)
    found = find(evaluate(rows, POOLED, replicates=50), "null:random")
    assert "mean of 1 draws" in found.note
    assert found.value == np.mean([a > b for a, b in (random(j).scores for j in rows)])


def test_notes_of_parts_are_undefined_where_there_is_no_number():
    row = Judgement("x", "s", "", "p", (0.0,), step_grades=((1, 0),), step_scores=((0.9, 0.1),))
    found = {m.name: m for m in first_error_parts([row], {}).metrics}
    assert found["acc_error"].note.startswith("solutions with an error")
    assert (found["acc_error"].value, found["acc_correct"].value) == (1.0, None)
    assert found["acc_correct"].note.startswith("undefined: no scored solutions without one")


# --- judges ---


@pytest.mark.parametrize(
    ("raw", "value", "far"),
    [
        (0.2, 0.39, False),
        (0.2, 0.41, True),
        (0.2, 0.11, False),
        (0.2, 0.09, True),
        (0.8, 0.61, False),
        (0.8, 0.59, True),
    ],
)
def test_a_rate_at_equal_length_is_far_beyond_a_quarter_of_what_is_left(raw, value, far):
    assert LengthControlled(value, None, 0.0, 0.0, raw).is_far is far


def test_the_two_orders_have_a_figure_each():
    rows = [judged(i, (1.0, 0.0), verdicts=(Verdict((0, 1), "A"), Verdict((1, 0), "A"))) for i in range(12)]
    found = {m.name: m for m in judging(rows)}
    assert (found["judge:order_1"].value, found["judge:order_2"].value) == (1.0, 0.0)
    assert "as the data have them" in found["judge:order_1"].note


def test_one_unread_order_of_several_is_enough_for_the_other_readings():
    half_read = judged("x", (1.0, 0.0), verdicts=(Verdict((0, 1), "A"), Verdict((1, 0), None, "unparsed")))
    assert {("unparsed", "wrong"), ("unparsed", "chance")} <= set(accuracy([half_read], {}).variants)
    read = judged("x", (1.0, 0.0), verdicts=(Verdict((0, 1), "A"), Verdict((1, 0), "B")))
    assert not {name for name, _ in accuracy([read], {}).variants} & {"unparsed"}


def test_preferences_of_a_judge_are_over_pairs_with_a_right_one():
    draw = np.random.default_rng(5)

    def row(i, grades, said):
        return judged(
            i, grades, verdicts=(Verdict((0, 1), said[0]), Verdict((1, 0), said[1])), models=("m0", "m1"),
            lengths=(int(draw.integers(50, 400)), int(draw.integers(50, 400))),
        )  # fmt: skip

    rows = [row(i, (1.0, 0.0) if i % 3 else (0.0, 1.0), "AB" if i % 4 else "BA") for i in range(60)]
    alike = [row(100 + i, (1.0, 1.0), "AB") for i in range(20)]

    def preferences(judgements):
        names = ("judge:length_controlled", "judge:favours")
        return {m.name: (m.value, m.n) for m in judging(judgements) if m.name.startswith(names)}

    assert len(preferences(rows)) >= 2
    assert preferences([*rows, *alike]) == preferences(rows)


def test_one_rating_each_has_no_figures_of_votes():
    rows = [replace(judged(i, (1.0, 0.0)), ratings=((7.0,), (float(i),)), scores=()) for i in range(5)]
    names = {m.name for m in judging(rows)}
    assert "judge:rating_ties" in names
    assert not names & {"judge:vote_accuracy", "judge:majority", "judge:vote_sum"}


def test_a_reward_between_minus_1_and_1_has_its_interval_there():
    rows = [judged(i, (1.0, 0.0), verdicts=(Verdict((0, 1), "A>>B"), Verdict((1, 0), "B>>A"))) for i in range(30)]
    [found] = [m for m in judging(rows) if m.name == "judge:wildbench_reward"]
    assert (found.value, found.ci[1]) == (1.0, 1.0)
    assert 0.5 < found.ci[0] < 1


def test_a_second_vote_alone_is_a_vote():
    rows = [judged(i, (1.0, 0.0), verdicts=(Verdict((0, 1), "A", vote=1),)) for i in range(3)]
    assert "judge:vote_accuracy" in {m.name for m in judging(rows)}
    rows = [judged(i, (1.0, 0.0), verdicts=(Verdict((0, 1), "A"),)) for i in range(3)]
    assert "judge:vote_accuracy" not in {m.name for m in judging(rows)}


def test_an_order_without_probabilities_leaves_the_pair_without_a_share():
    there = Verdict((0, 1), "A", p=(0.75, 0.25))
    assert mean_share([there, Verdict((1, 0), "B", p=(0.5, 0.5))], frozenset({0})) == pytest.approx(0.625)
    assert math.isnan(mean_share([there, Verdict((1, 0), "B")], frozenset({0})))


def test_prompts_with_an_unread_game_are_counted_as_missing():
    rows = [judged(i, (1.0, 0.0), verdicts=(Verdict((0, 1), "A>>B"), Verdict((1, 0), "B>A"))) for i in range(12)]
    rows.append(judged("x", (1.0, 0.0), verdicts=(Verdict((0, 1), "A>>B"), Verdict((1, 0), None, "unparsed"))))
    [found] = [m for m in judging(rows) if m.name == "judge:arena_hard"]
    assert (found.value, found.n, found.n_missing) == (1.0, 12, 1)


def test_how_often_a_writer_is_preferred_is_said_beside_the_difference():
    def row(i, right, said):
        models = ("m0", "m1") if right == "m0" else ("m1", "m0")  # the first is right
        said = (said, "A" if said == "B" else "B")
        return judged(i, (1.0, 0.0), verdicts=(Verdict((0, 1), said[0]), Verdict((1, 0), said[1])), models=models)

    rows = [row(i, "m0", "B" if i < 2 else "A") for i in range(10)]  # m1 preferred in 2 of 10
    rows += [row(10 + i, "m1", "B" if i < 5 else "A") for i in range(10)]  # passed over in 5 of 10
    [found] = [m for m in judging(rows) if m.name == "judge:favours:m1"]
    assert found.value == pytest.approx(-0.3)
    assert "m1 is preferred where the other is right (0.2)" in found.note
    assert "where m1 is right (0.5)" in found.note


def test_the_test_of_the_slots_is_over_prompts_that_lean():
    said = ["AA"] * 8 + ["BB"] * 3 + ["AB"] * 5  # the first slot, the second, the same candidate
    rows = [judged(i, (1.0, 0.0), verdicts=(Verdict((0, 1), a), Verdict((1, 0), b))) for i, (a, b) in enumerate(said)]
    found = {m.name: m for m in judging(rows)}
    assert (found["judge:net_bias_p"].n, found["judge:net_bias"].n) == (11, 16)
    assert found["judge:net_bias"].value == pytest.approx(5 / 16)
    better = {name: m.higher_is_better for name, m in found.items()}
    assert better["judge:order_kappa"]
    assert better["judge:consistency"]
    assert not better["judge:net_bias"]


def test_one_reply_that_could_not_be_read_tells_a_judge():
    rows = [judged(0, (1.0, 0.0), (math.nan, 1.0), reasons=("unparsed", None)), judged(1, (1.0, 0.0), (2.0, 1.0))]
    [found] = [m for m in judging(rows) if m.name == "judge:parse_failure"]
    assert found.value == 0.25
    assert not judging(rows[1:])


def test_resamples_of_prompts_are_as_many_as_were_asked_for(monkeypatch):
    monkeypatch.setattr(length_control, "_BLOCK", 12)
    drawn = list(length_control._resampled(["a", "a", "b", "c"], 7, 0))  # three rows of four at once
    assert [len(block) for block in drawn] == [3, 3, 1]
    assert all((row[0] == row[1]) and row[1:].sum() == 3 for block in drawn for row in block)


def test_readings_of_a_row_with_scores_are_its_scores():
    both = judged("x", (1.0, 0.0), (2, 1), ratings=((7.0, 8.0), (5.0, 5.0)))
    assert [reading.said for reading in judge_calls._of(both)] == [2, 1]


def test_what_was_never_asked_is_no_reading():
    for reason in judge_calls.NEVER_ASKED:
        row = judged("x", (1.0, 0.0), verdicts=(Verdict((0, 1), "A"), Verdict((1, 0), None, reason)))
        assert [reading.said for reading in judge_calls._of(row)] == ["A"]
    lost = judged("x", (1.0, 0.0), verdicts=(Verdict((0, 1), "A"), Verdict((1, 0), None, "refused")))
    assert [reading.reason for reading in judge_calls._of(lost)] == [None, "refused"]
