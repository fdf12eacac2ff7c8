# SPDX-License-Identifier: GPL-2.0-or-later
"""New file systems on real devices, archives unpacked there as the helper does it, and what came out."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from snf_image_helper.deployment.cell import cell
from snf_image_helper.deployment.content import Content
from snf_image_helper.deployment.dumps import restore, restore_boot
from snf_image_helper.deployment.tarballs import unpack_tarball
from snf_image_helper.deployment.tree import Tree
from unit.helper.disk_images import Listener, private_mounts, sh

MIB = 1 << 20
_MAKERS = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}


@contextmanager
def file_system(image: Path, mib: int, kind: str = "ext4") -> Iterator[Path]:
    """Made in a file, and mounted beside it as the helper mounts."""
    place = image.with_name(f"{image.name}.mounted")
    place.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(mib * MIB)
    sh(*_MAKERS[kind], str(image))
    sh("mount", "-o", "loop,nodev,nosuid", str(image), str(place))
    try:
        yield place
    finally:
        sh("umount", str(place))


@dataclass
class NewTree:
    """A root, and a /boot if it has a size, on which archives are unpacked."""

    root: Path
    boot: Path | None
    listener: Listener = field(default_factory=Listener)

    def unpack(self, archive: Path) -> None:
        with self._content(archive) as content, cell(self._tree) as prepared:
            unpack_tarball(content, prepared, self.listener.reporter)

    def restore(self, root: Path, boot: Path | None = None) -> None:
        with cell(self._tree) as prepared:
            with self._content(root) as content:
                restore(content, prepared, self.listener.reporter)
            if boot:
                with self._content(boot) as content:
                    restore_boot(content, prepared, self.listener.reporter)

    def names(self, path: str = "") -> list[str]:
        return sorted(os.listdir(self.root / path))

    @property
    def _tree(self) -> Tree:
        return Tree(str(self.root), str(self.boot) if self.boot else None)

    @contextmanager
    def _content(self, archive: Path) -> Iterator[Content]:
        with archive.open("rb") as file:
            yield Content("the image", file.fileno(), archive.stat().st_size)


@contextmanager
def new_tree(scratch: Path, mib: int = 64, boot: int = 0, kind: str = "ext4") -> Iterator[NewTree]:
    """In a name space of our own, where it is also checked that nothing of the unpacking stays mounted."""
    with private_mounts(), file_system(scratch / "root", mib, kind) as root:
        if not boot:
            yield NewTree(root, None)
            return
        with file_system(scratch / "boot", boot, kind) as other:
            yield NewTree(root, other)


@dataclass(frozen=True)
class Seen:
    """All of a file but its name that an archive may keep."""

    mode: int
    owner: tuple[int, int]
    device: int
    links: int
    mtime: int
    content: str
    attributes: Mapping[str, bytes]


def seen(root: Path) -> dict[bytes, Seen]:
    """Everything below `root`, by path; directories count their links by themselves."""
    found = {}
    for path in [b".", *_below(os.fsencode(root), b"")]:
        whole = os.path.join(os.fsencode(root), path)
        status = os.lstat(whole)
        kind = stat.S_IFMT(status.st_mode)
        content = b""
        if kind == stat.S_IFREG:
            content = Path(os.fsdecode(whole)).read_bytes()
        elif kind == stat.S_IFLNK:
            content = os.readlink(whole)
        names = os.listxattr(whole, follow_symlinks=False)
        found[path] = Seen(
            status.st_mode,
            (status.st_uid, status.st_gid),
            status.st_rdev,
            0 if kind == stat.S_IFDIR else status.st_nlink,
            status.st_mtime_ns,
            hashlib.sha256(content).hexdigest(),
            {name: os.getxattr(whole, name, follow_symlinks=False) for name in names},
        )
    return found


def _below(root: bytes, path: bytes) -> Iterator[bytes]:
    for entry in sorted(os.scandir(os.path.join(root, path)), key=lambda entry: entry.name):
        inner = os.path.join(path, entry.name)
        if entry.name == b"lost+found":
            continue
        yield inner
        if entry.is_dir(follow_symlinks=False):
            yield from _below(root, inner)
