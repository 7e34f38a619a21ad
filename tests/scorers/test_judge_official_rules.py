"""Official protocols from text to number: hand tables of what a judge wrote, read and added up by the protocol's card.

Where an official script is known to go wrong, both values stand side by side: the official one, which the protocol of
that name repeats, and that of the default.
"""

from __future__ import annotations

import math

import pytest

from rmeval.cards import read_card
from rmeval.metrics import rules, steps
from rmeval.metrics.debias import arena_hard_rows, wildbench_reward
from rmeval.metrics.judging import judging
from rmeval.plugins import JUDGES
from rmeval.scorers.judge import JudgeCard, judge_scorer
from rmeval.scorers.judge.ratings import read_rating, read_ratings
from rmeval.scorers.judge.verdicts import read_verdict
from rmeval.types import NAN, Candidate, Judgement, Message, Reply, Verdict, View

DATA, REVERSED = (0, 1), (1, 0)


def card(name):
    return read_card(JUDGES.get(name), JudgeCard)


def row(protocol, text, order=DATA, vote=0, labels=None):
    found = read_verdict(text, labels or protocol.labels, parser=protocol.parse or "unique")
    return Verdict(order, found.verdict, found.reason, vote=vote)


def pairs(protocol, games):
    """Per pair, candidate 0 right: what was written with it shown first, and with it shown second (None: not asked)."""
    made = []
    for i, texts in enumerate(games):
        rows = [
            row(protocol, text, order) for text, order in zip(texts, (DATA, REVERSED), strict=True) if text is not None
        ]
        made.append(Judgement(str(i), "s", "", str(i), (1.0, 0.0), verdicts=tuple(rows)))
    return made


def figures(judgements):
    return {metric.name: metric.value for metric in judging(judgements)}


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_mt_bench_pair():
    protocol = card("mt-bench-pair")
    found = figures(
        pairs(
            protocol,
            [
                ("[[A]]", "[[B]]"),  # won
                ("It is [[A]].", "So [[B]]."),  # won
                ("[[A]]", "[[A]]"),  # inconsistent: a tie
                ("[[C]]", "[[B]]"),  # a tie and a win: a tie
                ("[[B]]", "[[A]]"),  # lost
                ("neither", "[[B]]"),  # error: dropped
                # A before B, wherever they stand: won and lost, a tie
                ("Not [[B]]. Final: [[B]], unlike [[A]]", "[[B]], unlike [[A]]"),
            ],
        )
    )
    assert found[protocol.aggregate] == pytest.approx((2 + 0.5 * 3) / 6)
    assert found["judge:win_rate"] == pytest.approx(2 / 6)


@pytest.mark.fault("F38")
def test_where_both_labels_stand_in_a_text_four_rules_say_three_things():
    text = "It is not [[B]] at first sight. Final: [[B]], unlike [[A]] and more so than [[A=B]]"
    said = {
        name: row(card(name), text).verdict
        for name in ("mt-bench-pair", "rewardbench", "arena-hard", "judgebench", "pairwise")
    }
    assert said == {"mt-bench-pair": "A", "rewardbench": "A", "arena-hard": "A=B", "judgebench": None, "pairwise": None}
    assert read_verdict(text, parser="rm_r1").reason == "unparsed"


def test_rewardbench_gives_half_for_what_it_cannot_read():
    protocol = card("rewardbench")
    texts = [("[[A]]", None), (None, "[[A]]"), ("A", None), (None, ""), (None, "[[B]]")]
    assert figures(pairs(protocol, texts))[protocol.aggregate] == pytest.approx((1 + 0 + 0.5 + 0.5 + 1) / 5)


def test_rm_r1_reads_no_verdict_where_both_labels_stand():
    protocol = card("rewardbench").model_copy(update={"parse": "rm_r1"})
    texts = [("<answer>[[A]]</answer>", None), ("<answer>[[A]] [[B]]</answer>", None), (None, "[[A]]")]
    assert figures(pairs(protocol, texts))["judge:expected"] == pytest.approx((1 + 0.5 + 0) / 3)


