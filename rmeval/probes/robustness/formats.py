r"""Edits of form that leave what is said as it was: markdown, lists, how the answer is given, how numbers are written.

Every edit is `edit(text, rng, prompt) -> str | None`: None where there is nothing for it to change.

What this module does not know: examples, which side of an example is edited.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from rmeval.final_answers import final_answer, same_answer
from rmeval.markup import count_markup
from rmeval.probes.robustness.prose import SENTENCE_END, has_code, lines, plain, prose
from rmeval.probes.robustness.prose import edit as edit_parts

_FENCED = re.compile(r"(^\s*```.*?^\s*```[^\n]*$)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(?=\S)", re.MULTILINE)
_ITEM = re.compile(r"^[ \t]*[-*+•]\s+(?=\S)", re.MULTILINE)
_BOLD = re.compile(r"\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*|__(?=\S)([^_\n]+?)(?<=\S)__")
_THREE_WORDS = re.compile(r"\S+(?: \S+){0,2}")

# --- markdown --------------------------------------------------------------------------------------------------------


def markdown_on(text: str, rng: random.Random, prompt: str) -> str | None:
    """A heading, and the first words in bold, where a response of prose has no markup and no code."""
    del rng, prompt
    if count_markup(text) != (0, 0, 0) or has_code(text) or not prose(text):
        return None
    start, end = next(iter(lines(text)))
    first = _THREE_WORDS.match(text, start, end)
    if first is None or any(mark in first[0] for mark in "*_`$"):
        return None
    return f"### Response\n\n{text[:start]}**{first[0]}**{text[first.end() :]}"


def markdown_off(text: str, rng: random.Random, prompt: str) -> str | None:
    r"""Heading marks, bullets and bold marks go, the words stay; fenced code is as it was.

    >>> markdown_off("# Plan\n- **first** 2 * 3\n- second", random.Random(0), "")
    'Plan\nfirst 2 * 3\nsecond'
    """
    del rng, prompt
    parts = _FENCED.split(text)
    if len(parts) == 1 and has_code(_BOLD.sub(r"\1\2", text)):
        return None  # unfenced code: a mark may be an operator or a comment
    new = "".join(part if i % 2 else _bare(part) for i, part in enumerate(parts))
    return None if new == text else new


def _bare(part: str) -> str:
    return _BOLD.sub(r"\1\2", _ITEM.sub("", _HEADING.sub("", part)))


def bullets(text: str, rng: random.Random, prompt: str) -> str | None:
    r"""Every sentence becomes a bullet, where a response is prose of two or more sentences and has no list.

    >>> bullets("Add 2 and 3. That gives 5.", random.Random(0), "")
    '- Add 2 and 3.\n- That gives 5.'
    """
    del rng, prompt
    written = [line for line in text.splitlines() if line.strip()]
    if count_markup(text)[:2] != (0, 0) or has_code(text) or len(list(lines(text))) != len(written):
        return None
    sentences = [one for line in written for one in SENTENCE_END.split(line.strip())]
    return "\n".join(f"- {one}" for one in sentences) if len(sentences) > 1 else None


# --- the form of the answer ------------------------------------------------------------------------------------------

_BOX = re.compile(r"\$*\\boxed\{(?P<answer>[^{}\n]{1,40}(?:\{[^{}\n]*\}[^{}\n]*)*)\}\$*")
_WHOLE_LINE = {
    "sentence": re.compile(
        r"(?:so |thus |hence |therefore |then )?,?\s*the (?:final )?answer is:? (?P<answer>[^\n*]{1,40}?)\.?",
        re.IGNORECASE,
    ),
    "boxed": _BOX,
    "bold": re.compile(r"\*\*(?P<answer>[^\s*][^\n*]{0,39})\*\*"),
    "hash": re.compile(r"####\s*(?P<answer>[^\n*]{1,40})"),
    "label": re.compile(r"(?:\*\*)?(?:final )?answer:(?:\*\*)? ?(?P<answer>[^\n*]{1,40}?)\.?(?:\*\*)?", re.IGNORECASE),
}
"""How the last line may give the answer; all but `label` can be asked for."""
_FORMS: dict[str, Callable[[str], str]] = {
    "sentence": "The answer is {}.".format,
    "boxed": r"\boxed{{{}}}".format,
    "bold": "**{}**".format,
    "hash": "#### {}".format,
}


def answer_as(form: str) -> Callable[[str, random.Random, str], str | None]:
    r"""The edit that gives the answer of the last line in another form; the answer itself is not touched.

    It applies where the last line is nothing but the answer in some known form, or holds it in a box; a bare bold line
    counts only where it is a number.

    >>> answer_as("boxed")("2 + 3 = 5\nAnswer: 5", random.Random(0), "")
    '2 + 3 = 5\n\\boxed{5}'
    """

    def edit(text: str, rng: random.Random, prompt: str) -> str | None:
        del rng, prompt
        head, newline, last = text.rstrip().rpartition("\n")
        found = next(((n, m) for n, p in _WHOLE_LINE.items() if (m := p.fullmatch(last.strip()))), None)
        answer, was, kept = "", "", f"{head}{newline}"
        if found:
            was, answer = found[0], found[1]["answer"].strip(" $")
            if was in {form, "bold"} and (was == form or not answer.replace(",", "").isdigit()):
                return None
        elif box := _BOX.search(last):
            was, answer = "boxed", box["answer"].strip()
            kept = f"{head}{newline}{last[: box.start()]}${answer}${last[box.end() :]}\n"
        if not answer or was == form:
            return None
        new = kept + _FORMS[form](answer)
        before, after = final_answer(text), final_answer(new)
        return new if before is not None and after is not None and same_answer(before, after) else None

    return edit


# --- numbers and units -----------------------------------------------------------------------------------------------

_LONG_NUMBER = re.compile(r"(?<![\w.,/:#\-])\d{4,15}(?![\w/:\-%]|[.,]\d)")
_GROUPED = re.compile(r"(?<![\w.,/:#\-])\d{1,3}(?:,\d{3})+(?![\w/:\-]|,\d)")
_YEARS = range(1100, 2201)
_UNITS = {
    "km": "kilometres", "cm": "centimetres", "mm": "millimetres", "kg": "kilograms", "mg": "milligrams",
    "ml": "millilitres", "mL": "millilitres", "mph": "miles per hour", "km/h": "kilometres per hour", "%": "percent",
    "°C": "degrees Celsius", "°F": "degrees Fahrenheit", "GB": "gigabytes", "MB": "megabytes",
}  # fmt: skip
_UNIT = re.compile(
    r"(?<![\w.,/$\-])(\d+(?:[.,]\d+)*) ?("
    + "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
    + r")(?![\w/^²³%])"
)


def thousands(text: str, rng: random.Random, prompt: str) -> str | None:
    """1000 -> 1,000, outside code and LaTeX; not what may be a year, a code or a part of a longer number.

    >>> thousands("In 1999 it had 12000 rooms, and 3500.5 metres.", random.Random(0), "")
    'In 1999 it had 12,000 rooms, and 3500.5 metres.'
    """
    del rng, prompt

    def grouped(found: re.Match[str]) -> str:
        number = found[0]
        return number if number.startswith("0") or int(number) in _YEARS else f"{int(number):,}"

    return _in_plain(text, lambda part: _LONG_NUMBER.sub(grouped, part))


def no_thousands(text: str, rng: random.Random, prompt: str) -> str | None:
    """1,000 -> 1000, outside code and LaTeX; not in brackets, where it may be two numbers."""
    del rng, prompt
    if re.search(r"[(\[{][^()\[\]{}\n]*\d,\d{3}", text):
        return None
    return _in_plain(text, lambda part: _GROUPED.sub(lambda m: m[0].replace(",", ""), part))


def units(text: str, rng: random.Random, prompt: str) -> str | None:
    """Units behind a number are spelled out: 5 kg -> 5 kilograms, 20% -> 20 percent.

    >>> units("It weighs 5kg, 20% more.", random.Random(0), "")
    'It weighs 5 kilograms, 20 percent more.'
    """
    del rng, prompt

    def spelled(found: re.Match[str]) -> str:
        word = _UNITS[found[2]]
        if found[1] == "1" and word != "percent":
            first, _, rest = word.partition(" ")
            word = f"{first.removesuffix('s')} {rest}".strip()
        return f"{found[1]} {word}"

    return _in_plain(text, lambda part: _UNIT.sub(spelled, part))


def _in_plain(text: str, function: Callable[[str], str]) -> str | None:
    new = edit_parts(text, function, plain(text))
    return None if new == text else new
