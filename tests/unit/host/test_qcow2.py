# SPDX-License-Identifier: GPL-2.0-or-later
"""Our qcow2 reader beside QEMU: valid images are read as `qemu-img convert` reads them, what needs more is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from block_devices import loop_device
from qcow2_images import COPIED, DATA, Crafted, decode, opened
from snf_image_host import kernel
from snf_image_host.copying.buffers import CHUNK, huge_pages
from snf_image_host.copying.edges import edges_last
from snf_image_host.decoding import clusters
from snf_image_host.decoding.qcow2 import pieces
from snf_image_host.decoding.qcow2_map import Span
from snf_image_host.decoding.stored_file import StoredFile
from snf_image_host.disks.targets import open_target
from snf_image_shared.errors import ImageError

KIB, MIB = 1 << 10, 1 << 20
SIZE = 2 * MIB + 300 * KIB - 7 * 512  # of the images' disk: no multiple of any cluster
DISK = 4 * MIB
GARBAGE = b"\xa5"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory on a file system with O_DIRECT, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with what compresses well, what does not, and zeros, in runs of odd lengths."""
    random = Random(4)
    content = bytearray()
    while len(content) < SIZE:
        length = random.randrange(1, 64) << 10
        content += random.choice((bytes(length), random.randbytes(length), b"0123456789abcdef" * (length // 16)))
    path = tmp_path_factory.mktemp("raw") / "raw"
    path.write_bytes(content[:SIZE])
    return path


def qemu_img(*arguments: object) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True)


def qemu_io(image: Path, *commands: str) -> None:
    """Change an image as its instance would; a command that fails fails the test."""
    options = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(["qemu-io", "-f", "qcow2", *options, str(image)], check=True, capture_output=True, text=True)
    assert "failed" not in done.stdout + done.stderr


def made(raw: Path, directory: Path, *options: str) -> Path:
    """The disk as a qcow2 image."""
    image = directory / "image"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", *options, raw, image)
    return image


def check_alike(image: Path, room: int = DISK) -> bytes:
    """Read the image by either reader: the disk's content must be the same, and not a byte behind it be touched."""
    disk, theirs = image.with_name("disk"), image.with_name("theirs")
    disk.write_bytes(GARBAGE * room)
    size = decode(image, disk)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", image, theirs)
    content = theirs.read_bytes()
    assert size == len(content)
    ours = disk.read_bytes()
    assert ours[:size] == content
    assert set(ours[max(size, MIB) : room - MIB]) <= set(GARBAGE)
    return content


OPTIONS = (
    *(("-o", f"cluster_size={size}") for size in ("512", "4K", "64K", "2M")),
    *(("-o", f"compat=0.10,cluster_size={size}") for size in ("1K", "64K")),
    *(("-c", "-o", f"cluster_size={size}") for size in ("1K", "4K", "64K", "2M")),
    *(("-c", "-o", f"compat=0.10,cluster_size={size}") for size in ("512", "64K")),
    *(("-c", "-o", f"compression_type=zstd,cluster_size={size}") for size in ("512", "64K", "2M")),
    *(("-o", f"refcount_bits={bits}") for bits in (1, 8, 64)),
    *(("-o", f"preallocation={how},cluster_size=4K") for how in ("metadata", "falloc", "full")),
    ("-o", "lazy_refcounts=on"),
    ("-c", "-W", "-m", "8", "-o", "cluster_size=4K"),
    ("-S", "0"),
)


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_what_qemu_img_makes_of_a_disk_holds_that_disk(raw: Path, directory: Path, options: tuple[str, ...]) -> None:
    assert check_alike(made(raw, directory, *options)) == raw.read_bytes()


@pytest.mark.parametrize("cluster", ["512", "4K", "64K", "2M"])
def test_clusters_of_zeros_read_as_zeros_whatever_lies_below_them(raw: Path, directory: Path, cluster: str) -> None:
    image = made(raw, directory, "-o", f"cluster_size={cluster}")
    qemu_io(image, "write -z 64k 128k", "write -z -u 512k 256k", "discard 1M 192k", f"write -z {SIZE - 512} 512")
    qemu_io(image, "write -P 0x77 1088k 3k", "write -z 300k 1k", "write -P 0x78 60k 8k")
    content = check_alike(image)
    assert not any(content[100 * KIB : 190 * KIB] + content[512 * KIB : 768 * KIB] + content[-512:])


def test_discarded_clusters_of_version_2_read_as_zeros(raw: Path, directory: Path) -> None:
    image = made(raw, directory, "-o", "compat=0.10")
    qemu_io(image, "discard 64k 192k", "write -P 0x77 128k 1k")
    check_alike(image)


def test_no_memory_of_other_places_shows_between_small_clusters(directory: Path) -> None:
    """Every other cluster is nothing: the even ones at first, then the odd ones, when all buffers have been used."""
    part = directory / "part"
    part.write_bytes((b"D" * 4 * KIB + bytes(4 * KIB)) * 2560 + (bytes(4 * KIB) + b"D" * 4 * KIB) * 1024)
    image = made(part, directory, "-S", "4k", "-o", "cluster_size=4K")
    assert check_alike(image, 32 * MIB) == part.read_bytes()


def test_compressed_clusters_that_were_partly_written_since(raw: Path, directory: Path) -> None:
    image = made(raw, directory, "-c")
    qemu_io(image, "write -P 0x77 100k 100k", "write -P 0x78 1M 512", "discard 1280k 64k", "write -c -P 0x79 1280k 64k")
    check_alike(image)


def test_an_image_with_what_a_deleted_snapshot_leaves(raw: Path, directory: Path) -> None:
    image = made(raw, directory)
    qemu_img("snapshot", "-c", "first", image)
    qemu_io(image, "write -P 0x77 0 700k")
    qemu_img("snapshot", "-c", "second", image)
    qemu_io(image, "write -P 0x78 200k 1M")
    qemu_img("snapshot", "-d", "first", image)
    qemu_img("snapshot", "-a", "second", image)
    qemu_img("snapshot", "-d", "second", image)
    check_alike(image)


@pytest.mark.parametrize("size", ["+1M", "-1M", "3M"])
def test_an_image_that_was_resized(raw: Path, directory: Path, size: str) -> None:
    image = made(raw, directory, "-o", "cluster_size=4K")
    qemu_img("resize", "-f", "qcow2", "--shrink", image, size)
    check_alike(image)


def test_an_image_whose_bitmap_and_backing_file_are_gone(raw: Path, directory: Path) -> None:
    image = made(raw, directory)
    base = shutil.copy(image, directory / "base")
    qemu_img("bitmap", "--add", image, "one")
    qemu_img("bitmap", "--remove", image, "one")
    qemu_img("rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", base, image)
    qemu_img("rebase", "-f", "qcow2", "-b", "", image)
    check_alike(image)


@pytest.mark.parametrize("size", [512, 1024, 64 * KIB - 512, 64 * KIB, 64 * KIB + 512, 1 * MIB, 1 * MIB + 512])
@pytest.mark.parametrize("options", [(), ("-c",)], ids=["plain", "packed"])
def test_disks_of_few_bytes(raw: Path, directory: Path, size: int, options: tuple[str, ...]) -> None:
    part = directory / "part"
    part.write_bytes(raw.read_bytes()[300 * KIB :][:size])
    assert len(check_alike(made(part, directory, *options))) == size


def test_an_image_of_nothing_at_all(directory: Path) -> None:
    image = directory / "image"
    qemu_img("create", "-f", "qcow2", image, SIZE)
    assert not any(check_alike(image))


@settings(max_examples=12)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("write -P 0x11", "write -P 0x22", "write -z", "write -z -u", "discard", "pack")),
            st.integers(0, SIZE // 512 - 1),
            st.integers(1, 600),
        ),
        min_size=1,
        max_size=25,
    ),
    st.sampled_from(("512", "2K", "16K", "64K")),
)
def test_any_sequence_of_writes_is_read_alike(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int, int]], cluster: str
) -> None:
    image = tmp_path_factory.mktemp("writes") / "image"
    qemu_img("create", "-f", "qcow2", "-o", f"cluster_size={cluster}", image, SIZE)
    commands = []
    for number, (what, start, count) in enumerate(changes):
        if what == "pack":  # a cluster, and only one that was never written
            offset = start * 512 // (64 * KIB) * (64 * KIB)
            commands += [f"discard {offset} 64k", f"write -c -P {number + 1} {offset} {cluster}"]
            commands = commands if offset + 64 * KIB <= SIZE else commands[:-2]
        else:
            commands.append(f"{what} {start * 512} {min(count * 512, SIZE - start * 512)}")
    if commands:
        qemu_io(image, *commands)
    check_alike(image)
    shutil.rmtree(image.parent)


