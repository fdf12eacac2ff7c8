# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever a tenant makes of a hive: one clear sentence, and the process that must not die does not."""

from __future__ import annotations

import os
import random
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from images.hives import empty_hive, make_hive
from snf_image_helper.guest import Guest
from snf_image_helper.windows.facts import facts
from snf_image_helper.windows.registry import HIVE_SYSTEM, opened
from snf_image_shared.errors import GuestError
from unit.helper.windows_guests import hive_file, windows_guest


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return windows_guest(tmp_path / "c")


def summed(content: bytearray) -> bytes:
    total = 0
    for word in struct.unpack_from("<127I", content):
        total ^= word
    struct.pack_into("<I", content, 508, total)
    return bytes(content)


def changed(offset: int, form: str, value: int) -> bytes:
    """The empty hive with one number changed, and a sum that is right."""
    content = bytearray(empty_hive())
    struct.pack_into(form, content, offset, value)
    return summed(content)


ROOT = 4096 + 32
DAMAGED = {
    "empty": b"",
    "only a header": empty_hive()[:4096],
    "no hive at all": bytes(16384),
    "a wrong sum": empty_hive()[:508] + bytes(4) + empty_hive()[512:],
    "another major version": changed(20, "<I", 2),
    "the root outside": changed(36, "<I", 0x7FFF_FFF0),
    "the root in a free cell": changed(36, "<I", 0x200),
    "a bin of 4 GiB": changed(4096 + 8, "<I", 0xFFFF_F000),
    "a bin of nothing": changed(4096 + 8, "<I", 0),
    "a cell of 4 GiB": changed(ROOT, "<i", -0x7FFF_FFF8),
    "a cell of nothing": changed(ROOT, "<i", 0),
    "no key at the root": changed(ROOT + 4, "<H", 0),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_hive_is_refused_by_name(guest: Guest, content: bytes) -> None:
    hive_file(guest, "SYSTEM").write_bytes(content)
    refused = pytest.raises(GuestError, match=r"^/Windows/System32/config/SYSTEM: .*(make|replace)")
    with refused, opened(guest, HIVE_SYSTEM) as hive:
        hive.number("Select", "Current")


LISTS = {
    "more subkeys than there is room": (24, 0xFFFF_FFFF),
    "a list of subkeys outside": (32, 0x7FFF_FFF0),
    "a list of subkeys that is the key itself": (32, 0x20),
    "more values than there is room": (40, 0xFFFF_FFFF),
    "a list of values outside": (44, 0x7FFF_FFF0),
}


@pytest.mark.parametrize(("offset", "value"), LISTS.values(), ids=LISTS)
def test_a_key_that_lies_is_refused_or_has_nothing(guest: Guest, offset: int, value: int) -> None:
    content = bytearray(changed(ROOT + offset, "<I", value))
    # Both lists are asked for: each key has one of each.
    struct.pack_into("<I", content, ROOT + 24, max(1, struct.unpack_from("<I", content, ROOT + 24)[0]))
    hive_file(guest, "SYSTEM").write_bytes(content)
    with opened(guest, HIVE_SYSTEM) as hive, pytest.raises(GuestError, match=r"config/SYSTEM: is (so )?damaged"):
        hive.keys("")
        hive.value("", "Anything")


def test_subkeys_in_a_circle_end(guest: Guest) -> None:
    """A list of lists that holds itself: who follows it never comes back."""
    content = bytearray(changed(ROOT + 24, "<I", 1))
    circle = 0x400
    struct.pack_into("<I", content, ROOT + 32, circle)
    # The free cell is cut in two: the second is the list.
    free = 4096 + 0x80 - struct.unpack_from("<i", content, 4096 + 0x80)[0]
    size = struct.unpack_from("<i", content, free)[0]
    struct.pack_into("<i", content, free, 4096 + circle - free)
    struct.pack_into("<i2sHI", content, 4096 + circle, -16, b"ri", 1, circle)
    struct.pack_into("<i", content, 4096 + circle + 16, size - (4096 + circle - free) - 16)
    hive_file(guest, "SYSTEM").write_bytes(content)
    with opened(guest, HIVE_SYSTEM) as hive, pytest.raises(GuestError, match=r"config/SYSTEM: is (so )?damaged"):
        hive.keys("")


def test_a_reader_that_dies_is_told_of(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for a fault in hivex, which runs where os.abort() does here."""
    import hivex  # noqa: PLC0415

    monkeypatch.setattr(hivex, "Hivex", lambda *_, **__: os.abort())
    with (
        opened(guest, HIVE_SYSTEM) as hive,
        pytest.raises(GuestError, match=r"reader died of it \(signal 6\); replace"),
    ):
        hive.number("Select", "Current")


def test_no_child_is_left(guest: Guest) -> None:
    with opened(guest, HIVE_SYSTEM) as hive:
        hive.number("Select", "Current")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_hive_that_is_too_large_is_refused_before_it_is_read(guest: Guest) -> None:
    os.truncate(hive_file(guest, "SYSTEM"), 300 * 1024 * 1024)
    with pytest.raises(GuestError, match="has 314572800 bytes, more than 268435456"), opened(guest, HIVE_SYSTEM):
        pass


def test_a_hive_of_nothing_but_holes_is_refused(guest: Guest) -> None:
    file = hive_file(guest, "SYSTEM")
    file.write_bytes(b"")
    os.truncate(file, 200 * 1024 * 1024)
    with pytest.raises(GuestError, match="is no registry hive"), opened(guest, HIVE_SYSTEM):
        pass


@pytest.mark.parametrize("what", ["missing", "a directory", "a FIFO", "a link"])
def test_a_hive_that_is_no_file_is_refused(guest: Guest, what: str) -> None:
    file = hive_file(guest, "SYSTEM")
    file.unlink()
    match what:
        case "a directory":
            file.mkdir()
        case "a FIFO":
            os.mkfifo(file)
        case "a link":
            file.symlink_to("/etc/passwd")
    with pytest.raises(GuestError, match="config/SYSTEM: "), opened(guest, HIVE_SYSTEM):
        pass


def test_a_value_that_is_too_large_is_refused(guest: Guest) -> None:
    make_hive(hive_file(guest, "SYSTEM"), {"Key": {"Large": bytes(513 * 1024)}})
    with opened(guest, HIVE_SYSTEM) as hive, pytest.raises(GuestError, match="too large"):
        hive.value("Key", "Large")


def test_any_hive_with_wrong_bytes_gives_facts_or_a_sentence(guest: Guest) -> None:
    """Twenty hives, each with a few bytes changed at random: the same ones every time."""
    file = hive_file(guest, "SYSTEM")
    sound = file.read_bytes()
    dice = random.Random(6)
    for _ in range(20):
        content = bytearray(sound)
        for _ in range(dice.randint(1, 12)):
            content[dice.randrange(4096, len(content))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        file.write_bytes(summed(content))
        facts.cache_clear()
        with suppress(GuestError):
            facts(guest)
