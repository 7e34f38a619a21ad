"""GPT-4 as a judge of LLMBar: the figures beside the headline are those that upstream published of the same verdicts."""

from __future__ import annotations

import json
import re

import pytest
from published import outputs

from rmeval import results
from rmeval.metrics.judging import judging

FIGURES = {
    "correct_False": "judge:order_1",
    "correct_True": "judge:order_2",
    "correct_both": "judge:both_correct",
    "correct_average": "judge:average",
    "kappa_agreement": "judge:order_kappa",
}


def official(value):
    """`93 / 100 = 93.0%`, `95.5%`, or a plain number."""
    if isinstance(value, float):
        return value
    counted = re.match(r"(\d+) / (\d+)", value)
    return int(counted[1]) / int(counted[2]) if counted else float(value.removesuffix("%")) / 100


@pytest.mark.parametrize("strategy", outputs.LLMBAR_STRATEGIES)
def test_llmbar_accuracies_and_the_kappa_of_its_orders(dev_data, tmp_path, strategy):
    folder = dev_data / "llmbar/Dataset/LLMBar"
    judged = [folder / below / f"evaluators/GPT-4/{strategy}" for below in outputs.LLMBAR_SETS.values()]
    outputs.imported("llmbar", "llmbar", tmp_path, *judged, data=folder)
    (file,) = tmp_path.rglob("*.json")
    view = results.load_result(file)
    for name, place in zip(outputs.LLMBAR_SETS, judged, strict=True):
        published = json.loads((place / "statistics.json").read_text())
        found = {m.name: m.value for m in judging([j for j in view.judgements if j.subset == name])}
        for theirs, ours in FIGURES.items():
            assert found[ours] == pytest.approx(official(published[theirs]), abs=1e-9), (name, ours)
