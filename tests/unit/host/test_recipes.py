# SPDX-License-Identifier: GPL-2.0-or-later
"""img_format and the first bytes of real images -> what is done with them, or why it is not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.images.disk_heads import contents, is_partitioned
from snf_image_host.images.formats import HEAD, recognise
from snf_image_host.images.recipes import Compression, Container, Recipe, check_plain, recipe_for
from snf_image_host.parameters.typed_parameters import FORMATS
from snf_image_shared.errors import ImageError

DISK = bytes(1 << 20)
CONTAINERS = ("qcow2", "vmdk", "vhdx", "vdi")
COMPRESSED = {
    Compression.GZIP: gzip.compress,
    Compression.XZ: lzma.compress,
    Compression.BZIP2: bz2.compress,
    Compression.ZSTD: zstandard.compress,
    Compression.LZ4: lz4.frame.compress,
}


def recipe(img_format: str, head: bytes) -> Recipe:
    return recipe_for(img_format, head[:HEAD], "image 'image'")


def refused(img_format: str, head: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        recipe(img_format, head)
    return str(caught.value)


@cache
def made(name: str, options: str = "") -> bytes:
    words = ["-o", options] if options else []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "image")
        subprocess.run(["qemu-img", "create", "-q", "-f", name, *words, path, "64M"], check=True)
        return path.read_bytes()[:HEAD]


@cache
def made_on_a_disk(*command: str, script: str = "") -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(4 << 20)
        subprocess.run([*command, file.name], input=script, text=True, check=True)
        return Path(file.name).read_bytes()[:HEAD]


def partitioned(script: str) -> bytes:
    return made_on_a_disk("sfdisk", "-q", script=script)


def ext() -> bytes:
    return made_on_a_disk("mke2fs", "-q", "-F", "-t", "ext4")


def ntfs() -> bytes:
    return made_on_a_disk("mkntfs", "-q", "-F", "-s", "512", "-p", "0", "-H", "0", "-S", "0")


def cd(system_area: bytes = b"") -> bytes:
    """The start of an ISO 9660 image; what is in the system area is its maker's affair."""
    return system_area.ljust(32768, b"\0") + b"\x01CD001\x01\0" + bytes(4096)


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("disk.img"))
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("disk.img", DISK)
    return buffer.getvalue()


@pytest.mark.parametrize("img_format", CONTAINERS)
def test_a_container_is_taken_for_what_the_operator_says_or_lets_find_out(img_format: str) -> None:
    head = made(img_format)
    assert recipe(img_format, head) == recipe("auto", head) == Recipe(None, Container(img_format))


@pytest.mark.parametrize("img_format", CONTAINERS)
def test_a_container_is_not_taken_for_anything_else(img_format: str) -> None:
    head = made(img_format)
    for other in {*FORMATS, "tarball"} - {img_format, "auto"}:
        told = refused(other, head)
        assert told.endswith(f"it is a {img_format.upper()} image: say img_format={img_format} if it is to be that")
        wrong = f"does not look like {other}" if other in CONTAINERS else "is not a plain disk image"
        assert told.startswith(f"image 'image' {wrong}")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("qcow", "", "QCOW image of version 1"),
        ("qed", "", "QED image"),
        ("vmdk", "subformat=twoGbMaxExtentSparse", "VMDK descriptor"),
        ("vpc", "", "VHD image"),
        ("parallels", "", "Parallels image"),
    ],
)
@pytest.mark.parametrize("img_format", ["diskdump", "vmdk", "auto"])
def test_a_container_that_is_not_read_here_is_refused_with_its_cure(
    name: str, options: str, said: str, img_format: str
) -> None:
    told = refused(img_format, made(name, options))
    assert f"it is a {said}: convert it with 'qemu-img convert -f {name} -O raw' and publish the result" in told


def test_a_version_that_qcow2_never_had_is_for_its_reader_to_refuse() -> None:
    assert recipe("qcow2", b"QFI\xfb\0\0\0\x09".ljust(1024, b"\0")).container is Container.QCOW2


@pytest.mark.parametrize("img_format", ["diskdump", "extdump", "ntfsdump", *CONTAINERS])
@pytest.mark.parametrize("compression", list(Compression))
def test_what_is_compressed_is_recognised_by_its_content(compression: Compression, img_format: str) -> None:
    container = Container(img_format) if img_format in CONTAINERS else Container.RAW
    assert recipe(img_format, COMPRESSED[compression](DISK)) == Recipe(compression, container)
    assert recipe("auto", COMPRESSED[compression](b"")) == Recipe(compression, Container.RAW)


