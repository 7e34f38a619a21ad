"""`rmeval run judge:NAME --base-url URL` from end to end: what is kept, what is asked again, what is written nowhere."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import pickle
import random
import sqlite3
import time
from pathlib import Path

import pytest
from command import Answer, rmeval
from judge_server import JudgeServer, Says, Status

KEY = "sk-proj-Zq81xKp0vW7_secret-of-mine"

ROWS = [{"prompt": f"Question {i}?", "chosen": f"right {i}", "rejected": f"wrong {i}"} for i in range(12)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return written(tmp_path / "pairs.jsonl", ROWS)


def written(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def digest(body) -> int:
    return int.from_bytes(hashlib.sha256(body["messages"][-1]["content"].encode()).digest()[:4])


def judge(body) -> Says:
    """A judge whose answer is a function of the prompt: mostly right, now and then lost for words, late at random."""
    time.sleep(random.Random(digest(body)).uniform(0, 0.02))
    prompt = body["messages"][-1]["content"]
    first = prompt.index("right") < prompt.index("wrong")
    turn = digest(body) % 10
    return Says("[[C]]" if turn == 0 else f"So [[{'A' if first == (turn < 8) else 'B'}]]")


def run(server: JudgeServer, data: Path, *more: object, suite: str = "pairs") -> Answer:
    arguments = ("-a", "engine.backoff=0.002", "--out", data.parent / "out", "--store", data.parent / "store.db", *more)
    return rmeval(
        "run", "judge:scripted", "--suite", suite, "--data", data, "--base-url", server.url, "--json", *arguments
    )


def samples(data: Path) -> list[dict]:
    # names hold seconds, in which two runs may begin
    path = max((data.parent / "out").rglob("*samples.jsonl.gz"), key=lambda one: one.stat().st_mtime_ns)
    return sorted((json.loads(line) for line in gzip.open(path, "rt")), key=lambda row: row["id"])


def content(answer: Answer) -> dict:
    """What is compared between runs."""
    left_out = ("id", "created", "usage", "environment", "samples")
    found = {key: value for key, value in answer.document.items() if key not in left_out}
    found["counts"].pop("cached")
    return found


# F32, F44: stopped, resumed, in another order, so many at once


@pytest.mark.fault("F32", "F44")
def test_a_stopped_run_keeps_its_rows_and_the_same_command_goes_on(data):
    left = [7]

    def until_the_quota_is_gone(body):
        left[0] -= 1
        return judge(body) if left[0] >= 0 else Status(429, {"code": "insufficient_quota", "message": "no quota left"})

    with JudgeServer(until_the_quota_is_gone) as server:
        stopped = run(server, data, "-a", "engine.concurrency=1")
        assert stopped.code == 3
        assert "no quota left" in stopped.stderr
        assert "the same command goes on from there" in stopped.stderr
        assert "Traceback" not in stopped.stderr
        assert not list((data.parent / "out").rglob("*.json*"))
        assert len(server.calls) == 8
        left[0] = 1000
        resumed = run(server, data)
        assert resumed.code == 0
        assert len(server.calls) == 8 + (24 - 7)
        assert resumed.document["counts"]["cached"] == 7
        once = samples(data)
        (data.parent / "store.db").unlink()
        undisturbed = run(server, data)
        assert content(undisturbed) == content(resumed)
        assert samples(data) == once


@pytest.mark.fault("F44")
def test_concurrency_order_and_subset_change_nothing(data, tmp_path):
    found = []
    shuffled = random.Random(4).sample(ROWS, len(ROWS))
    with JudgeServer(judge) as server:
        for i, (rows, concurrency) in enumerate(((ROWS, 1), (ROWS, 16), (shuffled, 5))):
            folder = tmp_path / str(i)
            folder.mkdir()
            # ids of our own, so that an example is the same wherever it stands
            path = written(folder / "pairs.jsonl", [{"id": row["prompt"], **row} for row in rows])
            before = len(server.calls)
            answer = run(server, path, "-a", f"engine.concurrency={concurrency}")
            assert answer.code == 0, answer.stderr
            prompts = sorted(json.dumps(call.body) for call in server.calls[before:])
            found.append((prompts, samples(path), answer.document["headline"], content(answer)["metrics"]))
    one, sixteen, other_order = found
    assert one == sixteen
    assert one[:3] == other_order[:3]
    assert len(one[0]) == 24


# F45: what is stored answers, and nothing else does


@pytest.mark.fault("F45")
def test_only_the_same_question_is_answered_from_the_store(data):
    with JudgeServer(lambda body: Says(f"{body.get('temperature')} {body['seed']} [[A]]")) as server:

        def asked(*more: object) -> int:
            before = len(server.calls)
            assert run(server, data, *more).code == 0
            return len(server.calls) - before

        assert asked() == 24
        assert asked() == 0
        assert asked("-a", "judge.temperature=0.5") == 24
        assert asked("-a", "judge.votes=2") == 24  # the second vote of each; the first is there
        assert asked("-a", "engine.omit=['top_p']") == 24
        assert asked("-a", "engine.concurrency=2", "-a", "engine.timeout=9.0") == 0
        assert asked("-a", "judge.temperature=0.5") == 0


@pytest.mark.fault("F45")
def test_a_spoilt_row_is_asked_again_and_never_unpickled(data):
    with JudgeServer(judge) as server:
        before = run(server, data)
        rows = samples(data)
        with sqlite3.connect(data.parent / "store.db") as db:
            [first, second] = db.execute("SELECT key FROM replies LIMIT 2").fetchall()
            db.execute("UPDATE replies SET reply = '{' WHERE key = ?", first)
            db.execute("UPDATE replies SET reply = ? WHERE key = ?", (pickle.dumps(Bomb()), *second))
        db.close()
        again = run(server, data)
        assert again.code == 0
        assert len(server.calls) == 24 + 2
        assert again.stderr.count("cannot be read; it is asked for again") == 2
        assert content(again) == content(before)
        assert samples(data) == rows


class Bomb:
    """Ends the test if it is ever unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


