"""Rows of training data as token ids with their labels, within a length limit.

| kind  | labelled tokens                              | label                                             |
|-------|----------------------------------------------|---------------------------------------------------|
| orm   | all of the response, closing token included  | 1 right, 0 wrong                                  |
| prm   | the last of each step                        | class 0 wrong, 1 neutral, 2 right; 0, 1; or a rate |
| value | all of the response, closing token included  | the return from there on                          |
| sft   | answers, the last answer, or everything      | the token itself; the trainer shifts by one       |

A row that is too long is dropped, cut or an error. A row that loses a step's label by the cut is dropped and counted:
a step that is cut off must not quietly become a step without a label.

What this module does not know: files, losses.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rmeval.errors import UsageError
from rmeval.progress import note
from rmeval.readers.rows import faults_message
from rmeval.training.batches import NONE, Grouped, Labelled
from rmeval.training.render import Rendered, Renderer
from rmeval.training.schemas import Comparison, Dialogue, Outcome, Ranking, Return, Steps, Turns
from rmeval.truncation import cut

if TYPE_CHECKING:
    from torch import Tensor

Overlong: TypeAlias = Literal["drop", "truncate-left", "truncate-right", "error"]
Neutral: TypeAlias = Literal["keep", "positive", "drop"]
LossOn: TypeAlias = Literal["all-assistant", "final", "all"]
Dropped: TypeAlias = Counter[str]
"""Rows left out, by reason."""

REFUSED = "the chat template refuses the turns or drops an answer"
TOO_LONG = "over --max-length"
SAME = "cut to the same text: nothing is left to compare"
CUT_OFF = "labels cut off"
NO_TOKEN = "a step has no token of its own"  # noqa: S105 - not a secret
NO_LABEL = "no labelled token"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A comparison as token ids, ready for the collator."""

    id: str
    chosen: list[int]
    rejected: list[int]
    margin: float
    group: str = ""
    """Digest of the prompt, for intervals; without one, a pair stands for itself."""
    target: float = 1.0
    """Probability that chosen is the better one; 0.5 for a tie."""


class Limit:
    """The length limit, and how many texts were cut to it."""

    def __init__(self, max_length: int, overlong: str) -> None:
        self.max_length, self.overlong = max_length, overlong
        self.cut = 0
        """Texts that were cut, of the rows that are kept."""

    def kept(self, tokens: int, name: str) -> Sequence[int] | None:
        """The places that are kept of a text with so many tokens; None where the row is dropped."""
        if tokens <= self.max_length:
            return range(tokens)
        if self.overlong == "error":
            raise UsageError(
                f"row {name!r} has {tokens} tokens and --max-length is {self.max_length}; raise it, or "
                "say what happens to such rows with --overlong drop, truncate-left or truncate-right"
            )
        if self.overlong == "drop":
            return None
        # the last token is where a text is read, so it always stays
        return cut(range(tokens), self.max_length, self.overlong.removeprefix("truncate-"))

    def say(self) -> None:
        """Tell how many, as what is dropped is told."""
        if self.cut:
            note(f"{self.cut} texts cut to the {self.max_length} tokens of --max-length ({self.overlong})")


def encode(
    comparisons: Sequence[Comparison], tokenizer: Any, *, max_length: int, overlong: str = "drop"
) -> tuple[list[Encoded], int]:
    """(token ids of both texts of each comparison, number of comparisons left out); as `encode_comparisons`."""
    encoded, dropped = encode_comparisons(comparisons, tokenizer, max_length=max_length, overlong=overlong)
    return encoded, dropped.total()


def encode_comparisons(
    comparisons: Sequence[Comparison], tokenizer: Any, *, max_length: int, overlong: str = "drop"
) -> tuple[list[Encoded], Dropped]:
    """(token ids of both texts of each comparison, comparisons left out by reason).

    Each text is the whole conversation, rendered once by the tokenizer's chat template, which writes its own special
    tokens: none are added a second time. With `overlong="error"` the first one over the limit raises `UsageError`.
    """
    limit, dropped = Limit(max_length, overlong), Counter[str]()
    texts = Renderer(tokenizer).ids(
        [_answered(one.prompt, text) for one in comparisons for text in (one.chosen, one.rejected)]
    )
    encoded: list[Encoded] = []
    for one, *pair in zip(comparisons, texts[::2], texts[1::2], strict=True):
        ids = _fitting(pair, limit, one.id, dropped)
        if ids is not None:
            encoded.append(Encoded(one.id, ids[0], ids[1], one.margin, one.group, one.target))
    limit.say()
    return encoded, dropped


