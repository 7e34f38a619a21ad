"""`--model scratch`: a small new model for a laptop's CPU, with a tokenizer made from the training texts.

A language model brings to preference training what it has read; a new one has read nothing, and one bit per pair is
little to learn reading from. So it is warmed up first, on the chosen texts alone. Some numbers and signs of a response
are replaced by others: each position says whether its token was replaced and the last one whether any was
(replaced-token detection: Clark et al., ELECTRA, 2020), and up to the first replacement each number and sign is
foretold from what stands before it, as by any language model. The same head then gives the reward: "nothing is wrong
here" is where preference training starts.

What this module does not know: preference losses, export, which data the texts come from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from rmeval.progress import progress
from rmeval.training.backbone import make_safe
from rmeval.training.rows import Comparison
from rmeval.training.templates import PLAIN_TEMPLATE
from rmeval.training.trainer import RewardTrainer, ShowProgress, training_arguments

VOCABULARY = 8192
"""Most frequent words kept; the rest is `<unk>`."""
HIDDEN, LAYERS, HEADS, WINDOW = 64, 2, 4, 6
"""The first layer sees `WINDOW` tokens back, enough for one equation; the other sees everything."""
WARM_UP_PASSES, WARM_UP_BATCH, WARM_UP_LR = 3, 12, 6e-3
"""Many small steps: at equal cost, batches of 32 at 3e-3 foretold half as many results."""
REPLACED, TOUCHED = 0.12, 0.7
"""Share of the replaceable tokens replaced, in this share of the texts."""
LAST_WEIGHT, LANGUAGE_WEIGHT = 0.3, 0.5
"""Of the last position's loss and of foretelling, beside the mean over the positions."""

_SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
_SIGN = re.compile(r"[+\-×÷*/=<>%^]")


@dataclass(frozen=True, slots=True)
class Reading:
    """A chosen text for the warm-up."""

    ids: list[int]
    start: int
    """Where the response begins."""


def build(train: Sequence[Comparison], *, seed: int, max_length: int) -> tuple[Any, Any]:
    """(a warmed-up sequence classifier with one reward, its tokenizer), both made from the training comparisons."""
    tokenizer = make_tokenizer([text for one in train for text in _texts(one)], max_length)
    model = make_model(tokenizer, seed=seed, max_length=max_length)
    warm_up(model, tokenizer, readings(train, tokenizer, max_length), seed=seed)
    return model, tokenizer


def make_tokenizer(texts: Sequence[str], max_length: int) -> Any:
    """Words, whole numbers, punctuation and line ends as tokens; the plain chat template with bos and eos in it."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel(unk_token=_SPECIAL["unk_token"]))
    words = Regex(r"\n|\w+|[^\w\s]+")
    inner.pre_tokenizer = pre_tokenizers.Split(words, behavior="removed", invert=True)
    trainer = trainers.WordLevelTrainer(vocab_size=VOCABULARY, special_tokens=[*_SPECIAL.values()], show_progress=False)
    inner.train_from_iterator([*texts, "User: Assistant:"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=max_length, **_SPECIAL)
    tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def small_config(tokenizer: Any, *, hidden: int, max_length: int, **more: Any) -> Any:
    """The Qwen3 of our small models, of width `hidden`; `more` goes to the config as it is."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=hidden // HEADS,
        max_position_embeddings=max_length,
        use_sliding_window=True,
        sliding_window=WINDOW,
        max_window_layers=0,
        layer_types=["sliding_attention"] + ["full_attention"] * (LAYERS - 1),
        initializer_range=0.1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **more,
    )


def make_model(tokenizer: Any, *, seed: int, max_length: int) -> Any:
    """A Qwen3 sequence classifier of about 0.1 M parameters, its weights drawn with `seed`."""
    from transformers import Qwen3ForSequenceClassification

    torch.manual_seed(seed)
    model = Qwen3ForSequenceClassification(small_config(tokenizer, hidden=HIDDEN, max_length=max_length, num_labels=1))
    number_the_numbers(model.get_input_embeddings().weight, tokenizer)
    make_safe(tokenizer, model)
    return model


def number_the_numbers(embeddings: torch.Tensor, tokenizer: Any) -> None:
    """Start the embedding of each number with its size: near numbers are near, as a language model has learnt."""
    scale = 2 * embeddings.detach().std()
    periods = [2.5 * 1.6**k for k in range(9)]
    with torch.no_grad():
        for word, token in tokenizer.get_vocab().items():
            if word.isdigit() and len(word) <= 4:
                n = int(word)
                code = [n / 50 - 1, math.log1p(n) / 2 - 1]
                code += [wave(2 * math.pi * n / period) for period in periods for wave in (math.sin, math.cos)]
                embeddings[token, : len(code)] = scale * torch.tensor(code)


