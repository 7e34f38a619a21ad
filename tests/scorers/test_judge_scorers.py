"""Judges of every mode, asked and read through the runner with a scripted model."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_judge import ScriptedJudge, between, example, turns_of

from rmeval import runner
from rmeval.cards import read_card
from rmeval.errors import UsageError
from rmeval.plugins import JUDGES
from rmeval.scorers.judge import JudgeCard, judge_scorer
from rmeval.scorers.judge.pairwise import SWAPPED, swap_labels
from rmeval.types import Message, Reply


def scorer(name: str = "pairwise", **given):
    return judge_scorer(read_card(JUDGES.get(name), JudgeCard), given)


def judged(judge, answer=None, *, masses=None, rows=None, floor=None, by_step=False):
    """(judgement of the first example, the engine)."""
    engine = ScriptedJudge(answer, masses, floor)
    rows = rows or [example("x", "the better one", "the other")]
    return runner.run(rows, judge, engine, by_step=by_step).judgements[0], engine


def likes_better(turns):
    return "[[A]]" if "better" in between(turns[-1], "response A") else "[[B]]"


# --- pairwise, in words ---


def test_both_orders_are_asked_and_each_is_a_verdict_of_its_own():
    found, engine = judged(scorer(), likes_better)
    assert {(row.order, row.verdict) for row in found.verdicts} == {((0, 1), "A"), ((1, 0), "B")}
    assert [request.sampling.max_tokens for request in engine.asked] == [2048, 2048]
    always_first, _ = judged(scorer(), lambda turns: "[[A]]")
    assert {(row.order, row.verdict) for row in always_first.verdicts} == {((0, 1), "A"), ((1, 0), "A")}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I like both.", "unparsed"),
        ("[[C]]", "unparsed"),
        ("[[A]] or [[B]]", "unparsed"),
        ("", "empty"),
        ("I'm sorry, but I can't help with that.", "refused"),
        (Reply(text="", finish="refusal"), "refused"),
        (Reply(text="Surely [[A]], as", finish="length"), "truncated"),
        ("<think>It is [[A]], I think", "truncated"),
        ("<think>It is [[A]].</think>So.", "unparsed"),
        (Reply(reason="api_error"), "api_error"),
        (Reply(reason="timeout"), "timeout"),
        (Reply(reason="truncated", truncated=True), "truncated"),
    ],
)
def test_what_is_no_verdict_says_why(reply, reason):
    found, _ = judged(scorer(), lambda turns: reply)
    assert [(row.verdict, row.reason) for row in found.verdicts] == [(None, reason)] * 2


def test_a_tie_is_a_verdict_where_the_protocol_has_one():
    found, _ = judged(scorer("mt-bench-pair"), lambda turns: "[[C]]")
    assert [(row.verdict, row.reason) for row in found.verdicts] == [("tie", None)] * 2


def test_votes_are_asked_one_by_one_and_known_by_their_number():
    def answer(turns):
        return "[[A]]"

    found, engine = judged(scorer(votes=3, temperature=0.7, seed=5), answer)
    assert sorted((row.order, row.vote) for row in found.verdicts) == [
        ((a, 1 - a), v) for a in (0, 1) for v in range(3)
    ]
    assert {(r.sampling.vote, r.sampling.seed, r.sampling.temperature) for r in engine.asked} == {
        (v, 5, 0.7) for v in range(3)
    }


def test_own_marks_of_reasoning_are_stripped_too():
    card = read_card(JUDGES.get("pairwise"), JudgeCard).model_copy(update={"thinking": {"{{reason": "reason}}"}})
    found, _ = judged(judge_scorer(card, {}), lambda turns: "{{reason [[A]] reason}}[[B]]")
    assert [row.verdict for row in found.verdicts] == ["B", "B"]


def test_structured_answers_are_held_to_a_schema_and_read_as_text_where_they_are_none():
    judge = scorer("judgebench", structured=True)
    found, engine = judged(judge, lambda turns: '{"reasoning": "[[B>>A]] is wrong", "verdict": "A>B"}')
    schema = json.loads(engine.asked[0].sampling.schema)
    assert schema["properties"]["verdict"]["enum"] == ["A>>B", "A>B", "A=B", "B>A", "B>>A"]
    assert '{"reasoning": ' in turns_of(engine.asked[0])[0]
    assert [row.verdict for row in found.verdicts] == ["A>B", "A>B"]
    found, _ = judged(judge, lambda turns: "My verdict is [[A=B]]")
    assert [row.verdict for row in found.verdicts] == ["A=B", "A=B"]
    assert judge.identity()["prompt_sha256"] == scorer("judgebench").identity()["prompt_sha256"]
    assert judge.identity()["structured"] is True


def test_a_text_without_a_label_is_asked_about_once_more():
    def answer(turns):
        return "[[B>A]]" if len(turns) > 2 else "Both have merits."

    found, engine = judged(scorer("judgebench"), answer)
    assert [row.verdict for row in found.verdicts] == ["B>A", "B>A"]
    roles = [turn.role for turn in engine.asked[-1].parts[0].messages]
    assert roles == ["system", "user", "assistant", "user"]
    assert turns_of(engine.asked[-1])[2] == "Both have merits."


@pytest.mark.parametrize("said", ["[[A>B]] or [[B>A]]", "", "I cannot help with that.", Reply(reason="api_error")])
def test_two_labels_a_refusal_or_a_fault_are_not_asked_about_again(said):
    found, engine = judged(scorer("judgebench"), lambda turns: said)
    assert len(engine.asked) == 2
    assert all(row.verdict is None for row in found.verdicts)


def test_retry_can_be_switched_on_and_off():
    assert len(judged(scorer(retry=True), lambda turns: "Hm.")[1].asked) == 4
    assert len(judged(scorer("judgebench", retry=False), lambda turns: "Hm.")[1].asked) == 2


# --- swap and synthesise ---


def swapping(first_says: str, decides: str):
    def answer(turns):
        if "disagree" in turns[-1]:
            return decides
        return f"Output (a) is long. Therefore, {first_says} is better."

    return answer


def test_orders_that_disagree_are_shown_each_others_answers_with_labels_rewritten():
    found, engine = judged(scorer("llmbar-swap"), swapping("Output (a)", "Output (b)"))
    first, second = engine.asked[:2], engine.asked[2:]
    assert len(first) == 2  # both views ask the same two questions
    assert len(second) == 2
    for request in second:
        said = turns_of(request)[-1]
        for_a, for_b = said.split("# Evaluation of assistant ")[1:]
        assert "Therefore, Output (a) is better." in for_a
        assert "Output (b) is long. Therefore, Output (b) is better." in for_b
    assert {(row.order, row.verdict) for row in found.verdicts} == {((0, 1), "B"), ((1, 0), "B")}


def test_orders_that_agree_or_cannot_be_read_are_not_asked_again():
    def better(turns):
        first = turns[-1].split("# Output (a)")[1].split("# Output (b)")[0]
        return f"Therefore, Output ({'a' if 'better' in first else 'b'}) is better."

    found, engine = judged(scorer("llmbar-swap"), better)
    assert len(engine.asked) == 2
    assert {(row.order, row.verdict) for row in found.verdicts} == {((0, 1), "A"), ((1, 0), "B")}
    unread, engine = judged(scorer("llmbar-swap"), lambda turns: "Either.")
    assert len(engine.asked) == 2
    assert [row.reason for row in unread.verdicts] == ["unparsed", "unparsed"]


def test_labels_are_swapped_in_one_pass():
    labels = {"Output (a)": "A", "Output (b)": "B"}
    assert swap_labels("Output (a), output (b), OUTPUT (a)", labels) == "Output (b), output (a), OUTPUT (a)"
    assert (
        swap_labels("[[A>>B]] [[A=B]]", {"[[A>>B]]": "A>>B", "[[A=B]]": "A=B", "[[B>>A]]": "B>>A"})
        == "[[B>>A]] [[A=B]]"
    )
    assert all(SWAPPED[SWAPPED[one]] == one for one in SWAPPED)


# --- the next token ---


@pytest.mark.fault("F41")
def test_masses_are_summed_over_surface_forms_and_p_is_given_that_it_is_one_of_them():
    found, engine = judged(scorer("pairwise-logprob"), masses=lambda turns: {"A": 0.4, " A": 0.2, "B": 0.1, " B": 0.1})
    assert [token.text for token in engine.asked[0].tokens] == ["A", " A", "B", " B"]
    assert (engine.asked[0].at, engine.asked[0].read) == ("next", "next_logprobs")
    for row in found.verdicts:
        assert row.verdict == "A"
        assert row.p == pytest.approx((0.75, 0.25))
        assert row.logmass == pytest.approx((math.log(0.6), math.log(0.2)))
        assert not row.bounded


def test_the_example_of_alpacaeval():
    masses = {"m": math.exp(-0.25), "M": math.exp(-1.75)}
    found, _ = judged(scorer("alpacaeval2"), masses=lambda turns: masses)
    [row] = found.verdicts  # one order
    assert row.p == pytest.approx((0.817574, 0.182426), abs=1e-6)
    assert sum(map(math.exp, row.logmass)) == pytest.approx(0.952575, abs=1e-6)
    assert 2 - row.p[0] == pytest.approx(1.182426, abs=1e-6)


@pytest.mark.fault("F41")
def test_too_little_mass_is_no_verdict_and_is_recorded():
    found, _ = judged(scorer("pairwise-logprob"), masses=lambda turns: {"A": 0.2, " A": 0.1, "B": 0.1, " B": 0.05})
    for row in found.verdicts:
        assert (row.verdict, row.reason, row.p) == (None, "low_verdict_mass", None)
        assert row.logmass == pytest.approx((math.log(0.3), math.log(0.15)))
    found, _ = judged(
        scorer("pairwise-logprob", floor=0.4), masses=lambda turns: {"A": 0.2, " A": 0.1, "B": 0.1, " B": 0.05}
    )
    assert [row.verdict for row in found.verdicts] == ["A", "A"]


@pytest.mark.fault("F41")
def test_a_side_that_a_server_does_not_list_stands_at_its_bound():
    found, _ = judged(scorer("pairwise-logprob"), masses=lambda turns: {" A": 0.8}, floor=math.log(0.01))
    for row in found.verdicts:
        assert (row.verdict, row.bounded) == ("A", True)
        assert row.logmass == pytest.approx((math.log(0.8), math.log(0.01)))
        assert row.p == pytest.approx((0.8 / 0.81, 0.01 / 0.81))
    neither, _ = judged(scorer("pairwise-logprob"), masses=lambda turns: {}, floor=math.log(0.3))
    assert [(row.reason, row.bounded) for row in neither.verdicts] == [("low_verdict_mass", True)] * 2


def test_a_side_that_has_no_token_is_an_error_and_not_a_verdict():
    with pytest.raises(UsageError, match=r"no single token for 'B', ' B'"):
        judged(scorer("pairwise-logprob"), masses=lambda turns: {"A": 0.8})


def test_equal_masses_are_a_tie_and_a_tie_token_is_shared():
    found, _ = judged(scorer("pairwise-logprob"), masses=lambda turns: {"A": 0.4, " A": 0.1, "B": 0.4, " B": 0.1})
    assert [(row.verdict, row.p) for row in found.verdicts] == [("tie", (0.5, 0.5))] * 2
    card = read_card(JUDGES.get("pairwise-logprob"), JudgeCard).model_copy(
        update={"labels": {"A": "A", "B": "B", "C": "tie"}}
    )
    found, _ = judged(judge_scorer(card, {}), masses=lambda turns: {"A": 0.2, "B": 0.1, "C": 0.7})
    for row in found.verdicts:
        assert (row.verdict, len(row.logmass)) == ("tie", 3)
        assert row.p == pytest.approx((0.55, 0.45))


@given(st.floats(0.001, 0.6), st.floats(0.001, 0.39))
def test_candidates_that_change_places_in_the_data_change_places_in_every_verdict(liked, bias):
    """Antisymmetry: what is asked does not depend on the data's order, so each verdict is its own mirror image."""

    def masses(turns):
        first = "better" in between(turns[-1], "response A")
        share = (liked + bias) if first else (1 - liked - bias)
        return {"A": share * 0.99, "B": (1 - share) * 0.99}

    one, _ = judged(scorer("pairwise-logprob"), masses=masses)
    other, _ = judged(scorer("pairwise-logprob"), masses=masses, rows=[example("x", "the other", "the better one")])
    mirrored = {(tuple(1 - place for place in row.order), row.verdict, row.p, row.logmass) for row in other.verdicts}
    assert {(row.order, row.verdict, row.p, row.logmass) for row in one.verdicts} == mirrored


