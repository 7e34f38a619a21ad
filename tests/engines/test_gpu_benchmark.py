"""The script for GPUs runs on this machine, small; what it counts is what torch counts."""

from __future__ import annotations

import json

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu
from benchmarks.prefix_tree import prompt_groups
from rmeval.engines.transformers import TransformersEngine


def test_every_step_runs_on_a_cpu(tmp_path, capsys):
    out = tmp_path / "gpu.json"
    assert gpu.main([str(out), "--shape", "tiny", "--device", "cpu", "--repetitions", "1"]) == 0
    assert "scores are equal" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert record["environment"]["device"] == "cpu"
    [table] = record["tables"]
    assert table["matrix product, TFLOP/s"] > 0
    assert [row["workload"] for row in table["rows"]] == list(gpu.WORKLOADS)
    for row in table["rows"]:
        assert row["largest difference from a text alone"] < 1e-5 < row["sd of scores"]
        assert row["layout"] == "prefix tree"
        assert row["rmeval: computed tokens"] < row["useful tokens"] <= row["plain: computed tokens"]
        for method in ("plain", "rmeval"):
            assert row[f"{method}: useful tokens/s"] > 0
            assert row[f"{method}: utilisation"] > 0
            assert 0 < row[f"{method}: outside the forward passes"] < 1
        assert 0 < row["tokenising and planning, share of the whole"] < 1


def test_unequal_scores_stop_it(tmp_path, monkeypatch, capsys):
    ours = gpu.Compared.ours
    monkeypatch.setattr(gpu.Compared, "ours", lambda self: [score + 0.001 for score in ours(self)])
    out = tmp_path / "gpu.json"
    assert gpu.main([str(out), "--shape", "tiny", "--device", "cpu", "--repetitions", "1"]) == 1
    assert "scores are not equal: tiny pairs, tiny best-of-4" in capsys.readouterr().out
    assert all("ratio" not in row for row in json.loads(out.read_text())["tables"][0]["rows"])


def test_without_a_gpu_it_says_what_it_would_measure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([str(tmp_path / "gpu.json")]) == 0
    said = capsys.readouterr().out
    assert "1B" in said
    assert "8B" in said
    assert "best-of-16" in said
    assert not list(tmp_path.iterdir())


def test_arithmetic_is_what_torch_counts_and_pairs_are_what_is_seen(tmp_path):
    gpu.save(str(tmp_path), "tiny")
    engine = TransformersEngine(gpu.Built(str(tmp_path)), dtype="bfloat16", device="cpu", lint="warn")
    inside = gpu.Inside(engine.reader.model.model, "cpu")
    compared = gpu.Compared(engine, inside, prompt_groups(2, 4, 20, 10))
    inside.clear()
    with FlopCounterMode(display=False) as counted:
        compared.plain()
    products = counted.get_flop_counts()["Global"]
    linear = sum(n for op, n in products.items() if "mm" in str(op))
    head = 2 * gpu.SHAPES["tiny"][0]  # that of the class, at every token
    assert linear == inside.tokens * (compared._linear() + head)
    parts = [compared.ids[i : i + 8] for i in range(0, len(compared.ids), 8)]
    padded = [max(map(len, part)) for part in parts for _ in part]
    assert inside.tokens == sum(padded)
    assert compared._padded_pairs() == sum(int(torch.ones(n, n).tril().sum()) for n in padded)
    texts = [(one.group, ids) for one, ids in zip(compared.asked, compared.ids, strict=True)]
    seen = {(group, tuple(ids[: i + 1])): i + 1 for group, ids in texts for i in range(len(ids))}
    assert compared._packed_pairs() >= sum(seen.values())  # a tree of every shared beginning would compute fewer
    whole = sum(len(ids) * (len(ids) + 1) // 2 for ids in compared.ids)
    assert compared._packed_pairs() < whole
    inside.clear()
    compared.ours()
    assert len(seen) <= inside.tokens < sum(map(len, compared.ids))
    assert compared._attention() == 2 * 4 * 4 * 16  # layers, score and value, multiplied and added, heads, width
