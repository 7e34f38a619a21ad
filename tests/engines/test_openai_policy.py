"""What is made of faults, what things cost, what becomes of the key: pure functions, no network."""

from __future__ import annotations

import logging
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmeval.engines.openai import OpenAIEngine
from rmeval.engines.openai.calls import Transport
from rmeval.engines.openai.cost import Meter, Prices, estimate, prices, text_tokens
from rmeval.engines.openai.policy import Breaker, Fault, of_answer, of_status, retry_after, wait
from rmeval.engines.openai.secrets import Key, endpoint, key_for
from rmeval.engines.openai.wire import Unreadable
from rmeval.errors import UsageError
from rmeval.types import Chat, Message, Request, Sampling

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def fault(status: int, answer: object = None, **headers: str) -> Fault:
    return of_status(status, {name.replace("_", "-"): value for name, value in headers.items()}, answer, NOW)


@pytest.mark.parametrize(
    ("status", "error", "scope", "reason"),
    [
        (408, {}, "again", "api_error"),
        (409, {}, "again", "api_error"),
        (429, {"code": "rate_limit_exceeded"}, "again", "api_error"),
        (429, {"type": "requests", "message": "You exceeded your current quota"}, "again", "api_error"),
        (500, {}, "again", "api_error"),
        (502, {}, "again", "api_error"),
        (503, {}, "again", "api_error"),
        (504, {}, "again", "api_error"),
        (529, {}, "again", "api_error"),
        (401, {"code": "invalid_api_key"}, "run", "api_error"),
        (402, {}, "run", "api_error"),
        (403, {}, "run", "api_error"),
        (404, {"code": "model_not_found"}, "run", "api_error"),
        (429, {"code": "insufficient_quota"}, "run", "api_error"),
        (429, {"type": "insufficient_quota", "code": None}, "run", "api_error"),
        (400, {"code": "billing_hard_limit_reached"}, "run", "api_error"),
        (400, {}, "item", "api_error"),
        (413, {}, "item", "api_error"),
        (422, {}, "item", "api_error"),
        (418, {}, "item", "api_error"),
        (400, {"code": "context_length_exceeded"}, "item", "truncated"),
        (400, {"message": "This model's maximum context length is 4096 tokens. However, you"}, "item", "truncated"),
        (400, {"message": "The prompt (length 9) is longer than the maximum model length of 8"}, "item", "truncated"),
        (400, {"type": "exceed_context_size_error", "code": 400}, "item", "truncated"),
        (400, {"message": "max_tokens=5000 cannot be greater than max_model_len=4096"}, "run", "api_error"),
        (400, {"message": "max_tokens is too large: 200000. This model supports at most 16384"}, "run", "api_error"),
        (400, {"code": "content_filter"}, "item", "refused"),
        (400, {"param": "temperature", "message": "Unsupported value"}, "run", "api_error"),
        (400, {"message": "logprobs is not supported by this model"}, "run", "api_error"),
    ],
)
def test_classification(status, error, scope, reason):
    found = fault(status, {"error": error})
    assert (found.scope, found.reason) == (scope, reason)
    assert found.shared == (status == 429 and scope == "again")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"error": {"message": "no"}}, "no"),
        ({"error": "no"}, "no"),
        ({"object": "error", "message": "no", "code": 400}, "no"),
        ({"detail": [{"loc": ["body"], "msg": "no"}]}, "[{'loc': ['body'], 'msg': 'no'}]"),
        ("<html>\n<b>no\x1b[31m</b>", "<html> <b>no�[31m</b>"),
        (None, ""),
    ],
)
def test_messages_of_all_shapes_are_one_printable_line(answer, text):
    assert fault(400, answer).text == text


@pytest.mark.parametrize(
    ("error", "field"),
    [
        ({"param": "response_format", "message": "not supported"}, "response_format"),
        ({"message": "'response_format' of type 'json_schema' is not supported with this model"}, "response_format"),
        ({"message": "guided decoding failed: unsupported schema"}, "response_format"),
        ({"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}, "max_tokens"),
        ({"message": "messages must alternate"}, ""),
    ],
)
def test_a_field_that_can_be_said_otherwise_is_found(error, field):
    found = fault(400, {"error": error})
    assert (found.scope, found.refuses) == ("item", field)


def test_a_setting_that_is_always_refused_says_how_to_leave_it_out():
    assert "engine.omit='[\"top_p\"]'" in str(fault(400, {"error": {"param": "top_p", "message": "Unsupported"}}))
    assert "protocol of texts" in str(fault(400, {"error": {"param": "top_logprobs", "message": "Unsupported"}}))


@pytest.mark.fault("F33")
def test_an_error_in_an_answer_of_status_200_goes_by_the_status_it_names():
    def made_of(error):
        return of_answer(Unreadable("error", error=error), NOW).scope

    assert made_of({"code": 502, "message": "upstream"}) == "again"
    assert made_of({"code": 401}) == "run"
    assert made_of({"code": "insufficient_quota"}) == "run"
    assert made_of({"message": "overloaded"}) == "again"
    assert made_of("overloaded") == "again"
    assert of_answer(Unreadable("no logprobs", again=False), NOW).scope == "item"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0), ("2.5", 2.5), ("600", 600), ("inf", None), ("-inf", None), ("nan", None), ("-1", None), ("", None),
        ("soon", None), ("9" * 500, None), ("Sun, 22 Nov 2026 12:01:00 GMT", 60), ("Sun, 22 Nov 2026 11:00:00 GMT", 0),
        ("Sun, 99 Nov 2026 12:01:00 GMT", None), ("Sun, 22 Nov 99999 12:01:00 GMT", None),
        ("Sun, 22 Nov 2026 12:01:00 -0000", None),
    ],
)  # fmt: skip
@pytest.mark.fault("F31")
def test_retry_after(said, seconds):
    assert retry_after({"retry-after": said}, NOW) == seconds


