"""Checkpoints through transformers, correct first: a score does not depend on its neighbours.

- What the texts of a prompt group begin with alike is computed once, where the model can be seen to allow it.
- Text is rendered once by the model's own chat template and tokenised without adding special tokens a second time.
- Places to read are known by construction (`rmeval.engines.encoding`), never by looking for a token, so pad = eos is
  harmless and a separator inside a step is only text.
- safetensors only, no code from checkpoints, and a head that the checkpoint does not hold is refused.
- Nothing is cut quietly: a text over the limit has no score and says so, unless a truncation was asked for by name;
  then the places that were cut off have none.
- A model that writes needs room: a prompt is over the limit where it and `max_tokens` more are.
- Texts are looked at before weights are read: two BOS, a response that nothing closes or that the template drops are
  refused, unless `engine.lint=warn`.

What this module does not know: candidates, labels, which channel is the reward.
"""

from __future__ import annotations

import hashlib
import math
import os
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

from rmeval.engines.batches import Groups, padded
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.encoding import NOWHERE, Encoded, Encoder, Kept
from rmeval.engines.hygiene import lint
from rmeval.engines.reading import SELF_CHECK, Reader
from rmeval.engines.states import cannot_share, out_of_memory
from rmeval.engines.writing import WRITING, Written, write
from rmeval.errors import CheckFailed, ResourceError, UsageError
from rmeval.progress import note
from rmeval.truncation import cut, cut_officially
from rmeval.types import JSON, At, Message, Plan, Read, Reply, Request, Sampling, TextFacts

Truncation = Literal["error", "left", "right", "middle", "skip", "official"]
Lint = Literal["error", "warn"]

_UNCUT = {"error": "truncated", "skip": "skipped"}
"""Truncations that cut nothing -> why a text over the limit has no score."""

READING = 2
"""Goes into the fingerprint: raise it when the same weights and text would be read differently."""

BATCH_TOKENS = {"cpu": 2048, "cuda": 65536}
"""Tokens of a batch by device, any other having 16,384, unless `engine.batch_tokens` says otherwise. On a GPU, passes
have as many tokens as memory is found to hold once the weights are there; on a CPU, as many as its caches hold."""

WRITTEN_TOKENS = 32768
"""Padded tokens of a batch that is written, those to come included, unless `engine.batch_tokens` says otherwise."""

_Way: TypeAlias = tuple[At, Read, tuple[int, ...]]
"""What is read where: a batch has one."""


