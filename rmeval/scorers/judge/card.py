"""A judge's protocol as a TOML card (`scorers/judges/<name>.toml`).

    mode               shown                   asked for                                 score
    pairwise           two responses           a label                                   Verdict
    pairwise_logprob   two responses           the next token, a label                   Verdict with logmass and p
    listwise           all responses           the letter of the best                    Verdict
    listwise_scores    all responses           a number for each                         ratings
    rating             one response            a number                                  rating
    logprob_rating     one response            the next token, a number                  rating: its expectation
    verifier           one response            the next token, yes or no                 value: probability of yes
    critic             one solution in steps   the number of the first wrong step or -1  Verdict

Templates hold fields in braces, and `{{`, `}}` for braces. `{prompt}` is the conversation so far; the responses are
`{a}` and `{b}`, `{response}`, `{candidates}` or `{steps}` by mode; `{nonce}` is for delimiters that no response can
know (see `prompts`); `{closing}` says how the answer is to be written.

What this module does not know: engines, labels of examples, how verdicts are added up.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rmeval.cards import Name
from rmeval.types import Orders

Mode = Literal[
    "pairwise", "pairwise_logprob", "listwise", "listwise_scores", "rating", "logprob_rating", "verifier", "critic"
]

ONE_BY_ONE = frozenset(("rating", "logprob_rating", "verifier", "critic"))
"""Modes that are shown one response at a time, so that there is no order."""
NEXT_TOKEN = frozenset(("pairwise_logprob", "logprob_rating", "verifier"))
"""Modes that read the log-probabilities of the next token instead of a text."""
MEANT = {
    "pairwise": frozenset(("A>>B", "A>B", "A", "A=B", "tie", "B", "B>A", "B>>A")),
    "pairwise_logprob": frozenset(("A", "tie", "B")),
    "verifier": frozenset(("yes", "no")),
}
"""Mode -> what its labels may stand for; those of `logprob_rating` stand for numbers."""


class JudgeCard(BaseModel):
    """`scorers/judges/<name>.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    summary: str = Field(max_length=200)
    source: str = ""
    """Whose rule it reproduces: `owner/repository@commit path`; empty for protocols of our own."""
    licence: str = ""
    """The licence of the official prompt, as its repository states it."""
    notes: str = ""
    """Where the protocol differs from the official one, in words."""

    mode: Mode
    orders: Orders = "both"
    """In which orders the responses are shown, for modes that see several."""
    votes: int = Field(default=1, ge=1, le=1000)
    """Readings per order."""
    seed: int = Field(default=0, ge=0)
    """Draws the orders, the nonces and, at temperatures above 0, the texts."""

    system: str = ""
    """Template of the system turn; none where it is empty."""
    user: str = Field(min_length=1)
    """Template of the user turn."""
    item: str = ""
    """Template of one of `{candidates}` (`{letter}`, `{response}`) or `{steps}` (`{n}`, from 0, and `{response}`)."""
    closing: str = ""
    """How the answer is to be written: what `{closing}` stands for; with structured output it asks for JSON instead."""
    aliases: dict[str, str] = {}
    """Field names of the official text -> ours, so that it can be given as it stands: `answer_a = "a"`."""
    labels: dict[str, str] = {}
    """What the judge writes -> what it means: a verdict, yes or no, or a number. In modes that read the next token, its
    surface forms: several may mean the same."""
    constants: dict[str, str] = {}
    """Further fields of the official text, and what stands for them: a rubric, an empty checklist."""
    parse: str = ""
    """The parser of the text, by name, in modes that write; the one of our own for this mode where none is named."""
    scale: tuple[float, float] | None = None
    """Lowest and highest rating."""
    thinking: dict[str, str] = {}
    """Opening -> closing mark of reasoning that is not to be read, besides the usual ones."""

    max_tokens: int = Field(default=2048, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=5)
    top_p: float = Field(default=1.0, gt=0, le=1)
    floor: float = Field(default=0.5, ge=0, le=1)
    """Least probability on the labels, taken together, for the next token to be a reading."""
    retry: str = ""
    """A further turn that asks for the verdict alone where the text held none; none where it is empty."""
    synthesise: str = ""
    """pairwise: template of a second question where the two orders disagree, with the answer that was for each response
    (`{for_a}`, `{for_b}`), its labels rewritten to the order shown."""
    parse_again: str = ""
    """The parser of the answer to that, where it is another."""
    structured: bool = False
    """Whether a JSON object with `reasoning` and `verdict` is asked for; what comes as text is parsed as text."""
    aggregate: str = ""
    """The official aggregation, by its name among the metrics."""

    @property
    def several(self) -> bool:
        """Whether responses are shown together, so that their order matters."""
        return self.mode not in ONE_BY_ONE

    @property
    def numbers(self) -> dict[str, float]:
        """The labels of `logprob_rating` as numbers."""
        return {label: float(meant) for label, meant in self.labels.items()}

    @model_validator(mode="after")
    def _is_sound(self) -> JudgeCard:
        given = self.model_fields_set
        if not self.several and "orders" in given:
            raise ValueError(f"`orders` are for modes that see several responses; {self.mode} sees one")
        if self.mode in NEXT_TOKEN:
            writing = given & {"parse", "retry", "structured", "synthesise", "max_tokens", "temperature", "top_p"}
            if writing:
                raise ValueError(f"`{min(writing)}` is for modes that write; {self.mode} reads the next token")
            if self.votes > 1:
                raise ValueError(f"`votes`: {self.mode} reads the same log-probabilities each time")
        elif "floor" in given:
            raise ValueError(f"`floor` is for modes that read the next token; {self.mode} writes")
        if self.synthesise and (self.mode, self.orders) != ("pairwise", "both"):
            raise ValueError('`synthesise` is for mode = "pairwise" and orders = "both"')
        if self.mode == "listwise_scores" and "parse" in given:
            raise ValueError("`parse`: there is one parser of several numbers")
        if (self.synthesise and self.retry) or (self.parse_again and not self.synthesise):
            raise ValueError("`parse_again` reads the answer to `synthesise`, and a question with one has no `retry`")
        rated = self.mode in {"rating", "logprob_rating", "listwise_scores"}
        if rated != (self.scale is not None):
            raise ValueError("`scale` is what ratings are given on" if self.scale else f"{self.mode} needs a `scale`")
        if self.scale and self.scale[0] >= self.scale[1]:
            raise ValueError("`scale` goes from the lowest to the highest rating")
        return self

    @model_validator(mode="after")
    def _labels_are_sound(self) -> JudgeCard:
        if self.mode == "logprob_rating":
            low, high = self.scale or (0, 0)
            for label, meant in self.labels.items():
                try:
                    inside = low <= float(meant) <= high
                except ValueError:
                    inside = False
                if not inside:
                    raise ValueError(f"label {label!r} means {meant!r}, which is no rating from {low:g} to {high:g}")
            if len(set(self.numbers.values())) < 2:
                raise ValueError("`labels` name at least two ratings")
            return self
        allowed = MEANT.get(self.mode)
        if allowed is None:
            if self.labels:
                raise ValueError(f"{self.mode} has no `labels`")
            return self
        for label, meant in self.labels.items():
            if meant not in allowed:
                raise ValueError(f"label {label!r} means {meant!r}: one of {', '.join(sorted(allowed))}")
        sides = {meant[0] for meant in self.labels.values()} - {"t"}
        if len(sides) < 2:
            raise ValueError("`labels` need one for each side")
        return self
