"""Where a text that is too long is cut: our own three ways, and the way of the official scripts.

The official scripts hand the rendered text to the tokenizer with its limit, so the tokenizer cuts the text first and
then adds its own special tokens. That drops the end of the response, closing token included, where it cuts on the
right. Ours never drop the token that is read.

What this module does not know: tokenizers, suites, why anybody wants to cut.
"""

from __future__ import annotations

from collections.abc import Sequence


def cut(ids: Sequence[int], limit: int, side: str) -> list[int]:
    """At most `limit` ids. Left keeps the first token (BOS), right the last one, which is read, middle both ends alike.

    >>> cut([1, 10, 11, 12, 2], 3, "left"), cut([1, 10, 11, 12, 2], 3, "right"), cut([1, 10, 11, 12, 2], 3, "middle")
    ([1, 12, 2], [1, 10, 2], [1, 12, 2])
    """
    if len(ids) <= limit:
        return list(ids)
    if side == "left":
        return [ids[0], *ids[len(ids) - limit + 1 :]]
    if side == "middle":
        return [*ids[: limit // 2], *ids[len(ids) - limit + limit // 2 :]]
    return [*ids[: limit - 1], ids[-1]]


def cut_officially(
    ids: Sequence[int], limit: int, side: str, *, before: Sequence[int], after: Sequence[int], added: bool
) -> list[int]:
    """What a tokenizer leaves of a text over its limit, special tokens counted as it counts them.

    `before` and `after` are the special tokens that the tokenizer adds by itself. `added` says whether they are in
    `ids` (no chat template); else the template wrote its own, the official script had both, and masks one of two BOS.

    >>> cut_officially([1, 10, 11, 12, 3], 4, "left", before=[1], after=[], added=False)
    [1, 11, 12, 3]
    >>> cut_officially([1, 10, 11, 12, 3], 4, "right", before=[1], after=[], added=False)
    [1, 10, 11]
    >>> cut_officially([10, 11, 12, 13, 3], 4, "right", before=[], after=[], added=False)
    [10, 11, 12, 13]
    >>> cut_officially([1, 10, 11, 12, 2], 4, "left", before=[1], after=[2], added=True)
    [1, 11, 12, 2]
    """
    if len(ids) <= limit:
        return list(ids)
    room = max(1, limit - len(before) - len(after))
    body = list(ids)
    head: list[int] = []
    tail: list[int] = []
    if added:
        head, body, tail = list(before), body[len(before) : len(body) - len(after)], list(after)
    elif before and body[: len(before)] == list(before) and side == "left":
        head = list(before)
    return [*head, *(body[-room:] if side == "left" else body[:room]), *tail]
