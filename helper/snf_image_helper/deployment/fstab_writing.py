# SPDX-License-Identifier: GPL-2.0-or-later
"""The fstab of a guest whose file systems the helper has made."""

from __future__ import annotations

from pathlib import Path

from snf_image_helper.deployment.file_systems import Made
from snf_image_helper.deployment.tree import Tree
from snf_image_shared.deployment import Layout
from snf_image_shared.layouts import Role

_PLACES = {Role.ROOT: ("/", "0 1"), Role.BOOT: ("/boot", "1 2"), Role.ESP: ("/boot/efi", "0 2")}


def write_fstab(tree: Tree, layout: Layout, made: tuple[Made, ...]) -> None:
    """Replace the archive's."""
    lines = []
    for each in made:
        if each.role is Role.SWAP:
            lines.append(f"UUID={each.uuid} swap swap defaults 0 0")
        else:
            place, numbers = _PLACES[each.role]
            lines.append(f"UUID={each.uuid} {place} {each.type} defaults {numbers}")
    etc = Path(tree.root, "etc")
    etc.mkdir(exist_ok=True)
    (etc / "fstab").write_text("\n".join((*lines, "")))
