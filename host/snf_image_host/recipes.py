# SPDX-License-Identifier: GPL-2.0-or-later
"""img_format and the first bytes of an image -> Recipe: how it becomes the bytes of a disk, or why it must not.

The format is told, never guessed; the bytes have to agree. A raw image that begins with another container's header is
refused, because the next tool that guesses formats would follow what the header says (CVE-2026-24708).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from snf_image_host.formats import gpt_sector_size, recognise
from snf_image_shared.errors import ImageError

SMALLEST = 512  # bytes: less cannot even hold a boot sector


class Container(StrEnum):
    """In what the bytes of the disk are wrapped; the values are QEMU's names."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHDX = "vhdx"
    VDI = "vdi"


class Compression(StrEnum):
    """How a raw image is compressed as a whole."""

    GZIP = "gzip"
    XZ = "xz"
    BZIP2 = "bzip2"
    ZSTD = "zstd"
    LZ4 = "lz4"


@dataclass(frozen=True)
class Recipe:
    """What is done with the image's bytes, from the outside in."""

    compression: Compression | None = None
    container: Container = Container.RAW


def recipe_for(img_format: str, head: bytes, name: str) -> Recipe:
    """The recipe for an image of that format that begins with `head` (HEAD bytes, or all of it if it has fewer).

    Raises ImageError, beginning with `name`, if the content does not agree.
    """
    kind = recognise(head)
    if kind:
        raise ImageError(f"{name} is not a plain disk image, it is {kind.text}: {kind.cure}")
    if len(head) < SMALLEST:
        what = "is empty" if not head else f"has only {len(head)} bytes"
        raise ImageError(f"{name} {what}: publish the whole disk image again")
    sector_size = gpt_sector_size(head)
    if sector_size not in {None, 512}:
        raise ImageError(
            f"{name} has a partition table for sectors of {sector_size} bytes, but an instance's disk has 512: "
            "publish an image that was made on a disk with 512-byte sectors"
        )
    return Recipe()
