# SPDX-License-Identifier: GPL-2.0-or-later
"""A qcow2 image -> the bytes of a disk."""

from __future__ import annotations

from snf_image_host.decoding.content import Content
from snf_image_shared.errors import ImageError


def open_qcow2(fd: int) -> Content:
    """The image in the file `fd`. Raises ImageError."""
    raise ImageError("is a QCOW image, which is not supported yet")
