# SPDX-License-Identifier: GPL-2.0-or-later
"""The OS parameter spec: one JSON document in place of many parameters, those that are JSON as real JSON.

A member counts as the parameter of its name, given where the spec was given; a parameter that was
given there by itself as well wins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from snf_image_host.parameters.documents import decode, validate
from snf_image_host.parameters.network_document import NETWORK
from snf_image_host.parameters.personality import PERSONALITY
from snf_image_shared.errors import RequestError

SPEC = "SPEC"
PROPERTIES = TypeAdapter(dict[str, str | int | float | bool | None])


def with_spec(given: Mapping[str, str]) -> dict[str, str]:
    """Parameters given at one place (upper-case names), with the members of their spec among them.

    A spec that cannot be read stays as it is, for spec_members() to say why. Raises nothing.
    """
    try:
        members = spec_members(given.get(SPEC, ""))
    except RequestError:
        members = {}
    return {**members, **given}


def spec_members(text: str) -> dict[str, str]:
    """The members by upper-case name, each as the text that the parameter would be; null is "not given".

    Raises RequestError with a line for each fault, which shows no value.
    """
    if not text:
        return {}
    spec = validate(decode(text), SPEC_DOCUMENT, secret=True)
    return {name.upper(): value for name, value in spec.model_dump().items() if value is not None}


class _Or:
    """For the published schema: text, or the document that the text would hold."""

    def __init__(self, document: CoreSchema) -> None:
        self._document = document

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        text = {"type": "string", "description": "the same as text"}
        return {"anyOf": [handler(self._document), text, {"type": "null"}]}


def _as_text(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict | list) else value


_Properties = Annotated[str | None, BeforeValidator(_as_text), _Or(PROPERTIES.core_schema)]
_Personality = Annotated[str | None, BeforeValidator(_as_text), _Or(PERSONALITY.core_schema)]
_Network = Annotated[str | None, BeforeValidator(_as_text), _Or(NETWORK.core_schema)]


class Spec(BaseModel):
    """OS parameters of snf-image under their names; null is "not given"."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    img_id: str | None = None
    img_format: str | None = None
    img_checksum: str | None = None
    img_passwd: str | None = Field(None, repr=False)
    img_passwd_hash: str | None = Field(None, repr=False)
    img_properties: _Properties = None
    inst_properties: _Properties = None
    img_personality: _Personality = Field(None, repr=False)
    auth_keys: str | None = Field(None, repr=False)
    cloud_userdata: str | None = Field(None, repr=False)
    os_product_key: str | None = Field(None, repr=False)
    os_answer_file: str | None = Field(None, repr=False)
    config_url: str | None = Field(None, repr=False)
    hostname: str | None = None
    network: _Network = None


SPEC_DOCUMENT = TypeAdapter(Spec)
