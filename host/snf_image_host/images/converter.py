# SPDX-License-Identifier: GPL-2.0-or-later
"""An image in another machine's container (VMDK, VHDX, VDI) -> Image.

First our own unprivileged process reads the container's headers and tables, and finds that it is one whole disk that
names no other file. Then QEMU decodes it in a jail, and what it makes of it is read here as from any other disk, while
the file as it is stored is read once more for its checksum: what an image was published as is the file.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.buffers import CHUNK, huge_pages
from snf_image_host.copying.edges import EdgesLast
from snf_image_host.copying.pipeline import Image, Opened, PlainImage
from snf_image_host.disks.nbd_client import ServedDisk, libnbd
from snf_image_host.disks.targets import Target
from snf_image_host.images.decoder_process import Job, decoder_process
from snf_image_host.images.feed import Feed
from snf_image_host.images.image_server import image_server
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.sources import Source
from snf_image_host.progress import Progress
from snf_image_shared.errors import ImageError


@contextmanager
def converted(opened: Opened, settings: Settings) -> Iterator[Image]:
    """The image, for the length of the block. No thread is left when it is entered.

    To be entered before any thread is started. Raises ImageError before anything is written if the image is not
    acceptable, and ConfigurationError.
    """
    stored = opened.content
    if not isinstance(stored, Source):
        raise ImageError(f"{stored.name} has to be read out of order, but it comes as a stream")
    libnbd()
    driver = opened.recipe.container.value
    size = _inspected(opened, stored)
    with ExitStack() as stack:
        content = _opened_again(stored.fd, os.O_DIRECT)
        stack.callback(os.close, content)
        server = stack.enter_context(image_server(stored.name, content, driver, settings.run_dir))
        disk = ServedDisk(server, stored.name)
        if disk.size != size:
            raise ImageError(
                f"{stored.name} is a disk of {size} bytes by its header, and of {disk.size} bytes by QEMU: "
                "convert it with 'qemu-img convert' and publish the result"
            )
        yield ConvertedImage(opened, stored, disk, stack.close)


class ConvertedImage:
    """As Image says. `end` ends the decoder of the disk; it may be called again."""

    def __init__(self, opened: Opened, stored: Source, disk: ServedDisk, end: Callable[[], None]) -> None:
        self.name = stored.name
        self.size = disk.size
        self.img_format = opened.img_format
        self.integrity = opened.integrity
        self._stored = stored
        self._end = end
        self._disk = PlainImage(disk, Integrity(), opened.img_format)

    def fill(self, disk: EdgesLast, progress: Progress) -> int:
        """As Image says. The decoder is gone when it returns: what comes next need not be near it."""
        is_over = threading.Event()
        with ThreadPoolExecutor(1, thread_name_prefix="checksum") as reader:
            fed = reader.submit(_feed, self._stored, self.integrity, is_over)
            try:
                size = self._disk.fill(disk, progress)
                fed.result()
            finally:
                is_over.set()
        self._stored.check_unchanged()
        self._end()
        return size

    def is_disk(self, target: Target) -> bool:
        """As Image says."""
        return target.is_file(self._stored.fd)


def _inspected(opened: Opened, stored: Source) -> int:
    """Bytes of the disk in the container, as our own process finds them. Raises ImageError if there is any doubt."""
    content = _opened_again(stored.fd)
    try:
        job = Job(stored.name, opened.recipe.container.value, opened.img_format, content)
        with decoder_process(job) as process:
            size = Feed(opened, None).until_found(process)
    finally:
        os.close(content)
    if size is None:
        raise ImageError(f"{stored.name} does not say how large it is: publish it again")
    return size


def _feed(stored: Source, integrity: Integrity, is_over: threading.Event) -> None:
    """Feed the file as it is stored, past the page cache, unless it turns out that nobody needs it."""
    if not integrity.is_wanted:
        return
    buffer = huge_pages(CHUNK)
    with stored.direct():
        for at in range(0, stored.size, CHUNK):
            if is_over.is_set():
                return
            length = min(CHUNK, stored.size - at)
            stored.read(buffer, at, length)
            integrity.feed(buffer[:length])


def _opened_again(fd: int, flags: int = 0) -> int:
    """The same file by a descriptor with a place and flags of its own."""
    path = f"/proc/self/fd/{fd}"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without direct reads
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
