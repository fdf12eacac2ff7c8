# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels as Debian compresses them, put together byte by byte from the boot protocol."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper_builder.kernel import has_pvh_entry, payload, write_bootable_kernel


def note(name: bytes, kind: int) -> bytes:
    padded = name + bytes(-len(name) % 4)
    return struct.pack("<III", len(name), 8, kind) + padded + bytes(8)


def elf(notes: bytes) -> bytes:
    header = b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(notes), len(notes), 4) + notes


PVH = elf(note(b"GNU\0", 3) + note(b"Xen\0", 18))


def bzimage(compressed: bytes) -> bytes:
    setup = bytearray(3 * 512)
    setup[0x1F1] = 2
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, 0x020F)
    struct.pack_into("<II", setup, 0x248, 16, len(compressed))
    return bytes(setup) + bytes(16) + compressed + b"what follows"


def compress(form: str, kernel: bytes) -> bytes:
    size = struct.pack("<I", len(kernel))
    match form:
        case "gzip":
            return gzip.compress(kernel)
        case "xz":
            return lzma.compress(kernel, check=lzma.CHECK_CRC32) + size
    return subprocess.run(["zstd", "-q", "-c"], input=kernel, capture_output=True, check=True).stdout + size


@pytest.mark.parametrize("form", ["gzip", "xz", "zstd"])
def test_the_pvh_kernel_is_taken_out_of_each_compression(form: str, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage(compress(form, PVH)))
    assert write_bootable_kernel(tmp_path / "vmlinuz", tmp_path / "kernel")
    assert (tmp_path / "kernel").read_bytes() == PVH
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernel", "vmlinuz"]


@pytest.mark.parametrize("inside", [elf(note(b"GNU\0", 18)), elf(note(b"Xen\0", 1)), b"no ELF at all"])
def test_a_kernel_without_a_pvh_entry_stays_a_vmlinuz(inside: bytes, tmp_path: Path) -> None:
    whole = bzimage(compress("xz", inside))
    (tmp_path / "vmlinuz").write_bytes(whole)
    assert not write_bootable_kernel(tmp_path / "vmlinuz", tmp_path / "kernel")
    assert (tmp_path / "kernel").read_bytes() == whole


def test_a_compression_that_is_not_known_stays_a_vmlinuz(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage(b"LZ4?" * 20))
    assert not write_bootable_kernel(tmp_path / "vmlinuz", tmp_path / "kernel")


@given(st.binary(max_size=300), st.integers(0, 200))
def test_no_bytes_confuse_the_readers(noise: bytes, keep: int) -> None:
    has_pvh_entry(PVH[:keep] + noise)
    payload(bytes(0x202) + b"HdrS" + noise)
