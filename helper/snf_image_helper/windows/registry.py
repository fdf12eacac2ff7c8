# SPDX-License-Identifier: GPL-2.0-or-later
"""The registry of a Windows guest: its hives are read by hivex, in a process of their own, and replaced as a whole.

A hive whose last changes are still in its transaction logs can be read, but not changed: Windows would replay the logs
over what was written (github.com/msuhanov/regf, "Dirty hives").
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from snf_image_helper.files.guest_errors import explained
from snf_image_helper.guest import Guest
from snf_image_helper.windows.hive_process import HiveProcess, hive_process
from snf_image_helper.windows.places import CONFIG, located
from snf_image_shared.errors import GuestError

HIVE_SOFTWARE = f"{CONFIG}/SOFTWARE"
HIVE_SYSTEM = f"{CONFIG}/SYSTEM"
HIVE_SAM = f"{CONFIG}/SAM"

Value = str | int | bytes | tuple[str, ...]

_SZ, _EXPAND_SZ, _BINARY, _DWORD, _DWORD_BE, _MULTI_SZ, _QWORD = 1, 2, 3, 4, 5, 7, 11
_NUMBERS = {_DWORD: ("<I", 4), _DWORD_BE: (">I", 4), _QWORD: ("<Q", 8)}
_LARGEST = 256 * 1024 * 1024  # bytes; SOFTWARE of a Windows 11 in use has 150 MiB
_LARGEST_CHANGEABLE = 64 * 1024 * 1024  # bytes: changing needs it several times in memory; SYSTEM has 10 to 30 MiB
_HEAD = 512  # bytes that its checksum covers
_UNFLUSHED = (
    "changes of it are still in its transaction logs, so Windows was not shut down; start the image once more, "
    "shut it down by sysprep /shutdown or shutdown /s /t 0 (not hibernated, without fast startup), and take it again"
)


class Hive:
    """An open hive. Keys are paths with backslashes from its root; neither they nor names of values have a case.

    Every method raises GuestError when the hive turns out to be damaged.
    """

    def __init__(self, process: HiveProcess, *, unflushed: bool) -> None:
        self._process = process
        self.unflushed = unflushed
        self.changed = False

    def value(self, key: str, name: str) -> Value | None:
        """A value by its type: text, number, bytes or several texts; None when it or the key is missing.

        A number that has not its type's size is bytes.
        """
        found = self._process.ask("value", _parts(key), name)
        return None if found is None else _decoded(found[0], bytes.fromhex(found[1]))

    def text(self, key: str, name: str) -> str | None:
        """As value(); whatever is no text is None."""
        found = self.value(key, name)
        return found if isinstance(found, str) else None

    def number(self, key: str, name: str) -> int | None:
        """As value(); whatever is no number is None."""
        found = self.value(key, name)
        return found if isinstance(found, int) else None

    def keys(self, key: str) -> tuple[str, ...] | None:
        """The names of the keys below one, in the hive's order; None when it is missing."""
        found = self._process.ask("keys", _parts(key))
        return None if found is None else tuple(found)

    def set_dword(self, key: str, name: str, number: int) -> None:
        """Set a REG_DWORD; missing keys are made, and what is so already stays."""
        self._set(key, name, _DWORD, struct.pack("<I", number))

    def set_string(self, key: str, name: str, text: str, *, expand: bool = False) -> None:
        """As set_dword(), a REG_SZ, or REG_EXPAND_SZ with `expand`."""
        self._set(key, name, _EXPAND_SZ if expand else _SZ, f"{text}\0".encode("utf-16-le"))

    def set_strings(self, key: str, name: str, texts: tuple[str, ...]) -> None:
        """As set_dword(), a REG_MULTI_SZ."""
        self._set(key, name, _MULTI_SZ, "".join(f"{text}\0" for text in (*texts, "")).encode("utf-16-le"))

    def set_bytes(self, key: str, name: str, content: bytes) -> None:
        """As set_dword(), a REG_BINARY."""
        self._set(key, name, _BINARY, content)

    def _set(self, key: str, name: str, kind: int, content: bytes) -> None:
        if self._process.ask("value", _parts(key), name) != [kind, content.hex()]:
            self._process.ask("write", _parts(key), name, kind, content.hex())
            self.changed = True

    def commit(self) -> None:
        """Put the changed hive where opened() finds it."""
        self._process.ask("commit")


