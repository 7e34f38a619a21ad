"""Edits of wording that leave what is said as it was: spaces, letters, typos, courtesy, quotation, filler.

Every edit is `edit(text, rng, prompt) -> str | None`: None where there is nothing for it to change.

What this module does not know: examples, which side of an example is edited.
"""

from __future__ import annotations

import random
import re

from rmeval.probes.robustness.prose import SENTENCE_END, lines, prose
from rmeval.probes.robustness.prose import edit as edit_parts

_LONG_WORD = re.compile(r"(?<![\w'’/.-])[a-z]{6,}(?![\w'’/-])")
_SPACE = re.compile(r"(?<=\S) (?=\S)")
_SENTENCE_START = re.compile(r"(?:^|(?<=[.!?] ))[A-Z](?=[a-z])")
_APOSTROPHE = re.compile(r"(?<=[A-Za-z])'(?=[A-Za-z])")
_DASH = re.compile(r"(?<=[a-z]) - (?=[A-Za-z])")
TYPO_EVERY = 12
"""One long word in so many gets a typo, at least one."""
_TWINS = frozenset((
    "casual", "causal", "martial", "marital", "united", "untied", "sacred", "scared", "perfect", "prefect", "silver",
    "sliver", "barely", "barley", "infarction", "infraction", "parental", "prenatal", "conversation", "conservation",
    "unclear", "nuclear", "reserved", "reversed", "trails", "trials", "diverse", "calvary", "cavalry", "bolster",
    "slaver", "salver", "fiance", "friend", "complaint", "compliant", "dairies", "diaries", "alternation",
    "alteration", "inserted", "angles", "angels", "aerial", "corporation", "cooperation", "compiles", "complies",
    "farming", "framing", "signing", "singing",
))  # fmt: skip
"""Words that a swap of two letters may turn into another word."""
_TELLING = frozenset((
    "answer", "answers", "result", "results", "therefore", "option", "choice", "correct", "incorrect", "boxed",
    "equals", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "thousand", "million",
    "billion", "percent", "cannot", "should",
))  # fmt: skip
"""Words that say where an answer stands, and numbers."""
_OPENINGS = (
    "Of course, I am happy to help with this.",
    "Thank you for your message. Here is my reply.",
    "Sure! Let me help you with that.",
)
_CLOSINGS = (
    "I hope this helps.",
    "I hope that this is useful to you. Have a nice day!",
    "Please let me know if you need anything else.",
)
_ASKED_POLITELY = (
    ("Hello! Could you please help me with the following?", "Thank you very much!"),
    ("Good morning. I would be grateful for your help with this.", "Many thanks in advance."),
    ("Hi there, please take a look at this when you can.", "Thanks a lot!"),
)
_PARAPHRASES = (
    "Here is what I would like you to do:\n\n",
    "Respond to the request below.\n\n",
    "Consider the following task and give your response to it.\n\n",
    "My request to you is this one:\n\n",
)
_DISCLAIMERS = (
    (
        "As an AI language model, I have no personal experiences, but I can offer the following.",
        "Please note that this is for general information only.",
    ),
    (
        "I am an AI assistant, and I will do my best to respond to this.",
        "As always, it is a good idea to check important information with other sources.",
    ),
)
_FILLER = (
    "I have tried to be as clear as possible here, and I am glad to go into more detail on any part of this.",
    "There is of course always more that could be said on a subject like this one.",
    "Taking the time to look at a question with care is worthwhile, whatever the subject may be.",
    "If anything is left open, or if you had something else in mind, feel free to say so.",
    "It can also be useful to come back to a text like this later and to read it once more.",
    "Questions such as this one come up often, and it is good to think about them step by step.",
)


