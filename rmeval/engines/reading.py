"""The forward pass: rows of ids and the places to read -> numbers, raw and in fp32.

| form     | class                           | read                                                                    |
|----------|---------------------------------|-------------------------------------------------------------------------|
| sequence | `*ForSequenceClassification`    | the head's outputs at the last token                                    |
| token    | `*ForTokenClassification`       | the head's outputs at every place                                       |
| layers   | a backbone and layers beside it | as token; the layers run in fp32                                        |
| causal   | `*ForCausalLM`                  | logits of named tokens, their mean, log-probabilities of the text or of |
|          |                                 | named tokens as the next one                                            |

Rows are right-padded; a place is an index into a row's own ids, so padding can neither move nor change it. Where a
class does more than apply its head to the last hidden state, which is tried on one text, its own forward is used.

What this module does not know: text, requests, what a number means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

from rmeval.engines.checkpoint import Checkpoint
from rmeval.errors import CheckFailed, UsageError
from rmeval.types import At, Read

SELF_CHECK = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.05}
"""Largest accepted difference between our reading and the model class's own forward, by dtype."""
_AT_ONCE = 512
"""Places whose logits over a whole vocabulary are held at one time."""


class Reader:
    """Weights on a device. They load at the first reading."""

    def __init__(self, checkpoint: Checkpoint, *, dtype: str, device: str, attention: str | None, bos: int) -> None:
        """`bos` opens the text of the self-check."""
        self.checkpoint = checkpoint
        self.dtype, self.device, self.attention, self.bos = dtype, device, attention, bos
        self.path = "not loaded"

    def release(self) -> None:
        """Give the weights back; they load again at the next reading."""
        self.__dict__.pop("model", None)

    @cached_property
    def model(self) -> Any:
        """The model, after comparing our reading with the class's own on one text."""
        model = self.checkpoint.load(dtype=self.dtype, device=self.device, attention=self.attention)
        form = self.checkpoint.form
        self.path = {
            "token": "the head at every place",
            "layers": "last hidden state, then the checkpoint's own layers in float32",
        }.get(form, "last hidden state, then head" if self._splits(model) else "the model's own pooling")
        if self._splits(model):
            self._check_reading(model)
        return model

    def _splits(self, model: Any) -> bool:
        """Whether the class is a backbone and a linear head on its last hidden state."""
        form = self.checkpoint.form
        return form == "causal" or (form == "sequence" and _has_token_head(model))

    def read(
        self, rows: Sequence[list[int]], places: Sequence[Sequence[int]], read: Read, at: At, tokens: Sequence[int] = ()
    ) -> list[list[list[float]]]:
        """Numbers [row][place][channel]; none at a negative place.

        `next_logprob` at marks is (sum, count) over the tokens since the mark before, at other places one number.
        `next_logprobs` is normalised over the whole vocabulary; NaN for a negative token, which is none.
        """
        if (read == "head") == (self.checkpoint.form == "causal"):
            raise UsageError(
                f"{self.checkpoint.name}: {self.checkpoint.architecture} cannot be read by {read}: "
                f"{'it has no reward head' if read == 'head' else 'it has no vocabulary'}"
            )
        if read == "head":
            return self._heads(rows, places)
        model = self.model
        if read == "next_logprob":
            return self._logprobs(model, rows, places, at)
        found = []
        for part in self._logits(model, rows, places):
            if read == "next_logprobs":
                scores = part.float().log_softmax(dim=-1)[:, [max(token, 0) for token in tokens]].cpu().tolist()
                found += [[s if t >= 0 else math.nan for s, t in zip(row, tokens, strict=True)] for row in scores]
            else:
                values = part[:, list(tokens)] if read == "tokens" else part.mean(dim=-1, keepdim=True)
                found += values.float().cpu().tolist()
        return _regrouped(found, places)

    # --- reward heads ------------------------------------------------------------------------------------------------

    def _heads(self, rows: Sequence[list[int]], places: Sequence[Sequence[int]]) -> list[list[list[float]]]:
        model = self.model
        if self.checkpoint.form == "sequence":
            found = [[value] for value in self._last(rows, model)]
        else:
            import torch

            with torch.inference_mode():
                input_ids, mask = self._padded(rows)
                if self.checkpoint.form == "layers":
                    logits = model(input_ids, mask, _flat(places, self.device))
                else:
                    whole = model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits
                    logits = whole[_flat(places, self.device)]
            found = _regrouped(logits.float().cpu().tolist(), places)
        widths = {len(value) for row in found for value in row if value}
        if widths - {len(self.checkpoint.labels)} and self.checkpoint.form != "layers":
            raise CheckFailed(
                f"{self.checkpoint.name}: the head gives {max(widths)} values and its config names "
                f"{len(self.checkpoint.labels)} labels"
            )
        return found

    def _last(self, rows: Sequence[list[int]], model: Any) -> list[list[float]]:
        """Head outputs [rows, labels] of a sequence classifier in fp32 at the last token of each row."""
        import torch

        if self.path.startswith("one text"):
            return [self._alone(ids, model) for ids in rows]
        input_ids, mask = self._padded(rows)
        with torch.inference_mode():
            if not _has_token_head(model):
                logits = model(input_ids=input_ids, attention_mask=mask).logits
            else:
                hidden = _hidden(model, input_ids, mask)
                logits = model.score(hidden[torch.arange(len(rows), device=hidden.device), mask.sum(dim=1) - 1])
        values: list[list[float]] = logits.float().cpu().tolist()
        return values

    # --- language models ---------------------------------------------------------------------------------------------

    def _logits(self, model: Any, rows: Sequence[list[int]], places: Sequence[Sequence[int]]) -> Any:
        """Logits over the vocabulary at all places that there are, [places, vocabulary], part by part."""
        import torch

        with torch.inference_mode():
            input_ids, mask = self._padded(rows)
            where = _flat(places, self.device)
            if self.path.startswith("the model's own"):
                whole = model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits[where]
                yield from whole.split(_AT_ONCE)
                return
            hidden = _hidden(model, input_ids, mask)[where]
            for part in hidden.split(_AT_ONCE):
                yield model.get_output_embeddings()(part)

    def _logprobs(
        self, model: Any, rows: Sequence[list[int]], places: Sequence[Sequence[int]], at: At
    ) -> list[list[list[float]]]:
        """Log-probabilities of the tokens at the places, or between the marks, each as seen from the token before."""
        import torch

        wanted = [
            list(range(min(kept) + 1, max(kept) + 1)) if (kept := [p for p in row if p >= 0]) and at == "marks"
            else [p for p in row if p > 0]
            for row in places
        ]  # fmt: skip
        targets = [ids[i] for ids, row in zip(rows, wanted, strict=True) for i in row]
        flat: list[float] = []
        for part in self._logits(model, rows, [[i - 1 for i in row] for row in wanted]):
            chosen = torch.tensor(targets[len(flat) : len(flat) + len(part)], device=part.device)
            scores = part.float().log_softmax(dim=-1)
            flat += scores.gather(1, chosen[:, None])[:, 0].cpu().tolist()
        found, start = [], 0
        for row, asked in zip(places, wanted, strict=True):
            known = dict(zip(asked, flat[start : start + len(asked)], strict=True))
            start += len(asked)
            found.append(_between(row, known) if at == "marks" else [[known[p]] if p in known else [] for p in row])
        return found

    # --- shared ------------------------------------------------------------------------------------------------------

    def _padded(self, rows: Sequence[list[int]]) -> tuple[Any, Any]:
        """Ids and mask [rows, longest], padded on the right."""
        import torch

        longest = max(len(ids) for ids in rows)
        # the pad id is never read: the mask hides it and positions come from the mask
        input_ids = torch.zeros((len(rows), longest), dtype=torch.long)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for i, ids in enumerate(rows):
            input_ids[i, : len(ids)] = torch.tensor(ids)
            mask[i, : len(ids)] = 1
        return input_ids.to(self.device), mask.to(self.device)

    def _check_reading(self, model: Any) -> None:
        """Compare our reading with the class's own forward on one unpadded text; on a difference use the latter."""
        n = model.get_input_embeddings().num_embeddings
        ids = [self.bos, *(i % n for i in range(1, 8))]
        if self.checkpoint.form == "causal":
            import torch

            [part] = self._logits(model, [ids, [*ids, *ids]], [[len(ids) - 1], []])
            with torch.inference_mode():
                whole = model(input_ids=torch.tensor([ids], device=self.device), use_cache=False).logits[0, -1]
            ours, theirs = part[0].float().cpu().tolist(), whole.float().cpu().tolist()
            instead = "the model's own logits (it does more than apply a linear head)"
        else:
            ours, theirs = self._last([ids, [*ids, *ids]], model)[0], self._alone(ids, model)
            instead = "one text at a time through the model's own forward (it does more than apply a linear head)"
        if not all(map(math.isfinite, theirs)):
            return  # broken weights: every score will be counted as non_finite
        scale = max(1.0, *map(abs, theirs))
        if max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) > SELF_CHECK[self.dtype] * scale:
            self.path = instead

    def _alone(self, ids: list[int], model: Any) -> list[float]:
        """Head outputs [labels] in fp32 of one text, by the class's own forward."""
        import torch

        config = model.config.get_text_config()
        pad, config.pad_token_id = config.pad_token_id, None  # then the class reads the last position
        try:
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([ids], device=self.device)).logits[0]
        finally:
            config.pad_token_id = pad
        value: list[float] = logits.float().cpu().tolist()
        return value


