# SPDX-License-Identifier: GPL-2.0-or-later
"""img_id -> the name of a file below IMAGE_DIR. Pure: whether there is such a file is seen when it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snf_image_host.checksum import Checksum
from snf_image_host.faults import shown
from snf_image_shared.errors import RequestError

NO_IMAGE = "null"
DUMPS: Mapping[str, str] = {"extdump": "linux", "ntfsdump": "windows"}  # formats that are one file system, and OSFAMILY
SUPPORTED = "'null', or a file below IMAGE_DIR as 'name', 'directory/name' or 'local://name'"
_PREFIXES = ("local://", "file://")


@dataclass(frozen=True)
class WantedImage:
    """What the request says of the image. `id` may be a URL that holds a password."""

    id: str
    format: str
    checksums: tuple[Checksum, ...] = ()


def local_name(img_id: str) -> tuple[str, tuple[str, ...]]:
    """The name, and warnings; not for NO_IMAGE.

    Raises RequestError, which shows nothing behind a scheme that is none of ours: a URL may hold a password.
    """
    name = img_id
    warnings: tuple[str, ...] = ()
    for prefix in _PREFIXES:
        if img_id.startswith(prefix):
            name = img_id.removeprefix(prefix)
    if img_id.startswith("file://"):
        warnings = (f"img_id {img_id!r}: file:// is deprecated, write {'local://' + name!r}",)
    if name == img_id and ":" in name:
        scheme = shown(img_id.partition(":")[0])
        raise RequestError(f"OS parameter img_id: images of the kind {scheme} are not supported: give {SUPPORTED}")
    if not name or not name.isprintable():
        raise RequestError(f"OS parameter img_id: {shown(img_id)} is not a file name: give {SUPPORTED}")
    return name, warnings