def test_arena_hard():
    protocol = card("arena-hard")
    games = [
        # candidate 0 plays the baseline: shown first in game 1
        (("[[B>>A]]", "[[A>B]]"), [1, 1, 1, 1]),
        (("[[A>B]]", "[[A>B]]"), [1, 0]),
        (("[[A=B]]", "[[B>A]]"), [0, 0.5]),
        (("[[B>A]]", "[[a>>b]]"), [1, 1, 1, 1]),
        (("first [[A>B]], then [[B>A]]", "[B>A]"), [0, 1]),
    ]
    for texts, rows in games:
        (judgement,) = pairs(protocol, [texts])
        assert arena_hard_rows(judgement.verdicts, 1) == rows, texts
    won = [(second, first) for (first, second), _ in games]  # candidate 0 plays the candidate
    assert figures(pairs(protocol, won))[protocol.aggregate] == pytest.approx(10.5 / 14)


@pytest.mark.parametrize("text", ["[[A]]", "[[A>>>B]]", "[[<]]"])
def test_arena_hard_leaves_a_label_that_there_is_not_unread(text):
    # the official pattern takes it for one, and its report stops with a KeyError
    protocol = card("arena-hard")
    (judgement,) = pairs(protocol, [(text, "[[B>A]]")])
    assert judgement.verdicts[0].reason == "unparsed"
    assert arena_hard_rows(judgement.verdicts, 0) == []


def test_judgebench():
    protocol = card("judgebench")
    games = [
        ("[[A>B]]", "[[B>>A]]"),  # right twice
        ("[[A>B]]", "[[A=B]]"),  # right and tied: right
        ("[[A>>B]]", "no label"),  # right and unread: right
        ("[[A>B]]", "[[A>B]]"),  # right and wrong
        ("[[A>>B]] or [[A>B]]", "[[A=B]]"),  # two labels that differ, if only in strength: unread
        ("[[B>A]]", "[[A>B]]"),
        ("[[a>b]]", "[[b>a]]"),  # lower case is no label
    ]
    found = figures(pairs(protocol, games))
    assert found[protocol.aggregate] == pytest.approx(3 / 7)
    assert found["judge:both_correct"] == pytest.approx(1 / 7)


def test_llmbar():
    vanilla, cot = card("llmbar-vanilla"), card("llmbar-cot")
    found = figures(
        pairs(
            vanilla,
            [
                ("Output (a)", "Output (b)"),
                ("Output (a)\n", "I think Output (b)"),  # not at the start of a line: wrong
                ("So:\n Output (a)", "Output (a)"),
                ("Output (b)", "Output (a)"),
            ],
        )
    )
    assert found[vanilla.aggregate] == pytest.approx((1 + 0.5 + 0.5 + 0) / 4)
    assert found["judge:both_correct"] == pytest.approx(1 / 4)
    said = "Output (b) is better than nothing. Therefore, Output (a) is better."
    assert row(cot, said).verdict == "A"  # (a) is looked for first
    assert row(cot, "Output (b) is better than (a)? Output (b) is better.").verdict == "B"
    assert row(cot, "Therefore, Output (a) is better").verdict is None  # one more character is asked for
    assert row(vanilla, said).verdict == "B"


def test_wildbench_pair():
    protocol = card("wildbench-pair")
    said = [
        '{"choice": "A++"}',
        'I say "choice": "A+", so',
        '{"choice": "A=B"}',
        '{"choice": "B+"}',
        '{"choice": "B++"}',
    ]
    rows = [row(protocol, text) for text in said]
    assert [wildbench_reward(one, 0) for one in rows] == [1, 0.5, 0, -0.5, -1]
    # a slight win by the output that is more than K characters longer is a tie; a strong one stands
    long = {0: 1200, 1: 600}
    assert [wildbench_reward(one, 0, long, 500) for one in rows] == [1, 0, 0, -0.5, -1]
    assert row(protocol, '{"choice": "A"}').reason == row(protocol, "A+").reason == "unparsed"
    assert figures(pairs(protocol, [(text, None) for text in said[:3]]))[protocol.aggregate] == pytest.approx(0.5)


def test_pandalm_and_auto_j():
    pandalm, auto_j = card("pandalm"), card("auto-j")
    said = ["1\n\n### Reason: short", "2", "TIE\nboth", "1 is better", ""]
    assert [row(pandalm, text).verdict for text in said] == ["A", "B", "tie", None, None]  # officially the last two tie
    said = [
        "the final decision is Response 1.",
        "final decision is tie",
        "final decision is Response 1? No: final decision is RESPONSE 2",
    ]
    assert [row(auto_j, text).verdict for text in said] == ["A", "tie", "B"]
    assert row(auto_j, "Response 1 wins.").reason == "unparsed"


