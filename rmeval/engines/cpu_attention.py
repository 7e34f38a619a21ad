"""Attention of one text on a CPU, block by block of its queries, with matrix products that oneDNN does.

torch's own kernel for CPUs is as slow in bfloat16 as in float32 and takes about twice the time of this in both, where
MKL does not use all that the processor has (measured on an AMD EPYC with AVX-512; see benchmarks/README.md). Scores and
softmax are float32 in either dtype; in bfloat16 weights are rounded before they meet the values, as torch does it. The
operator is torch's own and private, so for each shape of heads it is tried beside torch's kernel before it is used.

What this module does not know: texts, what is shared, masks other than as places that are seen or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from rmeval.engines.prepacked import available

LEAST = 10_000
"""Queries times keys from which this is faster than torch's kernel."""
_SCORES = 1 << 19
"""Scores that are held at one time: they and their softmax stay in a core's caches."""


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring queries, and the keys from the first to the last that any of them sees."""

    queries: slice
    keys: slice
    hidden: tuple[tuple[slice, Any], ...]
    """What is added to the scores at some of these keys, [queries, those keys]."""


def attend(query: Any, key: Any, value: Any, mask: Any, *, scaling: float | None, blocks: list[Block]) -> Any:
    """What queries [1, heads, queries, width] make of keys and values [1, groups of heads, keys, width].

    `mask` [1, 1, queries, keys] is true where a query sees a key; None is plainly causal. `blocks` is empty, and holds
    afterwards what can be given again with the same mask. Returns [1, queries, heads, width], or None where torch's
    kernel is to be taken.
    """
    import torch

    rows, heads, queries, width = query.shape
    groups, keys = key.shape[1], key.shape[2]
    if query.device.type != "cpu" or queries * keys < LEAST or rows != 1 or value.shape[-1] != width:
        return None
    if query.dtype not in _tolerances() or torch.is_grad_enabled() or (mask is None and queries != keys):
        return None
    if not _agrees(heads, groups, width, query.dtype):
        return None
    blocks += [] if blocks else _blocks(mask, queries, heads // groups * keys)
    return _by_blocks(query, key, value, blocks, width**-0.5 if scaling is None else scaling)


def _by_blocks(query: Any, key: Any, value: Any, blocks: list[Block], scaling: float) -> Any:
    _, heads, queries, width = query.shape
    groups = key.shape[1]
    each = heads // groups
    scaled = query[0].float() * scaling
    known, of_values = key[0].float().contiguous(), value[0].contiguous().mT
    found = query.new_empty((1, queries, heads, width))
    for block in blocks:
        shape = (each, block.queries.stop - block.queries.start, -1)
        for group in range(groups):
            mine = slice(group * each, (group + 1) * each)
            scores = _product(scaled[mine, block.queries].reshape(-1, width), known[group, block.keys]).view(shape)
            for columns, added in block.hidden:
                scores[:, :, columns] += added
            weights = scores.softmax(dim=-1).to(query.dtype).flatten(0, 1)
            found[0, block.queries, mine] = (
                _product(weights, of_values[group, :, block.keys]).view(shape).transpose(0, 1)
            )
    return found


@cache
def _tolerances() -> dict[Any, float]:
    """Largest accepted difference from torch's kernel for numbers of about 1."""
    import torch

    return {torch.float32: 1e-5, torch.bfloat16: 0.05}


@cache
def _agrees(heads: int, groups: int, width: int, dtype: Any) -> bool:
    """Whether this gives what torch's kernel does for heads of this shape."""
    import torch

    if not available():
        return False
    queries, shared = 24, 8
    drawn = torch.Generator().manual_seed(0)
    sizes = ((heads, queries), (groups, queries + shared), (groups, queries + shared))
    query, key, value = (torch.randn(1, n, count, width, generator=drawn).to(dtype) for n, count in sizes)
    seen = torch.ones(queries, queries + shared, dtype=torch.bool).tril(shared)[None, None]
    try:
        ours = _by_blocks(query, key, value, list(_blocks(seen, queries, queries)), width**-0.5)
        kernel = torch.nn.functional.scaled_dot_product_attention
        theirs = kernel(query, key, value, attn_mask=seen, enable_gqa=True).transpose(1, 2)
    except (RuntimeError, TypeError):  # a private operator may be gone or want other arguments: torch's kernel then
        return False
    return float((ours - theirs).abs().max()) <= _tolerances()[dtype]


def _blocks(mask: Any, queries: int, keys: int) -> Iterator[Block]:
    """Queries in blocks, each with as many scores as are held at one time; `keys` counts those of each head."""
    import torch

    rows = max(16, min(queries, _SCORES // keys))
    for start in range(0, queries, rows):
        end = min(queries, start + rows)
        if mask is None:
            later = torch.full((end - start, end - start), -math.inf).triu_(1)
            yield Block(slice(start, end), slice(end), ((slice(start, end), later),))
            continue
        seen = mask[0, 0, start:end]
        by_any = seen.any(dim=0).nonzero()
        keys_seen = slice(int(by_any[0]), int(by_any[-1]) + 1)
        seen = seen[:, keys_seen]
        partly = (~seen.all(dim=0)).nonzero()[:, 0]
        # what a window leaves behind stands at the beginning, what comes later at the end
        gaps = ((partly.diff() > 1).nonzero()[:, 0] + 1).tolist()
        hidden = []
        for one, other in pairwise([0, *gaps, len(partly)] if len(partly) else []):
            columns = slice(int(partly[one]), int(partly[other - 1]) + 1)
            added = torch.zeros((end - start, columns.stop - columns.start))
            hidden.append((columns, added.masked_fill_(~seen[:, columns], -math.inf)))
        yield Block(slice(start, end), keys_seen, tuple(hidden))


def _product(left: Any, right: Any) -> Any:
    """`left @ right.mT` for matrices of one dtype, the left one contiguous."""
    import torch

    return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")  # noqa: SLF001
