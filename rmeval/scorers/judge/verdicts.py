"""A judge's text -> its verdict, or why there is none.

Two parsers are ours: `unique` (the default) takes a verdict only where the text commits to one and no other, and `json`
reads structured output. The others, in `official`, repeat what a benchmark's own script does, with its precedence. All
of them see the final segment alone.

What this module does not know: prompts, which candidate stands where, how verdicts are added up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rmeval.errors import UsageError, near_miss
from rmeval.scorers.judge.labels import PAIR, UNPARSED, Labels, Parsed, Parser, bare, json_objects
from rmeval.scorers.judge.official import OFFICIAL
from rmeval.scorers.judge.segments import THINKING, Tags, final_segment
from rmeval.types import Finish

_BRACKETED = re.compile(r"\[\[[ \t\r\n]*([^\[\]\r\n]{1,40}?)[ \t\r\n]*\]\]")
_WORDS = re.compile(r"[^\W\d_]+")
_BETWEEN_LETTERS = frozenset(("or", "and", "tie"))


def unique(text: str, labels: Labels) -> Parsed:
    """The one label that the text holds, however often; two different ones are no verdict.

    Blanks and ASCII case inside the brackets do not matter. Something else between double brackets that looks like a
    verdict (`[[C]]` where ties are not asked for, `[[A>>>B]]`, a Cyrillic letter) is no verdict either. A complete JSON
    object with the key `verdict` speaks for itself: labels inside its other values are reasoning.

    >>> unique("The better one is **[[ a ]]**.", PAIR)
    Parsed(verdict='A', reason=None)
    >>> unique("Not [[A]]: [[B]]", PAIR).reason
    'unparsed'
    """
    said, rest = _structured(text, labels)
    known = {bare(label): verdict for label, verdict in labels.items()}
    for match in _BRACKETED.finditer(rest):
        inside = match[1]
        verdict = known.get(bare(inside))
        if verdict is not None or _looks_like_a_verdict(inside, known):
            said.append(verdict)
    for label, verdict in labels.items():
        if " " in label.strip("[] "):
            said += [verdict] * len(_as_written(label).findall(rest))
    return _agreed(said)


def json_verdict(text: str, labels: Labels) -> Parsed:
    """The key `verdict` of the JSON object in the text, prose around it and further keys allowed, doubled keys not.

    >>> json_verdict('{"reasoning": "clear", "verdict": "A"} Hope this helps!', PAIR).verdict
    'A'
    """
    return _agreed(_structured(text, labels)[0])


def _structured(text: str, labels: Labels) -> tuple[list[str | None], str]:
    """The verdicts of the text's JSON objects, None for one that is not to be trusted, and the text outside these."""
    known = {bare(label): verdict for label, verdict in labels.items()}
    said: list[str | None] = []
    rest, done = [], 0
    for start, end, found in json_objects(text):
        if "verdict" not in found:
            continue
        value = found["verdict"]
        sound = isinstance(value, (str, int)) and not isinstance(value, bool) and not found.doubled
        said.append(known.get(bare(str(value))) if sound else None)
        rest.append(text[done:start])
        done = end
    return said, " ".join((*rest, text[done:]))


def _looks_like_a_verdict(inside: str, known: Mapping[str, str]) -> bool:
    """What a judge writes for a verdict: single letters and comparison signs, not `[[wiki link]]`.

    Where numbers are asked for, any whole number too, such as that of a step there is not.
    """
    if inside.removeprefix("-").isdecimal():
        return any(label.removeprefix("-").isdecimal() for label in known)
    words = _WORDS.findall(inside)
    return bool(words) and all(len(word) == 1 or word.lower() in _BETWEEN_LETTERS for word in words)


def _as_written(label: str) -> re.Pattern[str]:
    """A label of several characters without brackets, such as `Output (a)`, standing by itself."""
    words = r"\s+".join(re.escape(word) for word in label.split())
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE | re.ASCII)


def _agreed(said: list[str | None]) -> Parsed:
    if len(set(said)) != 1 or said[0] is None:
        return UNPARSED
    return Parsed(said[0])


PARSERS: dict[str, Parser] = {"unique": unique, "json": json_verdict, **OFFICIAL}
"""By the name that a protocol card gives."""

FIRST_LINE = frozenset(("first_line_scores", "pandalm"))
"""Parsers that read the first line alone, so that a text cut off further on has the same verdict."""

_REFUSAL = re.compile(
    r"""\s*
    (?: (?:i'm|i\ am|we're|we\ are)?\ ?(?:very\ |so\ )?
        (?:sorry|unfortunately|apologies|i\ apologi[sz]e)[,.;:]?\ (?:but\ )? )?
    (?: as\ an\ ai\b[^,.\n]{0,40},\ )?
    (?: (?:i|we)\ (?: can't | cannot | can\ not | won't | will\ not | must\ decline\ to | decline\ to )
      | (?:i'm|i\ am|we're|we\ are)\ (?: unable\ to | not\ able\ to | not\ comfortable\ (?:with\ )? ) )
    \ ?(?: assist | help | comply | provide | fulfil | continue | engage | participate | respond | answer | discuss
        | evaluat | judg | compar | rat(?:e|ing)\b | review | do\ (?:that|this) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""How a text opens that declines the task: a subject, `cannot` or its like, and one of a few verbs. It is asked only
where no verdict was found, so that it can turn `unparsed` into `refused` and nothing else. "I cannot determine which
is better" is no refusal: that judge has tried."""


def declines(text: str) -> bool:
    """Whether a text that holds no verdict opens as a refusal.

    >>> declines("I’m sorry, but I can’t assist with that request."), declines("I cannot determine a winner.")
    (True, False)
    """
    return _REFUSAL.match(text.replace("\u2019", "'")) is not None


def read_verdict(
    text: str, labels: Labels = PAIR, *, parser: str = "unique", finish: Finish = "stop", thinking: Tags = THINKING
) -> Parsed:
    """The verdict of a whole reply: its reasoning stripped, its final part parsed, and otherwise the reason why not.

    A text that hit the token limit is `truncated` whatever it holds, but for a parser that reads the first line alone
    and finds that line complete. Raises UsageError for a parser that there is not.

    >>> read_verdict("<think>A? [[A]]</think>Both are weak, yet [[B]].")
    Parsed(verdict='B', reason=None)
    >>> read_verdict("It is clearly [[A]], as", finish="length").reason
    'truncated'
    """
    if parser not in PARSERS:
        hint = near_miss(parser, PARSERS) or f"Known: {', '.join(PARSERS)}."
        raise UsageError(f"judge.parse={parser!r}: no such parser of verdicts. {hint}")
    final, reason = answer(text, finish, thinking, first_line=parser in FIRST_LINE)
    if reason:
        return Parsed(None, reason)
    found = PARSERS[parser](final, labels)
    return Parsed(None, "refused") if found.verdict is None and declines(final) else found


def answer(text: str, finish: Finish, thinking: Tags = THINKING, *, first_line: bool = False) -> tuple[str, str | None]:
    """The final part of a reply, and the reason why it cannot be parsed, None where it can."""
    if finish == "refusal":
        return "", "refused"
    if not text.strip():
        return "", "truncated" if finish == "length" else "empty"
    final = final_segment(text, thinking)
    if final.open:
        return "", "truncated"
    if finish == "length" and not (first_line and "\n" in final.text.lstrip()):
        return "", "truncated"
    return final.text, None if final.text.strip() else "unparsed"
