"""`rmeval ...` as a person types it: inside this process, where it is fast, or in a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = (sys.executable, "-m", "rmeval")


@dataclass(frozen=True)
class Answer:
    """What a command left: its exit code, the answer and the progress."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """stdout, which must be exactly one JSON document."""
        return json.loads(self.stdout)


def rmeval(*arguments: object) -> Answer:
    """The command line's own `main`, in this process. A traceback of ours is raised, as it would be shown."""
    from rmeval.cli import main

    argv, handlers = sys.argv, {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["rmeval", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        return Answer(int(end.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv = argv
        for number, handler in handlers.items():
            signal.signal(number, handler)
    raise AssertionError("main always ends with an exit code")


def environment(**more: object) -> dict[str, str]:
    """The environment of a process of its own: `PYTHONPATH` first, and this checkout importable from every folder."""
    paths = [str(more.pop("PYTHONPATH", "")), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, **{k: str(v) for k, v in more.items()}, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def rmeval_process(*arguments: object, cwd: Path | None = None, **env: object) -> Answer:
    """`python -m rmeval` in a process of its own."""
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True, encoding="utf-8", cwd=cwd, env=environment(**env), timeout=240, check=False,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr)
