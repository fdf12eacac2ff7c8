# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel says of a device while something is done with it: the reasons that errno has no words for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOG = "/dev/kmsg"
_RECORD = 8192  # bytes: no record is longer (kernel, Documentation/ABI/testing/dev-kmsg)
_MOST = 1000  # records: a hostile file system can make the kernel talk for long
_LONGEST = 200  # characters of one line


class Messages:
    """The lines so far, without what tells whose they are; empty where the log cannot be read."""

    def __init__(self, device: str, descriptor: int | None) -> None:
        self._mark = re.compile(rf"\((?:device )?{re.escape(_kernel_name(device))}\b[^:]*: *(.*)")
        self._descriptor = descriptor

    def read(self) -> tuple[str, ...]:
        """What has been said since the last call."""
        found = []
        for record in self._records():
            text = record.partition(b";")[2].split(b"\n")[0].decode("utf-8", "replace")
            about = self._mark.search(text)
            if about:
                found.append("".join(char for char in about[1] if char.isprintable())[:_LONGEST])
        return tuple(found)

    def _records(self) -> Iterator[bytes]:
        if self._descriptor is None:
            return
        for _ in range(_MOST):
            try:
                yield os.read(self._descriptor, _RECORD)
            except BrokenPipeError:  # some were overwritten before they were read
                continue
            except OSError:
                return


@contextmanager
def messages_about(device: str) -> Iterator[Messages]:
    """What is said of the device from now on."""
    descriptor = None
    try:
        descriptor = os.open(_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(descriptor, 0, os.SEEK_END)
    except OSError:
        pass  # a container may have none; the words are a help and no more
    try:
        yield Messages(device, descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _kernel_name(device: str) -> str:
    """The name that messages use: that of /dev/mapper/vg-root is dm-0."""
    try:
        number = Path(device).stat().st_rdev
        return Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve(strict=True).name
    except OSError:
        return Path(device).name