def readings(train: Sequence[Comparison], tokenizer: Any, max_length: int) -> list[Reading]:
    """The chosen texts as ids, those over the limit left out."""
    whole = [[*one.prompt, {"role": "assistant", "content": one.chosen}] for one in train]
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in whole]
    prompts = [tokenizer.apply_chat_template(list(one.prompt), tokenize=False) for one in train]
    ids, starts = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (texts, prompts))
    # the prompt alone ends in eos, which the whole conversation has only at its end
    return [Reading(i, len(s) - 1) for i, s in zip(ids, starts, strict=True) if len(i) <= max_length]


def warm_up(model: Any, tokenizer: Any, texts: Sequence[Reading], *, seed: int) -> None:
    """Replaced-token detection on the chosen texts, in place; nothing to do for texts without numbers or signs."""
    kinds = replaceable(tokenizer)
    texts = [text for text in texts if any(kinds[i] for i in text.ids[text.start :])]
    if not texts:
        return
    steps = WARM_UP_PASSES * math.ceil(len(texts) / WARM_UP_BATCH)
    arguments = training_arguments(
        max_steps=steps,
        per_device_train_batch_size=WARM_UP_BATCH,
        learning_rate=WARM_UP_LR,
        adam_beta2=0.98,
        warmup_steps=min(50, steps),
        logging_strategy="no",
        seed=seed,
        data_seed=seed,
    )
    with progress("warm-up, steps", steps) as display:
        trainer = ReplacedTokenTrainer(
            model=model,
            args=arguments,
            train_dataset=list(texts),
            data_collator=Replacer(kinds, tokenizer.pad_token_id, seed),
            group_by_length=True,
            callbacks=[ShowProgress(display)],
        )
        trainer.train()


def replaceable(tokenizer: Any) -> list[int]:
    """Per token id what it may be replaced by: 1 other numbers, 2 other signs, 0 nothing."""
    kinds = [0] * len(tokenizer)
    for word, token in tokenizer.get_vocab().items():
        kinds[token] = 1 if word.isdigit() else 2 if _SIGN.fullmatch(word) else 0
    return kinds


class Replacer:
    """Chosen texts -> a batch in which some tokens are replaced by others of their kind in the same batch."""

    def __init__(self, kinds: Sequence[int], pad_token_id: int, seed: int) -> None:
        self.kinds = torch.tensor(kinds)
        self.pad_token_id = pad_token_id
        self.random = torch.Generator().manual_seed(seed)

    def __call__(self, texts: Sequence[Reading]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask`, `candidates` (replaceable positions) and `replaced`, all [texts, longest]."""
        longest = max(len(text.ids) for text in texts)
        ids = torch.tensor([text.ids + [self.pad_token_id] * (longest - len(text.ids)) for text in texts])
        mask = torch.tensor([[1] * len(text.ids) + [0] * (longest - len(text.ids)) for text in texts])
        at = torch.arange(longest)
        starts = torch.tensor([text.start for text in texts])
        kind = self.kinds[ids]
        candidates = (kind > 0) & (at >= starts[:, None])
        touched = torch.rand(len(texts), 1, generator=self.random) < TOUCHED
        drawn = candidates & touched & (torch.rand(ids.shape, generator=self.random) < REPLACED)
        changed = ids.clone()
        for which in (1, 2):
            pool, slots = ids[candidates & (kind == which)], drawn & (kind == which)
            if len(pool):
                changed[slots] = pool[torch.randint(len(pool), (int(slots.sum()),), generator=self.random)]
        return {"input_ids": changed, "attention_mask": mask, "candidates": candidates, "replaced": changed != ids}


class ReplacedTokenTrainer(RewardTrainer):
    """The head says at every replaceable position that its token is untouched, and at the last that all are."""

    def item_count(self, batch: dict[str, torch.Tensor]) -> int:
        """Texts in a micro-batch."""
        return len(batch["input_ids"])

    def loss_sum(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Detection (mean over positions, and the last one) and foretelling (mean over tokens), summed over texts."""
        ids, mask, candidates, replaced = (batch[k] for k in ("input_ids", "attention_mask", "candidates", "replaced"))
        hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        untouched = (~replaced).float()
        logits = model.score(hidden)[..., 0]
        detect = binary_cross_entropy_with_logits(logits, untouched, reduction="none") * candidates
        rows = torch.arange(len(ids), device=ids.device)
        last = binary_cross_entropy_with_logits(logits[rows, mask.sum(1) - 1], untouched.amin(1), reduction="none")
        # what stands after a replaced token cannot be foretold from it
        foreseeable = candidates & (replaced.cumsum(1) == 0)
        foreseeable[:, 0] = False
        before = foreseeable.roll(-1, dims=1)
        words = hidden[before] @ model.get_input_embeddings().weight.T
        predict = cross_entropy(words, ids[foreseeable], reduction="sum")
        tokens = detect.sum(1) / candidates.sum(1).clamp(min=1)
        share = len(ids) / foreseeable.sum().clamp(min=1)
        return (tokens + LAST_WEIGHT * last).sum() + LANGUAGE_WEIGHT * predict * share

    def row_length(self, row: Reading) -> int:
        """Tokens of the text."""
        return len(row.ids)


def _texts(one: Comparison) -> list[str]:
    return [*(turn["content"] for turn in one.prompt), one.chosen, one.rejected]
