# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that interprets an image: it says what it found, then waits for the disk, then fills it.

Standard input is the image: a pipe with the stored bytes of a compressed one, else a file. Standard output is a socket
(SOCK_SEQPACKET) on which it and its parent send each other JSON objects. The disk comes as a descriptor for writing
alone, or as a pipe to somebody who writes it, when it is to be filled.
"""

from __future__ import annotations

import json
import mmap
import resource
import socket
import threading
import time
from pathlib import Path

from snf_image_host.copying.courtesy import Courtesy
from snf_image_host.copying.edges import EdgesLast
from snf_image_host.decoding.content import Content
from snf_image_host.decoding.piped_target import PipedTarget
from snf_image_host.disks.targets import EDGE, LocalTarget
from snf_image_shared.errors import DiskError, ImageError

QCOW2 = "qcow2"
INSPECTED = ("vmdk", "vhdx", "vdi")  # QEMU's to decode; every other kind is a compression's name
MESSAGE = 4096  # bytes of a message at most
_MOST_DESCRIPTORS = 3  # disk, memory of the edges, and what is to be held open
_IMAGE, _CONTROL = 0, 1
_TICK = 0.5  # seconds between two messages of the progress
_STACK = 1 << 20
_DISK = "disk"  # its name in the messages, which the parent replaces by the real one
_LONGEST_TEXT = 2000
_LIMITS = ((resource.RLIMIT_AS, 1 << 30), (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_CORE, 0))


def main(kind: str, img_format: str) -> None:
    """Everything the process does. What is wrong with image or disk is said; anything else ends it with a traceback."""
    for limit, value in _LIMITS:
        resource.setrlimit(limit, (value, value))
    threading.stack_size(_STACK)
    control = socket.socket(fileno=_CONTROL)
    try:
        content = open_content(kind, img_format)
        _say(control, {"size": content.size})
        disk = _received(control)
        with disk.courtesy.kept():
            size = content.fill(disk, _Progress(control).tick)
        _say(control, {"done": size})
    except ImageError as error:
        _say(control, {"image": str(error)[:_LONGEST_TEXT]})
    except DiskError as error:
        _say(control, {"disk": str(error).removeprefix(f"{_DISK}: ")[:_LONGEST_TEXT]})
    except MemoryError:
        _say(control, {"image": "needs more memory to be read than any image should: publish it again, made plainly"})


def open_content(kind: str, img_format: str) -> Content:
    """The reader for that kind of image. Raises ImageError if the head of the image is not acceptable."""
    if kind == QCOW2:
        from snf_image_host.decoding.qcow2 import open_qcow2  # noqa: PLC0415 - neither needs what the other imports

        return open_qcow2(_IMAGE)
    if kind in INSPECTED:
        from snf_image_host.decoding.inspection import open_inspected  # noqa: PLC0415

        return open_inspected(_IMAGE, kind)
    from snf_image_host.decoding.compression import open_compressed  # noqa: PLC0415

    return open_compressed(_IMAGE, kind, img_format)


class _Progress:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._said = time.monotonic()

    def tick(self, read: int, written: int) -> None:
        now = time.monotonic()
        if now >= self._said + _TICK:
            self._said = now
            _say(self._control, {"read": read, "written": written})


def _say(control: socket.socket, message: dict[str, object]) -> None:
    control.send(json.dumps(message).encode())


def _received(control: socket.socket) -> EdgesLast:
    """The disk. The process ends when there will be none."""
    message, fds, _, _ = socket.recv_fds(control, MESSAGE, _MOST_DESCRIPTORS)
    if not message:
        raise SystemExit(0)
    order = json.loads(message)
    disk, memory, *held = fds
    courtesy = Courtesy(order["bandwidth"], order["is_idle"])
    edges = memoryview(mmap.mmap(memory, 2 * EDGE))
    return EdgesLast(_target(order, disk), order["start"], memory, edges, held[0] if held else None, courtesy)


def _target(order: dict[str, int], fd: int) -> LocalTarget | PipedTarget:
    if "size" in order:
        return PipedTarget(_DISK, fd, order["size"], order["sector_size"])
    target = LocalTarget(Path(_DISK), fd)
    if not target.is_block:  # it must not grow, whatever is written
        resource.setrlimit(resource.RLIMIT_FSIZE, (target.size, target.size))
    return target
