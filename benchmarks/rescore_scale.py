"""A million stored scores through `rmeval rescore`: python -m benchmarks.rescore_scale [OUT.json]

Pairs with seeded scores, lengths and markup, every second pair sharing its prompt with the one before, one in a
thousand without a score: evaluated and written by the real writers, then scored again by the command in a process of
its own, which says seconds and peak memory. The bar: 1,000,000 in under 20 s and 2 GB. `--rows` makes it smaller, and a
`--folder` keeps the result and uses it again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SUITE = "pairs"
REPETITIONS = 3


def make(rows: int, folder: Path) -> Path:
    """A result of so many rows; the path of its file."""
    import numpy as np
    import pyarrow as pa

    from rmeval import results
    from rmeval.metrics.evaluate import evaluate
    from rmeval.metrics.table import from_arrow, schema
    from rmeval.records import DataRecord, ModelRecord, ScorerRecord, SuiteRecord
    from rmeval.suites import load_suite

    rng = np.random.default_rng(0)
    suite = load_suite(SUITE)
    lengths = rng.integers(80, 3000, (rows, 2))
    scores = np.round(rng.normal(0, 1, (rows, 2)) + [0.9, 0.0] + lengths / 10_000, 4)
    lost = rng.random(rows) < 0.001
    columns: dict[str, Any] = {
        "id": [f"all/{i}" for i in range(rows)],
        "subset": ["all"] * rows,
        "group": [""] * rows,
        "cluster": [f"{i // 2 * 2654435761 % 2**64:032x}" for i in range(rows)],
        "grades": [[1.0, 0.0]] * rows,
        "scores": [[a, None if gone else b] for (a, b), gone in zip(scores.tolist(), lost.tolist(), strict=True)],
        "lengths": lengths.tolist(),
        "markup": rng.integers(0, 5, (rows, 2, 3)).tolist(),
        "reasons": [[None, "truncated"] if gone else [] for gone in lost.tolist()],
    }
    kinds = schema()
    table = from_arrow(
        pa.table({n: pa.array(columns.get(n, [[]] * rows), kinds.field(n).type) for n in kinds.names}, kinds)
    )
    assert table is not None
    draft = results.Draft(
        complete=True,
        model=ModelRecord(name="seeded", kind="scalar"),
        suite=SuiteRecord(
            name=SUITE,
            version=suite.card.version,
            data=DataRecord(source="generated:seed=0", sha256="0" * 64),
            examples=rows,
        ),
        scorer=ScorerRecord.model_validate({"name": "seeded"}),
        engine=None,
        metrics=evaluate(table, suite.plan),
        environment=results.current_environment(),
    )
    return results.write(draft, table, folder)


def timed(result: Path) -> tuple[float, float, float]:
    """(seconds, processor seconds, peak MiB) of one `rmeval rescore`."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "rmeval", "rescore", str(result), "--json"], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"rescore ended with {status}")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def measure(rows: int, folder: Path) -> dict[str, Any]:
    """The table: one row per repetition."""
    own = folder / str(rows)
    found = sorted(own.glob("seeded/*/*.json")) if own.exists() else []
    # made in a process of its own, whose memory is not ours to report
    if not found:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.rescore_scale", "--make", str(own), "--rows", str(rows)], check=True
        )
        found = sorted(own.glob("seeded/*/*.json"))
    made = []
    for _ in range(REPETITIONS):
        wall, cpu, peak = timed(found[0])
        made.append(
            {"rows": rows, "seconds": round(wall, 2), "processor_seconds": round(cpu, 2), "peak_mib": round(peak)}
        )
    return {"title": f"rmeval rescore of {rows:,} pairs", "load": os.getloadavg()[0], "rows": made}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time `rmeval rescore` of many rows.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="keep the result here, and use it again")
    parser.add_argument("--make", type=Path, help="only write the result")
    parser.add_argument("out", nargs="?", type=Path)
    asked = parser.parse_args()
    if asked.make:
        print(make(asked.rows, asked.make), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, "MiB")
        return
    with tempfile.TemporaryDirectory() as passing:
        found = measure(asked.rows, asked.folder or Path(passing))
    print(found["title"])
    for row in found["rows"]:
        print("  " + "  ".join(f"{key} {value}" for key, value in row.items()))
    if asked.out:
        from rmeval import environment

        record = {"environment": environment.describe(argv=["benchmarks.rescore_scale"]), **found}
        asked.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