def test_what_comes_behind_frames_to_be_skipped_counts() -> None:
    skipped = b"\x5e\x2a\x4d\x18\x04\0\0\0rest"
    assert recipe("diskdump", 2 * skipped + zstandard.compress(DISK)).compression is Compression.ZSTD
    assert recipe("diskdump", skipped + lz4.frame.compress(DISK)).compression is Compression.LZ4
    assert "compressed (zstd or lz4): decompress it" in refused("diskdump", skipped + DISK)
    assert "compressed (zstd or lz4): decompress it" in refused("diskdump", b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + DISK)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x1f\x9d\x90" + bytes(600), r"compressed (compress): decompress it"),
        (b"\x02\x21\x4c\x18" + bytes(600), r"compressed (lz4 -l)"),
        (b"LUKS\xba\xbe\x00\x01" + bytes(600), "an encrypted LUKS volume"),
        (_tar(), "a tar archive: unpack it"),
        (_zip(), "a zip archive"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><title>404 Not Found</title>", "a web page: download the image again"),
        (b"# Disk DescriptorFile\nversion=1\n", "a VMDK descriptor"),
        (b"# anything\n\n  \r\nversion=3\r\n", "a VMDK descriptor"),
        (b"Bochs Virtual HD Image\0", "a Bochs image"),
        (b"COWD\x01\0\0\0", "a VMDK image of ESX 2"),
    ],
)
@pytest.mark.parametrize("img_format", FORMATS)
def test_what_is_no_disk_is_refused_with_its_cure(data: bytes, said: str, img_format: str) -> None:
    assert f"it is {said}" in refused(img_format, data.ljust(1024, b" "))


@pytest.mark.parametrize(("size", "said"), [(0, "is empty"), (511, "has only 511 bytes")])
@pytest.mark.parametrize("img_format", FORMATS)
def test_an_image_too_small_to_boot_is_refused(size: int, said: str, img_format: str) -> None:
    assert refused(img_format, bytes(size)) == f"image 'image' {said}: publish the whole image again"


@pytest.mark.parametrize(
    "script", ["label: dos\n2048,\n", "label: dos\n2048,2048,L,*\n4096,,S\n", "label: gpt\n2048,\n"]
)
@pytest.mark.parametrize("img_format", ["diskdump", "auto"])
def test_a_disk_partitioned_by_sfdisk_is_accepted(script: str, img_format: str) -> None:
    assert recipe(img_format, partitioned(script)) == Recipe()


@pytest.mark.parametrize("img_format", CONTAINERS)
def test_a_raw_disk_that_is_said_to_be_a_container_is_refused(img_format: str) -> None:
    told = refused(img_format, partitioned("label: gpt\n2048,\n"))
    assert f"does not look like {img_format}, it is raw (it has a partition table): say img_format=diskdump" in told
    assert f"does not look like {img_format}, it is raw (it begins with zeros)" in refused(img_format, DISK)


def test_a_file_system_is_a_dump_or_a_disk_without_partitions() -> None:
    for img_format, head in (("extdump", ext()), ("ntfsdump", ntfs())):
        assert recipe(img_format, head) == recipe("diskdump", head) == Recipe()
        assert "say img_format=diskdump if it is a whole disk, extdump or ntfsdump for" in refused("auto", head)


def test_a_dump_has_the_file_system_that_is_named_and_no_partitions() -> None:
    disk = partitioned("label: dos\n2048,\n")
    assert "does not look like extdump, an ext2" in refused("extdump", ntfs())
    assert "does not look like ntfsdump, an NTFS file system alone: it has an ext" in refused("ntfsdump", ext())
    for img_format in ("extdump", "ntfsdump"):
        assert "it has a partition table; say img_format=diskdump" in refused(img_format, disk)
        assert "it begins with zeros; name its format" in refused(img_format, DISK)
    both = disk[:1024] + ext()[1024:]
    assert recipe("diskdump", both) == Recipe()  # what lay there before the disk was partitioned
    assert "it has a partition table and an ext file system; say img_format=diskdump" in refused("extdump", both)


@pytest.mark.parametrize(
    "damage", [(450, b"\0" * 12), (446, b"\x81"), (454, b"\0" * 4), (458, b"\0" * 4), (450, b"\xee"), (510, b"\0")]
)
def test_a_doubtful_table_of_partitions_is_not_found_by_itself(damage: tuple[int, bytes]) -> None:
    disk = bytearray(partitioned("label: dos\n2048,\n"))
    disk[damage[0] : damage[0] + len(damage[1])] = damage[1]
    assert "is nothing that is certain by its first bytes" in refused("auto", bytes(disk))
    assert recipe("diskdump", bytes(disk)) == Recipe()


@pytest.mark.parametrize("img_format", ["diskdump", "auto"])
def test_a_partition_table_for_4096_byte_sectors_is_refused(img_format: str) -> None:
    head = bytes(4096) + b"EFI PART\x00\x00\x01\x00" + bytes(8192)
    assert "sectors of 4096 bytes" in refused(img_format, head)


