# SPDX-License-Identifier: GPL-2.0-or-later
"""A compressed raw image -> the bytes of a disk: one level, in one pass, with bounded memory."""

from __future__ import annotations

from snf_image_host.decoding.content import Content
from snf_image_shared.errors import ImageError


def open_compressed(fd: int, kind: str) -> Content:
    """The image whose stored bytes come out of the pipe `fd`. Raises ImageError."""
    raise ImageError(f"is compressed ({kind}), which is not supported yet")
