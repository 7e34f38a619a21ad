"""What a pooling server may answer, and what is said of an answer that holds no numbers."""

from __future__ import annotations

import math

import pytest

from rmeval.engines.openai.wire import Unreadable
from rmeval.engines.pooling import read


@pytest.mark.parametrize(
    ("api", "answer", "said", "again"),
    [
        ("classify", [1.0], "no JSON object", True),
        ("classify", {"error": "busy"}, "an error in an answer of status 200", True),
        ("classify", {"error": "busy", "data": [{"probs": [1.0]}]}, "an error in an answer of status 200", True),
        ("classify", {"data": [{"probs": [1.0]}] * 2}, "no `data` for 1 texts", False),
        ("classify", {"data": [[1.0]]}, "no `data` for 1 texts", False),
        ("classify", {"data": [{"label": "good"}]}, "a text without numbers", False),
        ("classify", {"data": [{"probs": ["1"]}]}, "a text without numbers", False),
        ("classify", {"data": [{"probs": [True]}]}, "a text without numbers", False),
        ("pooling", {"data": [{"data": [0.5, 1.5]}]}, "the server pools", False),
        ("pooling", {"data": [{"data": []}]}, "the server pools", False),
        ("get_reward", {"rewards": [1.0, 2.0]}, "no `rewards` for 1 texts", False),
        ("get_reward", {"rewards": 1.0}, "no `rewards` for 1 texts", False),
    ],
)
def test_an_answer_without_numbers_says_what_it_lacks(api, answer, said, again):
    with pytest.raises(Unreadable, match=said) as caught:
        read(api, answer, 1)
    assert caught.value.again is again


@pytest.mark.parametrize("numbers", [(1, 2), (0, 0), (0, None), ("0", "1"), (-1, 0), (True, False)])
def test_answers_that_are_not_numbered_by_their_texts_are_nobodys(numbers):
    """Sorted all the same, they gave texts the scores of others."""
    data = [{"index": i, "probs": [1.0]} if i is not None else {"probs": [1.0]} for i in numbers]
    with pytest.raises(Unreadable, match="does not number 2 texts from 0"):
        read("classify", {"data": data}, 2)


def test_a_null_is_a_number_that_json_cannot_hold():
    [[first], [second]] = read("classify", {"data": [{"probs": [None, 1]}, {"probs": [2.0, 3.0]}]}, 2)
    assert math.isnan(first[0])
    assert (first[1], second) == (1.0, [2.0, 3.0])
