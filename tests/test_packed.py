"""Very many examples: held small, worked through in parts, and the same numbers as at once."""

from __future__ import annotations

import gzip
import json
import weakref

import pytest
from command import rmeval

from rmeval import packed as packing
from rmeval import runner, samples
from rmeval.metrics.table import Table
from rmeval.packed import Packed, packed
from rmeval.scorers.baseline import Length
from rmeval.store import Store
from rmeval.suites import _as_json, _from_json, load_suite
from rmeval.types import Candidate, Example, Labels, Message


def written(path, n, *, again=0):
    """A file of pairs; the last `again` prompts and responses are those of the first ones."""
    rows = [
        {"prompt": f"What is {i}?", "chosen": f"It is {i} \ud83d\ude00.", "rejected": "No." * (i % 5 + 1)}
        for i in range(n)
    ]
    for i in range(again):
        rows[n - 1 - i] = rows[i]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_packed_values_are_the_values(monkeypatch):
    monkeypatch.setattr(packing, "PLAIN", 10)
    monkeypatch.setattr(packing, "_BLOCK", 4)
    values = [{"n": i, "text": "ü\ud800" * i} for i in range(37)]
    found = packed(values, lambda v: v, lambda v: v)
    assert isinstance(found, Packed)
    assert list(found) == values
    assert list(found) == values, "once more"
    assert found == values
    assert found != values[:-1]
    assert [found[i] for i in (0, 9, 10, 13, 14, 36, -1, 11)] == [values[i] for i in (0, 9, 10, 13, 14, 36, -1, 11)]
    assert found[8:30:3] == tuple(values[8:30:3])
    with pytest.raises(IndexError):
        found[37]
    assert packed(values[:10], lambda v: v, lambda v: v) == tuple(values[:10])


def test_of_many_values_none_is_held_as_it_was(monkeypatch):
    class Value:
        pass

    monkeypatch.setattr(packing, "PLAIN", 10)
    alive = weakref.WeakSet()

    def made():
        for _ in range(12):
            value = Value()
            alive.add(value)
            yield value

    found = packed(made(), lambda _: None, lambda _: Value())
    assert len(found) == 12
    assert not alive


def test_where_no_temporary_file_can_be_written_packed_values_stay_in_memory(monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing.tempfile, "TemporaryFile", full)
    found = packed(range(9000), str, int)
    assert list(found) == list(range(9000))


def test_an_example_comes_back_whole():
    one = Example(
        "id",
        (Message("system", "s"), Message("user", "u\n")),
        (Candidate("a", ("x", "y"), {"style": "plain"}), Candidate(None)),
        Labels((1.0, 0.5), ((1, -1), ()), ((0, 1), (0, 1)), (0, -1), ("right", ""), (0, 1)),
        "subset",
        "group",
        "cluster",
        ("a", "b: c"),
    )
    assert _from_json(json.loads(json.dumps(_as_json(one)))) == one


def test_a_suite_is_read_the_same_however_its_examples_are_held(tmp_path, monkeypatch):
    path = written(tmp_path / "pairs.jsonl", 60)
    whole = load_suite("pairs").load(path)
    monkeypatch.setattr(packing, "PLAIN", 7)
    held = load_suite("pairs").load(path)
    assert isinstance(whole.examples, tuple)
    assert isinstance(held.examples, Packed)
    assert held.examples == whole.examples
    assert (held.sha256, held.labels_sha256, held.notes) == (whole.sha256, whole.labels_sha256, whole.notes)


def test_a_run_in_parts_is_the_run_at_once(tmp_path, monkeypatch):
    examples = load_suite("pairs").load(written(tmp_path / "pairs.jsonl", 50)).examples
    at_once = runner.run(examples, Length())
    monkeypatch.setattr(runner, "PART", 12)
    in_parts = runner.run(examples, Length())
    assert isinstance(in_parts.judgements, Table)
    assert tuple(in_parts.judgements) == at_once.judgements
    assert in_parts.counts == at_once.counts
    assert samples.dump(in_parts.judgements) == samples.dump(at_once.judgements)


def test_the_samples_file_is_what_gzip_makes_of_all_its_lines_at_once(tmp_path):
    examples = load_suite("pairs").load(written(tmp_path / "pairs.jsonl", 300)).examples
    content, rows = samples.dump(runner.run(examples, Length()).judgements)
    assert rows == 300
    assert content == gzip.compress(gzip.decompress(content), mtime=0)


def test_a_model_is_asked_once_whatever_part_asks_and_a_resumed_run_computes_no_more(
    tmp_path, monkeypatch, tiny_reward_model
):
    from rmeval.models import load_model

    examples = load_suite("pairs").load(written(tmp_path / "pairs.jsonl", 30, again=6)).examples

    def run(store):
        loaded = load_model(str(tiny_reward_model), given={})
        with Store(tmp_path / store) as opened:
            return runner.run(examples, loaded.scorer, loaded.engine, opened)

    at_once = run("whole.sqlite")
    monkeypatch.setattr(runner, "PART", 8)
    in_parts, again = run("parts.sqlite"), run("parts.sqlite")
    assert at_once.counts.computed == in_parts.counts.computed == again.counts.cached
    assert again.counts.computed == 0
    assert at_once.counts.computed == 48, "of 60 requests"
    assert set(in_parts.texts) == set(at_once.texts)
    assert tuple(in_parts.judgements) == tuple(again.judgements), "to the last bit"
    for one, other in zip(at_once.judgements, in_parts.judgements, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_the_command_line_runs_in_parts(tmp_path, monkeypatch):
    path = written(tmp_path / "pairs.jsonl", 40)
    command = (
        "run",
        "length",
        "--suite",
        "pairs",
        "--data",
        str(path),
        "--json",
        "--store",
        str(tmp_path / "s.sqlite"),
    )
    at_once = json.loads(rmeval(*command, "--out", str(tmp_path / "a")).stdout)
    monkeypatch.setattr(runner, "PART", 16)
    monkeypatch.setattr(packing, "PLAIN", 10)
    in_parts = json.loads(rmeval(*command, "--out", str(tmp_path / "b")).stdout)
    assert in_parts["metrics"] == at_once["metrics"]
    assert in_parts["samples"]["sha256"] == at_once["samples"]["sha256"]
    assert in_parts["id"] == at_once["id"]
