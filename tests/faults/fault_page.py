"""Which tests prove which fault, read from the marks in their source, and the table of them.

What this module does not know: whether the tests pass.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from faults.fault_list import FAULTS, GROUPS

TESTS = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- faults: begin (written by tests/faults --write) -->", "<!-- faults: end -->"


@dataclass(frozen=True, order=True)
class Proof:
    """A marked test."""

    file: str
    """Relative to `tests`."""
    name: str
    also: tuple[str, ...] = ()
    """Further marks that decide when it runs: `slow`, `browser`."""

    def __str__(self) -> str:
        when = f" ({', '.join(self.also)})" if self.also else ""
        return f"`{self.file}` `{self.name}`{when}"


def proofs() -> dict[str, list[Proof]]:
    """Fault -> the tests that carry its mark, in the order of files and lines."""
    found: dict[str, list[Proof]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = dict(_marks(node))
                also = tuple(sorted(marks.keys() & {"slow", "browser", "smollm2", "vllm"}))
                proof = Proof(path.relative_to(TESTS).as_posix(), node.name, also)
                for code in marks.get("fault", ()):
                    found[code].append(proof)
    return dict(found)


def _marks(test: ast.FunctionDef) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(mark, its texts) of a test's decorators."""
    for decorator in test.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(called, ast.Attribute) and ast.unparse(called.value) == "pytest.mark":
            given = decorator.args if isinstance(decorator, ast.Call) else []
            yield called.attr, tuple(str(one.value) for one in given if isinstance(one, ast.Constant))


def as_markdown(found: Mapping[str, list[Proof]]) -> str:
    """What stands between the marks of the page: a table per group."""
    lines: list[str] = []
    for group, numbers in GROUPS.items():
        lines += [
            "",
            f"### {group}",
            "",
            "| | fault | what happens | how it is made | tests |",
            "|---|---|---|---|---|",
        ]
        for number in numbers:
            fault = FAULTS[f"F{number}"]
            tests = "<br>".join(str(proof) for proof in found.get(fault.code, ()))
            lines.append(f"| {fault.code} | {fault.what} | {fault.outcome} | {fault.made} | {tests} |")
    return "\n".join(lines).strip()


def with_table(page: str, table: str) -> str:
    """A page with the table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