def encode_rankings(
    rankings: Sequence[Ranking], tokenizer: Any, *, max_length: int, overlong: str = "drop"
) -> tuple[list[Grouped], Dropped]:
    """(all texts of each ranking with their places, rankings left out by reason); a ranking is kept whole or not."""
    limit, dropped = Limit(max_length, overlong), Counter[str]()
    texts = iter(Renderer(tokenizer).ids([_answered(one.prompt, text) for one in rankings for text in one.responses]))
    encoded: list[Grouped] = []
    for one in rankings:
        ids = _fitting([next(texts) for _ in one.responses], limit, one.id, dropped)
        if ids is not None:
            encoded.append(Grouped(one.id, ids, list(one.levels), [], one.group))
    limit.say()
    return encoded, dropped


def encode_outcomes(
    outcomes: Sequence[Outcome], tokenizer: Any, *, max_length: int, overlong: str = "drop"
) -> tuple[list[Labelled], Dropped]:
    """(responses with the outcome at each of their tokens, rows left out by reason)."""
    rendered = Renderer(tokenizer).responses([(one.prompt, one.response) for one in outcomes])
    labelled = (None if r is None else (r.ids, outcome_labels(r, one.label)) for r, one in _zip(rendered, outcomes))
    return _labelled(outcomes, labelled, Limit(max_length, overlong), whole=False)


def encode_steps(
    rows: Sequence[Steps],
    tokenizer: Any,
    *,
    max_length: int,
    overlong: str = "drop",
    separator: str = "\n\n",
    boundary: str = "last-token",
    num_classes: int = 3,
    soft: bool = False,
    neutral: Neutral = "keep",
) -> tuple[list[Labelled], Dropped]:
    """(steps with a class or rate at the end of each, rows left out by reason).

    A row that would lose a step's label is left out. Raises `UsageError` for neutral steps where two classes have no
    place for them.
    """
    if neutral == "keep" and num_classes == 2 and not soft:
        found = next((one for one in rows if 0.0 in one.labels), None)
        if found is not None:
            raise UsageError(
                f"row {found.id!r} has a neutral step, and --num-classes 2 has no class for it: --neutral positive "
                "counts it as right, --neutral drop gives it no label"
            )
    rendered = Renderer(tokenizer).steps(
        [(one.prompt, one.steps) for one in rows], separator=separator, boundary=boundary
    )
    dropped = Counter[str]()
    kept: list[Steps] = []
    labelled: list[tuple[list[int], list[float]] | None] = []
    for r, one in _zip(rendered, rows):
        if r is not None and -1 in r.step_ends:
            dropped[NO_TOKEN] += 1
            continue
        labels = None if r is None else step_labels(r, one.labels, num_classes=num_classes, soft=soft, neutral=neutral)
        kept.append(one)
        labelled.append(None if r is None or labels is None else (r.ids, labels))
    encoded, more = _labelled(kept, labelled, Limit(max_length, overlong), whole=True)
    return encoded, dropped + more


def encode_returns(
    rows: Sequence[Return],
    tokenizer: Any,
    *,
    max_length: int,
    overlong: str = "drop",
    gamma: float = 1.0,
    target: Literal["returns", "reward"] = "returns",
) -> tuple[list[Labelled], Dropped]:
    """(responses with what is still to be earned at each of their tokens, rows left out by reason).

    Raises `UsageError` where a row has not one reward for each token of its response, closing token included.
    """
    rendered = Renderer(tokenizer).responses([(one.prompt, one.response) for one in rows])
    faults = [
        f"row {one.id!r}: {len(one.token_rewards)} token_rewards, and its response has "
        f"{r.response.stop - r.response.start} tokens (`rmeval data show --kind value --mask` shows them)"
        for r, one in _zip(rendered, rows)
        if r is not None and one.token_rewards and len(one.token_rewards) != r.response.stop - r.response.start
    ]
    if faults:
        raise UsageError(faults_message(f"{len(faults)} rows cannot be used", faults))
    labelled = (
        None if r is None else (r.ids, return_labels(r, one, gamma=gamma, target=target))
        for r, one in _zip(rendered, rows)
    )
    return _labelled(rows, labelled, Limit(max_length, overlong), whole=False)


def encode_dialogues(
    rows: Sequence[Dialogue],
    tokenizer: Any,
    *,
    max_length: int,
    overlong: str = "drop",
    loss_on: LossOn = "all-assistant",
) -> tuple[list[Labelled], Dropped]:
    """(conversations with the tokens that are to be learnt, rows left out by reason)."""
    rendered = Renderer(tokenizer).dialogues([one.messages for one in rows])
    labelled = (None if r is None else (r.ids, text_labels(r, loss_on)) for r in rendered)
    return _labelled(rows, labelled, Limit(max_length, overlong), whole=False)


# --- labels ----------------------------------------------------------------------------------------------------------


def outcome_labels(rendered: Rendered, label: float) -> list[float]:
    """The label at every token of the response."""
    return [label if i in range(*_ends(rendered.response)) else NONE for i in range(len(rendered.ids))]


