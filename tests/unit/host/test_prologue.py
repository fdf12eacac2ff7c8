# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump of a file system becomes a disk: others' programs read its partition table, and a real BIOS starts it."""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from block_devices import loop_device
from images.inspection import partition_table
from provider import Instance, Provider
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import Image, PlainImage, StreamedImage, check_fits, copy
from snf_image_host.disks.targets import EDGE, open_target
from snf_image_host.ganeti import Request
from snf_image_host.images.boot_code import BOOT_CODE, LARGEST
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.prologue import boot_record
from snf_image_host.images.sources import open_source
from snf_image_host.images.streams import FileStream
from snf_image_host.progress import Progress
from snf_image_host.verify import verify
from snf_image_host.vm.jobs import job_for
from snf_image_shared.errors import ImageError, RequestError

MIB = 1 << 20
TIB = 1 << 40
GARBAGE = b"\xa5"
SOURCE = Path(__file__).resolve().parents[3] / "host/snf_image_host/images/boot_code.s"
# A boot sector that says over the serial port what it was given, in hexadecimal: dl, and of the entry at ds:si the
# flag and the lower half of its start. Then it ends the machine with the status 3.
SPEAKER = """
        .intel_syntax noprefix
        .code16
_start: mov     bp, si
        mov     al, 'V'
        call    put
        mov     al, dl
        call    hex
        mov     al, ds:[bp]
        call    hex
        mov     al, ds:[bp+9]
        call    hex
        mov     al, ds:[bp+8]
        call    hex
        mov     al, 1
        out     0xf4, al
stop:   jmp     stop
hex:    push    ax
        shr     al, 4
        call    digit
        pop     ax
        and     al, 15
digit:  cmp     al, 10
        sbb     al, 0x69
        das
put:    push    dx
        mov     dx, 0x3f8
        out     dx, al
        pop     dx
        ret
        .org    510
        .word   0xaa55
        .globl  _start
"""
SPOKEN = 3


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory on a file system with O_DIRECT, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def assembled(source: Path, address: int, directory: Path) -> bytes:
    """What GNU as and ld make of a source that is to run at this address."""
    unlinked, binary = directory / "code.o", directory / "code.bin"
    subprocess.run(["as", "--32", "-o", unlinked, source], check=True)
    link = ["ld", "-m", "elf_i386", f"-Ttext={address:#x}", "--oformat=binary"]
    subprocess.run([*link, "-o", binary, unlinked], check=True)
    return binary.read_bytes()


@contextmanager
def opened(directory: Path, size: int | None, img_format: str = "extdump") -> Iterator[tuple[Image, Progress]]:
    """The file `dump` as an image of that format; without a size as if a server sent it and did not say it."""
    with (
        (directory / "log").open("w") as log,
        Progress.start("inst", "", log=log) as progress,
        open_source("dump", directory) as source,
    ):
        if size is None:
            streamed = StreamedImage(FileStream(source), Integrity(), img_format)
            streamed.size = None
            yield streamed, progress
        else:
            yield PlainImage(source, Integrity(), img_format), progress


def deploy(directory: Path, disk: Path, content: bytes, img_format: str = "extdump") -> None:
    """Put a dump on the disk as create does."""
    (directory / "dump").write_bytes(content)
    with opened(directory, len(content), img_format) as (image, progress), open_target(disk) as target:
        copy(image, target, progress)


def make_disk(directory: Path, size: int) -> Path:
    (directory / "disk").write_bytes(GARBAGE * size)
    return directory / "disk"


def noise(size: int) -> bytes:
    return b"\xeb\xfe" + os.urandom(size - 2)


def test_the_boot_code_is_what_its_source_says_and_leaves_room_for_the_table(tmp_path: Path) -> None:
    code = assembled(SOURCE, 0x600, tmp_path)
    assert code.hex() == BOOT_CODE.hex()
    assert len(code) <= LARGEST == 440


