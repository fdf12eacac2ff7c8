# SPDX-License-Identifier: GPL-2.0-or-later
"""Properties and hypervisor parameters -> the layout of a disk that the helper divides, for images that are no disk."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from snf_image_host.parameters.faults import shown
from snf_image_shared.deployment import FILE_SYSTEMS, BootMode, Layout, TableType
from snf_image_shared.errors import RequestError
from snf_image_shared.layouts import MIB

Word = TypeVar("Word", bound=StrEnum)
_MBR_LIMIT = 2 << 40  # bytes that a table of 32-bit sector numbers reaches


def layout_from(properties: Mapping[str, str], size: int, kernel_path: str) -> Layout:
    """The layout for a disk of `size` bytes as the properties ask for it. Raises RequestError.

    `kernel_path` is Ganeti's hypervisor parameter: with one the guest has no boot loader.
    """
    wanted = {name.upper(): value.strip() for name, value in properties.items()}
    boot_mode = _word(wanted, "BOOT_MODE", BootMode, BootMode.BIOS)
    is_large = size > _MBR_LIMIT or boot_mode is BootMode.UEFI
    filesystem = wanted.get("FILESYSTEM", "ext4")
    if filesystem not in FILE_SYSTEMS:
        raise RequestError(f"property FILESYSTEM: {shown(filesystem)} is not one of {', '.join(FILE_SYSTEMS)}")
    return Layout(
        table=_word(wanted, "PARTITION_TABLE", TableType, TableType.GPT if is_large else TableType.MSDOS),
        boot_mode=boot_mode,
        filesystem=filesystem,
        boot=_size(wanted, "BOOT_SIZE"),
        swap=_size(wanted, "SWAP_SIZE"),
        has_loader=kernel_path in {"", "/bin/false"},
    )


def _word(wanted: Mapping[str, str], name: str, kind: type[Word], default: Word) -> Word:
    text = wanted.get(name, "").lower()
    try:
        return kind(text) if text else default
    except ValueError as error:
        raise RequestError(f"property {name}: {shown(text)} is not one of {', '.join(kind)}") from error


def _size(wanted: Mapping[str, str], name: str) -> int:
    text = wanted.get(name, "") or "0"
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise RequestError(f"property {name}: {shown(text)} is not a number of MiB (there are {MIB} bytes in one)")
    return int(text)
