"""Rows with labels inside a solution -> examples: steps, Mr-Ben's solutions, pools of samples.

Index bases are normalised here and nowhere else. A step is graded 1 (right), 0 (wrong) or -1 (not labelled). Where only
the first wrong step is labelled, the steps before it are right and those after it are not labelled. Nothing is mended
in silence: what a reader leaves out it counts, in sentences that go into the result as notes.

What this module does not know: files, the hub, metrics, how a model is shown a step.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rmeval.cards import Layout, SuiteCard
from rmeval.errors import UsageError, near_miss
from rmeval.readers.fields import BadRow, conversation, response, text_of, value_of
from rmeval.readers.preference import Body, Get, fields_of, read_examples
from rmeval.readers.rows import Row, faults_message, refuse
from rmeval.types import Candidate, Labels

Reading: TypeAlias = "Generator[Any, None, tuple[str, ...]]"
"""Examples, and after the last one the notes about them."""

RIGHT, WRONG, UNLABELLED = 1, 0, -1
ORIGINAL = "correct"
"""The subset of solutions that others were made from."""


@dataclass(slots=True)
class _Seen:
    """What was found on the way and must be said."""

    blank: int = 0
    """Steps without any character but spaces."""
    repeated: int = 0
    past_end: int = 0
    """Listed wrong steps that the solution does not have."""
    rows_past_end: int = 0
    none_left: int = 0
    """Rows all of whose listed wrong steps are past the end."""
    dropped_blank: int = 0
    unlocated: list[str] = field(default_factory=list)
    ambiguous: int = 0

    def notes(self) -> tuple[str, ...]:
        """In sentences; () where there is nothing to say."""
        said = []
        if self.repeated:
            said.append(f"rows that repeat an id, of which the first is read: {self.repeated}")
        if self.past_end:
            said.append(
                f"wrong steps listed past the end of a solution, which are dropped: {self.past_end}, in "
                f"{self.rows_past_end} rows, of which none left in {self.none_left}"
            )
        if self.blank:
            said.append(f"blank steps, which stand as they are since labels count them: {self.blank}")
        if self.dropped_blank:
            said.append(f"blank items between steps, which are left out: {self.dropped_blank}")
        if self.unlocated:
            said.append(
                f"wrong solutions that name no step which is there, and have no step labels: {len(self.unlocated)} "
                f"({', '.join(self.unlocated[:3])}{', ...' if len(self.unlocated) > 3 else ''})"
            )
        if self.ambiguous:
            said.append(f"wrong lines that occur several times, of which the first is taken: {self.ambiguous}")
        return tuple(said)


# --- steps -----------------------------------------------------------------------------------------------------------


def steps(rows: Iterable[Row], card: SuiteCard, layout: Layout | None, seed: int) -> Reading:
    """One solution as a list of steps, with labels. Roles: `steps`, one or more of the three labels, `outcome`.

    Labels: `first_error`, the index of the first wrong step, -1 or null for none; `error_steps`, the indices of all
    wrong steps; `labels`, one per step: true or 1, false or 0, null for not labelled. `outcome` says whether the final
    answer is right; without it a solution is right that has no wrong step.
    Options: `base`, the index of the first step, 0 or 1; `past_end = "drop"` drops and counts indices of `error_steps`
    past the last step, which are refused otherwise; `repeated = "first"` keeps the first row of an id;
    `originals = "SUBSET"` adds the solutions that the rows of a subset were made from, all steps right, as the subset
    `correct`: roles `original_prompt`, `original_steps`.
    """
    del seed
    originals = card.options.get("originals")
    base, past_end, repeated = _options(card)
    fields = fields_of(card, layout)
    called = {role: fields[role].removesuffix("?") for role in _LABELS if role in fields}
    seen = _Seen()

    def body(get: Get) -> Body:
        prompt, parts = conversation(get("prompt")), _solution(get("steps"))
        grades = _grades(get, called, len(parts), base=base, past_end=past_end, seen=seen)
        seen.blank += sum(not part.strip() for part in parts)
        outcome = get("outcome")
        if outcome is not None and type(outcome) is not bool:
            raise BadRow(f"outcome must be true or false, found {outcome!r}")
        right = WRONG not in grades if outcome is None else outcome
        return prompt, (Candidate("\n".join(parts), parts),), Labels((float(right),), (grades,))

    there = _null_is_none(rows, fields)
    if originals is not None:
        there = _with_originals(there, card, fields, originals)
    kept = _first_of_each(there, _with_fields(card, layout, "id"), seen) if repeated == "first" else there
    yield from read_examples(kept, card, layout, _ROLES, body)
    return seen.notes()


_ROLES = ("steps", "first_error", "error_steps", "labels", "outcome", "original_prompt", "original_steps")


_KNOWN: Mapping[str, tuple[Any, ...]] = {
    "base": (0, 1),
    "past_end": ("refuse", "drop"),
    "repeated": ("refuse", "first"),
}
"""Options of `steps`, the default first."""


def _options(card: SuiteCard) -> tuple[int, str, str]:
    for name, value in card.options.items():
        if name == "originals":
            continue
        if name not in _KNOWN:
            hint = near_miss(name, (*_KNOWN, "originals"))
            raise UsageError(f"suite {card.name!r}: unknown option {name!r}. {hint}".rstrip())
        if value not in _KNOWN[name] or isinstance(value, bool):
            raise UsageError(
                f"suite {card.name!r}: option {name!r} is {value!r}, not one of {', '.join(map(repr, _KNOWN[name]))}"
            )
    base, past_end, repeated = (card.options.get(name, known[0]) for name, known in _KNOWN.items())
    return base, past_end, repeated


def _null_is_none(rows: Iterable[Row], fields: Mapping[str, str]) -> Iterator[Row]:
    """A null that stands in the column of the first error says that there is none; a column that lacks says nothing."""
    column = fields.get("first_error", "").removesuffix("?")
    for row in rows:
        null = column in row.values and row.values[column] is None
        yield Row({**row.values, column: -1}, row.place) if null else row


def _with_originals(rows: Iterable[Row], card: SuiteCard, fields: Mapping[str, str], subset: object) -> Iterator[Row]:
    """After each row of the subset, its original as a row: the same columns, none of its steps wrong."""
    needed = ("prompt", "steps", "error_steps", "subset", "original_prompt", "original_steps")
    if not isinstance(subset, str) or (lacking := [role for role in needed if role not in fields]):
        said = f"needs the fields {', '.join(lacking)}" if isinstance(subset, str) else "must name a subset"
        raise UsageError(f"suite {card.name!r}: option 'originals' {said}")
    for row in rows:
        yield row
        values = row.values
        if values.get(fields["subset"]) == subset:
            original: dict[str, Any] = {
                fields["prompt"]: values.get(fields["original_prompt"]),
                fields["steps"]: values.get(fields["original_steps"]),
                fields["error_steps"]: [],
                fields["subset"]: ORIGINAL,
            }
            yield Row({**values, **original}, row.place)


def _with_fields(card: SuiteCard, layout: Layout | None, *needed: str) -> dict[str, str]:
    """The fields in force. Raises `UsageError` where a card lacks one that its reader cannot do without."""
    fields = fields_of(card, layout)
    if lacking := [role for role in needed if role not in fields]:
        raise UsageError(f"suite {card.name!r}: reader {card.reader!r} needs the fields {', '.join(lacking)}")
    return fields


def _first_of_each(rows: Iterable[Row], fields: Mapping[str, str], seen: _Seen) -> Iterator[Row]:
    known = set()
    for row in rows:
        try:
            key = str(value_of(fields["id"], row.values))
        except BadRow:
            yield row  # to be refused with its place
            continue
        if key in known:
            seen.repeated += 1
        else:
            known.add(key)
            yield row


def _solution(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        found = "an empty list" if isinstance(value, list) else "null" if value is None else type(value).__name__
        raise BadRow(f"steps must be a list of at least one step, found {found}")
    return tuple(text_of(step, f"steps[{i}]") for i, step in enumerate(value))


_LABELS = {
    "first_error": "the first wrong step",
    "error_steps": "all wrong steps",
    "labels": "a label per step",
}
"""The ways in which a row may say what is wrong, in words."""


def _grades(
    get: Get, called: Mapping[str, str], count: int, *, base: int, past_end: str, seen: _Seen
) -> tuple[int, ...]:
    """The labels of a row in our form. Several that say different things are a fault. `called`: role -> column."""
    found = {}
    if (labels := get("labels")) is not None:
        found["labels"] = _listed(labels, count)
    if (wrong := get("error_steps")) is not None:
        found["error_steps"] = _wrong_steps(wrong, count, base, past_end, seen)
    if (first := get("first_error")) is not None:
        found["first_error"] = up_to(_index(first, count, base), count)
    if not found:
        ways = ", ".join(f"{column} ({_LABELS[role]})" for role, column in called.items())
        raise BadRow(f"no labels: give one of the columns {ways}")
    firsts = {grades.index(WRONG) if WRONG in grades else None for grades in found.values()}
    if len(firsts) > 1:
        raise BadRow(f"{' and '.join(called[role] for role in found)} name different first errors")
    return next(iter(found.values()))


def up_to(first: int | None, count: int) -> tuple[int, ...]:
    """Grades where only the first wrong step is labelled: [count].

    >>> up_to(1, 3), up_to(None, 2)
    ((1, 0, -1), (1, 1))
    """
    if first is None:
        return (RIGHT,) * count
    return (RIGHT,) * first + (WRONG,) + (UNLABELLED,) * (count - first - 1)


def _index(value: Any, count: int, base: int) -> int | None:
    if type(value) is not int:
        raise BadRow(f"the first wrong step must be a whole number or null, found {value!r}")
    if value == -1:
        return None
    if not base <= value < count + base:
        raise BadRow(
            f"the first wrong step is {value}, but there are {count} steps, counted from {base}; -1 or null says none"
        )
    return value - base


def _wrong_steps(value: Any, count: int, base: int, past_end: str, seen: _Seen) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(i) is int for i in value):
        raise BadRow(f"the wrong steps must be a list of whole numbers, found {value!r}")
    if low := [i for i in value if i < base]:
        raise BadRow(f"step {low[0]} is named wrong, but steps are counted from {base}")
    inside = {i - base for i in value if i - base < count}
    beyond = sum(i - base >= count for i in value)
    if beyond and past_end == "refuse":
        raise BadRow(f"step {max(value)} is named wrong, but there are {count} steps, counted from {base}")
    if beyond:
        seen.past_end += beyond
        seen.rows_past_end += 1
        seen.none_left += not inside
    return tuple(WRONG if i in inside else RIGHT for i in range(count))


def _listed(value: Any, count: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != count:
        found = f"{len(value)}" if isinstance(value, list) else repr(value)
        raise BadRow(f"one label per step is expected: {count} steps, labels {found}")
    for label in value:
        if label is not None and (not isinstance(label, bool | int) or label not in {0, 1}):
            raise BadRow(f"a label must be true or 1, false or 0, or null for not labelled, found {label!r}")
    return tuple(UNLABELLED if label is None else int(label) for label in value)


# --- Mr-Ben ----------------------------------------------------------------------------------------------------------


def mr_ben(rows: Iterable[Row], card: SuiteCard, layout: Layout | None, seed: int) -> Reading:
    """Mr-Ben's solutions. Roles: `options`, `steps`, `verdict` (correct or incorrect), `first_error`.

    `steps` is a list, and the wrong one is named by the number in its label "Step k"; items between labelled ones
    (the answer, lines that go on) are steps too, blank ones are left out. Or it is code in one text: its lines are the
    steps, and the wrong one is named by its text. A solution whose wrong step cannot be found has no step labels.
    """
    del seed
    seen = _Seen()

    def body(get: Get) -> Body:
        question, options = text_of(get("prompt"), "prompt"), get("options")
        prompt = conversation(f"{question}\n\n{options}" if options else question)
        verdict, named, given = get("verdict"), text_of(get("first_error"), "first_error"), get("steps")
        if verdict not in ("correct", "incorrect"):  # no set: a list may stand there
            raise BadRow(f"a solution is correct or incorrect, found {verdict!r}")
        code = isinstance(given, str)
        items = _solution(given.splitlines() if code else given)
        parts = tuple(item for item in items if item.strip())
        if not parts:
            raise BadRow("a solution without any step")
        seen.dropped_blank += 0 if code else len(items) - len(parts)
        if verdict == "correct":
            grades = up_to(None, len(parts))
        else:
            places = _named_line(named, parts) if code else _named_step(named, parts)
            seen.ambiguous += code and len(places) > 1
            if not places:
                seen.unlocated.append(f"{named.strip()[:20]!r}")
            grades = up_to(places[0], len(parts)) if places else (UNLABELLED,) * len(parts)
        text = given if code else "\n".join(parts)
        return prompt, (Candidate(text, parts),), Labels((float(verdict == "correct"),), (grades,))

    yield from read_examples(rows, card, layout, ("options", "steps", "verdict", "first_error"), body)
    return seen.notes()


def _named_step(name: str, parts: tuple[str, ...]) -> list[int]:
    """Places of the item labelled "Step k", at most one."""
    found = re.compile(rf"\s*step\s*{re.escape(name.strip())}(?!\d)", re.IGNORECASE)
    return [i for i, part in enumerate(parts) if found.match(part)][:1] if name.strip().isdigit() else []


def _named_line(line: str, parts: tuple[str, ...]) -> list[int]:
    """Places of a line of code, to the letter, or failing that whatever its indentation."""
    exact = [i for i, part in enumerate(parts) if part == line]
    return exact or [i for i, part in enumerate(parts) if part.strip() == line.strip()] if line.strip() else []


# --- pools of samples ------------------------------------------------------------------------------------------------


def sample_pools(rows: Iterable[Row], card: SuiteCard, layout: Layout | None, seed: int) -> Reading:
    """One sample per row, grouped by prompt wherever its rows stand. Roles: `answer`, `grade`, `response`.

    A sample without an answer can never be chosen: it is left out and counted. Without `response` the candidates are
    score-only. An example is the pool of one prompt, in the order of the rows.
    """
    del seed
    fields = _with_fields(card, layout, "prompt", "answer", "grade")
    pools: dict[Any, list[Row]] = {}
    unanswered: Counter[str] = Counter()
    faults = []
    for row in rows:
        values = row.values
        try:
            key = str(value_of(fields["prompt"], values))
        except BadRow as fault:
            faults.append(f"{row.place}: {fault}")
            continue
        pool = pools.setdefault(key, [])
        if value_of(f"{fields['answer'].removesuffix('?')}?", values) is None:
            unanswered[key] += 1
        else:
            pool.append(row)
    if faults:
        refuse(faults_message(f"suite {card.name!r}: {len(faults)} malformed rows", faults), faults)
    made = [
        Row({"_prompt": key, "_pool": [row.values for row in pool]}, pool[0].place if pool else f"problem {key[:40]!r}")
        for key, pool in pools.items()
    ]

    def body(get: Get) -> Body:
        prompt, pool = conversation(get("prompt")), get("grade")
        if not pool:
            raise BadRow("none of its samples has an answer")
        grades = []
        candidates = []
        for values in pool:
            grade = value_of(fields["grade"], values)
            if type(grade) is not bool:
                raise BadRow(f"whether a sample is right must be true or false, found {grade!r}")
            grades.append(float(grade))
            text = value_of(fields["response"], values) if "response" in fields else None
            candidates.append(Candidate(None if text is None else response(text, prompt, "a response")))
        return prompt, tuple(candidates), Labels(tuple(grades))

    of_pools = card.model_copy(update={"fields": {"prompt": "_prompt", "grade": "_pool"}})
    yield from read_examples(made, of_pools, None, ("grade",), body)
    total = unanswered.total()
    return (f"samples without an answer, which are left out since none can be chosen: {total}",) if total else ()
