"""The last hidden states of texts, at chosen places: shared prefixes computed once, or every text by itself.

| layout      | a pass is over                                     | for                                            |
|-------------|----------------------------------------------------|------------------------------------------------|
| prefix tree | a packed row (`rmeval.engines.prefix_tree`)        | causal models, once both ways have agreed      |
| padded      | texts of like length, padded on the right          | any other                                      |

Before the first text is read, seeded texts are computed both ways, each alone in the padded one. Where they differ by
more than `TOLERANCE`, or the model's code cannot be followed, every text is padded, and `why` says so.

On a GPU, kernels that attend to a packed row at once are tried as well (`rmeval.engines.kernels`), and of those that
agree the fastest is kept. One that fails later gives way to what the model had, which is said.

Out of memory, the largest pass is halved for good and what it held is tried again, a single text excepted.

What this module does not know: heads, requests, scores.
"""

from __future__ import annotations

import inspect
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rmeval.engines import attention, budget, kernels
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.prefix_tree import Packed, pack
from rmeval.progress import note

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
"""Largest accepted difference between the two ways, as a share of the length of a hidden state, by dtype."""
_WINDOW = 1024
"""Windows up to this many tokens are looked beyond on a CPU, where longer texts would take a while."""

_AT_ONCE = 1024
"""Tokens whose activations a CPU's caches still hold; shared keys and values are kept from part to part."""
_STEP = 16
"""On a CPU a part is filled up to a multiple of this: oneDNN keeps code and memory for every size that it has met."""
_TIMED = 8192
"""Tokens of the passes that kernels are timed on."""
NO_NUMBERS = "its hidden states are no numbers"
_ATTEND = {"full_attention", "sliding_attention", "chunked_attention"}
"""Kinds of layers that see nothing but the tokens of their own text."""


