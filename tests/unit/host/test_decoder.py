# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that interprets images: what it may, what becomes of it, and that half a disk never boots by it."""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import hashlib
import io
import json
import mmap
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from image_deployment import MIB, boots, decoders, deploy, make_disk, on_disk
from nbd_server import nbd_server
from small_file_system import small_file_system
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import Image, Opened, copy
from snf_image_host.disks.instance_disks import InstanceDisk
from snf_image_host.disks.storage import open_for_writing
from snf_image_host.disks.targets import EDGE, open_target
from snf_image_host.images import decoder_process
from snf_image_host.images.checksum import Checksum
from snf_image_host.images.decoder import decoded
from snf_image_host.images.decoder_process import DecoderProcess, Job
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.recipes import Compression, Recipe
from snf_image_host.progress import Progress
from snf_image_host.vm.jail import FIRST_UID
from snf_image_shared.errors import DiskError, ImageError, SnfImageError

pytestmark = pytest.mark.root

PATIENCE = 60.0
SIZE = 12 * MIB
PROJECT = Path(__file__).resolve().parents[3]
SECRET = "canary-5b1e"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory on a file system with O_DIRECT, as /tmp may be none, and nothing left of a decoder afterwards."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)
    assert decoders() == []


class Told:
    """A stream that comes with `told` called once, when half of it has been read."""

    name = "image 'told'"

    def __init__(self, content: bytes, told: Callable[[], None]) -> None:
        self.size = len(content)
        self._content = io.BytesIO(content)
        self._told: Callable[[], None] | None = told

    def readinto(self, view: memoryview) -> int:
        """As Stream says, a little at a time."""
        if self._told and self._content.tell() >= self.size // 2:
            told, self._told = self._told, None
            told()
        return self._content.readinto(view[: 64 << 10])


