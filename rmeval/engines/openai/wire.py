"""Requests as bodies of `/v1/chat/completions`, and what such a server answers as replies: plain dicts, no network.

A body holds nothing but what decides the answer, so equal requests are equal bodies, byte for byte, whoever sends them.
Nothing is parsed out of a text here: what a judge wrote is handed on as it came.

What this module does not know: how a body travels, what is tried again, what a verdict is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rmeval.errors import UsageError
from rmeval.types import Chat, Finish, Message, Reply, Request, Sampling

Limit = Literal["max_tokens", "max_completion_tokens"]

OMISSIBLE = ("temperature", "top_p", "seed", "response_format")
"""Fields that some servers or models refuse."""


CUT = ("length", "model_length", "max_tokens")
"""How servers say that the token limit ended a text: OpenAI's word, Mistral's, and that of gateways."""
_LONGEST_NAME = 200
"""Characters of a model's name that are kept with each reply."""
_ROUNDED = 1e-3
"""How far above 0 a log-probability may be for its rounding."""
_TOGETHER = 0.02
"""And that of several tokens, where a server rounds to two places."""
_MOST_TOKENS = 2**40
"""A greater count is none."""


class Unreadable(Exception):  # noqa: N818 - it is about an answer
    """An answer of status 200 that holds no reply. `again` says whether asking again may help."""

    def __init__(self, text: str, *, again: bool = True, error: object = None) -> None:
        super().__init__(text)
        self.again = again
        self.error = error
        """What stands under `error` in the answer."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where servers differ in how they want to be asked."""

    limit: Limit = "max_tokens"
    """What the limit of written tokens is called."""
    top_logprobs: int = 20
    """How many of the likeliest next tokens are asked for; servers allow 20 and some fewer."""
    omit: frozenset[str] = frozenset()
    """Fields that are left out, of `OMISSIBLE`."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the server's own that are added, such as `reasoning_effort`."""

    def without(self, name: str) -> Dialect:
        """What to say instead, to a server that refuses this field.

        >>> Dialect().without("max_tokens").limit
        'max_completion_tokens'
        >>> sorted(Dialect().without("response_format").omit)
        ['response_format']
        """
        if name == "max_tokens":
            return replace(self, limit="max_completion_tokens")
        return replace(self, omit=self.omit | {name})


def check(request: Request) -> None:
    """Raise `UsageError` for what no such server can be asked."""
    if request.at != "next" or request.read not in ("text", "next_logprobs"):
        raise UsageError(
            f"a server behind a base URL reads no {request.read} at {request.at}: it writes texts and lists the "
            "log-probabilities of next tokens. Run the weights here: --engine transformers"
        )
    if request.role != "policy":
        raise UsageError("a server behind a base URL runs one model: there is no reference model to ask")
    _messages(request)
    for token in request.tokens:
        if not token.text or token.id is not None or token.role is not None:
            raise UsageError("a server lists next tokens by their text: it cannot be asked for a token by id or role")


