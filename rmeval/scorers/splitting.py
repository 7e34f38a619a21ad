r"""Where the steps of a response end that comes without steps.

    line        at every line break
    paragraph   at every blank line
    sentence    at every line break, and after . ! ? (with the quotes and brackets that close there) where white space
                follows and then something that begins a sentence: no lower-case letter and no operator; after the full
                stops of Chinese and Japanese always

A full stop ends no sentence after an abbreviation (`e.g.`, `Dr.`; before a number `Fig.`, `No.`), after the number of
an item that begins the sentence (`1.`, `Step 2.`, `(b).`), nor inside a number (3.14). Nothing ends inside mathematics:
`$...$`, `$$...$$`, `\(...\)`, `\[...\]`, `\begin{...}...\end{...}`. A dollar sign before an amount is none of
it: as in Pandoc, one that opens stands before no space, one that closes after no space and before no digit.

Pieces are stripped of the white space around them by `sentence`, kept as they stand by the others; blank ones are left
out.

What this module does not know: how steps are shown to a model.
"""

from __future__ import annotations

import re
from typing import Literal

Split = Literal["line", "paragraph", "sentence"]

_PLAIN: dict[str, str] = {"line": r"\n+", "paragraph": r"\n\s*\n"}
_OPENING = re.compile(
    r"""\$\$ | \\\[ | \\\( | \\begin\{(?P<name>[a-zA-Z]+\*?)\}
      | (?P<whole>\$(?![\s$])(?:\\.|[^$\\\n]){0,1000}?(?<!\s)\$(?!\d))""",
    re.DOTALL | re.VERBOSE,
)
_CLOSING = {"$$": "$$", r"\[": r"\]", r"\(": r"\)"}
_END = re.compile(r"""(?<![.!?])[.!?]+["'”’)\]}*_»]*(?=\s+[^\sa-z=+×÷*/<>^%,;:-])|[。！？]+[”’」』）]*|\n+""")
_ABBREVIATION = re.compile(
    r"(?<![\w.])(?:(?:e\.g|i\.e|cf|vs|approx|resp|viz|w\.r\.t|Dr|Mr|Mrs|Ms|Prof)\.(?P<any>)"
    r"|(?:Eqs?|Figs?|Secs?|Thm|Lem|Prop|Cor|Def|Ex|Nos?|pp?|ca)\.)$",
    re.IGNORECASE,
)
"""The first never end a sentence, the others not before a number."""
_LONGEST = 16
"""Characters that an abbreviation and what stands before it have at most."""
_ITEM = re.compile(r"[\s*_#>-]*(?:(?:step|case|part|claim)\s+)?\(?(?:\d+|[a-zA-Z]|[ivx]+)\)?\.[*_]*$", re.IGNORECASE)


def split(text: str, how: Split) -> tuple[str, ...]:
    """The pieces of a text.

    >>> split("Step 1. It costs $3.50, e.g. two. Then $x = 2. Y$ holds! So: 7.", "sentence")
    ('Step 1. It costs $3.50, e.g. two.', 'Then $x = 2. Y$ holds!', 'So: 7.')
    """
    text = text.strip()
    if how == "sentence":
        return tuple(piece for piece in _sentences(text) if piece)
    return tuple(piece for piece in re.split(_PLAIN[how], text) if piece.strip())


def _sentences(text: str) -> list[str]:
    closed = _mathematics(text)
    pieces: list[str] = []
    start, at = 0, 0
    for found in _END.finditer(text):
        while at < len(closed) and closed[at][1] <= found.start():
            at += 1
        if at < len(closed) and closed[at][0] <= found.start():
            continue
        so_far = text[start : found.end()]
        if found[0].strip("*_") == "." and (
            _ITEM.fullmatch(so_far.strip()) or _abbreviated(so_far, text[found.end() :])
        ):
            continue
        pieces.append(so_far.strip())
        start = found.end()
    return [*pieces, text[start:].strip()]


def _mathematics(text: str) -> list[tuple[int, int]]:
    """Where mathematics begins and ends, in order; what is never closed is none, and looked for once."""
    found: list[tuple[int, int]] = []
    at, never = 0, set()
    while opening := _OPENING.search(text, at):
        at = opening.start() + 1
        if opening["whole"]:
            end = opening.end()
        else:
            closing = _CLOSING.get(opening[0]) or rf"\end{{{opening['name']}}}"
            between = 0 if opening["name"] else 1  # characters at least
            place = -1 if closing in never else text.find(closing, opening.end() + between)
            if place < 0:
                never.add(closing)
                continue
            end = place + len(closing)
        found.append((opening.start(), end))
        at = end
    return found


def _abbreviated(so_far: str, rest: str) -> bool:
    found = _ABBREVIATION.search(so_far[-_LONGEST:])
    return found is not None and (found["any"] is not None or rest.lstrip()[:1].isdigit())