IMAGE = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(8 * MIB // 32))
STORED = zstandard.ZstdCompressor(level=1).compress(IMAGE)


@contextmanager
def opened(stored: bytes = STORED, told: Callable[[], None] = lambda: None, checksum: str = "") -> Iterator[Image]:
    integrity = Integrity(Checksum.parse(checksum) if checksum else None)
    with decoded(Opened(Told(stored, told), Recipe(Compression.ZSTD), integrity, "diskdump"), Settings()) as image:
        yield image


def fill(disk: Path, stored: bytes = STORED, told: Callable[[], None] = lambda: None, checksum: str = "") -> None:
    with (
        Progress.start("inst", "", log=io.StringIO()) as progress,
        opened(stored, told, checksum) as image,
        open_target(disk) as target,
    ):
        copy(image, target, progress)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def descriptors(pid: int, path: Path) -> list[int]:
    """How a process has a file open: the flags of open(2), one number for each descriptor."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if str(entry.readlink()) == str(path):
            text = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()
            found.append(int(re.search(r"flags:\s+([0-7]+)", text)[1], 8))  # type: ignore[index]
    return found


@pytest.mark.row(77)
def test_the_process_has_no_rights_no_network_and_no_secret(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSP_IMG_PASSWD", SECRET)
    with opened():
        (pid,) = decoders()
        found = status(pid)
        assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (found["NoNewPrivs"], found["Groups"]) == ("1", "")
        assert min(map(int, (*found["Uid"].split(), *found["Gid"].split()))) >= FIRST_UID
        for name in ("net", "pid", "ipc", "mnt", "uts"):
            assert Path(f"/proc/{pid}/ns/{name}").readlink() != Path(f"/proc/self/ns/{name}").readlink()
        interfaces = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
        assert [line.partition(":")[0].strip() for line in interfaces] == ["lo"]
        inside = Path(f"/proc/{pid}/root")
        for name in ("etc", "var", "root", str(directory)[1:]):
            assert not (inside / name).exists()
        said = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        assert SECRET.encode() not in said
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max address space +1073741824 +1073741824 ", limits)
        assert re.search(r"Max core file size +0 +0 ", limits)


def test_the_process_gets_the_disk_late_and_for_writing_alone_and_cannot_make_it_grow(directory: Path) -> None:
    disk = make_disk(directory, SIZE)
    flags: list[int] = []
    limits: list[str] = []

    def look() -> None:
        (pid,) = decoders()
        flags.extend(descriptors(pid, disk))
        limits.append(Path(f"/proc/{pid}/limits").read_text())

    with (
        Progress.start("inst", "", log=io.StringIO()) as progress,
        opened(told=look) as image,
        open_target(disk) as target,
    ):
        (pid,) = decoders()
        assert descriptors(pid, disk) == []
        copy(image, target, progress)
    assert [flag & os.O_ACCMODE for flag in flags] == [os.O_WRONLY]
    assert re.search(rf"Max file size +{SIZE} +{SIZE} ", limits[0])
    assert disk.read_bytes() == on_disk(IMAGE, SIZE)


def test_the_process_starts_without_what_only_the_parent_needs() -> None:
    code = (
        f"import sys; sys.path += [{str(PROJECT / 'host')!r}, {str(PROJECT / 'shared')!r}]\n"
        "import snf_image_host.decoding.process, snf_image_host.decoding.compression, snf_image_host.decoding.qcow2\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-IBS", "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - sys.stdlib_module_names <= {"__main__", "snf_image_host", "snf_image_shared"}


def test_the_bytes_as_they_were_fetched_are_what_the_checksum_is_of(directory: Path) -> None:
    disk = make_disk(directory, SIZE)
    fill(disk, checksum=f"sha256:{hashlib.sha256(STORED).hexdigest()}")
    assert disk.read_bytes() == on_disk(IMAGE, SIZE)
    for wrong in (IMAGE, STORED[:-1]):
        with pytest.raises(ImageError, match="expects"):
            fill(make_disk(directory, SIZE), checksum=f"sha256:{hashlib.sha256(wrong).hexdigest()}")
        assert not boots(disk)


def test_a_process_that_is_killed_leaves_a_disk_that_does_not_boot(directory: Path) -> None:
    disk = make_disk(directory, SIZE)

    def kill() -> None:
        (pid,) = decoders()
        os.kill(pid, signal.SIGKILL)

    with pytest.raises(ImageError, match=r"its decoder was killed by SIGKILL: was the node out of memory\?"):
        fill(disk, told=kill)
    assert not boots(disk)
    fill(disk)
    assert disk.read_bytes()[: len(IMAGE)] == IMAGE


@pytest.mark.parametrize("failure", [SystemExit(143), ImageError("image 'told' was cut off")])
def test_the_process_is_gone_when_the_copy_ends_for_another_reason(directory: Path, failure: BaseException) -> None:
    """A signal to us, or a source that fails, while the process stands still: nobody waits for it."""
    disk = make_disk(directory, SIZE)

    def fail() -> None:
        for pid in decoders():
            os.kill(pid, signal.SIGSTOP)
        raise failure

    with pytest.raises(type(failure)), opened(told=fail) as image, open_target(disk) as target:
        with Progress.start("inst", "", log=io.StringIO()) as progress:
            copy(image, target, progress)
        pytest.fail("it has failed")
    assert not boots(disk)


def test_a_process_that_stands_still_is_ended(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = make_disk(directory, SIZE)

    def stop() -> None:
        for pid in decoders():
            os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(decoder_process, "PATIENCE", 1.0)

    with pytest.raises(ImageError, match="its decoder made no progress for 1 seconds"):
        fill(disk, stored=zstandard.ZstdCompressor().compress(os.urandom(SIZE)), told=stop)
    assert not boots(disk)


# The whole jail, and in it a process that an image has taken over before it knows the disk: it makes others, which hold
# nothing but the disk and write their boot sector for ever, tries to make the file grow, and says that all is well.
TAKEN_OVER = """
import ctypes, fcntl, os, socket
control = socket.socket(fileno=1)
control.send(b'{"size": null}')
disk, *others = socket.recv_fds(control, 4096, 3)[1]
fcntl.fcntl(disk, fcntl.F_SETFL, 0)
size = os.lseek(disk, 0, os.SEEK_END)
for number in range(4):
    if os.fork() == 0:
        kept = bytearray(os.urandom(4096)) * 16384  # so that its end takes a while
        os.dup2(disk, 3)
        os.closerange(0, 3)
        os.closerange(4, 64)
        while True:
            os.pwrite(3, b"TAKEN OVER".ljust(510) + b"\\x55\\xaa", 0)
try:
    os.pwrite(disk, b"x", size + (1 << 20))
except OSError:
    pass
ctypes.CDLL(None).fallocate64(disk, 1, ctypes.c_int64(size), ctypes.c_int64(4 << 20))
while os.read(0, 1 << 20):
    pass
control.send(b'{"done": 1048576}')
os._exit(0)
"""


@pytest.mark.parametrize("checksum", ["", f"sha256:{'0' * 64}"])
def test_a_process_that_is_taken_over_neither_writes_after_us_nor_makes_the_disk_grow(
    directory: Path, monkeypatch: pytest.MonkeyPatch, checksum: str
) -> None:
    command = decoder_process._command
    monkeypatch.setattr(decoder_process, "_command", lambda job: [*command(job)[:-1], TAKEN_OVER])
    disk = make_disk(directory, SIZE)
    with contextlib.nullcontext() if not checksum else pytest.raises(ImageError, match="expects"):
        fill(disk, told=lambda: None, checksum=checksum)
    assert decoders() == []
    with disk.open("rb") as file:
        assert file.read(512) == bytes(512)
    assert disk.stat().st_size == SIZE
    assert disk.stat().st_blocks * 512 <= SIZE + MIB


def test_it_is_over_when_the_last_of_its_processes_is(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = decoder_process._command
    monkeypatch.setattr(decoder_process, "_command", lambda job: [*command(job)[:-1], TAKEN_OVER])
    disk = os.open(make_disk(directory, SIZE), os.O_WRONLY)
    with (
        open(os.devnull, "rb") as nothing,
        decoder_process.decoder_process(Job("image 'x'", "zstd", "diskdump", nothing.fileno())) as process,
    ):
        process.wait(PATIENCE)
        process.found()
        process.send_disk("/disk", SIZE, {}, (disk,))
        while process.done is None:
            process.wait(PATIENCE)
            process.look()
        process.finish()
        assert decoders() == []
    os.close(disk)


def test_an_image_that_nobody_wants_after_all_leaves_no_process() -> None:
    with opened():
        assert len(decoders()) == 1
    assert decoders() == []


def test_a_disk_that_fails_is_named_and_the_image_is_not_blamed(directory: Path) -> None:
    """The file system below the disk is full, for the process as for everybody."""
    with small_file_system(directory / "small", 4) as small:
        disk = small / "disk"
        with disk.open("wb") as file:
            file.truncate(SIZE)
        with pytest.raises(DiskError, match=rf"^{disk}: cannot be written at byte [0-9]+: No space left on device; "):
            fill(disk)


# create() in small: it says when the process has half of the image, and waits there to be killed.
CREATE = """
import sys, time
from pathlib import Path
from unit.host.test_decoder import IMAGE, STORED, opened
from snf_image_host.disks.boot_guard import boot_guard
from snf_image_host.copying.pipeline import Terms, copy
from snf_image_host.progress import Progress
from snf_image_host.disks.targets import open_target

def told():
    print(guard.pid, flush=True)
    time.sleep(600)

with opened(told=told) as image, open_target(Path(sys.argv[1])) as target, Progress.start("inst", "") as progress:
    with boot_guard(target) as guard:
        copy(image, target, progress, Terms(guard.fd))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_create_takes_the_process_with_it(directory: Path, number: signal.Signals) -> None:
    disk = make_disk(directory, SIZE)
    with subprocess.Popen(
        [sys.executable, "-c", CREATE, disk],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join([str(PROJECT / "tests"), *sys.path])},
        start_new_session=True,
    ) as create:
        assert create.stdout
        guard = int(create.stdout.readline())
        assert len(decoders(create.pid)) == 1
        os.kill(create.pid, number)
    deadline = time.monotonic() + PATIENCE
    while decoders(create.pid) or Path(f"/proc/{guard}").exists():
        assert time.monotonic() < deadline, "somebody is left behind"
        time.sleep(0.02)
    assert not boots(disk)