def test_the_verifier_is_the_probability_of_yes_among_yes_and_no():
    def masses(turns):
        return {"Yes": 0.5, " yes": 0.1, "No": 0.2} if "better" in turns[-1] else {"Yes": 0.01, "No": 0.02}

    found, engine = judged(scorer("verifier"), masses=masses)
    assert found.scores[0] == pytest.approx(0.75)
    assert math.isnan(found.scores[1])
    assert found.reasons == (None, "low_verdict_mass")
    assert len(engine.asked) == 2
    failed, _ = judged(scorer("verifier"), masses=lambda turns: {"Yes": 0.9}, floor=math.log(0.05))
    assert failed.scores == pytest.approx((0.9 / 0.95,) * 2)


# --- ratings ---


def test_each_response_is_rated_by_itself_and_votes_stand_side_by_side():
    votes = iter(["[[8]]", "Rating: 9/10", "[[3]]", "no idea"])
    found, engine = judged(scorer("rating", votes=2, temperature=1.0), lambda turns: next(votes))
    rated = {tuple(v for v in ratings if not math.isnan(v)) for ratings in found.ratings}
    assert rated == {(8.0, 9.0), (3.0,)}
    assert sorted(filter(None, found.reasons)) == ["unparsed"]
    assert len(engine.asked) == 4


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("rating", "Rating: 8/10", 8),
        ("rewardbench-ratings", "Rating: 8/10", 10),  # the official defect, by name
        ("mt-bench-single", "Rating: [[7]]", 7),
        ("prometheus-absolute", "Feedback: fine. [RESULT] 4", 4),
        ("wildbench-score", '{"strengths": "", "weaknesses": "", "score": "6"}', 6),
        ("auto-j-single", "Good. Rating: [[5]]", 5),
        ("rating", "11", math.nan),
        ("prometheus-absolute", "[RESULT] 6", math.nan),
    ],
)
def test_ratings_are_read_as_the_protocol_says(name, text, value):
    found, _ = judged(scorer(name), lambda turns: text)
    assert [one for [one] in found.ratings] == pytest.approx([value] * 2, nan_ok=True)
    assert found.reasons == (() if value == value else ("unparsed",) * 2)  # noqa: PLR0124 - NaN


