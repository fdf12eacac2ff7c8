# SPDX-License-Identifier: GPL-2.0-or-later
"""The first cluster of a qcow2 file -> Header, after every check that it has to pass. Nothing is followed from here.

Sources: QEMU's docs/interop/qcow2.txt for the fields, its block/qcow2.h for the limits. What QEMU would take from
elsewhere (backing file, external data file), what needs a key, what is left over from an unfinished write and what no
published image needs (snapshots, bitmaps) is refused, whatever else the header says.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from snf_image_host.decoding.checks import Check, enforce
from snf_image_host.decoding.clusters import ZLIB, ZSTD
from snf_image_host.decoding.stored_file import StoredFile

ENTRY = 8  # bytes of an entry of the L1, L2 and refcount tables
MAX_CLUSTERS = 1 << 27  # of the file: 8 TiB of 64 KiB each, remembered in two maps of 16 MiB

_MAGIC = b"QFI\xfb"
_VERSION_2 = struct.Struct(">4sIQIIQIIQQIIQ")
_VERSION_3 = struct.Struct(">QQQII")
_COMPRESSION_TYPE = 104  # where it is, if the header reaches so far
_SMALLEST_V3 = 104
_MAX_L1 = 32 << 20  # bytes, as QEMU
_MAX_REFCOUNT_TABLE = 8 << 20  # bytes, as QEMU
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN_FEATURES = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED_L2
_BACKING_FORMAT, _DATA_FILE_NAME, _LUKS, _BITMAPS = 0xE2792ACA, 0x44415441, 0x0537BE77, 0x23852875


@dataclass(frozen=True)
class Header:
    """The fields as they stand in the file, offsets and sizes in bytes. Nothing is true of them before the checks.

    The defaults are those of version 2, which has less. `extensions` are the types of the header extensions, None if
    they leave the first cluster.
    """

    file_size: int
    magic: bytes
    version: int
    backing_offset: int
    backing_length: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_entries: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    snapshots: int
    snapshots_offset: int
    features: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    length: int = _VERSION_2.size
    compression: int = ZLIB
    extensions: tuple[int, ...] | None = ()

    @property
    def cluster(self) -> int:
        """Bytes of a cluster; for the checks after the one of cluster_bits."""
        return 1 << self.cluster_bits

    @property
    def l2_entries(self) -> int:
        """Entries of each L2 table: it fills a cluster."""
        return self.cluster // ENTRY

    @property
    def l1_needed(self) -> int:
        """Entries of the L1 table that the disk reaches."""
        return -(-self.size // (self.cluster * self.l2_entries))

    @property
    def clusters(self) -> int:
        """Clusters of the file; the last may be cut short."""
        return -(-self.file_size // self.cluster)

    @property
    def unknown_features(self) -> str:
        """The bits of the incompatible features that nobody knows, for people."""
        unknown = self.features & ~_KNOWN_FEATURES
        return ", ".join(str(bit) for bit in range(64) if unknown >> bit & 1)

    def holds(self, offset: int, length: int) -> bool:
        """Whether a table lies at the start of a cluster, after the header, and in the file as a whole."""
        return offset % self.cluster == 0 and self.cluster <= offset <= self.file_size - length

    def has(self, extension: int) -> bool:
        """Whether there is a header extension of that type."""
        return extension in (self.extensions or ())


FLATTEN = "publish what 'qemu-img convert -O qcow2' makes of it"
DAMAGED = "it is damaged, or made to do harm; publish it again"
_REPAIR = "repair it with 'qemu-img check -r all' and publish what 'qemu-img convert -O qcow2' makes of it"
_DECRYPT = "publish what 'qemu-img convert -O qcow2' makes of it with the key"

# In this order: each may rely on those before it.
FIRST_CHECKS: tuple[Check[Header], ...] = (
    Check("magic", lambda h: h.magic == _MAGIC, "is no qcow2 image: correct img_format or publish the qcow2 image"),
    Check("version", lambda h: h.version in {2, 3}, f"has version {{0.version}} of qcow2, not 2 or 3: {FLATTEN}"),
    Check("backing-file", lambda h: not h.backing_offset and not h.backing_length, f"has a backing file: {FLATTEN}"),
    Check("data-file", lambda h: not h.features & _DATA_FILE, f"has an external data file: {FLATTEN}"),
    Check("dirty", lambda h: not h.features & _DIRTY, f"was not closed, it is marked dirty: {_REPAIR}"),
    Check("corrupt", lambda h: not h.features & _CORRUPT, f"is marked corrupt: {_REPAIR}"),
    Check(
        "extended-l2",
        lambda h: not h.features & _EXTENDED_L2,
        "has extended L2 entries: publish what 'qemu-img convert -O qcow2 -o extended_l2=off' makes of it",
    ),
    Check(
        "features",
        lambda h: not h.features & ~_KNOWN_FEATURES,
        f"needs features that are not known, incompatible bits {{0.unknown_features}}: {FLATTEN}",
    ),
    Check("encryption", lambda h: h.crypt_method == 0, f"is encrypted: {_DECRYPT}"),
    Check(
        "cluster-size",
        lambda h: 9 <= h.cluster_bits <= 21,
        f"has clusters of 2^{{0.cluster_bits}} bytes, not of 2^9 to 2^21: {DAMAGED}",
    ),
    Check(
        "header-length",
        lambda h: (
            h.length <= min(h.cluster, h.file_size)
            and (h.version == 2 or (h.length >= _SMALLEST_V3 and h.length % 8 == 0))
        ),
        f"has a header of {{0.length}} bytes: {DAMAGED}",
    ),
    Check(
        "compression-type",
        lambda h: (h.compression, h.features & _COMPRESSION) in {(ZLIB, 0), (ZSTD, _COMPRESSION)},
        f"has compression type {{0.compression}}, which is unknown or does not agree with its features: {FLATTEN}",
    ),
    Check("snapshots", lambda h: h.snapshots == 0, f"has {{0.snapshots}} internal snapshots: {FLATTEN}"),
    Check(
        "virtual-size",
        lambda h: 0 < h.size < 1 << 63 and h.size % 512 == 0,
        f"holds a disk of {{0.size}} bytes, not of whole sectors of 512: {DAMAGED}",
    ),
    Check(
        "file-size",
        lambda h: h.clusters <= MAX_CLUSTERS,
        "has {0.clusters} clusters, which is too many: "
        "publish what 'qemu-img convert -O qcow2 -o cluster_size=2M' makes of it",
    ),
    Check(
        "l1-size",
        lambda h: h.l1_needed <= h.l1_entries <= _MAX_L1 // ENTRY,
        f"has an L1 table of {{0.l1_entries}} entries, not of {{0.l1_needed}} to 4194304: {DAMAGED}",
    ),
    Check(
        "l1-place",
        lambda h: h.holds(h.l1_offset, h.l1_entries * ENTRY),
        f"has an L1 table at byte {{0.l1_offset}}, which is not aligned or not in the file: {DAMAGED}",
    ),
    Check(
        "refcount-size",
        lambda h: 0 < h.refcount_clusters <= max(1, _MAX_REFCOUNT_TABLE // h.cluster) and h.refcount_order <= 6,
        f"has a refcount table of {{0.refcount_clusters}} clusters for 2^{{0.refcount_order}} bits each: {DAMAGED}",
    ),
    Check(
        "refcount-place",
        lambda h: h.holds(h.refcount_offset, h.refcount_clusters * h.cluster),
        f"has a refcount table at byte {{0.refcount_offset}}, which is not aligned or not in the file: {DAMAGED}",
    ),
)
EXTENSION_CHECKS: tuple[Check[Header], ...] = (
    Check(
        "extensions",
        lambda h: h.extensions is not None,
        f"has header extensions that leave its first cluster: {DAMAGED}",
    ),
    Check(
        "data-file-name",
        lambda h: not h.has(_DATA_FILE_NAME),
        f"names an external data file in a header extension: {FLATTEN}",
    ),
    Check(
        "backing-format",
        lambda h: not h.has(_BACKING_FORMAT),
        f"names the format of a backing file in a header extension: {FLATTEN}",
    ),
    Check("luks", lambda h: not h.has(_LUKS), f"is encrypted, it has a header extension for LUKS: {_DECRYPT}"),
    Check("bitmaps", lambda h: not h.has(_BITMAPS), f"has persistent bitmaps: {FLATTEN}"),
)
CHECKS = FIRST_CHECKS + EXTENSION_CHECKS


def read_header(file: StoredFile) -> Header:
    """The header, which has passed all checks. Raises ImageError."""
    header = _fields(file)
    enforce(FIRST_CHECKS, header)
    first = bytes(file.span(0, min(header.cluster, header.file_size)))
    header = replace(header, extensions=_extensions(first, header.length))
    enforce(EXTENSION_CHECKS, header)
    return header


def _fields(file: StoredFile) -> Header:
    start = bytes(file.span(0, min(512, file.size))).ljust(512, b"\0")
    header = Header(file.size, *_VERSION_2.unpack_from(start))
    if header.version < 3:
        return header  # what follows there are extensions, no features
    features, compatible, autoclear, refcount_order, length = _VERSION_3.unpack_from(start, _VERSION_2.size)
    return replace(
        header,
        features=features,
        compatible=compatible,
        autoclear=autoclear,
        refcount_order=refcount_order,
        length=length,
        compression=start[_COMPRESSION_TYPE] if length > _COMPRESSION_TYPE else ZLIB,
    )


def _extensions(cluster: bytes, at: int) -> tuple[int, ...] | None:
    """The types of the extensions, each of a type, a length and as many bytes, padded to a multiple of 8."""
    found = []
    while at + 8 <= len(cluster):
        kind, length = struct.unpack_from(">II", cluster, at)
        if kind == 0:
            break
        at += 8 + -(-length // 8) * 8
        if at > len(cluster):
            return None
        found.append(kind)
    return tuple(found)
