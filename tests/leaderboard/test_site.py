"""The site: submissions on it with their level, a page per suite, entry and comparison, whole without any script."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_results import CARD, PLAN, SHA, at, draft, pairs, scored

from rmeval import results
from rmeval.compare import compare
from rmeval.leaderboard import site as pages
from rmeval.leaderboard.board import build
from rmeval.leaderboard.detail import detail, histogram
from rmeval.leaderboard.shape import Board, SuiteBoard
from rmeval.leaderboard.submission import Declared, write_submission
from rmeval.metrics.convert import AGGREGATES
from rmeval.metrics.evaluate import evaluate
from rmeval.records import DataRecord, EngineRecord, ModelRecord, SuiteRecord
from rmeval.suites import load_suite
from rmeval.types import NAN, Judgement

LAYOUT = '\n[[layout]]\nname = "hub"\nhub = "acme/toy-pairs"\nfiles = ["*.jsonl"]\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder beside a card folder that holds the toy suite."""
    card = tmp_path / "cards" / "suites" / "toy-pairs" / "card.toml"
    card.parent.mkdir(parents=True)
    card.write_text(CARD + LAYOUT)
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def board_of(folder: Path) -> Board:
    return build([folder], folder.parent / "site", submissions=folder.parent / "subs", built=at(15))


def only(board: Board) -> SuiteBoard:
    (suite,) = board.suites
    return suite


def html(folder: Path, page: str) -> str:
    return (folder.parent / "site" / page).read_text(encoding="utf-8")


