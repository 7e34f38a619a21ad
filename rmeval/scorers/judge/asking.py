"""What all judges share: the request for a view, the reading of a reply, one further turn, and what identifies them.

What this module does not know: what is asked for, and what an answer means.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from rmeval.errors import UsageError
from rmeval.scorers.judge.card import NEXT_TOKEN, JudgeCard
from rmeval.scorers.judge.prompts import Markers, Template, conversation, nonce
from rmeval.scorers.judge.segments import THINKING, Tags
from rmeval.types import JSON, NAN, Chat, Conversation, Message, Reply, Request, Sampling, Score, Showing, Special, View


class Read(Protocol):
    """What a parser makes of a text."""

    @property
    def reason(self) -> str | None:
        """Why nothing was read."""
        ...


Found = TypeVar("Found", bound=Read)


class Judge(ABC):
    """A protocol that can ask; its children say what for."""

    name = "judge"
    parser = "unique"
    """The parser of our own for what its children ask for."""
    needed: tuple[str, ...] = ()
    """Fields without which the user turn would not show what is to be judged."""
    also: tuple[str, ...] = ()
    """Further fields that it may have."""

    def __init__(self, card: JudgeCard, files: Mapping[str, str] | None = None) -> None:
        """`files`: which turns come from a file of the user's, and its name."""
        self.card, self.files = card, dict(files or {})
        self.showing = Showing(card.orders, card.votes, card.seed, card.name)
        self.thinking: Tags = (*THINKING, *card.thinking.items())
        self.parse = card.parse or self.parser
        self.system = self.template("system", card.system) if card.system else None
        self.user = self.template("user", card.user, self.needed)
        self.markers = Markers(self.templates(), card.labels, self.thinking)

    # --- what is asked ---

    def templates(self) -> list[Template]:
        """Every template that a response is put into."""
        return [self.user]

    def template(self, key: str, text: str, needed: Iterable[str] = (), also: Sequence[str] = ()) -> Template:
        """A template of the card, with its closing written out."""
        closing = self.json_closing() if self.card.structured else self.card.closing
        if self.card.structured and key == "user" and "{closing}" not in self.card.system + text:
            text += "\n\n{closing}"
        text = text.replace("{closing}", closing)  # the protocol's own words: nothing of a response is in either
        where = f"protocol {self.card.name}, {key}"
        if key in self.files:
            where = f"-a judge.{'template' if key == 'user' else key}={self.files[key]}"
        known = ("prompt", "nonce", "low", "high", *self.card.constants, *self.needed, *self.also, *also)
        return Template.read(text, known=known, needed=needed, aliases=self.card.aliases, where=where)

    def json_closing(self) -> str:
        """How a structured answer is asked for, with braces doubled."""
        raise UsageError(f"-a judge.structured=true: {self.card.mode} has no structured form")

    def schema(self, view: View) -> str:  # noqa: ARG002 - some depend on what is shown
        """The JSON schema of a structured answer, as JSON; empty where a text is asked for."""
        return ""

    def values(self, view: View, *further: str) -> dict[str, str]:
        """The fields that every template may use; no nonce stands in `further` texts either."""
        mark = nonce(self.card.seed, self.card.name, view.id, (*shown(view), *further))
        low, high = self.card.scale or (0, 0)
        fields = {"nonce": mark, "prompt": conversation(view.prompt, mark), "low": f"{low:g}", "high": f"{high:g}"}
        return fields | self.card.constants

    def messages(self, values: Mapping[str, str], user: Template | None = None) -> tuple[Message, ...]:
        """The turns that open the conversation."""
        before = (Message("system", self.system.fill(values)),) if self.system else ()
        return (*before, Message("user", (user or self.user).fill(values)))

    def score(self, view: View) -> Conversation:
        """What the protocol makes of a view, with two flags: a prompt was cut or too long; it may mislead."""
        talk, cut = self.discuss(view), False
        try:
            requests = next(talk)
            while True:
                replies = yield requests
                # a server that refuses a prompt as too long has cut none, and says so by the reason alone
                cut = cut or any(reply.truncated or reply.reason == "truncated" for reply in replies)
                requests = talk.send(replies)
        except StopIteration as end:
            found: Score = end.value
            return replace(found, truncated=cut, marked=self.marked(view))

    @abstractmethod
    def discuss(self, view: View) -> Conversation:
        """The protocol's own questions about a view, and what their answers come to."""

    def marked(self, view: View) -> bool:
        """Whether what is shown holds what an answer, a delimiter or a template is made of."""
        return self.markers.within(shown(view))

    def written(self, view: View, messages: tuple[Message, ...]) -> Request:
        """The request for a text."""
        card = self.card
        sampling = Sampling(card.max_tokens, card.temperature, card.top_p, card.seed, view.vote, self.schema(view))
        return Request((Chat(messages),), at="next", read="text", sampling=sampling, group=view.id)

    def next_token(self, view: View, messages: tuple[Message, ...]) -> Request:
        """The request for the log-probabilities of the labels."""
        tokens = tuple(Special(label) for label in self.card.labels)
        return Request((Chat(messages),), at="next", read="next_logprobs", tokens=tokens, group=view.id)

    # --- what is read ---

    def converse(
        self, view: View, messages: tuple[Message, ...], read: Callable[[Reply], Found]
    ) -> Generator[list[Request], list[Reply], Found]:
        """Ask, and once more for the answer alone where the protocol does so and the text holds no label at all."""
        [reply] = yield [self.written(view, messages)]
        found = read(reply)
        if (
            self.card.retry
            and found.reason == "unparsed"
            and not any(label in reply.text for label in self.card.labels)
        ):
            turns = (*messages, Message("assistant", reply.text), Message("user", self.card.retry))
            [reply] = yield [self.written(view, turns)]
            found = read(reply)
        return found

    def mass(self, reply: Reply) -> Mass:
        """The log-probability on each meaning of the labels."""
        [row] = reply.values
        listed: dict[str, list[float]] = {meant: [] for meant in self.card.labels.values()}
        for meant, value in zip(self.card.labels.values(), row, strict=True):
            if not math.isnan(value):
                listed[meant].append(value)
        absent = [meant for meant, values in listed.items() if not values]
        if absent and reply.floor is None:
            forms = ", ".join(repr(label) for label, meant in self.card.labels.items() if meant == absent[0])
            raise UsageError(
                f"protocol {self.card.name}: the judge's tokenizer has no single token for {forms}, so that the next "
                f"token cannot mean {absent[0]!r}. Use a protocol that writes: -a judge.protocol=pairwise (or rating)"
            )
        floor = reply.floor if reply.floor is not None else NAN
        log = {meant: _logsumexp(values) if values else floor for meant, values in listed.items()}
        return Mass(log, frozenset(absent))

    # --- what it is ---

    def identity(self) -> dict[str, JSON]:
        """Protocol, texts by digest, and every setting that changes an answer."""
        card = self.card
        texts = [card.system, card.user, card.item, card.closing, card.retry, card.synthesise]
        said = json.dumps([*texts, card.labels, card.aliases, card.constants, card.thinking])
        found: dict[str, JSON] = {
            "kind": self.name,
            "protocol": card.name,
            "mode": card.mode,
            "votes": card.votes,
            "seed": card.seed,
            "prompt_sha256": hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest(),
        }
        if card.several:
            found["orders"] = card.orders
        if card.mode in NEXT_TOKEN:
            found["floor"] = card.floor
        else:
            found |= {"parse": self.parse, "max_tokens": card.max_tokens, "temperature": card.temperature}
            found |= {"top_p": card.top_p, "retry": bool(card.retry), "structured": card.structured}
        optional: dict[str, JSON] = {"source": card.source, "aggregate": card.aggregate, "files": dict(self.files)}
        optional |= {"scale": list(card.scale or ()), "parse_again": card.parse_again}
        return found | {key: value for key, value in optional.items() if value}


def shown(view: View) -> list[str]:
    """Every text of a view."""
    return [turn.content for turn in view.prompt] + [candidate.text for candidate in view.candidates]


@dataclass(frozen=True, slots=True)
class Mass:
    """How much of the next token's probability lies on what the labels mean."""

    log: Mapping[str, float]
    """Meaning -> log-probability, all its surface forms together; the upper bound where none was listed."""
    absent: frozenset[str]
    """Meanings of which no form was listed."""

    @property
    def covered(self) -> float:
        """The probability that is known to lie on the labels."""
        return math.fsum(math.exp(value) for meant, value in self.log.items() if meant not in self.absent)

    def share(self) -> dict[str, float]:
        """Meaning -> probability, given that it is one of them.

        >>> round(Mass({"A": -0.25, "B": -1.75}, frozenset()).share()["A"], 6)
        0.817574
        """
        total = _logsumexp(list(self.log.values()))
        return {meant: math.exp(value - total) for meant, value in self.log.items()}


def _logsumexp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values)) if top > -math.inf else top
