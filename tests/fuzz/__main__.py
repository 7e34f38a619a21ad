"""Throw spoilt inputs at every parser and print how it went; exit 1 where one does what it should not.

    python tests/fuzz                       200,000 cases for each parser
    python tests/fuzz --cases 2000 card     2,000 for those with `card` in their name

A fault that is found is made smaller and printed as a line for `corpus.jsonl`, which `make test` replays.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from pathlib import Path

MEMORY = 16 * 2**30
SLOW = 0.3
"""Seconds of a case from which on it is printed."""
HERE = Path(__file__).resolve().parent
sys.path[:1] = [str(HERE), str(HERE.parent)]
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")

from fuzz_corpus import Case, line_of  # noqa: E402
from fuzz_driving import run, run_in_forks, smaller  # noqa: E402
from fuzz_parsers import TARGETS  # noqa: E402


def main() -> int:
    """As the module says."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("names", nargs="*", help="parts of the names of parsers; all of them where none is given")
    ask.add_argument("--cases", type=int, default=200_000)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--seconds", type=float, default=float("inf"), help="for each parser at most")
    given = ask.parse_args()
    resource.setrlimit(
        resource.RLIMIT_AS, (MEMORY, MEMORY)
    )  # a template that wants all of it is to fail, not the machine
    faults = 0
    print("| parser | cases | taken | seconds | slowest, ms | faults |\n|---|---|---|---|---|---|", flush=True)
    for target in TARGETS:
        if given.names and not any(name in target.name for name in given.names):
            continue
        go = run_in_forks if target.forked else run
        tally = go(target, given.cases, given.seed, given.seconds)
        print(
            f"| {target.name} | {tally.cases:,} | {tally.taken / tally.cases:.0%} | {tally.seconds:.0f} "
            f"| {tally.slowest * 1000:.0f} | {len(tally.found)} |",
            flush=True,
        )
        if tally.slowest > SLOW:
            print(f"slowest of {target.name}: {tally.slowest_case[:200]!r}...", file=sys.stderr)
        for why, case in tally.found.items():
            faults += 1
            small = case if why.startswith("killed") else smaller(target, case, why, 400)
            print(line_of(Case(target.name, why, small)), file=sys.stderr, flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
