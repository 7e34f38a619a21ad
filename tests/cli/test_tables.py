"""Tables in terminals of any width."""

from __future__ import annotations

import re

import pytest

from rmeval.cli import output

ROWS = [
    ("1-2", "internlm2-7b-reward", "37.3", "[33.1, 41.7]", "", "better than the others by more than their noise"),
    ("3", "beaver-7b", "7.2", "[5.3, 9.9]", "", "no better than luck"),
]
COLUMNS = ("rank", "model", "accuracy %", "95 % interval", "missing", "what that means")


@pytest.mark.parametrize("width", [60, 80, 120, 240])
def test_a_narrow_terminal_wraps_words_and_never_a_name_or_a_number(monkeypatch, capsys, width):
    from rich import console

    monkeypatch.setattr(console.Console, "is_terminal", property(lambda _: True))
    monkeypatch.setenv("COLUMNS", str(width))
    output.table("board", COLUMNS, ROWS, right=COLUMNS[2:5])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= width
    assert all(any(cell in line for line in lines) for row in ROWS for cell in row[:4])
    assert not any("missing" in line for line in lines)  # nothing is
