"""The benchmarks on a CPU, small: what they compare is the same texts and weights."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks import prefix_tree, rewardbench_loop, vllm_classify


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(prefix_tree, "VOCABULARY", prefix_tree.WORDS + 2)


def test_prompt_groups_against_a_plain_loop(monkeypatch):
    monkeypatch.setattr(prefix_tree, "WORKLOADS", {"few": (2, 2, 30, 20)})
    monkeypatch.setattr(prefix_tree, "SHAPES", (prefix_tree.WINDOWED,))
    table = prefix_tree.measure(layers=1, repetitions=2)
    assert [row["dtype"] for row in table["rows"]] == ["float32", "bfloat16"]
    exact = table["rows"][0]
    assert exact["largest difference"] < 1e-5 < exact["sd of scores"]
    assert exact["ratio"][1] <= exact["ratio"][0] <= exact["ratio"][2]
    assert exact["layout"] == "prefix tree"
    assert table["processor"]


def test_seeds_make_other_texts():
    one, same, other = (prefix_tree.prompt_groups(2, 2, 30, 20, seed=seed) for seed in (0, 0, 1))
    assert one == same != other


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_in_terms_of_transformers_4(tmp_path):
    prefix_tree.save(f"{tmp_path}/ours", prefix_tree.WINDOWED, None, 1)
    rewardbench_loop._in_terms_of_transformers_4(tmp_path / "ours", tmp_path / "theirs")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert (config["rope_theta"], config["torch_dtype"], config["sliding_window"]) == (10000.0, "float32", 512)
    assert "rope_parameters" not in config
    tokenizer = json.loads((tmp_path / "theirs" / "tokenizer_config.json").read_text())
    assert "token_type_ids" not in tokenizer["model_input_names"]
    assert (tmp_path / "theirs" / "model.safetensors").samefile(tmp_path / "ours" / "model.safetensors")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_what_a_child_of_its_own_session_computes_is_counted():
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ninput()"
    before = vllm_classify._processor_seconds_of_children()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid not in before
        assert vllm_classify._processor_seconds_of_children()[child.pid] >= 0.25
        child.communicate(b"\n")
