"""Seeded mutations of valid inputs: texts, JSON values and TOML tables, and how the spoilt values are written down.

A case is always a `str`. What stands for bytes that are no UTF-8 are the surrogates that Python itself uses for them
(`surrogateescape`), so that any case is one line of a JSON file.
"""

from __future__ import annotations

import json
import random
from typing import Any

ODD_TEXTS = (
    "", " ", "\n", "\r\n", "\r", "\t", "\0", "\x1b[31m", "\x7f", "\x85", "\u2028", "\ufeff", "\u200b", "\u202e", "\u2066",
    "\u00a0", "\u0410", "\u212a", "\u0130", "\u00df", "\u0663", "\uff18", "\u00b2", "\U0001f469\u200d\U0001f52c",
    "a\u0301", "\ud800", "\udc80", "\udcff", "\uffff", "../../etc/passwd", "{", "}", "{{", "{x}", "{0}", "%s", "[", "]",
    "[[", "]]", '"', "'", "\\", "\\u0000", "\\ud800", "null", "NaN", "-", "--", "#", "=", ",", ":", "|", ".", "?",
    "<script>", "&", "=1+1", "None", "A" * 300, "\u0301" * 50, " " * 200,
)  # fmt: skip
ODD_NUMBERS = (
    "0", "-0.0", "-1", "1", "2", "7", "8.5", "1e308", "-1e308", "1e999", "-1e999", "1e-400", "NaN", "Infinity",
    "-Infinity", "inf", "nan", "9" * 25, "-" + "9" * 25, "1" + "0" * 400, "-1" + "0" * 400, "9" * 4301, "01", "+1", "1_000",
    "0x10", "1.", ".5", "9007199254740993", "2147483648", "9223372036854775808", "18446744073709551616", "1e5", "10", "0.1",
)  # fmt: skip
DEPTHS = (3, 20, 90, 99, 101, 150, 300, 480, 700, 900, 960, 980, 1000, 3000, 100_000)


class Literal(str):
    """A text that is written as it stands, without quotes."""

    __slots__ = ()


class Twins(list):
    """An object as a list of (key, value), in which a key may stand twice."""


def text(draw: random.Random, base: str, words: tuple[str, ...] = ()) -> str:
    """A text with one to four changes."""
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        base = _changed(draw, base, words)
    return base


def _changed(draw: random.Random, base: str, words: tuple[str, ...]) -> str:
    n = len(base)
    a = draw.randrange(n + 1)
    b = min(n, a + draw.choice((0, 1, 1, 2, 5, 20, 100)))
    kind = draw.randrange(10)
    if kind == 0:  # cut
        return base[:a] + base[b:]
    if kind == 1:  # the rest is lost
        return base[:a]
    if kind == 2:  # said again, perhaps often
        return base[:b] + base[a:b] * draw.choice((1, 1, 2, 30)) + base[b:]
    if kind == 3:
        return base[:a] + draw.choice(ODD_TEXTS) + base[b:]
    if kind == 4:
        return base[:a] + draw.choice(ODD_NUMBERS) + base[b:]
    if kind == 5 and words:
        return base[:a] + draw.choice(words) + base[b:]
    if kind == 6 and n:  # one bit of one letter
        at = min(a, n - 1)
        return base[:at] + chr(ord(base[at]) ^ (1 << draw.randrange(8))) + base[at + 1 :]
    if kind == 7:  # two stretches change places
        c = draw.randrange(n + 1)
        a, b, c = sorted((a, b, c))
        return base[:a] + base[b:c] + base[a:b] + base[c:]
    if kind == 8:
        opening, closing = draw.choice((("[", "]"), ("{", "}"), ('{"a":', "}"), ("(", ")"), ("[[", "]]"), ("a.", "")))
        deep = draw.choice(DEPTHS) if draw.random() < 0.2 else draw.randrange(1, 6)
        return base[:a] + opening * deep + base[a:b] + closing * (deep if draw.random() < 0.8 else 0) + base[b:]
    return (
        base[:a] + chr(draw.choice((draw.randrange(128), draw.randrange(0x3000), draw.randrange(0x11000)))) + base[b:]
    )


