"""Preference rows -> examples: pairs, labelled pairs, best-of-k, style matrices, lists with marks or grades.

Every reader is `reader(rows, card, layout, seed) -> Iterator[Example]`. All of them know the roles `prompt`, `id`,
`subset`, `group`, `cluster` (what intervals resample; by default the prompt) and `models` (who wrote the candidates),
and the `[slices]` of a card; each documents its own. An id that a card does not declare is `<subset>/<0-based row in
it>`, a subset that it does not declare is the suite's name. An id that another subset used already becomes
`<subset>/<row>` as well; the same id twice in one subset is a fault. Candidates stand in the data set's own column
order: chosen before rejected, first before second, lists as listed. Equal chosen and rejected texts are legal data.

What this module does not know: files, the hub, metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from rmeval.cards import Layout, SuiteCard
from rmeval.errors import UsageError, near_miss
from rmeval.readers.fields import (
    BadRow,
    cluster_named,
    cluster_of,
    conversation,
    response,
    shared_prompt,
    text_of,
    value_of,
)
from rmeval.readers.rows import Row, faults_message, refuse
from rmeval.types import Candidate, Example, Labels, Message

Body: TypeAlias = tuple[tuple[Message, ...], tuple[Candidate, ...], Labels]
"""What a reader makes of a row: prompt, candidates, labels."""

_MOST = 1e100
"""Grades beyond are none: their sums and squares would overflow."""

Get: TypeAlias = Callable[[str], Any]
"""The value of a role in the row at hand; None where the row may lack it and does."""

COMMON = ("prompt", "id", "subset", "group", "cluster", "slices", "models")


def pairs(rows: Iterable[Row], card: SuiteCard, layout: Layout | None, seed: int) -> Iterator[Example]:
    """One chosen and one rejected response. Roles: `chosen`, `rejected`; texts or messages.

    Without a `prompt` role the two are whole conversations (lists of messages, or hh-rlhf transcripts) that share it.
    """
    del seed

    def body(get: Get) -> Body:
        value = get("prompt")
        if value is None:
            prompt, chosen, rejected = shared_prompt(get("chosen"), get("rejected"))
        else:
            prompt = conversation(value)
            chosen, rejected = (response(get(role), prompt, role) for role in ("chosen", "rejected"))
        return prompt, (Candidate(chosen), Candidate(rejected)), Labels((1.0, 0.0))

    return read_examples(rows, card, layout, ("chosen", "rejected"), body)


def labelled_pairs(rows: Iterable[Row], card: SuiteCard, layout: Layout | None, seed: int) -> Iterator[Example]:
    """Two responses and a label that names the better one. Roles: `first`, `second`, `label` or `votes`.

    `votes` is a list of labels, one per annotator; the label is then what more than half of them say, else a tie. A tie
    grades both 0.5. Options: `first_wins`, `second_wins` and, where there are ties, `tie`: a label in the data set's
    spelling, or a list of them.
    """
    del seed
    outcome = dict.fromkeys(_spellings(card, "first_wins"), 0)
    outcome |= dict.fromkeys(_spellings(card, "second_wins"), 1)
    outcome |= dict.fromkeys(_spellings(card, "tie") if "tie" in card.options else (), -1)
    grades = {0: (1.0, 0.0), 1: (0.0, 1.0), -1: (0.5, 0.5)}

    def read(label: Any) -> int:
        if str(label) not in outcome:
            raise BadRow(f"label is {str(label)!r}, expected {' or '.join(repr(known) for known in outcome)}")
        return outcome[str(label)]

    def body(get: Get) -> Body:
        prompt = conversation(get("prompt"))
        two = tuple(Candidate(response(get(role), prompt, role)) for role in ("first", "second"))
        given = get("votes")
        if given is None:
            return prompt, two, Labels(grades[read(get("label"))])
        if not isinstance(given, list) or not given:
            raise BadRow(f"votes must be a list of labels, found {_count(given)}")
        votes = tuple(map(read, given))
        first, many = Counter(votes).most_common(1)[0]
        return prompt, two, Labels(grades[first if 2 * many > len(votes) else -1], votes=votes)

    return read_examples(rows, card, layout, ("first", "second", "label", "votes"), body)


def graded_list(rows: Iterable[Row], card: SuiteCard, layout: Layout | None, seed: int) -> Iterator[Example]:
    """Responses with a grade each: ratings, or right and wrong. Roles: `responses`, `grades`, `comparisons`, `answers`.

    `comparisons` are pairs of 0-based positions that the official metric compares. `answers` are the final answers that
    the responses came to, as texts: equal to the letter is one answer to a vote. A layout without `responses` gives
    score-only examples. Of gathered rows, a grade that all share stands for each.
    """
    del seed

    def body(get: Get) -> Body:
        prompt, responses, given = conversation(get("prompt")), get("responses"), get("grades")
        if responses is not None and not isinstance(responses, list):
            raise BadRow("responses must be a list")
        k = None if responses is None else len(responses)
        grades = given if isinstance(given, list) else [given] * (k or 0)
        if len(grades) < 2 or (k is not None and k != len(grades)):
            raise BadRow(f"{_count(responses)} responses and {_count(given)} grades; two or more of both are expected")
        pairs = tuple(_positions(pair, len(grades)) for pair in get("comparisons") or ())
        answers = _numbered(get("answers"), len(grades))
        labels = Labels(tuple(_grade(one) for one in grades), comparisons=pairs, answers=answers)
        if responses is None:
            return prompt, (Candidate(None),) * len(grades), labels
        return prompt, tuple(Candidate(response(one, prompt, "a response")) for one in responses), labels

    return read_examples(rows, card, layout, ("responses", "grades", "comparisons", "answers"), body)


def best_of_k(rows: Iterable[Row], card: SuiteCard, layout: Layout | None, seed: int) -> Iterator[Example]:
    """Right responses (graded 1) among wrong ones (graded 0). Roles: `chosen`, `rejected`; each a text or a list."""
    del seed

    def body(get: Get) -> Body:
        prompt = conversation(get("prompt"))
        chosen, rejected = (_texts(get(role), role) for role in ("chosen", "rejected"))
        candidates = tuple(Candidate(text) for text in (*chosen, *rejected))
        return prompt, candidates, Labels((1.0,) * len(chosen) + (0.0,) * len(rejected))

    return read_examples(rows, card, layout, ("chosen", "rejected"), body)


def style_matrix(rows: Iterable[Row], card: SuiteCard, layout: Layout | None, seed: int) -> Iterator[Example]:
    """The same right and the same wrong answer in several styles. Roles: `chosen`, `rejected`, lists in style order.

    Option: `styles`, their names, which become the tag `style` of the candidates.
    """
    del seed
    styles = card.options.get("styles", [])

    def body(get: Get) -> Body:
        prompt = conversation(get("prompt"))
        candidates = []
        for role in ("chosen", "rejected"):
            texts = _texts(get(role), role)
            if len(texts) != len(styles):
                raise BadRow(f"{role} has {len(texts)} responses, one per style is expected: {', '.join(styles)}")
            candidates += [Candidate(text, tags={"style": style}) for text, style in zip(texts, styles, strict=True)]
        return prompt, tuple(candidates), Labels((1.0,) * len(styles) + (0.0,) * len(styles))

    return read_examples(rows, card, layout, ("chosen", "rejected"), body)


def marked_list(rows: Iterable[Row], card: SuiteCard, layout: Layout | None, seed: int) -> Iterator[Example]:
    """Candidates in one list with a mark each. Roles: `marks`, and `responses` (texts, or lists of steps).

    A layout without `responses` gives score-only examples: published scores of them can be replayed, and asking a model
    for scores says why not. Options: `right`, the mark of the right ones; `k`, how many candidates a row must have.
    """
    del seed
    right, k = _option(card, "right"), card.options.get("k")

    def body(get: Get) -> Body:
        marks, responses = get("marks"), get("responses")
        if not isinstance(marks, list) or (k is not None and len(marks) != k):
            raise BadRow(f"{k or 'a list of'} marked candidates expected, found {_count(marks)}")
        labels = Labels(tuple(float(mark == right) for mark in marks), marks=tuple(map(str, marks)))
        if not any(labels.grades):
            raise BadRow(f"no candidate is marked {right!r}; the marks are {', '.join(map(str, marks))}")
        if responses is None:
            return conversation(get("prompt")), (Candidate(None),) * len(marks), labels
        if not isinstance(responses, list) or len(responses) != len(marks):
            raise BadRow(f"{len(marks)} marks but {_count(responses)} responses")
        return conversation(get("prompt")), tuple(_stepwise(one) for one in responses), labels

    return read_examples(rows, card, layout, ("marks", "responses"), body)


def read_examples(
    rows: Iterable[Row], card: SuiteCard, layout: Layout | None, roles: tuple[str, ...], body: Callable[[Get], Body]
) -> Iterator[Example]:
    """Examples of all rows that are sound; after the last one `UsageError` for all that are not, see `rows.refuse`."""
    fields = fields_of(card, layout)
    if unknown := sorted(set(fields) - {*COMMON, *roles}):
        hint = near_miss(unknown[0], (*COMMON, *roles))
        raise UsageError(
            f"suite {card.name!r}: reader {card.reader!r} knows no field {unknown[0]!r}. "
            f"{hint or 'It knows ' + ', '.join((*COMMON, *roles)) + '.'}"
        )
    faults: list[str] = []
    first: dict[str, tuple[str, str]] = {}
    seen_rows: Counter[str] = Counter()
    for row in rows:
        columns: Mapping[str, Any] = row.values

        def get(role: str, columns: Mapping[str, Any] = columns) -> Any:
            return value_of(fields[role], columns) if role in fields else None

        try:
            subset = _name(get("subset"), "subset") or card.name.partition(":")[0]
            columns = {**columns, "row": seen_rows[subset]}
            seen_rows[subset] += 1
            key = _name(get("id", columns), "id") or f"{subset}/{columns['row']}"
            prompt, candidates, labels = body(get)
            group = _name(get("group"), "group") or ""
            cluster = cluster_named(_name(get("cluster"), "cluster") or "") or cluster_of(prompt)
            slices = _slices(card, columns)
            candidates = _written_by(candidates, get("models"))
        except BadRow as fault:
            faults.append(f"{row.place}: {fault}")
            continue
        if key in first and first[key][1] != subset:
            key = f"{subset}/{columns['row']}"  # ids that count anew in every subset
        if key in first:
            faults.append(f"{row.place}: id {key!r} stands twice, first in {first[key][0]}")
            continue
        first[key] = row.place, subset
        yield Example(key, prompt, candidates, labels, subset, group, cluster, slices)
    if faults:
        count = f"{len(faults)} malformed row{'s' if len(faults) > 1 else ''}"
        refuse(faults_message(f"suite {card.name!r}: {count}", faults), faults)


def _slices(card: SuiteCard, columns: Mapping[str, Any]) -> tuple[str, ...]:
    """The overlapping groups of a row, per entry of `[slices]`: `name: value`, or the name alone where it is true."""
    found = []
    for name, field in card.slices.items():
        value = value_of(field, columns)
        if isinstance(value, bool):
            found += [name] if value else []
        elif value is not None and str(value).strip():
            found.append(f"{name}: {value}")
    return tuple(found)


def _written_by(candidates: tuple[Candidate, ...], models: Any) -> tuple[Candidate, ...]:
    """The candidates, tagged with who wrote them: one name each, or one for all."""
    if models is None:
        return candidates
    names = models if isinstance(models, list) else [models] * len(candidates)
    if len(names) != len(candidates):
        raise BadRow(f"{len(names)} models for {len(candidates)} responses")
    tagged = zip(candidates, names, strict=True)
    return tuple(replace(one, tags={**one.tags, "model": text_of(name, "a model")}) for one, name in tagged)


def fields_of(card: SuiteCard, layout: Layout | None) -> dict[str, str]:
    """The fields in force: the card's, with those of the layout over them; "" takes one away."""
    fields = {**card.fields, **(layout.fields if layout else {})}
    return {role: field for role, field in fields.items() if field}


