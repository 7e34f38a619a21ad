"""The nouns of rmeval: frozen, slotted, documented field by field.

Everything else in the package is functions between these types. The life of a score:

    card -> reader -> Example -> View -> scorer -> Request -> engine -> Reply -> Score -> Judgement -> rule -> Metric

What this module does not know: anything else of ours. It imports the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"

Arity: TypeAlias = Literal["one", "two", "all"]
"""How many candidates a scorer looks at together: one, every pair in both orders, or all of them."""

NAN = math.nan

UNREAD = frozenset(("unparsed", "refused", "empty", "low_verdict_mass"))
"""Reasons that mean the judge answered and no verdict was found in it: not a fault of the instrument."""
SKIPPED = "skipped"
"""The reason of a text over the limit that was to be left out: no failure, and the result is incomplete."""

Orders: TypeAlias = Literal["single", "both", "all", "latin"]
"""In which orders a judge is shown candidates: one drawn by hash, that one and its reverse, every permutation, or the k
cyclic shifts of the one drawn."""


class NoText(Exception):  # noqa: N818 - it is asked for, not an error of anyone
    """A score-only example was asked for its text."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str
    """The text of the turn, without any chat-template markup."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One response to the prompt, without anything that says how good it is."""

    body: str | None
    """The whole response, or None where only published scores of it are at hand; read it as `text`."""
    steps: tuple[str, ...] = ()
    """The response split into reasoning steps, where the data set has them."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Facts about the response that are not labels, such as `style`, or the `model` that wrote it."""

    @property
    def text(self) -> str:
        """The response. Raises `NoText` for a score-only candidate."""
        if self.body is None:
            raise NoText
        return self.body


@dataclass(frozen=True, slots=True)
class Labels:
    """The label side of an example: it meets the scores in a metric and nowhere before."""

    grades: tuple[float, ...]
    """One grade per candidate, higher is better. A pair is (1, 0), best-of-4 is (1, 0, 0, 0)."""
    step_grades: tuple[tuple[int, ...], ...] = ()
    """Per candidate, per step: 1 right, 0 wrong, -1 not labelled. Empty where there are no step labels."""
    comparisons: tuple[tuple[int, int], ...] = ()
    """Pairs of candidates that the official metric compares, where the data set lists them (PPE); may repeat."""
    votes: tuple[int, ...] = ()
    """Per annotator, the candidate preferred, -1 for a tie. Empty where only the outcome is published."""
    marks: tuple[str, ...] = ()
    """Per candidate, what the data set calls it where that tells the right one (RewardMATH's `solution_reference`)."""
    answers: tuple[int, ...] = ()
    """Per candidate, the number of the final answer it came to, counted from 0 as they appear; equal answers share one.
    Empty where the data set does not say. What majority votes count."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with its candidates and their labels, in the data set's own column order."""

    id: str
    """Unique in the suite: the data set's own id, else `<official subset>/<0-based row>`."""
    prompt: tuple[Message, ...]
    candidates: tuple[Candidate, ...]
    labels: Labels
    subset: str
    """The official subset the example belongs to."""
    group: str = ""
    """The official section, domain or category above the subset ("" where there is none)."""
    cluster: str = ""
    """Examples that share a prompt share a cluster: the unit that intervals resample."""
    slices: tuple[str, ...] = ()
    """Further groups, which may overlap, that get a number of their own: `language: de`, `hard prompt`."""

    @classmethod
    def pair(cls, id: str, prompt: str, chosen: str, rejected: str, subset: str = "all") -> Example:  # noqa: A002
        """One user turn with a chosen and a rejected response, for suites that are a function.

        >>> Example.pair("t-1", "Where is my refund?", "On its way.", "No.").labels.grades
        (1.0, 0.0)
        """
        two = (Candidate(chosen), Candidate(rejected))
        return cls(id, (Message("user", prompt),), two, Labels((1.0, 0.0)), subset)


