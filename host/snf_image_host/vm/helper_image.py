# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of the helper's image, checked and held open, whatever snf-image-update-helper puts in their place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_host.vm.drives import Drive
from snf_image_host.vm.qemu import INITRD, KERNEL
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.manifest import CURE, Manifest

PARTS = ("image", "kernel", "initrd")


@dataclass(frozen=True)
class HelperImage:
    """`root` is the helper's root disk; `files` are descriptors of what QEMU reads first, by path in the jail."""

    root: Drive
    files: Mapping[str, int]


@contextmanager
def open_helper_image(directory: Path) -> Iterator[HelperImage]:
    """Open the parts together, so that an update in this moment cannot mix two of them. Raises ConfigurationError."""
    with ExitStack() as stack:
        Manifest.load(directory).check(directory, deep=False)
        try:
            folder = _opened(stack, directory, os.O_PATH | os.O_DIRECTORY)
            root, kernel, initrd = (_opened(stack, name, os.O_RDONLY, folder) for name in PARTS)
        except OSError as error:
            raise ConfigurationError(f"the helper image in {directory} cannot be opened: {error}: {CURE}") from error
        yield HelperImage(Drive(root), {KERNEL: kernel, INITRD: initrd})


def _opened(stack: ExitStack, path: str | Path, flags: int, folder: int | None = None) -> int:
    fd = os.open(path, flags | os.O_CLOEXEC, dir_fd=folder)
    stack.callback(os.close, fd)
    return fd
