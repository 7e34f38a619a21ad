"""Conversations -> token ids, with the places that carry labels known by construction.

A template is rendered once more with a stand-in in place of an answer: what stands before and after it stands before
and after every answer. Ids and texts are never searched.

- Responses and dialogues are the whole rendering, tokenised once, exactly as the engines and other tools do; the tokens
  of an answer are those that overlap its characters. It ends with what closes it (EOS, end of turn): white space after
  that is the template's. Where a template marks what the assistant generates, its own marks count.
- Steps are tokenised piece by piece: what stands before, each step with its separator, what stands after; the ids are
  joined. A step is judged at the last token of its own piece, so no neighbour can move it, and whoever tokenises piece
  by piece finds the same places. With a boundary token, this token takes the separator's place.

What this module does not know: labels, losses, length limits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rmeval.chat_templates import Rendering
from rmeval.engines.hygiene import Marks
from rmeval.errors import UsageError
from rmeval.training.schemas import Turns

STAND_IN = "rmeval0stand0in"
"""An answer that no template trims, splits or parses."""
_AT_ONCE = 1024
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text as ids, and where in it the assistant speaks."""

    ids: list[int]
    response: slice
    """Tokens of the last answer, the closing token included."""
    step_ends: tuple[int, ...] = ()
    """Per step the place where it is judged; -1 for a step that has no token of its own."""
    turns: tuple[slice, ...] = ()
    """Tokens of every answer, in order."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A rendering as text."""

    text: str
    spans: tuple[tuple[int, int], ...]
    """Characters of every answer."""


