"""The flags: told once, overridden in order, refused by name; the dry run; several seeds."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from command import ROOT, rmeval

from rmeval.cli.train import KINDS
from rmeval.errors import UsageError
from rmeval.training.config import CONFIGS, make_config, read_config

SPECIFIED = (
    "model data eval-data val-ratio samples out epochs batch-size grad-accum lr warmup-ratio schedule weight-decay "
    "max-grad-norm max-length overlong chat-template seed seeds dtype attn gradient-checkpointing lora lora-alpha "
    "lora-target merge freeze-backbone group-by-length eval-steps eval-bench early-stop head-init resume config dry-run "
    "report-to no-verify-export"
).split()
OWN = {
    "bt": "loss margin center comparisons label-smoothing ties margin-from min-gap from-outcomes",
    "orm": "level balance loss-normalise",
    "prm": "num-classes soft step-separator boundary neutral label-scale mc-rule",
    "value": "gamma reward-field clip target",
    "sft": "loss-on",
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_flag_of_the_specification_is_there(kind):
    shown = rmeval("train", kind, "--help")
    assert shown.code == 0
    for flag in [*SPECIFIED, *OWN[kind].split()]:
        assert f"--{flag}" in shown.stdout, flag
    assert set(KINDS) == set(CONFIGS)


def test_defaults_are_the_specified_ones():
    config = make_config("orm", {})
    assert (config.epochs, config.batch_size, config.grad_accum, config.val_ratio) == (1.0, 8, 1, 0.1)
    assert (config.warmup_ratio, config.schedule, config.max_length, config.overlong) == (0.03, "linear", 2048, "drop")
    for kind in CONFIGS:
        assert make_config(kind, {"model": "org/name", "data": "x"}).learning_rate == 1e-5


@pytest.mark.parametrize("kind", ["bt", "value", "sft"])
def test_model_and_data_are_required_where_nothing_is_bundled(kind):
    found = rmeval("train", kind)
    assert found.code == 2
    assert "--model is required" in found.stderr
    assert "--data is required" in found.stderr


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        ("prm", {"soft": True, "num_classes": 3}, "--soft goes with --num-classes 2"),
        ("prm", {"boundary": "nowhere"}, "--boundary: write last-token or special:TOKEN"),
        ("prm", {"early_stop": "loss"}, "--early-stop: write METRIC:PATIENCE"),
        ("orm", {"seeds": (1, 1)}, "--seeds names a seed twice"),
        ("orm", {"lvel": "token"}, "--lvel: unknown setting. Did you mean 'level'"),
        (
            "bt",
            {"model": "tiny", "data": "x", "loss": "plackett-luce", "from_outcomes": True},
            "takes no --from-outcomes",
        ),
        ("bt", {"model": "tiny", "data": "x", "margin_from": "score"}, "--margin-from: write A-B"),
        ("orm", {"epochs": float("inf")}, "--epochs: Input should be less than or equal to 1000000"),
        ("orm", {"epochs": 1e308}, "--epochs: Input should be less"),
        ("orm", {"lr": float("inf")}, "--lr: Input should be a finite number"),
        ("orm", {"batch_size": 10**20}, "--batch-size: Input should be less"),
        ("orm", {"max_length": 10**20}, "--max-length: Input should be less"),
    ],
)
def test_settings_that_make_no_sense_are_named(kind, given, says):
    with pytest.raises(UsageError, match=says):
        make_config(kind, given)


def test_a_file_gives_settings_and_flags_override_it(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('samples = 8\nval_ratio = 0.3\nlr = 0.5\nverify_export = false\nstep_separator = "\\n"\n')
    found = rmeval("train", "prm", "--config", file, "--lr", "0.001", "--out", tmp_path / "out")
    assert found.code == 0, found.stderr
    written = tomllib.loads((tmp_path / "out" / "config.toml").read_text())
    assert written["samples"] == 8
    assert written["lr"] == 0.001
    assert written["step_separator"] == "\n"
    assert written["verify_export"] is False
    assert make_config("prm", read_config(tmp_path / "out" / "config.toml", "prm")).learning_rate == 0.001


def test_faults_of_the_file_are_named(tmp_path):
    file = tmp_path / "run.toml"
    for text, says in (
        ("sampels = 8\n", "'sampels' is no setting of orm. Did you mean 'samples'"),
        ("a = \n", "not valid TOML"),
    ):
        file.write_text(text)
        found = rmeval("train", "orm", "--config", file)
        assert found.code == 2
        assert says in found.stderr
    assert "No such file" in rmeval("train", "orm", "--config", tmp_path / "none.toml").stderr


def test_a_dry_run_shows_masks_and_counts_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = rmeval("train", "prm", "--samples", "20", "--dry-run")
    assert found.code == 0, found.stderr
    assert found.stdout.count("what carries loss in [ ]") == 2
    assert "]=2" in found.stdout
    assert "<unk>" not in found.stdout
    assert "tokens" in found.stdout and "labelled" in found.stdout  # noqa: PT018
    assert "nothing was trained, nothing written" in found.stdout
    assert not list(tmp_path.glob("runs/*"))


def test_several_seeds_give_mean_spread_and_the_best(tmp_path):
    found = rmeval(
        "train", "orm", "--samples", "12", "--val-ratio", "0.4", "--seeds", "0,1", "--no-verify-export",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert found.code == 0, found.stderr
    summary = json.loads((tmp_path / "out" / "seeds.json").read_text())
    aurocs = [json.loads((tmp_path / "out" / f"seed-{s}" / "metrics.json").read_text())["eval_auroc"] for s in (0, 1)]
    assert summary["metrics"]["eval_auroc"]["mean"] == pytest.approx(sum(aurocs) / 2)
    assert summary["metrics"]["eval_auroc"]["sd"] == pytest.approx(abs(aurocs[0] - aurocs[1]) / 2**0.5)
    assert summary["best"] == f"seed-{aurocs.index(max(aurocs))}"
    assert found.stdout.splitlines()[-1] == str(tmp_path / "out" / summary["best"])


def test_a_suite_is_measured_while_a_model_trains(tmp_path):
    found = rmeval(
        "train", "bt", "--model", "tiny", "--data", "arithmetic", "--samples", "40", "--eval-bench", "arithmetic:200",
        "--eval-steps", "3", "--no-verify-export", "--out", tmp_path / "out",
    )  # fmt: skip
    assert found.code == 0, found.stderr
    rows = [json.loads(line) for line in (tmp_path / "out" / "train_log.jsonl").read_text().splitlines()]
    measured = [row for row in rows if any(name.startswith("bench_arithmetic_") for name in row)]
    assert len(measured) >= 1
    assert all("eval_loss" in row for row in measured)
    assert not list((tmp_path / "out").glob("checkpoints"))
    bundled = ("--model", "tiny", "--data", "arithmetic", "--out", tmp_path / "no")
    refused = rmeval("train", "sft", *bundled, "--eval-bench", "arithmetic:200")
    assert refused.code == 2
    assert "--eval-bench takes reward models" in refused.stderr
    refused = rmeval("train", "bt", *bundled, "--samples", "20", "--eval-bench", "arithmetic-steps:10")
    assert refused.code == 2
    assert "asks for a score per reasoning step" in refused.stderr


def test_what_is_measured_while_a_model_trains_may_lie_on_disk_and_be_a_variant(tmp_path):
    """Suites of one's own and variants were refused, with advice to give --data, which are the rows to train on."""
    from rmeval.api import bench

    rows = tmp_path / "a:b=c.jsonl"
    rows.write_text('{"prompt": "p", "chosen": "long", "rejected": "no"}\n' * 3)
    assert bench(f"pairs={rows}")(Path("length"))["pairs_accuracy"] == 1
    assert bench(f"pairs:2={rows}")(Path("constant"))["pairs_accuracy"] == 0
    sample = ROOT / "suites/helpsteer2/sample.jsonl"
    assert "helpsteer2:correctness_accuracy" in bench(f"helpsteer2:correctness:5={sample}")(Path("length"))
    with pytest.raises(UsageError, match="rows on disk are pairs:9=PATH"):
        bench("pairs:9")


@pytest.mark.parametrize(
    ("kind", "suite"), [("orm", "arithmetic-steps"), ("prm", "arithmetic-steps"), ("value", "arithmetic")]
)
def test_token_models_are_measured_on_suites_of_responses_and_of_steps(kind, suite, tmp_path):
    """The last of them is what the finished checkpoint scores on the same examples."""
    from rmeval.api import bench

    found = rmeval(
        "train", kind, "--model", "tiny", "--data", "arithmetic", "--samples", "12", "--val-ratio", "0.3",
        "--eval-bench", f"{suite}:200", "--eval-steps", "100", "--no-verify-export", "--out", tmp_path / "out",
    )  # fmt: skip
    assert found.code == 0, found.stderr
    rows = [json.loads(line) for line in (tmp_path / "out" / "train_log.jsonl").read_text().splitlines()]
    last = [{k: v for k, v in row.items() if k.startswith("bench_")} for row in rows if "eval_loss" in row][-1]
    after = bench(f"{suite}:200")(tmp_path / "out")
    assert last == {f"bench_{name}": pytest.approx(value, abs=1e-6) for name, value in after.items()}
    assert last
