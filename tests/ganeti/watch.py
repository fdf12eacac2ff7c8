# SPDX-License-Identifier: GPL-2.0-or-later
"""Who looks at a node all the time: what it mounts, loops, maps or runs while operations are under way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ganeti.node import Node
from ganeti.traces import loop_directory, programs

# Too long for no mount that anybody works with, and short enough to cost nothing.
_PERIOD = 0.1  # seconds
# Where instances' disks, images and what is fetched lie; other tests' loop devices are over other files.
_WATCHED_FILES = ("/srv/ganeti/", "/var/lib/snf-image", "/var/lib/ganeti", "/var/cache/")
# What a node would work on a tenant's disk with.
_FORBIDDEN = frozenset(
    (
        *("mount", "umount", "losetup", "kpartx", "dmsetup", "partx", "blkid", "udevadm", "qemu-nbd", "chroot"),
        *("sfdisk", "parted", "sgdisk", "mkfs.ext3", "mkfs.ext4", "mke2fs", "mkfs.xfs", "mkfs.btrfs", "mkswap"),
        *("restore", "dump", "tar", "fsck", "e2fsck", "resize2fs", "debugfs", "grub-install"),
    )
)
_OWN_DISK = "-L SNFIMAGE"  # the small disk that carries the job into the helper VM: nothing of a tenant's
# Kinds of file systems that lie on a disk, or in a file.
_ON_DISKS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "f2fs", "iso9660", "ufs", "ntfs", "fuse")


@dataclass
class Watch:
    """What was seen, as text that says which; `looks` is how often somebody looked."""

    node: Node
    looks: int = 0
    seen: set[str] = field(default_factory=set)
    _namespace: Path = Path()
    _mounts: frozenset[str] = frozenset()
    _sources: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    @contextmanager
    def over(cls, node: Node) -> Iterator[Watch]:
        """Watch for the length of the block."""
        watch = cls(node)
        watch._mounts = frozenset(_lines(Path(f"/proc/{node.pid}/mountinfo")))
        watch._namespace = Path(f"/proc/{node.pid}/ns/mnt").readlink()
        watch._sources = frozenset(_source(line) for line in watch._mounts)
        ended = threading.Event()
        thread = threading.Thread(target=watch._look_until, args=(ended,), name="watch")
        thread.start()
        try:
            yield watch
        finally:
            ended.set()
            thread.join()

    def _look_until(self, ended: threading.Event) -> None:
        while not ended.wait(_PERIOD):
            self._look()
            self.looks += 1

    def _look(self) -> None:
        mounts = frozenset(_lines(Path(f"/proc/{self.node.pid}/mountinfo")))
        self.seen |= {f"mount of the node: {line}" for line in mounts ^ self._mounts}
        self.seen |= {f"mapped device: {path.name}" for path in Path("/sys/block").glob("dm-*")}
        self.seen |= {f"loop device over {file}" for file in self._loops()}
        for number, words in programs(self.node).items():
            name = Path(words.partition(" ")[0]).name
            if name in _FORBIDDEN and _OWN_DISK not in words:
                self.seen.add(f"program of the node: {words}")
            self._look_inside(number)

    def _loops(self) -> Iterator[str]:
        """Files of the node behind loop devices, but for those of our provider of external storage."""
        own = loop_directory(self.node)
        for place in Path("/sys/block").glob("loop*/loop/backing_file"):
            with suppress(OSError):
                file = place.read_text().rstrip("\n")
                if file.startswith(_WATCHED_FILES) and "/volumes-" not in file and not file.startswith(own):
                    yield file

    def _look_inside(self, number: int) -> None:
        """A process may have mounts of its own: none of them is of a disk that the node itself does not have."""
        process = self.node.path("/proc") / str(number)
        with suppress(OSError):
            namespace = (process / "ns/mnt").readlink()
            for line in () if namespace == self._namespace else _lines(process / "mountinfo"):
                kind, source = _source(line)
                if kind.startswith(_ON_DISKS) and (kind, source) not in self._sources:
                    self.seen.add(f"mount in {namespace} of process {number}: {line}")


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _source(line: str) -> tuple[str, str]:
    """Kind and source of a line of mountinfo."""
    kind, source, *_ = line.partition(" - ")[2].split(" ")
    return kind, source
