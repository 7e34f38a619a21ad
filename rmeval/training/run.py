"""The one path of all kinds: rows -> split -> backbone -> token ids -> training -> evaluation -> checkpoint, verified.

    read, split by prompt -> model and tokenizer -> encode -> Trainer -> metrics -> export, loaded again and compared

What this module does not know: suites, scorers, the command line, and what differs between kinds (`tasks.py`).
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmeval.environment import package_version
from rmeval.errors import CheckFailed, UsageError
from rmeval.locks import LOCK, locked
from rmeval.progress import note, progress
from rmeval.training.config import SCRATCH, TINY, TrainConfig
from rmeval.training.folders import CHECKPOINTS, free_folder, how_to_go_on, last_checkpoint, processes, same_data
from rmeval.training.rows import data_digest, split_by_prompt
from rmeval.training.tasks import Task, task_of
from rmeval.whole_files import remove_folder

_PROBES = 8
"""Rows whose scores are compared after the export."""
_TINY_EVALUATIONS = 10

Show = Callable[[str], None]
Bench = Callable[[Path], dict[str, float]]


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training run came to."""

    out: Path
    """The folder of the checkpoint."""
    metrics: dict[str, float]
    """`eval_loss`, `eval_accuracy`, ... of the validation rows after training; empty without any."""
    initial: dict[str, float]
    """The same before the first step."""
    steps: int
    """Optimizer steps."""
    train_rows: int
    validation_rows: int
    dropped: int
    """Rows left out, over the length limit or for another reason that is printed."""
    reload_difference: float | None
    """Largest difference of a score after loading the export in another process; None where it was not checked."""
    seconds: float


@dataclass(slots=True)
class _Data:
    """Rows of a run, raw and encoded."""

    train: list[Any]
    validation: list[Any]
    digest: str
    encoded: list[Any]
    held_out: list[Any]
    dropped: Counter[str]


def train(
    config: TrainConfig, *, resume: bool = False, show: Show = lambda _: None, bench: Bench | None = None
) -> TrainReport:
    """Train, export and verify.

    `resume` goes on from the last checkpoint in `config.out`. `show` gets the lines that a person should see, and
    `bench` measures a saved checkpoint at every evaluation. Raises `UsageError` for bad data or settings, and
    `CheckFailed` when training diverges or the export scores differently once loaded again.
    """
    run = _Run(config, show if _first_process() else _silent, bench)
    with one_thread() if config.model in (SCRATCH, TINY) else nullcontext(), run.held:
        try:
            return run.train(resume=resume)
        except KeyboardInterrupt:
            note(how_to_go_on(run.out, config.kind))
            raise


