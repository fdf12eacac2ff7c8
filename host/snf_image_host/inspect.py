# SPDX-License-Identifier: GPL-2.0-or-later
"""Is this image safe to put on a disk as it is? Header checks only: nothing is decoded or executed.

A raw image that begins with another container's header is refused, because the next tool that guesses formats
would follow what the header says (CVE-2026-24708).
"""

from __future__ import annotations

import os

from snf_image_host.formats import HEAD, gpt_sector_size, recognise
from snf_image_host.sources import Source
from snf_image_shared.errors import ImageError

SMALLEST = 512  # bytes: less cannot even hold a boot sector


def refuse_containers(source: Source) -> None:
    """Raise ImageError unless the source may be a plain disk image ("diskdump"). `null` passes."""
    if source.is_null:
        return
    try:
        head = os.pread(source.fd, HEAD, 0)
    except OSError as error:
        raise source.failed("cannot be read", error) from error
    kind = recognise(head)
    if kind:
        raise ImageError(f"{source.name} is not a plain disk image, it is {kind.text}: {kind.cure}")
    if source.size < SMALLEST:
        what = "is empty" if source.size == 0 else f"has only {source.size} bytes"
        raise ImageError(f"{source.name} {what}: publish the whole disk image again")
    sector_size = gpt_sector_size(head)
    if sector_size not in {None, 512}:
        raise ImageError(
            f"{source.name} has a partition table for sectors of {sector_size} bytes, but an instance's disk has 512: "
            "publish an image that was made on a disk with 512-byte sectors"
        )
