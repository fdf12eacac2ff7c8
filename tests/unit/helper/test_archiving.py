# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps out of a disk and back onto another, by the helper's own code on loop devices; no VM."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from block_devices import loop_device
from exchange_streams import CAPABILITY, RANDOM, boot_tree, file_system, old_export, root_tree
from snf_image_helper.archiving.dumping import dump, has_open_journal, measure
from snf_image_helper.archiving.importing import Dumps
from snf_image_helper.archiving.sources import dump_sources
from snf_image_helper.archiving.transport import Incoming
from snf_image_helper.deployment.tree import BOOT, ROOT, Tree
from snf_image_shared.deployment import Deployment, Form, Layout
from snf_image_shared.errors import GuestError, SnfImageError
from snf_image_shared.exchange import BOOT_DUMP, ROOT_DUMP, ExchangeError
from unit.helper.disk_images import Listener, image, job, plant_root, private_mounts, sh

pytestmark = pytest.mark.root

DEPLOYMENT = Deployment(Form.DUMP, Layout())


@contextmanager
def incoming(content: bytes) -> Iterator[Incoming]:
    """The content as it comes out of a pipe, whose writer must have got rid of all of it."""
    source, sink = os.pipe()

    def send() -> None:
        view = memoryview(content)
        while view:
            view = view[os.write(sink, view) :]
        os.close(sink)

    thread = Thread(target=send)
    thread.start()
    try:
        yield Incoming(source)
    finally:
        while os.read(source, 1 << 20):
            pass
        thread.join()
        os.close(source)


@contextmanager
def new_tree(directory: Path, *, boot: bool) -> Iterator[Tree]:
    """Empty file systems, mounted as a deployment does."""
    with private_mounts():
        for place, wanted in ((ROOT, True), (BOOT, boot)):
            if wanted:
                path = directory / Path(place).name
                with path.open("wb") as file:
                    file.truncate(128 << 20)
                sh("mkfs.ext4", "-q", str(path))
                Path(place).mkdir(parents=True)
                sh("mount", "-o", "loop", str(path), place)
        try:
            yield Tree(ROOT, BOOT if boot else None)
        finally:
            for place in (BOOT, ROOT)[0 if boot else 1 :]:
                sh("umount", place)


@pytest.mark.image_row(45, 53)
@pytest.mark.parametrize("boot_first", [True, False])
@pytest.mark.parametrize("has_boot", [True, False])
@pytest.mark.parametrize("boot", [True, False])
def test_old_dumps_arrive_with_and_without_boot_at_either_end(
    tmp_path: Path, boot_first: bool, has_boot: bool, boot: bool
) -> None:
    stream = old_export(tmp_path, boot_first=boot_first, has_boot=has_boot).read_bytes()
    with new_tree(tmp_path, boot=boot) as tree, incoming(stream) as come:
        Dumps.opened(come).restored(DEPLOYMENT, tree, Listener().reporter)
        root = Path(tree.root)
        assert (root / "blob").read_bytes() == RANDOM
        assert (root / "blob").samefile(root / "other-name")
        assert (root / "blob").stat().st_uid == 4711
        assert (root / "hole").stat().st_blocks == 0
        assert CAPABILITY in sh("getcap", str(root / "bin/ping"))
        kernel = Path(tree.boot or root / "boot", "vmlinuz-6.1")
        assert kernel.exists() == has_boot
        assert not [
            path for path in (root, root / "boot", Path(tree.boot or root)) if (path / "restoresymtable").exists()
        ]


@pytest.mark.image_row(45)
def test_one_dump_without_an_archive_is_the_root(tmp_path: Path) -> None:
    path = file_system(tmp_path / "fs", ["mkfs.ext4", "-q"], 96, root_tree)
    with loop_device(path) as device:
        content = subprocess.run(["dump", "-0", "-q", "-f", "-", device], check=True, capture_output=True).stdout
    with new_tree(tmp_path, boot=False) as tree, incoming(content) as come:
        Dumps.opened(come).restored(DEPLOYMENT, tree, Listener().reporter)
        assert Path(tree.root, "blob").read_bytes() == RANDOM


