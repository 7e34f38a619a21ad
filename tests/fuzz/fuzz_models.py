"""What comes with a checkpoint: its chat template, the headers of its weights, its files as a whole."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import fuzz_mutations as mutations
from fuzz_driving import REFUSED, Target, attempt
from fuzz_files import folder, written

from rmeval import chat_templates as templates
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.layers import Files
from rmeval.engines.texts import stated_ends
from rmeval.training.backbone import load_tokenizer
from rmeval.training.templates import load_template

CHATML = (
    "{% for m in messages %}{{ '<s>' if loop.first else '' }}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)
JINJA = (
    "{%", "%}", "{{", "}}", "for", "endfor", "if", "endif", "else", "set", "macro f()", "endmacro", "f()", "range(10**9)", "**",
    "*", "//", "0", "messages", "m.role", "m['content']", "loop.index0", "raise_exception('no')", "strftime_now('%Y')",
    "''.__class__", "|attr('__class__')", "|tojson", "|join", "namespace(x=1)", "'x' * 10**12", "include 'x'", "import 'x'",
    "messages.append(1)", "[messages]", "|format(1)", "|replace('a','b')", "tools", "generation", "endgeneration", "|round",
)  # fmt: skip
TURNS = (
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "4"},
)


class Tokenizer:
    """What transformers does with a template, without a vocabulary."""

    def __init__(self, template: str) -> None:
        self.chat_template = template

    def get_chat_template(self, given: str | None = None) -> str:
        return given or self.chat_template

    def apply_chat_template(self, turns: list[dict[str, str]], **options: Any) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        tokens = {"bos_token": "<s>", "eos_token": "</s>"}
        [text], _ = render_jinja_template([turns], chat_template=self.chat_template, **tokens)
        return text


def _template_case(draw: random.Random) -> str:
    source = draw.choice((CHATML, templates.PLAIN))
    return mutations.text(draw, source, JINJA) if draw.random() < 0.95 else draw.choice(JINJA) + source


def _template(case: str) -> bool:
    rendering = templates.Rendering(Tokenizer(case))
    with _short_time():
        text = rendering.text(TURNS)
    assert text is None or isinstance(text, str)
    return text is not None


def _template_file(case: str) -> bool:
    """The file that `--chat-template` names."""
    with _short_time():
        return attempt(load_template, str(written(case, "given.jinja"))) is not REFUSED


@contextlib.contextmanager
def _short_time() -> Iterator[None]:
    before, templates.SECONDS = templates.SECONDS, 0.4
    try:
        yield
    finally:
        templates.SECONDS = before


def _turns_case(draw: random.Random) -> str:
    turns = [
        {**turn, "content": mutations.text(draw, turn["content"], ("<|im_end|>", "{{ m }}", "{% if %}"))}
        for turn in TURNS
    ]
    turns[0]["role"] = draw.choice(("system", "user", "tool", ""))
    return json.dumps(turns[draw.randrange(2) :])


def _turns(case: str) -> bool:
    turns = json.loads(case) if case.startswith("[") and case.endswith("]") else []
    for template in (CHATML, templates.PLAIN):
        text = templates.Rendering(Tokenizer(template)).text(turns)
        if text is not None:
            assert all(turn["content"].strip() in text for turn in turns), "a turn that is not there to the letter"
    return bool(turns)


# --- weights ---------------------------------------------------------------------------------------------------------

_HEADER = {
    "score.weight": {"dtype": "F32", "shape": [1, 8], "data_offsets": [0, 32]},
    "score.bias": {"dtype": "F32", "shape": [1], "data_offsets": [32, 36]},
    "__metadata__": {"format": "pt"},
}
_WORDS = ("dtype", "shape", "data_offsets", "F32", "BF16", "F64", "I64", "__metadata__", "score.weight", "[0, 36]")


@cache
def _torch() -> None:
    """Imported before a case is timed."""
    import torch  # noqa: F401


def _weights_case(draw: random.Random) -> str:
    _torch()
    header = mutations.as_json(mutations.value(draw, _HEADER, _WORDS))
    size = len(mutations.as_bytes(header))
    if draw.random() < 0.1:
        size = draw.choice((0, 1, 7, size - 1, size + 1, 2**31, 2**32, 2**63, 2**64 - 1, 90_000_000))
    content = struct.pack("<Q", size) + mutations.as_bytes(header) + b"\0" * draw.choice((36, 36, 36, 0, 35, 37))
    case = mutations.from_bytes(content)
    return mutations.text(draw, case, _WORDS) if draw.random() < 0.1 else case


def _weights(case: str) -> bool:
    path = written(case, "weights/model.safetensors")
    files = attempt(Files, str(path.parent))
    if files is REFUSED:
        return False
    taken = False
    for name in list(files.where)[:3]:
        taken |= attempt(files.get, name) is not REFUSED
    return taken


def _index_case(draw: random.Random) -> str:
    index = {
        "metadata": {"total_size": 36},
        "weight_map": {"score.weight": "a.safetensors", "score.bias": "a.safetensors"},
    }
    case = mutations.as_json(mutations.value(draw, index, ("weight_map", "../x", "/etc/passwd", "a.safetensors")))
    return mutations.text(draw, case) if draw.random() < 0.3 else case


def _index(case: str) -> bool:
    path = written(case, "index/model.safetensors.index.json")
    files = attempt(Files, str(path.parent))
    if files is REFUSED:
        return False
    assert not any("/" in file for file in files.where.values()), "a file elsewhere"
    return True


# --- whole folders ---------------------------------------------------------------------------------------------------


@cache
def _sound() -> Path:
    """A tiny checkpoint of one of transformers' own classes."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import tiny

    return tiny.classifier(folder() / "sound-model", num_hidden_layers=1, hidden_size=8, intermediate_size=16)


