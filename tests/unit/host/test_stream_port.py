# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from snf_image_host.vm.stream_port import Stream, carried, stream_pair
from snf_image_shared.errors import SnfImageError

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@contextmanager
def vm(stream: Stream) -> Iterator[socket.socket]:
    """What QEMU has of the port, for the length of its life."""
    with stream_pair(stream) as pair:
        assert pair
        with carried(pair), pair.theirs[0].dup() as end:
            pair.theirs[0].close()
            yield end


def received(end: socket.socket) -> bytes:
    return b"".join(iter(lambda: end.recv(MIB), b""))


def test_all_of_a_source_goes_in_behind_its_head_and_then_the_port_is_at_its_end() -> None:
    content = os.urandom(9 * MIB + 77)
    with tempfile.TemporaryFile() as source:
        source.write(content)
        source.seek(1000)
        with vm(Stream(source.fileno(), head=content[:1000])) as end:
            assert received(end) == content


def test_all_that_comes_out_reaches_the_sink_before_the_block_ends() -> None:
    content, taken = os.urandom(9 * MIB + 77), bytearray()
    with vm(Stream(sink=taken.extend)) as end:
        end.sendall(content)
    assert bytes(taken) == content


def test_a_second_attempt_begins_with_the_first_byte_again() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"and more")
    stream = Stream(read_end, head=b"first ")
    with vm(stream) as end:
        assert end.recv(14, socket.MSG_WAITALL) == b"first and more"
    os.write(write_end, b", and the end")
    os.close(write_end)
    with vm(stream) as end:
        assert received(end) == b"first and more, and the end"
    os.close(read_end)


def test_a_source_that_says_nothing_and_never_ends_keeps_nobody_when_the_vm_has_ended() -> None:
    read_end, write_end = os.pipe()
    stream = Stream(read_end)
    with vm(stream):
        pass
    os.write(write_end, b"still here")
    assert os.read(read_end, 100) == b"still here"
    assert not stream.failures
    os.close(read_end)
    os.close(write_end)


def test_a_vm_that_ends_early_leaves_the_rest_of_the_source_where_it_is() -> None:
    with open("/dev/zero", "rb") as source:
        stream = Stream(source.fileno())
        with vm(stream) as end:
            assert end.recv(10)
        assert not stream.failures


def test_a_sink_that_fails_is_asked_no_more_and_the_vm_may_go_on() -> None:
    asked: list[int] = []

    def sink(view: memoryview) -> None:
        asked.append(len(view))
        raise SnfImageError("nobody reads it")

    stream = Stream(sink=sink)
    with vm(stream) as end:
        end.sendall(bytes(9 * MIB))
    assert len(asked) == 1
    assert str(stream.failures[0]) == "nobody reads it"


def test_a_source_that_cannot_be_read_is_a_failure() -> None:
    directory = os.open("/", os.O_RDONLY)
    stream = Stream(directory)
    with vm(stream) as end:
        assert received(end) == b""
    os.close(directory)
    assert "the stream to import cannot be read" in str(stream.failures[0])


def test_an_exception_ends_the_carrying_although_the_source_goes_on() -> None:
    read_end, write_end = os.pipe()
    with pytest.raises(SystemExit), vm(Stream(read_end)):
        raise SystemExit(143)
    os.close(read_end)
    os.close(write_end)


def test_what_the_peer_keeps_everybody_waiting_for_is_counted() -> None:
    stream = Stream()
    waiting, go_on = threading.Event(), threading.Event()

    def sink(_view: memoryview) -> None:
        waiting.set()
        go_on.wait(10)

    stream.sink = sink
    with vm(stream) as end:
        assert stream.waited == 0
        end.sendall(b"x")
        waiting.wait(10)
        assert stream.waited > 0
        go_on.set()
