"""The house keeps its rules: directions of import, sizes, what each module says of itself, what lies on top."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from command import ROOT

TOP_LEVEL = {
    # what docs/architecture.md names, and the dot files of the tools
    *("pyproject.toml", "README.md", "Makefile", "constraints.txt", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
    "SECURITY.md",
    *("rmeval", "suites", "scorers", "leaderboard", "results", "tests", "benchmarks", "docs", ".ci", ".github"),
    ".gitignore",
}


def tracked(pattern: str = "") -> list[Path]:
    """Files under version control that are on disk."""
    listed = subprocess.run(["git", "ls-files", "-z", pattern or "."], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout: git knows no files here")
    return [p for name in listed.stdout.decode().split("\0") if name and (p := ROOT / name).is_file()]


def python_files() -> list[Path]:
    return tracked("*.py")


def code_lines(path: Path) -> int:
    """Lines that are neither blank, nor a comment, nor in a docstring."""
    text = path.read_text(encoding="utf-8")
    silent: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            silent.update(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(1 for n, line in lines if n not in silent and line.strip() and not line.strip().startswith("#"))


def test_imports_go_one_way():
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 broken" in found.stdout


def test_no_file_is_long():
    long = {str(p.relative_to(ROOT)): n for p in python_files() if (n := len(p.read_text().splitlines())) > 500}
    assert not {name: n for name, n in long.items() if not name.startswith("tests/")}
    assert not {name: code for name in long if (code := code_lines(ROOT / name)) > 500}


LARGE_ROOMS = {
    "metrics": 5000,
    "training": 5000,
    "engines": 5000,
    "scorers": 3000,
    "leaderboard": 3000,
    "probes": 4000,
    "cli": 3000,
    "readers": 1500,
}
"""Lines of code that a room may have; any other may have 1,000, and the files on top 5,500 together."""


def test_every_room_is_within_its_budget():
    rooms = Counter()
    for path in python_files():
        if path.is_relative_to(ROOT / "rmeval"):
            inside = path.relative_to(ROOT / "rmeval").parts
            rooms[inside[0] if len(inside) > 1 else "on top"] += code_lines(path)
    limits = {"on top": 5500, **LARGE_ROOMS}
    assert {room: n for room, n in rooms.items() if n > limits.get(room, 1000)} == {}


def test_every_module_says_what_it_does_not_know():
    silent = []
    for path in python_files():
        if not path.is_relative_to(ROOT / "rmeval"):
            continue
        module = ast.parse(path.read_text(encoding="utf-8"))
        said = ast.get_docstring(module) or ""
        only_a_docstring = len(module.body) == 1
        if not said or not (only_a_docstring or path.name == "__main__.py" or "does not know" in said):
            silent.append(str(path.relative_to(ROOT)))
    assert not silent


def test_the_top_level_is_as_the_architecture_says():
    on_top = {p.relative_to(ROOT).parts[0] for p in tracked()}
    assert not on_top - TOP_LEVEL
    assert not {"pyproject.toml", "README.md", "Makefile", "LICENSE", "CHANGELOG.md"} - on_top


def test_content_is_data_and_code_is_in_one_place():
    for folder in ("suites", "scorers", "leaderboard", "results", "docs"):
        assert not [p for p in tracked(folder) if p.suffix == ".py"]


def test_every_suite_has_a_card_a_readme_and_a_few_rows():
    cards = sorted((ROOT / "suites").glob("*/card.toml"))
    assert len(cards) >= 8
    for card in cards:
        rows = (card.parent / "sample.jsonl").read_text(encoding="utf-8").splitlines()
        few = 1 if tomllib.loads(card.read_text(encoding="utf-8")).get("embedded") else 5  # those draw any number
        assert few <= len(rows) <= 20, card.parent.name
        assert (card.parent / "README.md").is_file(), card.parent.name


def test_only_the_command_line_prints_on_stdout():
    printing = []
    for path in python_files():
        if not path.is_relative_to(ROOT / "rmeval") or path.is_relative_to(ROOT / "rmeval" / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            prints = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            if prints and not any(k.arg == "file" for k in node.keywords):
                printing.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not printing


def test_test_files_have_names_of_their_own():
    names = [p.name for p in tracked("tests") if p.name.startswith("test_")]
    assert len(names) == len(set(names))
