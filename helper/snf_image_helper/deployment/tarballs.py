# SPDX-License-Identifier: GPL-2.0-or-later
"""Tar archives, compressed or not, unpacked onto new file systems by GNU tar.

GNU tar, and not bsdtar or Python's tarfile: it writes links that lead elsewhere last of all, knows what every other tar
writes of attributes and holes, stops at formats that are no tar, and is fast where the processor is emulated.
"""

from __future__ import annotations

import os

from snf_image_helper.deployment.cell import Cell
from snf_image_helper.deployment.content import Content, unpack_into
from snf_image_helper.reporter import Reporter

_BLOCK = 512
# Memory is limited because it is the archive that says how much of it decompressing takes.
_DECOMPRESSORS = (
    (b"\x1f\x8b", ["gzip", "-dc"]),
    (b"BZh", ["bzip2", "-dc"]),
    (b"\xfd7zXZ\0", ["xz", "-dc", "--memlimit-decompress=192MiB"]),
    (b"\x28\xb5\x2f\xfd", ["zstd", "-dcq"]),
    (b"\x04\x22\x4d\x18", ["lz4", "-dcq"]),
)
# All that the archive has is restored, by number where it has both; two archives in one file are one.
_TAR = [
    *("tar", "-x", "-f", "-", "--ignore-zeros", "--numeric-owner", "--same-owner", "-p", "--delay-directory-restore"),
    *("--xattrs", "--xattrs-include=*", "--acls", "--warning=no-timestamp", "--warning=no-unknown-keyword"),
]


def unpack_tarball(content: Content, cell: Cell, report: Reporter) -> None:
    """Unpack it as the root, /boot on its own file system if there is one. Its descriptor must be one of a file.

    Raises GuestError, ProcessError, OSError.
    """
    start = os.lseek(content.fd, 0, os.SEEK_CUR)
    head = os.pread(content.fd, 8, start)
    decompressor = [command for magic, command in _DECOMPRESSORS if head.startswith(magic)]
    unpack_into(content, [*decompressor, cell.command(_TAR)], cell)
