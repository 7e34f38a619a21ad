"""How much markdown a text holds: the style features that preference data are known to reward.

What this module does not know: candidates, scores; whether the markup is any good.
"""

from __future__ import annotations

import re

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^ {0,3}#{1,6}\s", re.MULTILINE)
_ITEM = re.compile(r"^[^\S\n]*(?:[-*+]|\d{1,3}[.)])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*(?=\S)[^*\n]+\*\*|__(?=\S)[^_\n]+__")


def count_markup(text: str) -> tuple[int, int, int]:
    r"""(headings, list items, bold spans), code fences left out: a `#` or a `-` there is code.

    >>> count_markup("# Plan\n- **first**\n- second\n1. third")
    (1, 3, 1)
    """
    plain = _FENCE.sub("", text)
    return len(_HEADING.findall(plain)), len(_ITEM.findall(plain)), len(_BOLD.findall(plain))
