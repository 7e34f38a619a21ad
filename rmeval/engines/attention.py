"""Attention in a packed row: each text sees its own tokens and what it shares, as if it were alone.

Registered with transformers under names of our own, so that model code runs as it is. The masks come from the model's
own rule (causal, sliding window, chunks), which is asked about places in a text and not in the packed row; and each
piece goes through the implementation that the model had, with its scaling, soft-capping and grouped heads, or, where
that is torch's and the piece is long, through `rmeval.engines.cpu_attention`.

A model may share where every layer attends through this, and no layer looks ahead. What does not is found out in the
first pass, by `NotShareableError`.

What this module does not know: text, scores, which texts share what.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from rmeval.engines import kernels
from rmeval.engines.cpu_attention import Block, attend
from rmeval.engines.kernels import NotShareableError
from rmeval.engines.prefix_tree import Packed

NAMES = {"sdpa": "rmeval_tree", "eager": "rmeval_tree_plain"}
"""Implementation that a model had -> what ours is called; none holds a name that transformers looks for in it."""

_PACKED: ContextVar[Pass | None] = ContextVar("packed", default=None)


@dataclass(slots=True)
class Pass:
    """Forward passes over one packed row, part by part."""

    packed: Packed
    kernel: str = "pieces"
    """One of `rmeval.engines.kernels`."""
    start: int = 0
    end: int = 0
    """The part under way."""
    attended: int = 0
    """Layers that have attended to it through this module."""
    kept: list[tuple[int, Any, Any]] = field(default_factory=list)
    """Layer by layer, keys and values of what is shared with texts of the next part, and where they start."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Neighbouring tokens of one text, and what they see."""

    queries: slice
    keys: tuple[slice, ...]
    mask: Any
    """[1, 1, queries, keys], or None where it is plainly causal and what is seen is the queries themselves."""
    blocks: list[Block] = field(default_factory=list)
    """What `rmeval.engines.cpu_attention` made of the mask in the first of the layers."""


@dataclass(frozen=True, slots=True)
class _Masks:
    """What the layers of one kind are handed as their attention mask."""

    pieces: tuple[_Piece, ...]
    shape: tuple[int, ...] = field(default=(1, 1, 0, 0))
    """Model code may look whether a mask has four dimensions."""


def adopt(model: Any) -> None:
    """Have a model attend through this module; outside of `over` it computes as before. Raises `NotShareableError`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    had = implementation(model)
    if had in NAMES.values():
        return
    if had not in NAMES:
        raise NotShareableError(f"attention {had}")
    AttentionInterface.register(NAMES[had], _attention(had))
    AttentionMaskInterface.register(NAMES[had], _masks(had))
    model.set_attn_implementation(NAMES[had])
    if implementation(model) != NAMES[had]:
        raise NotShareableError("the class has attention code of its own")


def implementation(model: Any) -> str:
    """The name of a model's attention."""
    return str(model.config._attn_implementation)  # noqa: SLF001 - transformers has no other name for it


def give_up(model: Any) -> None:
    """Have a model attend as it did before `adopt`."""
    before = {ours: theirs for theirs, ours in NAMES.items()}
    if implementation(model) in before:
        model.set_attn_implementation(before[implementation(model)])


@contextmanager
def over(packed: Packed, kernel: str = "pieces") -> Iterator[Pass]:
    """Passes inside are over this packed row."""
    under_way = Pass(packed, kernel, end=packed.length)
    token = _PACKED.set(under_way)
    try:
        yield under_way
    finally:
        _PACKED.reset(token)


def _masks(had: str) -> Any:
    from transformers import AttentionMaskInterface

    plain = AttentionMaskInterface()[had]

    def masks(*args: Any, **given: Any) -> Any:
        under_way = _PACKED.get()
        if under_way is None:
            return plain(*args, **given)
        rule, device = given["mask_function"], given["device"]
        if under_way.kernel != "pieces":
            part = under_way.start, under_way.end
            return kernels.row(under_way.kernel, under_way.packed, part, rule, device)
        additive = given.get("dtype") if had == "eager" else None
        return _Masks(tuple(_pieces(under_way, rule, device, additive)))

    return masks


