"""Start-up of the command line, each beside a bare interpreter in the same run."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from typing import Any

REPETITIONS = 7


def measure() -> dict[str, Any]:
    """Median seconds of `rmeval --help`, `rmeval list` and `python -c pass`, interleaved, and those of the processor.

    The latter are what the former would be on a machine with nothing else to do.
    """
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "rmeval --help": [sys.executable, "-m", "rmeval", "--help"],
        "rmeval list": [sys.executable, "-m", "rmeval", "list"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(REPETITIONS):
        for name, command in commands.items():
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times[name].append(time.perf_counter() - start)
            spent[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {
        "title": "start-up, median seconds",
        "rows": [
            {
                "command": name,
                "seconds": round(statistics.median(times[name]), 3),
                "processor_seconds": round(statistics.median(spent[name]), 3),
            }
            for name in commands
        ],
    }
