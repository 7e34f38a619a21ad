"""The reply store: keys, whole batches, locks, damage."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from rmeval.errors import LockHeld, ResourceError, UsageError
from rmeval.store import SCHEMA, Store, request_key
from rmeval.types import Chat, Message, Reply, Request, Text

ASKED = Request((Chat((Message("user", "2+2?"), Message("assistant", "4"))),), group="example 1")


def test_a_key_is_content_and_fingerprint_without_the_group():
    assert request_key(ASKED, "f") == request_key(replace(ASKED, group="example 2"), "f")
    other = Request((Chat((Message("user", "2+2?"), Message("assistant", "5"))),))
    literal = Request((Text("2+2?"),))
    assert len({request_key(r, f) for r in (ASKED, other, literal) for f in ("f", "g")}) == 6


def test_a_reply_comes_back_bit_for_bit(tmp_path):
    reply = Reply(((0.1 + 0.2, -1e-30), (3.0, 4.0)), None, 17, truncated=True)
    with Store(tmp_path / "s.sqlite") as store:
        store.put({"k": reply})
    with Store(tmp_path / "s.sqlite") as store:
        assert store.get(["k", "other"]) == {"k": reply}


@pytest.mark.fault("F45")
def test_a_row_whose_content_is_another_is_no_reply(tmp_path, capsys):
    path = tmp_path / "store.db"
    with Store(path) as store:
        store.put({"a": Reply(((1.5, -2.0),), n_tokens=7, text='so, "crc32": 1}'), "b": Reply(((0.25, 3.0),))})
        before = store.get(["a", "b"])
        assert before["a"].text == 'so, "crc32": 1}'
    with sqlite3.connect(path) as db:
        rows = dict(db.execute("SELECT key, reply FROM replies"))
    sound = rows["a"]
    plain = sound.rpartition(", ")[0] + "}"  # as earlier versions wrote it
    spoilt = [
        *(rows["b"], sound.replace("1.5", "1.6"), sound.replace("7", "8"), sound[:-2] + "}", sound.encode()),
        *(plain.replace("1.5", '"1.5"'), plain.replace("1.5", "true"), plain.replace("7", "-7")),
    ]
    for content in [*spoilt, plain, sound]:
        with sqlite3.connect(path) as db:
            db.execute("UPDATE replies SET reply = ? WHERE key = 'a'", (content,))
        db.close()
        with Store(path) as store:
            found = store.get(["a", "b"])
        assert found["b"] == before["b"]
        assert found.get("a") == (None if content in spoilt else before["a"])
        assert ("cannot be read; it is asked for again" in capsys.readouterr().err) == (content in spoilt)


def test_failures_are_not_stored(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        store.put({"good": Reply(((1.0,),)), "bad": Reply(reason="engine_error")})
        assert set(store.get(["good", "bad"])) == {"good"}


@pytest.mark.fault("F22")
def test_f22_a_full_disk_keeps_what_was_committed(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        store.put({"a": Reply(((1.0,),))})
        [(pages,)] = store._db.execute("PRAGMA page_count").fetchall()
        store._db.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(ResourceError, match="intact"):
            store.put({str(i): Reply(((float(i),) * 50,)) for i in range(2000)})
        assert store.get(["a", "1"]) == {"a": Reply(((1.0,),))}


@pytest.mark.fault("F26")
def test_f26_damage_and_newer_schemas_are_named_not_recreated(tmp_path):
    (tmp_path / "torn.sqlite").write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    with pytest.raises(UsageError, match=r"torn\.sqlite"):
        Store(tmp_path / "torn.sqlite")
    assert (tmp_path / "torn.sqlite").read_bytes().endswith(b"\xff")
    with sqlite3.connect(tmp_path / "new.sqlite") as db:
        db.execute(f"PRAGMA user_version={SCHEMA + 1}")
    with pytest.raises(UsageError, match="newer rmeval"):
        Store(tmp_path / "new.sqlite")
    with pytest.raises(UsageError, match="cannot be used"):
        Store(tmp_path)  # a folder


@pytest.mark.fault("F25")
def test_f25_locks_of_live_dead_and_foreign_processes(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        with store.lock("run"), pytest.raises(LockHeld, match=str(os.getpid())), store.lock("run"):
            pass
        with store.lock("run"):
            pass  # released
        gone = subprocess.run(
            [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
        )
        with store.lock("run"):
            [path] = (tmp_path / "locks").iterdir()
        path.write_text(json.dumps({"pid": int(gone.stdout), "host": socket.gethostname(), "run": "run"}))
        with store.lock("run"):
            assert json.loads(path.read_text())["pid"] == os.getpid()
        path.write_text(json.dumps({"pid": int(gone.stdout), "host": "elsewhere", "run": "run"}))
        with pytest.raises(LockHeld, match="elsewhere"), store.lock("run"):
            pass


@pytest.mark.fault("F27")
def test_f27_changed_settings_are_named(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        before = {"engine": {"dtype": "float32", "max_length": 10}, "scorer": {}}
        after = {"engine": {"dtype": "bfloat16", "max_length": 10}, "scorer": {"label": "good"}}
        assert store.changed_fields("m", "s", before) == {}
        assert store.changed_fields("m", "s", before) == {}
        assert store.changed_fields("m", "s", after) == {
            "engine.dtype": ("float32", "bfloat16"),
            "scorer.label": (None, "good"),
        }
        assert store.changed_fields("m", "other", before) == {}


@pytest.mark.fault("F24")
def test_f24_a_file_that_another_process_is_setting_up_is_waited_for(tmp_path):
    path = tmp_path / "s.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE something (x)")
    other.execute("BEGIN IMMEDIATE")
    done = threading.Timer(0.1, lambda: (other.execute("COMMIT"), other.close()))
    done.start()
    with Store(path) as store:
        store.put({"k": Reply(((1.0,),))})
    done.join()


def test_jobs_are_kept_per_engine_and_outlive_the_process(tmp_path):
    request = Request((Text("x"),))
    with Store(tmp_path / "s.sqlite") as store:
        mine, other = store.memory("a" * 64), store.memory("b" * 64)
        mine.keep("one", {"keys": [mine.key(request), "k2"], "batch": None})
        mine.keep("one", {"keys": [mine.key(request), "k2"], "batch": "batch_1"})
        other.keep("two", {"keys": []})
        store.put({mine.key(request): Reply(text="there"), "k2": Reply(reason="api_error")})
        assert mine.key(request) == request_key(request, "a" * 64) != other.key(request)
    with Store(tmp_path / "s.sqlite") as store:
        mine = store.memory("a" * 64)
        assert mine.jobs() == {"one": {"batch": "batch_1", "keys": [mine.key(request), "k2"]}}
        assert mine.unanswered([mine.key(request), "k2"]) == ["k2"]
        mine.drop("one")
        assert (mine.jobs(), list(store.memory("b" * 64).jobs())) == ({}, ["two"])


WRITER = """
import sys
from pathlib import Path
from rmeval.store import Store
from rmeval.types import Reply
with Store(Path(sys.argv[1])) as store:
    for i in range(40):
        store.put({f"{sys.argv[2]}-{i}-{j}": Reply(((float(j),),)) for j in range(5)})
"""


@pytest.mark.fault("F24")
def test_f24_several_processes_share_one_file(tmp_path):
    path = tmp_path / "s.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(n)], stderr=subprocess.PIPE) for n in range(3)
    ]
    assert [w.communicate()[1] for w in writers] == [b"", b"", b""]
    with Store(path) as store:
        assert len(store.get([f"{n}-{i}-{j}" for n in range(3) for i in range(40) for j in range(5)])) == 600
