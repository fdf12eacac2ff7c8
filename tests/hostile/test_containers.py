# SPDX-License-Identifier: GPL-2.0-or-later
"""VMDK, VDI and VHDX images made to harm: each is refused by the check that is for it, before QEMU sees it."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_images import (
    BLOCKS,
    DISK_SIZE,
    FILE_PARAMETERS,
    KIB,
    METADATA,
    MIB,
    PARENT,
    PHYSICAL,
    SECTOR_SIZE,
    SIZE,
    VDI,
    VMDK,
    made,
    region,
    sparse,
    stream,
    vdi,
    vhdx,
    with_bytes,
    with_entry,
    with_fields,
    with_footer,
    with_header,
    with_item,
    with_regions,
    with_text,
)
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import check_fits, copy
from snf_image_host.decoding import vdi as vdi_module
from snf_image_host.decoding import vhdx as vhdx_module
from snf_image_host.decoding import vhdx_regions
from snf_image_host.decoding import vmdk as vmdk_module
from snf_image_host.decoding.inspection import INSPECTORS
from snf_image_host.disks.instance_disks import InstanceDisk
from snf_image_host.disks.storage import open_for_reading
from snf_image_host.disks.targets import open_target
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import open_image
from snf_image_host.progress import Progress
from snf_image_host.transfer import export
from snf_image_shared.errors import ImageError

SPARSE, STREAM = b'createType="monolithicSparse"', b'createType="streamOptimized"'
EXTENT = b'RW 6145 SPARSE "image"'
PARENT_CID = b"parentCID=ffffffff"


def added(line: bytes) -> bytes:
    """A sparse image with one more line in its descriptor."""
    return with_text(sparse(), (SPARSE, SPARSE + b"\n" + line))


def block_map(entries: bytes) -> bytes:
    return with_bytes(vdi(), struct.unpack_from("<I", vdi(), 340)[0], entries)


def block_table(entry: int, number: int = 0) -> bytes:
    return with_bytes(vhdx(), region(vhdx(), BLOCKS)[1] + 8 * number, struct.pack("<Q", entry))


def grain_directory(entries: bytes) -> bytes:
    return with_bytes(sparse(), struct.unpack_from("<Q", sparse(), 56)[0] * 512, entries)


def grain_table(entries: bytes) -> bytes:
    directory = struct.unpack_from("<Q", sparse(), 56)[0] * 512
    return with_bytes(sparse(), struct.unpack_from("<I", sparse(), directory)[0] * 512, entries)


VMDKS: dict[str, tuple[str, bytes]] = {
    # name of the case: check, image
    "no-magic": ("vmdk-magic", with_fields(sparse(), VMDK, magic=b"KDMW")),
    "version-0": ("vmdk-version", with_fields(sparse(), VMDK, version=0)),
    "version-4": ("vmdk-version", with_fields(sparse(), VMDK, version=4)),
    "feature": ("vmdk-flags", with_fields(sparse(), VMDK, flags=0x13)),
    # QEMU then takes the descriptor for that of other files, which it opens.
    "capacity-0": ("vmdk-capacity", with_fields(sparse(), VMDK, capacity=0)),
    "capacity-most": ("vmdk-size", with_fields(sparse(), VMDK, capacity=(1 << 64) - 1)),
    "descriptor-elsewhere": ("vmdk-descriptor", with_fields(sparse(), VMDK, descriptor_at=2)),
    "descriptor-none": ("vmdk-descriptor", with_fields(sparse(), VMDK, descriptor_at=0, descriptor_length=0)),
    "descriptor-of-a-mebibyte": ("vmdk-descriptor", with_fields(sparse(), VMDK, descriptor_length=2048)),
    "descriptor-most": ("vmdk-descriptor", with_fields(sparse(), VMDK, descriptor_length=(1 << 64) - 1)),
    "descriptor-cut": ("inside-the-file", with_fields(sparse(), VMDK, descriptor_length=2047)[: 600 * KIB]),
    "text-transfer": ("vmdk-newlines", with_fields(sparse(), VMDK, newlines=b"\n \n\n")),
    "unclean": ("vmdk-unclean", with_fields(sparse(), VMDK, unclean=1)),
    "grain-0": ("vmdk-grain", with_fields(sparse(), VMDK, grain=0)),
    "grain-odd": ("vmdk-grain", with_fields(sparse(), VMDK, grain=127)),
    "grain-most": ("vmdk-grain", with_fields(sparse(), VMDK, grain=1 << 63)),
    "table": ("vmdk-grain", with_fields(sparse(), VMDK, table=513)),
    "compressed": ("vmdk-compression", with_fields(sparse(), VMDK, compression=1)),
    "compressed-feature": ("vmdk-compression", with_fields(sparse(), VMDK, flags=0x10001)),
    "compression-2": ("vmdk-compression", with_fields(stream(), VMDK, compression=2)),
    "no-directory": ("vmdk-directory", with_fields(sparse(), VMDK, directory_at=(1 << 64) - 1)),
    "directory-outside": ("inside-the-file", with_fields(sparse(), VMDK, directory_at=(1 << 63) - 1)),
    "tables-outside": ("inside-the-file", grain_directory(b"\xff" * 4)),
    "grain-outside": ("vmdk-grains-inside", grain_table(b"\xff" * 4)),
    "last-grain-outside": ("vmdk-grains-inside", grain_table(struct.pack("<I", 0) * 48 + struct.pack("<I", 1 << 20))),
    "no-descriptor": ("vmdk-descriptor", with_text(sparse(), (b"# Disk DescriptorFile", b"# Disk Descriptor"))),
    "shadow": ("vmdk-extent-path", with_text(sparse(), (b'"image"', b'"/etc/shadow"'))),
    "parent-directory": ("vmdk-extent-path", with_text(sparse(), (b'"image"', b'"../image"'))),
    "backslash": ("vmdk-extent-path", with_text(sparse(), (b'"image"', b'"..\\\\image"'))),
    "second-extent": ("vmdk-extents", with_text(sparse(), (EXTENT, EXTENT + b"\n" + EXTENT))),
    "second-extent-path": ("vmdk-extent-path", with_text(sparse(), (EXTENT, EXTENT + b'\nRW 1 FLAT "/dev/sda" 0'))),
    "no-extent": ("vmdk-extents", with_text(sparse(), (EXTENT, b"# " + EXTENT))),
    "flat-extent": ("vmdk-extent-type", with_text(sparse(), (b"SPARSE", b"FLAT"))),
    "zero-extent": ("vmdk-line", with_text(sparse(), (EXTENT, b"RW 6145 ZERO"))),
    "flat": ("vmdk-create-type", with_text(sparse(), (SPARSE, b'createType="monolithicFlat"'))),
    "vmfs": ("vmdk-create-type", with_text(sparse(), (SPARSE, b'createType="vmfs"'))),
    "device": ("vmdk-create-type", with_text(sparse(), (SPARSE, b'createType="fullDevice"'))),
    "no-type": ("vmdk-create-type", with_text(sparse(), (SPARSE, b""))),
    "two-types": ("vmdk-line", added(STREAM)),
    "two-types-in-case": ("vmdk-line", added(b"CREATETYPE=x")),
    "type-of-a-stream": ("vmdk-agreement", with_text(sparse(), (SPARSE, STREAM))),
    "size": ("vmdk-agreement", with_text(sparse(), (b"RW 6145", b"RW 99999"))),
    "parent": ("vmdk-parent", with_text(sparse(), (PARENT_CID, b"parentCID=12345678"))),
    "parent-file": ("vmdk-parent", added(b'parentFileNameHint="/etc/shadow"')),
    "parent-file-in-case": ("vmdk-parent", added(b'PARENTFILENAMEHINT = "json:{}"')),
    "line": ("vmdk-line", added(b"include /etc/shadow")),
    "line-of-control": ("vmdk-line", added(b"\x1b[2J")),
    "no-footer": ("vmdk-footer", with_fields(stream(), VMDK, directory_at=(1 << 64) - 1)),
    "footer-cut": ("vmdk-footer", with_footer(stream())[:-512]),
    "footer-marker": ("vmdk-footer", with_footer(stream())[:-1024] + bytes(1024)),
    "footer-behind": ("vmdk-footer", with_footer(stream()) + bytes(512)),
    "footer-after-the-end": ("vmdk-footer", with_footer(stream())[:-1] + b"\1"),
    "footer-magic": ("vmdk-footer", with_footer(stream(), magic=b"COWD")),
    "footer-version": ("vmdk-footer", with_footer(stream(), version=1)),
    "footer-capacity": ("vmdk-footer", with_footer(stream(), capacity=1)),
    "footer-descriptor": ("vmdk-footer", with_footer(stream(), descriptor_at=99)),
    "footer-again": ("vmdk-footer", with_footer(stream(), directory_at=(1 << 64) - 1)),
    "footer-outside": ("inside-the-file", with_footer(stream(), directory_at=1 << 40)),
    "empty": ("inside-the-file", b""),
    "short": ("inside-the-file", sparse()[:78]),
}
VDIS: dict[str, tuple[str, bytes]] = {
    "signature": ("vdi-signature", with_fields(vdi(), VDI, signature=0)),
    "version-0": ("vdi-version", with_fields(vdi(), VDI, version=0x10000)),
    "version-2": ("vdi-version", with_fields(vdi(), VDI, version=0x20000)),
    "undo": ("vdi-type", with_fields(vdi(), VDI, kind=3)),
    "difference": ("vdi-type", with_fields(vdi(), VDI, kind=4)),
    "parent": ("vdi-parent", with_fields(vdi(), VDI, parent=b"parentparentpare")),
    "link": ("vdi-parent", with_fields(vdi(), VDI, link=b"parentparentpare")),
    "sectors": ("vdi-sector-size", with_fields(vdi(), VDI, sector_size=4096)),
    "blocks-of-0": ("vdi-block-size", with_fields(vdi(), VDI, block_size=0)),
    "blocks-of-2-mib": ("vdi-block-size", with_fields(vdi(), VDI, block_size=2 * MIB)),
    "block-extra": ("vdi-block-size", with_fields(vdi(), VDI, block_extra=512)),
    "map-odd": ("vdi-offsets", with_fields(vdi(), VDI, map_at=513)),
    "map-in-header": ("vdi-offsets", with_fields(vdi(), VDI, map_at=0)),
    "blocks-odd": ("vdi-offsets", with_fields(vdi(), VDI, blocks_at=1025)),
    "size-0": ("vdi-size", with_fields(vdi(), VDI, disk_size=0)),
    "size-most": ("vdi-blocks", with_fields(vdi(), VDI, disk_size=(1 << 64) - 1)),
    "blocks-most": ("vdi-blocks", with_fields(vdi(), VDI, blocks=(1 << 32) - 1)),
    "blocks-and-size-most": ("vdi-blocks", with_fields(vdi(), VDI, blocks=(1 << 32) - 1, disk_size=(1 << 52) - MIB)),
    "map-over-blocks": ("vdi-map", with_fields(vdi(), VDI, blocks_at=512)),
    "map-outside": ("inside-the-file", with_fields(vdi(), VDI, map_at=(1 << 32) - 1024, blocks_at=(1 << 32) - 512)),
    "block-outside": ("vdi-blocks-inside", block_map(struct.pack("<I", 4))),
    "block-far-outside": ("vdi-blocks-inside", block_map(b"\xfd\xff\xff\xff")),
    "last-block-outside": ("vdi-blocks-inside", block_map(b"\xff\xff\xff\xff" * 3 + struct.pack("<I", 9))),
    "empty": ("inside-the-file", b""),
    "short": ("inside-the-file", vdi()[:400]),
}
GUID = bytes(range(16))
VHDXS: dict[str, tuple[str, bytes]] = {
    "signature": ("vhdx-signature", with_bytes(vhdx(), 0, b"vhdxfilf")),
    "headers": ("vhdx-header", with_bytes(with_bytes(vhdx(), 64 * KIB + 4, bytes(4)), 128 * KIB + 4, bytes(4))),
    "headers-of-one-age": ("vhdx-header", with_header(vhdx(), 8, bytes(8))),
    "version": ("vhdx-version", with_header(vhdx(), 66, struct.pack("<H", 2))),
    "log": ("vhdx-log", with_header(vhdx(), 48, GUID)),
    "regions": ("vhdx-regions", with_bytes(with_bytes(vhdx(), 192 * KIB, b"REGI"), 256 * KIB, b"REGI")),
    "regions-checksum": ("vhdx-regions", with_bytes(with_bytes(vhdx(), 200 * KIB, b"x"), 264 * KIB, b"x")),
    "regions-most": ("vhdx-regions", with_regions(vhdx(), 8, struct.pack("<I", 2048))),
    "regions-none": ("vhdx-regions", with_regions(vhdx(), 8, struct.pack("<I", 0))),
    "region-unknown": ("vhdx-regions", with_regions(vhdx(), region(vhdx(), METADATA)[0], GUID)),
    "region-in-header": ("vhdx-regions", with_regions(vhdx(), region(vhdx(), METADATA)[0] + 16, bytes(8))),
    "region-odd": ("vhdx-regions", with_regions(vhdx(), region(vhdx(), METADATA)[0] + 16, struct.pack("<Q", MIB + 1))),
    "region-outside": (
        "inside-the-file",
        with_regions(vhdx(), region(vhdx(), METADATA)[0] + 16, struct.pack("<Q", 1 << 50)),
    ),
    "regions-in-one-place": (
        "vhdx-regions",
        with_regions(vhdx(), region(vhdx(), METADATA)[0] + 16, struct.pack("<Q", region(vhdx(), BLOCKS)[1])),
    ),
    "metadata": ("vhdx-metadata", with_bytes(vhdx(), region(vhdx(), METADATA)[1], b"METADATA")),
    "items-most": ("vhdx-metadata", with_bytes(vhdx(), region(vhdx(), METADATA)[1] + 10, b"\xff\xff")),
    "item-unknown": ("vhdx-metadata", with_entry(vhdx(), PHYSICAL, GUID)),
    "item-twice": ("vhdx-metadata", with_entry(vhdx(), PHYSICAL, bytes.fromhex(SECTOR_SIZE))),
    "item-outside": ("vhdx-metadata", with_entry(vhdx(), DISK_SIZE, b"\xff" * 4, skip=16)),
    "item-in-the-table": ("vhdx-metadata", with_entry(vhdx(), DISK_SIZE, bytes(4), skip=16)),
    "item-long": ("vhdx-metadata", with_entry(vhdx(), DISK_SIZE, struct.pack("<I", 9), skip=20)),
    "no-size": ("vhdx-size", with_entry(vhdx(), DISK_SIZE, GUID + struct.pack("<III", 65536, 8, 0))),
    "parent-flag": ("vhdx-parent", with_item(vhdx(), FILE_PARAMETERS, b"\2", skip=4)),
    "parent-locator": ("vhdx-parent", with_entry(vhdx(), PHYSICAL, bytes.fromhex(PARENT))),
    "sectors": ("vhdx-sector-size", with_item(vhdx(), SECTOR_SIZE, struct.pack("<I", 4096))),
    "blocks-of-0": ("vhdx-block-size", with_item(vhdx(), FILE_PARAMETERS, bytes(4))),
    "blocks-odd": ("vhdx-block-size", with_item(vhdx(), FILE_PARAMETERS, struct.pack("<I", 3 * MIB))),
    "blocks-of-512-mib": ("vhdx-block-size", with_item(vhdx(), FILE_PARAMETERS, struct.pack("<I", 512 * MIB))),
    "size-0": ("vhdx-size", with_item(vhdx(), DISK_SIZE, bytes(8))),
    "size-odd": ("vhdx-size", with_item(vhdx(), DISK_SIZE, struct.pack("<Q", SIZE - 1))),
    "size-most": ("vhdx-size", with_item(vhdx(), DISK_SIZE, b"\xff" * 8)),
    "table-short": ("vhdx-table", with_item(vhdx(), DISK_SIZE, struct.pack("<Q", 2 << 40))),
    "block-of-a-difference": ("vhdx-block-state", block_table(8 * MIB | 7)),
    "block-reserved": ("vhdx-block-state", block_table(8 * MIB | 5)),
    "block-in-header": ("vhdx-blocks-apart", block_table(6)),
    "blocks-shared": (
        "vhdx-blocks-apart",
        block_table(struct.unpack_from("<Q", vhdx(), region(vhdx(), BLOCKS)[1])[0], number=1),
    ),
    "block-outside": ("vhdx-blocks-inside", block_table(1 << 40 | 6)),
    "block-far-outside": ("vhdx-blocks-inside", block_table(((1 << 44) - 1) << 20 | 6)),
    "empty": ("inside-the-file", b""),
    "short": ("inside-the-file", vhdx()[: 100 * KIB]),
}
ALL = [(driver, name) for driver, cases in (("vmdk", VMDKS), ("vdi", VDIS), ("vhdx", VHDXS)) for name in cases]
CASES = {"vmdk": VMDKS, "vdi": VDIS, "vhdx": VHDXS}


def inspect(driver: str, image: bytes) -> int:
    fd = os.memfd_create("image")
    try:
        os.write(fd, image)
        return INSPECTORS[driver](fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(("driver", "name"), ALL)
def test_each_check_refuses_what_it_is_for(driver: str, name: str) -> None:
    check, image = CASES[driver][name]
    with pytest.raises(ImageError) as caught:
        inspect(driver, image)
    assert str(caught.value).endswith(f"(check {check})")
    assert str(caught.value).isprintable()


def test_no_check_is_without_a_case() -> None:
    names = {check.name for check in vmdk_module.CHECKS} | {check.name for check in vdi_module.CHECKS}
    names |= {check.name for check in vhdx_module.CHECKS} | {check.name for check in vhdx_regions.HEADER_CHECKS}
    assert names <= {check for cases in CASES.values() for check, _ in cases.values()}


@pytest.mark.parametrize(
    ("driver", "image"),
    [
        ("vmdk", sparse()),
        ("vmdk", stream()),
        ("vmdk", with_footer(stream())),
        ("vmdk", with_text(sparse(), (b"\n", b"\r\n"))),
        ("vmdk", with_text(sparse(), (SPARSE, b'CreateType = "monolithicSparse"'))),
        ("vmdk", added(b'ddb.comment = "\xe9 / anything"\nencoding="windows-1252"\n#DDB')),
        ("vmdk", with_text(sparse(), (b"RW 6145", b"RDONLY 6200"))),
        ("vmdk", sparse()[: 512 - 64 * KIB]),  # the last grain, of which the disk has but one sector
        ("vdi", vdi()),
        ("vdi", vdi()[: 512 - MIB]),
        ("vdi", block_map(b"\xfe\xff\xff\xff")),
        ("vhdx", vhdx()),
        ("vhdx", with_header(vhdx(), 48, GUID, number=0 if vhdx()[64 * KIB + 8] < vhdx()[128 * KIB + 8] else 1)),
        ("vhdx", with_bytes(vhdx(), 192 * KIB, bytes(64 * KIB))),
        ("vhdx", block_table(2)),
    ],
)
def test_what_is_unusual_and_harmless_is_accepted(driver: str, image: bytes) -> None:
    assert inspect(driver, image) == SIZE


def test_entries_for_bitmaps_are_no_blocks_of_a_vhdx(tmp_path: Path) -> None:
    """There is one behind each 4096 blocks of 1 MiB."""
    path = tmp_path / "image"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", path, "5G"], check=True)
    table, outside = region(path.read_bytes(), BLOCKS)[1], struct.pack("<Q", 1 << 40 | 6)
    assert inspect("vhdx", with_bytes(path.read_bytes(), table + 8 * 4096, outside)) == 5 << 30
    for number in (4095, 4097, 5120):
        with pytest.raises(ImageError, match="vhdx-blocks-inside"):
            inspect("vhdx", with_bytes(path.read_bytes(), table + 8 * number, outside))


def test_a_vmdk_whose_directory_is_huge_takes_little_time_and_memory(tmp_path: Path) -> None:
    """2^20 tables, all of them the same."""
    image = with_fields(sparse(), VMDK, capacity=(1 << 20) * 512 * 128, directory_at=4096)
    image = with_text(image, (b"RW 6145", f"RW {(1 << 20) * 512 * 128}".encode()))
    assert inspect("vmdk", with_bytes(image, 4096 * 512, struct.pack("<I", 8192) * (1 << 20))) == 32 << 40


def _mutations(image: bytes) -> st.SearchStrategy[bytes]:
    """Some bytes of the first ones exchanged, and the end cut off now and then."""
    change = st.tuples(st.integers(0, 2 * KIB), st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8)))
    cut = st.one_of(st.just(len(image)), st.integers(0, len(image)))

    def changed(changes: list[tuple[int, bytes]], length: int) -> bytes:
        found = image
        for place, data in changes:
            found = with_bytes(found, place, data)
        return found[:length]

    return st.builds(changed, st.lists(change, max_size=4), cut)


@pytest.mark.parametrize(("driver", "make"), [("vmdk", sparse), ("vmdk", stream), ("vdi", vdi), ("vhdx", vhdx)])
def test_no_bytes_get_anything_but_a_size_or_a_reason_out_of_an_inspector(
    driver: str, make: Callable[[], bytes]
) -> None:
    @hypothesis.settings(max_examples=60)
    @given(st.one_of(_mutations(make()), st.binary(max_size=2 * KIB)))
    def inspected(image: bytes) -> None:
        try:
            assert 0 < inspect(driver, image) <= 64 << 40
        except ImageError as error:
            assert str(error).isprintable()

    inspected()


@hypothesis.settings(max_examples=40)
@given(st.integers(0, 5), st.integers(0, 64 * KIB), st.binary(min_size=1, max_size=16))
def test_no_bytes_behind_right_checksums_do_either(structure: int, place: int, data: bytes) -> None:
    """Checksums keep accidents out, nobody who writes his own."""
    _, metadata = region(vhdx(), METADATA)
    _, blocks = region(vhdx(), BLOCKS)
    image = (
        with_header(vhdx(), 8 + place % 80, data)
        if structure == 0
        else with_bytes(vhdx(), metadata + place % 300, data)
        if structure < 3
        else with_bytes(vhdx(), metadata + 64 * KIB + place % 64, data)
        if structure < 5
        else with_bytes(vhdx(), blocks + place % 64, data)
    )
    try:
        assert 0 < inspect("vhdx", image) <= 64 << 40
    except ImageError as error:
        assert str(error).isprintable()


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def refused(directory: Path, img_format: str, image: bytes) -> str:
    """Why a deployment as create's is refused; the disk must be as it was."""
    garbage = b"\xa5" * (5 * MIB)
    (directory / "image").write_bytes(image)
    (directory / "disk").write_bytes(garbage)
    settings = Settings(
        helper_dir=directory, image_dir=directory, run_dir=directory / "run", cache_dir=directory / "cache"
    )
    with (
        Progress.start("inst", "", log=io.StringIO()) as progress,
        pytest.raises(ImageError) as caught,
        open_image(WantedImage("image", img_format), settings, progress) as opened,
        open_target(directory / "disk") as target,
    ):
        assert opened
        check_fits(opened, target)
        copy(opened, target, progress)
    assert (directory / "disk").read_bytes() == garbage
    return str(caught.value)


