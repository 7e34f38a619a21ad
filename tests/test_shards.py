"""A run in parts is the one run: the same numbers, rows and bytes; parts that are not of one run are refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import tiny
from command import rmeval
from hypothesis import given
from hypothesis import strategies as st
from own_suites import sample_file

from rmeval import results, shards
from rmeval.errors import UsageError
from rmeval.shards import Shard
from rmeval.suites import load_suite
from rmeval.types import Example

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.classifier(tmp_path_factory.mktemp("models") / "tiny")


def run(model, out: Path, *more: object, suite="rm-bench", code=0) -> Path:
    """The result of one `rmeval run` on a suite's sample rows."""
    before = set(out.rglob("*.json"))
    answer = rmeval(
        *("run", model, "--suite", suite, "--data", sample_file(suite), "--out", out, "--store", f"{out}.sqlite", *more)
    )
    assert answer.code == code, answer.stderr
    [path] = set(out.rglob("*.json")) - before
    return path


def merged(out: Path, *parts: Path, more=(), code=0) -> Path:
    before = set(out.rglob("*.json"))
    answer = rmeval("merge", *parts, "--out", out, *more)
    assert answer.code == code, answer.stderr
    [path] = set(out.rglob("*.json")) - before
    return path


def refused(*parts: Path) -> str:
    answer = rmeval("merge", *parts, "--out", parts[0].parent / "refused")
    assert answer.code == 2, answer.stderr
    assert not list((parts[0].parent / "refused").rglob("*.json"))
    return answer.stderr


def assert_equal(one: Path, other: Path) -> None:
    a, b = results.load_result(one), results.load_result(other)
    assert results.compared(a.result) == results.compared(b.result)
    read = [path.parent / results.read(path).samples.file for path in (one, other)]
    assert read[0].read_bytes() == read[1].read_bytes()


@pytest.mark.parametrize("name", ["length", "random"])
def test_parts_of_a_run_are_the_run_in_any_order(tmp_path, name):
    whole = run(name, tmp_path / "whole")
    parts = [run(name, tmp_path / "parts", "--shard", f"{i}/3") for i in (2, 3, 1)]
    assert_equal(whole, merged(tmp_path / "merged", *parts))
    assert results.read(whole).id == results.read(next((tmp_path / "merged").rglob("*.json"))).id
    for i, path in zip((2, 3, 1), parts, strict=True):
        part = results.read(path)
        assert (part.shard.index, part.shard.of, part.complete) == (i, 3, False)


def test_weights_give_the_same_rows_bytes_and_facts_about_texts(tmp_path, model):
    """A text at a time, so that not even the last bit depends on which texts share a batch."""
    alone = ("-a", "engine.batch_size=1", "-a", "engine.truncation=left", "--limit", "6")
    whole = run(model, tmp_path / "whole", *alone)
    parts = [run(model, tmp_path / "parts", "--shard", f"{i}/2", *alone) for i in (1, 2)]
    one = merged(tmp_path / "merged", *parts)
    assert_equal(whole, one)
    said = results.read(one)
    assert said.text is not None
    assert said.text.texts == sum(results.read(part).text.texts for part in parts)
    assert said.counts.requests == results.read(whole).counts.requests
    assert said.suite.limit == 6
    assert not said.complete


def test_weights_in_batches_differ_by_no_more_than_batches_do(tmp_path, model):
    left = ("-a", "engine.truncation=left")
    whole = results.load_result(run(model, tmp_path / "whole", *left))
    parts = [run(model, tmp_path / "parts", "--shard", f"{i}/2", *left) for i in (1, 2)]
    again = results.load_result(merged(tmp_path / "merged", *parts))
    assert [j.id for j in again.judgements] == [j.id for j in whole.judgements]
    for a, b in zip(again.judgements, whole.judgements, strict=True):
        assert a.scores == pytest.approx(b.scores, abs=1e-5)
    assert again.headline.value == whole.headline.value


def test_more_shards_than_prompts_leave_some_without_examples(tmp_path):
    whole = run("length", tmp_path / "whole")
    parts = [run("length", tmp_path / "parts", "--shard", f"{i}/8") for i in range(1, 9)]
    assert 0 in [results.read(part).suite.examples for part in parts]
    assert_equal(whole, merged(tmp_path / "merged", *parts))


def test_failures_are_counted_over_all_parts(tmp_path, model):
    over = ("-a", "engine.max_length=10")
    whole = run(model, tmp_path / "whole", *over, code=3)
    parts = [run(model, tmp_path / "parts", "--shard", f"{i}/2", *over, code=3) for i in (1, 2)]
    one = merged(tmp_path / "merged", *parts, code=3)
    assert_equal(whole, one)
    assert results.read(one).withheld == results.read(whole).withheld
    allowed = merged(tmp_path / "allowed", *parts, more=("--max-failed", 1000))
    assert results.read(allowed).withheld == ""
    assert results.read(allowed).counts.errors == results.read(whole).counts.errors > 0


