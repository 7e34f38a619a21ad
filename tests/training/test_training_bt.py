"""`train bt` end to end on tiny models: accumulation, padding, special tokens, export, hygiene of the loop."""

from __future__ import annotations

import json
import math
import tomllib

import pytest
import tiny
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainingArguments

from rmeval.arithmetic import training_pairs
from rmeval.errors import CheckFailed, UsageError
from rmeval.training import export, run, scratch
from rmeval.training.backbone import freeze_backbone, load_backbone
from rmeval.training.config import bt_config
from rmeval.training.encode import Encoded, PairCollator, encode
from rmeval.training.heads import REWARD
from rmeval.training.reload import outputs
from rmeval.training.rows import read_comparisons
from rmeval.training.run import train
from rmeval.training.trainer import PairTrainer, rewards


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def backbone(tmp_path):
    return tiny.classifier(tmp_path / "backbone")


@pytest.fixture
def pairs(tmp_path):
    """24 pairs with margins and lengths that differ."""
    words = ["good", "bad", "three", "four", "sum", "answer"]
    rows = [
        {
            "prompt": f"what is {i} + 2 ?",
            "chosen": f"{i + 2} " + "good " * (i % 4),
            "rejected": words[i % 6] + " bad" * (i % 3),
            "margin": 0.1 * (i % 5),
        }
        for i in range(24)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(backbone, pairs, out, **settings):
    return bt_config(
        **{
            "model": str(backbone),
            "data": str(pairs),
            "out": out,
            "lr": 1e-3,
            "batch_size": 4,
            "verify_export": False,
            **settings,
        }
    )


def trainer_of(model, tokenizer, rows, folder, *, batch=8, accumulate=1, evaluate=32, optimizer=None, **options):
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=evaluate,
        gradient_accumulation_steps=accumulate,
        num_train_epochs=1,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        seed=3,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    return PairTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=PairCollator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        optimizers=(optimizer, None),
        **options,
    )


def encoded(pairs, tokenizer):
    return encode(read_comparisons(str(pairs)), tokenizer, max_length=128, overlong="error")[0]


