# SPDX-License-Identifier: GPL-2.0-or-later
"""Ganeti's export and import: a disk to a stream and back, byte for byte, without a look at what is in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.buffers import CHUNK, BufferRing, huge_pages
from snf_image_host.copying.pipeline import WORKERS, pieces
from snf_image_host.disks.instance_disks import Transfer
from snf_image_host.disks.storage import open_for_reading, open_for_writing
from snf_image_host.disks.targets import EDGE, Target
from snf_image_host.images.formats import HEAD, Kind, foreign_stream
from snf_image_host.images.sources import Extent, Readable
from snf_image_shared.errors import DiskError, RequestError, SnfImageError

_PIPE = 1 << 20  # bytes; the default limit of /proc/sys/fs/pipe-max-size


def export_disk(env: Mapping[str, str], root: Path) -> None:
    """Ganeti's export: the disk it names to standard output."""
    out_fd = descriptor(sys.stdout, "output")
    request = Transfer.from_environment(env, "EXPORT")
    check_open(request.size_fd)
    settings = Settings.load(env.get("OS_VARIANT", ""), root)
    with open_for_reading(request.disk, settings) as source:
        export(source, out_fd, request.size_fd)


def import_disk(env: Mapping[str, str], root: Path) -> None:
    """Ganeti's import: standard input to the disk it names. Whatever is wrong, the stream is read to its end."""
    in_fd = descriptor(sys.stdin, "input")
    try:
        request = Transfer.from_environment(env, "IMPORT")
        settings = Settings.load(env.get("OS_VARIANT", ""), root)
        with open_for_writing(request.disk, settings) as target:
            import_(target, in_fd, request.declared)
    except BaseException as error:
        # The sender must not die of a broken pipe, or its error would be told in the place of ours. A signal ends us.
        if not isinstance(error, SystemExit):
            drain(in_fd)
        raise


def export(source: Readable, out_fd: int, size_fd: int | None) -> None:
    """Write the whole disk to `out_fd`, after its size in bytes as a line to `size_fd` (Ganeti's EXP_SIZE_FD).

    Raises DiskError, and SnfImageError if the reader goes away.
    """
    announce(source.size, size_fd)
    send_disk(source, out_fd)


def announce(size: int, size_fd: int | None) -> None:
    """Tell Ganeti how many bytes come, if it asks. Raises SnfImageError."""
    if size_fd is not None:
        write_all(size_fd, memoryview(f"{size}\n".encode()))


def send_disk(source: Readable, out_fd: int) -> None:
    """Write the whole disk. Raises as export() does."""
    _widen(out_fd)
    buffers = [huge_pages(CHUNK), huge_pages(CHUNK)]
    zeros = huge_pages(CHUNK)
    with source.direct(), ThreadPoolExecutor(1) as reader:
        # One piece is read ahead while the one before it is written.
        ahead = None
        for number, piece in enumerate(pieces(source, 0, source.size, CHUNK)):
            fill = partial(_fill, source, piece, buffers[number % 2], zeros)
            ready, ahead = ahead, reader.submit(fill)
            if ready:
                write_all(out_fd, ready.result())
        if ahead:
            write_all(out_fd, ahead.result())
    source.check_unchanged()


def import_(target: Target, in_fd: int, declared: int | None = None, begun: bytes = b"") -> None:
    """Write the stream to the disk; what it does not reach is left alone, but for the disk's last MiB, which is zeroed.

    `declared` is the size in bytes that Ganeti knows the disk by. A stream that is larger than the disk is refused, and
    so is one that begins like another provider's export and is smaller than a disk of the declared size: a tenant's own
    disk of data may begin with a tar archive, but its export is never smaller than the disk. What has been read of the
    stream already is `begun`, less than EDGE. Returns when all is on stable storage. Raises DiskError, and
    SnfImageError for the stream; the disk then does not boot.
    """
    _widen(in_fd)
    head = huge_pages(EDGE)  # kept until everything else is flushed
    head[: len(begun)] = begun
    count = len(begun) + _read_full(in_fd, head[len(begun) :])
    if not count:
        raise DiskError(f"{target.name}: the stream to import is empty: look for the sender's error")
    stream = _Stream(in_fd, head, count, foreign_stream(bytes(head[:HEAD])), min(declared or target.size, target.size))
    if count < EDGE:
        stream.check_end(target, count)
    target.wipe_ends()
    try:
        _receive(target, stream)
    except BaseException:
        target.wipe_ends()
        raise


