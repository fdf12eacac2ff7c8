# SPDX-License-Identifier: GPL-2.0-or-later
"""snf-image-inspect up to the helper VM: what it is asked, and the disk that it makes of an image."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snf_image_host.cli import operate
from snf_image_host.configuration.settings import Settings
from snf_image_host.images.checksum import parse_checksums
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import opened_image
from snf_image_host.images.sources import Source
from snf_image_host.inspection.command import _disk_of, _judge, asked, parser, run
from snf_image_host.inspection.document import InspectedImage, Inspection
from snf_image_host.progress import Progress
from snf_image_shared.errors import ConfigurationError, HelperError, ImageError, RequestError, SnfImageError
from snf_image_shared.findings import Findings, FoundFileSystem, FoundTable, Plan
from unit.helper.disk_images import private_mounts, sh

MIB = 1 << 20
SECRET = "sEcret-Pw"
IMAGE = InspectedImage(name="x", format="auto", container="raw", compression="", size=1)


def settings(root: Path, **more: object) -> Settings:
    (root / "images").mkdir(exist_ok=True)
    values = {"image_dir": root / "images", "cache_dir": root / "cache", **more}
    return Settings.model_validate(values)


def options(*words: str) -> argparse.Namespace:
    return parser().parse_args(words)


def disk_image(path: Path, mib: int = 4) -> bytes:
    """A file with a partition table and something at either end of it."""
    with path.open("wb") as file:
        file.truncate(mib * MIB)
    sh("sfdisk", "--quiet", "--no-reread", str(path), stdin="label: gpt\nstart=2048\n")
    with path.open("r+b") as file:
        file.seek(MIB + 5)
        file.write(os.urandom(5000))
    return path.read_bytes()


@contextmanager
def made(wanted: WantedImage, given: Settings) -> Iterator[Source]:
    progress = Progress(io.StringIO())
    with opened_image(wanted, given, progress) as opened, _disk_of(opened, given, progress) as disk:
        yield disk


def content(disk: Source) -> bytes:
    return os.pread(disk.fd, disk.size, 0)


def left(root: Path) -> list[Path]:
    return list((root / "cache").iterdir()) if (root / "cache").exists() else []


def test_a_raw_image_is_given_to_the_helper_where_it_lies(tmp_path: Path) -> None:
    given = settings(tmp_path)
    expected = disk_image(tmp_path / "images/a")
    with made(WantedImage("a", "diskdump"), given) as disk:
        assert os.path.samestat(os.fstat(disk.fd), (tmp_path / "images/a").stat())
        assert (content(disk), disk.drive().writable) == (expected, False)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["a", "a.gz", "a.qcow2"])
def test_whatever_has_to_be_unpacked_or_to_hold_becomes_a_file_without_a_name(tmp_path: Path, name: str) -> None:
    given = settings(tmp_path)
    place = tmp_path / "images"
    expected = disk_image(place / "a")
    (place / "a.gz").write_bytes(gzip.compress(expected))
    sh("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(place / "a"), str(place / "a.qcow2"))
    digest = hashlib.sha256((place / name).read_bytes()).hexdigest()
    wanted = WantedImage(name, "auto", parse_checksums(f"sha256:{digest}"))
    with made(wanted, given) as disk:
        assert content(disk) == expected
        assert (os.fstat(disk.fd).st_nlink, disk.drive().writable) == (0, False)
        assert left(tmp_path) == []
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(disk.fd, b"x", 0)


def test_an_image_that_is_not_what_its_checksum_says_is_never_looked_at(tmp_path: Path) -> None:
    given = settings(tmp_path)
    disk_image(tmp_path / "images/a")
    wanted = WantedImage("a", "diskdump", parse_checksums("sha256:" + "0" * 64))
    with pytest.raises(ImageError, match="img_checksum expects"), made(wanted, given):
        pytest.fail("given to the helper")
    assert left(tmp_path) == []


def test_a_dump_gets_what_comes_before_it_on_a_disk(tmp_path: Path) -> None:
    given = settings(tmp_path)
    dump = tmp_path / "images/root"
    with dump.open("wb") as file:
        file.truncate(2 * MIB)
    sh("mkfs.ext2", "-q", str(dump))
    with made(WantedImage("root", "extdump"), given) as disk:
        found = content(disk)
    assert found[MIB:] == dump.read_bytes()
    (tmp_path / "disk").write_bytes(found)
    [partition] = json.loads(sh("sfdisk", "--json", str(tmp_path / "disk")))["partitiontable"]["partitions"]
    assert (partition["start"], partition["size"], partition["type"]) == (2048, 4096, "83")


def test_a_disk_beyond_what_one_image_may_have_is_refused_before_it_is_made(tmp_path: Path) -> None:
    given = settings(tmp_path, spool_size=2)
    disk_image(tmp_path / "images/a", mib=64)
    (tmp_path / "images/a.gz").write_bytes(gzip.compress((tmp_path / "images/a").read_bytes()))
    sh("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(tmp_path / "images/a"), str(tmp_path / "images/q"))
    for name in ("a.gz", "q"):
        with (
            pytest.raises(ImageError, match=r"more than the 2 MiB .* raise SPOOL_SIZE"),
            made(WantedImage(name, "auto"), given),
        ):
            pytest.fail("given to the helper")
    assert left(tmp_path) == []


@pytest.mark.root
def test_a_full_cache_disk_is_told_and_nothing_stays_on_it(tmp_path: Path) -> None:
    place = tmp_path / "cache"
    place.mkdir(mode=0o700)
    given = settings(tmp_path)
    (tmp_path / "images/a.gz").write_bytes(gzip.compress(os.urandom(8 * MIB)))
    with private_mounts():
        sh("mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(place))
        try:
            with (
                pytest.raises((ImageError, ConfigurationError), match="CACHE_DIR"),
                made(WantedImage("a.gz", "diskdump"), given),
            ):
                pytest.fail("given to the helper")
            assert left(tmp_path) == []
            assert os.statvfs(place).f_bfree == os.statvfs(place).f_blocks
        finally:
            sh("umount", str(place))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "no IMAGE is given"),
        (("null",), "null is no image"),
        (("../none/such",), "there is no file ../none/such: correct IMAGE"),
        (("/dev/null",), "there is no file /dev/null"),
        (("a", "--format", "vmware"), "'vmware' is not one of"),
        (("a", "--disks", "0"), "DISK_COUNT"),
        (("a", "--disks", "99"), "DISK_COUNT"),
        (("a", "--variant", "nobody"), "nobody"),
        (("a", "--plan", "/none/such"), "--plan: /none/such cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    (tmp_path / "var/lib/snf-image").mkdir(parents=True)
    with pytest.raises(SnfImageError) as refused:
        run(options(*words), tmp_path)
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "document",
    [
        f'{{"img_passwd": "{SECRET}", "img_passwd_hash": "{SECRET}"}}',
        f'{{"img_passwd": ["{SECRET}"]}}',
        f'{{"img_passwd": "{SECRET}", "config_url": "http://x/{SECRET}"}}',
        f'{{"img_passwd": "{SECRET}"',
        f'["{SECRET}"]',
        f'{{"img_passwd": "{SECRET}\\n"}}',
        f'{{"img_personality": [{{"path": "/x", "contents": "{SECRET}"}}]}}',
    ],
)
def test_a_document_that_is_refused_is_not_quoted(tmp_path: Path, document: str) -> None:
    (tmp_path / "job").write_text(document)
    with pytest.raises(RequestError) as refused:
        run(options("a", "--plan", str(tmp_path / "job")), tmp_path)
    assert SECRET not in str(refused.value)


def test_the_image_and_its_format_may_come_from_the_document_or_the_settings(tmp_path: Path) -> None:
    (tmp_path / "job").write_text('{"img_id": "one", "img_format": "vmdk"}')
    plan = ("--plan", str(tmp_path / "job"))
    preset = Settings(parameters={"IMG_FORMAT": "qcow2", "IMG_ID": "preset"})
    cases = (
        (plan, preset, WantedImage("one", "vmdk")),
        (("two", *plan), preset, WantedImage("two", "vmdk")),
        (("two", "--format", "vdi", *plan), preset, WantedImage("two", "vdi")),
        (("two",), preset, WantedImage("two", "qcow2")),
        (("two",), Settings(), WantedImage("two", "auto")),
    )
    for words, given, wanted in cases:
        assert asked(options(*words), given)[1].image == wanted


def test_a_path_is_a_file_of_its_own_directory_and_a_name_is_one_below_the_image_directory(tmp_path: Path) -> None:
    given = settings(tmp_path)
    (tmp_path / "else where").mkdir()
    named = tmp_path / "else where/a:b.img"
    expected = disk_image(named)
    (tmp_path / "link").symlink_to(named)
    for path in (str(named), str(tmp_path / "link"), f"./{os.path.relpath(named)}", os.path.relpath(named)):
        changed, request = asked(options(path), given)
        if path.startswith((".", "/")):
            with made(request.image, changed) as disk:
                assert content(disk) == expected
        else:
            assert (changed, request.image.id) == (given, path)
    assert asked(options("else where/a"), given)[1].image.id == "else where/a"


def test_how_it_ends_says_what_the_report_says() -> None:
    nothing = Findings(MIB, 512)
    with pytest.raises(ImageError, match="nothing was recognised in x: is img_format auto right"):
        _judge(Inspection(image=IMAGE, disk=nothing), "x")
    refused = Findings(MIB, 512, content=FoundFileSystem("ext4"), plan=Plan(refusal="no root"))
    with pytest.raises(HelperError, match="a deployment would fail: no root"):
        _judge(Inspection(image=IMAGE, disk=refused), "x")
    _judge(Inspection(image=IMAGE, disk=Findings(MIB, 512, FoundTable("gpt"), problems=("many",))), "x")


def test_a_wrong_option_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        operate("snf-image-inspect", Path("/"), ["--colour"])
    assert end.value.code == RequestError.exit_code
    assert "usage: snf-image-inspect" in capsys.readouterr().err


def test_the_log_of_a_quiet_run_is_its_warnings(tmp_path: Path) -> None:
    (tmp_path / "etc/snf-image").mkdir(parents=True)
    (tmp_path / "etc/snf-image/snf-image.conf").write_text("NO_SUCH_SETTING=1\n")
    program = (
        "import sys; from pathlib import Path; from snf_image_host.cli import operate; "
        "sys.exit(operate('snf-image-inspect', Path(sys.argv.pop(1))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), "none"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[3] / name) for name in ("host", "shared"))},
    )
    said = done.stderr.splitlines()
    assert (done.stdout, done.returncode) == ("", ConfigurationError.exit_code)
    assert [line.split()[0] for line in said] == ["[WARNING]", "[ERROR]"]
