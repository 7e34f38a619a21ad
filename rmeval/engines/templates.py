"""Chat templates that rmeval brings, for checkpoints that have none of their own.

What this module does not know: tokenizers; bos and eos are added by whoever tokenises.
"""

PLAIN = """\
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] + '\\n\\n' -}}
{%- elif message['role'] == 'user' -%}
{{- 'User: ' + message['content'] + '\\n\\n' -}}
{%- elif message['role'] == 'assistant' -%}
{{- 'Assistant: ' + message['content'] -}}
{%- if not loop.last -%}{{- '\\n\\n' -}}{%- endif -%}
{%- else -%}
{{- raise_exception("unknown role '" + message['role'] + "': one of system, user, assistant") -}}
{%- endif -%}
{%- endfor -%}
"""
"""Roles in words, one blank line between turns, no special tokens."""

PLAIN_AHEAD = "Assistant:"
"""What follows such a conversation where the assistant is to write: no space, which is the start of its first token."""