def test_a_rating_can_be_asked_for_as_json():
    found, engine = judged(scorer("rating", structured=True), lambda turns: '{"reasoning": "3 faults", "rating": 7}')
    assert found.ratings == ((7.0,), (7.0,))
    assert json.loads(engine.asked[0].sampling.schema)["properties"]["rating"] == {
        "type": "number",
        "minimum": 1,
        "maximum": 10,
    }


def test_a_rating_by_the_next_token_is_its_expectation():
    found, _ = judged(
        scorer("logprob-rating"), masses=lambda turns: {"2": 0.1, " 2": 0.1, "4": 0.6}, floor=math.log(0.001)
    )
    assert [one for [one] in found.ratings] == pytest.approx([3.5, 3.5])
    low, _ = judged(scorer("logprob-rating"), masses=lambda turns: {"2": 0.1}, floor=math.log(0.001))
    assert low.reasons == ("low_verdict_mass",) * 2
    with pytest.raises(UsageError, match="no single token for '1'"):
        judged(scorer("logprob-rating"), masses=lambda turns: {"2": 0.9})


# --- lists ---


def best_of(turns):
    text = turns[-1]
    letters = [letter for letter in "ABCD" if f"<response {letter} " in text]
    return f"[[{next(letter for letter in letters if 'better' in between(text, f'response {letter}'))}]]"


