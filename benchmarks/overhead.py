"""What a whole run costs beside its forward passes: python -m benchmarks.overhead [--suite S --data PATH] [OUT.json]

One process, one thread, `rmeval.run`'s own path from the file to the written result. The model has seeded weights of
4 layers of 512 and a byte-level BPE trained on the texts. Time is that of the processor: imports and loading the model
are named apart, `forward` is the backbone alone, and the rest is split by what it is for. The bar: less than 5 %
outside of the forward passes at 1,000 useful tokens per second and above. That a text which stands twice is computed
once is held by `tests/test_packed.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.memory import write_pairs

LAYERS, WIDTH, VOCABULARY = 4, 512, 8000


def build(texts: list[str], folder: Path) -> Path:
    """The checkpoint."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.chat_template = "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), num_labels=1, pad_token_id=2, bos_token_id=0, eos_token_id=1,
        hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=LAYERS, num_attention_heads=8,
        max_position_embeddings=8192,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


class Clock:
    """Processor seconds by what they were spent on; what one thing spends inside another counts for itself alone."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._open: list[tuple[str, float]] = []

    def start(self, name: str) -> None:
        now = time.process_time()
        if self._open:
            self.spent[self._open[-1][0]] += now - self._open[-1][1]
        self._open.append((name, now))

    def stop(self) -> None:
        now = time.process_time()
        name, since = self._open.pop()
        self.spent[name] += now - since
        if self._open:
            self._open[-1] = (self._open[-1][0], now)

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Count what a method spends."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*given: Any, **named: Any) -> Any:
            self.start(name)
            try:
                return inner(*given, **named)
            finally:
                self.stop()

        setattr(owner, method, timed)


def run(suite: str, data: Path, model: Path, limit: int | None, folder: Path) -> dict[str, Any]:
    """Shares of the processor's time in one run."""
    started = time.process_time()
    import torch

    from rmeval import api, results, runner
    from rmeval.engines.transformers import TransformersEngine
    from rmeval.models import load_model
    from rmeval.store import Store
    from rmeval.suites import Suite, load_suite

    torch.set_num_threads(1)
    clock = Clock()
    clock.watch(Suite, "load", "data")
    clock.watch(TransformersEngine, "plan", "tokenise and plan")
    clock.watch(Store, "get", "store")
    clock.watch(Store, "put", "store")
    clock.watch(runner, "request_key", "keys")
    clock.watch(api, "evaluate", "metrics")
    clock.watch(results, "write", "write")
    loaded = load_model(str(model), by_step=False)
    on = load_suite(suite)
    imports = time.process_time() - started
    started = time.process_time()
    body = loaded.engine.reader.model.model  # type: ignore[union-attr]
    loading = time.process_time() - started
    body.register_forward_pre_hook(lambda *_: clock.start("forward"))
    body.register_forward_hook(lambda *_: clock.stop())
    clock.start("rest")
    path = api.run_suite(
        loaded, on, api.Settings(data=data, limit=limit, out=folder / "results", store=folder / "replies.sqlite")
    )
    clock.stop()
    found = results.read(path)
    whole = sum(clock.spent.values())
    outside = whole - clock.spent["forward"]
    return {
        "examples": found.suite.examples,
        "requests": found.counts.requests,
        "texts": found.text.texts if found.text else 0,
        "tokens": found.usage.tokens,
        "tokens_per_second": round(found.usage.tokens / whole),
        "outside_per_cent": round(100 * outside / whole, 2),
        "seconds": {name: round(spent, 3) for name, spent in clock.spent.most_common()},
        "apart": {"imports": round(imports, 2), "loading the model": round(loading, 2)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What a run spends outside its forward passes.")
    parser.add_argument("--suite", default="pairs")
    parser.add_argument("--data", type=Path, help="rows of the suite; without it seeded words")
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("out", nargs="?", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(passing)
        data = asked.data
        if data is None:
            data = folder / "pairs.jsonl"
            write_pairs(data, asked.limit, words=150)
        from rmeval.suites import load_suite

        examples = load_suite(asked.suite).load(data).examples
        texts = [c.text for e in examples[:2000] for c in e.candidates] + [
            e.prompt[-1].content for e in examples[:2000]
        ]
        model = build(texts, folder / "model")
        found = {"title": "a run beside its forward passes", "load": os.getloadavg()[0]}
        found["rows"] = [run(asked.suite, data, model, asked.limit, folder / "once")]
    for key, value in found["rows"][0].items():
        print(f"  {key} {value}")
    if asked.out:
        from rmeval import environment

        record = {
            "environment": environment.describe(
                argv=["benchmarks.overhead", "--suite", asked.suite, "--limit", str(asked.limit)]
            ),
            **found,
        }
        asked.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