def test_prometheus_reads_the_end_alone_and_does_not_draw_again():
    relative = card("prometheus-relative")
    said = ["Feedback: (A) is vague. [RESULT] B", "[RESULT] A\nsince it is short, not (B).", "Result: b", "So B."]
    # compiled for several lines, the official pattern takes any line that ends so
    assert [row(relative, text).verdict for text in said] == ["B", "A", "B", None]
    absolute = card("prometheus-absolute")
    read = [
        read_rating(text, absolute.scale, parser=absolute.parse)
        for text in ("[RESULT] 4", "[RESULT] 4 or 5", "[RESULT] 9")
    ]
    assert [one.reason for one in read] == [None, "unparsed", "unparsed"]


def test_judgelm():
    labels = {"A": "A", "B": "B", "tie": "tie"}
    protocol = card("pairwise").model_copy(update={"parse": "first_line_scores", "labels": labels})
    found = figures(
        pairs(
            protocol,
            [
                ("8 7\nbecause", "6 9\n"),  # right twice
                ("8,7", "9 6"),  # first shown twice
                ("9 2", "9 2"),  # first shown twice
                ("2 9", "2.5 9"),  # second shown twice
                ("1 9", "9 1"),  # wrong twice
                ("8, 7", "6 9"),  # two blanks: officially -1 for both, a draw; here unread
            ],
        )
    )
    assert found["judge:consistency"] == pytest.approx(2 / 5)
    assert found["judge:first_slot"] == pytest.approx(2 / 5)  # prefer_before_rate
    assert found["judge:second_slot"] == pytest.approx(1 / 5)  # prefer_after_rate
    assert found["judge:net_bias"] == pytest.approx(1 / 5)  # delta_bias


def test_position_consistent_accuracy_is_stricter_than_judgebench():
    games = [("[[A]]", "[[B]]"), ("[[A]]", "[[A]]"), ("[[A]]", "?"), ("[[B]]", "[[A]]")]
    found = figures(pairs(card("pairwise"), games))
    assert (found["judge:both_correct"], found["judge:sum_sign"]) == (0.25, 0.5)


# --- next token ------------------------------------------------------------------------------------------------------


def alpaca(*values, floor=None):
    """The verdict that AlpacaEval's protocol gives for the log-probabilities of m and M."""
    view = View("x", (Message("user", "q"),), (Candidate("first"), Candidate("second")), DATA)
    asked = judge_scorer(card("alpacaeval2"), {}).score(view)
    next(asked)
    with pytest.raises(StopIteration) as done:
        asked.send([Reply(values=(values,), floor=floor)])
    [verdict] = done.value.value.verdicts
    return verdict


def test_alpacaeval():
    verdict = alpaca(-0.25, -1.75)
    assert verdict.verdict == "A"
    assert 2 - verdict.p[0] == pytest.approx(1.182426, abs=5e-7)  # the official preference
    (found,) = [Judgement("x", "s", "", "x", (0.0, 1.0), verdicts=(verdict,))]
    assert figures([found])["judge:win_probability"] == pytest.approx(0.182426, abs=5e-7)


def test_a_letter_that_is_not_listed_is_officially_impossible_and_here_bounded():
    verdict = alpaca(-0.25, NAN, floor=-5.0)
    assert verdict.bounded
    assert verdict.p[0] == pytest.approx(1 / (1 + math.exp(-4.75)))  # 1 officially


def test_neither_letter_listed_is_missing_in_both():
    assert alpaca(NAN, NAN, floor=-5.0).reason == "low_verdict_mass"


# --- ratings ---------------------------------------------------------------------------------------------------------

REWARD_BENCH = {"ties": "lose", "judge_ties": "half", "unparsed": "chance"}
REWARD_BENCH_2 = {"ties": "fraction", "unparsed": "chance", "unrated": -1}


def rated(protocol, *texts):
    """What accuracy earns for the ratings of texts about candidates of which the first is right."""
    read = [read_rating(text, protocol.scale, parser=protocol.parse) for text in texts]
    values, reasons = tuple((one.value,) for one in read), tuple(one.reason for one in read)
    return Judgement("x", "s", "", "x", (1.0,) + (0.0,) * (len(texts) - 1), ratings=values, reasons=reasons)


@pytest.mark.parametrize(
    ("texts", "earned"),
    [
        (("Good.\n\n9", "Poor.\n\n3"), 1.0),
        (("3", "9"), 0.0),
        (("7", "7"), 0.5),
        (("Rating: 8/10", "9"), 1.0),  # 10 and 9 to the official pattern, 8 and 9 to ours
        (("**8**", "9"), 0.5),  # unread
    ],
)
def test_rewardbench_ratings(texts, earned):
    (found,) = rules.accuracy([rated(card("rewardbench-ratings"), *texts)], REWARD_BENCH).rows
    assert found.value == earned


