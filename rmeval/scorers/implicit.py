"""Implicit rewards: what a policy trained by preference or outcome finds more likely than its reference does.

    ratio   beta * sum over the response's tokens of log p_policy - log p_reference
    sum, avg, norm   without a reference: the policy's log-probabilities summed, averaged, or minus their L2 norm

The response's tokens are known by construction, so a response that repeats its prompt is still counted once, as the
response. On a suite of steps, a step's score is the link of the log-ratio up to its end, from the first token on.
Source of the modes: allenai/reward-bench; of the steps: PRIME-RL/ImplicitPRM.

What this module does not know: tokenizers, weights, grades.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from rmeval.conventions import StepsCard
from rmeval.errors import UsageError
from rmeval.scorers.process import absent, parts, sigmoid, steps_of, summed_up
from rmeval.types import JSON, NAN, Arity, Chat, Conversation, Mark, Message, Reply, Request, Score, Turn, View

Mode = Literal["ratio", "sum", "avg", "norm"]


class ImplicitScorer:
    """Implicit reward: log-ratio of a language model to its reference."""

    name = "implicit"
    arity: Arity = "one"

    def __init__(
        self, *, mode: Mode = "ratio", beta: float = 1.0, steps: StepsCard | None = None, link: str | None = None
    ) -> None:
        """`mode` other than `ratio` needs no reference; `steps` says how steps are written and the link of a step."""
        if not beta > 0:
            raise UsageError(f"scorer.beta={beta}: above 0")
        if link not in (None, "sigmoid", "none"):
            raise UsageError(f"scorer.link={link!r}: one of sigmoid, none")
        self.mode, self.beta = mode, beta
        self.steps = steps if steps is not None else StepsCard(after="\n\n", link="sigmoid")
        self.link = link or ("none" if self.steps.link == "none" else "sigmoid")

    @property
    def by_step(self) -> bool:
        """A step has a log-ratio; without a reference its log-probability only says how long it is."""
        return self.mode == "ratio"

    def identity(self) -> dict[str, JSON]:
        """Mode, scale, and how steps are written and read."""
        return {
            "kind": self.name,
            "mode": self.mode,
            "beta": self.beta,
            "link": self.link,
            "steps": self.steps.model_dump(mode="json"),
            "position": "every token of the response, closing token included; a step up to its end",
        }

    def score(self, view: View) -> Conversation:
        """One request to each model."""
        if view.by_step:
            if self.mode != "ratio":
                raise UsageError(
                    f"-a scorer.mode={self.mode}: there is no sound conversion to steps without a reference, since the "
                    "log-probability of a step mostly says how long it is. Name one: -a scorer.reference=MODEL"
                )
            return (yield from self._by_step(view))
        turns = (*view.prompt, Message("assistant", view.candidates[0].text))
        asked = self._asked(Request((Chat(turns),), at="completion", read="next_logprob", group=view.id))
        replies = yield asked
        failed = _failed(replies)
        if failed is not None:
            return failed
        tokens = [[row[0] for row in reply.values if row] for reply in replies]
        reply = replies[0]
        if not tokens[0] or len(tokens[0]) < len(reply.values):
            reason = "truncated" if len(tokens[0]) < len(reply.values) else "no_tokens"
            return Score(reason=reason, n_tokens=reply.n_tokens, truncated=reply.truncated)
        value = self.reward(*tokens)
        if math.isfinite(value):
            return Score(value, n_tokens=reply.n_tokens, truncated=reply.truncated)
        return Score(reason="non_finite", n_tokens=reply.n_tokens, truncated=reply.truncated)

    def reward(self, policy: Sequence[float], reference: Sequence[float] = ()) -> float:
        """The reward of a response from the log-probabilities of its tokens.

        >>> ImplicitScorer(beta=0.5).reward([-1.0, -2.0], [-2.0, -2.0])
        0.5
        >>> ImplicitScorer(mode="norm").reward([-3.0, -4.0])
        -5.0
        """
        if self.mode == "ratio":
            return self.beta * sum(p - r for p, r in zip(policy, reference, strict=True))
        if self.mode == "avg":
            return sum(policy) / len(policy)
        return sum(policy) if self.mode == "sum" else -math.sqrt(sum(p * p for p in policy))

    def _asked(self, request: Request) -> list[Request]:
        if self.mode != "ratio":
            return [request]
        return [request, Request(request.parts, request.at, request.read, role="reference", group=request.group)]

    def _by_step(self, view: View) -> Conversation:
        steps = steps_of(view.candidates[0], self.steps.split)
        if not steps:
            return Score(reason="no_steps")
        [chat] = parts(self.steps, view.prompt, steps)
        assert isinstance(chat, Chat)
        *before, turn = chat.messages
        assert isinstance(turn, Turn)
        start = Turn(turn.role, (Mark(), *turn.pieces))  # the first mark opens the response
        replies = yield self._asked(Request((Chat((*before, start)),), "marks", "next_logprob", group=view.id))
        failed = _failed(replies, len(steps))
        if failed is not None:
            return failed
        pairs = list(zip(*(reply.values[1:] for reply in replies), strict=True))
        read = [self.beta * total for total in accumulate(p[0] - r[0] if p and r else NAN for p, r in pairs)]
        linked: list[tuple[float, str | None]] = [
            (self._linked(one), None) if math.isfinite(one) else (NAN, "non_finite" if p and r else absent(replies[0]))
            for one, (p, r) in zip(read, pairs, strict=True)
        ]
        return summed_up(linked, replies[0], "last")

    def _linked(self, value: float) -> float:
        return sigmoid(value) if self.link == "sigmoid" else value


def _failed(replies: Sequence[Reply], steps: int = 0) -> Score | None:
    """The score where a model could not read the text; None where all could."""
    for reply in replies:
        if reply.reason is not None:
            return Score(NAN, reply.reason, reply.n_tokens, reply.truncated, (NAN,) * steps, (reply.reason,) * steps)
    return None
