"""All responses shown together, called A, B, C, ...: the best one, or a number for each.

What this module does not know: which response is right, how verdicts are added up, engines.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping

from rmeval.errors import UsageError
from rmeval.scorers.judge.asking import Judge
from rmeval.scorers.judge.card import JudgeCard
from rmeval.scorers.judge.labels import Labels
from rmeval.scorers.judge.pairwise import WordsJudge
from rmeval.scorers.judge.prompts import LETTERS, Template
from rmeval.scorers.judge.rating import Ratings, number_schema
from rmeval.scorers.judge.ratings import read_ratings
from rmeval.types import NAN, Arity, Conversation, Reply, Score, View


class Together(Judge):
    """A judge that is shown all responses, as `{candidates}` or each in a field of its own, `{a}`, `{b}`, ..."""

    arity: Arity = "all"
    needed = ("prompt",)
    also = ("candidates", "count", "last", *string.ascii_lowercase)

    def __init__(self, card: JudgeCard, files: Mapping[str, str] | None = None) -> None:
        """See `Judge`."""
        super().__init__(card, files)
        self.own = len(self.user.fields & set(string.ascii_lowercase))
        """Responses that have a field of their own."""
        if ("candidates" in self.user.fields) == bool(self.own):
            raise UsageError(
                f"protocol {card.name}: a template shows {{candidates}}, or each response as {{a}}, {{b}}, ..."
            )
        self.item = self._item()

    def templates(self) -> list[Template]:
        """The user turn, and one response."""
        return [self.user, self._item()]

    def _item(self) -> Template:
        fields = ("letter", "response")
        return self.template("item", self.card.item or "{letter}{response}", fields, fields)

    def fields(self, view: View) -> dict[str, str]:
        """All responses of a view, as fields. `UsageError` for more than the protocol can name."""
        k = len(view.candidates)
        if k > len(LETTERS) or (self.own and k != self.own):
            most = f"{self.own}" if self.own else f"up to {len(LETTERS)}"
            raise UsageError(
                f"example {view.id!r} has {k} responses, and protocol {self.card.name} names {most}. Rate each by "
                "itself: -a judge.protocol=rating; or compare pairs: -a judge.protocol=pairwise"
            )
        values = self.values(view)
        texts = dict(zip(LETTERS, (candidate.text for candidate in view.candidates), strict=False))
        said = [self.item.fill({**values, "letter": letter, "response": text}) for letter, text in texts.items()]
        named = {letter.lower(): text for letter, text in texts.items()}
        return {**named, **values, "candidates": "\n\n".join(said), "count": str(k), "last": LETTERS[k - 1]}


class BestOfJudge(Together, WordsJudge):
    """The best of all responses, by its letter."""

    def labels(self, view: View) -> Labels:
        """A letter for each response shown."""
        return {letter: letter for letter in LETTERS[: len(view.candidates)]}

    def json_closing(self) -> str:
        """How a structured answer is asked for."""
        return (
            'Answer with one JSON object and nothing else: {{"reasoning": "a comparison in a few sentences", '
            '"verdict": "..."}}, where verdict is the letter of the best response, "A" to "{last}".'
        )

    def discuss(self, view: View) -> Conversation:
        """One question."""
        opening = self.messages(self.fields(view))
        found = yield from self.converse(view, opening, lambda reply: self.read(view, reply))
        return self.verdict(view, found)


class ScoresJudge(Together):
    """A number for each response."""

    def json_closing(self) -> str:
        """How a structured answer is asked for."""
        return (
            'Answer with one JSON object and nothing else: {{"reasoning": "...", "scores": {{"A": ..., "B": ...}}}}, '
            "with a number from {low} to {high} for every response."
        )

    def schema(self, view: View) -> str:
        """`reasoning`, then `scores` by letter."""
        if not self.card.structured:
            return ""
        letters = LETTERS[: len(view.candidates)]
        scores = {letter: number_schema(self.card.scale) for letter in letters}
        inner = {"type": "object", "properties": scores, "required": list(letters), "additionalProperties": False}
        return json.dumps(
            {
                "type": "object",
                "properties": {"reasoning": {"type": "string"}, "scores": inner},
                "required": ["reasoning", "scores"],
                "additionalProperties": False,
            }
        )

    def discuss(self, view: View) -> Conversation:
        """One question. A response that gets no number is missing, the others are not."""
        found = yield from self.converse(view, self.messages(self.fields(view)), lambda reply: self.read(view, reply))
        return Score(ratings=found.values, reason=found.reason)

    def read(self, view: View, reply: Reply) -> Ratings:
        """The numbers of a reply."""
        letters = LETTERS[: len(view.candidates)]
        if reply.reason is not None:
            return Ratings((NAN,) * len(letters), reply.reason)
        scale = self.card.scale or (1, 10)
        found = read_ratings(reply.text, letters, scale, finish=reply.finish, thinking=self.thinking)
        return Ratings(tuple(one.value for one in found), next((one.reason for one in found if one.reason), None))
