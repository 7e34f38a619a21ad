r"""From columns to values: what a card's `[fields]` may say, and the shapes in which prompts and responses come.

A field of a card is one of

- a column, with dots into objects and through lists of objects: `bon_best.answer`, `loser_list.answer`
- several of them, the first that is there wins: `bon_best.answer | chosen.answer`
- numbered columns as a list: `response_{1..32}`; any others as a list: `[small.text, large.text]`
- a template: `{domain}/{id}`, with `{row}` for the 0-based row within the subset and `{_split}` for the hub's split
- any of these with a `?` at the end, when rows may lack it

What this module does not know: suites, files, labels.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rmeval.types import Message

ROLES = ("system", "user", "assistant")

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([^{}]*)\{(\d{1,3})\.\.(\d{1,3})\}([^{}]*)")
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ANSWER = "\n\nAssistant:"


class BadRow(Exception):  # noqa: N818 - a row is at fault, not the program
    """A row that cannot become an example; the message says why, without the place."""


def value_of(field: str, columns: Mapping[str, Any]) -> Any:
    """The value of a field in a row; None where the row lacks it (or holds null) and the field ends in `?`.

    Raises `BadRow` where the row lacks it otherwise.

    >>> value_of("best.text | chosen", {"best": {"text": "42"}})
    '42'
    >>> value_of("{domain}/{id}", {"domain": "chat", "id": 8})
    'chat/8'
    >>> value_of("losers.text", {"losers": [{"text": "a"}, {"text": "b"}]})
    ['a', 'b']
    >>> value_of("annotator{1..3}", {"annotator1": 2, "annotator2": 2, "annotator3": 0})
    [2, 2, 0]
    >>> value_of("[small.ok, large.ok]", {"small": {"ok": True}, "large": {"ok": False}})
    [True, False]
    """
    wanted = field.removesuffix("?")
    try:
        if listed := _listed(wanted):
            return [_first(name, columns) for name in listed]
        if numbered := _numbered(wanted):
            return [_first(name, columns) for name in numbered]
        if "{" in wanted:
            # a part that is empty leaves no blank lines behind
            return _BRACES.sub(lambda part: str(_first(part[1], columns)), wanted).strip()
        return _first(wanted, columns)
    except LookupError:
        if field.endswith("?"):
            return None
        raise BadRow(f"no {' or '.join(repr(name.strip()) for name in wanted.split('|'))}") from None


def lacking(field: str, columns: Iterable[str]) -> list[str]:
    """The columns that a field needs and that are not there; of alternatives the first, when none is there.

    >>> lacking("{domain}/{id}", ["id", "prompt"])
    ['domain']
    >>> lacking("subset?", [])
    []
    """
    if field.endswith("?"):
        return []
    there = {*columns, "row"}
    needed = _listed(field) or _numbered(field) or _BRACES.findall(field) if set("{[") & set(field) else [field]
    tops = [[name.strip().partition(".")[0] for name in one.split("|")] for one in needed]
    return [names[0] for names in tops if not there.intersection(names)]


def _listed(field: str) -> list[str]:
    """The fields in brackets; [] for a field without."""
    return [one.strip() for one in field[1:-1].split(",")] if field.startswith("[") and field.endswith("]") else []


def _numbered(field: str) -> list[str]:
    """The columns of a field such as `response_{1..32}`; [] for any other."""
    found = _RANGE.fullmatch(field)
    return [f"{found[1]}{n}{found[4]}" for n in range(int(found[2]), int(found[3]) + 1)] if found else []


def _first(names: str, columns: Mapping[str, Any]) -> Any:
    for name in names.split("|"):
        found = _walk(columns, name.strip().split("."))
        if found is not None:
            return found
    raise LookupError(names)


def _walk(value: Any, path: Sequence[str]) -> Any:
    """The value at the end of a path, None where there is none; a list on the way gives a list."""
    if not path:
        return value
    if isinstance(value, Mapping):
        return _walk(value.get(path[0]), path[1:])
    if isinstance(value, list):
        return [_walk(item, path) for item in value]
    return None


def text_of(value: Any, role: str) -> str:
    """A text, which may be empty. Raises `BadRow` for anything else."""
    if not isinstance(value, str):
        raise BadRow(f"{role} must be a text, found {_shape(value)}")
    return value


def conversation(value: Any, role: str = "prompt") -> tuple[Message, ...]:
    """A prompt from a text (one user turn) or from a list of `{role, content}`.

    Raises `BadRow` where it is empty or of another shape.
    """
    if isinstance(value, str):
        if not value.strip():
            raise BadRow(f"{role} is empty")
        return (Message("user", value),)
    if not is_conversation(value):
        raise BadRow(f"{role} must be a text or a list of messages with role and content, found {_shape(value)}")
    turns = tuple(Message(turn["role"], turn["content"]) for turn in value)
    if unknown := sorted({turn.role for turn in turns} - set(ROLES)):
        raise BadRow(f"{role} has a turn of role {unknown[0]!r}; known are {', '.join(ROLES)}")
    if not any(turn.content.strip() for turn in turns):
        raise BadRow(f"{role} is empty")
    return turns


def is_conversation(value: Any) -> bool:
    """Whether a value is a non-empty list of `{role, content}` with texts in both."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(t, Mapping) and isinstance(t.get("role"), str) and isinstance(t.get("content"), str)
            for t in value
        )
    )


