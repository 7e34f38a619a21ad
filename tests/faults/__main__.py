"""The faults, the tests that prove what happens, and how they go.

    python tests/faults                                  run them, then one line per fault (exit 1 where one fails)
    python tests/faults --write docs/reliability.md      write the table of faults and tests between the page's marks

Tests in a browser are left to `make test-browser`. What follows `--` goes to pytest.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections import defaultdict
from pathlib import Path

import pytest

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from faults.fault_list import FAULTS  # noqa: E402
from faults.fault_page import as_markdown, proofs, with_table  # noqa: E402

OUTCOMES = ("passed", "failed", "skipped")


class Tally:
    """A plugin of pytest: how the tests of each fault went."""

    def __init__(self) -> None:
        self.codes: dict[str, set[str]] = {}
        self.went: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(OUTCOMES, 0))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.codes[item.nodeid] = {code for mark in item.iter_markers("fault") for code in mark.args}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            for code in self.codes.get(report.nodeid, ()):
                self.went[code][report.outcome] += 1


def main() -> None:
    """Run the tests, or write the page."""
    parser = argparse.ArgumentParser(description="The faults and the tests that prove what happens")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the table between the marks of this page")
    parser.add_argument("more", nargs="*", metavar="-- PYTEST", help="arguments for pytest")
    given = parser.parse_args()
    found = proofs()
    if given.write:
        given.write.write_text(
            with_table(given.write.read_text(encoding="utf-8"), as_markdown(found)), encoding="utf-8"
        )
        return
    # a shell has what it runs in the background ignore Ctrl-C, which tests send to processes of their own
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tally = Tally()
    files = sorted({str(Path(__file__).parent.parent / one.file) for of in found.values() for one in of})
    wanted = ["-m", "fault and not browser and not smollm2 and not vllm"]
    code = pytest.main([*wanted, *files, *given.more], plugins=[tally])
    for fault in FAULTS.values():
        went = tally.went[fault.code]
        state = "FAILED" if went["failed"] else "ok" if went["passed"] else "not run"
        counts = ", ".join(f"{n} {outcome}" for outcome, n in went.items() if n)
        tests = ", ".join(one.name for one in found.get(fault.code, ()))
        print(f"{fault.code:4} {state:8} {counts or '-':24} {fault.what}: {tests}")
    sound = sum(bool(of["passed"]) and not of["failed"] for of in (tally.went[code] for code in FAULTS))
    print(f"{sound} of {len(FAULTS)} faults end as they must")
    sys.exit(int(code) or sound < len(FAULTS))


if __name__ == "__main__":
    main()
