# SPDX-License-Identifier: GPL-2.0-or-later
"""What an inspection answers, as it is published (docs/schema/inspection.json), and what of it the helper says.

The helper has looked at a tenant's bytes, so its findings are a tenant's word: they are cut, cleaned and typed here
before anybody sees them.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from snf_image_host.progress import printable
from snf_image_shared.errors import HelperError
from snf_image_shared.findings import Findings

VERSION: Literal[1] = 1
_LONGEST = 400  # characters of one text
_MOST = 256  # members of one list
_LARGEST = 2**63 - 1
_FINDINGS: TypeAdapter[Findings] = TypeAdapter(Findings)


class InspectedImage(BaseModel):
    """The image as it is stored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="The image, without what is secret of its URL")
    format: str = Field(description="img_format, as it was given")
    container: str = Field(description="What its bytes are: raw, qcow2, vmdk, vhdx, vdi")
    compression: str = Field(description="How it is compressed as a whole: gzip, xz, bzip2, zstd, lz4; empty: not")
    size: int | None = Field(description="Bytes as it is stored; null: its server did not say")


class Inspection(BaseModel):
    """All that snf-image-inspect finds. Later versions may add members; none goes, or changes its meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Annotated[Literal[1], Field(description="Of this document")] = VERSION
    image: InspectedImage = Field(description="The image as it is stored")
    disk: Findings = Field(description="The disk that it makes, as the helper VM sees it")


SCHEMA = TypeAdapter(Inspection)


def read_findings(text: str) -> Findings:
    """The findings of a helper, whatever it says. Texts are printable then. Raises HelperError."""
    try:
        return _FINDINGS.validate_json(json.dumps(_tamed(json.loads(text))), strict=True)
    except (ValueError, RecursionError) as error:
        raise HelperError("the helper VM's findings cannot be read; run it again with -v to see its console") from error


def _tamed(value: object) -> object:
    """The same with texts that can be shown, numbers that fit, and no more of anything than a person reads."""
    match value:
        case bool() | None:
            return value
        case str():
            return printable(value[:_LONGEST])[:_LONGEST]
        case int():
            return max(0, min(value, _LARGEST))
        case list():
            return [_tamed(item) for item in value[:_MOST]]
        case dict():
            return {printable(str(key)): _tamed(item) for key, item in list(value.items())[:_MOST]}
        case _:
            raise ValueError("a number with a fraction")
