# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU as the decoder of one image in a container, which it offers to us as NBD.

It is jailed like the helper VM's QEMU and is no machine at all: a block layer with a descriptor of the image, and a
socket that has no name. qemu-storage-daemon would be smaller, but takes no descriptors before QEMU 10. That the image
names no other file was found before; here it would find none.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_host import kernel
from snf_image_host.progress import printable
from snf_image_host.vm.jail import FIRST_UID, Jail, check_programs
from snf_image_host.vm.leash import leash
from snf_image_host.vm.qemu import NBD_EXPORT
from snf_image_shared.errors import ConfigurationError, ImageError

PROGRAM = "qemu-system-x86_64"
_OWN_UIDS = 30_000_000  # above those of the helper VMs, the storage daemons and our own decoders
_PATIENCE = 120.0  # seconds for QEMU to open the image and to listen, on a node that is busy
_BACKLOG = 16
_LONGEST_LINE = 64 << 10  # bytes of what the monitor says
_LAST_WORDS = 4096  # bytes of them that are looked at
_SHOWN = 400  # characters
# It writes no file, and what it may take of memory is far above what it needs.
_LIMITS = ("prlimit", "--core=0", "--fsize=0", "--nofile=64", f"--as={4 << 30}", "--")
_FDSET = 1
_DOOR = "door"


