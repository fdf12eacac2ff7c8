# SPDX-License-Identifier: GPL-2.0-or-later
"""The new file systems mounted, while an archive is unpacked there and they are made a guest's."""

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
ESP = "/run/snf-image/new-esp"
_PLACES = {Role.ROOT: ROOT, Role.BOOT: BOOT, Role.ESP: ESP}


@dataclass(frozen=True)
class Tree:
    """Where the new file systems are mounted, each by itself; None for one that there is not."""

    root: str
    boot: str | None = None
    esp: str | None = None


@contextmanager
def mounted_tree(made: tuple[Made, ...]) -> Iterator[Tree]:
    """Mount them side by side, and unmount them. Raises GuestError."""
    done: dict[Role, str] = {}
    try:
        for each in made:
            if each.role in _PLACES:
                Path(_PLACES[each.role]).mkdir(parents=True, exist_ok=True)
                mount(each.device, _PLACES[each.role], each.type)
                done[each.role] = _PLACES[each.role]
        yield Tree(ROOT, done.get(Role.BOOT), done.get(Role.ESP))
    finally:
        for path in reversed(done.values()):
            unmount(path)
