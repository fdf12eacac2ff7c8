# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/conformance.md: what is held of the predecessors' checklists, and by which tests. `make conformance` writes it.

The page comes from docs/conformance.toml and from the tests' own `@pytest.mark.row(NUMBER)` and `image_row(NUMBER)`,
read without running them.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs/conformance.md"
ROWS = PROJECT / "docs/conformance.toml"
_INTRODUCTION = """# Conformance

What the predecessors did, as checklists, and the tests that show it here: first [snf-image 0.23](#snf-image-023), then
[instance-image 0.7.3](#instance-image-073). Numbers are the checklists' own; the rows that are missing belong to later
work. **Deliberately different** says where we do otherwise, and why; **not done** what is missing.

This page is written by `make conformance` from `docs/conformance.toml` and the tests' markers; do not edit it.
"""


@dataclass(frozen=True)
class Checklist:
    """One predecessor: the tests' marker for its rows, and where those lie in the document."""

    title: str
    marker: str
    table: str | None


SNF_IMAGE = Checklist("snf-image 0.23", "row", None)
INSTANCE_IMAGE = Checklist("instance-image 0.7.3", "image_row", "image")
CHECKLISTS = (SNF_IMAGE, INSTANCE_IMAGE)


@dataclass(frozen=True)
class Row:
    """One row: its section's letter, what is to be seen, why it is different, if it is, and what of it is missing."""

    section: str
    number: int
    text: str
    differs: str | None
    missing: str | None


def rows(checklist: Checklist) -> list[Row]:
    """All rows in order."""
    document = _document(checklist)
    differs, missing = document.get("differs", {}), document.get("missing", {})
    return [
        Row(section, int(number), text, differs.get(number), missing.get(number))
        for section in document["sections"]
        for number, text in document[section].items()
    ]


def shown(checklist: Checklist) -> dict[int, list[str]]:
    """Row -> the tests that carry its number, as pytest names them."""
    found: dict[int, list[str]] = {}
    for path, tree in _modules():
        for name, numbers in _marked(tree, f"pytest.mark.{checklist.marker}"):
            for number in numbers:
                found.setdefault(number, []).append(f"{path.relative_to(PROJECT / 'tests')}::{name}")
    return found


def page() -> str:
    """The whole document."""
    return _INTRODUCTION + "".join(_part(checklist) for checklist in CHECKLISTS)


@cache
def _modules() -> list[tuple[Path, ast.Module]]:
    paths = sorted((PROJECT / "tests").rglob("test_*.py"))
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def _document(checklist: Checklist) -> dict[str, Any]:
    document = tomllib.loads(ROWS.read_text(encoding="utf-8"))
    return document if checklist.table is None else dict(document[checklist.table])


def _part(checklist: Checklist) -> str:
    listed, tests = rows(checklist), shown(checklist)
    parts = [f"\n## {checklist.title}\n"]
    for section, title in _document(checklist)["sections"].items():
        parts.append(f"\n### {section}. {title}\n\n| row | what | shown by |\n| --- | --- | --- |\n")
        parts += [_line(row, tests.get(row.number, ())) for row in listed if row.section == section]
    return "".join(parts)


def _line(row: Row, tests: Sequence[str]) -> str:
    different = f" **Deliberately different:** {row.differs}" if row.differs else ""
    missing = f" **Not done:** {row.missing}" if row.missing else ""
    return f"| {row.number} | {row.text}.{different}{missing} | {'<br>'.join(f'`{test}`' for test in tests)} |\n"


def _marked(tree: ast.Module, marker: str) -> Iterator[tuple[str, list[int]]]:
    """Each test function with the rows it carries, those of the whole module among them."""
    everywhere = [
        number
        for statement in tree.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "pytestmark"
        for number in _numbers(statement.value, marker)
    ]
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef) and statement.name.startswith("test_"):
            own = [number for decorator in statement.decorator_list for number in _numbers(decorator, marker)]
            if numbers := sorted({*everywhere, *own}):
                yield statement.name, numbers


def _numbers(expression: ast.expr, marker: str) -> list[int]:
    return [
        ast.literal_eval(argument)
        for call in ast.walk(expression)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == marker
        for argument in call.args
    ]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
