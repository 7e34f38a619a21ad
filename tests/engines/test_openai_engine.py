"""The engine against a real server on the loopback that goes wrong in every way on purpose (faults F31 to F37)."""

from __future__ import annotations

import asyncio
import gzip
import math
import threading
import time

import judge_server
import pytest
from judge_server import Breaks, Drips, Hangs, JudgeServer, Raw, Says, Status

from rmeval.engines.openai import OpenAIEngine, client
from rmeval.errors import CheckFailed
from rmeval.types import Chat, Message, Reply, Request, Sampling, Special

SLOW = 20  # times: what a machine under load may add to a wait


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """The library is imported once, outside of what is timed."""
    import openai  # noqa: F401


def asked(text: str = "Which?", **sampling) -> Request:
    return Request((Chat((Message("user", text),)),), at="next", read="text", sampling=Sampling(**sampling))


def many(n: int) -> list[Request]:
    return [asked(f"pair {i}") for i in range(n)]


def engine(server: JudgeServer | str, **options) -> OpenAIEngine:
    url = server if isinstance(server, str) else server.url
    return OpenAIEngine(model="m", base_url=url, **{"backoff": 0.002, **options})


def one(script, **options) -> Reply:
    with JudgeServer(script) as server:
        [reply] = engine(server, **options).run([asked()])
    return reply


def echo(body) -> str:
    return "about " + body["messages"][-1]["content"]


# all is well


def test_replies_stand_for_their_requests_however_late_they_come():
    with JudgeServer(echo, latency=0.01) as server:
        found = engine(server, concurrency=8)
        replies = found.run(many(40))
        assert [r.text for r in replies] == [f"about pair {i}" for i in range(40)]
        assert {(r.reason, r.finish, r.served, r.attempts) for r in replies} == {(None, "stop", "m", 1)}
        assert 4 <= server.at_once <= 8
        assert found.cost() == {"cost": "unknown", "calls": 40, "tokens_in": 4000, "tokens_out": 400}


def test_a_request_becomes_the_body_and_nothing_else_is_sent():
    with JudgeServer("x") as server:
        engine(server, extra='{"reasoning_effort": "low"}', omit=["top_p"]).run([asked(seed=3, vote=2)])
    [call] = server.calls
    assert call.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Which?"}],
        "max_tokens": 512,
        "temperature": 0.0,
        "seed": 5,
        "reasoning_effort": "low",
    }


def test_log_probabilities_of_the_next_token():
    request = Request(
        asked().parts, at="next", read="next_logprobs", tokens=(Special("A"), Special(" A"), Special("B"))
    )
    with JudgeServer(Says("A", finish="length", logprobs={"A": -0.25, " A": -3.0, "C": -5.0})) as server:
        [reply] = engine(server).run([request])
    assert reply.values[0][:2] == (-0.25, -3.0)
    assert math.isnan(reply.values[0][2])
    assert (reply.floor, reply.finish, reply.reason) == (-5.0, "stop", None)


def test_a_plan_is_one_batch_each_and_refuses_nothing_that_can_be_asked():
    plan = engine("http://127.0.0.1:9/v1").plan(many(3))
    assert (plan.batches, plan.tokens, plan.settled) == (((0,), (1,), (2,)), (0, 0, 0), {})


def test_it_runs_inside_the_loop_of_a_notebook():
    async def cell() -> list[Reply]:
        return engine(server).run([asked()])

    with JudgeServer("in a cell") as server:
        assert asyncio.run(cell())[0].text == "in a cell"


def test_a_text_that_cannot_be_sent_fails_alone():
    with JudgeServer(echo) as server:
        replies = engine(server).run([asked("half \ud800"), asked("whole")])
    assert [r.reason for r in replies] == ["api_error", None]


# F31: told to wait


@pytest.mark.fault("F31")
def test_it_waits_as_long_as_it_is_told_and_counts_attempts():
    with JudgeServer([Status(429, headers={"Retry-After": "0.15"})] * 2 + ["[[A]]"]) as server:
        [reply] = engine(server).run([asked()])
    assert (reply.text, reply.attempts) == ("[[A]]", 3)
    first, second, third = (call.at for call in server.calls)
    assert second - first >= 0.15
    assert third - second >= 0.15


@pytest.mark.fault("F31")
def test_one_that_is_told_to_wait_too_long_gives_up_at_once():
    with JudgeServer([Status(429, headers={"Retry-After": "600"}), "[[A]]"]) as server:
        found = engine(server, concurrency=1)
        replies = found.run(many(2))
    assert [(r.reason, r.attempts) for r in replies] == [("api_error", 1), (None, 1)]
    assert len(server.calls) == 2