@pytest.mark.parametrize(
    ("texts", "earned"),
    [
        (("9", "3", "3", "2"), 1.0),
        (("9", "9", "3", "?"), 0.5),  # -1 for the last one
        (("?", "1", "1", "1"), 0.0),
        (("?", "?", "?", "?"), 0.25),
    ],
)
def test_rewardbench2_ratings(texts, earned):
    (found,) = rules.accuracy([rated(card("rewardbench2-ratings"), *texts)], REWARD_BENCH_2).rows
    assert found.value == earned


def test_a_rating_that_cannot_be_read_is_missing_in_the_subset_ties():
    # officially it stays -1, below every wrong answer that could be read: failing on a wrong answer helps
    protocol = card("rewardbench2-ratings-ties")
    assert read_rating("8.", protocol.scale, parser=protocol.parse).reason == "unparsed"
    (found,) = rules.accuracy([rated(protocol, "9", "8.")], {"ties": "fraction"}).rows
    assert math.isnan(found.value)


def test_rewardbench2_takes_the_first_letter_in_order_and_a_quarter_for_none():
    protocol = card("rewardbench2")
    letters = {letter: letter for letter in "ABCD"}
    said = ["[[C]]", "[[D]], better than [[C]]", "[[E]]", "[[B]]"]
    rows = [row(protocol, text, order, labels=letters) for text, order in zip(said, [(3, 1, 0, 2)] * 4, strict=True)]
    assert [one.verdict for one in rows] == ["C", "C", None, "B"]
    grades = (1.0, 0.0, 0.0, 0.0)
    judged = [Judgement(str(i), "s", "", str(i), grades, verdicts=(one,)) for i, one in enumerate(rows)]
    assert figures(judged)[protocol.aggregate] == pytest.approx((1 + 1 + 0.25 + 0) / 4)


def test_mt_bench_single_and_wildbench_score():
    single, score = card("mt-bench-single"), card("wildbench-score")
    assert read_rating("Rating: [[7.5]], not [[3]]", single.scale, parser=single.parse).value == 7.5
    assert read_rating("Rating: 7", single.scale, parser=single.parse).reason == "unparsed"
    assert read_rating('{"strengths": "a", "score": "7"}', score.scale, parser=score.parse).value == 7
    assert read_rating("7", score.scale, parser=score.parse).reason == "unparsed"


def test_rewardanything_names_that_are_missing_are_missing():
    found = read_ratings('{"scores": {"A": 4, "C": 2}, "best-to-worst": ["A", "C"]}', "ABC", (1, 5))
    assert [one.reason for one in found] == [None, "unparsed", None]


def test_deepseek_grm_adds_up_its_rounds():
    judged = Judgement("x", "s", "", "x", (1.0, 0.0), ratings=((6.0, 9.0, 5.0), (7.0, 4.0, 6.0)))
    found = figures([judged])
    assert (found["judge:vote_sum"], found["judge:majority"]) == (1.0, 0.0)  # 20 against 17; one round against two


# --- critics ---------------------------------------------------------------------------------------------------------


def test_processbench():
    protocol = card("processbench-critic")
    labels = {str(n): str(n) for n in range(-1, 3)}

    def judged(name, grades, *texts):
        rows = tuple(row(protocol, text, (0,), vote, labels) for vote, text in enumerate(texts))
        return Judgement(name, "gsm8k", "", name, (0.0,), step_grades=(grades,), verdicts=rows)

    box = "\\boxed{%s}".__mod__
    solutions = [
        judged("a", (1, 0, -1), f"First {box(0)}, no: {box(' 1 ')}", box(1), box(0)),  # the last box; most votes
        judged("b", (1, 0, -1), box(2), box(1)),  # as many for each: the one said first
        judged("c", (0, -1, -1), "none", box(0), box("\\text{0}")),  # votes that cannot be read are left out
        judged("d", (1, 1, 1), box(-1), box(-1), box(1)),
        judged("e", (1, 1, 1), box(0)),
    ]
    earned = {one.key: one.value for one in steps.first_error(solutions, {}).rows}
    assert earned == {"a": 1.0, "b": 0.0, "c": 1.0, "d": 1.0, "e": 0.0}
