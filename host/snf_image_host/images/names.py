# SPDX-License-Identifier: GPL-2.0-or-later
"""What the request says of the image, and img_id -> the name of a file below IMAGE_DIR. Pure: nothing is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snf_image_host.images.checksum import Checksum
from snf_image_host.parameters.faults import shown
from snf_image_shared.errors import RequestError

NO_IMAGE = "null"
DUMPS: Mapping[str, str] = {"extdump": "linux", "ntfsdump": "windows"}  # formats that are one file system, and OSFAMILY
SUPPORTED = "'null', a URL, or a file below IMAGE_DIR as 'name', 'directory/name' or 'local://name'"
_PREFIXES = ("local://", "file://")


@dataclass(frozen=True)
class WantedImage:
    """What the request says of the image. `id` may be a URL that holds a password."""

    id: str
    format: str
    checksums: tuple[Checksum, ...] = ()


def is_local(img_id: str) -> bool:
    """Whether it has the form of the name of a file below IMAGE_DIR; what is wrong with that, local_name() says."""
    return img_id.startswith(_PREFIXES) or ":" not in img_id


def unknown_kind(img_id: str) -> RequestError:
    """The error for an image that no source takes. It shows nothing behind the scheme: a URL may hold a password."""
    scheme = shown(img_id.partition(":")[0])
    return RequestError(
        f"OS parameter img_id: nothing here has images of the kind {scheme}: give {SUPPORTED}; "
        "or install a program for them"
    )


def local_name(img_id: str) -> tuple[str, tuple[str, ...]]:
    """The name, and warnings; not for NO_IMAGE.

    Raises RequestError.
    """
    name = img_id
    warnings: tuple[str, ...] = ()
    for prefix in _PREFIXES:
        if img_id.startswith(prefix):
            name = img_id.removeprefix(prefix)
    if img_id.startswith("file://"):
        warnings = (f"img_id {img_id!r}: file:// is deprecated, write {'local://' + name!r}",)
    if not is_local(img_id):
        raise unknown_kind(img_id)
    if not name or not name.isprintable():
        raise RequestError(f"OS parameter img_id: {shown(img_id)} is not a file name: give {SUPPORTED}")
    return name, warnings
