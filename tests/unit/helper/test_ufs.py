# SPDX-License-Identifier: GPL-2.0-or-later
"""The superblock of a UFS, of makefs and of strangers: what is read, what is refused, what is prepared."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from images.bsd_disks import make_ffs
from images.ufs_damage import (
    CKHASH,
    CLEAN,
    FLAGS,
    METACKHASH,
    MTIME,
    PENDING_BLOCKS,
    SNAPSHOTS,
    Spoiled,
    freebsd_crc,
    plant_check_hashes,
)
from snf_image_helper.disks.ufs import crc32c, prepare_for_writing, read_ufs, refuse_unwritable
from snf_image_helper.disks.ufs_check import faults_of
from snf_image_helper.system import OsFamily
from snf_image_shared.errors import GuestError

FREEBSD, NETBSD, OPENBSD = OsFamily.FREEBSD, OsFamily.NETBSD, OsFamily.OPENBSD
_MIB = 1 << 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A small UFS1 and UFS2."""
    place = tmp_path_factory.mktemp("ufs")
    (place / "tree/etc").mkdir(parents=True)
    (place / "tree/etc/fstab").write_text("# empty\n")
    for version in (1, 2):
        make_ffs(place / "tree", place / f"ufs{version}", 4 * _MIB, version)
    return {version: place / f"ufs{version}" for version in (1, 2)}


@pytest.fixture
def ufs1(made: dict[int, Path], tmp_path: Path) -> Spoiled:
    return Spoiled(Path(shutil.copy(made[1], tmp_path)))


@pytest.fixture
def ufs2(made: dict[int, Path], tmp_path: Path) -> Spoiled:
    return Spoiled(Path(shutil.copy(made[2], tmp_path)))


@pytest.mark.parametrize(("version", "place", "kind"), [(1, 8192, "44bsd"), (2, 65536, "ufs2")])
def test_both_versions_are_found_where_their_systems_look(
    made: dict[int, Path], version: int, place: int, kind: str
) -> None:
    ufs = read_ufs(str(made[version]))
    assert (ufs.version, ufs.place, ufs.kind) == (version, place, kind)
    assert (ufs.block, ufs.fragment, ufs.groups, ufs.clean) == (16384, 2048, 1, 1)
    for family in (FREEBSD, NETBSD, OPENBSD):
        refuse_unwritable(ufs, family, "vda4")


def set_flags(flags: int) -> Callable[[Spoiled], None]:
    return lambda made: made.set_field(FLAGS, made.field(FLAGS, "<I") | flags)


def set_byte(at: int, value: int) -> Callable[[Spoiled], None]:
    return lambda made: made.set_field(at, value, "<B")


OBSTACLES: dict[str, tuple[Callable[[Spoiled], None], set[OsFamily], str]] = {
    "crashed": (set_byte(CLEAN, 0), {FREEBSD, NETBSD, OPENBSD}, "not unmounted cleanly; start the system"),
    "mounted by NetBSD": (set_byte(CLEAN, 2), {FREEBSD, NETBSD, OPENBSD}, "not unmounted cleanly"),
    "lost by Linux": (set_byte(CLEAN, 255), {FREEBSD, NETBSD, OPENBSD}, "not unmounted cleanly"),
    "unclean at its mount": (set_flags(0x01), {FREEBSD, NETBSD, OPENBSD}, "not unmounted cleanly"),
    "needs fsck": (set_flags(0x04), {FREEBSD, NETBSD, OPENBSD}, "not unmounted cleanly"),
    "pending": (lambda made: made.set_field(PENDING_BLOCKS, 8), {FREEBSD, NETBSD, OPENBSD}, "to be freed; run fsck"),
    "snapshot": (lambda made: made.set_field(SNAPSHOTS + 8, 99), {FREEBSD, NETBSD, OPENBSD}, "snapshots.*remove them"),
    "gjournal": (set_flags(0x40), {FREEBSD}, "gjournal.*tunefs -J disable"),
    "log": (set_flags(0x100), {NETBSD}, "log that was not closed; shut the system down"),
    "quota": (set_flags(0x200), {NETBSD}, "quotas inside.*tunefs"),
}


@pytest.mark.parametrize("name", OBSTACLES)
@pytest.mark.parametrize("family", [FREEBSD, NETBSD, OPENBSD])
def test_what_linux_must_not_write_is_refused_with_the_cure(ufs2: Spoiled, name: str, family: OsFamily) -> None:
    spoil, families, message = OBSTACLES[name]
    spoil(ufs2)
    ufs = read_ufs(ufs2.save())
    if family not in families:
        refuse_unwritable(ufs, family, "vda4")
        return
    with pytest.raises(GuestError, match=message) as refused:
        refuse_unwritable(ufs, family, "vda4")
    assert "vda4" in str(refused.value)
    assert "publish the image anew" in str(refused.value)


def test_flags_of_an_old_ufs1_are_read_where_they_are(ufs1: Spoiled) -> None:
    ufs1.set_field(FLAGS, 0x04)
    ufs1.set_field(211, 0x00, "<B")  # fs_old_flags without FS_FLAGS_UPDATED
    refuse_unwritable(read_ufs(ufs1.save()), FREEBSD, "vda1")
    ufs1.set_field(211, 0x01, "<B")
    with pytest.raises(GuestError, match="cleanly"):
        refuse_unwritable(read_ufs(ufs1.save()), FREEBSD, "vda1")


