# SPDX-License-Identifier: GPL-2.0-or-later
"""Image properties: the JSON objects img_properties and inst_properties, read once and merged.

Names are case-insensitive. A property nobody here knows is kept: custom tasks see all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from snf_image_shared.errors import RequestError

YES = frozenset({"yes", "true", "on", "1", "set"})
NO = frozenset({"no", "false", "off", "0", "unset"})


@dataclass(frozen=True)
class Properties:
    """Merged properties: upper-case name -> text. Source: contract of snf-image 0.23, image properties."""

    values: Mapping[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """The value, or None when it is absent or empty."""
        return self.values.get(name.upper()) or None

    def flag(self, name: str) -> bool:
        """True for yes, true, on, 1, set and for any word nobody knows; False when absent, empty or no."""
        return parse_boolean(self.values.get(name.upper()))[0]

    def odd_flags(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """One warning for each of `names` whose value is no clear boolean."""
        found = []
        for name in names:
            problem = parse_boolean(self.values.get(name.upper()))[1]
            if problem:
                found.append(f"Property {name}: {problem}")
        return tuple(found)


def parse_boolean(text: str | None) -> tuple[bool, str | None]:
    """The meaning of a boolean property, and a warning when it had to be guessed.

    Absent is False; empty is False with a warning; an unknown word is True with a warning (a tenant who
    writes EXCLUDE_ALL_TASKS=y means it).
    """
    if text is None:
        return False, None
    word = text.strip().lower()
    if word in YES:
        return True, None
    if word in NO:
        return False, None
    if not word:
        return False, "is empty, taken as no; write yes or no"
    return True, f"{text[:40]!r} is neither yes nor no, taken as yes"


def parse_properties(text: str, parameter: str) -> dict[str, str]:
    """Decode one JSON object of scalars; `parameter` is its name in error messages.

    Control characters are allowed inside strings; null means "as if the key were not there". Raises RequestError.
    """
    values: dict[str, str | None] = {}
    for key, value in _object_pairs(text, parameter):
        name, where = key.upper(), f"OS parameter {parameter}: {key[:60]!r}"
        if not name or "=" in name or not _is_text(name):
            raise RequestError(f"{where} cannot be the name of a property; custom tasks get it as a variable")
        if name in values:
            raise RequestError(f"{where} is given twice; keep one of them")
        if isinstance(value, list):
            kind = "an object" if isinstance(value, _Pairs) else "an array"
            raise RequestError(f"{where} is {kind}, not text, a number or a boolean")
        values[name] = None if value is None else str(value)
        if not _is_text(values[name] or ""):
            raise RequestError(f"{where} contains a NUL character or half a surrogate pair; remove it")
    return {name: value for name, value in values.items() if value is not None}


def merge(image: Mapping[str, str], instance: Mapping[str, str]) -> Properties:
    """What the image says, overridden key by key by what the instance says."""
    return Properties({**image, **instance})


def _is_text(text: str) -> bool:
    """Whether it can be written to a file of the guest and given to a program."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _object_pairs(text: str, parameter: str) -> list[tuple[str, object]]:
    try:
        decoded = json.loads(text, strict=False, object_pairs_hook=_Pairs, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"OS parameter {parameter}: not a JSON object: {error}") from error
    if not isinstance(decoded, _Pairs):
        raise RequestError(f'OS parameter {parameter}: not a JSON object; write {{"NAME": "value", ...}}')
    return decoded


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object in order, duplicates included: a dict would hide them."""


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
