"""A table of judgements is the judgements: the same rows, the same metrics to the last bit, and no fault read over."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_rows import plain, same

from rmeval import samples
from rmeval.errors import UsageError
from rmeval.metrics.evaluate import evaluate, headline_items, joint_bootstrap
from rmeval.metrics.plan import Definition, MetricPlan, RuleSpec, Section
from rmeval.metrics.table import Table


@pytest.fixture
def loaded(tmp_path):
    def load(rows):
        path = tmp_path / "x-samples.jsonl.gz"
        path.write_bytes(samples.dump(rows)[0])
        assert same(samples.load(path, len(rows)), rows)
        return samples.load_table(path, len(rows))

    return load


POOLED = MetricPlan("accuracy", "rows", (Section("accuracy", (), RuleSpec("accuracy")),))
NESTED = MetricPlan(
    "score",
    "sections",
    (
        Section("first", ("a",), RuleSpec("accuracy", {"ties": "half"})),
        Section("other", ("b", "c"), RuleSpec("accuracy"), weights={"b": 3.0, "c": 1.0}),
    ),
    also=(RuleSpec("reciprocal_rank"),),
    definitions=(Definition("pooled", {"first": 1.0, "other": 2.0}),),
)

BESIDE = replace(
    NESTED,
    sections=(NESTED.sections[0], replace(NESTED.sections[1], optional=True)),  # the last rows are no part of the score
    definitions=(),
)


@pytest.mark.parametrize("plan", [POOLED, NESTED, BESIDE], ids=["pooled", "nested", "beside"])
@pytest.mark.parametrize(
    "more",
    [
        dict(),
        dict(sizes=(2, 3, 5), lost=0.0),
        dict(texts=False, markup=False),
        dict(markup=False, lost=0.4),
        dict(lost=1.0),
        dict(reason="refused"),
        dict(subsets=("a",)),
    ],
    ids=["pairs", "any number", "no texts", "no markup", "nothing", "refused", "one subset"],
)
def test_metrics_of_a_table_are_those_of_its_rows_to_the_last_bit(loaded, plan, more):
    rows = plain(220, 5, **more)
    table = loaded(rows)
    assert isinstance(table, Table)
    assert same(table, rows)
    assert evaluate(table, plan, replicates=200) == evaluate(rows, plan, replicates=200)


@pytest.mark.parametrize("ties", ["lose", "half", "fraction", "win"])
def test_every_definition_of_a_tie(loaded, ties):
    rows = plain(90, 2, sizes=(2, 4))
    plan = replace(POOLED, sections=(Section("accuracy", (), RuleSpec("accuracy", {"ties": ties})),))
    table = loaded(rows)
    assert evaluate(table, plan) == evaluate(rows, plan)
    assert headline_items(table, plan) == headline_items(rows, plan)
    whole = [j for j in rows if not j.reasons]
    again = loaded(whole)
    one, other = (joint_bootstrap([some], plan, replicates=50) for some in (again, whole))
    assert one.values == other.values
    assert (one.replicates == other.replicates).all()


def test_rows_by_place_in_slices_and_by_id(loaded):
    rows = plain(60, 9, sizes=(1, 2, 6))
    table = loaded(rows)
    assert same([table[0], table[-1]], [rows[0], rows[-1]])
    assert same(table[3:40:5], rows[3:40:5])
    assert same(table[3:40][7:2:-1].by_id(), sorted(rows[3:40][7:2:-1], key=lambda j: j.id))
    with pytest.raises(IndexError):
        table[60]


def test_what_is_not_plain_is_no_table(loaded):
    rows = plain(5, 1)
    for odd in (
        dict(slices=("x",)),
        dict(votes=(0, 1)),
        dict(lengths=()),
        dict(answers=(0, 1)),
        dict(models=("m", "m")),
    ):
        assert loaded((*rows, replace(plain(1, 8)[0], id="odd", **odd))) is None, odd


LINE = '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.25]}'
ODD = [
    '{"id":"a","id":"b","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.25]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,NaN]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,1e999]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,1' + "0" * 400 + "]}",
    '{"id":"a","subset":"s","grades":[1.0,null],"scores":[0.5,0.1]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,null]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,null],"reasons":[null,""]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,null],"reasons":["x",null]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.2],"lengths":[3,-1]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.2],"lengths":[3,1.5]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.2],"lengths": null}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.2],"markup":[[1,2],[1,2,3]]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,true]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":["0.5",0.1]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1],"more":1}',
    '{"id":"","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1]}',
    '{"id":"a","grades":[1.0,0.0],"scores":[0.5,0.1]}',
    '{"id":"\\ud800","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1]}',
    '{"id":"a\x01","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1]}{"id":"b","subset":"s","grades":[1.0],"scores":[1]}',
    '{"id":"other","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1],}',
    "[]",
    '{"id":"a","subset":"s"}',
    '{"id":"a","subset":"s","grades":[1e999,0.0],"scores":[0.5,0.1]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1],"reasons":[null]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1],"truncated":[null,true]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1],"n_tokens":[3,-1]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1],"n_tokens":[3,null]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1],"markup":[[1,2,3],[1,2,-3]]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1],"markup":[null,[1,2,3]]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1],"lengths":[3]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[0.5],"lengths":[3,4]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[null,null]}',
    '{"id":"a","subset":"s","grades":[1.0,0.0],"scores":[null,null],"reasons":["x",null]}',
]
SOUND = [
    LINE.replace('"a"', '"other"'),
    '{"id":"other","subset":"s","grades":[1.0,0.0],"scores":[0.5,null],"reasons":[null,"x"]}',
    '{"id":"other","subset":"s","grades":[1.0,0.0],"scores":[0.5,0.1],"lengths":[3,4],"markup":[[0,0,0],[1,2,3]]}',
]


@pytest.mark.parametrize("odd", ODD)
def test_a_fault_is_never_read_over(tmp_path, odd):
    path = tmp_path / "x-samples.jsonl"
    alone = () if odd.startswith('{"id":"other"') else ([],)  # an id that stands twice needs two
    for before in (*alone, *([sound] for sound in SOUND)):
        path.write_bytes("".join(f"{line}\n" for line in (*before, odd)).encode("utf-8", "surrogatepass"))
        assert samples.load_table(path, 1 + len(before)) is None
        with pytest.raises(UsageError, match=f"line {1 + len(before)}"):
            samples.load(path, 1 + len(before))


@pytest.mark.parametrize("sound", SOUND)
def test_one_sound_row_is_a_table(tmp_path, sound):
    path = tmp_path / "x-samples.jsonl"
    path.write_text(sound + "\n")
    assert same(samples.load_table(path, 1), samples.load(path, 1))


def test_bytes_that_are_no_text_or_that_end_early(tmp_path):
    path = tmp_path / "x-samples.jsonl"
    for content in (
        LINE.encode().replace(b"a", b"\xff", 1) + b"\n",
        LINE.encode(),
        b"",
        b"\n\n",
        b"\n" + LINE.encode(),
    ):
        path.write_bytes(content)
        assert samples.load_table(path, 1) is None, content
    path.write_text(LINE + "\n")
    assert samples.load_table(path, 2) is None
    assert same(samples.load_table(path, 1), samples.load(path, 1))


values = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**20), 10**20),
    st.booleans(),
    st.none(),
    st.text(max_size=2),
)
fields = st.fixed_dictionaries(
    {"id": st.text(max_size=3), "subset": st.text(max_size=1), "grades": st.lists(values, max_size=3)},
    optional={
        "scores": st.lists(values, max_size=3),
        "reasons": st.lists(st.one_of(st.none(), st.text(max_size=1)), max_size=3),
        "lengths": st.lists(st.integers(-1, 5), max_size=3),
        "cluster": st.one_of(st.text(max_size=2), st.none()),
        "truncated": st.lists(st.booleans(), max_size=2),
        "n_tokens": st.lists(st.integers(-1, 3), max_size=2),
    },
)


@given(st.lists(fields, min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_a_file_both_readers_agree(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "agree-samples.jsonl"
    path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows), encoding="utf-8")
    table = samples.load_table(path, len(rows))
    if table is not None:
        assert same(table, samples.load(path, len(rows)))


def test_blocks_of_a_long_file_are_put_together(tmp_path, monkeypatch):
    rows = plain(300, 4)
    path = tmp_path / "x-samples.jsonl.gz"
    path.write_bytes(gzip.compress(gzip.decompress(samples.dump(rows)[0])))
    monkeypatch.setattr(samples, "_BLOCK", 1000)
    assert same(samples.load_table(path, 300), rows)
    monkeypatch.setattr(samples, "_BLOCK", 100)  # a line that is longer than a block is left to the other reader
    assert samples.load_table(path, 300) is None
