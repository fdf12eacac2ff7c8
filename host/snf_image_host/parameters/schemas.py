# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON schemas of OS parameters and of an inspection, as they are published, made from the models that check.

A schema says less than a model: that an address is no broadcast address, and that a file's path is absolute, it cannot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from snf_image_host.inspection import document as inspection
from snf_image_host.parameters.network_document import NETWORK
from snf_image_host.parameters.osparams import REGISTRY
from snf_image_host.parameters.personality import PERSONALITY
from snf_image_host.parameters.spec import PROPERTIES, SPEC_DOCUMENT

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MODELS: Mapping[str, TypeAdapter[Any]] = {
    "img_personality": PERSONALITY,
    "img_properties": PROPERTIES,
    "network": NETWORK,
    "spec": SPEC_DOCUMENT,
}


def published() -> dict[str, str]:
    """The text of each schema by the name of its file."""
    parameters = {f"{name}.json": json.dumps(_schema(name), indent=2) + "\n" for name in _MODELS}
    return {**parameters, "inspection.json": json.dumps(_inspection(), indent=2) + "\n"}


def _schema(name: str) -> dict[str, object]:
    descriptions = {parameter.name: parameter.description for parameter in REGISTRY}
    written = _MODELS[name].json_schema()
    schema = _plain(written, written.get("$defs", {}))
    if name == "spec":
        for member, its_own in schema["properties"].items():
            its_own["description"] = descriptions[member]
    head = {"$schema": _DIALECT, "title": f"OS parameter {name} of snf-image", "description": descriptions[name]}
    return head | {key: part for key, part in schema.items() if key not in head}


def _inspection() -> dict[str, object]:
    written = inspection.SCHEMA.json_schema(mode="serialization")
    schema = _plain(written, written.get("$defs", {}))
    head = {
        "$schema": _DIALECT,
        "title": "What snf-image-inspect --json prints",
        "description": "Sizes and places are bytes. Empty texts and null mean that something was not found.",
    }
    return head | {key: part for key, part in schema.items() if key not in head}


def _plain(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema without what versions of pydantic do differently.

    Those are definitions, which go where they are used, titles, which are made up from names, and models' docstrings.
    """
    if isinstance(schema, list):
        return [_plain(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _plain(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions)
    # A member of a document may be called "title", and then has a schema there, not a text.
    unwanted = {"$defs"} | {key for key in ("title",) if isinstance(schema.get(key), str)}
    unwanted |= {"description"} if isinstance(schema.get("properties"), dict) else set()
    return {key: _plain(part, definitions) for key, part in schema.items() if key not in unwanted}
