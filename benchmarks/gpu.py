"""The transformers engine on a GPU against a plain padded loop: equal scores first, then tokens/s and utilisation.

    python -m benchmarks.gpu OUT.json [--shape 1B] [--shape 8B] [--repetitions N]
    python -m benchmarks.gpu OUT.json --shape tiny --device cpu       the same steps, small, on any machine

Seeded weights in Llama's shapes are built on the device, in bfloat16 on a GPU. The plain loop takes the texts in data
set order, 8 at a time, padded to the longest, already tokenised; ours plans and tokenises too. A few texts are first
scored alone, by both methods: where ours is further off than the dtype allows, nothing is measured and the exit code
is 1. Then both methods run A B A B, after one run each that does not count.

Utilisation is the arithmetic of the tokens that were computed, padding included, over the seconds that the device spent
in forward passes, as a share of what a plain matrix product of the same dtype reaches in the same run. Counted are the
linear layers and, of attention, the pairs of tokens that see each other; norms, rotations and softmax are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.prefix_tree import BATCH, WORDS, prompt_groups, ratio
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.prefix_tree import shared_by

SHAPES = {
    # width, width inside, layers, heads, heads of keys and values, words: Llama 3.2 1B and 3.1 8B, and one for tests
    "1B": (2048, 8192, 16, 32, 8, 128256),
    "8B": (4096, 14336, 32, 32, 8, 128256),
    "tiny": (64, 128, 2, 4, 2, 512),
}
WORKLOADS = {
    # prompts, candidates each, tokens of a prompt and of a candidate
    "pairs": (64, 2, 150, 250),
    "best-of-4": (32, 4, 300, 250),
    "best-of-16, long prompts": (8, 16, 1500, 300),
}
TINY = {"pairs": (2, 2, 12, 10), "best-of-4": (2, 4, 20, 10), "best-of-16, long prompts": (1, 16, 40, 6)}
FACTS = ("layout", "drift", "attention", "attention_tried", "pass_tokens")
"""What the engine says of how it computed."""
PRODUCT = {"cuda": 8192, "cpu": 512}
"""Rows and columns of the matrices whose product is timed."""


class Built(Checkpoint):
    """A seeded model that is built where it runs: a folder holds its config and tokenizer, and no weights."""

    def load(self, *, dtype: str, device: str, attention: str | None) -> Any:
        import torch
        from transformers import AutoModelForSequenceClassification

        torch.manual_seed(0)
        options = {"attn_implementation": attention} if attention else {}
        with torch.device(device):
            model = AutoModelForSequenceClassification.from_config(self.config, dtype=getattr(torch, dtype), **options)
        return model.eval()


def save(folder: str, shape: str) -> None:
    """Config and tokenizer of a shape; a word is a token."""
    from transformers import LlamaConfig

    from benchmarks.scoring import word_tokenizer

    width, inside, layers, heads, shared_heads, words = SHAPES[shape]
    word_tokenizer(WORDS).save_pretrained(folder)
    LlamaConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=inside,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared_heads,
        max_position_embeddings=8192,
        num_labels=1,
        pad_token_id=0,
        architectures=["LlamaForSequenceClassification"],
    ).save_pretrained(folder)


def measure(*, shape: str, device: str, dtype: str, repetitions: int = 3) -> dict[str, Any]:
    """A row per workload for one shape; `failed` names the workloads whose scores were not equal."""
    import torch

    from rmeval.engines.transformers import TransformersEngine

    rows: list[dict[str, Any]] = []
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        save(folder, shape)
        # the texts are words without an end
        engine = TransformersEngine(Built(folder), dtype=dtype, device=device, lint="warn")
        product = rate(device, getattr(torch, dtype))
        inside = Inside(engine.reader.model.model, device)
        for name, sizes in (TINY if shape == "tiny" else WORKLOADS).items():
            row = Compared(engine, inside, prompt_groups(*sizes)).row(name, product, repetitions)
            rows.append({"shape": shape, "dtype": dtype, **row})
            failed += [] if row["scores equal"] else [f"{shape} {name}"]
            print("  " + "  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return {
        "title": f"prompt groups against a plain padded loop, {shape}, {dtype}, {device}",
        "weights": "seeded",
        "matrix product, TFLOP/s": round(product / 1e12, 3),
        "failed": failed,
        "rows": rows,
    }


class Compared:
    """Both methods on one workload, with the same weights."""

    def __init__(self, engine: Any, inside: Inside, asked: Sequence[Any]) -> None:
        self.engine, self.inside, self.asked, self.device = engine, inside, asked, engine.device
        self.ids = [one.ids for one in engine.encoder.encode(asked) if one is not None]
        self.model = engine.reader.model
        self.body = self.model.model
        self.tokenising = 0.0
        """Seconds of the last plan: texts are rendered, tokenised and laid out, all before the first pass."""

    def row(self, name: str, product: float, repetitions: int) -> dict[str, Any]:
        """Equal scores or not, then everything that is measured."""
        from rmeval.engines.parity import ALLOWED

        apart, noise, spread = self._apart()
        facts = self.engine.describe()
        told = {
            "workload": name,
            "scores equal": apart <= ALLOWED[self.engine.dtype],
            "largest difference from a text alone": apart,
            "that of the plain loop": noise,
            "sd of scores": spread,
            **{key: facts[key] for key in FACTS if key in facts},
        }
        if not told["scores equal"]:
            return told
        methods: dict[str, Callable[[], list[float]]] = {"plain": self.plain, "rmeval": self.ours}
        clock: dict[str, list[float]] = {method: [] for method in methods}
        within: dict[str, list[float]] = {method: [] for method in methods}
        memory: dict[str, float | None] = {}
        computed: dict[str, int] = {}
        for round_ in range(repetitions + 1):
            for method, run in methods.items():
                _reset_memory(self.device)
                self.inside.clear()
                start = time.perf_counter()
                run()
                _wait(self.device)
                seconds = time.perf_counter() - start
                if round_:
                    clock[method].append(seconds)
                    within[method].append(self.inside.seconds())
                    computed[method], memory[method] = self.inside.tokens, _peak_memory(self.device)
        work = {
            method: computed[method] * self._linear() + pairs * self._attention()
            for method, pairs in (("plain", self._padded_pairs()), ("rmeval", self._packed_pairs()))
        }
        useful = sum(map(len, self.ids))
        for method in methods:
            seconds, busy = statistics.median(clock[method]), statistics.median(within[method])
            told |= {
                f"{method}: useful tokens/s": round(useful / seconds),
                f"{method}: computed tokens": computed[method],
                f"{method}: utilisation": round(work[method] / busy / product, 3),
                f"{method}: outside the forward passes": round(1 - busy / seconds, 4),
                f"{method}: peak memory, GiB": memory[method],
            }
        return told | {
            "useful tokens": useful,
            "ratio": ratio(clock),
            # nothing of it goes on while the device computes: what is computed together is known once all is tokenised
            "tokenising and planning, share of the whole": round(self.tokenising / clock["rmeval"][-1], 4),
        }

    def plain(self, only: Sequence[int] | None = None, batch: int = BATCH) -> list[float]:
        """The model as its class has it; `only` some texts."""
        import torch

        from rmeval.engines import attention

        attention.give_up(self.body)
        ids = [self.ids[i] for i in only] if only is not None else self.ids
        scores: list[float] = []
        for start in range(0, len(ids), batch):
            given = self.engine.tokenizer.pad({"input_ids": ids[start : start + batch]}, return_tensors="pt")
            with torch.inference_mode():
                scores += self.model(**given.to(self.device)).logits[:, 0].float().tolist()
        return scores

    def ours(self) -> list[float]:
        """What `rmeval run` does with the texts, the store left out."""
        from rmeval.engines import attention

        if self.engine.reader.states.shares:
            attention.adopt(self.body)
        start = time.perf_counter()
        batches = self.engine.plan(self.asked).batches
        self.tokenising = time.perf_counter() - start
        scores = [0.0] * len(self.asked)
        for batch in batches:
            for i, reply in zip(batch, self.engine.run([self.asked[i] for i in batch]), strict=True):
                scores[i] = reply.values[0][0]
        return scores

    def _apart(self) -> tuple[float, float, float]:
        """Largest difference from texts alone, ours and the plain loop's, in parts of scores above 1; sd of scores."""
        few = range(min(len(self.ids), 2 * BATCH))
        alone = self.plain(few, batch=1)
        both = self.ours(), self.plain(few)
        ours, plain = (max(abs(scores[i] - alone[i]) / max(1.0, abs(alone[i])) for i in few) for scores in both)
        return ours, plain, statistics.pstdev(alone)

    def _linear(self) -> int:
        """Arithmetic of the linear layers for one token."""
        layers = [one for one in self.body.modules() if hasattr(one, "in_features")]
        return 2 * sum(one.in_features * one.out_features for one in layers)

    def _attention(self) -> int:
        """Arithmetic of attention, in all layers, for a token that sees one: a score, and a share of a value."""
        config = self.body.config
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return 4 * int(config.num_hidden_layers * config.num_attention_heads * width)

    def _padded_pairs(self) -> int:
        """Pairs of tokens that see each other in the plain loop, padding included."""
        parts = [self.ids[i : i + BATCH] for i in range(0, len(self.ids), BATCH)]
        return sum(len(part) * n * (n + 1) // 2 for part in parts for n in [max(map(len, part))])

    def _packed_pairs(self) -> int:
        """The same where texts of a group share what they begin with, each text once."""
        groups: dict[str, dict[tuple[int, ...], None]] = {}
        for one, ids in zip(self.asked, self.ids, strict=True):
            groups.setdefault(one.group, {})[tuple(ids)] = None
        found = 0
        for texts in groups.values():
            shared = shared_by(list(texts))
            found += shared * (shared + 1) // 2
            found += sum(n * shared + n * (n + 1) // 2 for n in (len(ids) - shared for ids in texts))
        return found


class Inside:
    """Tokens that went through a module, and the device's seconds in its forward passes."""

    def __init__(self, module: Any, device: str) -> None:
        self.device = device
        self.clear()
        module.register_forward_pre_hook(self._before, with_kwargs=True)
        module.register_forward_hook(self._after)

    def clear(self) -> None:
        self.tokens = 0
        self._marks: list[Any] = []

    def seconds(self) -> float:
        """Once the device is done."""
        return sum(_between(start, end) for start, end in zip(self._marks[::2], self._marks[1::2], strict=True))

    def _before(self, _: Any, args: Any, given: Any) -> None:
        self.tokens += (given["input_ids"] if "input_ids" in given else args[0]).numel()
        self._marks.append(_mark(self.device))

    def _after(self, *_: Any) -> None:
        self._marks.append(_mark(self.device))


def rate(device: str, dtype: Any) -> float:
    """Arithmetic per second of a matrix product: the best of five, after one that does not count."""
    import torch

    n = PRODUCT[device.partition(":")[0]]
    drawn = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(n, n, device=device, dtype=dtype, generator=drawn) for _ in range(2))
    taken = []
    for _ in range(6):
        start = _mark(device)
        for _ in range(8):
            torch.mm(a, b)
        end = _mark(device)
        _wait(device)
        taken.append(_between(start, end) / 8)
    return float(2 * n**3 / min(taken[1:]))


def _mark(device: str) -> Any:
    """A moment, by the device's own clock where it has one."""
    import torch

    if not device.startswith("cuda"):
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(start: Any, end: Any) -> float:
    """Seconds from a moment to another; a device must be done with both."""
    return float(end - start if isinstance(start, float) else start.elapsed_time(end) / 1000)


def _wait(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _reset_memory(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory(device: str) -> float | None:
    """GiB, the weights among them; None on a CPU, where nobody counts."""
    import torch

    return round(torch.cuda.max_memory_allocated(device) / 2**30, 3) if device.startswith("cuda") else None


def told(shapes: Sequence[str]) -> str:
    """What would be measured on a machine with a GPU."""
    lines = ["No GPU here, so nothing is measured. On one, this would build, score and time, in bfloat16:"]
    for shape in shapes:
        width, _, layers, heads, shared_heads, _ = SHAPES[shape]
        lines.append(f"  {shape}: seeded weights, {layers} layers of {width}, {heads} heads on {shared_heads}")
    for name, (prompts, k, prompt, candidate) in WORKLOADS.items():
        lines.append(f"  {name}: {prompts} prompts of some {prompt} tokens, {k} candidates of some {candidate} each")
    lines += [
        "per workload: scores against texts alone; which attention is the fastest that agrees; useful tokens/s and",
        "peak memory of this engine and of a plain padded loop; arithmetic as a share of a matrix product's in the",
        "same run; what tokenising takes. The same steps, small, on this machine: --shape tiny --device cpu",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; 1 where scores were not equal."""
    import torch

    from rmeval import environment

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", default="runs/gpu.json", type=Path)
    parser.add_argument("--shape", action="append", default=[], choices=list(SHAPES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args(argv)
    shapes = given.shape or ["1B", "8B"]
    on_gpu = given.device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        print(told(shapes))
        return 0
    tables = []
    for shape in shapes:
        dtype = given.dtype or ("bfloat16" if on_gpu else "float32")
        tables.append(measure(shape=shape, device=given.device, dtype=dtype, repetitions=given.repetitions))
        if on_gpu:
            torch.cuda.empty_cache()
    named = torch.cuda.get_device_name(given.device) if on_gpu else given.device
    given.out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "environment": environment.describe(device=named, argv=["benchmarks.gpu", *sys.argv[1:]]),
        "tables": tables,
    }
    given.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written: {given.out}")
    failed = [name for table in tables for name in table["failed"]]
    print(f"scores are not equal: {', '.join(failed)}" if failed else "scores are equal")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
