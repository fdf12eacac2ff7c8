# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes at a URL as one stream, from as many connections as it takes, each going on where the last one ended.

A part counts only if the server proves that it belongs to the version which was begun with; or, where the operator gave
a checksum of the whole, if it is the part that was asked for. What cannot be gone on with is an ImageError: the bytes
before it may be on the disk by then, but nothing there boots.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from snf_image_host.downloads.connection import Access, BrokenError
from snf_image_host.downloads.file_servers import Begun, Wanted, file_server
from snf_image_host.downloads.patience import Patience
from snf_image_host.downloads.urls import RefusedError, Url
from snf_image_host.downloads.validators import ChangedError, Validators
from snf_image_shared.errors import ImageError

_LAST_WAIT = 3.0  # seconds for a server to close the connection when it has given all


@dataclass(frozen=True)
class Remote:
    """An image at `url`, which messages call `name`; `is_checked`: the operator gave a checksum of it."""

    name: str
    url: Url
    is_checked: bool


class Download:
    """A Stream. `size` and `validators` are of the version that was begun with."""

    def __init__(self, image: Remote, access: Access, patience: Patience, tell: Callable[[str], None]) -> None:
        """Ask for it; of the body nothing is read. `tell` hears of every failure that is not the last.

        Raises ImageError, ConfigurationError.
        """
        self.name = image.name
        self.validators = Validators()
        self._url = image.url
        self._is_checked = image.is_checked
        self._patience = patience
        self._tell = tell
        self._server = file_server(image.url, access)
        self._position = 0
        self._is_at_end = False
        self._begun: Begun | None = None
        self._came_from = image.url
        self._total: int | None = None
        while not self._begun:
            try:
                self._begun = self._patience.spend(self._begin)
            except BrokenError as error:
                self._pause(error)
        self.validators = self._begun.validators
        self.size = self._total = self.validators.size

    def readinto(self, view: memoryview) -> int:
        """As Stream says. Raises ConfigurationError too."""
        while not self._is_at_end:
            try:
                if count := self._read(view):
                    return count
            except BrokenError as error:
                self.close()
                self._pause(error)
        return 0

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._begun:
            with self._begun.connection:
                self._begun = None

    def _read(self, view: memoryview) -> int:
        """Some bytes, or 0 at the end of this connection. Raises BrokenError, ImageError."""
        begun = self._begun or self._patience.spend(self._go_on)
        self._begun = begun
        is_all = self._position == self._total
        seconds = min(_LAST_WAIT, self._patience.stall) if is_all else self._patience.stall
        try:
            count = self._patience.spend(lambda: begun.connection.readinto(view, seconds))
        except BrokenError:
            if not is_all:
                raise
            count = 0
        if not count:
            self._end(begun)
            return 0
        self._position += count
        self._patience.progressed(count)
        self._check_lateness()
        if self._total is not None and self._position > self._total:
            raise ImageError(
                f"{self.name}: the server sends more than the {self._total} bytes that it announced: "
                "is the image being written there still? Try again"
            )
        return count

    def _end(self, begun: Begun) -> None:
        """Judge how the connection ended, or that nothing follows what is all."""
        if self._position == self._total:
            self.close()
            self._is_at_end = True
            return
        ended = begun.connection.finish()
        if ended.status:
            raise ended.broken
        if ended.counted != begun.connection.received:
            raise ImageError(
                f"{self.name}: the server sends fields behind the image (trailers), which cannot be told from it: "
                "have it send the image with a Content-Length"
            )
        if self._total is not None:
            raise BrokenError(f"the answer was cut off after {self._position} of {self._total} bytes")
        self.close()
        self._is_at_end = True

    def _begin(self) -> Begun:
        try:
            begun = self._server.begin(self._url, is_checked=self._is_checked)
        except RefusedError as error:
            raise ImageError(f"{self.name}: {error}") from error
        self._came_from = begun.url
        return begun

    def _go_on(self) -> Begun:
        """A new connection. Where the bytes came from it is asked first, and then, in turn, where that was found."""
        if self._position == 0:
            self._begun = self._begin()
            if self._begun.validators != self.validators:
                raise self._changed("it is another version now")
            return self._begun
        url = self._came_from if self._patience.failures % 2 else self._url
        wanted = Wanted(self.validators, self._position, self._is_checked)
        try:
            begun = self._server.go_on(url, wanted)
        except (RefusedError, ChangedError) as error:
            # A redirect may lead to another mirror now, and what it led to may be used up: then the other is asked.
            if self._came_from.text != self._url.text:
                raise BrokenError(f"{error}") from error
            if isinstance(error, RefusedError):
                raise ImageError(f"{self.name}: {error}") from error
            raise self._changed(f"{error}") from error
        self._came_from = begun.url
        self._total = begun.total if self._total is None else self._total
        return begun

    def _changed(self, reason: str) -> ImageError:
        return ImageError(
            f"{self.name} changed while it was downloaded, after {self._position} bytes: {reason}; try again"
        )

    def _pause(self, error: BrokenError) -> None:
        """Wait until it is asked again. Raises ImageError if it is not."""
        if error.is_lasting and self._position == 0:
            raise ImageError(f"{self.name}: {error}") from error
        if self._position and not (self.validators.proof or self._is_checked):
            raise ImageError(
                f"{self.name} cannot be gone on with after {self._position} bytes, as the server gives neither an ETag "
                f"nor a Last-Modified (have it give one, or give img_checksum): {error}"
            ) from error
        pause = self._patience.pause(error.pause)
        if pause is None:
            far = f"{self._position} bytes and {self._patience.failures} failures (IMAGE_RETRIES)"
            raise ImageError(f"{self.name}: given up after {far}, the last: {error}") from error
        self._tell(f"{self.name}: {error}; asked again in {pause:.0f} seconds, for what follows byte {self._position}")
        self._patience.spend(lambda: time.sleep(pause))
        self._check_lateness()

    def _check_lateness(self) -> None:
        if late := self._patience.lateness(self._position if self._total is None else self._total):
            raise ImageError(
                f"{self.name} is too slow: after {self._position} bytes: {late}; is there a nearer mirror?"
            )