@pytest.mark.parametrize("said", ["inf", "-1", "nan", "later", "Thu, 01 Jan 1970 00:00:00 GMT"])
@pytest.mark.fault("F31")
def test_a_senseless_wait_is_our_own(said):
    assert one([Status(429, headers={"Retry-After": said}), "[[A]]"]) == Reply(
        text="[[A]]", n_tokens=100, n_written=10, served="m", attempts=2
    )


def test_all_calls_pause_when_one_is_told_to():
    turned_down = threading.Event()

    def script(body):
        if not turned_down.is_set():
            turned_down.set()
            return Status(429, headers={"Retry-After": "0.3"})
        return "ok"

    with JudgeServer(script, latency=0.02) as server:
        replies = engine(server, concurrency=2).run(many(12))
    assert [r.text for r in replies] == ["ok"] * 12
    gaps = [b.at - a.at for a, b in zip(server.calls, server.calls[1:], strict=False)]
    assert max(gaps) >= 0.25  # a silence of all, not of one: the others went on every 0.01 s


# F32: the run is to stop


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, {"code": "invalid_api_key", "message": "Incorrect API key"}),
        (403, {"message": "not in your country"}),
        (404, {"code": "model_not_found", "message": "The model `m` does not exist"}),
        (429, {"code": "insufficient_quota", "message": "You exceeded your current quota"}),
    ],
)
@pytest.mark.fault("F32")
def test_what_stops_the_run_costs_one_call_per_worker(status, error):
    with JudgeServer(Status(status, error), latency=0.01) as server:
        with pytest.raises(CheckFailed, match=error["message"]) as stopped:
            engine(server, concurrency=4).run(many(50))
        assert len(server.calls) <= 4
    assert stopped.value.exit_code == 3
    assert f"HTTP {status}" in str(stopped.value)


@pytest.mark.parametrize("status", [302, 307, 308])
@pytest.mark.fault("F32")
def test_nothing_follows_a_server_to_one_that_nobody_named(status):
    with JudgeServer("[[B]]") as other:
        with (
            JudgeServer(Status(status, headers={"Location": f"{other.url}/chat/completions"})) as server,
            pytest.raises(CheckFailed, match=rf"HTTP {status}: the server sends its callers on to {other.url}"),
        ):
            engine(server).run(many(3))
        assert other.calls == []


@pytest.mark.fault("F32")
def test_what_came_before_the_end_is_handed_over_before_the_end():
    def script(body):
        return "ok" if int(body["messages"][-1]["content"].split()[1]) < 20 else Status(401)

    got = []
    with JudgeServer(script) as server, pytest.raises(CheckFailed):  # noqa: PT012
        for i, reply in engine(server, concurrency=4).stream(many(40)):
            got.append((i, reply.text))
    assert sorted(got) == [(i, "ok") for i in range(20)]


def test_calls_under_way_are_heard_out_when_the_run_must_stop():
    def script(body):
        return Status(403) if body["messages"][-1]["content"] == "pair 3" else Says("paid for", after=0.3)

    got = []
    with JudgeServer(script) as server, pytest.raises(CheckFailed, match="403"):  # noqa: PT012
        for i, reply in engine(server, concurrency=4).stream(many(40)):
            got.append((i, reply.text))
    assert sorted(got) == [(i, "paid for") for i in range(3)]
    assert len(server.calls) == 4


def test_a_setting_that_the_model_refuses_stops_the_run():
    refusal = Status(400, {"param": "temperature", "message": "Unsupported value: 0.0"})
    with JudgeServer(refusal) as server, pytest.raises(CheckFailed, match="engine.omit"):
        engine(server, concurrency=1).run(many(5))
    assert len(server.calls) == 1


# F33, F34: faults that may pass


@pytest.mark.parametrize(
    "bad",
    [
        Status(500), Status(502, "<html>bad gateway [[A]]</html>"), Status(503), Status(504), Status(408),
        Raw("<html>[[A]]</html>", "text/html"), Raw('{"choices": [{"message": {"content": "[[A]]'),
        Raw('{"choices": []}'), Raw('{"choices": null}'), Raw('{"error": {"message": "[[A]]"}}'), Raw(""), Raw("null"),
        Raw("[" * 100_000),
    ],
    ids=lambda bad: repr(bad)[:40],
)  # fmt: skip
@pytest.mark.fault("F33")
def test_faults_are_asked_again_and_are_never_a_verdict(bad):
    with JudgeServer(bad) as server:
        [reply] = engine(server, attempts=3).run([asked()])
    assert reply == Reply(reason="api_error", attempts=3)
    assert len(server.calls) == 3
    assert one([bad, bad, "[[B]]"], attempts=3).text == "[[B]]"


