"""The table of transformations, and an example under one of them.

Each keeps which response is the better one, and does the same to every response whatever its grade. Its draws come from
a hash of its name and the example's id. What it changes is part of the question it asks:

| changes     | the question                                                                      |
|-------------|-----------------------------------------------------------------------------------|
| `prompt`    | does the order of the same responses depend on how the request is put?            |
| `responses` | does it depend on how both responses are written?                                 |
| `both`      | and if prompt and responses are written that way (the form of reWordBench)?       |

The idea is that of reWordBench (Wu et al., arXiv:2503.11751), without a claim of parity: these transformations are our
own, they need no model, and all of them are deterministic.

What this module does not know: scores.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from rmeval.errors import UsageError, near_miss
from rmeval.probes.robustness import formats, python_code, wording
from rmeval.types import Candidate, Example, Labels, Message

Edit: TypeAlias = Callable[[str, random.Random, str], str | None]
"""(text, draws, last user turn) -> the text edited, or None where the edit does not apply."""
Group: TypeAlias = Literal["natural", "targeted", "length"]
Changes: TypeAlias = Literal["prompt", "responses", "both"]


@dataclass(frozen=True, slots=True)
class Transformation:
    """One way to say the same."""

    name: str
    group: Group
    changes: Changes
    what: str
    """What it does and where it applies, in words."""
    edit: Edit


@dataclass(frozen=True, slots=True)
class Changed:
    """An example under a transformation, with the candidates to which it applies."""

    example: Example
    places: tuple[int, ...]
    """For each of its candidates, which candidate of the original it was."""


def _table() -> dict[str, Transformation]:
    made = [
        Transformation("whitespace", "natural", "responses", "a tenth of the spaces in prose doubled",
                       wording.whitespace),
        Transformation("first-letter", "natural", "responses", "sentences of prose begin with a small letter",
                       wording.first_letter),
        Transformation("typos", "natural", "both",
                       "two letters swapped in one of 12 long words of prose; never in code, numbers, formulas, quotes",
                       wording.typos),
        Transformation("typos-prompt", "natural", "prompt", "the same, in the last user turn alone", wording.typos),
        Transformation("typos-responses", "natural", "responses", "the same, in the responses alone", wording.typos),
        Transformation("final-stop", "natural", "responses", "lines of prose lose their final full stop",
                       wording.final_stop),
        Transformation("typography", "natural", "responses", "curly apostrophes and dashes in prose",
                       wording.typography),
        Transformation("polite-prompt", "natural", "prompt", "a greeting before the request, thanks after it",
                       wording.polite_prompt),
        Transformation("polite-responses", "natural", "responses", "a courteous opening and end around prose",
                       wording.polite_response),
        Transformation("quoted-prompt", "natural", "responses", "a response that holds prose first quotes the request",
                       wording.quoted_prompt),
        Transformation("paraphrase", "natural", "prompt", "the request introduced by another template, word for word",
                       wording.paraphrase),
        Transformation("boilerplate", "natural", "responses", "an assistant's disclaimers around prose",
                       wording.boilerplate),
        Transformation("markdown-on", "targeted", "responses",
                       "a heading and bold first words, for prose without markup and code", formats.markdown_on),
        Transformation("markdown-off", "targeted", "responses", "heading marks, bullets and bold marks removed",
                       formats.markdown_off),
        Transformation("bullets", "targeted", "responses",
                       "sentences as bullets, for prose of several sentences without a list", formats.bullets),
        *(Transformation(f"answer-{form}", "targeted", "responses",
                         f"the final answer as {shown}, where the last line gives it in another known form",
                         formats.answer_as(form))
          for form, shown in (("sentence", "'The answer is 5.'"), ("boxed", r"'\boxed{5}'"), ("bold", "'**5**'"),
                              ("hash", "'#### 5'"))),
        Transformation("thousands", "targeted", "responses", "1000 as 1,000, but for what may be a year",
                       formats.thousands),
        Transformation("no-thousands", "targeted", "responses", "1,000 as 1000", formats.no_thousands),
        Transformation("units", "targeted", "responses", "5 kg as 5 kilograms, 20% as 20 percent", formats.units),
        Transformation("code-rename", "targeted", "responses", "local variables of Python code renamed",
                       python_code.rename),
        Transformation("code-comments", "targeted", "responses", "comments that say nothing in Python functions",
                       python_code.comments),
        Transformation("code-blank-lines", "targeted", "responses", "blank lines in Python functions",
                       python_code.blank_lines),
        Transformation("padding", "length", "responses", "one sentence that says nothing after a response with prose",
                       wording.padding),
        Transformation("long-padding", "length", "responses", "six such sentences", wording.long_padding),
        Transformation("restated", "length", "responses", "the last sentence said once more", wording.restated),
    ]  # fmt: skip
    return {one.name: one for one in made}


TRANSFORMATIONS = _table()
"""By name. The group `length` is what an attack on a length bias would do; done to both sides it changes nothing."""
GROUPS: tuple[Group, ...] = ("natural", "targeted", "length")


def chosen(names: Sequence[str] | None) -> list[Transformation]:
    """The transformations named, a group's name standing for all of it; None for all. `UsageError` for unknown ones.

    >>> [one.name for one in chosen(["length", "typos"])]
    ['typos', 'padding', 'long-padding', 'restated']
    """
    if names is None:
        return list(TRANSFORMATIONS.values())
    known = [*GROUPS, *TRANSFORMATIONS]
    for name in names:
        if name not in known:
            hint = near_miss(name, known) or f"Known: {', '.join(known)}."
            raise UsageError(f"unknown transformation {name!r}. {hint}")
    wanted = set(names)
    return [one for one in TRANSFORMATIONS.values() if {one.name, one.group} & wanted]


def as_texts(example: Example) -> Example:
    """The example with responses as whole texts: given steps would not follow an edit, so neither side uses them."""
    return replace(example, candidates=tuple(replace(one, steps=()) for one in example.candidates))


def transform(example: Example, how: Transformation) -> Changed | None:
    """The example under a transformation; None where no right and wrong response are left to compare.

    A response to which the transformation does not apply is left out. `prompt` needs the last user turn to change; for
    `both` it changes where it can.
    """
    request = next((m.content for m in reversed(example.prompt) if m.role == "user"), "")
    prompt = example.prompt
    if how.changes != "responses":
        new = how.edit(request, _draws(example, how), request)
        if new is None and how.changes == "prompt":
            return None
        prompt = _with_request(prompt, request if new is None else new)
    edited: list[tuple[int, Candidate]] = []
    for place, candidate in enumerate(example.candidates):
        text = candidate.text if how.changes == "prompt" else how.edit(candidate.text, _draws(example, how), request)
        if text is not None:
            edited.append((place, Candidate(text, (), candidate.tags)))
    places = tuple(place for place, _ in edited)
    grades = example.labels.grades
    if not any(grades[r] == max(grades) > grades[w] for r in places for w in places):
        return None
    candidates = tuple(candidate for _, candidate in edited)
    labels = Labels(tuple(grades[place] for place in places))
    return Changed(replace(example, prompt=prompt, candidates=candidates, labels=labels), places)


def _draws(example: Example, how: Transformation) -> random.Random:
    digest = hashlib.sha256(f"{how.name}\n{example.id}".encode()).hexdigest()
    return random.Random(digest)  # noqa: S311 - a draw that must repeat, not a secret


def _with_request(prompt: tuple[Message, ...], request: str) -> tuple[Message, ...]:
    last = max((i for i, m in enumerate(prompt) if m.role == "user"), default=-1)
    return tuple(replace(m, content=request) if i == last else m for i, m in enumerate(prompt))
