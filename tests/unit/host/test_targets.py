# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from block_devices import loop_device
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.buffers import huge_pages
from snf_image_host.disks import targets
from snf_image_host.disks.instance_disks import InstanceDisk
from snf_image_host.disks.storage import open_for_writing
from snf_image_host.disks.targets import EDGE, LocalTarget, open_target
from snf_image_shared.errors import DiskError

MIB = 1 << 20
GARBAGE = b"\xa5"


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file of 4 MiB of garbage, on a file system with O_DIRECT."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        path = Path(directory) / "disk"
        path.write_bytes(GARBAGE * (4 * MIB))
        yield path


def opened(path: Path) -> tuple[int, int, bool, bool]:
    with open_target(path) as target:
        return target.size, target.sector_size, target.is_block, target.is_direct


def test_a_file_is_opened_past_the_page_cache(disk: Path) -> None:
    assert opened(disk) == (4 * MIB, 1, False, True)


@pytest.mark.root
@pytest.mark.parametrize("sector", [512, 4096])
def test_a_block_device_tells_its_sectors(disk: Path, sector: int) -> None:
    with loop_device(disk, f"--sector-size={sector}") as device:
        assert opened(device) == (4 * MIB, sector, True, True)


def test_a_symbolic_link_to_the_disk_is_followed(disk: Path) -> None:
    link = disk.with_name("link")
    link.symlink_to(disk)
    assert opened(link)[0] == 4 * MIB


def test_a_missing_disk_is_named(disk: Path) -> None:
    with pytest.raises(DiskError, match=r"/none: cannot be opened: No such file or directory; is .* activated\?"):
        opened(disk.with_name("none"))


def test_an_empty_disk_is_refused(disk: Path) -> None:
    os.truncate(disk, 0)
    with pytest.raises(DiskError, match="size of 0 bytes"):
        opened(disk)


def test_a_fifo_is_refused_without_opening_it(disk: Path) -> None:
    os.mkfifo(disk.with_name("fifo"))
    with pytest.raises(DiskError, match="neither a block device nor a regular file"):
        opened(disk.with_name("fifo"))


def test_a_socket_a_directory_and_a_character_device_are_refused(disk: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(disk.with_name("socket")))
        for path in (disk.with_name("socket"), disk.parent, Path("/dev/zero")):
            with pytest.raises(DiskError, match="neither a block device nor a regular file"):
                opened(path)


@pytest.mark.root
def test_a_read_only_block_device_is_refused(disk: Path) -> None:
    with (
        loop_device(disk, "--read-only") as device,
        pytest.raises(DiskError, match="is read-only: make the disk writable"),
    ):
        opened(device)


@pytest.mark.root
def test_a_mounted_block_device_is_refused(disk: Path) -> None:
    subprocess.run(["mke2fs", "-q", "-F", str(disk)], check=True)
    mount_point = disk.with_name("mnt")
    mount_point.mkdir()
    with loop_device(disk) as device:
        subprocess.run(["mount", str(device), str(mount_point)], check=True)
        try:
            with pytest.raises(DiskError, match="is in use: unmount it"):
                opened(device)
        finally:
            subprocess.run(["umount", str(mount_point)], check=True)


@pytest.mark.root
def test_a_block_device_that_something_else_has_for_itself_is_refused(disk: Path) -> None:
    """As swap, LVM, RAID and device mapper have theirs: the kernel asks of them what we ask here."""
    with loop_device(disk) as device:
        holder = os.open(device, os.O_RDONLY | os.O_EXCL)
        try:
            with pytest.raises(DiskError, match="is in use: unmount it, and release it from swap, LVM, RAID or device"):
                opened(device)
        finally:
            os.close(holder)


def test_a_part_of_the_helper_image_is_no_disk_by_whatever_name(disk: Path) -> None:
    """Row 39 of the table of hostile inputs: every helper VM boots from it."""
    helper = disk.with_name("helper")
    node = Settings(helper_dir=helper)

    def refused(path: Path) -> str:
        with pytest.raises(DiskError) as failure, open_for_writing(InstanceDisk(path), node):
            pytest.fail("it was opened")
        return str(failure.value)

    with open_for_writing(InstanceDisk(disk), node) as target:  # no helper image, nothing to compare with
        assert target.size == 4 * MIB
    helper.mkdir()
    (helper / "kernel").write_bytes(b"another file")
    with open_for_writing(InstanceDisk(disk), node) as target:
        assert target.size == 4 * MIB
    (helper / "image").hardlink_to(disk)
    for path in (disk, helper / "image"):
        assert refused(path) == f"{path}: is a part of the helper image, {helper}/image: give the instance's disk"
    assert disk.read_bytes() == GARBAGE * (4 * MIB)


@pytest.mark.root
def test_a_file_under_a_loop_device_is_refused(disk: Path) -> None:
    with loop_device(disk) as device, pytest.raises(DiskError, match=f"is in use by {device}: detach it"):
        opened(disk)