def text(folder: Path, page: str) -> str:
    """What a page says, without its tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", html(folder, page)).split())


def submit(
    folder: Path, name: str, rows: Sequence[Judgement], *, trained: Sequence[str] = (), **declared: object
) -> Path:
    """A submission that verifies: metrics as `verify` computes them, a pinned revision."""
    suite = SuiteRecord(
        name="toy-pairs", version=1, data=DataRecord(source="generated:seed=0", sha256=SHA), examples=len(rows)
    )
    made = replace(
        draft(examples=len(rows), suite_record=suite, engine=EngineRecord(name="transformers", dtype="float32")),
        model=ModelRecord(name=name, revision="a" * 40, kind="scalar", training_data=tuple(trained)),
        metrics=evaluate(rows, PLAN),
    )
    path = results.write(made, rows, folder.parent / "runs", created=at(10))
    return write_submission(results.load_result(path), folder.parent / "subs", Declared(contact="me", **declared))


# --- submissions -----------------------------------------------------------------------------------------------------


def test_submissions_stand_verified_and_rejected_ones_with_their_code(folder: Path) -> None:
    scored(folder, pairs(0.5, seed=4), model="mine")
    rows = pairs(2.0)
    submit(folder, "acme/seen", rows, contaminated=True)
    submit(folder, "acme/copy", [replace(r, scores=tuple(3 * s + 1 for s in r.scores)) for r in rows])
    submit(folder, "acme/trained", pairs(1.0, seed=3), trained=["ACME/toy-pairs"])
    forged = submit(folder, "acme/forged", pairs(1.5, seed=9))
    [result] = (p for p in forged.glob("*.json") if p.name != "submission.json")
    content = json.loads(result.read_text())
    content["metrics"][1]["value"] += 0.001
    result.write_text(json.dumps(content))
    claim = json.loads((forged / "submission.json").read_text())
    claim["result_sha256"] = hashlib.sha256(result.read_bytes()).hexdigest()
    (forged / "submission.json").write_text(json.dumps(claim))
    board = board_of(folder)
    found = {e.model: e for e in only(board).entries}
    assert {m: e.level for m, e in found.items()} == {
        "mine": "own",
        "acme/seen": "recomputed",
        "acme/copy": "recomputed",
        "acme/trained": "recomputed",
    }
    assert found["acme/seen"].contaminated == "its sender declares that it has seen this suite"
    assert found["acme/trained"].contaminated == "trained on acme/toy-pairs, from which this suite is read"
    assert found["mine"].contaminated == found["acme/copy"].contaminated == ""
    assert "copied: the same scores as acme/seen, up to scale and shift" in found["acme/copy"].flags
    [left_out] = board.excluded
    assert (left_out.model, left_out.suite) == ("acme/forged", "toy-pairs")
    assert left_out.why.startswith("rejected: claim: ")
    assert str(folder.parent) not in html(folder, "index.html")
    assert text(folder, "index.html").count("may have seen it") == 3, "two entries, and what the mark means"
    assert "May have seen this suite: trained on acme/toy-pairs" in text(folder, found["acme/trained"].page)
    assert "Look: copied: the same scores as acme/seen" in text(folder, found["acme/copy"].page)


def test_a_result_and_its_own_submission_are_one_entry(folder: Path) -> None:
    where = submit(folder, "acme/twice", pairs(2.0))
    for file in (folder.parent / "runs").rglob("*"):
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    board = board_of(folder)
    assert [(e.model, e.level) for e in only(board).entries] == [("acme/twice", "recomputed")]
    assert board.excluded == ()
    below = build([folder.parent / "subs", folder], folder.parent / "site", submissions=where.parents[1], built=at(15))
    assert [e.level for e in only(below).entries] == ["recomputed"], (
        "a submission is not read a second time as a result"
    )


# --- pages -----------------------------------------------------------------------------------------------------------


def test_every_page_says_its_part_and_every_link_leads_somewhere(folder: Path) -> None:
    for seed, (name, skill) in enumerate((("acme/strong", 3.0), ("weak", 0.6)), start=1):
        scored(folder, pairs(skill, seed=seed, missing=0.02), model=name)
    suite = only(board_of(folder))
    site = folder.parent / "site"
    made = sorted(str(p.relative_to(site)) for p in site.rglob("*.html"))
    assert made == sorted(["index.html", suite.page, suite.pairs, *(e.page for e in suite.entries)])
    for page in made:
        for link in re.findall(r'(?:href|src)="([^"#]+)', html(folder, page)):
            if not link.startswith("https://"):
                assert ((site / page).parent / link).resolve().is_file(), f"{link} of {page}"
    strong = next(e for e in suite.entries if e.model == "acme/strong")
    shown = text(folder, strong.page)
    for part in ("By section and subset", "Margins", "Calibration", "Length", "All figures", "null:length", "tie_rate"):
        assert part in shown
    assert "If steps were combined otherwise" not in shown, "there are no steps"
    assert "rmeval run acme/strong" in shown, "the command that the result records"
    assert f"{strong.n_missing} more have no score" in shown
    assert html(folder, strong.page).count('class="chart"') == 3
    assert "What this suite can tell" in text(folder, suite.page)
    assert "1 of 1 pairs of ranked entries have a known order" in text(folder, suite.page)


def test_paired_differences_are_those_of_compare(folder: Path) -> None:
    a, b = (
        results.load_result(scored(folder, pairs(s, seed=i), model=n))
        for i, (n, s) in enumerate((("a", 3.0), ("b", 1.0)), 1)
    )
    board_of(folder)
    one = compare(a, b, load_suite("toy-pairs").plan)
    shown = text(folder, only(board_of(folder)).pairs)
    low, high = one.headline.ci or (math.nan, math.nan)
    assert f"{100 * one.headline.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" in shown
    for d in one.differences:
        assert (
            f"{d.name if d.level != 'headline' else 'all'} {100 * d.a:.1f} {100 * d.b:.1f} {100 * d.difference:+.1f}"
            in shown
        )
    assert 'id="pair-0-1"' in html(folder, "pairs/toy-pairs.html")


def test_pages_of_what_left_the_board_leave_too_and_nothing_else_does(folder: Path) -> None:
    for name in ("stays", "goes"):
        scored(folder, pairs(1.0), model=name)
    before = {e.model: e.page for e in only(board_of(folder)).entries}
    site = folder.parent / "site"
    own = [site / "entries" / "own.html", folder.parent / "kept.html"]
    for file in own:
        file.write_text("not a page of the board")
    held = json.loads((site / "leaderboard.json").read_text())
    held["suites"][0]["entries"].append({"page": "entries/../../kept.html"})
    (site / "leaderboard.json").write_text(json.dumps(held))
    for file in (folder / "goes").rglob("*.json"):
        file.unlink()
    board_of(folder)
    assert (site / before["stays"]).is_file()
    assert not (site / before["goes"]).exists()
    assert not (site / "pairs" / "toy-pairs.html").exists(), "one entry has nobody to be compared with"
    assert all(file.is_file() for file in own)
    (site / "leaderboard.json").write_text('{"suites": 3}')
    board_of(folder)


def test_a_long_table_is_whole_on_its_own_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_ON_INDEX", 2)
    for i in range(4):
        scored(folder, pairs(2.0, seed=i + 1), model=f"entry-{i}")
    suite = only(board_of(folder))
    table = re.compile(r'<table class="board".*?</table>', re.DOTALL)
    count = {page: table.findall(html(folder, page))[0].count("entries/") for page in ("index.html", suite.page)}
    assert count == {"index.html": 2, suite.page: 4}
    assert "All 4 entries" in text(folder, "index.html")


def test_scores_of_steps_are_swept_and_verdicts_have_no_calibration(folder: Path) -> None:
    rows = [
        Judgement(
            f"easy/{i}", "easy", "", f"p{i}", (1.0, 0.0), step_scores=((0.9, 0.8), (0.95, 0.1 + 0.02 * i)),
            lengths=(40, 50),
        )
        for i in range(40)
    ]  # fmt: skip
    plan = replace(PLAN, expected={}, sections=PLAN.sections[:1])
    card = folder.parent / "cards" / "suites" / "toy-pairs" / "card.toml"
    head, _, tail = CARD.partition('\n[[section]]\nname = "subtle"\nsubsets = ["hard"]\n')
    card.write_text(head + tail.replace("easy = 80\nhard = 80", "easy = 40"))
    path = scored(folder, rows, model="prm", plan=plan)
    found = detail(results.load_result(path), load_suite("toy-pairs"))
    swept = {s.name: s.value for s in found.sweep}
    assert list(swept) == list(AGGREGATES)
    assert swept["max"] == 0, "one high step is enough for the wrong one"
    assert swept["min"] == pytest.approx(35 / 40), "the wrong ones' last step reaches .8 from the 35th on"
    assert found.margins is not None
    assert found.margins_why == "step scores aggregated by prod"
    textless = replace(results.load_result(path), judgements=tuple(replace(r, lengths=()) for r in rows))
    again = detail(textless, load_suite("toy-pairs"))
    assert again.margins == found.margins, "margins need no texts"
    assert again.lengths_why == "The texts were not at hand."
    assert found.reliability == ()
    assert found.reliability_why
    entry = only(board_of(folder)).entries[0]
    assert "If steps were combined otherwise" in text(folder, entry.page)
    assert found.reliability_why in text(folder, entry.page)


# --- F58 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [0, 1, 3])
@pytest.mark.fault("F58")
def test_f58_small_and_all_tied_boards(folder: Path, entries: int) -> None:
    for i in range(entries):
        scored(folder, pairs(), model=f"same-{i}")
    board = board_of(folder)
    for page in (folder.parent / "site").rglob("*.html"):
        assert not re.search(r"\bnan\b|\binf\b", page.read_text().lower())
    if entries:
        suite = only(board)
        assert {e.rank for e in suite.entries} == {(1, entries)}
        assert suite.told_apart == (None if entries == 1 else (0, 3))
        assert bool(suite.pairs) == (entries > 1)
        assert suite.solved_by_all == pytest.approx(suite.entries[0].value, abs=0.2)
        assert (suite.solved_by_all or 0) + (suite.solved_by_none or 0) == pytest.approx(1), "they all earn the same"


@pytest.mark.fault("F58")
def test_f58_an_entry_without_a_subset_is_shown_and_its_gap_is_no_zero(folder: Path) -> None:
    scored(folder, pairs(2.0), model="whole")
    scored(folder, [r for r in pairs(2.0) if r.subset == "easy"], model="half")
    suite = only(board_of(folder))
    half = next(e for e in suite.entries if e.model == "half")
    assert (half.value, half.rank, half.sections["subtle"].value) == (None, None, None)
    shown = text(folder, half.page)
    assert "Rank –" in shown
    assert "no examples of hard" in shown
    assert "subtle 0.0" not in shown


def test_an_entry_of_other_examples_takes_nobody_elses_rank(folder: Path) -> None:
    """It states the digest of the suite's data as all others do."""
    scored(folder, pairs(3.0), model="a")
    scored(folder, pairs(1.0, seed=2), model="b")
    scored(folder, [replace(r, id=f"x{r.id}") for r in pairs(3.0)], model="elsewhere")
    few = [replace(r, id=f"x{r.id}") if i % 8 else r for i, r in enumerate(pairs(3.0, seed=5))]
    scored(folder, few, model="hardly")
    suite = only(board_of(folder))
    found = {e.model: e for e in suite.entries}
    assert suite.common == 160
    assert found["a"].rank == (1, 1)
    assert found["elsewhere"].rank is found["hardly"].rank is None
    assert "other data" in found["elsewhere"].note
    assert "shares 20 of the 160 examples" in found["hardly"].note


