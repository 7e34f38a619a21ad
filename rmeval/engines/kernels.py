"""Attention over a packed row in one kernel per layer, where a GPU would spend its time on starting many small ones.

| kernel | is                                                     | takes                                              |
|--------|--------------------------------------------------------|----------------------------------------------------|
| pieces | what the model had, piece by piece                     | any device, any model (`rmeval.engines.attention`) |
| flex   | torch's FlexAttention with a block mask of the row     | soft-capping, windows, chunks; compiled on a GPU   |
| varlen | torch's `varlen_attn` on keys gathered text by text    | 16 bits, causal or one window, no soft-capping     |

Both ask the model's own rule which places of a text a place sees, and want them to be neighbours that end in itself:
causal attention, sliding windows and chunks all are. What a token sees in the row is then two stretches of keys, one in
what its group shares and one in what its text goes on with.

What this module does not know: models, layers, which kernel is the fastest.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, cast

from rmeval.engines.prefix_tree import Packed

BLOCK = 128
"""Queries and keys of a block of FlexAttention's mask."""
_RECOMPILED = 64
"""Shapes that one compiled function may be compiled for."""
_ROWS = 1024
"""Places whose rule is looked at together."""
_NOT_OURS = ("s_aux", "position_bias")
"""What some models hand their attention beside a mask, and these kernels do not take."""


class NotShareableError(Exception):
    """The model does not attend in a way that packed rows can follow."""