REFUSED = {
    "backing-file": (("create", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw"), ()),
    "data-file": (("create", "-f", "qcow2", "-o", "data_file={directory}/data"), ("1M",)),
    "extended-l2": (("create", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=64K"), ("1M",)),
    "encryption": (
        (
            *("create", "--object", "secret,id=key,data=secret", "-f", "qcow2"),
            *("-o", "encrypt.format=aes,encrypt.key-secret=key"),
        ),
        ("1M",),
    ),
}


@pytest.mark.parametrize("check", REFUSED)
def test_an_image_of_qemus_that_needs_more_than_its_file_is_refused(directory: Path, check: str) -> None:
    before, after = REFUSED[check]
    qemu_img(*(word.format(directory=directory) for word in before), directory / "image", *after)
    with pytest.raises(ImageError, match=rf"\(check {check}\)$"), opened(directory / "image"):
        pass


def test_an_image_with_a_snapshot_or_a_bitmap_or_half_a_write_is_refused(raw: Path, directory: Path) -> None:
    image = made(raw, directory)
    qemu_img("bitmap", "--add", image, "one")
    with pytest.raises(ImageError, match=r"\(check bitmaps\)$"), opened(image):
        pass
    image = made(raw, directory)
    qemu_img("snapshot", "-c", "one", image)
    with pytest.raises(ImageError, match=r"\(check snapshots\)$"), opened(image):
        pass
    qemu_img("create", "-f", "qcow2", "-o", "lazy_refcounts=on", image, "1M")
    crashing = ["qemu-io", "-f", "qcow2", "-c", "write 0 64k", "-c", "abort", str(image)]
    subprocess.run(crashing, check=False, capture_output=True, cwd=directory)
    with pytest.raises(ImageError, match=r"\(check dirty\)$"), opened(image):
        pass


def test_the_last_cluster_of_a_file_may_be_cut_short(directory: Path) -> None:
    image = Crafted(size=(DATA + 3) * 4 * KIB + 100).write(directory / "image")
    assert check_alike(image)[12 * KIB :] == b"D" * 100 + bytes(52 * KIB - 100)


@pytest.mark.root
def test_small_clusters_fill_a_disk_of_4_kib_sectors(raw: Path, directory: Path) -> None:
    image = made(raw, directory, "-o", "cluster_size=512")
    qemu_io(image, *(f"write -z {number * 7 * 512} 512" for number in range(200)))
    check_alike(image)
    disk = directory / "disk"
    disk.write_bytes(GARBAGE * DISK)
    with loop_device(disk, "--sector-size=4096", "--direct-io=on") as device:
        decode(image, device)
    theirs = image.with_name("theirs").read_bytes()
    assert disk.read_bytes()[: SIZE + 512 * 7] == theirs + bytes(-SIZE % 4096) + GARBAGE * (512 * 7 - -SIZE % 4096)


def test_the_file_is_read_past_the_page_cache(raw: Path, directory: Path) -> None:
    for options in ((), ("-c",), ("-o", "cluster_size=512")):
        image = made(raw, directory, *options)
        with image.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        (directory / "disk").write_bytes(GARBAGE * DISK)
        decode(image, directory / "disk")
        found = subprocess.run(
            ["fincore", "--noheadings", "--bytes", "--output", "RES", image], check=True, capture_output=True, text=True
        )
        assert int(found.stdout) == 0


def test_what_lies_behind_the_end_of_a_file_replaces_what_was_in_memory(directory: Path) -> None:
    (directory / "file").write_bytes(b"D" * 5000)
    memory = huge_pages(16 * KIB)
    for is_direct in (True, False):
        memory[:] = GARBAGE * (16 * KIB)
        with (directory / "file").open("rb") as file:
            stored = StoredFile(file.fileno())
            kernel.set_direct(stored.fd, is_direct)
            stored.read(memory, 4096, 8192)
        assert memory[:8192] == b"D" * 904 + bytes(7288)


@pytest.mark.root
def test_what_knows_no_holes_has_none(directory: Path) -> None:
    (directory / "file").write_bytes(bytes(MIB))
    with loop_device(directory / "file") as device, device.open("rb", buffering=0) as file:
        assert not StoredFile(file.fileno()).is_hole(0, MIB)
    os.truncate(directory / "file", 0)
    os.truncate(directory / "file", MIB)
    with (directory / "file").open("rb") as file:
        assert StoredFile(file.fileno()).is_hole(0, MIB)


def test_a_file_that_shrinks_while_it_is_read_is_no_zeros(raw: Path, directory: Path) -> None:
    image = made(raw, directory)
    (directory / "disk").write_bytes(GARBAGE * DISK)
    with opened(image) as content, open_target(directory / "disk") as target, edges_last(target) as edges:
        os.truncate(image, image.stat().st_size - 256 * KIB)
        with pytest.raises(ImageError, match=r"^ends before byte \d+: do not change it while it is read$"):
            content.fill(edges, lambda _read, _written: None)


def test_progress_is_told_of_both_sides_and_ends_with_the_whole_disk(raw: Path, directory: Path) -> None:
    image = made(raw, directory, "-c")
    (directory / "disk").write_bytes(GARBAGE * DISK)
    told: list[tuple[int, int]] = []
    with opened(image) as content, open_target(directory / "disk") as target, edges_last(target) as edges:
        assert content.size == SIZE
        content.fill(edges, lambda read, written: told.append((read, written)))
    assert all(one[0] <= two[0] and one[1] <= two[1] for one, two in pairwise(told))
    assert told[-1][1] == SIZE
    assert 0 < told[-1][0] <= image.stat().st_size


@pytest.mark.parametrize("library", ["isal.isal_zlib", "zlib"])
def test_either_library_unpacks_deflate_alike(monkeypatch: pytest.MonkeyPatch, raw: Path, library: str) -> None:
    monkeypatch.setattr(clusters, "_DEFLATE", (library, library))
    unpack = clusters.unpacker(clusters.ZLIB)
    content = raw.read_bytes()
    for start in range(0, len(content) - 64 * KIB, 64 * KIB):
        plain = content[start : start + 64 * KIB]
        deflate = zlib.compressobj(9, zlib.DEFLATED, -12)
        packed = deflate.compress(plain) + deflate.flush()
        memory = memoryview(bytearray(64 * KIB))
        assert unpack(memoryview(packed + b"tail"), memory)
        assert memory == plain
        assert not unpack(memoryview(packed[:-8]), memory)


SPANS = st.lists(st.tuples(st.integers(1, 40), st.sampled_from(("zeros", "data", "packed"))), min_size=1, max_size=60)


@settings(max_examples=60)
@given(SPANS, st.sampled_from((512, 4 * KIB, 64 * KIB, 2 * MIB)), st.integers(0, 7))
def test_pieces_cover_a_disk_once_in_blocks_that_fit(runs: list[tuple[int, str]], cluster: int, cut: int) -> None:
    spans: list[Span] = []
    done = 0
    for count, kind in runs:
        if kind == "packed":
            parts = [Span(done + n * cluster, cluster, 1 << 40 | done + n, 100) for n in range(count)]
        else:
            parts = [Span(done, count * cluster, 1 << 40 if kind == "data" else 0)]
        spans += parts
        done = spans[-1].end
    size = done - min(cut * 512, cluster - 512)
    spans[-1] = spans[-1]._replace(length=size - spans[-1].offset)
    block = max(64 * KIB, cluster)
    at = 0
    seen: list[Span] = []
    for piece in pieces(_merged(spans), size, block):
        assert piece.offset == at
        assert at % block == 0
        at += piece.length
        if piece.spans:
            assert piece.length <= CHUNK
            assert piece.offset <= piece.spans[0].offset
            assert piece.spans[-1].end <= at
            seen += piece.spans
    assert at == size
    assert _joined(seen) == _joined([span for span in spans if span.host])


def _merged(spans: list[Span]) -> list[Span]:
    """With one span for each run of zeros, as they come."""
    found: list[Span] = []
    for span in spans:
        if found and not found[-1].host and not span.host:
            found[-1] = Span(found[-1].offset, found[-1].length + span.length)
        else:
            found.append(span)
    return found


def _joined(spans: list[Span]) -> list[Span]:
    """With one span for each run of data."""
    found: list[Span] = []
    for span in spans:
        last = found[-1] if found else Span(-1, 0)
        if not span.packed and not last.packed and (span.offset, span.host) == (last.end, last.host + last.length):
            found[-1] = last._replace(length=last.length + span.length)
        else:
            found.append(span)
    return found


def test_an_entry_with_the_copied_flag_alone_is_nothing(directory: Path) -> None:
    image = Crafted(l2={9: COPIED}, fields={"size": 600 * 4 * KIB, "l1_entries": 2}, l1={1: COPIED})
    check_alike(image.write(directory / "image"))
