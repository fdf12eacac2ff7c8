# SPDX-License-Identifier: GPL-2.0-or-later
"""An image file as it is stored, read anywhere, past the page cache, in aligned pieces. It knows nothing of formats."""

from __future__ import annotations

import errno
import os
import threading

from snf_image_host import kernel
from snf_image_host.copying.buffers import CHUNK, huge_pages
from snf_image_shared.errors import ImageError

ALIGNMENT = 4096  # offsets, lengths and memory of a direct transfer; covers 512-byte and 4Kn disks


class StoredFile:
    """`size` in bytes, fixed when it was opened; `consumed` bytes have been read so far. Whoever opened `fd` owns it.

    Methods may be called from several threads and raise ImageError, to stand after the image's name.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.lseek(fd, 0, os.SEEK_END)
        self.consumed = 0
        self._counting = threading.Lock()
        self._scratch = threading.local()
        kernel.set_direct(fd, True)

    def read(self, view: memoryview, offset: int, length: int) -> None:
        """Fill the first `length` bytes of `view`, with zeros for what lies behind the end of the file.

        `offset` is a multiple of ALIGNMENT; `view` lies in memory at one, and has room for `length` rounded up to it.
        """
        room = -(-length // ALIGNMENT) * ALIGNMENT
        wanted = min(length, self.size - offset)
        done = 0
        while done < wanted:
            try:
                count = os.preadv(self.fd, [view[done:room]], offset + done)
            except OSError as error:
                if error.errno == errno.EINVAL and kernel.is_direct(self.fd):
                    kernel.set_direct(self.fd, False)  # a file system with a coarser alignment than ours
                    continue
                raise ImageError(
                    f"cannot be read at byte {offset + done}: {error.strerror}; check the storage it lies on"
                ) from error
            if done + count < wanted:
                count -= count % ALIGNMENT
                if not count:
                    raise ImageError(f"ends before byte {offset + wanted}: do not change it while it is read")
            done += count
        view[max(wanted, 0) : length] = bytes(length - max(wanted, 0))
        if not kernel.is_direct(self.fd):
            os.posix_fadvise(self.fd, offset, length, os.POSIX_FADV_DONTNEED)
        with self._counting:
            self.consumed += max(wanted, 0)

    def span(self, offset: int, length: int) -> memoryview:
        """At most CHUNK bytes from anywhere, valid until the same thread asks again; zeros behind the end."""
        if not hasattr(self._scratch, "memory"):
            self._scratch.memory = huge_pages(CHUNK + 2 * ALIGNMENT)
        memory: memoryview = self._scratch.memory
        start = offset - offset % ALIGNMENT
        self.read(memory, start, -(-(offset + length - start) // ALIGNMENT) * ALIGNMENT)
        return memory[offset - start : offset - start + length]

    def is_hole(self, offset: int, length: int) -> bool:
        """Whether the file system knows that there are zeros alone."""
        try:
            return os.lseek(self.fd, offset, os.SEEK_DATA) >= offset + length
        except OSError as error:
            return error.errno == errno.ENXIO  # a hole up to the end; others: no holes on this file system
