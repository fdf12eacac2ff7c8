# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2 images that must be refused, each for one reason, before there is a disk to write to: open_qcow2 has none."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from qcow2_images import (
    BACKING_FORMAT,
    BITMAPS,
    COMPRESSED,
    COPIED,
    DATA,
    DATA_FILE_NAME,
    L1,
    L2,
    LUKS,
    REFCOUNT_BLOCK,
    REFCOUNT_TABLE,
    ZERO,
    Crafted,
    compressed_entry,
    decode,
    opened,
)
from snf_image_host.decoding.qcow2_header import CHECKS
from snf_image_shared.errors import ImageError

KIB, MIB = 1 << 10, 1 << 20
CLUSTER = 4 * KIB
SECTORS = CLUSTER // 512


def fields(**values: int) -> Crafted:
    return Crafted(fields=values)


def named(what: int, text: bytes = b"", **values: int) -> Crafted:
    return Crafted(extensions=((what, text),), fields=values)


def backed_by(name: bytes) -> Crafted:
    """The name stands at the end of the first cluster, as QEMU would find it."""
    at = CLUSTER - len(name)
    header = Crafted(fields={"backing_offset": at, "backing_length": len(name)})
    return replace(header, clusters={0: header.first_cluster().ljust(at, b"\0") + name})


