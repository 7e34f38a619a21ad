"""Reward models behind servers give the scores of the same weights in process, or the run stops and says why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import step_models as sm
import tiny
from command import rmeval
from own_suites import sample_file
from reward_server import RewardServer

from rmeval import results
from rmeval.checks.reproduce import reproduce
from rmeval.errors import CheckFailed, UsageError
from rmeval.models import load_model
from rmeval.types import Chat, Message, Request

FAST = {"backoff": 0.002}


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """The library is imported once."""
    import openai  # noqa: F401


@pytest.fixture(scope="module")
def scalar(tmp_path_factory) -> Path:
    tok = tiny.tokenizer()
    tok.model_max_length = 512
    return tiny.classifier(tmp_path_factory.mktemp("models") / "scalar", tok=tok, max_position_embeddings=512)


@pytest.fixture(scope="module")
def two_labels(tmp_path_factory) -> Path:
    return tiny.classifier(tmp_path_factory.mktemp("models") / "two", labels=2)


@pytest.fixture(scope="module")
def process(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "prm"
    about = {"kind": "prm", "step_separator": "\n", "aggregate": "min"}
    labels = {0: "incorrect", 1: "correct"}
    sm.saved(folder, "llama", "AutoModelForTokenClassification", num_labels=2, id2label=labels, rmeval=about)
    return folder


def request(text: str) -> Request:
    return Request((Chat((Message("user", "what is the sum ?"), Message("assistant", text))),))


TEXTS = ["good", "the answer is 4 .", "bad bad bad", "two and three", "not good , not bad", "1 2 3 4 5 6 7 8 9"]


def label(folder: Path) -> dict[str, str]:
    return {"label": "LABEL_1"} if folder.name == "two" else {}


def engine(folder: Path, *urls: str, **options):
    given = {"engine": {**FAST, **options}, "scorer": label(folder)}
    return load_model(str(folder), engine="http", base_url=",".join(urls), given=given).engine


def here(folder: Path, texts=TEXTS) -> list[tuple[tuple[float, ...], ...]]:
    local = load_model(str(folder), given={"engine": {"share": False}, "scorer": label(folder)}).engine
    return [local.run([request(text)])[0].values for text in texts]


def close(replies, values) -> None:
    for reply, value in zip(replies, values, strict=True):
        assert reply.reason is None
        for a, b in zip(reply.values, value, strict=True):
            assert a == pytest.approx(b, abs=1e-4)


def run(model, out: Path, *more, suite="rm-bench", code=0):
    data = () if suite.startswith("arithmetic") else ("--data", sample_file(suite))
    answer = rmeval("run", model, "--suite", suite, *data, "--out", out, "--store", f"{out}.sqlite", *more)
    assert answer.code == code, answer.stderr
    return answer


# equal


def test_ids_are_sent_and_raw_outputs_come_back(scalar):
    with RewardServer(scalar) as server:
        found = engine(scalar, server.url, batch_size=4)
        replies = found.run([request(text) for text in TEXTS])
        close(replies, here(scalar))
        bodies = server.bodies("/classify")
        assert all(isinstance(i, int) for body in bodies for ids in body["input"] for i in ids)
        assert all(body["model"] == "rm" for body in bodies)
        # two looks at the server with four texts, then six texts in calls of up to four
        assert [(len(body["input"]), body["use_activation"]) for body in bodies[:2]] == [(4, False), (4, True)]
        assert sorted(len(body["input"]) for body in bodies[2:]) == [2, 4]
        assert {reply.served for reply in replies} == {"rm"}
        assert found.describe()["parity_difference"] < 1e-4


def test_several_labels_come_back_as_they_are(two_labels):
    with RewardServer(two_labels) as server:
        close(engine(two_labels, server.url).run([request(text) for text in TEXTS]), here(two_labels))


@pytest.mark.parametrize("suite", ["arithmetic", "arithmetic-steps"])
def test_a_process_reward_model_reads_its_steps_at_the_same_tokens(process, tmp_path, suite):
    with RewardServer(process) as server:
        remote = run(process, tmp_path / "r", "--engine", "http", "--base-url", server.url, "--limit", 8, suite=suite)
    local = run(process, tmp_path / "l", "--limit", 8, suite=suite)
    del remote, local
    there, at_home = (results.load_result(next((tmp_path / d).rglob("*.json"))) for d in "rl")
    assert there.result.engine.name == "http"
    for a, b in zip(there.judgements, at_home.judgements, strict=True):
        assert a.n_tokens == b.n_tokens
        for x, y in zip((*a.step_scores, a.scores), (*b.step_scores, b.scores), strict=True):
            assert x == pytest.approx(y, abs=1e-4)


def test_a_run_through_a_server_is_the_run_in_process(scalar, tmp_path):
    left = ("-a", "engine.truncation=left")
    with RewardServer(scalar) as server:
        url = ("--engine", "http", "--base-url", f"{server.url}/v1")
        answer = run(scalar, tmp_path / "r", *url, *left, "--json")
        n = len(server.calls)
        again = run(scalar, tmp_path / "r", *url, *left, "--json")
        assert len(server.calls) == n  # the store answers, and nobody is looked at
    run(scalar, tmp_path / "l", *left)
    assert again.document["counts"]["cached"] > 0
    there = results.load_result(next(p for p in (tmp_path / "r").rglob("*.json")))
    at_home = results.load_result(next((tmp_path / "l").rglob("*.json")))
    assert answer.document["engine"]["parity"] == "checked"
    assert there.result.text == at_home.result.text
    assert there.headline.value == at_home.headline.value
    for a, b in zip(there.judgements, at_home.judgements, strict=True):
        assert a.scores == pytest.approx(b.scores, abs=1e-4)


def test_a_result_through_a_server_is_reproduced_through_another(scalar, tmp_path):
    left = ("-a", "engine.truncation=left")
    with RewardServer(scalar) as first:
        run(scalar, tmp_path / "r", "--engine", "http", "--base-url", first.url, *left)
    path = next((tmp_path / "r").rglob("*.json"))
    with RewardServer(scalar) as second:
        view = results.load_result(path)
        again = load_model(
            str(scalar), engine="http", base_url=second.url, given={"engine": {**FAST, "truncation": "left"}}
        )
        found = reproduce(view, again, data=sample_file("rm-bench"), out=tmp_path / "again")
    assert found.agrees
    assert not found.asked


def test_openrlhf_servers_are_sent_texts(tmp_path):
    """Its server strips characters of pad and eos, and appends eos: with the template here that leaves the text alone."""
    template = "{% for m in messages %}{{ m.role }} : {{ m.content }} .{% endfor %}</s>"
    folder = tiny.classifier(tmp_path, tok=tiny.tokenizer(template=template))
    with RewardServer(folder) as server:
        found = engine(folder, f"{server.url}/get_reward")
        close(found.run([request(text) for text in TEXTS]), here(folder))
        assert all(text.endswith(" .</s>") for body in server.bodies("/get_reward") for text in body["query"])


def test_a_server_that_makes_other_tokens_of_a_text_is_found_out(scalar):
    """Here eos follows the token that closes a turn, which the weights at hand are told of, and must not agree with ours."""
    with RewardServer(scalar) as server:
        found = engine(scalar, f"{server.url}/get_reward")
        [reply] = found.run([request("good")])
        [[ours]] = here(scalar, ["good"])[0]
        assert abs(reply.values[0][0] - ours) > 1e-3  # which is why what is compared is read as the server reads


def test_servers_are_asked_in_turn_and_each_is_looked_at(scalar):
    with RewardServer(scalar) as one, RewardServer(scalar) as two:
        found = engine(scalar, one.url, two.url, batch_size=1, concurrency=2)
        close(found.run([request(text) for text in TEXTS]), here(scalar))
        assert [len(server.calls) for server in (one, two)] == [2 + 3, 2 + 3]
        assert found.describe()["servers"] == [one.url, two.url]


def test_a_server_is_looked_at_once_and_may_have_a_name_of_its_own(scalar):
    with RewardServer(scalar, names=("a",)) as one, RewardServer(scalar, names=("b",)) as two:
        found = engine(scalar, one.url, two.url, batch_size=1)
        for _ in range(2):  # as for two suites of one run
            replies = found.run([request(text) for text in TEXTS])
            close(replies, here(scalar))
            assert {reply.served for reply in replies} == {"a", "b"}
        for server in (one, two):
            assert [body["use_activation"] for body in server.bodies("/classify")].count(True) == 1


# what is not as it should be


def test_an_activation_that_cannot_be_turned_off_stops_the_run(scalar, tmp_path):
    with RewardServer(scalar, activation="always") as server:
        answer = run(
            scalar, tmp_path / "r", "--engine", "http", "--base-url", server.url, "-a", "engine.truncation=left", code=3
        )
    assert "look like probabilities" in answer.stderr
    assert "use_activation" in answer.stderr
    assert not list((tmp_path / "r").rglob("*.json"))


def test_softmax_over_labels_is_seen_without_weights(two_labels, tmp_path):
    bare = without_weights(two_labels, tmp_path)
    with RewardServer(two_labels, activation="always") as server, pytest.raises(CheckFailed, match="probabilities"):
        engine(bare, server.url).run([request(text) for text in TEXTS])
    with RewardServer(two_labels) as server:
        close(engine(bare, server.url).run([request(text) for text in TEXTS]), here(two_labels))


def test_other_weights_stop_the_run_unless_they_are_trusted(scalar):
    with RewardServer(scalar, scale=1.01) as server:
        with pytest.raises(
            CheckFailed, match=r"are not those of scalar .* allowed in float32\): .* there, .* here: other weights"
        ):
            engine(scalar, server.url).run([request(text) for text in TEXTS])
        assert len(server.bodies("/classify")) == 2  # nothing was scored
        close(
            engine(scalar, server.url, dtype="bfloat16").run([request("good")]),
            [((1.01 * here(scalar, ["good"])[0][0][0],),)],
        )
        [reply] = engine(scalar, server.url, check="off").run([request("good")])
        assert reply.reason is None


def test_another_head_stops_the_run(scalar, two_labels):
    with (
        RewardServer(two_labels) as server,
        pytest.raises(CheckFailed, match="gives 2 numbers, and scalar has 1 label"),
    ):
        engine(scalar, server.url).run([request("good")])


def test_rows_that_are_not_one_per_token_stop_the_run(process):
    ask = Request((Chat((Message("user", "a"), Message("assistant", "b"))),), at="completion")
    with RewardServer(process, drop=1) as server, pytest.raises(CheckFailed, match=r"rows for \d+ tokens"):
        engine(process, server.url).run([ask])


def test_a_server_of_several_models_must_be_told_which(scalar):
    with RewardServer(scalar, names=("a", "b")) as server:
        with pytest.raises(CheckFailed, match="serves a, b: say which"):
            engine(scalar, server.url).run([request("good")])
        close(engine(scalar, server.url, served="b").run([request("good")]), here(scalar, ["good"]))


# faults of servers, by the policy that a judge's server has


def test_what_fails_for_a_while_is_asked_again(scalar):
    busy = {2: (429, {"error": "slow down"}, {"retry-after-ms": "5"}), 4: (500, {}, {}), 5: (503, {}, {})}
    with RewardServer(scalar, fault=lambda n, body: busy.get(n)) as server:
        found = engine(scalar, server.url, batch_size=2)
        replies = found.run([request(text) for text in TEXTS])
        close(replies, here(scalar))
        assert max(reply.attempts for reply in replies) > 1
        assert set(found.describe()["faults"]) == {"HTTP 429", "HTTP 500", "HTTP 503"}


def test_another_head_in_the_middle_of_a_run_stops_it(scalar):
    two = (200, {"data": [{"index": 0, "probs": [0.5, 9.0]}]}, {})
    with (
        RewardServer(scalar, fault=lambda n, body: two if n > 3 else None) as server,
        pytest.raises(CheckFailed, match="another head: not 1 numbers everywhere"),
    ):
        engine(scalar, server.url, batch_size=1, concurrency=1).run([request(text) for text in TEXTS])


def test_the_others_take_over_from_a_server_that_fails(scalar):
    gone = (503, {"error": "shutting down"}, {})
    with RewardServer(scalar) as one, RewardServer(scalar, fault=lambda n, body: gone if n > 2 else None) as two:
        replies = engine(scalar, one.url, two.url, batch_size=1).run([request(text) for text in TEXTS])
        close(replies, here(scalar))
        assert len(one.bodies("/classify")) == 2 + len(TEXTS)
    assert max(reply.attempts for reply in replies) > 1


def test_one_text_that_is_refused_takes_none_of_its_neighbours_with_it(scalar):
    with RewardServer(scalar, most=40) as server:
        texts = [*TEXTS, "good " * 60]
        replies = engine(scalar, server.url, check="off", batch_size=8).run([request(text) for text in texts])
    assert [reply.reason for reply in replies] == [None] * len(TEXTS) + ["truncated"]
    close(replies[:-1], here(scalar))


def test_what_is_too_long_for_the_checkpoint_is_never_sent(scalar):
    long = request("good " * 600)
    with RewardServer(scalar) as server:
        planned = engine(scalar, server.url).plan([request("good"), long])
        assert planned.batches == ((0,),)
        assert planned.settled[1].reason == "truncated"
        assert not server.calls


def test_a_server_that_is_not_there_is_said(scalar):
    with pytest.raises(CheckFailed, match="no connection"):
        engine(scalar, "http://127.0.0.1:9", attempts=2).run([request("good")])


def test_the_key_is_sent_and_shown_nowhere(scalar, tmp_path, monkeypatch):
    key = "sk-very-secret-0123456789"
    monkeypatch.setenv("VLLM_API_KEY", key)

    def refuses(n, body):
        return (401, {"error": {"message": f"bad key {key}"}}, {}) if n > 2 else None

    with RewardServer(scalar, fault=refuses) as server:
        answer = run(
            scalar, tmp_path / "r", "--engine", "http", "--base-url", server.url, "-a", "engine.truncation=left", code=3
        )
        assert {headers["authorization"] for _, _, headers in server.calls} == {f"Bearer {key}"}
    assert "HTTP 401" in answer.stderr
    assert key not in answer.stderr + answer.stdout
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and key.encode() in p.read_bytes()]


# what a run is


def without_weights(folder: Path, into: Path) -> Path:
    """Config and tokenizer alone, as they lie where a server elsewhere holds the weights."""
    bare = into / folder.name
    bare.mkdir()
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, bare)
    return bare


def test_without_weights_at_hand_the_servers_are_part_of_what_was_asked(scalar, tmp_path):
    bare = without_weights(scalar, tmp_path)
    a, b = (
        engine(bare, "http://one:1,http://two:2").fingerprint(),
        engine(bare, "http://two:2,http://one:1").fingerprint(),
    )
    assert a == b
    assert a["servers"] == ["http://one:1", "http://two:2"]
    assert "servers" not in engine(scalar, "http://one:1").fingerprint()
    assert engine(scalar, "http://one:1").fingerprint() == engine(scalar, "http://two:2/classify").fingerprint()
    assert (
        engine(scalar, "http://one:1", dtype="bfloat16").fingerprint() != engine(scalar, "http://one:1").fingerprint()
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": None}, "--base-url"),
        ({"base_url": "ftp://x"}, "base URL"),
        ({"base_url": "http://user:secret@x"}, "environment variable"),
        ({"base_url": "http://x/classify,http://y/get_reward"}, "one way of asking"),
        ({"base_url": "http://x", "engine": {"api": "pooling"}}, "one row of numbers per text"),
        ({"base_url": "http://x", "engine": {"api": "rerank"}}, "one of auto"),
        ({"base_url": "http://x", "engine": {"concurrency": 0}}, "from 1 to 1000"),
        ({"base_url": "http://x", "engine": {"check": "maybe"}}, "engine.check"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_any_call(scalar, options, said):
    with pytest.raises(UsageError, match=said):
        load_model(
            str(scalar), engine="http", base_url=options["base_url"], given={"engine": options.get("engine", {})}
        )


def test_language_models_and_judges_are_shown_their_way(tmp_path, scalar):
    sm.saved(tmp_path, "qwen2", "AutoModelForCausalLM")
    with pytest.raises(UsageError, match="judge:NAME --base-url"):
        load_model(
            str(tmp_path), engine="http", base_url="http://x", scorer="implicit", given={"scorer": {"mode": "avg"}}
        )
    with pytest.raises(UsageError, match="--engine http"):
        load_model(str(scalar), base_url="http://x")
