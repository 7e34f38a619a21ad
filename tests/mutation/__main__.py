"""Which changes of the metrics and the statistics no test notices.

    python tests/mutation [N]                  a seeded sample of N mutants (600): those that did not run before, then a table
    python tests/mutation --only "rmeval/stats.py wilson"       every mutant of a module, or of a function in it;
                                                           several are divided by commas

All tests are collected once. Each mutant is put into a copy of this process, which runs the tests that touch its lines, the
fast ones first, until one fails. What ran is kept in runs/mutation: remove that folder when
code or tests change. Who survives stands in survivors.toml with the reason; exit 1 where one does not.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import inspect
import json
import os
import random
import resource
import sys
import time
import tomllib
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from coverage import Coverage, CoverageData

for _heavy in ("matplotlib.pyplot", "pandas", "rich.console", "scipy.optimize", "scipy.stats", "torch", "typer"):
    importlib.import_module(_heavy)  # what tests import when they need it: once here, and not again for each mutant

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[0] = str(HERE.parent)

from mutation.mutants import Mutant, mutants  # noqa: E402

MODULES = (
    "rmeval/metrics/*.py",
    *(f"rmeval/{name}.py" for name in ("stats", "clusters", "bradley_terry", "likelihood")),
)
TESTS = (
    *("tests/metrics", "tests/results/test_compare.py", "tests/leaderboard/test_board.py", "tests/test_stats.py"),
    *(
        "tests/test_stats_edges.py",
        "tests/test_clusters.py",
        "tests/test_bradley_terry.py",
        "tests/test_likelihood.py",
        "tests/test_published_judges.py",
    ),
)
SEED = 10
KEPT = ROOT / "runs" / "mutation"
SURVIVED, KILLED, UNTOUCHED = "survived", "killed", "untouched"
MEMORY = 8 << 30
MOST = 5.0
"""Seconds of tests that a mutant gets: what thousands of tests go through, the first ones notice or none does."""


def modules() -> list[str]:
    """The files that are altered, below the root."""
    return [str(path.relative_to(ROOT)) for pattern in MODULES for path in sorted(ROOT.glob(pattern))]


def sample(size: int, only: str) -> list[Mutant]:
    """Every module in proportion; a larger sample holds the smaller one."""
    ranked: list[tuple[float, Mutant]] = []
    for module in modules():
        found = mutants(ROOT, module)
        random.Random(f"{SEED} {module}").shuffle(found)
        ranked += [((n + 0.5) / len(found), mutant) for n, mutant in enumerate(found)]
    if only:
        parts = tuple(part.strip() for part in only.split(","))
        return [mutant for _, mutant in ranked if f"{mutant.module} {mutant.function}".startswith(parts)]
    ranked.sort(key=lambda pair: pair[0])
    return [mutant for _, mutant in ranked[:size]]


def in_a_copy(work: Callable[[], int], seconds: float) -> int:
    """The exit code of work in a copy of this process, with limits on its time and memory; negative for a signal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads; they stand still
        pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 99
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        said = os.open(KEPT / "last.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        code = work()
    except BaseException:  # noqa: BLE001 - whatever it is, no second process goes on from here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def install(mutant: Mutant) -> None:
    """Put a mutant into the modules that are imported: only code that runs after the import can be altered in place."""
    module = importlib.import_module(mutant.module.removesuffix(".py").replace("/", "."))
    fresh: dict[str, Any] = {**vars(module)}
    exec(compile(mutant.code(ROOT), str(ROOT / mutant.module), "exec"), fresh)
    if mutant.owner:
        old, new = (function_of(names, mutant.owner) for names in (vars(module), fresh))
        old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
        return
    # on top: in every module that imported the name; what is made of it there at import is made again here alone
    for name in mutant.names:
        before = vars(module)[name]
        if inspect.isclass(before):
            before.__init__ = fresh[name].__init__
            continue
        for other in [m for key, m in sys.modules.items() if key.startswith("rmeval")]:
            if vars(other).get(name) is before:
                setattr(other, name, fresh[name])
    for name, value in fresh.items():
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            vars(module)[name].__defaults__, vars(module)[name].__kwdefaults__ = (
                value.__defaults__,
                value.__kwdefaults__,
            )


def function_of(names: dict[str, Any], path: tuple[str, ...]) -> FunctionType:
    """The plain function behind a name such as `wilson` or `Interval.width`."""
    found = names[path[0]]
    for name in path[1:]:
        found = inspect.getattr_static(found, name)
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, cached_property):
        found = found.func
    found = inspect.unwrap(getattr(found, "__func__", found))
    assert isinstance(found, FunctionType), path
    return found


