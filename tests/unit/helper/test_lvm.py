# SPDX-License-Identifier: GPL-2.0-or-later
"""Volume groups as LVM's own programs make them, read and grown without device-mapper; using them takes a helper VM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from block_devices import loop_device
from images.logical_volumes import lvm as run_lvm
from snf_image_helper.detection import detect
from snf_image_helper.disks import lvm
from snf_image_helper.system import UnknownGuestError
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import MIB, Listener, attached, image, job, private_mounts, sh

pytestmark = pytest.mark.root

NO_KERNEL = lvm._CONFIGURATION.replace("global {", "global { activation=0")


@contextmanager
def physical(directory: Path, *sizes: int) -> Iterator[tuple[str, ...]]:
    """Devices of so many MiB, each a new physical volume."""
    with ExitStack() as stack:
        devices = []
        for number, mib in enumerate(sizes):
            path = directory / f"pv{number}"
            path.write_bytes(b"")
            os.truncate(path, mib * MIB)
            devices.append(str(stack.enter_context(loop_device(path))))
            run_lvm(devices[-1], "pvcreate", devices[-1])
        yield tuple(devices)


def make_group(name: str, devices: tuple[str, ...], *volumes: tuple[str, ...]) -> None:
    run_lvm(",".join(devices), "vgcreate", name, *devices)
    for volume in volumes:
        run_lvm(",".join(devices), "lvcreate", "-an", "-Zn", "-Wn", *volume, name)


def test_a_group_is_read_with_its_volumes_and_its_room(tmp_path: Path) -> None:
    with physical(tmp_path, 64) as devices:
        make_group("rocky", devices, ("-n", "root", "-L", "32m"), ("-n", "swap", "-L", "8m"))
        (group,) = lvm.groups_on(devices)
        assert [(item.full_name, item.layout, item.is_simple) for item in group.volumes] == [
            ("rocky/root", "linear", True),
            ("rocky/swap", "linear", True),
        ]
        assert (group.devices, group.free) == (devices, 5)
        assert group.volume("rocky/root") == group.volumes[0]
        assert group.volume("rocky/home") is None


def test_hyphens_are_doubled_below_dev_mapper() -> None:
    assert lvm.Volume("ubuntu-vg", "ubuntu-lv", "linear").device == "/dev/mapper/ubuntu--vg-ubuntu--lv"


def test_the_root_takes_all_that_the_partition_has_and_a_second_time_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lvm, "_CONFIGURATION", NO_KERNEL)
    with physical(tmp_path, 64) as devices:
        make_group("vg", devices, ("-n", "root", "-L", "32m"), ("-n", "swap", "-L", "8m"))
    path = tmp_path / "pv0"
    os.truncate(path, 128 * MIB)
    for _ in range(2):
        with loop_device(path) as device:
            (group,) = lvm.groups_on([str(device)])
            before = path.read_bytes()
            lvm.fill(group, str(device), group.volumes[0])
            said = run_lvm(str(device), "lvs", "--noheadings", "--units", "m", "--nosuffix", "-o", "lv_name,lv_size")
            assert said.split() == ["root", "116.00", "swap", "8.00"]
    assert path.read_bytes() == before


def test_a_volume_of_a_kind_that_takes_more_than_the_simplest_is_not_simple(tmp_path: Path) -> None:
    with physical(tmp_path, 64) as devices:
        make_group("vg", devices, ("-n", "root", "-L", "8m"))
        metadata = tmp_path / "metadata"
        run_lvm(devices[0], "vgcfgbackup", "-f", str(metadata), "vg")
        metadata.write_text(metadata.read_text().replace('"striped"', '"of-tomorrow"'))
        run_lvm(devices[0], "vgcfgrestore", "--force", "-f", str(metadata), "vg")
        (group,) = lvm.groups_on(devices)
        assert [(item.name, item.is_simple) for item in group.volumes] == [("root", False)]


def test_a_group_that_reaches_for_another_disk_is_refused(tmp_path: Path) -> None:
    with physical(tmp_path, 64, 64) as devices:
        make_group("vg", devices)
        with pytest.raises(UnknownGuestError, match="volume group vg lacks 1 physical volumes"):
            lvm.groups_on(devices[:1])


def test_two_groups_of_one_name_are_refused(tmp_path: Path) -> None:
    with physical(tmp_path, 64, 64) as devices:
        make_group("vg", devices[:1])
        make_group("vg", devices[1:])
        with pytest.raises(UnknownGuestError, match="two volume groups are called vg"):
            lvm.groups_on(devices)


def test_ten_thousand_volumes_are_refused(tmp_path: Path) -> None:
    with physical(tmp_path, 64) as devices:
        metadata = tmp_path / "metadata"
        run_lvm(devices[0], "pvcreate", "-ff", "-y", "--metadatasize", "16m", devices[0])
        make_group("vg", devices, ("-n", "lv0", "-l", "1"))
        run_lvm(devices[0], "vgcfgbackup", "-f", str(metadata), "vg")
        text = metadata.read_text()
        start = text.index("\t\tlv0 {")
        end = text.index("\n\t\t}\n", start) + 5
        one = text[start:end]
        clones = []
        for number in range(1, 10_000):
            clone = one.replace("lv0", f"lv{number}").replace('"striped"', '"error"')
            clone = clone[: clone.index("stripe_count")] + "}\n\t\t}\n"
            identity = one.split('id = "')[1][:38]
            clones.append(clone.replace(identity, f"{identity[:-6]}{number:06d}"))
        metadata.write_text(text[:end] + "".join(clones) + text[end:])
        run_lvm(devices[0], "vgcfgrestore", "--force", "-f", str(metadata), "vg")
        with pytest.raises(UnknownGuestError, match="volume group vg has 10000 volumes, more than 128"):
            lvm.groups_on(devices)


def test_damaged_metadata_are_no_volume_group(tmp_path: Path) -> None:
    with physical(tmp_path, 64) as devices:
        make_group("vg", devices, ("-n", "root", "-L", "8m"))
        with Path(devices[0]).open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 8192)
        assert lvm.groups_on(devices) == ()


def test_a_disk_of_lvm_without_a_root_is_unknown_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "d"
    with private_mounts():
        with image(path, "label: gpt\nsize=40960,type=E6D6D379-F507-44C2-A23C-238F2A3DF928\n", {}) as disk:
            disk.reload()
            sh("lvm", "pvcreate", "-q", "--config", NO_KERNEL, "--devices", disk.node(1), disk.node(1))
        before = path.read_bytes()
        with attached(path) as disk, pytest.raises(UnknownGuestError, match="LVM without a volume that holds a Linux"):
            detect(disk, job(), Listener().reporter)
    assert path.read_bytes() == before


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the commands that LVM was given: the kernel of this machine may have no device-mapper."""
    programs, calls = tmp_path / "bin", tmp_path / "calls"
    programs.mkdir()
    (programs / "lvm").write_text(f'#!/bin/sh\ncommand=$1; shift 6; echo "$command $@" >> {calls}\n')
    (programs / "lvm").chmod(0o755)
    monkeypatch.setattr("snf_image_shared.process.SEARCH_PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return calls


GROUPS = tuple(
    lvm.Group(
        name,
        (lvm.Physical("/dev/none", 1, 1),),
        (lvm.Volume(name, "a", "linear"), lvm.Volume(name, "b", "thin,sparse")),
        0,
    )
    for name in ("one", "two")
)
ACTIVATED = ["lvchange -ay one/a", "lvchange -ay two/a"]


def test_what_is_simple_is_activated_and_let_go_again(recorded: Path) -> None:
    with lvm.active(GROUPS) as volumes:
        assert [volume.full_name for volume in volumes] == ["one/a", "two/a"]
        assert recorded.read_text().splitlines() == ACTIVATED
    assert recorded.read_text().splitlines() == [*ACTIVATED, "vgchange -an one", "vgchange -an two"]


def test_groups_are_let_go_after_a_failure_too(recorded: Path) -> None:
    with pytest.raises(ValueError, match="of the body"), lvm.active(GROUPS):
        raise ValueError("of the body")
    assert recorded.read_text().splitlines() == [*ACTIVATED, "vgchange -an one", "vgchange -an two"]


def test_a_volume_that_stays_in_use_is_an_error(recorded: Path) -> None:
    program = recorded.parent / "bin/lvm"
    program.write_text('#!/bin/sh\ntest "$1" != vgchange || { echo "in use" >&2; exit 5; }\n')
    with pytest.raises(GuestError, match=r"volume group one cannot be let go: .*in use"), lvm.active(GROUPS):
        pass
