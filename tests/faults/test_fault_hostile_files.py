"""Cards and files of checkpoints that were made to do harm: each is refused at once, with one message."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import own_rows
import pytest
from command import rmeval
from test_fault_checkpoints import refused, run, with_template

HOSTILE_CARDS = {
    "a text of ten megabytes": (b'summary = "' + b"a" * 10**7 + b'"\n', "larger than 256 KiB"),
    "lists in lists": (b"options = " + b"[" * 2000 + b"]" * 2000 + b"\n", "nested too deeply"),
    "a key of many parts": (b"a." * 50_000 + b"a = 1\n", "more than 200 dots"),
    "a number of many digits": (b"version = " + b"9" * 5000 + b"\n", "not valid TOML"),
    "no text": (b"\xff\xfe\x00", "not valid UTF-8"),
    "a pattern that is none": (b'[[layout]]\nname = "x"\npath = "(?P<a"\n', "no regular expression"),
    "a pattern of any size": (b'[[layout]]\nname = "x"\npath = "a{99999999999}"\n', "no regular expression"),
    "a name that leads elsewhere": (b'name = "../../etc/passwd"\n', "name"),
    "an integer for a table": (b"fields = 1e999\n", "fields"),
}


@pytest.mark.fault("F5")
@pytest.mark.parametrize("what", HOSTILE_CARDS)
def test_hostile_cards_are_refused_at_once(tmp_path, what):
    content, said = HOSTILE_CARDS[what]
    path = tmp_path / "card.toml"
    path.write_bytes(content)
    begun = time.process_time()
    message = refused(rmeval("check", path))
    assert time.process_time() - begun < 2
    assert said in message
    assert len(message) < 10_000


@pytest.mark.fault("F4")
def test_a_card_reads_nothing_outside_its_data(tmp_path, monkeypatch):
    secret = own_rows.pairs(tmp_path / "secret.jsonl", 2)
    own_rows.card_folder(tmp_path / "cards", "mine")
    card = tmp_path / "cards" / "mine" / "card.toml"
    text = card.read_text()
    for glob in ("../secret.jsonl", str(secret), "**/../secret.jsonl"):
        card.write_text(text.replace("[[layout]]\n", f"[[layout]]\nfiles = [{json.dumps(glob)}]\n"))
        monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
        there = tmp_path / "data"
        there.mkdir(exist_ok=True)
        (there / "other.csv").write_text("a,b\n1,2\n")
        assert "p0" not in refused(rmeval("run", "length", "--suite", "mine", "--data", there))


@pytest.mark.fault("F4")
def test_a_linked_card_folder_is_read_as_one_of_its_own_and_what_lies_beside_it_stays_unread(tmp_path, monkeypatch):
    made = own_rows.card_folder(tmp_path / "elsewhere", "mine")
    canary = tmp_path / "canary"
    (made / "suite.py").write_text(f"open({str(canary)!r}, 'w')\n")
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "mine").symlink_to(made)
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    pairs = own_rows.pairs(tmp_path / "rows.jsonl", 4)
    got = rmeval("run", "length", "--suite", "mine", "--data", pairs, "--out", tmp_path / "out")
    assert got.code == 0, got.stderr
    assert "code in suite ignored: suite.py" in got.stderr
    assert not canary.exists()


HOSTILE_FILES = {
    "config.json": ('{"model_type": "llama", "hidden_size": 1e999}', "null", '{"a":' * 900 + "0" + "}" * 900, "{"),
    "tokenizer.json": ("", '""', '{"model": 0}', "[" * 100_000, '{"version": "1.0", "model": {"vocab": 1e999}}'),
    "tokenizer_config.json": ('{"bos_token": false}', "[]"),
    "model.safetensors.index.json": ("{}", "null", '{"weight_map": {"score.weight": "../../x.safetensors"}}'),
}


@pytest.mark.fault("F6")
@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_hostile_files_of_a_checkpoint_are_one_message(tiny_reward_model, tmp_path, name):
    from rmeval.engines.checkpoint import Checkpoint
    from rmeval.engines.layers import Files
    from rmeval.errors import UsageError

    spoilt = Path(shutil.copytree(tiny_reward_model, tmp_path / "spoilt"))
    opened = Files if name.endswith("index.json") else lambda folder: Checkpoint(folder).tokenizer()
    for content in HOSTILE_FILES[name]:
        (spoilt / name).write_text(content)
        with pytest.raises(UsageError, match="spoilt"):
            opened(str(spoilt))


@pytest.mark.fault("F6")
def test_a_hostile_tokenizer_is_refused_before_anything_is_scored(tiny_reward_model, tmp_path):
    spoilt = Path(shutil.copytree(tiny_reward_model, tmp_path / "spoilt"))
    (spoilt / "tokenizer.json").write_text('{"model": 0}')
    assert "its tokenizer cannot be read" in refused(run(spoilt, own_rows.pairs(tmp_path / "rows.jsonl", 4)))


@pytest.mark.fault("F7")
def test_a_template_that_wants_more_memory_than_there_is_is_refused(tiny_reward_model, tmp_path):
    spoilt = Path(shutil.copytree(tiny_reward_model, tmp_path / "spoilt"))
    with_template(spoilt, "{{ 'x' * 10**16 }}")
    got = run(spoilt, own_rows.pairs(tmp_path / "rows.jsonl", 4), "--json")
    assert got.code == 3, got.stderr
    assert "8 template_refused" in got.document["withheld"]
