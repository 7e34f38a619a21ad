"""Outcome reward models: at every token of the response, the probability that its final answer is right.

The reward is the probability at the last token of the response, or an aggregate over all its tokens. On a suite of
steps a step's score is the probability at its end: the model's own answer to "will this prefix come out right?".

What this module does not know: tokenizers, weights, grades.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rmeval.errors import UsageError, near_miss
from rmeval.scorers.process import absent, joint, sigmoid, steps_of, summed_up
from rmeval.scorers.splitting import Split
from rmeval.types import JSON, NAN, Arity, Chat, Conversation, Mark, Message, Reply, Request, Score, Text, Turn, View

TENTHS = 10


def _log_sigmoid(z: float) -> float:
    return -math.log1p(math.exp(-z)) if z >= 0 else z - math.log1p(math.exp(z))


OVER_TOKENS: dict[str, Callable[[Sequence[float]], float]] = {
    "last": lambda logits: sigmoid(logits[-1]),
    "mean": lambda logits: sum(map(sigmoid, logits)) / len(logits),
    "min": lambda logits: sigmoid(min(logits)),
    "prod": lambda logits: math.exp(sum(map(_log_sigmoid, logits))),
    "logprod": lambda logits: sum(map(_log_sigmoid, logits)),
    "mean_logit": lambda logits: sigmoid(sum(logits) / len(logits)),
}
"""How the logits of a response's tokens become its reward; `logprod` orders as `prod` does and never reaches 0."""


class OutcomeScorer:
    """Outcome reward model: is the answer right, asked at every token."""

    name = "outcome"
    arity: Arity = "one"
    by_step = True
    aggregates = OVER_TOKENS

    def __init__(self, *, aggregate: str = "last", split: Split = "paragraph") -> None:
        """`split` cuts responses that come without steps, on suites that ask for a score per step."""
        if aggregate not in self.aggregates:
            hint = near_miss(aggregate, self.aggregates) or f"Known: {', '.join(self.aggregates)}."
            raise UsageError(f"scorer.aggregate={aggregate!r}: no such aggregate over tokens. {hint}")
        self.aggregate, self.split = aggregate, split

    def identity(self) -> dict[str, JSON]:
        """What is read where."""
        return {
            "kind": self.name,
            "aggregate": self.aggregate,
            "reading": "sigmoid of the logit",
            "position": "every token of the response, closing token included; a step at its end",
        }

    def link(self, read: float) -> float:
        """What one reading means."""
        return sigmoid(read)

    def score(self, view: View) -> Conversation:
        """One request: the whole response, or the ends of its steps where these are asked for."""
        if view.by_step:
            return (yield from self._by_step(view))
        turns = (*view.prompt, Message("assistant", view.candidates[0].text))
        [reply] = yield [Request((Chat(turns),), at="completion", group=view.id)]
        if reply.reason is not None:
            return Score(reason=reply.reason, n_tokens=reply.n_tokens, truncated=reply.truncated)
        read = [row[0] for row in reply.values if row]
        if len(read) < len(reply.values) or not read or not all(map(math.isfinite, read)):
            reason = "truncated" if len(read) < len(reply.values) else "non_finite" if read else "no_tokens"
            return Score(reason=reason, n_tokens=reply.n_tokens, truncated=reply.truncated)
        value = float(self.aggregates[self.aggregate](read))
        if not math.isfinite(value):
            return Score(reason="non_finite", n_tokens=reply.n_tokens, truncated=reply.truncated)
        curve = tuple(self.link(read[place]) for place in tenths(len(read)))
        return Score(value, n_tokens=reply.n_tokens, truncated=reply.truncated, prefixes=curve)

    def _by_step(self, view: View) -> Conversation:
        candidate = view.candidates[0]
        steps = steps_of(candidate, self.split)
        if not steps:
            return Score(reason="no_steps")
        between = joint(candidate, steps)
        pieces: list[Text | Mark] = []
        for n, step in enumerate(steps, 1):
            pieces += [Text(step + (between if n < len(steps) else "")), Mark()]
        asked = Chat((*view.prompt, Turn("assistant", tuple(pieces))))
        [reply] = yield [Request((asked,), at="marks", group=view.id)]
        if reply.reason is not None:
            n = len(steps)
            return Score(
                NAN, reply.reason, reply.n_tokens, reply.truncated, steps=(NAN,) * n, step_reasons=(reply.reason,) * n
            )
        return summed_up([self._step(row, reply) for row in reply.values], reply, "last")

    def _step(self, row: Sequence[float], reply: Reply) -> tuple[float, str | None]:
        if not row:
            return NAN, absent(reply)
        return (self.link(row[0]), None) if math.isfinite(row[0]) else (NAN, "non_finite")


def tenths(n: int) -> list[int]:
    """The last token of each tenth of n tokens.

    >>> tenths(20), tenths(3)
    ([1, 3, 5, 7, 9, 11, 13, 15, 17, 19], [0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    """
    return [max(0, math.ceil(n * k / TENTHS) - 1) for k in range(1, TENTHS + 1)]
