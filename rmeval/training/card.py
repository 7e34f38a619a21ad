"""`README.md` of a checkpoint: what it is, what it was trained on, how good it is, how to use and serve it.

What this module does not know: how the model was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmeval.training.nulls import says
from rmeval.training.tasks import Task
from rmeval.whole_files import write_whole

_PIPELINES = {"sequence": "text-classification", "token": "token-classification", "causal": "text-generation"}
_READ = {
    "bt": "reward = logits[0, 0]  # at the last token; the class finds it by the padding",
    "orm": "right = logits[0, :, 0].sigmoid()  # P(answer is right) after each token; read it at the last one",
    "prm": "steps = logits[0].softmax(-1)  # read the last token of every step; the last class is `correct`",
    "value": "value = logits[0, :, 0]  # what is still to come after each token",
    "sft": "next_token = logits[0, -1].softmax(-1)",
}
_SERVE = {
    "sequence": "`rmeval run FOLDER --suite arithmetic` evaluates it. `vllm serve FOLDER --runner pooling --convert "
    "classify` should serve raw scores, since `config.json` says `problem_type: regression`; this was not run.",
    "token": "`vllm serve FOLDER --runner pooling --convert classify` with the task `token_classify` should serve it; "
    "pass `use_activation: false` and apply the link above yourself. This was not run.",
    "causal": "`vllm serve FOLDER` should serve it; this was not run.",
}


def write(out: Path, task: Task, about: Mapping[str, Any], metrics: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Write the card."""
    head, config = task.head, task.config
    adapters = (
        f"- Adapters of rank {config.lora}, merged into these weights"
        + ("" if config.merge else "; `adapter/` holds them with the whole head")
        if config.lora
        else None
    )
    separator = (
        f"Steps are tokenised one by one, each with its separator {config.step_separator!r}; "
        f"they are judged at {config.boundary}."
        if about["kind"] == "prm"
        else None
    )
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {_PIPELINES[head.form]}",
        f"tags: [{'reward-model, ' if about['kind'] != 'sft' else ''}rmeval]",
        f"base_model: {about['base_model']}",
        "---",
        "",
        f"# {'Language model' if about['kind'] == 'sft' else 'Reward model'} (kind: {about['kind']})",
        "",
        task.says,
        "",
        f"- Base model: `{about['base_model']}`",
        f"- Data: `{', '.join(data['source'])}`, sha256 `{data['sha256']}`",
        (
            f"- {data['train']} {data['unit']} trained on, {data['validation']} of other prompts held out, "
            f"{data['dropped']} left out"
        ),
        adapters,
        *_measured(task, metrics, data),
        "",
        "Texts are rendered by the chat template, which writes its own special tokens. " + (separator or ""),
        "",
        "```python",
        f"from transformers import {head.auto}, AutoTokenizer",
        "",
        "tokenizer = AutoTokenizer.from_pretrained(FOLDER)",
        f"model = {head.auto}.from_pretrained(FOLDER)",
        "text = tokenizer.apply_chat_template(messages, tokenize=False)",
        'logits = model(**tokenizer(text, add_special_tokens=False, return_tensors="pt")).logits',
        _READ[about["kind"]],
        "```",
        "",
        (
            f"{_SERVE[head.form]} Trained with rmeval {about['version']}; settings in `config.toml`, curves in "
            "`curves.svg`, all metrics in `metrics.json`."
        ),
    ]
    text = "\n".join(line for line in lines if line is not None) + "\n"
    write_whole(out / "README.md", text.encode())


def _measured(task: Task, metrics: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    if "eval_loss" not in metrics:
        return ["- No validation set was held out."]
    levels = "".join(f" ({line.says}: {line.value:.4f})" for line in task.lines)
    found = [f"- Validation on {data['validation']} {data['unit']}: loss {metrics['eval_loss']:.4f}{levels}"]
    name = task.metric
    if name != "loss" and f"eval_{name}" in metrics:
        ends = [metrics.get(f"eval_{name}_{end}") for end in ("low", "high")]
        between = "" if None in ends else f", 95 % interval {ends[0]:.3f} to {ends[1]:.3f} over prompts"
        found.append(f"- Validation {name} {metrics[f'eval_{name}']:.3f}{between}")
    if baselines := says(metrics):
        found.append(f"- Without a model, on the same rows: {baselines}")
    return found