@pytest.mark.image_row(22)
@pytest.mark.root
def test_rows_1_to_3_a_qcow2_that_names_a_file_or_a_server_is_refused_and_nobody_is_asked(directory: Path) -> None:
    made_by_qemu = ("qemu-img", "create", "-q", "-f", "qcow2")
    image, data = directory / "image", directory / "data"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        mine = {"driver": "nbd", "server": {"type": "inet", "host": "127.0.0.1", "port": str(port)}}
        for backing in ("/etc/shadow", f"nbd://127.0.0.1:{port}", f"json:{json.dumps(mine)}"):
            subprocess.run([*made_by_qemu, "-u", "-b", backing, "-F", "raw", image, "2M"], check=True)
            assert "image 'image' has a backing file: " in refused(directory, "auto", image.read_bytes())
        with pytest.raises(BlockingIOError):
            server.accept()
    subprocess.run([*made_by_qemu, "-o", f"data_file={data},data_file_raw=on", image, "2M"], check=True)
    for name in (b"/etc/shadow", b"/dev/vda"):
        named = image.read_bytes().replace(os.fsencode(data), name.ljust(len(os.fsencode(data)), b"\0"))
        assert "image 'image' has an external data file: " in refused(directory, "auto", named)


@pytest.mark.root
@pytest.mark.parametrize(
    ("img_format", "image", "told"),
    [
        ("vmdk", VMDKS["capacity-0"][1], "image 'image' is a VMDK image of no size"),
        ("vmdk", VMDKS["shadow"][1], "names the file '/etc/shadow' of its reader"),
        ("vdi", VDIS["difference"][1], "image 'image' is a VDI image of type 4"),
        ("vhdx", VHDXS["log"][1], "image 'image' was not closed by its writer"),
    ],
)
def test_row_14_a_container_that_fails_a_check_never_touches_the_disk(
    directory: Path, img_format: str, image: bytes, told: str
) -> None:
    assert told in refused(directory, img_format, image)