@pytest.mark.row(65)
def test_a_disk_behind_a_storage_daemon_is_filled_without_the_process_reaching_it(directory: Path) -> None:
    make_disk(directory, SIZE)
    image = IMAGE[: 3 * MIB] + bytes(3 * MIB) + IMAGE[: MIB + 5]
    settings = Settings(run_dir=directory / "run")
    with (
        nbd_server(directory / "disk") as uri,
        opened(zstandard.ZstdCompressor().compress(image)) as compressed,
        open_for_writing(InstanceDisk(None, uri=uri, variable="DISK_0_URI"), settings) as target,
        Progress.start("inst", "", log=io.StringIO()) as progress,
    ):
        copy(compressed, target, progress)
    content = (directory / "disk").read_bytes()
    assert content[: len(image)] == image
    assert content[-EDGE:] == bytes(EDGE)
    too_large = zstandard.ZstdCompressor().compress(IMAGE[: 8 * MIB] * 2)
    with (
        nbd_server(directory / "disk") as uri,
        opened(too_large) as compressed,
        open_for_writing(InstanceDisk(None, uri=uri, variable="DISK_0_URI"), settings) as target,
        Progress.start("inst", "", log=io.StringIO()) as progress,
        pytest.raises(ImageError, match="is larger than the disk"),
    ):
        copy(compressed, target, progress)
    assert not boots(directory / "disk")


