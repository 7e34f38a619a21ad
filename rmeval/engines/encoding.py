"""Requests -> token ids and the places to read, known by construction.

- A conversation in plain messages is rendered by the chat template and tokenised once, as every other tool does. The
  tokens of its last turn are those that overlap the characters that the template gives it, its closing included.
- A turn given piece by piece is rendered as a stand-in; what the template writes around it and the pieces become ids
  one by one, and the ids are joined. A mark is the last id so far: no neighbour can merge with it or move it.
- A conversation that a model is to go on with ends where its template has the assistant begin, or, where its last turn
  is the assistant's, at the end of what that says: nothing closes it.
- Literal text is tokenised as it stands. A mark in it is the token that holds the character before; where that token
  reaches beyond the mark, the mark has no token of its own and says so.

Ids and texts are never searched for a separator, a sign or a step.

What this module does not know: weights, batches, limits.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from rmeval.chat_templates import PLAIN, PLAIN_AHEAD, Rendering
from rmeval.engines import hygiene
from rmeval.errors import UsageError
from rmeval.types import Chat, Mark, Message, Piece, Request, Special, Text, TextFacts, Turn

NOWHERE = -1
"""The place of a mark that no token ends at."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A request as token ids."""

    ids: list[int]
    at: tuple[int, ...]
    """Places to read, in the order of the request; `NOWHERE` for a mark without a token of its own."""
    pieces: tuple[_Piece, ...] = ()

    @property
    def text(self) -> str:
        """What was tokenised, as text; special tokens given by id are left out."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Something that becomes ids by itself."""

    text: str = ""
    special: bool = False
    """Whether the tokenizer adds its special tokens around the text."""
    ids: tuple[int, ...] | None = None
    """Ids that are known without tokenising."""
    marks: tuple[int, ...] = ()
    """Characters of the text before which a token is read."""
    span: tuple[int, int] | None = None
    """Characters of the text that are the last turn, its closing included."""
    mark: Mark | None = None
    chat: Chat | None = None
    """The conversation that this piece ends."""
    open: bool = False
    """Whether a model is to go on with the conversation, so that nothing closes it."""
    tail: str | None = None
    """What the template writes after a last turn that was given piece by piece."""


class Kept:
    """Requests that were encoded to be planned, until they are run, as far as memory goes; each is handed out once."""

    def __init__(self, most: int = 1 << 25) -> None:
        """`most` numbers, four bytes each."""
        self.most = self._room = most
        self._held: dict[Request, tuple[array[int], array[int]]] = {}

    def clear(self) -> None:
        """Forget all."""
        self._held.clear()
        self._room = self.most

    def add(self, request: Request, encoded: Encoded) -> None:
        """Keep ids and places, if there is room; the texts are not kept."""
        size = len(encoded.ids) + len(encoded.at)
        if request not in self._held and size <= self._room:
            self._held[request] = array("i", encoded.ids), array("i", encoded.at)
            self._room -= size

    def take(self, request: Request) -> Encoded | None:
        """What was kept of a request."""
        held = self._held.pop(request, None)
        if held is None:
            return None
        self._room += len(held[0]) + len(held[1])
        return Encoded(held[0].tolist(), tuple(held[1]))


