"""Scalar reward models: a sequence classifier read at the last token (Bradley-Terry, regression, multi-label).

Reading rule. One label: its raw logit. Several exclusive labels (softmax head): the log-odds of the named one,
z_i - log sum_{j != i} exp(z_j), which orders responses as the probability does without saturating. Several independent
labels (`problem_type` multi_label_classification or regression): the raw logit of the named one. No other link.

What this module does not know: tokenizers, weights, batches, labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rmeval.conventions import TokenCard
from rmeval.errors import UsageError, near_miss
from rmeval.types import JSON, Arity, Chat, Conversation, Mark, Message, Request, Score, Special, Text, Turn, View


class ScalarScorer:
    """Asks for the class logits at the last token of prompt and response."""

    name = "scalar"
    arity: Arity = "one"

    def __init__(
        self,
        labels: Sequence[str] = ("LABEL_0",),
        *,
        label: str | int | None = None,
        exclusive: bool = True,
        negate: bool = False,
        append: TokenCard | None = None,
        token: TokenCard | None = None,
        gated: bool = False,
    ) -> None:
        """`labels`: the head's labels in order; `label`: which one is the reward; `exclusive`: a softmax head.

        `append`: a token put at the very end, and read; `token`: a language model's logit of this token as the next
        one is the reward; `gated`: k objectives at the last token, mixed by k weights that the prompt's end gives.
        """
        self.labels = tuple(labels)
        self.channel = _channel(self.labels, label)
        self.exclusive = exclusive and len(self.labels) > 1
        self.negate = negate
        self.append, self.token, self.gated = append, token, gated

    def identity(self) -> dict[str, JSON]:
        """Which channel is read and how."""
        if self.gated:
            return {"kind": self.name, "reading": "objectives mixed by the prompt's weights", "negate": self.negate}
        if self.token is not None:
            said: dict[str, JSON] = {"text": self.token.text, "id": self.token.id}
            return {"kind": self.name, "reading": "logit of the next token", "token": said, "negate": self.negate}
        return {
            "kind": self.name,
            "label": self.labels[self.channel],
            "reading": "log-odds" if self.exclusive else "raw logit",
            "negate": self.negate,
            "position": "last token" if self.append is None else f"appended token {self.append.text or self.append.id}",
        }

    def score(self, view: View) -> Conversation:
        """One request: the whole conversation with the response as its last turn."""
        [reply] = yield [self._request(view)]
        if reply.reason is not None:
            return Score(reason=reply.reason, n_tokens=reply.n_tokens, truncated=reply.truncated)
        value = self._mixed(*reply.values) if self.gated else self.read(reply.values[0])
        if not math.isfinite(value):
            return Score(reason="non_finite", n_tokens=reply.n_tokens, truncated=reply.truncated)
        return Score(value, n_tokens=reply.n_tokens, truncated=reply.truncated)

    def _request(self, view: View) -> Request:
        text = view.candidates[0].text
        if self.gated:
            answered = Turn("assistant", (Text(text.strip()),))
            return Request((Chat((*self._ending(view.prompt), answered)), Mark()), at="marks", group=view.id)
        whole = Chat((*view.prompt, Message("assistant", text)))
        if self.append is not None:
            return Request((whole, Special(self.append.text, self.append.id)), group=view.id)
        if self.token is not None:
            named = (Special(self.token.text, self.token.id),)
            return Request((whole,), read="tokens", tokens=named, group=view.id)
        return Request((whole,), group=view.id)

    @staticmethod
    def _ending(prompt: tuple[Message, ...]) -> tuple[Message | Turn, ...]:
        """The prompt with a mark at the token that closes its last turn."""
        last = prompt[-1]
        return (*prompt[:-1], Turn(last.role, (Text(last.content.strip()), Mark(ahead=1))))

    def _mixed(self, at_prompt: Sequence[float], at_end: Sequence[float]) -> float:
        """The objectives at the end, each with the weight that the prompt gives it."""
        k = len(at_end) // 2
        value = sum(w * r for w, r in zip(at_prompt[k:], at_end[:k], strict=True))
        return -value if self.negate else value

    def read(self, logits: Sequence[float]) -> float:
        """The reward in a row of class logits.

        >>> ScalarScorer(("bad", "good"), label="good").read((1.0, 3.0))
        2.0
        >>> ScalarScorer().read((-0.25,))
        -0.25
        """
        value = logits[self.channel]
        if self.exclusive:
            rest = [z for i, z in enumerate(logits) if i != self.channel]
            top = max(rest)
            value -= top + math.log(sum(math.exp(z - top) for z in rest))
        return -value if self.negate else value


def _channel(labels: tuple[str, ...], label: str | int | None) -> int:
    if label is None:
        if len(labels) == 1:
            return 0
        raise UsageError(
            f"this classifier has {len(labels)} labels ({', '.join(labels)}); say which one is the reward: "
            f"-a scorer.label={labels[-1]}"
        )
    if isinstance(label, int):
        if 0 <= label < len(labels):
            return label
        raise UsageError(f"scorer.label={label}: this classifier has labels 0 to {len(labels) - 1}")
    if label not in labels:
        hint = near_miss(label, labels) or f"It has {', '.join(labels)}."
        raise UsageError(f"scorer.label={label!r}: the classifier has no such label. {hint}")
    return labels.index(label)