HEADERS: dict[str, tuple[str, str, Crafted]] = {
    # name of the case: check, words of the message, image
    "page": ("magic", "is no qcow2 image", Crafted(clusters={0: b"<!doctype html><title>404</title>"})),
    "empty": ("magic", "is no qcow2 image", Crafted(clusters={0: b"", 1: b"", 2: b"", 3: b"", 4: b""}, size=0)),
    "raw": ("magic", "is no qcow2 image", Crafted(clusters={0: b"\xeb\x63\x90" + bytes(507) + b"\x55\xaa"})),
    "version-1": ("version", "has version 1 of qcow2, not 2 or 3", fields(version=1)),
    "version-4": ("version", "has version 4 of qcow2, not 2 or 3", fields(version=4)),
    "shadow": ("backing-file", "has a backing file", backed_by(b"/etc/shadow")),
    "json": ("backing-file", "has a backing file", backed_by(b'json:{"driver":"nbd","host":"169.254.169.254"}')),
    "nbd": ("backing-file", "has a backing file", backed_by(b"nbd://169.254.169.254")),
    "version-2-backing": ("backing-file", "a backing file", replace(backed_by(b"/etc/shadow"), version=2)),
    "backing-length": ("backing-file", "has a backing file", fields(backing_length=11)),
    "data-file": ("data-file", "an external data file", named(DATA_FILE_NAME, b"/dev/sda", features=1 << 2)),
    "data-file-bit": ("data-file", "an external data file", fields(features=1 << 2)),
    "data-file-raw": ("data-file", "an external data file", fields(features=1 << 2, autoclear=1 << 1)),
    "dirty": ("dirty", "it is marked dirty", fields(features=1)),
    "corrupt": ("corrupt", "is marked corrupt", fields(features=1 << 1)),
    "extended-l2": ("extended-l2", "has extended L2 entries", fields(features=1 << 4, cluster_bits=14)),
    "bit-5": ("features", "incompatible bits 5: ", fields(features=1 << 5)),
    "bits-5-63": ("features", "incompatible bits 5, 63", fields(features=1 << 63 | 1 << 5)),
    "aes": ("encryption", "is encrypted", fields(crypt_method=1)),
    "luks": ("encryption", "is encrypted", fields(crypt_method=2)),
    "version-2-aes": ("encryption", "is encrypted", Crafted(version=2, fields={"crypt_method": 1})),
    "cluster-bits-0": ("cluster-size", "clusters of 2^0 bytes", fields(cluster_bits=0)),
    "cluster-bits-8": ("cluster-size", "clusters of 2^8 bytes", fields(cluster_bits=8)),
    "cluster-bits-22": ("cluster-size", "clusters of 2^22 bytes", fields(cluster_bits=22)),
    "cluster-bits-63": ("cluster-size", "clusters of 2^63 bytes", fields(cluster_bits=63)),
    "cluster-bits-all": ("cluster-size", "clusters of 2^4294967295", fields(cluster_bits=0xFFFFFFFF)),
    "header-short": ("header-length", "a header of 96 bytes", fields(header_length=96)),
    "header-odd": ("header-length", "a header of 108 bytes", fields(header_length=108)),
    "header-long": ("header-length", "a header of 4104 bytes", fields(header_length=CLUSTER + 8)),
    "header-endless": ("header-length", "4294967288 bytes", fields(header_length=0xFFFFFFF8)),
    "header-cut": ("header-length", "a header of 0 bytes", Crafted(size=96)),
    "compression-2": ("compression-type", "compression type 2", Crafted(compression=2, fields={"features": 1 << 3})),
    "compression-unsaid": ("compression-type", "compression type 1", Crafted(compression=1)),
    "compression-zlib": ("compression-type", "compression type 0", fields(features=1 << 3)),
    "snapshot": ("snapshots", "has 1 internal snapshots", fields(snapshots=1)),
    "snapshots": ("snapshots", "has 65536 internal snapshots", fields(snapshots=65536, snapshots_offset=CLUSTER)),
    "no-size": ("virtual-size", "a disk of 0 bytes", fields(size=0)),
    "half-a-sector": ("virtual-size", "a disk of 65792 bytes", fields(size=16 * CLUSTER + 256)),
    "size-2^63": ("virtual-size", "a disk of 9223372036854775808 bytes", fields(size=1 << 63)),
    "size-2^64": ("virtual-size", "a disk of 18446744073709551104 bytes", fields(size=(1 << 64) - 512)),
    "size-beyond-l1": ("l1-size", "1 entries, not of 2 to", fields(size=512 * CLUSTER + 512)),
    "size-2^62": ("l1-size", "1 entries, not of 2199023255552 to", fields(size=1 << 62)),
    "l1-none": ("l1-size", "0 entries", fields(l1_entries=0)),
    "l1-4194305": ("l1-size", "4194305 entries", fields(l1_entries=(4 << 20) + 1)),
    "l1-2^32": ("l1-size", "4294967295 entries", fields(l1_entries=0xFFFFFFFF)),
    "l1-unaligned": ("l1-place", "at byte 12800, which is not aligned", fields(l1_offset=L1 * CLUSTER + 512)),
    "l1-in-header": ("l1-place", "at byte 0", fields(l1_offset=0)),
    "l1-behind": ("l1-place", "not in the file", fields(l1_offset=9 * CLUSTER)),
    "l1-2^63": ("l1-place", "not in the file", fields(l1_offset=1 << 63)),
    "l1-past-end": ("l1-place", "not in the file", fields(l1_entries=4 << 20)),
    "refcounts-none": ("refcount-size", "a refcount table of 0 clusters", fields(refcount_clusters=0)),
    "refcounts-9-mib": ("refcount-size", "of 2304 clusters", fields(refcount_clusters=2304)),
    "refcounts-2^32": ("refcount-size", "of 4294967295 clusters", fields(refcount_clusters=0xFFFFFFFF)),
    "refcount-order": ("refcount-size", "for 2^7 bits", fields(refcount_order=7)),
    "refcount-order-all": ("refcount-size", "for 2^4294967295 bits", fields(refcount_order=0xFFFFFFFF)),
    "refcounts-unaligned": ("refcount-place", "at byte 4100", fields(refcount_offset=CLUSTER + 4)),
    "refcounts-behind": ("refcount-place", "not in the file", fields(refcount_offset=9 * CLUSTER)),
    "refcounts-past-end": ("refcount-place", "not in the file", fields(refcount_clusters=9)),
    "extension-leaves": (
        "extensions",
        "leave its first cluster",
        Crafted(clusters={0: fields().first_cluster() + struct.pack(">II", 0x12345678, 0xFFFFFFFF)}),
    ),
    "data-file-name": ("data-file-name", "names an external data file", named(DATA_FILE_NAME, b"/dev/sda")),
    "version-2-data": (
        "data-file-name",
        "names an ext",
        Crafted(version=2, extensions=((DATA_FILE_NAME, b"/dev/sda"),)),
    ),
    "backing-format": ("backing-format", "the format of a backing file", named(BACKING_FORMAT, b"raw")),
    "luks-extension": ("luks", "a header extension for LUKS", named(LUKS, bytes(16))),
    "bitmaps": ("bitmaps", "has persistent bitmaps", named(BITMAPS, struct.pack(">IIQQ", 1, 0, 64 * MIB, CLUSTER))),
    "behind-another": (
        "data-file-name",
        "names an external data file",
        Crafted(extensions=((0x6803F857, bytes(48)), (0x12345678, b"x"), (DATA_FILE_NAME, b"/dev/sda"))),
    ),
}

