"""The last hidden states of texts, at chosen places: shared prefixes computed once, or every text by itself.

| layout      | a pass is over                                     | for                                            |
|-------------|----------------------------------------------------|------------------------------------------------|
| prefix tree | a packed row (`rmeval.engines.prefix_tree`)        | causal models, once both ways have agreed      |
| padded      | texts of like length, padded on the right          | any other                                      |

Before the first text is read, seeded texts are computed both ways, each alone in the padded one. Where they differ by
more than `TOLERANCE`, or the model's code cannot be followed, every text is padded, and `why` says so.

Out of memory, the largest pass is halved for good and what it held is tried again, a single text excepted.

What this module does not know: heads, requests, scores.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rmeval.engines import attention
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.prefix_tree import Packed, pack
from rmeval.progress import note

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
"""Largest accepted difference between the two ways, as a share of the length of a hidden state, by dtype."""
_WINDOW = 1024
"""Windows up to this many tokens are looked beyond on a CPU, where longer texts would take a while."""

_AT_ONCE = 1024
"""Tokens whose activations a CPU's caches still hold; shared keys and values are kept from part to part."""
_ATTEND = {"full_attention", "sliding_attention", "chunked_attention"}
"""Kinds of layers that see nothing but the tokens of their own text."""


def cannot_share(checkpoint: Checkpoint, implementation: str | None) -> str:
    """Why texts cannot share what they begin with, as far as a checkpoint says without its weights; else empty."""
    config = checkpoint.config.get_text_config()
    if implementation not in (None, *attention.NAMES):
        return f"attention {implementation} was asked for"
    if not checkpoint.splits or config.is_encoder_decoder:
        return "the class is not a causal backbone and a head"
    if other := set(getattr(config, "layer_types", None) or ()) - _ATTEND:
        return f"layers of the kind {min(other)}"
    return ""


class States:
    """A backbone without its head."""

    def __init__(self, body: Any, *, device: str, dtype: str, most: int) -> None:
        """`body` is the backbone; a pass has at most `most` tokens, padding included, unless one text has more."""
        self.body, self.device, self.dtype, self.most = body, device, dtype, most
        self.attention = attention.implementation(body)
        """The attention that the checkpoint's class takes, by its name in transformers."""
        self.shares = False
        self.why = "not asked to share"
        """Why texts are padded; empty where they share."""
        self.drift: float | None = None
        """Largest difference between the two ways in what the head gives for the texts of the check."""

    def at(self, rows: Sequence[list[int]], places: Sequence[Sequence[int]], groups: Sequence[str]) -> Any:
        """Hidden states [places, width] at all places that there are, row by row, in the weights' dtype.

        A negative place is none. Rows of one group, other than "", share what they begin with alike.
        """
        import torch

        kept = [[p for p in row if p >= 0] for row in places]
        wanted = [i for i in range(len(rows)) if kept[i]] or [0]
        found: dict[int, Any] = {}
        while todo := [i for i in wanted if i not in found]:
            try:
                for one in self._passes(rows, groups, todo):
                    found.update(self._run(one, rows, kept))
            except torch.cuda.OutOfMemoryError:
                if one.packed is None and len(one.texts) == 1:
                    raise
                if one.packed is not None and one.packed.cuts(self.most) == one.packed.cuts(0):
                    raise  # each part is one text, or what a group shares
                torch.cuda.empty_cache()
                self.most = max(1, min(self.most, one.size) // 2)
                note(f"out of memory with {one.size:,} tokens at once: at most {self.most:,} from here on")
        return torch.cat([found[i] for i in wanted])

    def _at_once(self) -> int:
        """A packed row is computed in parts of so many tokens."""
        return min(_AT_ONCE, self.most) if self.device == "cpu" else self.most

    def _passes(self, rows: Sequence[list[int]], groups: Sequence[str], todo: Sequence[int]) -> Iterator[_Pass]:
        apart: dict[int, list[int]] = {}
        for i in todo:
            apart.setdefault(_stretch(self.body.config.get_text_config(), len(rows[i])), []).append(i)
        for texts in apart.values():
            lengths = {i: len(rows[i]) for i in texts}
            if not self.shares:
                for part in _padded(lengths, self.most):
                    yield _Pass(part, len(part) * max(lengths[i] for i in part))
                continue
            for one in pack([rows[i] for i in texts], [groups[i] for i in texts], self.most):
                yield _Pass([texts[i] for i, *_ in one.offsets()], one.length, one, texts)

    def _run(self, one: _Pass, rows: Sequence[list[int]], kept: Sequence[Sequence[int]]) -> dict[int, Any]:
        """Hidden states [its places, width] of each text of a pass."""
        import torch

        with torch.inference_mode():
            if one.packed is None:
                ids, mask = padded([rows[i] for i in one.texts], self.device)
                hidden = self.body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
                return {i: hidden[n, _index(kept[i], self.device)] for n, i in enumerate(one.texts)}
            ids = one.packed.ids([rows[i] for i in one.of])
            positions = one.packed.positions()
            parts = []
            with attention.over(one.packed) as under_way:
                for start, end in one.packed.cuts(self._at_once()):
                    under_way.start, under_way.end, under_way.attended = start, end, 0
                    part = _index([ids[start:end]], self.device)
                    # all ones: without it, transformers takes steps in the positions for other texts
                    given = {"attention_mask": torch.ones_like(part), "use_cache": False}
                    places = _index([positions[start:end]], self.device)
                    parts.append(self.body(input_ids=part, position_ids=places, **given).last_hidden_state[0])
                    layers = self.body.config.get_text_config().num_hidden_layers
                    if under_way.attended != layers:
                        raise attention.NotShareableError(f"{layers - under_way.attended} of {layers} do not attend")
            hidden = torch.cat(parts)
            found = {}
            for text, shared, start, goes_on in one.packed.offsets():
                i = one.of[text]
                found[i] = hidden[_index([p + (start if p < shared else goes_on) for p in kept[i]], self.device)]
            return found

    # --- whether texts may share -------------------------------------------------------------------------------------

    def share(self, head: Callable[[Any], Any]) -> None:
        """Have texts share their beginnings if both ways agree; `head` gives numbers for hidden states."""
        try:
            self._try(head)
        except attention.NotShareableError as fault:
            self.why = str(fault)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, RuntimeError) as fault:
            # model code that we do not know may fail in any way on what it was not written for
            self.why = f"its code cannot be followed ({type(fault).__name__})"
        self.shares = not self.why
        if self.why:
            attention.give_up(self.body)
            note(f"texts of a prompt group do not share what they begin with: {self.why}")

    def _try(self, head: Callable[[Any], Any]) -> None:
        import torch

        self.why, self.shares = "", False
        if "position_ids" not in inspect.signature(self.body.forward).parameters:
            raise attention.NotShareableError("its code takes no positions")
        rows, groups = self._texts()
        places = [range(len(row)) if len(row) < 64 else [len(row) - 1] for row in rows]
        with torch.inference_mode():
            alone = torch.cat([self.at([row], [at], [""]) for row, at in zip(rows, places, strict=True)])
            attention.adopt(self.body)
            self.shares = True
            shared = self.at(rows, places, groups)
            given = head(alone).float(), head(shared).float()
            apart = (shared.float() - alone.float()).norm(dim=-1) / alone.float().norm(dim=-1)
        worst, drift = float(apart.max()), float((given[0] - given[1]).abs().max())
        if math.isnan(worst):  # broken weights: every score will be counted as non_finite
            raise attention.NotShareableError("its hidden states are no numbers")
        self.drift = drift
        if worst > TOLERANCE[self.dtype]:
            raise attention.NotShareableError(f"the two ways differ by {worst:.1e}")

    def _texts(self) -> tuple[list[list[int]], list[str]]:
        """Texts of the check and their groups: one shared token, none to go on with, more than a window."""
        config = self.body.config.get_text_config()
        size = self.body.get_input_embeddings().num_embeddings
        drawn = random.Random(0)  # noqa: S311 - must repeat

        def tokens(n: int) -> list[int]:
            return [drawn.randrange(size) for _ in range(n)]

        shapes = [(1, (5, 0, 9)), (21, (8, 3))]
        window = getattr(config, "sliding_window", None)
        if window and (window <= _WINDOW or self.device != "cpu"):
            shapes.append((window + 7, (4, 6)))
        rows, groups = [], []
        for name, (shared, branches) in enumerate(shapes):
            start = tokens(shared)
            rows += [start + tokens(n) for n in branches]
            groups += [str(name)] * len(branches)
        return rows, groups


