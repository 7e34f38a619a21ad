"""What a training run is asked to do: the flags of `rmeval train`, told once.

Every field is a flag, an entry of `--config FILE.toml` and of the `config.toml` that a run writes; its docstring is the
help text. What this module does not know: how any of it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rmeval import strict_toml
from rmeval.conventions import typed
from rmeval.errors import UsageError, near_miss

Kind: TypeAlias = Literal["bt", "orm", "prm", "value", "sft"]
Overlong: TypeAlias = Literal["drop", "truncate-left", "truncate-right", "error"]
Count: TypeAlias = Annotated[int, Field(ge=1, lt=2**31)]
Share: TypeAlias = Annotated[float, Field(ge=0.0, lt=1.0)]
NotNegative: TypeAlias = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]

LR = 1e-5
LORA_FACTOR = 10.0
"""Adapters start from nothing and take larger steps."""
SCRATCH, TINY, WORLD = "scratch", "tiny", "arithmetic"
TINY_LR = 3e-3
"""Of the bundled tiny model."""


class TrainConfig(BaseModel):
    """The settings that every kind of reward model shares."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: ClassVar[Kind]
    bundled: ClassVar[bool] = False
    """Whether model and data may be left out: the tiny model and the embedded world then take their places."""

    model: str
    """Backbone: hub id or folder; `scratch` (bt) or `tiny` for a small new one."""
    data: Annotated[tuple[str, ...], Field(min_length=1)]
    """File of rows (JSONL, JSON, parquet or csv), `hf:NAME`, or `arithmetic` for the embedded world; repeatable."""
    eval_data: str | None = None
    """Validation rows in a file of their own, in place of --val-ratio."""
    val_ratio: Share = 0.1
    """Share of the prompts held out, by hash."""
    samples: Annotated[int, Field(ge=2)] | None = None
    """Source problems used, drawn with --seed before the split; default: all."""
    out: Path | None = None
    """Folder of the checkpoint; default: the next free runs/<kind>-NNN."""
    epochs: Annotated[float, Field(gt=0.0, le=1e6)] = 1.0
    """Passes over the data."""
    batch_size: Count = 8
    """Rows per micro-batch and device."""
    grad_accum: Count = 1
    """Micro-batches per optimizer step."""
    lr: Positive | None = None
    """Peak learning rate; default: 1e-5, with --lora 1e-4, with the tiny model 3e-3."""
    warmup_ratio: Share = 0.03
    """Share of the steps with a rising rate."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the rate goes down."""
    weight_decay: NotNegative = 0.0
    """AdamW's."""
    max_grad_norm: Positive = 1.0
    """Gradients are clipped to this norm."""
    max_length: Annotated[int, Field(ge=8, lt=2**31)] = 2048
    """Longest text in tokens."""
    overlong: Overlong = "drop"
    """What happens to longer ones; always counted."""
    chat_template: str | None = None
    """Name of a built-in chat template or a file; default: the model's own."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Draws, split, order and new weights."""
    seeds: Annotated[tuple[int, ...], Field(min_length=2)] | None = None
    """Several seeds, as 0,1,2: a run each, mean and sd, the best by its validation metric."""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the computation; weights are kept in fp32."""
    attn: str | None = None
    """Attention of transformers: eager, sdpa, flash_attention_2, ..."""
    gradient_checkpointing: bool = False
    """Compute activations twice in place of keeping them."""
    lora: Count | None = None
    """Train adapters of this rank and the whole head in place of all weights."""
    lora_alpha: Positive | None = None
    """Scale of the adapters; default: twice the rank."""
    lora_target: str = "all-linear"
    """Modules with adapters, comma-separated; the head is never one."""
    merge: bool = False
    """Keep no adapter/ beside the merged weights."""
    freeze_backbone: bool = False
    """Train the head alone."""
    group_by_length: bool = False
    """Batches of similar length: less padding, less shuffling."""
    eval_steps: Count | None = None
    """Optimizer steps between two evaluations; default: before and after training, ten with the tiny model."""
    eval_bench: str | None = None
    """Also evaluate on NAME, NAME:LIMIT or NAME:LIMIT=PATH (rows on disk), any suite, at every evaluation (not sft)."""
    early_stop: str | None = None
    """METRIC:PATIENCE: end when METRIC is no better for PATIENCE evaluations, and keep the best weights."""
    head_init: Literal["normal:1/sqrt(h+1)", "zeros", "hf"] | None = None
    """How a new head starts; default: normal:1/sqrt(h+1), with the tiny model zeros."""
    save_steps: Count | None = None
    """Optimizer steps between two checkpoints to resume from; default: a tenth of the run, at least 100."""
    report_to: Literal["none", "tensorboard", "wandb"] = "none"
    """Where else the log goes."""
    verify_export: bool = True
    """Load the checkpoint in a process of its own and compare scores."""

    @field_validator("early_stop")
    @classmethod
    def _early_stop(cls, given: str | None) -> str | None:
        metric, _, patience = (given or "x:1").rpartition(":")
        if not metric or not patience.isdigit() or int(patience) < 1:
            raise ValueError("write METRIC:PATIENCE, such as loss:3")
        return given

    @model_validator(mode="before")
    @classmethod
    def _fill_bundled(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and cls.bundled:
            return {"model": TINY, "data": (WORLD,), **given}
        return given

    @model_validator(mode="after")
    def _together(self) -> TrainConfig:
        if self.merge and not self.lora:
            raise ValueError("--merge goes with --lora")
        if self.lora and self.freeze_backbone:
            raise ValueError("--lora and --freeze-backbone exclude each other")
        if self.seeds and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("--seeds names a seed twice")
        return self

    @property
    def learning_rate(self) -> float:
        """The one given, or what fits model and adapters."""
        if self.lr is not None:
            return self.lr
        return TINY_LR if self.model == TINY else LR * (LORA_FACTOR if self.lora else 1.0)

    @property
    def head_start(self) -> str:
        """How a new head starts: as asked, or what fits the model."""
        return self.head_init or ("zeros" if self.model == TINY else "normal:1/sqrt(h+1)")

    @property
    def world(self) -> bool:
        """Whether the rows are the embedded world's."""
        return self.data == (WORLD,) and not Path(WORLD).exists()

    def resolved(self, out: Path) -> dict[str, Any]:
        """All settings with what was left to defaults, as `config.toml` holds them."""
        return {**self.model_dump(), "out": out, "lr": self.learning_rate, "head_init": self.head_start}


