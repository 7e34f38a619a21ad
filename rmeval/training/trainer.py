"""The one `transformers.Trainer` subclass: own losses, summed over items and divided by the items of the whole step.

Loop, schedule, clipping, precision, accumulation, checkpoints and resuming are the Trainer's. Dividing by the items of
the step over all processes, not of the micro-batch, makes 8 x 1, 4 x 2, 2 x 4 and 1 x 8 (batch size x accumulation) the
same training, and so does dividing it among processes. What the kinds of reward model add stands in `kinds.py`.

What this module does not know: files, templates, exports.
"""

from __future__ import annotations

import atexit
import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from rmeval.errors import CheckFailed
from rmeval.progress import Progress
from rmeval.training.batches import GroupCollator, Grouped
from rmeval.training.encode import Encoded, PairCollator
from rmeval.training.losses import bradley_terry, per_prompt, plackett_luce
from rmeval.training.metrics import pair_metrics, ranking_metrics


def training_arguments(**options: Any) -> TrainingArguments:
    """Trainer settings shared by all kinds. Without `output_dir` the Trainer writes nothing."""
    settings = {"output_dir": tempfile.gettempdir(), "save_strategy": "no", "report_to": "none", **options}
    # transformers refuses bf16 without an accelerator unless it is told that the CPU is meant
    settings.setdefault("use_cpu", bool(settings.get("bf16")) and not torch.accelerator.is_available())
    made = TrainingArguments(
        optim="adamw_torch",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        **settings,
    )
    made._n_gpu = min(made.n_gpu, 1)  # noqa: SLF001 - several visible GPUs must not split a batch unseen
    if made.world_size > 1:
        atexit.register(_leave_the_group)
    return made


def _leave_the_group() -> None:
    """Close the process group while Python still runs: gloo's threads abort a process that exits with them open."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class RewardTrainer(Trainer, ABC):  # type: ignore[misc]  # transformers ships no types
    """Base of all trainers of reward models."""

    loss_is_scaled_for_ga = True
    """Tells the Trainer that losses are divided by the items of the whole step already."""

    def __init__(self, *, group_by_length: bool = False, data_collator: Any = None, **options: Any) -> None:
        inner = data_collator or self.collator(options["processing_class"].pad_token_id)
        rows = options.get("train_dataset")
        if rows is not None:
            options["train_dataset"] = _Rows(list(rows))
        super().__init__(data_collator=_WithBlanks(inner, options.get("train_dataset")), **options)
        self.model_accepts_loss_kwargs = True  # the same statement for versions without `loss_is_scaled_for_ga`
        self.group_by_length = group_by_length
        self.collate = inner
        self.remove_callback(PrinterCallback)

    def collator(self, pad_token_id: int) -> Callable[[Sequence[Any]], dict[str, torch.Tensor]]:
        """How rows become a batch, where `data_collator` does not say."""
        del pad_token_id
        raise TypeError(f"{type(self).__name__} takes data_collator")

    @abstractmethod
    def item_count(self, batch: dict[str, torch.Tensor]) -> int:
        """How many items of the loss a micro-batch holds."""

    @abstractmethod
    def loss_sum(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss summed over the items of a micro-batch."""

    def evaluate_rows(self, rows: Sequence[Any]) -> dict[str, float]:
        """Metrics over all rows, example by example. A trainer that is never evaluated has none."""
        del rows
        raise TypeError(f"{type(self).__name__} has no evaluation")

    def row_length(self, row: Any) -> int:
        """Tokens of a row, for grouping by length."""
        length: int = row.length
        return length

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], float]:
        """The micro-batches of one optimizer step and the items in all of them, over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        items = sum(self.item_count(batch) for batch in batches if not batch.get("blank", False))
        if self.args.world_size > 1:
            items = int(self.accelerator.gather(torch.tensor([items], device=device)).sum())
        return batches, items

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: float | None = None
    ) -> torch.Tensor:
        """This micro-batch's share of the mean loss of the step. A loss that is no number ends the run."""
        assert not return_outputs, "evaluation goes through evaluate_rows"
        blank = inputs.pop("blank", False)
        loss = self.loss_sum(model, inputs) / max(num_items_in_batch or self.item_count(inputs), 1)
        if not torch.isfinite(loss):
            raise CheckFailed(
                f"training diverged: the loss is {loss.item()} at step {self.state.global_step + 1}. "
                "Lower --lr, or raise --warmup-ratio"
            )
        # gradients are averaged over processes, and the sum is wanted
        return loss * (0.0 if blank else float(self.args.world_size))

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """Metrics of the validation rows, logged like the Trainer's own."""
        del ignore_keys
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.evaluate_rows(rows).items()}
        if not math.isfinite(metrics[f"{metric_key_prefix}_loss"]):
            raise CheckFailed(
                f"training diverged: the validation loss is no number at step {self.state.global_step}. Lower --lr"
            )
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def each_row(
        self, rows: Sequence[Any], read: Callable[[Any, dict[str, torch.Tensor], Sequence[Any]], Sequence[Any]]
    ) -> list[Any]:
        """`read(model, batch, rows of the batch)` gives one answer per row; all answers in the order of `rows`.

        Longest first saves padding. Several processes share the work, and each gets all answers.
        """
        order = sorted(range(len(rows)), key=lambda i: -self.row_length(rows[i]))
        mine = order[self.args.process_index :: self.args.world_size]
        found: dict[int, Any] = {}
        self.model.eval()
        for start in range(0, len(mine), self.args.eval_batch_size):
            part = mine[start : start + self.args.eval_batch_size]
            batch = self._prepare_inputs(self.collate([rows[i] for i in part]))
            with torch.inference_mode(), self.compute_loss_context_manager():
                answers = read(self.model, batch, [rows[i] for i in part])
            found |= dict(zip(part, answers, strict=True))
        if self.args.world_size > 1:
            from accelerate.utils import gather_object

            found = dict(gather_object(list(found.items())))
        return [found[i] for i in range(len(rows))]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return Order(
            len(rows),
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            multiple=self.args.train_batch_size * self.args.world_size if self.args.world_size > 1 else 1,
            lengths=[self.row_length(row) for row in rows] if self.group_by_length else None,
            mega=self.args.train_batch_size * self.args.gradient_accumulation_steps,
        )