def test_a_container_is_hashed_while_the_process_reads_it(directory: Path) -> None:
    (directory / "raw").write_bytes(IMAGE)
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "raw", "image"], cwd=directory, check=True, timeout=600
    )
    disk = make_disk(directory, SIZE)
    stored = hashlib.sha256((directory / "image").read_bytes()).hexdigest()
    deploy(directory, disk, "qcow2", f"sha256:{stored}")
    assert disk.read_bytes() == on_disk(IMAGE, SIZE)
    with pytest.raises(ImageError, match="expects"):
        deploy(directory, disk, "qcow2", f"sha256:{hashlib.sha256(IMAGE).hexdigest()}")
    assert not boots(disk)


def resident(path: Path) -> int:
    """Pages of a file that are in the page cache (man 2 mincore)."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = path.stat().st_size
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as memory:
        pages = -(-size // mmap.PAGESIZE)
        found = (ctypes.c_ubyte * pages)()
        address = ctypes.c_char.from_buffer(memory)
        assert libc.mincore(ctypes.c_void_p(ctypes.addressof(address)), ctypes.c_size_t(size), found) == 0
        del address
        return sum(each & 1 for each in found)


def test_neither_image_nor_disk_stays_in_the_page_cache(directory: Path) -> None:
    (directory / "image").write_bytes(gzip.compress(IMAGE, 1))
    disk = make_disk(directory, SIZE)
    for path in (directory / "image", disk):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert resident(path) == 0
    deploy(directory, disk)
    assert resident(directory / "image") <= 128  # its first bytes are looked at
    assert resident(disk) <= 128


MEASURE = """
import resource, sys
from pathlib import Path
from image_deployment import deploy
deploy(Path(sys.argv[1]), Path(sys.argv[1], "disk"))
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(status["VmHWM"].split()[0], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_a_copy_takes_less_than_100_mib_of_memory(directory: Path) -> None:
    (directory / "image").write_bytes(zstandard.ZstdCompressor().compress(IMAGE * 8))
    make_disk(directory, 64 * MIB)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, directory],
        env={"PYTHONPATH": ":".join([str(PROJECT / "tests"), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    ours, largest_child = (int(word) for word in done.stdout.split())
    assert ours < 100 << 10
    assert largest_child < 100 << 10


@contextmanager
def talking(code: str) -> Iterator[DecoderProcess]:
    """A process in the place of the decoder, taken over by an image: `say` is how it talks to us."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    words, words_write = os.pipe()
    os.set_blocking(words, False)
    program = f"import socket, sys, time\nsay = socket.socket(fileno=1).send\n{code}"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=theirs.fileno(), stderr=words_write)
    theirs.close()
    os.close(words_write)
    running = DecoderProcess("image 'x'", process, ours, words)
    try:
        yield running
    finally:
        running.end()
        ours.close()
        os.close(words)


def heard(code: str, room: int = 1000) -> str:
    """What we say of a process that says such things about the filling of a disk of `room` bytes."""
    with talking(code) as process, pytest.raises(SnfImageError) as failure:
        process.send_disk("/disk", room, {}, ())
        while process.done is None:
            process.wait(1.0)
            process.look()
        pytest.fail("it was believed")
    return f"{type(failure.value).__name__}: {failure.value}"


LIE = "ImageError: image 'x': its decoder says what it must not: do not trust the image"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"[" * 4000,
        b"9" * 4000,
        b'{"done": 1e3}',
        b'{"done": true}',
        b'{"done": -1}',
        b'{"done": 1001}',
        b'{"read": 0, "written": 1001}',
        b'{"read": "x", "written": 0}',
        b'{"image": 5}',
        b'{"size": 5}',
        b"[]",
        b'{"done": 1' + b" " * 5000 + b"}",
    ],
)
def test_what_cannot_be_true_ends_the_copy(message: bytes) -> None:
    assert heard(f"say({message!r}); time.sleep(600)") == LIE


def test_a_flood_ends_the_copy() -> None:
    flood = """
for number in range(1, 10**9):
    say(b'{"read": %d, "written": %d}' % (number, number))
"""
    assert heard(flood, 10**9) == LIE


def test_what_it_says_is_one_short_line_that_no_terminal_understands() -> None:
    text = json.dumps({"image": "\x1b[2J\nFAILED: " + "x" * 3000}).encode()
    said = heard(f"say({text!r})")
    assert said.startswith("ImageError: image 'x' \\x1b[2J\\nFAILED: xxx")
    assert len(said) < 500
    assert heard('say(b\'{"disk": "cannot be written"}\')') == "DiskError: /disk: cannot be written"


def test_what_it_said_is_heard_although_it_ended_without_listening() -> None:
    said = 'import select; say(b\'{"image": "is damaged"}\'); select.select([1], [], [])'
    with talking(said) as process:
        process.send_disk("/disk", 1000, {}, ())
        process.finish()
        with pytest.raises(ImageError, match=r"^image 'x' is damaged$"):
            process.look()


def test_its_last_words_are_shown() -> None:
    assert heard("sys.exit('a\\nb\\x1b')") == "ImageError: image 'x': its decoder failed with status 1: b\\x1b"
    assert heard("sys.exit('bwrap: none')").startswith("ConfigurationError: the jail of the image's decoder")


def test_what_it_says_of_the_size_is_a_number() -> None:
    for said, found in ((b"5", 5), (b"null", None)):
        with talking(f"say(b'{{\"size\": {said.decode()}}}'); time.sleep(600)") as process:
            process.wait(PATIENCE)
            assert process.found() == found
    for said in (b"-1", b"1.5", b"[]", b"9" * 30):
        with talking(f"say(b'{{\"size\": {said.decode()}}}'); time.sleep(600)") as process:
            process.wait(PATIENCE)
            with pytest.raises(ImageError, match="says what it must not"):
                process.found()