def dry_run(config: TrainConfig, *, show: Show) -> None:
    """Read, check, split and encode; show what the lints find, two rows with their masks, and all counts."""
    from rmeval.training.lints import lint
    from rmeval.training.masks import marked, segments

    run = _Run(config, show, None)
    run.say_what_is_used()
    train_rows, validation = run.rows()
    tokenizer = run.tokenizer(train_rows)
    encoded, dropped = run.task.encode(train_rows, tokenizer)
    held_out, more = run.task.encode(validation, tokenizer)
    for finding in lint(
        train_rows,
        evaluation=validation if config.eval_data else (),
        tokenizer=tokenizer,
        max_length=config.max_length,
        separator=getattr(config, "step_separator", "\n\n"),
    ):
        floor = "" if finding.floor is None else f" (no loss below {finding.floor:.4f})"
        show(f"{finding.level} {finding.name}: {finding.text}{floor}")
    for row in encoded[:2]:
        for ids, labels in run.task.marks(row):
            show(f"--- {row.id}: {len(ids)} tokens, what carries loss in [ ]")
            runs = segments(ids, labels, tokenizer, of_tokens=run.task.head.form == "causal")
            for line in marked(runs).split("\n"):
                show(line)
    show("---")
    texts = [text for row in encoded for text in run.task.marks(row)]
    tokens = sum(len(ids) for ids, _ in texts)
    labelled = sum(not math.isnan(label) for _, labels in texts for label in labels)
    unit = run.task.unit
    show(f"{len(encoded)} {unit} to train on: {tokens} tokens, {labelled} of them labelled; {len(held_out)} held out")
    for reason, count in (dropped + more).items():
        show(f"{count} {run.task.unit} left out: {reason}")
    steps = optimizer_steps(len(encoded), config.batch_size, config.grad_accum, config.epochs, processes=processes())
    show(f"{steps} steps; nothing was trained, nothing written")


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside the block: a small model loses more by handing work between threads than it gains."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """A run under way."""

    def __init__(self, config: TrainConfig, show: Show, bench: Bench | None) -> None:
        self.config, self.show, self.bench = config, show, bench
        self.task: Task = task_of(config)
        self.start = time.monotonic()
        self.held = ExitStack()
        self.out: Path | None = None
        if bench is not None and self.task.head.form == "causal":
            raise UsageError(f"--eval-bench takes reward models: what {config.kind} trains has no score for a response")

    def train(self, *, resume: bool) -> TrainReport:
        from rmeval.training import card, curves, export
        from rmeval.training.backbone import quiet_transformers

        quiet_transformers()
        config = self.config
        out = config.out if resume and config.out else free_folder(config.out, config.kind)
        checkpoint = last_checkpoint(out) if resume else None
        self.say_what_is_used()
        data, model, tokenizer = self._prepare()
        if resume:
            same_data(out, data.digest)
        if _first_process():
            self.held.enter_context(locked(out / LOCK, f"the training run in {out}"))
            self.out = out
        trainer, steps = self._trainer(model, tokenizer, data, out)
        settings = config.resolved(out)
        described = {
            "source": list(config.data),
            "sha256": data.digest,
            "unit": self.task.unit,
            "train": len(data.encoded),
            "validation": len(data.held_out),
            "prompts": len({row.group for row in [*data.train, *data.validation]}),
            "dropped": data.dropped.total(),
            "dropped_by_reason": dict(data.dropped),
        }
        if _first_process():
            export.write_config(out, settings)
            export.write_json(out / "data.json", described)
        initial = trainer.evaluate() if data.held_out else {}
        history = list(trainer.state.log_history)  # training starts a new one
        stop = self._callbacks(trainer, out)
        self._loop(trainer, steps, checkpoint)
        if stop is not None:
            stop.restore(trainer.model)
        metrics = (trainer.evaluate() | self._baselines(data)) if data.held_out else {}
        history += [
            row for row in trainer.state.log_history if "train_runtime" not in row
        ]  # a resumed one's is partial
        done = trainer.state.global_step
        difference = None
        if _first_process():
            about = self._about(tokenizer)
            summary = {**metrics, "initial": initial, "steps": done, "seconds": round(time.monotonic() - self.start, 1)}
            export.write_logs(out, history, summary)
            curves.draw(out, history, self.task)
            probes = self._probes(data, tokenizer)
            # training in bf16 leaves the model's forward in bf16; what is written, and read again, is fp32
            plain = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
            card.write(out, self.task, about, metrics, described)
            saved = export.save(out, plain, about, probes, lora=bool(config.lora), merge=config.merge)
            if config.verify_export:
                difference = export.verify(saved, probes)
            remove_folder(out / CHECKPOINTS)
        report = TrainReport(
            out,
            metrics,
            initial,
            done,
            len(data.encoded),
            len(data.held_out),
            data.dropped.total(),
            difference,
            time.monotonic() - self.start,
        )
        self._say_what_came_out(report)
        return report

    # --- data and model ----------------------------------------------------------------------------------------------

    def _prepare(self) -> tuple[_Data, Any, Any]:
        """(rows read, split and encoded; the model; its tokenizer)."""
        train, validation = self.rows()
        model, tokenizer = self.model(train)
        encoded, dropped = self.task.encode(train, tokenizer)
        held_out, more = self.task.encode(validation, tokenizer)
        left_out = dropped + more
        reasons = ", ".join(f"{n} {why}" for why, n in left_out.items())
        if not encoded or (validation and not held_out):
            raise UsageError(f"nothing is left to {'train on' if not encoded else 'validate on'}: {reasons}")
        if left_out:
            whole = len(train) + len(validation)
            note(f"{left_out.total()} of {whole} {self.task.unit} left out: {reasons}")
        return (
            _Data(train, validation, data_digest([*train, *validation]), encoded, held_out, left_out),
            model,
            tokenizer,
        )

    def rows(self) -> tuple[list[Any], list[Any]]:
        """(training rows, validation rows), no prompt in both."""
        config = self.config
        source = config.data[0] if len(config.data) == 1 else config.data
        found = self.task.read(source, config.samples)
        if config.eval_data is None:
            return split_by_prompt(found, config.val_ratio, config.seed)
        held_out = self.task.read(config.eval_data, None)
        groups = {row.group for row in held_out}
        train = [row for row in found if row.group not in groups]
        if len(train) < len(found):
            note(f"{len(found) - len(train)} rows left out of training: their prompts are in --eval-data")
        if not train:
            raise UsageError("--eval-data holds every prompt of --data: nothing is left to train on")
        return train, held_out

    def tokenizer(self, train: Sequence[Any]) -> Any:
        """The tokenizer alone, as the training has it."""
        from rmeval.training import backbone, bundled

        config = self.config
        if config.model in (SCRATCH, TINY):
            made = bundled.tokenizer_of([text for row in train for text in self.task.texts(row)], config.max_length)
        else:
            made = backbone.load_tokenizer(config.model, template=config.chat_template)
        self._add_boundary(made)
        return made

    def _add_boundary(self, tokenizer: Any) -> None:
        """The token after each step, where there is one."""
        boundary = getattr(self.config, "boundary", "last-token").removeprefix("special:")
        if boundary != "last-token":
            tokenizer.add_special_tokens({"extra_special_tokens": [boundary]}, replace_extra_special_tokens=False)

    def model(self, train: Sequence[Any]) -> tuple[Any, Any]:
        """(the model that is trained, its tokenizer)."""
        from rmeval.training import backbone, bundled

        config, head = self.config, self.task.head
        if config.model in (SCRATCH, TINY):
            if config.lora:
                raise UsageError(
                    f"--lora adapts a model that stays as it is, and {config.model} is new; name a backbone"
                )
            if config.chat_template:
                raise UsageError(f"--chat-template: --model {config.model} brings its own")
        if config.model == SCRATCH:
            from rmeval.training.scratch import build

            if config.kind != "bt" or self.task.unit != "pairs":
                raise UsageError("--model scratch learns from pairs (bt); --model tiny is a new model for every kind")
            if processes() > 1:
                raise UsageError("--model scratch is warmed up in one process")
            model, tokenizer = build(train, seed=config.seed, max_length=config.max_length)
        elif config.model == TINY:
            texts = [text for row in train for text in self.task.texts(row)]
            model, tokenizer = bundled.build(
                texts, head, seed=config.seed, max_length=config.max_length, head_init=config.head_start
            )
        else:
            model, tokenizer = backbone.load_backbone(
                config.model,
                seed=config.seed,
                head=head,
                head_init=config.head_start,
                attn=config.attn,
                template=config.chat_template,
            )
        self._add_boundary(tokenizer)
        backbone.fit_embeddings(tokenizer, model)
        if config.freeze_backbone:
            backbone.freeze_backbone(model)
        if config.lora:
            from rmeval.training.lora import wrap

            model = wrap(
                model,
                head,
                rank=config.lora,
                alpha=config.lora_alpha,
                target=config.lora_target,
                source=config.model,
            )
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return model, tokenizer

    # --- training ----------------------------------------------------------------------------------------------------

    def _trainer(self, model: Any, tokenizer: Any, data: _Data, out: Path) -> tuple[Any, int]:
        """(the trainer, its number of optimizer steps)."""
        import torch

        from rmeval.training.trainer import training_arguments

        config = self.config
        steps = optimizer_steps(
            len(data.encoded), config.batch_size, config.grad_accum, config.epochs, processes=processes()
        )
        bf16 = config.dtype == "bf16" or (
            config.dtype == "auto" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        )
        every = config.eval_steps or (max(1, steps // _TINY_EVALUATIONS) if config.model == TINY else None)
        save = config.save_steps or max(100, math.ceil(steps / 10))
        arguments = training_arguments(
            output_dir=str(out / CHECKPOINTS),
            max_steps=steps,
            per_device_train_batch_size=config.batch_size,
            per_device_eval_batch_size=max(config.batch_size, 32),
            gradient_accumulation_steps=config.grad_accum,
            learning_rate=config.learning_rate,
            lr_scheduler_type={"constant": "constant_with_warmup"}.get(config.schedule, config.schedule),
            warmup_steps=math.ceil(config.warmup_ratio * steps),
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            bf16=bf16,
            seed=config.seed,
            data_seed=config.seed,
            logging_steps=max(1, steps // 200),
            logging_nan_inf_filter=False,
            eval_strategy="steps" if every and data.held_out else "no",
            eval_steps=every,
            save_strategy="steps" if save < steps else "no",
            save_steps=save,
            save_total_limit=2,  # the newest may be incomplete when the machine goes down
            report_to=config.report_to,
        )
        trainer = self.task.trainer(
            data.encoded,
            model=model,
            args=arguments,
            train_dataset=data.encoded,
            eval_dataset=data.held_out or None,
            processing_class=tokenizer,
            group_by_length=config.group_by_length,
        )
        self.show(
            f"{len(data.encoded)} {self.task.unit} to train on, {len(data.held_out)} held out; {steps} steps of "
            f"{config.batch_size} x {config.grad_accum} x {processes()} "
            f"(batch x accumulation x processes), peak learning rate {config.learning_rate:g}"
        )
        return trainer, steps

    def _callbacks(self, trainer: Any, out: Path) -> Any:
        """Add what listens to evaluations; the early stop, where there is one."""
        from rmeval.training.callbacks import BenchCallback, EarlyStop

        if self.bench is not None:
            about = self._about(trainer.processing_class)
            trainer.add_callback(BenchCallback(trainer, self.bench, out / CHECKPOINTS / "bench", about))
        if self.config.early_stop is None:
            return None
        if trainer.args.eval_strategy == "no":
            raise UsageError("--early-stop needs evaluations: name --eval-steps, and hold rows out")
        metric, _, patience = self.config.early_stop.rpartition(":")
        lower = metric == self.task.metric and self.task.lower_is_better
        stop = EarlyStop(metric, int(patience), out / CHECKPOINTS / "best.safetensors", lower_is_better=lower)
        trainer.add_callback(stop)
        return stop

    def _loop(self, trainer: Any, steps: int, checkpoint: Path | None) -> None:
        from rmeval.training.trainer import ShowProgress

        with progress(f"train {self.config.kind}, steps", steps if _first_process() else 0) as display:
            shown = ShowProgress(display)
            trainer.add_callback(shown)
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            trainer.remove_callback(shown)
        norms = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
        if not all(math.isfinite(norm) for norm in norms):
            raise CheckFailed("training diverged: a gradient is no number. Lower --lr, or raise --warmup-ratio")

    # --- what is said ------------------------------------------------------------------------------------------------

    def _about(self, tokenizer: Any) -> dict[str, Any]:
        from rmeval.training.backbone import template_digest

        about: dict[str, Any] = {
            "kind": self.config.kind,
            **self.task.about(),
            "base_model": self.config.model,
            "chat_template_sha": template_digest(tokenizer),
            "version": package_version(),
        }
        boundary = about.get("boundary", "last-token")
        if boundary != "last-token":
            about["step_tag_id"] = tokenizer.convert_tokens_to_ids(boundary.removeprefix("special:"))
        return about

    def _baselines(self, data: _Data) -> dict[str, float]:
        """What the validation rows give away without a model."""
        from rmeval.training.nulls import null_baselines

        soft = bool(getattr(self.config, "soft", False))
        found = null_baselines(data.validation, data.held_out, classes=len(self.task.head.labels), soft=soft)
        return {f"eval_{name}": value for name, value in found.items()}

    def _probes(self, data: _Data, tokenizer: Any) -> Any:
        from rmeval.training.export import Probes

        raw = (data.validation or data.train)[:_PROBES]
        texts = [ids for row in (data.held_out or data.encoded)[:_PROBES] for ids in self.task.ids(row)]
        return Probes(self.task.head, [self.task.messages(row) for row in raw], texts, tokenizer)

    def say_what_is_used(self) -> None:
        """Which bundled parts stand in, and what takes their place."""
        config = self.config
        if config.model == TINY:
            self.show("model: the bundled tiny model, 2 layers of width 32; --model ORG/NAME or FOLDER takes its place")
        if config.world:
            self.show("data: the embedded arithmetic world, whose truth is computed; --data FILE takes its place")
        if config.model == TINY and config.lr is None:
            self.show(f"learning rate {config.learning_rate:g}, the tiny model's own; --lr takes its place")
        if config.epochs > 2 and config.kind != "sft":
            note("reward models overfit after one or two epochs; watch the validation loss")

    def _say_what_came_out(self, report: TrainReport) -> None:
        from rmeval.training import nulls

        self.show(f"{report.steps} steps on {report.train_rows} {self.task.unit} in {report.seconds:.0f} s")
        if report.metrics:
            after, before, name = report.metrics, report.initial, self.task.metric
            lines = "".join(f"; {line.says.partition(':')[0]} = {line.value:.4f}" for line in self.task.lines)
            self.show(f"validation loss {after['eval_loss']:.4f} (before {before['eval_loss']:.4f}{lines})")
            if name != "loss" and f"eval_{name}" in after:
                ends = [after.get(f"eval_{name}_{end}") for end in ("low", "high")]
                between = "" if None in ends else f" [{ends[0]:.3f}, {ends[1]:.3f}]"
                was = f" (before {before[f'eval_{name}']:.3f})" if f"eval_{name}" in before else ""
                self.show(f"validation {name} {after[f'eval_{name}']:.3f}{between}{was}, {report.validation_rows} rows")
            if baselines := nulls.says(after):
                self.show(f"baselines: {baselines}")
        if report.dropped:
            self.show(f"{report.dropped} {self.task.unit} left out")
        if report.reload_difference is not None:
            self.show(f"loaded again in another process: largest difference {report.reload_difference:.1g}")


def optimizer_steps(rows: int, batch: int, accumulate: int, epochs: float, *, processes: int = 1) -> int:
    """Steps of a run: micro-batches of all processes, grouped by accumulation, over the epochs.

    >>> optimizer_steps(25, batch=4, accumulate=2, epochs=1.5)
    6
    """
    return math.ceil(math.ceil(math.ceil(rows / (batch * processes)) / accumulate) * epochs)


def held_out_rows(config: TrainConfig) -> list[Any]:
    """The rows that a run has held out, read again."""
    return _Run(config, _silent, None).rows()[1]


def _first_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _silent(_: str) -> None:
    pass