@dataclass(frozen=True, slots=True)
class View:
    """What a scorer sees of an example: no grades, no subset, and an order that the labels cannot influence."""

    id: str
    prompt: tuple[Message, ...]
    candidates: tuple[Candidate, ...]
    """The candidates shown, in the order shown (a single one for arity `one`)."""
    order: tuple[int, ...]
    """Positions of the candidates shown in the example's label-free order (by hash of id and text)."""
    vote: int = 0
    """Which of several repeated readings this is, from 0."""
    by_step: bool = False
    """Whether the suite asks for a score per step, so that a scorer which can give either gives these."""


@dataclass(frozen=True, slots=True)
class Text:
    """A part of a request: literal text, tokenised as it stands, no special tokens added."""

    text: str
    marks: tuple[int, ...] = ()
    """Places to read, in characters: the token that holds the character before each."""


@dataclass(frozen=True, slots=True)
class Special:
    """A part of a request: one token, by its text, its id, or its role in the tokenizer (nothing where it has none)."""

    text: str = ""
    id: int | None = None
    role: Literal["bos", "eos"] | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A part of a request: a place to read, the token before it."""

    ahead: int = 0
    """How many tokens further on the place is: 1 is the token after the mark, such as the one that closes a turn."""


Piece: TypeAlias = Text | Special | Mark


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a conversation given piece by piece: the pieces become ids one by one, so that none can merge."""

    role: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Chat:
    """A part of a request: a conversation that the engine renders with the model's own chat template."""

    messages: tuple[Message | Turn, ...]
    bos: bool = True
    """Whether a BOS that the template writes before plain messages is read: some official scripts strip it."""


Part: TypeAlias = Chat | Piece

At: TypeAlias = Literal["last", "marks", "completion", "next"]
"""Where to read: the last token of the text, every mark, every token of the conversation's last turn, or the place
after the conversation at which the assistant would begin to write, or go on where the last turn is its own."""

Read: TypeAlias = Literal["head", "tokens", "vocabulary_mean", "next_logprob", "next_logprobs", "text"]
"""What to read there: the head's outputs; of a language model the logits of named tokens, the mean of all logits, the
log-probability of the token itself as seen from the one before it, the log-probabilities of named tokens as the next
one (`at` next), or the text that the model writes (`at` next)."""

Finish: TypeAlias = Literal["stop", "length", "refusal"]
"""Why a model stopped writing: it was done, the token limit, or a filter."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a language model is to write."""

    max_tokens: int = 512
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    seed: int = 0
    """Draws the tokens where the temperature is above 0."""
    vote: int = 0
    """Which of several repeated readings this is: each is asked for by itself and stored by itself."""
    schema: str = ""
    """JSON Schema, as JSON, that the text is to follow where the engine can hold a model to it; empty for free text."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a scorer asks of an engine. Its canonical JSON, with the engine fingerprint, is the store key."""

    parts: tuple[Part, ...]
    """Tokenised one by one and concatenated as ids."""
    at: At = "last"
    read: Read = "head"
    tokens: tuple[Special, ...] = ()
    """The tokens whose logits or log-probabilities are read, in the order of the reply's channels."""
    sampling: Sampling | None = None
    """How the text is written, for `read` text."""
    role: Literal["policy", "reference"] = "policy"
    """Which of two models is asked."""
    group: str = ""
    """The prompt group, so that an engine can share prefixes. Not part of the key."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What an engine read, raw: links and aggregation belong to the scorer and the metric."""

    values: tuple[tuple[float, ...], ...] = ()
    """[positions, channels]; for a sequence classifier one position and one channel per label. There are no channels at
    a place that a truncation took away, or where no token ends."""
    reason: str | None = None
    """Why there are no values and no text: `truncated`, `engine_error`, `api_error`, ... None when all is well."""
    n_tokens: int = 0
    """Length of the tokenised text before any truncation; a server's own count of the prompt."""
    truncated: bool = False
    """Whether the text was longer than the model was allowed to read."""
    text: str = ""
    """What the model wrote."""
    finish: Finish = "stop"
    n_written: int = 0
    """Tokens that the model wrote."""
    floor: float | None = None
    """Where a server lists only its likeliest tokens: the smallest log-probability listed, which bounds every token
    whose value is NaN. None where every log-probability is known."""
    served: str = ""
    """The model that a server says has answered; empty for weights of our own."""
    attempts: int = 1
    """How often it was asked for until it came."""


