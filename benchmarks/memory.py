"""Peak memory of `rmeval run` at 10,000 and at 100,000 examples: python -m benchmarks.memory [OUT.json]

Each run is a process of its own on a file of pairs (prompts of about 20 words, responses of about 60), scored by a
baseline and by a tiny seeded model behind the transformers engine (with texts a fifth as long, and fewer of them:
`--model-examples`). The bar: less than 100 MB more for ten times the examples.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = ("the", "a", "of", "to", "and", "in", "is", "it", "you", "that", "for", "on", "with", "as", "this", "be", "are")


def write_pairs(path: Path, examples: int, *, words: int) -> None:
    """A file of so many pairs; every text is drawn, so that none stands twice."""
    rng = random.Random(examples)

    def text(n: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(n // 2, n * 3 // 2))) + f" {rng.getrandbits(48):x}"

    with path.open("w", encoding="utf-8") as out:
        for _ in range(examples):
            row = {"prompt": text(words // 3), "chosen": text(words), "rejected": text(words)}
            out.write(json.dumps(row) + "\n")


def tiny_model(folder: Path) -> Path:
    """A sequence classifier of two layers with seeded weights and a tokenizer of words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

    special = ("<unk>", "<s>", "</s>", "<pad>", "user", "assistant", *"0123456789abcdef")
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys((*special, *WORDS)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    fast.chat_template = "{% for m in messages %}<s> {{ m.role }} {{ m.content }} </s> {% endfor %}"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=512, num_labels=1, pad_token_id=3, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def timed(model: str, data: Path, folder: Path) -> tuple[float, float, float]:
    """(seconds, processor seconds, peak MiB) of one run with a store of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        command = [
            *(sys.executable, "-m", "rmeval", "run", model, "--suite", "pairs", "--data", str(data), "--json"),
            *("--out", f"{own}/results", "--store", f"{own}/replies.sqlite"),
        ]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} ended with {status}")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def measure(sizes: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """The table: a row per scorer and size."""
    rows = []
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(passing)
        for name, examples in sizes.items():
            model = name if name == "length" else str(tiny_model(folder / "model"))
            least = None
            for n in examples:
                data = folder / f"{name}-{n}.jsonl"
                write_pairs(data, n, words=60 if name == "length" else 12)
                wall, cpu, peak = timed(model, data, folder)
                least = least or peak
                row = {"scorer": name, "examples": n, "data_mib": round(data.stat().st_size / 2**20)}
                row |= {"seconds": round(wall, 1), "processor_seconds": round(cpu, 1), "peak_mib": round(peak)}
                rows.append({**row, "more_mib": round(peak - least)})
    return {"title": "peak memory of rmeval run", "load": os.getloadavg()[0], "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory of `rmeval run` by the number of examples.")
    parser.add_argument("--examples", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--model-examples", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("out", nargs="?", type=Path)
    asked = parser.parse_args()
    sizes = {"length": tuple(asked.examples), "tiny model": tuple(asked.model_examples)}
    found = measure({name: n for name, n in sizes.items() if n})
    print(found["title"])
    for row in found["rows"]:
        print("  " + "  ".join(f"{key} {value}" for key, value in row.items()))
    if asked.out:
        from rmeval import environment

        record = {"environment": environment.describe(argv=["benchmarks.memory"]), **found}
        asked.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
