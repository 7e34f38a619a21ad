"""When training ends early, which weights are kept, and a metric that there is not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from rmeval.errors import UsageError
from rmeval.training.callbacks import EarlyStop


def after(stop, model, *values, metric="eval_accuracy"):
    """Whether training goes on after these evaluations; the weight is the number of the evaluation."""
    control = SimpleNamespace(should_training_stop=False)
    for n in range(1, len(values) + 1):
        torch.nn.init.constant_(model.weight, n)
        log = [{"eval_loss": 1.0, metric: value} for value in values[:n]]
        stop.on_evaluate(None, SimpleNamespace(log_history=[{"loss": 2.0}, *log]), control, model=model)
    return not control.should_training_stop


@pytest.mark.parametrize(
    ("metric", "lower", "values", "best"),
    [
        ("accuracy", False, (0.5, 0.7, 0.6, 0.7), 2),
        ("loss", False, (0.5, 0.3, 0.4, 0.4), 2),
        ("gap", True, (5, 3, 4, 4), 2),
        ("accuracy", False, (0.5, 0.6, 0.7, 0.6), 3),
    ],
)
def test_the_first_of_the_best_is_kept_and_put_back(tmp_path, metric, lower, values, best):
    model = torch.nn.Linear(1, 1)
    stop = EarlyStop(metric, 2, tmp_path / "deep" / "best.safetensors", lower_is_better=lower)
    assert after(stop, model, *values, metric=f"eval_{metric}") is (best == 3)
    assert model.weight.item() == 4
    stop.restore(model)
    assert model.weight.item() == best


def test_without_anything_kept_the_weights_stay(tmp_path):
    model = torch.nn.Linear(1, 1)
    before = model.weight.item()
    EarlyStop("loss", 2, tmp_path / "none").restore(model)
    assert model.weight.item() == before


def test_a_metric_that_there_is_not_is_named_with_the_near_one(tmp_path):
    with pytest.raises(UsageError, match="--early-stop acuracy: no such metric. Did you mean 'accuracy'"):
        after(EarlyStop("acuracy", 2, tmp_path / "best"), torch.nn.Linear(1, 1), 0.5)
    with pytest.raises(UsageError, match="There are loss, accuracy"):
        after(EarlyStop("xyz", 2, tmp_path / "best"), torch.nn.Linear(1, 1), 0.5)
