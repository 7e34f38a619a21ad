"""A parser under fuzz: how its cases are made, what must hold for each, and how a run of many goes."""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rmeval.errors import UsageError

MOST_SECONDS = 1.0
"""Of processor time for one case."""
MOST_MESSAGE = 10_000
"""Characters of a refusal."""
HANGS = 30.0
"""Seconds of processor time after which a case is broken off."""

REFUSED = object()


@dataclass(frozen=True)
class Target:
    """One parser."""

    name: str
    make: Callable[[random.Random], str]
    """A case, from a generator."""
    check: Callable[[str], bool]
    """Reads a case, True where it is taken. `AssertionError` and whatever else it raises is a fault."""
    forked: bool = False
    """Whether a long run makes its cases in processes of their own: what reads them is no Python, and may crash."""


def attempt(call: Callable[..., Any], *given: Any, refuses: tuple[type[Exception], ...] = (UsageError,)) -> Any:
    """What a call returns, or `REFUSED` where it refuses what it is given as it should: in our own words, in short."""
    try:
        return call(*given)
    except refuses as fault:
        said = str(fault)
        assert said.strip(), "refused without a word"
        assert len(said) <= MOST_MESSAGE, "refused at great length"
        return REFUSED


class Hangs(BaseException):
    """A case that does not end; no `Exception`, so that nothing on the way takes it for its own."""


@dataclass
class Tally:
    """How a run went."""

    cases: int = 0
    taken: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    slowest_case: str = ""
    found: dict[str, str] = field(default_factory=dict)
    """What went wrong, in short -> the shortest case of it."""

    def seen(self, took: float, case: str) -> None:
        """How long a case took."""
        if took > self.slowest:
            self.slowest, self.slowest_case = took, case

    def add(self, why: str, case: str) -> None:
        """A fault."""
        if len(case) < len(self.found.get(why, case + " ")):
            self.found[why] = case

    def take(self, part: Tally) -> None:
        """The cases of another run."""
        self.cases += part.cases
        self.taken += part.taken
        self.seen(part.slowest, part.slowest_case)
        for why, case in part.found.items():
            self.add(why, case)


def fault_of(target: Target, case: str) -> tuple[str, float, bool]:
    """(what goes wrong, "" for nothing; seconds; whether the case was taken).

    What takes too long is tried again: a neighbour on the machine, or a collection of garbage, may have taken it.
    """
    found = _tried(target, case)
    return _tried(target, case) if found[0] == "slow" else found


def _tried(target: Target, case: str) -> tuple[str, float, bool]:
    begun = time.process_time()
    taken, why = False, ""
    try:
        taken = target.check(case)
    except KeyboardInterrupt:
        raise
    except BaseException as fault:  # noqa: BLE001 - any of them is what is looked for
        why = f"{type(fault).__name__}: {_place(fault)}"
    seconds = time.process_time() - begun
    if not why and seconds > MOST_SECONDS:
        why = "slow"
    return why, seconds, taken


def _place(fault: BaseException) -> str:
    """Where it was raised, by the innermost of our own functions."""
    frames, trace = [], fault.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "rmeval/" in code.co_filename or "fuzz" in code.co_filename:
            frames.append(f"{code.co_filename.rpartition('rmeval/')[2].rpartition('tests/')[2]} {code.co_name}")
        trace = trace.tb_next
    said = str(fault) if isinstance(fault, AssertionError) else ""
    return f"{frames[-1] if frames else '?'}{': ' if said else ''}{said[:80]}"


def run(
    target: Target, cases: int | range, seed: int = 0, seconds: float = float("inf"), at: mmap.mmap | None = None
) -> Tally:
    """So many cases, or those of a range, or as many as fit into the seconds. What parsers say on stderr is not shown.

    `at` is told the number of each case before it is read.
    """
    tally = Tally()
    before = signal.signal(signal.SIGVTALRM, _broken_off)
    start = time.perf_counter()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        for number in range(cases) if isinstance(cases, int) else cases:
            if at is not None:
                at[:8] = number.to_bytes(8, "little")
            case = _case(target, seed, number)
            signal.setitimer(signal.ITIMER_VIRTUAL, HANGS)
            why, took, taken = fault_of(target, case)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            tally.cases += 1
            tally.taken += taken
            tally.seen(took, case)
            if why:
                tally.add(why, case)
            if time.perf_counter() - start > seconds:
                break
    signal.signal(signal.SIGVTALRM, before)
    tally.seconds = time.perf_counter() - start
    return tally


BATCH = 5000
"""Cases that one process makes."""


def run_in_forks(target: Target, cases: int, seed: int = 0, seconds: float = float("inf")) -> Tally:
    """The same in processes of their own: a case that kills its process is a fault, and the run goes on after it."""
    tally = Tally()
    start = time.perf_counter()
    left = [range(first, min(first + BATCH, cases)) for first in reversed(range(0, cases, BATCH))]
    while left and time.perf_counter() - start < seconds:
        part = left.pop()
        made, killer, died = _forked(target, part, seed)
        if made is not None:
            tally.take(made)
            continue
        tally.cases += 1
        tally.add(died, _case(target, seed, killer))
        # what came before it is not known any more
        left += [one for one in (range(killer + 1, part.stop), range(part.start, killer)) if one]
    tally.seconds = time.perf_counter() - start
    return tally


def _case(target: Target, seed: int, number: int) -> str:
    return target.make(random.Random(f"{target.name} {seed} {number}"))


def _forked(target: Target, part: range, seed: int) -> tuple[Tally | None, int, str]:
    """(what came of the cases, None where the process died; the case that it died of; how)."""
    at = mmap.mmap(-1, 8)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        left = 1
        try:
            with os.fdopen(writing, "wb") as to_parent:
                to_parent.write(pickle.dumps(run(target, part, seed, at=at)))
            left = 0
        finally:
            os._exit(left)
    os.close(writing)
    with os.fdopen(reading, "rb") as from_child:
        said = from_child.read()
    _, status = os.waitpid(child, 0)
    if status == 0:
        return pickle.loads(said), 0, ""
    died = f"killed by {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else "left"
    return None, int.from_bytes(at[:8], "little"), died


def _broken_off(*_: object) -> None:
    raise Hangs


def smaller(target: Target, case: str, why: str, tries: int = 2000, seconds: float = 30.0) -> str:
    """A shorter case of the same fault: stretches are left out as long as it stays, and there is time."""
    if why.startswith("Hangs"):
        return case  # each try would take half a minute
    step = max(1, len(case) // 2)
    end = time.perf_counter() + seconds
    while step and tries > 0:
        at = 0
        while at < len(case) and tries > 0 and time.perf_counter() < end:
            tries -= 1
            shorter = case[:at] + case[at + step :]
            if fault_of(target, shorter)[0] == why:
                case = shorter
            else:
                at += step
        step //= 2
    return case
