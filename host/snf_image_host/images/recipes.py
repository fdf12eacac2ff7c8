# SPDX-License-Identifier: GPL-2.0-or-later
"""img_format and the first bytes of an image -> Recipe: how it becomes the bytes of a disk, or why it must not.

The format is told, never guessed; the bytes have to agree. A raw image that begins with another container's header is
refused, because the next tool that guesses formats would follow what the header says (CVE-2026-24708). What could be
taken for two things is refused as well: one of them is hidden in the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from snf_image_host.images.disk_heads import (
    contents,
    gpt_sector_size,
    is_boot_sector,
    is_cd,
    is_ext,
    is_ntfs,
    is_partitioned,
    marks_of_a_disk,
)
from snf_image_host.images.formats import Kind, Wrapping, wrappers
from snf_image_shared.errors import ImageError

SMALLEST = 512  # bytes: less cannot even hold a boot sector
AUTO = "auto"


class Container(StrEnum):
    """In what the bytes of the disk are wrapped; the values are QEMU's names."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHDX = "vhdx"
    VDI = "vdi"


class Compression(StrEnum):
    """How an image is compressed as a whole; the values are the programs' names."""

    GZIP = "gzip"
    XZ = "xz"
    BZIP2 = "bzip2"
    ZSTD = "zstd"
    LZ4 = "lz4"


@dataclass(frozen=True)
class Recipe:
    """What is done with the image's bytes, from the outside in."""

    compression: Compression | None = None
    container: Container = Container.RAW


def recipe_for(img_format: str, head: bytes, name: str) -> Recipe:
    """The recipe for an image of that format that begins with `head` (HEAD bytes, or all of it if it has fewer).

    What is inside of a compressed image is not known yet: check_plain() is for that. With `auto` it is taken for a raw
    disk. Raises ImageError, beginning with `name`, if the content does not agree.
    """
    kind = _only_kind(head, name)
    if kind is None:
        _check_raw(img_format, head, name)
        return Recipe()
    wanted = _container_of(img_format)
    if kind.name in set(Compression):
        return Recipe(Compression(kind.name), wanted or Container.RAW)
    if wanted is Container.RAW:
        raise ImageError(f"{name} is not a plain disk image, it is {kind.text}: {_cure(kind)}")
    if kind.name == wanted or (img_format == AUTO and kind.name in set(Container)):
        return Recipe(container=Container(kind.name))
    what = "is of no format that is known here" if img_format == AUTO else f"does not look like {img_format}"
    raise ImageError(f"{name} {what}, it is {kind.text}: {_cure(kind)}")


def check_plain(img_format: str, head: bytes, name: str = "(decompressed)") -> None:
    """Raise ImageError unless `head`, with which the decompressed image begins, is what a compressed one may hold.

    `head` is as for recipe_for(). One level of compression is taken off, and `auto` finds nothing but a disk there. As
    it is, `name` completes the sentence that the image's own name begins.
    """
    recipe = recipe_for(img_format, head, name)
    if recipe.compression:
        raise ImageError(f"{name} is compressed once more ({recipe.compression}): publish it compressed once, or not")
    if img_format == AUTO and recipe.container is not Container.RAW:
        raise ImageError(f"{name} is no disk but {recipe.container}: say img_format={recipe.container}")


def _only_kind(head: bytes, name: str) -> Kind | None:
    """How the disk is wrapped; None for a raw one. Raises ImageError if the bytes could be taken for two things."""
    kinds = wrappers(head)
    if not kinds:
        return None
    marks = [f"it has {mark}" for mark in _marks(kinds[0], head)]
    if len(kinds) > 1 or marks:
        found = " and ".join([*(f"it is {kind.text}" for kind in kinds), *marks])
        raise ImageError(f"{name} has multiple formats ({found}), so one may hide in the other: make it anew")
    return kinds[0]


def _marks(kind: Kind, head: bytes) -> tuple[str, ...]:
    """What `head` has of a disk. In a compressed stream two bytes are there by chance sooner or later."""
    match kind.wrapping:
        case Wrapping.CONTAINER:
            return marks_of_a_disk(head)
        case Wrapping.COMPRESSION:
            return contents(head)
        case Wrapping.OTHER:
            return ()


def _container_of(img_format: str) -> Container | None:
    """The container that the format names: RAW for the formats of disks, None for `auto`."""
    if img_format == AUTO:
        return None
    return Container(img_format) if img_format in set(Container) else Container.RAW


def _cure(kind: Kind) -> str:
    supported = kind.name in set(Container)
    return f"say img_format={kind.name} if it is to be that" if supported else kind.cure


def _check_raw(img_format: str, head: bytes, name: str) -> None:
    """Raise ImageError unless the raw bytes are what the format says."""
    if len(head) < SMALLEST:
        what = "is empty" if not head else f"has only {len(head)} bytes"
        raise ImageError(f"{name} {what}: publish the whole image again")
    _check_hidden(head, name)
    match img_format:
        case "diskdump":
            _check_disk(head, name)
        case "extdump" if not is_ext(head) or is_partitioned(head):
            raise _not_that(img_format, "an ext2, ext3 or ext4 file system", head, name)
        case "ntfsdump" if not is_ntfs(head) or is_partitioned(head):
            raise _not_that(img_format, "an NTFS file system", head, name)
        case "extdump" | "ntfsdump":
            return
        case _ if img_format == AUTO:
            if not is_partitioned(head) or is_cd(head):
                raise ImageError(
                    f"{name} is nothing that is certain by its first bytes ({_described(head)}): say "
                    "img_format=diskdump if it is a whole disk, extdump or ntfsdump for a file system"
                )
            _check_disk(head, name)
        case _:
            raise ImageError(
                f"{name} does not look like {img_format}, it is raw ({_described(head)}): "
                "say img_format=diskdump if it is a disk, or publish the image again"
            )


def _check_hidden(head: bytes, name: str) -> None:
    """Without partitions that they could lie in, there is one file system."""
    found = contents(head)
    if len(found) > 1 and not is_partitioned(head):
        raise ImageError(
            f"{name} has multiple formats ({' and '.join(found)}), so one may hide in the other: make it anew"
        )


def _check_disk(head: bytes, name: str) -> None:
    """A disk may begin with a file system, and hold anything; it is refused for what cannot boot."""
    sector_size = gpt_sector_size(head)
    if sector_size not in {None, 512}:
        raise ImageError(
            f"{name} has a partition table for sectors of {sector_size} bytes, but an instance's disk has 512: "
            "publish an image that was made on a disk with 512-byte sectors"
        )
    # A hybrid one is a disk as well, and has a boot sector of its own for that.
    if is_cd(head) and not is_boot_sector(head):
        raise ImageError(
            f"{name} is a CD that does not boot from a disk: give it to the instance as a CD "
            "(hypervisor parameter cdrom_image_path), or make it hybrid with isohybrid"
        )


def _not_that(img_format: str, wanted: str, head: bytes, name: str) -> ImageError:
    cure = "say img_format=diskdump" if is_partitioned(head) else "name its format, or publish the image again"
    return ImageError(f"{name} does not look like {img_format}, {wanted} alone: {_described(head)}; {cure}")


def _described(head: bytes) -> str:
    if found := contents(head):
        return f"it has {' and '.join(found)}"
    return "it begins with zeros" if not any(head) else "it begins with nothing that is known here"
