"""What is altered in a module, one place at a time: comparisons, arithmetic, constants, conditions, slices, returns.

A mutant goes by its function and its change, not by its line, so that a list of mutants outlives edits elsewhere.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum", "maximum": "minimum"}


Step = tuple[str, int | None]
"""From a node to one of its own: the field, and the place in it where it is a list."""


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: str
    """Path below the root."""
    function: str
    """Qualified name of the function it lies in, or `-` on top of the module."""
    change: str
    """The expression before and after; what is not the first of its kind in the function has a number."""
    lines: tuple[int, int]
    """First line of the statement, last line of the changed expression."""
    body: tuple[int, int]
    """First and last line of the function or module."""
    owner: tuple[str, ...]
    """The outermost function that it lies in, below its class; none on top."""
    names: tuple[str, ...]
    """What the statement on top that it lies in defines."""
    path: tuple[Step, ...]
    variant: int

    @property
    def name(self) -> str:
        return f"{self.module} {self.function}: {self.change}"

    def code(self, root: Path) -> ast.Module:
        """The whole module with the change."""
        tree = parsed(root / self.module)
        put(tree, self.path, list(variants(at(tree, self.path)))[self.variant])
        return ast.fix_missing_locations(tree)


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def mutants(root: Path, module: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its text."""
    tree = parsed(root / module)
    found: list[Mutant] = []
    seen: Counter[tuple[str, str]] = Counter()
    for path, function, body, first in places(tree, (), "-", (1, 10**6), 1):
        node = at(tree, path)
        for number, new in enumerate(variants(node)):
            change = f"{shown(node)} -> {shown(new)}"
            seen[function, change] += 1
            if (nth := seen[function, change]) > 1:
                change += f" ({nth})"
            head = node.test if isinstance(node, ast.If) else node
            last = getattr(head, "end_lineno", None) or first
            owner, names = owner_and_names(tree, path)
            found.append(Mutant(module, function, change, (first, last), body, owner, names, path, number))
    return found


def owner_and_names(tree: ast.AST, path: tuple[Step, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The outermost function on a path, below its class; the names of the statement on top."""
    owner: list[str] = []
    for end in range(1, len(path)):
        node = at(tree, path[:end])
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            owner.append(node.name)
        if isinstance(node, ast.FunctionDef):
            return tuple(owner), ()
    statement = at(tree, path[:1])
    if owner:
        return (), tuple(owner)
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return (), tuple(node.id for target in targets if target for node in ast.walk(target) if isinstance(node, ast.Name))


def shown(node: ast.AST) -> str:
    """The source of a node; of an `if` only its condition."""
    return f"if {ast.unparse(node.test)}" if isinstance(node, ast.If) else ast.unparse(node)


def places(
    node: ast.AST, path: tuple[Step, ...], function: str, body: tuple[int, int], first: int
) -> Iterator[tuple[tuple[Step, ...], str, tuple[int, int], int]]:
    """Where something may be altered: neither docstrings, nor annotations, nor decorators, nor messages of errors."""
    if isinstance(node, ast.stmt):
        first = node.lineno
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = node.name if function == "-" else f"{function}.{node.name}"
        if isinstance(node, ast.FunctionDef):
            body = (node.lineno, node.end_lineno or node.lineno)
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    if path and isinstance(node, ast.expr | ast.AugAssign | ast.Return | ast.If | ast.comprehension):
        yield path, function, body, first
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        for index, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if isinstance(child, ast.AST):
                yield from places(child, (*path, (field, index)), function, body, first)


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """The node's mutants, each a new node."""

    def changed(**fields: object) -> ast.AST:
        new = copy.copy(node)
        for field, value in fields.items():
            setattr(new, field, value)
        return new

    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from (changed(ops=[op()]) for op in COMPARISONS[type(node.ops[0])])
    elif isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            yield changed(ops=[*node.ops[:i], COMPARISONS[type(op)][0](), *node.ops[i + 1 :]])
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in ARITHMETIC:
        yield changed(op=ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield changed(op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1 if node.value + 1 != node.value else 2 * node.value)
    elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        yield changed(id=NAMES[node.id])
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield changed(attr=NAMES[node.attr])
    elif isinstance(node, ast.If | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp):
        # the others are turned by their own operator
        yield changed(test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.comprehension):
        yield from (changed(ifs=[ast.UnaryOp(ast.Not(), test)]) for test in node.ifs[:1])
    elif isinstance(node, ast.Slice):
        yield changed(lower=ast.Constant(1)) if node.lower is None else changed(lower=None)
    elif isinstance(node, ast.Return) and ast.dump(node.value or ast.Constant(None)) != ast.dump(ast.Constant(None)):
        yield changed(value=ast.Constant(None))


def at(tree: ast.AST, path: tuple[Step, ...]) -> ast.AST:
    """The node that a path leads to."""
    for field, index in path:
        value = getattr(tree, field)
        tree = value if index is None else value[index]
    return tree


def put(tree: ast.AST, path: tuple[Step, ...], new: ast.AST) -> None:
    """Another node at the end of a path."""
    parent = at(tree, path[:-1])
    field, index = path[-1]
    if index is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[index] = new
