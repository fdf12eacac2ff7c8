# SPDX-License-Identifier: GPL-2.0-or-later
"""OS parameters that are JSON documents: read strictly, checked by a model, and every fault with its place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from snf_image_host.parameters.faults import shown
from snf_image_shared.errors import RequestError

T = TypeVar("T")
_MOST_FAULTS = 12  # lines about one document
_TEXTS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here; is it misspelt?",
    "string_type": "is not text; put it in quotes",
    "int_type": "is not a number; write it without quotes",
    "bool_type": "is neither true nor false; write it without quotes",
    "tuple_type": "is not an array; write it in [...]",
    "model_type": "is not an object; write it in {...}",
    "dataclass_type": "is not an object; write it in {...}",
    "model_attributes_type": "is not an object; write it in {...}",
}


def decode(text: str) -> object:
    """The document in Python's own types. Raises RequestError for what is no JSON, or has a member twice."""
    try:
        # Control characters inside strings were always allowed.
        return json.loads(text, strict=False, object_pairs_hook=_members, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"not JSON: {error}") from error


def validate(document: object, model: TypeAdapter[T], *, secret: bool) -> T:
    """The document as `model`; a RequestError has a line for each fault, with values unless they are `secret`."""
    try:
        # In JSON mode strict means JSON's own types: "288" and true are no numbers, but an array is a tuple.
        return model.validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        lines = [_line(fault, secret=secret) for fault in error.errors(include_url=False)]
    except (ValueError, RecursionError) as error:
        raise RequestError(f"cannot be read: {error}") from error
    if len(lines) > _MOST_FAULTS:
        lines[_MOST_FAULTS:] = [f"and {len(lines) - _MOST_FAULTS} faults more"]
    raise RequestError(*lines)


def place(path: Iterable[str | int]) -> str:
    """A path inside the document as a person writes it: nics[0].addresses[1]."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:40]}" for part in path).removeprefix(".")
    return text if text.isprintable() else ascii(text)


def _line(fault: ErrorDetails, *, secret: bool) -> str:
    where, kind, value = place(fault["loc"]), fault["type"], fault["input"]
    message = _TEXTS.get(kind) or fault["msg"].removeprefix("Value error, ").replace("Input should be", "is not", 1)
    # Our own validators show what they want to be seen.
    if not secret and kind not in {"missing", "extra_forbidden", "value_error"} and isinstance(value, int | str):
        message = f"{shown(value) if isinstance(value, str) else str(value)[:20]} {message}"
    return f"{where}: {message}" if where else message


def _members(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice; keep one of them")
    return members


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
