"""Texts that share what they begin with score as if each were alone: every architecture, every way of reading."""

from __future__ import annotations

import random

import pytest
import tiny
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.types import Request, Text

KINDS = ["llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3", "phi", "phi3", "gpt2"]


def words(n: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices([*tiny.WORDS, *map(str, range(40))], k=n))


def groups() -> list[tuple[str, str]]:
    """(group, text): what is hard about prompts and candidates. A word is a token."""
    one, long, middle, many = "sum", words(40, 1), words(7, 2), words(5, 3)
    return [
        *(("one", f"{one} {end}") for end in (words(3, 4), words(9, 5), words(1, 6))),  # a prompt of one token
        ("long", f"{long} {words(4, 7)}"),  # longer than any window
        ("long", f"{long} {words(30, 8)}"),
        ("middle", f"{middle} {words(6, 9)}"),
        ("middle", f"{middle} {words(6, 9)}"),  # the same candidate
        ("middle", middle),  # an empty one
        ("middle", f"{middle} {words(6, 9)} {words(3, 10)}"),  # one that begins like another
        ("alone", words(12, 11)),  # k = 1
        ("", words(2, 12)),
        ("apart", words(3, 13)),  # nothing alike
        ("apart", "user " + words(3, 14)),
        *(("many", f"{many} {words(1 + i % 5, 100 + i)}") for i in range(64)),
    ]


def requests(cases) -> list[Request]:
    return [Request((Text(text),), group=group) for group, text in cases]


def one_by_one(folder, texts: list[str]) -> list[float]:
    """The reference: transformers alone, one unpadded text at a time."""
    tok = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model.config.pad_token_id = None
    with torch.no_grad():
        ids = [tok(text, add_special_tokens=False, return_tensors="pt")["input_ids"] for text in texts]
        return [float(model(input_ids=one).logits[0, 0]) for one in ids]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_scores_as_if_it_were_alone(tmp_path, kind):
    folder = tiny.classifier(tmp_path / kind, kind=kind)
    cases = groups()
    alone = one_by_one(folder, [text for _, text in cases])
    assert max(alone) - min(alone) > 0.05  # the texts are told apart at all
    for budget in (None, 24):  # all in one pass; groups longer than one
        engine = TransformersEngine(Checkpoint(str(folder)), batch_tokens=budget)
        found = [reply.values[0][0] for reply in engine.run(requests(cases))]
        assert engine.describe()["layout"] == "prefix tree"
        assert engine.describe()["drift"] < 1e-4
        assert found == pytest.approx(alone, abs=1e-5)
