# SPDX-License-Identifier: GPL-2.0-or-later
"""Is it signed by a key of the administrator's? gpgv says so, in a jail; what is signed reaches it through a pipe.

gpgv is Debian's own verifier and reads keyrings as apt's are. It knows no trust model: a key is in the keyring or it is
not. Its exit status alone is not believed: every signature of a file has to be good, and has to say so in full.
"""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from snf_image_host.vm.jail import Jail, check_programs
from snf_image_shared.errors import ConfigurationError, ImageError
from snf_image_shared.process import SEARCH_PATH

LARGEST_SIGNATURE = 64 << 10  # bytes
_LARGEST_KEYRING = 16 << 20
_LARGEST_TEXT = 4 << 20  # of a signed text, and of what gpgv says of one
_MEMORY = 512 << 20
_PIPE = 1 << 20
_PATIENCE = 300.0  # seconds that gpgv may take to read a piece, or to end
_KEYRING, _SIGNATURE = "/keyring.gpg", "/signature"
_ARMOR = b"-----BEGIN PGP"
# How a keyring begins: a public key's packet in the old format or the new one; or a keybox, at its ninth byte.
_KEY_PACKETS = frozenset({0x98, 0x99, 0x9A, 0xC6})
_KEYBOX = b"KBXf"
_CLEARSIGNED = b"-----BEGIN PGP SIGNED MESSAGE-----"
_CLASS, _SIGNER = 9, 10  # words of a VALIDSIG line: the signature's class, and the fingerprint of the primary key
_OF_BYTES = "00"  # the class; 01 is of a text, and two files can be one text
_DOUBTS = {
    "REVKEYSIG": "is by a key that was revoked",
    "EXPKEYSIG": "is by a key that has expired",
    "EXPSIG": "has expired",
    "NO_PUBKEY": "is by a key that is not in VERIFY_KEYRING",
    "BADSIG": "is of other bytes: the image was changed, or it is the signature of another one",
    "NODATA": "is no OpenPGP signature",
    "ERRSIG": "cannot be checked, perhaps because it uses SHA-1 or an unknown method",
}


