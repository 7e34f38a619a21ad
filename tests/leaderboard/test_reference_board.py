"""What is committed under leaderboard/ and results/: small, without texts, verified from a fresh clone, and a board."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from command import ROOT, rmeval

from rmeval import results
from rmeval.leaderboard.board import build
from rmeval.leaderboard.submission import FILE, folder_of, open_submission
from rmeval.leaderboard.verified import audits_of, read_verified
from rmeval.leaderboard.verify import verify

SUBMISSIONS, REFERENCE = ROOT / "leaderboard/submissions", ROOT / "results/reference"
VERIFIED = ROOT / "leaderboard/verified.jsonl"
REWARD_MATH = {
    # recomputed from the published files by the official rule, per cent: accuracy and MRR
    "internlm2-7b-reward": (37.27, 0.5517),
    "Eurus-RM-7B": (16.98, 0.3830),
    "beaver-7b": (7.25, 0.2659),
    "oasst-rm": (7.04, 0.2703),
    "Math-Shepherd": (17.18, 0.3468),
    "ChatGPT-rating": (0.21, 0.1399),
    "Llama-3-8B-pairwise": (0.62, 0.1906),
}
OURS = ("arithmetic-rm", "arithmetic-orm", "arithmetic-prm")


@pytest.fixture(scope="module", autouse=True)
def committed() -> None:
    if not REFERENCE.is_dir():
        pytest.skip("not a checkout: the reference results are not here")


def sent() -> list[Path]:
    return sorted(path.parent for path in SUBMISSIONS.rglob(FILE))


def bare() -> list[Path]:
    return sorted(REFERENCE.rglob("*.json"))


def test_it_is_small_and_lies_where_it_belongs() -> None:
    files = [path for folder in (SUBMISSIONS, REFERENCE) for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    assert len(files) == 3 * len(sent()) + 2 * len(bare()), "nothing else lies there"
    for folder in sent():
        assert folder_of(open_submission(folder).view, SUBMISSIONS) == folder
    by_us = {folder.parent.name for folder in sent() if open_submission(folder).submission.declared.by.startswith("rm")}
    assert by_us == {*OURS, *REWARD_MATH}


def test_no_file_holds_a_text_or_says_where_it_was_made() -> None:
    """Ids, subsets, prompt digests and model names are words without spaces."""
    for path in [*bare(), *(p for folder in sent() for p in folder.glob("*.json") if p.name != FILE)]:
        held = results.read(path)
        rows = gzip.decompress((path.parent / held.samples.file).read_bytes()).decode().splitlines()
        for row in map(json.loads, rows):
            assert "texts" not in row
            for text in strings(row):
                assert len(text) < 64
                assert " " not in text
        assert held.environment.git
        assert held.environment.dirty is False
        assert not [word for word in held.environment.command if re.match(r"[/~]|[A-Za-z]:\\", word)]


def strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in strings(part)]


@pytest.mark.parametrize("model", sorted(REWARD_MATH))
def test_published_runs_have_the_published_numbers(model: str) -> None:
    [folder] = (SUBMISSIONS / model).iterdir()
    held = open_submission(folder).view
    accuracy, rank = REWARD_MATH[model]
    assert 100 * held.headline.value == pytest.approx(accuracy, abs=0.005)
    [mrr] = [m.value for m in held.metrics if m.name.startswith("reciprocal_rank") and m.subset is None]
    assert mrr == pytest.approx(rank, abs=5e-5)


def test_our_scorers_were_scored_again_as_they_are() -> None:
    known = read_verified(VERIFIED, SUBMISSIONS)
    for folder in sent():
        found = audits_of(open_submission(folder).view, known)
        assert bool(found) == (folder.parent.name in OURS)
        assert all(one.agrees and one.examples >= 60 for one in found)


def test_one_submission_is_verified_from_a_fresh_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RMEVAL_DEV_DATA", str(tmp_path / "nothing"))
    found = verify(SUBMISSIONS / "internlm2-7b-reward/rewardmath")
    assert found.level == "recomputed", found.faults
    assert "published: recorded scores, which cannot be scored again" in found.notes


@pytest.mark.slow
def test_all_of_it_is_verified_from_a_fresh_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RMEVAL_DEV_DATA", str(tmp_path / "nothing"))
    said = rmeval("verify", SUBMISSIONS, REFERENCE, "--submissions", SUBMISSIONS, "--json")
    assert said.code == 0, said.stderr
    found = said.document
    assert len(found) == len(sent()) + len(bare())
    assert {one["level"] for one in found} == {"recomputed"}
    assert not [flag for one in found for flag in one["flags"] if flag.startswith(("copied", "gold", "perfect"))]


@pytest.mark.slow
def test_the_board_is_built_from_it(tmp_path: Path) -> None:
    board = build([REFERENCE], tmp_path, submissions=SUBMISSIONS, verified=VERIFIED)
    assert board.excluded == ()
    suites = {suite.name: {entry.model: entry for entry in suite.entries} for suite in board.suites}
    assert set(REWARD_MATH) - {"ChatGPT-rating"} == set(suites["rewardmath"])
    assert suites["rewardmath"]["internlm2-7b-reward"].rank == (1, 1)
    assert suites["arithmetic"]["arithmetic-rm"].rank == (1, 1)
    for name, entries in suites.items():
        for model, entry in entries.items():
            level = "reproduced" if model in OURS else "recomputed" if model in REWARD_MATH else "own"
            assert entry.level == level, (name, model)
