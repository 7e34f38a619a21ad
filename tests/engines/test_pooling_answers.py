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
        ("classify", {"error": "busy"}, "no `data` for 1 texts", False),
        ("classify", {"data": [{"probs": [1.0]}] * 2}, "no `data` for 1 texts", False),
        ("classify", {"data": [[1.0]]}, "no `data` for 1 texts", False),
        ("classify", {"data": [{"label": "good"}]}, "a text without numbers", False),
        ("classify", {"data": [{"probs": ["1"]}]}, "a text without numbers", False),
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


def test_a_null_is_a_number_that_json_cannot_hold():
    [[first], [second]] = read("classify", {"data": [{"probs": [None, 1]}, {"probs": [2.0, 3.0]}]}, 2)
    assert math.isnan(first[0])
    assert (first[1], second) == (1.0, [2.0, 3.0])
