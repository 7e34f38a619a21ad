"""Boards of many entries: the matrix says what pairs say, kept sheets are believed only with their files, pages stay small."""

from __future__ import annotations

import base64
import html
import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import CARD, PLAN, at, pairs, scored, write

from rmeval import results, stats
from rmeval.compare import common_rows, difference_interval, pair
from rmeval.leaderboard import board as boards
from rmeval.leaderboard import gather as gathering
from rmeval.leaderboard.board import build
from rmeval.leaderboard.gather import follows
from rmeval.leaderboard.shape import Board, SuiteBoard
from rmeval.leaderboard.sheet import measured
from rmeval.leaderboard.shelf import Shelf
from rmeval.leaderboard.standing import ROW_BY_ROW, Known, Standing, standing_of
from rmeval.metrics import evaluate as evaluating
from rmeval.metrics.evaluate import evaluate, joint_bootstrap
from rmeval.metrics.plan import MetricPlan, RuleSpec, Section
from rmeval.plugins import METRICS
from rmeval.results import load_result
from rmeval.suites import Suite, load_suite
from rmeval.types import NAN, Judgement, Metric, Verdict


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder beside a card folder that holds the toy suite."""
    card = tmp_path / "cards" / "suites" / "toy-pairs" / "card.toml"
    card.parent.mkdir(parents=True)
    card.write_text(CARD)
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def board_of(folder: Path, **options: Any) -> Board:
    options = {"cache": folder.parent / "kept"} | options
    return build([folder], folder.parent / "site", built=at(15), **options)


def only(board: Board) -> SuiteBoard:
    (suite,) = board.suites
    return suite


def stands(paths: Sequence[Path], suite: Suite) -> Standing:
    shelf, where = Shelf(None), {}
    for path in paths:
        where[id(shelf.add(made := measured(path)))] = path
        assert made.sheet.entry is not None
    sheets = [next(s for s in shelf.find(measured(path).sheet.result)) for path in paths]
    known = Known(shelf.frames, shelf.layouts, lambda sheet: load_result(where[id(sheet)]).judgements)
    found = standing_of(sheets, suite, 1, known)
    assert found is not None
    return found


# --- the matrix ------------------------------------------------------------------------------------------------------


def steps(seed: int, missing: float = 0.0) -> list[Judgement]:
    """Solutions with a first wrong step, scored."""
    labels, own = random.Random(3), random.Random(seed)
    made = []
    for i in range(120):
        subset, wrong = ("easy", "hard")[i % 2], labels.randrange(5)
        grades = tuple(int(s < wrong) for s in range(4))
        values = tuple(own.gauss(0.62 if g else 0.38, 0.15) for g in grades)
        gone = own.random() < missing
        made.append(
            Judgement(
                f"{subset}/{i}", subset, "", f"p{i // 3}", (float(wrong == 4),), (grades,), lengths=(100 + i,),
                step_scores=((*values[:3], NAN) if gone else values,), reasons=("truncated",) if gone else (),
            )
        )  # fmt: skip
    return made


STEPS = """
name = "toy-steps"
version = 1
title = "Toy steps"
summary = "Where is the first error?"
kind = "process"
licence = "Apache-2.0"
reader = "steps"
[rule]
name = "first_error"
[headline]
name = "f1"
combine = "sections"
[[section]]
name = "simple"
subsets = ["easy"]
[[section]]
name = "subtle"
subsets = ["hard"]
"""


@pytest.mark.parametrize("kind", ["pairs", "pairs with holes", "steps with holes"])
def test_the_matrix_says_what_pairs_say(folder: Path, kind: str) -> None:
    """Replicates, errors, intervals and p are those of the rows compared two by two."""
    if kind.startswith("steps"):
        card = folder.parent / "cards" / "suites" / "toy-steps" / "card.toml"
        card.parent.mkdir()
        card.write_text(STEPS)
        suite = load_suite("toy-steps")
        paths = [scored(folder, steps(i, 0.03), model=f"m{i}", suite="toy-steps", plan=suite.plan) for i in range(4)]
    else:
        suite = load_suite("toy-pairs")
        holes = 0.02 if "holes" in kind else 0.0
        paths = [scored(folder, pairs(0.5 + i / 2, seed=i, missing=holes), model=f"m{i}") for i in range(4)]
    views = [load_result(path) for path in paths]
    found = stands(paths, suite)
    rows, overlap = common_rows([v.judgements for v in views], suite.plan, "abcd")
    paired, drawn = pair(rows, suite.plan), joint_bootstrap(rows, suite.plan).replicates
    assert found.common == overlap.common
    assert (overlap.common < len(views[0].judgements)) == ("holes" in kind)
    np.testing.assert_allclose(found.estimates, paired.estimates, atol=1e-12)
    expected = stats.rank_sets(paired.estimates, drawn)
    assert (found.ranks.best, found.ranks.worst, found.ranks.tied) == (expected.best, expected.worst, expected.tied)
    assert found.ranks.critical == pytest.approx(expected.critical, rel=1e-9)
    for i in range(4):
        for j in range(4):
            if i != j:
                assert found.errors[i, j] == pytest.approx(difference_interval(paired, drawn, i, j)[1], rel=1e-9)
    assert all(set(v) == ({"random"} if kind.startswith("steps") else {"length", "random"}) for v in found.versus), (
        "length is no baseline for steps, and that does not take the ranks away"
    )


def test_intervals_against_the_nulls_are_paired_bootstraps(folder: Path) -> None:
    suite = load_suite("toy-pairs")
    rows = pairs(1.5)
    by_length = [replace(r, scores=tuple(map(float, r.lengths))) for r in rows]
    paths = [scored(folder, rows, model="a"), scored(folder, by_length, model="length")]
    found = stands(paths, suite)
    both = [load_result(path).judgements for path in paths]
    paired, drawn = pair(both, suite.plan), joint_bootstrap(both, suite.plan).replicates
    ci = found.versus[0]["length"].ci
    assert ci is not None
    assert ci == pytest.approx(difference_interval(paired, drawn, 0, 1)[0], abs=1e-12)


def test_the_golden_ranges_on_a_board(folder: Path) -> None:
    """Accuracies .82, .80, .79 and .70 with independent errors of about .01 each: 1-3, 1-3, 1-3 and 4."""
    n = 1600
    for number, share in enumerate((0.82, 0.80, 0.79, 0.70)):
        right = set(random.Random(number).sample(range(n), round(share * n)))
        rows = [
            Judgement(f"easy/{i}", "easy", "", f"p{i}", (1.0, 0.0), scores=(float(i in right), 0.5)) for i in range(n)
        ]
        rows += [Judgement("hard/0", "hard", "", "h", (1.0, 0.0), scores=(1.0, 0.5))]
        head = Metric("accuracy", (round(share * n) / n + 1) / 2, None, None, n + 1, 0)
        write(folder, rows, model=f"{100 * share:.0f}", metrics=[head])
    suite = only(board_of(folder))
    assert [e.rank for e in suite.entries] == [(1, 3), (1, 3), (1, 3), (4, 4)]
    assert {e.model: set(e.tied_with) for e in suite.entries}["82"] == {"80", "79"}


@pytest.mark.fault("F58")
def test_f58_many_tied_entries_are_one_group(folder: Path) -> None:
    for i in range(12):
        scored(folder, pairs(), model=f"same-{i:02d}")
    suite = only(board_of(folder))
    assert {e.rank for e in suite.entries} == {(1, 12)}
    assert {len(e.tied_with) for e in suite.entries} == {11}
    assert suite.told_apart == (0, 66)
    assert suite.resolvable is None
    page = (folder.parent / "site" / suite.page).read_text()
    assert page.count("tied with 11 others") == 12
    neighbours = (folder.parent / "site" / suite.pairs).read_text()
    assert neighbours.count("not told apart</td>") == 11


# --- rules row by row ------------------------------------------------------------------------------------------------


def shown(i: int, rng: random.Random) -> dict[str, Judgement]:
    """An example for each rule that looks at examples one by one."""
    base = Judgement(f"easy/{i}", "easy", "", f"p{i // 2}", (1.0, 0.0), scores=(rng.choice((0.1, 0.5)), 0.5))
    verdicts = tuple(Verdict(o, rng.choice(("A", "B", None)), None) for o in ((0, 1), (1, 0)))
    verdicts = tuple(replace(v, reason="unparsed") if v.verdict is None else v for v in verdicts)
    six = tuple(rng.random() for _ in range(6))
    first = rng.randrange(4)
    return {
        "accuracy": base,
        "reciprocal_rank": replace(base, grades=(1.0, 0.0, 0.0), scores=(rng.random(), rng.random(), 0.5)),
        "style_matrix": replace(base, grades=(1.0, 1.0, 1.0, 0.0, 0.0, 0.0), scores=six),
        "both_orders": replace(base, scores=(), verdicts=verdicts),
        "judgebench": replace(base, scores=(), verdicts=verdicts),
        "first_error": replace(
            base, grades=(float(first == 3),), step_grades=(tuple(int(s < first) for s in range(3)),), scores=(),
            step_scores=(tuple(rng.random() for _ in range(3)),),
        ),
    }  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sets(st.integers(0, 15), min_size=2))
def test_rules_called_row_by_row_are(seed: int, kept: set[int]) -> None:
    rng = random.Random(seed)
    rows = [shown(i, rng) for i in range(16)]
    assert set(rows[0]) == ROW_BY_ROW
    for name in ROW_BY_ROW:
        rule = METRICS.get(name)
        every = [row[name] for row in rows]
        some = [every[i] for i in sorted(kept)]
        ids = {j.id for j in some}
        whole = [(r.key, r.component, r.value) for r in rule(every, {}).rows if r.key in ids]
        alone = [(r.key, r.component, r.value) for r in rule(some, {}).rows]
        assert str(whole) == str(alone), name


# --- what is kept ----------------------------------------------------------------------------------------------------


def content(folder: Path) -> dict[str, bytes]:
    site = folder.parent / "site"
    return {p.relative_to(site).as_posix(): p.read_bytes() for p in site.rglob("*") if p.is_file()}


def test_a_kept_board_is_built_without_measuring_anything(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        scored(folder, pairs(1.0 + i, seed=i, missing=0.01), model=f"m{i}")
    scored(folder, pairs(), model="limited", complete=False)
    board_of(folder)
    first = content(folder)
    times = {p: p.stat().st_mtime_ns for p in (folder.parent / "site").rglob("*.html")}
    monkeypatch.setattr(gathering, "measured", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(boards, "duels", lambda *_: pytest.fail("compared again"))
    board = board_of(folder)
    assert content(folder) == first
    assert {p: p.stat().st_mtime_ns for p in times} == times, "pages that are the same are not written again"
    assert [e.why for e in board.excluded] == ["incomplete"]


def test_nothing_is_believed_that_the_files_do_not_say(folder: Path) -> None:
    one = scored(folder, pairs(1.0), model="one")
    scored(folder, pairs(2.0, seed=2), model="two")
    board_of(folder)
    samples = next(one.parent.glob("*.gz"))
    samples.write_bytes(next((folder / "two").rglob("*.gz")).read_bytes())
    board = board_of(folder)
    assert [e.model for e in only(board).entries] == ["two"]
    assert "altered" in board.excluded[0].why
    fresh = build([folder], folder.parent / "fresh", built=at(15))
    assert replace(board, excluded=()) == replace(fresh, excluded=())


def test_another_card_makes_every_sheet_again(folder: Path) -> None:
    rows = [replace(r, scores=(0.0, 0.0)) if i % 4 == 0 else r for i, r in enumerate(pairs(3.0))]
    scored(folder, rows, model="ties")
    assert only(board_of(folder)).entries[0].value is not None
    card = folder.parent / "cards" / "suites" / "toy-pairs" / "card.toml"
    card.write_text(CARD.replace('ties = "lose"', 'ties = "win"'))
    board = board_of(folder)
    assert board.suites == ()
    assert "states accuracy" in board.excluded[0].why


@pytest.mark.parametrize("damage", ["cut", "bit", "text"])
def test_a_damaged_file_is_noted_and_made_again(folder: Path, damage: str) -> None:
    scored(folder, pairs(1.0), model="one")
    board_of(folder)
    first = content(folder)
    [file] = (folder.parent / "kept").glob("*.npz")
    held = bytearray(file.read_bytes())
    at_most = held.index(b"a0.npy") + 200
    held = held[: len(held) // 2] if damage == "cut" else bytearray(b"not an archive") if damage == "text" else held
    if damage == "bit":
        held[at_most] ^= 1
    file.write_bytes(bytes(held))
    said: list[str] = []
    board_of(folder, say=said.append)
    assert len(said) == 1
    assert "made again" in said[0]
    assert content(folder) == first
    board_of(folder, say=said.append)
    assert len(said) == 1, "it is whole again"


@pytest.mark.slow
def test_processes_beside_each_other_make_the_same_board(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(6):
        scored(folder, pairs(1.0 + i / 4, seed=i), model=f"m{i}")
    monkeypatch.setattr(gathering, "ALONE", 2)
    assert board_of(folder, cache=None, jobs=2) == board_of(folder, cache=None, jobs=1)


# --- copies ----------------------------------------------------------------------------------------------------------


def test_copies_are_found_whatever_their_scale_and_holes() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 300))
    rows[7] = 3 * rows[3] + 2
    rows[9] = -rows[3]
    rows[11] = rows[5]
    rows[11, rng.random(300) < 0.2] = np.nan
    rows[12] = rows[6] + 0.3 * rng.standard_normal(300)
    spread = np.nanstd(rows, axis=1, keepdims=True)
    assert follows(((rows - np.nanmean(rows, axis=1, keepdims=True)) / spread).astype(np.float32)) == [(3, 7), (5, 11)]


# --- statistics of many ----------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.sampled_from((-1.0, 0.0, 0.5, 1.0)), min_size=9, max_size=9), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_flips_of_many_columns_are_those_of_each(columns: list[list[float]]) -> None:
    d = np.array(columns).T
    names = list("abcdefghi")
    many = stats.sign_flips(d, names)
    assert many.tolist() == pytest.approx([stats.sign_flip(column, names) for column in d.T])


def test_a_thousand_comparisons_keep_what_is_plain() -> None:
    """1 / 10,001 is the least that flips can say; times a thousand it is no finding, for a scorer always right."""
    rng = np.random.default_rng(1)
    plain, chance = np.ones((200, 990)), rng.choice((-1.0, 1.0), (200, 10))
    p = stats.sign_flips(np.concatenate([plain, chance], axis=1), range(200))
    assert stats.holm(p)[:990].max() < 1e-30
    assert stats.holm(np.full(1000, 1 / 10_001)).min() > 0.05
    alone = [stats.sign_flip(column, range(200)) for column in chance.T]
    assert p[990:] == pytest.approx(alone, abs=0.03)


def test_the_bound_is_never_below_the_exact_p() -> None:
    d = np.array([1.0] * 14 + [-1.0] * 2)
    exact = stats.sign_flip(d)
    assert 2 * np.exp(-(d.sum() ** 2) / (2 * (d**2).sum())) >= exact
    assert stats.sign_flips(d[:, None], range(16))[0] == exact


def test_paired_errors_are_standard_deviations_of_differences() -> None:
    boot = np.random.default_rng(2).normal(0.7, 0.02, (500, 6))
    boot[:, 4] = boot[:, 1]
    boot[:, 5] = boot[:, 1] + 1e-7 * np.arange(500)
    found = stats.paired_errors(boot)
    for i in range(6):
        for j in range(6):
            assert found[i, j] == pytest.approx((boot[:, i] - boot[:, j]).std(ddof=1), rel=1e-9, abs=1e-15)
    assert found[1, 4] == 0


def test_sums_of_thirds_and_of_halves_are_resampled_alike() -> None:
    """Credits that a binary float holds exactly go through BLAS, others do not: both are the mean of what is drawn."""
    x = np.random.default_rng(3).choice((0.0, 0.5, 1.0), (60, 3))
    exact = stats.cluster_bootstrap(x, np.ones_like(x), replicates=50)
    assert stats.cluster_bootstrap(x / 3, np.ones_like(x), replicates=50) == pytest.approx(exact / 3, rel=1e-12)


def test_the_random_baseline_is_drawn_once_for_equal_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def null(rows: Sequence[Judgement], plan: MetricPlan = PLAN) -> list[Any]:
        return [m for m in evaluate(rows, plan, replicates=20) if m.name == "null:random"]

    first = null(pairs(1.0))
    drawn: list[int] = []
    real = evaluating._drawn_null
    monkeypatch.setattr(evaluating, "_drawn_null", lambda book: drawn.append(1) or real(book))
    assert null(pairs(2.0, seed=5)) == first
    assert drawn == []
    other = [replace(r, id=f"x{r.id}") for r in pairs(1.0)]
    assert null(other) != first
    ties = replace(
        PLAN, sections=(Section("simple", ("easy",), RuleSpec("accuracy", {"ties": "half"})), *PLAN.sections[1:])
    )
    null(pairs(1.0), ties)
    assert len(drawn) == 2


# --- pages -----------------------------------------------------------------------------------------------------------


def test_any_two_entries_can_be_compared_and_neighbours_without_scripts(folder: Path) -> None:
    for i in range(11):
        scored(folder, pairs(0.4 + i / 5, seed=i), model=f"m{i:02d}")
    suite = only(board_of(folder))
    page = (folder.parent / "site" / suite.pairs).read_text()
    packed = json.loads(html.unescape(re.search(r'data-picker="([^"]*)"', page)[1]))  # type: ignore[index]
    errors = np.frombuffer(base64.b64decode(packed["errors"]), dtype="<u2") * packed["step"]
    assert len(packed["values"]) == 11
    assert len(errors) == 55
    views = {v.result.model.name: v for v in (results.load_result(p) for p in folder.rglob("*.json"))}
    names = [e.model for e in suite.entries]
    plan = load_suite("toy-pairs").plan
    rows = common_rows([views[name].judgements for name in names], plan, names)[0]
    drawn = joint_bootstrap(rows, plan).replicates
    at_pair = {(i, j): k for k, (i, j) in enumerate(zip(*np.triu_indices(11, 1), strict=True))}
    assert errors[at_pair[2, 9]] == pytest.approx((drawn[:, 2] - drawn[:, 9]).std(ddof=1), rel=1e-3)
    told = {(i, j) for i in range(11) for j in range(i) if names[j] not in suite.entries[i].tied_with}
    known = {
        (i, j)
        for i in range(11)
        for j in range(i)
        if abs(packed["values"][i] - packed["values"][j]) > packed["critical"] * errors[at_pair[j, i]]
    }
    assert told == known, "the page calls known what the ranges of ranks do"
    table = page[page.index("Neighbours in rank") :]
    assert table.count("<tr>") == 11
    assert all(f">{name}</a>" in table for name in names[:-1])


def test_the_first_page_holds_the_best_models_and_links_to_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rmeval.leaderboard import site

    monkeypatch.setattr(site, "MOST_ON_INDEX", 3)
    card = folder.parent / "cards" / "suites" / "second" / "card.toml"
    card.parent.mkdir()
    card.write_text(CARD.replace("toy-pairs", "second"))
    for i in range(5):
        for suite in ("toy-pairs", "second"):
            scored(folder, pairs(0.2 + 0.7 * i, seed=i), model=f"m{i}", suite=suite)
    board_of(folder)
    place = folder.parent / "site"
    first = (place / "index.html").read_text()
    glance = first[first.index("At a glance") : first.index("</section>")]
    assert [name for name in ("m4", "m3", "m2", "m1", "m0") if f'data-text="{name}"' in glance] == ["m4", "m3", "m2"]
    assert 'href="models.html"' in glance
    every = (place / "models.html").read_text()
    assert all(f'data-text="m{i}"' in every for i in range(5))
    monkeypatch.setattr(site, "MOST_ON_INDEX", 25)
    board_of(folder)
    assert not (place / "models.html").exists()
