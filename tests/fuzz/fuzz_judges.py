"""Parsers of verdicts and ratings, beside slow and plain ones: no verdict may come from a text that commits to none.

The plain ones are written without regular expressions, letter by letter, from what each parser's docstring says. Where a
rule is too much its own expression for that, what must stand in the text at least is checked.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from functools import partial

import fuzz_mutations as mutations
from fuzz_driving import Target

from rmeval.scorers.judge.ratings import RATINGS, read_rating, read_ratings
from rmeval.scorers.judge.verdicts import FIRST_LINE, PARSERS, read_verdict

Labels = Mapping[str, str]

_PAIR = {"[[A]]": "A", "[[B]]": "B"}
_TIE = {**_PAIR, "[[C]]": "tie"}
_FIVE = {f"[[{label}]]": label for label in ("A>>B", "A>B", "A=B", "B>A", "B>>A")}
_WORDS = {"Output (a)": "A", "Output (b)": "B"}
_STEPS = {str(n): str(n) for n in range(-1, 4)}
LABELS: dict[str, tuple[Labels, ...]] = {
    "unique": (_PAIR, _TIE, _WORDS, _STEPS, _FIVE, {"A": "A", "B": "B", "C": "C"}),
    "json": (_PAIR, _TIE, _STEPS),
    "first_by_precedence": (_PAIR, _TIE),
    "last": (_FIVE,),
    "judgebench": (_FIVE,),
    "rm_r1": (_PAIR, _TIE),
    "result_tag": ({"A": "A", "B": "B"},),
    "llmbar": (_WORDS,),
    "llmbar_cot": (_WORDS,),
    "exact": ({"m": "A", "M": "B"}, _FIVE),
    "choice_json": ({"A++": "A>>B", "A+": "A>B", "A=B": "tie", "B+": "B>A", "B++": "B>>A"},),
    "pandalm": ({"1": "A", "2": "B", "tie": "tie"},),
    "autoj": ({"response 1": "A", "response 2": "B", "tie": "tie"},),
    "first_line_scores": ({"A": "A", "B": "B", "tie": "tie"}, _PAIR),
    "pair_scores": ({"A": "A", "B": "B", "tie": "tie"}, _PAIR),
    "processbench": (_STEPS,),
    "vl_rewardbench": ({"Answer 1": "A", "Answer 2": "B"},),
}
"""Parser of verdicts -> labels as its protocols have them."""

PIECES = (
    "[[A]]", "[[B]]", "[[C]]", "[[a]]", "[[ A ]]", "[[A>B]]", "[[B>>A]]", "[[A>>B]]", "[[A=B]]", "[[A>>>B]]", "[A>B]", "[A]",
    "[[\u0410]]", "[[A", "A]]", "[[", "]]", "[[A]] or [[B]]", "[[Tie]]", "[[A and B]]", "[[wiki]]", "[[1]]", "[[-1]]", "[[0]]",
    "A", "B", "tie", "Tie", "1", "2", "m", "M", "Output (a)", "Output (b)", "output (a) is better.", "Output (a) is better.",
    "Output (b) is better!", "Output  (b)", "[RESULT] A", "[RESULT] B", "[RESULT: A]", "Result: B", "[Response A]",
    '{"verdict": "A"}', '{"verdict": "B", "extra": 1}', '{"verdict": "A", "verdict": "B"}', '{"verdict": null}',
    '{"verdict": 1}', '{"verdict": "-1"}', '{"verdict": true}', '{"verdict": ["A"]}', '{"reasoning": "[[B]]", "verdict": "A"}',
    '{"choice": "A++"}', '{"choice": "B", "choice": "B+"}', '"choice": "A=B"', '{"rating": 8}', '{"score": "7/10"}',
    '{"rating": 8, "rating": 9}', '{"rating": 1e999}', '{"rating": NaN}', '{"score": 11}', '{"scores": {"A": 7, "B": 3}}',
    '{"A": 4}', "Response A: 7/10, Response B: 3/10", "A: 5", "B = 2", "Rating: 8/10", "Rating: [[8]]", "[[8]]", "[8]",
    "[[8.5]]", "[[11]]", "[[7, 9]]", "[7, 7.05]", "8 6.5", "8,9", "nan 3", "8/10", "8 out of 10", "3-4", "-3", "11", "0", "08",
    "I give it a 7.", "score of 5", "[RESULT] 4", "Score: 3", '"score": "6"', "80%", "7.5", "1e1", "\u0663", "\uff18", "\u00b2",
    "final decision is Response 1.", "final decision is tie", "So, the final decision is Response 2",
    "\\boxed{1}", "\\boxed{ 2 }", "\\boxed{-1}", "\\boxed{9}", "\\boxed{\u0661}", "\\boxed{", "\\boxed{1_0}",
    "**Overall Judgment**: Answer 1 is better", "Therefore Answer 2 is slightly better", "Answer 3 is better",
    "<think>", "</think>", "<THINK>", "<reasoning>", "</reasoning>", "[THINK]", "[/THINK]", "<|channel|>analysis",
    "<|channel|>final<|message|>", "I'm sorry, but I can't assist with that.", "As an AI, I cannot judge", "{", "}", '{"',
    "\n", "\n\n", " ", "\t", ".", "```json", "```", "is", "not", "better", "The answer", "on a scale of 1 to 10", "(1-10)",
)  # fmt: skip


def _case(draw: random.Random) -> str:
    if draw.random() < 0.001:  # a judge that says one thing until its tokens are used up
        piece = draw.choice(PIECES)
        return draw.choice(PIECES) + piece * (20_000 // max(1, len(piece))) + draw.choice(PIECES)
    joined = draw.choice(("", " ", "\n", " ", ". ")).join(
        draw.choices(PIECES, k=draw.choice((1, 1, 2, 2, 3, 4, 6, 10)))
    )
    return mutations.text(draw, joined, PIECES) if draw.random() < 0.4 else joined


# --- plain parsers ---------------------------------------------------------------------------------------------------

TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel|>analysis", "<|channel|>final<|message|>"),
)
_LOWER = {c: c + 32 for c in range(65, 91)}


def _final(text: str) -> str | None:
    """What follows the last stretch of reasoning; None where it does not end."""
    low = text.translate(_LOWER)
    closed = [at + len(shut) for _, shut in TAGS for at in _places(low, shut.translate(_LOWER))]
    opened = [at for start, _ in TAGS for at in _places(low, start.translate(_LOWER))]
    end = max(closed, default=0)
    return None if any(at >= end for at in opened) else text[end:]


def _places(text: str, part: str) -> list[int]:
    found, at = [], text.find(part)
    while at >= 0:
        found.append(at)
        at = text.find(part, at + 1)
    return found


def _bracketed(text: str) -> list[str]:
    """What stands between `[[` and `]]` with no bracket in it."""
    return [
        text[at + 2 : end]
        for at in _places(text, "[[")
        if (end := text.find("]]", at, at + 300)) > 0 and not set("[]") & set(text[at + 2 : end])
    ]


def _present(text: str, labels: Labels) -> list[str]:
    return [meant for label, meant in labels.items() if (label if "[" in label else f"[[{label}]]") in text]


def _signs(text: str, opening: str, closing: str) -> list[str]:
    """Runs of A, B, <, > and = between brackets, from left to right, none inside another."""
    found, at = [], 0
    while (at := text.find(opening, at)) >= 0:
        end = at + len(opening)
        while end < len(text) and text[end] in "AB<>=":
            end += 1
        if end > at + len(opening) and text.startswith(closing, end):
            found.append(text[at + len(opening) : end])
            at = end + len(closing)
        else:
            at += 1
    return found


def _first(text: str, labels: Labels) -> str | None:
    return next(iter(_present(text, labels)), None)


def _only(text: str, labels: Labels) -> str | None:
    found = _present(text, labels)
    return found[0] if len(found) == 1 else None


def _last(text: str, labels: Labels) -> str | None:
    for opening, closing in (("[[", "]]"), ("[", "]")):
        found = _signs(text.upper(), opening, closing)
        if found:
            return labels.get(f"[[{found[-1]}]]")
    return None


def _one_kind(text: str, labels: Labels) -> str | None:
    found = set(_signs(text, "[[", "]]"))
    return labels.get(f"[[{found.pop()}]]") if len(found) == 1 else None


def _opens_a_line(text: str, labels: Labels) -> str | None:
    lines = [line.removeprefix(" ") for line in text.strip().split("\n")]
    return next((meant for label, meant in labels.items() if any(line.startswith(label) for line in lines)), None)


def _is_better(text: str, labels: Labels) -> str | None:
    text = text.strip()
    for label, meant in labels.items():
        said = f"{label} is better"
        if any(text[at + len(said) : at + len(said) + 1] not in ("", "\n") for at in _places(text, said)):
            return meant
    return None


def _first_line(text: str, labels: Labels) -> str | None:
    line = text.strip().split("\n")[0]
    return labels.get(line, labels.get(line.lower()))


def _decided(text: str, labels: Labels) -> str | None:
    places = _places(text.strip(), "final decision is ")
    rest = text.strip()[places[-1] + len("final decision is ") :].strip().lower() if places else ""
    return next((meant for label, meant in labels.items() if rest.startswith(label.lower())), None)


def _choice(text: str, labels: Labels) -> str | None:
    try:
        whole = json.loads(text.strip())
    except (ValueError, RecursionError):
        return "whatever"
    chosen = whole.get("choice") if isinstance(whole, dict) else None
    return labels.get(chosen) if isinstance(chosen, str) else None


PLAIN: dict[str, Callable[[str, Labels], str | None]] = {
    "first_by_precedence": _first,
    "rm_r1": _only,
    "last": _last,
    "judgebench": _one_kind,
    "exact": lambda text, labels: labels.get(text.strip()),
    "llmbar": _opens_a_line,
    "llmbar_cot": _is_better,
    "pandalm": _first_line,
    "autoj": _decided,
    "choice_json": _choice,
}


def _boxes(text: str) -> list[str]:
    """What stands in each box that is closed."""
    found, at = [], 0
    while (start := text.find("\\boxed{", at)) >= 0 and (end := text.find("}", start)) >= 0:
        found.append(text[start + len("\\boxed{") : end])
        at = end + 1
    return found


def _committed(name: str, text: str, labels: Labels, verdict: str) -> bool:
    """What must stand in a text for this verdict, for rules that have no plain one here."""
    mine = [label for label, meant in labels.items() if meant == verdict]
    if name in ("unique", "json"):
        low = _unescaped(text).translate(_LOWER)
        inside = {one.strip().translate(_LOWER) for one in _bracketed(text)}
        bare = [label.removeprefix("[[").removesuffix("]]").translate(_LOWER) for label in mine]
        said = any(one in inside or (" " in one and one in " ".join(low.split())) for one in bare)
        in_json = '"verdict"' in low and any(one in low for one in bare)
        others = {
            label.removeprefix("[[").removesuffix("]]").translate(_LOWER) for label in labels if label not in mine
        }
        return (said and name == "unique" and ("{" in text or not others & inside)) or in_json
    if name == "result_tag":
        return any(line.upper().rstrip().rstrip("]").endswith(verdict) for line in text.split("\n"))
    if name in ("first_line_scores", "pair_scores"):
        return any(c.isdecimal() or c in "nNiI" for c in text)
    if name == "processbench":
        return int(_boxes(text)[-1]) == int(verdict)
    if name == "vl_rewardbench":
        low = text.replace("\n", "").replace("*", "").lower()
        return "better" in low and ("overall judgment" in low or "therefore" in low)
    raise AssertionError(name)


def _unescaped(text: str) -> str:
    try:
        return text.encode("ascii", "backslashreplace").decode("unicode-escape")
    except UnicodeDecodeError:
        return text


REASONS = {"unparsed", "empty", "refused", "truncated"}


def _verdict(text: str, name: str) -> bool:
    taken = False
    several = LABELS[name]
    for labels in several[len(text) % len(several) :][:1]:
        for finish in ("stop", "length", "refusal") if len(text) % 7 == 0 else ("stop",):
            found = read_verdict(text, labels, parser=name, finish=finish)
            assert (found.verdict is None) == (found.reason is not None)
            assert found.reason is None or found.reason in REASONS, found.reason
            assert found.verdict is None or found.verdict in labels.values(), "a verdict that is no label's"
            final = _final(text)
            if finish != "stop":
                assert found.verdict is None or (name in FIRST_LINE and finish == "length"), "from a text cut short"
                continue
            if not text.strip() or final is None or not final.strip():
                assert found.verdict is None, "a verdict from the reasoning"
                continue
            if name in PLAIN:
                plain = PLAIN[name](final, labels)
                assert plain in ("whatever", found.verdict), f"{found.verdict} where {plain} is plain"
            elif found.verdict is not None:
                assert _committed(name, final, labels, found.verdict), f"{found.verdict} from a text without it"
            taken |= found.verdict is not None
    return taken


# --- ratings ---------------------------------------------------------------------------------------------------------

SCALES = ((1.0, 10.0), (0.0, 5.0), (-1.0, 1.0))


def _has_number(text: str, value: float) -> bool:
    """Whether a number of this value stands somewhere in the text, its digits in any script."""
    plain = "".join(str(int(c)) if c.isdecimal() else c for c in f"{text}\0{_unescaped(text)}\0")
    allowed, run, runs = set("0123456789.eE+-_"), "", []
    for c in plain:
        if c in allowed:
            run += c
        else:
            runs.append(run)
            run = ""
    for one in runs:
        for start in range(len(one)):
            for end in range(start + 1, min(len(one), start + 40) + 1):
                try:
                    if float(one[start:end]) == value:
                        return True
                except ValueError:
                    continue
    return False


def _rating(text: str, name: str) -> bool:
    taken = False
    for low, high in SCALES[len(text) % len(SCALES) :][:1]:
        found = read_rating(text, (low, high), parser=name)
        assert math.isnan(found.value) == (found.reason is not None)
        assert found.reason is None or found.reason in REASONS, found.reason
        final = _final(text)
        if math.isnan(found.value):
            continue
        taken = True
        assert final is not None, "a rating from the reasoning"
        assert low <= found.value <= high, "a rating off the scale"
        assert len(text) > 5000 or _has_number(final, found.value), f"{found.value} from a text without it"
    assert math.isnan(read_rating(text, parser=name, finish="length").value)
    return taken


def _ratings(text: str) -> bool:
    found = read_ratings(text, "AB", (1, 10))
    assert len(found) == 2
    for one in found:
        assert math.isnan(one.value) == (one.reason is not None)
        assert math.isnan(one.value) or 1 <= one.value <= 10
    assert [one.value for one in read_ratings(text, "BA", (1, 10))][::-1] == [one.value for one in found] or any(
        math.isnan(one.value) for one in found
    ), "the order of the names decides"
    return not all(math.isnan(one.value) for one in found)


assert set(LABELS) == set(PARSERS), "a parser of verdicts that is not under fuzz"

TARGETS = (
    *(Target(f"verdict: {name}", _case, partial(_verdict, name=name)) for name in PARSERS),
    *(Target(f"rating: {name}", _case, partial(_rating, name=name)) for name in RATINGS),
    Target("ratings of several", _case, _ratings),
)
