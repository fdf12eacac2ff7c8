# SPDX-License-Identifier: GPL-2.0-or-later
"""What the cache knows of one origin: which bytes came from there, and by what the server knows them again.

A record that is not whole counts as none: the image is fetched again then.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from snf_image_host.downloads.validators import Validators

LARGEST = 1 << 16  # bytes of a record

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Entry(BaseModel):
    """`key` stands for the origin, see origin_key(); `name` is for people and holds no secret.

    `digest` is the sha256 and `size` the number of the bytes as they were fetched; `fetched` is in nanoseconds
    since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: Digest
    name: str
    digest: Digest
    size: int = Field(ge=0)
    etag: str = ""
    last_modified: str = ""
    fetched: int = 0

    @property
    def validators(self) -> Validators:
        """What a server is asked with whether it still has this version."""
        return Validators(self.etag, self.last_modified, self.size)


def origin_key(kind: str, img_id: str) -> str:
    """64 hexadecimal digits that stand for an origin. A URL may hold a password, or be one: none is in a file's name.

    Whoever knows only an image's digest does not get it by another URL than the one that it came from.
    """
    return hashlib.sha256(f"{kind}\n{img_id}".encode("utf-8", "surrogateescape")).hexdigest()


def dump_entry(entry: Entry) -> bytes:
    """The record: the sha256 of its second line, and that line."""
    text = entry.model_dump_json().encode()
    return f"{hashlib.sha256(text).hexdigest()}\n".encode() + text


def load_entry(record: bytes, key: str) -> Entry | None:
    """The entry of that key, or None for a record that is damaged or another one's."""
    digest, _, text = record.partition(b"\n")
    if digest != hashlib.sha256(text).hexdigest().encode():
        return None
    try:
        entry = TypeAdapter(Entry).validate_json(text)
    except ValidationError:
        return None
    return entry if entry.key == key else None
