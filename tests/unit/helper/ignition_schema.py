# SPDX-License-Identifier: GPL-2.0-or-later
"""Ignition's specification as a JSON schema: of version 3.3 (coreos.github.io/ignition/configuration-v3_3) what we say.

Names, types and what is mandatory are those of the published tables; nothing else is allowed, so that a wrong name
cannot pass as one that Ignition ignores. What came after 3.0 is refused in a document of 3.0.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema

_TEXT = {"type": "string"}
_PATH = {"type": "string", "pattern": "^/[^\\0]*[^/\\0]$"}


def _object(mandatory: Mapping[str, object], optional: Mapping[str, object] | None = None) -> dict[str, object]:
    return {
        "type": "object",
        "properties": {**mandatory, **(optional or {})},
        "required": list(mandatory),
        "additionalProperties": False,
    }


def _list(item: object) -> dict[str, object]:
    return {"type": "array", "items": item}


_SOURCE = _object({"source": {"type": "string", "pattern": "^data:"}})
_WHO = {"oneOf": [_object({"id": {"type": "integer", "minimum": 0}}), _object({"name": _TEXT})]}
# Set-uid, set-gid and sticky bits came with 3.4.
_MODE = {"type": "integer", "minimum": 0, "maximum": 0o777}
_FILE = _object(
    {"path": _PATH}, {"overwrite": {"type": "boolean"}, "contents": _SOURCE, "mode": _MODE, "user": _WHO, "group": _WHO}
)
_LINK = _object({"path": _PATH, "target": _TEXT}, {"overwrite": {"type": "boolean"}, "hard": {"type": "boolean"}})
_USER = _object({"name": _TEXT}, {"passwordHash": _TEXT, "sshAuthorizedKeys": {**_list(_TEXT), "uniqueItems": True}})
_SCHEMA = _object(
    {"ignition": _object({"version": {"enum": ["3.0.0", "3.3.0"]}}, {"config": _object({"merge": _list(_SOURCE)})})},
    {
        "storage": _object({}, {"files": _list(_FILE), "links": _list(_LINK)}),
        "passwd": _object({}, {"users": _list(_USER)}),
        "kernelArguments": _object({}, {"shouldExist": _list(_TEXT), "shouldNotExist": _list(_TEXT)}),
    },
)


def check(document: Mapping[str, Any]) -> None:
    """Raises jsonschema.ValidationError, or fails by assertion for what a schema cannot say."""
    jsonschema.validate(document, _SCHEMA)
    if document["ignition"]["version"] == "3.0.0":
        assert "kernelArguments" not in document
    storage = document.get("storage", {})
    paths = [item["path"] for kind in ("files", "directories", "links") for item in storage.get(kind, [])]
    assert len(paths) == len(set(paths)), "every path is unique among files, directories and links"
    names = [user["name"] for user in document.get("passwd", {}).get("users", [])]
    assert len(names) == len(set(names)), "every user has one entry"


def merged(document: Mapping[str, Any]) -> Iterator[str]:
    """The texts that a document merges, in order."""
    for item in document["ignition"].get("config", {}).get("merge", []):
        yield data(item["source"]).decode()


def data(url: str) -> bytes:
    """What a data URL holds (RFC 2397)."""
    head, _, body = url.partition(",")
    assert head.startswith("data:") and head.endswith(";base64")
    return base64.b64decode(body, validate=True)
