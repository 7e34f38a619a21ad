"""Scoring again: how sure it finds what was made up, and that only maintainers can say that a submission was reproduced."""

from __future__ import annotations

import json
import math
import random
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from command import rmeval

from rmeval import results
from rmeval.errors import UsageError
from rmeval.leaderboard import verified
from rmeval.leaderboard.audit import audit, compared, drawn
from rmeval.leaderboard.board import build
from rmeval.leaderboard.intake import ahead_of_time, neighbours
from rmeval.leaderboard.submission import open_submission
from rmeval.leaderboard.verify import audit_power, verify
from rmeval.types import Judgement, Verdict


def ran(model: str, suite: str, out: Path) -> Path:
    assert rmeval("run", model, "--suite", suite, "--out", out).code == 0
    [found] = out.rglob("*.json")
    return found


@pytest.fixture(scope="module")
def random_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random baseline on an embedded suite: a real scorer whose scores anybody can find again."""
    return ran("random-step", "arithmetic-steps", tmp_path_factory.mktemp("runs"))


@pytest.fixture
def submissions(random_run: Path, tmp_path: Path) -> Path:
    assert rmeval("submit", random_run, "--by", "us", "--submissions", tmp_path / "subs").code == 0
    return tmp_path / "subs"


def levels(submissions: Path, file: Path) -> dict[str, str]:
    board = build([], submissions.parent / "site", submissions=submissions, verified=file)
    return {entry.model: entry.level for suite in board.suites for entry in suite.entries}


# --- F56: a made-up share ---------------------------------------------------------------------------------------------


@pytest.mark.fault("F56")
def test_f56_sixty_examples_find_five_per_cent_made_up_with_probability_95(tmp_path: Path) -> None:
    """The real scorer scores all examples again once; every seed then looks at the sixty that `audit` would draw."""
    view = results.load_result(ran("random", "arithmetic", tmp_path))
    assert audit(view, len(view.judgements)).agrees
    honest = {row.id: row for row in view.judgements}
    caught, trials = 0, 1500
    for seed in range(trials):
        chance = random.Random(seed)
        made_up = set(chance.sample(sorted(honest), round(0.05 * len(honest))))
        looked_at = [
            replace(row, scores=tuple(chance.random() for _ in row.scores)) if row.id in made_up else row
            for row in drawn(view.judgements, 60, seed)
        ]
        caught += not compared(looked_at, [honest[row.id] for row in looked_at]).agrees
    assert audit_power(0.05, 60) == pytest.approx(0.954, abs=5e-4)
    assert caught / trials >= 0.95


@pytest.mark.fault("F56")
def test_the_command_fails_where_made_up_scores_are_drawn(random_run: Path, tmp_path: Path) -> None:
    view = results.load_result(random_run)
    chance = random.Random(1)
    rows = [
        replace(row, step_scores=tuple(tuple(chance.random() for _ in one) for one in row.step_scores))
        if chance.random() < 0.3
        else row
        for row in view.judgements
    ]
    from rmeval.metrics.evaluate import evaluate
    from rmeval.suites import load_suite

    draft = replace(results.as_draft(view.result), metrics=evaluate(rows, load_suite("arithmetic-steps").plan))
    forged = results.write(draft, rows, tmp_path)
    assert verify(forged).level == "recomputed", "arithmetic alone does not find invented scores"
    said = rmeval("verify", forged, "--reproduce", 60)
    assert said.code == 3
    assert "not reproduced" in said.stdout
    assert "could not be reproduced" in said.stderr


def test_what_cannot_be_scored_again_is_refused(random_run: Path, tmp_path: Path) -> None:
    view = results.load_result(random_run)
    held = view.result.model.model_copy(update={"kind": "replay"})
    recorded = replace(view, result=view.result.model_copy(update={"model": held}))
    with pytest.raises(UsageError, match="holds recorded scores: there is no model to score again"):
        audit(recorded, 3)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": view.judgements[0].id, "scores": [1.0]}) + "\n")
    with pytest.raises(UsageError, match="scores no texts: it cannot audit random-step"):
        audit(view, 3, model=f"replay:{tmp_path / 'rows.jsonl'}")
    [first, *_] = view.judgements
    fewer = replace(first, step_scores=tuple(one[:-1] for one in first.step_scores))
    with pytest.raises(UsageError, match=f"example {first.id!r}: .* scores, where the result has"):
        compared([first], [fewer])


def test_a_score_that_is_missing_on_one_side_alone_is_beyond(random_run: Path) -> None:
    [first, second, *_] = results.load_result(random_run).judgements
    gone = replace(first, step_scores=tuple((math.nan, *one[1:]) for one in first.step_scores))
    found = compared([first, second], [gone, second])
    assert (found.beyond, found.agrees) == (len(first.step_scores), False)
    assert compared([gone, second], [gone, second]).agrees, "missing on both sides is no difference"


def test_labels_that_the_data_do_not_have_are_beyond(random_run: Path) -> None:
    """The pairs that a metric compares are pinned nowhere: chosen by a sender, genuine scores came to any accuracy."""
    [row, *_] = results.load_result(random_run).judgements
    for changed in (replace(row, group="mine"), replace(row, slices=("mine",)), replace(row, lengths=(7,))):
        found = compared([changed], [row])
        assert (found.beyond, found.agrees) == (1, False)


def test_scores_beside_the_verdicts_of_a_judge_do_not_hide_behind_them() -> None:
    verdicts = (Verdict((0, 1), "B"), Verdict((1, 0), "A"))
    asked = Judgement("x", "s", "", "c", (1.0, 0.0), verdicts=verdicts)
    assert compared([asked], [asked]).agrees
    with pytest.raises(UsageError, match="example 'x': 0 scores, where the result has 2"):
        compared([replace(asked, scores=(1.0, 0.0))], [asked])


def test_nobody_can_foretell_which_examples_are_drawn(random_run: Path) -> None:
    view = results.load_result(random_run)
    first, second = audit(view, 5), audit(view, 5)
    assert first.seed != second.seed
    assert [row.id for row in drawn(view.judgements, 60, 1)] != [row.id for row in drawn(view.judgements, 60, 2)]
    turned = drawn(view.judgements[::-1], 60, 1)
    assert turned == drawn(view.judgements, 60, 1), "the order of the file decides nothing"
    said = rmeval("verify", random_run, "--reproduce", 3, "--seed", 17, "--json").document
    assert said["notes"][-1].endswith("(--seed 17)")


# --- the record -------------------------------------------------------------------------------------------------------


def test_what_a_maintainer_found_gives_the_level(submissions: Path, tmp_path: Path) -> None:
    file = tmp_path / "verified.jsonl"
    assert levels(submissions, file) == {"random-step": "recomputed"}
    said = rmeval("verify", submissions, "--reproduce", 60, "--seed", 5, "--record", file)
    assert said.code == 0
    assert levels(submissions, file) == {"random-step": "reproduced"}
    [line] = map(json.loads, file.read_text().splitlines())
    assert (line["model"], line["suite"], line["examples"], line["seed"]) == ("random-step", "arithmetic-steps", 60, 5)
    assert (line["largest"], line["beyond"], line["agrees"]) == (0.0, 0, True)
    assert not {"by", "when", "created", "host"} & set(line)
    page = next((tmp_path / "site" / "entries").rglob("*.html")).read_text()
    assert "60 random examples scored again, largest difference 0" in page


def test_the_level_belongs_to_the_bytes_that_were_scored_again(submissions: Path, tmp_path: Path) -> None:
    file = tmp_path / "verified.jsonl"
    rmeval("verify", submissions, "--reproduce", 60, "--record", file)
    folder = submissions / "random-step" / "arithmetic-steps"
    view = open_submission(folder).view
    shutil.rmtree(folder)
    other = results.write(replace(results.as_draft(view.result), notes=("another one",)), view.judgements, tmp_path)
    assert rmeval("submit", other, "--submissions", submissions).code == 0
    assert levels(submissions, file) == {"random-step": "recomputed"}


def test_a_failed_audit_outweighs_others_and_is_shown(submissions: Path, tmp_path: Path) -> None:
    file = tmp_path / "verified.jsonl"
    failed = rmeval("verify", submissions, "--reproduce", 60, "--model", "first-step", "--record", file)
    assert failed.code == 3
    assert rmeval("verify", submissions, "--reproduce", 60, "--record", file).code == 0
    assert [json.loads(line)["agrees"] for line in file.read_text().splitlines()] == [False, True]
    board = build([], tmp_path / "site", submissions=submissions, verified=file)
    [entry] = board.suites[0].entries
    assert entry.level == "recomputed"
    assert any(flag.startswith("not reproduced: ") for flag in entry.flags)


def test_a_submission_cannot_call_itself_reproduced(submissions: Path, tmp_path: Path) -> None:
    file = tmp_path / "verified.jsonl"
    rmeval("verify", submissions, "--reproduce", 60, "--record", file)
    folder = submissions / "random-step" / "arithmetic-steps"
    shutil.copy(file, folder / "verified.jsonl")
    assert "4 files" in verify(folder).faults[0].message
    (folder / "verified.jsonl").unlink()
    inside = submissions / "verified.jsonl"
    shutil.copy(file, inside)
    assert levels(submissions, tmp_path / "none.jsonl") == {"random-step": "recomputed"}
    with pytest.raises(UsageError, match="lies among the submissions"):
        levels(submissions, inside)
    held = folder / "submission.json"
    held.write_text(json.dumps(json.loads(held.read_text()) | {"level": "reproduced"}))
    assert "level: unknown key" in verify(folder).faults[0].message


def test_too_few_examples_are_not_recorded(submissions: Path, tmp_path: Path) -> None:
    file = tmp_path / "verified.jsonl"
    said = rmeval("verify", submissions, "--reproduce", 5, "--record", file)
    assert (said.code, file.exists()) == (2, False)
    assert "--reproduce 60 is the least" in said.stderr
    assert "nothing to record" in rmeval("verify", submissions, "--record", file).stderr


def test_a_faulty_record_is_named_by_line(submissions: Path, tmp_path: Path) -> None:
    file = tmp_path / "verified.jsonl"
    rmeval("verify", submissions, "--reproduce", 60, "--record", file)
    file.write_text(file.read_text() + '{"schema": 1}\n')
    with pytest.raises(UsageError, match=r"verified\.jsonl:2"):
        verified.read_verified(file, submissions)


# --- places -----------------------------------------------------------------------------------------------------------


def test_a_second_submission_of_a_name_does_not_push_out_the_first(submissions: Path, tmp_path: Path) -> None:
    """The newest of two results would be shown: so only the one that lies where its name says counts."""
    honest = submissions / "random-step" / "arithmetic-steps"
    for place in ("zz/arithmetic-steps", "zz/random-step/arithmetic-steps"):
        shutil.copytree(honest, submissions / place)
        board = build([], tmp_path / "site", submissions=submissions)
        assert [entry.model for entry in board.suites[0].entries] == ["random-step"]
        [why] = [one.why for one in board.excluded]
        assert why.startswith("rejected: name: ")
        shutil.rmtree(submissions / "zz")


def test_names_that_differ_in_case_are_flagged(submissions: Path, random_run: Path, tmp_path: Path) -> None:
    view = results.load_result(random_run)
    draft = results.as_draft(view.result)
    twin = replace(draft, model=draft.model.model_copy(update={"name": "Random-step"}))
    path = results.write(twin, view.judgements, tmp_path)
    flags = verify(path, [open_submission(submissions / "random-step" / "arithmetic-steps").view]).flags
    assert "its name differs from random-step in case only" in flags
    assert "copied: the same scores as random-step, up to scale and shift" in flags, "whatever id it states"


@pytest.mark.fault("F56")
def test_f56_a_copy_is_found_in_any_order_and_scale(submissions: Path, random_run: Path, tmp_path: Path) -> None:
    view = results.load_result(random_run)
    rows = [
        replace(row, step_scores=tuple(tuple(0.25 + 0.5 * score for score in one) for one in row.step_scores))
        for row in view.judgements
    ]
    random.Random(0).shuffle(rows)
    draft = results.as_draft(view.result)
    copy = replace(draft, model=draft.model.model_copy(update={"name": "acme/new"}))
    path = results.write(copy, rows, tmp_path)
    flags = verify(path, [open_submission(submissions / "random-step" / "arithmetic-steps").view]).flags
    assert "copied: the same scores as random-step, up to scale and shift" in flags


def test_of_the_others_only_those_on_the_suite_are_read(submissions: Path) -> None:
    """A board of hundreds of submissions is not read for the sake of one."""
    elsewhere = submissions / "acme__rm" / "another-suite"
    elsewhere.mkdir(parents=True)
    (elsewhere / "submission.json").write_text("never read")
    [found] = neighbours(submissions, "arithmetic-steps")
    assert found.result.model.name == "random-step"
    assert neighbours(submissions, "arithmetic-steps", but=submissions / "random-step" / "arithmetic-steps") == []
    assert neighbours(submissions, "another-suite") == [], "a faulty one is told when it is verified itself"


def test_a_day_of_difference_between_clocks_is_no_fault():
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert not ahead_of_time("2026-11-23T11:59:59Z", now)
    assert ahead_of_time("2026-11-23T12:00:01Z", now)
