# SPDX-License-Identifier: GPL-2.0-or-later
"""The text inside a VMDK image. It may name files, which is how a node's own files got into images (CVE-2022-47951).

Nothing that it names is used: what is found must be one extent, the very file that it stands in.
Grammar: VMware, Virtual Disk Format 5.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from snf_image_shared.errors import ImageError

SPARSE, STREAM = "monolithicSparse", "streamOptimized"

_FIRST = "# disk descriptorfile"
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9_.:-]*)\s*=\s*(.*)")
_EXTENT = re.compile(r'(RW|RDONLY|NOACCESS)\s+([0-9]{1,18})\s+([A-Z0-9]+)\s+"([^"]*)"(?:\s+[0-9]+)?', re.IGNORECASE)
_NO_PARENT = "ffffffff"
_SHOWN = 60  # characters of a line in a message


@dataclass
class _Found:
    """What the lines said so far."""

    keys: dict[str, str] = field(default_factory=dict)
    extents: list[tuple[int, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Descriptor:
    """How the image was made, and how many sectors of 512 bytes its only extent has."""

    create_type: str
    sectors: int


def parse_descriptor(text: bytes) -> Descriptor:
    """Read the text, whatever lies behind its first NUL byte. Raises ImageError."""
    lines = text.partition(b"\0")[0].decode("latin-1").split("\n")
    if lines[0].strip().lower() != _FIRST:
        raise ImageError(f"is a VMDK image without a descriptor, but with {_shown(lines[0])} (check vmdk-descriptor)")
    found = _Found()
    for line in lines[1:]:
        _read(line.strip(), found)
    create_type = found.keys.get("createtype", "")
    if create_type not in {SPARSE, STREAM}:
        raise ImageError(
            f"is a VMDK image of type {_shown(create_type)}, not {SPARSE} or {STREAM}: its data is in other files; "
            f"convert it with 'qemu-img convert -O vmdk -o subformat={STREAM}' (check vmdk-create-type)"
        )
    _check_parent(found)
    return Descriptor(create_type, _only_extent(found))


def _read(line: str, found: _Found) -> None:
    """Take one line in. Raises ImageError for one that is none of those that there are."""
    if not line or line.startswith("#"):
        return
    if extent := _EXTENT.fullmatch(line):
        found.extents.append((int(extent[2]), extent[3].upper(), extent[4]))
    elif key := _KEY.fullmatch(line):
        name = key[1].lower()
        if name in found.keys:
            raise ImageError(f"says {_shown(key[1])} twice in its descriptor (check vmdk-line)")
        found.keys[name] = key[2].strip().strip('"')
    else:
        raise ImageError(f"has the line {_shown(line)} in its descriptor, which means nothing (check vmdk-line)")


def _check_parent(found: _Found) -> None:
    if found.keys.get("parentcid", _NO_PARENT).lower() != _NO_PARENT or "parentfilenamehint" in found.keys:
        raise ImageError("is the difference to another VMDK image: clone it together with that (check vmdk-parent)")


def _only_extent(found: _Found) -> int:
    """Sectors of the one extent, which is the image itself."""
    for _, _, name in found.extents:
        if "/" in name or "\\" in name:
            raise ImageError(f"names the file {_shown(name)} of its reader as an extent (check vmdk-extent-path)")
    if len(found.extents) != 1:
        raise ImageError(f"has {len(found.extents)} extents in its descriptor, not one (check vmdk-extents)")
    sectors, kind, _ = found.extents[0]
    if kind != "SPARSE":
        raise ImageError(f"has an extent of type {_shown(kind)}, not SPARSE (check vmdk-extent-type)")
    return sectors


def _shown(text: str) -> str:
    return ascii(text[:_SHOWN])
