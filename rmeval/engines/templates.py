"""Chat templates: the one that rmeval brings for checkpoints without one, and how any of them is rendered.

A template is a program that came with a checkpoint. transformers runs it in jinja's sandbox, which keeps it from
Python's insides; here it gets a time limit besides, and whatever it fails with means that it refused.

What this module does not know: tokens; bos and eos are added by whoever tokenises.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rmeval.progress import note

SECONDS = 10.0
"""How long one conversation may take to render; real templates take a thousandth of one."""

# what an expression in a template can come to besides jinja's own errors: those of arithmetic, types and size
_FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)

PLAIN = """\
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] + '\\n\\n' -}}
{%- elif message['role'] == 'user' -%}
{{- 'User: ' + message['content'] + '\\n\\n' -}}
{%- elif message['role'] == 'assistant' -%}
{{- 'Assistant: ' + message['content'] -}}
{%- if not loop.last -%}{{- '\\n\\n' -}}{%- endif -%}
{%- else -%}
{{- raise_exception("unknown role '" + message['role'] + "': one of system, user, assistant") -}}
{%- endif -%}
{%- endfor -%}
"""
"""Roles in words, one blank line between turns, no special tokens."""

PLAIN_AHEAD = "Assistant:"
"""What follows such a conversation where the assistant is to write: no space, which is the start of its first token."""


class Rendering:
    """Renders conversations with a tokenizer; one that did not end is not tried again."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._said: set[str] = set()
        self._endless = False

    def text(self, turns: Sequence[Mapping[str, str]], **options: Any) -> str | None:
        """A conversation as text; None where the template refuses it. What is no refusal of its own is said once."""
        from jinja2.exceptions import SecurityError, TemplateError

        if self._endless:
            return None
        try:
            with _time_limit(SECONDS):
                return str(self._tokenizer.apply_chat_template(list(turns), tokenize=False, **options))
        except _Endless:
            self._endless = True
            self._say(f"did not end within {SECONDS:g} seconds, and is not tried again")
        except SecurityError as fault:
            self._say(f"was stopped by its sandbox: {fault}")
        except TemplateError:
            pass
        except _FAILURES as fault:
            self._say(f"failed: {type(fault).__name__}{': ' if str(fault) else ''}{fault}")
        return None

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            note(f"the chat template {what}")


class _Endless(BaseException):
    """The time is over. No `Exception`, so that nothing on the way takes it for its own."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `_Endless` in a block that takes longer; only the main thread can be interrupted so."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def over(*_: object) -> None:
        raise _Endless

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
