# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that exist only as a URI: a real NBD server on a unix socket, QEMU's storage daemon in its jail, libnbd."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbd_server import nbd_server
from processes import children, command_line
from provider import GANETI_PATH, Instance, Provider
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.buffers import huge_pages
from snf_image_host.copying.pipeline import PlainImage, check_fits, copy
from snf_image_host.disks import nbd_client, storage_daemon
from snf_image_host.disks.boot_guard import boot_guard
from snf_image_host.disks.instance_disks import InstanceDisk
from snf_image_host.disks.remote_disks import RemoteSource, RemoteTarget
from snf_image_host.disks.storage import kind_of, open_disks, open_for_reading, open_for_writing
from snf_image_host.disks.targets import EDGE
from snf_image_host.disks.userspace import parse_uri
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.sources import open_source
from snf_image_host.progress import Progress
from snf_image_host.transfer import export, import_
from snf_image_host.vm.jail import Jail
from snf_image_shared.errors import ConfigurationError, DiskError, HelperError, ImageError

pytestmark = pytest.mark.root

MIB = 1 << 20
SIZE = 12 * MIB
GARBAGE = b"\xa5"
CANARY = "Q2FuYXJ5LTViMWU="
PATIENCE = 60.0


@pytest.fixture
def directory() -> Iterator[Path]:
    """With a disk full of garbage, and an image with data, zeros and data."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name, "disk").write_bytes(GARBAGE * SIZE)
        Path(name, "image").write_bytes(b"i" * (3 * MIB) + bytes(3 * MIB) + b"j" * MIB + b"odd")
        yield Path(name)


@pytest.fixture
def uri(directory: Path) -> Iterator[str]:
    with nbd_server(directory / "disk") as uri:
        yield uri


@pytest.fixture
def settings(directory: Path) -> Settings:
    return Settings(helper_dir=directory / "helper", image_dir=directory, run_dir=directory / "run")


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A finished guard leaves signals blocked; the other tests need them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def disk(uri: str) -> InstanceDisk:
    return InstanceDisk(None, uri=uri, variable="DISK_0_URI")


def wait_until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def fill(directory: Path, uri: str, settings: Settings) -> None:
    with open_source("image", directory) as source, open_for_writing(disk(uri), settings) as target:
        image = PlainImage(source, Integrity(None), "diskdump")
        check_fits(image, target)
        with Progress.start("inst", "") as progress, boot_guard(target):
            copy(image, target, progress)


@pytest.mark.row(65, 66, 97)
def test_an_image_is_written_and_its_zeros_with_it(directory: Path, uri: str, settings: Settings) -> None:
    fill(directory, uri, settings)
    image, content = (directory / "image").read_bytes(), (directory / "disk").read_bytes()
    assert content[: len(image)] == image
    assert content[len(image) : -EDGE] == GARBAGE * (SIZE - len(image) - EDGE)
    assert content[-EDGE:] == bytes(EDGE)


def test_an_image_that_is_too_large_is_refused_before_the_disk_is_written(
    directory: Path, uri: str, settings: Settings
) -> None:
    os.truncate(directory / "image", SIZE + 1)
    with pytest.raises(ImageError, match=rf"has {SIZE + 1} bytes, the disk nbd:unix:.*/disk so,cket only {SIZE}"):
        fill(directory, uri, settings)
    assert (directory / "disk").read_bytes() == GARBAGE * SIZE


def test_a_failure_leaves_a_disk_that_does_not_boot(directory: Path, uri: str, settings: Settings) -> None:
    with (
        open_for_writing(disk(uri), settings) as target,
        pytest.raises(HelperError, match=r"^it failed$"),
        boot_guard(target),
    ):
        raise HelperError("it failed")
    content = (directory / "disk").read_bytes()
    assert content == bytes(EDGE) + GARBAGE * (SIZE - 2 * EDGE) + bytes(EDGE)


# create() in small: it says that it is ready, and waits there to be killed.
SCRIPT = """
import sys, time
from pathlib import Path
from snf_image_host.disks.boot_guard import boot_guard
from snf_image_host.copying.buffers import huge_pages
from snf_image_host.disks.instance_disks import InstanceDisk
from snf_image_host.configuration.settings import Settings
from snf_image_host.disks.storage import open_for_writing

