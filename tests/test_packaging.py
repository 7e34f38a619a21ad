"""The wheel and the sdist: what is in them, and that the wheel works from another folder in a clean environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from command import ROOT

import rmeval

pytestmark = pytest.mark.slow

SUITES = sorted(card.parent.name for card in (ROOT / "suites").glob("*/card.toml"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist) of this checkout."""
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist", "--outdir", out],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel], [sdist] = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def test_the_wheel_holds_code_and_content_and_nothing_else(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
        metadata = wheel.read(next(n for n in names if n.endswith("METADATA"))).decode()
    content = [n for n in names if n.startswith("rmeval/_content/")]
    for suite in SUITES:
        assert {f"rmeval/_content/suites/{suite}/{file}" for file in ("card.toml", "README.md", "sample.jsonl")} <= set(
            content
        )
    assert "rmeval/_content/leaderboard/board.toml" in content
    assert not [n for n in names if n.partition("/")[0] not in ("rmeval", f"rmeval-{rmeval.__version__}.dist-info")]
    assert not [n for n in names if "test_" in n or n.endswith(".pyc")]
    ours = {p.relative_to(ROOT).as_posix() for p in (ROOT / "rmeval").rglob("*.py")}
    assert ours <= set(names)
    assert f"\nVersion: {rmeval.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata


def test_the_sdist_can_be_built_and_tested_from(built):
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "tests/conftest.py", "leaderboard/board.toml"} <= names
    assert {f"suites/{suite}/card.toml" for suite in SUITES} <= names
    assert not [name for name in names if name.startswith((".venv", "runs/"))]
    # The reference board's results are the only ones that are kept: `rmeval verify` recomputes the board from them.
    results = {name for name in names if name.startswith("results/")}
    assert results == {p.relative_to(ROOT).as_posix() for p in (ROOT / "results/reference").rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def clean(built, tmp_path_factory):
    """An environment with the wheel in it; what it depends on is lent by this one, so that nothing is downloaded."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", built[0]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def run(program, *arguments, cwd):
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([program, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_works_from_another_folder(clean, tmp_path):
    where = run(clean / "python", "-c", "import rmeval; print(rmeval.__file__)", cwd=tmp_path)
    assert where.startswith(str(clean.parent))
    listed = json.loads(run(clean / "rmeval", "list", "suites", "--json", cwd=tmp_path))
    assert [one["name"] for one in listed["suites"]] == SUITES
    result = json.loads(
        run(clean / "rmeval", "run", "length", "--suite", "arithmetic", "--limit", "5", "--json", cwd=tmp_path)
    )
    assert (result["suite"]["examples"], result["complete"]) == (5, False)
    assert list((tmp_path / "results/length/arithmetic").glob("*.json"))
    assert "page: site/index.html" in run(clean / "rmeval", "leaderboard", "build", "--out", "site", cwd=tmp_path)
    assert "FAILED" not in run(clean / "rmeval", "check", "rm-bench", cwd=tmp_path)