class Runner:
    """A plugin of pytest: instead of running all tests once, run some for each mutant."""

    def __init__(self, chosen: list[Mutant]) -> None:
        self.chosen, self.done = chosen, {}
        self.seconds: dict[str, float] = {}
        self.log = KEPT / "outcomes.jsonl"
        if self.log.exists():
            self.done = dict(json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            print(report.longreprtext)
            sys.stdout.flush()
            os._exit(1)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        if not (KEPT / "seconds.json").exists() and (code := in_a_copy(lambda: self.touch(session.items), 7200)):
            raise session.Interrupted(f"the tests fail without any mutant: {code}, see {KEPT / 'last.txt'}")
        self.seconds = json.loads((KEPT / "seconds.json").read_text(encoding="utf-8"))
        data = CoverageData(str(KEPT / "touched"))
        data.read()
        lines = {module: data.contexts_by_lineno(str(ROOT / module)) for module in modules()}
        session.config._tmp_path_factory.getbasetemp()  # one folder for all
        gc.collect()
        gc.freeze()  # so that copies need not copy what is never thrown away
        left = [mutant for mutant in self.chosen if mutant.name not in self.done]
        for n, mutant in enumerate(left, 1):
            started = time.monotonic()
            became = self.done[mutant.name] = self.outcome(mutant, lines[mutant.module], session.items)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps([mutant.name, became]) + "\n")
            took = time.monotonic() - started
            print(f"{n}/{len(left)} {took:.0f} s {became} {mutant.name}", flush=True)
        return True

    def touch(self, items: list[pytest.Item]) -> int:
        """Which test touches which line, and how long each works: kept."""
        watch = Coverage(data_file=KEPT / "touched", config_file=False, source_pkgs=["rmeval"], messages=False)
        watch.start()
        for item, following in zip(items, [*items[1:], None], strict=True):
            watch.switch_context(item.nodeid)
            started = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            self.seconds[item.nodeid] = time.process_time() - started
        watch.stop()
        watch.save()
        (KEPT / "seconds.json").write_text(json.dumps(self.seconds), encoding="utf-8")
        return 0

    def outcome(self, mutant: Mutant, lines: dict[int, list[str]], items: list[pytest.Item]) -> str:
        """What becomes of one mutant."""
        first: set[str] = set()
        # what runs at import is touched by whoever runs anything of its function or module
        for start, end in (mutant.lines, mutant.body):
            first = first or {test for n, tests in lines.items() if start <= n <= end for test in tests if test}
        if not first:
            return UNTOUCHED
        # the module's own tests first, then the fast ones
        stem, cost = Path(mutant.module).stem, self.seconds
        work = sorted((i for i in items if i.nodeid in first), key=lambda i: (stem not in i.path.stem, cost[i.nodeid]))
        spent = accumulate(cost[item.nodeid] for item in work)
        work = [item for item, total in zip(work, spent, strict=True) if total < MOST]

        def run() -> int:
            try:
                install(mutant)
            except Exception:  # noqa: BLE001 - it cannot be imported, which any test notices
                return 1
            for item, following in zip(work, [*work[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            return 0

        code = in_a_copy(run, 15 + 3 * MOST)
        return {0: SURVIVED, 99: "error"}.get(code, KILLED)


def main() -> None:
    """Run a sample and print what survives."""
    parser = argparse.ArgumentParser(description="Which changes of the metrics and the statistics no test notices")
    parser.add_argument("size", nargs="?", type=int, default=600, metavar="N", help="mutants in the sample")
    parser.add_argument(
        "--only", default="", metavar="MODULE [FUNCTION]", help="every mutant of these, divided by commas"
    )
    given = parser.parse_args()
    os.chdir(ROOT)
    KEPT.mkdir(parents=True, exist_ok=True)
    runner = Runner(sample(given.size, given.only))
    flags = ("-s", "-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={KEPT / 'tmp'}")
    if code := pytest.main([*flags, *TESTS, *modules()], plugins=[runner]):
        sys.exit(int(code))
    listed = tomllib.loads((HERE / "survivors.toml").read_text(encoding="utf-8"))
    reasons = {name: reason for reason, names in listed.items() for name in names}
    print("| module | mutants | killed | survive with a reason | survive |\n|---|---|---|---|---|")
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for mutant in runner.chosen:
        for module in (mutant.module, "all"):
            rows[module][0] += 1
            rows[module][1 if runner.done[mutant.name] == KILLED else 2 if mutant.name in reasons else 3] += 1
    for module, counts in sorted(rows.items()):
        print(f"| {module} | " + " | ".join(map(str, counts)) + " |")
    open_ = [
        mutant.name for mutant in runner.chosen if runner.done[mutant.name] != KILLED and mutant.name not in reasons
    ]
    print("\n".join(["", *open_]))
    sys.exit(bool(open_))


if __name__ == "__main__":
    main()