@dataclass(frozen=True)
class _Stream:
    """What is imported: its first `count` bytes, and what they look like. A disk has at least `smallest` bytes."""

    fd: int
    head: memoryview
    count: int
    foreign: Kind | None
    smallest: int

    def check_end(self, target: Target, length: int) -> None:
        """Raise DiskError if `length` bytes are all there is and are no disk."""
        if self.foreign and length < self.smallest:
            raise DiskError(
                f"{target.name}: the stream to import is no raw disk, it is {self.foreign.text} of {length} bytes: "
                f"import it with the OS definition that exported it{_hint(self.foreign)}, "
                "or unpack it to a raw disk first"
            )


def _hint(kind: Kind) -> str:
    is_known = "tar archive" in kind.text or "dump(8)" in kind.text
    return " (instance-image's is `image`, of the package snf-image-instance-image)" if is_known else ""


def descriptor(stream: TextIO | None, name: str) -> int:
    """The number of a standard stream. Raises RequestError."""
    if stream is None:  # closed when Python started
        raise RequestError(f"standard {name} is closed; Ganeti passes the stream there, so call me through Ganeti")
    return stream.fileno()


def check_open(size_fd: int | None) -> None:
    """Raise RequestError for a number that is no descriptor yet: the disk, or a connection to it, would become it."""
    try:
        if size_fd is not None:
            os.fstat(size_fd)
    except (OSError, OverflowError) as error:
        raise RequestError(f"EXP_SIZE_FD: {size_fd} is not open; Ganeti opens it, so call me through Ganeti") from error


def _receive(target: Target, stream: _Stream) -> None:
    position = stream.count
    _check_room(target, position, stream.fd)
    with BufferRing(WORKERS, _no_progress) as ring:
        while position >= EDGE and (count := _read_full(stream.fd, buffer := ring.take())):
            _check_room(target, position + count, stream.fd)
            ring.submit(buffer, partial(_store, target, position, count))
            position += count
        ring.drain()
    stream.check_end(target, position)
    target.flush()
    target.write_sparsely(_padded(target, stream.head, 0, stream.count), 0)
    target.flush()


def _store(target: Target, offset: int, count: int, buffer: memoryview) -> int:
    target.write_sparsely(_padded(target, buffer, offset, count), offset)
    return count


def _padded(target: Target, buffer: memoryview, offset: int, count: int) -> memoryview:
    end = target.rounded(offset + count) - offset
    buffer[count:end] = bytes(end - count)
    return buffer[:end]


def _check_room(target: Target, end: int, in_fd: int) -> None:
    """Raise DiskError, after the stream has been read to its end, if it passes the end of the disk."""
    if end <= target.size:
        return
    end += drain(in_fd)
    raise DiskError(
        f"{target.name}: has {target.size} bytes, but the stream has {end}: import onto a disk of the exported size"
    )


def drain(in_fd: int) -> int:
    """Read the stream to its end; the bytes that were left of it."""
    rubbish = memoryview(bytearray(_PIPE))
    left = 0
    with contextlib.suppress(OSError):
        while count := os.readv(in_fd, [rubbish]):
            left += count
    return left


def _read_full(in_fd: int, view: memoryview) -> int:
    """Bytes read into `view`: fewer than it holds only at the end of the stream."""
    done = 0
    try:
        while done < len(view) and (count := os.readv(in_fd, [view[done:]])):
            done += count
    except OSError as error:
        raise SnfImageError(f"the stream to import cannot be read: {error.strerror}; start the import again") from error
    return done


def _fill(source: Readable, piece: Extent, buffer: memoryview, zeros: memoryview) -> memoryview:
    if not piece.is_data:
        return zeros[: piece.length]
    source.read(buffer, piece.offset, piece.length)
    return buffer[: piece.length]


def write_all(out_fd: int, view: memoryview) -> None:
    """Raises SnfImageError when the reader is gone."""
    try:
        while view:
            view = view[os.write(out_fd, view) :]
    except OSError as error:
        raise SnfImageError(f"the exported stream cannot be written: {error.strerror}; look at its receiver") from error


def _widen(pipe: int) -> None:
    with contextlib.suppress(OSError):  # not a pipe, or a limit for unprivileged users
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)


def _no_progress(_done: int) -> None:
    """Ganeti's transfer daemons watch the stream themselves."""
