"""Judging for a long time by a server that goes wrong at random: python -m benchmarks.soak [SECONDS] [CONCURRENCY].

A process of its own answers in every way that a server can go wrong; ours asks, through the runner and a store as a run
does. Per half minute one line: calls, replies acknowledged, rows stored, missing by reason, memory. It ends with exit 1
unless every reply that was acknowledged is stored, no other row is, every request came back once, and memory is flat.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent / "tests"
SECONDS, CONCURRENCY, WAVE, EVERY = 900, 16, 500, 30.0
FLAT = 24 * 2**20
"""Bytes that the process may grow by between the end of its first fifth and its end."""

FAULTS = {  # share of the calls
    "HTTP 429": 0.05, "HTTP 500": 0.03, "HTTP 503": 0.02, "torn JSON": 0.02, "no choices": 0.01, "HTML": 0.01,
    "hangs": 0.005, "breaks": 0.02, "refusal": 0.02, "empty": 0.02, "too long": 0.02,
}  # fmt: skip


@dataclass
class Soaked:
    """What a soak came to."""

    seconds: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    acknowledged: int = 0
    stored: int = 0
    wrong: int = 0
    """Stored rows that differ from what was acknowledged."""
    attempts: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    grown: int = 0
    """Bytes since the end of the first fifth."""

    @property
    def sound(self) -> bool:
        """Whether nothing was lost, made up or leaked."""
        told = self.acknowledged + sum(self.missing.values())
        return self.acknowledged == self.stored and not self.wrong and told == self.asked and self.grown < FLAT


def serve() -> None:
    """Answer until standard input closes."""
    sys.path.insert(0, str(TESTS))
    from judge_server import Breaks, Hangs, JudgeServer, Raw, Says, Status

    draw = random.Random(0)
    made = {
        "HTTP 429": Status(429, {"message": "slow down"}, {"Retry-After": "0.05"}),
        "HTTP 500": Status(500, {"message": "oops"}),
        "HTTP 503": Status(503, "<html>busy [[A]]</html>"),
        "torn JSON": Raw('{"choices": [{"message": {"content": "[[A]]'),
        "no choices": Raw('{"choices": []}'),
        "HTML": Raw("<html>[[A]]</html>", "text/html"),
        "hangs": Hangs(5),
        "breaks": Breaks(),
        "refusal": Says(None, refusal="I will not."),
        "empty": Says(""),
        "too long": Status(400, {"code": "context_length_exceeded"}),
    }

    def answer(body: dict[str, Any]) -> Any:
        [kind] = draw.choices(["right", *FAULTS], [1 - sum(FAULTS.values()), *FAULTS.values()])
        server.calls.clear()  # it would keep them all
        return made.get(kind) or Says(f"about {body['messages'][-1]['content']}: [[A]]")

    with JudgeServer(answer, latency=0.02) as server:
        print(server.url, flush=True)
        sys.stdin.read()


def soak(seconds: float = SECONDS, concurrency: int = CONCURRENCY, *, wave: int = WAVE, out: Any = None) -> Soaked:
    """Ask for so long; lines go to `out` as they come."""
    from rmeval import runner
    from rmeval.engines.openai import OpenAIEngine
    from rmeval.store import Store, fingerprint_digest, request_key
    from rmeval.types import Chat, Message, Request, Sampling

    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    found, start, settled, shown = Soaked(seconds), time.monotonic(), 0, 0.0
    try:
        engine = OpenAIEngine(
            model="scripted", base_url=server.stdout.readline().strip(), concurrency=concurrency,
            timeout=1.0, backoff=0.01, attempts=5,
        )  # fmt: skip
        digest = fingerprint_digest(engine.fingerprint())
        with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "replies.db") as store:
            while (now := time.monotonic() - start) < seconds:
                requests = [
                    Request((Chat((Message("user", f"pair {n}"),)),), at="next", read="text", sampling=Sampling())
                    for n in range(found.asked, found.asked + wave)
                ]
                replies, counts = runner.ask(requests, engine, store, title="soak")
                found.asked += len(requests)
                found.attempts += counts.attempts
                found.missing.update(reply.reason for reply in replies.values() if reply.reason)
                right = {request: reply for request, reply in replies.items() if reply.reason is None}
                found.acknowledged += len(right)
                keys = {request_key(request, digest): reply for request, reply in right.items()}
                held = store.get(list(keys))
                found.wrong += sum(held.get(key) != reply for key, reply in keys.items())
                found.wrong += sum(
                    reply.text != f"about {request.parts[0].messages[0].content}: [[A]]"
                    for request, reply in right.items()
                )
                with closing(sqlite3.connect(store.path)) as db:
                    [(found.stored,)] = db.execute("SELECT count(*) FROM replies").fetchall()
                memory = resident()
                if now < seconds / 5 or not settled:
                    settled = memory
                found.grown = memory - settled
                if now - shown >= EVERY or not found.rows:
                    shown = now
                    found.rows.append(_row(now, found, memory))
                    if out is not None:
                        print(_line(found.rows[-1]), file=out, flush=True)
            found.seconds = time.monotonic() - start
            found.rows.append(_row(found.seconds, found, resident()))
            if out is not None:
                print(_line(found.rows[-1]), file=out, flush=True)
    finally:
        server.stdin.close()
        server.terminate()
        server.wait()
        server.stdout.close()
    return found


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _row(now: float, found: Soaked, memory: int) -> dict[str, Any]:
    return {
        "seconds": round(now), "asked": found.asked, "calls": found.attempts, "acknowledged": found.acknowledged,
        "stored": found.stored, "missing": dict(sorted(found.missing.items())), "MiB": round(memory / 2**20, 1),
    }  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    missing = ", ".join(f"{n} {reason}" for reason, n in row["missing"].items())
    return (
        f"{row['seconds']:5} s  {row['asked']:7} asked  {row['calls']:7} calls  {row['acknowledged']:7} acknowledged  "
        f"{row['stored']:7} stored  {row['MiB']:7} MiB  missing: {missing}"
    )


def main() -> None:
    """Soak and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("seconds", nargs="?", type=float, default=SECONDS)
    parser.add_argument("concurrency", nargs="?", type=int, default=CONCURRENCY)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
        return
    found = soak(given.seconds, given.concurrency, out=sys.stdout)
    print(f"{'sound' if found.sound else 'NOT SOUND'}: grown by {found.grown / 2**20:.1f} MiB, {found.wrong} wrong")
    print(json.dumps({"rows": found.rows}), file=sys.stderr)
    sys.exit(not found.sound)


if __name__ == "__main__":
    main()