@dataclass(frozen=True)
class ImageServer:
    """A running server. `door` is a descriptor of its socket, to connect to; `words` is where QEMU talks."""

    name: str
    door: int
    words: int

    error = ImageError
    cure = "it is damaged, or the node was out of memory: publish it again, or convert it to qcow2"

    def connect(self) -> socket.socket:
        """A new connection. Raises ImageError."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(f"/proc/self/fd/{self.door}")
        except OSError as error:
            connection.close()
            raise ImageError(f"{self.name}: its decoder is gone: {self.last_words() or self.cure}") from error
        return connection

    def last_words(self) -> str:
        """Why QEMU failed, as far as it told, and what to do; "" if it said nothing."""
        with contextlib.suppress(BlockingIOError):
            lines = os.read(self.words, _LAST_WORDS).decode("utf-8", "replace").splitlines()
            # What comes after the first is what came of that.
            line = next((line for line in lines if line.strip() and "warning: " not in line), "")
            # Behind the program's name and the option at fault, which is JSON of ours, comes the reason.
            reason = line.rpartition("}: ")[2].removeprefix(f"{PROGRAM}: ")
            return f"{printable(reason[:_SHOWN])}; {self.cure}" if reason else ""
        return ""


@contextmanager
def image_server(name: str, content: int, driver: str, run_dir: Path) -> Iterator[ImageServer]:
    """Offer the disk in the image for the length of the block.

    `content` is a descriptor of the image that nobody else uses meanwhile, and `driver` QEMU's name of the container.
    To be entered before any thread is started, because it forks. Raises ImageError if QEMU does not like the image,
    ConfigurationError for what is missing here.
    """
    check_programs(PROGRAM, "bwrap", "setpriv", "prlimit")
    with ExitStack() as stack:
        held = stack.enter_context(leash())
        listener, door = _listener(run_dir, stack)
        words, words_write = os.pipe()
        stack.callback(os.close, words)
        for fd in (words, words_write):
            os.set_blocking(fd, False)  # one that talks without end is not to stand still, nor are we
        server = ImageServer(name, door, words)
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        with theirs:
            command = _command(content, driver, theirs.fileno())
            process = _started(command, words_write, (content, theirs.fileno(), held))
        os.close(words_write)
        stack.callback(_end, process)
        _Monitor(ours, server).offer(listener)
        listener.close()  # with QEMU alone, so that its end is told to those who connect
        yield server


def _listener(run_dir: Path, stack: ExitStack) -> tuple[socket.socket, int]:
    """A socket to listen on, and a descriptor to connect to it. It has a name for a moment, before it listens."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        directory = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            name = f"image-{secrets.token_hex(8)}"
            listener.bind(f"/proc/self/fd/{directory}/{name}")  # whose length does not depend on the directory's
            try:
                door = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            finally:
                os.unlink(name, dir_fd=directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigurationError(f"{run_dir}: cannot be written: {error.strerror}; look at RUN_DIR") from error
    stack.callback(os.close, door)
    listener.listen(_BACKLOG)
    return listener, door


def _command(content: int, driver: str, monitor: int) -> list[str]:
    file = {
        "driver": "file",
        "filename": f"/dev/fdset/{_FDSET}",
        "cache": {"direct": kernel.is_direct(content), "no-flush": False},
        "locking": "off",
    }
    node: dict[str, object] = {"driver": driver, "node-name": NBD_EXPORT, "read-only": True, "file": file}
    if driver == "vmdk":
        node["backing"] = None  # whatever the image may say of a parent
    argv = [*_LIMITS, PROGRAM, "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none"]
    argv += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    argv += ["-add-fd", f"fd={content},set={_FDSET}", "-blockdev", json.dumps(node, separators=(",", ":"))]
    return [*argv, "-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control"]


def _started(command: list[str], words: int, inherited: tuple[int, ...]) -> subprocess.Popen[bytes]:
    jail = Jail(first_uid=FIRST_UID + _OWN_UIDS)
    return subprocess.Popen(
        jail.argv(command),
        stdin=subprocess.DEVNULL,
        stdout=words,
        stderr=words,
        pass_fds=inherited,
        env={},
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """What bwrap started dies with it, and the leash sees to that."""
    process.kill()
    process.wait()


class _Monitor:
    """Our side of QEMU's monitor (docs/interop/qmp-spec), as long as it takes to have it listen."""

    def __init__(self, connection: socket.socket, server: ImageServer) -> None:
        self._connection = connection
        self._server = server
        self._deadline = time.monotonic() + _PATIENCE
        self._unread = b""

    def offer(self, listener: socket.socket) -> None:
        """Have QEMU serve the disk on the socket. Raises ImageError, ConfigurationError."""
        self._heard()  # the greeting, which comes when the image is open
        self._execute("qmp_capabilities", {})
        self._execute("getfd", {"fdname": _DOOR}, [listener.fileno()])
        self._execute("nbd-server-start", {"addr": {"type": "fd", "data": {"str": _DOOR}}})
        export = {"type": "nbd", "id": NBD_EXPORT, "node-name": NBD_EXPORT, "name": NBD_EXPORT, "writable": False}
        self._execute("block-export-add", export)

    def _execute(self, command: str, arguments: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        message = json.dumps({"execute": command, "arguments": arguments}).encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is told below
            socket.send_fds(self._connection, [message], fds)
        while "event" in (reply := self._heard()):
            pass
        if "return" not in reply:
            raise ImageError(f"{self._server.name}: its decoder refuses to {command}: {printable(str(reply)[:_SHOWN])}")

    def _heard(self) -> dict[str, object]:
        """The next message."""
        while b"\n" not in self._unread:
            try:
                self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
                piece = self._connection.recv(_LONGEST_LINE)
            except TimeoutError as error:
                raise self._late() from error
            except ConnectionResetError:
                piece = b""
            if not piece or len(self._unread) > _LONGEST_LINE:
                raise self._ended()
            self._unread += piece
        if time.monotonic() > self._deadline:  # it talks on and on
            raise self._late()
        line, _, self._unread = self._unread.partition(b"\n")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._ended() from error
        return message if isinstance(message, dict) else {}

    def _late(self) -> ImageError:
        return ImageError(
            f"{self._server.name}: its decoder did not open it within {_PATIENCE:g} seconds: does the storage hang?"
        )

    def _ended(self) -> ImageError | ConfigurationError:
        words = self._server.last_words()
        if words.startswith(("bwrap:", "setpriv:", "prlimit:")):
            return ConfigurationError(f"the jail of an image's decoder cannot be made: {words}")
        return ImageError(f"{self._server.name} cannot be decoded: {words or self._server.cure}")
