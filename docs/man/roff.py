# SPDX-License-Identifier: GPL-2.0-or-later
"""man(7) out of the little Markdown that our documents are written in: headings, paragraphs, lists, tables, code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\[([^]]+)\]\(([^)]+)\)")
_ITEM = re.compile(r"(?:([0-9]+)\.|[*-]) +(.*)")
_IN_THE_TAG = ("value", "default")


def text(words: str) -> str:
    """Plain text as roff: what is said is what is seen."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-").replace("^", "\\(ha").replace("~", "\\(ti")
    escaped = escaped.replace("`", "\\(ga").replace("'", "\\(aq").replace("…", "\\&...").replace("“", '"')
    return "\\&" + escaped if escaped.startswith(".") else escaped


def bold(words: str) -> str:
    """As text(), in the type of what is typed as it stands."""
    return f"\\fB{text(words)}\\fR"


def inline(words: str) -> str:
    """One paragraph's Markdown as one line of roff."""
    parts, end = [], 0
    for found in _INLINE.finditer(words):
        code, strong, label, _ = found.groups()
        parts += [text(words[end : found.start()]), bold(code or strong) if code or strong else inline(label)]
        end = found.end()
    line = "".join([*parts, text(words[end:])]).strip()
    return "\\&" + line if line.startswith((".", "'")) else line


def page(markdown: str, heading: str) -> str:
    """A document below its title; `heading` is the macro of its sections: ".SH" or ".SS"."""
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", markdown.strip("\n")):
        lines += _block(block.split("\n"), heading)
    return "\n".join(lines)


def tidy(page: str) -> str:
    """Without empty lines, and without a new paragraph where a heading begins one: mandoc's lint asks for that."""
    lines = [line for line in page.split("\n") if line.strip()]
    kept = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if not (line == ".PP" and before.startswith((".SH", ".SS")))
    ]
    return "\n".join(kept) + "\n"


def _block(block: Sequence[str], heading: str) -> Iterator[str]:
    first = block[0]
    if first.startswith("# "):
        return
    if first.startswith("## "):
        yield f'{heading} "{text(first[3:]).upper() if heading == ".SH" else text(first[3:])}"'
    elif first.startswith("|"):
        yield from _table([_cells(line) for line in block])
    elif first.startswith(("    ", "```")):
        yield from (".PP", ".RS 4", ".EX")
        yield from (text(line.removeprefix("    ")) or "\\&" for line in block if not line.startswith("```"))
        yield from (".EE", ".RE")
    elif _ITEM.match(first):
        yield from _items(block)
    else:
        yield from (".PP", inline(" ".join(line.strip() for line in block)))


def _items(block: Sequence[str]) -> Iterator[str]:
    items: list[tuple[str, list[str]]] = []
    for line in block:
        if found := _ITEM.match(line):
            items.append((f"{found[1]}." if found[1] else "\\(bu", [found[2]]))
        else:
            items[-1][1].append(line.strip())
    for mark, words in items:
        yield from (f'.IP "{mark}" 4', inline(" ".join(words)))


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """One tagged paragraph a row; a column of values joins the tag, and one behind the text says its own name."""
    titles = rows[0]
    for row in rows[2:]:
        tag = [f"\\fB{inline(row[0]).replace(chr(92) + 'fB', '').replace(chr(92) + 'fR', '')}\\fR"]
        body = []
        for title, cell in zip(titles[1:], row[1:], strict=True):
            if title in _IN_THE_TAG:
                tag += [f"({inline(cell)})"] if cell else []
            elif cell:
                body.append(inline(f"({title} {cell})" if body else cell))
        yield from (".TP", " ".join(tag), " ".join(body) or "\\&")


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]
