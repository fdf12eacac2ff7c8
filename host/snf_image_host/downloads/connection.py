# SPDX-License-Identifier: GPL-2.0-or-later
"""One question to a server by one jailed curl, whose answer is read while it comes.

The head of the answer comes before the body through the same pipe, and is read here; curl looks after chunks, TLS and
proxies. A Content-Length is nothing to curl: whoever reads counts, and so sees bytes behind the announced end as well.
What curl says goes to a file in memory that is limited.
"""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType

from snf_image_host.downloads.curl import EMPTY_REPLY, GRACE, LASTING, MARK, TLS, Curl, cannot_be_run, config, failure
from snf_image_host.downloads.http_heads import LARGEST_HEAD, BadHeadError, Head, split_head
from snf_image_host.downloads.urls import Policy, RefusedError, UnknownHostError, Url
from snf_image_shared.process import SEARCH_PATH, ProcessError

MAX_REDIRECTS = 5
_PIPE = 1 << 20  # bytes: the most that an unprivileged process may ask for, and enough to keep curl busy
_MUCH = 256 << 10  # bytes to take at once, if they come within a while: curl writes 16 KiB, and each read has its price
_A_WHILE = 0.0005  # seconds; what the pipe holds in that time is more than a disk can take
_WORDS = 1 << 20  # bytes that curl may say; of them the last are read
_LAST_WORDS = 8192
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WRITE_OUT = "%{stderr}\\n" + MARK + "%{size_download}\\n%{errormsg}\\n"
_OWN = ("--no-fail", "--no-compressed", "--no-tr-encoding", "--no-buffer", "--write-out", _WRITE_OUT)
_HTTP = ("--include", "--suppress-connect-headers", "--ignore-content-length")
_CLOSE = "Connection: close"  # or the end of the body would not be told by an end of the connection
_SIGNALLED = 128


class BrokenError(Exception):
    """There was no answer, or not all of it. To ask again may help, after `pause` seconds at least.

    `is_lasting` says that it hardly helps where it has never worked before.
    """

    def __init__(self, reason: str, pause: float = 0.0, *, is_lasting: bool = False) -> None:
        super().__init__(reason)
        self.pause = pause
        self.is_lasting = is_lasting


@dataclass(frozen=True)
class Ended:
    """How curl ended: its exit status, its `reason` in words of its own, the bytes of a body that it counted.

    More have come than it `counted` if a chunked body has trailers: curl puts them behind it (--include).
    """

    status: int
    reason: str
    counted: int

    @property
    def broken(self) -> BrokenError:
        """Why there is no more, and the cure."""
        if self.status in TLS:
            text = f"TLS failed: {self.reason[:200]}; correct the server's certificate, or CURL"
        else:
            text = failure(self.status)
        return BrokenError(text, is_lasting=self.status in LASTING)


