# SPDX-License-Identifier: GPL-2.0-or-later
"""The archive format of an initramfs ("newc"), written so that the same files always give the same bytes.

Source: Documentation/driver-api/early-userspace/buffer-format.rst. No hard links, no files over 4 GiB:
an initrd needs neither.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass

_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Node:
    """One entry: `mode` with the file type, `content` of a file or target of a link, `device` (major, minor)."""

    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(mode: int = 0o755) -> Node:
    return Node(stat.S_IFDIR | mode)


def file(content: bytes, mode: int = 0o644) -> Node:
    return Node(stat.S_IFREG | mode, content)


def link(target: str) -> Node:
    return Node(stat.S_IFLNK | 0o777, target.encode())


def character_device(major: int, minor: int, mode: int = 0o600) -> Node:
    return Node(stat.S_IFCHR | mode, device=(major, minor))


def archive(tree: Mapping[str, Node]) -> bytes:
    """`tree` maps paths without a leading slash to nodes; missing parents are added. Owner 0:0, time 0, sorted."""
    complete = dict(tree)
    for path in tree:
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            complete.setdefault("/".join(parts[:depth]), directory())
    # A directory's path is a prefix of what lies in it, so sorting puts it first, as the kernel wants it.
    entries = [_entry(number, path, complete[path]) for number, path in enumerate(sorted(complete), 1)]
    whole = b"".join([*entries, _entry(0, _TRAILER, Node(0))])
    return whole + bytes(-len(whole) % 512)


def _entry(inode: int, path: str, node: Node) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(node.mode) else 1
    fields = (inode, node.mode, 0, 0, links, 0, len(node.content), 0, 0, *node.device, len(name), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return _aligned(header) + _aligned(node.content)


def _aligned(part: bytes) -> bytes:
    return part + bytes(-len(part) % 4)
