# SPDX-License-Identifier: GPL-2.0-or-later
"""An image that has to be interpreted -> Image, by an unprivileged process.

The stored bytes are read and hashed here. Those of a compressed image go on into a pipe to the process, which makes the
disk's bytes of them; a container is a file, which it reads itself in any order.
"""

from __future__ import annotations

import errno
import importlib.util
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.edges import EdgesLast, edges_last
from snf_image_host.copying.piped_disk import store_pieces
from snf_image_host.copying.pipeline import Image, Opened
from snf_image_host.decoding.process import QCOW2
from snf_image_host.disks.targets import LocalTarget, Target
from snf_image_host.images.decoder_process import DecoderProcess, Job, decoder_process
from snf_image_host.images.feed import Feed, open_pipe
from snf_image_host.images.sources import Source
from snf_image_host.progress import Progress
from snf_image_shared.errors import ConfigurationError, ImageError

_TICK = 0.5  # seconds between two looks at the process
_MODULES = {"zstd": "zstandard", "lz4": "lz4"}  # of the codecs that Python does not bring


@contextmanager
def decoded(opened: Opened, settings: Settings) -> Iterator[Image]:
    """The image, for the length of the block. No thread is left when it is entered.

    To be entered before any thread is started. Raises ImageError before anything is written if the image is not
    acceptable, and ConfigurationError.
    """
    with ExitStack() as stack:
        kind = opened.recipe.compression
        if kind:
            module = _MODULES.get(kind)
            if module and not importlib.util.find_spec(module):
                raise ConfigurationError(f"{opened.content.name} is {kind}; run: apt install python3-{module}")
            content, pipe = open_pipe(stack)
        else:
            content, pipe = _reopened(opened), None
        try:
            job = Job(opened.content.name, kind or QCOW2, opened.img_format, content)
            process = stack.enter_context(decoder_process(job))
        finally:
            os.close(content)
        feed = Feed(opened, pipe)
        size = feed.until_found(process)
        yield DecodedImage(opened, process, feed, size)


class DecodedImage:
    """As Image says."""

    def __init__(self, opened: Opened, process: DecoderProcess, feed: Feed, size: int | None) -> None:
        self.name = opened.content.name
        self.size = size
        self.img_format = opened.img_format
        self.integrity = opened.integrity
        self._content = opened.content
        self._process = process
        self._feed = feed

    def fill(self, disk: EdgesLast, progress: Progress) -> int:
        """As Image says. Nothing of the process is left when it returns, or raises."""
        target = disk.target
        given = _given(self._process, disk, target) if isinstance(target, LocalTarget) else _stored(self._process, disk)
        with given as check, self._process.ended_on_error():

            def tick() -> None:
                check()
                self._process.look()
                self._tell(progress)

            self._feed.pump(self._process, tick)
            while self._process.done is None:
                self._process.wait(_TICK)
                tick()
            if not self._feed.is_complete:
                raise self._process.lied()
            self._process.finish()
        if isinstance(self._content, Source):
            self._content.check_unchanged()
        return self._process.done

    def is_disk(self, target: Target) -> bool:
        """As Image says."""
        return isinstance(self._content, Source) and target.is_file(self._content.fd)

    def _tell(self, progress: Progress) -> None:
        written = self._process.written
        if self.size is None:
            progress.copied(self._feed.count, self._feed.size, written)
        else:  # what is a hole is never read
            progress.copied(written, self.size, written)


@contextmanager
def _given(process: DecoderProcess, disk: EdgesLast, target: LocalTarget) -> Iterator[Callable[[], None]]:
    """Let the process write to the disk by itself; what it yields is to be called now and then.

    To be left when the process is gone: it is not relied upon to leave a file as large as it was.
    """
    fd = _opened_again(target.fd, os.O_WRONLY)
    try:
        courtesy = disk.courtesy
        order = {"start": disk.start, "bandwidth": courtesy.bandwidth, "is_idle": courtesy.is_idle}
        alive = () if disk.alive is None else (disk.alive,)
        process.send_disk(disk.target.name, disk.room, order, (fd, disk.memory_fd, *alive))
    finally:
        os.close(fd)
    try:
        yield lambda: None
    finally:
        target.cut()


@contextmanager
def _stored(process: DecoderProcess, disk: EdgesLast) -> Iterator[Callable[[], None]]:
    """Write to the disk what the process wants to, which has no way to it; as _given()."""
    with edges_last(disk.target, disk.start) as theirs, ThreadPoolExecutor(1) as executor:
        read, write = os.pipe()
        try:
            order = {"start": disk.start, "bandwidth": 0, "is_idle": False}
            order |= {"size": disk.target.size, "sector_size": disk.target.sector_size}
            process.send_disk(disk.target.name, disk.room, order, (write, theirs.memory_fd))
        finally:
            os.close(write)
        with process.ended_on_error():
            stored = executor.submit(store_pieces, disk, read)
            yield lambda: stored.result() if stored.done() else None
            stored.result()
        disk.memory[:] = theirs.memory


def _reopened(opened: Opened) -> int:
    """A descriptor of the same image with a place and flags of its own."""
    if not isinstance(opened.content, Source):
        raise ImageError(f"{opened.content.name} has to be read out of order, but it comes as a stream")
    return _opened_again(opened.content.fd, os.O_RDONLY)


def _opened_again(fd: int, flags: int) -> int:
    path = f"/proc/self/fd/{fd}"
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without it
            raise
        return os.open(path, flags | os.O_CLOEXEC)
