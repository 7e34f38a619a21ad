"""A language model whose words are a function of what it is asked: an engine for judges, without weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from rmeval.types import Candidate, Example, Labels, Message, Plan, Reply, Request

NONCE = re.compile(r" [0-9a-f]{12}(?=[>\]\n])")


class ScriptedJudge:
    """`answer(turns)` is the text; `masses(turns)` the probability of each next token by its text."""

    name = "scripted"

    def __init__(
        self, answer: Callable[..., str | Reply] | None = None, masses: Callable[..., dict] | None = None, floor=None
    ):
        self.answer, self.masses, self.floor = answer, masses, floor
        self.asked: list[Request] = []

    def fingerprint(self):
        return {"engine": self.name}

    def describe(self):
        return {}

    def plan(self, requests: Sequence[Request]) -> Plan:
        return Plan(tuple((i,) for i in range(len(requests))), (0,) * len(requests), {})

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        self.asked += requests
        return [self.reply(request) for request in requests]

    def reply(self, request: Request) -> Reply:
        turns = turns_of(request)
        if request.read == "text":
            said = self.answer(turns)
            return said if isinstance(said, Reply) else Reply(text=said)
        listed = self.masses(turns)
        values = tuple(math.log(listed[t.text]) if listed.get(t.text) else math.nan for t in request.tokens)
        return Reply((values,), floor=self.floor)


def turns_of(request: Request) -> list[str]:
    """The texts of the turns."""
    [chat] = request.parts
    return [turn.content for turn in chat.messages]


def between(text: str, what: str) -> str:
    """What stands between `<what NONCE>` and `</what NONCE>`."""
    found = re.search(rf"<{what} ([0-9a-f]{{12}})>\n(.*)\n</{what} \1>", text, re.DOTALL)
    return found[2]


def example(
    name: str, *texts: str, prompt: str | Sequence[Message] = "", grades=None, steps=(), labels=None
) -> Example:
    """An example whose first candidate is the best."""
    turns = (Message("user", prompt or f"question {name}"),) if isinstance(prompt, str) else tuple(prompt)
    candidates = tuple(Candidate(text, tuple(steps)) for text in texts)
    found = labels or Labels(tuple(grades or (1.0,) + (0.0,) * (len(texts) - 1)))
    return Example(name, turns, candidates, found, "all", cluster=name)
