"""`--engine ray` with two actors on this machine (`make test-ray`): equal results, also where one is killed on the way."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from pathlib import Path

import pytest
import tiny
from command import rmeval

from rmeval import results, runner
from rmeval.errors import UsageError
from rmeval.models import load_model
from rmeval.suites import load_suite
from rmeval.types import Candidate, Example, Labels, Message

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make test-ray"),
]

OPTIONS = {"batch_tokens": 512, "truncation": "left"}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One for all tests, with two cores whatever the machine has."""
    import ray

    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)  # as the workers have it, so that even the last bit is the same
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.classifier(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def examples():
    return load_suite("arithmetic").load(None, 0).examples[:150]


def spread(folder: Path, **options):
    return load_model(str(folder), engine="ray", given={"engine": {**OPTIONS, **options}})


def plain(folder: Path):
    return load_model(str(folder), given={"engine": OPTIONS})


def test_two_workers_give_what_one_process_gives(folder, examples):
    ours, model = spread(folder), plain(folder)
    there, here = (runner.run(examples, m.scorer, m.engine) for m in (ours, model))
    assert there.judgements == here.judgements
    assert ours.engine.fingerprint() == model.engine.fingerprint()
    done = ours.engine.describe()["batches"]
    assert len(done) == 2
    assert sum(done.values()) == len(model.engine.plan(runner.plan(examples, model.scorer, None)[1]).batches)


def test_a_worker_that_is_killed_loses_nothing(folder, examples):
    ours, model = spread(folder), plain(folder)
    requests = runner.plan(examples, model.scorer, None)[1]
    batches = [[requests[i] for i in batch] for batch in model.engine.plan(requests).batches]
    found, killed = {}, ""
    for n, replies in ours.engine.run_all(batches):
        assert n not in found
        found[n] = replies
        if not killed:
            [killed] = ours.engine.describe()["batches"]
            os.kill(int(killed.rpartition(":")[2]), signal.SIGKILL)
    assert sorted(found) == list(range(len(batches)))
    assert found == {n: model.engine.run(batch) for n, batch in enumerate(batches)}
    workers = ours.engine.describe()["batches"]
    assert set(workers) - {killed}


def test_the_command_line_writes_the_same_result(folder, tmp_path):
    def run(name: str, *more):
        answer = rmeval(
            *("run", folder, "--suite", "arithmetic", "--limit", 60, "--out", tmp_path / name),
            *("--store", tmp_path / f"{name}.sqlite", "-a", "engine.truncation=left", *more),
        )
        assert answer.code == 0, answer.stderr
        return results.load_result(next((tmp_path / name).rglob("*.json")))

    there, here = run("ray", "--engine", "ray", "-a", "engine.workers=2"), run("plain")
    assert results.compared(there.result) == results.compared(here.result)
    assert there.judgements == here.judgements
    assert there.result.environment.engine["name"] == "ray"


def test_what_a_worker_refuses_is_said_as_it_would_be_in_process(folder):
    from rmeval.types import Chat, Request, Special

    ask = Request((Chat((Message("user", "a"), Message("assistant", "b"))),), read="tokens", tokens=(Special("good"),))
    with pytest.raises(UsageError, match="has no vocabulary"):
        spread(folder).engine.run([ask])


def test_overhead_at_ten_thousand_short_examples(folder):
    """What two workers cost beyond one process that does nothing but score: printed, and bounded only from far above."""
    one = Labels((0.0,))
    many = [
        Example(
            str(i), (Message("user", f"what is {i % 40} + {i % 37} ?"),), (Candidate(f"{i % 33} {i % 29}"),), one, ""
        )
        for i in range(10_000)
    ]
    options = {"batch_tokens": 4096}
    ours = load_model(str(folder), engine="ray", given={"engine": options})
    model = load_model(str(folder), given={"engine": options})
    runner.run(many[:100], ours.scorer, ours.engine)  # the pool's first start is not the pool's overhead
    seconds = {}
    found = {}
    for name, by in (("plain", model), ("ray", ours)):
        start = time.monotonic()
        found[name] = runner.run(many, by.scorer, by.engine)
        seconds[name] = time.monotonic() - start
    print(f"10,000 short examples: {seconds['plain']:.1f} s in one process, {seconds['ray']:.1f} s with two workers")
    assert found["ray"].judgements == found["plain"].judgements
    assert seconds["ray"] < 10 * seconds["plain"] + 120
