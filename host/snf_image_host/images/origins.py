# SPDX-License-Identifier: GPL-2.0-or-later
"""Where an image is, before anything of it has been read, and the local one: a file below IMAGE_DIR."""

from __future__ import annotations

import os
import stat
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from snf_image_host.images.names import local_name
from snf_image_host.images.sources import Source, open_below, open_source
from snf_image_shared.errors import ImageError

if TYPE_CHECKING:  # verify asks origins about names alone, and has no use for the machinery of a copy
    from snf_image_host.images.streams import Stream

LARGEST_SIDECAR = 1 << 20  # bytes of a file beside an image


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
        """A small file of that name that lies where the image does; None if there is none. Raises ImageError,

        also for one of more than LARGEST_SIDECAR bytes."""


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
        return self._path.rpartition("/")[2]

    def open(self) -> AbstractContextManager[Source | Stream]:
        """The file. A name that does not exist is tried again as `NAME.<img_format>` (contract 4.2)."""
        return open_source(self.img_id, self.image_dir, self.img_format)

    def beside(self, name: str) -> bytes | None:
        """As Origin says. It is found as the image is: no symbolic link, no way out of the directory."""
        directory, slash, _ = self._path.rpartition("/")
        what = f"{name} beside {self.name}"
        fd = open_below(self.image_dir, directory + slash + name, what)
        if fd is None:
            return None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_SIDECAR:
                raise ImageError(f"{what} is no file of at most {LARGEST_SIDECAR} bytes: publish it again")
            return os.pread(fd, LARGEST_SIDECAR, 0)
        except OSError as error:
            raise ImageError(f"{what} cannot be read: {error.strerror}; check the storage it lies on") from error
        finally:
            os.close(fd)

    @cached_property
    def _path(self) -> str:
        """The image's own below the directory: with or without the extension."""
        name, _ = local_name(self.img_id)
        fd = open_below(self.image_dir, name, self.name)
        if fd is None:
            return f"{name}.{self.img_format}"
        os.close(fd)
        return name