@dataclass(frozen=True, slots=True)
class TextFacts:
    """What one planned text looks like as tokens; `rmeval.engines.hygiene.report` sums them up over a run."""

    tokens: int
    """Tokens before any truncation."""
    bos: int
    """BOS tokens in a row at the start."""
    eos: int
    """EOS tokens anywhere."""
    template: Literal["checkpoint", "ours", "none"] = "none"
    """Whose chat template wrote it; none for literal text."""
    shows_response: bool | None = None
    """Whether the response stands where the template puts it; None where the text ends in no response."""
    shows_prompt: bool | None = None
    """Whether the last user turn is in it; None where there is none."""
    closed: bool | None = None
    """Whether an end-of-turn, EOS or separator token follows the response; None where that cannot be said."""
    past_closing: int | None = None
    """Tokens between the closing token and the end of the text: 1 where a template writes a line break after it."""
    scored: str | None = None
    """The token that is read, as text; None where the text is not read, or the model pools by a rule of its own."""
    over: bool = False
    """Whether it is longer than the limit."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How an engine will go through a list of requests."""

    batches: tuple[tuple[int, ...], ...]
    """Indices of the requests, batch by batch."""
    tokens: tuple[int, ...]
    """Tokens per request, before any truncation."""
    settled: Mapping[int, Reply]
    """Requests that need no weights to answer: too long, or refused by the chat template."""
    twins: Mapping[int, int] = field(default_factory=dict)
    """Requests that are the same tokens as an earlier one, and so share its reply to the last bit."""
    texts: tuple[TextFacts, ...] = ()
    """What the texts look like, those that the template refused left out; empty for an engine that sees no tokens."""


