"""The workflow that verifies submissions of a pull request: what it may, and its own shell on pull requests made here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from command import ROOT, rmeval

FILE = ROOT / ".github/workflows/verify-submissions.yml"


@pytest.fixture(scope="module")
def workflow() -> dict:
    if not FILE.is_file():
        pytest.skip("not a checkout: the workflow is not here")
    # `on` is a truth value to YAML 1.1
    return {("on" if key is True else key): value for key, value in yaml.safe_load(FILE.read_text()).items()}


@pytest.fixture(scope="module")
def steps(workflow: dict) -> dict[str, dict]:
    [job] = workflow["jobs"].values()
    return {step["name"]: step for step in job["steps"]}


# --- what it may ------------------------------------------------------------------------------------------------------


def test_its_token_may_only_read(workflow: dict) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    [job] = workflow["jobs"].values()
    assert "permissions" not in job
    assert set(workflow["on"]) == {"pull_request_target"}
    assert "secrets." not in FILE.read_text()
    assert "timeout-minutes" in job


def test_it_checks_out_the_base_and_nothing_else(steps: dict[str, dict]) -> None:
    using = [step for step in steps.values() if "uses" in step]
    [checkout] = using
    assert re.fullmatch(r"actions/checkout@[0-9a-f]{40}", checkout["uses"])
    assert checkout["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert checkout["with"]["persist-credentials"] is False


def test_code_of_the_head_is_never_run(steps: dict[str, dict]) -> None:
    names = list(steps)
    assert names.index("install the base") < names.index("take the submissions") < names.index("verify them")
    for name, step in steps.items():
        script = step.get("run", "")
        assert "${{" not in script, "what others wrote would become part of the script"
        assert not re.search(
            r"git (checkout|switch|merge(?!-base)|worktree|archive|restore|read-tree|submodule)", script
        )
        if name != "install the base":
            assert not re.search(r"\b(pip|python3?|make|sh|source|eval)\b", script)
    heads = [name for name, step in steps.items() if "head" in json.dumps(step.get("env", {}))]
    assert heads == ["take the submissions"]


# --- its shell --------------------------------------------------------------------------------------------------------


def git(where: Path, *words: object) -> str:
    identity = {
        f"GIT_{who}_{what}": f"{who}@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", "-C", where, *map(str, words)],
        env={**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one submission; another one, not yet in it, lies beside."""
    root = tmp_path_factory.mktemp("upstream")
    for model in ("first-step", "random-step"):
        assert rmeval("run", model, "--suite", "arithmetic-steps", "--out", root / "results").code == 0
        [result] = (root / "results" / model).rglob("*.json")
        into = root / ("repository/leaderboard/submissions" if model == "first-step" else "new")
        assert rmeval("submit", result, "--by", "us", "--submissions", into).code == 0
    repository = root / "repository"
    (repository / "code.py").write_text("print('base')\n")
    git(root, "init", "-q", "repository")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "base")
    return root


@pytest.fixture
def answer(upstream: Path, steps: dict[str, dict], tmp_path: Path) -> Callable:
    """What the steps say to a pull request: (exit code, output) of the first that fails, or of the last."""

    def run(change: Callable[[Path], object]) -> tuple[int, str]:
        work = tmp_path / "contributor"
        git(tmp_path, "clone", "-q", upstream / "repository", work)
        base = git(work, "rev-parse", "HEAD")
        change(work)
        git(work, "add", "-A", "-f")
        git(work, "commit", "-q", "-m", "submit")
        head = git(work, "rev-parse", "HEAD")
        hub = tmp_path / "hub.git"
        git(tmp_path, "clone", "-q", "--bare", upstream / "repository", hub)
        git(work, "push", "-q", hub, "HEAD:refs/pull/7/head")
        checkout = tmp_path / "checkout"
        git(tmp_path, "clone", "-q", hub, checkout)
        assert git(checkout, "rev-parse", "HEAD") == base
        runner = tmp_path / "runner"
        runner.mkdir()
        bin_ = str(Path(sys.executable).parent)
        code, said = 0, ""
        for name in ("take the submissions", "verify them"):
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps[name]["run"]], cwd=checkout,
                env={"PATH": f"{bin_}:{os.environ['PATH']}", "HOME": str(tmp_path), "RUNNER_TEMP": str(runner),
                     "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NUMBER": "7", "HEAD_SHA": head},
                capture_output=True, text=True, timeout=240, check=False,
            )  # fmt: skip
            code, said = done.returncode, said + done.stdout + done.stderr
            if code:
                break
        assert (checkout / "code.py").read_text() == "print('base')\n"
        return code, said

    return run


def adds(upstream: Path) -> Callable[[Path], object]:
    return lambda work: shutil.copytree(upstream / "new", work / "leaderboard/submissions", dirs_exist_ok=True)


def test_a_sound_submission_passes(answer: Callable, upstream: Path) -> None:
    code, said = answer(adds(upstream))
    assert code == 0, said
    assert "random-step on arithmetic-steps: recomputed" in said
    assert "first-step on" not in said, "what was there before is not verified again"


def test_a_forged_submission_fails(answer: Callable, upstream: Path) -> None:
    def forge(work: Path) -> None:
        adds(upstream)(work)
        folder = work / "leaderboard/submissions/random-step/arithmetic-steps"
        [path] = (p for p in folder.glob("*.json") if p.name != "submission.json")
        content = json.loads(path.read_text())
        content["headline"]["value"] = content["metrics"][0]["value"] = 0.99
        path.write_text(json.dumps(content))
        held = json.loads((folder / "submission.json").read_text())
        import hashlib

        held["result_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (folder / "submission.json").write_text(json.dumps(held))

    code, said = answer(forge)
    assert code == 2, said
    assert "claim: " in said


def link(work: Path) -> None:
    [samples] = (work / "leaderboard/submissions").rglob("*.gz")
    samples.unlink()
    samples.symlink_to("/etc/passwd")


def program(work: Path) -> None:
    [held] = (work / "leaderboard/submissions").rglob("submission.json")
    held.chmod(0o755)


def code_too(work: Path) -> None:
    (work / "code.py").write_text("print('head')\n")


def record_too(work: Path) -> None:
    (work / "leaderboard/verified.jsonl").write_text("{}\n")


def hidden(work: Path) -> None:
    (work / "leaderboard/submissions/.gitattributes").write_text("* filter=x\n")


def odd(work: Path) -> None:
    folder = work / "leaderboard/submissions/a\n::error::x/b"
    folder.mkdir(parents=True)
    (folder / "submission.json").write_text("{}")


@pytest.mark.parametrize("change", [link, program, code_too, record_too, hidden, odd])
def test_whatever_else_a_pull_request_brings_is_refused_before_anything_is_read(
    answer: Callable, change: Callable[[Path], None]
) -> None:
    code, said = answer(change)
    assert code == 1, said
    assert "refused: " in said
    assert "\n::error::" not in said, "a name is no command to the runner"
    assert "print('head')" not in said


def test_removing_a_submission_is_left_to_a_person(answer: Callable) -> None:
    code, said = answer(lambda work: shutil.rmtree(work / "leaderboard/submissions/first-step"))
    assert code == 0, said
    assert "removed: leaderboard/submissions/first-step/arithmetic-steps" in said
