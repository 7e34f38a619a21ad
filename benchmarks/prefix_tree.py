"""The transformers engine against a plain transformers loop: data set order, batch 8, padded to the longest.

    python -m benchmarks.prefix_tree OUT.json [--model FOLDER] [--layers N] [--repetitions N]

Same weights, same texts, same dtype, one thread, A B A B; a row of best-of-k has k candidates per prompt. Useful tokens
are those of every text, each counted once. Seconds are those of the clock and, since a machine may be shared, those of
the processor. Weights are seeded, in the shape of SmolLM2-135M or of Gemma 3 270M (whose vocabulary is cut: only its
window and heads matter here); `--model` takes the backbone of a folder in place of the former, and `--layers` the first
layers only, which leaves ratios as they are.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rmeval.protocols import Engine
from rmeval.types import Request

WORDS = 200
VOCABULARY = 49152
BATCH = 8
"""Texts per batch of the plain loop."""

SHAPES = ("SmolLM2-135M", "Gemma 3 270M")
WINDOWED = "SmolLM2-135M as a Mistral, window 512"
"""A sliding window that other programs know for classifiers too."""
WORKLOADS = {
    # prompts, candidates each, tokens of a prompt and of a candidate
    "pairs": (4, 2, 150, 250),
    "best-of-4": (4, 4, 300, 250),
    "best-of-16, long prompts": (1, 16, 1500, 300),
    "best-of-32, long prompts": (1, 32, 1500, 300),
}


def measure(
    *,
    model: str | None = None,
    layers: int | None = None,
    repetitions: int = 3,
    shapes: tuple[str, ...] = (),
    chosen: tuple[str, ...] = (),
    show: bool = False,
) -> dict[str, Any]:
    """A row per model, dtype and workload; `shapes` and `chosen` name models and workloads, all where empty.

    `show` prints each row when it is there.
    """
    import torch

    rows = []
    load = os.getloadavg()[0]
    for shape in shapes or SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            save(folder, shape, model if shape == SHAPES[0] else None, layers)
            for dtype in ("float32", "bfloat16"):
                for name in chosen or tuple(WORKLOADS):
                    rows.append({"model": shape, **_compared(folder, dtype, name, repetitions)})
                    if show:
                        print("  " + "  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    cut = f", the first {layers} layers" if layers else ""
    return {
        "title": f"prompt groups against a plain loop, {torch.get_num_threads()} threads{cut}",
        "weights": "seeded" if model is None else "a folder's backbone",
        "layers": layers,
        "processor": processor(),
        "load before and after": [round(load, 1), round(os.getloadavg()[0], 1)],
        "rows": rows,
    }


def _compared(folder: str, dtype: str, name: str, repetitions: int) -> dict[str, Any]:
    """Both methods on one workload, interleaved."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from rmeval.engines.checkpoint import Checkpoint
    from rmeval.engines.transformers import TransformersEngine

    requests = prompt_groups(*WORKLOADS[name])
    engine = TransformersEngine(Checkpoint(folder), dtype=dtype, lint="warn")  # the texts are words without an end
    plain_model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    ids = [one.ids for one in engine.encoder.encode(requests) if one is not None]
    useful = sum(map(len, ids))
    padded = sum(len(part) * max(map(len, part)) for i in range(0, len(ids), BATCH) for part in [ids[i : i + BATCH]])
    inside = _Inside(engine.reader.model.model)

    def plain() -> list[float]:
        scores: list[float] = []
        for start in range(0, len(ids), BATCH):
            batch = engine.tokenizer.pad({"input_ids": ids[start : start + BATCH]}, return_tensors="pt")
            with torch.no_grad():
                scores += plain_model(**batch).logits[:, 0].float().tolist()
        return scores

    clock: dict[str, list[float]] = {"plain": [], "rmeval": []}
    busy: dict[str, list[float]] = {"plain": [], "rmeval": []}
    scores: dict[str, list[float]] = {}
    outside = []
    methods: tuple[tuple[str, Callable[[], list[float]]], ...] = (
        ("plain", plain),
        ("rmeval", lambda: scored(engine, requests)),
    )
    for _ in range(repetitions):
        for method, run in methods:
            inside.seconds = 0.0
            start, used = time.perf_counter(), time.process_time()
            scores[method] = run()
            busy[method].append(time.process_time() - used)
            clock[method].append(time.perf_counter() - start)
        outside.append(1 - inside.seconds / busy["rmeval"][-1])
    apart = [abs(a - b) for a, b in zip(scores["plain"], scores["rmeval"], strict=True)]
    facts = engine.describe()
    return {
        "dtype": dtype,
        "workload": name,
        "useful tokens": useful,
        "padding of the plain loop": round(1 - useful / padded, 3),
        "plain tokens/s": round(useful / statistics.median(busy["plain"])),
        "rmeval tokens/s": round(useful / statistics.median(busy["rmeval"])),
        "ratio": ratio(busy),
        "ratio by the clock": ratio(clock),
        "outside the forward passes": round(statistics.median(outside), 4),
        "largest difference": max(apart),
        "sd of scores": statistics.pstdev(scores["plain"]),
        **{key: facts[key] for key in ("layout", "drift", "attention", "linear")},
    }