def _option(card: SuiteCard, name: str) -> str:
    if name not in card.options:
        raise UsageError(f"suite {card.name!r}: reader {card.reader!r} needs options.{name}")
    return str(card.options[name])


def _spellings(card: SuiteCard, name: str) -> tuple[str, ...]:
    """The spellings of a label that an option lists."""
    value = card.options.get(name)
    return tuple(map(str, value)) if isinstance(value, list) else (_option(card, name),)


def _grade(value: Any) -> float:
    if isinstance(value, bool | int | float) and abs(value) < _MOST:
        return float(value)
    raise BadRow(f"a grade must be a number, or true or false, found {value!r}")


def _positions(pair: Any, k: int) -> tuple[int, int]:
    if isinstance(pair, list) and len(pair) == 2 and all(type(i) is int and 0 <= i < k for i in pair):
        return pair[0], pair[1]
    raise BadRow(f"a comparison must be two positions below {k}, found {pair!r}")


def _numbered(answers: Any, k: int) -> tuple[int, ...]:
    """Answers as numbers in order of appearance.

    >>> _numbered(["7", "-7", "7"], 3)
    (0, 1, 0)
    """
    if answers is None:
        return ()
    if not isinstance(answers, list) or len(answers) != k:
        raise BadRow(f"{k} grades and {_count(answers)} answers")
    numbers: dict[str, int] = {}
    return tuple(numbers.setdefault(text_of(one, "an answer"), len(numbers)) for one in answers)


def _name(value: Any, role: str) -> str | None:
    """An id, subset or group: a text or a whole number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise BadRow(f"{role} must be a text or a whole number, found {value!r}")
    return str(value)


def _texts(value: Any, role: str) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise BadRow(f"{role} is an empty list")
    return tuple(text_of(text, role) for text in texts)


def _stepwise(value: Any) -> Candidate:
    """A candidate from a text, or from a list of steps, joined by newlines."""
    if isinstance(value, list):
        steps = tuple(text_of(step, "a step") for step in value)
        return Candidate("\n".join(steps), steps)
    return Candidate(text_of(value, "a response"))


def _count(value: Any) -> str:
    return str(len(value)) if isinstance(value, list) else "none"