def step_labels(
    rendered: Rendered, labels: Sequence[float], *, num_classes: int = 3, soft: bool = False, neutral: Neutral = "keep"
) -> list[float]:
    """The class of each step at its end: -1, 0, +1 are classes 0, 1, 2, or of two classes 0, none, 1; soft ones rates.

    >>> step_labels(Rendered([7, 8, 9], slice(0, 3), (0, 2)), (1.0, -1.0), num_classes=2)
    [1.0, nan, 0.0]
    """
    found = [NONE] * len(rendered.ids)
    for end, label in zip(rendered.step_ends, labels, strict=True):
        if soft or math.isnan(label):
            found[end] = label
        elif label == 0 and neutral != "keep":
            found[end] = float(num_classes - 1) if neutral == "positive" else NONE
        else:
            found[end] = label + 1 if num_classes == 3 else (label + 1) / 2
    return found


def return_labels(
    rendered: Rendered, row: Return, *, gamma: float = 1.0, target: Literal["returns", "reward"] = "returns"
) -> list[float]:
    """What is still to be earned at every token of the response."""
    from rmeval.training.returns import value_targets

    start, stop = _ends(rendered.response)
    given = {"token_rewards": row.token_rewards} if row.token_rewards else {"reward": row.reward}
    targets = value_targets(stop - start, gamma=gamma, target=target, **given)
    return [NONE] * start + targets + [NONE] * (len(rendered.ids) - stop)


def text_labels(rendered: Rendered, loss_on: LossOn = "all-assistant") -> list[float]:
    """The ids of the tokens that carry loss."""
    turns = {"all-assistant": rendered.turns, "final": (rendered.response,), "all": (slice(0, len(rendered.ids)),)}
    shown = {i for turn in turns[loss_on] for i in range(*_ends(turn))}
    return [float(token) if i in shown else NONE for i, token in enumerate(rendered.ids)]


# --- length ----------------------------------------------------------------------------------------------------------


def _labelled(
    rows: Sequence[Any], labelled: Iterable[tuple[list[int], list[float]] | None], limit: Limit, *, whole: bool
) -> tuple[list[Labelled], Dropped]:
    """The rows within the limit: `whole` ones with all their labels, others with one before the last token."""
    found: list[Labelled] = []
    dropped = Counter[str]()
    for one, text in zip(rows, labelled, strict=True):
        if text is None:
            dropped[REFUSED] += 1
            continue
        ids, labels = text
        before = sum(not math.isnan(label) for label in labels)
        if not before:
            dropped[NO_LABEL] += 1
            continue
        kept = limit.kept(len(ids), one.id)
        if kept is None:
            dropped[TOO_LONG] += 1
            continue
        after = [labels[i] for i in kept]
        # the last token stays in every cut, so that its label alone is no response
        left = sum(not math.isnan(label) for label in (after if len(kept) == len(ids) else after[:-1]))
        if (whole and sum(not math.isnan(label) for label in after) < before) or not left:
            dropped[CUT_OFF] += 1
            continue
        limit.cut += len(kept) < len(ids)
        found.append(Labelled(one.id, [ids[i] for i in kept], after, one.group))
    limit.say()
    return found, dropped


def _fitting(texts: Sequence[list[int] | None], limit: Limit, name: str, dropped: Dropped) -> list[list[int]] | None:
    """The texts of one row within the limit; None, and a count, where the row is left out."""
    known = [ids for ids in texts if ids is not None]
    if len(known) < len(texts):
        dropped[REFUSED] += 1
        return None
    kept = [limit.kept(len(ids), name) for ids in known]
    if any(places is None for places in kept):
        dropped[TOO_LONG] += 1
        return None
    fitted = [[ids[i] for i in places or ()] for ids, places in zip(known, kept, strict=True)]
    if len({*map(tuple, fitted)}) == 1 < len({*map(tuple, known)}):
        dropped[SAME] += 1
        return None
    limit.cut += sum(len(a) < len(b) for a, b in zip(fitted, known, strict=True))
    return fitted


def _answered(prompt: Turns, text: str) -> list[dict[str, str]]:
    return [*prompt, {"role": "assistant", "content": text}]


def _ends(part: slice) -> tuple[int, int]:
    return part.start, part.stop


def _zip(rendered: Sequence[Rendered | None], rows: Sequence[Any]) -> zip[tuple[Rendered | None, Any]]:
    return zip(rendered, rows, strict=True)


class PairCollator:
    """Encoded comparisons -> one batch: chosen rows first, then rejected, right-padded."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` [2 * pairs, longest], `margin` and `target` [pairs]."""
        import torch

        texts = [row.chosen for row in rows] + [row.rejected for row in rows]
        longest = max(map(len, texts))
        padded = [ids + [self.pad_token_id] * (longest - len(ids)) for ids in texts]
        mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids in texts]
        return {
            "input_ids": torch.tensor(padded),
            "attention_mask": torch.tensor(mask),
            "margin": torch.tensor([row.margin for row in rows]),
            "target": torch.tensor([row.target for row in rows]),
        }
