"""Several workers, on one machine or a cluster: a Ray Data pool of actors, each with the transformers engine.

The driver renders, tokenises and plans as one process would, without weights; each planned batch, which holds whole
prompt groups, is one row of work. A worker that dies is started again and its rows are done again; replies are kept by
the driver as they come, so a killed driver takes up the run where it was. Replies are those of one process: the same
batches, the same reading, and so the same fingerprint. Needs the extra `ray`.

What this module does not know: suites, scorers, what a reply means.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import BATCH_TOKENS, Lint, TransformersEngine, Truncation
from rmeval.errors import RmevalError, UsageError
from rmeval.types import JSON, Plan, Reply, Request

BLOCKS = 8
"""Blocks of work per worker, at least: what a dead worker's task has done again is one of them."""
MOST_BLOCKS = 2000


class RayEngine:
    """Runs a checkpoint in several workers, with Ray."""

    name = "transformers"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        workers: int = 2,
        gpus: float | None = None,
        cpus: float = 1.0,
        dtype: str = "auto",
        max_length: int | None = None,
        truncation: Truncation = "error",
        batch_tokens: int | None = None,
        batch_size: int | None = None,
        attention: str | None = None,
        lint: Lint = "error",
        share: bool = True,
    ) -> None:
        """Options as in `-a engine.NAME=VALUE`.

        So many `workers` with `gpus` and `cpus` each (default: one GPU each where this machine has any); the cluster is
        the one that `RAY_ADDRESS` names, else one is started here. The rest is as for the transformers engine.
        """
        import torch

        if not 1 <= workers <= 10_000:
            raise UsageError(f"engine.workers={workers}: from 1 to 10000")
        self.gpus = gpus if gpus is not None else 1.0 if torch.cuda.is_available() else 0.0
        if self.gpus < 0 or cpus <= 0:
            raise UsageError("engine.gpus is at least 0, and engine.cpus above 0")
        self.checkpoint, self.workers, self.cpus = checkpoint, workers, cpus
        half = checkpoint.stored_dtype in ("bfloat16", "float16")
        self._options: dict[str, Any] = {
            "dtype": dtype if dtype != "auto" else "bfloat16" if half and self.gpus else "float32",
            "max_length": max_length,
            "truncation": truncation,
            "batch_tokens": batch_tokens,
            "batch_size": batch_size,
            "attention": attention,
            "lint": lint,
            "share": share,
        }
        # the driver may have no GPU, and workers measure what theirs hold: what is planned depends on options alone
        planned = {**self._options, "batch_tokens": batch_tokens or BATCH_TOKENS["cuda" if self.gpus else "cpu"]}
        self.planner = TransformersEngine(checkpoint, device="cpu", **planned)
        self._preset: dict[str, Any] | None = None
        self._done: Counter[str] = Counter()

    @property
    def truncation(self) -> str:
        """What happens to texts over the limit."""
        return self.planner.truncation

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's own tokenizer."""
        return self.planner.tokenizer

    def follow(self, *, max_length: int, side: str, source: str) -> str:
        """Cut as a suite's official script does."""
        self._preset = {"max_length": max_length, "side": side, "source": source}
        return self.planner.follow(**self._preset)

    def fingerprint(self) -> dict[str, JSON]:
        """One process's."""
        return self.planner.fingerprint()

    def describe(self) -> dict[str, JSON]:
        """Who did the work, in this process."""
        import transformers

        return {
            "name": "ray",
            "version": transformers.__version__,
            "device": "cuda" if self.gpus else "cpu",
            "workers": self.workers,
            "batches": dict(self._done.most_common(64)),
            "batch_tokens": self.planner.batch_tokens,
            "batch_size": self.planner.batch_size,
        }

    def plan(self, requests: Sequence[Request]) -> Plan:
        """One process's."""
        return self.planner.plan(requests)

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        """One batch, by one worker."""
        [(_, replies)] = self.run_all([requests])
        return replies

    def run_all(self, batches: Sequence[Sequence[Request]]) -> Iterator[tuple[int, list[Reply]]]:
        """(index, replies) of batches as workers finish them, in no order.

        Raises what a worker refuses, and `UsageError` where Ray is not installed.
        """
        data = _ray_data()
        rows = [{"n": n, "asked": pickle.dumps(list(batch))} for n, batch in enumerate(batches)]
        blocks = min(len(rows), max(BLOCKS * self.workers, 1), MOST_BLOCKS)
        checkpoint = (self.checkpoint.source, self.checkpoint.revision, self.checkpoint.layers)
        # Ray Data starts dead actors again and repeats their tasks, without limit, unless it is told not to
        done = data.from_items(rows, override_num_blocks=blocks).map_batches(
            Worker,
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(self.workers, blocks)),
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            fn_constructor_args=(checkpoint, {**self._options, "device": "cuda" if self.gpus else "cpu"}, self._preset),
        )
        for row in done.iter_rows():
            said = pickle.loads(row["said"])  # noqa: S301 - our own workers wrote it
            if isinstance(said, BaseException):
                raise said
            self._done[row["worker"]] += 1
            yield int(row["n"]), said


class Worker:
    """One actor: the transformers engine, loaded once."""

    def __init__(
        self, checkpoint: tuple[Any, ...], options: Mapping[str, Any], preset: Mapping[str, Any] | None
    ) -> None:
        """What the driver's engine was made of."""
        self.engine = TransformersEngine(Checkpoint(*checkpoint), **options)
        if preset is not None:
            self.engine.follow(**preset)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        """Planned batches of requests -> pickled replies, or what refused them."""
        said = []
        for asked in rows["asked"]:
            try:
                said.append(pickle.dumps(self.engine.run(pickle.loads(asked))))  # noqa: S301 - the driver wrote it
            except RmevalError as refusal:
                said.append(pickle.dumps(refusal))
        who = f"{socket.gethostname()}:{os.getpid()}"
        return {"n": rows["n"], "said": said, "worker": [who] * len(said)}


def _ray_data() -> Any:
    """Ray's data library, connected and quiet."""
    try:
        import ray
        import ray.data
    except ImportError as fault:
        raise UsageError(
            f"--engine ray: Ray cannot be imported here ({fault}): pip install 'rmeval[ray]', or divide the run by "
            "--shard I/N and rmeval merge"
        ) from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return ray.data