def _hidden(model: Any, input_ids: Any, mask: Any) -> Any:
    body = getattr(model, model.base_model_prefix)
    return body(input_ids=input_ids, attention_mask=mask).last_hidden_state


def _flat(places: Sequence[Sequence[int]], device: str) -> tuple[Any, Any]:
    """All places that there are, as an index into [rows, tokens]."""
    import torch

    there = [(i, p) for i, row in enumerate(places) for p in row if p >= 0]
    found = torch.tensor(there, dtype=torch.long, device=device).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _regrouped(values: list[list[float]], places: Sequence[Sequence[int]]) -> list[list[list[float]]]:
    """Numbers of all places that there are, back at the places of their rows; none at the others.

    >>> _regrouped([[1.0], [2.0]], [[4], [-1, 7]])
    [[[1.0]], [[], [2.0]]]
    """
    left = iter(values)
    return [[next(left) if p >= 0 else [] for p in row] for row in places]


def _between(marks: Sequence[int], known: dict[int, float]) -> list[list[float]]:
    """(sum, count) of what is known after each mark's predecessor, up to the mark; the first has none.

    >>> _between([2, 4, 4], {3: -1.0, 4: -0.5})
    [[0.0, 0.0], [-1.5, 2.0], [0.0, 0.0]]
    """
    found = [[0.0, 0.0]] if marks else []
    for start, end in pairwise(marks):
        between = range(start + 1, end + 1)
        whole = start >= 0 and end >= 0
        found.append([math.fsum(known[i] for i in between), float(len(between))] if whole else [])
    return found


def _has_token_head(model: Any) -> bool:
    """Whether the class applies a linear `score` head to every position, as decoder-only classifiers do."""
    import torch

    return isinstance(getattr(model, "score", None), torch.nn.Module)
