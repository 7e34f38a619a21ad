"""Chat templates: the one that rmeval brings for checkpoints without one, and how any of them is rendered.

A template is a program that came with a checkpoint. transformers runs it in jinja's sandbox, which keeps it from
Python's insides; here it gets a time limit besides, and whatever it fails with means that it refused.

What this module does not know: tokens; bos and eos are added by whoever tokenises.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from rmeval.progress import note

SECONDS = 10.0
"""How long one conversation may take to render; real templates take a thousandth of one."""

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
        """A conversation as text; None where the template refuses it, which is said."""
        from jinja2.exceptions import SecurityError, TemplateError

        if self._endless:
            return None
        if not _signals() and _may_never_return(self._tokenizer.get_chat_template(options.get("chat_template"))):
            self._say("multiplies or raises to powers what may be large; that has no time limit in a thread: refused")
            return None
        try:
            return within(
                SECONDS, lambda: str(self._tokenizer.apply_chat_template(list(turns), tokenize=False, **options))
            )
        except Endless:
            self._endless = True
            self._say(f"did not end within {SECONDS:g} seconds, and is not tried again")
        except SecurityError as fault:
            self._say(f"was stopped by its sandbox: {fault}")
        except TemplateError as fault:
            if not self._said:  # its words may be others for every conversation
                self._say(f"refuses a conversation: {fault}")
        except Exception as fault:  # noqa: BLE001 - arithmetic, types, size, and the Python that jinja writes (`inf`)
            self._say(f"failed: {type(fault).__name__}{': ' if str(fault) else ''}{fault}")
        return None

    def _say(self, what: str) -> None:
        what = what[:400]  # a template may quote itself, and be of any size
        if what not in self._said:
            self._said.add(what)
            note(f"the chat template {what}")


class Endless(BaseException):
    """The time is over. No `Exception`, so that nothing on the way takes it for its own."""


def within(seconds: float, work: Callable[[], str]) -> str:
    """What `work` returns; `Endless` where that takes longer, in whatever thread this is."""
    return _by_a_signal(seconds, work) if _signals() else _WATCH.within(seconds, work)


def _signals() -> bool:
    """Whether a signal can interrupt this thread."""
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")


@lru_cache(maxsize=64)
def _may_never_return(template: str) -> bool:
    """Whether one operation of a template can take for ever: a power, or a product of two numbers that may have grown.

    >>> _may_never_return("{{ '-' * 20 }}{{ 2 * loop.index0 }}"), _may_never_return("{{ 9 ** 9 ** 9 }}")
    (False, True)
    """
    from jinja2 import Environment, TemplateSyntaxError

    try:
        tokens = [(kind, text) for _, kind, text in Environment().lex(template) if kind != "whitespace"]  # noqa: S701
    except TemplateSyntaxError:
        return False  # it cannot be rendered either
    for i, token in enumerate(tokens):
        beside = {kind for kind, _ in tokens[max(i - 1, 0) : i + 2]}
        if token == ("operator", "**") or (token == ("operator", "*") and not beside & {"string", "integer", "float"}):
            return True
    return False


def _by_a_signal(seconds: float, work: Callable[[], str]) -> str:
    """In the main thread: a signal also ends arithmetic that takes for ever in one operation."""

    def over(*_: object) -> None:
        raise Endless

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Watch:
    """In any other thread: one more thread looks at the clock, and raises `Endless` in the one that is late.

    What is raised so arrives between two operations of Python, and never within one.
    """

    def __init__(self) -> None:
        self._ends: dict[int, float] = {}
        self._busy = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def within(self, seconds: float, work: Callable[[], str]) -> str:
        me = threading.get_ident()
        with self._starting:
            if self._thread is None or not self._thread.is_alive():  # it stays behind where a process is forked
                self._thread = threading.Thread(target=self._look, name="templates", daemon=True)
                self._thread.start()
        late = False
        self._ends[me] = time.monotonic() + seconds
        self._busy.set()
        try:
            return work()
        except Endless:
            late = True
            raise
        finally:
            # whoever takes the entry out decides; where that was the clock, what it raises is on its way and is waited
            # for, so that it meets nothing that comes after
            if not late and self._ends.pop(me, None) is None:
                for _ in range(10_000):
                    time.sleep(0.001)

    def _look(self) -> None:
        while True:
            self._busy.wait()
            self._busy.clear()
            while self._ends:
                time.sleep(0.05)
                for thread, end in list(self._ends.items()):
                    if time.monotonic() > end and self._ends.pop(thread, None) is not None:
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Endless))


_WATCH = _Watch()
