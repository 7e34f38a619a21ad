"""Every command that writes or takes long, under every fault of the process and the disk: no traceback, no half of a file.

Each runs in a copy of this process. What it would have written is there after the same command again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import own_rows
import pytest
from command import Answer, rmeval
from faults.forks import Forked, command, lines, log_to
from judge_server import JudgeServer, Says

pytestmark = [pytest.mark.slow]


@dataclass(frozen=True)
class Made:
    """What the commands work on."""

    folder: Path
    result: Path
    parts: tuple[Path, Path]
    counts: Path
    pool: Path
    responses: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    for model in ("random", "length"):
        assert rmeval("run", model, "--suite", "arithmetic", "--out", folder / "results").code == 0
    [result] = (folder / "results" / "random").rglob("*.json")
    for i in (1, 2):
        data = own_rows.pairs(folder / "mine.jsonl", 300)
        shard = ("--shard", f"{i}/2", "--out", folder / f"part{i}")
        assert rmeval("run", "length", "--suite", "pairs", "--data", data, *shard).code == 0
    parts = tuple(next((folder / f"part{i}").rglob("*.json")) for i in (1, 2))
    steps = [f"step {i} of many words that fill the file" for i in range(3)]
    rows = [{"id": f"{i}", "prompt": f"q {i}", "steps": steps, "counts": [[3, 4], [2, 4], [1, 4]]} for i in range(60)]
    counts = folder / "counts.jsonl"
    counts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [f"an answer of some words, number {i}" for i in range(4)]
    rows = [
        {
            "id": f"{i}",
            "prompt": f"q {i}",
            "completions": answers,
            "rewards": [1.0, 0.5, 0.2, 0.1],
            "gold": [1, 1, 0, 0],
        }
        for i in range(60)
    ]
    pool = folder / "pool.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    responses = folder / "responses.jsonl"
    responses.write_text(
        "".join(json.dumps({"id": row["id"], "prompt": row["prompt"], "responses": answers}) + "\n" for row in rows)
    )
    return Made(folder, result, parts, counts, pool, responses)


COMMANDS: dict[str, Callable[[Made, Path], tuple[object, ...]]] = {
    "run": lambda made, out: ("run", "length", "--suite", "arithmetic", "--out", out),
    "merge": lambda made, out: ("merge", *made.parts, "--out", out),
    "rescore": lambda made, out: ("rescore", made.result, "-a", "metric.ties=win", "--out", out),
    "submit": lambda made, out: ("submit", made.result, "--submissions", out),
    "board build": lambda made, out: (
        *("leaderboard", "build", made.folder / "results", "--out", out, "--submissions", out / "none", "--no-cache"),
        *("--jobs", 1),
    ),
    "label mc": lambda made, out: ("label", "mc", made.counts, "-o", out / "labels.jsonl"),
    "probe rejection": lambda made, out: (
        *("probe", "rejection", made.pool, "--export", out / "kept.jsonl", "--out", out),
    ),
    "score": lambda made, out: ("score", "length", made.responses, "-o", out / "scores.jsonl"),
    "report": lambda made, out: ("report", made.result, "-o", out / "page.html"),
    "export": lambda made, out: ("export", made.result, "--to", "csv", "-o", out / "table.csv"),
    "train": lambda made, out: (
        *("train", "orm", "--samples", 16, "--epochs", 1, "--save-steps", 4, "--no-verify-export", "--out", out),
    ),
}
ALL = pytest.mark.parametrize("name", COMMANDS)


def files(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def whole(name: str, given: tuple[object, ...], out: Path) -> None:
    """The command once more (a run of training by its own way of going on), and nothing of it is litter."""
    again = rmeval(*given)
    if name == "train" and "--resume" in again.stderr:
        again = rmeval("train", "orm", "--resume", out)
    assert again.code == 0, again.stderr
    assert files(out)
    assert not [one for one in files(out) if one.endswith((".tmp", ".lock", ".part"))]


@pytest.mark.fault("F22")
@ALL
def test_a_full_disk(name, made, tmp_path):
    out = tmp_path / "out"
    given = COMMANDS[name](made, out)
    full = Forked(command(*given), tmp_path / "said", file_limit=1_000)
    assert full.wait() == 4, full.output
    assert re.search("free (some )?space and run the same command again", full.output)
    assert "Traceback" not in full.output
    left = files(out) if out.exists() else set()
    # what was small enough may be there whole; no draft, and nothing that says that all is there
    assert not [one for one in left if one.endswith((".tmp", ".lock"))]
    assert not {"config.json", "leaderboard.json", "labels.jsonl", "scores.jsonl", "page.html"} & left
    assert not [one for one in left if one.endswith("submission.json")]
    whole(name, given, out)


@pytest.mark.fault("F22")
@pytest.mark.parametrize("room", [20_000, 60_000, 120_000])
def test_a_disk_that_is_full_when_a_checkpoint_is_written(made, tmp_path, room):
    """Weights, the state of the optimizer and the tokenizer are written by libraries, each with errors of its own."""
    out = tmp_path / "out"
    given = COMMANDS["train"](made, out)
    full = Forked(command(*given), tmp_path / "said", file_limit=room)
    assert full.wait() == 4, full.output
    assert "the disk is full" in full.output
    assert "Traceback" not in full.output
    assert not (out / "config.json").exists()
    whole("train", given, out)


@pytest.mark.fault("F22")
def test_a_disk_that_is_full_takes_no_half_of_a_line(made, tmp_path):
    file = tmp_path / "verified.jsonl"
    given = ("verify", made.result, "--reproduce", 60, "--record", file)
    assert rmeval(*given).code == 0
    whole_line = file.read_bytes()
    full = Forked(command(*given), tmp_path / "said", file_limit=len(whole_line) + 100)
    assert full.wait() == 4, full.output
    assert file.read_bytes() == whole_line
    assert rmeval(*given).code == 0
    assert len(file.read_bytes().splitlines()) == 2


@pytest.mark.fault("F22")
@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_is_written_to_and_no_file_takes_its_place(made, device):
    ended = rmeval("score", "length", made.responses, "-o", device)
    assert ended.code == (0 if device == "/dev/null" else 4), ended.stderr
    assert Path(device).is_char_device()


@pytest.mark.fault("F23")
@ALL
def test_a_file_where_the_folder_should_be(name, made, tmp_path):
    (tmp_path / "file").write_text("mine")
    place = tmp_path / "file" / "out"
    blocked = Forked(command(*COMMANDS[name](made, place)), tmp_path / "said")
    assert blocked.wait() == 2, blocked.output
    assert str(tmp_path / "file") in blocked.output
    assert "Traceback" not in blocked.output
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.fault("F28")
@ALL
def test_no_memory_left(name, made, tmp_path):
    """The first array, page or row that does not fit."""

    def exhausted() -> None:
        import rmeval.whole_files
        from rmeval.training.run import _Run

        def none(*_: object, **__: object) -> None:
            raise MemoryError

        rmeval.whole_files.secrets.token_hex = none
        _Run.train = none

    out = tmp_path / "out"
    given = COMMANDS[name](made, out)
    ended = Forked(command(*given, before=exhausted), tmp_path / "said")
    assert ended.wait() == 4, ended.output
    assert "out of memory" in ended.output
    assert "Traceback" not in ended.output
    assert not out.exists() or not files(out)


# --- signals ---------------------------------------------------------------------------------------------------------


def stopped_in_the_middle(work: Callable[[], Answer], begun: Callable[[], bool], folder: Path) -> Forked:
    """A copy that got SIGTERM once its work had begun."""
    one = Forked(work, folder)
    until = time.monotonic() + 120
    while not begun():
        assert time.monotonic() < until
        time.sleep(0.002)
    os.kill(one.pid, signal.SIGTERM)
    return one


@pytest.mark.fault("F20")
@pytest.mark.parametrize("saved", [True, False])
def test_sigterm_while_training(tmp_path, monkeypatch, saved):
    from rmeval.training.trainer import ShowProgress

    plain, seen = ShowProgress.on_step_end, tmp_path / "steps"

    def spied(self, args, state, control, **more):
        log_to(seen, "one")
        time.sleep(0.02)
        return plain(self, args, state, control, **more)

    monkeypatch.setattr(ShowProgress, "on_step_end", spied)
    out = tmp_path / "out"
    every = 2 if saved else 500
    given = ("train", "orm", "--samples", 16, "--epochs", 4, "--save-steps", every, "--no-verify-export", "--out", out)
    stopped = stopped_in_the_middle(command(*given), lambda: len(lines(seen)) >= 6, tmp_path / "said")
    assert stopped.wait() == 130, stopped.output
    assert "Traceback" not in stopped.output
    if saved:
        assert f"go on with: rmeval train orm --resume {out}" in stopped.output
    else:
        assert "nothing was saved yet: the same command begins again" in stopped.output
    assert not (out / "config.json").exists()
    monkeypatch.undo()
    again = rmeval("train", "orm", "--resume", out) if saved else rmeval(*given)
    assert again.code == 0, again.stderr
    assert (out / "config.json").exists()
    assert not (out / ".rmeval.lock").exists()


@pytest.mark.fault("F20")
def test_sigterm_while_a_judge_is_asked(tmp_path):
    data = own_rows.pairs(tmp_path / "mine.jsonl", 40)

    def judge(body):
        time.sleep(0.02)
        return Says("[[A]]")

    with JudgeServer(judge) as server:
        given = (
            *("run", "judge:scripted", "--suite", "pairs", "--data", data, "--base-url", server.url),
            *("--out", tmp_path / "out", "--store", tmp_path / "s.sqlite", "-a", "engine.concurrency=4"),
        )
        stopped = stopped_in_the_middle(command(*given), lambda: len(server.calls) >= 10, tmp_path / "said")
        assert stopped.wait() == 130, stopped.output
        assert "resume with the same command" in stopped.output
        assert "Traceback" not in stopped.output
        time.sleep(0.1)
        before = len(server.calls)
        again = rmeval(*given, "--json")
        assert again.code == 0, again.stderr
        assert len(server.calls) <= 80 + 4
        assert again.document["counts"]["cached"] >= before - 4


@pytest.mark.fault("F20")
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("train", "run")])
def test_sigterm_at_a_write(name, made, tmp_path):
    """Where the work is over in a moment: as the first file is about to get its name."""

    def interrupted() -> None:
        import rmeval.whole_files

        plain = rmeval.whole_files.Path.replace

        def stop(self, target):
            rmeval.whole_files.Path.replace = plain
            os.kill(os.getpid(), signal.SIGTERM)
            return plain(self, target)

        rmeval.whole_files.Path.replace = stop

    out = tmp_path / "out"
    given = COMMANDS[name](made, out)
    ended = Forked(command(*given, before=interrupted), tmp_path / "said")
    assert ended.wait() == 130, ended.output
    assert "Traceback" not in ended.output
    left = files(out) if out.exists() else set()
    assert not [one for one in left if one.endswith((".tmp", ".lock"))]
    whole(name, given, out)


# --- two at once -----------------------------------------------------------------------------------------------------


@pytest.mark.fault("F24", "F25")
@pytest.mark.parametrize("name", ["board build", "train"])
def test_two_at_one_folder(name, made, tmp_path):
    from rmeval.locks import LOCK, locked

    out = tmp_path / "out"
    given = COMMANDS[name](made, out)
    with locked(out / LOCK, "what is there"):
        second = Forked(command(*given), tmp_path / "said")
        assert second.wait() == 5, second.output
        assert f"what is there is being written by process {os.getpid()}" in second.output
        assert files(out) == {LOCK}
    gone = Forked(lambda: Answer(0, "", ""), tmp_path / "said")
    gone.wait()
    with locked(out / LOCK, "what is there"):
        held = json.loads((out / LOCK).read_text())
    (out / LOCK).write_text(json.dumps({**held, "pid": gone.pid}))  # as a kill leaves it
    taken = Forked(command(*given), tmp_path / "said")
    assert taken.wait() == 0, taken.output
    assert f"took over the lock of process {gone.pid}" in taken.output
    assert LOCK not in files(out)


# --- readers that leave ----------------------------------------------------------------------------------------------


def without_readers(arguments: tuple[object, ...], folder: Path, *, errors: bool = False) -> Forked:
    """A copy whose stdout is a pipe that nobody reads, unbuffered; its stderr too where `errors`, else a file."""

    def work() -> Answer:
        from rmeval.cli import main

        reading, writing = os.pipe()
        os.close(reading)
        said = writing if errors else os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(writing, 1)
        os.dup2(said, 2)
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.argv = ["rmeval", *map(str, arguments)]
        try:
            main()
        except SystemExit as end:
            sys.stdout.flush()  # as Python does at its end; what fails here would be a fault there
            sys.stderr.flush()
            return Answer(int(end.code or 0), "", "")
        raise AssertionError("main always ends with an exit code")

    folder.mkdir(exist_ok=True)
    return Forked(work, folder)


PRINTING: dict[str, Callable[[Made], tuple[object, ...]]] = {
    "list": lambda made: ("list",),
    "list --json": lambda made: ("list", "suites", "--json"),
    "show": lambda made: ("show", "arithmetic"),
    "show --examples": lambda made: ("show", "arithmetic", "--examples", "--json"),
    "schema": lambda made: ("schema", "result"),
    "compare": lambda made: ("compare", made.result, made.result),
    "rescore": lambda made: ("rescore", made.result, "--json"),
    "verify": lambda made: ("verify", made.result),
    "score": lambda made: ("score", "length", made.responses),
    "data show": lambda made: ("data", "show", made.folder / "mine.jsonl"),
    "data lint": lambda made: ("data", "lint", made.folder / "mine.jsonl"),
    "data stats": lambda made: ("data", "stats", made.folder / "mine.jsonl"),
    "probe bias": lambda made: ("probe", "bias", made.result),
    "probe best-of-n": lambda made: ("probe", "best-of-n", made.pool),
    "probe rejection": lambda made: ("probe", "rejection", made.pool),
    "train --help": lambda made: ("train", "orm", "--help"),
    "check": lambda made: ("check", "length"),
}


@pytest.mark.fault("F30")
@pytest.mark.parametrize("name", PRINTING)
def test_a_reader_that_has_left_before_the_answer(name, made, tmp_path):
    ended = without_readers(PRINTING[name](made), tmp_path / "said")
    code = ended.wait()
    assert code in (0, 2) if name in ("check", "data lint") else code == 0, ended.output
    assert "Traceback" not in (tmp_path / "said" / "stderr").read_text()


@pytest.mark.fault("F30")
@ALL
def test_what_is_written_is_there_whoever_reads(name, made, tmp_path):
    out = tmp_path / "out"
    ended = without_readers(COMMANDS[name](made, out), tmp_path / "said", errors=True)
    assert ended.wait() == 0, ended.output
    assert files(out)
    assert not [one for one in files(out) if one.endswith((".tmp", ".lock"))]
    if name == "train":
        assert "config.json" in files(out)
    if name == "board build":
        assert "leaderboard.json" in files(out)


@pytest.mark.fault("F30")
@pytest.mark.parametrize("how", [(), ("--json",)])
def test_a_fault_keeps_its_exit_code_without_a_reader(made, tmp_path, how):
    ended = without_readers(("list", "nonsense", *how), tmp_path / "said", errors=True)
    assert ended.wait() == 2, ended.output
    given = ("--suite", "pairs", "--data", made.folder / "mine.jsonl", "--out", tmp_path / "out", *how)
    (tmp_path / "few.jsonl").write_text('{"id": "p0", "scores": [1, 0]}\n')
    ended = without_readers(("run", f"replay:{tmp_path / 'few.jsonl'}", *given), tmp_path / "said", errors=True)
    assert ended.wait() == 3, ended.output