def test_milliseconds_go_before_seconds():
    assert fault(429, retry_after_ms="1500", retry_after="9").after == 1.5
    assert fault(429, retry_after_ms="soon", retry_after="9").after == 9


@given(
    after=st.none() | st.floats(0, 1e6),
    attempt=st.integers(1, 5000),
    seed=st.integers(0, 99),
    backoff=st.floats(0, 100),
    longest=st.floats(0.1, 1e4),
)
@pytest.mark.fault("F31")
def test_a_wait_is_no_shorter_than_asked_for_and_bounded(after, attempt, seed, backoff, longest):
    found = wait(
        Fault("again", "api_error", "x", after=after), attempt, random.Random(seed), backoff=backoff, longest=longest
    )
    if (after or 0) > longest:
        assert found is None
    else:
        assert (after or 0) <= found <= (after or 0) + min(longest, 30)


def test_waits_of_our_own_choosing_double_with_full_jitter():
    draws = random.Random(1)
    again = Fault("again", "api_error", "x")
    for attempt in range(1, 5):
        waits = [wait(again, attempt, draws, backoff=0.5, longest=120) for _ in range(2000)]
        most = 0.5 * 2 ** (attempt - 1)
        assert min(waits) < 0.01 * most
        assert 0.99 * most < max(waits) <= most
        assert sum(waits) / 2000 == pytest.approx(most / 2, rel=0.05)


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 12))
def test_the_breaker_opens_exactly_when_it_says(failures, in_a_row):
    breaker = Breaker(in_a_row, window=20, share=0.5)
    for i, failed in enumerate(failures):
        why = breaker.record("HTTP 500" if failed else None)
        last = failures[max(0, i - 19) : i + 1]
        run = i >= in_a_row - 1 and all(failures[i - in_a_row + 1 : i + 1])
        assert (why is not None) == (failed and (run or (len(last) == 20 and sum(last) > 10)))


# cost


def test_cost_is_unknown_without_prices_and_never_nought():
    meter = Meter(None, None)
    meter.add(100, 10, guess=(1, 1))
    assert meter.cost is None
    assert meter.describe() == {"cost": "unknown", "calls": 1, "tokens_in": 100, "tokens_out": 10}


def test_what_a_server_does_not_count_is_estimated_and_said_so():
    meter = Meter(Prices(1.0, 10.0), 1e-3)
    meter.add(None, None, guess=(400, 20))
    assert not meter.spent
    meter.add(400, None, guess=(7, 20))
    assert meter.cost == pytest.approx(1.2e-3)
    assert meter.spent
    assert meter.describe()["calls_estimated"] == 2


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ((None, None, 5.0), "unknown without -a engine.price_in="),
        ((1.0, None, 5.0), "unknown without -a engine.price_out="),
        ((1.0, None, None), "one price of two"),
        ((-1.0, 1.0, None), "a number from 0"),
        ((1.0, 1.0, float("nan")), "--max-cost=nan"),
    ],
)
@pytest.mark.fault("F46")
def test_a_cap_needs_both_prices(given_, said):
    with pytest.raises(UsageError, match=said):
        prices(*given_)


def test_an_estimate_is_a_range_from_the_length_of_the_texts():
    asked = Request(
        (Chat((Message("user", "word " * 800),)),), at="next", read="text", sampling=Sampling(max_tokens=500)
    )
    found = estimate([asked] * 3, Prices(2.0, 8.0))
    assert (found.calls, found.read, found.written) == (3, 3 * 1004, 1500)
    assert found.cost == pytest.approx((3012 * 2e-6, 3012 * 2e-6 + 1500 * 8e-6))
    assert "estimated from characters" in str(found)
    assert "unknown" in str(estimate([asked], None))
    assert text_tokens("") == 0


# the key, the address