@contextmanager
def opened(guest: Guest, path: str, *, change: bool = False) -> Iterator[Hive]:
    """The hive at `path`, whose case does not matter. With `change` it is replaced at the end if anything was changed.

    Raises GuestError when it is missing, too large or damaged; with `change` also when it has unflushed changes. If
    the block fails nothing is replaced.
    """
    place = located(guest, path)
    with _file(guest, place) as file:
        _refuse_size(place, os.fstat(file).st_size, _LARGEST_CHANGEABLE if change else _LARGEST)
        unflushed = _is_unflushed(place, os.pread(file, _HEAD, 0))
        if not change:
            with hive_process(place, file, None) as process:
                yield Hive(process, unflushed=unflushed)
            return
        if unflushed:
            raise GuestError(f"{place}: {_UNFLUSHED}")
        result = os.memfd_create("hive")
        try:
            with hive_process(place, file, result) as process:
                hive = Hive(process, unflushed=False)
                yield hive
                if hive.changed:
                    hive.commit()
                    guest.write_bytes(place, b"".join(iter(partial(os.read, result, 1 << 20), b"")))
        finally:
            os.close(result)


def control_set(hive: Hive) -> str:
    """The key of SYSTEM that Windows calls CurrentControlSet. Raises GuestError for a hive that has none."""
    number = hive.number("Select", "Current")
    name = f"ControlSet{number:03d}" if number is not None else ""
    if number is None or hive.keys(name) is None:
        raise GuestError(
            f"{HIVE_SYSTEM}: Select\\Current names no control set that is there, so Windows would not start either; "
            "make the image anew"
        )
    return name


@contextmanager
def _file(guest: Guest, path: str) -> Iterator[int]:
    """A descriptor of a regular file that is not itself a link."""
    head, _, name = path.rpartition("/")
    with explained(path):
        directory = guest.open_directory(head)
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        finally:
            os.close(directory)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise GuestError(f"{path}: is no regular file; replace it in the image")
        yield file
    finally:
        os.close(file)


def _refuse_size(path: str, size: int, limit: int) -> None:
    if size < 2 * 4096:
        raise GuestError(f"{path}: has {size} bytes, which is too small for a registry hive; make the image anew")
    if size > limit:
        raise GuestError(f"{path}: has {size} bytes, more than {limit}; make it smaller in the image")


def _is_unflushed(path: str, head: bytes) -> bool:
    if not head.startswith(b"regf"):
        raise GuestError(f"{path}: is no registry hive; make the image anew")
    words: tuple[int, ...] = struct.unpack("<128I", head)
    total = 0
    for word in words[:127]:
        total ^= word
    # What the sum must not be is written as the next number that it may be.
    total = {0: 1, 0xFFFF_FFFF: 0xFFFF_FFFE}.get(total, total)
    return words[1] != words[2] or total != words[127]


def _parts(key: str) -> list[str]:
    return [part for part in key.split("\\") if part]


def _decoded(kind: int, content: bytes) -> Value:
    if kind in {_SZ, _EXPAND_SZ}:
        return _text(content).partition("\0")[0]
    if kind == _MULTI_SZ:
        return tuple(part for part in _text(content).split("\0") if part)
    form, size = _NUMBERS.get(kind, ("", -1))
    return int(struct.unpack(form, content)[0]) if len(content) == size else content


def _text(content: bytes) -> str:
    return content.decode("utf-16-le", "replace")
