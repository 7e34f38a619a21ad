"""A judge's text -> the number it gives a response, or why there is none.

`unique`, the default, reads a rating where the text commits to one: a JSON object with the key `rating` or `score`,
double brackets, a last line that is nothing but the number, or a number that follows the word rating or score. 8/10 and
"8 out of 10" are 8 on a scale that ends at 10. A range, a negative number, a number off the scale and two ratings that
differ are none: nothing is clamped. The other parsers repeat what an official script does.

What this module does not know: prompts, which candidate is rated, how ratings are compared.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rmeval.errors import UsageError, near_miss
from rmeval.scorers.judge.labels import bare, json_objects
from rmeval.scorers.judge.segments import THINKING, Tags
from rmeval.scorers.judge.verdicts import answer, declines
from rmeval.types import NAN, Finish

Scale = tuple[float, float]
"""Lowest and highest rating, both included."""


@dataclass(frozen=True, slots=True)
class Rated:
    """What a parser found in a text."""

    value: float
    """NaN where there is none."""
    reason: str | None = None
    """`unparsed`, `empty`, `refused` or `truncated` where there is no value."""


RatingParser = Callable[[str, Scale], float]
"""The final part of a text as a number, NaN where it holds none."""

_N = r"[0-9]+(?:\.[0-9]+)?"
_END = r"(?![\w%/]|[.,][0-9]|\s*[-\u2013\u2014\u2212~]\s*[0-9]|\s+(?:to|or|and)\s+[0-9]|\s+out\s+of\b)"
_QUANTITY = re.compile(rf"(?P<value>{_N})(?:\s*(?:/|\bout\s+of\b)\s*(?P<top>{_N}))?{_END}", re.IGNORECASE)
"""A number, or a number and what it is out of; not the beginning of a range, a per cent or a longer number."""

_FILLER = (
    r"is|of|as|be|would|a|an|the|this|that|it|its|for|to|at|with|i|i'd|give|rate|response|answer|"
    r"overall|final|score|rating"
)
_NAMED = re.compile(
    r"\b(?:ratings?|scores?|grade|rated?|give)\b(?:\s*[-\u2013\u2014\u2212]\s)?"
    rf"(?:[\s:\uff1a=*_`\"'\u2019(\[{{|>\u2192]|\b(?:{_FILLER})\b){{0,40}}"
    r"(?=(?P<rest>[-+\u2013\u2212]?[0-9][^\n]{0,40}))",
    re.IGNORECASE,
)
"""The word rating or its like, small words and marks after it, and before what begins with a digit."""

_BRACKETED = re.compile(r"\[\[([^\[\]\r\n]{1,40})\]\]")
_AROUND = " \t\r*_`\"'()[].!"
_SIGNS = "-+\u2013\u2212"
_SENTENCE = re.compile(r"[.!?][*_\"')]*\s+")


def unique(text: str, scale: Scale) -> float:
    r"""The one rating that the text commits to.

    >>> unique("Rating: 8/10", (1, 10)), unique("Clear and right.\n\n**7.5**", (1, 10)), unique("3-4", (1, 10))
    (8.0, 7.5, nan)
    """
    objects = [found for _, _, found in json_objects(text) if "rating" in found or "score" in found]
    if objects:
        values = [found[key] for found in objects for key in ("rating", "score") if key in found]
        return NAN if any(found.doubled for found in objects) else _agreed(_number(v, scale) for v in values)
    bracketed = [inside for inside in _BRACKETED.findall(text) if any(c.isdigit() for c in inside)]
    if bracketed:
        return _agreed(_whole(inside, scale) for inside in bracketed)
    text = _without_scale(text, scale)
    last = text.strip().rpartition("\n")[2]
    for piece in (last, _SENTENCE.split(last)[-1]):
        if piece.strip(_AROUND + _SIGNS)[:1].isdigit() and _is_bare(piece):
            return _whole(piece, scale)
    for where in (last, text):
        named = [_leading(match["rest"], scale) for match in _NAMED.finditer(where)]
        if named:
            return _agreed(named)
    return NAN


def _is_bare(piece: str) -> bool:
    """Whether a piece is a number and marks, so that whatever it comes to is the rating."""
    return not re.sub(r"\bout\s+of\b", "", piece, flags=re.IGNORECASE).upper().isupper()


def _whole(piece: str, scale: Scale) -> float:
    """A piece that is nothing but a quantity and marks around it."""
    piece = piece.strip(_AROUND)
    match = _QUANTITY.fullmatch(piece)
    return _on(match, scale)


def _leading(piece: str, scale: Scale) -> float:
    """The quantity that a piece begins with."""
    return _on(_QUANTITY.match(piece), scale)


def _on(match: re.Match[str] | None, scale: Scale) -> float:
    if match is None or (match["top"] and float(match["top"]) != scale[1]):
        return NAN
    return _within(float(match["value"]), scale)


def _number(value: object, scale: Scale) -> float:
    """A value of a JSON object: a number, or a text that is one."""
    if isinstance(value, str):
        return _whole(value, scale)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _within(value, scale)
    return NAN


def _within(value: float, scale: Scale) -> float:
    return float(value) if scale[0] <= value <= scale[1] else NAN


def _agreed(found: Iterable[float]) -> float:
    """The value that all have in common, NaN where they differ or one of them is no rating."""
    values = list(found)
    return values[0] if values and all(value == values[0] for value in values) else NAN


def _without_scale(text: str, scale: Scale) -> str:
    """The text without mentions of the scale itself: "on a scale of 1 to 10", "(1-10)", "(out of 10)"."""
    low, high = (re.escape(f"{end:g}") for end in scale)
    span = rf"{low}\s*(?:to|and|[-\u2013\u2014])\s*{high}"
    said = rf"\bscale\s+(?:of\s+|from\s+|between\s+)?{span}\b"
    noted = rf"\(\s*(?:(?:from\s+)?{span}|(?:out\s+of|/)\s*{high})\s*\)"
    return re.sub(f"{said}|{noted}", "", text, flags=re.IGNORECASE)


# --- official rules ---


def rewardbench(text: str, _: Scale) -> float:
    """The whole number from 1 to 10 that ends the text, or what looks like one: 10 in "Rating: 8/10", 5 in "7.5".

    allenai/reward-bench@05a9005 rewardbench/generative.py and generative_v2.py, where a text without one is rated -1.

    >>> rewardbench("Rating: 8/10", (1, 10)), rewardbench("8.", (1, 10))
    (10.0, nan)
    """
    match = re.search(r"\b([1-9]|10)\b\s*$", text.strip())
    return float(match[1]) if match else NAN


def mt_bench(text: str, _: Scale) -> float:
    """The first `[[8]]`, else the first `[8]`.

    lm-sys/FastChat@0e6d3e4 fastchat/llm_judge/common.py run_judge_single, where a text without one is rated -1.
    """
    match = re.search(r"\[\[(\d+\.?\d*)\]\]", text) or re.search(r"\[(\d+\.?\d*)\]", text)
    try:
        return float(ast.literal_eval(match[1])) if match else NAN
    except (SyntaxError, ValueError, OverflowError):  # "08": the official script stops
        return NAN


_PROMETHEUS = re.compile(
    r"(?:\[RESULT\]|\[SCORE\]|Score:?|Result:?|\[Result\]:?|score\s+of)\s*(?:\(|\[|\s)*(\d+)"
    r"(?:(?:\)|\]|\s|$)|(?:/\s*5|\s*out\s*of\s*5))?(?:\s*$)",
    re.IGNORECASE,
)


def prometheus(text: str, _: Scale) -> float:
    """`[RESULT] 4` and its like at the end, from 1 to 5.

    prometheus-eval/prometheus-eval@dcfb442 libs/prometheus-eval/prometheus_eval/parser.py _parse_output_absolute, which
    samples again, up to ten times, until a text has one.
    """
    match = _PROMETHEUS.search(text)
    return _within(float(match[1]), (1, 5)) if match else NAN


def wildbench(text: str, _: Scale) -> float:
    """The key `score` of the text as JSON, the last where it stands there twice; else the first `"score": "..."`.

    allenai/WildBench@d6b8dca src/eval.py parse_result, extract_values_from_json.
    """
    try:
        whole = json.loads(text.strip())
    except (ValueError, RecursionError):
        match = re.search(r'"score"\s*:\s*"([^"]*?)"', text)
        score = match[1] if match else None
    else:
        score = whole.get("score") if isinstance(whole, dict) else None
    try:
        return float(score) if isinstance(score, (str, int, float)) and not isinstance(score, bool) else NAN
    except (ValueError, OverflowError):
        return NAN


def autoj(text: str, _: Scale) -> float:
    """The last `Rating: [[8]]`.

    GAIR-NLP/auto-j@2ae17a3 codes/usage/example.py extract_single_rating, where a text without one is rated 0.
    """
    inside, closed = text.rpartition("Rating: [[")[2].partition("]]")[:2]
    try:
        return float(inside.strip()) if closed and "Rating: [[" in text else NAN
    except ValueError:
        return NAN


def llmbar(text: str, _: Scale) -> float:
    """The text is a whole number and nothing else.

    princeton-nlp/LLMBar@900616b LLMEvaluator/evaluate.py, where a pair with a text that is none counts as right in one
    order and wrong in the other.
    """
    try:
        return float(int(text))
    except (ValueError, OverflowError):
        return NAN


RATINGS: dict[str, RatingParser] = {
    "unique": unique,
    "rewardbench": rewardbench,
    "mt_bench": mt_bench,
    "prometheus": prometheus,
    "wildbench": wildbench,
    "autoj": autoj,
    "llmbar": llmbar,
}
"""By the name that a protocol card gives. Whatever one of them reads off the scale is no rating here."""


def read_rating(
    text: str, scale: Scale = (1, 10), *, parser: str = "unique", finish: Finish = "stop", thinking: Tags = THINKING
) -> Rated:
    """The rating of a whole reply: its reasoning stripped, its final part parsed, and otherwise the reason why not.

    Raises UsageError for a parser that there is not.

    >>> read_rating("<think>A 3? No.</think>Rating: **8**")
    Rated(value=8.0, reason=None)
    >>> read_rating("11").reason
    'unparsed'
    """
    if parser not in RATINGS:
        hint = near_miss(parser, RATINGS) or f"Known: {', '.join(RATINGS)}."
        raise UsageError(f"judge.parse={parser!r}: no such parser of ratings. {hint}")
    final, reason = answer(text, finish, thinking)
    if reason:
        return Rated(NAN, reason)
    value = _within(RATINGS[parser](final, scale), scale)
    if math.isnan(value):
        return Rated(NAN, "refused" if declines(final) else "unparsed")
    return Rated(value)


_NOUN = r"(?i:(?:response|assistant|answer|candidate|output)\s+)?"


def read_ratings(
    text: str, names: Sequence[str], scale: Scale = (1, 10), *, finish: Finish = "stop", thinking: Tags = THINKING
) -> tuple[Rated, ...]:
    """One rating per candidate named, from one text: a JSON object with their names, or "A: 7, B: 3".

    A candidate that is missing, or has two ratings that differ, is `unparsed`; the others stand.

    >>> [one.value for one in read_ratings('{"scores": {"A": 7, "B": 11}}', "AB")]
    [7.0, nan]
    >>> [one.value for one in read_ratings("Response A: 7/10, Response B: 3/10", "AB")]
    [7.0, 3.0]
    """
    final, reason = answer(text, finish, thinking)
    if reason:
        return (Rated(NAN, reason),) * len(names)
    listed = _listed(final, names, scale)
    values = [_agreed(listed[name]) for name in names]
    missing = "refused" if all(map(math.isnan, values)) and declines(final) else "unparsed"
    return tuple(Rated(NAN, missing) if math.isnan(value) else Rated(value) for value in values)


def _listed(text: str, names: Sequence[str], scale: Scale) -> dict[str, list[float]]:
    """Every number that the text gives each candidate: of its JSON objects where one names any, else of its prose."""
    found: dict[str, list[float]] = {name: [] for name in names}
    spelled = {bare(name): name for name in names}
    for _, _, outer in json_objects(text):
        inner = next((outer[key] for key in ("scores", "ratings") if isinstance(outer.get(key), dict)), outer)
        for key, value in inner.items():
            name = spelled.get(re.sub(_NOUN, "", bare(key)))
            if name is not None:
                found[name].append(NAN if inner.doubled or outer.doubled else _number(value, scale))
    if any(found.values()):
        return found
    plain = re.sub(r"[*_`]|\[\[|\]\]", "", _without_scale(text, scale))
    for name in names:
        named = rf"(?<!\w){_NOUN}\(?{_either_case(name)}\)?\s*(?:[:\uff1a=\u2192]|->)\s*"
        number = r"(?=(?P<rest>[-+\u2013\u2212]?[0-9][^\n]{0,40}))"
        matches = re.finditer(named + number, plain)
        found[name] = [_leading(match["rest"], scale) for match in matches]
    return found


def _either_case(name: str) -> str:
    """A name as a pattern, ASCII letters in either case: to `re.IGNORECASE` the Kelvin sign is a K."""
    return "".join(f"[{c.lower()}{c.upper()}]" if c.isascii() and c.isalpha() else re.escape(c) for c in name)