def test_row_14_a_descriptor_alone_or_a_flat_vmdk_is_refused(directory: Path) -> None:
    text = b'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 8192 FLAT "/etc/shadow" 0\n'
    for img_format in ("vmdk", "diskdump", "auto"):
        assert "it is a VMDK descriptor: convert it" in refused(directory, img_format, text.ljust(1024, b"\n"))


@pytest.mark.image_row(22)
@pytest.mark.parametrize("img_format", ["diskdump", "extdump", "ntfsdump"])
def test_row_11_a_disk_that_is_really_a_container_is_refused(directory: Path, img_format: str) -> None:
    for driver, image in (("vmdk", sparse()), ("vdi", vdi()), ("vhdx", vhdx()), ("qcow2", made("qcow2", "compat=1.1"))):
        assert f"say img_format={driver} if it is to be that" in refused(directory, img_format, image)
    for driver in ("qed", "parallels", "vpc"):
        options = "subformat=dynamic" if driver == "vpc" else "cluster_size=1M" if driver == "parallels" else ""
        image = made(driver, options or "cluster_size=64k")
        assert f"convert it with 'qemu-img convert -f {driver} -O raw'" in refused(directory, img_format, image)
    assert "an encrypted LUKS volume" in refused(directory, img_format, b"LUKS\xba\xbe\0\1".ljust(4096, b"\0"))


