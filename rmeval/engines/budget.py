"""How many tokens a pass over a GPU may have: what two passes needed, against the memory that is free.

What this module does not know: texts, weights, what is done where it was too much all the same.
"""

from __future__ import annotations

from collections.abc import Callable

SHARE = 0.8
"""Of the memory that is free; the rest is for what the allocator cannot put together."""
PROBES = (1024, 8192)
"""Tokens of the two passes."""


def affordable(most: int, free: int, small: tuple[int, int], large: tuple[int, int]) -> int:
    """Tokens of a pass in `free` bytes, at most `most`, from what two passes (tokens, bytes) needed beside the weights.

    A pass needs some bytes whatever its size, and so many more for each token. What fitted once is never said to be
    too much.

    >>> small, large = (1000, 51_000), (8000, 401_000)  # 1000 bytes, and 50 for each token
    >>> [affordable(65536, free, small, large) for free in (2_001_250, 10, 10**9)]
    [32000, 1000, 65536]
    """
    each = (large[1] - small[1]) / max(1, large[0] - small[0])
    if each <= 0:
        return most
    fixed = max(0.0, small[1] - each * small[0])
    return min(most, max(small[0], int((SHARE * free - fixed) / each)))


def free(device: str) -> int:
    """Bytes that a pass may take on a GPU: those that nobody holds, and those that torch holds for nothing."""
    import torch

    unheld, _ = torch.cuda.mem_get_info(device)
    return int(unheld + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def peak(device: str, run: Callable[[], object]) -> int:
    """Bytes on a GPU at the highest point of something, beside what was held before."""
    import torch

    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return int(torch.cuda.max_memory_allocated(device) - before)
