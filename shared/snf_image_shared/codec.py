# SPDX-License-Identifier: GPL-2.0-or-later
"""Frozen dataclasses to JSON and strictly back: the helper has no pydantic (it would double its boot under emulation).

Knows str, int, bool, X | None, tuple[X, ...], dict[str, str], StrEnum and dataclasses, and nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

T = TypeVar("T")


class CodecError(ValueError):
    """The text is not what the type says; the message names the path of the offending member."""


def dump(value: object) -> bytes:
    """Encode a dataclass as one JSON document in ASCII."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} is not a dataclass")
    return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=True).encode("ascii")


def load(kind: type[T], text: bytes | str) -> T:
    """Decode a document made by dump(). Unknown, missing or mistyped members raise CodecError."""
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not JSON: {error}") from error
    return typing.cast(T, _build(kind, plain, kind.__name__))


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {member.name: _plain(getattr(value, member.name)) for member in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Enum):
        return value.value
    return value


def _build(kind: object, plain: object, path: str) -> object:
    origin = typing.get_origin(kind)
    if isinstance(kind, types.UnionType) or origin is typing.Union:
        choices = [choice for choice in typing.get_args(kind) if choice is not types.NoneType]
        return None if plain is None else _build(choices[0], plain, path)
    if origin is tuple:
        item_kind = typing.get_args(kind)[0]
        items = _checked(list, plain, path)
        return tuple(_build(item_kind, item, f"{path}[{number}]") for number, item in enumerate(items))
    if origin in {dict, Mapping}:
        members = _checked(dict, plain, path)
        return {_checked(str, key, path): _checked(str, item, f"{path}.{key}") for key, item in members.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _build_dataclass(kind, plain, path)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(plain)
        except ValueError as error:
            raise CodecError(f"{path}: {error}") from error
    return _checked(typing.cast(type, kind), plain, path)


def _build_dataclass(kind: type, plain: object, path: str) -> object:
    members = _checked(dict, plain, path)
    hints = typing.get_type_hints(kind)
    names = {member.name for member in dataclasses.fields(kind)}
    if members.keys() != names:
        odd = sorted(map(str, members.keys() ^ names))
        raise CodecError(f"{path}: members differ from what this version knows: {', '.join(odd)}")
    return kind(**{name: _build(hints[name], members[name], f"{path}.{name}") for name in names})


def _checked(kind: type[T], plain: object, path: str) -> T:
    # bool is an int in Python, and true is no number of bytes.
    if type(plain) is not kind:
        raise CodecError(f"{path}: {type(plain).__name__} where {kind.__name__} belongs")
    return plain
