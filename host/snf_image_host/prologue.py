# SPDX-License-Identifier: GPL-2.0-or-later
"""What comes before a dump of a file system: boot code and a partition table, in the first MiB of the disk."""

from __future__ import annotations

from snf_image_host.edges import EdgesLast
from snf_image_host.targets import EDGE

DUMPS = ("extdump", "ntfsdump")


def start_of_image(img_format: str) -> int:
    """Where an image of that format begins on the disk, in bytes."""
    return EDGE if img_format in DUMPS else 0


def put_prologue(disk: EdgesLast, img_format: str, size: int) -> None:
    """Put what the format needs into the head of the disk, for an image of `size` bytes."""
