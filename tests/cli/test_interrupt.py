"""A run that is stopped in the middle, softly or by `kill -9`, and the same command again.

The runs are processes of their own, whose engine tells a file of each batch that it starts; those that will be stopped
then pause, so that there is a middle.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import command
import own_rows
import pytest

from rmeval.results import compared, read
from rmeval.samples import load

SPY = """
import os, time
from rmeval.engines.transformers import TransformersEngine
plain = TransformersEngine.run
def run(self, requests):
    with open(os.environ["BATCHES"], "a") as seen:
        seen.write(f"{len(requests)}\\n")
    time.sleep(float(os.environ["PAUSE"]))
    return plain(self, requests)
TransformersEngine.run = run
"""
ROWS = 80


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the suite, its rows and the spy."""
    folder = tmp_path_factory.mktemp("interrupt")
    own_rows.styles_suite(folder / "cards")
    own_rows.style_matrix(folder / "rows.json", ROWS)
    (folder / "sitecustomize.py").write_text(SPY)
    return folder


def heed_control_c() -> None:
    """A background shell has its children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Run:
    """`rmeval run TINY --suite styles` with its own results, batches and, if wished, another run's store."""

    def __init__(self, place: Path, model: Path, name: str, store: str | None = None) -> None:
        self.place, self.out, self.seen = place, place / name, place / f"{name}.batches"
        self.store = place / f"{store or name}.sqlite"
        self.arguments = [
            "run", str(model), "--suite", "styles", "--data", str(place / "rows.json"), "--out", str(self.out),
            "--store", str(self.store), "-a", "engine.batch_tokens=200",
        ]  # fmt: skip
        self.process: subprocess.Popen[str] | None = None

    def start(self, pause: float) -> None:
        self.process = subprocess.Popen(
            [*command.PROGRAM, *self.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=command.environment(
                RMEVAL_PATH=self.place / "cards",
                BATCHES=self.seen,
                PAUSE=pause,
                PYTHONPATH=self.place,
            ),
            preexec_fn=heed_control_c,  # noqa: PLW1509 - the tests start no threads
        )

    def stored(self) -> int:
        """Replies in the store."""
        if not self.store.exists():
            return 0
        with contextlib.closing(sqlite3.connect(self.store)) as db, contextlib.suppress(sqlite3.OperationalError):
            return db.execute("SELECT count(*) FROM replies").fetchone()[0]
        return 0

    def wait_for_the_middle(self) -> None:
        deadline = time.monotonic() + 120
        while self.stored() < ROWS:  # of six times as many
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def finish(self) -> command.Answer:
        out, err = self.process.communicate(timeout=120)
        return command.Answer(self.process.returncode, out, err)

    def batches(self) -> list[int]:
        """Requests of each batch that the engine started."""
        return [int(line) for line in self.seen.read_text().split()]

    def result(self) -> Path:
        [path] = self.out.rglob("*.json")
        return path


@pytest.fixture
def started():
    """Start runs that are surely ended with the test."""
    runs: list[Run] = []

    def start(run: Run, pause: float = 0.05) -> Run:
        run.start(pause)
        runs.append(run)
        return run

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
        run.process.communicate()


@pytest.mark.fault("F19")
def test_killed_in_the_middle_then_the_same_command(place, tiny_reward_model, started):
    killed = started(Run(place, tiny_reward_model, "killed"))
    undisturbed = started(Run(place, tiny_reward_model, "undisturbed"), pause=0)
    killed.wait_for_the_middle()
    killed.process.send_signal(signal.SIGKILL)
    assert killed.finish().code == -signal.SIGKILL
    assert undisturbed.finish().code == 0
    planned, before, kept = undisturbed.batches(), killed.batches(), killed.stored()
    assert not list(killed.out.rglob("*"))  # no result, and no half of one
    assert 10 < len(before) < len(planned)

    resumed = started(Run(place, tiny_reward_model, "resumed", store="killed"), pause=0)
    assert resumed.finish().code == 0
    after = resumed.batches()
    assert before + after[len(before) + len(after) - len(planned) :] == planned
    assert len(before) + len(after) - len(planned) <= 1  # at most one batch was computed twice
    whole, again = read(undisturbed.result()), read(resumed.result())
    assert again.counts.cached == kept == sum(planned) - sum(after)
    assert whole.counts.cached == 0
    assert compared(again) == compared(whole)
    files = [run.result().parent / read(run.result()).samples.file for run in (undisturbed, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(load(files[0], ROWS)) == ROWS


@pytest.mark.fault("F20", "F24")
def test_one_writer_per_run_and_a_soft_stop_says_how_to_resume(place, tiny_reward_model, started, monkeypatch):
    first = started(Run(place, tiny_reward_model, "first"))
    first.wait_for_the_middle()
    first.process.send_signal(signal.SIGSTOP)
    monkeypatch.setenv("RMEVAL_PATH", str(place / "cards"))
    second = command.rmeval(*Run(place, tiny_reward_model, "second", store="first").arguments)
    assert (second.code, second.stdout) == (5, "")
    assert f"is being written by process {first.process.pid} on" in second.stderr
    first.process.send_signal(signal.SIGCONT)
    first.process.send_signal(signal.SIGTERM)
    got = first.finish()
    assert (got.code, got.stdout) == (130, "")
    assert "resume with the same command:\n  rmeval run " in got.stderr
    assert "Traceback" not in got.stderr
    kept = first.stored()
    third = command.rmeval(*Run(place, tiny_reward_model, "third", store="first").arguments, "--json")
    assert third.code == 0
    assert third.document["counts"]["cached"] == kept


@pytest.mark.slow
@pytest.mark.fault("F20")
def test_control_c_says_how_to_resume(place, tiny_reward_model, started):
    run = started(Run(place, tiny_reward_model, "control-c"))
    run.wait_for_the_middle()
    run.process.send_signal(signal.SIGINT)
    got = run.finish()
    assert (got.code, got.stdout) == (130, "")
    assert "interrupted. What was scored is kept; resume with the same command:\n  rmeval run " in got.stderr
    assert "Traceback" not in got.stderr
    assert run.stored() >= ROWS