def value(draw: random.Random, base: Any, words: tuple[str, ...] = ()) -> Any:
    """A JSON value with one to three changes; what is not changed is shared with `base`."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        base = _spoilt(draw, base, words) if draw.random() < 0.98 else scalar(draw, words)
    return base


def _spoilt(draw: random.Random, node: Any, words: tuple[str, ...]) -> Any:
    if isinstance(node, Twins):
        return node
    if isinstance(node, dict) and node and draw.random() < 0.95:
        key = draw.choice(list(node))
        kind = draw.randrange(12)
        if kind == 0:
            return {k: v for k, v in node.items() if k != key}
        if kind == 1:
            return Twins([*node.items(), (key, draw.choice((node[key], None, 0)))])
        if kind == 2:
            return {(text(draw, k, words) if k == key else k): v for k, v in node.items()}
        if kind == 3:
            return {**node, draw.choice(words or ("x",)): scalar(draw, words)}
        if kind == 4:
            other = draw.choice(list(node))
            return {**node, key: node[other], other: node[key]}
        return {**node, key: _spoilt(draw, node[key], words)}
    if isinstance(node, list) and node and draw.random() < 0.95:
        at = draw.randrange(len(node))
        kind = draw.randrange(10)
        if kind == 0:
            return node[:at] + node[at + 1 :]
        if kind == 1:
            return node[: at + 1] + node[at:]
        if kind == 2:
            return [*node, scalar(draw, words)]
        if kind == 3:
            return node[::-1]
        return [*node[:at], _spoilt(draw, node[at], words), *node[at + 1 :]]
    if isinstance(node, str) and not isinstance(node, Literal) and draw.random() < 0.5:
        return text(draw, node, words)
    if draw.random() < 0.15:
        return _wrapped(draw, node)
    return scalar(draw, words)


def _wrapped(draw: random.Random, node: Any) -> Any:
    if draw.random() < 0.3:
        deep = draw.choice(DEPTHS)
        opening, closing = draw.choice((("[", "]"), ('{"a":', "}")))
        return Literal(opening * deep + "0" + closing * deep)
    return draw.choice(([node], [node, node], {"a": node}, [], {}, [[node]]))


def scalar(draw: random.Random, words: tuple[str, ...] = ()) -> Any:
    """A value by itself: of another type, of another size, or no value of JSON at all."""
    kind = draw.randrange(7)
    if kind == 0:
        return draw.choice((None, True, False))
    if kind == 1:
        return draw.choice((0, 1, -1, 2, 3, 10**6, 10**18, 10**30, -(10**400)))
    if kind == 2:
        return draw.choice((0.0, -0.0, 0.5, 1.0, 1e-320, 1e308, -1e308, 3.0, 1e100))
    if kind == 3:
        return Literal(draw.choice(ODD_NUMBERS))
    if kind == 4 and words:
        return draw.choice(words)
    if kind == 5:
        return draw.choice(([], {}, [None], [0], [[]], [""], {"": ""}, "A" * 20000))
    return draw.choice(ODD_TEXTS)


def as_json(node: Any) -> str:
    """A spoilt value as text, which need not be JSON."""
    return _written(node, ": ")


def as_toml(table: Any) -> str:
    """A spoilt table as text: one line per key, tables inside it inline."""
    if not isinstance(table, dict | Twins):
        return _written(table, " = ")
    pairs = table if isinstance(table, Twins) else table.items()
    return "".join(f"{_quoted(str(k))} = {_written(v, ' = ')}\n" for k, v in pairs)


_quoted = json.encoder.encode_basestring


def _written(node: Any, between: str) -> str:
    kind = type(node)
    if kind is str:
        return _quoted(node)
    if kind is Literal:
        return str(node)
    if kind is int or kind is float:
        return repr(node)
    if node is None:
        return "null" if between == ": " else "nan"
    if kind is bool:
        return "true" if node else "false"
    if kind is list or kind is tuple:
        return "[" + ", ".join([_written(one, between) for one in node]) + "]"
    pairs = node if kind is Twins else node.items()
    return "{" + ", ".join([f"{_quoted(str(k))}{between}{_written(v, between)}" for k, v in pairs]) + "}"


def as_bytes(case: str) -> bytes:
    """The bytes that a case stands for."""
    try:
        return case.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return case.encode("utf-8", "surrogatepass")


def from_bytes(content: bytes) -> str:
    """The case that stands for bytes."""
    return content.decode("utf-8", "surrogateescape")
