"""What to make of a fault: ask again and when, give up this request, or stop the run.

| the server | we |
|---|---|
| 408, 409, 429, 5xx, no connection, silence, a torn or foreign answer of status 200 | ask again |
| 3xx, 401, 402, 403, 404, no quota left, a setting that the model refuses | stop the run |
| 400, 413, 422, any other | give up this request: `api_error`; too long a prompt: `truncated`; a filter: `refused` |

What this module does not know: sockets, clocks that tick, what is asked.
"""

from __future__ import annotations

import email.utils
import math
import random
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from rmeval.engines.openai.wire import OMISSIBLE, Unreadable

Scope = Literal["again", "item", "run"]

BACKOFF_LIMIT = 30.0
"""Seconds that a wait of our own choosing may last; a server may ask for more."""

_NO_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated")
_FILTERED = ("content_filter", "content_policy_violation", "responsibleaipolicyviolation", "data_inspection_failed")
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum model length|max_model_len|prompt is too long|too many (input )?tokens",
    re.IGNORECASE,
)
_TOO_MUCH_ASKED = re.compile(
    r"max_(completion_)?tokens\W{0,2}\d+ (cannot be|is) (greater|larger) than|max_(completion_)?tokens is too large",
    re.IGNORECASE,
)
"""vLLM's and OpenAI's words for more tokens to be written than the model can hold at all."""
_NO_SCHEMA = re.compile(r"response_format|json_schema|structured output|guided|grammar", re.IGNORECASE)
_REFUSES = re.compile(r"unsupported|unrecogni[sz]ed|not support|not permitted|unknown|extra", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a call brought no reply."""

    scope: Scope
    """Ask again; give up this request; stop the run."""
    reason: Literal["api_error", "timeout", "truncated", "refused"]
    """Of the reply, should it be the last word."""
    kind: str
    """A few words that are the same for all faults of the kind: `HTTP 429 rate_limit_exceeded`."""
    text: str = ""
    """What the server said."""
    after: float | None = None
    """Seconds that the server asks to wait."""
    shared: bool = False
    """Whether it is about all calls, so that all wait."""
    refuses: str = ""
    """A field of the request that the server does not take."""

    def __str__(self) -> str:
        asks = f" (asks to wait {self.after:g} s)" if self.after else ""
        return f"{self.kind}: {self.text}{asks}" if self.text else f"{self.kind}{asks}"


def of_status(status: int, headers: Mapping[str, str], answer: object, now: datetime) -> Fault:
    """The fault in an answer that is no 200. `answer` is its decoded JSON, or its text; `now` is aware of its zone.

    >>> from datetime import UTC
    >>> wall = datetime(2026, 11, 22, tzinfo=UTC)
    >>> of_status(429, {"retry-after": "7"}, {"error": {"code": "rate_limit_exceeded"}}, wall)  # doctest: +ELLIPSIS
    Fault(scope='again', reason='api_error', kind='HTTP 429 rate_limit_exceeded', text='', after=7.0, shared=True, ...)
    >>> of_status(400, {}, {"error": {"code": "context_length_exceeded"}}, wall).reason
    'truncated'
    """
    code, said, param = _said(answer)
    kind, text = f"HTTP {status} {code}".strip(), said
    if code in _NO_QUOTA:
        return Fault("run", "api_error", kind, text)
    if status in (408, 409, 429) or status >= 500:
        return Fault("again", "api_error", kind, text, retry_after(headers, now), shared=status == 429)
    if 300 <= status < 400:
        return Fault("run", "api_error", kind, f"the server sends its callers on to {_line(headers.get('location'))}")
    if status in (401, 402, 403):
        return Fault("run", "api_error", kind, text)
    if status == 404:
        hint = "the server knows no such model, or no such address: a base URL mostly ends in /v1"
        return Fault("run", "api_error", kind, f"{text} ({hint})" if text else hint)
    if code.lower() in _FILTERED:
        return Fault("item", "refused", kind, text)
    if _TOO_MUCH_ASKED.search(said):  # whatever the prompt, so it would be refused every time
        hint = "the server writes less than that: lower -a judge.max_tokens, or start it with a longer context"
        return Fault("run", "api_error", kind, f"{text} ({hint})")
    if _TOO_LONG.search(f"{code} {said}"):
        return Fault("item", "truncated", kind, text)
    refuses = _refused_field(param, said) if status in (400, 422) else ""
    if refuses and refuses not in ("response_format", "max_tokens"):
        # it would be refused every time
        hint = f"leave it out: -a engine.omit='[\"{refuses}\"]'" if refuses in OMISSIBLE else "use a protocol of texts"
        return Fault("run", "api_error", kind, f"{text} ({hint})")
    return Fault("item", "api_error", kind, text, refuses=refuses)


def of_answer(fault: Unreadable, now: datetime) -> Fault:
    """The fault in an answer of status 200 that holds no reply: by the status it names, where it names one."""
    code = fault.error.get("code") if isinstance(fault.error, Mapping) else None
    if isinstance(code, int) and 400 <= code < 600:
        return of_status(code, {}, {"error": fault.error}, now)
    named = _said({"error": fault.error})[0]
    scope: Scope = "run" if named in _NO_QUOTA else "again" if fault.again else "item"
    return Fault(scope, "api_error", f"unreadable answer {named}".strip(), _line(fault))


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a server asks to wait, None where it does not or what it says makes no sense.

    >>> from datetime import UTC
    >>> wall = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
    >>> [retry_after({"retry-after": v}, wall) for v in ("1.5", "inf", "-1", "soon", "Sun, 22 Nov 2026 12:00:30 GMT")]
    [1.5, None, None, None, 30.0]
    >>> retry_after({"retry-after-ms": "250", "retry-after": "1"}, wall)
    0.25
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        said = headers.get(name)
        if said is None:
            continue
        try:
            seconds = float(said) * unit
        except ValueError:
            seconds = _until(said, now)
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def wait(fault: Fault, attempt: int, draws: random.Random, *, backoff: float, longest: float) -> float | None:
    """Seconds to wait before asking again after so many attempts; None where the server asks for longer than `longest`.

    What the server asks for, and on top a draw from 0 to `backoff` doubled with each attempt: alone where the server
    says nothing, and beside what it says so that not all calls come back at one moment.
    """
    asked = fault.after or 0.0
    if asked > longest:
        return None
    return asked + draws.uniform(0.0, min(backoff * 2.0 ** min(attempt - 1, 30), BACKOFF_LIMIT, longest))


class Breaker:
    """Says when so many requests have failed that the rest would fail too.

    >>> breaker = Breaker(in_a_row=2)
    >>> breaker.record(None), breaker.record("HTTP 500"), breaker.record("HTTP 500")
    (None, None, '2 requests in a row failed, the last with HTTP 500')
    """

    def __init__(self, in_a_row: int = 10, window: int = 50, share: float = 0.5) -> None:
        """Opens after `in_a_row` failures, or when more than `share` of the last `window` requests failed."""
        self.in_a_row, self.share = in_a_row, share
        self._run = 0
        self._last: deque[bool] = deque(maxlen=window)

    def record(self, fault: str | None) -> str | None:
        """Take note of a request that is done, with its fault or None; returns why to stop, if so."""
        self._run = self._run + 1 if fault else 0
        self._last.append(fault is not None)
        if self._run >= self.in_a_row:
            return f"{self._run} requests in a row failed, the last with {fault}"
        full, failed = len(self._last) == self._last.maxlen, sum(self._last)
        if fault and full and failed > self.share * len(self._last):
            return f"{failed} of the last {len(self._last)} requests failed, the last with {fault}"
        return None


def _until(said: str, now: datetime) -> float:
    """Seconds until an HTTP date, 0 where it has passed, NaN where it is none."""
    try:
        return max((email.utils.parsedate_to_datetime(said) - now).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError, IndexError):  # a date without a zone cannot be compared
        return math.nan


def _said(answer: object) -> tuple[str, str, str]:
    """(code, message, parameter) in an error's body, of the shapes that servers give it."""
    inner = answer.get("error", answer) if isinstance(answer, Mapping) else answer
    if not isinstance(inner, Mapping):
        return "", _line(inner), ""
    code = next((v for k in ("code", "type") if isinstance(v := inner.get(k), str) and v), "")
    text = next((v for k in ("message", "detail") if (v := inner.get(k))), "")
    param = inner.get("param")
    return _line(code, 60), _line(text), param if isinstance(param, str) else ""


def _refused_field(param: str, said: str) -> str:
    """The field of a request that an error is about, "" where it is about none."""
    if param.split(".", maxsplit=1)[0] == "response_format" or _NO_SCHEMA.search(said):
        return "response_format"
    if "max_completion_tokens" in said and _REFUSES.search(said):
        return "max_tokens"
    known = (*OMISSIBLE, "logprobs", "top_logprobs")
    if param in known:
        return param
    return next((name for name in known if re.search(rf"\b{name}\b", said) and _REFUSES.search(said)), "")


def _line(value: object, most: int = 300) -> str:
    """Anything as one short printable line."""
    text = " ".join(str(value).split()) if value is not None else ""
    text = "".join(c if c.isprintable() else "�" for c in text)
    return text if len(text) <= most else f"{text[:most]}..."
