"""What a model's own class says of one text by itself: the plainest reading there is, to compare ours with.

The weights are loaded afresh and run text by text, without padding, packing or kernels of ours. It is slow, and meant
to be: `rmeval doctor` measures every other path against it.

What this module does not know: batches, scores, how much two numbers may differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from rmeval.engines.encoding import Encoded
from rmeval.engines.reading import without_pad
from rmeval.engines.transformers import TransformersEngine
from rmeval.protocols import Engine
from rmeval.types import JSON, Plan, Reply, Request


class OwnForward:
    """Checkpoints through nothing but their classes, one text at a time. Texts must be within a model's limit."""

    name = "own forward"

    def __init__(self, planner: Engine, engines: Mapping[str, TransformersEngine]) -> None:
        """`engines`, by role, say how text becomes ids, in which dtype and where; their own weights are not used."""
        self.planner, self.engines = planner, engines
        self._loaded: tuple[str, _Loaded] | None = None

    def fingerprint(self) -> dict[str, JSON]:
        """The planner's, under another name."""
        return {**self.planner.fingerprint(), "engine": self.name}

    def describe(self) -> dict[str, JSON]:
        """The planner's."""
        return self.planner.describe()

    def plan(self, requests: Sequence[Request]) -> Plan:
        """The planner's plan, a text at a time."""
        planned = self.planner.plan(requests)
        return replace(planned, batches=tuple((i,) for batch in planned.batches for i in batch))

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        """Text by text, the weights of one role at a time."""
        [role] = {request.role for request in requests}
        if self._loaded is None or self._loaded[0] != role:
            self._loaded = None  # given back before the next are read
            self._loaded = role, _Loaded(self.engines[role])
        return self._loaded[1].run(requests)


class _Loaded:
    """One checkpoint, loaded afresh."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine
        self._model = engine.checkpoint.load(dtype=engine.dtype, device=engine.device, attention=engine.attention)

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        found = self.engine.encoder.encode(requests)
        return [self._one(*pair) for pair in zip(requests, found, strict=True)]

    def _one(self, request: Request, text: Encoded | None) -> Reply:
        import torch

        if text is None:
            raise ValueError("a request that the plan settled cannot be run")
        if request.read == "text":
            raise ValueError("what a model writes is not one forward pass")
        ids = torch.tensor([text.ids], device=self.engine.device)
        with torch.inference_mode():
            values = self._read(request, text, ids)
        return Reply(tuple(map(tuple, values)), n_tokens=len(text.ids))

    def _read(self, request: Request, text: Encoded, ids: Any) -> list[list[float]]:
        """Numbers [place][channel]; none at a place that no token ends at."""
        import torch

        form, places = self.engine.checkpoint.form, text.at
        if form == "sequence":
            with without_pad(self._model):
                return [_float(self._model(input_ids=ids).logits[0])]
        there = [place for place in places if place >= 0]
        if form == "layers":
            rows = torch.zeros(len(there), dtype=torch.long, device=ids.device)
            where = torch.tensor(there, device=ids.device)
            values = iter(self._model(ids, torch.ones_like(ids), (rows, where)).float().cpu().tolist())
            return [next(values) if place >= 0 else [] for place in places]
        logits = self._model(input_ids=ids).logits[0].float()
        if form == "token":
            return [_float(logits[place]) if place >= 0 else [] for place in places]
        if request.read == "vocabulary_mean":
            return [_float(logits[place].mean(dim=-1, keepdim=True)) if place >= 0 else [] for place in places]
        if request.read == "tokens":
            known = [self.engine.encoder.token_id(token) for token in request.tokens]
            return [[float(logits[place][i]) for i in known if i is not None] if place >= 0 else [] for place in places]
        scores = logits.log_softmax(dim=-1)
        if request.read == "next_logprobs":
            surface = self.engine.encoder.surface_ids(request.tokens)
            return [[float(scores[place][i]) if i is not None else math.nan for i in surface] for place in places]
        seen = [0.0, *(float(scores[i - 1][token]) for i, token in enumerate(text.ids) if i)]
        if request.at == "marks":
            sums = [[math.fsum(seen[a + 1 : b + 1]), float(b - a)] for a, b in pairwise(there)]
            return [[0.0, 0.0], *sums] if there else []
        return [[seen[place]] if place > 0 else [] for place in places]


def _float(values: Any) -> list[float]:
    found: list[float] = values.float().cpu().tolist()
    return found
