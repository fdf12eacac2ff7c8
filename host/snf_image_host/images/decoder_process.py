# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that interprets an image, seen from outside: jailed, on a leash, and believed in nothing that matters.

What it says is a number between limits or a line to be shown. It gets the disk as a descriptor for writing alone, and
is gone, with whatever it may have started, before anybody else writes to the disk.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_host.decoding.process import MESSAGE
from snf_image_host.progress import printable
from snf_image_host.vm.jail import FIRST_UID, Jail, check_programs
from snf_image_host.vm.leash import leash
from snf_image_shared.errors import ConfigurationError, DiskError, ImageError, SnfImageError

PATIENCE = 600.0  # seconds without any progress; storage that fails over may take minutes
OWN_UIDS = 20_000_000  # above those of the helper VMs and of the storage daemons
_PACKAGES = ("snf_image_host", "snf_image_shared", "zstandard", "isal", "lz4")
_LONGEST_TEXT = 400  # characters of it that are shown
_MESSAGES, _MESSAGE_RATE = 200, 20.0  # it may say so many, and so many more each second; it means to say two
_LARGEST = 1 << 62  # bytes of a disk; more is no size
_END_PATIENCE = 30.0  # seconds for the kernel to end it; a process that waits for its storage cannot be ended


@dataclass(frozen=True)
class Job:
    """`kind` is a compression, or qcow2. `content` is the descriptor that becomes its standard input."""

    name: str
    kind: str
    img_format: str
    content: int


@contextmanager
def decoder_process(job: Job) -> Iterator[DecoderProcess]:
    """The running process, for the length of the block. To be entered before any thread is started, because it forks.

    Raises ConfigurationError.
    """
    check_programs("bwrap", "setpriv")
    with ExitStack() as stack:
        held = stack.enter_context(leash())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.enter_context(ours)
        ours.setblocking(False)
        words, words_write = os.pipe()
        stack.callback(os.close, words)
        for fd in (words, words_write):
            os.set_blocking(fd, False)  # one that talks without end is not to stand still, nor are we
        with theirs:
            process = subprocess.Popen(
                _command(job), stdin=job.content, stdout=theirs.fileno(), stderr=words_write, pass_fds=(held,), env={}
            )
        os.close(words_write)
        running = DecoderProcess(job.name, process, ours, words)
        stack.callback(running.close)
        yield running


