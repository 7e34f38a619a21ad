"""Columns and tables one by one, found by tests/mutation: each gives what its rows give, and gives it as a column."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from plain_rows import plain, same

from rmeval.metrics import columns, nulls, rules, table
from rmeval.metrics.columns import Column, Places
from rmeval.types import NAN, Judgement, Verdict


def row(name, scores=(1.0, 0.0), grades=(1.0, 0.0), reasons=(), **more):
    return Judgement(name, "s", "", f"p {name}", grades, scores=scores, reasons=reasons, **more)


def lost(name, reason="truncated"):
    return row(name, (1.0, NAN), reasons=(None, reason))


def credits_of(rows, ties="lose"):
    found = columns.accuracy(table.of(rows), ties)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("ties", ["lose", "half", "fraction", "win"])
@pytest.mark.parametrize("sizes", [(2,), (1, 2, 5)])
def test_credits_of_a_column_are_those_of_its_rows(ties, sizes):
    rows = plain(150, 3, sizes=sizes)
    earned = rules.accuracy(rows, {"ties": ties})
    column, tied = columns.accuracy(table.of(rows), ties)
    assert same(column, earned.rows)
    assert len(column) == len(earned.rows)
    assert same([column[0], column[-1]], [earned.rows[0], earned.rows[-1]])
    assert same(column[40:7:-3], earned.rows[40:7:-3])
    assert column.missing.tolist() == [math.isnan(credit.value) for credit in earned.rows]
    assert [column.clusters[i] for i in range(len(column.clusters))] == [
        credit.cluster for credit in earned.rows if not math.isnan(credit.value)
    ]
    assert same(column.of(("a", "c")), [credit for credit in earned.rows if credit.subset in ("a", "c")])
    assert [c.value for c in column.filled(0.25)] == [0.25 if math.isnan(c.value) else c.value for c in earned.rows]
    places = Places(column.table, tied)
    assert len(places) == len(earned.ties)
    assert set(places) == set(earned.ties)
    assert all((j.id in places) == (j.id in earned.ties) for j in rows)


def test_rows_that_a_column_cannot_speak_for_are_left_to_the_rule():
    assert columns.accuracy(table.of([row("a", grades=(1.0, 1.0))]), "lose") is None
    assert columns.accuracy(table.of([lost("a")]), "lose") is None
    assert columns.accuracy(table.of([row("a"), lost("b", "refused")]), "lose") is None
    assert [c.value for c in credits_of([row("a")])] == [1.0]
    assert same([c.value for c in credits_of([row("a"), lost("b")])], [1.0, NAN])
    assert len(credits_of([row("a"), row("b", grades=(1.0, 1.0))])) == 1


def test_credits_in_another_order_and_some_of_them():
    column = credits_of([row("a"), row("b", (0.0, 1.0)), lost("c")])
    assert [c.key for c in column.take(np.array([2, 0, 1]))] == ["c", "a", "b"]
    assert [c.key for c in column.take(np.array([True, False, True]))] == ["a", "c"]
    assert column.take(np.ones(3, dtype=bool)) is column  # no copy


def test_examples_enter_where_they_have_a_credit_in_every_column_that_they_are_in():
    whole = table.of([row("a"), lost("b"), row("c"), row("d"), lost("e")])
    values = np.array([1.0, NAN, 0.0, 1.0, NAN])
    one = Column(whole, "one", values)
    other = Column(whole.take(np.array([2, 3])), "other", np.array([NAN, 1.0]))
    nothing = Column(whole.take(np.array([], dtype=np.intp)), "none", np.array([]))
    assert columns.entered([one]) == (3, 2)
    assert columns.entered([other]) == (1, 1)
    assert columns.entered([one, other]) == (2, 3)
    assert columns.entered([other, one]) == (2, 3)
    assert columns.entered([other, nothing]) == (1, 1)
    assert columns.entered([nothing, nothing]) == columns.entered([nothing]) == columns.entered([]) == (0, 0)


def test_rates_are_of_the_examples_that_are_in_a_column():
    whole = table.of([row("a"), lost("b"), row("c"), row("d"), row("e", (1.0, 1.0))])
    one = Column(whole.take(np.array([0, 1])), "accuracy", np.array([1.0, NAN]))
    other = Column(whole.take(np.array([2, 4])), "accuracy", np.array([1.0, 0.0]))
    tied, lacking, unread = columns.rates(whole, [one, other], [np.array([False, False]), np.array([False, True])])
    assert [(c.key, c.component, c.value) for c in tied] == [("a", "tie_rate", 0), ("c", "tie_rate", 0), ("e", "tie_rate", 1)]  # fmt: skip
    assert [(c.key, c.value) for c in lacking] == [("a", 0.0), ("b", 1.0), ("c", 0.0), ("e", 0.0)]
    assert [(c.component, c.value) for c in unread] == [("unparsed_rate", 0.0)] * 4
    tied, lacking, _ = columns.rates(whole, [Column(whole, "accuracy", np.zeros(5))], [np.ones(5, dtype=bool)])
    assert tied.table is lacking.table is whole  # no copy where all are in


@pytest.mark.parametrize("name", ["length", "random", "constant"])
@pytest.mark.parametrize("texts", [True, False])
def test_baselines_of_a_table_are_those_of_its_rows(name, texts):
    rows = plain(60, 4, sizes=(1, 2, 5), texts=texts, markup=False)
    columned = table.of(rows)
    assert isinstance(columned, table.Table)
    assert columned.right.size, "worked out before, and handed on"
    for draw in (0, 1):
        stood = nulls.stood_in(name, columned, draw)
        assert stood.right is columned.right
        for found, plain_one in zip(stood, nulls.stood_in(name, rows, draw), strict=True):
            assert same([found.scores, found.grades], [plain_one.scores, plain_one.grades])
            assert [r for r, s in zip(found.reasons, found.scores, strict=True) if math.isnan(s)] == [
                r for r, s in zip(plain_one.reasons, plain_one.scores, strict=True) if math.isnan(s)
            ]
    if name == "random":
        assert same([columns.random(columned)[0].scores], [nulls.random(rows[0]).scores])
        assert len(columns.random(columned.take(np.array([], dtype=np.intp)))) == 0


def test_judgements_as_a_table_and_tables_as_one():
    rows = plain(40, 6, sizes=(1, 2, 4))
    found = table.of(rows)
    assert same(found, rows)
    assert table.of(()) is None
    assert table.of([row("a"), row("b", verdicts=(Verdict((0, 1), "A"),))]) is None
    assert table.of([row("a", grades=(math.inf, 0.0)), row("b")]) is None
    assert table.of([row("a", scores=(math.inf, 0.0)), row("b")]) is None
    assert table.of([row("a"), row("a")]) is None
    parts = [table.of(rows[:7]), table.of(rows[7:8]), table.of(rows[8:])]
    assert same(table.joined(parts), rows)
    joined = table.joined(parts)
    assert [j.id for j in joined.by_id()] == sorted(j.id for j in rows)
    assert joined.clusters.names[:] == sorted({j.cluster for j in rows})


@pytest.mark.parametrize("which", ["texts", "markup"])
def test_tables_of_which_some_lack_a_column_are_not_joined(which):
    full, bare = plain(5, 1), [replace(j, id=f"x{j.id}") for j in plain(5, 2, **{which: False})]
    assert table.joined([table.of(full), table.of(bare)]) is None
    assert table.joined([table.of(bare), table.of(full)]) is None
    assert same(table.joined([table.of(bare)]), bare)
    more = [replace(j, id=f"y{j.id}") for j in bare]
    assert same(table.joined([table.of(bare), table.of(more)]), [*bare, *more])


def test_rows_are_made_in_blocks(monkeypatch):
    rows = plain(23, 7, sizes=(1, 3))
    found = table.of(rows)
    for block in (1, 5, 22, 23, 24):
        monkeypatch.setattr(table, "_BLOCK", block)
        assert same(found, rows)
        assert list(found.names("id")) == [j.id for j in rows]
    ids = found.names("id")
    assert len(ids) == 23
    assert (ids[3], ids[-1], ids[2:5]) == (rows[3].id, rows[-1].id, [j.id for j in rows[2:5]])
    assert list(ids[np.array([4, 2])]) == [rows[4].id, rows[2].id]


def test_a_table_in_another_order_is_another_table():
    rows = plain(9, 8)
    found = table.of(sorted(rows, key=lambda j: j.id))
    assert found.by_id() is found
    turned = found.take(np.array([2, 1, 0, 3, 4, 5, 6, 7, 8]))  # most stand where they stood
    assert [j.id for j in turned.by_id()] == sorted(j.id for j in rows)
    assert list(turned.clusters[np.arange(9)]) == [j.cluster for j in turned]
    moved = found.take(np.roll(np.arange(9), 1))  # none stands where it stood
    assert list(moved.clusters[np.arange(9)]) == [j.cluster for j in moved]
    assert found.clusters is found.take(np.arange(9)).clusters  # no copy
    assert found.clusters.codes.tolist() == found.prompts.tolist()
    assert turned.prompts.tolist() == found.prompts[[2, 1, 0, 3, 4, 5, 6, 7, 8]].tolist()


def test_a_row_is_unread_where_one_of_its_reasons_says_so():
    found = table.of([row("a"), lost("b"), lost("c", "unparsed"), lost("d", "refused"), lost("e", "timeout")])
    assert found.unread.tolist() == [False, False, True, True, False]
    assert found.take(np.array([3, 0])).unread.tolist() == [True, False]
    assert table.of([lost("c", "unparsed")]).unread.tolist() == [True]
    assert found.scored(np.full(10, NAN), "no_text").unread.tolist() == [False] * 5
    assert found.scored(np.full(10, NAN), "refused").unread.tolist() == [True] * 5


def test_counts_are_kept_in_as_few_bytes_as_the_largest_needs():
    def widths(most):
        found = table.of([row("a", lengths=(0, most), markup=((0, 0, 0), (0, most, 0)))])
        assert found[0].lengths == (0, most)
        assert found[0].markup == ((0, 0, 0), (0, most, 0))
        return found.lengths.itemsize, found.markup.itemsize

    assert [widths(most) for most in (255, 256, 65_536)] == [(1, 1), (2, 2), (4, 4)]
