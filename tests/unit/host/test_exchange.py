# SPDX-License-Identifier: GPL-2.0-or-later
"""export, import and rename of the OS definition `image` as Ganeti calls them, where no helper VM is needed."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaks import nothing_left
from provider import Instance, Outcome, Provider
from snf_image_host.disks.instance_disks import Transfer
from snf_image_host.instance_image.export import WayOut
from snf_image_host.instance_image.import_ import _Import
from snf_image_host.instance_image.incoming import StreamKind, kind_of
from snf_image_host.instance_image.mapping import settings_for
from snf_image_host.instance_image.settings import ImageSettings
from snf_image_host.progress import Progress
from snf_image_shared.errors import HelperError
from snf_image_shared.exchange import ExchangeError

pytestmark = pytest.mark.root

MIB = 1 << 20
OLD = b"\xa5" * (3 * MIB)
CONTENT = os.urandom(MIB) + bytes(MIB) + os.urandom(MIB - 512)


@pytest.fixture
def node(provider: Provider) -> Iterator[Provider]:
    image = provider.as_image()
    image.configure(NOMOUNT="yes")
    yield image
    image.configure()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    disk = tmp_path / "disk"
    disk.write_bytes(OLD)
    return disk


def call(
    node: Provider, script: str, disk: Path, stdin: int | None = None, *, index: int = 0, **extra: str
) -> subprocess.Popen[bytes]:
    verb = script.upper()
    env = Instance("web1.example.com", (disk, disk)).environment() | {
        f"{verb}_DEVICE": str(disk),
        f"{verb}_INDEX": str(index),
        "OS_NAME": "image",
    }
    return subprocess.Popen(
        [str(node.os_directory / script)],
        cwd=node.os_directory,
        env=env | extra,
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[int(extra["EXP_SIZE_FD"])] if "EXP_SIZE_FD" in extra else [],
    )


def exported(node: Provider, disk: Path, **extra: str) -> bytes:
    with call(node, "export", disk, None, index=0, **extra) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    return out


def imported(node: Provider, disk: Path, stream: bytes, index: int = 0, **extra: str) -> Outcome:
    """How it ended; whatever happened, the sender has got rid of all of it."""
    with tarfile_sender(stream) as sender:
        assert sender.stdout
        with call(node, "import", disk, sender.stdout.fileno(), index=index, **extra) as process:
            sender.stdout.close()
            _, err = process.communicate(timeout=120)
        assert sender.wait() == 0
    return Outcome(process.returncode, err.decode())


def tarfile_sender(stream: bytes) -> subprocess.Popen[bytes]:
    with io.BytesIO(stream) as content:
        path = Path(f"/proc/self/fd/{os.memfd_create('stream', 0)}")
        path.write_bytes(content.read())
    fd = int(path.name)
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        return subprocess.Popen(["cat"], stdin=fd, stdout=subprocess.PIPE)
    finally:
        os.close(fd)


def tarred(*members: tuple[str, bytes], **options: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", **options) as archive:  # type: ignore[call-overload]
        root = tarfile.TarInfo("./")
        root.type = tarfile.DIRTYPE
        archive.addfile(root)
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def qcow2(tmp_path: Path, content: bytes, *options: str) -> bytes:
    (tmp_path / "raw").write_bytes(content)
    paths = (str(tmp_path / "raw"), str(tmp_path / "qcow2"))
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, *paths]
    subprocess.run(command, check=True)
    return (tmp_path / "qcow2").read_bytes()


@pytest.mark.image_row(41, 44, 45, 46, 47, 49)
def test_a_disk_that_is_not_to_be_looked_at_leaves_as_an_image_in_a_tar_archive(
    node: Provider, disk: Path, tmp_path: Path
) -> None:
    disk.write_bytes(CONTENT)
    sizes, size_fd = os.pipe()
    with nothing_left(tmp_path):
        stream = exported(node, disk, EXP_SIZE_FD=str(size_fd))
    os.close(size_fd)
    with os.fdopen(sizes) as said:
        assert said.read() == f"{len(stream)}\n"
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        assert archive.getnames() == ["./disk.img"]
        content = archive.extractfile("./disk.img")
        assert content
        assert content.read() == CONTENT
    assert disk.read_bytes() == CONTENT


@pytest.mark.image_row(44)
def test_a_disk_of_data_is_not_looked_at_either(node: Provider, disk: Path) -> None:
    node.configure()
    with call(node, "export", disk, index=1) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert b"VM" not in err
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        assert archive.getnames() == ["./disk.img"]


@pytest.mark.image_row(41, 44)
@pytest.mark.parametrize("index", [0, 1])
def test_what_was_exported_comes_back_byte_by_byte(node: Provider, disk: Path, tmp_path: Path, index: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    stream = exported(node, source)
    with nothing_left(tmp_path):
        outcome = imported(node, disk, stream, index)
    assert outcome.code == 0, outcome.log
    assert disk.read_bytes()[: len(CONTENT)] == CONTENT


@pytest.mark.image_row(22, 41, 44)
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("kind", ["qcow2", "vmdk"])
def test_a_disk_that_a_guest_has_begun_with_a_container_comes_back_as_it_was(
    node: Provider, disk: Path, tmp_path: Path, index: int, kind: str
) -> None:
    source = tmp_path / "source"
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, str(source), "1M"], check=True)
    os.truncate(source, 2 * MIB)
    outcome = imported(node, disk, exported(node, source), index)
    assert outcome.code == 0, outcome.log
    assert disk.read_bytes()[: 2 * MIB] == source.read_bytes()


@pytest.mark.image_row(41, 45)
@pytest.mark.parametrize("options", [["-c"], []])
def test_the_qcow2_image_that_0_7_3_exported_comes_back(
    node: Provider, disk: Path, tmp_path: Path, options: list[str]
) -> None:
    outcome = imported(node, disk, tarred(("./disk.img", qcow2(tmp_path, CONTENT, *options))))
    assert outcome.code == 0, outcome.log
    assert disk.read_bytes()[: len(CONTENT)] == CONTENT


@pytest.mark.image_row(45)
def test_the_bytes_of_a_disk_come_in_as_they_are(node: Provider, disk: Path) -> None:
    outcome = imported(node, disk, CONTENT)
    assert outcome.code == 0, outcome.log
    assert disk.read_bytes()[: len(CONTENT)] == CONTENT


@pytest.mark.image_row(44)
def test_a_disk_of_data_that_begins_with_somebodys_archive_is_still_a_disk(node: Provider, disk: Path) -> None:
    content = tarred(("music/song", b"la")).ljust(len(OLD), b"\0")
    outcome = imported(node, disk, content, index=1)
    assert outcome.code == 0, outcome.log
    assert disk.read_bytes() == content


@pytest.mark.image_row(99)
def test_what_create_was_told_of_its_image_and_of_users_and_cards_does_not_hinder_an_import(
    node: Provider, disk: Path
) -> None:
    dump = struct.pack("<i20xi996x", 1, 60012)
    parameters = {"IMG_ID": "debian", "IMG_FORMAT": "qcow2", "IMG_CHECKSUM": f"sha256:{'0' * 64}"}
    parameters |= {"IMG_PASSWD": "x", "IMG_PASSWD_HASH": "$6$x$y", "CONFIG_URL": "nothing", "NETWORK": "nothing"}
    env = {f"OSP_{name}": value for name, value in parameters.items()}
    outcome = imported(node, disk, tarred(("./root.dump", dump)), 0, **env)
    # The disk is too small, or there is no helper image on this machine.
    assert outcome.code in {3, 5}, outcome.log
    assert disk.read_bytes() == OLD


def backed(tmp_path: Path) -> bytes:
    (tmp_path / "secret").write_bytes(b"secret" * 1000)
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw"]
    subprocess.run([*command, "-b", str(tmp_path / "secret"), str(tmp_path / "with")], check=True)
    return (tmp_path / "with").read_bytes()


@pytest.mark.image_row(22, 51)
@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (lambda _: b"", "is empty"),
        (lambda _: tarred(), "empty tar archive"),
        (lambda _: tarred(("./etc/passwd", b"root")), "only root.dump, boot.dump, disk.img are known"),
        (lambda _: tarred(("./root.dump", b"no dump" * 100)), "root.dump of the stream to import is no dump(8)"),
        (lambda _: tarred(("./root.dump", b"x" * 5000))[:1500], "is no dump(8)"),
        (lambda _: tarred(("./disk.img", bytes(4 * MIB))), "the disk"),
        (lambda _: tarred(("./disk.img", b"KDMV" + bytes(MIB))), "neither a raw disk nor qcow2"),
        (lambda at: tarred(("./disk.img", backed(at))), "has a backing file"),
        (lambda at: qcow2(at, CONTENT), "it is a QCOW2 image"),
    ],
)
def test_a_stream_that_cannot_become_the_disk_leaves_it_as_it_was(
    node: Provider, disk: Path, tmp_path: Path, stream: object, why: str
) -> None:
    with nothing_left(tmp_path):
        outcome = imported(node, disk, stream(tmp_path))  # type: ignore[operator]
    assert outcome.code != 0
    assert why in outcome.last_line
    assert disk.read_bytes() == OLD


@pytest.mark.image_row(51)
@pytest.mark.parametrize("missing", [2 * MIB, 11_000])
def test_an_image_that_breaks_off_leaves_a_disk_that_does_not_boot(node: Provider, disk: Path, missing: int) -> None:
    outcome = imported(node, disk, tarred(("./disk.img", CONTENT))[:-missing])
    assert outcome.code != 0
    assert "too early" in outcome.last_line
    assert not any(disk.read_bytes()[:MIB])
    assert not any(disk.read_bytes()[-MIB:])


def test_an_image_with_something_behind_it_does_not_boot(node: Provider, disk: Path) -> None:
    outcome = imported(node, disk, tarred(("./disk.img", CONTENT), ("./root.dump", b"x")))
    assert "more than disk.img" in outcome.last_line
    assert not any(disk.read_bytes()[:MIB])


@pytest.mark.image_row(50)
def test_a_reader_that_goes_away_is_a_failure_that_leaves_nothing(node: Provider, disk: Path, tmp_path: Path) -> None:
    disk.write_bytes(CONTENT * 4)
    with nothing_left(tmp_path), call(node, "export", disk) as process:
        assert process.stdout
        assert process.stdout.read(10)
        process.stdout.close()
        _, err = process.communicate(timeout=120)
    assert process.returncode not in {0, -signal.SIGPIPE}
    assert "look at its receiver" in Outcome(1, err.decode()).last_line


@pytest.mark.image_row(50)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_export_that_is_killed_leaves_nothing(
    node: Provider, disk: Path, tmp_path: Path, number: signal.Signals
) -> None:
    disk.write_bytes(CONTENT * 4)
    with nothing_left(tmp_path), call(node, "export", disk) as process:
        assert process.stdout
        assert process.stdout.read(10)
        process.send_signal(number)
        rest, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert len(rest) < len(CONTENT)
    assert disk.read_bytes() == CONTENT * 4


@pytest.mark.image_row(6)
@pytest.mark.parametrize(
    ("script", "variable"),
    [("export", "EXPORT_DEVICE"), ("import", "IMPORT_DEVICE"), ("rename", "OLD_INSTANCE_NAME")],
)
def test_a_variable_that_is_missing_ends_it_at_once(node: Provider, disk: Path, script: str, variable: str) -> None:
    missing: dict[str, str] = {variable: ""}
    with call(node, script, disk, None, index=0, **missing) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert variable.encode() in err
    assert disk.read_bytes() == OLD


@pytest.mark.image_row(68)
def test_an_import_has_the_hook_grub_alone_run_and_tells_it_so(node: Provider, disk: Path, tmp_path: Path) -> None:
    for name in ("10-first", "grub", "zzz"):
        (tmp_path / "hooks").mkdir(exist_ok=True)
        (tmp_path / "hooks" / name).write_text("#!/bin/sh\n")
        (tmp_path / "hooks" / name).chmod(0o755)
    node.configure(CUSTOMIZE_DIR=str(tmp_path / "hooks"))
    env = Instance("web1.example.com", (disk,)).environment() | {"IMPORT_DEVICE": str(disk), "IMPORT_INDEX": "0"}
    image = ImageSettings.load("default", node.root, env)
    with Progress.start("web1.example.com", None, log=io.StringIO()) as progress:
        order = _Import(env, image, settings_for(image, env, node.root), progress)
        request, _ = order._ordered(Transfer.from_environment(env, "IMPORT"), grows=False)
    assert request.hooks
    assert request.hooks.programs == ("grub",)
    assert (request.hook_environment["IMPORT_SCRIPT"], request.hook_environment["INSTANCE_NAME"]) == (
        "1",
        "web1.example.com",
    )


@pytest.mark.image_row(41)
def test_a_rename_with_nomount_leaves_the_disk_alone(node: Provider, disk: Path) -> None:
    with call(node, "rename", disk, OLD_INSTANCE_NAME="old.example.com") as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert b"NOMOUNT=yes" in err
    assert disk.read_bytes() == OLD


@pytest.mark.image_row(61)
def test_a_rename_to_the_same_name_is_none(node: Provider, disk: Path) -> None:
    node.configure()
    with call(node, "rename", disk, OLD_INSTANCE_NAME="web1.example.com") as process:
        process.communicate(timeout=120)
    assert process.returncode == 0
    assert disk.read_bytes() == OLD


def test_of_the_helper_vm_no_more_is_passed_on_than_it_has_announced() -> None:
    read_end, write_end = os.pipe()
    way_out = WayOut(write_end, None, limit=10)
    way_out.take(memoryview(b"5"))
    way_out.take(memoryview(b"\nabc"))
    with pytest.raises(HelperError, match="3 bytes of the 5"):
        way_out.check_whole()
    with pytest.raises(HelperError, match="more than the 5 bytes"):
        way_out.take(memoryview(b"defg"))
    os.close(write_end)
    with os.fdopen(read_end, "rb") as out:
        assert out.read() == b"abc"


@pytest.mark.parametrize("line", [b"11\n", b"-1\n", b"x\n", b"9" * 30])
def test_a_helper_vm_that_announces_nonsense_is_not_believed(line: bytes) -> None:
    with pytest.raises(HelperError):
        WayOut(-1, None, limit=10).take(memoryview(line))


def test_the_word_that_nothing_comes_may_come_in_pieces() -> None:
    way_out = WayOut(-1, None, limit=10)
    for letter in b"disk\n":
        way_out.take(memoryview(bytes([letter])))
    way_out.check_whole()
    assert way_out.length is None


def test_one_dump_alone_is_what_debootstrap_exported() -> None:
    head = (1).to_bytes(4, "little") + bytes(20) + (60012).to_bytes(4, "little") + bytes(500)
    assert kind_of(head, 0) is StreamKind.DUMPS
    assert kind_of(head, 1) is StreamKind.DISK
    with pytest.raises(ExchangeError):
        kind_of(tarred(("./root.dump", b"")), 0)