def scored(engine: Engine, requests: Sequence[Request]) -> list[float]:
    """The score of each text, planned, tokenised and run."""
    scores = [math.nan] * len(requests)
    for batch in engine.plan(requests).batches:
        for i, reply in zip(batch, engine.run([requests[i] for i in batch]), strict=True):
            scores[i] = reply.values[0][0]
    return scores


def ratio(seconds: dict[str, list[float]]) -> list[float]:
    """Median, smallest and largest ratio of neighbouring repetitions."""
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["rmeval"], strict=True)]
    return [round(value, 2) for value in (statistics.median(ratios), min(ratios), max(ratios))]


def processor() -> str:
    """What computes here, and the widest instructions that torch takes."""
    import torch

    known = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in known.splitlines() if line.startswith("model name")]
    bf16 = ", bf16 products" if "avx512_bf16" in known else ""
    return f"{names[0] if names else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}{bf16}"


class _Inside:
    """Processor seconds within a module's forward passes."""

    def __init__(self, module: Any) -> None:
        self.seconds = self._start = 0.0
        module.register_forward_pre_hook(self._before)
        module.register_forward_hook(self._after)

    def _before(self, *_: Any) -> None:
        self._start = time.process_time()

    def _after(self, *_: Any) -> None:
        self.seconds += time.process_time() - self._start


def save(folder: str, shape: str, model: str | None, layers: int | None) -> None:
    """A sequence classifier with a tokenizer of one token per word."""
    import torch
    from transformers import AutoModelForSequenceClassification, Gemma3TextConfig, LlamaConfig, MistralConfig

    from benchmarks.scoring import word_tokenizer

    word_tokenizer(WORDS).save_pretrained(folder)
    torch.manual_seed(0)
    common = {"vocab_size": VOCABULARY, "num_labels": 1, "pad_token_id": 0, "max_position_embeddings": 8192}
    if shape == SHAPES[0]:
        config: Any = LlamaConfig(
            **common,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=layers or 30,
            num_attention_heads=9,
            num_key_value_heads=3,
        )
    elif shape == WINDOWED:
        config = MistralConfig(
            **common,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=layers or 30,
            num_attention_heads=9,
            num_key_value_heads=3,
            sliding_window=512,
        )
    else:
        config = Gemma3TextConfig(
            **common,
            hidden_size=640,
            intermediate_size=2048,
            num_hidden_layers=layers or 18,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=256,
            sliding_window=512,
        )
    if model is None:
        made = AutoModelForSequenceClassification.from_config(config)
    else:
        more = {"num_hidden_layers": layers} if layers else {}
        made = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, pad_token_id=0, **more)
    made.save_pretrained(folder)


def prompt_groups(prompts: int, k: int, prompt: int, candidate: int, *, seed: int = 0) -> list[Any]:
    """Texts whose lengths spread: half to twice the middle for most, a quarter to four times at most."""
    from rmeval.types import Chat, Message, Request

    rng = random.Random(seed)

    def words(middle: int, spread: float) -> str:
        n = round(middle * min(4.0, max(1 / 4, rng.lognormvariate(0, spread))))
        return " ".join(f"w{rng.randrange(WORDS)}" for _ in range(n))

    found = []
    for group in range(prompts):
        asked = Message("user", words(prompt, 0.4))
        for _ in range(k):
            answer = Message("assistant", words(candidate, 0.7))
            found.append(Request((Chat((asked, answer)),), group=str(group)))
    return found


def main() -> None:
    """Measure, print and write."""
    import torch

    from rmeval import environment

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", default="runs/prefix_tree.json", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--shape", action="append", default=[], choices=SHAPES)
    parser.add_argument("--workload", action="append", default=[], choices=list(WORKLOADS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = measure(
        model=given.model,
        layers=given.layers,
        repetitions=given.repetitions,
        shapes=tuple(given.shape),
        chosen=tuple(given.workload),
        show=True,
    )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    record = {"environment": environment.describe(argv=["benchmarks.prefix_tree"]), "tables": [table]}
    given.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written: {given.out}")


if __name__ == "__main__":
    main()
