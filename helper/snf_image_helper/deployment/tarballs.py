# SPDX-License-Identifier: GPL-2.0-or-later
"""Tar archives, compressed or not, unpacked onto new file systems by GNU tar.

GNU tar, and not bsdtar or Python's tarfile: it writes links that lead elsewhere last of all, knows what every other tar
writes of attributes and holes, reads no format but tar, and is fast where the processor is emulated.
"""

from __future__ import annotations

import os
import re

from snf_image_helper.deployment.cell import Cell
from snf_image_helper.deployment.content import Content, Unpacker, shortened, unpack_into, warn_of
from snf_image_helper.reporter import Reporter
from snf_image_shared.errors import GuestError

_BLOCK = 512
# Memory is limited because it is the archive that says how much decompressing takes; zstd and lz4 do it by themselves.
_DECOMPRESSORS = (
    (b"\x1f\x8b", ("gzip", "-dc")),
    (b"BZh", ("bzip2", "-dc")),
    (b"\xfd7zXZ\0", ("xz", "-dc", "--memlimit-decompress=192MiB")),
    (b"\x28\xb5\x2f\xfd", ("zstd", "-dcq")),
    (b"\x04\x22\x4d\x18", ("lz4", "-dc", "-q")),
)
# All that the archive has is restored, by number where it has names as well. Blocks of zeros are skipped so that what
# follows the end is not lost without a word: a second archive is unpacked too, and anything else is an error.
# Not --delay-directory-restore: its time grows with the square of the number of directories.
_TAR = Unpacker(
    (
        *("tar", "-x", "-f", "-", "--ignore-zeros", "--numeric-owner", "--same-owner", "-p"),
        *("--xattrs", "--xattrs-include=*", "--acls", "--selinux"),
        *("--warning=no-timestamp", "--warning=no-unknown-keyword"),
    ),
    noise=re.compile(
        "Exiting with failure status|Error is not recoverable|Removing leading|Skipping to next header"
        "|Cannot set 'btrfs\\.compression' extended attribute"  # a wish that no other file system has
    ),
    cures=(
        (re.compile(r"^tar: (\./)*boot/?: Cannot"), "its /boot is a link, so deploy it without a /boot partition"),
        (re.compile(r"link to .*: Invalid cross-device link"), "deploy it without a /boot partition"),
        (re.compile(r"contains '\.\.'"), "make the archive anew, from inside of its root"),
    ),
)


def unpack_tarball(content: Content, cell: Cell, report: Reporter) -> None:
    """Unpack it as the root, /boot on its own file system if there is one. Its descriptor must be that of a file.

    Raises GuestError, OSError.
    """
    start = os.lseek(content.fd, 0, os.SEEK_CUR)
    head = os.pread(content.fd, 8, start)
    decompressor = next((command for magic, command in _DECOMPRESSORS if head.startswith(magic)), ())
    if not decompressor and content.length is not None:
        # tar takes an archive that was cut between two of its members for a whole one.
        last = os.pread(content.fd, _BLOCK, start + max(0, content.length - _BLOCK))
        if content.length < 2 * _BLOCK or any(last):
            raise GuestError(f"{content.name} is cut short, or something follows it: no tar archive ends like it")
    said = unpack_into(cell, content, _TAR, decompressor)
    warn_of(content, said, report)
    _refuse_what_is_no_root(content, cell)


def _refuse_what_is_no_root(content: Content, cell: Cell) -> None:
    if any((cell.unpacked / name).is_dir() for name in ("etc", "usr")):
        return
    with os.scandir(cell.unpacked) as entries:
        names = sorted(entry.name for entry in entries if entry.name not in {"lost+found", "boot"})[:2]
    if not names:
        raise GuestError(f"{content.name} is empty")
    inside = f": all is below {shortened(names[0])}" if len(names) == 1 else ""
    raise GuestError(
        f"{content.name} has neither /etc nor /usr{inside}; make the archive anew, from inside of its root"
    )
