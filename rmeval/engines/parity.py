"""What runs weights elsewhere held against the same weights in transformers, on a few texts.

What this module does not know: servers, requests, what is done where they differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from rmeval.engines import pooling
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.texts import LaidOut
from rmeval.engines.transformers import TransformersEngine
from rmeval.errors import UsageError

Check: TypeAlias = Literal["auto", "on", "off"]

TEXTS = 4
"""How many texts are read both ways."""
MOST_BYTES = 6 * 2**30
"""Weights on the disk that are run here in float32 only to compare, unless asked for by name."""
ALLOWED = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.1}
"""How far outputs may be from ours in float32, by the dtype that they are made in: in outputs, and above 1 in parts."""


def wanted(checkpoint: Checkpoint, check: str) -> bool:
    """Whether weights at hand are run to compare. Raises `UsageError` for an unknown word."""
    if check not in ("auto", "on", "off"):
        raise UsageError(f"engine.check={check!r}: one of auto, on, off")
    size = checkpoint.weight_bytes if check != "off" else 0
    if check == "on" and not size:
        raise UsageError(f"engine.check=on: the weights of {checkpoint.source} are not on this machine")
    return size > 0 and (check == "on" or size <= MOST_BYTES)


def shortest(rows: Sequence[LaidOut]) -> list[LaidOut]:
    """A few of the shortest texts, each once."""
    return list({tuple(row.ids): row for row in sorted(rows, key=lambda row: len(row.ids))}.values())[:TEXTS]


def here(checkpoint: Checkpoint, rows: Sequence[list[int]], *, every: bool) -> pooling.Read:
    """What the weights say of rows of ids in float32, at `every` token or at the last: [rows][places][channels]."""
    engine = TransformersEngine(checkpoint, dtype="float32", device="cpu", share=False)
    try:
        places = [list(range(len(ids))) if every else [len(ids) - 1] for ids in rows]
        return engine.reader.read(list(rows), places, "head", "marks" if every else "last")
    finally:
        engine.release()


def apart(some: pooling.Read, others: pooling.Read, *, relative: bool = True) -> float:
    """The largest difference of two readings of the same texts; infinite where they have other shapes.

    >>> apart([[[1.0]]], [[[1.5]]], relative=False), apart([[[2.0]]], [[[4.0]]]), apart([[[2.0]]], [[[4.0, 1.0]]])
    (0.5, 0.5, inf)
    """
    worst = 0.0
    for a, b in zip(some, others, strict=True):
        if [len(place) for place in a] != [len(place) for place in b]:
            return math.inf
        for x, y in ((x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)):
            found = abs(x - y) / (max(1.0, abs(y)) if relative else 1.0)
            worst = max(worst, found if not math.isnan(found) else math.inf)
    return worst


def why(there: pooling.Read, ours: pooling.Read) -> str:
    """What may be the matter where outputs are too far apart."""
    pairs = [(a, b) for theirs, mine in zip(there, ours, strict=True) for a, b in zip(theirs, mine, strict=False)]
    same = [
        len(a) == len(b) and all(abs(x - y) < 0.02 for x, y in zip(a, pooling.activated(b), strict=True))
        for a, b in pairs
    ]
    if pairs and all(same):
        return "they are what an activation (sigmoid, softmax) makes of ours"
    shown = [", ".join(f"{v:.4g}" for v in [v for row in rows for v in row][:4]) for rows in zip(*pairs, strict=True)]
    said = f"{shown[0]} there, {shown[1]} here: " if shown else ""
    return f"{said}other weights, another head, or another dtype than -a engine.dtype says"