class Renderer:
    """Renders with the chat template of one tokenizer, which must say where its tokens come from (a fast one)."""

    def __init__(self, tokenizer: Any) -> None:
        if not isinstance(tokenizer.chat_template, str):
            raise UsageError("the tokenizer has no chat template: name one with --chat-template")
        if not tokenizer.is_fast:
            raise UsageError(f"{type(tokenizer).__name__} does not say where its tokens stand: it needs a fast one")
        self.tokenizer = tokenizer
        self._rendering = Rendering(tokenizer)
        self._closings: dict[str, str] = {}
        self._marks = Marks.of(tokenizer)
        self._tagged = bool(_GENERATION.search(tokenizer.chat_template))

    def text(self, messages: Sequence[dict[str, str]]) -> str | None:
        """The conversation as text; None where the template refuses it."""
        return self._rendering.text(messages)

    def ids(self, messages: Sequence[Sequence[dict[str, str]]]) -> list[list[int] | None]:
        """The ids of each conversation alone; None where the template refuses it."""
        found: list[list[int] | None] = []
        for start in range(0, len(messages), _AT_ONCE):
            texts = [self.text(one) for one in messages[start : start + _AT_ONCE]]
            ids = iter(self._tokenise([text for text in texts if text is not None]))
            found += [None if text is None else next(ids) for text in texts]
        return found

    def dialogues(self, conversations: Sequence[Sequence[dict[str, str]]]) -> list[Rendered | None]:
        """Each conversation with the places of its answers; None where the template refuses it or drops an answer."""
        found: list[Rendered | None] = []
        for start in range(0, len(conversations), _AT_ONCE):
            drafts = [self._draft(list(one)) for one in conversations[start : start + _AT_ONCE]]
            kept = [draft for draft in drafts if draft is not None]
            encoded = iter(self._located([draft.text for draft in kept]))
            for draft in drafts:
                if draft is None:
                    found.append(None)
                    continue
                ids, offsets = next(encoded)
                turns = tuple(_tokens(offsets, span) for span in draft.spans)
                found.append(Rendered(ids, turns[-1], (), turns) if turns[-1].start < turns[-1].stop else None)
        return found

    def responses(self, rows: Sequence[tuple[Turns, str]]) -> list[Rendered | None]:
        """Each (prompt, response); as `dialogues`."""
        return self.dialogues([_answered(prompt, text) for prompt, text in rows])

    def steps(
        self, rows: Sequence[tuple[Turns, Sequence[str]]], *, separator: str = "\n\n", boundary: str = "last-token"
    ) -> list[Rendered | None]:
        """Each (prompt, steps) with the places where the steps are judged; None where the template refuses it.

        `boundary` is `last-token`, or `special:TOKEN` for a token that stands at the end of each step.
        """
        special = self._boundary(boundary)
        found: list[Rendered | None] = []
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            frames = [self._frame(prompt) for prompt, _ in part]
            texts: list[str] = []
            for frame, (_, steps) in zip(frames, part, strict=True):
                if frame is not None:
                    texts += [
                        frame[0],
                        *(step if special is not None else step + separator for step in steps),
                        frame[1],
                    ]
            ids = iter(self._tokenise(texts))
            for frame, (_, steps) in zip(frames, part, strict=True):
                if frame is None:
                    found.append(None)
                    continue
                whole = list(next(ids))
                first, ends = len(whole), []
                for _ in steps:
                    piece = next(ids) if special is None else [*next(ids), special]
                    whole += piece
                    ends.append(len(whole) - 1 if piece else -1)
                tail = next(ids)
                response = slice(first, len(whole) + self._closing_tokens(tail))
                found.append(Rendered(whole + tail, response, tuple(ends), (response,)))
        return found

    def _boundary(self, boundary: str) -> int | None:
        if boundary == "last-token":
            return None
        token = boundary.removeprefix("special:")
        known = self.tokenizer.get_vocab()
        if token not in known:
            raise UsageError(f"--boundary {boundary}: the tokenizer has no token {token!r}")
        return int(known[token])

    def _frame(self, prompt: Turns) -> tuple[str, str] | None:
        """What the template writes before and after an answer; None where it refuses or drops it."""
        text = self.text(_answered(prompt, STAND_IN))
        if text is None or STAND_IN not in text:
            return None
        before, _, after = text.rpartition(STAND_IN)
        return before, after

    def _draft(self, messages: list[dict[str, str]]) -> _Draft | None:
        if self._tagged:
            return self._own_marks(messages)
        text = self.text(messages)
        if text is None:
            return None
        spans = []
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                span = self._span(text, messages, i)
                if span is None:
                    return None
                spans.append(span)
        return _Draft(text, tuple(spans)) if spans else None

    def _span(self, text: str, messages: list[dict[str, str]], i: int) -> tuple[int, int] | None:
        """Characters of answer `i`, its closing included."""
        frame = self.text([*messages[:i], {"role": "assistant", "content": STAND_IN}, *messages[i + 1 :]])
        if frame is None or STAND_IN not in frame:
            return None
        before, _, after = frame.rpartition(STAND_IN)
        # for a template that looks into the answer (reasoning set apart), what is shared is what it does not touch
        start = _shared(text, before)
        end = len(text) - _shared(text[::-1], after[::-1])
        if i < len(messages) - 1:
            last = self._frame(tuple(messages[:i]))
            # what closes a turn follows it in the middle and at the end; the opening of the next turn does not
            after = after[: _shared(after, last[1] if last else "")]
        return start, max(start, end) + len(self._closing(after))

    def _own_marks(self, messages: list[dict[str, str]]) -> _Draft | None:
        """Where the template itself says what the assistant generates."""
        from jinja2.exceptions import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            texts, spans = render_jinja_template(
                [messages],
                chat_template=self.tokenizer.chat_template,
                return_assistant_tokens_mask=True,
                **self.tokenizer.special_tokens_map,
            )
        except TemplateError:
            return None
        return _Draft(texts[0], tuple((int(a), int(b)) for a, b in spans[0])) if spans[0] else None

    def _closing(self, after: str) -> str:
        """The start of what follows an answer, up to its last closing token; "" where nothing closes it."""
        if after not in self._closings:
            [(ids, offsets)] = self._located([after])
            ends = [end for i, (_, end) in zip(ids, offsets, strict=True) if i in self._marks.closing]
            self._closings[after] = after[: ends[-1]] if ends else ""
        return self._closings[after]

    def _closing_tokens(self, tail: Sequence[int]) -> int:
        return max((n for n, i in enumerate(tail, 1) if i in self._marks.closing), default=0)

    def _tokenise(self, texts: list[str]) -> list[list[int]]:
        """Ids, without special tokens: the template writes its own."""
        return list(self.tokenizer(texts, add_special_tokens=False)["input_ids"]) if texts else []

    def _located(self, texts: list[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """(ids, characters of each) per text."""
        if not texts:
            return []
        encoded = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        return list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))


def _shared(left: str, right: str) -> int:
    """How many characters two texts begin with alike."""
    length = min(len(left), len(right))
    return next((i for i in range(length) if left[i] != right[i]), length)


def _answered(prompt: Sequence[dict[str, str]], text: str) -> list[dict[str, str]]:
    return [*prompt, {"role": "assistant", "content": text}]


def _tokens(offsets: Sequence[tuple[int, int]], span: tuple[int, int]) -> slice:
    """The tokens that overlap some characters; empty where none does."""
    touching = [i for i, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
    return slice(touching[0], touching[-1] + 1) if touching else slice(0, 0)