@dataclass(frozen=True, slots=True)
class Score:
    """A scorer's answer about one view. A missing score is NaN with a reason, never 0."""

    value: float = NAN
    reason: str | None = None
    """Machine-readable: `truncated template_refused engine_error api_error timeout non_finite not_recorded no_steps`,
    `SKIPPED` or one of `UNREAD`."""
    n_tokens: int = 0
    truncated: bool = False
    steps: tuple[float, ...] = ()
    """One score per step of the one candidate shown, NaN where missing; `value` may hold what they come to."""
    step_reasons: tuple[str | None, ...] = ()
    """Why each step's score is missing, None where it is not; empty where all are there."""
    prefixes: tuple[float, ...] = ()
    """The reward read after 10 %, 20 %, ... 100 % of the response's tokens, where the scorer reads every token."""
    verdicts: tuple[Verdict, ...] = ()
    """A judge's reading of the candidates shown, their `order` as in the view."""
    ratings: tuple[float, ...] = ()
    """A judge's number for each candidate shown, NaN where it could not be read and `reason` says why."""
    marked: bool = False
    """Whether what a judge was shown holds a verdict, a delimiter or a template's field; a verdict says so itself."""

    @property
    def why(self) -> str | None:
        """The reason that stands for the candidate: its own, else that of its first missing step.

        >>> Score(steps=(0.5, NAN), step_reasons=(None, "non_finite")).why
        'non_finite'
        """
        return self.reason or next((reason for reason in self.step_reasons if reason), None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One reading of a judge: which of the candidates shown won."""

    order: tuple[int, ...]
    """Candidate indices (data set order) as shown: "A" is order[0]."""
    verdict: str | None
    """`A`..`Z`, `A>>B`, `A>B`, `A=B`, `B>A`, `B>>A`, `tie`, or None where it could not be read; of a critic, the
    0-based number of the first wrong step, or `-1` for none."""
    reason: str | None = None
    """Why the verdict is None: one of `UNREAD`, `truncated`, `api_error`, ..."""
    p: tuple[float, ...] | None = None
    """Probability per candidate shown, where the judge gave one."""
    vote: int = 0
    """Which of several readings of the same order this is, from 0."""
    logmass: tuple[float, ...] | None = None
    """Log of the probability that the judge's next token names each candidate shown, and last a tie where the protocol
    has one: not normalised, so that what is missing to 1 was on other tokens."""
    bounded: bool = False
    """Whether one of them was not listed and stands at its upper bound."""
    marked: bool = False
    """Whether what was shown holds a verdict, a delimiter or a template's field, as if to be taken for the judge's."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Published or stored outputs for one example, candidates in data set order (see `scorers.replay`)."""

    scores: tuple[float, ...] = ()
    step_scores: tuple[tuple[float, ...], ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    ratings: tuple[tuple[float, ...], ...] = ()
    reasons: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """One example with its scores: a row of the samples file, and all that a metric ever sees."""

    id: str
    subset: str
    group: str
    cluster: str
    grades: tuple[float, ...]
    step_grades: tuple[tuple[int, ...], ...] = ()
    scores: tuple[float, ...] = ()
    """One per candidate, NaN where missing; empty when verdicts, ratings or step scores stand instead."""
    step_scores: tuple[tuple[float, ...], ...] = ()
    """Per candidate, one score per step, NaN where missing."""
    step_reasons: tuple[tuple[str | None, ...], ...] = ()
    """Per candidate, per step, why its score is missing; empty where every step of the example has one."""
    prefix_scores: tuple[tuple[float, ...], ...] = ()
    """Per candidate, the reward after each tenth of the response, where the scorer reads every token."""
    verdicts: tuple[Verdict, ...] = ()
    ratings: tuple[tuple[float, ...], ...] = ()
    """Per candidate, one number per vote."""
    reasons: tuple[str | None, ...] = ()
    """Per candidate, why its score is missing (None where it is not)."""
    n_tokens: tuple[int, ...] = ()
    truncated: tuple[bool, ...] = ()
    marked: tuple[bool, ...] = ()
    """Per candidate that a judge rated, whether what was shown could be taken for the judge's own answer; empty where
    none could. Verdicts say so themselves."""
    lengths: tuple[int, ...] = ()
    """Characters of each candidate; empty for score-only examples."""
    markup: tuple[tuple[int, int, int], ...] = ()
    """Per candidate, its (headings, list items, bold spans); empty for score-only examples."""
    models: tuple[str, ...] = ()
    """Per candidate, who wrote it; empty where the suite does not need to know."""
    comparisons: tuple[tuple[int, int], ...] = ()
    """See `Labels`."""
    votes: tuple[int, ...] = ()
    """See `Labels`."""
    slices: tuple[str, ...] = ()
    """See `Example`."""
    answers: tuple[int, ...] = ()
    """See `Labels`."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number about a run, with what is needed to trust it."""

    name: str
    value: float | None
    """None where the value is undefined or withheld; `note` says why."""
    subset: str | None = None
    """The subset or section it is about; None for the whole suite."""
    ci: tuple[float, float] | None = None
    """95 % interval, clustered by prompt; None where it cannot be estimated."""
    n: int = 0
    """Examples that entered the value."""
    n_missing: int = 0
    """Examples that should have entered it and have no score."""
    higher_is_better: bool = True
    note: str = ""
    """The rule in force, in words (ties, weights, parse rule), or why the value is None."""
    unit: Literal["fraction", "number"] = "fraction"
    """`fraction` for what a table may print as per cent; `number` for temperatures, losses, correlations, ..."""


Conversation: TypeAlias = Generator[list[Request], list[Reply], Score]


@dataclass(frozen=True, slots=True)
class Showing:
    """How candidates are to be shown to a scorer; the runner draws the orders."""

    orders: Orders = "both"
    votes: int = 1
    """Readings per order."""
    seed: int = 0
    protocol: str = ""
    """What the scorer asks, by name: with the seed and the example's id it decides the order drawn."""