def test_a_run_without_any_score_has_a_page(folder: Path) -> None:
    rows = [replace(r, scores=(NAN, NAN), reasons=("refused", "refused")) for r in pairs(1.0)]
    path = scored(folder, rows, model="silent")
    found = detail(results.load_result(path), load_suite("toy-pairs"))
    assert (found.margins, found.reliability, found.lengths) == (None, (), ())
    assert found.margins_why
    assert found.lengths_why
    entry = only(board_of(folder)).entries[0]
    assert entry.value is None
    assert found.margins_why in text(folder, entry.page)


# --- suites beside each other ----------------------------------------------------------------------------------------


def test_rank_correlations_need_four_shared_entries(folder: Path) -> None:
    for name in ("second", "third"):
        card = folder.parent / "cards" / "suites" / name / "card.toml"
        card.parent.mkdir()
        card.write_text(CARD.replace("toy-pairs", name).replace("Toy pairs", f"The {name}"))
    for i in range(4):
        skill = (0.3, 1.0, 1.8, 3.0)[i]
        scored(folder, pairs(skill, seed=i + 1), model=f"m{i}")
        scored(folder, pairs(skill, seed=i + 1), model=f"m{i}", suite="second")
        if i:
            scored(folder, pairs(skill, seed=i + 1), model=f"m{i}", suite="third")
    board = board_of(folder)
    found = {(c.a, c.b): (c.spearman, c.n) for c in board.correlations}
    assert found[("second", "toy-pairs")] == (pytest.approx(1.0), 4)
    assert found[("second", "third")] == (None, 3)
    assert "Do the suites agree?" in text(folder, "index.html")
    assert "+1.00" in text(folder, "suites/second.html")


# --- drawings --------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3)), min_size=1, max_size=60))
def test_a_histogram_holds_every_margin_once_and_parts_at_zero(values: list[float]) -> None:
    found = histogram(values, [1.0] * len(values), len(values))
    assert sum(bar.share for bar in found.bars) == pytest.approx(1)
    assert len(found.bars) <= 2 * 24 + 2
    edges = {bar.low for bar in found.bars} | {found.bars[-1].high}
    assert 0 in edges
    assert sum(bar.share for bar in found.bars if bar.low >= 0) == pytest.approx(found.right + found.tied, abs=1e-6)