def response(value: Any, prompt: tuple[Message, ...], role: str) -> str:
    """A response from a text, or from messages: the assistant's turn, alone or after the prompt."""
    if not is_conversation(value):
        return text_of(value, role)
    turns = conversation(value, role)
    if turns[-1].role != "assistant":
        raise BadRow(f"{role} must end with a turn of the assistant, found {turns[-1].role!r}")
    if turns[:-1] not in {(), prompt}:
        raise BadRow(f"{role} holds turns before its last one that differ from the prompt")
    return turns[-1].content


def shared_prompt(chosen: Any, rejected: Any) -> tuple[tuple[Message, ...], str, str]:
    r"""(prompt, chosen, rejected) of two whole conversations: what both share is the prompt.

    Lists of messages (the implicit prompt of TRL) must differ in the last turn only. Transcripts of hh-rlhf are cut at
    the last `\n\nAssistant:` that both share, so that role markers inside a response stay in the response.

    >>> shared_prompt("\n\nHuman: Hi\n\nAssistant: Hello!", "\n\nHuman: Hi\n\nAssistant: Go.")[1:]
    ('Hello!', 'Go.')
    """
    if is_conversation(chosen) and is_conversation(rejected):
        left, right = conversation(chosen, "chosen"), conversation(rejected, "rejected")
        if left[:-1] != right[:-1]:
            raise BadRow("chosen and rejected must share all turns but the last")
        if len(left) < 2:
            raise BadRow("chosen and rejected hold no turn before the response, so there is no prompt")
        return left[:-1], response(chosen, left[:-1], "chosen"), response(rejected, left[:-1], "rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        cut = _shared_start(chosen, rejected).rfind(_ANSWER)
        if cut < 0 or not _TURN.match(chosen):
            raise BadRow("there is no prompt column, and chosen and rejected are no transcripts that share one")
        end = cut + len(_ANSWER)
        return transcript(chosen[:cut]), chosen[end:].removeprefix(" "), rejected[end:].removeprefix(" ")
    raise BadRow(
        "without a prompt column, chosen and rejected must both be lists of messages or both be transcripts; "
        f"found {_shape(chosen)} and {_shape(rejected)}"
    )


def _shared_start(left: str, right: str) -> str:
    length = next(
        (at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right))
    )
    return left[:length]


def transcript(text: str) -> tuple[Message, ...]:
    r"""The turns of an hh-rlhf transcript.

    >>> transcript("\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye")[-1]
    Message(role='user', content='Bye')
    """
    parts = _TURN.split(text)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = [
        {"role": roles[who], "content": said.removeprefix(" ")}
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]
    return conversation(turns)


def cluster_of(prompt: tuple[Message, ...]) -> str:
    """Short digest of a prompt: examples with the same prompt share it.

    >>> cluster_of((Message("user", "Hi"),)) == cluster_of((Message("user", "Hi"),))
    True
    """
    turns = json.dumps([[turn.role, turn.content] for turn in prompt], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(turns.encode()).hexdigest()[:16]


def cluster_named(name: str) -> str:
    """A column's value as the name of a cluster: itself, or its digest where it is a text, which no result may hold.

    A name has at most two words and 64 characters.

    >>> cluster_named("q-17"), cluster_named("What is 2+2?")
    ('q-17', '52cb6b5e4a038af1')
    """
    if len(name) <= 64 and len(name.split()) <= 2:
        return name
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _shape(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    names: dict[type, str] = {
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        dict: "an object",
    }
    return names.get(type(value), "null" if value is None else type(value).__name__)
