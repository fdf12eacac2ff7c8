# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees that become systems of a new disk: fstab, mount points and the ESP, also where the tree is hostile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.deployment.file_systems import Made
from snf_image_helper.deployment.fstab_writing import Line, Surroundings, fstab_of
from snf_image_helper.deployment.furnishing import furnish
from snf_image_helper.deployment.other_disks import OtherDisks
from snf_image_helper.deployment.tree import Tree
from snf_image_helper.disks.disk import Disk
from snf_image_shared.errors import GuestError
from snf_image_shared.layouts import Role
from unit.helper.disk_images import Listener, attached, sh, table_of
from unit.helper.guest_trees import guest_in, put

ROOT = Made(Role.ROOT, "/dev/vda3", "ext4", "11111111-1111-1111-1111-111111111111")
BOOT = Made(Role.BOOT, "/dev/vda1", "ext4", "22222222-2222-2222-2222-222222222222")
SWAP = Made(Role.SWAP, "/dev/vda2", "swap", "33333333-3333-3333-3333-333333333333")
ESP = Made(Role.ESP, "/dev/vda4", "vfat", "4444-4444")
ALONE = Surroundings(has_file=lambda path: False, has_device=lambda device: False)
HEADER = "# From snf-image; the image's own lines stand behind these.\n"
ROOT_LINES = f"UUID={ROOT.uuid} / ext4 defaults 0 1\nproc /proc proc defaults 0 0\n"


def furnished(place: Path, files: Mapping[str, str], *made: Made) -> tuple[str, Listener]:
    """The fstab that a tree of these files gets. The file systems are directories beside one another."""
    listener = Listener()
    root, boot, esp = (place / name for name in ("root", "boot", "esp"))
    boot.mkdir(exist_ok=True)
    esp.mkdir(exist_ok=True)
    guest = guest_in(root, files)
    guest.disk.devices = ("/dev/vda",)
    roles = {each.role for each in made}
    tree = Tree(str(root), str(boot) if Role.BOOT in roles else None, str(esp) if Role.ESP in roles else None)
    with guest:
        furnish(guest.disk, tree, made, listener.reporter)
        return guest.read_text("/etc/fstab"), listener


def beneath(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


@pytest.mark.root
@pytest.mark.image_row(38)
def test_the_lines_of_instance_image_come_first(tmp_path: Path) -> None:
    files = {"/usr/lib/systemd/systemd": "", "/etc/debian_version": "12.1\n"}
    text, listener = furnished(tmp_path, files, BOOT, SWAP, ROOT)
    assert text == (
        f"{HEADER}{ROOT_LINES}UUID={BOOT.uuid} /boot ext4 defaults 1 2\nUUID={SWAP.uuid} swap swap defaults 0 0\n"
    )
    assert listener.warnings == []


@pytest.mark.root
@pytest.mark.image_row(38)
@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        (
            "/etc/redhat-release",
            "tmpfs /dev/shm tmpfs defaults 0 0\n"
            "devpts /dev/pts devpts gid=5,mode=620 0 0\n"
            "sysfs /sys sysfs defaults 0 0\n",
        ),
        ("/etc/gentoo-release", "shm /dev/shm tmpfs nodev,nosuid,noexec 0 0\n"),
        ("/etc/debian_version", ""),
    ],
)
def test_old_guests_get_what_their_start_scripts_mount_and_those_with_systemd_do_not(
    tmp_path: Path, marker: str, expected: str
) -> None:
    files = {marker: "CentOS release 6.10 (Final)\n", "/sbin/init": "an ELF"}
    assert furnished(tmp_path, files, ROOT)[0] == f"{HEADER}{ROOT_LINES}{expected}"
    (tmp_path / "root/sbin/init").unlink()
    (tmp_path / "root/etc/fstab").unlink()
    put(tmp_path / "root", {"/usr/lib/systemd/systemd": ""})
    assert furnished(tmp_path, files | {"/sbin/init": ""}, ROOT)[0] == f"{HEADER}{ROOT_LINES}{expected}"
    (tmp_path / "root/sbin/init").unlink()
    (tmp_path / "root/etc/fstab").unlink()
    assert furnished(tmp_path, {}, ROOT)[0] == f"{HEADER}{ROOT_LINES}"


