# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk as it is -> a raw or qcow2 file. To us the disk is bytes, and so it is to qemu-img, which is told "raw"."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator

from snf_image_host.copying.buffers import CHUNK, huge_pages
from snf_image_host.copying.pipeline import pieces
from snf_image_host.images.sources import Source
from snf_image_host.tools.compressors import Compression, Writer
from snf_image_host.tools.new_images import NewImage, not_written
from snf_image_host.vm.jail import check_programs
from snf_image_shared.errors import ConfigurationError, DiskError
from snf_image_shared.process import Limits, ProcessError, run

_BLOCK = 64 << 10  # bytes that are written or left out together
_PATIENCE = 7 * 24 * 3600.0  # seconds
_QCOW2 = {
    Compression.NONE: [],
    Compression.GZ: ["-c", "-o", "compression_type=zlib"],
    Compression.ZST: ["-c", "-o", "compression_type=zstd"],
}


def write_raw(disk: Source, file: NewImage, told: Callable[[int], None]) -> None:
    """All of the disk, with holes where it has zeros. `told` hears how many bytes are done.

    Raises DiskError, ImageError.
    """
    zeros = bytes(_BLOCK)
    try:
        for at, view in _data(disk):
            for start in range(0, len(view), _BLOCK):
                block = view[start : start + _BLOCK]
                if bytes(block) != zeros[: len(block)]:
                    _write_at(file.fd, block, at + start)
            told(at + len(view))
        os.ftruncate(file.fd, disk.size)
    except OSError as error:
        raise not_written(file.name, error) from error
    disk.check_unchanged()


def write_raw_compressed(disk: Source, writer: Writer) -> None:
    """All of the disk, zeros included. Raises DiskError, ImageError."""
    zeros = memoryview(bytes(CHUNK))
    position = 0
    for at, view in _data(disk):
        _fill(writer, zeros, at - position)
        writer.write(view)
        position = at + len(view)
    _fill(writer, zeros, disk.size - position)
    writer.finish()
    disk.check_unchanged()


def write_qcow2(disk: Source, file: NewImage, compression: Compression) -> None:
    """Raises DiskError. qemu-img sees its own programs and libraries, and both files as descriptors."""
    check_programs("bwrap")
    driver = "host_device" if stat.S_ISBLK(os.fstat(disk.fd).st_mode) else "file"
    source = {
        "driver": "raw",
        "file": {"driver": driver, "filename": f"/proc/self/fd/{disk.fd}", "locking": "off", "read-only": True},
    }
    convert = ["qemu-img", "convert", "-O", "qcow2", *_QCOW2[compression]]
    convert += [f"json:{json.dumps(source, separators=(',', ':'))}", f"/proc/self/fd/{file.fd}"]
    try:
        run([*_sandbox(), *convert], limits=Limits(timeout=_PATIENCE, pass_fds=(disk.fd, file.fd)))
    except ProcessError as error:
        if error.outcome == "is not installed":
            raise ConfigurationError("qemu-img is not installed; run: apt install qemu-utils") from error
        raise DiskError(f"{disk.name} cannot be made {file.name}: {error}") from error
    disk.check_unchanged()


def _data(disk: Source) -> Iterator[tuple[int, memoryview]]:
    """What is no hole, in order, with its place."""
    buffer = huge_pages(CHUNK)
    with disk.direct():
        for piece in pieces(disk, 0, disk.size, disk.size):
            if piece.is_data:
                disk.read(buffer, piece.offset, piece.length)
                yield piece.offset, buffer[: piece.length]


def _write_at(fd: int, view: memoryview, offset: int) -> None:
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def _fill(writer: Writer, zeros: memoryview, count: int) -> None:
    while count:
        piece = zeros[:count]
        writer.write(piece)
        count -= len(piece)


def _sandbox() -> list[str]:
    """Root's id without a capability but that of opening what another user has: a file of Ganeti's may be anybody's."""
    words = ["bwrap", "--unshare-net", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--die-with-parent"]
    words += ["--new-session", "--ro-bind", "/usr", "/usr"]
    for name in ("lib", "lib64", "bin", "sbin"):
        words += ["--symlink", f"usr/{name}", f"/{name}"]
    return [*words, "--dev", "/dev", "--proc", "/proc", "--cap-drop", "ALL", "--cap-add", "CAP_DAC_OVERRIDE"]
