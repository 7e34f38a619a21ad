"""SIGKILL at twenty moments of each long command, then the same command again: equal content, and hardly anything twice.

Each command runs in a copy of this process, so that the moments fall on its work and not on its start. Shown with `-s`.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import time
from pathlib import Path

import own_rows
import pytest
from command import rmeval
from faults.forks import command, killed_at_work, lines, log_to, say
from judge_server import JudgeServer, Says

from rmeval.locks import LOCK
from rmeval.results import compared, read
from rmeval.samples import load

pytestmark = [pytest.mark.slow]

MOMENTS = 20


def contents(out: Path) -> list[tuple[dict, bytes]]:
    """What is compared of each result below a folder, and the bytes of its samples."""
    found = []
    for path in out.rglob("*.json"):
        result = read(path)
        samples = path.parent / result.samples.file
        assert load(samples, result.samples.rows)
        found.append((compared(result), samples.read_bytes()))
    assert found
    return found


def content(out: Path) -> tuple[dict, bytes]:
    [one] = contents(out)
    return one


def rows(path: Path, n: int) -> Path:
    draw = random.Random(5)
    made = [
        {"id": f"p{i}", "prompt": f"question {i} ?", "chosen": f"right {own_rows.text(draw)}", "rejected": f"wrong {i}"}
        for i in range(n)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in made))
    return path


def tell(what: str, progress: list[str], repeated: list[int], of: int, unit: str) -> None:
    """One line of the table in docs/reliability.md."""
    twice = ", ".join(f"{n}: {repeated.count(n)} times" for n in sorted(set(repeated)))
    say(f"{what}: killed {len(repeated)} of {MOMENTS} at work, after {', '.join(progress)}")
    say(f"{what}: {unit} done twice of {of}: {twice}")
    assert len(repeated) == MOMENTS


@pytest.mark.fault("F19")
def test_run(tiny_reward_model, tmp_path, monkeypatch):
    from rmeval.engines.transformers import TransformersEngine

    plain = TransformersEngine.run
    seen = tmp_path / "batches"

    def spied(self, requests):
        log_to(seen, str(len(requests)))
        time.sleep(0.005)
        return plain(self, requests)

    monkeypatch.setattr(TransformersEngine, "run", spied)
    data = rows(tmp_path / "mine.jsonl", 60)

    def work(i):
        seen.unlink(missing_ok=True)
        return command(
            "run", tiny_reward_model, "--suite", "pairs", "--data", data, "--out", tmp_path / f"out-{i}",
            "--store", tmp_path / f"{i}.sqlite", "-a", "engine.batch_size=3",
        )  # fmt: skip

    work("warm")()
    planned = len(lines(seen))
    assert planned >= 30
    done, repeated = [], []
    for i, _ in killed_at_work(MOMENTS, work, tmp_path / "said", lambda _: seen.exists()):
        before = len(lines(seen))
        again = work(i)()
        assert again.code == 0, again.stderr
        # a kill after the result was written leaves it, and the rerun writes another
        assert all(one == content(tmp_path / "out-whole") for one in contents(tmp_path / f"out-{i}"))
        done.append(f"{before}")
        repeated.append(before + len(lines(seen)) - planned)
        assert repeated[-1] in (0, 1), (before, planned)
        assert not list((tmp_path / f"out-{i}").rglob("*.tmp"))
    tell("run", done, repeated, planned, "batches")


@pytest.mark.fault("F19", "F44")
def test_judge(tmp_path):
    data = rows(tmp_path / "mine.jsonl", 60)

    def judge(body):
        prompt = body["messages"][-1]["content"]
        time.sleep(random.Random(prompt).uniform(0, 0.02))
        return Says(f"So [[{'A' if prompt.index('right') < prompt.index('wrong') else 'B'}]]")

    with JudgeServer(judge) as server:

        def work(i):
            return command(
                "run", "judge:scripted", "--suite", "pairs", "--data", data, "--base-url", server.url,
                "--out", tmp_path / f"out-{i}", "--store", tmp_path / f"{i}.sqlite", "-a", "engine.concurrency=4",
            )  # fmt: skip

        def asked(i):
            server.calls.clear()
            return work(i)

        work("warm")()
        done, repeated = [], []
        for i, _ in killed_at_work(MOMENTS, asked, tmp_path / "said", lambda _: bool(server.calls)):
            time.sleep(0.05)  # what was under way at the server ends there
            before = len(server.calls)
            again = work(i)()
            assert again.code == 0, again.stderr
            done.append(f"{before}")
            repeated.append(len(server.calls) - 120)
            assert 0 <= repeated[-1] <= 4
            assert all(one == content(tmp_path / "out-whole") for one in contents(tmp_path / f"out-{i}"))
    tell("judge", done, repeated, 120, "calls")


@pytest.mark.fault("F19")
def test_train(tmp_path, monkeypatch):
    from safetensors.torch import load_file

    from rmeval.training.trainer import ShowProgress

    plain = ShowProgress.on_step_end
    seen = tmp_path / "steps"

    def spied(self, args, state, control, **more):
        log_to(seen, str(state.global_step))
        return plain(self, args, state, control, **more)

    monkeypatch.setattr(ShowProgress, "on_step_end", spied)
    flags = ("train", "orm", "--samples", 16, "--epochs", 4, "--save-steps", 5, "--no-verify-export", "--out")

    def work(i):
        seen.unlink(missing_ok=True)
        return command(*flags, tmp_path / f"out-{i}")

    work("warm")()
    planned = len(lines(seen))
    assert planned >= 12

    def state(out):
        return [json.loads(row) for row in (out / "train_log.jsonl").read_text().splitlines()], {
            k: v.tolist() for k, v in load_file(out / "model.safetensors").items()
        }

    done, repeated, how = [], [], []
    for i, _ in killed_at_work(MOMENTS, work, tmp_path / "said", lambda _: seen.exists()):
        out, before = tmp_path / f"out-{i}", len(lines(seen))
        ended = (out / "config.json").exists() and not (out / "checkpoints").exists()
        seen.unlink(missing_ok=True)
        again = rmeval("train", "orm", "--resume", out)
        how.append("resumed" if again.code == 0 else "ended" if "has ended" in again.stderr else "begun again")
        assert (how[-1] == "ended") == ended
        if how[-1] == "begun again":
            assert "no config.toml there" in again.stderr or "start again" in again.stderr, again.stderr
            again = rmeval(*flags, out)
            assert again.code == 0, again.stderr
        assert state(out) == state(tmp_path / "out-whole")
        assert sorted(tree(out)) == sorted(tree(tmp_path / "out-whole"))  # nothing lacks, no litter, no lock
        done.append(f"{before}")
        repeated.append(0 if ended else before + len(lines(seen)) - planned)
        assert 0 <= repeated[-1] <= 5
        shutil.rmtree(out)
    tell("train", done, repeated, planned, "steps")
    say(f"train: {', '.join(f'{how.count(one)} {one}' for one in sorted(set(how)))}")


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    for model in ("random", "length", "constant"):
        assert rmeval("run", model, "--suite", "arithmetic", "--out", out).code == 0
    return out


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_time(held: dict[str, bytes], *fields: str) -> dict:
    """Files, those that say when they were made without that."""
    found: dict = {}
    for name, raw in held.items():
        if name.endswith(("submission.json", "leaderboard.json")):
            found[name] = {k: v for k, v in json.loads(raw).items() if k not in fields}
        elif not name.endswith((".html", ".md")):
            found[name] = raw
        else:
            found[name] = len(raw)
    return found


@pytest.mark.fault("F21", "F55")
def test_submit(whole_runs, tmp_path):
    [result] = (whole_runs / "random").rglob("*.json")

    def work(i):
        return command("submit", result, "--by", "us", "--submissions", tmp_path / f"subs-{i}")

    work("warm")()
    whole = without_time(tree(tmp_path / "subs-warm"), "created")
    assert len(whole) == 3
    done = []

    def begun(i):
        folder = tmp_path / f"subs-{i}" / "random"
        return folder.exists() and any(folder.iterdir())

    for i, moment in killed_at_work(MOMENTS, work, tmp_path / "said", begun, early=0.4):
        there = [path for path in (tmp_path / f"subs-{i}").rglob("submission.json") if ".rmeval-" not in str(path)]
        done.append(f"{1000 * moment:.0f} ms ({'there' if there else 'written' if begun(i) else 'before'})")
        if there:  # whole, or not there
            assert rmeval("verify", there[0].parent).code == 0
        again = work(i)()
        assert again.code == 0, again.stderr
        assert without_time(tree(tmp_path / f"subs-{i}"), "created") == whole
    tell("submit", done, [0] * len(done), 1, "submissions")


@pytest.mark.fault("F21", "F55")
def test_board_build(whole_runs, tmp_path):
    few, many = (whole_runs / "random", whole_runs / "length"), (whole_runs,)

    def work(i, runs=many):
        return command(
            "leaderboard", "build", *runs, "--out", tmp_path / f"site-{i}", "--submissions", tmp_path / "none"
        )

    def changed(path):
        with contextlib.suppress(FileNotFoundError):  # drafts come and go
            return path.stat().st_mtime_ns
        return 0

    old = {}

    def over_an_old_one(i):
        assert work(i, few)().code == 0
        old[i] = max(changed(path) for path in (tmp_path / f"site-{i}").rglob("*"))
        return work(i)

    work("warm")()
    whole = without_time(tree(tmp_path / "site-warm"), "built")
    done = []

    def begun(i):
        files = [path for path in (tmp_path / f"site-{i}").rglob("*") if path.name != LOCK]
        return any(changed(path) > old[i] for path in files)

    for i, moment in killed_at_work(MOMENTS, over_an_old_one, tmp_path / "said", begun, early=0.4):
        for path in (tmp_path / f"site-{i}").rglob("*.html"):  # each page is the old one or the new one, whole
            assert path.read_text().rstrip().endswith("</html>")
        board = json.loads((tmp_path / f"site-{i}" / "leaderboard.json").read_text())
        entries = len(board["suites"][0]["entries"])
        assert entries in (2, 3)
        state = "the new one" if entries == 3 else "between" if begun(i) else "before"
        done.append(f"{1000 * moment:.0f} ms ({state})")
        again = work(i)()
        assert again.code == 0, again.stderr
        assert without_time(tree(tmp_path / f"site-{i}"), "built") == whole
    tell("board build", done, [0] * len(done), len(whole), "builds")
