"""Final answers are found where they are stated, and compared as numbers before they are compared as texts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmeval.final_answers import final_answer, same_answer

QUICK = settings(derandomize=True, max_examples=100, deadline=None, database=None)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so $\boxed{7}$, not 8", "7"),
        (r"\boxed{1} no: \boxed{\frac{3}{4}}.", r"\frac{3}{4}"),
        (r"the answer is 3; boxed, \boxed{\text{three}}", r"\text{three}"),
        (r"\boxed{open", None),
        ("The answer is 12.", "12"),
        ("The answer is: **12**", "12"),
        ("**Answer: 12**", "12"),
        ("Final Answer: $12$", "12"),
        ("#### 1,234", "1,234"),
        ("It takes 3 days.\n#### 18\n", "18"),
        ("The answer is 3.5. There are 2 ways", "3.5"),
        ("The answer is 4. Wait. The answer is 5!", "5"),
        ("1. 3 + 4 = 7\n2. 7 - 5 = 2", "2"),
        ("I get -4", "-4"),
        ("Nothing at all", None),
        ("", None),
    ],
)
def test_the_last_stated_answer_is_found(text, answer):
    assert final_answer(text) == answer


def test_a_mere_number_is_no_stated_answer():
    assert final_answer("first 3, then 4", stated=True) is None
    assert final_answer("the answer is 3, then 4", stated=True) == "3, then 4"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("12", "12.0", True),
        ("12 apples", "12", True),
        ("$18", "18 dollars", True),
        (r"\$18.00", "18", True),
        ("50%", "50", True),
        (r"50\%", "50", True),
        ("1,234,567", "1234567", True),
        ("x = 5", "5", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"\dfrac{2}{4}", "1/2", True),
        ("-3", "3", False),
        ("15", "5", False),
        ("5", "5x", False),
        ("5", r"\sqrt{5}", False),
        ("5", "5^2", False),
        ("3 or 4", "4", False),
        ("1/3", "0.33", False),
        ("1/0", "0", False),
        (r"(1,\, 2)", "(1, 2)", True),
        (r"\text{Monday}", "monday", True),
        (r"\tfrac{x}{2}", r"\dfrac{x}{2}", True),
        (r"\left(3, \frac{\pi}{2}\right)", r"( 3, \frac{\pi}{2} )", True),
        ("x+1", "1+x", False),
        ("A", "B", False),
    ],
)
def test_two_answers(one, other, same):
    assert same_answer(one, other) is same
    assert same_answer(other, one) is same


@QUICK
@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_integers_are_the_same_in_any_dress_and_only_then(one, other):
    for dress in ("{}", "{:,}", "{}.00", "{} apples", "${}$", "x = {}"):
        assert same_answer(dress.format(one), str(other)) is (one == other)
    assert final_answer(rf"Hence \boxed{{{one}}}") == final_answer(f"The answer is {one}.") == str(one)