@pytest.mark.parametrize("img_format", ["qcow2", "vmdk", "vdi", "vhdx"])
def test_row_12_a_container_that_is_really_something_else_is_refused(directory: Path, img_format: str) -> None:
    page = b"<!DOCTYPE html><title>404 Not Found</title>".ljust(2048, b" ")
    assert f"does not look like {img_format}, it is raw" in refused(
        directory, img_format, os.urandom(256).ljust(MIB, b"x")
    )
    assert f"does not look like {img_format}, it is a web page" in refused(directory, img_format, page)
    assert "is empty: publish the whole image again" in refused(directory, img_format, b"")


@pytest.mark.parametrize("img_format", ["qcow2", "vmdk", "vdi", "vhdx", "diskdump", "auto"])
def test_row_13_two_formats_in_one_file_are_refused(directory: Path, img_format: str) -> None:
    cd = b"\x01CD001\x01\0".ljust(2048, b"\0")
    for image in (made("qcow2", "compat=1.1"), sparse(), vdi(), vhdx()):
        hidden = with_bytes(image, 32768, cd)
        assert "has multiple formats (it is a" in refused(directory, img_format, hidden)


@pytest.mark.root
def test_row_15_a_tenants_disk_with_a_header_of_its_own_is_exported_as_it_is(directory: Path) -> None:
    """As is any disk: nothing of it is looked at (CVE-2026-24708)."""
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", directory / "header", "1G"],
        check=True,
    )
    disk = (directory / "header").read_bytes().ljust(3 * MIB, b"\xa5")
    (directory / "disk").write_bytes(disk)
    with (
        (directory / "stream").open("wb") as stream,
        open_for_reading(InstanceDisk(directory / "disk"), Settings(run_dir=directory)) as source,
    ):
        export(source, stream.fileno(), None)
    assert (directory / "stream").read_bytes() == disk
