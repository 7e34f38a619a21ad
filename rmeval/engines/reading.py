"""The forward pass: rows of ids and the places to read -> numbers, raw and in fp32.

| form     | class                           | read                                                                    |
|----------|---------------------------------|-------------------------------------------------------------------------|
| sequence | `*ForSequenceClassification`    | the head's outputs at the last token                                    |
| token    | `*ForTokenClassification`       | the head's outputs at every place                                       |
| layers   | a backbone and layers beside it | as token; the layers run in fp32                                        |
| causal   | `*ForCausalLM`                  | logits of named tokens, their mean, log-probabilities of the text or of |
|          |                                 | named tokens as the next one                                            |

A place is an index into a row's own ids, so neither padding nor a shared beginning can move it. Where a class is a
backbone and a head, which is tried on one text, its hidden states come from `rmeval.engines.states`; where it does
more, its own forward is used, on rows padded on the right.

What this module does not know: text, requests, what a number means.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

from rmeval.engines import budget
from rmeval.engines.checkpoint import Checkpoint, has_token_head
from rmeval.engines.prepacked import available, pack, prepack
from rmeval.engines.states import NO_NUMBERS, TOLERANCE, States, padded
from rmeval.errors import CheckFailed, UsageError
from rmeval.progress import note
from rmeval.types import JSON, At, Read

SELF_CHECK = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.05}
"""Largest accepted difference between our reading and the model class's own forward, by dtype."""
_AT_ONCE = 512
"""Places whose logits over a whole vocabulary are held at one time."""
_WHOLE = 1 << 14
"""Tokens of a pass by a model's own forward on a GPU: what it holds beside hidden states is its own affair."""