@pytest.mark.root
@pytest.mark.image_row(38)
def test_lines_that_have_nothing_to_do_with_the_former_disk_stay_as_they_are(tmp_path: Path) -> None:
    kept = (
        "# where the homes are",
        "nas:/home  /home nfs  rw,hard 0 0",
        "tmpfs /tmp tmpfs size=1g 0 0",
        "/srv/a /srv/b none bind",
        "UUID=0000-AAAA /mnt/stick vfat nofail 0 0",
        "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0",
        "/swap.img none swap sw 0 0",
        "//nas/share\\040one /mnt/share cifs credentials=/etc/cred 0 0",
        "/dev/vdb1 /mnt/scratch ext4 defaults,nofail 0 2",
    )
    replaced = (
        "UUID=99999999-9999-9999-9999-999999999999 / xfs defaults 0 0",
        "LABEL=/boot /boot ext3 defaults 1 2",
        "PARTUUID=1-2 /boot/efi vfat umask=0077 0 1",
        "/dev/sda5 none swap sw 0 0",
        "proc /proc proc nodev,noexec,nosuid 0 0",
    )
    lines = [line for pair in zip(replaced, kept, strict=False) for line in pair] + list(kept[len(replaced) :])
    text, listener = furnished(tmp_path, {"/etc/fstab": "\n".join((*lines, "")), "/swap.img": ""}, ROOT)
    assert text == HEADER + ROOT_LINES + "\n".join((*kept, ""))
    assert listener.warnings == []


@pytest.mark.root
@pytest.mark.image_row(38)
def test_lines_for_disks_that_are_not_here_become_comments_and_are_told(tmp_path: Path) -> None:
    gone = (
        "/dev/mapper/vg-data /data ext4 defaults 0 2",
        "UUID=99999999-9999-9999-9999-999999999999 /home btrfs subvol=@home 0 0",
        "/swapfile none swap sw 0 0",
        "LABEL=x /mnt/y xfs defaults 0 0",
        "tank/srv /srv zfs defaults 0 0",
    )
    text, listener = furnished(tmp_path, {"/etc/fstab": "\n".join(("odd line", *gone, ""))}, ROOT)
    rest = ("# Cannot be read: odd line", *(f"# Not on this instance's disk: {line}" for line in gone), "")
    assert text == HEADER + ROOT_LINES + "\n".join(rest)
    assert listener.warnings == [
        "/etc/fstab: the image's disk for /data, /home, none and 2 more is not here; the lines are comments now"
    ]


@pytest.mark.image_row(38)
def test_an_imported_guest_keeps_the_lines_of_its_other_disks_which_follow_later() -> None:
    old = (
        "/dev/vdb1\t/data  ext4\tnoatime 0 2\nUUID=x /a xfs\nLABEL=b /b ext4 nofail\n"
        "/dev/sr0 /c udf noauto\n/dev/vda1 /boot ext3 defaults 1 2\n"
    )
    text, gone = fstab_of((Line("UUID=r", "/", "ext4"),), old, replace(ALONE, brings_disks=True))
    assert text == (
        f"{HEADER}UUID=r / ext4 defaults 0 0\n"
        "/dev/vdb1\t/data  ext4\tnoatime,nofail 0 2\nUUID=x /a xfs defaults,nofail\nLABEL=b /b ext4 nofail\n"
        "/dev/sr0 /c udf noauto\n"
    )
    assert gone == ()


