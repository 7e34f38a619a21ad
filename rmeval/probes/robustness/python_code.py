r"""Edits of Python code that leave what it does as it was: names of local variables, comments, blank lines.

Python is found in fenced blocks that say so, in unfenced top-level functions, and in responses that are nothing but
Python. Every edit parses what it wrote and compares the syntax trees: if they are not the same (but for the names), it
does not apply. Every edit is `edit(text, rng, prompt) -> str | None`.

What this module does not know: other languages, examples.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import random
import re
import warnings
from collections.abc import Callable

_FENCED = re.compile(
    r"^[ ]{0,3}```(?:python|py|python3)[ \t]*\n(.*?)^[ ]{0,3}```", re.MULTILINE | re.DOTALL | re.IGNORECASE
)
_FUNCTION = re.compile(r"^def \w+\(.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_COMMENTS = ("# go on from here", "# next step", "# this comes next", "# and then")
_NEW_NAMES = ("item_a", "item_b", "thing", "temp", "held", "current_one", "stored", "inner", "local_one", "aside")
_REFLECTION = {"exec", "eval", "locals", "globals", "vars", "compile", "dir"}


def rename(text: str, rng: random.Random, prompt: str) -> str | None:
    r"""Local variables get other names, the same one everywhere.

    Names of arguments, functions, classes, attributes and modules stay, and so do names that the prose or a string
    mentions, since callers and readers rely on them.

    >>> rename("```python\ndef f(n):\n    total = n + 1\n    return total\n```", random.Random(1), "")
    '```python\ndef f(n):\n    stored = n + 1\n    return stored\n```'
    """
    del prompt
    outside = text
    for start, end in reversed(regions(text)):
        outside = outside[:start] + outside[end:]
    said = set(re.findall(r"\w+", outside))
    return _each(text, lambda code: _renamed(code, said, rng))


def comments(text: str, rng: random.Random, prompt: str) -> str | None:
    """Comments that say nothing stand before half of the statements inside functions, at least one."""
    del prompt
    return _each(text, lambda code: _before_statements(code, rng, lambda indent: indent + rng.choice(_COMMENTS)))


def blank_lines(text: str, rng: random.Random, prompt: str) -> str | None:
    """Blank lines stand before half of the statements inside functions, at least one."""
    del prompt
    return _each(text, lambda code: _before_statements(code, rng, lambda indent: ""))  # noqa: ARG005


def regions(text: str) -> list[tuple[int, int]]:
    """(start, end) of the Python in a text, in order."""
    if fenced := [found.span(1) for found in _FENCED.finditer(text)]:
        return fenced
    if _tree(text) is not None:
        return [(0, len(text))]
    if "```" in text:
        return []
    return [found.span() for found in _FUNCTION.finditer(text)]


def _each(text: str, function: Callable[[str], str | None]) -> str | None:
    """The text with a function applied to each piece of Python that parses; None where it changed none."""
    parts, at, changed = [], 0, False
    for start, end in regions(text):
        new = _changed(text[start:end], function)
        changed |= new is not None
        parts += [text[at:start], text[start:end] if new is None else new]
        at = end
    return "".join([*parts, text[at:]]) if changed else None


def _changed(code: str, function: Callable[[str], str | None]) -> str | None:
    try:
        return function(code) if _tree(code) is not None else None
    except RecursionError:  # a sum of a thousand terms is as deep a tree
        return None


def _tree(code: str) -> ast.Module | None:
    """The syntax tree of code that holds a function; None where it does not parse or holds none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the code of others
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree if any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree)) else None


# --- names -----------------------------------------------------------------------------------------------------------


def _renamed(code: str, said: set[str], rng: random.Random) -> str | None:
    tree = _tree(code)
    assert tree is not None
    chosen = _renameable(tree, code, said)
    taken = set(re.findall(r"\w+", code)) | said | set(keyword.kwlist) | set(dir(builtins))
    free = [name for name in _NEW_NAMES if name not in taken]
    rng.shuffle(free)
    names = dict(zip(chosen, free, strict=False))
    if not names:
        return None
    new = _Words(names).sub(code)
    expected = ast.dump(_Rename(names).visit(tree))
    after = _tree(new)
    return new if after is not None and ast.dump(after) == expected else None


def _renameable(tree: ast.Module, code: str, said: set[str]) -> list[str]:
    """Names that are assigned inside functions and are nothing else anywhere, in the order of appearance."""
    nodes = list(ast.walk(tree))
    reserved = said | set(dir(builtins))
    stored: dict[str, None] = {}
    in_functions = {
        id(inner) for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for part in node.body for inner in ast.walk(part)
    }  # fmt: skip
    for node in nodes:
        if isinstance(node, ast.Name):
            if id(node) not in in_functions:
                reserved.add(node.id)
            elif isinstance(node.ctx, ast.Store):
                stored[node.id] = None
            if node.id in _REFLECTION:
                return []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            reserved.update(re.findall(r"\w+", node.value))
        elif isinstance(node, ast.ClassDef):
            reserved.update(n.id for part in node.body for n in ast.walk(part) if isinstance(n, ast.Name))
        else:
            reserved.update(_other_names(node))
    reserved.update(re.findall(r"\w+", " ".join(re.findall(r"#[^\n]*", code))))
    return [name for name in stored if name not in reserved and not name.startswith("__")]


def _other_names(node: ast.AST) -> list[str]:
    """What a node other than a Name calls by name: arguments, attributes, functions, imports, patterns ..."""
    found: list[str] = []
    for field in ("arg", "attr", "name", "asname", "names", "rest", "kwd_attrs"):
        value = getattr(node, field, None)
        for one in value if isinstance(value, list) else [value]:
            found += [one] if isinstance(one, str) else []
    return [part for name in found for part in name.split(".")]


class _Rename(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)


class _Words:
    """Whole words of a source text for others; what they are is checked on the tree afterwards."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.pattern = re.compile(rf"(?<![\w.])(?:{'|'.join(map(re.escape, names))})(?!\w)")

    def sub(self, code: str) -> str:
        return self.pattern.sub(lambda found: self.names[found[0]], code)


# --- lines -----------------------------------------------------------------------------------------------------------


def _before_statements(code: str, rng: random.Random, line_at: Callable[[str], str]) -> str | None:
    """Lines put before statements that stand in a function's body, alone at the start of their line."""
    tree = _tree(code)
    assert tree is not None
    rows = code.split("\n")
    places: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for statement in node.body[1:] if ast.get_docstring(node) is not None else node.body:
                row = statement.lineno - 1 - len(getattr(statement, "decorator_list", ()))
                at_start = not rows[statement.lineno - 1][: statement.col_offset].strip()
                if at_start and row == statement.lineno - 1 and row > node.lineno - 1:
                    places.add(row)
    if not places:
        return None
    for row in sorted(rng.sample(sorted(places), (len(places) + 1) // 2), reverse=True):
        indent = rows[row][: len(rows[row]) - len(rows[row].lstrip())]
        rows.insert(row, line_at(indent))
    new = "\n".join(rows)
    after = _tree(new)
    return new if after is not None and ast.dump(after) == ast.dump(tree) else None