@dataclass(frozen=True)
class Verdict:
    """What gpgv says of one file of signatures. `doubts` are words of its status lines; good is none of them."""

    doubts: frozenset[str]
    signers: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The gravest doubt."""
        return next((text for word, text in _DOUBTS.items() if word in self.doubts), "is not one, or not detached")


UNKNOWN = Verdict(frozenset({"UNSOUND"}))


@dataclass(frozen=True)
class Keyring:
    """The public keys whose signatures count."""

    path: str
    content: bytes = field(repr=False)

    @classmethod
    def read(cls, path: str) -> Keyring:
        """Raises ConfigurationError for a file that is none."""
        if not path:
            raise ConfigurationError(
                "VERIFY=signature needs VERIFY_KEYRING: a file with the publishers' keys ('gpg --export KEY > FILE')"
            )
        try:
            with Path(path).open("rb") as file:
                content = file.read(_LARGEST_KEYRING + 1)
        except OSError as error:
            raise ConfigurationError(
                f"VERIFY_KEYRING {path}: cannot be read: {error.strerror}; correct the setting"
            ) from error
        if content.startswith(_ARMOR):
            raise ConfigurationError(
                f"VERIFY_KEYRING {path} is in ASCII armour, which gpgv cannot read: run gpg --dearmor on it"
            )
        is_keyring = content[:1] and (content[0] in _KEY_PACKETS or content[8:12] == _KEYBOX)
        if not is_keyring or len(content) > _LARGEST_KEYRING:
            raise ConfigurationError(
                f"VERIFY_KEYRING {path} holds no OpenPGP keys: make it with 'gpg --export KEY > FILE'"
            )
        return cls(path, content)


class DetachedSignature:
    """A signature of what is fed; `name` is for messages. gpgv runs from start() until close().

    It dies with the thread that starts it (PR_SET_PDEATHSIG), which has to be the main one; any thread may feed.
    """

    def __init__(self, name: str, content: bytes, keyring: Keyring) -> None:
        """Raises ImageError for one that is too large."""
        if len(content) > LARGEST_SIGNATURE:
            raise ImageError(f"{name} has {len(content)} bytes, too many for a signature: publish it again")
        self.name = name
        self._content = content
        self._keyring = keyring
        self._stack = ExitStack()
        self._gpgv: _Gpgv | None = None

    def start(self) -> None:
        """Before the first byte; what was fed before is forgotten. Raises ConfigurationError if gpgv cannot be run."""
        self.close()
        self._gpgv = self._stack.enter_context(_gpgv(self._content, self._keyring))

    def feed(self, piece: memoryview) -> None:
        """The next bytes of what is signed."""
        if self._gpgv:
            self._gpgv.feed(piece)

    def verdict(self) -> Verdict:
        """After the last byte."""
        return self._gpgv.verdict() if self._gpgv else UNKNOWN

    def early_verdict(self) -> Verdict:
        """Before the first byte: whether it is no signature, or by a key that does not count."""
        self.start()
        verdict = self.verdict()
        self.close()
        return Verdict(verdict.doubts - {"BADSIG"})

    def close(self) -> None:
        """Nothing of gpgv is left."""
        self._gpgv = None
        self._stack.close()


def refusal(name: str, signature: str, verdict: Verdict) -> ImageError:
    """The error for an image, `name`, whose signature is not good."""
    return ImageError(
        f"{name}: its signature {signature} {verdict.text}; sign the image again, or have the publisher's key added"
    )


def is_clearsigned(text: bytes) -> bool:
    """Whether the text holds its own signature."""
    return text.startswith(_CLEARSIGNED)


def signed_text(text: bytes, keyring: Keyring) -> tuple[bytes, Verdict]:
    """The part of a clearsigned text that is signed, and whether it is. Raises ConfigurationError."""
    signed = os.memfd_create("text", os.MFD_CLOEXEC)
    try:
        with _gpgv(text, keyring, signed) as running:
            verdict = running.verdict()
        return os.pread(signed, _LARGEST_TEXT, 0), verdict
    finally:
        os.close(signed)


def verdict_of(said: str, exit_status: int, *, is_detached: bool) -> Verdict:
    """The verdict of gpgv's status lines (GnuPG's doc/DETAILS), which other lines may surround."""
    lines = [line.split()[1:] for line in said.splitlines() if line.startswith("[GNUPG:] ")]
    words = [line[0] for line in lines if line]
    doubts = frozenset(word for word in words if word in _DOUBTS)
    valid = [line for line in lines if line[:1] == ["VALIDSIG"] and len(line) > _SIGNER]
    is_one_each = {words.count(word) for word in ("NEWSIG", "GOODSIG", "VALIDSIG")} == {len(valid)}
    is_as_told = words.count("PLAINTEXT") == (0 if is_detached else 1)
    if is_detached:
        is_as_told = is_as_told and all(line[_CLASS] == _OF_BYTES for line in valid)
    if not doubts and not (valid and is_one_each and is_as_told and exit_status == 0):
        doubts = UNKNOWN.doubts
    return Verdict(doubts, tuple(line[_SIGNER] for line in valid))


class _Gpgv:
    """gpgv at work on one file of signatures: feed() what is signed, then ask for the verdict."""

    def __init__(self, process: subprocess.Popen[bytes], status: int, *, is_detached: bool) -> None:
        self._process = process
        self._status = status
        self._is_detached = is_detached
        self._verdict: Verdict | None = None
        self._pipe = cast(IO[bytes], process.stdin)
        os.set_blocking(self._pipe.fileno(), False)
        with suppress(OSError):  # a user's share of pipes may be used up
            fcntl.fcntl(self._pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)

    def feed(self, piece: memoryview) -> None:
        """The next bytes of what is signed. When gpgv takes no more, it has made up its mind."""
        while piece and not self._pipe.closed:
            try:
                piece = piece[os.write(self._pipe.fileno(), piece) :]
            except BlockingIOError:
                if not select.select([], [self._pipe], [], _PATIENCE)[1]:
                    self.end()
            except BrokenPipeError:
                self._pipe.close()

    def verdict(self) -> Verdict:
        """After the last byte; the same when it is asked for again."""
        if self._verdict is None:
            self._pipe.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
            self.end()
            said = os.pread(self._status, _LARGEST_TEXT, 0).decode("ascii", "replace")
            self._verdict = verdict_of(said, self._process.returncode, is_detached=self._is_detached)
        return self._verdict

    def end(self) -> None:
        """Nothing of it is left."""
        self._pipe.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextmanager
def _gpgv(signature: bytes, keyring: Keyring, signed: int | None = None) -> Iterator[_Gpgv]:
    """gpgv for a detached signature of its standard input; with `signed`, for a clearsigned text, which goes there."""
    check_programs("bwrap", "setpriv", "prlimit", "gpgv")
    with ExitStack() as stack:
        files = {_KEYRING: _memory(stack, keyring.content), _SIGNATURE: _memory(stack, signature)}
        status = _memory(stack, b"")
        jail = Jail(files=files)
        command = ["prlimit", f"--as={_MEMORY}", f"--fsize={_LARGEST_TEXT}", "--core=0", "gpgv"]
        command += ["--homedir", "/nonexistent", "--weak-digest", "SHA1", "--status-fd", str(status)]
        command += ["--keyring", _KEYRING, *([_SIGNATURE, "-"] if signed is None else ["--output", "-", _SIGNATURE])]
        try:
            process = subprocess.Popen(
                jail.argv(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL if signed is None else signed,
                stderr=subprocess.DEVNULL,
                env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
                pass_fds=(*jail.descriptors, status),
                bufsize=0,
            )
        except OSError as error:
            raise ConfigurationError(f"gpgv cannot be started: {error.strerror}; check the node") from error
        running = _Gpgv(process, status, is_detached=signed is None)
        stack.callback(running.end)
        yield running


def _memory(stack: ExitStack, content: bytes) -> int:
    """A file in memory with that content, open at its start until the stack is left."""
    file = stack.enter_context(os.fdopen(os.memfd_create("signature", os.MFD_CLOEXEC), "w+b", buffering=0))
    file.write(content)
    file.seek(0)
    return file.fileno()