class TransformersEngine:
    """Runs a checkpoint. Weights load at the first batch that the store cannot answer."""

    name = "transformers"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        dtype: str = "auto",
        device: str = "auto",
        max_length: int | None = None,
        truncation: Truncation = "error",
        batch_tokens: int | None = None,
        batch_size: int | None = None,
        attention: str | None = None,
        lint: Lint = "error",
        share: bool = True,
        deterministic: bool = False,
    ) -> None:
        """Options as in `-a engine.NAME=VALUE`.

        `batch_tokens` counts the tokens of a batch, padding included; `batch_size` texts. `share=false` computes what
        the texts of a prompt group begin with alike for each of them. `deterministic=true` is float32, eager attention,
        one text at a time and torch's deterministic algorithms.
        """
        import torch

        if deterministic:
            if dtype not in ("auto", "float32") or attention not in (None, "eager") or batch_size not in (None, 1):
                raise UsageError("--deterministic is float32, eager attention and batches of one text: leave those out")
            dtype, attention, batch_size, share = "float32", "eager", 1, False
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
        if truncation not in get_args(Truncation):
            raise UsageError(f"engine.truncation={truncation!r}: one of {', '.join(get_args(Truncation))}")
        if lint not in ("error", "warn"):
            raise UsageError(f"engine.lint={lint!r}: one of error, warn")
        if dtype not in ("auto", *SELF_CHECK):
            raise UsageError(f"engine.dtype={dtype!r}: one of auto, {', '.join(SELF_CHECK)}")
        for name, size in (("max_length", max_length), ("batch_tokens", batch_tokens), ("batch_size", batch_size)):
            if size is not None and size < 1:
                raise UsageError(f"engine.{name}={size}: at least 1")
        self.checkpoint = checkpoint
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else _device(device)
        half = checkpoint.stored_dtype in ("bfloat16", "float16")
        self.dtype = dtype if dtype != "auto" else "bfloat16" if half and self.device != "cpu" else "float32"
        self.truncation: Truncation = truncation
        self.lint: Lint = lint
        self.max_length = self._own_limit = max_length or checkpoint.max_length(self.tokenizer)
        self._preset: tuple[str, str] | None = None
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(self.device.partition(":")[0], 16384)
        self._measure = batch_tokens is None and self.device.startswith("cuda")
        self._written_tokens = batch_tokens or WRITTEN_TOKENS
        self.batch_size, self._rows = batch_size or 256, batch_size
        self.attention = attention
        self._too_many: set[int] = set()
        self._planned = Kept()
        self._share = share

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's own tokenizer."""
        return self.checkpoint.tokenizer()

    @cached_property
    def encoder(self) -> Encoder:
        """Requests as ids."""
        return Encoder(self.tokenizer)

    @cached_property
    def reader(self) -> Reader:
        """The weights."""
        bos = self.tokenizer.bos_token_id or 0
        return Reader(
            self.checkpoint,
            dtype=self.dtype,
            device=self.device,
            attention=self.attention,
            bos=bos,
            most=self.batch_tokens,
            share=self.shares,
            measure=self._measure,
        )

    @cached_property
    def shares(self) -> bool:
        """Whether texts of a prompt group are to share what they begin with, as far as is known without weights."""
        return self._share and not cannot_share(self.checkpoint, self.attention)

    @property
    def path(self) -> str:
        """How the weights are read, in words, once they are loaded."""
        return self.reader.path

    def release(self) -> None:
        """Give the weights back; they load again at the next batch."""
        self.reader.release()

    @property
    def template(self) -> tuple[str, str]:
        """(where the chat template comes from, the template itself)."""
        return self.encoder.template

    def fingerprint(self) -> dict[str, JSON]:
        """What decides the values: weights, dtype, template, length limit, attention class, reading."""
        source, template = self.template
        preset = self._preset
        return {
            "engine": self.name,
            "reading": READING,
            "weights": self.checkpoint.identity,
            "architecture": self.checkpoint.architecture,
            "labels": list(self.checkpoint.labels),
            "dtype": self.dtype,
            "attention": self.attention or "default",
            "template": hashlib.sha256(template.encode()).hexdigest(),
            "template_source": source,
            "max_length": self.max_length,
            "truncation": f"official {preset[0]}" if preset else self.truncation,
            **({"preset": preset[1]} if preset else {}),
            # in fp32 the two ways agree to far less than anybody reads; half of it is noise that near ties can see
            **({"layout": "prefix tree"} if self.shares and self.dtype != "float32" else {}),
            **({"writing": WRITING} if self.checkpoint.form == "causal" else {}),
            **self._head(),
        }

    def _head(self) -> dict[str, JSON]:
        """How weights other than a sequence classifier's are read; what a name of a class does not say."""
        layers = self.checkpoint.layers
        if layers is None:
            return {} if self.checkpoint.form == "sequence" else {"form": self.checkpoint.form}
        return {"form": "layers", "head": list(layers.linear), "backbone": layers.backbone, "gated": layers.gated}

    def follow(self, *, max_length: int, side: str, source: str) -> str:
        """Cut as a suite's official script does; `side` is left, right, or tokenizer (whatever the checkpoint says)."""
        stated = f"{max_length}, {side}"
        side = self.tokenizer.truncation_side if side == "tokenizer" else side
        self.max_length = min(max_length, self._own_limit)
        self._preset = (side, f"{source} ({stated})")
        lower = f" (the script's {max_length} is more than this model may read)" if self.max_length < max_length else ""
        return f"texts over {self.max_length} tokens{lower} are cut on the {side}, as {source} does"

    def describe(self) -> dict[str, JSON]:
        """What is recorded beside the fingerprint."""
        import torch
        import transformers

        return {
            "name": self.name,
            "version": transformers.__version__,
            "device": torch.cuda.get_device_name() if self.device.startswith("cuda") else self.device,
            "threads": torch.get_num_threads(),
            "path": self.path,
            **self.reader.facts,
            "batch_tokens": self.batch_tokens,
            "batch_size": self.batch_size,
            "weights_bytes": self.checkpoint.weight_bytes,
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "tf32": torch.get_float32_matmul_precision() != "highest",
            "cuda": torch.version.cuda if self.device.startswith("cuda") else None,
        }

    def plan(self, requests: Sequence[Request]) -> Plan:
        """Longest first, as many rows as the token budget holds padded, at least one.

        Raises `CheckFailed` where the texts are unsound, see `rmeval.engines.hygiene.lint`.
        """
        if self.truncation == "official" and self._preset is None:
            raise UsageError("engine.truncation=official: the limit of a suite's official script, and here is no suite")
        texts: dict[int, TextFacts] = {}
        self._planned.clear()
        groups: dict[_Way, Groups] = {}
        tokens: list[int] = []
        settled: dict[int, Reply] = {}
        twins: dict[int, int] = {}
        first: dict[tuple[_Way, str, bytes], int] = {}
        for i, encoded in enumerate(self._encoded(requests)):
            tokens.append(len(encoded.ids) if encoded is not None else 0)
            if encoded is None:
                settled[i] = Reply(reason="template_refused")
                continue
            if max(encoded.ids, default=0) >= self.checkpoint.vocabulary:
                token = self.tokenizer.convert_ids_to_tokens(max(encoded.ids))
                raise UsageError(
                    f"{self.checkpoint.name}: its tokenizer writes {token!r} as {max(encoded.ids)}, and its weights "
                    f"know {self.checkpoint.vocabulary} tokens: they do not belong together"
                )
            over = len(encoded.ids) > self._room(requests[i])
            if over and requests[i].at == "next" and self.truncation == "right":
                raise UsageError("engine.truncation=right would cut off the place where the model goes on: take left")
            texts[i] = self._facts(encoded, over, requests[i].at)
            if over and self.truncation in _UNCUT:
                settled[i] = Reply(reason=_UNCUT[self.truncation], n_tokens=len(encoded.ids), truncated=True)
            elif (earlier := first.setdefault(self._same(requests[i], encoded), i)) != i:
                twins[i] = earlier
            elif requests[i].read != "text":
                self._planned.add(requests[i], encoded)
                if self.shares:
                    ids = array("i", self._cut(encoded.ids))
                    groups.setdefault(self._way(requests[i]), Groups()).add(i, requests[i].group or None, ids)
        self._refuse_unsound(requests, texts)
        ways: dict[_Way, list[int]] = {}
        for i in range(len(requests)):
            if i not in settled and i not in twins:
                ways.setdefault(self._way(requests[i]), []).append(i)
        batches: list[tuple[int, ...]] = []
        for way in sorted(ways):
            if way in groups:
                batches += groups[way].packed(self.batch_tokens, self._rows)
                continue
            most = self._written_tokens if way[1] == "text" else self.batch_tokens
            sizes = {i: min(tokens[i], self._room(requests[i])) + _to_write(requests[i]) for i in ways[way]}
            longest = sorted(ways[way], key=lambda i: (-tokens[i], i))
            batches += padded(((i, sizes[i]) for i in longest), most, self.batch_size)
        return Plan(tuple(batches), tuple(tokens), settled, twins, tuple(texts.values()))

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        """One batch. Out of GPU memory halves it; a single request that does not fit is an `engine_error`."""
        import torch

        known = [self._planned.take(request) for request in requests]
        unknown = self._encoded([request for request, one in zip(requests, known, strict=True) if one is None])
        found = [encoded for one in known if (encoded := one or next(unknown)) is not None]
        if len(found) != len(requests):
            raise ValueError("a request that the plan settled cannot be run")
        [way] = {self._way(request) for request in requests}
        try:
            if way[1] == "text":
                return self._write(requests, found)
            values = self._read(found, way, [request.group for request in requests])
            return [self._reply(one, value, way) for one, value in zip(found, values, strict=True)]
        except (MemoryError, RuntimeError) as fault:
            if not out_of_memory(fault):
                if isinstance(fault, MemoryError) or "allocate memory" in str(fault):
                    raise ResourceError(
                        "out of memory: lower -a engine.batch_tokens and run the same command again"
                    ) from None
                raise
        # outside of the handler, whose fault holds on to what the batch had in memory
        torch.cuda.empty_cache()
        if len(requests) == 1:
            return [Reply(reason="engine_error", n_tokens=len(found[0].ids))]
        half = len(requests) // 2
        if len(requests) not in self._too_many:
            self._too_many.add(len(requests))
            note(f"out of memory with {len(requests)} texts at once: trying {half}")
        return self.run(requests[:half]) + self.run(requests[half:])

    def _reply(self, one: Encoded, values: list[list[float]], way: _Way) -> Reply:
        """What was read of one text. Weights that are broken give no log-probability of any token."""
        n_tokens, over = len(one.ids), len(one.ids) > self.max_length
        if way[0] == "next" and any(math.isnan(v) for v, t in zip(values[0], way[2], strict=True) if t >= 0):
            return Reply(reason="non_finite", n_tokens=n_tokens, truncated=over)
        return Reply(tuple(map(tuple, values)), None, n_tokens, over)

    def _read(self, found: Sequence[Encoded], way: _Way, groups: Sequence[str]) -> list[list[list[float]]]:
        """Numbers [row][place][channel] of encoded texts, within the limit."""
        at, read, tokens = way
        rows = [self._cut(one.ids) for one in found]
        if at in ("last", "next"):
            places: list[list[int]] = [[len(row) - 1] for row in rows]
        else:
            places = [self._kept_places(one) for one in found]
        return self.reader.read(rows, places, read, at, tokens=tokens, groups=groups)

    def _write(self, requests: Sequence[Request], found: Sequence[Encoded]) -> list[Reply]:
        """What the model writes after each prompt."""
        how = [_sampling(request) for request in requests]
        rows = [self._cut(one.ids, self._room(request)) for one, request in zip(found, requests, strict=True)]
        if self.checkpoint.form != "causal":
            raise UsageError(f"{self.checkpoint.name}: {self.checkpoint.architecture} has no vocabulary to write with")
        model = self.reader.model
        said = getattr(model.generation_config, "eos_token_id", None)
        ends = (self.tokenizer.eos_token_id, self.encoder.turn_end, *(said if isinstance(said, list) else [said]))
        stops = frozenset(token for token in ends if isinstance(token, int))  # generation_config.json may say anything
        texts = write(model, rows, how, stops=stops, device=self.device)
        return [self._said(one, row, text, stops) for one, row, text in zip(found, rows, texts, strict=True)]

    def _said(self, one: Encoded, row: list[int], text: Written, stops: frozenset[int]) -> Reply:
        ended = text.ids and text.ids[-1] in stops
        return Reply(
            reason=None if text.finite else "non_finite",
            n_tokens=len(one.ids),
            truncated=len(row) < len(one.ids),
            text=self.encoder.written(text.ids[:-1] if ended else text.ids, one) if text.finite else "",
            finish=text.finish,
            n_written=len(text.ids),
        )

    def _room(self, request: Request) -> int:
        """How long a text may be, what is written after it left out."""
        room = self.max_length - _to_write(request)
        if room < 1:
            raise UsageError(
                f"{self.checkpoint.name}: writes up to {_to_write(request)} tokens, and may read {self.max_length} in "
                "all: no prompt has room. Lower -a judge.max_tokens or --max-tokens, or raise -a engine.max_length"
            )
        return room

    def _same(self, request: Request, encoded: Encoded) -> tuple[_Way, str, bytes]:
        """What makes two requests one; at temperature 0 neither the seed nor the vote counts."""
        how = request.sampling
        if request.read == "text" and how is not None and how.temperature == 0:
            how = Sampling(max_tokens=how.max_tokens)
        return self._way(request), repr(how) if request.read == "text" else "", _digest(encoded)

    def _kept_places(self, one: Encoded) -> list[int]:
        """Where the places of a text stand after the cut; `NOWHERE` for those that were cut off."""
        if len(one.ids) <= self.max_length:
            return list(one.at)
        side = self._preset[0] if self._preset else self.truncation
        kept = {before: after for after, before in enumerate(cut(range(len(one.ids)), self.max_length, side))}
        return [kept.get(place, NOWHERE) for place in one.at]

    def _way(self, request: Request) -> _Way:
        if request.read == "next_logprobs":
            known = self.encoder.surface_ids(request.tokens)
            if all(one is None for one in known):
                said = ", ".join(repr(token.text) for token in request.tokens)
                raise UsageError(f"{self.checkpoint.name}: none of {said} is one token of its tokenizer")
            return request.at, request.read, tuple(NOWHERE if one is None else one for one in known)
        named = [self.encoder.token_id(token) for token in request.tokens]
        if None in named:
            raise UsageError(f"{self.checkpoint.name}: the tokenizer lacks one of the tokens whose logits are read")
        return request.at, request.read, tuple(token for token in named if token is not None)

    def _encoded(self, requests: Sequence[Request]) -> Iterator[Encoded | None]:
        for start in range(0, len(requests), 1024):
            yield from self.encoder.encode(requests[start : start + 1024])

    def _encode(self, requests: Sequence[Request]) -> list[list[int] | None]:
        """Token ids per request, or None where the chat template refuses the conversation."""
        return [None if one is None else one.ids for one in self._encoded(requests)]

    def _chat(self, messages: Sequence[Message]) -> str | None:
        """A conversation as text, or None where the chat template refuses it."""
        return self.encoder.render(messages)

    def _cut(self, ids: list[int], limit: int = 0) -> list[int]:
        """Ids within a limit, the model's unless said otherwise, cut as the truncation in force says."""
        limit = limit or self.max_length
        if len(ids) <= limit or self._preset is None:
            return cut(ids, limit, self.truncation)
        before, after = self.encoder.added
        own = self.encoder.own
        if not own and not after:  # the eos that we appended
            after = ids[-1:]
        return cut_officially(ids, limit, self._preset[0], before=before, after=after, added=not own)

    def _facts(self, encoded: Encoded, over: bool, at: At) -> TextFacts:
        """What a text looks like as tokens."""
        scored = None
        if self.checkpoint.reads_last and not (over and self.truncation in _UNCUT):
            there = [place for place in encoded.at if place != NOWHERE]
            scored = self._cut(encoded.ids)[-1] if at == "last" else encoded.ids[there[-1]] if there else None
        return self.encoder.facts(encoded, over=over, scored=scored, last=at == "last")

    def _refuse_unsound(self, requests: Sequence[Request], texts: dict[int, TextFacts]) -> None:
        """Raise `CheckFailed` for faults of the texts, each with the ends of the first text that has it."""
        faults = lint(list(texts.values())) if self.lint == "error" else []
        if not faults:
            return
        said = []
        for fault in faults:
            [one] = self.encoder.encode([requests[list(texts)[fault.first]]])
            assert one is not None  # it has facts
            start, end = (self.tokenizer.convert_ids_to_tokens(part) for part in (one.ids[:4], one.ids[-4:]))
            said.append(f"{fault}; the first ends {one.text[-60:]!r}, its tokens are {start} ... {end}")
        raise CheckFailed(
            f"{self.checkpoint.name}: {'. '.join(said)}. Scores of such texts mean little; "
            "to score them all the same: -a engine.lint=warn"
        )


def _device(name: str) -> str:
    """A device that torch knows and this machine has; raises `UsageError` for any other."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as fault:  # an AssertionError where torch was built without CUDA
        first = str(fault).partition("\n")[0]
        raise UsageError(f"engine.device={name!r}: cannot be used here: {first}") from None
    return name


def _sampling(request: Request) -> Sampling:
    return request.sampling or Sampling()


def _to_write(request: Request) -> int:
    """Tokens that may be written after the text."""
    return _sampling(request).max_tokens if request.read == "text" else 0


def _digest(one: Encoded) -> bytes:
    return hashlib.sha256(array("q", [*one.ids, NOWHERE, *one.at]).tobytes()).digest()