FOUR = [example("x", "the better one", "w", "v", "u")]


def test_the_best_of_k_is_asked_for_with_each_response_once_in_each_place():
    found, engine = judged(scorer("listwise"), best_of, rows=FOUR)
    assert len(engine.asked) == 4
    assert sorted(row.order.index(0) for row in found.verdicts) == [0, 1, 2, 3]
    assert [row.order["ABCD".index(row.verdict)] for row in found.verdicts] == [0] * 4
    assert len(judged(scorer("listwise", orders="single"), best_of, rows=FOUR)[1].asked) == 1
    unread, _ = judged(scorer("listwise"), lambda turns: "[[E]]", rows=FOUR)
    assert [row.reason for row in unread.verdicts] == ["unparsed"] * 4


def test_scores_of_a_list_go_back_to_their_candidates_and_a_missing_one_is_missing_alone():
    def answer(turns):
        scores = {c: 9 if "better" in between(turns[-1], f"response {c}") else 2 for c in "ABCD"}
        scores["ABCD"[[between(turns[-1], f"response {c}") for c in "ABCD"].index("u")]] = 99
        return json.dumps(scores)

    found, _ = judged(scorer("listwise-scores"), answer, rows=FOUR)
    assert found.ratings[:3] == ((9.0,) * 4, (2.0,) * 4, (2.0,) * 4)
    assert all(map(math.isnan, found.ratings[3]))
    assert found.reasons == (None, None, None, "unparsed")


