# SPDX-License-Identifier: GPL-2.0-or-later
"""The command lines of snf-image-capture and snf-image-shell: what they mean, and what is refused before any work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from snf_image_host.tools import capture_command, shell_command
from snf_image_host.tools.capturing import Capture, Kind
from snf_image_host.tools.compressors import Compression
from snf_image_host.tools.facts import Facts, properties, used_bytes
from snf_image_host.tools.new_images import NewImage
from snf_image_shared.captured import Captured, CapturedFileSystem
from snf_image_shared.errors import RequestError, SnfImageError
from snf_image_shared.findings import Findings, FoundBoot, FoundFileSystem, FoundPartition, FoundSystem, FoundTable

MIB = 1 << 20
TABLE = FoundTable(
    "mbr",
    partitions=(
        FoundPartition(1, MIB, 100 * MIB, "83", content=FoundFileSystem("ext4", used=30 * MIB)),
        FoundPartition(2, 101 * MIB, 500 * MIB, "82", content=FoundFileSystem("swap")),
        FoundPartition(3, 601 * MIB, 2000 * MIB, "83", content=FoundFileSystem("xfs", used=700 * MIB)),
    ),
)
FOUND = Findings(2700 * MIB, 512, table=TABLE, boot=FoundBoot(bios=True), system=FoundSystem("linux", 3))
CAPTURED = Captured(
    (CapturedFileSystem("/", "xfs", 2000 * MIB), CapturedFileSystem("/boot", "ext4", 100 * MIB)), 500 * MIB
)


@pytest.mark.root
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-t tarball", "give either INSTANCE or --disk PATH"),
        ("web1 --disk /dev/x -t tarball", "give either INSTANCE or --disk PATH"),
        ("--disk /dev/x -t tarball", "give the image's by -n"),
        ("--disk /dev/x -t tarball -n ../x", "is no name of an image"),
        ("--disk /dev/x -t dump -n x --compress xz", "--compress xz is nothing that a dump has"),
        ("--disk /dev/x -t qcow2 -n x --compress xz", "--compress xz is nothing that a qcow2 has"),
        ("--disk /dev/x --disk /dev/y -t tarball -n x", "a tarball is made of the first disk alone"),
    ],
)
def test_what_cannot_be_captured_is_refused(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=said):
        capture_command.run(capture_command.parser().parse_args(line.split()), tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("web1 -t zip", "argument -t/--type: 'zip' is not one of tarball, dump, qcow2, raw\n"),
        ("web1 -t raw --compress lzma", "argument --compress: 'lzma' is not one of gz, xz, zst, none\n"),
    ],
)
def test_a_word_that_is_none_of_a_few_is_told_with_those(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        capture_command.parser().parse_args(line.split())
    assert capsys.readouterr().err.endswith(said)


@pytest.mark.root
@pytest.mark.parametrize("line", ["", "web1 --disk /dev/x", "-- ls"])
def test_a_shell_needs_one_place_and_its_own_failures_are_255(line: str, tmp_path: Path) -> None:
    with pytest.raises(SnfImageError, match="give either INSTANCE or --disk PATH") as failed:
        shell_command.run(shell_command.parser().parse_args(line.split()), tmp_path)
    assert failed.value.exit_code == 255


def test_what_stands_behind_two_dashes_is_the_commands() -> None:
    options = shell_command.parser().parse_args(["--disk", "/dev/x", "--rw", "--", "tar", "--rw", "-c", "--", "etc"])
    assert options.command == ["tar", "--rw", "-c", "--", "etc"]
    assert (options.instance, options.disk, options.rw) == (None, [Path("/dev/x")], True)
    options = shell_command.parser().parse_args(["web1", "--", "ls"])
    assert (options.instance, options.command) == ("web1", ["ls"])


@pytest.mark.parametrize(
    ("kind", "wanted", "disks", "names"),
    [
        (Kind.TARBALL, None, 1, ["web-x86.tar.gz"]),
        (Kind.TARBALL, Compression.ZST, 1, ["web-x86.tar.zst"]),
        (Kind.TARBALL, Compression.NONE, 1, ["web-x86.tar"]),
        (Kind.DUMP, None, 1, ["web-x86-root.dump", "web-x86-boot.dump"]),
        (Kind.QCOW2, Compression.ZST, 2, ["web-x86.qcow2", "web-x86-disk1.qcow2"]),
        (Kind.RAW, None, 1, ["web-x86.raw"]),
        (Kind.RAW, Compression.XZ, 1, ["web-x86.raw.xz"]),
    ],
)
def test_files_are_called_as_instance_image_looks_for_them(
    kind: Kind, wanted: Compression | None, disks: int, names: list[str]
) -> None:
    assert Capture(kind, "web-x86", Path("/images"), kind.compression(wanted)).names(disks) == names


def test_the_properties_of_an_archive_give_the_layout_again() -> None:
    facts = Facts("tarball", "tarball", "gz", "", FOUND, CAPTURED)
    assert properties(facts) == {
        "OSFAMILY": "linux",
        "FILESYSTEM": "xfs",
        "BOOT_SIZE": "100",
        "PARTITION_TABLE": "msdos",
        "SWAP_SIZE": "500",
    }
    assert used_bytes(FOUND) == 730 * MIB


def test_words_of_a_guest_that_mean_nothing_here_are_no_property() -> None:
    strange = Captured((CapturedFileSystem("/", "$(id)", 1), CapturedFileSystem("/home", "ext4", 1)))
    assert properties(Facts("tarball", "tarball", "gz", "", None, strange)) == {
        "OSFAMILY": "linux",
        "BOOT_SIZE": "0",
        "SWAP_SIZE": "0",
    }


def test_a_disk_is_told_by_its_system_and_nothing_is_told_of_an_unknown_one() -> None:
    assert properties(Facts("raw", "diskdump", "none", "", FOUND)) == {"OSFAMILY": "linux", "ROOT_PARTITION": "3"}
    assert properties(Facts("raw", "diskdump", "none", "", None)) == {}


def test_the_document_has_the_files_and_what_is_on_the_disk() -> None:
    image = NewImage("web.raw", -1, digest="ab", size=7)
    document = json.loads(Facts("raw", "diskdump", "none", "/boot/vmlinuz", FOUND).document([image]))
    assert document["files"] == [{"name": "web.raw", "size": 7, "sha256": "ab"}]
    assert (document["type"], document["format"], document["kernel_path"]) == ("raw", "diskdump", "/boot/vmlinuz")
    assert [each["content"]["type"] for each in document["disk"]["table"]["partitions"]] == ["ext4", "swap", "xfs"]
    assert document["disk"]["plan"] is None