def test_freebsd_s_check_hashes_are_verified_and_then_given_up(ufs2: Spoiled) -> None:
    plant_check_hashes(ufs2)
    device = ufs2.save()
    ufs = read_ufs(device)
    refuse_unwritable(ufs, FREEBSD, device)
    prepare_for_writing(ufs, FREEBSD, device)
    after = Spoiled(ufs2.path)
    assert (after.field(FLAGS, "<I") & 0x200, after.field(METACKHASH)) == (0, 0)
    assert after.field(CKHASH, "<I") == ufs2.field(CKHASH, "<I")
    for at, size in ((FLAGS, 4), (METACKHASH, 4)):
        begin = after.superblock + at
        after.image[begin : begin + size] = ufs2.image[begin : begin + size]
    assert after.image == ufs2.image, "more was changed than the two fields"


def test_a_superblock_with_a_wrong_check_hash_is_refused(ufs2: Spoiled) -> None:
    plant_check_hashes(ufs2)
    ufs2.set_field(CKHASH, ufs2.field(CKHASH, "<I") ^ 1)
    with pytest.raises(GuestError, match="check hash is wrong; run fsck"):
        refuse_unwritable(read_ufs(ufs2.save()), FREEBSD, "vda4")


def test_the_time_of_mounting_of_a_soft_updates_journal_changes(ufs2: Spoiled) -> None:
    ufs2.set_field(FLAGS, 0x80 | 0x02 | 0x08)
    device = ufs2.save()
    prepare_for_writing(read_ufs(device), FREEBSD, device)
    assert Spoiled(ufs2.path).field(MTIME, "<q") > 1_600_000_000
    assert Spoiled(ufs2.path).field(FLAGS, "<I") == 0x80 | 0x02 | 0x08


@pytest.mark.parametrize("family", [NETBSD, OPENBSD])
def test_the_other_systems_superblocks_are_left_as_they_are(ufs2: Spoiled, family: OsFamily) -> None:
    ufs2.set_field(METACKHASH, 7)  # spare there
    device = ufs2.save()
    prepare_for_writing(read_ufs(device), family, device)
    assert ufs2.path.read_bytes() == ufs2.image


@given(st.binary(max_size=200))
@example(b"123456789")
def test_the_crc_is_castagnoli_s_without_the_last_inversion(content: bytes) -> None:
    assert crc32c(content) == freebsd_crc(content)


def test_the_crc_of_the_published_example() -> None:
    assert crc32c(b"123456789") ^ 0xFFFFFFFF == 0xE3069283  # RFC 3720, B.4 uses the same polynomial


@pytest.mark.parametrize(
    ("magic", "message"),
    [
        (0x19012038, "FFSv2ea.*newfs -O 2"),
        (0x19960408, "was broken off"),
        (0x19015419, "big-endian"),
    ],
)
def test_other_formats_are_named(ufs2: Spoiled, magic: int, message: str) -> None:
    ufs2.set_field(1372, magic)
    with pytest.raises(GuestError, match=message):
        read_ufs(ufs2.save())


def test_no_ufs_is_said_to_be_none(tmp_path: Path) -> None:
    for size in (0, 100, 1 << 20):
        (tmp_path / "empty").write_bytes(bytes(size))
        with pytest.raises(GuestError, match="has no UFS; correct ROOT_PARTITION"):
            read_ufs(str(tmp_path / "empty"))


def test_a_ufs2_at_8_kib_is_not_written(made: dict[int, Path], tmp_path: Path) -> None:
    shutil.copy(made[1], tmp_path / "image")
    wrong = Spoiled(tmp_path / "image")
    image, second = wrong.image, Spoiled(made[2]).image
    image[8192 : 8192 + 1376] = second[65536 : 65536 + 1376]
    struct.pack_into("<q", image, 8192 + 1000, 8192)
    (tmp_path / "image").write_bytes(image + bytes(_MIB))
    with pytest.raises(GuestError, match="8 KiB, where Linux does not look"):
        refuse_unwritable(read_ufs(str(tmp_path / "image")), FREEBSD, "vda4")


# Of the superblock: what the kernel divides by, shifts by, multiplies or reads from.
FIELDS = [8, 12, 16, 20, 24, 44, 48, 52, 56, 72, 76, 80, 84, 96, 104, 116, 120, 156, 160, 184, 188, 1316, 1320]
ODD = [0, 1, -1, 2, 7, 511, 513, 1 << 12, 1 << 20, (1 << 31) - 1, -(1 << 31)]


@pytest.mark.parametrize("version", [1, 2])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(ODD), min_size=1, max_size=3))
def test_a_hostile_superblock_is_refused_or_harmless(
    made: dict[int, Path], tmp_path: Path, version: int, changes: dict[int, int]
) -> None:
    """Nothing but a GuestError, and what is accepted is checked without an error of ours."""
    path = Path(shutil.copy(made[version], tmp_path))
    spoiled = Spoiled(path)
    for at, value in changes.items():
        spoiled.set_field(at, value, "<i")
    device = spoiled.save()
    try:
        read_ufs(device)
    except GuestError as error:
        assert "damaged" in str(error) or "no UFS" in str(error)
        return
    faults_of(device)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, (1 << 18) - 1), st.binary(min_size=1, max_size=64))
def test_hostile_bytes_anywhere_raise_nothing_else(
    made: dict[int, Path], tmp_path: Path, at: int, content: bytes
) -> None:
    path = tmp_path / "image"
    image = bytearray(made[2].read_bytes())
    image[at : at + len(content)] = content
    path.write_bytes(image)
    try:
        faults_of(str(path))
    except GuestError:
        return