class Connection:
    """A running curl, which ends with the block if it has not before."""

    def __init__(self, argv: Sequence[str], stdin: bytes, held: int) -> None:
        """`held` is a leash, which it inherits. Raises BrokenError if it cannot be started."""
        self.received = 0
        self._kept = b""
        self._pipe, theirs = os.pipe2(os.O_CLOEXEC)
        self._words = os.memfd_create("curl", os.MFD_CLOEXEC)
        asked = os.memfd_create("asked", os.MFD_CLOEXEC)
        try:
            with suppress(OSError):  # the user's pipes are full elsewhere: a small one will do
                fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE)
            os.write(asked, stdin)
            os.lseek(asked, 0, os.SEEK_SET)
            self._process = subprocess.Popen(
                list(argv),
                stdin=asked,
                stdout=theirs,
                stderr=self._words,
                env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
                pass_fds=(held,),
            )
        except OSError as error:
            os.close(self._pipe)
            os.close(self._words)
            raise BrokenError(f"curl cannot be started: {error.strerror}") from error
        finally:
            os.close(theirs)
            os.close(asked)

    def read_head(self, seconds: float) -> Head:
        """The head of the final answer. Raises BrokenError, BadHeadError, ConfigurationError."""
        deadline = time.monotonic() + seconds
        received = b""
        while (found := split_head(received)) is None:
            if not self._is_ready(deadline - time.monotonic()):
                raise BrokenError(f"the server did not answer within {seconds:.3g} seconds")
            piece = os.read(self._pipe, LARGEST_HEAD)
            if not piece:
                ended = self.finish()
                raise ended.broken if ended.status else BrokenError(failure(EMPTY_REPLY))
            received += piece
        head, self._kept = found
        return head

    def readinto(self, view: memoryview, seconds: float) -> int:
        """Fill some of `view` with the body; 0 when curl has closed its end. Raises BrokenError if nothing comes."""
        if self._kept:
            count = min(len(view), len(self._kept))
            view[:count] = self._kept[:count]
            self._kept = self._kept[count:]
        elif self._is_ready(seconds):
            if len(view) > _MUCH and self._waiting() < _MUCH:
                time.sleep(_A_WHILE)
            count = os.readv(self._pipe, [view])
        else:
            raise BrokenError(f"the server sent nothing for {seconds:.3g} seconds")
        self.received += count
        return count

    def read_all(self, most: int, seconds: float) -> bytes:
        """All that curl gives, at most as many bytes. Raises BrokenError, ConfigurationError."""
        received = bytearray(most)
        done = 0
        while done < most and (count := self.readinto(memoryview(received)[done:], seconds)):
            done += count
        ended = self.finish()
        if ended.status:
            raise ended.broken
        return bytes(received[:done])

    def finish(self) -> Ended:
        """How it ended, once there is nothing more to read. Raises ConfigurationError when curl could not be run."""
        try:
            status = self._process.wait(GRACE)
        except subprocess.TimeoutExpired as error:
            raise BrokenError("curl does not end") from error
        length = os.fstat(self._words).st_size
        words = os.pread(self._words, _LAST_WORDS, max(0, length - _LAST_WORDS)).decode("utf-8", "replace")
        _, mark, after = words.rpartition(MARK)
        if not mark and 0 <= status < _SIGNALLED:
            raise cannot_be_run(after, status)
        counted, reason = [*after.split("\n"), "", ""][:2] if mark else ("", "")
        return Ended(status, reason, int(counted) if counted.isdecimal() else 0)

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for fd in (self._pipe, self._words):
            os.close(fd)

    def _waiting(self) -> int:
        """Bytes in the pipe."""
        return int.from_bytes(fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)), sys.byteorder)

    def _is_ready(self, seconds: float) -> bool:
        """Whether there is something to read, or the end, within so many seconds."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        return bool(poll.poll(max(0, int(seconds * 1000) + 1)))


@dataclass(frozen=True)
class Answer:
    """What came from `url`, where redirects have led; `connection` has the body. `where` begins a message about it."""

    url: Url
    connection: Connection
    head: Head
    where: str


@dataclass(frozen=True)
class Access:
    """How servers are asked. `held` is the leash for curl, `seconds` what an answer may take to begin."""

    curl: Curl
    policy: Policy
    held: int
    seconds: float

    def ask(self, url: Url, headers: Sequence[str]) -> Answer:
        """The answer of an HTTP server, redirects followed. Raises BrokenError, RefusedError, ConfigurationError."""
        where = ""
        for _ in range(MAX_REDIRECTS + 1):
            with ExitStack() as undo:
                connection = undo.enter_context(self.connect(url, _HTTP, [_CLOSE, *headers]))
                try:
                    head = connection.read_head(self.seconds)
                except BadHeadError as error:
                    raise RefusedError(f"{where}the answer cannot be understood: {error}") from error
                if head.status not in _REDIRECTS:
                    undo.pop_all()
                    return Answer(url, connection, head, where)
                location = head.fields.get("location", "")
                if not location:
                    raise RefusedError(f"{where}the server answered {head.status} and no other URL: correct the URL")
                url = self.policy.redirected(url, location)
                where = f"it redirects to {url}: "
        raise RefusedError(f"more than {MAX_REDIRECTS} redirects: give the URL they lead to")

    def connect(self, url: Url, own: Sequence[str], headers: Sequence[str] = ()) -> Connection:
        """Ask once. Raises BrokenError, RefusedError, ConfigurationError."""
        try:
            pins = self.curl.pins(url, self.policy, self.seconds)
        except UnknownHostError as error:
            raise BrokenError(f"{url.host}: {error}", is_lasting=True) from error
        except ProcessError as error:
            raise BrokenError(f"{url.host}: {error}") from error
        options = [*_OWN, "--connect-timeout", f"{self.seconds:.3f}", *own]
        argv = self.curl.argv(url, pins, options, _WORDS)
        return Connection(argv, config(url, headers), self.held)