@pytest.mark.row(72)
@pytest.mark.parametrize(("img_format", "kind"), [("extdump", "83"), ("ntfsdump", "7")])
def test_a_dump_lies_behind_boot_code_and_a_table_that_others_can_read(
    directory: Path, img_format: str, kind: str
) -> None:
    dump = noise(5 * MIB)
    disk = make_disk(directory, 9 * MIB)
    deploy(directory, disk, dump, img_format)
    content = disk.read_bytes()
    assert content[:440] == BOOT_CODE.ljust(440, b"\0")
    assert content[512:MIB] == bytes(MIB - 512)
    assert content[MIB : 6 * MIB] == dump
    assert content[6 * MIB : 8 * MIB] == GARBAGE * (2 * MIB)
    assert content[8 * MIB :] == bytes(MIB)
    table = partition_table(disk)
    (only,) = table.partitions
    assert (only.number, only.start, only.size, only.type, only.bootable) == (1, 2048, 5 * 2048, kind, True)
    printed = subprocess.run(
        ["parted", "-sm", disk, "unit", "s", "print"], capture_output=True, text=True, check=True
    ).stdout
    assert "1:2048s:12287s:10240s:" in printed
    assert ":boot;" in printed.splitlines()[2]


@pytest.mark.row(72)
def test_every_disk_gets_a_signature_of_its_own(directory: Path) -> None:
    seen = set()
    for _ in range(3):
        disk = make_disk(directory, 3 * MIB)
        deploy(directory, disk, noise(MIB))
        seen.add(disk.read_bytes()[440:446])
    assert len(seen) == 3
    assert {signature[4:] for signature in seen} == {b"\0\0"}
    assert bytes(6) not in seen