_ENDS = {"eos_token_id": [3, 5], "bos_token_id": 2, "do_sample": True, "temperature": 0.7, "max_length": 20}


@cache
def _spoilt() -> Path:
    """A copy of it, of which each case spoils one file."""
    path = Path(shutil.copytree(_sound(), folder() / "spoilt-model"))
    (path / "generation_config.json").write_text(json.dumps(_ENDS), encoding="utf-8")
    _checkpoint(str(path))
    return path


@cache
def _files() -> dict[str, bytes]:
    """The sound files."""
    return {path.name: path.read_bytes() for path in sorted(_spoilt().iterdir())}


def _folder_case(draw: random.Random) -> str:
    _torch()
    name = draw.choice(list(_files()))
    content = _files()[name]
    if name == "chat_template.jinja":
        return f"{name}\n{mutations.text(draw, content.decode(), JINJA)}"
    if name == "model.safetensors":
        size = struct.unpack("<Q", content[:8])[0]
        header = mutations.as_json(mutations.value(draw, json.loads(content[8 : 8 + size]), _WORDS))
        written_down = mutations.as_bytes(header)
        return (
            f"{name}\n{mutations.from_bytes(struct.pack('<Q', len(written_down)) + written_down + content[8 + size :])}"
        )
    case = mutations.as_json(mutations.value(draw, json.loads(content), ("llama", "auto_map", "x.X")))
    return f"{name}\n{mutations.text(draw, case) if draw.random() < 0.1 else case}"


def _folder(case: str) -> bool:
    name, _, content = case.partition("\n")
    if name not in _files():
        return False
    path = _spoilt() / name
    path.write_bytes(mutations.as_bytes(content))
    try:
        return _read(str(_spoilt()), name, content)
    finally:
        path.write_bytes(_files()[name])


def _read(source: str, name: str, content: str) -> bool:
    if name.startswith("tokenizer"):
        if random.Random(len(content)).random() < 0.5:  # a training reads it in its own way
            return attempt(load_tokenizer, source) is not REFUSED
        return attempt(_checkpoint(source).tokenizer) is not REFUSED
    if name == "generation_config.json":
        return attempt(stated_ends, source, None) is not REFUSED
    if name == "chat_template.jinja":
        return attempt(_checkpoint(source).tokenizer) is not REFUSED
    checkpoint = _checkpoint(source) if name == "model.safetensors" else attempt(Checkpoint, source)
    if checkpoint is REFUSED:
        return False
    longest = attempt(checkpoint.max_length, _tokenizer())
    if longest is REFUSED:
        return False
    assert longest > 0
    assert isinstance(checkpoint.labels, tuple)
    return attempt(lambda: checkpoint.load(dtype="float32", device="cpu", attention=None)) is not REFUSED


@cache
def _checkpoint(source: str) -> Checkpoint:
    """With the settings as they were before any was spoilt."""
    return Checkpoint(source)


@cache
def _tokenizer() -> Any:
    return Checkpoint(str(_sound())).tokenizer()


TARGETS = (
    Target("chat template", _template_case, _template),
    Target("template of a training", _template_case, _template_file),
    Target("turns in a chat template", _turns_case, _turns),
    Target("header of safetensors", _weights_case, _weights),
    Target("index of safetensors", _index_case, _index),
    Target("folder of a checkpoint", _folder_case, _folder),
)
