"""Texts that a language model writes: token by token, several rows at once, each as if it were alone.

- Rows are padded on the left, hidden by the mask, and positions are counted from a row's own first token.
- At temperature 0 the likeliest token is taken, of equal ones the lowest id. Above it one number a token is drawn from
  a generator of the row's own, seeded by what is asked, and looked up in the cumulative distribution over the ids: no
  neighbour, order or resumed run changes a draw.
- Equal prompts, as those of several votes, are read once.
- A row ends at a stop token or at its limit, and is then left out of the work as soon as half of the rows are done.

What this module does not know: text, templates, the store.
"""

from __future__ import annotations

import hashlib
import inspect
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rmeval.errors import UsageError
from rmeval.types import Finish, Sampling

WRITING = 1
"""Goes into the fingerprint of language models: raise it when the same weights and prompt would be gone on with
differently."""


@dataclass(slots=True)
class Written:
    """What came after one prompt."""

    ids: list[int] = field(default_factory=list)
    """All tokens written, a stop token at the end included."""
    open: bool = True
    """Whether it is being written."""
    finish: Finish = "stop"
    finite: bool = True
    """Whether every distribution was one; where one was not, nothing more was written."""


def write(
    model: Any, rows: Sequence[Sequence[int]], how: Sequence[Sampling], *, stops: frozenset[int], device: str
) -> list[Written]:
    """Go on with each row of ids, at least one long, as its sampling says."""
    import torch

    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise UsageError(f"{type(model).__name__} keeps no keys and values of what it has read: it cannot write here")
    found = [Written() for _ in rows]
    prompts = list(dict.fromkeys(map(tuple, rows)))
    draws = [_draws(ids, sampling) for ids, sampling in zip(rows, how, strict=True)]
    live = list(range(len(rows)))
    with torch.inference_mode():
        ids, mask = _left_padded(prompts, device)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        logits, cache = _step(model, ids, mask, positions, None)
        if len(prompts) < len(rows):
            of = torch.tensor([prompts.index(tuple(row)) for row in rows], device=device)
            cache.batch_select_indices(of)
            logits, mask, positions = logits[of], mask[of], positions[of]
        while True:
            finite = logits.max(dim=1).values.isfinite().tolist()
            chosen = choose(logits, [how[i] for i in live], [draws[i] for i in live])
            for i, token, fine in zip(live, chosen, finite, strict=True):
                _append(found[i], token, fine, how[i].max_tokens, stops)
            left = [place for place, i in enumerate(live) if found[i].open]
            if not left:
                return found
            ids, positions = torch.tensor(chosen, device=device)[:, None], positions[:, -1:] + 1
            if 2 * len(left) <= len(live):
                kept = torch.tensor(left, device=device)
                cache.batch_select_indices(kept)
                ids, mask, positions = ids[kept], mask[kept], positions[kept]
                live = [live[place] for place in left]
            mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)
            logits, cache = _step(model, ids, mask, positions, cache)


def _step(model: Any, ids: Any, mask: Any, positions: Any, cache: Any) -> tuple[Any, Any]:
    """Logits [rows, vocabulary] in fp32 after the last of the ids, and what was read so far."""
    given = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache}
    if "position_ids" in inspect.signature(model.forward).parameters:  # any other class counts them from the mask
        given["position_ids"] = positions
    said = model(**given, use_cache=True, logits_to_keep=1)
    return said.logits[:, -1].float(), said.past_key_values


def choose(logits: Any, how: Sequence[Sampling], draws: Sequence[random.Random]) -> list[int]:
    """The next token of each row of logits [rows, vocabulary] in fp32; a draw is taken above temperature 0 only.

    >>> import random, torch
    >>> choose(torch.tensor([[0.5, 2.0, 2.0]]), [Sampling()], [random.Random(0)])
    [1]
    """
    import torch

    size = logits.shape[1]
    ids = torch.arange(size, device=logits.device)
    # argmax does not say which of equal values it takes
    top = logits.max(dim=1, keepdim=True).values
    chosen: list[int] = torch.where(logits >= top, ids, size).min(dim=1).values.clamp(max=size - 1).tolist()
    drawn = [i for i, sampling in enumerate(how) if sampling.temperature > 0]
    if drawn:
        heat = torch.tensor([how[i].temperature for i in drawn], dtype=torch.float64, device=logits.device)
        shares = (logits[drawn].double() / heat[:, None]).softmax(dim=1)
        shares = _nucleus(shares, [how[i].top_p for i in drawn])
        total = shares.cumsum(dim=1)
        # 32 bits: below 1 by enough that the product stays below the total
        at = torch.tensor([draws[i].getrandbits(32) / 2**32 for i in drawn], dtype=torch.float64, device=logits.device)
        places = torch.searchsorted(total, (at * total[:, -1])[:, None], right=True)[:, 0].clamp(max=size - 1)
        for i, token in zip(drawn, places.tolist(), strict=True):
            chosen[i] = token
    return chosen


def _nucleus(shares: Any, top_p: Sequence[float]) -> Any:
    """Probabilities [rows, vocabulary] of the likeliest tokens that together reach `top_p`; 0 for the others."""
    import torch

    if all(p >= 1 for p in top_p):
        return shares
    limit = torch.tensor(list(top_p), dtype=shares.dtype, device=shares.device)
    ordered, order = shares.sort(dim=1, descending=True, stable=True)
    outside = (ordered.cumsum(dim=1) - ordered >= limit[:, None]) & (limit < 1)[:, None]
    outside[:, 0] = False
    return shares.masked_fill(torch.zeros_like(outside).scatter(1, order, outside), 0.0)


def _append(written: Written, token: int, finite: bool, max_tokens: int, stops: frozenset[int]) -> None:
    if not written.open:
        return
    written.finite = finite
    if finite:
        written.ids.append(token)
    full = len(written.ids) >= max_tokens
    if full and token not in stops:
        written.finish = "length"
    written.open = finite and token not in stops and not full


def _draws(ids: Sequence[int], sampling: Sampling) -> random.Random:
    """A generator for one prompt, seed and vote."""
    said = f"{sampling.seed}|{sampling.vote}|{','.join(map(str, ids))}"
    return random.Random(int.from_bytes(hashlib.sha256(said.encode()).digest(), "big"))  # noqa: S311 - must repeat


def _left_padded(rows: Sequence[Sequence[int]], device: str) -> tuple[Any, Any]:
    """Ids and mask [rows, longest], padded on the left."""
    import torch

    longest = max(len(ids) for ids in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    return ids.to(device), mask.to(device)
