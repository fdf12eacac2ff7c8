# SPDX-License-Identifier: GPL-2.0-or-later
"""How ganeti-instance-image calls the files of an image, and which of them are there.

Source: instance-image 0.7.3, create. A tarball may be compressed in any way that its content tells; what is found under
another extension than .tar.gz is taken when there is none of that name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from snf_image_host.images.names import WantedImage, local_name
from snf_image_host.images.sources import open_below
from snf_image_host.instance_image.settings import ImageSettings, ImageType
from snf_image_shared.deployment import Form
from snf_image_shared.errors import ConfigurationError, ImageError

_ROOT, _BOOT = "-root.dump", "-boot.dump"
_LOCAL = "local://"  # or a colon in a name would be taken for a scheme
EXTENSIONS: Mapping[ImageType, tuple[str, ...]] = {
    ImageType.TARBALL: (".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2", ".tar.lz4", ".tar"),
    ImageType.DUMP: (_ROOT,),
    ImageType.QEMU: (".img",),
    ImageType.RAW: (".raw",),
    ImageType.QCOW2: (".qcow2",),
}
# How img_format calls what a type is. `qemu` is whatever its first bytes say, as far as that is safe.
FORMATS: Mapping[ImageType, str] = {
    ImageType.TARBALL: Form.TARBALL,
    ImageType.DUMP: Form.DUMP,
    ImageType.QEMU: "auto",
    ImageType.RAW: "diskdump",
    ImageType.QCOW2: "qcow2",
}


def type_of(img_format: str) -> ImageType:
    """The type of an image whose img_format a user may have given; a disk that IMAGE_TYPE has no word for is `qemu`."""
    return next((kind for kind, name in FORMATS.items() if name == img_format), ImageType.QEMU)


def image_id(image: ImageSettings) -> str:
    """The img_id of the image that the settings name. Raises ImageError if it is not in IMAGE_DIR."""
    if not image.image_name:
        raise ConfigurationError("IMAGE_NAME is not set; set it in the variant, or give the OS parameter img_id")
    extensions = EXTENSIONS[image.image_type]
    names = [f"{image.image_name}-{image.arch}{extension}" for extension in extensions]
    if not image.arch:
        names += [f"{image.image_name}{extension}" for extension in extensions]
    if image.image_url:
        return f"{image.image_url.rstrip('/')}/{quote(names[0])}"
    for name in (_resolved(image, name) for name in names):
        if _is_there(image, name):
            return _LOCAL + name
    raise _missing(image, names[0])


def boot_image(root: WantedImage, image: ImageSettings) -> WantedImage | None:
    """The dump of /boot that belongs to that of the root; None where the name does not tell.

    Raises ImageError if it is not in IMAGE_DIR.
    """
    if root.format != Form.DUMP or not root.id.endswith(_ROOT):
        return None
    found = root.id.removesuffix(_ROOT) + _BOOT
    if root.id.startswith(_LOCAL):
        name = _resolved(image, local_name(found)[0])
        if not _is_there(image, name):
            raise _missing(image, name)
        found = _LOCAL + name
    return WantedImage(found, root.format)


def _resolved(image: ImageSettings, name: str) -> str:
    """What a link of the administrator's in IMAGE_DIR leads to, below it too; any other name as it is.

    The name is out of his files. One that a user gives (img_id) may pass no link.
    """
    directory = Path(os.path.realpath(image.image_dir))
    found = Path(os.path.realpath(directory / name))
    is_link = (directory / name).is_symlink() and found.is_relative_to(directory)
    return str(found.relative_to(directory)) if is_link else name


def _is_there(image: ImageSettings, name: str) -> bool:
    fd = open_below(image.image_dir, name, f"image {name!r}")
    if fd is not None:
        os.close(fd)
    return fd is not None


def _missing(image: ImageSettings, name: str) -> ImageError:
    cure = "put it there, or correct IMAGE_DIR, IMAGE_NAME, ARCH or IMAGE_TYPE"
    if name.endswith(_BOOT):
        cure = "put it there; only with the hypervisor parameter kernel_path it is not needed"
    return ImageError(f"Can't find image file: {image.image_dir / name}; {cure}")
