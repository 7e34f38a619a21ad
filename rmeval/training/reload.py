"""An exported checkpoint as a stranger meets it: loaded by transformers' Auto classes in a process of its own.

`python -m rmeval.training.reload QUESTION.json ANSWER.json` is run by `export.verify`. What this module does not know:
how the checkpoint was made, and what its scores should be.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def outputs(model: Any, texts: Sequence[Sequence[int]], form: str) -> list[list[float]]:
    """What a model says of each text alone, in one row of numbers.

    A sequence classifier gives its logits, a token classifier those of every token, a language model the log
    probability of every token after the first.
    """
    import torch

    device = next(model.parameters()).device
    model.eval()
    found: list[list[float]] = []
    with torch.inference_mode():
        for ids in texts:
            asked = torch.tensor([list(ids)], device=device)
            logits = model(input_ids=asked).logits[0].float()
            if form == "causal":
                logits = logits[:-1].log_softmax(-1).gather(1, asked[0, 1:, None])
            found.append(logits.flatten().tolist())
    return found


def rendered(tokenizer: Any, messages: Sequence[Sequence[Mapping[str, str]]]) -> list[list[int]]:
    """The token ids of each conversation by the tokenizer's own chat template."""
    texts = [tokenizer.apply_chat_template([dict(turn) for turn in one], tokenize=False) for one in messages]
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return ids


def _answer(question: Mapping[str, Any], folder: str, adapter: bool) -> dict[str, Any]:
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    auto = getattr(transformers, question["auto"])
    missing: list[str] = []
    if adapter:
        from peft import PeftConfig, PeftModel

        source = PeftConfig.from_pretrained(folder).base_model_name_or_path
        labels = {"num_labels": question["labels"]} if question["labels"] else {}
        base = auto.from_pretrained(source, dtype=torch.float32, use_safetensors=True, **labels)
        if len(tokenizer) > base.get_input_embeddings().num_embeddings:
            base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        base.config.pad_token_id = tokenizer.pad_token_id
        model = PeftModel.from_pretrained(base, folder)
    else:
        model, loading = auto.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        missing = sorted(loading["missing_keys"])
    model.to(question["device"])
    return {
        "missing": missing,
        "rendered": rendered(tokenizer, question["messages"]),
        "said": outputs(model, question["ids"], question["form"]),
    }


def main() -> None:
    """Answer the question in the first file in the second."""
    import torch

    asked, said = map(Path, sys.argv[1:3])
    question = json.loads(asked.read_text(encoding="utf-8"))
    torch.set_num_threads(question["threads"])
    answers = [_answer(question, folder, adapter) for folder, adapter in question["folders"]]
    said.write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
