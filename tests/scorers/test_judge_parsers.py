"""What a judge wrote -> verdict or rating: tables of what is read and what is not, and any text at all."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmeval.errors import UsageError
from rmeval.scorers.judge.labels import PAIR_OR_TIE
from rmeval.scorers.judge.ratings import RATINGS, read_rating, read_ratings
from rmeval.scorers.judge.segments import final_segment
from rmeval.scorers.judge.verdicts import PARSERS, read_verdict

OUTPUTS = {"Output (a)": "A", "Output (b)": "B"}
LETTERS = {"A": "A", "B": "B", "tie": "tie"}
STEPS = {str(n): str(n) for n in range(-1, 4)}
STRENGTHS = {"[[A>>B]]": "A>>B", "[[A>B]]": "A>B", "[[A=B]]": "A=B", "[[B>A]]": "B>A", "[[B>>A]]": "B>>A"}


# --- verdicts ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[A]]", "A"),
        ("Both are fine; [[B]]", "B"),
        ("[[A]] is what I mean: [[A]]", "A"),
        ("[[a]]", "A"),
        ("[[ A ]]", "A"),
        ("[[\nA\n]]", "A"),
        ("**[[A]]**", "A"),
        ("[[A]]]", "A"),
        ('{"verdict": "A", "extra": 1}', "A"),
        ('{"verdict": "[[B]]"}', "B"),
        ('```json\n{"verdict": "b"}\n```', "B"),
        ('{"verdict": "A"} because it is right.', "A"),
        ('{"reasoning": "[[B]] at first sight", "verdict": "A"}', "A"),
        ('{"verdict": "A"} [[A]]', "A"),
        ("It cites [[Paris]] and [[1, 2]]: [[A]]", "A"),
        # no verdict
        ("[[A]] or rather [[B]]", "unparsed"),
        ("[[C]]", "unparsed"),
        ("[[C]] no: [[A]]", "unparsed"),
        ("[[A>>>B]]", "unparsed"),
        ("[[A>B]] so [[A]]", "unparsed"),
        ("[[A or B]] [[A]]", "unparsed"),
        ("[[А]]", "unparsed"),
        ("[[А]] [[B]]", "unparsed"),
        ("［［A］］", "unparsed"),
        ("[[Ａ]]", "unparsed"),
        ("[A]", "unparsed"),
        ("A", "unparsed"),
        ("Response A is better.", "unparsed"),
        ('{"verdict": "A", "verdict": "A"}', "unparsed"),
        ('{"verdict": "A"} {"verdict": "B"}', "unparsed"),
        ('{"verdict": "A"} no: [[B]]', "unparsed"),
        ('{"verdict": "C"}', "unparsed"),
        ('{"verdict": ["A"]}', "unparsed"),
        ('{"verdict": null}', "unparsed"),
        ('{"verdict": "A"', "unparsed"),
        ('{"first": {"verdict": "A"}, "second":', "unparsed"),
        ('{not json} {"verdict": "A"}', "A"),
        ('{"n": 1' + "0" * 5000 + '} {"verdict": "A"}', "A"),
        ("<think>[[A]]</think>", "unparsed"),
        ("<think>[[A]]</think>Hard to say.", "unparsed"),
        ("<think>[[A]], since", "truncated"),
        ("", "empty"),
        (" \n\t", "empty"),
        ("I'm sorry, but I can't assist with that.", "refused"),
        ("I cannot say which is better.", "unparsed"),
    ],
)
@pytest.mark.fault("F38")
def test_verdicts_by_the_default_parser(text: str, expected: str):
    found = read_verdict(text)
    assert (found.verdict or found.reason) == expected
    assert (found.verdict is None) == (found.reason is not None)


@pytest.mark.fault("F38")
def test_ties_are_read_only_where_they_are_asked_for():
    assert read_verdict("[[C]]", PAIR_OR_TIE).verdict == "tie"
    assert read_verdict('{"verdict": "c"}', PAIR_OR_TIE).verdict == "tie"
    assert read_verdict("[[C]] or [[A]]", PAIR_OR_TIE).reason == "unparsed"


def test_labels_of_several_words_stand_by_themselves():
    assert read_verdict("output  (b)", OUTPUTS).verdict == "B"
    assert read_verdict("Output (a) is worse than Output (b).", OUTPUTS).reason == "unparsed"
    assert read_verdict("TheOutput (a)", OUTPUTS).reason == "unparsed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[2]]", "2"),
        ("[[-1]]", "-1"),
        ('{"verdict": 0}', "0"),
        ('{"verdict": "-1"}', "-1"),
        ('{"verdict": true}', "unparsed"),
        ('{"verdict": 1.0}', "unparsed"),
        ("[[9]]", "unparsed"),
        ("[[9]] no: [[2]]", "unparsed"),
        ("the vector [[1, 2]] is wrong: [[2]]", "2"),
    ],
)
def test_a_critic_names_a_step_that_there_is(text: str, expected: str):
    found = read_verdict(text, STEPS)
    assert (found.verdict or found.reason) == expected


@pytest.mark.fault("F36", "F37")
def test_five_ways_to_end_are_told_apart():
    assert read_verdict("[[A]] is better, because", finish="length").reason == "truncated"
    assert read_verdict("", finish="length").reason == "truncated"
    assert read_verdict("[[A]]", finish="refusal").reason == "refused"
    assert read_verdict("").reason == "empty"
    assert read_verdict("?").reason == "unparsed"
    assert read_verdict("[[C]]", PAIR_OR_TIE).verdict == "tie"


def test_a_complete_first_line_outlives_the_token_limit():
    assert read_verdict("8 7\nThe first is", LETTERS, parser="first_line_scores", finish="length").verdict == "A"
    assert read_verdict("8 7", LETTERS, parser="first_line_scores", finish="length").reason == "truncated"
    assert read_verdict("[[A]]\nThe first is", finish="length").reason == "truncated"


def test_an_unknown_parser_is_named():
    with pytest.raises(UsageError, match="Did you mean 'unique'"):
        read_verdict("[[A]]", parser="uniqe")
    with pytest.raises(UsageError, match="Did you mean 'rewardbench'"):
        read_rating("8", parser="rewardbnch")


@pytest.mark.parametrize(
    ("text", "declines"),
    [
        ("I’m sorry, but I can’t assist with that request.", True),
        ("I apologize, but I am unable to compare these.", True),
        ("As an AI language model, I cannot provide a judgement here.", True),
        ("We will not engage with this.", True),
        ("Response A says: I'm sorry, but I can't help.", False),
        ("I cannot find any difference.", False),
        ("I'm sorry to say that both are wrong.", False),
    ],
)
def test_refusals_open_a_text(text: str, declines: bool):
    assert read_verdict(text).reason == ("refused" if declines else "unparsed")
    assert read_verdict(f"{text} [[A]]").verdict == "A"


# --- reasoning ---


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("plain [[A]]", "plain [[A]]"),
        ("<think>no</think>yes", "yes"),
        ("<THINK>no</Think>yes", "yes"),
        ("no, the template opened it</think>yes", "yes"),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<think>a <think>b</think> c</think>d", "d"),
        ("<reasoning>no</reasoning>\nyes", "\nyes"),
        ("[THINK]no[/THINK]yes", "yes"),
        ("<|channel|>analysis<|message|>no<|end|><|start|>assistant<|channel|>final<|message|>yes", "yes"),
        ("İ<think>İ</think>İyes", "İyes"),  # str.lower makes this letter two
    ],
)
def test_only_the_final_segment_counts(text: str, final: str):
    found = final_segment(text)
    assert (found.text, found.open) == (final, False)


@pytest.mark.parametrize(
    "text", ["<think>", "<think>a</think>b<think>[[A]]", "<|channel|>analysis<|message|>[[A]]", "</think><think>"]
)
@pytest.mark.fault("F38")
def test_reasoning_that_does_not_end_leaves_nothing(text: str):
    assert final_segment(text).open
    assert read_verdict(text).reason == read_rating(text).reason == "truncated"


def test_tags_of_ones_own():
    tags = [("<rubric>", "</rubric>")]
    assert read_verdict("<rubric>[[A]]</rubric>[[B]]", thinking=tags).verdict == "B"
    assert read_verdict("<rubric>[[A]]</rubric>[[B]]").reason == "unparsed"


# --- ratings ---


@pytest.mark.parametrize(
    ("text", "official", "ours"),
    [
        ("Rating: 8/10", 10, 8),
        ("9 out of 10", 10, 9),
        ("7.5", 5, 7.5),
        ("-3", 3, None),
        ("3–4", 4, None),
        ("8.", None, 8),
        ("**8**", None, 8),
        ("0", None, None),
        ("11", None, None),
    ],
)
@pytest.mark.fault("F39")
def test_the_ratings_that_the_official_pattern_gets_wrong(text: str, official: float | None, ours: float | None):
    # allenai/reward-bench: \b([1-9]|10)\b\s*$
    assert _or_none(read_rating(text, (1, 10), parser="rewardbench").value) == official
    assert _or_none(read_rating(text, (1, 10)).value) == ours


@pytest.mark.parametrize(
    ("text", "scale", "expected"),
    [
        ("[[8]]", (1, 10), 8),
        ("I rate it [[ 8 ]], yes [[8]]", (1, 10), 8),
        ("Rating: **8**", (1, 10), 8),
        ("Rating: [8]", (1, 10), 8),
        ("Rating - 8", (1, 10), 8),
        ("Final Score = 7", (1, 10), 7),
        ("Rating\uff1a8", (1, 10), 8),  # a colon of Chinese and Japanese
        ("Rating\uff1a8\u20139", (1, 10), None),
        ("Rating: 8\n\nIt has 2 flaws.", (1, 10), 8),
        ("Helpfulness rating: 8\nAccuracy rating: 6\nOverall rating: 7", (1, 10), 7),
        ("The response is thorough.\n\n9", (1, 10), 9),
        ("The response is thorough. 9", (1, 10), 9),
        ("On a scale of 1 to 10, I would rate this response an 8.", (1, 10), 8),
        ("Score (1-10): 7", (1, 10), 7),
        ("Score (out of 5): 4", (1, 5), 4),
        ("8 / 10 — good", (1, 10), None),  # an opinion, and no word that says of what
        ("Final rating: 8 / 10 — good", (1, 10), 8),
        ('{"rating": 8}', (1, 10), 8),
        ('{"reasoning": "rating: 3", "rating": "8/10"}', (1, 10), 8),
        ('{"score": 4.5}', (1, 5), 4.5),
        ("4", (1, 5), 4),
        ("6", (1, 5), None),
        ("4/10", (1, 5), None),
        ("4/5", (1, 10), None),
        ("0", (0, 10), 0),
        ("10/10", (0, 10), 10),
        ("Rating: 7 or 8", (1, 10), None),
        ("Rating: 7-8", (1, 10), None),
        ("Rating: 7 to 8", (1, 10), None),
        ("Rating: -7", (1, 10), None),
        ("Rating: 8\nRating: 3-4", (1, 10), None),
        ("Rating: 8\n-3", (1, 10), None),
        ("Rating: 8, rating: 7", (1, 10), None),
        ("[[7]] or [[8]]", (1, 10), None),
        ("[[7-8]]", (1, 10), None),
        ("7,5", (1, 10), None),
        ("80%", (1, 10), None),
        ("8 out of 5.5x", (1, 10), None),
        ("8 9", (1, 10), None),
        ("８", (1, 10), None),
        ("7½", (1, 10), None),
        ("eight", (1, 10), None),
        ("There are 3 errors in step 4", (1, 10), None),
        ('{"rating": 8, "rating": 8}', (1, 10), None),
        ('{"rating": 8, "score": 7}', (1, 10), None),
        ('{"rating": true}', (1, 10), None),
        ('{"rating": NaN}', (1, 10), None),
        ('{"rating": 11}', (1, 10), None),
        ('{"rating": 1' + "0" * 400 + "}", (1, 10), None),
        ("1" * 5000, (1, 10), None),
    ],
)
@pytest.mark.fault("F39")
def test_ratings_by_the_default_parser(text: str, scale: tuple[float, float], expected: float | None):
    found = read_rating(text, scale)
    assert _or_none(found.value) == expected
    assert found.reason == (None if expected is not None else "unparsed")


@pytest.mark.parametrize(
    ("parser", "text", "expected"),
    [
        ("mt_bench", "[[8]] then [[3]]", 8),
        ("mt_bench", "[8]", 8),
        ("mt_bench", "[[8.]]", 8),
        ("mt_bench", "[[08]]", None),  # the official script stops
        ("mt_bench", "Rating: 8", None),
        ("prometheus", "Feedback: good. [RESULT] 4", 4),
        ("prometheus", "Feedback: good. [RESULT] (4)", 4),
        ("prometheus", "so the score of 3 out of 5", 3),
        ("prometheus", "[RESULT] 4, I think", None),
        ("prometheus", "[RESULT] 6", None),
        ("wildbench", '{"strengths": "", "score": "7"}', 7),
        ("wildbench", '{"score": 7, "score": 8}', 8),
        ("wildbench", 'Sure: "score": "7"', 7),
        ("wildbench", 'Sure: "score": 7', None),
        ("wildbench", "[7]", None),
        ("autoj", "Rating: [[3]], no, Rating: [[7]]", 7),
        ("autoj", "Rating: [[7", None),
        ("autoj", "7", None),  # 0 to the official script
        ("llmbar", " 7\n", 7),
        ("llmbar", "7.0", None),
        ("llmbar", "Score: 7", None),
    ],
)
@pytest.mark.fault("F39")
def test_official_rules_for_ratings(parser: str, text: str, expected: float | None):
    assert _or_none(read_rating(text, (1, 10), parser=parser).value) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A: 7, B: 3", (7, 3)),
        ("**A**: 7\n**B**: 3.5", (7, 3.5)),
        ("[[A: 7, B: 3]]", (7, 3)),
        ("Response (A) = 7/10; response b -> 2", (7, 2)),
        ("A\uff1a7\uff0cB\uff1a3", (7, 3)),
        ('{"A": 7, "B": 3}', (7, 3)),
        ('{"scores": {"Response A": 7, "b": "3/10"}, "best": "A"}', (7, 3)),
        ('{"best": "A"} A: 7, B: 3', (7, 3)),
        ("A: 7", (7, None)),
        ("A: 7, B: 11", (7, None)),
        ("A: 7, B: 3-4", (7, None)),
        ("A: 7, A: 8, B: 3", (None, 3)),
        ('{"A": 7}', (7, None)),
        ('{"A": 7, "A": 7, "B": 3}', (None, None)),
        ("А: 7, B: 3", (None, 3)),
        ("BA: 7, B: 3", (None, 3)),
        ("7, 3", (None, None)),
    ],
)
def test_ratings_of_several_by_name(text: str, expected: tuple[float | None, ...]):
    found = read_ratings(text, "AB", (1, 10))
    assert tuple(_or_none(one.value) for one in found) == expected
    assert [one.reason for one in found] == [None if value is not None else "unparsed" for value in expected]


def test_a_letter_that_only_folds_to_another_names_nobody():
    kelvin = "\u212a: 7"
    assert math.isnan(read_ratings(kelvin, "JK", (1, 10))[1].value)


def test_ratings_of_several_share_one_reason_where_nothing_can_be_read():
    for text, finish, reason in [
        ("", "stop", "empty"),
        ("A: 7, B: 3", "length", "truncated"),
        ("", "refusal", "refused"),
        ("I cannot rate these.", "stop", "refused"),
        ("<think>A: 7, B: 3</think>", "stop", "unparsed"),
    ]:
        assert [one.reason for one in read_ratings(text, "AB", finish=finish)] == [reason, reason]


# --- any text ---

PIECES = st.sampled_from(
    [
        *("[[A]]", "[[B]]", "[[C]]", "[[ a ]]", "[[A>>B]]", "[[", "]]", "{", "}", '{"verdict": "A"}', '"verdict":', "А"),
        *("<think>", "</think>", "\n", " ", "Output (a)", "final decision is ", "Response 1", "[RESULT] A", "\\boxed{2}"),
        *("Rating: ", "8", "/10", " out of ", "-", "–", ".", "A: ", '{"rating": 8', "I cannot ", "assist", "1", "\0"),
    ]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join))
BY_PARSER = {
    **dict.fromkeys(PARSERS, PAIR_OR_TIE),
    **dict.fromkeys(("last", "judgebench"), STRENGTHS),
    **dict.fromkeys(("llmbar", "llmbar_cot", "exact"), OUTPUTS),
    **dict.fromkeys(("first_line_scores", "pair_scores", "result_tag"), LETTERS),
    "processbench": STEPS,
    "pandalm": {"1": "A", "2": "B", "tie": "tie"},
    "autoj": {"response 1": "A", "response 2": "B", "tie": "tie"},
}


@given(TEXTS, st.sampled_from(["stop", "length"]))
@pytest.mark.fault("F38")
def test_no_text_breaks_a_parser_of_verdicts_or_leaves_the_labels(text, finish):
    for parser, labels in BY_PARSER.items():
        found = read_verdict(text, labels, parser=parser, finish=finish)
        if found.verdict is None:
            assert found.reason in {"unparsed", "empty", "refused", "truncated"}
        else:
            assert found.verdict in labels.values()
            assert found.reason is None


@given(TEXTS)
@pytest.mark.fault("F39")
def test_no_text_breaks_a_parser_of_ratings_or_leaves_the_scale(text):
    for parser in RATINGS:
        found = read_rating(text, (1, 10), parser=parser)
        assert 1 <= found.value <= 10 if found.reason is None else math.isnan(found.value)
    for one in read_ratings(text, "AB", (1, 10)):
        assert 1 <= one.value <= 10 if one.reason is None else math.isnan(one.value)


@given(TEXTS, st.text(" \n\t", max_size=4), st.text(" \n\t", max_size=4))
def test_blanks_around_a_text_change_nothing(text, before, after):
    assert read_verdict(before + text + after) == read_verdict(text)
    found, plain = read_rating(before + text + after), read_rating(text)
    assert found == plain or (math.isnan(found.value) and found.reason == plain.reason)


@given(st.characters(codec="utf-8"))
def test_nothing_but_the_letter_is_the_letter(letter):
    assert read_verdict(f"[[{letter}]]").verdict == {"A": "A", "a": "A", "B": "B", "b": "B"}.get(letter)


@given(st.sampled_from("AB"), st.text(max_size=30).filter(lambda text: not {"[", "{", "<"} & set(text)))
def test_a_label_is_read_wherever_it_stands(label, around):
    assert read_verdict(f"{around}[[{label}]]{around}").verdict == label


@given(st.floats(1, 10, allow_nan=False).map(lambda value: round(value, 2)))
def test_every_rating_on_the_scale_is_read_in_every_form(value):
    said = f"{value:.2f}"
    for text in (
        said,
        f"**{said}**",
        f"{said}/10",
        f"[[{said}]]",
        f"Rating: {said} out of 10",
        json.dumps({"rating": value}),
    ):
        assert read_rating(text, (1, 10)).value == float(said)


def test_long_texts_take_no_time():
    begun = time.process_time()
    for piece in ("{", "[[", "rating ", '{"a":', "Rating: 8 ", "<think>", "I cannot ", "[RESULT] ", "A: "):
        text = piece * 2_000
        for parser, labels in BY_PARSER.items():
            read_verdict(text, labels, parser=parser)
        for parser in RATINGS:
            read_rating(text, parser=parser)
        read_ratings(text, "AB")
    assert time.process_time() - begun < 20  # a pattern that goes back and forth takes hours


# --- recorded judges ---


def test_gpt4_on_llmbar_is_read_as_it_was(dev_data: Path):
    """Every recorded text of a GPT-4 evaluator, with the winner that the official script found in it."""
    read = 0
    for path in sorted((dev_data / "llmbar").rglob("evaluators/GPT-4/*/result.json")):
        evaluator = path.parent.name
        for row in json.loads(path.read_text(encoding="utf-8")):
            stages = [
                stage for stage in row["results"] if isinstance(stage, dict) and "completion" in stage["swap = False"]
            ]
            for n, stage in enumerate(stages):
                parser = "llmbar_cot" if evaluator == "CoT" or (evaluator == "Swap" and n == 0) else "llmbar"
                for order, winners in (("swap = False", "12"), ("swap = True", "21")):
                    text, winner = stage[order]["completion"][0], stage[order]["winner"]
                    expected = None if winner is None else "AB"[winners.index(winner)]
                    assert read_verdict(text, OUTPUTS, parser=parser).verdict == expected, (path, row)
                    read += 1
    assert read == 3446


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
