"""The transformers engine against the `rewardbench` package's own evaluation, on the same pairs and weights.

    make bench-rewardbench
    python -m benchmarks.rewardbench_loop OUT.json [--model FOLDER] [--layers N] [--repetitions N] [--pairs N]

The package runs in a venv of its own, as it is installed there: its function `rewardbench`, with its defaults but for
what a CPU needs, in float32. What counts of it is its loop alone, from the first batch to the last: tokenising, padding
and the forward passes. Ours counts all from the conversations on: templates, planning, tokenising and the passes. One
thread each, A B A B, one of them at a time; seconds are those of the processor and those of the clock.

What the package needs here: setuptools below 81 for `pkg_resources`, pairs as lists of messages, no quantisation, its
`.to("cuda")` taken as the CPU, a checkpoint whose config.json says what transformers 4 calls `rope_theta`, and a
tokenizer that makes no types of tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PYTHON = Path(__file__).resolve().parents[1] / ".venv-rewardbench" / "bin" / "python"
BATCHES = (8, 64)
"""Texts per batch of the package's loop, which takes chosen and rejected texts apart."""
MARK = "rewardbench_loop: "
"""Before what its process says to ours: the package logs to the same stream."""
LENGTHS = (150, 250)
"""Tokens of a prompt and of an answer, in the middle."""