@pytest.mark.root
@pytest.mark.image_row(38)
def test_lines_for_what_lies_on_the_instances_other_disks_stay(tmp_path: Path) -> None:
    uuid = "55555555-5555-5555-5555-555555555555"
    (tmp_path / "first").write_bytes(bytes(1 << 20))
    table_of(tmp_path / "second", "label: gpt\nstart=2048, size=8192\n", 16)
    for name in ("third", "empty"):
        (tmp_path / name).write_bytes(bytes(16 << 20))
    with attached(*(tmp_path / name for name in ("first", "second", "third", "empty"))) as disk:
        Disk(disk.devices[1:2]).reload()
        sh("mkfs.ext4", "-q", "-L", "the data", "-U", uuid, f"{disk.devices[1]}p1")
        sh("mkfs.ext2", "-q", "-L", "whole", disk.devices[2])
        others = OtherDisks(disk)
        here = [f"UUID={uuid.upper()}", "LABEL=the data", "LABEL=whole", f"/dev/disk/by-uuid/{uuid}"]
        here += ["/dev/vdb1", "/dev/sdb1", "/dev/xvdc"]
        assert [device for device in here if not others.has(device)] == []
        away = ["UUID=1-2", "LABEL=data", "/dev/vdb", "/dev/vdb2", "/dev/vdd", "/dev/vde", "/dev/vda1", "/dev/mapper/a"]
        assert [device for device in away if others.has(device)] == []
    around = Surroundings(lambda path: False, lambda device: device == "LABEL=d")
    text, gone = fstab_of((), 'LABEL="d" /d ext4 defaults 0 2\n', around)
    assert (text, gone) == (f'{HEADER}LABEL="d" /d ext4 defaults 0 2\n', ())


@pytest.mark.root
def test_what_was_written_once_is_written_the_same_from_itself(tmp_path: Path) -> None:
    files = {"/etc/fstab": "# mine\n\nnas:/x /x nfs defaults 0 0\n/dev/sdb1 /data ext4 defaults 0 0\nbroken\n"}
    first, _ = furnished(tmp_path, files, BOOT, SWAP, ROOT)
    assert furnished(tmp_path, {}, BOOT, SWAP, ROOT)[0] == first


def test_no_line_of_a_hostile_fstab_splits_into_another() -> None:
    hostile = "# a\x0bUUID=evil / ext4\u2028/dev/sdx / ext4\x85\n"
    text, _ = fstab_of((Line("UUID=x", "/", "ext4"),), hostile, ALONE)
    assert text.split("\n")[1:] == [
        "UUID=x / ext4 defaults 0 0",
        "# a\x0bUUID=evil / ext4\u2028/dev/sdx / ext4\x85",
        "",
    ]


def test_an_fstab_without_end_is_refused() -> None:
    with pytest.raises(GuestError, match="longer than 256 KiB"):
        fstab_of((), "#" * (1 << 18) + "\n#", ALONE)


@pytest.mark.root
@pytest.mark.image_row(95)
def test_links_in_the_tree_lead_nowhere_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    (root / "real/etc").mkdir(parents=True)
    (root / "etc").symlink_to("/real/etc")
    (root / "real/etc/fstab").symlink_to(f"../../../../../..{outside}/fstab")
    (root / outside.relative_to("/")).mkdir(parents=True)
    (root / "boot").symlink_to(outside)
    furnished(tmp_path, {}, ESP, ROOT)
    assert list(outside.iterdir()) == []
    inside = root / outside.relative_to("/")
    assert beneath(inside) == {"fstab", "efi"}
    assert f"UUID={ESP.uuid} /boot/efi vfat umask=0077 0 2\n" in (inside / "fstab").read_text()


@pytest.mark.root
def test_an_fstab_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    os.mkfifo(tmp_path / "root/etc/fstab")
    with pytest.raises(GuestError, match="/etc/fstab: is a FIFO where a regular file belongs"):
        furnished(tmp_path, {}, ROOT)


