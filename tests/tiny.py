"""Tiny seeded checkpoints: real architectures with random weights, for tests in which only the shape matters."""

from __future__ import annotations

from pathlib import Path

CHATML = (
    "{% for m in messages %}{{ '<s>' if loop.first else '' }}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>"
    "{% endfor %}"
)
WORDS = (
    "user assistant system the a of is not what sum two three four good bad answer , . ? + = Assistant User :".split()
)


def tokenizer(*, pad: str = "<pad>", template: str | None = CHATML, bos: bool = False):
    """A word-level tokenizer; `bos` makes it add <s> by itself, as Llama's does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS, *map(str, range(40))])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    if bos:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token=pad,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=128,
    )
    made.chat_template = template
    return made


def classifier(folder: Path, *, kind: str = "llama", labels: int = 1, seed: int = 0, tok=None, **config) -> Path:
    """A sequence classifier of an architecture, saved with its tokenizer."""
    import torch
    import transformers

    tok = tok or tokenizer()
    common = dict(
        vocab_size=len(tok), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_labels=labels,
        pad_token_id=tok.pad_token_id, bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id,
    )  # fmt: skip
    made = {
        "llama": ("LlamaConfig", dict(intermediate_size=64, num_key_value_heads=2, max_position_embeddings=256)),
        "qwen2": (
            "Qwen2Config",
            dict(
                intermediate_size=64,
                num_key_value_heads=2,
                use_sliding_window=True,
                sliding_window=16,
                max_window_layers=1,
            ),
        ),
        "qwen3": (
            "Qwen3Config",
            dict(intermediate_size=64, num_key_value_heads=2, head_dim=8, max_position_embeddings=256),
        ),
        "mistral": ("MistralConfig", dict(intermediate_size=64, num_key_value_heads=2, sliding_window=16)),
        "gemma": ("GemmaConfig", dict(intermediate_size=64, num_key_value_heads=1, head_dim=8)),
        "gemma2": ("Gemma2Config", dict(intermediate_size=64, num_key_value_heads=2, head_dim=8, sliding_window=16)),
        "gemma3": (
            "Gemma3TextConfig",
            dict(intermediate_size=64, num_key_value_heads=2, head_dim=8, sliding_window=16),
        ),
        "phi": ("PhiConfig", dict(intermediate_size=64, num_key_value_heads=2)),
        "phi3": ("Phi3Config", dict(intermediate_size=64, num_key_value_heads=2)),
        "gpt2": ("GPT2Config", dict(n_embd=32, n_layer=2, n_head=4, n_positions=256)),
        "bert": ("BertConfig", dict(intermediate_size=64, max_position_embeddings=256)),
    }[kind]
    torch.manual_seed(seed)
    config = getattr(transformers, made[0])(**{**common, **made[1], **config})
    config.initializer_range = 0.3  # scores that differ visibly
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder, safe_serialization=True)
    tok.save_pretrained(folder)
    return folder