at = {name: number * CLUSTER for name, number in (("l2", L2), ("l1", L1), ("data", DATA))}
END = (DATA + 4) * CLUSTER
TABLES: dict[str, tuple[str, str, Crafted]] = {
    "l1-reserved-low": ("l1-entry", "a reserved bit in L1 entry", Crafted(l1={0: L2 * CLUSTER | COPIED | 1})),
    "l1-reserved-high": ("l1-entry", "a reserved bit in L1 entry", Crafted(l1={0: L2 * CLUSTER | 1 << 56})),
    "l2-unaligned": ("l1-entry", "an L2 table at byte 16896", Crafted(l1={0: L2 * CLUSTER + 512 | COPIED})),
    "l2-behind": ("l1-entry", "not in the file", Crafted(l1={0: END | COPIED})),
    "l2-far-behind": ("l1-entry", "not in the file", Crafted(l1={0: (1 << 56) - CLUSTER})),
    "l2-cut": ("l1-entry", "not in the file", Crafted(l1={0: DATA * CLUSTER}, size=(DATA + 1) * CLUSTER - 8)),
    "l2-is-l1": ("shared-cluster", "L2 table at byte 12288", Crafted(l1={0: L1 * CLUSTER | COPIED})),
    "l2-is-refcounts": ("shared-cluster", "L2 table at byte 4096", Crafted(l1={0: REFCOUNT_TABLE * CLUSTER | COPIED})),
    "l2-twice": (
        "shared-cluster",
        "L2 table at byte 16384",
        Crafted(fields={"size": 1024 * CLUSTER, "l1_entries": 2}, l1={1: L2 * CLUSTER | COPIED}),
    ),
    "tables-overlap": ("shared-cluster", "refcount table at byte 12288", fields(refcount_offset=L1 * CLUSTER)),
    "refcount-block-is-l1": (
        "shared-cluster",
        "refcount block at byte 12288",
        Crafted(clusters={REFCOUNT_TABLE: struct.pack(">Q", L1 * CLUSTER)}),
    ),
    "refcount-block-behind": (
        "place",
        "a refcount block at byte 1099511627776",
        Crafted(clusters={REFCOUNT_TABLE: struct.pack(">Q", 1 << 40)}),
    ),
    "refcount-block-unaligned": (
        "place",
        "a refcount block at byte 8704",
        Crafted(clusters={REFCOUNT_TABLE: struct.pack(">Q", REFCOUNT_BLOCK * CLUSTER + 512)}),
    ),
    "refcount-reserved": (
        "refcount-entry",
        "a reserved bit in refcount entry",
        Crafted(clusters={REFCOUNT_TABLE: struct.pack(">Q", REFCOUNT_BLOCK * CLUSTER + 1)}),
    ),
    "reserved-low": ("l2-entry", "a reserved bit in L2 entry", Crafted(l2={1: at["data"] | 2})),
    "reserved-high": ("l2-entry", "a reserved bit in L2 entry", Crafted(l2={1: at["data"] | 1 << 61})),
    "reserved-alone": ("l2-entry", "a reserved bit in L2 entry", Crafted(l2={9: 1 << 56})),
    "version-2-zero": ("l2-entry", "a reserved bit in L2 entry", Crafted(version=2, l2={9: ZERO})),
    "data-unaligned": ("l2-entry", "at byte 20992, not aligned", Crafted(l2={0: at["data"] + 512 | COPIED})),
    "data-behind": ("l2-entry", "behind the end", Crafted(l2={4: END | COPIED})),
    "run-behind": ("l2-entry", "behind the end", Crafted(l2={n: (DATA + n) * CLUSTER for n in range(16)})),
    "data-far-behind": ("l2-entry", "behind the end", Crafted(l2={0: (1 << 56) - CLUSTER})),
    "zero-unaligned": ("l2-entry", "not aligned", Crafted(l2={9: at["data"] + 512 | ZERO})),
    "zero-behind": ("l2-entry", "behind the end", Crafted(l2={9: END | ZERO})),
    "data-is-refcounts": ("shared-cluster", "data at byte 4096", Crafted(l2={5: REFCOUNT_TABLE * CLUSTER | COPIED})),
    "data-is-refcount-block": ("shared-cluster", "data at byte 8192", Crafted(l2={5: REFCOUNT_BLOCK * CLUSTER})),
    "data-is-l1": ("shared-cluster", "data at byte 12288", Crafted(l2={5: L1 * CLUSTER | COPIED})),
    "data-is-its-l2": ("shared-cluster", "data at byte 16384", Crafted(l2={5: L2 * CLUSTER | COPIED})),
    "data-twice": ("shared-cluster", "data at byte 20480", Crafted(l2={5: at["data"] | COPIED})),
    "data-and-zero": ("shared-cluster", "data at byte 20480", Crafted(l2={5: at["data"] | ZERO})),
    "all-one": ("shared-cluster", "data at byte 20480", Crafted(l2=dict.fromkeys(range(16), at["data"] | COPIED))),
    "packed-behind": ("l2-entry", "behind the end", Crafted(l2={9: compressed_entry(12, END, 0)})),
    "packed-reaches-behind": ("l2-entry", "behind the end", Crafted(l2={9: compressed_entry(12, END - 512, 1)})),
    "packed-far-behind": ("l2-entry", "behind the end", Crafted(l2={9: COMPRESSED | (1 << 58) - 1})),
    "packed-is-header": ("shared-cluster", "compressed data at byte 0", Crafted(l2={9: compressed_entry(12, 0, 0)})),
    "packed-is-l2": ("shared-cluster", "compressed data at", Crafted(l2={9: compressed_entry(12, L2 * CLUSTER, 0)})),
    "packed-is-data": ("shared-cluster", "compressed data at", Crafted(l2={9: compressed_entry(12, at["data"], 0)})),
    "packed-reaches-data": (
        "shared-cluster",
        "data at byte 24576",
        Crafted(l2={0: compressed_entry(12, at["data"] + CLUSTER - 512, 1)}),
    ),
    "data-is-packed": (
        "shared-cluster",
        "data at byte 20480",
        Crafted(l2={0: compressed_entry(12, at["data"], 0), 9: at["data"] | COPIED}),
    ),
}