uri, directory, guarded = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "guarded"
settings = Settings(helper_dir=directory / "helper", image_dir=directory, run_dir=directory / "run")
with open_for_writing(InstanceDisk(None, uri=uri), settings) as target:
    if not guarded:
        print("ready", flush=True)
        time.sleep(600)
    with boot_guard(target):
        target.write(huge_pages(4096), 0)
        print("ready", flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize("guarded", ["guarded", "free"])
def test_sigkill_leaves_a_disk_that_does_not_boot_and_nothing_else(
    directory: Path, uri: str, settings: Settings, guarded: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, uri, directory, guarded],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
        start_new_session=True,
    ) as create:
        assert create.stdout
        assert create.stdout.readline() == b"ready\n"
        offspring = children(create.pid)
        assert [pid for pid in offspring if "qemu-storage-daemon" in command_line(pid)]
        os.killpg(create.pid, signal.SIGKILL)
    wait_until(lambda: not os.listdir(settings.run_dir), "a lock or a socket is left behind")
    wait_until(lambda: not any(map(command_line, offspring)), "a process is left behind")
    ends = bytes(EDGE) if guarded == "guarded" else GARBAGE * EDGE
    content = (directory / "disk").read_bytes()
    assert content[:EDGE] == ends
    assert content[-EDGE:] == ends


class Overtaken(RemoteTarget):
    """Its first wipe is followed by a write that was under way."""

    late = True

    def flush(self) -> None:
        super().flush()
        if self.late:
            self.late = False
            self.write(memoryview(b"x" * 512), 0)


def test_a_write_that_comes_after_the_wipe_is_wiped_as_well(directory: Path, uri: str, settings: Settings) -> None:
    with storage_daemon.storage_daemon(parse_uri(uri, "DISK_0_URI"), settings, writable=True) as daemon:
        Overtaken(daemon).wipe_ends()
    assert not any((directory / "disk").read_bytes()[:MIB])
    assert not any((directory / "disk").read_bytes()[-MIB:])


def test_the_daemon_dies_with_its_killed_keeper(directory: Path, uri: str, settings: Settings) -> None:
    others = children(os.getpid())
    with open_for_writing(disk(uri), settings) as target:
        keeper, *offspring = [pid for pid in children(os.getpid()) if pid not in others]
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: not any(map(command_line, offspring)), "the daemon is left behind")
        with pytest.raises(
            DiskError, match=r"^nbd:unix:.*cannot be written at byte 0: .*; check the storage behind it"
        ):
            target.write(huge_pages(4096), 0)


@pytest.mark.parametrize(("failure", "told"), [(SystemExit(143), "a signal"), (HelperError("it failed"), "it failed")])
def test_of_a_disk_that_cannot_be_zeroed_is_said_not_to_start_it(
    uri: str, settings: Settings, failure: BaseException, told: str
) -> None:
    others = children(os.getpid())
    with open_for_writing(disk(uri), settings) as target:
        keeper, *offspring = [pid for pid in children(os.getpid()) if pid not in others]
        reason = rf"may boot half: do not start the instance \(after: {told}\)$"
        with pytest.raises(DiskError, match=reason), boot_guard(target):
            os.kill(keeper, signal.SIGKILL)
            wait_until(lambda: not any(map(command_line, offspring)), "the daemon is left behind")
            raise failure