def body(request: Request, model: str, dialect: Dialect) -> dict[str, Any]:
    """The JSON body that asks for a request.

    >>> hi = Request((Chat((Message("user", "Hi"),)),), at="next", read="text", sampling=Sampling(max_tokens=8, vote=1))
    >>> body(hi, "m", Dialect())  # doctest: +NORMALIZE_WHITESPACE
    {'model': 'm', 'messages': [{'role': 'user', 'content': 'Hi'}], 'max_tokens': 8, 'temperature': 0.0, 'top_p': 1.0,
     'seed': 1}
    """
    sampling = request.sampling or Sampling()
    asked: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in _messages(request)],
        dialect.limit: sampling.max_tokens if request.read == "text" else 1,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed + sampling.vote,
    }
    if request.read == "next_logprobs":
        asked |= {"logprobs": True, "top_logprobs": dialect.top_logprobs}
    messages = _messages(request)
    if messages and messages[-1].role == "assistant":  # to go on with it: vLLM's and SGLang's words for that
        asked |= {"continue_final_message": True, "add_generation_prompt": False}
    if request.read == "text" and sampling.schema:
        schema = {"name": "answer", "strict": True, "schema": json.loads(sampling.schema)}
        asked |= {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {name: value for name, value in asked.items() if name not in dialect.omit} | dict(dialect.extra)


def read(answer: object, request: Request) -> Reply:
    """The reply in the decoded body of an answer of status 200. Raises `Unreadable` where there is none.

    A text that was cut by the token limit is no failure here, an empty one included: `finish` says it. A filter's text
    is `refused`, and no text at all is `empty`.
    """
    if not isinstance(answer, Mapping):
        raise Unreadable(f"the answer is no JSON object but {_short(answer)}")
    choices, error = answer.get("choices"), answer.get("error")
    if error or not isinstance(choices, Sequence) or not choices or not isinstance(choices[0], Mapping):
        raise Unreadable(f"error in an answer of status 200: {_short(error)}" if error else "no choices", error=error)
    choice = choices[0]
    ended = str(choice.get("finish_reason")).lower()
    if choice.get("error") or ended in ("error", "abort"):
        error = choice.get("error")
        raise Unreadable(f"the server broke off: {_short(error)}", error=error)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise Unreadable("a choice without a message")
    refused = bool(message.get("refusal")) or ended.startswith("content_filter")
    finish: Finish = "refusal" if refused else "length" if ended in CUT else "stop"
    said = Reply(
        text=_text(message.get("content")),
        finish=finish,
        reason="refused" if refused else None,
        n_tokens=usage(answer)[0] or 0,
        n_written=usage(answer)[1] or 0,
        served=str(answer.get("model") or "")[:_LONGEST_NAME],
    )
    if refused:
        return said
    if request.read == "next_logprobs":
        return _with_logprobs(said, choice.get("logprobs"), request)
    return said if said.text.strip() or finish == "length" else replace(said, reason="empty")


def usage(answer: object) -> tuple[int | None, int | None]:
    """Tokens of the prompt and tokens written as the server counts them, None where it does not say.

    >>> usage({"usage": {"prompt_tokens": 12, "completion_tokens": 3}}), usage({"usage": None})
    ((12, 3), (None, None))
    """
    said = answer.get("usage") if isinstance(answer, Mapping) else None
    if not isinstance(said, Mapping):
        return None, None
    counts = (said.get("prompt_tokens"), said.get("completion_tokens"))
    read, written = (n if type(n) is int and 0 <= n <= _MOST_TOKENS else None for n in counts)
    return read, written


def _messages(request: Request) -> tuple[Message, ...]:
    if len(request.parts) == 1 and isinstance(request.parts[0], Chat):
        messages = tuple(m for m in request.parts[0].messages if isinstance(m, Message))
        if len(messages) == len(request.parts[0].messages):
            return messages
    raise UsageError("a server takes one conversation of plain turns: this scorer asks token by token, for an engine")


def _text(content: object) -> str:
    """The text of a message, which a few servers give in parts, its reasoning among them."""
    if isinstance(content, list):
        said = ("text", "output_text")
        parts = [p.get("text") for p in content if isinstance(p, Mapping) and p.get("type", "text") in said]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _with_logprobs(said: Reply, logprobs: object, request: Request) -> Reply:
    """The reply with the log-probability of each token asked for, and the bound for those not listed."""
    places = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(places, list):
        raise Unreadable("the server lists no log-probabilities for this model: use a protocol of texts", again=False)
    if not places:
        return replace(said, finish="stop", reason="empty")
    chosen = _listed([places[0]])
    likeliest = _listed(places[0].get("top_logprobs")) if isinstance(places[0], Mapping) else []
    if not chosen and not likeliest:
        raise Unreadable("the server lists no log-probabilities that can be read", again=False)
    # a drawn token may stand in the list though it is not among the likeliest: it bounds nothing
    drawn = {surface for surface, _ in chosen}
    bounds = [value for surface, value in likeliest if surface not in drawn] or [_beside(v) for _, v in chosen]
    listed: dict[str, float] = {}
    for surface, value in (*likeliest, *(one for one in chosen if one[0] not in dict(likeliest))):
        # two tokens of one surface form (with and without the vocabulary's mark for a space) are one answer
        listed[surface] = _logaddexp(listed[surface], value) if surface in listed else value
    if max(listed.values()) > _TOGETHER:
        raise Unreadable("the server lists probabilities of one answer that come to more than 1", again=False)
    listed = {surface: min(value, 0.0) for surface, value in listed.items()}
    values = tuple(listed.get(_surface(token.text), math.nan) for token in request.tokens)
    return replace(said, values=(values,), floor=min(bounds), finish="stop")  # one token: the limit means nothing here


def _listed(entries: object) -> list[tuple[str, float]]:
    """(surface form, log-probability) of the entries of a list that are readable."""
    found = []
    for entry in entries if isinstance(entries, list) else ():
        token, value = (entry.get("token"), entry.get("logprob")) if isinstance(entry, Mapping) else (None, None)
        if isinstance(token, str) and isinstance(value, int | float) and value <= _ROUNDED:  # false for NaN
            # a whole number may be beyond all floats
            found.append((_surface(token), min(float(value), 0.0) if value > -1e300 else -math.inf))
    return found


def _surface(token: str) -> str:
    """A token as text, for servers that show the vocabulary's own mark for a space.

    >>> _surface("▁A"), _surface("ĠA"), _surface(" A")
    (' A', ' A', ' A')
    """
    return f" {token[1:]}" if token[:1] in ("▁", "Ġ") else token


def _beside(value: float) -> float:
    """The most that any other token has beside the one drawn, where a server lists that one alone.

    >>> round(_beside(math.log(0.9)), 6) == round(math.log(0.1), 6), _beside(math.log(0.2)) == math.log(0.2)
    (True, True)
    """
    return min(value, math.log(max(-math.expm1(value), 1e-9)))


def _logaddexp(a: float, b: float) -> float:
    high, low = max(a, b), min(a, b)
    return high if high == -math.inf else high + math.log1p(math.exp(low - high))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:200]}..."
