"""What policies write: final answers in a text, where its steps end, its markup, Harmony's channels."""

from __future__ import annotations

import random
import re
from functools import partial

import fuzz_mutations as mutations
from fuzz_driving import Target

from rmeval.final_answers import final_answer, same_answer
from rmeval.markup import count_markup
from rmeval.probes.robustness.transformations import TRANSFORMATIONS
from rmeval.scorers.splitting import split
from rmeval.training import harmony

ANSWERS = (
    r"\boxed{", r"\fboxed{", r"\boxed {4}", "}", "{", "The answer is 5.", "answer:", "#### ", "####", "1,000", "1/2", ".5", "$18",
    "18 dollars", "50%", r"\%", r"\frac{1}{2}", r"\dfrac{1}{0}", r"\text{", r"\text{ cm}", "-", "= ", "x + 1", "\n", " ", "1/0",
    "€", "9" * 5000, "\u0663", "12.", "*", "Answer = ", "is", ",", "1e5", "\\left(", "\\,",
)  # fmt: skip
STEPS = (
    "Step 1.", "It costs $3.50.", "e.g.", "Dr.", "Fig.", "3", ".", "!", "?", "...", "\n", "\n\n", " ", "$", "$$", r"\(", r"\)", r"\[",
    r"\]", r"\begin{align*}", r"\end{align*}", r"\begin{a}", "$x = 2. Y$", "Then", "so", "\u3002", "\u201d", ")", '"', "**", "1.",
    "(b).", "a", "\\", "\t", "- item", "# Heading", "```", "```python", "**bold**", "__", "_a_", "1)", "*", "\r\n", "\x0b",
)  # fmt: skip
CHANNELS = (
    *harmony._MARKS, "assistant", "user", "final", "analysis", "commentary", " to=functions.x", "json", "4", "\n", " ", "<|", "|>",
    "<|channel|>final<|message|>4<|return|>", "<|channel|>analysis<|message|>Add.<|end|><|start|>assistant",
)  # fmt: skip


def _case(draw: random.Random, pieces: tuple[str, ...]) -> str:
    if draw.random() < 0.002:  # a policy that says one thing, or two in turn, until its tokens are used up
        piece = "".join(draw.choices(pieces, k=draw.choice((1, 1, 2))))
        return draw.choice(pieces) + piece * (20_000 // len(piece)) + draw.choice(pieces)
    joined = draw.choice(("", " ", "\n")).join(draw.choices(pieces, k=draw.choice((1, 2, 3, 5, 10))))
    return mutations.text(draw, joined, pieces) if draw.random() < 0.5 else joined


def _answer(case: str) -> bool:
    found = final_answer(case)
    stated = final_answer(case, stated=True)
    assert stated in (None, found), "what is stated is not what is found"
    if found is None:
        return False
    assert found in case, "an answer that is not there"
    assert same_answer(found, found)
    other = case[: len(case) // 2]
    assert same_answer(found, other) == same_answer(other, found), "the same one way, another the other way"
    return True


def _boxed_plainly(case: str) -> str | None:
    """The last closed box, brace by brace; of short texts alone."""
    for found in reversed(list(re.finditer(r"\\f?boxed\s*\{", case))):
        depth = 1
        for at in range(found.end(), len(case)):
            depth += {"{": 1, "}": -1}.get(case[at], 0)
            if depth == 0:
                return case[found.end() : at].strip()
    return None


def _boxed(case: str) -> bool:
    taken = _answer(case)
    boxed = _boxed_plainly(case) if len(case) < 2000 else None
    assert boxed is None or final_answer(case) == boxed, "another box than the last one"
    return taken


def _steps(case: str) -> bool:
    for how in ("line", "paragraph", "sentence"):
        pieces = split(case, how)
        assert all(piece.strip() for piece in pieces)
        assert "".join("".join(pieces).split()) == "".join(case.split()), "letters lost between steps"
    counted = count_markup(case)
    assert all(0 <= n <= len(case) for n in counted)
    return len(pieces) > 1


def _channels(case: str) -> bool:
    try:
        found = harmony.final_text(case, analysis=True)
        messages = harmony.parse(case)
    except ValueError:  # what the format's reader raises, which training turns into a bad row
        return False
    if harmony.is_harmony(case):
        assert all(part.content in case for part in messages)
        again = harmony.parse(harmony.render(messages, purpose="training"))
        assert [one.content for one in again if one.channel == "final"] == [
            one.content for one in messages if one.channel == "final"
        ], "another answer once it is written and read"
    else:
        assert found == case
    return True


CODE = (
    "```python\n", "```", "\ndef f(n):\n    total = n + 1\n    return total\n", "    total = ", "n", "+1", "-", "(", ")", "[", "lambda x: ",
    "if n:\n", "# a comment", '"""', "class A:\n", "exec(n)", "\n    ", "\t", "f'{n}'", "global n\n", "x = y = 1\n", "not ",
)  # fmt: skip
PROSE = (
    "The sum is 5.", "Some plain words here", "a = b", "1,000", "20%", "5 kg", "https://a.b", "'quoted'", '"', "<a href", "**", "__",
    "- item", "`code`", "a", "=", "Dr. No", " ", "\n", "answer: 7", "#### 7", r"\boxed{7}", "2024", "1234", "I'm here - now",
)  # fmt: skip


def _reworded_case(draw: random.Random) -> str:
    pieces = draw.choice((STEPS, CODE, PROSE, (*STEPS, *PROSE), (*CODE, *PROSE)))
    return f"{draw.choice(list(TRANSFORMATIONS))}\n{_case(draw, pieces)}"


def _reworded(case: str) -> bool:
    """A text as the robustness probe says it again."""
    name, _, text = case.partition("\n")
    if name not in TRANSFORMATIONS:
        return False
    again = TRANSFORMATIONS[name].edit(text, random.Random(1), "What is 2 + 2?")
    assert again is None or again != text, "changed, and the same"
    return again is not None


TARGETS = (
    Target("final answer", partial(_case, pieces=ANSWERS), _boxed),
    Target("steps and markup of a text", partial(_case, pieces=STEPS), _steps),
    Target("Harmony's channels", partial(_case, pieces=CHANNELS), _channels),
    Target("text said again", _reworded_case, _reworded),
)
