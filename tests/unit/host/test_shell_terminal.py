# SPDX-License-Identifier: GPL-2.0-or-later
"""The operator's side of a shell: what a helper VM that has been taken over may say, and what it may not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from snf_image_host.tools.terminal import Operator
from snf_image_shared.errors import HelperError
from snf_image_shared.shell import LARGEST, Frame, Unpacker, packed

PROJECT = Path(__file__).resolve().parents[3]
_PROGRAM = """
import os, sys
sys.path[:0] = [{host!r}, {shared!r}]
from snf_image_host.tools.terminal import Operator
from snf_image_shared.shell import Frame, packed
operator = Operator(None, int(sys.argv[1]))
for kind in (Frame.OUTPUT, Frame.ERRORS, Frame.OUTPUT):
    operator.take(memoryview(packed(kind, str(kind).encode() * 3)))
operator.take(memoryview(packed(Frame.ENDED, b"5")))
sys.exit(operator.status)
"""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


@pytest.mark.parametrize(
    "said",
    [
        b"?\0\0\0\0",
        b"o" + (LARGEST + 1).to_bytes(4, "big"),
        packed(Frame.INPUT, b"typed by nobody"),
        packed(Frame.ENDED, b"256"),
        packed(Frame.ENDED, b"-1"),
        packed(Frame.ENDED, b"not a number"),
        packed(Frame.ENDED, b"0") + packed(Frame.ENDED, b"0"),
        packed(Frame.ENDED, b"0") + packed(Frame.OUTPUT, b"after the end"),
    ],
)
def test_what_no_helper_says_is_refused(said: bytes, pipe: tuple[int, int]) -> None:
    with pytest.raises(HelperError, match="what is no frame of a shell's"):
        Operator(None, pipe[1]).take(memoryview(said))


def run(stdout: int, pipe: tuple[int, int]) -> subprocess.CompletedProcess[bytes]:
    program = _PROGRAM.format(host=str(PROJECT / "host"), shared=str(PROJECT / "shared"))
    command = [sys.executable, "-c", program, str(pipe[1])]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, pass_fds=[pipe[1]], check=False
    )


def test_both_outputs_and_the_status_are_the_commands_and_its_end_is_acknowledged(pipe: tuple[int, int]) -> None:
    done = run(subprocess.PIPE, pipe)
    assert (done.returncode, done.stdout, done.stderr) == (5, b"oooooo", b"rrr")
    assert list(Unpacker().feed(os.read(pipe[0], 100))) == [(Frame.GOODBYE, b"")]


def test_a_reader_that_has_gone_ends_the_command_and_nothing_fails(pipe: tuple[int, int]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = run(write, pipe)
    os.close(write)
    assert done.returncode == 5
    assert list(Unpacker().feed(os.read(pipe[0], 100))) == [(Frame.HANG_UP, b""), (Frame.GOODBYE, b"")]


def test_what_is_typed_after_the_end_goes_into_no_other_file(pipe: tuple[int, int]) -> None:
    operator = Operator(None, pipe[1])
    operator.leave()
    operator.send(packed(Frame.INPUT, b"typed too late"))
    os.set_blocking(pipe[0], False)
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 1)
