r"""Chat templates by name, `chatml zephyr tulu plain`, or from a file; goldens of all of them stand in the tests.

`chatml`, `zephyr` and `tulu` take one optional system message, then user and assistant in turn, and refuse anything
else. They write no BOS: none of the three formats has one. In ChatML a line ends after every `<|im_end|>`, so the last
token of a conversation is that line end. In the other two nothing follows the last EOS.

What this module does not know: models, data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rmeval import chat_templates as templates
from rmeval.errors import UsageError, near_miss

_TURNS = """\
{%- set first = 1 if messages and messages[0]['role'] == 'system' else 0 -%}
{%- for message in messages -%}
{%- if loop.index0 < first -%}{%- set due = 'system' -%}
{%- else -%}{%- set due = ('user', 'assistant')[(loop.index0 - first) % 2] -%}
{%- endif -%}
{%- if message['role'] != due -%}
{{- raise_exception("turn " ~ loop.index ~ " is of the role " ~ message['role'] ~ ", here " ~ due ~ " is expected: "
    ~ "an optional system message, then user and assistant in turn") -}}
{%- endif -%}
"""

CHATML = (
    _TURNS
    + """\
{{- '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
)

ZEPHYR = (
    _TURNS
    + """\
{{- '<|' ~ message['role'] ~ '|>\\n' ~ message['content'] ~ eos_token -}}
{%- if not loop.last or add_generation_prompt -%}{{- '\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}
"""
)

TULU = (
    _TURNS
    + """\
{{- '<|' ~ message['role'] ~ '|>\\n' ~ message['content'] -}}
{%- if message['role'] == 'assistant' -%}{{- eos_token -}}{%- endif -%}
{%- if not loop.last or add_generation_prompt -%}{{- '\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}
"""
)

PLAIN_TEMPLATE = (
    "{{- bos_token if bos_token else '' -}}\n"
    + templates.PLAIN
    + f"{{%- if add_generation_prompt -%}}{{{{- '{templates.PLAIN_AHEAD}' -}}}}"
    + "{%- elif eos_token -%}{{- eos_token -}}{%- endif -%}\n"
)
"""`PLAIN` with the special tokens of the tokenizer it is written into: a causal head is read at eos, a language model
begins to write where the assistant's turn begins."""

BUILT_IN = {"chatml": CHATML, "zephyr": ZEPHYR, "tulu": TULU, "plain": PLAIN_TEMPLATE}

SPECIAL = {"chatml": ("<|im_start|>", "<|im_end|>"), "zephyr": (), "tulu": (), "plain": ()}
"""Tokens that a format needs as tokens of their own; EOS is the tokenizer's."""


def load_template(source: str) -> str:
    """The template of a built-in name or in a file. Raises `UsageError` where it is neither, or no Jinja.

    >>> load_template("chatlm")
    Traceback (most recent call last):
    rmeval.errors.UsageError: --chat-template chatlm: no built-in template and no file. Did you mean 'chatml'?
    """
    if source in BUILT_IN:
        return BUILT_IN[source]
    path = Path(source).expanduser()
    if not path.is_file():
        near = near_miss(source, BUILT_IN) or f"Built in are {', '.join(BUILT_IN)}"
        raise UsageError(f"--chat-template {source}: no built-in template and no file. {near}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise UsageError(f"--chat-template {source}: cannot be read: {fault}") from None
    _check(text, f"--chat-template {source}")
    return text


def use_template(tokenizer: Any, source: str) -> int:
    """Give a tokenizer the template of a name or file; the number of tokens added for it.

    Where it is not 0, the model's embeddings have to grow. Raises `UsageError` as `load_template`, and where the
    template ends turns in EOS and the tokenizer has none.
    """
    template = load_template(source)
    if source in BUILT_IN and "eos_token" in template and source != "plain" and tokenizer.eos_token is None:
        raise UsageError(f"--chat-template {source}: turns end in EOS, and the tokenizer has none")
    tokenizer.chat_template = template
    known = tokenizer.get_vocab()
    missing = [token for token in SPECIAL.get(source, ()) if token not in known]
    return int(tokenizer.add_tokens(missing, special_tokens=True)) if missing else 0


def _check(text: str, where: str) -> None:
    from jinja2 import TemplateSyntaxError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        templates.within(templates.SECONDS, lambda: str(render_jinja_template([[]], chat_template=text)))
    except templates.Endless:
        raise UsageError(f"{where}: does not end within {templates.SECONDS:g} seconds") from None
    except TemplateSyntaxError as fault:
        raise UsageError(f"{where} line {fault.lineno}: not a Jinja template: {fault.message}") from None
    except Exception:  # noqa: BLE001, S110
        pass  # it compiles; without messages and special tokens a template may raise whatever it likes
