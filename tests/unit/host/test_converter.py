# SPDX-License-Identifier: GPL-2.0-or-later
"""VMDK, VHDX and VDI images onto disks full of garbage: what `qemu-img convert` makes of them, and nothing is left."""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from nbd_server import nbd_server
from processes import children, command_line
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import Image, Opened, Terms, check_fits, copy
from snf_image_host.disks.instance_disks import InstanceDisk
from snf_image_host.disks.storage import open_for_writing
from snf_image_host.disks.targets import open_target
from snf_image_host.images import image_server
from snf_image_host.images.checksum import Checksum
from snf_image_host.images.converter import converted
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import open_image
from snf_image_host.images.recipes import Container, Recipe
from snf_image_host.images.sources import Source, open_source
from snf_image_host.images.streams import FileStream
from snf_image_host.progress import Progress
from snf_image_shared.errors import ImageError

pytestmark = pytest.mark.root

MIB = 1 << 20
GARBAGE = b"\xa5"
SIZE = 9 * MIB + 3 * 512
PATIENCE = 60.0
FORMS = [
    ("vmdk", "subformat=monolithicSparse"),
    ("vmdk", "subformat=monolithicSparse,zeroed_grain=on"),
    ("vmdk", "subformat=streamOptimized"),
    ("vdi", "static=off"),
    ("vdi", "static=on"),
    ("vhdx", "subformat=dynamic,block_size=1M"),
    ("vhdx", "subformat=fixed"),
]


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


@pytest.fixture
def settings(directory: Path) -> Settings:
    (directory / "run").mkdir()
    return Settings(helper_dir=directory, image_dir=directory, run_dir=directory / "run", cache_dir=directory / "cache")


def content(size: int) -> bytes:
    """Of a disk: data, zeros in between that are no hole of any container, holes, and data at the very end."""
    dice = random.Random(size)
    data = bytearray(size)
    for start, length in ((0, MIB + 777), (3 * MIB - 512, 5 * 512), (4 * MIB, 64 << 10), (size - 700, 700)):
        if start >= 0:
            data[start : start + length] = dice.randbytes(min(length, size - start))
    return bytes(data)


def make(directory: Path, driver: str, options: str, data: bytes) -> Path:
    (directory / "raw").write_bytes(data)
    image = directory / "image"
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", driver, "-o", options, directory / "raw", image], check=True
    )
    return image


def deploy(settings: Settings, driver: str, disk: Path, *checksums: str) -> bytes:
    """What is on the disk afterwards."""
    disk.write_bytes(GARBAGE * (12 * MIB))
    with Progress.start("inst", "", log=io.StringIO()) as progress:
        wanted = WantedImage("image", driver, tuple(map(Checksum.parse, checksums)))
        with open_image(wanted, settings, progress) as image, open_target(disk) as target:
            assert image
            check_fits(image, target)
            copy(image, target, progress)
    return disk.read_bytes()


def decoders(pid: int) -> list[int]:
    return [child for child in children(pid) if command_line(child).startswith(image_server.PROGRAM)]


