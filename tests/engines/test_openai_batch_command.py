"""Judging by the batch from the command line: a poller that ends, a cap, a key (faults F47 and F48)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from batch_server import BatchServer, as_it_came, expires
from command import PROGRAM, Answer, environment, rmeval
from judge_server import JudgeServer, Says, Status

KEY = "sk-proj-Zq81xKp0vW7_secret-of-mine"
ROWS = [{"prompt": f"Question {i}?", "chosen": f"right {i}", "rejected": f"wrong {i}"} for i in range(12)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def command(server: JudgeServer, data: Path, *more: object) -> list[object]:
    out = ("--out", data.parent / "out", "--store", data.parent / "store.db", "-a", "engine.batch=true")
    return [
        *("run", "judge:scripted", "--suite", "pairs", "--data", data, "--base-url", server.url),
        *("--json", *out, "-a", "engine.poll=0.02", *more),
    ]


def run(server: JudgeServer, data: Path, *more: object) -> Answer:
    return rmeval(*command(server, data, *more))


def judge(body) -> Says:
    prompt = body["messages"][-1]["content"]
    return Says("[[A]]" if prompt.index("right") < prompt.index("wrong") else "[[B]]", usage=(1000, 100))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.fault("F47")
def test_a_poller_that_ends_is_taken_up_by_the_same_command(end, data):
    with BatchServer(judge, looks=1e9) as server:
        process = subprocess.Popen(
            [*PROGRAM, *map(str, command(server, data))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), encoding="utf-8",
        )  # fmt: skip
        until = time.monotonic() + 60
        while not (server.batches and server.batches[0].looks >= 2):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(process.pid, end)
        _, said = process.communicate(timeout=60)
        server.looks = 0
        if end == signal.SIGINT:
            assert process.returncode == 130
            assert "batch batch_0 (24 requests" in said
            assert "goes on at the server: the same command collects it" in said
            assert "Traceback" not in said
        answer = run(server, data)
        assert answer.code == 0, answer.stderr
        assert (len(server.files), len(server.batches), server.calls) == (1, 1, [])
        assert answer.document["headline"]["value"] == 1.0
        assert "is under way: it is waited for" in answer.stderr
        assert answer.document["environment"]["engine"]["batch"] is True


def test_a_cap_bounds_what_is_handed_in(data):
    prices = ("-a", "engine.price_in=1", "-a", "engine.price_out=10", "-a", "judge.max_tokens=150")
    with BatchServer(judge) as server:
        capped = run(server, data, *prices, "--max-cost", 0.02)
        assert capped.code == 3
        assert "would not cover one more request" in capped.stderr
        assert "the same command goes on from there" in capped.stderr
        done = sum(len(b.lines) for b in server.batches)
        assert 0.02 - 0.002 <= done * 0.002 + 0.0005 <= 0.02 + 0.0005 * 10
        rest = run(server, data, *prices, "--max-cost", 1)
        assert (rest.code, server.batches[-1].status) == (0, "completed")
        assert sum(len(b.lines) for b in server.batches) == 24
        usage = rest.document["environment"]["engine"]["usage"]
        assert (usage["calls"], usage["cost"]) == (24 - done, pytest.approx((24 - done) * 0.002))


@pytest.mark.fault("F48")
def test_the_key_is_sent_and_written_nowhere(data, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with BatchServer(lambda body: Says(judge(body).text + KEY), expires(3), as_it_came) as server:
        server.trouble["POST /v1/batches"] = [Status(503, {"message": f"Bearer {KEY}"})]
        answer = run(server, data)
        server.trouble["POST /v1/files"] = [Status(401, {"message": f"Incorrect API key provided: {KEY}"})]
        refused = run(server, data, "-a", "judge.temperature=0.5")
    assert (answer.code, refused.code) == (0, 3)
    assert "provided: [key]" in refused.stderr
    assert server.keys == {f"Bearer {KEY}"}
    assert KEY not in answer.stdout + answer.stderr + refused.stdout + refused.stderr
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]