@pytest.mark.row(68, 72)
@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("odd", [1, 511, 4095])
def test_the_partition_holds_all_of_a_dump_that_ends_within_a_sector(
    directory: Path, odd: int, is_streamed: bool
) -> None:
    dump = noise(2 * MIB + odd)
    disk = make_disk(directory, 6 * MIB)
    (directory / "dump").write_bytes(dump)
    size = None if is_streamed else len(dump)
    with opened(directory, size) as (image, progress), open_target(disk) as target:
        copy(image, target, progress)
    sectors = -(-len(dump) // 512)
    assert partition_table(disk).partition(1).size == sectors
    after = disk.read_bytes()
    assert after[MIB : MIB + sectors * 512] == dump + bytes(-len(dump) % 512)
    assert after[MIB + sectors * 512 : 5 * MIB] == GARBAGE * (4 * MIB - sectors * 512)


@pytest.mark.root
@pytest.mark.row(68)
@pytest.mark.parametrize("sector", [512, 4096])
def test_so_it_does_on_a_block_device(directory: Path, sector: int) -> None:
    dump = noise(2 * MIB + 700)
    with loop_device(make_disk(directory, 5 * MIB), f"--sector-size={sector}") as device:
        deploy(directory, device, dump)
        after = device.read_bytes()
    assert after[MIB : 3 * MIB + 1024] == dump + bytes(324)
    assert struct.unpack_from("<II", after, 454) == (2048, 4096 + 2)


@pytest.mark.row(63, 72)
def test_a_disk_without_room_for_the_table_and_the_last_sector_is_refused_untouched(directory: Path) -> None:
    for size, room in ((2 * MIB, 3 * MIB - 512), (2 * MIB - 511, 3 * MIB - 1), (512, MIB), (2 * MIB, 2 * MIB)):
        disk = make_disk(directory, room)
        with pytest.raises(ImageError, match=rf"has {size} bytes, the disk {disk} only {room}: give a disk of at"):
            deploy(directory, disk, noise(size))
        assert disk.read_bytes() == GARBAGE * room
    deploy(directory, make_disk(directory, 3 * MIB), noise(2 * MIB - 511))


def test_a_dump_of_unknown_size_that_leaves_no_room_for_its_last_sector_does_not_boot(directory: Path) -> None:
    (directory / "dump").write_bytes(noise(2 * MIB + 1))
    disk = make_disk(directory, 3 * MIB + 1)
    with (
        opened(directory, None) as (image, progress),
        open_target(disk) as target,
        pytest.raises(ImageError, match="larger than the disk"),
    ):
        copy(image, target, progress)
    assert disk.read_bytes()[:EDGE] == bytes(EDGE)
    assert disk.read_bytes()[-EDGE:] == bytes(EDGE)


def sparse(path: Path, size: int) -> Path:
    path.touch()
    os.truncate(path, size)
    return path


def test_a_dump_that_no_partition_table_can_hold_is_refused_before_anything_is_written() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        directory = Path(name)
        disk = sparse(directory / "disk", 3 * TIB)
        for size, is_refused in ((2 * TIB - MIB, False), (2 * TIB - MIB + 1, True)):
            sparse(directory / "dump", size)
            with opened(directory, size) as (image, _), open_target(disk) as target:
                if is_refused:
                    with pytest.raises(ImageError, match=r"image 'dump' has \d+ bytes, .* below 2 TiB: publish the wh"):
                        check_fits(image, target)
                else:
                    check_fits(image, target)
            assert disk.stat().st_blocks == 0


@given(count=st.one_of(st.integers(1, 1 << 16), st.integers(1, (1 << 32) - 2048)), kind=st.sampled_from([7, 0x83]))
def test_the_old_numbers_of_the_partition_mean_the_same_as_the_new_ones(count: int, kind: int) -> None:
    record = boot_record(kind, count, b"abcd")
    assert len(record) == 512
    assert record[510:] == b"\x55\xaa"
    assert record[462:510] == bytes(48)
    flag, first, found, last, start, size = struct.unpack_from("<B3sB3sII", record, 446)
    assert (flag, found, start, size) == (0x80, kind, 2048, count)
    assert sector_of(first) == 2048
    end = 2048 + count - 1
    assert sector_of(last) == end if end < 1024 * 255 * 63 else last == b"\xfe\xff\xff"


def sector_of(geometry: bytes) -> int:
    """The sector by its cylinder, head and number on a disk with 255 heads and 63 sectors a track."""
    head, sector, cylinder = geometry[0], geometry[1] & 63, geometry[2] | (geometry[1] & 0xC0) << 2
    return (cylinder * 255 + head) * 63 + sector - 1


@pytest.mark.row(73)
def test_what_the_format_says_of_the_system_reaches_the_helper_unless_a_property_says_otherwise() -> None:
    def properties(img_format: str, image: str = "", instance: str = "") -> dict[str, str]:
        parameters = {"IMG_ID": "x", "IMG_FORMAT": img_format, "IMG_PROPERTIES": image, "INST_PROPERTIES": instance}
        env = Instance("vm1.example.com", (Path("/dev/null"),)).environment()
        request = Request.from_environment(env, Settings(), parameters)
        return dict(job_for(request, Settings()).properties)

    assert properties("diskdump") == {}
    assert properties("extdump") == {"OSFAMILY": "linux", "ROOT_PARTITION": "1"}
    assert properties("ntfsdump", '{"users": "a"}') == {"OSFAMILY": "windows", "ROOT_PARTITION": "1", "USERS": "a"}
    assert properties("extdump", '{"osfamily": "freebsd", "X": "y"}', '{"root_partition": 2}') == {
        "OSFAMILY": "freebsd",
        "ROOT_PARTITION": "2",
        "X": "y",
    }


@pytest.mark.row(74)
@pytest.mark.parametrize("img_format", ["extdump", "ntfsdump"])
def test_a_dump_of_nothing_is_refused_before_the_disk_is_touched(
    provider: Provider, directory: Path, img_format: str
) -> None:
    disk = make_disk(directory, 3 * MIB)
    instance = Instance("vm1.example.com", (disk,), parameters={"img_id": "null", "img_format": img_format})
    outcome = provider.run(instance)
    reason = f"OS parameter img_format: {img_format} puts a partition table before an image, and there is none"
    assert outcome.code == 2
    assert outcome.last_line.startswith(f"[ERROR] {reason}")
    assert disk.read_bytes() == GARBAGE * (3 * MIB)
    with pytest.raises(RequestError, match=reason):
        verify({"OSP_IMG_ID": "null", "OSP_IMG_FORMAT": img_format}, directory)


def started(disk: Path, directory: Path, kind: str = "virtio") -> tuple[int, str]:
    """What a PC says on its serial port that is to start this disk, and how it ended."""
    said = directory / "said"
    machine = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "pc,graphics=off", "-accel", "tcg"]
    machine += ["-m", "16", "-display", "none", "-serial", f"file:{said}", "-no-reboot", "-boot", "reboot-timeout=1"]
    machine += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
    done = subprocess.run([*machine, "-drive", f"file={disk},format=raw,if={kind}"], check=False, timeout=300)
    return done.returncode, said.read_text(errors="replace")


