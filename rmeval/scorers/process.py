"""Process reward models: a score per step, read at a place that is known by construction.

How steps are shown and what is read is data (`rmeval.conventions.StepsCard`): the text around a step, the token at
which it is read, the order of the classes, the link function. The score of a step is

    softmax    the probability of the right classes          sigmoid    sigma of the one number that is read
    none       the number itself

A neutral class counts as said by `neutral`: `wrong` nothing, `right` its whole probability, `half` half of it.
The reward of a whole response is an aggregate of its steps; the steps are kept, so that
`rmeval rescore RESULT -a metric.aggregate=min` tries another without a model.

What this module does not know: tokenizers, weights, grades.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

from rmeval.conventions import StepsCard, TokenCard, typed
from rmeval.errors import UsageError, near_miss
from rmeval.metrics.convert import AGGREGATES, aggregate_steps
from rmeval.scorers import splitting
from rmeval.scorers.splitting import Split
from rmeval.types import (
    JSON,
    NAN,
    Arity,
    Candidate,
    Chat,
    Conversation,
    Mark,
    Message,
    Piece,
    Reply,
    Request,
    Score,
    Special,
    Text,
    Turn,
    View,
)

_NUMBERED = re.compile(r"\s*step\s*\d+\s*[:.]", re.IGNORECASE)
MERGED = "no_token"
"""The reason of a step that ends inside a token."""
EMPTY = "empty_step"


class ProcessScorer:
    """Process reward model: a score per step, and their aggregate."""

    name = "process"
    arity: Arity = "one"
    by_step = True

    def __init__(
        self,
        labels: Sequence[str] = ("incorrect", "correct"),
        *,
        steps: StepsCard | None = None,
        separator: str | None = None,
        neutral: Literal["wrong", "right", "half"] = "wrong",
        aggregate: str | None = None,
        split: Split | None = None,
    ) -> None:
        """`labels`: the head's outputs; `steps`: the family's conventions; the others are the user's.

        `split` cuts responses anew, even those that come in steps: how much do scores hang on where a step ends?
        """
        self.labels = tuple(labels)
        self.steps = steps if steps is not None else StepsCard()
        if separator is not None:
            separator = typed(separator)
            lines = {"split": "line"} if separator == "\n" else {}  # a text comes apart where it was put together
            self.steps = self.steps.model_copy(update={"separator": separator, **lines})
        if aggregate is not None and aggregate not in AGGREGATES:
            hint = near_miss(aggregate, AGGREGATES) or f"Known: {', '.join(AGGREGATES)}."
            raise UsageError(f"scorer.aggregate={aggregate!r}: no such aggregate. {hint}")
        self.aggregate = aggregate or self.steps.aggregate
        self.neutral, self.split = neutral, split
        channels = len(self.steps.tokens) or len(self.labels)
        self.right = self.steps.right or (channels - 1,)
        if self.steps.read != "vocabulary_mean" and not all(i < channels for i in self.right):
            raise UsageError(f"the right classes are {list(self.right)}, and there are {channels} outputs")

    def identity(self) -> dict[str, JSON]:
        """The decision rule: everything that changes a step's score."""
        return {
            "kind": self.name,
            "labels": list(self.labels) if self.steps.read == "head" else [t.text or t.id for t in self.steps.tokens],
            "steps": self.steps.model_dump(mode="json"),
            "right": list(self.right),
            "neutral": self.neutral,
            "aggregate": self.aggregate,
            "split": self.split or self.steps.split,
            "resplit": self.split is not None,
        }

    def score(self, view: View) -> Conversation:
        """One request for all steps of the candidate."""
        steps = steps_of(view.candidates[0], self.split or self.steps.split, anew=self.split is not None)
        if view.by_step and self.split is not None:
            raise UsageError("-a scorer.split: this suite has labels for its own steps, so they cannot be cut anew")
        if not steps:
            return Score(reason="no_steps")
        [reply] = yield [
            Request(
                parts=parts(self.steps, view.prompt, steps),
                at="marks",
                read=self.steps.read,
                tokens=tuple(_special(token) for token in self.steps.tokens),
                group=view.id,
            )
        ]
        if reply.reason is not None:
            return _without(reply, len(steps))
        if len(reply.values) != len(steps):
            raise RuntimeError(f"{view.id}: {len(reply.values)} readings for {len(steps)} steps")
        return summed_up(
            [
                (NAN, EMPTY) if not _own(self.steps, step) else self._read(values, reply)
                for step, values in zip(steps, reply.values, strict=True)
            ],
            reply,
            self.aggregate,
        )

    def _read(self, values: Sequence[float], reply: Reply) -> tuple[float, str | None]:
        if not values:
            return NAN, absent(reply)
        value = self.step_score(values)
        return (value, None) if math.isfinite(value) else (NAN, "non_finite")

    def step_score(self, values: Sequence[float]) -> float:
        """The score of a step from what was read at its end.

        >>> round(ProcessScorer(("incorrect", "neutral", "correct")).step_score((0.0, 0.0, 0.0)), 3)
        0.333
        """
        if self.steps.link == "none":
            return values[self.right[0]] if len(values) > 1 else values[0]
        if self.steps.link == "sigmoid":
            return sigmoid(values[self.right[0]] if len(values) > 1 else values[0])
        top = max(values)
        weights = [math.exp(value - top) for value in values]
        counted = sum(weights[i] for i in self.right)
        if self.steps.neutral is not None and self.steps.neutral not in self.right:
            counted += weights[self.steps.neutral] * {"wrong": 0.0, "right": 1.0, "half": 0.5}[self.neutral]
        return counted / sum(weights)


