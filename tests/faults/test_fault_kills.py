"""SIGKILL at twenty moments of each long command, then the same command again: equal content, and hardly anything twice.

Each command runs in a copy of this process, so that the moments fall on its work and not on its start. Shown with `-s`.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path

import own_rows
import pytest
from command import rmeval
from faults.forks import Forked, command, lines, log_to, moments, say
from judge_server import JudgeServer, Says

from rmeval.results import compared, read
from rmeval.samples import load

pytestmark = [pytest.mark.slow]

MOMENTS = 20


def timed(work) -> float:
    start = time.monotonic()
    answer = work()
    assert answer.code == 0, answer.stderr
    return time.monotonic() - start


def content(out: Path) -> tuple[dict, bytes]:
    """What is compared of the one result below a folder, and the bytes of its samples."""
    [path] = out.rglob("*.json")
    result = read(path)
    samples = path.parent / result.samples.file
    assert load(samples, result.samples.rows)
    return compared(result), samples.read_bytes()


def rows(path: Path, n: int) -> Path:
    draw = random.Random(5)
    made = [
        {"id": f"p{i}", "prompt": f"question {i} ?", "chosen": f"right {own_rows.text(draw)}", "rejected": f"wrong {i}"}
        for i in range(n)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in made))
    return path


def tell(what: str, killed: int, repeated: list[int], of: int, unit: str) -> None:
    say(f"{what}: killed {killed} of {MOMENTS} at work; {unit} done twice: {sorted(repeated)} of {of}")


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
        return command(
            "run", tiny_reward_model, "--suite", "pairs", "--data", data, "--out", tmp_path / f"out-{i}",
            "--store", tmp_path / f"{i}.sqlite", "-a", "engine.batch_size=3",
        )  # fmt: skip

    work("warm")()
    seen.unlink()
    took = timed(work("whole"))
    planned = len(lines(seen))
    assert planned >= 30
    killed, repeated = 0, []
    for i, moment in enumerate(moments(MOMENTS, took)):
        seen.unlink(missing_ok=True)
        killed += Forked(work(i), tmp_path / "said").kill_after(moment)
        before = len(lines(seen))
        again = work(i)()
        assert again.code == 0, again.stderr
        if len(list((tmp_path / f"out-{i}").rglob("*.json"))) == 1:
            assert content(tmp_path / f"out-{i}") == content(tmp_path / "out-whole")
        repeated.append(len(lines(seen)) - planned)
        assert repeated[-1] in (0, 1), (before, planned)
        assert not list((tmp_path / f"out-{i}").rglob("*.tmp"))
    tell("run", killed, repeated, planned, "batches")
    assert killed >= MOMENTS / 4


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

        work("warm")()
        took = timed(work("whole"))
        killed, repeated = 0, []
        for i, moment in enumerate(moments(MOMENTS, took)):
            before = len(server.calls)
            killed += Forked(work(i), tmp_path / "said").kill_after(moment)
            time.sleep(0.05)
            again = work(i)()
            assert again.code == 0, again.stderr
            repeated.append(len(server.calls) - before - 120)
            assert 0 <= repeated[-1] <= 4
            if len(list((tmp_path / f"out-{i}").rglob("*.json"))) == 1:
                assert content(tmp_path / f"out-{i}") == content(tmp_path / "out-whole")
    tell("judge", killed, repeated, 120, "calls")
    assert killed >= MOMENTS / 4


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
    timed(command(*flags, tmp_path / "warm"))
    seen.unlink()
    took = timed(command(*flags, tmp_path / "whole"))
    planned = len(lines(seen))
    assert planned >= 12

    def state(out):
        return [json.loads(row) for row in (out / "train_log.jsonl").read_text().splitlines()], {
            k: v.tolist() for k, v in load_file(out / "model.safetensors").items()
        }

    killed, repeated, how = 0, [], []
    for i, moment in enumerate(moments(MOMENTS, took)):
        seen.unlink(missing_ok=True)
        out = tmp_path / f"out-{i}"
        killed += Forked(command(*flags, out), tmp_path / "said").kill_after(moment)
        again = rmeval("train", "orm", "--resume", out)
        how.append("resumed" if again.code == 0 else "ended" if "has ended" in again.stderr else "begun again")
        if how[-1] == "begun again":
            assert "no config.toml there" in again.stderr or "start again" in again.stderr, again.stderr
            again = rmeval(*flags, out)
            assert again.code == 0, again.stderr
        assert state(out) == state(tmp_path / "whole")
        repeated.append(len(lines(seen)) - planned)
        assert 0 <= repeated[-1] <= 5
        shutil.rmtree(out)
    tell("train", killed, repeated, planned, "steps")
    say(f"train: {', '.join(f'{how.count(one)} {one}' for one in sorted(set(how)))}")
    assert killed >= MOMENTS / 4


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
    took = timed(work("whole"))
    killed, whole = 0, without_time(tree(tmp_path / "subs-whole"), "created")
    assert len(whole) == 3
    for i, moment in enumerate(moments(MOMENTS, took)):
        killed += Forked(work(i), tmp_path / "said").kill_after(moment)
        there = [path for path in (tmp_path / f"subs-{i}").rglob("submission.json") if ".rmeval-" not in str(path)]
        if there:  # whole, or not there
            assert rmeval("verify", there[0].parent).code == 0
        again = work(i)()
        assert again.code == 0, again.stderr
        assert without_time(tree(tmp_path / f"subs-{i}"), "created") == whole
    tell("submit", killed, [0] * MOMENTS, 1, "submissions")
    assert killed >= MOMENTS / 4


@pytest.mark.fault("F21", "F55")
def test_board_build(whole_runs, tmp_path):
    few, many = (whole_runs / "random", whole_runs / "length"), (whole_runs,)

    def work(i, runs=many):
        return command("leaderboard", "build", *runs, "--out", tmp_path / f"site-{i}")

    work("warm")()
    took = timed(work("whole"))
    whole = without_time(tree(tmp_path / "site-whole"), "built")
    killed = 0
    for i, moment in enumerate(moments(MOMENTS, took)):
        assert work(i, few)().code == 0
        old = json.loads((tmp_path / f"site-{i}" / "leaderboard.json").read_text())
        killed += Forked(work(i), tmp_path / "said").kill_after(moment)
        for path in (tmp_path / f"site-{i}").rglob("*.html"):  # each page is the old one or the new one, whole
            assert path.read_text().rstrip().endswith("</html>")
        board = json.loads((tmp_path / f"site-{i}" / "leaderboard.json").read_text())
        assert len(board["suites"][0]["entries"]) in {len(old["suites"][0]["entries"]), 3}
        again = work(i)()
        assert again.code == 0, again.stderr
        assert without_time(tree(tmp_path / f"site-{i}"), "built") == whole
    tell("board build", killed, [0] * MOMENTS, len(whole), "files")
    assert killed >= MOMENTS / 4
