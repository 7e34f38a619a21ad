"""How families of checkpoints are shown texts and read: the parts of a scorer card, as data.

What this module does not know: which checkpoint is read so, engines, scorers.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


def typed(separator: str) -> str:
    r"""A separator as somebody typed it in a shell, where `"\n"` passes on two signs: `\n`, `\r` and `\t` are meant.

    >>> typed(r"\n\n"), typed(" ки\n")
    ('\n\n', ' ки\n')
    """
    return separator.replace(r"\n", "\n").replace(r"\r", "\r").replace(r"\t", "\t")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenCard(_Strict):
    """One token of a vocabulary; where both are given, the id must be that text."""

    text: str = ""
    id: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _names_something(self) -> TokenCard:
        if not self.text and self.id is None:
            raise ValueError("a token needs its text or its id")
        return self


class StepsCard(_Strict):
    """How a process reward model is shown a solution step by step, where it is read, and what the reading means."""

    form: Literal["chat", "turns", "pieces", "text"] = "chat"
    """`chat` one assistant turn; `turns` a user turn per step, answered by `sign`; without a template `pieces`, ids
    joined piece by piece, or `text`, tokenised at once."""
    system: str = ""
    """The system turn, where the prompt brings none."""
    bos: bool = False
    """`pieces` and `text`: whether BOS, if the tokenizer has one, opens the text."""
    prompt: str = "{prompt}"
    """`pieces` and `text`: what stands before the first step; `turns`: the first user turn, with `{step}`."""
    step: str = "{step}"
    """A step up to the place that is read; `{n}` is its number from 1."""
    numbered: bool = False
    """Whether "Step n: " is put before steps that do not begin with it."""
    separator: str = ""
    """Tokenised by itself after the step; its last token is read."""
    token: TokenCard | None = None
    """A token that closes each step and is read."""
    after: str = ""
    """What stands between the place that is read and the next step."""
    sign: str = "+"
    """`turns`: what the assistant says after every step; the token before it is read."""

    read: Literal["head", "tokens", "vocabulary_mean"] = "head"
    tokens: tuple[TokenCard, ...] = ()
    """`read = "tokens"`: whose logits are read, in the order of the classes."""
    link: Literal["softmax", "sigmoid", "none"] = "softmax"
    right: tuple[int, ...] = ()
    """Classes that say the step is right; the last one where none is named."""
    neutral: int | None = None
    """The class that says neither; what it counts is the scorer's option `neutral`."""
    aggregate: str = "prod"
    """How its authors turn step scores into one reward."""
    split: Literal["line", "paragraph", "sentence"] = "paragraph"
    """How a response that comes without steps is split, see `rmeval.scorers.splitting`."""

    @model_validator(mode="after")
    def _is_sound(self) -> StepsCard:
        if (self.read == "tokens") != bool(self.tokens):
            raise ValueError('`tokens` are what read = "tokens" reads')
        if self.form == "turns" and (self.token or self.separator or self.after):
            raise ValueError("turns have no separator: the sign stands between the steps")
        if self.form == "text" and (self.token or self.separator):
            raise ValueError("literal text is tokenised at once: write the separator into `step`")
        return self


class PairCard(_Strict):
    """How a pairwise model is shown a prompt and two candidates, and where it is read."""

    form: Literal["marked", "chat"] = "chat"
    """`marked`: prompt and candidates follow each other, each between [CLS] and [SEP] and opened by a token of its own,
    at which the head reads; `chat`: one user turn shows all, and the logits of two tokens are read at its end."""
    opening: str = ""
    """What stands before the turns of the prompt."""
    system: str = "{content}"
    user: str = "{content}"
    """How a turn is written; `{n}` is the number of the exchange, from 1."""
    assistant: str = "{content}"
    between: str = "\n"
    closing: str = ""
    """What stands after the turns."""
    candidate: str = "{content}"
    earlier: bool = False
    """Whether the answers of earlier exchanges stand before each candidate, and not in the prompt."""
    text: str = ""
    """`chat`: the user turn, with `{prompt}`, `{first}` and `{second}`."""
    tokens: tuple[TokenCard, ...] = ()
    """`chat`: the tokens that name the first and the second candidate; `marked`: those that open prompt, first and
    second candidate."""
    bos: bool = True
    """`chat`: whether the BOS that the template writes is read."""

    @model_validator(mode="after")
    def _is_sound(self) -> PairCard:
        wanted = {"chat": 2, "marked": 3}[self.form]
        if len(self.tokens) != wanted:
            raise ValueError(f"form {self.form!r} needs {wanted} `tokens`")
        if self.form == "chat" and not all(f"{{{name}}}" in self.text for name in ("prompt", "first", "second")):
            raise ValueError("`text` must show {prompt}, {first} and {second}")
        return self


class HeadCard(_Strict):
    """A reward head in layers of its own, see `rmeval.engines.layers`."""

    linear: tuple[str, ...] = ()
    """Names of its linear layers in the checkpoint, in order, ReLU between them."""
    backbone: Literal["", "internlm2"] = ""
    gated: bool = False
    labels: tuple[str, ...] = ()
    """process: what its outputs are, in order; wrong and right where nothing is said."""