@pytest.mark.parametrize(("bad", "per_call"), [(Hangs(), 0.15), (Drips(), 0.15), (Breaks(), 0.0)])
@pytest.mark.fault("F34")
def test_silence_and_broken_connections_take_bounded_time(bad, per_call):
    with JudgeServer(bad) as server:
        start = time.monotonic()
        [reply] = engine(server, attempts=2, timeout=0.15).run([asked()])
        took = time.monotonic() - start
    assert reply == Reply(reason="timeout", attempts=2)
    assert 2 * per_call <= took < 2 * per_call + 0.1 * SLOW


@pytest.mark.fault("F34")
def test_the_deadline_bounds_all_calls_and_waits_of_a_request():
    with JudgeServer(Status(500)) as server:
        start = time.monotonic()
        [reply] = engine(server, attempts=1000, backoff=0.05, deadline=0.4).run([asked()])
        assert time.monotonic() - start < 0.4 + 0.1 * SLOW
    # the last call has what is left of the time, which a busy machine may let run out
    assert reply.reason in {"api_error", "timeout"}
    assert 2 <= reply.attempts < 100


@pytest.mark.fault("F33")
@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch, packed):
    monkeypatch.setattr(client, "MOST", 2**20)
    with JudgeServer([Says("x" * 2**21), "fine"]) as server:
        if packed:  # a thousandth of the bytes travel
            monkeypatch.setattr(judge_server._Handler, "_send", _send_packed)
        judge = engine(server, attempts=2)
        [reply] = judge.run([asked()])
    assert (reply.text, reply.attempts) == ("fine", 2)
    assert judge.describe()["faults"] == {"too long an answer": 1}


def _send_packed(handler, status, kind, text, headers):
    body = gzip.compress(text.encode())
    handler._start(status, kind, len(body), {**headers, "Content-Encoding": "gzip"})
    handler.wfile.write(body)


def test_no_server_at_all():
    found = engine("http://127.0.0.1:9/v1", attempts=2)
    assert found.run([asked()]) == [Reply(reason="api_error", attempts=2)]
    assert found.describe()["faults"] == {"no connection": 2}


# F35: faults of one request


@pytest.mark.fault("F35")
def test_a_fault_of_one_request_is_its_own():
    def script(body):
        match body["messages"][-1]["content"]:
            case "pair 3":
                return Status(400, {"code": "context_length_exceeded", "message": "too long"})
            case "pair 5":
                return Status(422, {"message": "cannot be processed"})
            case "pair 7":
                return Status(400, {"code": "content_filter"})
        return "ok"

    with JudgeServer(script) as server:
        replies = engine(server).run(many(10))
    assert len(server.calls) == 10
    failed = {i: reply.reason for i, reply in enumerate(replies) if reply.reason}
    assert failed == {3: "truncated", 5: "api_error", 7: "refused"}


# the circuit breaker


def test_requests_that_fail_in_a_row_stop_the_run():
    said = r"10 requests in a row failed, the last with HTTP 500: out of order\. What was"  # one full stop
    with JudgeServer(Status(500, {"message": "out of order."})) as server:
        with pytest.raises(CheckFailed, match=said):
            engine(server, attempts=1, concurrency=2).run(many(500))
        assert 10 <= len(server.calls) <= 12


def test_more_failures_than_successes_stop_the_run():
    def script(body):
        return "ok" if int(body["messages"][-1]["content"].split()[1]) % 3 == 0 else Status(422)

    with JudgeServer(script) as server:
        with pytest.raises(CheckFailed, match="3. of the last 50 requests failed, the last with HTTP 422"):
            engine(server, concurrency=1).run(many(500))
        assert len(server.calls) <= 52


def test_refusals_and_long_prompts_are_no_failures_of_the_server():
    with JudgeServer(Status(400, {"code": "context_length_exceeded"})) as server:
        assert {r.reason for r in engine(server).run(many(60))} == {"truncated"}
    with JudgeServer(Says(None, refusal="no")) as server:
        assert {r.reason for r in engine(server).run(many(60))} == {"refused"}


@pytest.mark.fault("F41")
def test_a_server_without_log_probabilities_is_given_up_soon():
    tokens = (Special("A"), Special("B"))
    requests = [Request(r.parts, at="next", read="next_logprobs", tokens=tokens) for r in many(50)]
    with JudgeServer("A") as server:
        with pytest.raises(CheckFailed, match="lists no log-probabilities for this model: use a protocol of texts"):
            engine(server, concurrency=1).run(requests)
        assert len(server.calls) == 10