# F36, F37, F41: what is no verdict, and why


@pytest.mark.parametrize(
    ("says", "reason", "stored"),
    [
        (Says(None, refusal="I will not."), "refused", False),
        (Says("[[A]]", finish="content_filter"), "refused", False),
        (Says(None), "empty", False),
        (Says(""), "empty", False),
        (Says("perhaps [[A]], but", finish="length"), "truncated", True),
        (Says(None, finish="length"), "truncated", True),
        (Says("<think>[[A]]", finish="stop"), "truncated", True),
        (Says("I cannot say."), "unparsed", True),
        (Status(400, {"code": "context_length_exceeded"}), "truncated", False),
    ],
)
@pytest.mark.fault("F35", "F36", "F37")
def test_every_silence_has_its_name(says, reason, stored, data):
    with JudgeServer(says) as server:
        answer = run(server, data, "--limit", 3)
        assert answer.code == (3 if reason == "truncated" else 0)  # a cut answer is a fault, a refusal is a result
        verdicts = [verdict for row in samples(data) for verdict in row["verdicts"]]
        assert [(v["verdict"], v["reason"]) for v in verdicts] == [(None, reason)] * 6
        run(server, data, "--limit", 3)
        assert len(server.calls) == (6 if stored else 12)


@pytest.mark.fault("F41")
def test_letters_from_log_probabilities(data):
    with JudgeServer(Says("A", logprobs={"A": -0.9, " A": -1.9, "The": -2.0})) as server:
        answer = run(server, data, "-a", "judge.protocol=pairwise-logprob")
        assert answer.code == 0, answer.stderr
        assert server.calls[0].body["top_logprobs"] == 20
    [verdict, *_] = samples(data)[0]["verdicts"]
    assert (verdict["verdict"], verdict["bounded"]) == ("A", True)


# F42: another model answers


@pytest.mark.fault("F42")
def test_another_model_in_the_middle_of_a_run_is_said_aloud(data):
    turns = iter(range(1000))
    with JudgeServer(lambda _: Says("[[A]]", model="m-0613" if next(turns) < 9 else "m-1106")) as server:
        answer = run(server, data)
    assert "mixed" in answer.stderr
    assert "m-0613 (9 replies), m-1106 (15 replies)" in " ".join(answer.document["notes"])