def whitespace(text: str, rng: random.Random, prompt: str) -> str | None:
    """A tenth of the spaces in prose, at least one, doubled."""
    del prompt
    places = [m.start() for a, b in prose(text) for m in _SPACE.finditer(text, a, b)]
    chosen = rng.sample(places, max(1, len(places) // 10)) if places else []
    return _insert(text, dict.fromkeys(chosen, " "))


def first_letter(text: str, rng: random.Random, prompt: str) -> str | None:
    """Sentences of prose begin with a small letter."""
    del rng, prompt
    return _unless_same(
        text, edit_parts(text, lambda part: _SENTENCE_START.sub(lambda m: m[0].lower(), part), _starts(text))
    )


def typos(text: str, rng: random.Random, prompt: str) -> str | None:
    """Two neighbouring letters inside one long word of prose in twelve, at least one, change places.

    Only words of six or more small letters: no names, no abbreviations; none that a swap may turn into another word,
    none that says where an answer stands, no numbers.

    >>> typos("The quick brown rabbit jumped over the fence.", random.Random(0), "")
    'The quick brown rabbit jupmed over the fence.'
    """
    del prompt
    words = [m for a, b in prose(text) for m in _LONG_WORD.finditer(text, a, b) if m[0] not in _TWINS | _TELLING]
    changed: dict[int, str] = {}
    for word in rng.sample(words, max(1, len(words) // TYPO_EVERY)) if words else ():
        places = [i for i in range(1, len(word[0]) - 2) if word[0][i] != word[0][i + 1]]
        if places:
            at = word.start() + rng.choice(places)
            changed |= {at: text[at + 1], at + 1: text[at]}
    return "".join(changed.get(i, c) for i, c in enumerate(text)) if changed else None


def final_stop(text: str, rng: random.Random, prompt: str) -> str | None:
    """Lines of prose lose their final full stop."""
    del rng, prompt
    ends = {b - 1 for a, b in prose(text) if text[b - 1] == "." and text[b : b + 1] in {"", "\n"}}
    ends = {at for at in ends if text[at - 1 : at] != "."}
    return "".join(c for i, c in enumerate(text) if i not in ends) if ends else None


def typography(text: str, rng: random.Random, prompt: str) -> str | None:
    """Apostrophes inside words become curly and hyphens between words dashes, as word processors do."""
    del rng, prompt
    return _unless_same(text, edit_parts(text, lambda part: _DASH.sub(" – ", _APOSTROPHE.sub("’", part)), prose(text)))


def polite_prompt(text: str, rng: random.Random, prompt: str) -> str | None:
    """A greeting before the request and thanks after it."""
    del prompt
    greeting, thanks = rng.choice(_ASKED_POLITELY)
    return f"{greeting}\n\n{text}\n\n{thanks}" if text.strip() else None


def polite_response(text: str, rng: random.Random, prompt: str) -> str | None:
    """A courteous opening and a courteous end around a response that holds prose."""
    del prompt
    return _around(text, rng.choice(_OPENINGS), rng.choice(_CLOSINGS))


def quoted_prompt(text: str, rng: random.Random, prompt: str) -> str | None:
    """The response begins by quoting the last user turn."""
    del rng
    quoted = "\n".join(f"> {line}".rstrip() for line in prompt.strip().splitlines())
    return f"{quoted}\n\n{text}" if quoted and prose(text) else None


def paraphrase(text: str, rng: random.Random, prompt: str) -> str | None:
    """The request is introduced in other words; every word of it stays, so that no detail can be lost."""
    del prompt
    return rng.choice(_PARAPHRASES) + text if text.strip() else None


def boilerplate(text: str, rng: random.Random, prompt: str) -> str | None:
    """An assistant's disclaimers around a response that holds prose."""
    del prompt
    return _around(text, *rng.choice(_DISCLAIMERS))


def padding(text: str, rng: random.Random, prompt: str) -> str | None:
    """One sentence that says nothing, at the end of a response that holds prose."""
    del prompt
    return f"{text.rstrip()}\n\n{rng.choice(_FILLER)}" if prose(text) else None


def long_padding(text: str, rng: random.Random, prompt: str) -> str | None:
    """Six sentences that say nothing, at the end of a response that holds prose."""
    del prompt
    return f"{text.rstrip()}\n\n{' '.join(rng.sample(_FILLER, len(_FILLER)))}" if prose(text) else None


def restated(text: str, rng: random.Random, prompt: str) -> str | None:
    """The last sentence is said once more, where it is no code and the response holds prose."""
    del rng, prompt
    body = text.rstrip()
    ends = [end for _, end in lines(body)]
    if not prose(text) or not ends or ends[-1] != len(body):
        return None
    return f"{body}\n\nTo say it once more:\n{SENTENCE_END.split(body.splitlines()[-1].strip())[-1]}"


def _around(text: str, before: str, after: str) -> str | None:
    return f"{before}\n\n{text.rstrip()}\n\n{after}" if prose(text) else None


def _starts(text: str) -> list[tuple[int, int]]:
    """Prose that begins a line or follows a sentence: what stands after a formula or a quotation begins nothing."""
    first = {start for start, _ in lines(text)}
    return [(a if a in first else a + 1, b) for a, b in prose(text) if b > a + 1]


def _insert(text: str, at: dict[int, str]) -> str | None:
    return "".join(at.get(i, "") + c for i, c in enumerate(text)) if at else None


def _unless_same(old: str, new: str) -> str | None:
    return None if new == old else new
