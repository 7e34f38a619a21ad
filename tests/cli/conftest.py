"""What tests of refusals share."""

from __future__ import annotations

import own_rows
import pytest


@pytest.fixture
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pairs(tmp_path):
    return own_rows.pairs(tmp_path / "mine.jsonl", 8).name