def test_a_disk_that_another_run_holds_is_refused(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "_LOCK_PATIENCE", 0.1)
    with open_target(disk), pytest.raises(DiskError, match="another run of snf-image"):
        opened(disk)


def test_a_lock_that_is_given_back_soon_is_waited_for(disk: Path) -> None:
    holder = subprocess.Popen(
        ["flock", "--shared", str(disk), "sh", "-c", "echo held; sleep 0.5"], stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout
        holder.stdout.readline()
        assert opened(disk)[0] == 4 * MIB


def test_a_disk_that_qemu_has_open_is_refused(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "_LOCK_PATIENCE", 0.1)
    blockdev = f"driver=file,node-name=disk,filename={disk}"
    export = "type=nbd,id=out,node-name=disk,writable=on"
    server = f"addr.type=unix,addr.path={disk.parent}/nbd"
    pid_file = disk.with_name("pid")
    daemon = subprocess.Popen(
        [
            "qemu-storage-daemon",
            "--blockdev",
            blockdev,
            "--nbd-server",
            server,
            "--export",
            export,
            "--pidfile",
            pid_file,
        ]
    )
    try:
        while not pid_file.exists():
            assert daemon.poll() is None
        with pytest.raises(DiskError, match="probably a running QEMU: stop the instance first"):
            opened(disk)
    finally:
        daemon.terminate()
        daemon.wait()


def test_a_second_descriptor_of_ours_takes_no_lock_away_from_qemu(disk: Path) -> None:
    """QEMU locks bytes of the description it is given; a lock of ours on the whole file must not be in its way."""
    with open_target(disk) as target:
        other = os.open(disk, os.O_RDWR)
        try:
            fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(other)
        assert target.size


@pytest.mark.row(64)
@pytest.mark.root
def test_a_file_system_without_direct_access_will_do() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        subprocess.run(["mount", "-t", "ramfs", "ramfs", directory], check=True)
        try:
            path = Path(directory) / "disk"
            path.write_bytes(GARBAGE * (3 * MIB + 5))
            with open_target(path) as target:
                assert not target.is_direct
                target.zero(7, MIB)
                target.write(memoryview(b"x" * 100), 3)
                target.flush()
            assert path.read_bytes() == GARBAGE * 3 + b"x" * 100 + bytes(MIB - 96) + GARBAGE * (2 * MIB - 2)
        finally:
            subprocess.run(["umount", directory], check=True)


def test_wiping_clears_both_ends_and_nothing_else(disk: Path) -> None:
    with open_target(disk) as target:
        target.wipe_ends()
    assert disk.read_bytes() == bytes(EDGE) + GARBAGE * (2 * MIB) + bytes(EDGE)


@pytest.mark.parametrize("size", [1, 511, MIB, MIB + 1, 2 * MIB - 1])
def test_wiping_a_tiny_disk_clears_all_of_it(disk: Path, size: int) -> None:
    os.truncate(disk, size)
    with open_target(disk) as target:
        target.wipe_ends()
    assert disk.read_bytes() == bytes(size)


@pytest.mark.root
def test_zeroing_a_block_device_leaves_its_neighbours(disk: Path) -> None:
    with loop_device(disk) as device:
        with open_target(device) as target:
            target.zero(MIB, 512)
        assert device.read_bytes() == GARBAGE * MIB + bytes(512) + GARBAGE * (3 * MIB - 512)


def test_zeros_punched_into_a_file_give_back_its_space(disk: Path) -> None:
    with open_target(disk) as target:
        target.zero(0, 4 * MIB)
        assert os.fstat(target.fd).st_blocks == 0


@settings(max_examples=40, deadline=None)
@given(
    runs=st.lists(st.tuples(st.booleans(), st.integers(1, 200_000)), min_size=1, max_size=6),
    offset=st.sampled_from([0, 4096, 65536, 77]),
)
def test_a_sparse_write_leaves_exactly_its_bytes(runs: list[tuple[bool, int]], offset: int) -> None:
    data = b"".join((b"x" if is_data else b"\0") * length for is_data, length in runs)
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        file.write(GARBAGE * (offset + len(data) + 10_000))
        file.flush()
        buffer = huge_pages(len(data) + 4096)
        buffer[: len(data)] = data
        target = LocalTarget(Path(file.name), os.open(file.name, os.O_RDWR | os.O_DIRECT))
        try:
            target.write_sparsely(buffer[: len(data)], offset)
            assert target.is_direct
        finally:
            os.close(target.fd)
        written = Path(file.name).read_bytes()
    assert written == GARBAGE * offset + data + GARBAGE * 10_000


@pytest.mark.root
def test_a_full_file_system_is_an_error_that_says_so() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", directory], check=True)
        try:
            path = Path(directory) / "disk"
            path.touch()
            os.truncate(path, 8 * MIB)
            with open_target(path) as target, pytest.raises(DiskError, match="No space left on device; make space"):
                target.write(memoryview(b"x" * (4 * MIB)), 0)
        finally:
            subprocess.run(["umount", directory], check=True)
