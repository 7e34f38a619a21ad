r"""Harmony conversations as text: `<|start|>role<|channel|>channel<|message|>content<|end|>`, rendered and parsed.

An assistant's turn is several messages: `analysis` (its reasoning), `commentary` (calls of tools) and `final` (the
answer). A reward model judges the answer, so `final_text` keeps that channel alone. The format is OpenAI's, as its
published guide for the gpt-oss models describes it; their package needs its vocabulary from the network, this does not.

What this module does not know: tokens; the marks become ids wherever a tokenizer knows them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

ROLES = ("system", "developer", "user", "assistant")
CHANNELS = ("analysis", "commentary", "final")

_MARKS = ("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>")
_MARK = re.compile("|".join(map(re.escape, _MARKS)))
_OPENS = re.compile(r"\s*(<\|start\|>assistant\b[^<]*)?<\|channel\|>")
_ENDS = {"<|end|>": "end", "<|call|>": "call", "<|return|>": "return"}


@dataclass(frozen=True, slots=True)
class HarmonyMessage:
    """One message."""

    role: str
    content: str
    channel: str | None = None
    recipient: str | None = None
    """Whom it is for: a tool, such as `functions.get_weather`."""
    constraint: str | None = None
    """What a call's content is: `json`."""
    end: str = "end"
    """`end`, `call` (a tool is asked), `return` (the model stopped here), or `none` where the text just stops."""


def render(messages: Sequence[HarmonyMessage], *, purpose: str = "completion") -> str:
    """The conversation as text.

    For `completion` the next turn of the assistant is opened, and reasoning that an answer already follows is left out,
    as the model itself would see it. For `training` a last `final` message ends in `<|return|>`, which is what the
    model has to learn to write; reasoning is left out of the turns before the last user message alone.

    >>> render([HarmonyMessage("user", "2 + 2?")])
    '<|start|>user<|message|>2 + 2?<|end|><|start|>assistant'
    """
    if purpose not in {"completion", "training"}:
        raise ValueError(f"purpose is completion or training, found {purpose!r}")
    asked = max((i for i, one in enumerate(messages) if one.role == "user"), default=-1)
    answered = max((i for i, one in enumerate(messages) if one.channel == "final"), default=-1)
    past = answered if purpose == "completion" else min(asked, answered)
    kept = [one for i, one in enumerate(messages) if one.channel != "analysis" or i > past]
    texts = [_text(one) for one in kept]
    if purpose == "completion":
        return "".join(texts) + "<|start|>assistant"
    if kept and (kept[-1].role, kept[-1].channel) == ("assistant", "final") and kept[-1].end != "call":
        texts[-1] = texts[-1].removesuffix("<|end|>").removesuffix("<|return|>") + "<|return|>"
    return "".join(texts)


def _text(one: HarmonyMessage) -> str:
    header = one.role + (f" to={one.recipient}" if one.recipient and one.role != "assistant" else "")
    if one.channel:
        header += f"<|channel|>{one.channel}"
        if one.recipient and one.role == "assistant":
            header += f" to={one.recipient}"
    if one.constraint:
        header += f" <|constrain|>{one.constraint}"
    # a stop that the model made is history once the conversation goes on
    return f"<|start|>{header}<|message|>{one.content}" + ("" if one.end == "none" else f"<|{one.end}|>")


def parse(text: str) -> tuple[HarmonyMessage, ...]:
    """The messages of a text, which may begin inside the assistant's turn, as a completion does.

    Raises `ValueError` with the place where the format is broken.

    >>> [(m.channel, m.content) for m in parse("<|channel|>analysis<|message|>Add.<|end|><|start|>assistant"
    ...                                        "<|channel|>final<|message|>4<|return|>")]
    [('analysis', 'Add.'), ('final', '4')]
    """
    found: list[HarmonyMessage] = []
    at = len(text) - len(text.lstrip())
    while at < len(text):
        if text.startswith("<|start|>", at):
            at += len("<|start|>")
        elif found:
            raise ValueError(f"Harmony text: <|start|> is expected at character {at}, found {text[at : at + 20]!r}")
        body = text.find("<|message|>", at)
        if body < 0:
            if found and text[at:].strip() == "assistant":  # the opening of a turn that is still to be written
                return tuple(found)
            raise ValueError(f"Harmony text: no <|message|> after character {at}")
        stop = _MARK.search(text, body + len("<|message|>"))
        content = text[body + len("<|message|>") : stop.start() if stop else len(text)]
        if stop and stop[0] not in _ENDS:
            raise ValueError(f"Harmony text: {stop[0]} inside a message, at character {stop.start()}")
        found.append(_message(text[at:body], content, _ENDS[stop[0]] if stop else "none", at))
        at = stop.end() if stop else len(text)
        if at < len(text) and not text[at:].strip():
            break
    return tuple(found)


def _message(header: str, content: str, end: str, at: int) -> HarmonyMessage:
    recipient = re.search(r"\bto=(\S+?)(?=\s|<|$)", header)
    constraint = re.search(r"<\|constrain\|>\s*(\S+)", header)
    channel = re.search(r"<\|channel\|>\s*(\w+)", header)
    role = re.match(r"\s*([\w.:-]+)", header)  # a tool's role is its name
    if channel and channel[1] not in CHANNELS:
        raise ValueError(f"Harmony text: channel {channel[1]!r} at character {at}; known are {', '.join(CHANNELS)}")
    return HarmonyMessage(
        role[1] if role else "assistant",
        content,
        channel[1] if channel else None,
        recipient[1] if recipient else None,
        constraint[1] if constraint else None,
        end,
    )


def is_harmony(text: str) -> bool:
    """Whether a response is written in Harmony's channels.

    >>> is_harmony("<|channel|>final<|message|>4"), is_harmony("The mark <|channel|> opens a channel.")
    (True, False)
    """
    return _OPENS.match(text) is not None


def final_text(text: str, *, analysis: bool = False) -> str:
    r"""The answer in a response: the `final` channel of a Harmony one, any other as it is.

    With `analysis` the reasoning stands before it, a blank line between. Raises `ValueError` where a Harmony response
    has no final channel: there is no answer to score.

    >>> final_text("<|channel|>analysis<|message|>Add.<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>")
    '4'
    """
    if not is_harmony(text):
        return text
    messages = parse(text)
    answers = [one.content for one in messages if one.channel == "final"]
    if not answers:
        raise ValueError("a Harmony response without a final channel: it holds no answer to score")
    thoughts = [one.content for one in messages if one.channel == "analysis"] if analysis else []
    return "\n\n".join([*thoughts, *answers])