class _Rows(Sequence[Any]):
    """Rows of which place -1 is None: a blank that fills up the last batches of several processes."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        return None if place == -1 else self.rows[place]


class _WithBlanks:
    """A collator that leaves blanks out; a batch of nothing else is marked and computed without weight."""

    def __init__(self, inner: Callable[[Sequence[Any]], dict[str, Any]], rows: Sequence[Any] | None) -> None:
        self.inner, self.rows = inner, rows

    def __call__(self, rows: Sequence[Any]) -> dict[str, Any]:
        real = [row for row in rows if row is not None]
        if real:
            return self.inner(real)
        assert self.rows is not None
        return {**self.inner([self.rows[0]]), "blank": True}


class Order(torch.utils.data.Sampler[int]):
    """The order of the rows in each epoch, by seed and epoch alone, so that a resumed run goes on with the same one.

    The same permutations as accelerate's seedable sampler, or as the Trainer's by length. `multiple` fills up with
    blanks (-1) to a multiple.
    """

    def __init__(
        self, rows: int, *, seed: int, multiple: int = 1, lengths: list[int] | None = None, mega: int = 1
    ) -> None:
        self.rows, self.seed, self.multiple, self.lengths, self.mega = rows, seed, multiple, lengths, mega
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Shuffle as in this epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.rows / self.multiple) * self.multiple

    def __iter__(self) -> Iterator[int]:
        if self.lengths is None:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            order = torch.randperm(self.rows, generator=generator).tolist()
        else:
            from transformers.trainer_pt_utils import get_length_grouped_indices

            generator = torch.Generator().manual_seed(self.seed)
            order = []
            for _ in range(self.epoch + 1):  # one stream of draws over the epochs, as the Trainer's own sampler has it
                order = get_length_grouped_indices(self.lengths, self.mega, generator=generator)
        yield from order
        yield from [-1] * (len(self) - self.rows)


class PairTrainer(RewardTrainer):
    """Bradley-Terry on pairs: the items are pairs, the reward is the single logit of a sequence classifier."""

    def __init__(self, *, center: float = 0.0, label_smoothing: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.center, self.label_smoothing = center, label_smoothing

    def collator(self, pad_token_id: int) -> PairCollator:
        """Chosen rows first, then rejected."""
        return PairCollator(pad_token_id)

    def item_count(self, batch: dict[str, torch.Tensor]) -> int:
        """Pairs in a micro-batch."""
        return len(batch["margin"])

    def loss_sum(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum of the pair losses of a micro-batch; chosen rows stand before rejected ones."""
        chosen, rejected = rewards(model, batch).chunk(2)
        return bradley_terry(
            chosen,
            rejected,
            batch["margin"],
            center=self.center,
            label_smoothing=self.label_smoothing,
            target=batch.get("target"),
        ).sum()

    def evaluate_rows(self, rows: Sequence[Encoded]) -> dict[str, float]:
        """Metrics of all pairs."""
        chosen, rejected = self.score_pairs(rows)
        return pair_metrics(
            chosen,
            rejected,
            [row.margin for row in rows],
            center=self.center,
            label_smoothing=self.label_smoothing,
            targets=[row.target for row in rows],
            groups=[row.group or row.id for row in rows],
            lengths=[(len(row.chosen), len(row.rejected)) for row in rows],
        )

    def score_pairs(self, rows: Sequence[Encoded]) -> tuple[list[float], list[float]]:
        """Rewards of both responses of every pair, in the order of the rows."""

        def read(model: Any, batch: dict[str, torch.Tensor], _: Sequence[Encoded]) -> list[tuple[float, float]]:
            chosen, rejected = rewards(model, batch).float().cpu().chunk(2)
            return list(zip(chosen.tolist(), rejected.tolist(), strict=True))

        found = self.each_row(rows, read)
        return [pair[0] for pair in found], [pair[1] for pair in found]

    def row_length(self, row: Encoded) -> int:
        """Tokens of the longer response."""
        return max(len(row.chosen), len(row.rejected))


