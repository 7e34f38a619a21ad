"""Requests as bodies of chat completions, answers as replies: every shape that a server gives them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from judge_server import Says, completion

from rmeval.engines.openai.wire import Dialect, Unreadable, body, check, read
from rmeval.errors import UsageError
from rmeval.types import Chat, Mark, Message, Reply, Request, Sampling, Special, Text, Turn

CHAT = (Chat((Message("system", "Be fair."), Message("user", "Which?"))),)
WRITTEN = Request(CHAT, at="next", read="text", sampling=Sampling(64, 0.7, 0.9, seed=5, vote=2))
NEXT = Request(CHAT, at="next", read="next_logprobs", tokens=tuple(map(Special, ("A", " A", "B", " B"))))


def test_a_body_says_everything_that_decides_the_answer_and_nothing_else():
    assert body(WRITTEN, "m", Dialect()) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be fair."}, {"role": "user", "content": "Which?"}],
        "max_tokens": 64,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 7,
    }
    assert body(replace(WRITTEN, group="another"), "m", Dialect()) == body(WRITTEN, "m", Dialect())


def test_log_probabilities_are_asked_for_with_one_token_at_temperature_0():
    asked = body(NEXT, "m", Dialect(top_logprobs=5))
    assert (asked["max_tokens"], asked["temperature"], asked["logprobs"], asked["top_logprobs"]) == (1, 0.0, True, 5)


def test_a_schema_travels_as_a_strict_response_format():
    schema = {"type": "object", "properties": {"verdict": {"enum": ["A", "B"]}}}
    asked = body(replace(WRITTEN, sampling=Sampling(schema=json.dumps(schema))), "m", Dialect())
    assert asked["response_format"]["type"] == "json_schema"
    assert asked["response_format"]["json_schema"] == {"name": "answer", "strict": True, "schema": schema}


def test_a_dialect_renames_omits_and_adds():
    asked = body(
        WRITTEN, "m", Dialect("max_completion_tokens", 20, frozenset(("temperature", "seed")), {"think": "low"})
    )
    assert asked.keys() == {"model", "messages", "max_completion_tokens", "top_p", "think"}


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(CHAT), "reads no head at last"),
        (replace(WRITTEN, role="reference"), "no reference model"),
        (replace(WRITTEN, parts=(Text("Hi"),)), "one conversation of plain turns"),
        (replace(WRITTEN, parts=(*CHAT, Mark())), "one conversation of plain turns"),
        (replace(WRITTEN, parts=(Chat((Turn("user", (Text("Hi"),)),)),)), "one conversation of plain turns"),
        (replace(NEXT, tokens=(Special(id=7),)), "by id or role"),
        (replace(NEXT, tokens=(Special(role="eos"),)), "by id or role"),
    ],
)
def test_what_no_server_can_be_asked_is_refused_before_any_call(request_, said):
    with pytest.raises(UsageError, match=said):
        check(request_)


def answered(*args, **kwargs) -> Reply:
    request = kwargs.pop("request", WRITTEN)
    return read(completion(Says(*args, **kwargs), {"model": "m-0613"}), request)


def test_a_text_comes_back_raw_with_its_usage_and_who_served_it():
    text = " <think>[[B]]</think>\n[[A]]\n"
    assert answered(text) == Reply(text=text, n_tokens=100, n_written=10, served="m-0613")


@pytest.mark.parametrize(
    ("says", "reason", "finish"),
    [
        (Says("[[A]]", finish="content_filter"), "refused", "refusal"),
        (Says(None, finish="content_filter", refusal="I will not."), "refused", "refusal"),
        (Says(None, refusal="I will not."), "refused", "refusal"),
        (Says(None), "empty", "stop"),
        (Says(""), "empty", "stop"),
        (Says(" \n"), "empty", "stop"),
        # the limit is no failure of the call: the answer is there, and says nothing
        (Says("so far [[A]] seems", finish="length"), None, "length"),
        (Says(None, finish="length"), None, "length"),
        (Says("[[A]]", finish="eos"), None, "stop"),
    ],
)
@pytest.mark.fault("F36", "F37")
def test_refusal_silence_and_the_limit_are_three_things(says, reason, finish):
    reply = read(completion(says, {"model": "m"}), WRITTEN)
    assert (reply.reason, reply.finish, reply.text) == (reason, finish, says.text or "")


@pytest.mark.parametrize(
    ("ended", "reason", "finish"),
    [
        ("model_length", None, "length"),
        ("max_tokens", None, "length"),
        ("LENGTH", None, "length"),
        ("content_filter: RECITATION", "refused", "refusal"),
        (None, None, "stop"),
    ],
)
@pytest.mark.fault("F36", "F37")
def test_other_servers_words_for_a_text_cut_short_and_for_a_filter(ended, reason, finish):
    reply = read(completion(Says("so [[A]]", ended), {"model": "m"}), WRITTEN)
    assert (reply.reason, reply.finish) == (reason, finish)


def test_a_name_of_any_length_is_kept_to_200_characters():
    assert answered("x", model="m" * 10**6).served == "m" * 200


def test_a_message_in_parts_is_one_text():
    reasoning = {"type": "reasoning", "text": "[[B]]?"}
    parts = [reasoning, {"type": "text", "text": "[[A"}, {"type": "image"}, {"type": "text", "text": "]]"}]
    assert answered(parts).text == "[[A]]"


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": "many"}, {"prompt_tokens": -1, "completion_tokens": None}]
)
def test_a_server_that_does_not_count_leaves_nought(usage):
    assert (answered("x", fields={"usage": usage}).n_tokens, answered("x", usage=None).n_written) == (0, 0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("<html>502</html>", "no JSON object"),
        ([1], "no JSON object"),
        (None, "no JSON object"),
        ({}, "no choices"),
        ({"choices": None}, "no choices"),
        ({"choices": []}, "no choices"),
        ({"choices": "[[A]]"}, "no choices"),
        ({"choices": [None]}, "no choices"),
        ({"choices": [{"finish_reason": "stop"}]}, "without a message"),
        ({"choices": [{"message": None}]}, "without a message"),
        ({"error": {"message": "overloaded [[A]]"}}, "status 200.*overloaded"),
        ({"error": {"code": 502}, "choices": [{"message": {"content": "[[A]]"}}]}, "status 200.*502"),
        ({"choices": [{"message": {"content": "[[A]], a"}, "finish_reason": "abort"}]}, "broke off"),
        ({"choices": [{"message": {"content": "[["}, "finish_reason": "error", "error": {"code": 502}}]}, "broke off"),
    ],
)
@pytest.mark.fault("F33")
def test_an_answer_without_a_reply_is_never_a_verdict(answer, said):
    with pytest.raises(Unreadable, match=said):
        read(answer, WRITTEN)


def values(*args, **kwargs) -> tuple[tuple[float, ...], float | None]:
    reply = answered("A", *args, finish="length", request=NEXT, **kwargs)
    assert (reply.reason, reply.finish) == (None, "stop")
    return reply.values[0], reply.floor


@pytest.mark.fault("F41")
def test_listed_tokens_have_their_value_and_others_a_bound():
    found, floor = values(logprobs={"A": -0.25, " B": -1.75, "The": -4.0})
    assert found[0] == -0.25
    assert found[3] == -1.75
    assert math.isnan(found[1])
    assert math.isnan(found[2])
    assert floor == -4.0


def test_a_space_of_the_vocabulary_is_a_space():
    assert values(logprobs={"▁A": -1.0, "ĠB": -2.0})[0][1::2] == (-1.0, -2.0)


@pytest.mark.fault("F41")
def test_two_tokens_of_one_surface_form_are_one_answer():
    found, _ = values(logprobs=[("A", -1.0), ("B", -1.5), ("A", -2.0)])
    assert found[0] == pytest.approx(math.log(math.exp(-1) + math.exp(-2)), abs=1e-15)


def test_together_they_are_at_most_sure_and_more_than_rounding_is_no_answer():
    found, _ = values(logprobs=[("A", -0.0), ("A", -4.61)])  # rounded to two places
    assert found[0] == 0.0
    with pytest.raises(Unreadable, match="more than 1"):
        values(logprobs=[("A", -0.25), ("A", -1.0)])


def test_a_drawn_token_counts_but_bounds_nothing():
    # drawn at a temperature and shown though it is not among the likeliest
    found, floor = values(logprobs={"B": -0.1, "C": -3.0}, chosen=("A", -9.0))
    assert (found[0], found[2], floor) == (-9.0, -0.1, -3.0)
    found, floor = values(logprobs=[("B", -0.1), ("C", -3.0), ("A", -9.0)], chosen=("A", -9.0))
    assert (found[0], floor) == (-9.0, -3.0)


def test_a_server_that_lists_the_chosen_token_alone_bounds_by_it():
    choice = completion(Says("A", logprobs={"A": -0.2}), {"model": "m"})
    choice["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = []
    # as likely as the drawn one they were all a tie: no pair was decided
    assert read(choice, NEXT).floor == pytest.approx(math.log(1 - math.exp(-0.2)))


def test_values_that_are_none_are_not_listed():
    answer = completion(Says("A", logprobs={"A": -0.5, "B": math.nan, " A": 3.0, " B": -math.inf}), {"model": "m"})
    [found] = read(answer, NEXT).values
    assert [math.isnan(v) for v in found] == [False, True, True, False]
    assert found[3] == -math.inf


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": [{"top_logprobs": [{"token": 1}]}]}])
def test_a_server_without_log_probabilities_is_not_asked_again(logprobs):
    answer = completion(Says("A"), {"model": "m"})
    answer["choices"][0]["logprobs"] = logprobs
    with pytest.raises(Unreadable) as fault:
        read(answer, NEXT)
    assert not fault.value.again


def test_no_token_written_is_empty_and_a_filter_refuses_log_probabilities_too():
    answer = completion(Says(""), {"model": "m"})
    answer["choices"][0]["logprobs"] = {"content": []}
    assert read(answer, NEXT).reason == "empty"
    assert answered(None, finish="content_filter", request=NEXT).reason == "refused"
