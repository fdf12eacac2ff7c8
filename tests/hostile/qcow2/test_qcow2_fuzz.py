# SPDX-License-Identifier: GPL-2.0-or-later
"""Real qcow2 images with bytes, table entries and lengths changed: read by a process under the decoder's limits.

Whatever becomes of them, that process lives, keeps to its memory, says what is wrong in an error of ours, and writes no
byte behind the image. What both it and `qemu-img` accept they read alike. QCOW2_EXAMPLES asks for more, other examples.
"""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcow2_images import COMPRESSED, COPIED, ZERO, Reader
from snf_image_host.disks.targets import EDGE

MIB = 1 << 20
SIZE = 2 * MIB + 256 * 1024 - 512 * 7  # of the images' disk: no multiple of any cluster
DISK = 3 * MIB + 4096
PEAK = 100 * MIB
GARBAGE = bytes([0xA5]) * DISK
EXAMPLES = int(os.environ.get("QCOW2_EXAMPLES", "0"))
KINDS = (
    ("-o", "cluster_size=64K"),
    ("-c", "-o", "cluster_size=64K"),
    ("-c", "-o", "cluster_size=4K"),
    ("-c", "-o", "cluster_size=16K,compression_type=zstd"),
    ("-o", "cluster_size=512,compat=0.10"),
    ("-o", "cluster_size=4K,preallocation=metadata,refcount_bits=1"),
    ("-c", "-o", "cluster_size=2M"),
)
_OFFSET = 0x00FFFFFFFFFFFE00


@dataclass(frozen=True)
class Seed:
    """A valid image and where its tables lie, as (offset, bytes)."""

    content: bytes = field(repr=False)
    cluster: int
    l1: tuple[int, int]
    l2: tuple[tuple[int, int], ...]
    refcounts: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, content: bytes) -> Seed:
        cluster = 1 << struct.unpack_from(">I", content, 20)[0]
        entries, l1, table = struct.unpack_from(">IQQ", content, 36)
        tables = [entry & _OFFSET for entry in struct.unpack_from(f">{entries}Q", content, l1)]
        l2 = tuple((at, cluster) for at in tables if at)
        block = struct.unpack_from(">Q", content, table)[0]
        return cls(content, cluster, (l1, entries * 8), l2, ((table, 8), (block, 64)))


def disk_content() -> bytes:
    """What compresses well, what does not, what is zeros, in runs of odd lengths."""
    random = Random(4)
    content = bytearray()
    while len(content) < SIZE:
        length = random.randrange(1, 64) << 10
        content += random.choice((bytes(length), random.randbytes(length), b"0123456789abcdef" * (length // 16)))
    return bytes(content[:SIZE])


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A directory on a file system with O_DIRECT, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def seeds(directory: Path) -> list[Seed]:
    """One image of each kind."""
    (directory / "raw").write_bytes(disk_content())
    found = []
    for options in KINDS:
        made = directory / "seed"
        command = ["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", *options, str(directory / "raw"), str(made)]
        subprocess.run(command, check=True)
        subprocess.run(
            ["qemu-io", "-f", "qcow2", "-c", "write -z 1M 64k", "-c", "discard 1536k 64k", made],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        found.append(Seed.of(made.read_bytes()))
        made.unlink()
    return found


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """The process, one for all examples: what one does to its memory the next one feels."""
    with Reader() as reader:
        yield reader


def mutated(seed: Seed, draw: st.DataObject) -> bytes:
    """The image with one to four things changed, most often where it hurts."""
    image = bytearray(seed.content)
    for _ in range(draw.draw(st.integers(1, 4))):
        areas = [(0, 112), (0, 112), (112, 512), seed.l1, *seed.l2[:4], *seed.refcounts, (0, len(seed.content))]
        start, length = draw.draw(st.sampled_from(areas))
        match draw.draw(st.sampled_from(("byte", "bytes", "entry", "entry", "entry", "truncate"))):
            case "byte":
                at = start + draw.draw(st.integers(0, length - 1))
                new = bytes([draw.draw(st.integers(0, 255))])
            case "bytes":
                at = start + draw.draw(st.integers(0, length - 1))
                new = draw.draw(st.binary(min_size=1, max_size=16))
            case "entry":
                at = start + 8 * draw.draw(st.integers(0, max(0, length // 8 - 1)))
                new = struct.pack(">Q", draw.draw(entries(seed, at)))
            case _:
                at, new = len(image), b""
                del image[draw.draw(st.integers(0, len(image))) :]
        if at < len(image):
            image[at : at + len(new)] = new
    return bytes(image)


def entries(seed: Seed, at: int) -> st.SearchStrategy[int]:
    """What may stand in a table: near what stands there, elsewhere in the file, compressed, or anything."""
    (old,) = struct.unpack_from(">Q", seed.content.ljust(at + 8, b"\0"), at)
    flags = st.sampled_from((0, COPIED, ZERO, COPIED | ZERO, COMPRESSED, COMPRESSED | COPIED, 1 << 57, 2))
    places = st.integers(0, len(seed.content) // seed.cluster + 1).map(lambda number: number * seed.cluster)
    return st.one_of(
        st.builds(lambda flag: old ^ flag, flags),
        st.builds(lambda place, flag: place | flag, places, flags),
        st.builds(
            lambda place, bits: (place | COMPRESSED | bits << 48) & (1 << 64) - 1, places, st.integers(0, 1 << 14)
        ),
        st.builds(lambda distance: (old + distance) % (1 << 64), st.integers(-2 * seed.cluster, 2 * seed.cluster)),
        st.integers(0, (1 << 64) - 1),
    )


@settings(
    max_examples=EXAMPLES or 20,
    derandomize=not EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(draw=st.data())
@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_whatever_is_changed_it_is_refused_or_read_as_qemu_does(
    directory: Path, seeds: list[Seed], reader: Reader, kind: int, draw: st.DataObject
) -> None:
    image, disk = directory / "image", directory / "disk"
    image.write_bytes(mutated(seeds[kind], draw))
    disk.write_bytes(GARBAGE)
    outcome = reader.read(image, disk)
    assert outcome.peak < PEAK
    if outcome.size is None:
        assert outcome.error.startswith("ImageError: ")
        return
    ours = disk.read_bytes()
    assert len(ours) == DISK
    assert not ours[max(outcome.size, EDGE) : DISK - EDGE].strip(GARBAGE[:1])
    theirs = converted(image, directory / "theirs")
    assert theirs is None or theirs == ours[: outcome.size]


def converted(image: Path, output: Path) -> bytes | None:
    """What qemu-img makes of the image, which our reader has found to lead nowhere else; None if it is refused."""
    output.unlink(missing_ok=True)
    command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-T", "writeback", str(image), str(output)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=600)
    return output.read_bytes() if done.returncode == 0 else None


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_what_is_changed_is_a_valid_image(directory: Path, seeds: list[Seed], reader: Reader, kind: int) -> None:
    image, disk = directory / "image", directory / "disk"
    image.write_bytes(seeds[kind].content)
    disk.write_bytes(GARBAGE)
    assert reader.read(image, disk).size == SIZE
    assert disk.read_bytes()[:SIZE] == converted(image, directory / "theirs")