class DecoderProcess:
    """`read` and `written` are the bytes that it says it has read of the image and put on the disk.

    The methods raise ImageError and DiskError as it says so, or if it says what it must not, hangs or fails.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], control: socket.socket, words: int) -> None:
        self.read = 0
        self.written = 0
        self.done: int | None = None
        self._name = name
        self._process = process
        self._control = control
        self._words = words
        self._disk = ""
        self._room = 0
        self._started = self._moved = time.monotonic()
        self._heard = 0
        self._first: list[int] = []  # descriptors of the first process in its name space, which ends as the last

    @property
    def control(self) -> int:
        """Becomes readable when it has said something, or has ended."""
        return self._control.fileno()

    def found(self) -> int | None:
        """What it says first, when `control` is readable: the size of the disk in the image, None if it cannot know."""
        message = self._message()
        match message:
            case {"size": None}:
                return None
            case {"size": size}:
                return self._number(size, _LARGEST)
            case dict():
                raise self._failure(message)
        raise self.lied()

    def send_disk(self, disk: str, room: int, order: Mapping[str, object], fds: Sequence[int]) -> None:
        """Have it fill the disk of that name with at most `room` bytes. `order` and `fds` are for its main()."""
        self._disk, self._room = disk, room
        self._hold()
        self._moved = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # look() tells why it is gone
            socket.send_fds(self._control, [json.dumps(dict(order)).encode()], fds)

    def look(self) -> None:
        """Take note of what it has said meanwhile."""
        while self.done is None and (message := self._message()) is not None:
            match message:
                case {"read": read, "written": written}:
                    before = self.read + self.written
                    self.read, self.written = self._number(read, _LARGEST), self._number(written, self._room)
                    if self.read + self.written > before:
                        self._moved = time.monotonic()
                case {"done": done}:
                    self.done = self._number(done, self._room)
                case _:
                    raise self._failure(message)
        self.check_patience()

    def check_patience(self) -> None:
        """Raise ImageError if it has not got any further for too long."""
        if time.monotonic() > self._moved + PATIENCE:
            raise ImageError(
                f"{self._name}: its decoder made no progress for {PATIENCE:g} seconds: does the storage hang, or is "
                "the image made to waste time?"
            )

    def excuse(self) -> None:
        """It could not get any further until now, for want of input."""
        self._moved = time.monotonic()

    def wait(self, seconds: float) -> None:
        """Until it says something, or that time is over."""
        select.select([self._control], [], [], seconds)

    def finish(self) -> None:
        """After `done`: return when nothing of it is left that could write to the disk."""
        if self._is_gone(_END_PATIENCE):
            return
        self.end()
        if not self._is_gone(0):
            raise ImageError(f"{self._name}: its decoder cannot be ended: does the storage hang?")

    def end(self) -> None:
        """Kill it, and wait until nothing of it is left that could write to the disk.

        The process that bwrap made the first of its namespace is what is killed: the kernel ends all others with it
        before bwrap, and so we, can hear of its end.
        """
        deadline = time.monotonic() + _END_PATIENCE
        while not self._is_gone(0.01) and time.monotonic() < deadline:
            self._hold()
            if not self._first:
                self._process.kill()
            for first in self._first:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(first, signal.SIGKILL)

    def close(self) -> None:
        """As end(), for the last time."""
        self.end()
        while self._first:
            os.close(self._first.pop())

    @contextmanager
    def ended_on_error(self) -> Iterator[None]:
        """Call end() when an exception leaves the block, before one waits for a thread that waits for the process."""
        try:
            yield
        except BaseException:
            self.end()
            raise

    def _hold(self) -> None:
        """See to it that we hear of the end of all that it may have started: bwrap's own end comes before that."""
        for pid in () if self._first else _children(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                self._first.append(os.pidfd_open(pid))

    def _is_gone(self, patience: float) -> bool:
        deadline = time.monotonic() + patience
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
            left = max(0.0, deadline - time.monotonic())
            return all(select.select([first], [], [], left)[0] for first in self._first)
        return False

    def _message(self) -> dict[str, object] | None:
        """The next thing it has said, None if there is none. Its end is none of them."""
        packet = self._packet()
        if packet is None:
            return None
        if not packet:  # either its end, which stays, or an empty packet
            raise self.lied() if self._packet() is None else self._ended()
        self._heard += 1
        if self._heard > _MESSAGES + _MESSAGE_RATE * (time.monotonic() - self._started):
            raise self.lied()
        try:
            message = json.loads(packet)
        except (ValueError, RecursionError) as error:
            raise self.lied() from error
        if not isinstance(message, dict):
            raise self.lied()
        return message

    def _packet(self) -> bytes | None:
        """None if there is none yet, nothing at the end."""
        try:
            return self._control.recv(MESSAGE)
        except BlockingIOError:
            return None
        except ConnectionResetError:  # it has ended without having read all of ours: told once, before what it has said
            return self._packet()

    def _number(self, value: object, most: int) -> int:
        if type(value) is not int or not 0 <= value <= most:
            raise self.lied()
        return value

    def _failure(self, message: dict[str, object]) -> SnfImageError:
        match message:
            case {"image": str(text)}:
                return ImageError(f"{self._name} {_shown(text)}")
            case {"disk": str(text)} if self._disk:
                return DiskError(f"{self._disk}: {_shown(text)}")
        return self.lied()

    def lied(self) -> ImageError:
        """The error to raise for what cannot be true."""
        return ImageError(f"{self._name}: its decoder says what it must not: do not trust the image")

    def _ended(self) -> SnfImageError:
        """It has ended without a reason that it would have said."""
        self._is_gone(_END_PATIENCE)
        words = self._last_words()
        if words.startswith(("bwrap:", "setpriv:")):
            return ConfigurationError(f"the jail of the image's decoder cannot be made: {words}")
        status = self._process.returncode or 0
        if status - 128 in set(signal.Signals) or -status in set(signal.Signals):
            number = signal.Signals(-status if status < 0 else status - 128)
            return ImageError(
                f"{self._name}: its decoder was killed by {number.name}: was the node out of memory? "
                "The kernel's log tells; then try again"
            )
        reason = f": {words}" if words else ""
        return ImageError(f"{self._name}: its decoder failed with status {status}{reason}")

    def _last_words(self) -> str:
        with contextlib.suppress(BlockingIOError):
            lines = os.read(self._words, 1 << 16).decode("utf-8", "replace").splitlines()
            return _shown(next((line for line in reversed(lines) if line.strip()), "").strip())
        return ""


def _shown(text: str) -> str:
    return printable(text[:_LONGEST_TEXT])


def _children(parent: int) -> list[int]:
    """The process ids of a process's children."""
    children = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    children.append(int(entry.name))
    return children


def _command(job: Job) -> list[str]:
    """The argument list of the jail with the process in it: an interpreter that knows our code and the codecs alone."""
    folders = _folders()
    main = f"main({str(job.kind)!r}, {job.img_format!r})"
    code = f"import sys; sys.path += {folders!r}; from snf_image_host.decoding.process import main; {main}"
    needed = [sys.base_prefix, *folders]
    binds = tuple(Path(folder) for folder in needed if not Path(folder).is_relative_to("/usr"))
    jail = Jail(binds=binds, first_uid=FIRST_UID + OWN_UIDS)
    # One arena of glibc's for all threads: each thread's own would keep what the codecs allocate and free.
    return jail.argv(["env", "MALLOC_ARENA_MAX=1", os.path.realpath(sys.executable), "-IBS", "-c", code])


def _folders() -> list[str]:
    """Where the packages lie that the process may import, ours first."""
    folders = []
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec and spec.submodule_search_locations:
            folders.append(str(Path(next(iter(spec.submodule_search_locations))).resolve().parent))
    return list(dict.fromkeys(folders))