# asked in another way


def test_a_server_without_response_format_is_asked_without_and_that_is_remembered(capsys):
    def script(body):
        if "response_format" in body:
            return Status(400, {"message": "response_format is not supported", "param": "response_format"})
        return "[[A]]"

    with JudgeServer(script) as server:
        found = engine(server, concurrency=1)
        requests = [asked(f"pair {i}", schema='{"type": "object"}') for i in range(5)]
        assert "response_format" not in found.describe()
        replies = found.run(requests[:3])
        assert [(r.text, r.attempts) for r in replies] == [("[[A]]", 2), ("[[A]]", 1), ("[[A]]", 1)]
        found.run(requests[3:])
        assert len(server.calls) == 6
    assert "refused by the server" in found.describe()["response_format"]
    assert "takes no response_format" in capsys.readouterr().err
    assert "faults" not in found.describe()


def test_calls_at_once_adapt_once_each():
    def script(body):
        if "max_tokens" in body:
            return Status(400, {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."})
        if "response_format" in body:
            return Status(422, {"message": "extra fields: response_format"})
        return "ok"

    with JudgeServer(script, latency=0.01) as server:
        found = engine(server, concurrency=6)
        replies = found.run([asked(f"pair {i}", schema="{}") for i in range(30)])
        assert {r.text for r in replies} == {"ok"}
        assert len(server.calls) <= 30 + 12
    assert found.describe()["limit"] == "max_completion_tokens"


def test_a_server_that_refuses_even_so_is_believed():
    with JudgeServer(Status(400, {"message": "response_format is bad"})) as server:
        assert engine(server).run([asked(schema="{}")]) == [Reply(reason="api_error", attempts=2)]


# stopping, memory


def test_closing_the_stream_cancels_what_is_under_way():
    with JudgeServer(lambda body: "ok" if body["messages"][-1]["content"] == "pair 0" else Hangs(30)) as server:
        stream = engine(server, concurrency=4).stream(many(100))
        assert next(stream)[0] == 0
        start = time.monotonic()
        stream.close()
        assert time.monotonic() - start < 0.1 * SLOW
        assert len(server.calls) <= 5
    assert not [t for t in threading.enumerate() if t.name == "judge calls"]


def test_a_slow_taker_holds_the_calls_back():
    with JudgeServer("ok") as server:
        stream = engine(server, concurrency=8).stream(many(200))
        for _ in range(3):
            next(stream)
        time.sleep(0.3)
        assert len(server.calls) <= 2 + 8 + 1  # taken and come back from, under way, the eighth
        stream.close()


# F46: what it costs


@pytest.mark.fault("F46")
def test_the_cap_lets_what_is_under_way_finish_and_makes_no_further_call():
    with JudgeServer(Says("ok", usage=(1000, 100)), latency=0.01) as server:
        found = engine(server, concurrency=4, price_in=1.0, price_out=10.0, max_cost=0.02)
        got = []
        with pytest.raises(CheckFailed, match="--max-cost 0.02 is reached") as stopped:  # noqa: PT012
            for i, _ in found.stream(many(100)):
                got.append(i)
        assert stopped.value.exit_code == 3
        assert len(got) == len(server.calls)
        assert 10 <= len(got) <= 13  # ten calls of 0.002, and three more that were under way
        assert found.cost()["cost"] == pytest.approx(len(got) * 0.002)


def test_a_cap_that_the_last_call_reaches_stops_nothing():
    with JudgeServer(Says("ok", usage=(1000, 100))) as server:
        found = engine(server, concurrency=1, price_in=1.0, price_out=10.0, max_cost=0.01)
        assert len(found.run(many(5))) == 5


def test_answers_that_cannot_be_read_are_paid_for_too():
    with JudgeServer(Raw('{"choices": [], "usage": {"prompt_tokens": 70, "completion_tokens": 7}}')) as server:
        found = engine(server, attempts=2, price_in=1.0, price_out=1.0)
        found.run([asked()])
    assert found.cost()["tokens_in"] == 140


def test_what_the_server_ran_on_is_recorded():
    turns = iter(("fp_1", "fp_2", "fp_1"))
    with JudgeServer(lambda _: Says("ok", fields={"system_fingerprint": next(turns)})) as server:
        found = engine(server, concurrency=1)
        found.run(many(3))
    assert found.describe()["system_fingerprints"] == {"fp_1": 2, "fp_2": 1}
