"""The key: read from the environment alone, checked before it is used, and taken out of whatever is kept or shown.

What this module does not know: what the key opens.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from rmeval.errors import UsageError
from rmeval.secrecy import looks_secret

OPENAI = "https://api.openai.com/v1"

PLACEHOLDER = "EMPTY"
"""What is sent to a server of one's own where no key is set."""

SHORTEST = 8
"""Shorter values are placeholders, and common words: taking them out would change what a model wrote."""

_LIBRARIES = ("openai", "httpx", "httpcore")
"""Loggers that see requests; the libraries' newer names begin so, too."""


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """An API key. It prints as nothing."""

    value: str

    def hide(self, text: str) -> str:
        """The text without the key, however it may be quoted in it.

        >>> Key("sk-0123456789").hide("Incorrect API key provided: sk-0123456789.")
        'Incorrect API key provided: [key].'
        """
        if len(self.value) >= SHORTEST:
            for form in {self.value, json.dumps(self.value)[1:-1], quote(self.value), quote(self.value, safe="")}:
                text = text.replace(form, "[key]")
        return text

    @contextlib.contextmanager
    def hidden_in_logs(self) -> Iterator[None]:
        """While this lasts, the libraries' logs hold no key."""
        hides = _Hides(self)
        # filters do not pass down to child loggers, so each gets its own
        names = [name for name in list(logging.root.manager.loggerDict) if name.startswith(_LIBRARIES)]
        loggers = [logging.getLogger(name) for name in names]
        for logger in loggers:
            logger.addFilter(hides)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(hides)


class _Hides(logging.Filter):
    def __init__(self, key: Key) -> None:
        super().__init__()
        self.key = key

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.key.hide(record.getMessage()), None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = self.key.hide(logging.Formatter().formatException(record.exc_info))
        return True


def key_for(base_url: str, variable: str) -> Key:
    """The key in an environment variable. Raises `UsageError` where OpenAI's own server would be asked without one."""
    value = os.environ.get(variable, "").strip()
    if not value and urlsplit(base_url).hostname == urlsplit(OPENAI).hostname:
        raise UsageError(
            f"{base_url} wants a key: set the environment variable {variable}, or name another with "
            "-a engine.key_env=NAME. For a server of your own give --base-url"
        )
    if not value.isascii() or not value.isprintable() or " " in value:
        raise UsageError(f"the key in the environment variable {variable} holds a blank or a character no key has")
    return Key(value or PLACEHOLDER)


def endpoint(base_url: str | None) -> str:
    """The address of a server without a slash at its end: what is given, else `OPENAI_BASE_URL`, else OpenAI's own.

    >>> endpoint("http://127.0.0.1:8000/v1/")
    'http://127.0.0.1:8000/v1'
    """
    said = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
    try:
        parts = urlsplit(said.strip())
        well = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        well = False
    if not well:
        raise UsageError(f"base URL {said.rpartition('@')[2]!r}: write it like http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        # what it holds would be written into results
        raise UsageError("the base URL holds a user, a password or a query: put the key into an environment variable")
    if looks_secret(parts.path):
        raise UsageError("the base URL holds what looks like a key, and is written into results: write it without one")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"
