"""One response, and a number for it: in words, or as the expectation over the next token.

The expectation is that of G-Eval (arXiv 2303.16634): every rating weighted by the probability that the model gives it,
which leaves few ties.

What this module does not know: which response is right, how ratings are compared, engines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from rmeval.scorers.judge.asking import Judge
from rmeval.scorers.judge.card import JudgeCard
from rmeval.scorers.judge.ratings import read_rating
from rmeval.types import JSON, NAN, Arity, Conversation, Reply, Score, View


@dataclass(frozen=True, slots=True)
class Ratings:
    """One number per response shown, NaN where there is none, and why the first missing one is."""

    values: tuple[float, ...]
    reason: str | None = None


class RatingJudge(Judge):
    """How good a response is, in words."""

    arity: Arity = "one"
    needed = ("prompt", "response")

    def __init__(self, card: JudgeCard, files: Mapping[str, str] | None = None) -> None:
        """See `Judge`. Raises `UsageError` for a parser that there is not."""
        super().__init__(card, files)
        self.scale = card.scale or (1, 10)
        read_rating("", parser=self.parse)  # an unknown one is refused now, not after the first answer

    def json_closing(self) -> str:
        """How a structured answer is asked for."""
        return (
            'Answer with one JSON object and nothing else: {{"reasoning": "a few sentences", "rating": ...}}, where '
            "rating is a number from {low} to {high}."
        )

    def schema(self, view: View) -> str:  # noqa: ARG002 - others depend on what is shown
        """`reasoning`, then `rating`."""
        if not self.card.structured:
            return ""
        return json.dumps(
            {
                "type": "object",
                "properties": {"reasoning": {"type": "string"}, "rating": number_schema(self.card.scale)},
                "required": ["reasoning", "rating"],
                "additionalProperties": False,
            }
        )

    def discuss(self, view: View) -> Conversation:
        """One question, with a further turn where the protocol has it."""
        fields = {**self.values(view), "response": view.candidates[0].text}
        found = yield from self.converse(view, self.messages(fields), self.read)
        return Score(ratings=found.values, reason=found.reason)

    def read(self, reply: Reply) -> Ratings:
        """The number of a reply: of its JSON where that was asked for and came, else of its text."""
        if reply.reason is not None:
            return Ratings((NAN,), reply.reason)
        for parser in dict.fromkeys(("unique", self.parse) if self.card.structured else (self.parse,)):
            found = read_rating(reply.text, self.scale, parser=parser, finish=reply.finish, thinking=self.thinking)
            if found.reason != "unparsed":
                break
        return Ratings((found.value,), found.reason)


class NextTokenRatingJudge(Judge):
    """How good a response is, by the log-probabilities of the next token."""

    arity: Arity = "one"
    needed = ("prompt", "response")

    def discuss(self, view: View) -> Conversation:
        """One question. Ratings that a server did not list count nothing: they are the least likely ones."""
        fields = {**self.values(view), "response": view.candidates[0].text}
        [reply] = yield [self.next_token(view, self.messages(fields))]
        if reply.reason is not None:
            return Score(ratings=(NAN,), reason=reply.reason)
        mass = self.mass(reply)
        if not mass.covered or mass.covered < self.card.floor:
            return Score(ratings=(NAN,), reason="low_verdict_mass")
        return Score(ratings=(expectation({float(s): v for s, v in mass.log.items() if s not in mass.absent}),))


def expectation(log: Mapping[float, float]) -> float:
    """The mean rating, each weighted by its probability given that it is one of them.

    >>> expectation({1.0: -1.0, 5.0: -1.0})
    3.0
    """
    top = max(log.values())
    weights = {rating: math.exp(value - top) for rating, value in log.items()}
    return math.fsum(rating * weight for rating, weight in weights.items()) / math.fsum(weights.values())


def number_schema(scale: tuple[float, float] | None) -> dict[str, JSON]:
    """The JSON schema of a rating."""
    low, high = scale or (1, 10)
    return {"type": "number", "minimum": low, "maximum": high}
