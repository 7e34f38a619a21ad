"""Run the CPU benchmarks: python -m benchmarks [OUT.json]. Exits 1 where an interval or test misses its level."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks import intervals, judge_client, prefix_tree, scoring, startup, training
from rmeval import environment


def main() -> None:
    tables = [
        scoring.measure(),
        # two of the layers leave the ratio as it is, and take a minute
        prefix_tree.measure(layers=2, shapes=prefix_tree.SHAPES[:1], chosen=("pairs", "best-of-4")),
        training.measure(),
        judge_client.measure(),
        startup.measure(),
        intervals.measure(),
    ]
    for table in tables:
        print(f"\n{table['title']}")
        for row in table["rows"]:
            print("  " + "  ".join(f"{key} {value}" for key, value in row.items()))
    record = {"environment": environment.describe(), "tables": tables}
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/bench.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten: {out}")
    failed = [row for table in tables for row in table["rows"] if row.get("verdict") == "FAIL"]
    sys.exit(f"{len(failed)} intervals or tests miss their level" if failed else 0)


if __name__ == "__main__":
    main()
