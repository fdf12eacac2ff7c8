# SPDX-License-Identifier: GPL-2.0-or-later
"""Real programs of an administrator as sources of images: good ones, and all that can be wrong with one."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import check_fits, copy
from snf_image_host.disks.targets import open_target
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import find_origin, open_image
from snf_image_host.images.origins import LocalOrigin, Origin, OriginKind
from snf_image_host.images.plugins import ProgramStream
from snf_image_host.images.streams import read_full
from snf_image_host.progress import Progress
from snf_image_host.verify import verify
from snf_image_shared.errors import ConfigurationError, ImageError, RequestError

pytestmark = pytest.mark.root

PROJECT = Path(__file__).resolve().parents[3]
MIB = 1 << 20
SIZE = 3 * MIB + 512
OS_DIRECTORY = "usr/share/ganeti/os/snf-image/backends/src"
FILES = "etc/snf-image/backends/src"
# A good program: it has store://NAME, in files beside it. The three lines may be replaced.
GOOD = """#!/bin/sh
here=${0%/*}
probe() { case $1 in store://*) echo yes;; *) echo no;; esac; }
size() { stat -c %s "$here/../images/${1#store://}"; }
bytes() { cat "$here/../images/${1#store://}"; }
case $1 in
-p) probe "$2";;
-s) size "$2";;
*) bytes "$1";;
esac
"""


class Node:
    """The files of a node below `root`, which everybody can read, with one image in the store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = io.StringIO()
        shutil.copy("/bin/sleep", root)
        (root / OS_DIRECTORY).mkdir(parents=True)
        (root / FILES).mkdir(parents=True)
        (root / "var/lib/snf-image").mkdir(parents=True)
        self.image = bytes(512) + os.urandom(SIZE - 512)
        (root / OS_DIRECTORY).with_name("images").mkdir()
        (root / OS_DIRECTORY).with_name("images").joinpath("debian").write_bytes(self.image)

    def program(self, name: str = "store", text: str = GOOD, **functions: str) -> Path:
        """Install a program; `functions` are the bodies of probe, size and bytes that it has instead."""
        lines = [
            f"{line.partition('(')[0]}() {{ {functions[line.partition('(')[0]]}; }}"
            if line.partition("(")[0] in functions
            else line
            for line in text.splitlines()
        ]
        path = self.root / OS_DIRECTORY / name
        path.parent.mkdir(exist_ok=True)
        # A sleep of our own, which can be told from everybody else's.
        path.write_text("\n".join(lines).replace("sleep 600", f"{self.root}/sleep 600") + "\n")
        path.chmod(0o755)
        return path

    def configure(self, name: str, text: str = "") -> None:
        (self.root / FILES / name).write_text(text)

    def settings(self, **changes: object) -> Settings:
        return Settings.load("", self.root).model_copy(update=changes)

    def find(self, img_id: str = "store://debian", **changes: object) -> Origin:
        with Progress.start("inst", "", log=self.log) as progress:
            return find_origin(WantedImage(img_id, "diskdump"), self.settings(**changes), progress)

    def read(self, patience: float | None = None) -> bytes:
        """All that the program delivers of store://debian."""
        with self.find().open() as stream:
            assert isinstance(stream, ProgramStream)
            stream.patience = patience or stream.patience
            found = bytearray(SIZE + MIB)
            return bytes(found[: read_full(stream, memoryview(found))])


@pytest.fixture
def node() -> Iterator[Node]:
    umask = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
            Path(name).chmod(0o755)
            yield Node(Path(name))
    finally:
        os.umask(umask)


@pytest.mark.row(46)
def test_a_program_of_the_administrators_own_delivers_an_image(node: Node) -> None:
    node.program()
    disk = node.root / "disk"
    disk.write_bytes(b"\xa5" * (5 * MIB))
    with (
        Progress.start("inst", "", log=node.log) as progress,
        open_image(WantedImage("store://debian", "diskdump"), node.settings(), progress) as image,
        open_target(disk) as target,
    ):
        assert image
        assert image.size == SIZE
        check_fits(image, target)
        copy(image, target, progress)
    assert disk.read_bytes()[:SIZE] == node.image
    assert not disk.read_bytes()[4 * MIB :].strip(b"\0")


@pytest.mark.row(46)
def test_what_it_delivers_has_a_name_a_kind_and_no_neighbours(node: Node) -> None:
    node.program("dir/dir")
    origin = node.find("store://pool/debian?token=s3cret")
    assert origin.kind is OriginKind.PROGRAM
    assert origin.name == "image 'store://pool/debian?' of the source 'dir'"
    assert origin.basename == "debian"
    assert origin.beside("debian.sha256") is None


@pytest.mark.row(44)
def test_the_first_that_says_yes_by_number_and_then_from_the_end_of_the_alphabet_serves(node: Node) -> None:
    everything = "echo yes"
    for name in ("aaa", "bbb", "low"):
        node.program(name, probe=everything)
    node.program("high", probe="echo no")
    node.configure("high.priority", "90")
    node.configure("low.priority", "5")
    assert "source 'bbb'" in node.find().name
    node.configure("bbb.disabled")
    assert "source 'aaa'" in node.find().name
    assert "source 'aaa'" in node.find("https://example.com/debian").name, "the network comes later"
    node.configure("aaa.priority", "15")
    assert node.find("https://example.com/debian").kind is OriginKind.NETWORK
    assert "source 'aaa'" in node.find("debian").name
    node.configure("aaa.priority", "9")
    assert node.find("debian").kind is OriginKind.LOCAL
    assert "source 'aaa'" in node.find().name


@pytest.mark.row(44)
def test_an_image_that_is_none_is_never_asked_for(node: Node) -> None:
    node.program(probe=f"touch {node.root}/asked; echo yes")
    with (
        Progress.start("inst", "", log=node.log) as progress,
        open_image(WantedImage("null", "diskdump"), node.settings(), progress) as image,
    ):
        assert image is None
    assert not (node.root / "asked").exists()


@pytest.mark.row(47)
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo no such module >&2; exit 2", "the source 'store' failed with status 2: no such module; it is not asked"),
        ("kill -9 $$", "the source 'store' failed with status 137; it is not asked"),
        ("echo maybe", "the source 'store' says neither yes nor no but 'maybe'; it is not asked for this image"),
        ("true", "the source 'store' says neither yes nor no but ''; it is not asked for this image"),
        ("yes yes", "the source 'store' answers -p with more than 4096 bytes; it is not asked for this image"),
        ("echo yes; exit 1", "the source 'store' failed with status 1; it is not asked for this image"),
        (r"printf '\033[2J\377'", "says neither yes nor no but '\\x1b[2J\\ufffd'; it is not asked"),
    ],
)
def test_a_program_that_cannot_be_asked_is_a_warning_and_the_next_is_asked(node: Node, body: str, words: str) -> None:
    node.program(probe=body)
    node.program("next")
    node.configure("next.priority", "40")
    assert "source 'next'" in node.find().name
    (line,) = node.log.getvalue().splitlines()
    assert line.startswith("[WARNING] ")
    assert words in line


@pytest.mark.row(47)
@pytest.mark.parametrize(
    "body", ["exec sleep 600", "exec >&-; exec sleep 600", "echo yes; sleep 600", "yes >&2", "sleep 600 & sleep 600"]
)
def test_a_program_that_does_not_answer_is_ended_and_warned_of(node: Node, body: str) -> None:
    node.program(probe=f"echo $$; {body}" if "yes" not in body else body)
    assert isinstance(node.find("debian", image_stall_timeout=0.3), LocalOrigin)
    (line,) = node.log.getvalue().splitlines()
    assert "the source 'store' does not answer -p within 0.3 seconds (IMAGE_STALL_TIMEOUT); it is not asked" in line
    wait_until_gone(node)


@pytest.mark.row(47)
def test_a_program_that_cannot_be_started_is_a_warning(node: Node) -> None:
    node.program().write_text("#!/no/such/interpreter\n")
    assert isinstance(node.find("debian"), LocalOrigin)
    assert "[WARNING] the source 'store' failed with status 1: bwrap: execvp" in node.log.getvalue()


@pytest.mark.row(48)
@pytest.mark.parametrize("with_program", [False, True])
@pytest.mark.parametrize("img_id", ["pithos://account/container/object?s3cret", "pithosmap://s3cret/5", "rbd:pool/s3c"])
def test_what_nothing_serves_is_told_by_its_kind_alone(node: Node, img_id: str, with_program: bool) -> None:
    if with_program:
        node.program()
    with pytest.raises(RequestError) as caught:
        node.find(img_id)
    kind = img_id.partition(":")[0]
    assert str(caught.value).startswith(f"OS parameter img_id: nothing here has images of the kind '{kind}': ")
    assert "install a program for them" in str(caught.value)
    assert "s3c" not in str(caught.value)


@pytest.mark.row(45, 48)
@pytest.mark.parametrize(("img_id", "name"), [("debian", "local"), ("file://x", "local"), ("ftp://h/x", "network")])
def test_an_image_of_a_source_that_is_turned_off_is_refused(node: Node, img_id: str, name: str) -> None:
    node.configure(f"{name}.disabled")
    reason = f"needs the source '{name}', which {node.root}/{FILES}/{name}.disabled turns off on this node; remove that"
    with pytest.raises(RequestError, match=reason):
        node.find(img_id)
    node.program(probe="echo yes")
    assert node.find(img_id).kind is OriginKind.PROGRAM


@pytest.mark.row(49)
@pytest.mark.parametrize("img_id", ["-h", "-p", "-s", "--", "-s debian", "x" * 5000])
def test_an_id_that_looks_like_an_option_or_fills_the_command_line_never_reaches_a_program(
    node: Node, img_id: str
) -> None:
    node.program(probe=f"touch {node.root}/asked; echo yes")
    assert node.find(img_id).kind is OriginKind.LOCAL
    assert not (node.root / "asked").exists()
    assert "no program is asked for it" in node.log.getvalue()


def test_an_id_with_a_password_never_reaches_a_program(node: Node) -> None:
    node.program(probe=f"touch {node.root}/asked; echo yes")
    assert node.find("https://user:s3cret@example.com/debian").kind is OriginKind.NETWORK
    with pytest.raises(RequestError):
        node.find("store://user:s3cret@example.com/debian")
    assert not (node.root / "asked").exists()
    assert "s3cret" not in node.log.getvalue()
    assert node.find("store://user@example.com:80/debian").kind is OriginKind.PROGRAM


def test_an_id_is_one_argument_whatever_is_in_it(node: Node) -> None:
    node.program(probe=f'printf "%s\\n" "$#" "$1" > {node.root}/asked; echo yes', bytes="echo $2")
    hostile = "store://$(touch x) `id` \"'; echo yes & *"
    node.find(hostile)
    assert (node.root / "asked").read_text() == f"1\n{hostile}\n"


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("echo", "tells no size in bytes but ''"),
        ("echo 5 MiB", "tells no size in bytes but '5 MiB'"),
        ("echo -1", "tells no size in bytes but '-1'"),
        ("echo 9999999999999999999", "tells no size in bytes but '9999"),
        ("echo 5; exit 3", "the source 'store' failed with status 3"),
        ("yes 5", "answers -s with more than 4096 bytes"),
    ],
)
def test_a_program_that_tells_no_size_fails_before_it_is_read(node: Node, size: str, words: str) -> None:
    node.program(size=size, bytes=f"touch {node.root}/read")
    with pytest.raises(ImageError, match=words):
        node.read()
    assert not (node.root / "read").exists()


@pytest.mark.parametrize(
    ("bytes_", "words"),
    [
        (
            'head -c 1000 "$here/../images/debian"',
            f"has only 1000 bytes, but .* told a size of {SIZE}: correct the pro",
        ),
        ("true", "has only 0 bytes"),
        ('cat "$here/../images/debian"; echo', f"has more than {SIZE} bytes, but .* told a size of {SIZE}: correct"),
        ("yes", f"has more than {SIZE} bytes"),
        ('cat "$here/../images/debian"; echo oops >&2; exit 7', "the source 'store' failed with status 7: oops"),
        ('head -c 1000 "$here/../images/debian"; kill -9 $$', "the source 'store' failed with status 137"),
        ("exit 1", "the source 'store' failed with status 1"),
    ],
)
def test_bytes_that_are_too_few_too_many_or_not_vouched_for_are_no_image(node: Node, bytes_: str, words: str) -> None:
    node.program(bytes=bytes_)
    with pytest.raises(ImageError, match=words):
        node.read()
    wait_until_gone(node)


@pytest.mark.parametrize(
    "bytes_",
    [
        "exec sleep 600",
        'head -c 1000 "$here/../images/debian"; exec sleep 600',
        'cat "$here/../images/debian"; exec sleep 600',
        'cat "$here/../images/debian"; exec >&-; exec sleep 600',
        "yes complaint >&2",
    ],
)
def test_a_program_that_falls_silent_is_ended(node: Node, bytes_: str) -> None:
    node.program(bytes=bytes_)
    with pytest.raises(ImageError, match=r"source 'store' was silent for 0.3 seconds \(IMAGE_STALL_TIMEOUT\): is its"):
        node.read(patience=0.3)
    wait_until_gone(node)


def test_what_it_says_on_standard_error_goes_to_the_log_printable_and_bounded(node: Node) -> None:
    noise = r"printf 'look \033[2J here\n\n\377\n%01000d' 5 >&2; seq 100000 >&2;"
    node.program(bytes=noise + 'cat "$here/../images/debian"')
    assert node.read() == node.image
    lines = node.log.getvalue().splitlines()
    assert lines[:2] == [r"store: look \x1b[2J here", r"store: \ufffd"]
    assert len(lines) == 100
    assert lines[-1] == "store: ..."
    assert max(map(len, lines)) < 600


def test_nothing_that_it_started_is_left_when_it_has_done_its_work(node: Node) -> None:
    """Not even what has left its session and closed all it had."""
    (node.root / "daemon").write_text("import os, time; os.closerange(0, 4096); time.sleep(600)")
    node.program(bytes=f'setsid {sys.executable} {node.root}/daemon & cat "$here/../images/debian"')
    assert node.read() == node.image
    wait_until_gone(node)


DEPLOYMENT = f"""
import sys
sys.path[:0] = {[str(PROJECT / "host"), str(PROJECT / "shared")]!r}
from pathlib import Path
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import open_image
from snf_image_host.progress import Progress
from snf_image_host.configuration.settings import Settings
with Progress.start("inst", "") as progress:
    wanted = WantedImage("store://debian", "diskdump")
    with open_image(wanted, Settings.load("", Path(sys.argv[1])), progress):
        pass
"""


@pytest.mark.row(90)
@pytest.mark.parametrize("user", [None, "nobody"])
@pytest.mark.parametrize("stage", ["probe", "size", "bytes"])
def test_nothing_of_a_program_outlives_a_killed_deployment(node: Node, stage: str, user: str | None) -> None:
    node.program(**{stage: "sleep 600 & setsid sleep 600 & exec sleep 600"})
    if user:
        node.configure("store.user", user)
    command = [sys.executable, "-c", DEPLOYMENT, str(node.root)]
    deployment = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with deployment:
        wait_until(lambda: sum("/sleep" in each for each in processes_of(node)) == 3 or deployment.poll() is not None)
        assert deployment.poll() is None
        deployment.kill()
    wait_until_gone(node)


@pytest.mark.row(60)
def test_it_gets_no_environment_no_input_and_no_descriptor_of_ours(node: Node) -> None:
    look = (
        f"cat > {node.root}/input; env > {node.root}/env; pwd > {node.root}/pwd; ls -l /proc/self/fd > {node.root}/fds"
    )
    node.program(probe=f"{look}; echo yes")
    os.environ["OSP_IMG_PASSWD"] = "s3cret"
    secret = os.open("/etc/shadow", os.O_RDONLY)
    os.set_inheritable(secret, True)
    ours = os.dup(0)
    os.dup2(secret, 0)
    try:
        node.find()
    finally:
        os.dup2(ours, 0)
        os.close(ours)
        os.close(secret)
        del os.environ["OSP_IMG_PASSWD"]
    names = {line.partition("=")[0] for line in (node.root / "env").read_text().splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "LC_ALL"}
    assert (node.root / "pwd").read_text() == "/\n"
    assert (node.root / "input").read_text() == ""
    assert "shadow" not in (node.root / "fds").read_text()


def test_it_runs_as_the_user_that_is_named_without_a_way_to_change_the_node(node: Node) -> None:
    node.configure("store.user", "nobody\n")
    tells = 'id -un >&2; id -Gn >&2; grep CapEff /proc/self/status >&2; touch "$here/x" /tmp/x /var/tmp/x >&2'
    node.program(bytes=tells + '; cat "$here/../images/debian"')
    assert node.read() == node.image
    said = [line.removeprefix("store: ") for line in node.log.getvalue().splitlines()]
    assert said[:2] == ["nobody", "nogroup"]
    assert said[2] == r"CapEff:\t0000000000000000"
    assert len(said[3:]) == 3
    assert all("Read-only file system" in line or "Permission denied" in line for line in said[3:])


def test_without_such_a_user_nothing_is_run(node: Node) -> None:
    node.program(probe=f"touch {node.root}/asked; echo yes")
    node.configure("store.user", "nobody-of-that-name")
    with pytest.raises(ConfigurationError, match=rf"^{node.root}/{FILES}/store.user: there is no user"):
        node.find()
    assert not (node.root / "asked").exists()


def test_verify_leaves_to_a_program_what_it_has_and_runs_none(node: Node) -> None:
    env = {"OSP_IMG_ID": "store://debian", "OSP_IMG_FORMAT": "diskdump"}
    with pytest.raises(RequestError, match="nothing here has images of the kind 'store'"):
        verify(env, node.root)
    node.program(probe=f"touch {node.root}/asked; echo no")
    verify(env, node.root)
    assert not (node.root / "asked").exists()
    node.configure("store.disabled")
    with pytest.raises(RequestError, match="nothing here has images of the kind 'store'"):
        verify(env, node.root)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_until_gone(node: Node) -> None:
    wait_until(lambda: not processes_of(node))


def processes_of(node: Node) -> list[str]:
    """What still runs of a program there."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes() if process.name.isdigit() else b""
        except OSError:
            continue
        if str(node.root).encode() in command:
            found.append(f"{process.name} {command!r}")
    return found
