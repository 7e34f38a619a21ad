"""Which parts of a text are prose, so that an edit of wording never touches code, formulas, quotations or links.

A text is read line by line. Fenced blocks, indented lines and lines that look like code are no prose; inside a line of
prose inline code, LaTeX, formulas, quotations and links are not. In doubt a part is not prose: an edit that leaves out
a sentence does no harm, and one that changes a program does.

What this module does not know: what is done to the prose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_FENCE = re.compile(r"^\s*(?:```|~~~)")
_MARKER = re.compile(r"^ {0,12}(?:[-*+•]|\d{1,3}[.)])\s+|^ {0,3}#{1,6}\s+(?=\*\*|[A-Z])|^>\s?")
_KEYWORD = re.compile(
    r"^(?:import|from|def|class|return|for|while|if|else|elif|try|except|with|func|fn|let|const|var|public|private|"
    r"static|package|use|using|void|int|bool|string|double|float|assert|print|pass|break|continue)\b.*[^.?!\s]\s*$"
)
_CODE = re.compile(
    r"[{}@\\|]|;\s*$|\w\(|\)\.|::|->|=>|==|!=|&&|^\s*(?://|/\*|\*/|#(?!#* ))|^</?\w|\b\w+_\w+\b|\[\w*\]$"
)
_PROTECTED = re.compile(
    r"```.{0,2000}?```|`[^`\n]*`|\$\$.{0,2000}?\$\$|\$[^$\n]+\$|\\\(.{0,2000}?\\\)|\\\[.{0,2000}?\\\]|\\boxed\{[^\n]{0,2000}\}"
    r"|\"[^\"\n]*\"|“[^”\n]*”|(?<!\w)'[^'\n]*'(?!\w)|https?://\S+|<[^>\s][^>\n]{0,2000}>"
    r"|(?:[^\s,;:.`\"]{1,200}\s*)(?:(?:[=+*/^<>×÷]|(?<=\d) ?[-−] ?(?=\d))\s*[^\s,;:.`\"]+\s*)+",
    re.DOTALL,
)
_LATEX_OR_CODE = re.compile(
    r"```.{0,2000}?```|`[^`\n]*`|\$\$.{0,2000}?\$\$|(?<!\\)\$(?=\S)[^$\n]*[^\s$]\$(?!\d)|\\\(.{0,2000}?\\\)|\\\[.{0,2000}?\\\]|https?://\S+",
    re.DOTALL,
)
SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!\bMr\.)(?<!\bDr\.)(?<!Mrs\.)(?<!\bvs\.) +(?=[A-Z])")
"""The space between two sentences on one line."""
_LONGEST_LINE = 20_000
"""Characters beyond which nobody has written a line as prose."""
_WORD = re.compile(r"[^\W\d_]{2,}")


def prose(text: str, words: int = 3) -> list[tuple[int, int]]:
    r"""(start, end) of the prose, in order; a line needs so many words of two letters to count.

    >>> text = "The sum is 5.\n```\nprint(5)\n```\nThat is `x` plus 2 + 3 = 5 apples."
    >>> [text[start:end] for start, end in prose(text)]
    ['The sum is 5.', 'That is ', ' plus ', 'apples.']
    """
    found = []
    for start, end in lines(text):
        line = text[start:end]
        if len(_WORD.findall(line)) >= words:
            found += [(start + a, start + b) for a, b in _gaps(line, _PROTECTED)]
    return found


def plain(text: str) -> list[tuple[int, int]]:
    """(start, end) of what is neither code nor LaTeX nor a link: where a number may be written in another way."""
    return [(start + a, start + b) for start, end in lines(text) for a, b in _gaps(text[start:end], _LATEX_OR_CODE)]


def lines(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of the lines that are not code, without list markers, heading marks and the line break."""
    fenced, at, listed = False, 0, False
    for line in text.splitlines(keepends=True):
        start, at = at, at + len(line)
        body = line.rstrip()
        if _FENCE.match(line):
            fenced = not fenced
            continue
        marker = _MARKER.match(body)
        indented = body.startswith(("  ", "\t")) and not marker and not listed
        listed = bool(marker) or (listed and bool(body))
        inside = body[marker.end() :] if marker else body
        if fenced or indented or not inside.strip() or len(inside) > _LONGEST_LINE or code_like(inside):
            continue
        offset = len(body) - len(inside.lstrip())
        yield start + offset, start + len(body)


def code_like(line: str) -> bool:
    """Whether a line outside a fence looks like code.

    >>> [code_like(line) for line in ("total = sum(values)", "return total", "Return the total.", "I go, for now.")]
    [True, True, False, False]
    """
    bare = _LATEX_OR_CODE.sub("", line)
    return bool(_KEYWORD.match(bare) or _CODE.search(bare))


def has_code(text: str) -> bool:
    """Whether any line is fenced or looks like code."""
    return any(_FENCE.match(line) or (line.strip() and code_like(line)) for line in text.splitlines())


def edit(text: str, function: Callable[[str], str], where: list[tuple[int, int]]) -> str:
    """The text with a function applied to the parts named; the parts must be in order and apart."""
    parts, at = [], 0
    for start, end in where:
        parts += [text[at:start], function(text[start:end])]
        at = end
    return "".join([*parts, text[at:]])


def _gaps(line: str, held: re.Pattern[str]) -> list[tuple[int, int]]:
    found, at = [], 0
    for match in held.finditer(line):
        if match.start() > at:
            found.append((at, match.start()))
        at = match.end()
    return [*found, (at, len(line))] if at < len(line) else found