class BTConfig(TrainConfig):
    """Bradley-Terry: -log sigmoid(r_chosen - r_rejected). The last line printed is the checkpoint's folder."""

    kind: ClassVar[Kind] = "bt"

    loss: Literal["bt", "plackett-luce"] = "bt"
    """Pairs, or whole rankings."""
    margin: str = "margin"
    """Column of the margin in reward units, where rows have one; none for no margin."""
    margin_from: str | None = None
    """A-B: the margin is column A less column B, such as score_chosen-score_rejected."""
    min_gap: NotNegative = 0.0
    """Responses whose scores, or columns of --margin-from, are closer than this tie."""
    from_outcomes: bool = False
    """Rows are right and wrong responses: every right one is better than every wrong one to its prompt."""
    center: NotNegative = 0.0
    """Weight of (r_chosen + r_rejected)², which fixes the level of the rewards; 0.01 where it is wanted."""
    comparisons: Literal["flat", "per-prompt"] = "flat"
    """Every comparison counts the same, or every prompt."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    """Probability that a label is wrong."""
    ties: Literal["drop", "half"] = "drop"
    """What becomes of responses ranked alike: left out, or half a win each."""

    @field_validator("margin_from")
    @classmethod
    def _margin_from(cls, given: str | None) -> str | None:
        if given is not None and not all((given + "-").split("-")[:2]):
            raise ValueError("write A-B, the names of two columns")
        return given

    @model_validator(mode="after")
    def _rankings(self) -> BTConfig:
        ranked = self.loss == "plackett-luce"
        if ranked and (self.from_outcomes or self.margin_from or self.label_smoothing):
            raise ValueError("--loss plackett-luce takes no --from-outcomes, --margin-from or --label-smoothing")
        return self


class ORMConfig(TrainConfig):
    """Outcome reward model: is the answer right, asked at every token of the response. Works without any flag."""

    kind: ClassVar[Kind] = "orm"
    bundled: ClassVar[bool] = True

    level: Literal["token", "sequence"] = "token"
    """Loss of every token, or of the mean logit of the response."""
    balance: Literal["none", "class"] = "none"
    """Weigh right and wrong responses alike."""
    loss_normalise: Literal["token", "example"] = "token"
    """Every token counts the same, or every response."""


class PRMConfig(TrainConfig):
    """Process reward model: is each step right. Works without any flag."""

    kind: ClassVar[Kind] = "prm"
    bundled: ClassVar[bool] = True

    num_classes: Literal[2, 3] = 3
    """Wrong and right, or wrong, neutral and right."""
    soft: bool = False
    """Labels are rates of success in [0, 1]; two classes."""
    step_separator: str = "\n\n"
    """What stands between steps; \\n is a line end."""
    boundary: str = "last-token"
    """Where a step is judged: last-token, or special:TOKEN put after it."""
    neutral: Literal["keep", "positive", "drop"] = "keep"
    """What becomes of neutral steps; two classes have none to keep."""
    label_scale: Literal["auto", "binary", "ternary"] = "auto"
    """What integer labels mean: 0 wrong and 1 right, or -1, 0 neutral and 1; auto refuses files that leave it open."""
    mc_rule: Literal["soft", "any", "threshold"] = "soft"
    """What rollout counts become: their rate, right where any rollout is, or right from one half on."""

    @model_validator(mode="before")
    @classmethod
    def _soft_has_two(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("soft") and "num_classes" not in given:
            return {**given, "num_classes": 2}
        return given

    @field_validator("step_separator")
    @classmethod
    def _separator(cls, given: str) -> str:
        return typed(given)

    @field_validator("boundary")
    @classmethod
    def _boundary(cls, given: str) -> str:
        if given != "last-token" and not (given.startswith("special:") and given.removeprefix("special:").strip()):
            raise ValueError("write last-token or special:TOKEN")
        return given

    @model_validator(mode="after")
    def _classes(self) -> PRMConfig:
        if self.soft and self.num_classes == 3:
            raise ValueError("--soft goes with --num-classes 2")
        return self


class ValueConfig(TrainConfig):
    """Value model: the return from each token on, squared error."""

    kind: ClassVar[Kind] = "value"

    gamma: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Discount per token."""
    reward_field: str = "reward"
    """Column of the reward."""
    clip: Positive | None = None
    """Hold values within this distance of the untrained ones."""
    target: Literal["returns", "reward"] = "returns"
    """Discounted returns, or the numbers as they are."""


