"""Judges by the batch, against a real server on the loopback (fault F47): nothing is paid for twice, nothing is lost."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from batch_server import AfterThat, Batch, BatchServer, as_it_came, expires, in_disorder
from judge_server import JudgeServer, Says, Status

from rmeval import runner
from rmeval.engines.openai import OpenAIEngine, client, jobs
from rmeval.errors import CheckFailed, UsageError
from rmeval.store import Store, fingerprint_digest
from rmeval.types import Chat, Message, Reply, Request, Sampling


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    import openai  # noqa: F401


def many(n: int, **sampling) -> list[Request]:
    return [asked(f"pair {i}", **sampling) for i in range(n)]


def asked(text: str, **sampling) -> Request:
    return Request((Chat((Message("user", text),)),), at="next", read="text", sampling=Sampling(**sampling))


def echo(body) -> str:
    return "about " + body["messages"][-1]["content"]


def engine(server: JudgeServer, **options) -> OpenAIEngine:
    return OpenAIEngine(
        model="m", base_url=server.url, **{"batch": True, "poll": 0.002, "backoff": 0.002, "attempts": 4, **options}
    )


def replies(server: JudgeServer, requests: list[Request], path: Path, **options) -> list[Reply]:
    with Store(path / "store.db") as store:
        found, _ = runner.ask(requests, engine(server, **options), store)
    return [found[request] for request in requests]


def kept(path: Path) -> int:
    """Jobs that stand in the store."""
    with sqlite3.connect(path / "store.db") as db:
        [(n,)] = db.execute("SELECT COUNT(*) FROM jobs").fetchall()
    db.close()
    return n


# all is well


def test_a_batch_brings_the_replies_that_single_calls_bring(tmp_path):
    with BatchServer(lambda body: Says(echo(body), usage=(20, 5)), in_disorder(0, 0)) as server:
        got = replies(server, many(40), tmp_path)
        assert [r.text for r in got] == [f"about pair {i}" for i in range(40)]
        assert ([len(b.lines) for b in server.batches], server.calls, kept(tmp_path)) == ([40], [], 0)
        (tmp_path / "live").mkdir()
        assert replies(server, many(40), tmp_path / "live", batch=False) == got
        bodies = [call.body for call in server.calls]
        assert sorted(map(str, bodies)) == sorted(str(line["body"]) for line in server.batches[0].lines)


def test_single_calls_and_batches_share_their_replies(tmp_path):
    with BatchServer(echo) as server:
        replies(server, many(3), tmp_path, batch=False)
        replies(server, many(5), tmp_path)
        assert server.batches[0].prompts == ["pair 3", "pair 4"]
        replies(server, many(5), tmp_path, batch=False)
        replies(server, many(5), tmp_path, batch_size=2, poll=3.0)
        assert (len(server.calls), len(server.batches)) == (3, 1)
        assert engine(server).fingerprint() == engine(server, batch=False).fingerprint()


def test_a_line_is_called_by_the_key_that_its_reply_is_stored_under(tmp_path):
    with BatchServer(echo) as server:
        replies(server, [asked("x"), asked("x", vote=1)], tmp_path)
        memory = Store(tmp_path / "store.db").memory(fingerprint_digest(engine(server).fingerprint()))
        [batch] = server.batches
        assert batch.ids == [memory.key(asked("x")), memory.key(asked("x", vote=1))]
        assert all(re.fullmatch(r"[0-9a-f]{64}", name) for name in batch.ids)
        assert memory.unanswered(batch.ids) == []


def test_the_same_request_twice_is_one_line(tmp_path):
    with BatchServer(echo) as server, Store(tmp_path / "store.db") as store:
        found = engine(server)
        found.remember(store.memory(fingerprint_digest(found.fingerprint())))
        assert [r.text for r in found.run([asked("x"), asked("y"), asked("x")])] == ["about x", "about y", "about x"]
        assert len(server.batches[0].lines) == 2
        assert found.cost()["calls"] == 2


def test_files_stay_within_the_limits_of_a_server(tmp_path, monkeypatch):
    with BatchServer(echo) as server:
        replies(server, many(7), tmp_path, batch_size=3)
        assert [len(b.lines) for b in server.batches] == [3, 3, 1]
        length = max(len(line) for line in server.files["file-0"].splitlines())
        monkeypatch.setattr(jobs, "MOST_BYTES", 2 * length + 5)
        replies(server, many(7, seed=1), tmp_path)
        assert [len(b.lines) for b in server.batches[3:]] == [2, 2, 2, 1]
    assert (jobs.MOST_REQUESTS, OpenAIEngine(model="m", base_url=server.url, batch=True).batches.size) == (50_000,) * 2


# F47: what a server leaves out is asked again, and what it says twice is read once


@pytest.mark.fault("F47")
def test_lines_are_told_by_their_id_and_missing_ones_are_asked_again(tmp_path, capsys):
    with BatchServer(echo, in_disorder(missing=3, twice=1), as_it_came) as server:
        got = replies(server, many(100), tmp_path)
        assert [r.text for r in got] == [f"about pair {i}" for i in range(100)]
        assert [b.prompts for b in server.batches[1:]] == [["pair 0", "pair 1", "pair 2"]]
        assert Counter(r.attempts for r in got) == {1: 97, 2: 3}
    said = capsys.readouterr().err
    assert "lines 1 answered twice" in said
    assert "3 requests are asked for again" in said
    assert kept(tmp_path) == 0


@pytest.mark.fault("F47")
def test_what_expired_is_asked_again(tmp_path):
    with BatchServer(echo, expires(4), expires(0), as_it_came) as server:
        got = replies(server, many(6), tmp_path)
        assert [r.text for r in got] == [f"about pair {i}" for i in range(6)]
        assert [len(b.lines) for b in server.batches] == [6, 2, 2]


def test_batches_that_bring_nothing_end(tmp_path):
    with BatchServer(echo, expires(2), expires(0)) as server, pytest.raises(CheckFailed, match="2 batches in a row"):
        replies(server, many(4), tmp_path)
    assert [len(b.lines) for b in server.batches] == [4, 2, 2]
    assert kept(tmp_path) == 0
    with BatchServer(echo) as other, Store(tmp_path / "store.db") as store:
        digest = fingerprint_digest(engine(server).fingerprint())
        assert len(store.memory(digest).unanswered(server.batches[0].ids)) == 2
        assert not other.batches


def test_lines_that_make_no_sense_are_counted_and_harm_nothing(tmp_path, capsys):
    def end(batch: Batch) -> None:
        foreign = json.loads(batch.output[0]) | {"custom_id": "0" * 64}
        batch.output[1] = batch.output[1][:50]
        batch.output += [json.dumps(foreign), "[1]", json.dumps({"custom_id": [1]}), '"\u2028"', "\x00\xff"]

    with BatchServer(echo, end, as_it_came) as server:
        assert [r.text for r in replies(server, many(3), tmp_path)] == [f"about pair {i}" for i in range(3)]
        assert [len(b.lines) for b in server.batches] == [3, 1]
    assert "2 of no request of ours, 4 torn" in capsys.readouterr().err


def test_a_line_without_end_is_read_in_parts_and_its_request_asked_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "MOST", 2000)

    def end(batch: Batch) -> None:
        batch.output[1] = batch.output[1][:-1] + " " * 3500 + "}"

    with BatchServer(echo, end, as_it_came) as server:
        assert [r.text for r in replies(server, many(3), tmp_path)] == [f"about pair {i}" for i in range(3)]
        assert [len(b.lines) for b in server.batches] == [3, 1]
    assert "2 torn" in capsys.readouterr().err


def test_a_later_answer_stands_before_an_earlier_fault(tmp_path):
    def end(batch: Batch) -> None:
        fault = {"custom_id": batch.ids[0], "response": {"status_code": 400, "body": {}}, "error": None}
        batch.output.insert(0, json.dumps(fault))

    with BatchServer(echo, end) as server:
        assert replies(server, many(1), tmp_path)[0].text == "about pair 0"


FAULTS = [
    Status(400, {"code": "context_length_exceeded"}),
    Status(400, {"code": "content_filter", "message": "filtered"}),
    Status(400, {"message": "no"}),
    Status(422),
    Status(503),
    Status(500, "<html>"),
    Status(429, {"code": "rate_limit_exceeded"}),
    Says(None),
    Says("[[A]]", finish="length"),
    Says(None, refusal="I will not."),
    Says("[[A]]", fields={"choices": []}),
    Says("[[A]]", fields={"choices": [], "error": {"code": 503, "message": "busy"}}),
]


def test_a_line_that_failed_is_what_a_call_that_failed_is(tmp_path):
    def script(body):
        turn = int(body["messages"][-1]["content"].split()[1])
        return FAULTS[turn] if turn < len(FAULTS) else "[[A]]"

    (tmp_path / "live").mkdir()
    with BatchServer(script) as server:
        live = replies(server, many(40), tmp_path / "live", batch=False, attempts=2, give_up=100)
        got = replies(server, many(40), tmp_path, attempts=2)
        assert [len(b.lines) for b in server.batches] == [40, 5]
    assert got == live
    assert Counter(r.reason for r in got) == {None: 29, "api_error": 7, "truncated": 1, "refused": 2, "empty": 1}


def test_a_text_that_cannot_be_sent_fails_alone(tmp_path):
    with BatchServer(echo) as server:
        got = replies(server, [asked("half \ud800"), asked("whole")], tmp_path)
        assert [len(b.lines) for b in server.batches] == [1]
    assert [r.reason for r in got] == ["api_error", None]


def test_a_quota_that_ends_in_the_middle_stops_the_run_after_what_came(tmp_path):
    def script(body):
        return echo(body) if body["messages"][-1]["content"] < "pair 3" else Status(429, {"code": "insufficient_quota"})

    with BatchServer(script) as server:
        with pytest.raises(CheckFailed, match="insufficient_quota.*the same command asks for the rest"):
            replies(server, many(5), tmp_path)
        server._script = echo
        assert [r.text for r in replies(server, many(5), tmp_path)] == [f"about pair {i}" for i in range(5)]
        assert [len(b.lines) for b in server.batches] == [5, 2]


def test_a_field_that_the_server_refuses_is_said_in_another_way(tmp_path):
    def script(body):
        if "max_tokens" in body:
            said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return Status(400, {"message": said, "param": "max_tokens", "code": "unsupported_parameter"})
        return echo(body)

    with BatchServer(script) as server:
        assert [r.reason for r in replies(server, many(5), tmp_path, attempts=1)] == [None] * 5
        assert [len(b.lines) for b in server.batches] == [5, 5]
        assert "max_completion_tokens" in server.batches[1].lines[0]["body"]


# what the server says of a whole batch


def test_a_batch_that_is_not_taken_ends_the_run_and_is_handed_in_anew_by_the_next(tmp_path):
    def end(batch: Batch) -> None:
        batch.status, batch.errors = "failed", [{"code": "model_not_found", "message": "no such model", "line": 1}]

    with BatchServer(echo, end, as_it_came) as server:
        with pytest.raises(CheckFailed, match="model_not_found: no such model"):
            replies(server, many(2), tmp_path)
        assert kept(tmp_path) == 0
        replies(server, many(2), tmp_path)
        assert len(server.batches) == 2


def test_more_than_an_account_may_have_waiting_is_handed_in_piece_by_piece(tmp_path, capsys):
    with BatchServer(echo, most=6) as server:
        assert [r.reason for r in replies(server, many(10), tmp_path)] == [None] * 10
        assert [(len(b.lines), b.status) for b in server.batches][:2] == [(10, "failed"), (5, "completed")]
        assert sum(len(b.lines) for b in server.batches if b.status == "completed") == 10
    assert "token_limit_exceeded: Enqueued token limit reached. Trying 5 requests" in capsys.readouterr().err
    with BatchServer(echo, most=0) as server, pytest.raises(CheckFailed, match="token_limit_exceeded"):
        replies(server, many(3, seed=1), tmp_path)
    assert [len(b.lines) for b in server.batches] == [3, 2, 1]


def test_a_batch_that_a_person_cancels_is_not_begun_again_at_once(tmp_path):
    def end(batch: Batch) -> None:
        batch.status, batch.output = "cancelled", batch.output[:2]

    with BatchServer(echo, end, as_it_came) as server:
        with pytest.raises(CheckFailed, match="batch_0 was cancelled"):
            replies(server, many(5), tmp_path)
        replies(server, many(5), tmp_path)
        assert [len(b.lines) for b in server.batches] == [5, 3]


def test_a_server_without_batches_says_so(tmp_path):
    for path in ("/v1/files", "/v1/batches"):
        with BatchServer(echo) as server:
            server.trouble[f"POST {path}"] = [Status(404, {"message": "Not Found"})]
            with pytest.raises(CheckFailed, match=r"takes no batches.*Leave -a engine\.batch"):
                replies(server, many(2), tmp_path)
        assert kept(tmp_path) == 0


@pytest.mark.parametrize(("status", "code"), [(401, "invalid_api_key"), (403, "unsupported_country")])
def test_a_key_that_is_refused_ends_the_run(status, code, tmp_path):
    with BatchServer(echo) as server:
        server.trouble["POST /v1/files"] = [Status(status, {"code": code, "message": "no"})]
        with pytest.raises(CheckFailed, match=code):
            replies(server, many(2), tmp_path)
    assert (server.batches, kept(tmp_path)) == ([], 0)


def test_what_has_to_be_known_before():
    with pytest.raises(UsageError, match="this run has none"):
        OpenAIEngine(model="m", base_url="http://127.0.0.1:9/v1", batch=True).run(many(1))
    for name, value in (("batch_size", 0), ("batch_size", 50_001), ("poll", 0.0)):
        with pytest.raises(UsageError, match=f"engine.{name}="):
            OpenAIEngine(model="m", base_url="http://127.0.0.1:9/v1", **{name: value})


# F47: no batch is begun twice, whatever breaks


@pytest.mark.parametrize(
    "trouble",
    [
        {"POST /v1/files": [Status(503), AfterThat()]},
        {"POST /v1/batches": [Status(503), Status(429, headers={"Retry-After": "0.01"})]},
        {"POST /v1/batches": [AfterThat()]},
        {"POST /v1/batches": [AfterThat()], "GET /v1/batches": [Status(500), AfterThat()]},
        {"GET /v1/batches/batch_0": [AfterThat(), Status(502), AfterThat()]},
        {"GET /v1/files/batch_0-output/content": [AfterThat(), Status(500)]},
    ],
)
@pytest.mark.fault("F47")
def test_a_connection_that_breaks_costs_no_second_batch(trouble, tmp_path):
    with BatchServer(echo) as server:
        server.trouble = trouble
        assert [r.text for r in replies(server, many(4), tmp_path)] == [f"about pair {i}" for i in range(4)]
        assert [len(b.lines) for b in server.batches] == [4]


@pytest.mark.fault("F33")
def test_an_answer_without_end_is_not_read_whole(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(client, "MOST", 50_000)
    monkeypatch.setattr(jobs, "MOST", 50_000)
    long = {"message": " " * 10**5}
    with BatchServer(echo) as server:
        server.trouble = {
            "GET /v1/batches/batch_0": [Status(200, long), Status(500, long)],
            "GET /v1/files/batch_0-output/content": [Status(503, long)],
        }
        assert [r.text for r in replies(server, many(4), tmp_path)] == [f"about pair {i}" for i in range(4)]
        assert "an answer of more than 50,000 bytes" in capsys.readouterr().err


def test_a_server_that_is_away_for_a_while_is_waited_for(tmp_path, capsys):
    with BatchServer(echo) as server:
        server.trouble["GET /v1/batches/batch_0"] = [Status(502)] * 6
        assert len(replies(server, many(2), tmp_path, attempts=2)) == 2
        assert capsys.readouterr().err.count("batch_0 is looked at again later") == 3
        server.trouble["GET /v1/batches/batch_1"] = [Status(502)] * 6
        with pytest.raises(CheckFailed, match="HTTP 502"):
            replies(server, many(2, seed=1), tmp_path, attempts=2, give_up=3)
        replies(server, many(2, seed=1), tmp_path)
        assert len(server.batches) == 2


def test_a_batch_whose_beginning_was_not_heard_of_is_found_by_its_file(tmp_path):
    with BatchServer(echo) as server:
        for i in range(3):  # others, so that the list has pages
            replies(server, many(1, seed=i + 5), tmp_path)
        server.trouble["POST /v1/batches"] = [AfterThat()]
        with pytest.raises(CheckFailed):
            replies(server, many(4), tmp_path, attempts=1)
        for i in range(3):
            replies(server, many(1, seed=i + 10), tmp_path)
        assert [r.text for r in replies(server, many(4), tmp_path)] == [f"about pair {i}" for i in range(4)]
        assert [len(b.lines) for b in server.batches] == [1, 1, 1, 4, 1, 1, 1]
        server.trouble["POST /v1/batches"] = [Status(503)]  # nothing came of this one
        with pytest.raises(CheckFailed):
            replies(server, many(2, seed=99), tmp_path, attempts=1)
        replies(server, many(2, seed=99), tmp_path)
        assert [len(b.lines) for b in server.batches[7:]] == [2]
    assert kept(tmp_path) == 0


def test_a_smaller_command_takes_its_part_and_leaves_the_rest(tmp_path, capsys):
    with BatchServer(echo, looks=1e9) as server:
        stopped_at_a_look(server, many(6), tmp_path)
        server.looks = 0
        assert len(replies(server, many(2), tmp_path)) == 2
        assert kept(tmp_path) == 1
        replies(server, many(1, seed=4), tmp_path)
        assert (kept(tmp_path), len(server.batches)) == (1, 2)
        server._script = "a late answer of another kind"  # none of the rest is asked again
        assert [r.text for r in replies(server, many(6), tmp_path)] == [f"about pair {i}" for i in range(6)]
        assert (kept(tmp_path), len(server.batches)) == (0, 2)
    assert "batch batch_0 (6 requests, handed in 2" in capsys.readouterr().err


def stopped_at_a_look(server: BatchServer, requests: list[Request], path: Path) -> None:
    """Ask, and go away after the first look as one that is killed would."""
    seen = server.look

    def look(batch: Batch) -> None:
        seen(batch)
        server.trouble[f"GET /v1/batches/{batch.id}"] = [Status(401, {"message": "for now"})]

    server.look = look
    with pytest.raises(CheckFailed, match="for now"):
        replies(server, requests, path)
    server.look, server.trouble = seen, {}


def test_single_calls_beside_a_batch_say_what_they_do(tmp_path, capsys):
    with BatchServer(echo, looks=1e9) as server:
        stopped_at_a_look(server, many(4), tmp_path)
        replies(server, many(5), tmp_path, batch=False)
        assert len(server.calls) == 5
        assert "4 requests of batch batch_0 are asked again" in capsys.readouterr().err
        replies(server, [*many(5), asked("more")], tmp_path, batch=False)
        server.looks = 0
        replies(server, [*many(5), asked("yet more")], tmp_path)
    assert (kept(tmp_path), [len(b.lines) for b in server.batches]) == (0, [4, 1])


def test_a_batch_of_another_key_is_not_asked_anew_unless_it_is_given_up(tmp_path):
    with BatchServer(echo, looks=1e9) as server:
        stopped_at_a_look(server, many(3), tmp_path)
        [lost] = server.batches
        lost.id, server.looks = "batch_elsewhere", 0
        with pytest.raises(CheckFailed, match=r"another key's.*engine\.drop_batch=batch_0"):
            replies(server, many(3), tmp_path)
        assert replies(server, many(3), tmp_path, drop_batch="batch_0")[2].text == "about pair 2"
        assert len(server.batches) == 2
    assert kept(tmp_path) == 0


def test_files_that_are_gone_are_answers_that_are_missing(tmp_path, capsys):
    def end(batch: Batch) -> None:
        batch.id, batch.described = f"{batch.id}", _with_lost_file(batch)

    with BatchServer(echo, end, as_it_came) as server:
        assert len(replies(server, many(3), tmp_path)) == 3
        assert len(server.batches) == 2
    assert "is no longer at the server" in capsys.readouterr().err


def _with_lost_file(batch: Batch):
    said = Batch.described(batch) | {"output_file_id": "lost-output"}
    return lambda: said