class Encoder:
    """Turns requests into ids with one tokenizer and its chat template, or ours where it has none."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._rendering = Rendering(tokenizer)
        self._spelling: dict[int, str] = {}
        self._tails: dict[str, list[int]] = {"": []}
        self._named: dict[Special, int | None] = {}
        self._surface: dict[str, int | None] = {}

    @cached_property
    def template(self) -> tuple[str, str]:
        """(where the chat template comes from, the template itself)."""
        own = self.tokenizer.chat_template
        if isinstance(own, dict):  # several named templates
            own = own.get("default")
        if isinstance(own, str):
            return "checkpoint", own
        return "built-in plain (the checkpoint has none)", PLAIN

    @cached_property
    def own(self) -> bool:
        """Whether the checkpoint brings its chat template."""
        return self.template[0] == "checkpoint"

    @cached_property
    def added(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer adds by itself, before and after a text."""
        plain, with_special = (list(self.tokenizer("a", add_special_tokens=s)["input_ids"]) for s in (False, True))
        extra = len(with_special) - len(plain)
        before = next((n for n in range(extra + 1) if with_special[n : n + len(plain)] == plain), extra)
        return with_special[:before], with_special[before + len(plain) :]

    @cached_property
    def marks(self) -> hygiene.Marks:
        """The ids that mean start, end and end of turn."""
        return hygiene.Marks.of(self.tokenizer)

    @cached_property
    def _turns(self) -> hygiene.Turns:
        return hygiene.Turns(self.render)

    @cached_property
    def turn_end(self) -> int | None:
        """The id with which the checkpoint's template closes a response; None where that cannot be said."""
        if not self.own:
            return None
        shown = (Message("user", "a"), Message("assistant", "b"))
        turn = self._turns.turn(shown, self.render(shown) or "")
        ids = self.tokenizer(turn.tail, add_special_tokens=False)["input_ids"] if turn and turn.tail else []
        return next((i for i in ids if i in self.marks.closing), None)

    def token_id(self, token: Special) -> int | None:
        """The id of one token; None for a role that the tokenizer does not have. `UsageError` where there is none."""
        if token not in self._named:
            self._named[token] = self._find(token)
        return self._named[token]

    def _find(self, token: Special) -> int | None:
        if token.role is not None:
            found = self.tokenizer.bos_token_id if token.role == "bos" else self.tokenizer.eos_token_id
            return None if found is None else int(found)
        if token.id is not None:
            if not 0 <= token.id < len(self.tokenizer):
                raise UsageError(f"the tokenizer has no token {token.id}: it ends at {len(self.tokenizer) - 1}")
            said = self.spelled(token.id).strip()
            if token.text and said != token.text.strip():
                raise UsageError(
                    f"token {token.id} of this tokenizer is {said!r}, and should be {token.text!r}: the scorer reads "
                    "another model's tokens"
                )
            return token.id
        found = self.tokenizer.get_vocab().get(token.text)
        if found is not None:
            return int(found)
        ids = self.tokenizer(token.text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise UsageError(f"{token.text!r} is {len(ids)} tokens of this tokenizer; it must be one")
        return int(ids[0])

    def surface_ids(self, tokens: Sequence[Special]) -> tuple[int | None, ...]:
        """The ids of tokens as a model may write them; None for a text that is not one token of this tokenizer.

        None too for a second name of the same token, as ` A` is where spaces are no part of tokens: it counts once.
        """
        found: list[int | None] = []
        for token in tokens:
            by_text = token.id is None and token.role is None
            one = self._surface_id(token.text) if by_text else self.token_id(token)
            found.append(None if one in found else one)
        return tuple(found)

    def _surface_id(self, text: str) -> int | None:
        if text not in self._surface:
            vocabulary = self.tokenizer.get_vocab()
            known = [vocabulary.get(text), vocabulary.get(f"\u2581{text[1:]}") if text.startswith(" ") else None]
            said = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
            # the unknown token is one token too, and a byte's stand-in may look like a letter: what it says decides
            likely = [int(i) for i in [*known, said[0] if len(said) == 1 else None] if i is not None]
            self._surface[text] = next((i for i in likely if self.spelled(i).strip() == text.strip()), None)
        return self._surface[text]

    def spelled(self, token: int) -> str:
        """A token as text."""
        if token not in self._spelling:
            text = self.tokenizer.decode([token]) or self.tokenizer.convert_ids_to_tokens(token)
            self._spelling[token] = str(text)
        return self._spelling[token]

    def render(self, messages: Sequence[Message], *, ahead: bool = False) -> str | None:
        """A conversation as text, `ahead` up to where the assistant begins; None where the chat template refuses it."""
        turns = [{"role": m.role, "content": m.content} for m in messages]
        text = self._rendering.text(turns, chat_template=self.template[1], add_generation_prompt=ahead)
        if text is None:
            return None
        return f"{text}{PLAIN_AHEAD}" if ahead and not self.own else text

    def encode(self, requests: Sequence[Request]) -> list[Encoded | None]:
        """Ids and places of each request; None where there is nothing to read or the chat template refuses it."""
        pieces = [self._pieces(request) for request in requests]
        flat = [(i, n, piece) for i, found in enumerate(pieces) for n, piece in enumerate(found or ()) if piece.text]
        ids: dict[tuple[int, int], list[int]] = {}
        offsets: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for special in (False, True):
            for located in (False, True):
                chosen = [
                    one for one in flat if one[2].special is special and bool(one[2].marks or one[2].span) is located
                ]
                if not chosen:
                    continue
                said = self.tokenizer(
                    [piece.text for *_, piece in chosen],
                    add_special_tokens=special,
                    **({"return_offsets_mapping": True} if located else {}),
                )
                for n, (i, place, _) in enumerate(chosen):
                    ids[i, place] = list(said["input_ids"][n])
                    if located:
                        offsets[i, place] = said["offset_mapping"][n]
        return [
            None if found is None else self._joined(request, i, found, ids, offsets)
            for i, (request, found) in enumerate(zip(requests, pieces, strict=True))
        ]

    def _joined(
        self,
        request: Request,
        index: int,
        pieces: Sequence[_Piece],
        ids: dict[tuple[int, int], list[int]],
        offsets: dict[tuple[int, int], list[tuple[int, int]]],
    ) -> Encoded | None:
        whole: list[int] = []
        at: list[int] = []
        answer = range(0)
        for n, piece in enumerate(pieces):
            here = list(piece.ids) if piece.ids is not None else ids.get((index, n), [])
            known = offsets.get((index, n), [])
            for mark in piece.marks:
                place = _token_before(known, mark)
                at.append(place if place == NOWHERE else len(whole) + place)
            if piece.mark is not None:
                at.append(len(whole) - 1 + piece.mark.ahead if whole or piece.mark.ahead else NOWHERE)
            if piece.span is not None:
                touching = [i for i, (a, b) in enumerate(known) if a < piece.span[1] and b > piece.span[0]]
                if touching:
                    answer = range(len(whole) + touching[0], len(whole) + touching[-1] + 1)
            whole += here
        if not whole:
            return None
        if not self.own and request.at != "next" and any(piece.chat for piece in pieces):
            whole = self._ended(whole)
            if answer and whole[-1] in self.marks.closing:
                answer = range(answer.start, len(whole))
        last = (len(whole) - 1,)
        found = {"last": last, "next": last, "marks": tuple(at), "completion": tuple(answer)}[request.at]
        return Encoded(whole, found, tuple(pieces))

    def _ended(self, ids: list[int]) -> list[int]:
        """With our own template the text ends in eos, since a causal head is read there."""
        eos = self.tokenizer.eos_token_id
        return ids if eos is None or ids[-1] in (eos, self.tokenizer.sep_token_id) else [*ids, eos]

    def _pieces(self, request: Request) -> list[_Piece] | None:
        """The parts of a request, or None where the chat template refuses a conversation."""
        found: list[_Piece] = []
        for part in request.parts:
            if isinstance(part, Chat):
                rendered = self._ahead(part) if request.at == "next" else self._chat(part, request.at == "completion")
                if rendered is None:
                    return None
                found += rendered
            else:
                found.append(self._piece(part))
        return found

    def _piece(self, part: Piece) -> _Piece:
        if isinstance(part, Text):
            return _Piece(part.text, marks=part.marks)
        if isinstance(part, Mark):
            return _Piece(mark=part)
        token = self.token_id(part)
        return _Piece(ids=() if token is None else (token,))

    def _ahead(self, chat: Chat) -> list[_Piece] | None:
        """A conversation up to where the assistant begins to write, or goes on."""
        messages = [turn for turn in chat.messages if isinstance(turn, Message)]
        if len(messages) < len(chat.messages):
            raise UsageError("a conversation that a model goes on with cannot be given piece by piece")
        if not messages or messages[-1].role != "assistant":
            text = self.render(messages, ahead=True)
        else:  # as it stands: a template may trim it
            name = _unused("rmeval0answer", messages)
            frame = self.render([*messages[:-1], replace(messages[-1], content=name)])
            before, there, _ = (frame or "").rpartition(name)
            text = f"{before}{messages[-1].content}" if there else None
        if text is None:
            return None
        return [_Piece(ids=() if self.own else tuple(self.added[0])), _Piece(text, chat=chat, open=True)]

    def _chat(self, chat: Chat, answer: bool) -> list[_Piece] | None:
        plain = [turn for turn in chat.messages if isinstance(turn, Message)]
        if len(plain) == len(chat.messages):
            text = self.render(plain)
            if text is None:
                return None
            if not chat.bos:
                text = text.removeprefix(self.tokenizer.bos_token or "")
            span = self._span(text, plain) if answer else None
            # a template writes its own special tokens; ours has none, so the tokenizer adds them, once
            return None if answer and span is None else [_Piece(text, not self.own, chat=chat, span=span)]
        name = _unused("rmeval0turn", plain)
        shown = [
            Message(turn.role, f"{name}{i}x") if isinstance(turn, Turn) else turn
            for i, turn in enumerate(chat.messages)
        ]
        rest = self.render(shown)
        if rest is None:
            return None
        found: list[_Piece] = []
        for i, turn in enumerate(chat.messages):
            if isinstance(turn, Turn):
                before, there, rest = rest.partition(f"{name}{i}x")
                if not there:
                    return None
                found += [_Piece(before), *map(self._piece, turn.pieces)]
        last = isinstance(chat.messages[-1], Turn) and chat.messages[-1].role == "assistant"
        found.append(_Piece(rest, chat=chat, tail=rest if last else None))
        if not self.own:
            before_all, after_all = self.added
            found = [_Piece(ids=tuple(before_all)), *found, _Piece(ids=tuple(after_all))]
        return found

    def _span(self, text: str, messages: Sequence[Message]) -> tuple[int, int] | None:
        """Characters of the last turn in a rendering, up to the last token that closes it; None where it is dropped."""
        name = _unused("rmeval0answer", messages)
        frame = self.render([*messages[:-1], replace(messages[-1], content=name)])
        if frame is None or name not in frame:
            return None
        before, _, after = frame.rpartition(name)
        # a template that looks into an answer (reasoning set apart) changes what stands around it: take what is alike
        start = _alike(text, before)
        end = max(start, len(text) - _alike(text[::-1], after[::-1]))
        said = self.tokenizer(after, add_special_tokens=False, return_offsets_mapping=True)
        closing = [
            b for i, (_, b) in zip(said["input_ids"], said["offset_mapping"], strict=True) if i in self.marks.closing
        ]
        return start, min(len(text), end + (closing[-1] if closing else 0))

    def written(self, ids: Sequence[int], after: Encoded) -> str:
        """Ids that a model has written after a request, as text, special tokens left out."""
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        # our template's space before a turn is the start of its first token: it is not said
        return text.removeprefix(" ") if not self.own and after.text.endswith(PLAIN_AHEAD) else text

    def facts(self, encoded: Encoded, *, over: bool, scored: int | None, last: bool) -> TextFacts:
        """What a text looks like as tokens. `scored` is an id that is read, `last` whether it ends the text."""
        chats = [piece for piece in encoded.pieces if piece.chat is not None]
        turn, tail = self._turn(encoded.ids, chats[-1]) if chats and chats[-1] is _end(encoded.pieces) else (None, [])
        found = hygiene.facts(
            encoded.ids,
            self.marks,
            template=("checkpoint" if self.own else "ours") if chats else "none",
            turn=turn,
            tail=tail,
            scored=None if scored is None else self.spelled(scored),
            over=over,
        )
        return found if last else replace(found, past_closing=None)

    def _turn(self, ids: list[int], piece: _Piece) -> tuple[hygiene.Turn | None, list[int]]:
        """The response's turn at the end of a text, and the ids after it."""
        assert piece.chat is not None
        if piece.open:
            return None, []
        plain = [turn for turn in piece.chat.messages if isinstance(turn, Message)]
        if len(plain) == len(piece.chat.messages):
            turn = self._turns.turn(plain, piece.text)
        elif piece.tail is not None:  # the stand-in stood there, and so do the pieces
            turn = hygiene.Turn(shows_response=True, shows_prompt=None, tail=piece.tail)
        else:
            turn = None
        if turn is None or turn.tail is None:
            return turn, []
        if turn.tail not in self._tails:
            # special tokens split a text before anything else, so the tail has the same ids by itself
            self._tails[turn.tail] = self.tokenizer(turn.tail, add_special_tokens=False)["input_ids"]
        return turn, self._tails[turn.tail] if self.own else ids[-1:]


def _unused(name: str, messages: Sequence[Message]) -> str:
    """A stand-in that no message holds."""
    while any(name in message.content for message in messages):
        name += "0"
    return name


def _end(pieces: Sequence[_Piece]) -> _Piece | None:
    """The last piece that is more than ids and marks."""
    return next((piece for piece in reversed(pieces) if piece.text or piece.chat), None)


def _token_before(offsets: Sequence[tuple[int, int]], mark: int) -> int:
    """The token that holds the character before a mark and ends there; `NOWHERE` where it reaches further.

    >>> _token_before([(0, 2), (2, 5)], 5), _token_before([(0, 2), (2, 5)], 4)
    (1, -1)
    """
    holding = [i for i, (a, b) in enumerate(offsets) if a < mark <= b]
    return holding[-1] if holding and offsets[holding[-1]][1] == mark else NOWHERE


def _alike(left: str, right: str) -> int:
    """How many characters two texts begin with alike."""
    length = min(len(left), len(right))
    return next((i for i in range(length) if left[i] != right[i]), length)
