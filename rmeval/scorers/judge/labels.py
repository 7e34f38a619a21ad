"""What every parser of a judge's text builds on: labels as they are written, JSON objects inside prose.

What this module does not know: which parser asks, and what a verdict means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Labels = Mapping[str, str]
"""What the judge is asked to write -> the verdict it stands for: `{"[[A]]": "A", "[[B]]": "B", "[[C]]": "tie"}`.
A label without brackets (`A`) is asked for in double ones."""

PAIR: Labels = {"[[A]]": "A", "[[B]]": "B"}
PAIR_OR_TIE: Labels = {**PAIR, "[[C]]": "tie"}


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser found in a text."""

    verdict: str | None
    reason: str | None = None
    """`unparsed`, `empty`, `refused` or `truncated` where there is no verdict."""


Parser = Callable[[str, Labels], Parsed]
"""The final part of a text, and the labels asked for, as a verdict."""

UNPARSED = Parsed(None, "unparsed")


class _Object(dict[str, Any]):
    """A JSON object that remembers whether a key stood in it twice."""

    doubled = False


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    found.doubled = len(found) < len(pairs)
    return found


_OPENING = re.compile(r'\{[ \t\n\r]*["}]')
"""How a JSON object begins; a brace before anything else would be tried in vain."""
_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def json_objects(text: str) -> Iterator[tuple[int, int, _Object]]:
    """The complete JSON objects in a text, outermost only, with where each begins and ends.

    What stands inside one that is torn is skipped with it, and so is all that follows one nested deeper than anyone
    means it: a text of a hundred thousand braces is gone through once.
    """
    end = 0
    while opening := _OPENING.search(text, end):
        place = opening.start()
        try:
            found, end = _DECODER.raw_decode(text, place)
        except json.JSONDecodeError as torn:
            end = max(place + 1, torn.pos)
        except ValueError:  # a number of too many digits
            end = place + 1
        except RecursionError:
            return
        else:
            yield place, end, found


def bare(label: str) -> str:
    """A label without double brackets, blanks around it and ASCII case."""
    label = label.strip()
    if label.startswith("[[") and label.endswith("]]"):
        label = label[2:-2].strip()
    return folded(label)


def folded(label: str) -> str:
    """ASCII in lower case; other letters are left as they are, so that none of them can pass for a label."""
    return label.lower() if label.isascii() else label
