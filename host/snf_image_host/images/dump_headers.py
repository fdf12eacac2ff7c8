# SPDX-License-Identifier: GPL-2.0-or-later
"""The first record of a dump(8): enough to refuse, before anything is written, what the helper's restore cannot take.

Source: protocols/dumprestore.h, struct s_spcl, as dump for Linux writes it; c_level in Debian's 0.4b47.
"""

from __future__ import annotations

import struct

from snf_image_shared.errors import ImageError

_MAGIC = 60012
_KINDS = {60011: "in the old format of BSD", 0x19540119: "of a UFS2 of FreeBSD"}
_VOLUME, _MAGIC_AT, _LEVEL = 12, 24, 692  # offsets


def check_dump(head: bytes, name: str) -> None:
    """`head` has at least a record, 1024 bytes, and begins like a dump. Raises ImageError, which names the cure."""
    if len(head) < 1024:
        raise ImageError(f"{name} is cut short: it ends within the first record of a dump(8); publish it again")
    volume, magic, level = (struct.unpack_from("<i", head, at)[0] for at in (_VOLUME, _MAGIC_AT, _LEVEL))
    if magic != _MAGIC:
        swapped = struct.unpack_from(">i", head, _MAGIC_AT)[0] == _MAGIC
        kind = "of a big-endian machine" if swapped else _KINDS.get(magic, "of an unknown kind")
        raise ImageError(f"{name} is a dump(8) {kind}; publish a dump by Linux, or a tarball")
    if level:
        raise ImageError(f"{name} is a dump of level {level}, which has changes alone; publish one of level 0")
    if volume != 1:
        raise ImageError(f"{name} is volume {volume} of a dump; publish a dump that is in one file")
