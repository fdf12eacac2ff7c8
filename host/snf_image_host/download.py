# SPDX-License-Identifier: GPL-2.0-or-later
"""An image at a URL as an Origin: one stream of bytes, however often the connection breaks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from snf_image_host.origins import OriginKind
from snf_image_host.settings import Settings
from snf_image_host.sources import Source
from snf_image_host.streams import Stream
from snf_image_shared.errors import RequestError


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

    def open(self) -> AbstractContextManager[Source | Stream]:
        """The stream."""
        raise RequestError("OS parameter img_id: images from the network are not supported yet")

    def beside(self, name: str) -> bytes | None:
        """Not looked for yet."""
        return None
