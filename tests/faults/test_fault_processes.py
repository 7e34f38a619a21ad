"""Signals, full disks, locks, damaged stores, odd clocks: what was done is kept, and the next command goes on from there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time

import own_rows
import pytest
from command import PROGRAM, environment, rmeval
from faults.forks import Forked, command
from judge_server import JudgeServer, Says, Status

from rmeval import runner, whole_files
from rmeval.errors import UsageError
from rmeval.results import read
from rmeval.store import SCHEMA, Store
from rmeval.types import Reply

HANGS = """
import sys, time
import rmeval.runner
def hangs(*_, **__):
    try:
        print("at work", file=sys.stderr, flush=True)
        time.sleep(60)
    finally:
        print("cleaning up", file=sys.stderr, flush=True)
        time.sleep(60)
rmeval.runner.run = hangs
"""


def own_signals() -> None:
    """A background shell has its children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.fault("F20")
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once_what_hangs_in_its_clean_up(tmp_path, first):
    (tmp_path / "sitecustomize.py").write_text(HANGS)
    process = subprocess.Popen(
        [*PROGRAM, "run", "length", "--suite", "arithmetic"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path, bufsize=1,
        env=environment(PYTHONPATH=tmp_path), preexec_fn=own_signals,  # noqa: PLW1509 - the tests start no threads
    )  # fmt: skip
    try:
        for said, then in (("at work", first), ("cleaning up", signal.SIGINT)):
            while said not in (line := process.stderr.readline()):
                assert line, "it ended by itself"
            process.send_signal(then)
        start = time.monotonic()
        assert process.wait(timeout=30) == 130
        assert time.monotonic() - start < 5
    finally:
        process.kill()
        process.communicate()


def killed_at(monkeypatch, what: str) -> None:
    """SIGKILL in the moment at which a file would get its name."""
    monkeypatch.setattr(whole_files.Path, what, lambda *_: os.kill(os.getpid(), signal.SIGKILL))


@pytest.mark.fault("F21")
def test_a_kill_before_the_rename_leaves_the_old_report_and_no_litter(tmp_path, monkeypatch):
    data = own_rows.pairs(tmp_path / "mine.jsonl", 12)
    out = tmp_path / "out"
    assert rmeval("run", "length", "--suite", "pairs", "--data", data, "--out", out).code == 0
    [result] = out.rglob("*.json")
    page = tmp_path / "page" / "report.html"
    assert rmeval("report", result, "-o", page).code == 0
    old = page.read_bytes()
    with monkeypatch.context() as patched:
        killed_at(patched, "replace")
        for arguments in (
            ("report", result, "-o", page),
            ("run", "random", "--suite", "pairs", "--data", data, "--out", out),
        ):
            assert Forked(command(*arguments), tmp_path).wait() == -signal.SIGKILL
    assert page.read_bytes() == old
    litter = list(tmp_path.rglob("*.tmp"))
    assert len(litter) == 2
    assert not list(out.rglob("random/**/*.json"))
    for arguments in (
        ("report", result, "-o", page),
        ("run", "random", "--suite", "pairs", "--data", data, "--out", out),
    ):
        next_start = Forked(command(*arguments, before=whole_files._looked_at.clear), tmp_path)
        assert next_start.wait() == 0, next_start.output
    assert not list(tmp_path.rglob("*.tmp"))
    assert page.read_bytes() == old
    # what another process is writing in this moment, here or on another host, stays
    mine, elsewhere = page.parent / f".rmeval-{os.getpid()}-x-abc.tmp", page.parent / ".rmeval-1-elsewhere-abc.tmp"
    for path in (mine, elsewhere):
        path.write_text("half")
    whole_files._looked_at.clear()
    assert rmeval("report", result, "-o", page).code == 0
    assert mine.exists()
    assert elsewhere.exists()


@pytest.mark.fault("F22")
def test_a_disk_that_is_full_in_the_middle_of_a_run(tiny_reward_model, tmp_path):
    data = own_rows.pairs(tmp_path / "mine.jsonl", 60)
    store = tmp_path / "store.sqlite"
    arguments = [
        "run", tiny_reward_model, "--suite", "pairs", "--data", data, "--out", tmp_path / "out", "--store", store,
        "-a", "engine.batch_size=2", "--json",
    ]  # fmt: skip
    full = Forked(command(*arguments), tmp_path / "said", file_limit=150_000)
    assert full.wait() == 4, full.output
    assert "What was committed is intact: free space and run the same command again" in full.output
    assert "Traceback" not in full.output
    assert not list((tmp_path / "out").rglob("*.json*"))
    with sqlite3.connect(store) as db:
        [(kept,)] = db.execute("SELECT count(*) FROM replies").fetchall()
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()
    assert 10 < kept < 120
    again = rmeval(*arguments)
    assert again.code == 0, again.stderr
    assert again.document["counts"]["cached"] == kept


@pytest.mark.fault("F22")
def test_a_result_that_does_not_fit_on_the_disk(tmp_path):
    data = own_rows.pairs(tmp_path / "mine.jsonl", 60)
    arguments = ("run", "length", "--suite", "pairs", "--data", data, "--out", tmp_path / "out")
    (tmp_path / "out").mkdir()
    full = Forked(command(*arguments), tmp_path / "said", file_limit=4_000)
    assert full.wait() in (2, 4), full.output
    assert "Traceback" not in full.output
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert rmeval(*arguments).code == 0


@pytest.mark.fault("F23")
def test_a_folder_that_goes_while_scoring_is_made_again(tmp_path, monkeypatch):
    data = own_rows.pairs(tmp_path / "mine.jsonl", 12)
    scored = runner.run

    def meanwhile(*args, **kwargs):
        outcome = scored(*args, **kwargs)
        shutil.rmtree(tmp_path / "out")
        return outcome

    monkeypatch.setattr(runner, "run", meanwhile)
    got = rmeval("run", "length", "--suite", "pairs", "--data", data, "--out", tmp_path / "out", "--json")
    assert got.code == 0, got.stderr
    assert len(list((tmp_path / "out").rglob("*.json*"))) == 2


@pytest.mark.fault("F25")
def test_a_lock_that_is_taken_over_is_noted(tmp_path, capsys):
    gone = subprocess.Popen(["true"])
    gone.wait()
    with Store(tmp_path / "s.sqlite") as store:
        with store.lock("run"):
            [path] = (tmp_path / "locks").iterdir()
            held = json.loads(path.read_text())
        path.write_text(json.dumps({**held, "pid": gone.pid}))
        with store.lock("run"):
            assert json.loads(path.read_text())["pid"] == os.getpid()
        # its number has gone to another process, as in a container that was started again
        path.write_text(json.dumps({**held, "began": "1"}))
        with store.lock("run"):
            assert json.loads(path.read_text()) | {"started": 0} == held | {"started": 0}
    said = capsys.readouterr().err
    assert f"took over the lock of process {gone.pid}" in said
    assert f"took over the lock of process {os.getpid()}" in said
    assert not path.exists()


@pytest.mark.fault("F26")
@pytest.mark.parametrize("damage", ["cut", "overwritten", "emptied"])
def test_of_a_torn_log_what_was_whole_is_read_and_nothing_else(tmp_path, damage):
    path = tmp_path / "s.sqlite"
    copy = tmp_path / "copy" / "s.sqlite"
    copy.parent.mkdir()
    with Store(path) as store:
        store._db.execute("PRAGMA wal_autocheckpoint=0")
        for i in range(50):
            store.put({f"{i}-{j}": Reply(((i + j / 8,),)) for j in range(8)})
        for end in ("", "-wal"):  # as a kill would leave them
            shutil.copy(f"{path}{end}", f"{copy}{end}")
    log = copy.with_name("s.sqlite-wal")
    whole = log.read_bytes()
    assert len(whole) > 50_000
    middle = len(whole) // 2 + 100
    log.write_bytes({"cut": whole[:middle], "overwritten": whole[:middle] + b"\xa5" * 2000, "emptied": b""}[damage])
    with Store(copy) as store:
        batches = [store.get([f"{i}-{j}" for j in range(8)]) for i in range(50)]
        assert {len(batch) for batch in batches} <= {0, 8}  # a batch is there or not
        there = [bool(batch) for batch in batches]
        assert there == sorted(there, reverse=True)
        assert sum(there) == 0 if damage == "emptied" else 5 < sum(there) < 45
        assert all(
            batch[f"{i}-{j}"] == Reply(((i + j / 8,),)) for i, batch in enumerate(batches) if batch for j in range(8)
        )
        store.put({"more": Reply(((1.0,),))})


@pytest.mark.fault("F26")
def test_an_older_store_is_brought_up_to_date_and_keeps_its_replies(tmp_path):
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.put({"k": Reply(((1.0,),))})
        store._db.execute("DROP TABLE jobs")
        store._db.execute("DROP TABLE runs")
        store._db.execute("PRAGMA user_version=0")
    with Store(path) as store:
        assert store.get(["k"]) == {"k": Reply(((1.0,),))}
        assert store.memory("f").jobs() == {}
        assert store._db.execute("PRAGMA user_version").fetchall() == [(SCHEMA,)]


@pytest.mark.fault("F26")
def test_a_store_that_is_damaged_in_its_middle_is_named_and_left(tmp_path):
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        for i in range(300):
            store.put({f"{i:03}": Reply(((float(i),) * 40,))})
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    for _ in range(2):  # opened twice, copied once
        with pytest.raises(UsageError, match=r"s\.sqlite.*is damaged.*move it away") as said, Store(path) as store:
            store.get([f"{i:03}" for i in range(300)])
    assert path.read_bytes()[4096:] == content[4096:]
    [copy] = (one for one in tmp_path.glob("*.damaged-*") if not one.name.endswith("-wal"))
    assert str(copy) in str(said.value)
    assert copy.read_bytes()[4096:] == content[4096:]


@pytest.mark.fault("F26")
@pytest.mark.parametrize("damage", ["header", "more", "page", "emptied", "another version of the format"])
def test_a_store_without_its_header_is_copied_and_never_made_anew(tmp_path, damage):
    path = tmp_path / "replies.sqlite"
    data = own_rows.pairs(tmp_path / "mine.jsonl", 4)
    run = ("run", "length", "--suite", "pairs", "--data", data, "--out", tmp_path / "out", "--store", path)
    with Store(path) as store:
        store.put({"k": Reply(((1.0,),))})
        log = path.with_name("replies.sqlite-wal").read_bytes()
        whole = bytearray(path.read_bytes())
    lost = {"header": bytes(16), "more": b"X" * 100, "page": bytes(4096), "emptied": b""}
    start = {**lost, "another version of the format": whole[:44] + b"\0\0\0\x09"}[damage]
    path.write_bytes(b"" if damage == "emptied" else start + whole[len(start) :])
    if damage == "emptied":
        path.with_name("replies.sqlite-wal").write_bytes(log)
    held = path.read_bytes()
    for _ in range(2):
        with pytest.raises(UsageError, match="is damaged"), Store(path):
            pass
    assert path.read_bytes() == held
    [copy] = (one for one in tmp_path.glob("*.damaged-*") if not one.name.endswith("-wal"))
    assert copy.read_bytes() == held
    if damage == "emptied":
        assert copy.with_name(f"{copy.name}-wal").read_bytes() == log
    for one in tmp_path.glob("replies.sqlite*"):  # what the message says to do
        if ".damaged-" not in one.name:
            one.rename(tmp_path / f"away-{one.name}")
    assert rmeval(*run).code == 0
    assert copy.exists()


@pytest.mark.fault("F26")
def test_a_store_on_a_network_file_system_is_said_aloud(tmp_path, monkeypatch, capsys):
    (tmp_path / "far away").mkdir()
    mounts = f"/dev/sda / ext4 rw 0 0\nhost:/x {tmp_path}/far\\040away nfs4 rw 0 0\n"
    (tmp_path / "mounts").write_text(mounts)
    monkeypatch.setattr("rmeval.store._MOUNTS", tmp_path / "mounts")
    with Store(tmp_path / "near" / "s.sqlite"):
        assert capsys.readouterr().err == ""
    with Store(tmp_path / "far away" / "deep" / "s.sqlite"):
        assert "far away/deep/s.sqlite: lies on a network file system (nfs4)" in capsys.readouterr().err


@pytest.mark.fault("F26")
def test_a_file_that_is_no_store_is_refused_and_not_copied(tmp_path):
    path = own_rows.pairs(tmp_path / "mine.jsonl", 4)
    with pytest.raises(UsageError, match="not a reply store"):
        Store(path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.fault("F27")
def test_each_changed_field_is_printed_with_both_values(tiny_reward_model, tmp_path):
    data = own_rows.pairs(tmp_path / "mine.jsonl", 8)
    model = shutil.copytree(tiny_reward_model, tmp_path / "model")

    def run(*more, data=data):
        got = rmeval("run", model, "--suite", "pairs", "--data", data, "--out", tmp_path / "out", "--json", *more)
        assert got.code == 0, got.stderr
        counts = got.document["counts"]
        assert counts["cached"] in (0, counts["requests"])  # all or nothing: no two settings are mixed
        notes = [line for line in got.stderr.splitlines() if "differs from the last run" in line]
        return counts["cached"] > 0, " ".join(notes)

    assert run() == (False, "")
    assert run("-a", "engine.batch_size=3", "-a", "engine.batch_tokens=300") == (True, "")
    stored, said = run("-a", "engine.max_length=100")
    assert (stored, "engine.max_length (128 before, 100 now)" in said) == (False, True)
    stored, said = run("-a", "engine.truncation=left")
    assert not stored
    assert "engine.max_length (100 before, 128 now), engine.truncation (error before, left now)" in said
    config = json.loads((model / "tokenizer_config.json").read_text())
    for place in (model / "chat_template.jinja", model / "tokenizer_config.json"):
        if place.exists() and place.suffix == ".jinja":
            place.write_text(place.read_text() + " ")
        elif "chat_template" in config:
            place.write_text(json.dumps({**config, "chat_template": config["chat_template"] + " "}))
    stored, said = run()
    assert not stored
    assert "engine.template (" in said
    assert "engine.weights (sha256:" in said
    other = own_rows.pairs(tmp_path / "other.jsonl", 8, seed=1)
    stored, said = run(data=other)
    assert not stored
    assert "differs from the last run in suite.data (" in said


ENORMOUS = " ".join(["good"] * 9)


class Scores16:
    """Out of memory above so many rows."""

    def __init__(self, most):
        self.most, self.sizes = most, []

    def patch(self, monkeypatch):
        import torch

        from rmeval.engines.transformers import TransformersEngine

        plain = TransformersEngine._read
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

        def read(engine, found, *rest):
            self.sizes.append(len(found))
            if len(found) > self.most or any(ENORMOUS in engine.tokenizer.decode(one.ids) for one in found):
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return plain(engine, found, *rest)

        monkeypatch.setattr(TransformersEngine, "_read", read)


@pytest.mark.fault("F28")
def test_out_of_memory_halves_the_batch_and_says_so(tiny_reward_model, tmp_path, monkeypatch):
    data = own_rows.pairs(tmp_path / "mine.jsonl", 16)
    arguments = ("--suite", "pairs", "--data", data, "--out", tmp_path / "out", "-a", "engine.batch_size=16", "--json")
    plain = rmeval("run", tiny_reward_model, *arguments, "--store", tmp_path / "a.sqlite")
    memory = Scores16(4)
    memory.patch(monkeypatch)
    got = rmeval("run", tiny_reward_model, *arguments, "--store", tmp_path / "b.sqlite")
    assert got.code == 0, got.stderr
    assert memory.sizes[:4] == [16, 8, 4, 4]
    assert got.document["metrics"] == plain.document["metrics"]
    assert "out of memory with 16 texts at once: trying 8" in got.stderr
    assert "out of memory with 8 texts at once: trying 4" in got.stderr


@pytest.mark.fault("F28")
def test_one_text_that_does_not_fit_fails_alone(tiny_reward_model, tmp_path, monkeypatch):
    rows = [{"prompt": f"what {i} ?", "chosen": "good", "rejected": "bad"} for i in range(8)]
    rows[3]["chosen"] = ENORMOUS
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    Scores16(100).patch(monkeypatch)
    got = rmeval("run", tiny_reward_model, "--suite", "pairs", "--data", data, "--out", tmp_path / "out", "--json")
    assert got.code == 3, got.stderr
    assert "1 score is missing (1 engine_error)" in got.document["withheld"]
    assert got.document["counts"]["errors"] == 1


@pytest.mark.fault("F29")
@pytest.mark.parametrize("jump", [-31_536_000.0, 31_536_000.0])
def test_a_clock_that_jumps_moves_no_wait_and_no_deadline(tmp_path, monkeypatch, jump):
    from rmeval.engines.openai import OpenAIEngine
    from rmeval.types import Chat, Message, Request, Sampling

    true = time.time
    asked = []

    def script(body):
        asked.append(1)
        if len(asked) % 2:  # the clock jumps while the server makes us wait
            monkeypatch.setattr(time, "time", lambda: true() + jump * (len(asked) % 4))
            return Status(429, headers={"Retry-After": "0.1"})
        return Says("ok")

    requests = [
        Request((Chat((Message("user", f"pair {i}"),)),), at="next", read="text", sampling=Sampling()) for i in range(6)
    ]
    with JudgeServer(script) as server:
        start = time.monotonic()
        engine = OpenAIEngine(model="m", base_url=server.url, concurrency=1, backoff=0.001, deadline=20.0)
        replies = engine.run(requests)
        took = time.monotonic() - start
    assert [reply.text for reply in replies] == ["ok"] * 6
    assert {reply.attempts for reply in replies} == {2}
    assert 0.6 <= took < 10
    data = own_rows.pairs(tmp_path / "mine.jsonl", 8)
    got = rmeval("run", "length", "--suite", "pairs", "--data", data, "--out", tmp_path / "out")
    assert got.code == 0, got.stderr
    [path] = (tmp_path / "out").rglob("*.json")
    assert read(path).usage.seconds < 60