def absent(reply: Reply) -> str:
    """Why a place has no reading: it was cut off, or no token ends there."""
    return "truncated" if reply.truncated else MERGED


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)), for any value.

    >>> sigmoid(0.0), sigmoid(-1000.0), sigmoid(1000.0)
    (0.5, 0.0, 1.0)
    """
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def summed_up(steps: Sequence[tuple[float, str | None]], reply: Reply, aggregate: str) -> Score:
    """A score of (value or NaN, reason) per step, with their aggregate; one missing step leaves the whole missing."""
    values = tuple(value for value, _ in steps)
    reasons = tuple(reason for _, reason in steps)
    missing = next((reason for reason in reasons if reason), None)
    whole = NAN if missing else aggregate_steps(values, aggregate)
    return Score(
        whole,
        missing or (None if math.isfinite(whole) else "non_finite"),
        n_tokens=reply.n_tokens,
        truncated=reply.truncated,
        steps=values,
        step_reasons=reasons if missing else (),
    )


def _without(reply: Reply, n: int) -> Score:
    """The score of a candidate that could not be read at all."""
    return Score(
        reason=reply.reason,
        n_tokens=reply.n_tokens,
        truncated=reply.truncated,
        steps=(NAN,) * n,
        step_reasons=(reply.reason,) * n,
    )


def steps_of(candidate: Candidate, split: Split, *, anew: bool = False) -> tuple[str, ...]:
    r"""The steps of a candidate: those that it comes with, else its text split; blank pieces of a split are left out.

    >>> steps_of(Candidate("First.\n\nSecond."), "paragraph")
    ('First.', 'Second.')
    """
    if candidate.steps and not anew:
        return candidate.steps
    return splitting.split(candidate.text, split)


def joint(candidate: Candidate, steps: Sequence[str]) -> str:
    r"""What stands between the steps in the candidate's text; a blank line where the text is not just the steps.

    >>> joint(Candidate("a\nb", ("a", "b")), ("a", "b"))
    '\n'
    """
    return next((between for between in ("\n\n", "\n", " ", "") if between.join(steps) == candidate.body), "\n\n")


# --- the text of a request -------------------------------------------------------------------------------------------


def parts(card: StepsCard, prompt: tuple[Message, ...], steps: Sequence[str]) -> tuple[Chat | Piece, ...]:
    """The request of a solution: its steps with a mark at the place where each is read."""
    if card.form == "turns":
        return (Chat(tuple(_turns(card, prompt, steps))),)
    written = [_written(card, n, step) for n, step in enumerate(steps, 1)]
    if card.form == "chat":
        return (Chat((*_system(card, prompt), Turn("assistant", tuple(_pieces(card, written))))),)
    start = (Special(role="bos"),) if card.bos else ()
    asked = card.prompt.replace("{prompt}", "\n\n".join(message.content for message in prompt))
    if card.form == "pieces":
        return (*start, Text(asked), *_pieces(card, written))
    text, marks = asked, []
    for step in written:
        text += step
        marks.append(len(text))
        text += card.after
    return (*start, Text(text, tuple(marks)))


def _written(card: StepsCard, n: int, step: str) -> str:
    said = f"Step {n}: {step}" if card.numbered and not _NUMBERED.match(step) else step
    return card.step.replace("{n}", str(n)).replace("{step}", said)


def _pieces(card: StepsCard, written: Sequence[str]) -> list[Piece]:
    found: list[Piece] = []
    for n, step in enumerate(written, 1):
        found.append(Text(step))
        if card.separator:
            found.append(Text(card.separator))
        if card.token is not None:
            found.append(_special(card.token))
        found.append(Mark())
        if card.after and n < len(written):
            found.append(Text(card.after))
    return found


def _turns(card: StepsCard, prompt: tuple[Message, ...], steps: Sequence[str]) -> list[Message | Turn]:
    """A user turn per step, each answered by the sign; the place that is read is the one before the sign."""
    asked = prompt[-1].content if prompt else ""
    found: list[Message | Turn] = [*_system(card, prompt[:-1])]
    for n, step in enumerate(steps, 1):
        said = _written(card, n, step)
        first = card.prompt.replace("{prompt}", asked)
        said = (first.replace("{step}", said) if "{step}" in first else f"{first} {said}") if n == 1 else said
        found += [Message("user", said), Turn("assistant", (Mark(), Text(card.sign)))]
    return found


def _system(card: StepsCard, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    if not card.system or any(message.role == "system" for message in prompt):
        return prompt
    return (Message("system", card.system), *prompt)


def _special(token: TokenCard) -> Special:
    return Special(token.text, token.id)


def _own(card: StepsCard, step: str) -> bool:
    """Whether a step has a token of its own, so that it can be read at all."""
    return bool(card.form in ("turns", "text") or card.separator or card.token or card.step != "{step}" or step)
