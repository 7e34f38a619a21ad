"""`rmeval submit`: the steps it prints, the pull request that `gh` opens, the one on the hub; and that neither happens unasked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import own_hub
import pytest
from command import Answer, rmeval, rmeval_process

GH = """\
#!{python}
import json, os, subprocess, sys
from pathlib import Path
branch = subprocess.run(["git", "rev-parse", "--abbrev-ref", "HEAD"], capture_output=True, text=True).stdout.strip()
Path({log!r}).write_text(json.dumps({{"words": sys.argv[1:], "branch": branch}}))
print("Creating pull request")
print("https://example.org/pull/7")
"""


def git(where: Path, *words: object) -> str:
    done = subprocess.run(["git", "-C", where, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    assert rmeval("run", "first-step", "--suite", "arithmetic-steps", "--out", out).code == 0
    [found] = out.rglob("*.json")
    return found


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with something of its own staged, and a `gh` of ours on the PATH."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "us")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "us@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "hub.git")
    git(tmp_path, "init", "-q", "-b", "main", "checkout")
    checkout = tmp_path / "checkout"
    git(checkout, "commit", "-q", "--allow-empty", "-m", "first")
    git(checkout, "remote", "add", "origin", tmp_path / "hub.git")
    git(checkout, "push", "-q", "origin", "main")
    (checkout / "mine.txt").write_text("not meant to be sent")
    git(checkout, "add", "mine.txt")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "gh").write_text(GH.format(python=sys.executable, log=str(tmp_path / "gh.json")))
    (programs / "gh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(checkout)
    return checkout


def test_nothing_leaves_this_machine_unasked(result: Path, checkout: Path, tmp_path: Path) -> None:
    said = rmeval("submit", result)
    assert said.code == 0, said.stderr
    assert "the same command with --pull-request" in said.stdout
    assert not (tmp_path / "gh.json").exists()
    assert git(checkout, "rev-parse", "--abbrev-ref", "HEAD") == "main"
    assert git(tmp_path / "hub.git", "branch", "--list") == "* main"


def test_the_printed_steps_are_exact(result: Path, checkout: Path, tmp_path: Path) -> None:
    said = rmeval("submit", result)
    steps = [line.strip() for line in said.stdout.splitlines() if line.startswith("  git ")]
    done = subprocess.run(["bash", "-e", "-c", "\n".join(steps)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    branch = git(checkout, "rev-parse", "--abbrev-ref", "HEAD")
    assert branch.startswith("submit-first-step-arithmetic-steps-")
    sent = git(tmp_path / "hub.git", "ls-tree", "-r", "--name-only", branch).splitlines()
    assert len(sent) == 3
    assert all(path.startswith("leaderboard/submissions/first-step/arithmetic-steps/") for path in sent)


def test_gh_opens_the_pull_request(result: Path, checkout: Path, tmp_path: Path) -> None:
    said = rmeval("submit", result, "--pull-request")
    assert said.code == 0, said.stderr
    assert "opened: https://example.org/pull/7" in said.stdout
    call = json.loads((tmp_path / "gh.json").read_text())
    assert call["words"][:4] == ["pr", "create", "--title", "Submit first-step on arithmetic-steps"]
    assert call["words"][call["words"].index("--head") + 1] == call["branch"]
    assert "`rmeval verify` says recomputed" in call["words"][call["words"].index("--body") + 1]
    assert git(checkout, "diff", "--cached", "--name-only") == "mine.txt", "what else was staged stays where it was"
    again = rmeval("submit", result, "--pull-request")
    assert again.code == 2
    assert "git switch: " in again.stderr
    assert "these steps are left" in again.stderr


def test_without_gh_a_pull_request_is_refused_before_anything_is_written(
    result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    said = rmeval("submit", result, "--pull-request")
    assert said.code == 2
    assert "needs GitHub's command `gh`" in said.stderr
    assert not (tmp_path / "leaderboard").exists()


# --- the hub ----------------------------------------------------------------------------------------------------------


def submit_to(hub: own_hub.OwnHub, result: Path, folder: Path, *more: object, **env: object) -> Answer:
    words = ("submit", result, "--submissions", folder / "subs", *more)
    return rmeval_process(*words, HF_HUB_OFFLINE=0, HF_ENDPOINT=hub.url, HF_HOME=folder / "hf", **env)


def test_the_hub_gets_a_pull_request_and_never_a_commit(result: Path, tmp_path: Path) -> None:
    hub = own_hub.OwnHub()
    hub.publish("acme/board", {"README.md": b"# Ours\n"})
    said = submit_to(hub, result, tmp_path, "--push-to-hub", "acme/board", HF_TOKEN="hf_made_up_for_a_test")
    assert said.code == 0, said.stderr
    assert f"opened: {hub.url}/datasets/acme/board/discussions/1" in said.stdout
    assert "hf_made_up" not in said.stdout + said.stderr
    [made] = hub.pull_requests
    assert (made["hub"], made["branch"], made["query"]) == ("acme/board", "main", {"create_pr": ["1"]})
    assert made["summary"] == "Submit first-step on arithmetic-steps"
    folder = tmp_path / "subs/first-step/arithmetic-steps"
    place = "submissions/first-step/arithmetic-steps"
    assert made["files"] == {f"{place}/{path.name}": path.read_bytes() for path in folder.iterdir()}


def test_what_the_hub_refuses_is_said(result: Path, tmp_path: Path) -> None:
    hub = own_hub.OwnHub()
    hub.publish("acme/board", {"README.md": b"# Ours\n"})
    said = submit_to(hub, result, tmp_path, "--push-to-hub", "acme/bord", HF_TOKEN="hf_made_up_for_a_test")
    assert said.code == 2
    assert "--push-to-hub acme/bord" in said.stderr
    assert hub.pull_requests == []
    offline = rmeval("submit", result, "--submissions", tmp_path / "subs", "--push-to-hub", "acme/board")
    assert offline.code == 2
    assert "HF_HUB_OFFLINE is set" in offline.stderr


def test_a_part_of_a_run_is_called_one(tmp_path):
    assert rmeval("run", "length", "--suite", "arithmetic", "--shard", "1/2", "--out", tmp_path / "out").code == 0
    [part] = (tmp_path / "out").rglob("*.json")
    assert "one part of a run" in rmeval("submit", part, "--submissions", tmp_path / "subs").stderr
    built = rmeval("leaderboard", "build", tmp_path / "out", "--out", tmp_path / "site")
    assert f"left out: {part.name}: one part of a run" in built.stdout
