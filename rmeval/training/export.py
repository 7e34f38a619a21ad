"""A finished run on disk: checkpoint, adapter and logs, and the proof that they load elsewhere with equal scores.

With adapters, the folder holds the merged model, which every tool can serve, and `adapter/` the adapters with the head
beside it, unless only the merged one is wanted.

What this module does not know: how the model was trained.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmeval.errors import CheckFailed
from rmeval.training.heads import Head
from rmeval.training.reload import outputs
from rmeval.whole_files import draft_folder, remove_folder, write_whole

TOLERANCE = 1e-5
"""Largest accepted difference between a score before and after export, in fp32."""


@dataclass(frozen=True, slots=True)
class Probes:
    """What the model is asked before and after."""

    head: Head
    messages: list[list[dict[str, str]]]
    """Conversations that both tokenizers render."""
    ids: list[list[int]]
    """Texts that both models read."""
    tokenizer: Any


@dataclass(frozen=True, slots=True)
class Saved:
    """A folder, and what the model that was written there said."""

    folder: Path
    adapter: bool
    said: list[list[float]]


def save(
    out: Path, model: Any, about: Mapping[str, Any], probes: Probes, *, lora: bool = False, merge: bool = False
) -> list[Saved]:
    """Write weights as safetensors, the tokenizer with its chat template, and a `rmeval` block in `config.json`."""
    saved: list[Saved] = []
    if lora:
        from rmeval.training.lora import merged

        if not merge:
            folder = out / "adapter"
            model.save_pretrained(folder)
            probes.tokenizer.save_pretrained(folder)
            saved.append(Saved(folder, adapter=True, said=_ask(model, probes)))
        model = merged(model)
    model.config.rmeval = dict(about)
    with draft_folder(out) as draft:
        model.save_pretrained(draft)
        probes.tokenizer.save_pretrained(draft)
        # config.json last: it says that all else is there
        for path in sorted(draft.iterdir(), key=lambda path: path.name == "config.json"):
            if path.is_dir():
                remove_folder(out / path.name)
            path.replace(out / path.name)
    return [*saved, Saved(out, adapter=False, said=_ask(model, probes))]


def verify(saved: Sequence[Saved], probes: Probes) -> float:
    """Load what was written in a process of its own and compare; the largest difference of a score.

    Both processes tokenise for themselves. Raises `CheckFailed` above `TOLERANCE`, when weights are not in the files,
    and when the tokenizers render differently.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"  # another device would differ in the last bits
    question = {
        "auto": probes.head.auto,
        "form": probes.head.form,
        "labels": len(probes.head.labels),
        "folders": [[str(one.folder.resolve()), one.adapter] for one in saved],
        "messages": probes.messages,
        "ids": probes.ids,
        "device": device,
        "threads": torch.get_num_threads(),
    }
    answers = _in_another_process(question)
    wanted = _rendered(probes)
    worst = 0.0
    for one, answer in zip(saved, answers, strict=True):
        if answer["missing"]:
            raise CheckFailed(f"{one.folder}: the exported checkpoint lacks {', '.join(answer['missing'])}")
        if answer["rendered"] != wanted:
            raise CheckFailed(f"{one.folder}: the exported tokenizer renders the same conversation differently")
        pairs = [(a, b) for x, y in zip(one.said, answer["said"], strict=True) for a, b in zip(x, y, strict=True)]
        difference = max((abs(a - b) for a, b in pairs), default=0.0)
        if not difference <= TOLERANCE:
            raise CheckFailed(
                f"{one.folder}: the exported checkpoint scores differently when loaded again (largest difference "
                f"{difference:.3g}, allowed {TOLERANCE:g}); --no-verify-export skips this check"
            )
        worst = max(worst, difference)
    return worst


def _ask(model: Any, probes: Probes) -> list[list[float]]:
    return outputs(model, probes.ids, probes.head.form)


def _rendered(probes: Probes) -> list[list[int]]:
    from rmeval.training.reload import rendered

    return rendered(probes.tokenizer, probes.messages)


def _in_another_process(question: Mapping[str, Any]) -> list[dict[str, Any]]:
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
    # a process of its own: nothing of this one, a launcher's ranks included, may leak into it
    alone = {k: v for k, v in os.environ.items() if k not in {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"}}
    with tempfile.TemporaryDirectory() as folder:
        asked, said = Path(folder, "question.json"), Path(folder, "answer.json")
        asked.write_text(json.dumps(question), encoding="utf-8")
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            # -P: or modules would be looked for in the folder that one happens to be in, which may be a stranger's
            [sys.executable, "-P", "-m", "rmeval.training.reload", str(asked), str(said)],
            env={**alone, "PYTHONPATH": path},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode or not said.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise CheckFailed(f"the exported checkpoint cannot be loaded again: {last}")
        answers: list[dict[str, Any]] = json.loads(said.read_text(encoding="utf-8"))
        return answers


def write_logs(out: Path, history: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> None:
    """`train_log.jsonl` (one row per logged step and per evaluation) and `metrics.json`."""
    rows = "".join(json.dumps(row) + "\n" for row in history)
    write_whole(out / "train_log.jsonl", rows.encode())
    write_json(out / "metrics.json", metrics)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file without NaN."""
    write_whole(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def write_config(out: Path, settings: Mapping[str, Any]) -> None:
    """`config.toml`: the resolved settings, in the spelling of the flags' names; unset ones are left out."""
    lines = [f"{name} = {_toml(value)}" for name, value in settings.items() if value is not None]
    write_whole(out / "config.toml", ("\n".join(lines) + "\n").encode())


def _toml(value: Any) -> str:
    """A flat value or a list; a JSON text, number, boolean or list of them is a TOML one too."""
    if isinstance(value, Path):
        return json.dumps(str(value), ensure_ascii=False)
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
