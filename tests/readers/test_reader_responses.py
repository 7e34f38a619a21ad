"""Rows to score, in every form; each row that has none is named with what it holds instead."""

from __future__ import annotations

import json

import pytest

from rmeval.errors import UsageError
from rmeval.readers.responses import read_responses

USER, SAYS = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_form_of_a_row(tmp_path):
    rows = (
        {"prompt": "2 + 2?", "response": "4"},
        {"id": "b", "prompt": [USER], "responses": ["4", "5"]},
        {"prompt": "2 + 2?", "completions": ["4"]},
        {"messages": [USER, SAYS]},
        {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
        {"chosen": [USER, SAYS], "rejected": [USER, {**SAYS, "content": "5"}]},
    )
    found = read_responses(written(tmp_path / "a.jsonl", *rows))
    assert [one.id for one in found] == [1, "b", 3, 4, 5, 6]
    assert [one.responses for one in found] == [("4",), ("4", "5"), ("4",), ("4",), ("4", "5"), ("4", "5")]
    assert [one.key for one in found] == ["score", "scores", "scores", "score", "scores", "scores"]
    assert {tuple(turn.content for turn in one.prompt) for one in found} == {("2 + 2?",)}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [USER]}, "messages must end with a turn of the assistant"),
        ({"messages": [SAYS]}, "messages"),
        ({"text": "4"}, "no prompt (it has text)"),
        ({}, "no prompt (it has nothing)"),
        ({"prompt": "2 + 2?", "responses": []}, "responses must be a list of at least one response"),
        ({"prompt": "2 + 2?", "completions": "4"}, "completions must be a list"),
        ({"prompt": "2 + 2?", "text": "4"}, "no response (it has prompt, text)"),
    ],
)
def test_a_row_without_a_response_is_named(tmp_path, row, said):
    with pytest.raises(UsageError) as caught:
        read_responses(written(tmp_path / "a.jsonl", {"prompt": "?", "response": "!"}, row))
    assert "1 malformed rows" in str(caught.value)
    assert "line 2: " in str(caught.value)
    assert said in str(caught.value)
