# SPDX-License-Identifier: GPL-2.0-or-later
"""What the fstabs of the BSDs mean on their disks, and roots that must not be mounted for writing.

The kernel of the tests' machine has no UFS: what is mounted is looked at in tests/vm/test_bsd_mounting.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from images.bsd_disks import BSD_LAYOUTS, BsdLayout, make_bsd_disk
from images.bsd_labels import System as Bsd
from snf_image_helper.bsd import mounting
from snf_image_helper.bsd.device_names import place_named
from snf_image_helper.bsd.mounting import mount_bsd
from snf_image_helper.customize import customize_disk
from snf_image_helper.disks.disk import Place
from snf_image_helper.disks.volumes import Volumes, volumes_of
from snf_image_helper.guest import Guest
from snf_image_helper.mounts import Mounts
from snf_image_helper.system import OsFamily, System
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import MIB, Listener, attached, job

pytestmark = pytest.mark.root

FAMILIES = {Bsd.FREEBSD: OsFamily.FREEBSD, Bsd.NETBSD: OsFamily.NETBSD, Bsd.OPENBSD: OsFamily.OPENBSD}
LAYOUTS = {name: layout for name, layout in BSD_LAYOUTS.items() if layout.volumes}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with each layout once, with an empty root."""
    place = tmp_path_factory.mktemp("bsd")
    (place / "tree/etc").mkdir(parents=True)
    for name, layout in LAYOUTS.items():
        make_bsd_disk(layout, place / "tree", place / name)
    return place


def system_of(layout: BsdLayout) -> System:
    return System(FAMILIES[layout.system], layout.root.number)


@contextmanager
def opened(image: Path, layout: BsdLayout) -> Iterator[Volumes]:
    with attached(image) as disk:
        disk.reload()
        with volumes_of(disk, system_of(layout), Listener().reporter) as volumes:
            yield volumes


def meaning(volumes: Volumes, layout: BsdLayout, name: str) -> int | None:
    """The number of the place that a device's name means."""
    root = next(item for item in volumes.places if item.number == layout.root.number)
    found: Place | None = place_named(name, volumes, FAMILIES[layout.system], root)
    return found.number if found else None


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_name_of_a_published_fstab_leads_to_its_file_system(images: Path, name: str) -> None:
    layout = LAYOUTS[name]
    with opened(images / name, layout) as volumes:
        found = {volume.device: meaning(volumes, layout, volume.device) for volume in layout.volumes}
        assert all(volumes.on(place).type == "ufs" for place in volumes.places if place.number in found.values())
    assert found == {volume.device: volume.number for volume in layout.volumes}


NAMES: dict[str, dict[str, int | None]] = {
    "freebsd-gpt": {
        "/dev/vtbd0p4": 4,
        "/dev/ada0p4": 4,
        "/dev/da0p4": 4,
        "/dev/nda0p4": 4,
        "/dev/gptid/b5d05eed-0000-4000-8000-000000000004": 4,
        "/dev/gpt/efiesp": 2,
        "/dev/msdosfs/EFISYS": 2,
        "/dev/ufs/EFISYS": None,
        "/dev/ada1p4": None,
        "/dev/ada0p9": None,
        "/dev/gpt/nothing": None,
        "/dev/vtbd0": None,
        "tank/usr": None,
        "/dev/wd0a": None,
    },
    "freebsd-mbr": {"/dev/ada0s1a": 5, "/dev/da0s1a": 5, "/dev/ada0s2a": None, "/dev/ada0s1z": None},
    "netbsd-mbr": {"/dev/wd0a": 5, "/dev/ld0a": 5, "ROOT.a": 5, "ROOT": 5, "/dev/wd1a": None, "NAME=x": None},
    "netbsd-gpt": {"NAME=netbsd-root": 3, "/dev/dk2": 3, "/dev/dk7": None, "ROOT": 3, "ROOT.a": None},
    "openbsd-mbr": {"/dev/sd0a": 5, "/dev/wd0d": 7, "0000000000000000.a": None, "/dev/sd1a": None},
    "openbsd-gpt": {"/dev/sd0a": 5, "/dev/sd0i": 1},
}


