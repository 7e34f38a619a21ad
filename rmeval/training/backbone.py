"""The model that is trained: a given backbone with a head, and its tokenizer made safe to score with.

- pad must not be eos: a classifier finds the last token by looking for padding, and would score the token before eos.
- The chat template is the tokenizer's own; where it has none, our plain one is written into its files with bos and eos.
- A head that the checkpoint does not hold is drawn from N(0, 1 / (hidden + 1)).
- Heads at tokens have no dropout, and their bias stays 0: some servers drop it.

What this module does not know: data, losses, trainers.
"""

from __future__ import annotations

import hashlib
from typing import Any

from rmeval.engines.checkpoint import Checkpoint
from rmeval.errors import UsageError
from rmeval.training.heads import REWARD, Head, module_of, name_of
from rmeval.training.templates import PLAIN_TEMPLATE, use_template

_PAD = "<|pad|>"


def quiet_transformers() -> None:
    """No progress bars of its own and no warnings: what a user must know, we say."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def load_backbone(
    source: str,
    *,
    seed: int,
    head: Head = REWARD,
    head_init: str = "normal:1/sqrt(h+1)",
    attn: str | None = None,
    template: str | None = None,
) -> tuple[Any, Any]:
    """(model with a head, tokenizer) from a folder or hub id; the head is drawn with `seed` where there is none.

    `template` names a chat template, or a file, that replaces the tokenizer's own. Raises `UsageError` where the source
    cannot be loaded, or its class has no linear head.
    """
    import torch
    import transformers

    quiet_transformers()
    torch.manual_seed(seed)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
        Checkpoint(source).refuse_unless_loadable()
        if head.labels:
            config.num_labels = len(head.labels)
        if head.form == "token":
            config.classifier_dropout = 0.0
        model, loading = getattr(transformers, head.auto).from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **({"attn_implementation": attn} if attn else {}),
        )
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 - what transformers makes of a broken file has no common base
        raise _no_backbone(source, fault) from None
    missing = sorted(loading["missing_keys"])
    name = name_of(model)
    if head.labels and name is None:
        raise UsageError(f"--model {source}: {type(model).__name__} has no linear head over its tokens")
    lost = [key for key in missing if name is None or not key.startswith(f"{name}.")]
    if lost:
        raise UsageError(f"--model {source}: lacks {', '.join(lost[:3])}{' and more' if len(lost) > 3 else ''}")
    if missing:
        init_head(model, head_init)
    settle_head(model, head)
    if template is not None:
        use_template(tokenizer, template)
    make_safe(tokenizer, model, head)
    return model, tokenizer


def load_tokenizer(source: str, *, template: str | None = None) -> Any:
    """The tokenizer as `load_backbone` gives it, without the weights."""
    from transformers import AutoTokenizer

    quiet_transformers()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 - what transformers makes of a broken file has no common base
        raise _no_backbone(source, fault) from None
    if template is not None:
        use_template(tokenizer, template)
    make_tokenizer_safe(tokenizer)
    return tokenizer


def _no_backbone(source: str, fault: Exception) -> UsageError:
    first = str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
    return UsageError(
        f"--model {source}: cannot be loaded as a backbone: {first}. A folder, a hub id, or `tiny` for a small new one"
    )


def init_head(model: Any, how: str) -> None:
    """Draw a new head: `normal:1/sqrt(h+1)`, `zeros`, or `hf` for what transformers drew. A bias starts at 0."""
    import torch

    module = module_of(model)
    if how == "zeros":
        torch.nn.init.zeros_(module.weight)
    elif how != "hf":
        torch.nn.init.normal_(module.weight, std=(module.in_features + 1) ** -0.5)
    if module.bias is not None:
        torch.nn.init.zeros_(module.bias)


def settle_head(model: Any, head: Head) -> None:
    """No dropout before a head at tokens, and its bias frozen at 0."""
    import torch

    if head.form != "token":
        return
    for child in model.children():
        if isinstance(child, torch.nn.Dropout):
            child.p = 0.0
    bias = module_of(model).bias
    if bias is not None:
        torch.nn.init.zeros_(bias)
        bias.requires_grad_(False)


def make_safe(tokenizer: Any, model: Any, head: Head = REWARD) -> None:
    """Give the pair a pad token of its own and a chat template, and the config what it needs to be served."""
    make_tokenizer_safe(tokenizer)
    fit_embeddings(tokenizer, model)
    config = model.config
    config.pad_token_id = tokenizer.pad_token_id
    if head.labels:
        config.num_labels = len(head.labels)
        config.id2label = dict(enumerate(head.labels))
        config.label2id = {name: i for i, name in enumerate(head.labels)}
        config.problem_type = head.problem_type
    if getattr(model, "generation_config", None) is not None and head.form == "causal":
        model.generation_config.pad_token_id = tokenizer.pad_token_id


def make_tokenizer_safe(tokenizer: Any) -> None:
    """A pad token of its own and a chat template; padding on the right."""
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": _PAD})
    if not isinstance(tokenizer.chat_template, str):
        named = tokenizer.chat_template or {}
        tokenizer.chat_template = named.get("default", PLAIN_TEMPLATE)
    tokenizer.padding_side = "right"


def fit_embeddings(tokenizer: Any, model: Any) -> None:
    """An embedding for every token of the tokenizer."""
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)


def freeze_backbone(model: Any) -> None:
    """Leave the head alone trainable; the backbone then runs without building a graph."""
    model.base_model.requires_grad_(False)


def template_digest(tokenizer: Any) -> str:
    """sha256 of the chat template, as engines record it."""
    return hashlib.sha256(tokenizer.chat_template.encode()).hexdigest()