def test_openais_own_server_wants_a_key_and_others_get_a_placeholder(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UsageError, match=r"set the environment variable OPENAI_API_KEY, .*engine\.key_env"):
        next(OpenAIEngine(model="gpt-x").stream([]))
    assert key_for("http://127.0.0.1:8000/v1", "OPENAI_API_KEY").value == "EMPTY"
    monkeypatch.setenv("MINE", " sk-0123456789\n")
    assert key_for("https://api.openai.com/v1", "MINE").value == "sk-0123456789"


@pytest.mark.parametrize("value", ["sk-two words", "sk-schlüssel", "sk-\x07bell"])
def test_a_key_that_is_none_is_refused_without_being_shown(value, monkeypatch):
    monkeypatch.setenv("MINE", value)
    with pytest.raises(UsageError) as refused:
        key_for("http://127.0.0.1/v1", "MINE")
    assert value not in str(refused.value)
    assert "MINE" in str(refused.value)


def test_a_key_prints_as_nothing_and_is_hidden_in_every_spelling():
    key = Key('sk-"a/b+c"-0123')
    assert "0123" not in f"{key} {key!r}"
    for text in ('sk-"a/b+c"-0123', r"{\"k\": \"sk-\"a/b+c\"-0123\"}", "?key=sk-%22a%2Fb%2Bc%22-0123"):
        assert "0123" not in key.hide(text)
    assert Key("EMPTY").hide("an EMPTY answer") == "an EMPTY answer"


@pytest.mark.fault("F48")
def test_logs_hold_no_key(caplog):
    key = Key("sk-0123456789")
    logger = logging.getLogger("httpx.test")
    with caplog.at_level(logging.DEBUG), key.hidden_in_logs():
        logger.debug("sent %s", "Bearer sk-0123456789")
        try:
            raise ValueError("sk-0123456789")  # noqa: TRY301
        except ValueError:
            logger.exception("failed")
    assert "sent Bearer [key]" in caplog.text
    assert "ValueError: [key]" in caplog.text
    assert key.value not in caplog.text
    assert not logger.filters


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:8000/v1", "write it like"),
        ("ftp://host/v1", "write it like"),
        ("http:///v1", "write it like"),
        ("http://host:port/v1", "write it like"),
        ("http://[::1/v1", "write it like"),
        ("https://user:secret@host:port/v1", "write it like"),
        ("https://user:secret@host/v1", "a user, a password or a query"),
        ("https://host/v1?key=secret", "a user, a password or a query"),
    ],
)
def test_a_base_url_that_is_none_or_holds_a_secret_is_refused(url, said):
    with pytest.raises(UsageError, match=said) as refused:
        endpoint(url)
    assert "secret" not in str(refused.value)


def test_an_address_is_the_same_in_every_spelling(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://Localhost:8000/v1")
    assert endpoint(None) == endpoint("http://localhost:8000/v1/") == "http://localhost:8000/v1"
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert endpoint(None) == "https://api.openai.com/v1"


# what identifies


TRANSPORT = {*Transport.__slots__, "key_env", "price_in", "price_out", "max_cost"}
TRANSPORT |= {"batch", "batch_size", "poll", "drop_batch"}
IDENTITY = {"model": "n", "base_url": "http://127.0.0.2/v1", "top_logprobs": 5, "omit": ["seed"], "extra": '{"k": 1}'}


@pytest.mark.fault("F27")
def test_every_option_decides_the_answers_or_is_transport():
    import inspect

    options = set(inspect.signature(OpenAIEngine).parameters)
    assert options == TRANSPORT | IDENTITY.keys()
    plain = {"model": "m", "base_url": "http://127.0.0.1/v1"}
    before = OpenAIEngine(**plain).fingerprint()
    for name, value in IDENTITY.items():
        assert OpenAIEngine(**{**plain, name: value}).fingerprint() != before, name
    other = {"concurrency": 3, "timeout": 7.0, "price_in": 1.0, "price_out": 2.0, "max_cost": 3.0, "key_env": "MINE"}
    other |= {"batch": True, "batch_size": 5, "poll": 6.0, "drop_batch": "batch_1"}
    assert OpenAIEngine(**plain, **other).fingerprint() == before


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"concurrency": 0}, "engine.concurrency=0: from 1"),
        ({"timeout": 0.0}, "engine.timeout=0.0: a number of seconds above 0"),
        ({"deadline": float("inf")}, "engine.deadline=inf"),
        ({"top_logprobs": 1001}, "from 1 to 1000"),
        ({"omit": ["temprature"]}, "Did you mean 'temperature'"),
        ({"extra": "low"}, "a JSON object"),
        ({"extra": '{"temperature": 1}'}, "temperature is set by the protocol"),
    ],
)
def test_options_that_make_no_sense_are_refused(option, said):
    with pytest.raises(UsageError, match=said):
        OpenAIEngine(model="m", base_url="http://127.0.0.1/v1", **option)
