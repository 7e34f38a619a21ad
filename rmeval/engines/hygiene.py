"""Text hygiene: what planned texts look like as tokens, summed up for the result, and the lint that fails loudly.

Where a response ends is known by construction: the template is rendered once more with a stand-in for the response,
and what it writes after the stand-in (the tail) is what it writes after every response. Ids are never searched for it.

What this module does not know: weights, scores, files; how text becomes ids is the engine's business.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rmeval.records import BosShares, ScoredToken, Spread, TextRecord
from rmeval.types import JSON, Message, TextFacts

_STAND_IN = "rmeval0stand0in"
"""A response that no template trims, splits or parses."""

Source = Literal["checkpoint", "ours", "none"]


@dataclass(frozen=True, slots=True)
class Marks:
    """The ids of a tokenizer that mean start, end and end of turn."""

    bos: frozenset[int]
    eos: frozenset[int]
    closing: frozenset[int]
    """What may close a response: special tokens, and added tokens that are more than white space."""

    @classmethod
    def of(cls, tokenizer: Any) -> Marks:
        """The marks of a transformers tokenizer; [CLS] and [SEP] stand in where it has no BOS or EOS."""
        start = (tokenizer.bos_token_id, tokenizer.cls_token_id)
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        # Gemma's runs of line breaks are added tokens too, and close nothing
        added = {i for i, token in tokenizer.added_tokens_decoder.items() if str(token.content).strip()}
        return cls(
            bos=frozenset(i for i in start if i is not None),
            eos=frozenset(() if end is None else (end,)),
            closing=frozenset(added | set(tokenizer.all_special_ids)),
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """The response's turn in a rendering."""

    shows_response: bool
    shows_prompt: bool | None
    """None where the conversation has no user turn."""
    tail: str | None
    """What the template writes after the response; None where that cannot be said."""


class Turns:
    """Finds the response's turn in renderings of one template."""

    def __init__(self, render: Callable[[Sequence[Message]], str | None]) -> None:
        """`render` gives the text of a conversation, or None where the template refuses it."""
        self._render = render
        self._tails: dict[tuple[str, ...], str | None] = {}

    def turn(self, messages: Sequence[Message], rendering: str) -> Turn | None:
        """The last turn of a rendered conversation; None where it is not the assistant's.

        >>> turns = Turns(lambda ms: "".join(f"<{m.role}>{m.content.strip()}</s>" for m in ms))
        >>> turns.turn((Message("user", "hi"), Message("assistant", " ho ")), "<user>hi</s><assistant>ho</s>")
        Turn(shows_response=True, shows_prompt=True, tail='</s>')
        """
        if not messages or messages[-1].role != "assistant":
            return None
        asked = [m.content for m in messages if m.role == "user"]
        prompt = _shows(rendering, asked[-1]) if asked else None
        response = _kept(messages[-1].content)
        roles = tuple(m.role for m in messages)
        if roles not in self._tails:
            self._tails[roles] = self._tail(messages)
        tail = self._tails[roles]
        if tail is None or not rendering.endswith(tail):  # a template may look at what earlier turns hold
            tail = self._tail(messages)
        if not response.strip():
            # nothing to show, and a template may leave an empty turn out
            return Turn(True, prompt, tail if tail is not None and rendering.endswith(tail) else None)
        if tail is None:
            return Turn(False, prompt, None)
        return Turn(_ends(rendering.removesuffix(tail), response), prompt, tail)

    def _tail(self, messages: Sequence[Message]) -> str | None:
        rendering = self._render((*messages[:-1], Message("assistant", _STAND_IN)))
        if rendering is None or _STAND_IN not in rendering:
            return None
        return rendering.rpartition(_STAND_IN)[2]


def facts(
    ids: Sequence[int],
    marks: Marks,
    *,
    template: Source = "none",
    turn: Turn | None = None,
    tail: Sequence[int] = (),
    scored: str | None = None,
    over: bool = False,
) -> TextFacts:
    """What one text looks like. `tail`: the ids after the response.

    >>> marks = Marks(bos=frozenset({1}), eos=frozenset({2}), closing=frozenset({2, 3}))
    >>> said = facts([1, 1, 7, 8, 3, 9], marks, turn=Turn(True, True, "<end>."), tail=[3, 9])
    >>> said.bos, said.eos, said.closed, said.past_closing
    (2, 0, True, 1)
    """
    bos = next((n for n, i in enumerate(ids) if i not in marks.bos), len(ids))
    closing = [place for place, i in enumerate(tail) if i in marks.closing]
    judged = turn is not None and turn.tail is not None
    return TextFacts(
        tokens=len(ids),
        bos=bos,
        eos=sum(i in marks.eos for i in ids),
        template=template,
        shows_response=turn.shows_response if turn else None,
        shows_prompt=turn.shows_prompt if turn else None,
        closed=bool(closing) if judged else None,
        past_closing=len(tail) - 1 - closing[-1] if judged and closing else None,
        scored=scored,
        over=over,
    )