@pytest.mark.root
def test_directories_without_which_nothing_starts_are_made_where_the_archive_left_them_out(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/run").symlink_to("/var/run")
    furnished(tmp_path, {"/etc/x": ""}, BOOT, ROOT)
    modes = {
        name: (tmp_path / "root" / name).lstat().st_mode & 0o7777 for name in ("boot", "dev", "proc", "sys", "tmp")
    }
    assert modes == {"boot": 0o755, "dev": 0o755, "proc": 0o555, "sys": 0o555, "tmp": 0o1777}
    assert (tmp_path / "root/run").is_symlink()


@pytest.mark.root
@pytest.mark.parametrize(
    ("files", "boot", "expected"),
    [
        ({}, (), "/boot/efi"),
        ({"/etc/fstab": "UUID=AAAA-BBBB /efi vfat defaults 0 2\n", "/boot/efi/x": ""}, (), "/efi"),
        ({"/etc/fstab": "UUID=AAAA-BBBB /boot vfat defaults 0 2\n"}, (), "/boot"),
        ({"/etc/fstab": "UUID=AAAA-BBBB /boot vfat defaults 0 2\n"}, (BOOT,), "/boot/efi"),
        ({"/boot/loader/entries/a.conf": "", "/boot/EFI/systemd/systemd-bootx64.efi": ""}, (), "/boot"),
        ({"/efi/x": ""}, (), "/efi"),
        ({"/efi/x": "", "/boot/efi/y": ""}, (BOOT,), "/boot/efi"),
    ],
)
def test_the_esp_is_mounted_where_the_guest_expects_it(
    tmp_path: Path, files: dict[str, str], boot: tuple[Made, ...], expected: str
) -> None:
    text, _ = furnished(tmp_path, files, *boot, ESP, ROOT)
    assert [line for line in text.splitlines() if " vfat " in line] == [
        f"UUID={ESP.uuid} {expected} vfat umask=0077 0 2"
    ]


@pytest.mark.root
def test_what_the_archive_has_for_the_esp_is_moved_there_but_for_what_fat_has_no_place_for(tmp_path: Path) -> None:
    files = {
        "/boot/efi/EFI/debian/grubx64.efi": "loader",
        "/boot/efi/EFI/BOOT/BOOTX64.EFI": "shim",
        "/boot/vmlinuz": "",
    }
    put(tmp_path / "root", files)
    (tmp_path / "root/boot/efi/EFI/link").symlink_to("/etc/shadow")
    _, listener = furnished(tmp_path, {}, ESP, ROOT)
    assert (tmp_path / "esp/EFI/debian/grubx64.efi").read_text() == "loader"
    assert beneath(tmp_path / "esp") == {
        "EFI",
        "EFI/BOOT",
        "EFI/BOOT/BOOTX64.EFI",
        "EFI/debian",
        "EFI/debian/grubx64.efi",
    }
    assert beneath(tmp_path / "root/boot") == {"vmlinuz", "efi"}
    assert listener.warnings == ["1 entries have no place on the EFI system partition, as FAT has no such: EFI/link"]


@pytest.mark.root
def test_with_a_separate_boot_the_esp_is_below_it(tmp_path: Path) -> None:
    put(tmp_path / "boot", {"/efi/EFI/BOOT/BOOTX64.EFI": "shim", "/vmlinuz": ""})
    furnished(tmp_path, {"/boot/hidden": ""}, BOOT, ESP, ROOT)
    assert beneath(tmp_path / "esp") == {"EFI", "EFI/BOOT", "EFI/BOOT/BOOTX64.EFI"}
    assert beneath(tmp_path / "boot") == {"vmlinuz", "efi"}


@pytest.mark.root
@pytest.mark.parametrize("shape", ["many", "deep"])
def test_a_tree_without_end_for_the_esp_is_refused(tmp_path: Path, shape: str) -> None:
    place = tmp_path / "root/boot/efi"
    if shape == "deep":
        (place / "/".join("d" * 40)).mkdir(parents=True)
    else:
        place.mkdir(parents=True)
        for number in range(4097):
            (place / str(number)).touch()
    with pytest.raises(GuestError, match="the image has more than 4096 files for the EFI system partition"):
        furnished(tmp_path, {}, ESP, ROOT)
