"""What a run left behind and was damaged since is refused in one message."""

from __future__ import annotations

import pytest

from rmeval.errors import UsageError
from rmeval.training.compare import _load
from rmeval.training.folders import load_run, same_data


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "7", "\x00"])
def test_what_says_which_data_a_run_had(tmp_path, content):
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(UsageError, match=r"data\.json, which says what data the run had, is damaged"):
        same_data(tmp_path, "0" * 64)


@pytest.mark.parametrize("content", ["[]", "7", '{"rmeval": []}', '{"rmeval": null}', "{"])
def test_settings_that_are_no_runs(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UsageError, match="not the folder of a finished training run"):
        load_run(tmp_path)


def test_a_log_that_ends_within_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("rmeval.training.compare.load_run", lambda _: None)
    log = tmp_path / "train_log.jsonl"
    log.write_text('{"step": 1, "loss": NaN}\n')
    assert [row["step"] for row in _load(tmp_path).log] == [1]
    log.write_text('{"step": 1, "loss": 0.5}\n{"ste')
    with pytest.raises(UsageError, match=r"train_log\.jsonl line 2"):
        _load(tmp_path)
