# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2 images for tests, byte by byte, and a process under the decoder's limits that reads them.

As a program: reads lines with a JSON list of an image's and a disk's path, fills the disk, answers a line with what
came of it.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from snf_image_host.copying.edges import edges_last
from snf_image_host.decoding.qcow2 import Qcow2, open_qcow2
from snf_image_host.disks.targets import EDGE, open_target
from snf_image_shared.errors import SnfImageError

COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1
BACKING_FORMAT, DATA_FILE_NAME, LUKS, BITMAPS = 0xE2792ACA, 0x44415441, 0x0537BE77, 0x23852875
REFCOUNT_TABLE, REFCOUNT_BLOCK, L1, L2, DATA = 1, 2, 3, 4, 5  # in which cluster of a crafted image what lies
MEMORY = 1 << 30  # bytes of address space the decoder process has
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_COMPRESSION_TYPE = 104
_GUEST_CLUSTERS = 16


@dataclass(frozen=True)
class Crafted:
    """An image of 16 clusters, the first four with data of their own, that is valid but for what it is told to be.

    `fields` go into the header, `l1` and `l2` are entries by their index, `clusters` are put into the file by their
    number, `size` is that of the file in bytes.
    """

    fields: Mapping[str, int] = field(default_factory=dict)
    bits: int = 12
    version: int = 3
    extensions: tuple[tuple[int, bytes], ...] = ()
    compression: int | None = None
    l1: Mapping[int, int] = field(default_factory=dict)
    l2: Mapping[int, int] = field(default_factory=dict)
    clusters: Mapping[int, bytes] = field(default_factory=dict)
    size: int | None = None

    def write(self, path: Path) -> Path:
        """Make the file, sparse."""
        unit = 1 << self.bits
        with path.open("wb") as file:
            for number, content in {**self._clusters(), **self.clusters}.items():
                file.seek(number * unit)
                file.write(content)
            file.truncate((DATA + 4) * unit if self.size is None else self.size)
        return path

    def _clusters(self) -> dict[int, bytes]:
        unit = 1 << self.bits
        l1 = {0: L2 * unit | COPIED} | dict(self.l1)
        l2 = {number: (DATA + number) * unit | COPIED for number in range(4)} | dict(self.l2)
        return {
            0: self.first_cluster(),
            REFCOUNT_TABLE: struct.pack(">Q", REFCOUNT_BLOCK * unit),
            REFCOUNT_BLOCK: struct.pack(">9H", *[1] * 9),
            L1: _table(l1),
            L2: _table(l2).ljust(unit, b"\0"),
        } | {DATA + number: bytes([65 + number]) * unit for number in range(4)}

    def first_cluster(self) -> bytes:
        """The header and its extensions."""
        unit = 1 << self.bits
        fields: dict[str, int] = {
            "version": self.version,
            "backing_offset": 0,
            "backing_length": 0,
            "cluster_bits": self.bits,
            "size": _GUEST_CLUSTERS * unit,
            "crypt_method": 0,
            "l1_entries": 1,
            "l1_offset": L1 * unit,
            "refcount_offset": REFCOUNT_TABLE * unit,
            "refcount_clusters": 1,
            "snapshots": 0,
            "snapshots_offset": 0,
            "features": 0,
            "compatible": 0,
            "autoclear": 0,
            "refcount_order": 4,
            "header_length": 104 if self.compression is None else 112,
        }
        assert set(self.fields) <= set(fields)
        header = _HEADER.pack(b"QFI\xfb", *(fields | dict(self.fields)).values())
        if self.version == 2:
            header = header[:72]
        elif self.compression is not None:
            header += bytes([self.compression]) + bytes(7)
        for kind, content in self.extensions:
            header += struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)
        return header


def compressed_entry(bits: int, host: int, sectors: int) -> int:
    """An L2 entry for compressed data at byte `host` that reaches into `sectors` further sectors."""
    return COMPRESSED | sectors << 62 - (bits - 8) | host


def deflated(content: bytes) -> bytes:
    """Compressed as QEMU does."""
    deflate = zlib.compressobj(zlib.Z_BEST_COMPRESSION, zlib.DEFLATED, -12)
    return deflate.compress(content) + deflate.flush()


def _table(entries: Mapping[int, int]) -> bytes:
    return b"".join(struct.pack(">Q", entries.get(index, 0)) for index in range(max(entries) + 1))


@contextmanager
def opened(image: Path) -> Iterator[Qcow2]:
    """The image, read by our reader in this process."""
    fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield open_qcow2(fd)
    finally:
        os.close(fd)


def decode(image: Path, disk: Path) -> int:
    """Fill the disk, of more than 2 MiB, with what the image holds, in this process; the number of bytes.

    Its ends are put there without a flush, for which the tests have no time.
    """
    with opened(image) as content, open_target(disk) as target, edges_last(target) as edges:
        size = content.fill(edges, lambda _read, _written: None)
        with disk.open("r+b") as file:
            os.pwrite(file.fileno(), edges.memory[:EDGE], 0)
            os.pwrite(file.fileno(), edges.memory[EDGE:], target.size - EDGE)
        check_work(content)
    return size


def check_work(content: Qcow2) -> None:
    """Fail if more was read than a bounded number of bytes for each cluster of file and disk: tables twice, data once.

    A read is of whole pages, and compressed data reaches into two clusters and a sector.
    """
    file, header = content._file, content._header
    assert file.consumed <= (2 * header.clusters + header.size // header.cluster + 8) * (3 * header.cluster + 8192)


@dataclass(frozen=True)
class Outcome:
    """`size` of the disk's content or the `error`; `peak` memory of the process so far, in bytes."""

    size: int | None
    error: str
    peak: int


class Reader:
    """A process that reads images, with the address space that the decoder process has."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def read(self, image: Path, disk: Path) -> Outcome:
        """What comes of the image. Anything but an error of our own ends the process, and fails here."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([str(image), str(disk)]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the reader ended with status {self._process.wait()}"
        return Outcome(*json.loads(answer))


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        size, error = None, ""
        try:
            size = decode(*map(Path, json.loads(line)))
        except SnfImageError as problem:
            error = f"{type(problem).__name__}: {problem}"
        # Not ru_maxrss: that begins with what the process had that started this one.
        peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) << 10
        sys.stdout.write(json.dumps([size, error, peak]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