def wait_until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.parametrize(("driver", "options"), FORMS)
def test_the_disk_gets_what_qemu_img_makes_of_the_image(
    directory: Path, settings: Settings, driver: str, options: str
) -> None:
    image = make(directory, driver, options, content(SIZE))
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    subprocess.run(["qemu-img", "convert", "-f", driver, "-O", "raw", image, directory / "expected"], check=True)
    expected = (directory / "expected").read_bytes()
    assert expected == content(SIZE)
    of_content = hashlib.sha256(expected).hexdigest()
    found = deploy(settings, driver, directory / "disk", f"sha256:{digest}", f"content-sha256:{of_content}")
    assert found[:SIZE] == expected
    rest = found[-(-SIZE // 4096) * 4096 : -MIB]
    assert rest == GARBAGE * len(rest)
    assert found[-MIB:] == bytes(MIB)


@pytest.mark.parametrize("driver", ["vmdk", "vdi", "vhdx"])
@pytest.mark.parametrize("size", [512, MIB, 5 * MIB + 512])
def test_disks_of_any_size_arrive_whole(directory: Path, settings: Settings, driver: str, size: int) -> None:
    data = random.Random(size).randbytes(size) if size != MIB else bytes(size)
    make(directory, driver, dict(FORMS[2:])[driver], data)
    assert deploy(settings, "auto", directory / "disk")[:size] == data


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("driver", "options"), [("qcow2", "compat=1.1"), ("vmdk", "subformat=streamOptimized")])
def test_a_disk_behind_a_storage_daemon_gets_it_too(
    directory: Path, settings: Settings, driver: str, options: str, compressed: bool
) -> None:
    """Neither of the two decoders has a way to it; what is left is cleared, and the disk gives back what it got."""
    data = content(SIZE)
    image = make(directory, driver, options, data)
    if compressed:
        image.write_bytes(gzip.compress(image.read_bytes()))
    disk = directory / "disk"
    disk.write_bytes(GARBAGE * (12 * MIB))
    checksums = (Checksum.parse(f"content-sha256:{hashlib.sha256(data).hexdigest()}"),)
    with (
        Progress.start("inst", "", log=io.StringIO()) as progress,
        open_image(WantedImage("image", driver, checksums), settings, progress) as opened,
        nbd_server(disk) as uri,
        open_for_writing(InstanceDisk(None, uri=uri, variable="DISK_0_URI"), settings) as target,
    ):
        assert opened
        check_fits(opened, target)
        copy(opened, target, progress, Terms(clears_rest=True, reads_back=True))
    assert disk.read_bytes() == data.ljust(12 * MIB, b"\0")


def test_a_checksum_of_what_is_stored_that_does_not_hold_leaves_a_disk_that_does_not_boot(
    directory: Path, settings: Settings
) -> None:
    make(directory, *FORMS[2], content(SIZE))
    with pytest.raises(ImageError, match=r"image 'image' has the sha256 .*, and img_checksum expects"):
        deploy(settings, "vmdk", directory / "disk", f"sha256:{'0' * 64}")
    disk = (directory / "disk").read_bytes()
    assert disk[:MIB] == disk[-MIB:] == bytes(MIB)


def test_an_image_that_is_cut_short_is_refused_and_the_disk_is_left_alone(directory: Path, settings: Settings) -> None:
    for driver, options in FORMS:
        image = make(directory, driver, options, content(8 * MIB))
        os.truncate(image, image.stat().st_size - 65536)
        with pytest.raises(
            ImageError, match=r"^image 'image' (needs|has its) .*cut short or damaged; publish it again"
        ):
            deploy(settings, driver, directory / "disk")
        assert (directory / "disk").read_bytes() == GARBAGE * (12 * MIB)


def test_an_image_that_is_written_while_it_is_read_leaves_a_disk_that_does_not_boot(
    directory: Path, settings: Settings
) -> None:
    image = make(directory, *FORMS[3], content(SIZE))
    with (
        open_source("image", directory) as source,
        converted(opened(source, Container.VDI), settings) as disk,
    ):
        os.utime(image)
        with pytest.raises(ImageError, match="was changed while it was read"):
            fill(disk, directory / "disk")
    assert (directory / "disk").read_bytes()[:MIB] == bytes(MIB)


def opened(source: Source, container: Container) -> Opened:
    return Opened(source, Recipe(None, container), Integrity(), container.value)


def fill(image: Image, disk: Path) -> None:
    disk.write_bytes(GARBAGE * (12 * MIB))
    with open_target(disk) as target, Progress.start("inst", "", log=io.StringIO()) as progress:
        copy(image, target, progress)


def test_a_damaged_image_that_only_qemu_notices_is_refused_with_its_words(directory: Path, settings: Settings) -> None:
    image = make(directory, *FORMS[2], content(SIZE))
    data = bytearray(image.read_bytes())
    at = data.index(b"\x78\x9c", 64 << 10)  # the header of a compressed grain
    data[at + 2 : at + 1000] = bytes(998)
    image.write_bytes(data)
    with pytest.raises(
        ImageError, match=r"^image 'image': cannot be read at byte \d+: .+; it is damaged, or the node was"
    ):
        deploy(settings, "vmdk", directory / "disk")
    assert (directory / "disk").read_bytes()[:MIB] == bytes(MIB)


def test_a_file_without_a_name_is_decoded_as_well(directory: Path, settings: Settings) -> None:
    image = make(directory, *FORMS[2], content(SIZE))
    with open_source("image", directory) as source:
        image.unlink()
        with converted(opened(source, Container.VMDK), settings) as disk:
            fill(disk, directory / "disk")
    assert (directory / "disk").read_bytes()[:SIZE] == content(SIZE)


@pytest.mark.parametrize("driver", ["vmdk", "qcow2"])
def test_a_compressed_container_is_decompressed_before_it_is_looked_into(
    directory: Path, settings: Settings, driver: str
) -> None:
    options = "subformat=streamOptimized" if driver == "vmdk" else "compat=1.1"
    image = make(directory, driver, options, content(SIZE))
    image.write_bytes(zstandard.compress(image.read_bytes()))
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    assert deploy(settings, driver, directory / "disk", f"sha256:{digest}")[:SIZE] == content(SIZE)
    with pytest.raises(ImageError, match=f"no disk but {driver}: say img_format={driver}"):
        deploy(settings, "auto", directory / "disk")
    assert os.listdir(settings.cache_dir) == []


def test_what_comes_as_a_stream_is_refused(directory: Path, settings: Settings) -> None:
    make(directory, *FORMS[2], content(SIZE))
    with open_source("image", directory) as source:
        stream = Opened(FileStream(source), Recipe(None, Container.VMDK), Integrity(), "vmdk")
        with pytest.raises(ImageError, match="has to be read out of order"), converted(stream, settings):
            pass


def test_the_decoder_is_unprivileged_has_no_network_and_sees_no_file_of_the_node(
    directory: Path, settings: Settings
) -> None:
    make(directory, *FORMS[0], content(SIZE))
    with open_source("image", directory) as source, converted(opened(source, Container.VMDK), settings):
        (decoder,) = decoders(os.getpid())
        proc = Path(f"/proc/{decoder}")
        status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
        assert len(set(status["Uid"].split()) | set(status["Gid"].split())) == 1
        assert int(status["Uid"].split()[0]) > 1_900_000_000
        assert status["Groups"].split() == []
        assert {status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
        for space in ("net", "pid", "ipc", "mnt", "uts"):
            assert os.readlink(proc / "ns" / space) != os.readlink(f"/proc/self/ns/{space}")
        assert [line.split(":")[0].strip() for line in (proc / "net/dev").read_text().splitlines()[2:]] == ["lo"]
        for hidden in ("root", "etc/shadow", "var/tmp", "run", "proc/1"):
            assert not (proc / "root" / hidden).exists()
        files = {os.readlink(entry) for entry in (proc / "fd").iterdir()}
        assert str(directory / "image") in files
        own = ("/dev/", str(directory / "image"))
        assert not [name for name in files if name.startswith("/") and not name.startswith(own)]
        limits = (proc / "limits").read_text().splitlines()
        assert [line.split()[4] for line in limits if line.startswith("Max file size")] == ["0"]
        words = command_line(decoder).split("\0")
        assert words[words.index("-sandbox") + 1].count("=deny") == 4
        assert '"driver":"vmdk"' in words[words.index("-blockdev") + 1]


def test_nothing_is_left_of_a_good_run(directory: Path, settings: Settings) -> None:
    make(directory, *FORMS[5], content(SIZE))
    gc.collect()  # what other tests have not closed yet
    before, others = len(os.listdir("/proc/self/fd")), children(os.getpid())
    with open_source("image", directory) as source, converted(opened(source, Container.VHDX), settings) as disk:
        assert os.listdir(settings.run_dir) == []
        assert decoders(os.getpid())
        fill(disk, directory / "disk")
        assert decoders(os.getpid()) == []
    del disk
    assert children(os.getpid()) == others
    assert os.listdir(settings.run_dir) == []
    assert len(os.listdir("/proc/self/fd")) == before


# create() in small: it says that it is ready, and waits there to be killed.
SCRIPT = """
import sys, time
from pathlib import Path
from snf_image_host.images.converter import converted
from snf_image_host.disks.instance_disks import InstanceDisk
from snf_image_host.images.integrity import Integrity
from snf_image_host.copying.pipeline import Opened
from snf_image_host.images.recipes import Container, Recipe
from snf_image_host.configuration.settings import Settings
from snf_image_host.images.sources import open_source

directory = Path(sys.argv[1])
settings = Settings(helper_dir=directory, image_dir=directory, run_dir=directory / "run")
with open_source("image", directory) as source:
    with converted(Opened(source, Recipe(None, Container.VDI), Integrity(), "vdi"), settings):
        print("ready", flush=True)
        time.sleep(600)
"""


def test_a_killed_deployment_leaves_nothing(directory: Path, settings: Settings) -> None:
    make(directory, *FORMS[3], content(SIZE))
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, directory],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
        start_new_session=True,
    ) as create:
        assert create.stdout
        assert create.stdout.readline() == b"ready\n"
        offspring = children(create.pid)
        assert decoders(create.pid)
        create.kill()
    wait_until(lambda: not any(map(command_line, offspring)), "a process is left behind")
    assert os.listdir(settings.run_dir) == []


def test_a_decoder_that_dies_ends_the_copy_and_the_disk_does_not_boot(directory: Path, settings: Settings) -> None:
    make(directory, *FORMS[3], content(SIZE))
    with open_source("image", directory) as source, converted(opened(source, Container.VDI), settings) as disk:
        (decoder,) = decoders(os.getpid())
        os.kill(decoder, signal.SIGKILL)
        wait_until(lambda: not decoders(os.getpid()), "the decoder is still there")
        with pytest.raises(ImageError, match=r"^image 'image': (its decoder is gone|cannot be (read|searched))"):
            fill(disk, directory / "disk")
    assert (directory / "disk").read_bytes()[:MIB] == bytes(MIB)


def test_a_decoder_that_says_nothing_is_not_waited_for_without_end(
    directory: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(directory, *FORMS[3], content(SIZE))
    monkeypatch.setattr(image_server, "_PATIENCE", 0.0)
    with (
        open_source("image", directory) as source,
        pytest.raises(ImageError, match="its decoder did not open it within 0 seconds"),
        converted(opened(source, Container.VDI), settings),
    ):
        pass
    assert decoders(os.getpid()) == []
