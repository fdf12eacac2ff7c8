# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of create that opens an image and puts it on a disk, with the real settings and the real processes."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path

from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import check_fits, copy
from snf_image_host.disks.targets import EDGE, open_target
from snf_image_host.images.checksum import Checksum
from snf_image_host.images.decoder_process import OWN_UIDS
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import open_image
from snf_image_host.progress import Progress
from snf_image_host.vm.jail import FIRST_UID

MIB = 1 << 20
GARBAGE = b"\xa5"


def deploy(directory: Path, disk: Path, img_format: str = "diskdump", *checksums: str) -> None:
    """Put the file `image` of the directory onto the disk."""
    wanted = WantedImage("image", img_format, tuple(map(Checksum.parse, checksums)))
    with (
        Progress.start("inst", "", log=io.StringIO()) as progress,
        open_image(wanted, Settings(image_dir=directory), progress) as image,
        open_target(disk) as target,
    ):
        assert image
        check_fits(image, target)
        copy(image, target, progress)


def make_disk(directory: Path, size: int) -> Path:
    """A disk full of another tenant's bytes."""
    (directory / "disk").write_bytes(GARBAGE * size)
    return directory / "disk"


def on_disk(image: bytes, size: int, block: int = 1) -> bytes:
    """What is on a disk of garbage after the image, which is padded with zeros up to a multiple of `block`."""
    disk = bytearray(GARBAGE * size)
    disk[:EDGE] = bytes(min(EDGE, size))
    disk[-EDGE:] = bytes(min(EDGE, size))
    padded = image + bytes(-len(image) % block)
    disk[: len(padded)] = padded
    return bytes(disk)


def boots(disk: Path) -> bool:
    """Whether there is anything at either end of the disk that firmware could find."""
    content = disk.read_bytes()
    return any(content[:EDGE]) or any(content[-EDGE:])


def decoders(creator: int | None = None) -> list[int]:
    """The processes, but for those that make the jail, that decode an image for the process `creator` (this one)."""
    uid = str(FIRST_UID + OWN_UIDS + (creator or os.getpid()))
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                status = dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines() if ":" in line)
                if status["Uid"].split() == [uid] * 4 and status["State"].split()[0] not in "ZX":
                    found.append(int(entry.name))
    return found
