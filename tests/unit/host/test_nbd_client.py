# SPDX-License-Identifier: GPL-2.0-or-later
"""Extents as a server tells them become extents that can be written to a disk. The rest is in test_remote_disks."""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.disks.nbd_client import ServedDisk, aligned
from snf_image_host.images.sources import ALIGNMENT, Extent
from snf_image_shared.errors import ImageError

LENGTHS = st.one_of(st.integers(1, 3 * ALIGNMENT), st.integers(1, 24).map(lambda sectors: 512 * sectors))


def told(lengths: list[tuple[int, bool]]) -> list[Extent]:
    extents, position = [], 0
    for length, is_data in lengths:
        extents.append(Extent(position, length, is_data))
        position += length
    return extents


def data(extents: list[Extent]) -> set[int]:
    return {at for extent in extents if extent.is_data for at in range(extent.offset, extent.offset + extent.length)}


@given(st.lists(st.tuples(LENGTHS, st.booleans()), max_size=8).map(told))
def test_extents_cover_the_same_with_borders_that_a_disk_can_be_written_at(given: list[Extent]) -> None:
    found = list(aligned(given))
    size = sum(extent.length for extent in given)
    assert [extent.offset for extent in found] == [sum(e.length for e in found[:n]) for n in range(len(found))]
    assert sum(extent.length for extent in found) == size
    assert all(extent.length > 0 and extent.offset % ALIGNMENT == 0 for extent in found)
    assert data(given) <= data(found)


@given(st.lists(st.tuples(st.integers(1, 4).map(lambda n: n * ALIGNMENT), st.booleans()), max_size=8).map(told))
def test_of_borders_that_can_be_written_at_nothing_is_changed(given: list[Extent]) -> None:
    assert data(list(aligned(given))) == data(given)


@dataclass(frozen=True)
class TakenOver:
    """A server that an image has taken over: it says what it is told to of every extent (NBD, doc/proto.md)."""

    lengths: tuple[int, ...]
    name = "image 'x'"
    error = ImageError
    cure = "publish it again"

    def last_words(self) -> str:
        return ""

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._serve, args=(theirs,), daemon=True).start()
        return ours

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb", 0) as file:
            file.write(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
            file.read(4)
            option = 0
            while option != 7:  # NBD_OPT_GO
                _, option, length = struct.unpack(">8sII", _exactly(file, 16))
                _exactly(file, length)
                if option == 7:
                    file.write(_reply(option, 3, struct.pack(">HQH", 0, 1 << 20, 1)))
                if option == 10:  # NBD_OPT_SET_META_CONTEXT
                    file.write(_reply(option, 4, struct.pack(">I", 1) + b"base:allocation"))
                file.write(_reply(option, 1 if option in {7, 8, 10} else 1 << 31 | 1))
            while request := file.read(28):
                cookie = struct.unpack(">IHHQQI", request)[3]
                told = struct.pack(">I", 1) + b"".join(struct.pack(">II", length, 0) for length in self.lengths)
                file.write(struct.pack(">IHHQI", 0x668E33EF, 1, 5, cookie, len(told)) + told)


def _exactly(file: socket.SocketIO, length: int) -> bytes:
    found = b""
    while len(found) < length and (piece := file.read(length - len(found))):
        found += piece
    return found


def _reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data


def test_a_server_that_is_taken_over_does_not_keep_us_for_ever() -> None:
    assert [e.length for e in ServedDisk(TakenOver((1 << 19,)), "x").extents(0, 1 << 20)] == [1 << 20]
    with pytest.raises(ImageError, match=r"^image 'x': .*; publish it again$"):
        list(ServedDisk(TakenOver((0,)), "x").extents(0, 1 << 20))