@dataclass(frozen=True, slots=True)
class _Pass:
    """What goes through the weights at once."""

    texts: list[int]
    size: int
    """Tokens, padding included."""
    packed: Packed | None = None
    of: list[int] = field(default_factory=list)
    """Which text each of the packed ones is."""


def padded(rows: Sequence[Sequence[int]], device: str) -> tuple[Any, Any]:
    """Ids and mask [rows, longest], padded on the right."""
    import torch

    longest = max(len(ids) for ids in rows)
    # the pad id is never read: the mask hides it and positions come from the mask
    input_ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, ids in enumerate(rows):
        input_ids[i, : len(ids)] = torch.tensor(ids)
        mask[i, : len(ids)] = 1
    return input_ids.to(device), mask.to(device)


def _padded(lengths: Mapping[int, int], most: int) -> list[list[int]]:
    """Texts by length -> texts of one pass: all at once where that fits, else the longest first.

    >>> _padded({0: 2, 1: 3, 2: 9}, 10), _padded({0: 2, 1: 3}, 6)
    ([[2], [1, 0]], [[0, 1]])
    """
    if len(lengths) * max(lengths.values()) <= most:
        return [list(lengths)]
    found: list[list[int]] = []
    for i in sorted(lengths, key=lambda i: -lengths[i]):
        if found and lengths[found[-1][0]] * (len(found[-1]) + 1) <= most:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def _stretch(config: Any, length: int) -> int:
    """What the rotary angles of a text depend on beside its tokens' places: texts that differ cannot share a pass.

    `longrope` (Phi) turns to other frequencies beyond a length, `dynamic` has its own for each length beyond.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    for one in [rope, *rope.values()]:
        kind = one.get("rope_type") if isinstance(one, dict) else None
        if kind in ("longrope", "dynamic"):
            most = one.get("original_max_position_embeddings") or config.max_position_embeddings
            return 0 if length <= most else 1 if kind == "longrope" else length
    return 0


def _index(places: Sequence[Any], device: str) -> Any:
    import torch

    return torch.tensor(places, dtype=torch.long, device=device)
