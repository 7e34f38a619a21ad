"""Where a response is cut into steps: each line of the documented rule, and that nothing is lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmeval import arguments
from rmeval.errors import UsageError
from rmeval.scorers.process import ProcessScorer
from rmeval.scorers.splitting import split
from rmeval.types import Candidate, Message, View


@pytest.mark.parametrize(
    "sentences",
    [
        ("Two and two make four.", "Then we stop."),
        ("The price is 3.14 dollars.", "2.5 are left."),  # decimals
        ("She has $5.", "He pays $6.", "So $11 in all."),  # amounts are no mathematics
        ("Take a prime, e.g. 7, or i.e. Seven.", "Cf. Fig. 3 and Eq. 4 by Dr. Who."),
        ("Step 1. Add them.", "Step 2. Multiply."),
        ("1. First we add.", "2. Then we stop."),
        ("(b). Second part.", "Done."),
        ("**Step 3.** Bold.", "Plain."),
        ("Let $x = 2. Y$ be.", "Then $$a. B$$ holds.", r"And \(c. D\) too."),
        (r"So \[ x = 1. Y = 2. \] holds.", "Next."),
        ("Let \\begin{aligned}\na. B\\\\\nc\n\\end{aligned} be.", "Next."),
        ("Is it 4?", "Yes!", "It is."),
        ('He said "four."', "We agree."),
        ("There are 5! ways.", "And 6! = 720.", "Good."),
        ("It is so. then we go on.", "End."),  # a lower-case letter goes on
        ("The value is x = 4. = 2 + 2 as well.",),
        ("Wait...", "No.", "Then see No. 3."),
        ("四です。", "次。"),
        ("No full stop at the end", "and a line break"),
    ],
)
def test_sentences(sentences):
    joined = "\n".join(sentences) if "line break" in sentences[-1] else " ".join(sentences)
    assert split(joined, "sentence") == sentences


def test_a_line_break_ends_a_sentence_but_not_inside_mathematics():
    assert split("a\nb\n\nc", "sentence") == ("a", "b", "c")
    assert split("x $$a\nb$$ y\nz", "sentence") == ("x $$a\nb$$ y", "z")


def test_a_dollar_that_nothing_closes_hides_no_sentence():
    assert split("It is $x. Then y. And z.", "sentence") == ("It is $x.", "Then y.", "And z.")


def test_lines_and_paragraphs():
    text = "a. B\nc\n \nd\n\n\n"
    assert split(text, "line") == ("a. B", "c", "d")
    assert split(text, "paragraph") == ("a. B\nc", "d")
    assert [split("  \n", how) for how in ("line", "paragraph", "sentence")] == [()] * 3


@given(st.text("ab A.!?$\\()[]\n 。12"), st.sampled_from(["line", "paragraph", "sentence"]))
def test_nothing_is_lost_or_moved(text, how):
    pieces = split(text, how)
    assert re.sub(r"\s", "", "".join(pieces)) == re.sub(r"\s", "", text)
    assert all(piece.strip() for piece in pieces)
    if how == "sentence":
        assert len(pieces) >= len(split(text, "paragraph")) or "$" in text or "\\" in text


def test_a_process_model_reads_one_place_per_piece():
    text = "One. Two.\nThree.\n\nFour."
    view = View("x", (Message("user", "q"),), (Candidate(text, ("One. Two.", "Three. Four.")),), (0,))
    for how, count in {None: 2, "paragraph": 2, "line": 3, "sentence": 4}.items():
        [request] = next(ProcessScorer(split=how).score(view))
        assert sum(type(piece).__name__ == "Mark" for piece in request.parts[0].messages[-1].pieces) == count


def test_an_unknown_split_is_refused_with_what_there_is():
    with pytest.raises(UsageError, match="'line', 'paragraph' or 'sentence'"):
        arguments.call(ProcessScorer, "scorer", {"split": "word"})
