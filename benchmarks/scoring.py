"""The transformers engine against a plain loop: data set order, batch 8, padded to the longest.

Same seeded model, same texts, interleaved repetitions, medians. Useful tokens are those of every text, counted once.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from typing import Any

REPETITIONS = 3
TEXTS = 96


def measure() -> dict[str, Any]:
    """A row per method: useful tokens/s, ratio to the plain loop (median and range), largest score difference."""
    import torch
    from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

    from rmeval.engines.checkpoint import Checkpoint
    from rmeval.engines.transformers import TransformersEngine

    rng = random.Random(0)
    texts = [" ".join(f"w{rng.randrange(200)}" for _ in range(rng.choice((20, 60, 120, 300)))) for _ in range(TEXTS)]
    with tempfile.TemporaryDirectory() as folder:
        word_tokenizer(200).save_pretrained(folder)
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=256,
            hidden_size=256,
            intermediate_size=688,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_labels=1,
            pad_token_id=0,
            max_position_embeddings=1024,
        )
        LlamaForSequenceClassification(config).save_pretrained(folder)
        engine = TransformersEngine(Checkpoint(folder), lint="warn")  # the texts are words without an end
        requests = [_request(text) for text in texts]
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        useful = sum(engine.plan(requests).tokens)
        rendered = [one.ids for one in engine.encoder.encode(requests) if one is not None]

        def ours() -> list[float]:
            scores = [0.0] * len(requests)
            for batch in engine.plan(requests).batches:
                for i, reply in zip(batch, engine.run([requests[i] for i in batch]), strict=True):
                    scores[i] = reply.values[0][0]
            return scores

        def plain() -> list[float]:
            scores: list[float] = []
            for start in range(0, len(rendered), 8):
                batch = engine.tokenizer.pad({"input_ids": rendered[start : start + 8]}, return_tensors="pt")
                with torch.no_grad():
                    scores += model(**batch).logits[:, 0].tolist()
            return scores

        times: dict[str, list[float]] = {"plain loop": [], "rmeval": []}
        results: dict[str, list[float]] = {}
        for _ in range(REPETITIONS + 1):  # the first round warms up
            for name, run in (("plain loop", plain), ("rmeval", ours)):
                start_time = time.perf_counter()
                results[name] = run()
                times[name].append(time.perf_counter() - start_time)
    ratios = [a / b for a, b in zip(times["plain loop"][1:], times["rmeval"][1:], strict=True)]
    difference = max(abs(a - b) for a, b in zip(results["plain loop"], results["rmeval"], strict=True))
    return {
        "title": f"scoring {TEXTS} texts, {useful:,} useful tokens, {torch.get_num_threads()} threads, fp32",
        "rows": [
            {"method": name, "tokens/s": round(useful / statistics.median(seconds[1:]))}
            for name, seconds in times.items()
        ]
        + [
            {
                "ratio": round(statistics.median(ratios), 2),
                "range": [round(min(ratios), 2), round(max(ratios), 2)],
                "largest difference": difference,
            }
        ],
    }


def word_tokenizer(words: int) -> Any:
    """A tokenizer of one token per word, `w0` to as many as there are."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, **{f"w{i}": i + 2 for i in range(words)}}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")
    made.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    return made


def _request(text: str) -> Any:
    from rmeval.types import Chat, Message, Request

    return Request((Chat((Message("user", "w1 w2 w3"), Message("assistant", text))),))