def report(texts: Sequence[TextFacts], fingerprint: Mapping[str, JSON]) -> TextRecord | None:
    """The `text` block of a result, from all texts of a run and the engine's fingerprint; None without texts."""
    if not texts:
        return None
    source: Source = next((t.template for t in texts if t.template != "none"), "none")
    side = str(fingerprint["truncation"]).rpartition(" ")[2]
    starts = Counter(min(t.bos, 2) for t in texts)
    return TextRecord(
        texts=len(texts),
        template=source,
        template_sha256=str(fingerprint["template"]) if source != "none" else None,
        tokens=_spread([t.tokens for t in texts]),
        bos=BosShares(none=starts[0] / len(texts), one=starts[1] / len(texts), double=starts[2] / len(texts)),
        eos=_spread([t.eos for t in texts]),
        closed=_share([t.closed for t in texts]),
        without_response=_lacking([t.shows_response for t in texts]),
        without_prompt=_lacking([t.shows_prompt for t in texts]),
        over=sum(t.over for t in texts) / len(texts),
        side=next((one for one in _SIDES if one == side), "none"),
        limit=int(str(fingerprint["max_length"])),
        preset=str(fingerprint.get("preset", "")),
        scored=_scored(texts),
    )


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that makes scores meaningless or incomparable, and where it shows first."""

    what: str
    n: int
    """Texts that have it."""
    of: int
    first: int
    """Index of the first text that has it."""

    def __str__(self) -> str:
        """One sentence without the example."""
        return f"{self.what} in {self.n} of {self.of} texts"


def lint(texts: Sequence[TextFacts]) -> list[Fault]:
    """The faults of a run's texts: two BOS, a response that nothing closes, a template that drops the response."""
    looked_for = {
        "double BOS: more than one in a row at the start": [t.bos > 1 for t in texts],
        "response not closed (missing EOS: no end-of-turn, EOS or separator token after it)": [
            t.closed is False for t in texts
        ],
        "response not shown: the chat template drops the assistant turn or changes its words": [
            t.shows_response is False for t in texts
        ],
    }
    return [Fault(what, sum(found), len(texts), found.index(True)) for what, found in looked_for.items() if any(found)]


_SIDES: tuple[Literal["left", "right", "middle"], ...] = ("left", "right", "middle")
_ON = {"left": "on the left", "right": "on the right", "middle": "in the middle"}


def lines(text: TextRecord) -> tuple[str, ...]:
    """A text block in two lines for people."""
    whose = {"checkpoint": "the checkpoint's chat template", "ours": "rmeval's plain template", "none": "no template"}
    said = [whose[text.template] + (f" ({text.template_sha256[:7]})" if text.template_sha256 else "")]
    starts = {"no BOS": text.bos.none, "one BOS": text.bos.one, "DOUBLE BOS": text.bos.double}
    said.append(", ".join(f"{name} {_percent(share)}" for name, share in starts.items() if share))
    if text.closed is not None:
        said.append(f"response closed {_percent(text.closed)}")
    if text.without_response:
        said.append(f"response NOT SHOWN {_percent(text.without_response)}")
    if text.without_prompt:
        said.append(f"last user turn not shown {_percent(text.without_prompt)}")
    if text.scored is not None:
        past = text.scored.past_closing
        where = f", {past} after the closing token" if past else ""
        said.append(f"read at {text.scored.token!r} {_percent(text.scored.share)}{where}")
    else:
        said.append("read by the model's own pooling")
    limit = f"limit {text.limit}" + (f", preset of {text.preset}" if text.preset else "")
    cut = "none over it"
    if text.over:
        cut = f"{_percent(text.over)} over it, " + ("no score" if text.side == "none" else f"cut {_ON[text.side]}")
    elif text.side != "none":
        cut += f" (cut {_ON[text.side]})"
    length = f"tokens {text.tokens.min} to {text.tokens.max}, median {text.tokens.median:g}"
    ends = f"{text.eos.min}" if text.eos.min == text.eos.max else f"{text.eos.min} to {text.eos.max}"
    return "; ".join(said), f"{length}; EOS per text {ends}; {limit}: {cut}"


def _kept(response: str) -> str:
    """The part of a response that every template shows: some set its reasoning apart, or leave it out."""
    return response.rpartition("</think>")[2]


def _shows(rendering: str, text: str) -> bool:
    return text.strip() in rendering or _squeezed(text) in _squeezed(rendering)


def _ends(rendering: str, text: str) -> bool:
    return rendering.rstrip().endswith(text.strip()) or _squeezed(rendering).endswith(_squeezed(text))


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _spread(values: Sequence[int]) -> Spread:
    return Spread(min=min(values), median=float(statistics.median(values)), max=max(values))


def _share(answers: Sequence[bool | None]) -> float | None:
    known = [a for a in answers if a is not None]
    return sum(known) / len(known) if known else None


def _lacking(answers: Sequence[bool | None]) -> float | None:
    return _share([None if a is None else not a for a in answers])


def _scored(texts: Sequence[TextFacts]) -> ScoredToken | None:
    read = Counter((t.scored, t.past_closing) for t in texts if t.scored is not None)
    if not read:
        return None
    [((token, past), n)] = read.most_common(1)
    return ScoredToken(token=str(token), share=n / read.total(), past_closing=past)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"