def offered(device: str) -> tuple[str, ...]:
    """The kernels to try on a device; the first is what the model had."""
    if not device.startswith("cuda"):
        return ("pieces",)
    return ("pieces", "flex", "varlen") if _varlen_takes_windows() else ("pieces", "flex")


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring tokens of one text in a part of a packed row; keys are counted over what was kept, then the part."""

    length: int
    first: int
    """The place of its first token in the text."""
    shared_at: int
    """The key of the first token that the group shares."""
    shared: int
    """Tokens shared and not in this segment; 0 for the shared ones themselves."""
    own_at: int
    """The key of its first token."""


def segments(packed: Packed, start: int, end: int) -> tuple[list[Segment], int]:
    """(What stands in a part of a row, in order; how many keys are kept from before it).

    >>> from rmeval.engines.prefix_tree import pack
    >>> [row] = pack([[1, 2, 3], [1, 2, 4, 5]], ["a", "a"], 99)
    >>> segments(row, 3, 5)
    ([Segment(length=2, first=2, shared_at=0, shared=2, own_at=2)], 2)
    """
    open_stem = packed.open_at(start) if start else None
    kept = open_stem.shared if open_stem else 0
    found = []
    for stem in packed.stems:
        here = start <= stem.start
        shared_at = stem.start - start + kept if here else 0
        if stem.shared and here and stem.start < end:
            found.append(Segment(stem.shared, 0, shared_at, 0, shared_at))
        found += [
            Segment(branch.length, stem.shared, shared_at, stem.shared, branch.start - start + kept)
            for branch in stem.branches
            if branch.length and start <= branch.start < end
        ]
    return found, kept


@dataclass(frozen=True, slots=True)
class Row:
    """A part of a packed row for a kernel: what the layers of one kind are handed as their attention mask."""

    kernel: str
    mask: Any
    shape: tuple[int, ...] = field(default=(1, 1, 0, 0))
    """Model code may look whether a mask has four dimensions."""

    def attend(self, query: Any, key: Any, value: Any, given: dict[str, Any]) -> Any:
        """[1, queries, heads, width] of queries [1, heads, queries, width] and the keys kept and new."""
        if given.get("dropout") or any(given.get(name) is not None for name in _NOT_OURS):
            raise NotShareableError("a layer attends in a way of its own")
        run = _flex if self.kernel == "flex" else _varlen
        return run(self.mask, query, key, value, scale=given.get("scaling"), cap=given.get("softcap"))


def row(kernel: str, packed: Packed, part: tuple[int, int], rule: Any, device: Any) -> Row:
    """A part (start, end) of a packed row for one kind of layer.

    Raises `NotShareableError` for a rule that a kernel cannot follow.
    """
    start, end = part
    parts, kept = segments(packed, start, end)
    first = _first_seen(rule, max((one.first + one.length for one in parts), default=0), device)
    if kernel == "flex":
        return Row(kernel, _block_mask(stretches(parts, first), kept + end - start))
    return Row(kernel, _gathered(parts, first))


def _first_seen(rule: Any, longest: int, device: Any) -> Any:
    """The first place that each place of a text sees, [longest]."""
    import torch

    zero = torch.zeros((), dtype=torch.long, device=device)
    keys = torch.arange(longest, device=device)[None, :]
    found, ahead, gaps = [], [], []
    for start in range(0, longest, _ROWS):
        queries = torch.arange(start, min(start + _ROWS, longest), device=device)[:, None]
        seen = rule(zero, zero, queries, keys).expand(len(queries), longest)
        first = seen.int().argmax(dim=1)
        found.append(first)
        ahead.append((seen & (keys > queries)).any())
        gaps.append((seen.sum(dim=1) != queries[:, 0] - first + 1).any())
    looks_ahead, leaves_out = torch.stack([torch.stack(ahead).any(), torch.stack(gaps).any()]).tolist()
    if looks_ahead:
        raise NotShareableError("a layer looks ahead")
    if leaves_out:
        raise NotShareableError("a layer leaves out places between those that it sees")
    return torch.cat(found)


def stretches(parts: list[Segment], first: Any) -> Any:
    """Per query the keys that it sees: [4, queries], from and to in what is shared, from and to in its own; to is past.

    `first` is the first place that each place sees, [longest].
    """
    import torch

    given = [[one.length, one.first, one.shared_at, one.shared, one.own_at] for one in parts]
    table = torch.tensor(given, device=first.device)
    lengths, total = table[:, 0], sum(one.length for one in parts)
    each = torch.repeat_interleave(table, lengths, dim=0, output_size=total)
    _, begins, shared_at, shared, own_at = each.unbind(dim=1)
    inside = torch.arange(total, device=first.device) - torch.repeat_interleave(
        lengths.cumsum(0) - lengths, lengths, output_size=total
    )
    seen = first[begins + inside]
    found = [
        shared_at + torch.minimum(seen, shared),
        shared_at + shared,
        own_at + (seen - begins).clamp(min=0),
        own_at + inside + 1,
    ]
    return torch.stack(found).int().contiguous()


# --- FlexAttention ---------------------------------------------------------------------------------------------------


def _block_mask(seen: Any, keys: int) -> Any:
    """FlexAttention's mask for stretches [4, queries]; no matrix of queries by keys is ever made."""
    import torch
    from torch.nn.attention.flex_attention import BlockMask

    queries = seen.shape[1]
    shared_from, shared_to, own_from, own_to = (part.contiguous() for part in seen)

    def sees(batch: Any, head: Any, query: Any, key: Any) -> Any:  # noqa: ARG001 - the signature is torch's
        shared = (key >= shared_from[query]) & (key < shared_to[query])
        return shared | ((key >= own_from[query]) & (key < own_to[query]))

    edges = torch.arange(0, keys, BLOCK, device=seen.device, dtype=torch.int32)[None, :]

    def inside(start: Any, end: Any) -> Any:
        """How many of the keys start..end of each query are in each block, [queries, blocks]."""
        return (torch.minimum(end[:, None], edges + BLOCK) - torch.maximum(start[:, None], edges)).clamp(min=0)

    counts = inside(shared_from, shared_to) + inside(own_from, own_to)
    counts = torch.nn.functional.pad(counts, (0, 0, 0, -queries % BLOCK))
    counts = counts.reshape(-1, BLOCK, counts.shape[1]).sum(dim=1)
    full = counts == BLOCK * BLOCK
    return BlockMask.from_kv_blocks(
        *_listed((counts > 0) & ~full), *_listed(full), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(queries, keys)
    )


def _listed(blocks: Any) -> tuple[Any, Any]:
    """(How many blocks of each row are true, their columns first), as FlexAttention wants them."""
    import torch

    order = torch.argsort(blocks.int(), dim=1, descending=True, stable=True)
    return blocks.sum(dim=1).int()[None, None], order.int().contiguous()[None, None]


def _flex(mask: Any, query: Any, key: Any, value: Any, *, scale: float | None, cap: float | None) -> Any:
    run = _flex_attention(query.is_cuda)
    found = run(
        query,
        key,
        value,
        score_mod=_capped(cap) if cap else None,
        block_mask=mask,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
        # short rows too go through the kernel that was checked, and not through one for a few queries
        kernel_options={"FORCE_USE_FLEX_ATTENTION": True},
    )
    return found.transpose(1, 2).contiguous()