def spoken(said: str) -> str:
    """Without the last dots and line ends of the BIOS, which may come in the middle of what it has started."""
    return said.replace(".", "").replace("\r", "").replace("\n", "")


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("speaker")
    (directory / "speaker.s").write_text(SPEAKER)
    return assembled(directory / "speaker.s", 0x7C00, directory)


@pytest.mark.row(72, 76)
@pytest.mark.parametrize("img_format", ["extdump", "ntfsdump"])
def test_a_bios_starts_the_boot_sector_of_the_dump(directory: Path, speaker: bytes, img_format: str) -> None:
    disk = make_disk(directory, 4 * MIB)
    deploy(directory, disk, speaker + noise(MIB), img_format)
    status, said = started(disk, directory)
    assert spoken(said).endswith("V80800800"), "the drive, an active entry, its start"
    assert status == SPOKEN


@pytest.mark.row(76)
def test_a_bios_without_extensions_starts_it_by_cylinder_head_and_sector(directory: Path, speaker: bytes) -> None:
    """A floppy has none; it is the only such drive that this BIOS knows."""
    disk = make_disk(directory, 1440 << 10)
    record = boot_record(0x83, 832, b"abcd")
    disk.write_bytes((record + bytes(MIB - 512) + speaker).ljust(1440 << 10, b"\0"))
    status, said = started(disk, directory, "floppy")
    assert spoken(said).endswith("V00800800")
    assert status == SPOKEN


def changed(record: bytes, changes: dict[int, bytes]) -> bytes:
    copied = bytearray(record)
    for at, new in changes.items():
        copied[at : at + len(new)] = new
    return bytes(copied)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({446: b"\0"}, "No partition is active."),
        ({462: b"\x80"}, "The partition table is invalid."),
        ({446: b"\x7f"}, "The partition table is invalid."),
        ({454: b"\0\0\0\x10"}, "The disk cannot be read."),
        ({MIB + 511: b"\0"}, "The active partition does not boot."),
    ],
)
def test_what_cannot_be_started_is_told_and_handed_back_to_the_bios(
    directory: Path, speaker: bytes, changes: dict[int, bytes], words: str
) -> None:
    disk = make_disk(directory, 4 * MIB)
    deploy(directory, disk, speaker + noise(MIB))
    disk.write_bytes(changed(disk.read_bytes(), changes))
    status, said = started(disk, directory)
    assert f"{words}\n" in said.replace("\r", "")
    assert "No bootable device" in said
    assert status == 0


def test_the_second_partition_is_started_if_that_is_the_active_one(directory: Path, speaker: bytes) -> None:
    record = boot_record(0x83, 832, b"abcd")
    entry = record[446:462]
    moved = changed(record, {446: b"\0", 462: entry[:8] + struct.pack("<II", 3000, 100)})
    disk = make_disk(directory, 4 * MIB)
    disk.write_bytes((moved + bytes(2999 * 512) + speaker).ljust(4 * MIB, b"\0"))
    assert spoken(started(disk, directory)[1]).endswith("V80800BB8")
