# SPDX-License-Identifier: GPL-2.0-or-later
"""An image at a URL as an Origin: one stream of bytes, however often the connection breaks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from snf_image_host.origins import OriginKind
from snf_image_host.settings import Settings
from snf_image_host.streams import Stream
from snf_image_shared.errors import RequestError


@dataclass(frozen=True)
class Validators:
    """What a server said of the version of a file that it gave: `etag` and `last_modified` as in its headers, "" if it
    did not say; `size` in bytes, None if unknown.
    """

    etag: str = ""
    last_modified: str = ""
    size: int | None = None

    @property
    def can_be_asked(self) -> bool:
        """Whether a server can be asked later if this is still the version that it has."""
        return bool(self.etag or self.last_modified)


class Download(Stream):
    """The bytes at a URL. `validators` are of the version that is being read."""

    validators: Validators


def is_url(img_id: str) -> bool:
    """Whether it has a scheme of those that are fetched."""
    return img_id.partition("://")[0].lower() in {"http", "https", "ftp", "ftps"}


@dataclass(frozen=True)
class NetworkOrigin:
    """An image at `url`."""

    url: str = field(repr=False)
    settings: Settings = field(repr=False)

    kind = OriginKind.NETWORK

    @property
    def name(self) -> str:
        return "image from the network"

    @property
    def basename(self) -> str:
        return ""

    def open(self) -> AbstractContextManager[Download]:
        """As Origin says."""
        raise RequestError("OS parameter img_id: images from the network are not supported yet")

    def unchanged(self, validators: Validators) -> bool:
        """Whether the server still has that version: one cheap request. False if it does not say.

        Raises ImageError when it cannot be asked.
        """
        return False

    def beside(self, name: str) -> bytes | None:
        """As Origin says."""
        return None
