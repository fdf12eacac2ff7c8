# SPDX-License-Identifier: GPL-2.0-or-later
"""Properties and hypervisor parameters -> the layout of a disk that the helper divides, for images that are no disk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TypeVar

from snf_image_host.parameters.faults import shown
from snf_image_shared.deployment import ESP_SIZE, FILE_SYSTEMS, BootMode, Layout, TableType
from snf_image_shared.errors import RequestError
from snf_image_shared.layouts import MIB, MSDOS_REACH

Word = TypeVar("Word", bound=StrEnum)
_SMALLEST_ESP = 64  # MiB: FAT32 has 65525 clusters of 512 bytes at least
_SWAP_PARTITION = re.compile(r"[0-9]+:[0-9]+")  # a value of the property SWAP
_NO_KERNEL = frozenset({"", "/bin/false"})  # the latter is instance-image's word for a guest that starts itself


class Features(StrEnum):
    """The values of FILESYSTEM_FEATURES: what old guests read, or what the helper's mkfs makes by itself."""

    CONSERVATIVE = "conservative"
    CURRENT = "current"


def layout_from(properties: Mapping[str, str], size: int, kernel_path: str) -> Layout:
    """The layout for a disk of `size` bytes as the properties ask for it. Raises RequestError, a line for each fault.

    `kernel_path` is Ganeti's hypervisor parameter: with one the guest has no boot loader.
    """
    wanted = _Wanted(properties)
    boot_mode = wanted.word("BOOT_MODE", BootMode, BootMode.BIOS)
    needs_gpt = size > MSDOS_REACH * MIB or boot_mode is BootMode.UEFI
    features = wanted.word("FILESYSTEM_FEATURES", Features, Features.CONSERVATIVE)
    layout = Layout(
        table=wanted.word("PARTITION_TABLE", TableType, TableType.GPT if needs_gpt else TableType.MSDOS),
        boot_mode=boot_mode,
        filesystem=wanted.file_system(),
        boot=wanted.mib("BOOT_SIZE"),
        swap=wanted.mib("SWAP_SIZE"),
        esp=wanted.mib("ESP_SIZE") or ESP_SIZE,
        has_loader=kernel_path in _NO_KERNEL,
        conservative=features is Features.CONSERVATIVE,
    )
    if layout.esp < _SMALLEST_ESP:
        wanted.faults.append(f"property ESP_SIZE: {layout.esp} MiB are too few for FAT32; give {_SMALLEST_ESP} or more")
    wanted.faults += _not_for_archives(wanted.texts)
    if wanted.faults:
        raise RequestError(*wanted.faults)
    return layout


def check_layout(properties: Mapping[str, str]) -> None:
    """Whether the properties ask for a layout at all, whatever the disk. Raises RequestError as layout_from()."""
    layout_from(properties, 0, "")


def numbered_as_instance_image(kernel_path: str, boot: int, swap: int) -> dict[str, str]:
    """BOOT_SIZE and SWAP_SIZE for instance-image's four layouts: no /boot where a kernel is named, be it /bin/false.

    `boot` and `swap` in MiB, 0 for no swap.
    """
    return {"BOOT_SIZE": "0" if kernel_path else str(boot), "SWAP_SIZE": str(swap)}


def _not_for_archives(texts: Mapping[str, str]) -> Iterator[str]:
    """What is asked for and only a disk image can have."""
    if _SWAP_PARTITION.fullmatch(texts.get("SWAP", "")):
        yield (
            "property SWAP: an image that is no disk gets its swap partition from SWAP_SIZE, in MiB; "
            "SWAP may be file:<MiB> or the letter of another disk there"
        )
    if texts.get("CLOUD_INIT_SEED", "").lower() == "partition":
        yield "property CLOUD_INIT_SEED: the guest of an image that is no disk has its seed in its root; leave it out"
    if texts.get("OSFAMILY", "").lower() not in {"", "linux"}:
        yield f"property OSFAMILY: {shown(texts['OSFAMILY'])} is nothing that a tarball or dump can hold; leave it out"


class _Wanted:
    """The properties by upper-case name, with all that is wrong with those that were asked for."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        self.texts = {name.upper(): value.strip() for name, value in properties.items()}
        self.faults: list[str] = []

    def word(self, name: str, kind: type[Word], default: Word) -> Word:
        text = self.texts.get(name, "")
        try:
            return kind(text.lower()) if text else default
        except ValueError:
            self.faults.append(f"property {name}: {shown(text)} is not one of {', '.join(kind)}")
            return default

    def file_system(self) -> str:
        text = self.texts.get("FILESYSTEM", "") or "ext4"
        if text.lower() not in FILE_SYSTEMS:
            self.faults.append(f"property FILESYSTEM: {shown(text)} is not one of {', '.join(FILE_SYSTEMS)}")
        return text.lower()

    def mib(self, name: str) -> int:
        """A number of MiB, 0 if it is not given."""
        text = self.texts.get(name, "") or "0"
        if not text.isascii() or not text.isdecimal() or len(text) > 9:
            self.faults.append(f"property {name}: {shown(text)} is not a number of MiB (there are {MIB} bytes in one)")
            return 0
        return int(text)
