"""What a run says of itself and asks before it begins: room on the disk, where it ran, and how exactly it was asked to."""

from __future__ import annotations

import datetime as dt
import shutil
from typing import NamedTuple

import own_rows
import pytest
from command import rmeval


class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def pairs(tmp_path):
    return own_rows.pairs(tmp_path / "mine.jsonl", 8)


@pytest.fixture
def exact():
    import torch

    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.fault("F22")
@pytest.mark.parametrize("full", ["out", "store"])
def test_a_disk_that_is_as_good_as_full_is_noticed_before_anything_is_scored(tmp_path, pairs, monkeypatch, full):
    free = {"out": 100 * 2**20, "store": 100 * 2**20, full: 3 * 2**20}
    for name in free:
        (tmp_path / name).mkdir()
    real = shutil.disk_usage
    monkeypatch.setattr(
        shutil, "disk_usage", lambda at: Disk(2**40, 2**40, free[at.name]) if at.name in free else real(at)
    )
    where = ("--out", tmp_path / "out" / "deep", "--store", tmp_path / "store" / "deep" / "s.sqlite")
    got = rmeval("run", "length", "--suite", "pairs", "--data", pairs, *where)
    assert (got.code, got.stdout) == (4, "")
    assert f"{tmp_path / full / 'deep'}: 3.0 MiB are free on its disk" in got.stderr
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    free[full] = 100 * 2**20
    assert rmeval("run", "length", "--suite", "pairs", "--data", pairs, *where).code == 0


def run(pairs, model, *more):
    out = pairs.parent / "out"
    return rmeval("run", model, "--suite", "pairs", "--data", pairs, "--out", out, "--json", *more)


def test_a_result_says_where_when_and_with_what_it_was_made(pairs, tiny_reward_model):
    got = run(pairs, tiny_reward_model).document
    around = got["environment"]
    assert around["cpu"]
    assert dt.datetime.fromisoformat(around["started"]) <= dt.datetime.fromisoformat(got["created"])
    size = (tiny_reward_model / "model.safetensors").stat().st_size
    engine = {name: around["engine"][name] for name in ("weights_bytes", "deterministic", "tf32", "cuda")}
    assert engine == {"weights_bytes": size, "deterministic": False, "tf32": False, "cuda": None}


@pytest.mark.usefixtures("exact")
def test_deterministic_is_what_its_name_says_and_is_repeated(pairs, tiny_reward_model):
    plain = run(pairs, tiny_reward_model).document
    exact = run(pairs, tiny_reward_model, "--deterministic").document
    assert exact["environment"]["engine"]["deterministic"] is True
    assert exact["environment"]["engine"]["batch_size"] == 1
    assert (exact["engine"]["dtype"], exact["engine"]["attention"]) == ("float32", "eager")
    assert exact["id"] != plain["id"]
    assert exact["headline"] == plain["headline"]
    for more in ("engine.dtype=bfloat16", "engine.attention=sdpa", "engine.batch_size=4"):
        odd = run(pairs, tiny_reward_model, "--deterministic", "-a", more)
        assert (odd.code, odd.stdout) == (2, "")
        assert "--deterministic is float32, eager attention and batches of one text" in odd.stderr
    path = next(one for one in sorted((pairs.parent / "out").rglob("*.json")) if exact["id"][:7] in one.name)
    again = rmeval("reproduce", path, "--json")
    assert again.code == 0, again.stderr
    assert (again.document["asked"], again.document["agrees"]) == ([], True)


@pytest.mark.fault("F5")
def test_a_card_whose_rule_takes_no_such_value_is_refused_before_anything_is_scored(tmp_path, pairs, monkeypatch):
    from rmeval import runner

    made = own_rows.card_folder(tmp_path / "cards", "mine", ties='"loose"')
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    monkeypatch.setattr(runner, "run", lambda *_, **__: pytest.fail("scored"))
    got = rmeval("run", "length", "--suite", "mine", "--data", pairs, "--out", tmp_path / "out")
    assert (got.code, got.stdout) == (2, "")
    assert "suite 'mine': metric 'accuracy', option 'ties': 'loose' is none of" in got.stderr
    (made / "card.yaml").write_text("name: mine\n")
    assert "card.yaml: a card is a TOML file" in rmeval("check", made / "card.yaml").stderr