def test_a_list_is_asked_for_as_json():
    _, engine = judged(
        scorer("listwise", structured=True), lambda turns: '{"reasoning": "", "verdict": "B"}', rows=FOUR
    )
    assert json.loads(engine.asked[0].sampling.schema)["properties"]["verdict"]["enum"] == list("ABCD")
    scores = '{"reasoning": "", "scores": {"A": 1, "B": 2, "C": 3, "D": 4}}'
    found, engine = judged(scorer("listwise-scores", structured=True), lambda turns: scores, rows=FOUR)
    assert json.loads(engine.asked[0].sampling.schema)["properties"]["scores"]["required"] == list("ABCD")
    assert sorted(map(sorted, found.ratings)) == [[1, 2, 3, 4]] * 4


def test_letters_end_at_26_and_a_template_of_four_takes_four(tmp_path):
    with pytest.raises(UsageError, match=r"has 27 responses.*names up to 26.*protocol=rating"):
        judged(scorer("listwise", orders="single"), best_of, rows=[example("x", *map(str, range(27)))])
    path = tmp_path / "four.txt"
    path.write_text("{question}\n1 {answer_a}\n2 {answer_b}\n3 {answer_c}\n4 {answer_d}")
    judge = scorer("rewardbench2", template=str(path))
    found, engine = judged(judge, lambda turns: "[[C]] and [[B]]", rows=FOUR)
    assert [row.verdict for row in found.verdicts] == ["B"]
    assert turns_of(engine.asked[0])[-1].count("the better one") == 1
    with pytest.raises(UsageError, match="has 2 responses, and protocol rewardbench2 names 4"):
        judged(judge, lambda turns: "[[A]]")


# --- critic ---

STEPS = ("First.", "Then 2 + 2 = 5.", "So 10.")
SOLUTION = [example("x", "\n\n".join(STEPS), prompt="What?", steps=STEPS)]