def measure(
    *,
    model: str | None = None,
    layers: int | None = None,
    repetitions: int = 3,
    pairs: int = 64,
    shapes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A row per model and batch size of the package."""
    import torch

    from benchmarks import prefix_tree

    rows = []
    load = os.getloadavg()[0]
    for shape in shapes or (prefix_tree.SHAPES[0], prefix_tree.WINDOWED):
        with tempfile.TemporaryDirectory() as folder:
            trained = model if shape == prefix_tree.SHAPES[0] else None
            prefix_tree.save(f"{folder}/ours", shape, trained, layers)
            for batch in BATCHES:
                if batch <= pairs:
                    rows.append({"model": shape, **_compared(Path(folder), batch, pairs, repetitions)})
                    print("  " + "  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    cut = f", the first {layers} layers" if layers else ""
    return {
        "title": f"pairs against the rewardbench package's loop, float32, {torch.get_num_threads()} threads{cut}",
        "weights": "seeded" if model is None else "a folder's backbone",
        "layers": layers,
        "processor": prefix_tree.processor(),
        "load before and after": [round(load, 1), round(os.getloadavg()[0], 1)],
        "rows": rows,
    }


def _compared(folder: Path, batch: int, pairs: int, repetitions: int) -> dict[str, Any]:
    """Both on the same pairs, interleaved."""
    import statistics

    from benchmarks.prefix_tree import prompt_groups, ratio, scored
    from rmeval.engines.checkpoint import Checkpoint
    from rmeval.engines.transformers import TransformersEngine

    requests = prompt_groups(pairs, 2, *LENGTHS)
    engine = TransformersEngine(Checkpoint(str(folder / "ours")), dtype="float32", lint="warn")
    lengths = [len(one.ids) for one in engine.encoder.encode(requests) if one is not None]
    sides = [lengths[0::2], lengths[1::2]]
    useful = sum(lengths)
    padded = sum(
        len(part) * max(part) for side in sides for i in range(0, pairs, batch) for part in [side[i : i + batch]]
    )
    conversations = [[{"role": m.role, "content": m.content} for m in one.parts[0].messages] for one in requests]
    package = _Package(folder, conversations)
    engine.reader.model  # noqa: B018 - weights load before anything is timed, in both
    clock: dict[str, list[float]] = {"plain": [], "rmeval": []}
    busy: dict[str, list[float]] = {"plain": [], "rmeval": []}
    try:
        for _ in range(repetitions):
            said = package.run(batch)
            start, used = time.perf_counter(), time.process_time()
            ours = scored(engine, requests)
            busy["rmeval"].append(time.process_time() - used)
            clock["rmeval"].append(time.perf_counter() - start)
            busy["plain"].append(said["busy"])
            clock["plain"].append(said["clock"])
    finally:
        package.end()
    theirs = [score for pair in zip(said["chosen"], said["rejected"], strict=True) for score in pair]
    return {
        "pairs": pairs,
        "batch of the package": batch,
        "useful tokens": useful,
        "padding of the package": round(1 - useful / padded, 3),
        "package tokens/s": round(useful / statistics.median(busy["plain"])),
        "rmeval tokens/s": round(useful / statistics.median(busy["rmeval"])),
        "ratio": ratio(busy),
        "ratio by the clock": ratio(clock),
        "largest difference": max(abs(a - b) for a, b in zip(theirs, ours, strict=True)),
        "sd of scores": statistics.pstdev(ours),
        "packages": said["packages"],
    }


class _Package:
    """The package's process."""

    def __init__(self, folder: Path, conversations: list[list[dict[str, str]]]) -> None:
        theirs = folder / "model"  # a name without a place: the package writes results under its model's name
        if not theirs.exists():
            _in_terms_of_transformers_4(folder / "ours", theirs)
        pairs = zip(conversations[0::2], conversations[1::2], strict=True)
        rows = [json.dumps({"chosen": chosen, "rejected": rejected}) + "\n" for chosen, rejected in pairs]
        (folder / "pairs.jsonl").write_text("".join(rows), encoding="utf-8")
        self._log = (folder / "log.txt").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [PYTHON, Path(__file__).resolve(), "--in-its-venv"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={
                **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
                "HF_HUB_OFFLINE": "1",
                "HF_HOME": str(folder / "cache"),
                "WANDB_MODE": "disabled",
                "CUDA_VISIBLE_DEVICES": "",
                "OMP_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
            },
        )

    def run(self, batch: int) -> dict[str, Any]:
        """Seconds of its loop, by the clock and of the processor, and its scores."""
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("no pipes")
        self._process.stdin.write(f"{batch}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(MARK):
                said: dict[str, Any] = json.loads(line.removeprefix(MARK))
                return said
        raise RuntimeError(f"the package ended:\n{Path(self._log.name).read_text(encoding='utf-8')[-2000:]}")

    def end(self) -> None:
        """It reads until there is nothing more."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(60)
        self._log.close()


def _in_terms_of_transformers_4(ours: Path, theirs: Path) -> None:
    """The same checkpoint, for transformers 4 to read."""
    theirs.mkdir()
    for file in ours.iterdir():
        if file.suffix != ".json" or file.name == "tokenizer.json":
            (theirs / file.name).symlink_to(file)
    config = json.loads((ours / "config.json").read_text(encoding="utf-8"))
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["torch_dtype"] = config.pop("dtype", "float32")
    (theirs / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = json.loads((ours / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    (theirs / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")


def in_its_venv() -> None:
    """The package's side: reads batch sizes, runs it, says how long its loop took."""
    from importlib import metadata

    import rewardbench.rewardbench as package
    import torch
    from transformers import BatchEncoding

    torch.set_num_threads(1)
    to = BatchEncoding.to
    BatchEncoding.to = lambda self, device, **more: to(self, "cpu" if device == "cuda" else device, **more)
    took: dict[str, float] = {}

    def timed(batches: Any, **_: Any) -> Iterator[Any]:
        start, used = time.perf_counter(), time.process_time()
        yield from batches
        took.update(busy=time.process_time() - used, clock=time.perf_counter() - start)

    package.tqdm = timed  # the loop goes over this, and over nothing else
    for line in sys.stdin:
        given = {"dataset": "pairs.jsonl", "load_json": True, "model": "model", "not_quantized": True}
        package.rewardbench(package.Args(**given, batch_size=int(line), torch_dtype="float32", max_length=4096))
        written = Path("results/model_outputs.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(row) for row in written.splitlines()]
        said = {
            **took,
            "chosen": [row["scores_chosen"] for row in rows],
            "rejected": [row["scores_rejected"] for row in rows],
            "packages": {name: metadata.version(name) for name in ("rewardbench", "transformers", "torch")},
        }
        print(f"\n{MARK}{json.dumps(said)}", flush=True)


def main() -> None:
    """Measure, print and write."""
    import torch

    from benchmarks import prefix_tree
    from rmeval import environment

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", default="runs/rewardbench_loop.json", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--shape", action="append", default=[], choices=[prefix_tree.SHAPES[0], prefix_tree.WINDOWED])
    given = parser.parse_args()
    if not PYTHON.exists():
        sys.exit("the package is not installed: make bench-rewardbench makes .venv-rewardbench (1.5 GB)")
    torch.set_num_threads(1)
    table = measure(
        model=given.model,
        layers=given.layers,
        repetitions=given.repetitions,
        pairs=given.pairs,
        shapes=tuple(given.shape),
    )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    record = {"environment": environment.describe(argv=["benchmarks.rewardbench_loop"]), "tables": [table]}
    given.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written: {given.out}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--in-its-venv"]:
        in_its_venv()
    else:
        main()
