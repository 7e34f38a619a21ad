"""The board: what is ranked, what is not and why, and that the page is inert whatever the results say."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command import rmeval
from made_results import CARD, PLAN, SHA, at, pairs, scored, write

from rmeval import results
from rmeval.errors import UsageError
from rmeval.leaderboard.board import build
from rmeval.leaderboard.intake import result_files
from rmeval.leaderboard.shape import Board, Entry, SuiteBoard, claim
from rmeval.leaderboard.site import index
from rmeval.metrics.plan import RuleSpec
from rmeval.records import DataRecord
from rmeval.types import NAN, Judgement, Metric, Verdict

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(1)</script>'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder beside a card folder that holds the toy suite."""
    card = tmp_path / "cards" / "suites" / "toy-pairs" / "card.toml"
    card.parent.mkdir(parents=True)
    card.write_text(CARD)
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def board_of(folder: Path) -> Board:
    return build([folder], folder.parent / "site", built=at(15))


def only(board: Board) -> SuiteBoard:
    (suite,) = board.suites
    return suite


def by_model(suite: SuiteBoard) -> dict[str, Entry]:
    return {entry.model: entry for entry in suite.entries}


class Page(HTMLParser):
    """What a browser would make of a page: tags, attributes, links and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def links(self) -> list[str]:
        return [value or "" for name, value in self.attributes if name in {"href", "src", "action"}]


def test_entries_are_sorted_and_ranked_by_range(folder: Path) -> None:
    for seed, (name, skill) in enumerate((("strong", 3.0), ("twin", 2.9), ("weak", 0.6)), start=1):
        scored(folder, pairs(skill, seed=seed), model=name)
    suite = only(board_of(folder))
    assert [e.model for e in suite.entries] == sorted(by_model(suite), key=lambda m: -(by_model(suite)[m].value or 0))
    found = by_model(suite)
    assert found["strong"].rank == found["twin"].rank == (1, 2)
    assert found["strong"].tied_with == ("twin",)
    assert found["weak"].rank == (3, 3)
    assert found["weak"].tied_with == ()
    assert suite.common == 160
    assert 0.03 < (suite.resolvable or 0) < 0.2
    assert suite.sections == ("simple", "subtle")


def test_the_nulls_are_beside_and_what_beats_them_is_said(folder: Path) -> None:
    scored(folder, pairs(3.0), model="strong")
    suite = only(board_of(folder))
    assert {null.name for null in suite.nulls} == {"length", "random", "constant"}
    assert next(null.value for null in suite.nulls if null.name == "constant") == 0, "a constant gains nothing here"
    against = suite.entries[0].versus
    assert set(against) == {"length", "random"}
    length = next(null.value for null in suite.nulls if null.name == "length")
    assert against["length"].difference == pytest.approx((suite.entries[0].value or 0) - length)
    assert against["length"].p < 0.01
    assert re.fullmatch(
        r"beats length by \d+\.\d points \[\d+\.\d, \d+\.\d\], sign-flip p .*", claim("length", against["length"])
    )


def test_a_null_that_is_an_entry_is_ranked_and_not_shown_twice(folder: Path) -> None:
    rows = pairs(3.0)
    scored(folder, rows, model="strong")
    by_length = [replace(row, scores=tuple(map(float, row.lengths))) for row in rows]
    scored(folder, by_length, model="length")
    suite = only(board_of(folder))
    assert {null.name for null in suite.nulls} == {"random", "constant"}
    assert by_model(suite)["length"].rank == (2, 2)
    assert set(by_model(suite)["length"].versus) == {"random"}, "it is not compared with itself"


def test_a_null_that_was_run_is_what_others_are_compared_with(folder: Path) -> None:
    scored(folder, pairs(3.0), model="strong")
    scored(folder, pairs(0.0, seed=77), model="random")
    found = by_model(only(board_of(folder)))
    gap = (found["strong"].value or 0) - (found["random"].value or 0)
    assert found["strong"].versus["random"].difference == pytest.approx(gap)
    assert "random" not in found["random"].versus


def test_what_may_not_be_ranked_is_listed_with_the_reason(folder: Path) -> None:
    scored(folder, pairs(), model="good", hour=9)
    scored(folder, pairs(seed=2), model="good", hour=8)
    scored(folder, pairs(), model="limited", complete=False, notes=("--limit 60",))
    scored(folder, pairs(), model="withheld", complete=False, withheld="2 engine errors")
    scored(folder, pairs(), model="other rule", metric_options={"ties": "win"})
    scored(folder, pairs(), model="old suite", version=2)
    scored(folder, pairs(), model="no such suite", suite="toy-pears")
    write(folder, pairs(), model="liar", metrics=[Metric("accuracy", 0.99, None, (0.98, 1.0), 160, 0)])
    (folder / "broken.json").write_text('{"schema": 1, "schema": 2}')
    damaged = scored(folder, pairs(seed=5), model="damaged")
    next(damaged.parent.glob("*.gz")).write_bytes(b"not what was written")
    board = board_of(folder)
    assert [e.model for e in only(board).entries] == ["good"]
    assert only(board).entries[0].created == "2026-11-21T09:00:00Z"
    why = {e.model or e.file: e.why for e in board.excluded}
    assert why["good"] == "an older result; the newest one is shown"
    assert "--limit 60" in why["limited"]
    assert "2 engine errors" in why["withheld"]
    assert why["other rule"] == "not the official definition: ties = win"
    assert "version 2" in why["old suite"]
    assert "Did you mean 'toy-pairs'" in why["no such suite"]
    assert re.search(r"states accuracy 0\.99\d*, but its samples give 0\.\d{9}", why["liar"])
    assert "stands twice" in why["broken.json"]
    assert any("altered" in reason for reason in why.values())
    assert str(folder) not in (folder.parent / "site" / "leaderboard.json").read_text(), "a path of this machine leaked"


@pytest.mark.fault("F58")
def test_missing_is_not_zero_and_gates_the_rank(folder: Path) -> None:
    rows = pairs(2.0)
    holes = [
        replace(r, scores=(NAN, 0.0), reasons=("truncated", None)) if i % 40 == 0 else r for i, r in enumerate(rows)
    ]
    scored(folder, rows, model="whole")
    scored(folder, holes, model="few holes")
    many = [replace(r, scores=(NAN, 0.0), reasons=("refused", None)) if i % 10 == 0 else r for i, r in enumerate(rows)]
    scored(folder, many, model="many holes")
    scored(folder, [r for r in rows if r.subset == "easy"], model="half")
    suite = only(board_of(folder))
    found = by_model(suite)
    assert found["few holes"].n_missing == 4
    assert found["few holes"].rank == (1, 2)
    assert suite.common == 156
    assert found["many holes"].rank is None
    assert "10.0% of the examples have no score" in found["many holes"].note
    assert suite.entries[-1].model == "half"
    assert found["half"].value is None
    assert found["half"].rank is None
    assert found["half"].sections["subtle"].value is None
    assert found["half"].sections["simple"].value == found["whole"].sections["simple"].value
    text = Page((folder.parent / "site" / "index.html").read_text()).text
    assert "no examples of hard" in text


def judged(share: float) -> list[Judgement]:
    """The pairs of a perfect judge, shown in both orders, of which a share of the answers holds nothing."""
    made = []
    for i, j in enumerate(pairs(1.0)):
        lost = i % 160 < round(share * 320)
        first = Verdict((0, 1), None, "unparsed" if i % 2 else "refused") if lost else Verdict((0, 1), "A")
        made.append(replace(j, scores=(), verdicts=(first, Verdict((1, 0), "B"))))
    return made


def test_a_judge_that_often_cannot_be_read_is_shown_and_not_ranked(folder: Path) -> None:
    card = folder.parent / "cards" / "suites" / "toy-pairs" / "card.toml"
    card.write_text(CARD.replace('ties = "lose"', 'ties = "lose"\nunparsed = "chance"'))
    rule = RuleSpec("accuracy", {"ties": "lose", "unparsed": "chance"})
    plan = replace(PLAN, sections=tuple(replace(s, rule=rule) for s in PLAN.sections))
    for name, share in (("clear", 0.0), ("within", 0.05), ("beyond", 0.0625)):
        scored(folder, judged(share), model=name, plan=plan)
    found = by_model(only(board_of(folder)))
    assert found["clear"].rank is not None
    assert found["within"].rank is not None
    assert found["beyond"].rank is None
    assert found["beyond"].value == pytest.approx(1 - 0.0625 / 2)
    assert found["beyond"].n_missing == 0
    assert found["beyond"].note == ("not ranked: 6.2% of the judge's answers refuse or hold no verdict (limit 5.0%)")
    limits = folder.parent / "board.toml"
    limits.write_text("most_unread = 0.07\n")
    lenient = by_model(only(build([folder], folder.parent / "site", limits, built=at(15))))
    assert lenient["beyond"].rank is not None


def test_entries_of_few_examples_are_shown_and_not_ranked(folder: Path) -> None:
    for i in range(2):
        scored(folder, pairs(prompts=2), model=f"few-{i}")
    one = only(board_of(folder))
    assert {entry.rank for entry in one.entries} == {None}
    assert {entry.note for entry in one.entries} == {"not ranked: too few examples: 8, where a rank needs 10"}
    assert None not in {entry.value for entry in one.entries}
    limits = folder.parent / "board.toml"
    limits.write_text("least_examples = 8\n")
    assert None not in {e.rank for e in only(build([folder], folder.parent / "site", limits, built=at(15))).entries}


@pytest.mark.parametrize("entries", [0, 1, 4])
def test_small_and_tied_boards_render(folder: Path, entries: int) -> None:
    for i in range(entries):
        scored(folder, pairs(), model=f"same-{i}")
    board = board_of(folder)
    text = Page((folder.parent / "site" / "index.html").read_text()).text
    if entries == 0:
        assert board.suites == ()
        assert "Nothing to rank yet" in text
        return
    suite = only(board)
    assert {e.rank for e in suite.entries} == {(1, entries)}
    assert {len(e.tied_with) for e in suite.entries} == {entries - 1}
    assert suite.resolvable is None
    assert ("1–4" in text) == (entries == 4)


def test_other_draws_are_shown_but_not_ranked_with_the_rest(folder: Path) -> None:
    suite = results.SuiteRecord(
        name="toy-pairs",
        version=1,
        data=DataRecord(source="generated:seed=7", sha256="f" * 64, labels_sha256=SHA),
        examples=160,
    )
    other = [replace(row, cluster=f"7-{row.cluster}") for row in pairs(3.0, seed=3)]
    scored(folder, pairs(1.0), model="a")
    scored(folder, pairs(2.0, seed=2), model="b")
    scored(folder, other, model="other draw", suite_record=suite)
    found = by_model(only(board_of(folder)))
    assert found["other draw"].rank is None
    assert "generated:seed=7" in found["other draw"].note
    assert found["b"].rank is not None


def test_the_same_examples_from_another_layout_are_ranked_together(folder: Path) -> None:
    suite = results.SuiteRecord(
        name="toy-pairs", version=1, data=DataRecord(source="file:x", sha256="f" * 64), examples=160
    )
    textless = [replace(row, cluster=row.id, lengths=()) for row in pairs(3.0, seed=3)]
    scored(folder, pairs(0.4), model="a")
    scored(folder, textless, model="replayed", suite_record=suite)
    found = by_model(only(board_of(folder)))
    assert found["replayed"].rank == (1, 1)
    assert set(found["replayed"].versus) == {"length", "random"}


@pytest.mark.fault("F53")
def test_the_page_is_inert_whatever_a_result_says(folder: Path) -> None:
    scored(folder, pairs(2.0), model="<script>alert(1)</script>")
    scored(folder, pairs(1.0, seed=2), model=HOSTILE)
    scored(folder, pairs(), model="limited", complete=False, notes=(HOSTILE, "javascript:alert(1)"))
    card = folder.parent / "cards" / "suites" / "toy-pairs" / "card.toml"
    card.write_text(
        card.read_text()
        .replace("https://example.org/toy", "javascript:alert(1)")
        .replace("https://example.org/paper", "data:text/html,<script>alert(1)</script>")
    )
    board_of(folder)
    pages = sorted((folder.parent / "site").rglob("*.html"))
    assert len(pages) == 5, "first page, suite, pairs, two entries"
    for path in pages:
        page = Page(path.read_text())
        assert page.tags.count("script") == 1
        assert "img" not in page.tags
        assert "alert(1)" in page.text, "the name is shown as it is, as text"
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert not [name for name, _ in page.attributes if name == "style"]
        for link in page.links:
            local = r"(\.\./)*(board\.(css|js)|leaderboard\.json|(index|(suites|pairs)/toy-pairs)\.html)"
            held = r"(\.\./)*(results/[A-Za-z0-9._/-]+\.json|entries/[A-Za-z0-9._/-]+\.html)"
            assert re.fullmatch(rf"https://.*|#[a-z0-9-]+|{local}|{held}", link), link
        policy = next(v or "" for k, v in page.attributes if k == "content" and "default-src" in (v or ""))
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
    assert "<script>alert(1)</script>" in Page((folder.parent / "site" / "index.html").read_text()).text


def test_what_is_no_file_among_results_takes_no_board_down(folder: Path) -> None:
    scored(folder, pairs(2.0), model="acme/rm")
    os.mkfifo(folder / "pipe.json")
    (folder / "gone.json").symlink_to("nowhere")
    made = rmeval("leaderboard", "build", folder, "--out", folder.parent / "site")
    assert (made.code, "acme/rm" in made.stdout) == (0, True), made.stderr


@pytest.mark.fault("F53")
def test_no_character_that_steers_how_a_page_reads_reaches_one(folder: Path) -> None:
    steers = "\u202e\u2066\u200b\ufeff\x1b\x07"
    made = scored(folder, pairs(2.0), model="acme/rm", notes=(f"a note {steers}",))
    made.write_text(made.read_text().replace('"kind": "scalar"', f'"kind": {json.dumps(f"scalar{steers}")}'))
    board_of(folder)
    pages = [path.read_text() for path in sorted((folder.parent / "site").rglob("*.html"))]
    assert any("scalar\ufffd" in page for page in pages)
    assert not [c for c in steers for page in pages if c in page]


def test_every_link_of_the_page_leads_to_a_file_of_the_site(folder: Path) -> None:
    for seed, name in enumerate(("acme/one", "../../two"), start=1):
        scored(folder, pairs(seed=seed), model=name)
    site = folder.parent / "site"
    before = {p for p in folder.parent.rglob("*") if p.is_file()}
    board_of(folder)
    added = {p for p in folder.parent.rglob("*") if p.is_file()} - before
    assert all(p.is_relative_to(site) for p in added)
    local = [link for link in Page((site / "index.html").read_text()).links if link.startswith("results/")]
    assert len(local) == 2
    for link in local:
        assert results.load_result(site / link).result.complete
    again = build([folder, site], site, built=at(15))
    assert {e.model for e in only(again).entries} == {"acme/one", "../../two"}
    assert again.excluded == (), "copies below the site are not read as results"


def test_leaderboard_json_is_strict_sorted_and_stable(folder: Path) -> None:
    scored(folder, pairs(2.0), model="a")
    scored(folder, pairs(1.0, seed=2), model="b")
    board_of(folder)
    text = (folder.parent / "site" / "leaderboard.json").read_text()
    raw = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in leaderboard.json"))
    assert raw["schema"] == 1
    assert list(raw) == sorted(raw)
    page = (folder.parent / "site" / "index.html").read_text()
    board_of(folder)
    assert (folder.parent / "site" / "leaderboard.json").read_text() == text
    assert (folder.parent / "site" / "index.html").read_text() == page


def test_published_figures_stand_apart(folder: Path) -> None:
    scored(folder, pairs(), model="a")
    suite = only(board_of(folder))
    assert [p.model for p in suite.published] == ["somebody/else"]
    assert "somebody/else" not in by_model(suite)
    page = Page((folder.parent / "site" / "index.html").read_text())
    assert "neither recomputed nor ranked" in page.text
    assert "https://example.org/paper" in page.links


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere: no such result file or folder"):
        result_files([tmp_path / "nowhere"])


def test_a_faulty_board_card_is_refused(folder: Path) -> None:
    card = folder.parent / "board.toml"
    card.write_text('titel = "x"')
    with pytest.raises(UsageError, match="titel: unknown key"):
        build([folder], folder.parent / "site", card)


def test_several_suites_get_an_overview(folder: Path) -> None:
    suite = Path(str(folder.parent / "cards" / "suites" / "second" / "card.toml"))
    suite.parent.mkdir()
    suite.write_text(CARD.replace("toy-pairs", "second").replace("Toy pairs", "Second suite"))
    scored(folder, pairs(2.0), model="both")
    scored(folder, pairs(2.0), model="both", suite="second")
    scored(folder, pairs(1.0, seed=2), model="one only")
    board = board_of(folder)
    page = Page(index(board))
    assert [s.name for s in board.suites] == ["second", "toy-pairs"]
    assert "At a glance" in page.text
    assert {"#suite-1", "#suite-2"} <= set(page.links)


def labelled(outcomes: str) -> list[Judgement]:
    return [
        Judgement(f"{s}/{i}", s, "", f"{s}{i}", (1.0, 0.0), scores=(float(o), 0.5))
        for s in ("easy", "hard")
        for i, o in enumerate(outcomes)
    ]


@pytest.mark.fault("F59")
def test_all_right_and_all_wrong_render_without_nan(folder: Path) -> None:
    plan = replace(PLAN, expected={})
    scored(folder, labelled("1" * 30), model="right", plan=plan)
    scored(folder, labelled("0" * 30), model="wrong", plan=plan)
    suite = only(board_of(folder))
    assert [e.rank for e in suite.entries] == [(1, 1), (2, 2)]
    assert "nan" not in (folder.parent / "site" / "index.html").read_text().lower()
    assert all(e.ci is None or e.ci[0] <= (e.value or 0) <= e.ci[1] for e in suite.entries)
