# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON schemas of the OS parameters that are documents, as they are published, made from the models that check.

A schema says less than a model: that an address is no broadcast address, and that a file's path is absolute, it cannot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from snf_image_host.network_document import NETWORK
from snf_image_host.osparams import REGISTRY
from snf_image_host.personality import PERSONALITY
from snf_image_host.spec import PROPERTIES, SPEC_DOCUMENT

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MODELS: Mapping[str, TypeAdapter[Any]] = {
    "img_personality": PERSONALITY,
    "img_properties": PROPERTIES,
    "network": NETWORK,
    "spec": SPEC_DOCUMENT,
}


def published() -> dict[str, str]:
    """The text of each schema by the name of its file."""
    return {f"{name}.json": json.dumps(_schema(name), indent=2) + "\n" for name in _MODELS}


def _schema(name: str) -> dict[str, object]:
    descriptions = {parameter.name: parameter.description for parameter in REGISTRY}
    schema = _MODELS[name].json_schema()
    if name == "spec":
        for member, its_own in schema["properties"].items():
            its_own["description"] = descriptions[member]
    _drop_titles(schema)
    head = {"$schema": _DIALECT, "title": f"OS parameter {name} of snf-image", "description": descriptions[name]}
    return head | {key: part for key, part in schema.items() if key not in head}


def _drop_titles(schema: object) -> None:
    """Remove the titles that pydantic makes up from the names of members."""
    if isinstance(schema, dict):
        # A member of a document that is called "title" has a schema, not a text.
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for part in schema.values():
            _drop_titles(part)
    elif isinstance(schema, list):
        for part in schema:
            _drop_titles(part)