@pytest.mark.parametrize("case", [*HEADERS, *TABLES])
def test_an_image_is_refused_by_the_check_that_says_why(tmp_path: Path, case: str) -> None:
    check, words, image = (HEADERS | TABLES)[case]
    path = image.write(tmp_path / "image")
    with pytest.raises(ImageError) as caught, opened(path):
        pass
    text = str(caught.value)
    assert text.endswith(f" (check {check})")
    assert words in text
    assert any(cure in text for cure in (": publish what ", "; publish it again ", ": repair it ", ": correct "))
    assert "\n" not in text


def test_each_check_of_the_header_has_an_image_that_fails_it() -> None:
    assert {check.name for check in CHECKS} - {check for check, _, _ in HEADERS.values()} == {"file-size"}


def test_what_the_other_cases_are_made_from_is_accepted(tmp_path: Path) -> None:
    for version in (2, 3):
        disk = tmp_path / "disk"
        disk.write_bytes(b"\xa5" * 4 * MIB)
        image = Crafted(version=version).write(tmp_path / "image")
        assert decode(image, disk) == 16 * CLUSTER
        content = b"".join(bytes([65 + number]) * CLUSTER for number in range(4)) + bytes(12 * CLUSTER)
        assert disk.read_bytes()[: 16 * CLUSTER] == content
