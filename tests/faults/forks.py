"""A command in a copy of this process, so that it can be killed, limited and watched without the seconds of a start.

The copy has everything imported that this process has; it leaves by `os._exit`, so that no test goes on in it twice.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from command import Answer, rmeval

from rmeval import whole_files


class Forked:
    """`work` in a copy of this process; what it says and its exit code land in files below `folder`."""

    def __init__(self, work: Callable[[], Answer], folder: Path, *, file_limit: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.said = folder / f"said-{time.monotonic_ns()}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads; they stand still
            self.pid = os.fork()
        if self.pid:
            return
        try:
            if file_limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
            answer = work()
            self.said.write_text(answer.stdout + answer.stderr)
            os._exit(answer.code)
        except BaseException:  # noqa: BLE001 - whatever it is, no test goes on in the copy
            self.said.write_text(traceback.format_exc())
            os._exit(99)

    def wait(self) -> int:
        """The exit code; negative for the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill_after(self, seconds: float) -> float | None:
        """SIGKILL after some seconds; None where it came so far, else after how many seconds it had ended by itself."""
        start = time.monotonic()
        while (lived := time.monotonic() - start) < seconds:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                assert os.waitstatus_to_exitcode(status) == 0, self.output
                return lived
            time.sleep(min(0.001, seconds - lived))
        os.kill(self.pid, signal.SIGKILL)
        return None if self.wait() == -signal.SIGKILL else lived

    @property
    def output(self) -> str:
        return self.said.read_text() if self.said.exists() else ""


def command(*arguments: object, before: Callable[[], None] = lambda: None) -> Callable[[], Answer]:
    """`rmeval ...` as work for a copy, which does something first, such as to patch itself."""

    def work() -> Answer:
        whole_files._looked_at.clear()  # a process of its own has looked at no folder yet
        before()
        return rmeval(*arguments)

    return work


def log_to(path: Path, what: str) -> None:
    """One line at the end of a file, in one system call, so that a kill leaves a whole line or none."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{what}\n".encode())
    os.close(handle)


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def killed_at_work(
    n: int,
    work: Callable[[str], Callable[[], Answer]],
    folder: Path,
    begun: Callable[[str], bool],
    early: float = 0.1,
) -> Iterator[tuple[str, float]]:
    """(name, second) of n commands killed at seeded moments: a share of them `early`, before the work has `begun`.

    The others are spread over the seconds from there to the end of an undisturbed one, the first that is run. A command
    that had ended when its moment came does not count: its moment is drawn again, over the seconds that it took.
    `work(name)` is the command that writes to a place of that name; the undisturbed one's is `whole`. The second is
    counted from the start, or from where the work had begun.
    """

    def until_begun(one: Forked, name: str) -> float:
        start = time.monotonic()
        while not begun(name):
            assert os.waitpid(one.pid, os.WNOHANG)[0] == 0, one.output
            time.sleep(0.001)
        return time.monotonic() - start

    draw = random.Random(0)
    one = Forked(work("whole"), folder)
    spans, start = {True: until_begun(one, "whole")}, time.monotonic()
    assert one.wait() == 0, one.output
    spans[False] = time.monotonic() - start
    first = round(early * n)
    for i in range(n):
        before = i < first
        place, of = (i, first) if before else (i - first, n - first)
        for attempt in range(50):
            name = f"{i}.{attempt}"
            one = Forked(work(name), folder)
            if not before:
                until_begun(one, name)
            moment = spans[before] * (place + draw.random()) / of
            if (lived := one.kill_after(moment)) is None:
                yield name, moment
                break
            spans[before] = lived
        else:
            raise AssertionError("it ends faster than it can be killed")


def say(text: str) -> None:
    """A line that shows with `pytest -s` and beside a failure."""
    print(text, file=sys.stderr)