def archive(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as found:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            found.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def small_dump(tmp_path: Path) -> bytes:
    path = file_system(tmp_path / "small", ["mkfs.ext4", "-q"], 16, boot_tree)
    with loop_device(path) as device:
        return subprocess.run(["dump", "-0", "-q", "-f", "-", device], check=True, capture_output=True).stdout


@pytest.mark.image_row(51)
def test_a_stream_that_is_wrong_later_says_why(tmp_path: Path) -> None:
    dump_of = small_dump(tmp_path)
    for content, why in (
        (archive(("root.dump", dump_of))[:-20_000], "too early|cut short"),
        (archive(("boot.dump", dump_of)), "has no root.dump"),
        (archive(("root.dump", dump_of), ("root.dump", dump_of)), "root.dump twice"),
        (archive(("root.dump", dump_of), ("disk.img", b"x")), "disk.img beside dumps"),
        (archive(("root.dump", dump_of), ("boot.dump", b"x" * 600)), "boot.dump of the stream is no dump"),
        (archive(("root.dump", dump_of[:20_000].ljust(60_000, b"x"))), "cannot be unpacked"),
    ):
        (tmp_path / why[:8]).mkdir()
        with new_tree(tmp_path / why[:8], boot=False) as tree, incoming(content) as come:
            dumps = Dumps.opened(come)
            with pytest.raises(SnfImageError, match=why):
                dumps.restored(DEPLOYMENT, tree, Listener().reporter)


@pytest.mark.image_row(51)
@pytest.mark.parametrize("content", [b"", b"x" * 1024, archive(), archive(("root.dump", b"x" * 700))])
def test_a_stream_that_begins_with_no_dump_is_refused_before_anything_else(content: bytes) -> None:
    with incoming(content) as come, pytest.raises(ExchangeError):
        Dumps.opened(come)


@pytest.mark.image_row(45, 49)
def test_the_length_of_a_dump_is_known_before_it_is_made(tmp_path: Path) -> None:
    path = file_system(tmp_path / "fs", ["mkfs.ext4", "-q"], 96, root_tree)
    with loop_device(path, "--read-only") as device, (tmp_path / "out").open("wb") as out:
        length = measure(str(device))
        dump(str(device), out.fileno())
        assert not has_open_journal(str(device))
    assert (tmp_path / "out").stat().st_size == length


def test_a_journal_that_was_not_replayed_is_seen(tmp_path: Path) -> None:
    path = file_system(tmp_path / "fs", ["mkfs.ext4", "-q"], 16, boot_tree)
    sh("debugfs", "-w", "-R", "feature needs_recovery", str(path))
    assert has_open_journal(str(path))


SWAP_ROOT = "label: dos\n,32M,83,*\n,16M,82\n,,83\n"
GUEST = {1: ("mkfs.ext4", "-q"), 2: ("mkswap",), 3: ("mkfs.ext3", "-q")}


def plant(node: str, fstab: str = "") -> None:
    place = Path("/run/plant")
    place.mkdir(exist_ok=True)
    sh("mount", node, str(place))
    plant_root(place, fstab)
    (place / "boot").mkdir()
    sh("umount", str(place))


@pytest.mark.image_row(48)
def test_root_and_boot_are_found_by_the_guests_own_fstab(tmp_path: Path) -> None:
    with private_mounts(), image(tmp_path / "disk", SWAP_ROOT, GUEST, mib=128) as disk:
        disk.reload()
        uuid = sh("blkid", "-o", "value", "-s", "UUID", disk.node(1)).strip()
        plant(disk.node(3), f"UUID={uuid} /boot ext4 defaults 0 2\n")
        found = dump_sources(disk, job(), Listener().reporter)
    assert found == {ROOT_DUMP: disk.node(3), BOOT_DUMP: disk.node(1)}


@pytest.mark.image_row(48)
@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({**GUEST, 1: ("mkfs.ext4", "-q")}, "partition 1 holds ext4"),
        ({**GUEST, 1: ("mkfs.xfs", "-q", "-f")}, "partition 1 holds xfs"),
        ({2: ("mkswap",), 3: ("mkfs.ext3", "-q")}, "partition 1 holds something unknown"),
        ({**GUEST, 3: ("mkfs.btrfs", "-q", "-f")}, "btrfs cannot be dumped"),
    ],
)
def test_a_disk_with_more_than_dumps_tell_is_not_dumped(
    tmp_path: Path, made: dict[int, tuple[str, ...]], why: str
) -> None:
    script = "label: dos\n,320M,83,*\n,16M,82\n,,83\n"
    with private_mounts(), image(tmp_path / "disk", script, made, mib=640) as disk:
        disk.reload()
        plant(disk.node(3))
        with pytest.raises(GuestError, match=why):
            dump_sources(disk, job(), Listener().reporter)
