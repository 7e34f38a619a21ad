"""One solution in numbered steps: the number of the first wrong one, from 0, or -1 where there is none.

What this module does not know: where a solution goes wrong, how several votes are added up, engines.
"""

from __future__ import annotations

from collections.abc import Mapping

from rmeval.errors import UsageError
from rmeval.scorers.judge.card import JudgeCard
from rmeval.scorers.judge.labels import Labels
from rmeval.scorers.judge.pairwise import WordsJudge
from rmeval.scorers.judge.prompts import Template
from rmeval.types import Arity, Conversation, Score, Verdict, View


class CriticJudge(WordsJudge):
    """Where a solution first goes wrong."""

    arity: Arity = "one"
    by_step = True
    needed = ("prompt", "steps")
    also = ("last",)

    def __init__(self, card: JudgeCard, files: Mapping[str, str] | None = None) -> None:
        """See `Judge`."""
        super().__init__(card, files)
        self.item = self.template("item", card.item, ("n", "response"), ("n", "response"))

    def templates(self) -> list[Template]:
        """The user turn, and one step."""
        return [self.user, self.template("item", self.card.item, ("n", "response"), ("n", "response"))]

    def labels(self, view: View) -> Labels:
        """The steps that there are, and -1."""
        return {str(n): str(n) for n in range(-1, len(view.candidates[0].steps))}

    def json_closing(self) -> str:
        """How a structured answer is asked for."""
        return (
            'Answer with one JSON object and nothing else: {{"reasoning": "...", "verdict": "..."}}, where verdict is '
            'the number of the first wrong paragraph, or "-1" if there is none.'
        )

    def discuss(self, view: View) -> Conversation:
        """One question, on a suite that asks for steps; `UsageError` on any other."""
        steps = view.candidates[0].steps
        if not view.by_step:
            raise UsageError(
                f"protocol {self.card.name} looks for the first wrong step, and this suite compares whole responses. "
                "Use -a judge.protocol=pairwise, rating or verifier"
            )
        if not steps:
            return Score(verdicts=(Verdict(view.order, None, "no_steps"),))
        values = self.values(view, *steps)
        said = [self.item.fill({**values, "n": str(n), "response": step}) for n, step in enumerate(steps)]
        fields = {**values, "steps": "\n\n".join(said), "last": str(len(steps) - 1)}
        found = yield from self.converse(view, self.messages(fields), lambda reply: self.read(view, reply))
        return self.verdict(view, found)
