"""Checkpoints through vLLM in this process: for machines where vLLM is installed beside rmeval (extra `vllm`).

Texts are rendered, cut and tokenised by us, and ids are given to vLLM; activations are off, so that what comes back are
the head's own outputs. vLLM makes batches of its own out of what one call holds, and shares what prompts begin with.

| weights             | vLLM                                             | read                                      |
|---------------------|--------------------------------------------------|-------------------------------------------|
| sequence classifier | `LLM(runner="pooling").classify`                 | the head's outputs at the last token      |
| token classifier    | `LLM(runner="pooling").encode`, `token_classify` | the head's outputs at every place         |
| language model      | `LLM(runner="generate").generate`                | texts, log-probabilities of next tokens   |

Where the weights are small enough, a few texts are first read by transformers, too, and must agree.

What this module does not know: candidates, labels, which channel is the reward.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from rmeval.engines import parity
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.texts import LaidOut, Texts
from rmeval.engines.transformers import Lint, Truncation
from rmeval.errors import CheckFailed, UsageError
from rmeval.types import JSON, Finish, Plan, Reply, Request, Sampling

READING = 1
"""Goes into the fingerprint: raise it when the same outputs would be read differently."""


class VllmEngine:
    """Runs a checkpoint in vLLM. It loads at the first batch that the store cannot answer."""

    name = "vllm"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        dtype: str = "auto",
        max_length: int | None = None,
        truncation: Truncation = "error",
        lint: Lint = "error",
        batch_size: int = 512,
        memory: float = 0.9,
        tensor_parallel: int = 1,
        eager: bool = False,
        check: parity.Check = "auto",
    ) -> None:
        """Options as in `-a engine.NAME=VALUE`.

        `batch_size` texts go into one call of vLLM, which makes its own batches of them; `memory` is the share of a
        GPU that it takes, over `tensor_parallel` GPUs; `eager` starts faster and runs slower; `check=off` trusts it.
        """
        if dtype not in ("auto", *parity.ALLOWED):
            raise UsageError(f"engine.dtype={dtype!r}: one of auto, {', '.join(parity.ALLOWED)}")
        if batch_size < 1 or tensor_parallel < 1 or not 0 < memory <= 1:
            raise UsageError("engine.batch_size and engine.tensor_parallel are at least 1, engine.memory up to 1")
        if checkpoint.layers is not None:
            raise UsageError(f"model {checkpoint.source}: its head is read by the transformers engine alone")
        self.checkpoint = checkpoint
        self.dtype = checkpoint.stored_dtype if dtype == "auto" else dtype
        self.batch_size = batch_size
        self.texts = Texts(checkpoint, device="cpu", max_length=max_length, truncation=truncation, lint=lint)
        self._options = {"gpu_memory_utilization": memory, "tensor_parallel_size": tensor_parallel}
        self._eager = eager
        self.checked = checkpoint.form != "causal" and parity.wanted(checkpoint, check)
        self._apart: float | None = None

    @property
    def truncation(self) -> str:
        """What happens to texts over the limit."""
        return self.texts.truncation

    def follow(self, *, max_length: int, side: str, source: str) -> str:
        """Cut as a suite's official script does."""
        return self.texts.follow(max_length=max_length, side=side, source=source)

    def fingerprint(self) -> dict[str, JSON]:
        """What decides the values."""
        ours: dict[str, JSON] = {"engine": self.name, "reading": READING}
        return {**ours, **self.texts.identity(), "dtype": self.dtype}

    def describe(self) -> dict[str, JSON]:
        """What is recorded beside the fingerprint."""
        import torch
        import vllm

        return {
            "name": self.name,
            "version": vllm.__version__,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "batch_size": self.batch_size,
            **({} if self._apart is None else {"parity_difference": self._apart}),
        }

    def plan(self, requests: Sequence[Request]) -> Plan:
        """In the order of the requests, so many to a call; those of one call are read in one way."""
        for request in requests:
            self._refuse_unreadable(request)
        planned = self.texts.one_by_one(requests)
        alike: dict[object, list[int]] = {}
        for (i,) in planned.batches:
            alike.setdefault((requests[i].at, requests[i].read, requests[i].tokens), []).append(i)
        size = self.batch_size
        batches = [tuple(some[n : n + size]) for some in alike.values() for n in range(0, len(some), size)]
        return replace(planned, batches=tuple(batches))

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        """One call."""
        rows = self.texts.laid_out(requests)
        if self.checkpoint.form != "causal":
            if self.checked and self._apart is None:
                self._check(rows)
            return [row.reply(self._placed(row, v)) for row, v in zip(rows, self._heads(rows), strict=True)]
        if requests[0].read == "text":
            return self._write(requests, rows)
        return self._next(requests[0], rows)

    def release(self) -> None:
        """Give the weights back; they load again at the next batch."""
        self.__dict__.pop("_llm", None)

    @cached_property
    def _llm(self) -> Any:
        """The library with the checkpoint. `UsageError` where it is not installed or does not take the checkpoint."""
        try:
            import vllm
            from vllm.config import PoolerConfig
        except ImportError as fault:
            raise UsageError(
                f"--engine vllm: vLLM cannot be imported here ({fault}): pip install 'rmeval[vllm]', or run it as a "
                "server and ask that: --engine http --base-url URL"
            ) from None
        form = self.checkpoint.form
        pools = {"pooler_config": PoolerConfig(task="token_classify")} if form == "token" else {}
        known = self.checkpoint.max_length(self.texts.tokenizer)
        try:
            return vllm.LLM(
                model=self.checkpoint.source,
                revision=self.checkpoint.revision,
                runner="generate" if form == "causal" else "pooling",
                dtype=self.dtype,
                max_model_len=min(self.texts.max_length, known) if known < 10**9 else None,
                enforce_eager=self._eager,
                trust_remote_code=False,
                generation_config="vllm",  # what the checkpoint says of sampling is not what a judge was asked for
                **pools,
                **self._options,
            )
        except (ValueError, NotImplementedError) as fault:  # its words for a class or a kernel that it has not
            raise UsageError(f"model {self.checkpoint.source}: vLLM does not load it: {fault}") from None

    # --- reward heads ------------------------------------------------------------------------------------------------

    def _heads(self, rows: Sequence[LaidOut]) -> list[list[list[float]]]:
        """[texts][places][channels]: one place of a sequence classifier, one per token of a token classifier."""
        llm = self._llm
        from vllm import PoolingParams

        prompts = [{"prompt_token_ids": row.ids} for row in rows]
        if self.checkpoint.form == "sequence":
            said = llm.classify(prompts, pooling_params=PoolingParams(use_activation=False), use_tqdm=False)
            return [[list(one.outputs.probs)] for one in said]
        said = llm.encode(
            prompts, pooling_params=PoolingParams(use_activation=False), pooling_task="token_classify", use_tqdm=False
        )
        found: list[list[list[float]]] = [one.outputs.data.float().cpu().tolist() for one in said]
        for row, values in zip(rows, found, strict=True):
            if len(values) != len(row.ids):
                raise CheckFailed(f"{self.checkpoint.name}: vLLM gives {len(values)} rows for {len(row.ids)} tokens")
        return found

    def _placed(self, row: LaidOut, values: list[list[float]]) -> list[list[float]]:
        if self.checkpoint.form == "sequence":
            return values
        return [values[place] if place >= 0 else [] for place in row.places]

    def _check(self, rows: Sequence[LaidOut]) -> None:
        """Raise `CheckFailed` where vLLM and transformers read different numbers from the shortest of these texts."""
        few = parity.shortest(rows)
        every = self.checkpoint.form == "token"
        here = parity.here(self.checkpoint, [row.ids for row in few], every=every)
        there = self._heads(few)
        self._apart = parity.apart(there, here)
        if self._apart > parity.ALLOWED[self.dtype]:
            raise CheckFailed(
                f"{self.checkpoint.name}: vLLM gives other outputs than transformers (apart by {self._apart:.2g}, and "
                f"{parity.ALLOWED[self.dtype]:g} is allowed in {self.dtype}): {parity.why(there, here)}. Nothing was "
                "scored; to go on all the same: -a engine.check=off"
            )

    # --- language models ---------------------------------------------------------------------------------------------

    def _write(self, requests: Sequence[Request], rows: Sequence[LaidOut]) -> list[Reply]:
        llm = self._llm
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        stops = self.texts.stops
        how = []
        for request in requests:
            asked = request.sampling or Sampling()
            schema = StructuredOutputsParams(json=json.loads(asked.schema)) if asked.schema else None
            how.append(
                SamplingParams(
                    max_tokens=asked.max_tokens,
                    temperature=asked.temperature,
                    top_p=asked.top_p,
                    seed=asked.seed + asked.vote,
                    stop_token_ids=sorted(stops),
                    structured_outputs=schema,
                )
            )
        said = llm.generate([{"prompt_token_ids": row.ids} for row in rows], how, use_tqdm=False)
        found = []
        for row, one in zip(rows, said, strict=True):
            [text] = one.outputs
            finish: Finish = "length" if text.finish_reason == "length" else "stop"
            found.append(self.texts.said(row, list(text.token_ids), finish))
        return found

    def _next(self, request: Request, rows: Sequence[LaidOut]) -> list[Reply]:
        """Log-probabilities of named tokens as the next one, normalised over the whole vocabulary."""
        llm = self._llm
        from vllm import SamplingParams

        named = self.texts.encoder.surface_ids(request.tokens)
        known = sorted({token for token in named if token is not None})
        if not known:
            raise UsageError(f"{self.checkpoint.name}: none of the tokens that are read is one token of its tokenizer")
        how = SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=known)
        said = llm.generate([{"prompt_token_ids": row.ids} for row in rows], how, use_tqdm=False)
        found = []
        for row, one in zip(rows, said, strict=True):
            listed = {token: entry.logprob for token, entry in one.outputs[0].logprobs[0].items()}
            values = [math.nan if token is None else listed.get(token, math.nan) for token in named]
            broken = any(token is not None and not math.isfinite(v) for token, v in zip(named, values, strict=True))
            found.append(row.without("non_finite") if broken else row.reply([values]))
        return found

    def _refuse_unreadable(self, request: Request) -> None:
        reads = ("text", "next_logprobs") if self.checkpoint.form == "causal" else ("head",)
        if request.read not in reads or (self.checkpoint.form == "sequence" and request.at != "last"):
            raise UsageError(
                f"--engine vllm: reads {' or '.join(reads)} of {self.checkpoint.architecture}; the scorer asks for "
                f"{request.read} at {request.at}, which --engine transformers reads"
            )