def test_a_cd_is_a_disk_only_if_it_has_a_boot_sector_and_the_operator_says_so() -> None:
    hybrid = cd(bytes(510) + b"\x55\xaa")
    assert recipe("diskdump", hybrid) == Recipe()
    assert "is a CD that does not boot from a disk" in refused("diskdump", cd())
    for head in (hybrid, cd(), cd(partitioned("label: dos\n2048,\n")[:32768])):
        assert "the file system of a CD (ISO 9660)): say img_format=" in refused("auto", head)
        assert "does not look like extdump" in refused("extdump", head)


@pytest.mark.parametrize("img_format", FORMATS)
@pytest.mark.parametrize("name", [*CONTAINERS, "qed", "parallels"])
def test_one_format_hidden_in_another_is_refused(name: str, img_format: str) -> None:
    """As tests test_bad_iso_qcow2_* of oslo.utils, which found this in the wild."""
    head = made(name).ljust(HEAD, b"\0")
    gpt = partitioned("label: gpt\n2048,\n")
    hosts = {
        "the file system of a CD": cd(head[:512])[:HEAD],
        "a tar archive": head[:257] + b"ustar" + head[262:],
        "a boot sector": head[:510] + b"\x55\xaa" + head[512:],
        "a partition table": head[:512] + gpt[512:1024] + head[1024:],
        "an ext file system": head[:1024] + ext()[1024:2048] + head[2048:],
    }
    for mark, hidden in hosts.items():
        told = refused(img_format, hidden)
        assert "has multiple formats (it is a" in told
        assert mark in told


@pytest.mark.parametrize("img_format", FORMATS)
def test_one_file_system_hidden_in_another_is_refused(img_format: str) -> None:
    hidden = cd(ext()[:32768])
    told = refused(img_format, hidden)
    assert "has multiple formats (an ext file system and the file system of a CD (ISO 9660))" in told


@pytest.mark.parametrize("img_format", FORMATS)
def test_one_format_hidden_in_the_header_of_gzip_is_refused(img_format: str) -> None:
    extra = bytes(64 - 12) + b"\x7f\x10\xda\xbe" + bytes(64)
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\x03" + struct.pack("<H", len(extra)) + extra + gzip.compress(DISK)[10:]
    assert "(it is a VDI image and it is compressed (gzip))" in refused(img_format, head)


@pytest.mark.parametrize("compression", list(Compression))
def test_what_is_compressed_twice_or_wraps_an_archive_is_refused(compression: Compression) -> None:
    again = COMPRESSED[compression](COMPRESSED[compression](DISK))
    inside = COMPRESSED[compression](DISK)
    assert recipe("diskdump", again).compression is compression
    for img_format in FORMATS:
        with pytest.raises(ImageError, match=rf"^\(decompressed\) is compressed once more \({compression}\)"):
            check_plain(img_format, inside)
        with pytest.raises(ImageError, match="it is a tar archive"):
            check_plain(img_format, _tar().ljust(1024, b"\0"))


def test_what_is_inside_a_compressed_image_has_to_agree_as_well() -> None:
    qcow2, disk, dump = made("qcow2"), partitioned("label: gpt\n2048,\n"), ext()
    for img_format, head in (("qcow2", qcow2), ("diskdump", disk), ("auto", disk), ("extdump", dump)):
        check_plain(img_format, head)
    for img_format, head, told in (
        ("qcow2", disk, "image x does not look like qcow2"),
        ("diskdump", qcow2, "image x is not a plain disk image"),
        ("auto", qcow2, "image x is no disk but qcow2: say img_format=qcow2"),
        ("ntfsdump", dump, "image x does not look like ntfsdump"),
    ):
        with pytest.raises(ImageError, match=told):
            check_plain(img_format, head, "image x")


def test_the_decoder_can_look_without_all_that_the_parent_has_loaded() -> None:
    script = "import sys; import snf_image_host.images.recipes; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": ":".join(sys.path)}, check=True)


_SEEDS = st.sampled_from(
    [
        b"QFI\xfb",
        b"KDMV",
        b"vhdxfile",
        b"\x1f\x8b\x08",
        b"\x50\x2a\x4d\x18",
        b"#a\n",
        b"version=1",
        b"NTFS    ",
        b"\x55\xaa",
    ]
)


@given(
    st.one_of(st.binary(max_size=2048), st.lists(st.one_of(_SEEDS, st.binary(max_size=600))).map(b"".join)),
    st.sampled_from(FORMATS),
)
def test_no_head_of_a_file_gives_anything_but_a_recipe_or_a_reason(head: bytes, img_format: str) -> None:
    recognise(head)
    contents(head)
    is_partitioned(head)
    for look in (recipe_for, check_plain):
        try:
            look(img_format, head, "image x")
        except ImageError as error:
            assert str(error).startswith("image x ")