def _pieces(under_way: Pass, rule: Any, device: Any, additive: Any) -> Iterator[_Piece]:
    """The pieces of the part under way."""
    import torch

    zero = torch.zeros((), dtype=torch.long, device=device)

    def mask(start: int, end: int) -> tuple[Any, int]:
        """(what tokens start..end of a text see of its tokens from the first that any sees, that first)."""
        queries = torch.arange(start, end, device=device)[:, None]
        keys = torch.arange(end, device=device)[None, :]
        seen = rule(zero, zero, queries, keys).expand(end - start, end)
        if (seen & (keys > queries)).any():
            raise NotShareableError("a layer looks ahead")
        first = int(seen.any(dim=0).int().argmax()) if start else 0
        if not start and additive is None and bool((seen == (keys <= queries)).all()):
            return None, 0
        seen = seen[None, None, :, first:]
        if additive is None:
            return seen, first
        hidden = torch.finfo(additive).min
        return torch.zeros(seen.shape, dtype=additive, device=device).masked_fill(~seen, hidden), first

    for stem in under_way.packed.stems:
        shared = slice(stem.start, stem.start + stem.shared)
        if stem.shared and under_way.start <= stem.start < under_way.end:
            yield _Piece(shared, (shared,), mask(0, stem.shared)[0])
        for branch in stem.branches:
            if not branch.length or not under_way.start <= branch.start < under_way.end:
                continue
            own = slice(branch.start, branch.start + branch.length)
            seen, first = mask(stem.shared, stem.shared + branch.length)
            if first < stem.shared:
                yield _Piece(own, (slice(stem.start + first, shared.stop), own), seen)
            else:  # nothing is shared, or a window has left it behind
                ahead = first - stem.shared
                yield _Piece(own, (slice(own.start + ahead, own.stop),), seen)


def _attention(had: str) -> Any:
    from transformers import AttentionInterface

    def attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **given: Any) -> Any:
        import torch

        # a class's plain attention is a function in its own module, found there by transformers too
        inner = AttentionInterface()[had] if had != "eager" else _plain(module)
        under_way = _PACKED.get()
        if under_way is None:
            return inner(module, query, key, value, attention_mask, **given)
        if isinstance(attention_mask, kernels.Row):
            whole = attention_mask.attend(query, *_with_kept(under_way, key, value), given)
            _keep(under_way, key, value)
            under_way.attended += 1
            return whole, None
        if not isinstance(attention_mask, _Masks):
            raise NotShareableError("a layer makes its own mask")
        both = ((1, key), (2, value))
        found = []
        for piece in attention_mask.pieces:
            keys, values = (torch.cat([_part(under_way, i, whole, s) for s in piece.keys], dim=2) for i, whole in both)
            own = slice(piece.queries.start - under_way.start, piece.queries.stop - under_way.start)
            asked = (query[:, :, own], keys, values, piece.mask)
            made = None
            if had == "sdpa" and not given.get("dropout"):
                made = attend(*asked, scaling=given.get("scaling"), blocks=piece.blocks)
            found.append(inner(module, *asked, **given)[0] if made is None else made)
        _keep(under_way, key, value)
        under_way.attended += 1
        # what a part was filled up with, see `rmeval.engines.states`, sees nothing and is seen by nothing
        found.append(found[0].new_zeros(1, query.shape[2] - under_way.end + under_way.start, *found[0].shape[2:]))
        return torch.cat(found, dim=1), None

    return attention


def _with_kept(under_way: Pass, key: Any, value: Any) -> tuple[Any, Any]:
    """Keys and values of this part, after those that it shares with the one before."""
    import torch

    if not under_way.start or under_way.packed.open_at(under_way.start) is None:
        return key, value
    _, keys, values = under_way.kept[under_way.attended]

    def after(kept: Any, new: Any) -> Any:
        """Laid out as models have it, token by token and not head by head: what is compiled asks for one layout."""
        return torch.cat([kept.transpose(1, 2), new.transpose(1, 2)], dim=1).transpose(1, 2)

    return after(keys, key), after(values, value)


def _part(under_way: Pass, which: int, whole: Any, wanted: slice) -> Any:
    """Keys or values at some places of the row, of this part or kept from the one before."""
    before = under_way.start
    if wanted.start < before:
        held = under_way.kept[under_way.attended]
        before, whole = held[0], held[which]
    return whole[:, :, wanted.start - before : wanted.stop - before]


def _keep(under_way: Pass, key: Any, value: Any) -> None:
    """Keep what texts of the next part share with this one."""
    stem = under_way.packed.open_at(under_way.end)
    if stem is None or stem.start < under_way.start:
        return
    start = stem.start - under_way.start
    kept = (stem.start, *(whole[:, :, start : start + stem.shared].clone() for whole in (key, value)))
    if under_way.attended < len(under_way.kept):
        under_way.kept[under_way.attended] = kept
    else:
        under_way.kept.append(kept)


def _plain(module: Any) -> Any:
    code = sys.modules[type(module).__module__]
    if not hasattr(code, "eager_attention_forward"):
        raise NotShareableError("the class has attention code of its own")
    return code.eager_attention_forward