class GroupTrainer(RewardTrainer):
    """All comparisons of a prompt together: the items are prompts.

    `loss` is `bt`, the mean over the prompt's pairs, or `plackett-luce`, the whole ranking at once.
    """

    def __init__(self, *, loss: str = "bt", center: float = 0.0, label_smoothing: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.loss, self.center, self.label_smoothing = loss, center, label_smoothing

    def collator(self, pad_token_id: int) -> GroupCollator:
        """All responses of all prompts."""
        return GroupCollator(pad_token_id)

    def item_count(self, batch: dict[str, torch.Tensor]) -> int:
        """Prompts in a micro-batch."""
        return int(batch["prompts"][-1]) + 1

    def loss_sum(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum of the losses of the prompts."""
        found = rewards(model, batch)
        if self.loss == "plackett-luce":
            losses = plackett_luce(found, batch["levels"], batch["prompts"])
            if self.center:
                codes = batch["prompts"]
                losses = losses.sum() + self.center * per_prompt(found**2, codes).sum()
            return losses.sum()
        pairs = bradley_terry(
            found[batch["better"]],
            found[batch["worse"]],
            batch["margin"],
            center=self.center,
            label_smoothing=self.label_smoothing,
            target=batch["target"],
        )
        return per_prompt(pairs, batch["pair_prompts"]).sum()

    def score_groups(self, rows: Sequence[Grouped]) -> list[list[float]]:
        """Rewards of all responses of every prompt, in the order of the rows."""

        def read(model: Any, batch: dict[str, torch.Tensor], part: Sequence[Grouped]) -> list[list[float]]:
            found = rewards(model, batch).float().cpu()
            return [one.tolist() for one in torch.split(found, [len(row.texts) for row in part])]

        return self.each_row(rows, read)

    def evaluate_rows(self, rows: Sequence[Grouped]) -> dict[str, float]:
        """Metrics of all prompts."""
        return ranking_metrics(
            self.score_groups(rows), rows, loss=self.loss, center=self.center, label_smoothing=self.label_smoothing
        )


class ShowProgress(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Advances a progress display by one for every optimizer step."""

    def __init__(self, display: Progress) -> None:
        self.display = display

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """One more step is done."""
        self.display.advance(1)


def rewards(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The reward of every row of a batch, [rows]: the single logit at the last token that is not padding."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    if logits.dim() != 2 or logits.shape[1] != 1:
        raise ValueError(f"a reward model gives one number per row, this one gives shape {list(logits.shape)}")
    found: torch.Tensor = logits[:, 0]
    return found