class Reader:
    """Weights on a device. They load at the first reading."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        dtype: str,
        device: str,
        attention: str | None,
        bos: int,
        most: int = 1 << 14,
        share: bool = False,
        measure: bool = False,
    ) -> None:
        """`bos` opens the text of the self-check; `most` and `share` are for `rmeval.engines.states`.

        `measure` lowers `most` to what a GPU's free memory holds once the weights are there.
        """
        self.checkpoint = checkpoint
        self.dtype, self.device, self.attention, self.bos = dtype, device, attention, bos
        self.most, self.share, self.measure = most, share, measure
        self.path = "not loaded"
        self._looked = math.inf
        """Tokens of the shortest text whose scores alone and padded have been compared."""

    def release(self) -> None:
        """Give the weights back; they load again at the next reading."""
        self.__dict__.pop("model", None)
        self.__dict__.pop("states", None)

    @cached_property
    def model(self) -> Any:
        """The model, after comparing our reading with the class's own on one text."""
        load = partial(self.checkpoint.load, dtype=self.dtype, device=self.device, attention=self.attention)
        model = load()
        form = self.checkpoint.form
        self._packed = prepack(_body(model))
        if self._packed and not self._runs(model):
            model, self._packed = load(), 0
        body = _body(model)
        self._vocabulary = pack(model.get_output_embeddings()) if form == "causal" else None
        self.states = States(body, device=self.device, dtype=self.dtype, most=self.most)
        self._split = form in ("causal", "layers") or has_token_head(model)
        if form == "layers":
            self.path = "last hidden state, then the checkpoint's own layers in float32"
            self._split = not model.paired
        elif form == "token":
            self.path = "the head at every place"
        else:
            self.path = "last hidden state, then head" if self._split else "the model's own pooling"
        takes = inspect.signature(model.forward).parameters
        if not self._split and (body.config.is_encoder_decoder or not takes.keys() & {"mask", "attention_mask"}):
            self.path = "one text at a time through the model's own forward (it does not see what is padding)"
        if self._split and form != "layers":
            self._check_reading(model)
        if self.share and self._split:
            self.states.share(self._head(model))
            # in 16 bits how texts are laid out is part of the key; what has no numbers is never kept under one
            if self.states.why not in ("", NO_NUMBERS) and self.dtype != "float32":
                raise CheckFailed(
                    f"{self.checkpoint.name}: texts of a prompt group cannot share what they begin with: "
                    f"{self.states.why}. Run again with -a engine.share=false"
                )
        if self.measure:
            self.most = self._measured(self._head(model)) if self._split else min(self.most, _WHOLE)
        return model

    def _runs(self, model: Any) -> bool:
        """Whether a text goes through packed layers; some classes (Jamba) reach for a layer's weight instead."""
        import torch

        whole = model.backbone if self.checkpoint.form == "layers" else model
        try:
            with torch.inference_mode():
                whole(input_ids=torch.tensor([self._ids(whole)], device=self.device))
        except Exception:  # noqa: BLE001 - what is wrong with plain layers too is said where they are used
            return False
        return True

    def _ids(self, model: Any) -> list[int]:
        """A short text to try weights on."""
        n = model.get_input_embeddings().num_embeddings
        return [self.bos, *(i % n for i in range(1, 8))]

    def _measured(self, head: Callable[[Any], Any]) -> int:
        """Tokens of a pass that the GPU's memory holds beside the weights, which are there."""

        def read(hidden: Any) -> None:
            for part in hidden.split(_AT_ONCE):
                head(part).float().log_softmax(dim=-1)  # what most is held for, whether or not it is asked for

        small, large = (self.states.needs(tokens, read) for tokens in budget.PROBES)
        self.states.most = budget.affordable(self.states.most, budget.free(self.device), small, large)
        return self.states.most

    @property
    def facts(self) -> dict[str, JSON]:
        """How numbers come about, in words: nothing of it is meant to change one. Empty before the weights load."""
        if "states" not in self.__dict__:
            return {}
        return {
            "layout": self._layout(),
            **({"drift": self.states.drift} if self.states.drift is not None else {}),
            "attention": self._attention(),
            **({"attention_tried": dict(self.states.tried)} if self.states.tried else {}),
            **({"pass_tokens": self.states.most} if self.measure else {}),
            "linear": f"oneDNN, laid out once ({self._packed} layers)" if self._packed else "torch",
        }

    def _layout(self) -> str:
        if not self._split:
            return "padded: the class does more than a head on hidden states"
        if not self.share:
            return "padded"
        return f"padded: {self.states.why}" if self.states.why else "prefix tree"

    def _attention(self) -> str:
        """The attention that the class takes and, where there was a choice, what attends to packed rows."""
        states = self.states
        if states.shares and (states.tried or states.kernel != "pieces"):
            return f"{states.attention}, packed rows by {states.kernel}"
        by_blocks = states.shares and self.device == "cpu" and states.attention == "sdpa" and self.dtype != "float16"
        return f"{states.attention}, oneDNN for long pieces" if by_blocks and available() else states.attention

    def read(
        self,
        rows: Sequence[list[int]],
        places: Sequence[Sequence[int]],
        read: Read,
        at: At,
        *,
        tokens: Sequence[int] = (),
        groups: Sequence[str] = (),
    ) -> list[list[list[float]]]:
        """Numbers [row][place][channel]; none at a negative place. Rows of one group may share what they begin with.

        `next_logprob` at marks is (sum, count) over the tokens since the mark before, at other places one number.
        `next_logprobs` is normalised over the whole vocabulary; NaN for a negative token, which is none.
        """
        if (read == "head") == (self.checkpoint.form == "causal"):
            raise UsageError(
                f"{self.checkpoint.name}: {self.checkpoint.architecture} cannot be read by {read}: "
                f"{'it has no reward head' if read == 'head' else 'it has no vocabulary'}"
            )
        model = self.model
        if not self._split and len(rows) > 1 and len(rows) * max(map(len, rows)) > self.most:
            half = len(rows) // 2
            parts = (slice(half), slice(half, None))
            return [row for part in parts for row in self.read(rows[part], places[part], read, at, tokens=tokens)]
        groups = groups or [""] * len(rows)
        if read == "head":
            return self._heads(model, rows, places, groups)
        if read == "next_logprob":
            return self._logprobs(model, rows, places, at, groups)
        found = []
        for part in self._logits(model, rows, places, groups):
            if read == "next_logprobs":
                scores = part.float().log_softmax(dim=-1)[:, [max(token, 0) for token in tokens]].cpu().tolist()
                found += [[s if t >= 0 else math.nan for s, t in zip(row, tokens, strict=True)] for row in scores]
            else:
                values = part[:, list(tokens)] if read == "tokens" else part.mean(dim=-1, keepdim=True)
                found += values.float().cpu().tolist()
        return _regrouped(found, places)

    def _head(self, model: Any) -> Callable[[Any], Any]:
        """What gives a model's numbers for hidden states [places, width]."""
        form = self.checkpoint.form
        if form == "layers":
            return lambda hidden: model.head(hidden.float())
        if form != "causal":
            score: Callable[[Any], Any] = model.score
            return score
        vocabulary: Callable[[Any], Any] = self._vocabulary or model.get_output_embeddings()
        cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        return vocabulary if not cap else lambda hidden: (vocabulary(hidden) / cap).tanh() * cap

    # --- reward heads ------------------------------------------------------------------------------------------------

    def _heads(
        self, model: Any, rows: Sequence[list[int]], places: Sequence[Sequence[int]], groups: Sequence[str]
    ) -> list[list[list[float]]]:
        import torch

        if self._split:
            hidden = self.states.at(rows, places, groups)
            with torch.inference_mode():
                numbers = self._head(model)(hidden)
            found = _regrouped(numbers.float().cpu().tolist(), places)
        else:
            found = self._whole(model, rows, places)
        widths = {len(value) for row in found for value in row if value}
        if widths - {len(self.checkpoint.labels)} and self.checkpoint.form != "layers":
            raise CheckFailed(
                f"{self.checkpoint.name}: the head gives {max(widths)} values and its config names "
                f"{len(self.checkpoint.labels)} labels"
            )
        return found

    def _whole(self, model: Any, rows: Sequence[list[int]], places: Sequence[Sequence[int]]) -> list[list[list[float]]]:
        """Head outputs [row][place][label] in fp32 by the class's own forward.

        Rows are padded together until one is seen to change by that: some classes convolve, mix or pool over padding,
        or look for the last token from the right. Looked at is the shortest, again whenever one is half as long.
        """
        if len(rows) > 1 and self.path.startswith("one text"):
            return [self._own(model, [row], [at])[0] for row, at in zip(rows, places, strict=True)]
        found = self._own(model, rows, places)
        i = min(range(len(rows)), key=lambda i: len(rows[i]))
        if len({len(row) for row in rows}) < 2 or 2 * len(rows[i]) > self._looked:
            return found
        self._looked = len(rows[i])
        [alone] = self._own(model, [rows[i]], [places[i]])
        pairs = [pair for ours, own in zip(found[i], alone, strict=True) for pair in zip(ours, own, strict=True)]
        if all(not abs(a - b) > TOLERANCE[self.dtype] * max(1.0, abs(b)) for a, b in pairs):
            return found
        self.path = "one text at a time through the model's own forward (padding changes its scores)"
        note(f"{self.checkpoint.name}: {self.path}")
        return self._whole(model, rows, places)

    def _own(self, model: Any, rows: Sequence[list[int]], places: Sequence[Sequence[int]]) -> list[list[list[float]]]:
        """Head outputs of rows together, one without padding, by the class's own forward."""
        import torch

        form = self.checkpoint.form
        if form == "sequence" and len(rows) == 1:
            return [[self._alone(rows[0], model)]]
        input_ids, mask = padded(rows, self.device)
        with torch.inference_mode():
            if form == "sequence":
                pooled = model(input_ids=input_ids, attention_mask=mask).logits
                return [[value] for value in pooled.float().cpu().tolist()]
            if form == "layers":
                logits = model(input_ids, mask, _flat(places, self.device))
            else:
                logits = model(input_ids=input_ids, attention_mask=mask).logits[_flat(places, self.device)]
        return _regrouped(logits.float().cpu().tolist(), places)

    # --- language models ---------------------------------------------------------------------------------------------

    def _logits(
        self, model: Any, rows: Sequence[list[int]], places: Sequence[Sequence[int]], groups: Sequence[str]
    ) -> Iterator[Any]:
        """Logits over the vocabulary at all places that there are, [places, vocabulary], part by part."""
        import torch

        if not self._split:
            with torch.inference_mode():
                input_ids, mask = padded(rows, self.device)
                whole = model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits
                yield from whole[_flat(places, self.device)].split(_AT_ONCE)
            return
        head = self._head(model)
        with torch.inference_mode():
            for part in self.states.at(rows, places, groups).split(_AT_ONCE):
                yield head(part)

    def _logprobs(
        self, model: Any, rows: Sequence[list[int]], places: Sequence[Sequence[int]], at: At, groups: Sequence[str]
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
        for part in self._logits(model, rows, [[i - 1 for i in row] for row in wanted], groups):
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

    def _check_reading(self, model: Any) -> None:
        """Compare our reading with the class's own forward on one unpadded text; on a difference use the latter."""
        import torch

        ids = self._ids(model)
        hidden = self.states.at([ids, [*ids, *ids]], [[len(ids) - 1], []], ["", ""])
        with torch.inference_mode():
            ours = self._head(model)(hidden)[0].float().cpu().tolist()
        if self.checkpoint.form == "sequence":
            theirs = self._alone(ids, model)
            instead = "one text at a time through the model's own forward (it does more than apply a linear head)"
        else:
            with torch.inference_mode():
                whole = model(input_ids=torch.tensor([ids], device=self.device), use_cache=False).logits[0, -1]
            theirs = whole.float().cpu().tolist()
            instead = "the model's own logits (it does more than apply a linear head)"
        if not all(map(math.isfinite, theirs)):
            return  # broken weights: every score will be counted as non_finite
        scale = max(1.0, *map(abs, theirs))
        if max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) > SELF_CHECK[self.dtype] * scale:
            self.path, self._split = instead, False

    def _alone(self, ids: list[int], model: Any) -> list[float]:
        """Head outputs [labels] in fp32 of one text, by the class's own forward."""
        import torch

        with torch.inference_mode(), without_pad(model):
            logits = model(input_ids=torch.tensor([ids], device=self.device)).logits[0]
        value: list[float] = logits.float().cpu().tolist()
        return value


@contextlib.contextmanager
def without_pad(model: Any) -> Iterator[None]:
    """Have a class that looks for the last token read the last position; others may need their pad token."""
    config = model.config.get_text_config()
    pad = config.pad_token_id
    if has_token_head(model):
        config.pad_token_id = None
    try:
        yield
    finally:
        config.pad_token_id = pad


def _body(model: Any) -> Any:
    """The backbone without its head."""
    if hasattr(model, "backbone"):
        return model.backbone
    return getattr(model, model.base_model_prefix, None) or getattr(model, "model", model)  # Llama 4 names another


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
