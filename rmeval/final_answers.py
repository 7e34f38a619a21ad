r"""The final answer in a worked solution, and whether two answers are the same.

| looked for, the last one wins                        | of `... so \boxed{\frac{1}{2}}` |
|------------------------------------------------------|---------------------------------|
| 1. `\boxed{...}`                                     | `\frac{1}{2}`                   |
| 2. `answer is ...`, `answer: ...`, `#### ...`, up to the end of the sentence or line   |   |
| 3. a number, where neither is there                  |                                 |

Two answers are the same if both are one number and the numbers are equal as fractions: `1,000` and `1000.0`, `0.5` and
`1/2`, `$18` and `18 dollars`. A percent sign is a unit. Any other answers have to be the same text, but for spaces,
case and LaTeX that only spaces or sets type. A part of an answer is never enough: 5 is not 15.

What this module does not know: algebra (`x + 1` and `1 + x` differ), where solutions come from.
"""

from __future__ import annotations

import re
from fractions import Fraction

_BRACE = re.compile(r"\\f?boxed\s*\{|[{}]")
_SAID = re.compile(r"(?:\banswer\s*(?:is|:|=)|####)[\s:*]*(?=\S)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!](?=\s|$)")
_NUMBER = r"-?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+/\d+|\d+(?:\.\d+)?|\.\d+)"
_ANY_NUMBER = re.compile(rf"(?<![\w.]){_NUMBER}")
_ONE_NUMBER = re.compile(rf"(?:[A-Za-z\s,:;']*\s)?({_NUMBER})(?:\s[A-Za-z\s.,:;']*)?\.?")
_TYPESETTING = re.compile(r"\\(?:left|right|displaystyle|[,!;: ])|\\[()\[\]]|[$*]")
_WORDS = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")


def final_answer(text: str, *, stated: bool = False) -> str | None:
    r"""The last answer in a text; `stated` leaves out a mere number. None where there is none.

    >>> final_answer("2 + 3 = 5, so the answer is 5. Good."), final_answer(r"\boxed{\frac{1}{2}}"), final_answer("6, 7")
    ('5', '\\frac{1}{2}', '7')
    """
    boxed = _boxed(text)
    if boxed is not None:
        return boxed
    said = [text[found.end() :].partition("\n")[0] for found in _SAID.finditer(text)]
    if said:
        return _SENTENCE_END.split(said[-1])[0].strip(" *$")
    numbers = [] if stated else _ANY_NUMBER.findall(text)
    return numbers[-1] if numbers else None


def same_answer(one: str, other: str) -> bool:
    """Whether two answers are the same number, or else the same text.

    >>> [same_answer(*two) for two in (("1,000", "$1000.00"), ("1/2", ".5"), ("5", "15"), ("(1, 2)", "(1,2)"))]
    [True, True, False, True]
    """
    numbers = _number(one), _number(other)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return _plain(one) == _plain(other)


def _boxed(text: str) -> str | None:
    r"""What stands in the last `\boxed{...}` whose braces are closed."""
    best: tuple[int, int] | None = None
    opened: list[int | None] = []  # ends of the openings that are not closed yet, None for a mere brace
    for found in _BRACE.finditer(text):
        if found[0] != "}":
            opened.append(found.end() if len(found[0]) > 1 else None)
        elif opened:
            start = opened.pop()
            if start is not None and (best is None or start > best[0]):
                best = start, found.start()
    return None if best is None else text[best[0] : best[1]].strip()


def _number(answer: str) -> Fraction | None:
    """The one number that an answer is, with a unit or a name before an equals sign at most."""
    text = _WORDS.sub(r" \1", answer).replace(r"\$", "").replace(r"\%", "").replace("%", "")
    text = _FRACTION.sub(r"\1/\2", text)
    text = _TYPESETTING.sub("", text).replace("€", "").replace("£", "").rpartition("=")[2].strip()
    found = _ONE_NUMBER.fullmatch(text)
    if found is None:
        return None
    try:
        return Fraction(found[1].replace(",", ""))
    except (ZeroDivisionError, ValueError):  # more digits than Python reads
        return None


def _plain(answer: str) -> str:
    text = _WORDS.sub(r"\1", answer)
    text = _TYPESETTING.sub("", text).replace("dfrac", "frac").replace("tfrac", "frac")
    return "".join(text.split()).rstrip(".").lower()
