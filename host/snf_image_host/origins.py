# SPDX-License-Identifier: GPL-2.0-or-later
"""Where an image is, before anything of it has been read, and the local one: a file below IMAGE_DIR."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from snf_image_host.image_names import local_name
from snf_image_host.sources import Source, open_source
from snf_image_host.streams import Stream


class OriginKind(StrEnum):
    """What kind of source it is, as the settings VERIFY_... name them."""

    LOCAL = "local"
    NETWORK = "network"
    PROGRAM = "program"


class Origin(Protocol):
    """`name` is for messages and holds no credential; `basename` is the image's own name in a list of checksums."""

    @property
    def kind(self) -> OriginKind: ...
    @property
    def name(self) -> str: ...
    @property
    def basename(self) -> str: ...

    def open(self) -> AbstractContextManager[Source | Stream]:
        """The image itself, for the length of the block. Raises ImageError, RequestError, ConfigurationError."""

    def beside(self, name: str) -> bytes | None:
        """A small file of that name that lies where the image does; None if there is none. Raises ImageError."""


@dataclass(frozen=True)
class LocalOrigin:
    """An image below the directory `image_dir`."""

    img_id: str
    img_format: str
    image_dir: Path

    kind = OriginKind.LOCAL

    @property
    def name(self) -> str:
        return f"image {self.img_id!r}"

    @property
    def basename(self) -> str:
        return local_name(self.img_id)[0].rpartition("/")[2]

    def open(self) -> AbstractContextManager[Source | Stream]:
        """The file. A name that does not exist is tried again as `NAME.<img_format>` (contract 4.2)."""
        return open_source(self.img_id, self.image_dir, self.img_format)

    def beside(self, name: str) -> bytes | None:
        """Not looked for yet."""
        return None
