# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/conformance.md: what is held of the predecessor's checklist, and by which tests. `make conformance` writes it.

The page comes from docs/conformance.toml and from the tests' own `@pytest.mark.row(NUMBER)`, read without running them.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs/conformance.md"
ROWS = PROJECT / "docs/conformance.toml"
_INTRODUCTION = """# Conformance

What snf-image 0.23 did, as a checklist, and the tests that show it here. Numbers are the checklist's own; the rows that
are missing belong to later work. **Deliberately different** says where we do otherwise, and why.

This page is written by `make conformance` from `docs/conformance.toml` and the tests' markers; do not edit it.
"""


@dataclass(frozen=True)
class Row:
    """One row: its section's letter, what is to be seen, and why it is different, if it is."""

    section: str
    number: int
    text: str
    differs: str | None


def rows() -> list[Row]:
    """All rows in order."""
    document = tomllib.loads(ROWS.read_text(encoding="utf-8"))
    differs = document.get("differs", {})
    return [
        Row(section, int(number), text, differs.get(number))
        for section in document["sections"]
        for number, text in document[section].items()
    ]


def shown() -> dict[int, list[str]]:
    """Row -> the tests that carry its number, as pytest names them."""
    found: dict[int, list[str]] = {}
    for path in sorted((PROJECT / "tests").rglob("test_*.py")):
        for name, numbers in _marked(ast.parse(path.read_text(encoding="utf-8"))):
            for number in numbers:
                found.setdefault(number, []).append(f"{path.relative_to(PROJECT / 'tests')}::{name}")
    return found


def page(listed: Sequence[Row], tests: Mapping[int, Sequence[str]]) -> str:
    """The whole document."""
    sections = tomllib.loads(ROWS.read_text(encoding="utf-8"))["sections"]
    parts = [_INTRODUCTION]
    for section, title in sections.items():
        parts.append(f"\n## {section}. {title}\n\n| row | what | shown by |\n| --- | --- | --- |\n")
        parts += [_line(row, tests.get(row.number, ())) for row in listed if row.section == section]
    return "".join(parts)


def _line(row: Row, tests: Sequence[str]) -> str:
    different = f" **Deliberately different:** {row.differs}" if row.differs else ""
    return f"| {row.number} | {row.text}.{different} | {'<br>'.join(f'`{test}`' for test in tests)} |\n"


def _marked(tree: ast.Module) -> Iterator[tuple[str, list[int]]]:
    """Each test function with the rows it carries, those of the whole module among them."""
    everywhere = [
        number
        for statement in tree.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "pytestmark"
        for number in _numbers(statement.value)
    ]
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef) and statement.name.startswith("test_"):
            own = [number for decorator in statement.decorator_list for number in _numbers(decorator)]
            if numbers := sorted({*everywhere, *own}):
                yield statement.name, numbers


def _numbers(expression: ast.expr) -> list[int]:
    return [
        ast.literal_eval(argument)
        for call in ast.walk(expression)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.row"
        for argument in call.args
    ]


if __name__ == "__main__":
    PAGE.write_text(page(rows(), shown()), encoding="utf-8")