# F46: the cap


@pytest.mark.fault("F46")
def test_a_cap_stops_and_the_same_command_goes_on(data):
    prices = ("-a", "engine.price_in=1", "-a", "engine.price_out=10", "-a", "engine.concurrency=2")
    with JudgeServer(lambda body: Says(judge(body).text, usage=(1000, 100))) as server:
        dry = run(server, data, *prices, "--dry-run")
        assert (dry.code, len(server.calls)) == (0, 0)
        capped = run(server, data, *prices, "--max-cost", 0.03)
        assert capped.code == 3
        assert "--max-cost 0.03 is reached" in capped.stderr
        assert 15 <= (first := len(server.calls)) <= 16
        rest = run(server, data, *prices, "--max-cost", 0.03)
        assert (rest.code, len(server.calls)) == (0, 24)
        assert rest.document["counts"]["cached"] == first
        usage = rest.document["environment"]["engine"]["usage"]
        assert usage["cost"] == pytest.approx((24 - first) * 0.002)
        assert usage["tokens_in"] == 1000 * (24 - first)
        unknown = run(server, data, "--max-cost", 5)
        assert unknown.code == 2
        assert "unknown without -a engine.price_in=" in unknown.stderr
        assert len(server.calls) == 24


# F48: the key


@pytest.mark.fault("F48")
def test_the_key_is_sent_and_written_nowhere(data, monkeypatch, capsys, caplog, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    said = f"Bearer {KEY}"

    def echoes(body):
        """A server that says the key wherever it can."""
        turn = digest(body) % 4
        if turn == 0 and "again" not in seen:
            seen.add("again")
            return Status(503, {"message": said, "code": KEY}, {"X-Key": KEY})
        if turn == 1:
            return Status(400, f"<html>{said}</html>")
        return Says(f"{said} [[A]]", model=f"m-{KEY}", fields={"system_fingerprint": KEY})

    seen: set[str] = set()
    with caplog.at_level(logging.DEBUG), JudgeServer(echoes) as server:
        answer = run(server, data, "--max-failed", 100)
        assert answer.code == 0, answer.stderr
        assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
        again = rmeval("rescore", *sorted((tmp_path / "out").rglob("*[!z].json")), "--out", tmp_path / "rescored")
    with JudgeServer(Status(401, {"message": f"Incorrect API key provided: {KEY}"})) as server:
        refused = run(server, data, "--store", tmp_path / "other.db")
        assert (refused.code, "Incorrect API key provided: [key]" in refused.stderr) == (3, True)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert {path.suffix for path in files} >= {".json", ".gz", ".db"}
    logged = "".join(f"{r.getMessage()}{r.args}{r.exc_text}" for r in caplog.records if r.name != "asyncio")
    texts = [
        answer.stdout,
        answer.stderr,
        again.stdout,
        again.stderr,
        refused.stdout,
        refused.stderr,
        *capsys.readouterr(),
    ]
    assert not [text for text in (*texts, logged, caplog.text) if KEY in text]
    for path in files:
        raw = path.read_bytes()
        assert KEY.encode() not in (gzip.decompress(raw) if path.suffix == ".gz" else raw), path


@pytest.mark.fault("F48")
def test_an_exception_holds_no_key(data, monkeypatch):
    from rmeval.engines.openai import OpenAIEngine
    from rmeval.errors import CheckFailed
    from rmeval.types import Chat, Message, Request, Sampling

    monkeypatch.setenv("MY_KEY", KEY)
    hi = Request((Chat((Message("user", "Hi"),)),), at="next", read="text", sampling=Sampling())
    with JudgeServer(Status(401, {"message": KEY})) as server, pytest.raises(CheckFailed) as refused:
        OpenAIEngine(model="m", base_url=server.url, key_env="MY_KEY").run([hi])
    import traceback

    assert KEY not in "".join(traceback.format_exception(refused.value))