def test_what_is_not_all_of_one_run_is_refused(tmp_path, model):
    a, b, c = (run("length", tmp_path / "parts", "--shard", f"{i}/3") for i in (1, 2, 3))
    assert "shards 2, 3 of 3 are missing" in refused(a)
    assert "shard 3 of 3 is missing" in refused(a, b)
    assert "shard 2/3 stands twice" in refused(a, b, b, c)
    assert "is no shard" in refused(a, b, run("length", tmp_path / "whole"))
    other = run("length", tmp_path / "parts", "--shard", "3/4")
    assert "one of 3" in refused(a, b, other)
    assert "model.name is 'length'" in refused(a, b, run("constant", tmp_path / "parts", "--shard", "3/3"))
    assert "suite.name is 'rm-bench'" in refused(a, b, run("length", tmp_path / "p", "--shard", "3/3", suite="llmbar"))
    left = [
        run(model, tmp_path / "m", "--shard", f"{i}/2", "-a", f"engine.max_length={n}", "-a", "engine.truncation=left")
        for i, n in ((1, 64), (2, 65))
    ]
    assert "engine.max_length is 64" in refused(*left)


def test_overlapping_parts_are_refused(tmp_path):
    a, b = (run("length", tmp_path / "parts", "--shard", f"{i}/2") for i in (1, 2))
    a, b = sorted((a, b), key=lambda path: results.read(path).suite.examples)
    first, second = json.loads(a.read_text()), json.loads(b.read_text())
    own, other = (shards._unranged(one["shard"]["places"], a) for one in (first, second))
    first["shard"]["places"] = shards._ranges(other[: len(own)])
    a.write_text(json.dumps(first))
    assert "overlap" in refused(a, b)
    first["shard"]["places"] = "3-1"
    a.write_text(json.dumps(first))
    assert "out of order" in refused(a, b)


def test_two_shards_may_run_at_one_moment_on_one_store(tmp_path, model):
    """Each holds a lock of its own, and answers go to the same file."""
    from rmeval.store import Store

    with Store(tmp_path / "out.sqlite") as store, store.lock("another run"):
        run(model, tmp_path / "out", "--shard", "1/2", "-a", "engine.truncation=left")
        run(model, tmp_path / "out", "--shard", "2/2", "-a", "engine.truncation=left")


@pytest.mark.slow
def test_the_lines_of_the_manual_score_a_run_process_by_process(tmp_path, model):
    """As docs/engines.md has them, with two processes; without GPUs the variable that names one is of no effect."""
    [lines] = re.findall(r"```\n(n=8\n.*?)```", (ROOT / "docs" / "engines.md").read_text(encoding="utf-8"), re.DOTALL)
    given = f"{model} --suite rm-bench --data {sample_file('rm-bench')} -a engine.truncation=left"
    lines = lines.replace("n=8", "n=2").replace("MODEL --suite rm-bench", given)
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    where = {"PATH": tools, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-e", "-c", lines],
        cwd=tmp_path,
        env={**os.environ, **where},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [merged_] = (tmp_path / "results").rglob("*.json")
    whole = results.load_result(run(model, tmp_path / "whole", "-a", "engine.truncation=left"))
    again = results.load_result(merged_)
    assert [j.id for j in again.judgements] == [j.id for j in whole.judgements]
    for a, b in zip(again.judgements, whole.judgements, strict=True):
        assert a.scores == pytest.approx(b.scores, abs=1e-5)


def test_a_dry_run_forecasts_the_part(tmp_path):
    def forecast(*more):
        answer = rmeval(
            "run", "length", "--suite", "rm-bench", "--data", sample_file("rm-bench"), "--dry-run", "--json", *more
        )
        return answer.document["examples"]

    assert sum(forecast("--shard", f"{i}/2") for i in (1, 2)) == forecast()


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2", ""])
def test_a_shard_is_one_of_so_many(text):
    with pytest.raises(UsageError, match="--shard"):
        Shard.parse(text)


def test_prompts_are_never_parted_and_every_shard_gets_its_share():
    examples = load_suite("arithmetic").load(None, 0).examples
    homes = defaultdict(set)
    for example in examples:
        homes[example.cluster].add(shards.shard_of(example, 4))
    assert {len(found) for found in homes.values()} == {1}
    sizes = [len(shards.places(Shard(i, 4), examples)) for i in (1, 2, 3, 4)]
    assert sum(sizes) == len(examples)
    assert min(sizes) > len(examples) / 8


@given(st.integers(1, 50), st.text(min_size=1, max_size=20))
def test_the_shard_is_a_function_of_the_prompt_alone(of, name):
    one = Example.pair(name, "p", "a", "b")
    assert 1 <= shards.shard_of(one, of) <= of
    assert shards.shard_of(one, of) == shards.shard_of(Example.pair(name, "p", "c", "d", "other"), of)


@given(st.sets(st.integers(0, 300)))
def test_places_survive_the_file(numbers):
    rising = sorted(numbers)
    assert shards._unranged(shards._ranges(rising), Path("x")) == rising
