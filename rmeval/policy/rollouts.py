"""Rollouts: from the end of every step a language model goes on, several times, and it is counted how often it arrives.

    {prompt, steps, answer}  ->  the row with `counts`: [[right, rollouts], ...], one for each step

The model is given the conversation with the assistant's turn begun: the steps so far, each with its separator, the last
step of a row without one. Its text is what the prefix and its own words come to; right is whose final answer is the
row's (`rmeval.final_answers`). A rollout that its token limit cut off is right only where it had stated its answer. One
that has no text, for a fault of the model or the server, is not counted at all.

What this module does not know: rules that make labels of counts, intervals, what runs the weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rmeval import runner
from rmeval.errors import UsageError, near_miss
from rmeval.final_answers import final_answer, same_answer
from rmeval.protocols import Engine
from rmeval.readers.fields import BadRow, conversation
from rmeval.readers.rows import Row, faults_message
from rmeval.store import Store
from rmeval.types import Chat, Message, Reply, Request, Sampling


@dataclass(frozen=True, slots=True)
class Way:
    """How rollouts are drawn."""

    rollouts: int = 8
    """From each step."""
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int = 0
    separator: str = "\n\n"
    """What ends a step."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise UsageError(
                f"--temperature {self.temperature:g}: above 0, or every rollout of a step is the same text"
            )
        if not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p {self.top_p:g}: above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class Problem:
    """A row from which is rolled out."""

    values: Mapping[str, Any]
    prompt: tuple[Message, ...]
    steps: tuple[str, ...]
    answer: str


@dataclass(slots=True)
class Tally:
    """What came of all rollouts. Equal prefixes of several rows share theirs, which then count for each row."""

    rollouts: int = 0
    """Those asked for, over all rows."""
    right: int = 0
    cut: int = 0
    """Cut off by the token limit."""
    unanswered: int = 0
    """Without any final answer, and so wrong."""
    failed: Counter[str] = field(default_factory=Counter)
    """Reason -> rollouts that have no text, and are counted nowhere."""
    computed: int = 0
    """Texts that were written now."""
    cached: int = 0
    """Texts that were written before."""
    written: int = 0
    """Tokens of both."""


def problems(rows: Sequence[Row], name: str) -> list[Problem]:
    """The rows of a file to roll out from. `UsageError` names up to 20 bad rows by line."""
    found, faults = [], []
    for row in rows:
        try:
            found.append(_problem(row.values))
        except BadRow as fault:
            faults.append(f"{row.place}: {fault}")
    if faults:
        raise UsageError(faults_message(f"{name}: {len(faults)} of {len(rows)} rows cannot be rolled out", faults))
    return found


def roll_out(
    asked: Sequence[Problem], engine: Engine, store: Store | None, way: Way
) -> tuple[list[dict[str, Any]], Tally]:
    """The rows with `counts`, and what came of the rollouts. A step without any has null instead of a count."""
    requests = [[_requests(problem, step, way) for step in range(len(problem.steps))] for problem in asked]
    distinct = dict.fromkeys(request for row in requests for step in row for request in step)
    replies, made = runner.ask(list(distinct), engine, store, title="rollouts")
    tally = Tally(computed=made.computed, cached=made.cached, written=made.written)
    rows = []
    for problem, by_step in zip(asked, requests, strict=True):
        counts = [
            _count(problem, [replies[request] for request in step], _prefix(problem, place, way), tally)
            for place, step in enumerate(by_step)
        ]
        rows.append({**problem.values, "counts": counts})
    return rows, tally


def _problem(row: Mapping[str, Any]) -> Problem:
    for name in ("labels", "counts", "mc"):
        if row.get(name) is not None:
            raise BadRow(f"has {name!r} already")
    for name in ("prompt", "steps", "answer"):
        if row.get(name) is None:
            raise BadRow(f"no {name!r}. {near_miss(name, row)}".rstrip())
    steps, answer = row["steps"], row["answer"]
    if not isinstance(steps, Sequence) or isinstance(steps, str) or not steps:
        raise BadRow("'steps' must be a list of texts")
    for i, step in enumerate(steps):
        if not isinstance(step, str):
            raise BadRow(f"'steps[{i}]' must be a text, found {step!r}")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise BadRow(f"'answer' must be a text or a number, found {answer!r}")
    # a worked reference, such as GSM8K's, states its answer; any other is one
    said = str(answer).strip()
    if not said:
        raise BadRow("'answer' is empty")
    return Problem(row, conversation(row["prompt"]), tuple(steps), final_answer(said, stated=True) or said)


def _prefix(problem: Problem, step: int, way: Way) -> str:
    """The solution up to the end of a step."""
    text = way.separator.join(problem.steps[: step + 1])
    return text if step == len(problem.steps) - 1 else f"{text}{way.separator}"


def _requests(problem: Problem, step: int, way: Way) -> list[Request]:
    chat = Chat((*problem.prompt, Message("assistant", _prefix(problem, step, way))))
    return [
        Request(
            (chat,),
            at="next",
            read="text",
            sampling=Sampling(way.max_tokens, way.temperature, way.top_p, way.seed, vote),
        )
        for vote in range(way.rollouts)
    ]


def _count(problem: Problem, replies: Sequence[Reply], prefix: str, tally: Tally) -> list[int] | None:
    """[right, rollouts] of a step; None where no rollout has a text."""
    right = counted = 0
    for reply in replies:
        tally.rollouts += 1
        if reply.reason not in (None, "empty"):  # a model that has nothing to add has arrived
            tally.failed[str(reply.reason)] += 1
            continue
        counted += 1
        cut = reply.finish == "length"
        answer = final_answer(f"{prefix}{reply.text}", stated=cut)
        right += answer is not None and same_answer(answer, problem.answer)
        tally.cut += cut
        tally.unanswered += answer is None
    tally.right += right
    return [right, counted] if counted else None