@cache
def _flex_attention(compiled: bool) -> Any:
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    if not compiled:
        return flex_attention
    # a few for each model's heads: rows of one block, rows after kept keys. Past the limit, a graph that need not be
    # full would go on uncompiled, with a whole matrix of scores
    compile_ = cast("Any", torch.compile)  # torch's overloads lack the limit
    if "recompile_limit" in inspect.signature(compile_).parameters:
        return compile_(flex_attention, fullgraph=True, recompile_limit=_RECOMPILED)
    config = cast("Any", torch)._dynamo.config  # noqa: SLF001 - torch 2.11 has no other name for it
    config.recompile_limit = max(_RECOMPILED, config.recompile_limit)
    return compile_(flex_attention, fullgraph=True)


@cache
def _capped(cap: float) -> Any:
    """One function per cap: another one would be compiled again."""

    def capped(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:  # noqa: ARG001 - torch's signature
        return cap * (score / cap).tanh()

    return capped


# --- attention of texts of various lengths ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gathered:
    """The segments of a part of a row as texts of their own: what each shares is gathered before its own keys.

    A text's last query is its last key, and the kernel aligns the two there. So what is seen needs no second pass over
    the shared keys and no combination by log-sum-exp; the price is a copy of the shared keys for each text.
    """

    keys: Any
    """Which key stands where, [keys of all texts]; None where they stand as they are."""
    query_ends: Any
    key_ends: Any
    """Where texts begin and end, [texts + 1]."""
    most_queries: int
    most_keys: int
    window: tuple[int, int]


def _gathered(parts: list[Segment], first: Any) -> Gathered:
    import torch

    longest = len(first)
    places = torch.arange(longest, device=first.device)
    size = longest - first[-1]  # what the last place sees is a whole window, or everything
    alike = (first == (places - size + 1).clamp(min=0)).all()
    window, one_window = torch.stack([size, alike.long()]).tolist()
    if not one_window:
        raise NotShareableError("what is seen is no window of one size")
    order: list[Any] = []
    queries, keys = [0], [0]
    for one in parts:
        # the first query sees the furthest back: before that, shared keys are seen by none
        unseen = min(max(0, one.first - window + 1), one.shared)
        order.append(torch.arange(one.shared_at + unseen, one.shared_at + one.shared))
        order.append(torch.arange(one.own_at, one.own_at + one.length))
        queries.append(queries[-1] + one.length)
        keys.append(keys[-1] + one.shared - unseen + one.length)
    gathered = torch.cat(order)
    as_they_are = torch.equal(gathered, torch.arange(len(gathered)))
    given: dict[str, Any] = {"dtype": torch.int32, "device": first.device}
    return Gathered(
        None if as_they_are else gathered.to(**given),
        torch.tensor(queries, **given),
        torch.tensor(keys, **given),
        max(one.length for one in parts),
        max(b - a for a, b in pairwise(keys)),
        (-1, 0) if window >= longest else (window - 1, 0),
    )


def _varlen(mask: Gathered, query: Any, key: Any, value: Any, *, scale: float | None, cap: float | None) -> Any:
    if cap:
        raise NotShareableError("varlen_attn has no soft-capping")
    keys, values = (whole[0].transpose(0, 1) for whole in (key, value))
    if mask.keys is not None:
        keys, values = keys.index_select(0, mask.keys), values.index_select(0, mask.keys)
    ends = (mask.query_ends, mask.key_ends, mask.most_queries, mask.most_keys)
    more = {"scale": scale, "window_size": mask.window}
    run = _varlen_attention()
    if (each := query.shape[1] // key.shape[1]) > 1:
        if "enable_gqa" in inspect.signature(run).parameters:
            more["enable_gqa"] = True
        else:  # torch before 2.12
            keys, values = keys.repeat_interleave(each, dim=1), values.repeat_interleave(each, dim=1)
    found = run(query[0].transpose(0, 1).contiguous(), keys.contiguous(), values.contiguous(), *ends, **more)
    return found[None]


def _varlen_attention() -> Any:
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


def _varlen_takes_windows() -> bool:
    """Earlier versions of torch have the function without windows, or not at all."""
    try:
        taken = inspect.signature(_varlen_attention()).parameters
    except ImportError:
        return False
    return {"scale", "window_size"} <= set(taken)