@pytest.mark.parametrize("name", NAMES)
def test_further_names_mean_what_their_system_means_by_them(images: Path, name: str) -> None:
    with opened(images / name, LAYOUTS[name]) as volumes:
        found = {device: meaning(volumes, LAYOUTS[name], device) for device in NAMES[name]}
    assert found == NAMES[name]


@pytest.mark.parametrize(
    ("at", "byte", "message"),
    [
        (65536 + 209, 0, "not unmounted cleanly; start the system"),
        (65536 + 1008, 77, "is damaged .*the superblock counts"),
        (65536 + 1372, 0, "has no UFS"),
    ],
)
def test_a_root_that_must_not_be_written_is_left_as_it_is(
    images: Path, tmp_path: Path, at: int, byte: int, message: str
) -> None:
    layout = LAYOUTS["freebsd-gpt"]
    image = Path(shutil.copy(images / "freebsd-gpt", tmp_path))
    with image.open("r+b") as file:
        file.seek(layout.root.start * 512 + at)
        file.write(bytes([byte]))
    before = image.read_bytes()
    mounts = Mounts(Listener().reporter, read_only=False, repairs=True)
    with opened(image, layout) as volumes, pytest.raises(GuestError, match=message):
        mount_bsd(volumes.disk, system_of(layout), volumes, mounts, None)
    assert mounts.stack == []
    assert image.read_bytes() == before


def test_a_kernel_that_does_not_write_ufs_has_a_cure(images: Path) -> None:
    layout = LAYOUTS["netbsd-mbr"]
    mounts = Mounts(Listener().reporter, read_only=False, repairs=True)
    cure = "does not write UFS; rebuild the helper with snf-image-update-helper --with-ufs"
    with opened(images / "netbsd-mbr", layout) as volumes, pytest.raises(GuestError, match=cure):
        mount_bsd(volumes.disk, system_of(layout), volumes, mounts, None)


@pytest.mark.parametrize(
    ("name", "at", "content", "message"),
    [
        ("freebsd-gpt", 209, b"\0", "not unmounted cleanly; start the system"),
        ("netbsd-mbr", 1312, b"\0\1\0\0", "has a log that was not closed"),
        ("netbsd-gpt", 1372, (0x19012038).to_bytes(4, "little"), "FFSv2ea"),
        ("openbsd-mbr", 209, b"\0", "not unmounted cleanly; start the system"),
    ],
    ids=["crashed", "log", "ffsv2ea", "crashed-beside-label"],
)
def test_a_deployment_of_such_a_root_ends_before_table_or_label_grow(
    images: Path, tmp_path: Path, name: str, at: int, content: bytes, message: str
) -> None:
    layout = LAYOUTS[name]
    image = Path(shutil.copy(images / name, tmp_path))
    with image.open("r+b") as file:
        file.seek(layout.root.start * 512 + (65536 if layout.version == 2 else 8192) + at)
        file.write(content)
        file.truncate(image.stat().st_size + 16 * MIB)
    before = image.read_bytes()
    properties = {"OSFAMILY": str(FAMILIES[layout.system]), "ROOT_PARTITION": str(layout.root.number)}
    with attached(image) as disk, pytest.raises(GuestError, match=message):
        customize_disk(disk, job(**properties), Listener().reporter)
    is_same = image.read_bytes() == before
    assert is_same


@pytest.mark.parametrize("name", ["/dev/ada0p4", "/dev/gptid/b5d05eed-0000-4000-8000-000000000004"])
def test_what_is_mounted_is_not_mounted_a_second_time(images: Path, tmp_path: Path, name: str) -> None:
    layout = LAYOUTS["freebsd-gpt"]
    (tmp_path / "etc").mkdir()
    (tmp_path / "mnt").mkdir()
    (tmp_path / "etc/fstab").write_text(f"/dev/ada0p4 / ufs rw 1 1\n{name} /mnt ufs rw 2 2\n")
    mounts = Mounts(Listener().reporter, read_only=False, repairs=True)
    with opened(images / "freebsd-gpt", layout) as volumes:
        root = next(item for item in volumes.places if item.number == 4)
        with Guest(str(tmp_path), volumes.disk, system_of(layout)) as guest:
            guest.mounts["/"] = root.device
            with pytest.raises(GuestError, match=r"/mnt \(/dev/.*\): it is mounted on / already; or give the line"):
                mounting._mount_others(guest, volumes, mounts, (root, None))
    assert mounts.stack == []
