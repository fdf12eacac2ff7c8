# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests unpacked from tarballs start at the first try, by each boot loader, firmware and layout, and are logged into.

`make test` boots one of them, `make test-guests` all; test_image_guests boots others of either firmware.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from guest_console import GuestConsole, Machine, boot
from images.archives import guest_tarball
from images.small_loaders import PROGRAMS, small_loaders_tarball, without
from provider import Instance, Provider

pytestmark = pytest.mark.vm

PASSWORD = "sesame"
OLD_UUID = "11111111-2222-3333-4444-555555555555"
ARGUMENTS = 'a.b=/dev/x&y c.d="e f" g.h=$i|j;k l.m=`n`'
DISK = 3 << 30
# What a template leaves that lived on another disk: its root, its swap, its volumes.
STALE = {
    "./etc/default/grub": f'GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX="root=UUID={OLD_UUID} resume=UUID={OLD_UUID} '
    'rd.lvm.lv=vg/root net.ifnames=0"\n',
    "./boot/grub/device.map": "(hd0) /dev/disk/by-id/ata-other\n",
    "./etc/fstab": f"UUID={OLD_UUID} / ext4 defaults 0 1\n",
}


@dataclass(frozen=True)
class Case:
    """`loader` is None for the tree with GRUB 2, else the only one that the other tree keeps."""

    name: str
    properties: Mapping[str, str]
    loader: str | None = None
    stale: Mapping[str, str] = field(default_factory=dict)
    kernel_path: str = ""
    in_ci: bool = False

    @property
    def uefi(self) -> bool:
        return self.properties.get("BOOT_MODE") == "uefi"


CASES = (
    Case(
        "msdos-ext4-boot-swap", {"FILESYSTEM": "ext4", "BOOT_SIZE": "200", "SWAP_SIZE": "128"}, stale=STALE, in_ci=True
    ),
    Case("uefi-btrfs", {"FILESYSTEM": "btrfs", "BOOT_MODE": "uefi", "BOOT_SIZE": "0"}),
    Case("gpt-bios-xfs", {"FILESYSTEM": "xfs", "PARTITION_TABLE": "gpt", "BOOT_SIZE": "0"}),
    Case("extlinux", {"FILESYSTEM": "ext4", "BOOT_SIZE": "200"}, loader="extlinux"),
    Case("grub-legacy", {"FILESYSTEM": "ext3", "BOOT_SIZE": "200", "SWAP_SIZE": "128"}, loader="grub-legacy"),
    Case("systemd-boot", {"FILESYSTEM": "ext4", "BOOT_MODE": "uefi", "BOOT_SIZE": "0"}, loader="systemd-boot"),
    Case("kernel-path", {"FILESYSTEM": "ext4", "SWAP_SIZE": "128"}, kernel_path="/boot/vmlinuz"),
)


@pytest.mark.image_row(76, 77, 78, 79, 80)
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=() if case.in_ci else pytest.mark.guests) for case in CASES]
)
def test_a_guest_from_a_tarball_starts_by_its_own_boot_loader(
    provider: Provider, cache: Path, tmp_path: Path, case: Case
) -> None:
    image = provider.images / f"{case.name}.tar"
    tarball(case, cache, image)
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(DISK)
    properties = {**case.properties, "CONSOLE": "serial,38400"}
    if not case.kernel_path:
        properties["KERNEL_ARGS"] = ARGUMENTS
    parameters = {"img_id": image.name, "img_format": "tarball", "img_passwd": PASSWORD}
    parameters["img_properties"] = json.dumps(properties)
    done = provider.run(
        Instance("boot.example.com", (disk,), parameters=parameters), "create", INSTANCE_HV_kernel_path=case.kernel_path
    )
    image.unlink()
    assert done.code == 0, done.log

    with boot(disk, machine(case, cache, tmp_path)) as guest:
        guest.login("root", PASSWORD)
        check(guest, case)
        guest.poweroff()


def tarball(case: Case, cache: Path, to: Path) -> None:
    """The case's archive at `to`."""
    if case.loader:
        others = [name for loader, names in PROGRAMS.items() if loader != case.loader for name in names]
        without(small_loaders_tarball(cache), others, to)
        return
    without(guest_tarball("trixie", cache), case.stale, to)
    with tarfile.open(to, "a", format=tarfile.PAX_FORMAT) as archive:
        for name, text in case.stale.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def machine(case: Case, cache: Path, scratch: Path) -> Machine:
    """Started by its own loader; or with the kernel that Ganeti would have on the node."""
    if not case.kernel_path:
        return Machine(uefi=case.uefi, name=case.name)
    with tarfile.open(guest_tarball("trixie", cache)) as archive:
        for name in ("vmlinuz", "initrd"):
            member = next(each for each in archive if each.name.startswith(f"./boot/{name}"))
            content = archive.extractfile(member)
            assert content
            (scratch / name).write_bytes(content.read())
    given = ("-kernel", str(scratch / "vmlinuz"), "-initrd", str(scratch / "initrd"))
    return Machine(name=case.name, cards=(*given, "-append", "root=/dev/vda2 ro console=ttyS0,38400"))


def check(guest: GuestConsole, case: Case) -> None:
    """What the booted guest says of itself."""
    root = guest.run("findmnt -no UUID /").output
    line = guest.run("cat /proc/cmdline").output
    assert guest.run("findmnt -no FSTYPE /").output == case.properties["FILESYSTEM"]
    assert guest.run("stty -F /dev/ttyS0 speed").output == "38400"
    assert guest.failed_units() == ""
    assert guest.run("test -d /sys/firmware/efi").status == (0 if case.uefi else 1)
    assert guest.run("findmnt /boot").status == (0 if case.properties.get("BOOT_SIZE", "0") != "0" else 1)
    assert guest.run("swapon --noheadings --show=type").output == (
        "partition" if "SWAP_SIZE" in case.properties else ""
    )
    if case.kernel_path:
        return
    # GRUB puts quotes around what has blanks, the kernel takes them away again: both say the same.
    words = line.replace('"c.d=e f"', 'c.d="e f"')
    assert all(
        word in words for word in ("a.b=/dev/x&y", 'c.d="e f"', "g.h=$i|j;k", "l.m=`n`", "console=ttyS0,38400")
    ), line
    assert f"root=UUID={root}" in line
    assert OLD_UUID not in line
    if case.stale:
        assert "net.ifnames=0" in line
        assert "rd.lvm.lv" not in line
        assert guest.run(f"grep -rl {OLD_UUID} /boot/grub /etc").output == ""
        # The next kernel's menu says the same: nothing was written into the menu alone.
        assert guest.run("update-grub", timeout=600).status == 0
        again = guest.run("grep -m1 -P '^\\tlinux' /boot/grub/grub.cfg").output
        assert [
            again.count(word) for word in ("a.b=/dev/x&y", "c.d=e f", "g.h=$i|j;k", "l.m=`n`", "console=ttyS0,38400")
        ] == [1] * 5
