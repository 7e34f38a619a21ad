"""One response, and whether it is right: the probability of yes as the next token, among yes and no.

The idea is that of generative verifiers (arXiv 2408.15240); the words are ours.

What this module does not know: which response is right, engines.
"""

from __future__ import annotations

from rmeval.scorers.judge.asking import Judge
from rmeval.types import Arity, Conversation, Score, View


class VerifierJudge(Judge):
    """The probability that a response is right."""

    arity: Arity = "one"
    needed = ("prompt", "response")

    def discuss(self, view: View) -> Conversation:
        """One question."""
        fields = {**self.values(view), "response": view.candidates[0].text}
        [reply] = yield [self.next_token(view, self.messages(fields))]
        if reply.reason is not None:
            return Score(reason=reply.reason, n_tokens=reply.n_tokens)
        mass = self.mass(reply)
        if not mass.covered or mass.covered < self.card.floor:
            return Score(reason="low_verdict_mass", n_tokens=reply.n_tokens)
        return Score(mass.share()["yes"], n_tokens=reply.n_tokens)