def weights(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def largest_difference(a, b):
    return max((a[name] - b[name]).abs().max().item() for name in a)


# --- T7 --------------------------------------------------------------------------------------------------------------
def test_t7_accumulation_does_not_change_the_update(backbone, pairs, tmp_path):
    """24 pairs plus an uneven rest of 5: 8x1, 4x2, 2x4 and 1x8 end in the same weights."""
    ended = {}
    for batch, accumulate in ((8, 1), (4, 2), (2, 4), (1, 8)):
        model, tokenizer = load_backbone(str(backbone), seed=0)
        model.double()  # fp32 rounding would hide a small scaling error
        start = weights(model)
        rows = encoded(pairs, tokenizer)
        rows = rows + rows[:5]
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        trainer_of(
            model, tokenizer, rows, tmp_path, batch=batch, accumulate=accumulate, optimizer=sgd, center=0.01
        ).train()
        ended[batch] = weights(model)
        assert largest_difference(start, ended[batch]) > 1e-3, "nothing was learnt, so nothing was compared"
    for batch in (4, 2, 1):
        assert largest_difference(ended[8], ended[batch]) < 1e-9


def test_t7_one_step_is_the_hand_computed_gradient_step(backbone, pairs, tmp_path):
    model, tokenizer = load_backbone(str(backbone), seed=0)
    rows = encoded(pairs, tokenizer)[:8]
    batch = PairCollator(tokenizer.pad_token_id)(rows)
    chosen, rejected = rewards(model, batch).chunk(2)
    torch.nn.functional.softplus(batch["margin"] - (chosen - rejected)).mean().backward()
    wanted = {name: p.detach() - 0.1 * p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    trainer_of(
        model, tokenizer, rows, tmp_path, batch=2, accumulate=4, optimizer=torch.optim.SGD(model.parameters(), lr=0.1)
    ).train()
    assert largest_difference(wanted, weights(model)) < 1e-6


# --- T9 --------------------------------------------------------------------------------------------------------------
def test_t9_evaluation_does_not_depend_on_its_batch_size(backbone, pairs, tmp_path):
    model, tokenizer = load_backbone(str(backbone), seed=0)
    rows = encoded(pairs, tokenizer)[:9]
    rows[4] = Encoded("tie", rows[4].chosen, rows[4].chosen, 0.0)
    found = [trainer_of(model, tokenizer, rows, tmp_path, evaluate=size).evaluate_rows(rows) for size in (1, 2, 4, 9)]
    assert len({metrics["accuracy"] for metrics in found}) == 1
    assert (found[0]["accuracy"] * 9) % 1 == pytest.approx(0.5), "the tie counts one half"
    for metrics in found[1:]:
        assert metrics == pytest.approx(found[0], abs=1e-6)


# --- T10 -------------------------------------------------------------------------------------------------------------
def test_t10_rewards_do_not_depend_on_padding_or_company(backbone, pairs):
    model, tokenizer = load_backbone(str(backbone), seed=0)
    rows = encoded(pairs, tokenizer)
    model.eval().double()
    with torch.no_grad():
        together = rewards(model, PairCollator(tokenizer.pad_token_id)(rows))
        alone = torch.cat([rewards(model, PairCollator(tokenizer.pad_token_id)([row])) for row in rows])
        longest = max(len(row.chosen) for row in rows) + 5
        left = torch.tensor([[tokenizer.pad_token_id] * (longest - len(r.chosen)) + r.chosen for r in rows])
        mask = (left != tokenizer.pad_token_id).long()
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        padded_left = model(input_ids=left, attention_mask=mask, position_ids=positions).logits[:, 0]
    assert len({len(row.chosen) for row in rows}) > 2
    assert (together[: len(rows)] - alone[0::2]).abs().max() < 1e-12
    assert (together[: len(rows)] - padded_left).abs().max() < 1e-12


# --- T11 -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("pad", ["</s>", None])
def test_t11_pad_is_never_eos_after_loading_nor_after_export(tmp_path, pairs, pad):
    source = tiny.classifier(tmp_path / "trap", tok=tiny.tokenizer(pad=pad))
    report = train(config(source, pairs, tmp_path / "out", val_ratio=0.2))
    tokenizer = AutoTokenizer.from_pretrained(report.out)
    written = json.loads((report.out / "config.json").read_text())
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert written["pad_token_id"] == tokenizer.pad_token_id
    model = AutoModelForSequenceClassification.from_pretrained(report.out)
    assert model.get_input_embeddings().num_embeddings >= len(tokenizer)


# --- T12 -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("adds_bos", [True, False])
def test_t12_one_bos_one_eos_where_the_tokenizer_has_no_template(tmp_path, pairs, adds_bos):
    source = tiny.classifier(tmp_path / "bare", tok=tiny.tokenizer(template=None, bos=adds_bos))
    report = train(config(source, pairs, tmp_path / "out", val_ratio=0.2))
    tokenizer = AutoTokenizer.from_pretrained(report.out)
    assert isinstance(tokenizer.chat_template, str)
    row = encoded(pairs, tokenizer)[0]
    for ids in (row.chosen, row.rejected):
        assert [i for i, token in enumerate(ids) if token == tokenizer.bos_token_id] == [0]
        assert [i for i, token in enumerate(ids) if token == tokenizer.eos_token_id] == [len(ids) - 1]


def test_t12_the_engine_reads_the_same_ids_and_the_same_scores(backbone, pairs, tmp_path):
    from rmeval.engines.checkpoint import Checkpoint
    from rmeval.engines.transformers import TransformersEngine
    from rmeval.types import Chat, Message, Request

    report = train(config(backbone, pairs, tmp_path / "out", val_ratio=0.2))
    comparisons = read_comparisons(str(pairs))[:6]
    engine = TransformersEngine(Checkpoint(str(report.out)))
    requests = [
        Request((Chat((*(Message(**turn) for turn in one.prompt), Message("assistant", one.chosen))),))
        for one in comparisons
    ]
    theirs = [reply.values[0][0] for reply in engine.run(requests)]
    model = AutoModelForSequenceClassification.from_pretrained(report.out)
    tokenizer = AutoTokenizer.from_pretrained(report.out)
    ours = [row[0] for row in outputs(model, [one.chosen for one in encoded(pairs, tokenizer)[:6]], "sequence")]
    assert theirs == pytest.approx(ours, abs=1e-5)
    assert list(engine.plan(requests).tokens) == [len(row.chosen) for row in encoded(pairs, tokenizer)[:6]]


# --- T13 -------------------------------------------------------------------------------------------------------------
def test_t13_the_export_holds_everything_and_loads_with_equal_scores(backbone, pairs, tmp_path):
    report = train(config(backbone, pairs, tmp_path / "out", val_ratio=0.2, eval_steps=2, verify_export=True))
    assert report.reload_difference <= export.TOLERANCE
    names = {path.name for path in report.out.iterdir()}
    assert names >= {
        *("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "train_log.jsonl"),
        *("metrics.json", "data.json", "config.toml", "curves.svg", "curves.png", "README.md"),
    }
    written = json.loads((report.out / "config.json").read_text())
    assert written["architectures"] == ["LlamaForSequenceClassification"]
    assert written["problem_type"] == "regression"
    assert written["id2label"] == {"0": "reward"}
    assert written["rmeval"]["kind"] == "bt"
    assert written["rmeval"]["base_model"] == str(backbone)
    assert len(written["rmeval"]["chat_template_sha"]) == 64
    settings = tomllib.loads((report.out / "config.toml").read_text())
    assert bt_config(**settings) == config(
        backbone,
        pairs,
        tmp_path / "out",
        val_ratio=0.2,
        eval_steps=2,
        verify_export=True,
        head_init="normal:1/sqrt(h+1)",
    ), "with the defaults spelled out"
    log = [json.loads(line) for line in (report.out / "train_log.jsonl").read_text().splitlines()]
    assert {row["step"] for row in log if "eval_loss" in row} >= {0, 2, report.steps}
    assert "ln 2" in (report.out / "curves.svg").read_text()
    data = json.loads((report.out / "data.json").read_text())
    assert data["train"] + data["validation"] == 24


def test_t13_a_checkpoint_that_changed_on_disk_is_noticed(backbone, pairs, tmp_path):
    model, tokenizer = load_backbone(str(backbone), seed=0)
    one = read_comparisons(str(pairs))[0]
    messages = [[*one.prompt, {"role": "assistant", "content": one.chosen}]]
    probes = export.Probes(REWARD, messages, [row.chosen for row in encoded(pairs, tokenizer)[:8]], tokenizer)
    saved = export.save(tmp_path / "out", model, {}, probes)
    with torch.no_grad():
        model.score.weight += 0.01
    model.save_pretrained(tmp_path / "out")
    with pytest.raises(CheckFailed, match="scores differently when loaded again"):
        export.verify(saved, probes)


# --- T14 -------------------------------------------------------------------------------------------------------------
def losses(report):
    rows = [json.loads(line) for line in (report.out / "train_log.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"], row["learning_rate"]) for row in rows if "loss" in row]


def test_t14_steps_schedule_and_repeatability(backbone, pairs, tmp_path):
    settings = {"val_ratio": 0.2, "epochs": 2, "batch_size": 2, "grad_accum": 3}
    first, again, other = (
        train(config(backbone, pairs, tmp_path / name, **settings, seed=seed))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    micro = math.ceil(first.train_rows / 2)
    assert first.steps == 2 * math.ceil(micro / 3) == len(losses(first))
    assert losses(first) == losses(again)
    assert losses(first) != losses(other)
    rates = [rate for _, _, rate in losses(first)]
    assert rates[-1] == pytest.approx(rates[0] / (first.steps - 1) if rates[0] else 0, abs=2e-4)
    assert max(rates) <= 1e-3
    weights_of = [(report.out / "model.safetensors").read_bytes() for report in (first, again, other)]
    assert weights_of[0] == weights_of[1] != weights_of[2]


def test_t14_the_schedule_ends_at_zero(backbone, pairs, tmp_path, monkeypatch):
    seen = []
    loop = run._Run._loop

    def remember(self, trainer, steps, checkpoint):
        loop(self, trainer, steps, checkpoint)
        seen.append((trainer.state.global_step, steps, trainer.lr_scheduler.get_last_lr()[0]))

    monkeypatch.setattr(run._Run, "_loop", remember)
    report = train(config(backbone, pairs, tmp_path / "out", val_ratio=0.2, grad_accum=2))
    assert seen == [(report.steps, report.steps, 0.0)]


def test_t14_a_constant_rate_rises_first_too(backbone, pairs, tmp_path):
    """transformers' own `constant` takes no warm-up, and says nothing."""
    options = {"val_ratio": 0.0, "batch_size": 6, "schedule": "constant", "warmup_ratio": 0.5}
    rates = [rate for _, _, rate in losses(train(config(backbone, pairs, tmp_path / "out", **options)))]
    assert rates == pytest.approx([0, 5e-4, 1e-3, 1e-3])


# --- T5 --------------------------------------------------------------------------------------------------------------
def test_t5_a_tiny_model_can_learn_its_data_by_heart(backbone, pairs, tmp_path):
    report = train(config(backbone, pairs, tmp_path / "out", val_ratio=0.0, epochs=20, lr=3e-3, batch_size=8))
    rows = [json.loads(line) for line in (report.out / "train_log.jsonl").read_text().splitlines()]
    series = [row["loss"] for row in rows if "loss" in row]
    assert series[-1] < 0.05 * series[0]
    assert report.metrics == {}


# --- what goes wrong -------------------------------------------------------------------------------------------------
def test_divergence_is_named_and_nothing_is_exported(backbone, pairs, tmp_path):
    with pytest.raises(CheckFailed, match="diverged"):
        train(config(backbone, pairs, tmp_path / "out", lr=1e30, max_grad_norm=1e30, epochs=4, val_ratio=0.2))
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_overlong_pairs_are_dropped_and_counted_or_refused(backbone, pairs, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    lengths = [max(len(row.chosen), len(row.rejected)) for row in encoded(pairs, tokenizer)]
    limit = sorted(lengths)[12]
    report = train(config(backbone, pairs, tmp_path / "out", val_ratio=0.2, max_length=limit))
    assert report.dropped == sum(length > limit for length in lengths) > 0
    assert report.train_rows + report.validation_rows + report.dropped == 24
    with pytest.raises(UsageError, match=f"--max-length is {limit}"):
        train(config(backbone, pairs, tmp_path / "no", val_ratio=0.2, max_length=limit, overlong="error"))
    with pytest.raises(UsageError, match="nothing is left to train on: 24 over --max-length"):
        train(config(backbone, pairs, tmp_path / "no", max_length=8, val_ratio=0.2))


def test_a_finished_run_is_not_overwritten(backbone, pairs, tmp_path):
    with pytest.raises(UsageError, match="already holds a checkpoint"):
        train(config(backbone, pairs, backbone))


def test_runs_are_numbered(backbone, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [train(config(backbone, pairs, None, val_ratio=0.2, epochs=0.2)).out for _ in range(2)]
    assert [str(out) for out in found] == ["runs/bt-001", "runs/bt-002"]


def test_a_backbone_that_is_not_there_says_so(pairs, tmp_path):
    with pytest.raises(UsageError, match="cannot be loaded as a backbone"):
        train(config(tmp_path / "nowhere", pairs, tmp_path / "out"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"batch_size": 0}, "--batch-size: Input should be"),
        ({"overlong": "cut"}, "--overlong: Input should be 'drop', 'truncate-left', 'truncate-right' or 'error'"),
        ({"batchsize": 4}, "--batchsize: unknown setting. Did you mean 'batch_size'"),
    ],
)
def test_bad_settings_name_the_flag(settings, says):
    with pytest.raises(UsageError, match=says):
        bt_config(model="m", data="d", **settings)


# --- frozen and scratch ----------------------------------------------------------------------------------------------
def test_a_frozen_backbone_trains_the_head_alone_and_builds_no_graph_below_it(backbone, pairs, tmp_path):
    before, tokenizer = load_backbone(str(backbone), seed=0)
    report = train(config(backbone, pairs, tmp_path / "out", val_ratio=0.2, freeze_backbone=True, lr=0.1))
    after = AutoModelForSequenceClassification.from_pretrained(report.out)
    changed = {n for n, p in after.state_dict().items() if not torch.equal(p, before.state_dict()[n])}
    assert changed == {"score.weight"}
    freeze_backbone(before)
    ids = torch.tensor([encoded(pairs, tokenizer)[0].chosen])
    assert not before.base_model(ids).last_hidden_state.requires_grad


def test_the_scratch_model_learns_the_embedded_world_and_is_the_same_for_the_same_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "WARM_UP_PASSES", 1)
    reports = [
        train(bt_config(model="scratch", data="arithmetic", samples=96, out=tmp_path / name, lr=1e-3, val_ratio=0.2))
        for name in ("a", "b")
    ]
    first, second = ((report.out / "model.safetensors").read_bytes() for report in reports)
    assert first == second
    tokenizer = AutoTokenizer.from_pretrained(reports[0].out)
    ids = tokenizer(training_pairs(1, 0)[0]["chosen"], add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}) == 4


def test_the_warm_up_replaces_only_numbers_and_signs_of_the_response_by_their_kind():
    comparisons = read_comparisons("arithmetic", samples=64)
    tokenizer = scratch.make_tokenizer([t for one in comparisons for t in scratch._texts(one)], 256)
    texts = scratch.readings(comparisons, tokenizer, 256)
    kinds = scratch.replaceable(tokenizer)
    batch = scratch.Replacer(kinds, tokenizer.pad_token_id, seed=0)(texts)
    assert 0.02 < (batch["replaced"].sum() / batch["candidates"].sum()).item() < 0.12
    for row, text in enumerate(texts):
        changed = batch["replaced"][row].nonzero()[:, 0].tolist()
        for at in changed:
            old, new = text.ids[at], int(batch["input_ids"][row, at])
            assert at >= text.start
            assert kinds[old] == kinds[new] > 0
        kept = [int(t) for t in batch["input_ids"][row, : len(text.ids)]]
        assert [i for i, (a, b) in enumerate(zip(kept, text.ids, strict=True)) if a != b] == changed
        response = tokenizer.decode(text.ids[text.start :])
        assert response.startswith("Assistant")
