# SPDX-License-Identifier: GPL-2.0-or-later
"""Properties -> the layout of a disk, with every fault named before anything is written."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from snf_image_host.parameters.layout import layout_from, numbered_as_instance_image
from snf_image_shared.deployment import BootMode, Layout, TableType
from snf_image_shared.errors import RequestError

GIB = 1 << 30


def layout(size: int = 10 * GIB, kernel_path: str = "", /, **properties: str) -> Layout:
    return layout_from(properties, size, kernel_path)


def faults(properties: Mapping[str, str]) -> tuple[str, ...]:
    with pytest.raises(RequestError) as caught:
        layout_from(properties, 10 * GIB, "")
    return caught.value.lines


def test_without_properties_one_conservative_ext4_has_the_disk() -> None:
    assert layout() == Layout(TableType.MSDOS, BootMode.BIOS, "ext4", 0, 0, 260, has_loader=True, conservative=True)


@pytest.mark.image_row(36)
def test_each_property_is_heeded_in_any_case_of_letters() -> None:
    asked = {
        "filesystem": "XFS",
        "PARTITION_TABLE": "GPT",
        "Boot_Mode": "Uefi",
        "BOOT_SIZE": "500",
        "SWAP_SIZE": " 1024 ",
        "ESP_SIZE": "512",
        "FILESYSTEM_FEATURES": "current",
    }
    assert layout_from(asked, GIB, "") == Layout(
        TableType.GPT, BootMode.UEFI, "xfs", 500, 1024, 512, has_loader=True, conservative=False
    )


@pytest.mark.image_row(35)
def test_gpt_is_chosen_where_msdos_does_not_reach_or_firmware_expects_it_unless_somebody_chose() -> None:
    assert layout(2048 * GIB).table is TableType.MSDOS
    assert layout(3072 * GIB).table is TableType.GPT
    assert layout(BOOT_MODE="uefi").table is TableType.GPT
    assert layout(BOOT_MODE="uefi", PARTITION_TABLE="msdos").table is TableType.MSDOS


@pytest.mark.image_row(76)
def test_a_guest_brings_its_loader_unless_the_hypervisor_brings_a_kernel() -> None:
    assert layout(GIB, "").has_loader
    assert layout(GIB, "/bin/false").has_loader
    assert not layout(GIB, "/boot/vmlinuz-3-kvmU").has_loader


@pytest.mark.image_row(26, 27)
@pytest.mark.parametrize(
    ("kernel_path", "swap", "expected"),
    [("", 128, (100, 128)), ("", 0, (100, 0)), ("/boot/k", 128, (0, 128)), ("/bin/false", 0, (0, 0))],
)
def test_instance_images_layouts_have_boot_where_no_kernel_is_named(
    kernel_path: str, swap: int, expected: tuple[int, int]
) -> None:
    found = layout_from(numbered_as_instance_image(kernel_path, 100, swap), GIB, kernel_path)
    assert (found.boot, found.swap) == expected


@pytest.mark.image_row(5)
def test_all_faults_are_told_at_once() -> None:
    asked = {
        "FILESYSTEM": "reiserfs",
        "PARTITION_TABLE": "bsd",
        "BOOT_MODE": "openfirmware",
        "BOOT_SIZE": "100M",
        "SWAP_SIZE": "-1",
        "ESP_SIZE": "33",
        "FILESYSTEM_FEATURES": "old",
        "SWAP": "2:512",
        "CLOUD_INIT_SEED": "partition",
        "OSFAMILY": "windows",
    }
    assert faults(asked) == (
        "property BOOT_MODE: 'openfirmware' is not one of bios, uefi",
        "property FILESYSTEM_FEATURES: 'old' is not one of conservative, current",
        "property PARTITION_TABLE: 'bsd' is not one of msdos, gpt",
        "property FILESYSTEM: 'reiserfs' is not one of ext2, ext3, ext4, xfs, btrfs",
        "property BOOT_SIZE: '100M' is not a number of MiB (there are 1048576 bytes in one)",
        "property SWAP_SIZE: '-1' is not a number of MiB (there are 1048576 bytes in one)",
        "property ESP_SIZE: 33 MiB are too few for FAT32; give 64 or more",
        "property SWAP: an image that is no disk gets its swap partition from SWAP_SIZE, in MiB; "
        "SWAP may be file:<MiB> or the letter of another disk there",
        "property CLOUD_INIT_SEED: the guest of an image that is no disk has its seed in its root; leave it out",
        "property OSFAMILY: 'windows' is nothing that a tarball or dump can hold; leave it out",
    )


@pytest.mark.parametrize("text", ["1e3", "٣", "0x10", "1" * 10, "1.5", "1 2"])
def test_a_size_is_decimal_digits(text: str) -> None:
    assert faults({"SWAP_SIZE": text})[0].startswith("property SWAP_SIZE: ")


@pytest.mark.parametrize("swap", ["file:512", "b"])
def test_other_kinds_of_swap_stay_possible(swap: str) -> None:
    assert layout(SWAP=swap) == layout()
