"""bf16 computation where there is no accelerator: asked for by name it runs, and what is written is what was trained."""

import pytest
import torch
from command import rmeval
from safetensors.torch import load_file


@pytest.mark.skipif(torch.accelerator.is_available(), reason="asks what happens without one")
def test_bf16_trains_on_a_cpu_and_leaves_weights_that_score_as_they_are(tmp_path):
    asked = ("--samples", "16", "--batch-size", "16", "--dtype", "bf16", "--out", tmp_path / "prm")
    answer = rmeval("train", "prm", *asked)
    assert answer.code == 0, answer.stderr
    assert "loaded again in another process" in answer.stderr + answer.stdout
    assert {tensor.dtype for tensor in load_file(tmp_path / "prm" / "model.safetensors").values()} == {torch.float32}
