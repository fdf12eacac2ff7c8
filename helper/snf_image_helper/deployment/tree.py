# SPDX-License-Identifier: GPL-2.0-or-later
"""The new file systems mounted as they will be in the guest, while its archive is unpacked there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper.deployment.file_systems import Made
from snf_image_helper.disks.filesystems import mount, unmount
from snf_image_shared.layouts import Role

ROOT = "/run/snf-image/new-root"
BOOT = "/run/snf-image/new-boot"


@dataclass(frozen=True)
class Tree:
    """Where the new file systems are mounted, each by itself: `boot` is None if /boot is on the root."""

    root: str
    boot: str | None


@contextmanager
def mounted_tree(made: tuple[Made, ...]) -> Iterator[Tree]:
    """Mount root and boot side by side, and unmount them. Raises GuestError."""
    places = {Role.ROOT: ROOT, Role.BOOT: BOOT}
    chosen = [(each, places[each.role]) for each in made if each.role in places]
    done: list[str] = []
    try:
        for each, path in chosen:
            Path(path).mkdir(parents=True, exist_ok=True)
            mount(each.device, path, each.type)
            done.append(path)
        yield Tree(ROOT, BOOT if BOOT in done else None)
    finally:
        for path in reversed(done):
            unmount(path)