@pytest.mark.parametrize(
    ("name", "text", "verdict"),
    [
        ("critic", "Paragraph 1 is wrong. [[1]]", "1"),
        ("critic", "[[-1]]", "-1"),
        ("critic", "[[3]]", None),  # there is no such paragraph
        ("critic", "[[0]] or [[1]]", None),
        ("critic", "<think>[[0]]</think>[[2]]", "2"),
        ("processbench-critic", r"\boxed{2}? No, \boxed{1}", "1"),
        ("processbench-critic", r"\boxed{-1}", "-1"),
        ("processbench-critic", r"\boxed{7}", None),
    ],
)
def test_the_critic_names_the_first_wrong_step_from_0_or_minus_1(name, text, verdict):
    found, engine = judged(scorer(name), lambda turns: text, rows=SOLUTION, by_step=True)
    [row] = found.verdicts
    assert (row.order, row.verdict, row.reason) == ((0,), verdict, None if verdict else "unparsed")
    said = turns_of(engine.asked[0])[-1]
    assert [between(said, f"paragraph {n}") for n in range(3)] == list(STEPS)


def test_critics_vote_and_need_steps():
    found, _ = judged(scorer("critic", votes=3, temperature=1.0), lambda turns: "[[1]]", rows=SOLUTION, by_step=True)
    assert [row.vote for row in found.verdicts] == [0, 1, 2]
    with pytest.raises(UsageError, match="looks for the first wrong step, and this suite compares whole responses"):
        judged(scorer("critic"), lambda turns: "[[1]]")
    bare, engine = judged(scorer("critic"), lambda turns: "[[0]]", rows=[example("x", "text")], by_step=True)
    assert [row.reason for row in bare.verdicts] == ["no_steps"]
    assert not engine.asked
    structured, engine = judged(
        scorer("critic", structured=True),
        lambda turns: '{"reasoning": "", "verdict": "1"}',
        rows=SOLUTION,
        by_step=True,
    )
    assert [row.verdict for row in structured.verdicts] == ["1"]
    assert json.loads(engine.asked[0].sampling.schema)["properties"]["verdict"]["enum"] == ["-1", "0", "1", "2"]


# --- official rules, end to end ---


@pytest.mark.parametrize(
    ("name", "text", "verdict"),
    [
        ("mt-bench-pair", "Not [[B]]. Final: [[B]], unlike [[A]]", "A"),
        ("rewardbench", "Not [[B]]. Final: [[B]], unlike [[A]]", "A"),
        ("multimodal-rewardbench", "[[B]]", "B"),
        ("pairwise", "Not [[B]]. Final: [[B]], unlike [[A]]", None),
        ("arena-hard", "[[A>B]]? No: [[b>>a]]", "B>>A"),
        ("arena-hard", "[[A]]", None),
        ("judgebench", "[[A>B]] and [[A>>B]]", None),
        ("llmbar-vanilla", "Output (b)", "B"),
        ("llmbar-cot", "Therefore, Output (a) is better.", "A"),
        ("wildbench-pair", '{"analysis of A": "x", "choice": "B+"}', "B>A"),
        ("pandalm", "Tie\n\n### Reason: equal", "tie"),
        ("prometheus-relative", "Feedback: so. [RESULT] B", "B"),
        ("auto-j", "So, the final decision is Response 2.", "B"),
        ("vl-rewardbench", "Answer 2 is better? **Overall\nJudgment**: Answer 1 is slightly better.", None),
        (
            "vl-rewardbench",
            "Therefore Answer 2 is better ... Overall Judgment:\n- **Answer 1** is the better one.",
            "A",
        ),
        ("vl-rewardbench", "Overall Judgment: Answer 3 is better.", None),
        ("vl-rewardbench", "Answer 1 is better.", None),
    ],
)
@pytest.mark.fault("F38")
def test_presets_read_as_their_official_parser(name, text, verdict):
    found, engine = judged(scorer(name, retry=False), lambda turns: text)
    assert {row.verdict for row in found.verdicts} == {verdict}
    judge = scorer(name)
    assert len(engine.asked) == (1 if judge.card.orders == "single" else 2) * judge.card.votes


def test_a_multi_turn_prompt_is_shown_whole():
    turns = (
        Message("system", "Be kind."),
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "Bye"),
    )
    _, engine = judged(scorer(), lambda turns: "[[A]]", rows=[example("x", "a", "b", prompt=turns)])
    said = between(turns_of(engine.asked[0])[-1], "conversation")
    assert all(text in said for text in ("[system ", "Be kind.", "[assistant ", "Hello", "Bye"))
