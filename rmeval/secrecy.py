"""What looks like a secret in a text, and the text without it.

    a token by its published prefix     the user part of a URL     the value of a variable that is named like a secret

What this module does not know: where a text came from, where it goes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

HIDDEN = "[hidden]"

_NAME = re.compile(r"(?i)(api[-_]?key|access[-_]?key|token|secret|passw(or)?d|credential|authorization|bearer)")
_NO_SUCH = re.compile(r"(?i)(max|n|num|min|budget|batch|pad|eos)[-_]?tokens?|tokens?[-_]?(budget|limit)|tokenizer")
_VALUE = re.compile(r"\b(sk|hf|ghp|gho|github_pat|xox[abp]|AKIA)[-_]?[A-Za-z0-9_-]{12,}")
_USERINFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/\s]+@")


def names_a_secret(name: str) -> bool:
    """Whether an option, a key or a variable of this name holds one.

    >>> [names_a_secret(name) for name in ("HF_TOKEN", "max_tokens", "api-key", "TOKENIZERS_PARALLELISM")]
    [True, False, True, False]
    """
    return bool(_NAME.search(_NO_SUCH.sub("", name)))


def looks_secret(text: str) -> bool:
    """Whether it holds a token by its published prefix."""
    return _VALUE.search(text) is not None


def known_secrets(environ: Mapping[str, str]) -> list[str]:
    """The values of variables that are named like secrets, long ones first; short ones may be words of any text."""
    found = (value for name, value in environ.items() if len(value) >= 8 and names_a_secret(name))
    return sorted(found, key=len, reverse=True)


def hide(text: str, known: Sequence[str] | None = None) -> str:
    """A text with every secret replaced; `known` are those of the environment unless said otherwise.

    >>> hide("We couldn't connect to 'https://me:pw@hub.example' with sk-0123456789abcdef", [])
    "We couldn't connect to 'https://[hidden]@hub.example' with [hidden]"
    """
    for secret in known_secrets(os.environ) if known is None else known:
        text = text.replace(secret, HIDDEN)
    return _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", _VALUE.sub(HIDDEN, text))
