"""A parser under fuzz: how its cases are made, what must hold for each, and how a run of many goes."""

from __future__ import annotations

import contextlib
import os
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
    share: float = 1.0
    """Of the cases of a run: less for what takes a hundred times as long, and whose parts are targets too."""


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


def fault_of(target: Target, case: str) -> tuple[str, float, bool]:
    """(what goes wrong, "" for nothing; seconds; whether the case was taken)."""
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


def run(target: Target, cases: int, seed: int = 0, seconds: float = float("inf")) -> Tally:
    """So many cases, or as many as fit into the seconds. What parsers say on stderr is not shown."""
    tally = Tally()
    before = signal.signal(signal.SIGVTALRM, _broken_off)
    start = time.perf_counter()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        for number in range(max(1, round(cases * target.share))):
            case = target.make(random.Random(f"{target.name} {seed} {number}"))
            signal.setitimer(signal.ITIMER_VIRTUAL, HANGS)
            why, took, taken = fault_of(target, case)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            tally.cases += 1
            tally.taken += taken
            if took > tally.slowest:
                tally.slowest, tally.slowest_case = took, case
            if why and len(case) < len(tally.found.get(why, case + " ")):
                tally.found[why] = case
            if time.perf_counter() - start > seconds:
                break
    signal.signal(signal.SIGVTALRM, before)
    tally.seconds = time.perf_counter() - start
    return tally


def _broken_off(*_: object) -> None:
    raise Hangs


def smaller(target: Target, case: str, why: str, tries: int = 2000) -> str:
    """A shorter case of the same fault: stretches are left out as long as it stays."""
    step = max(1, len(case) // 2)
    while step and tries > 0:
        at = 0
        while at < len(case) and tries > 0:
            tries -= 1
            shorter = case[:at] + case[at + step :]
            if fault_of(target, shorter)[0] == why:
                case = shorter
            else:
                at += step
        step //= 2
    return case
