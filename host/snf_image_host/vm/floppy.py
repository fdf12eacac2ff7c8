# SPDX-License-Identifier: GPL-2.0-or-later
"""The config floppy: a small ext2 file system with the job in it, made without a mount, a loop device or a file name.

It holds secrets, so it lives in anonymous memory (memfd) from its first byte: whatever kills us, nothing stays behind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from snf_image_host.configuration.setting_types import ConfigDevice
from snf_image_shared.errors import RequestError
from snf_image_shared.job import FLOPPY_LABEL
from snf_image_shared.process import Limits, run

FLOPPY_SIZE = 1474560  # bytes: the only size a real floppy drive takes without being told
_MAX_SIZE = 64 << 20  # bytes
_BLOCK = 1024  # bytes, of the file system
_SLACK = 256 << 10  # bytes for inodes, bitmaps and the directory


@dataclass(frozen=True)
class Floppy:
    """An open image of the config device. `fd` belongs to config_floppy()."""

    fd: int
    device: ConfigDevice


@contextmanager
def config_floppy(files: Mapping[str, bytes], wanted: ConfigDevice) -> Iterator[Floppy]:
    """Make the device that holds `files` (name -> content), as device_for() says.

    Raises RequestError as that does, ProcessError when mke2fs fails.
    """
    device, size = device_for(files, wanted)
    with ExitStack() as stack:
        image = _memory(stack, "snf-image-floppy", b"")
        os.truncate(image, size)
        contents = {name: _memory(stack, name, content) for name, content in files.items()}
        _make_file_system(image, contents)
        # QEMU takes a read-only disk only from a descriptor that is read-only itself.
        readable = os.open(f"/proc/self/fd/{image}", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, readable)
        yield Floppy(readable, device)


def device_for(files: Mapping[str, bytes], wanted: ConfigDevice) -> tuple[ConfigDevice, int]:
    """A floppy if the files fit on it and the settings agree, else a disk; and its size in bytes. Pure.

    Raises RequestError when they fit on neither.
    """
    needed = sum(-(-len(content) // _BLOCK) * _BLOCK + _BLOCK for content in files.values()) + len(files) * 256
    floppy = needed + 80 * _BLOCK <= FLOPPY_SIZE
    if wanted is ConfigDevice.FLOPPY and not floppy:
        raise RequestError(
            f"the parameters of this instance take {needed} bytes, more than a floppy holds; "
            "shorten img_personality or the file of os_answer_file, or set HELPER_CONFIG_DEVICE=auto in snf-image.conf"
        )
    device = ConfigDevice.FLOPPY if floppy and wanted is not ConfigDevice.DISK else ConfigDevice.DISK
    size = FLOPPY_SIZE if device is ConfigDevice.FLOPPY else -(-(needed + needed // 64 + _SLACK) // 65536) * 65536
    if size > _MAX_SIZE:
        raise RequestError(
            f"the parameters of this instance take {needed} bytes, more than {_MAX_SIZE}; "
            "shorten img_personality or the file of os_answer_file"
        )
    return device, size


def _memory(stack: ExitStack, name: str, content: bytes) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    stack.callback(os.close, fd)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _make_file_system(image: int, contents: Mapping[str, int]) -> None:
    """Let mke2fs populate the image from a directory that exists only inside a private mount namespace (bwrap)."""
    sandbox = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr"]
    for name in ("lib", "lib64", "bin", "sbin"):
        sandbox += ["--symlink", f"usr/{name}", f"/{name}"]
    sandbox += ["--dev", "/dev", "--proc", "/proc", "--perms", "0700", "--tmpfs", "/floppy"]
    for name, fd in contents.items():
        sandbox += ["--perms", "0600", "--file", str(fd), f"/floppy/{name}"]
    make = ["mke2fs", "-q", "-F", "-t", "ext2", "-b", str(_BLOCK), "-m", "0", "-I", "128", "-L", FLOPPY_LABEL]
    # As few inodes as it takes, and no room to grow: mke2fs would keep more for both than the slack has.
    make += ["-N", str(len(contents) + 16), "-O", "^resize_inode", "-d", "/floppy", f"/proc/self/fd/{image}"]
    run([*sandbox, *make], limits=Limits(timeout=60, pass_fds=(image, *contents.values())))