class SFTConfig(TrainConfig):
    """Supervised fine-tuning: next-token cross entropy on the assistant's turns."""

    kind: ClassVar[Kind] = "sft"

    loss_on: Literal["all-assistant", "final", "all"] = "all-assistant"
    """Turns that carry loss."""


CONFIGS: dict[Kind, type[TrainConfig]] = {c.kind: c for c in (BTConfig, ORMConfig, PRMConfig, ValueConfig, SFTConfig)}


def make_config(kind: Kind, settings: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a kind, with `UsageError` that names the flag in place of pydantic's own error.

    >>> make_config("bt", {"model": "scratch", "data": ("arithmetic",), "batch_size": 0})
    Traceback (most recent call last):
        ...
    rmeval.errors.UsageError: --batch-size: Input should be greater than or equal to 1 (got 0)
    """
    given = {**settings, **{name: (settings[name],) for name in ("data",) if isinstance(settings.get(name), str)}}
    try:
        return CONFIGS[kind](**given)
    except ValidationError as fault:
        raise UsageError("\n".join(_describe(error, CONFIGS[kind]) for error in fault.errors())) from None


def bt_config(**settings: Any) -> BTConfig:
    """A `BTConfig`; as `make_config`."""
    made = make_config("bt", settings)
    assert isinstance(made, BTConfig)
    return made


def read_config(path: Path, kind: Kind) -> dict[str, Any]:
    """The settings in a TOML file. Raises `UsageError` for a file that is none, and for names that are no settings."""
    found = strict_toml.read(path)
    known = CONFIGS[kind].model_fields
    for name in found:
        if name not in known:
            raise UsageError(f"--config {path}: {name!r} is no setting of {kind}. {near_miss(name, known)}".rstrip())
    return found


def _describe(error: Any, config: type[TrainConfig]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    name = str(error["loc"][0])
    flag = "--" + name.replace("_", "-")
    if error["type"] == "extra_forbidden":
        return f"{flag}: unknown setting. {near_miss(name, config.model_fields)}".rstrip()
    if error["type"] == "missing":
        return f"{flag} is required for train {config.kind}"
    return f"{flag}: {message} (got {error['input']!r})"
