"""The part of a judge's text that counts: what it says after its reasoning.

A thinking model weighs both sides in its reasoning, and writes every label there; the verdict stands in what follows.

What this module does not know: verdicts, ratings, which model wrote the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Tags = Sequence[tuple[str, str]]
"""What opens and what closes a stretch of reasoning, pair by pair."""

THINKING: Tags = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel|>analysis", "<|channel|>final<|message|>"),
)
"""The reasoning marks of models at large; the last is the harmony format, whose final channel closes every other."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The final part of a text."""

    text: str
    """What follows the last stretch of reasoning; the whole text where there is none."""
    reasoned: bool
    """Whether there was any reasoning before it."""
    open: bool = False
    """Whether the reasoning never ended, so that there is no final part."""


def final_segment(text: str, tags: Tags = THINKING) -> Segment:
    """What stands after the last closing mark; nothing, and `open`, where reasoning began after it and did not end.

    A closing mark alone counts too: some chat templates write the opening one into the prompt.

    >>> final_segment("<think>[[B]]? No.</think>[[A]]").text
    '[[A]]'
    >>> final_segment("<think>It is [[A]] because").open
    True
    """
    folded = _lowered(text)
    end, last_opening = 0, -1
    for opening, closing in tags:
        last_opening = max(last_opening, folded.rfind(_lowered(opening)))
        place = folded.rfind(_lowered(closing))
        if place >= 0:
            end = max(end, place + len(closing))
    if last_opening >= end:
        return Segment("", reasoned=True, open=True)
    return Segment(text[end:], reasoned=end > 0)


_LOWER = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}


def _lowered(text: str) -> str:
    """ASCII in lower case, so that every place stays where it is: `str.lower` makes some letters longer."""
    return text.translate(_LOWER)