def cannot_share(checkpoint: Checkpoint, implementation: str | None) -> str:
    """Why texts cannot share what they begin with, as far as a checkpoint says without its weights; else empty."""
    config = checkpoint.config.get_text_config()
    if implementation not in (None, *attention.NAMES):
        return f"attention {implementation} was asked for"
    if not checkpoint.splits or config.is_encoder_decoder:
        return "the class is not a causal backbone and a head"
    if getattr(config, "attn_temperature_tuning", False):  # Llama 4, by places in the row, and only beyond 8,192
        return "attention is scaled by places in the row"
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
        self.kernel = "pieces"
        """What attends to packed rows, see `rmeval.engines.kernels`."""
        self.tried: dict[str, str] = {}
        """What came of each kernel, in words, where there was a choice."""

    def at(self, rows: Sequence[list[int]], places: Sequence[Sequence[int]], groups: Sequence[str]) -> Any:
        """Hidden states [places, width] at all places that there are, row by row, in the weights' dtype.

        A negative place is none. Rows of one group, other than "", share what they begin with alike.
        """
        try:
            return self._found(rows, places, groups)
        except (RuntimeError, kernels.NotShareableError) as fault:
            if self.kernel == "pieces" or out_of_memory(fault):
                raise
            self.tried[self.kernel] = f"failed: {_said(fault)}"
            note(f"attention by {self.kernel} failed ({_said(fault)}): piece by piece from here on")
        self.kernel = "pieces"
        return self._found(rows, places, groups)

    def _found(self, rows: Sequence[list[int]], places: Sequence[Sequence[int]], groups: Sequence[str]) -> Any:
        """What `at` gives, by the kernel that is set."""
        import torch

        kept = [[p for p in row if p >= 0] for row in places]
        wanted = [i for i in range(len(rows)) if kept[i]] or [0]
        found: dict[int, Any] = {}
        while todo := [i for i in wanted if i not in found]:
            try:
                for one in self._passes(rows, groups, todo):
                    found.update(self._run(one, rows, kept))
            except RuntimeError as fault:
                if not out_of_memory(fault) or (one.packed is None and len(one.texts) == 1):
                    raise
                if one.packed is not None and one.packed.cuts(self.most) == one.packed.cuts(0):
                    raise  # each part is one text, or what a group shares
            else:
                continue
            # outside of the handler, whose fault holds on to what the pass had in memory
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

        # what torch compiles works on no tensors of inference mode
        with torch.inference_mode(self.kernel == "pieces"), torch.no_grad():
            if one.packed is None:
                ids, mask = padded([rows[i] for i in one.texts], self.device)
                hidden = self.body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
                return {i: hidden[n, _index(kept[i], self.device)] for n, i in enumerate(one.texts)}
            ids = one.packed.ids([rows[i] for i in one.of])
            positions = one.packed.positions()
            parts = []
            with attention.over(one.packed, self.kernel) as under_way:
                for start, end in one.packed.cuts(self._at_once()):
                    under_way.start, under_way.end, under_way.attended = start, end, 0
                    fill = [0] * (-(end - start) % _STEP if self.device == "cpu" and self.kernel == "pieces" else 0)
                    part = _index([ids[start:end] + fill], self.device)
                    # all ones: without it, transformers takes steps in the positions for other texts
                    given = {"attention_mask": torch.ones_like(part), "use_cache": False}
                    places = _index([positions[start:end] + fill], self.device)
                    hidden = self.body(input_ids=part, position_ids=places, **given).last_hidden_state
                    parts.append(hidden[0, : end - start])
                    layers = self.body.config.get_text_config().num_hidden_layers
                    if under_way.attended != layers:
                        raise kernels.NotShareableError(f"{layers - under_way.attended} of {layers} do not attend")
            hidden = torch.cat(parts)
            found = {}
            for text, shared, start, goes_on in one.packed.offsets():
                i = one.of[text]
                found[i] = hidden[_index([p + (start if p < shared else goes_on) for p in kept[i]], self.device)]
            return found

    # --- whether texts may share -------------------------------------------------------------------------------------

    def share(self, head: Callable[[Any], Any]) -> None:
        """Have texts share their beginnings if both ways agree; `head` gives numbers for hidden states."""
        drifts: dict[str, float | None] = {}
        faults: dict[str, str] = {}
        alone: Any = None
        for kernel in kernels.offered(self.device):
            self.kernel, self.drift = kernel, None
            try:
                alone = self._alone() if alone is None else alone
                self._try(head, alone)
            except kernels.NotShareableError as fault:
                faults[kernel] = str(fault)
            except Exception as fault:  # noqa: BLE001 - model code and compilers that we do not know may fail in any way
                why = type(fault).__name__ if kernel == "pieces" else _said(fault)
                faults[kernel] = f"its code cannot be followed ({why})"
            drifts[kernel] = self.drift
        able = [kernel for kernel in drifts if kernel not in faults]
        self.shares, self.why = bool(able), "" if able else next(iter(faults.values()))
        self.kernel = self._fastest(able) if able else "pieces"
        self.drift = drifts[self.kernel if able else next(iter(drifts))]
        self.tried |= faults if len(drifts) > 1 else {}
        if self.why:
            attention.give_up(self.body)
            note(f"texts of a prompt group do not share what they begin with: {self.why}")

    def _alone(self) -> Any:
        """Hidden states of the texts of the check, each by itself."""
        import torch

        if "position_ids" not in inspect.signature(self.body.forward).parameters:
            raise kernels.NotShareableError("its code takes no positions")
        self.why, self.shares = "", False
        rows, _ = self._texts()
        return torch.cat([self._found([row], [at], [""]) for row, at in zip(rows, _checked(rows), strict=True)])

    def _try(self, head: Callable[[Any], Any], alone: Any) -> None:
        """Compute the texts of the check side by side, by one kernel. Raises `NotShareableError` where they differ."""
        import torch

        attention.adopt(self.body)
        self.shares = True
        rows, groups = self._texts()
        shared = self._found(rows, _checked(rows), groups)
        with torch.inference_mode():
            given = head(alone).float(), head(shared).float()
            apart = (shared.float() - alone.float()).norm(dim=-1) / alone.float().norm(dim=-1)
        worst, drift = float(apart.max()), float((given[0] - given[1]).abs().max())
        if math.isnan(worst):  # broken weights: every score will be counted as non_finite
            raise kernels.NotShareableError(NO_NUMBERS)
        self.drift = drift
        if worst > TOLERANCE[self.dtype]:
            raise kernels.NotShareableError(f"the two ways differ by {worst:.1e}")

    def _fastest(self, able: Sequence[str]) -> str:
        """The kernel that takes the least time on seeded prompt groups, after two passes that do not count."""
        if len(able) == 1:
            return able[0]
        seconds: dict[str, float] = {}
        for kernel in able:
            self.kernel = kernel
            try:
                # a second size has what is compiled take any
                taken = [self._seconds(size) for size in (_TIMED // 2, _TIMED, _TIMED, _TIMED, _TIMED)]
            except Exception as fault:  # noqa: BLE001 - as above
                self.tried[kernel] = _said(fault)
                continue
            seconds[kernel] = min(taken[2:])
            self.tried[kernel] = f"{1000 * seconds[kernel]:.1f} ms"
        return min(seconds, key=seconds.__getitem__) if seconds else able[0]

    def _seconds(self, tokens: int) -> float:
        """Seconds of a pass over prompt groups of about so many tokens."""
        import torch

        rows, groups = self.sample(tokens)
        start = time.perf_counter()
        self._found(rows, [[len(row) - 1] for row in rows], groups)
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def sample(self, tokens: int) -> tuple[list[list[int]], list[str]]:
        """Seeded groups of four texts with a prompt in common, of about so many tokens, and their groups."""
        config = self.body.config.get_text_config()
        prompt, more = (min(n, getattr(config, "max_position_embeddings", n) // 4) for n in (300, 250))
        rows, groups = [], []
        drawn = self._drawn()
        for group in range(max(1, min(tokens, self.most) // (prompt + 4 * more))):
            start = drawn(prompt)
            rows += [start + drawn(more) for _ in range(4)]
            groups += [str(group)] * 4
        return rows, groups

    def needs(self, tokens: int, head: Callable[[Any], Any]) -> tuple[int, int]:
        """(Tokens, bytes) of a pass over about so many tokens and of the head after it, on a GPU."""
        import torch

        rows, groups = self.sample(tokens)
        size = sum(one.size for one in self._passes(rows, groups, range(len(rows))))

        def run() -> None:
            with torch.inference_mode():
                head(self.at(rows, [range(len(rows[0])), *([len(row) - 1] for row in rows[1:])], groups))

        return size, budget.peak(self.device, run)

    def _drawn(self) -> Callable[[int], list[int]]:
        """What draws seeded tokens."""
        size = self.body.get_input_embeddings().num_embeddings
        drawn = random.Random(0)  # noqa: S311 - must repeat
        return lambda n: [drawn.randrange(size) for _ in range(n)]

    def _texts(self) -> tuple[list[list[int]], list[str]]:
        """Texts of the check and their groups: one shared token, none to go on with, more than a window."""
        config = self.body.config.get_text_config()
        tokens = self._drawn()
        shapes = [(1, (5, 0, 9)), (21, (8, 3))]
        if self.device != "cpu" and getattr(config, "max_position_embeddings", 0) >= 440:
            shapes.append((150, (140, 3, 290)))  # across the blocks that kernels compute at once
        window = getattr(config, "sliding_window", None)
        if window and (window <= _WINDOW or self.device != "cpu"):
            shapes.append((window + 7, (4, 6)))
        rows, groups = [], []
        for name, (shared, branches) in enumerate(shapes):
            start = tokens(shared)
            rows += [start + tokens(n) for n in branches]
            groups += [str(name)] * len(branches)
        return rows, groups


def out_of_memory(fault: Exception) -> bool:
    """Whether a GPU's memory did not suffice; its libraries say so in words of their own."""
    import torch

    said = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
    return isinstance(fault, torch.cuda.OutOfMemoryError) or any(words in str(fault) for words in said)


def _said(fault: Exception) -> str:
    """A fault in one line."""
    lines = str(fault).strip().splitlines()
    return f"{type(fault).__name__}: {lines[0][:120]}" if lines else type(fault).__name__


def _checked(rows: Sequence[list[int]]) -> list[Sequence[int]]:
    """Where the texts of the check are compared: everywhere in short ones, at the end of others."""
    return [range(len(row)) if len(row) < 64 else [len(row) - 1] for row in rows]


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
    """What a text's hidden states depend on beside its tokens and their places: texts that differ cannot share a pass.

    `longrope` (Phi) turns to other frequencies beyond a length, `dynamic` has its own for each length beyond. Classes
    that choose which keys they see (DeepSeek V3.2) may choose padding beyond so many.
    """
    if length > (getattr(config, "index_topk", None) or math.inf):
        return length
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
