"""Two responses shown together: which is better, in words or by the next token.

Each order is a view of its own, and so a verdict of its own; what two orders come to is for the metrics. Where the
protocol synthesises (LLMBar's Swap&Synthesize), both orders are asked first, and where they disagree each order is
asked again with both answers in view.

What this module does not know: which response is right, how verdicts are added up, engines.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

from rmeval.scorers.judge.asking import Judge
from rmeval.scorers.judge.card import JudgeCard
from rmeval.scorers.judge.labels import Labels, Parsed
from rmeval.scorers.judge.prompts import Template
from rmeval.scorers.judge.verdicts import answer, read_verdict
from rmeval.types import Arity, Conversation, Reply, Score, Verdict, View

SWAPPED = {"A": "B", "A>B": "B>A", "A>>B": "B>>A", "B": "A", "B>A": "A>B", "B>>A": "A>>B"}
"""A verdict as it reads when the responses change places; those that are not here stay as they are."""


class WordsJudge(Judge):
    """A judge whose text holds a label."""

    def __init__(self, card: JudgeCard, files: Mapping[str, str] | None = None) -> None:
        """See `Judge`. Raises `UsageError` for a parser that there is not."""
        super().__init__(card, files)
        for parser in filter(None, (self.parse, card.parse_again)):
            read_verdict("", parser=parser)  # an unknown one is refused now, not after the first answer

    def labels(self, view: View) -> Labels:  # noqa: ARG002 - some depend on what is shown
        """What may be written, and what it means."""
        return self.card.labels

    def json_closing(self) -> str:
        """How a structured answer is asked for."""
        said = " or ".join(json.dumps(_inside(label)) for label in self.card.labels)
        return _JSON_CLOSING.format(said=said)

    def schema(self, view: View) -> str:
        """`reasoning`, then `verdict`, one of the labels."""
        if not self.card.structured:
            return ""
        verdict = {"type": "string", "enum": [_inside(label) for label in self.labels(view)]}
        return json.dumps(
            {
                "type": "object",
                "properties": {"reasoning": {"type": "string"}, "verdict": verdict},
                "required": ["reasoning", "verdict"],
                "additionalProperties": False,
            }
        )

    def read(self, view: View, reply: Reply, parser: str = "") -> Parsed:
        """The verdict of a reply: of its JSON where that was asked for and came, else of its text."""
        if reply.reason is not None:
            return Parsed(None, reply.reason)
        labels = self.labels(view)
        for one in ("json", parser or self.parse) if self.card.structured else (parser or self.parse,):
            found = read_verdict(reply.text, labels, parser=one, finish=reply.finish, thinking=self.thinking)
            if found.reason != "unparsed":
                break
        return found

    def verdict(self, view: View, found: Parsed) -> Score:
        """The score of a view."""
        return Score(verdicts=(Verdict(view.order, found.verdict, found.reason, marked=self.marked(view)),))


class PairJudge(WordsJudge):
    """Which of two responses is better, in words."""

    arity: Arity = "two"
    needed = ("prompt", "a", "b")

    def __init__(self, card: JudgeCard, files: Mapping[str, str] | None = None) -> None:
        """See `Judge`."""
        super().__init__(card, files)
        needed = ("prompt", "a", "b", "for_a", "for_b")
        self.again: Template | None = None
        if card.synthesise:
            self.again = self.template("synthesise", card.synthesise, needed, needed)

    def discuss(self, view: View) -> Conversation:
        """One question, with a further turn or a second question where the protocol has them."""
        a, b = (candidate.text for candidate in view.candidates)
        values = self.values(view)
        if self.again is None:
            opening = self.messages({**values, "a": a, "b": b})
            found = yield from self.converse(view, opening, lambda reply: self.read(view, reply))
            return self.verdict(view, found)
        orders = [self.messages({**values, "a": first, "b": second}) for first, second in ((a, b), (b, a))]
        replies = yield [self.written(view, one) for one in orders]
        mine, theirs = (self.read(view, reply) for reply in replies)
        said = mine.verdict, SWAPPED.get(theirs.verdict or "", theirs.verdict)
        sides = [one[0] if one else "" for one in said]
        if sorted(sides) != ["A", "B"]:
            return self.verdict(view, mine)
        own, other = (answer(reply.text, reply.finish, self.thinking)[0].strip() for reply in replies)
        other = swap_labels(other, self.card.labels)
        for_a, for_b = (own, other) if sides[0] == "A" else (other, own)
        fields = {**self.values(view, own, other), "a": a, "b": b, "for_a": for_a, "for_b": for_b}
        [reply] = yield [self.written(view, self.messages(fields, self.again))]
        return self.verdict(view, self.read(view, reply, self.card.parse_again))


class NextTokenPairJudge(Judge):
    """Which of two responses is better, by the log-probabilities of the next token."""

    arity: Arity = "two"
    needed = ("prompt", "a", "b")

    def discuss(self, view: View) -> Conversation:
        """One question; the masses on both sides stand in the verdict, whatever they come to."""
        a, b = (candidate.text for candidate in view.candidates)
        [reply] = yield [self.next_token(view, self.messages({**self.values(view), "a": a, "b": b}))]
        marked = self.marked(view)
        if reply.reason is not None:
            return Score(verdicts=(Verdict(view.order, None, reply.reason, marked=marked),))
        mass = self.mass(reply)
        sides = [side for side in ("A", "B", "tie") if side in mass.log]
        logmass = tuple(mass.log[side] for side in sides)
        kept = logmass if all(map(math.isfinite, logmass)) else None
        if kept is None or not mass.covered or mass.covered < self.card.floor:
            low = Verdict(view.order, None, "low_verdict_mass", None, 0, kept, bool(mass.absent), marked)
            return Score(verdicts=(low,))
        share = mass.share()
        half = share.get("tie", 0.0) / 2
        p = (share["A"] + half, share["B"] + half)
        top = [side for side in sides if mass.log[side] == max(logmass)]
        said = top[0] if len(top) == 1 else "tie"
        return Score(verdicts=(Verdict(view.order, said, None, p, 0, kept, bool(mass.absent), marked),))


def swap_labels(text: str, labels: Labels) -> str:
    """A judge's words about two responses as they read when these change places: each label becomes its opposite.

    >>> swap_labels("Output (a) is short, so output (b) wins.", {"Output (a)": "A", "Output (b)": "B"})
    'Output (b) is short, so output (a) wins.'
    """
    written = {meant: label for label, meant in labels.items()}
    pairs = {label: written[SWAPPED[meant]] for label, meant in labels.items() if SWAPPED.get(meant) in written}
    pairs |= {label[0].lower() + label[1:]: other[0].lower() + other[1:] for label, other in pairs.items()}
    pattern = "|".join(re.escape(label) for label in sorted(pairs, key=len, reverse=True))
    return re.sub(pattern, lambda found: pairs[found[0]], text)


_JSON_CLOSING = (
    "Answer with one JSON object and nothing else: "
    '{{{{"reasoning": "a comparison in a few sentences", "verdict": "..."}}}}, where verdict is {said}.'
)


def _inside(label: str) -> str:
    """A label without double brackets."""
    return label.removeprefix("[[").removesuffix("]]")