@pytest.mark.parametrize("verb", ["write", "zero", "flush", "read", "extents"])
def test_storage_that_hangs_is_not_waited_for_without_end(
    directory: Path, uri: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    (server,) = [pid for pid in children(os.getpid()) if "qemu-nbd" in command_line(pid)]
    opener = open_for_writing if verb in {"write", "zero", "flush"} else open_for_reading
    with opener(disk(uri), settings) as opened:
        if isinstance(opened, RemoteTarget):
            opened.write(huge_pages(4096), 0)  # without it there is nothing to flush
        os.kill(server, signal.SIGSTOP)
        try:
            monkeypatch.setattr(nbd_client, "_ANSWER_PATIENCE", 0.1)
            with pytest.raises(DiskError, match=r"nbd:unix:.*: cannot be .*: no answer in 0\.1 seconds"):
                match opened:
                    case RemoteTarget() if verb == "write":
                        opened.write(huge_pages(4096), 0)
                    case RemoteTarget() if verb == "zero":
                        opened.zero(0, 4096)
                    case RemoteTarget():
                        opened.flush()
                    case RemoteSource() if verb == "read":
                        opened.read(huge_pages(4096), 0, 4096)
                    case RemoteSource():
                        list(opened.extents(0, opened.size))
        finally:
            os.kill(server, signal.SIGCONT)
    wait_until(lambda: not os.listdir(settings.run_dir), "a lock or a socket is left behind")


def test_nothing_is_left_of_a_good_run(directory: Path, uri: str, settings: Settings) -> None:
    before = len(os.listdir("/proc/self/fd"))
    others = children(os.getpid())
    with open_for_writing(disk(uri), settings):
        assert len(children(os.getpid())) > len(others)
    assert children(os.getpid()) == others
    assert os.listdir(settings.run_dir) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_second_run_on_the_disk_is_refused_and_readers_share_it(
    directory: Path, uri: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_daemon, "_LOCK_PATIENCE", 0.1)
    taken = pytest.raises(DiskError, match="is locked by another run of snf-image: wait until it has ended")
    with open_for_writing(disk(uri), settings), taken, open_for_reading(disk(uri), settings):
        pass
    with open_for_reading(disk(uri), settings) as one, open_for_reading(disk(uri), settings) as other:
        assert one.size == other.size == SIZE
        with taken, open_for_writing(disk(uri), settings):
            pass
    assert os.listdir(settings.run_dir) == []


def test_the_daemon_is_unprivileged_and_sees_no_file_of_the_node(uri: str, settings: Settings) -> None:
    with open_for_writing(disk(uri), settings):
        (daemon,) = [pid for pid in children(os.getpid()) if command_line(pid).startswith("qemu-storage-daemon")]
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{daemon}/status").read_text().splitlines())
        root = Path(f"/proc/{daemon}/root")
        assert len(set(status["Uid"].split())) == 1
        assert int(status["Uid"].split()[0]) > 1_900_000_000
        assert {status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
        assert status["NoNewPrivs"].strip() == "1"
        assert not (root / "root").exists()
        assert not (root / "etc/shadow").exists()
        assert not (root / "var/tmp").exists()


@pytest.mark.row(22)
@pytest.mark.parametrize("length", [1, EDGE, 5 * MIB + 77, SIZE])
def test_what_is_exported_comes_in_again(directory: Path, uri: str, settings: Settings, length: int) -> None:
    content = (os.urandom(length // 3) + bytes(length // 3) + os.urandom(length))[:length]
    stream, result = directory / "stream", directory / "result"
    stream.write_bytes(content)
    with stream.open("rb") as file, open_for_writing(disk(uri), settings) as target:
        import_(target, file.fileno())
    with result.open("wb") as file, open_for_reading(disk(uri), settings) as source:
        export(source, file.fileno(), None)
    expected = bytearray(GARBAGE * SIZE)
    expected[:EDGE] = expected[-EDGE:] = bytes(EDGE)
    expected[:length] = content
    assert result.read_bytes() == (directory / "disk").read_bytes() == bytes(expected)


def test_holes_are_not_read(directory: Path, settings: Settings) -> None:
    with (directory / "disk").open("wb") as file:
        os.pwrite(file.fileno(), b"x", 5 * MIB)
        file.truncate(3 << 30)
    with (
        nbd_server(directory / "disk") as uri,
        open_for_reading(disk(uri), settings) as source,
    ):
        extents = list(source.extents(0, source.size))
        assert sum(extent.length for extent in extents) == source.size == 3 << 30
        data = [extent for extent in extents if extent.is_data]
        assert sum(extent.length for extent in data) < MIB
        assert data[0].offset <= 5 * MIB < data[0].offset + data[0].length


def test_a_disk_of_both_kinds_is_opened_by_its_path_if_that_is_a_disk(
    directory: Path, uri: str, settings: Settings
) -> None:
    local = InstanceDisk(directory / "image", uri="rbd:none/such", variable="DISK_0_URI")
    remote = InstanceDisk(directory / "none", uri=uri, variable="DISK_0_URI")
    assert (kind_of(local), kind_of(remote)) == ("local", "uri")
    with open_disks((remote, local), settings) as opened:
        assert [one.size for one in opened] == [SIZE, 7 * MIB + 3]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("nbd:unix:/nonexistent/socket", "cannot be connected to: No such file or directory; is its server running"),
        ("nbd://127.0.0.1:1/x", "cannot be opened: Failed to connect to '127.0.0.1:1': Connection refused"),
        (f"iscsi://user%{CANARY}@127.0.0.1:1/t/0", "cannot be opened: "),
        (f"rbd:p/i:key={CANARY}:conf=/nonexistent", "cannot be opened: "),
        ("gluster://127.0.0.1:1/v/p", "cannot be opened: "),
    ],
)
def test_storage_that_is_not_there_is_an_error_that_names_it(settings: Settings, uri: str, reason: str) -> None:
    with pytest.raises(DiskError) as caught, open_for_writing(disk(uri), settings):
        pass
    assert reason in str(caught.value)
    assert str(caught.value).startswith(uri.partition(":")[0])
    assert CANARY not in str(caught.value)
    assert os.listdir(settings.run_dir) == []


def test_a_secret_is_in_no_argument_list(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[list[str]]()
    original = Jail.argv

    def argv(jail: Jail, command: list[str]) -> list[str]:
        seen.append(original(jail, command))
        return seen[-1]

    monkeypatch.setattr(Jail, "argv", argv)
    with pytest.raises(DiskError), open_for_writing(disk(f"rbd:p/i:key={CANARY}"), settings):
        pass
    assert "secret,id=secret0,file=/secret/0,format=base64" in seen[0]
    assert not [word for word in seen[0] if CANARY in word]


def test_ssh_wants_a_user_whose_keys_it_takes(settings: Settings) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"^ssh://h/disk: set STORAGE_USER to the user whose \.ssh"),
        open_for_writing(disk("ssh://h/disk"), settings),
    ):
        pass


@pytest.mark.parametrize(("user", "reason"), [("nosuchuser", "there is no user 'nosuchuser'"), ("root", "run as root")])
def test_a_user_for_the_storage_that_cannot_be_is_refused(settings: Settings, user: str, reason: str) -> None:
    settings = settings.model_copy(update={"storage_user": user})
    with (
        pytest.raises(ConfigurationError, match=rf"^STORAGE_USER: .*{reason}"),
        open_for_writing(disk("rbd:a/b"), settings),
    ):
        pass
    assert os.listdir(settings.run_dir) == []


@pytest.mark.row(22)
def test_the_installed_scripts_export_and_import_a_uri(
    provider: Provider, directory: Path, uri: str, settings: Settings
) -> None:
    """With the interpreter of the node, which finds libnbd where Debian puts it."""
    env = {
        "OS_API_VERSION": "20",
        "EXPORT_DISK_URI": uri,
        "IMPORT_DISK_URI": uri,
        "EXP_SIZE_FD": "1",
        "PATH": GANETI_PATH,
    }
    content = os.urandom(2 * MIB).ljust(SIZE, b"\0")
    (directory / "stream").write_bytes(content)
    with (directory / "stream").open("rb") as stream:
        subprocess.run([provider.os_directory / "import"], env=env, stdin=stream, check=True)
    assert (directory / "disk").read_bytes() == content
    exported = subprocess.run([provider.os_directory / "export"], env=env, capture_output=True, check=True)
    assert exported.stdout == f"{SIZE}\n".encode() + content
    assert exported.stderr == b""


@pytest.mark.row(104)
def test_a_node_of_another_machine_says_so_and_leaves_the_disk_alone(provider: Provider, directory: Path) -> None:
    (provider.images / "machine.diskdump").write_bytes(b"x" * MIB)
    instance = Instance(
        "inst", (directory / "disk",), parameters={"img_id": "machine.diskdump", "img_format": "diskdump"}
    )
    done = subprocess.run(
        ["setarch", "i686", provider.os_directory / "create"],
        env=instance.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ConfigurationError.exit_code
    assert done.stderr.splitlines()[-1] == "[ERROR] this node is i686; the helper VM needs an x86_64 node"
    assert (directory / "disk").read_bytes() == GARBAGE * SIZE
