# SPDX-License-Identifier: GPL-2.0-or-later
"""YAML in block style with every text quoted as in JSON, so that no address turns into a number.

Simple readers want it so: netplan, and nuageinit of FreeBSD 14, which knows no escapes within quotes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "str | bool | int | Sequence[Value] | Mapping[str, Value] | None"


def block_yaml(value: Value, indent: str = "") -> list[str]:
    """The lines of a document."""
    lines = []
    if isinstance(value, Mapping):
        for key, item in value.items():
            lines += _lines(f"{indent}{key}:", item, indent)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            first, *rest = block_yaml(item, indent + "  ")
            lines += [f"{indent}- {first.strip()}", *rest]
    else:
        lines.append(indent + json.dumps(value))
    return lines


def _lines(key: str, value: Value, indent: str) -> list[str]:
    if isinstance(value, str | bool | int) or not value:
        return [f"{key} {json.dumps(value)}"]
    return [key, *block_yaml(value, indent + "  ")]
