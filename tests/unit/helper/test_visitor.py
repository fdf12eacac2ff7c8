# SPDX-License-Identifier: GPL-2.0-or-later
"""An operator's command beside the stream port, among processes of its own: nobody else's may be killed."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snf_image_shared.shell import Frame, Shell, Terminal, Unpacker, packed, packed_size

pytestmark = pytest.mark.root
PROJECT = Path(__file__).resolve().parents[3]
LONGEST = 60.0  # seconds for what takes moments
_PROGRAM = """
import json, os, sys
sys.path[:0] = [{helper!r}, {shared!r}]
from snf_image_helper.visitor import Visit
from snf_image_shared import codec
from snf_image_shared.shell import Shell
port, shell, argv = int(sys.argv[1]), codec.load(Shell, sys.argv[2]), json.loads(sys.argv[3])
visit = Visit(port, shell)
visit.say_goodbye(visit.run(argv, dict(os.environ)))
"""


class Node:
    """The node's end of the port."""

    def __init__(self, ours: socket.socket) -> None:
        ours.settimeout(LONGEST)
        self._ours = ours
        self._frames = Unpacker()
        self.heard: list[tuple[Frame, bytes]] = []

    def send(self, *frames: bytes) -> None:
        self._ours.sendall(b"".join(frames))

    def until(self, wanted: Frame, text: bytes = b"") -> None:
        """Listen until such a frame has come, and its kind has said the text."""
        deadline = time.monotonic() + LONGEST
        while wanted not in {kind for kind, _ in self.heard} or text not in self.said(wanted):
            assert time.monotonic() < deadline, self.heard
            if select.select([self._ours], [], [], 1.0)[0]:
                chunk = self._ours.recv(1 << 16)
                assert chunk, self.heard
                self.heard += self._frames.feed(chunk)

    def said(self, kind: Frame) -> bytes:
        return b"".join(content for each, content in self.heard if each is kind)


@contextmanager
def visit(wanted: Shell, *argv: str, code: int = 0) -> Iterator[Node]:
    ours, theirs = socket.socketpair()
    program = _PROGRAM.format(helper=str(PROJECT / "helper"), shared=str(PROJECT / "shared"))
    shell = json.dumps(
        {
            "command": [],
            "writable": False,
            "mount": True,
            "terminal": vars(wanted.terminal) if wanted.terminal else None,
            "timeout": wanted.timeout,
        }
    )
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    process = subprocess.Popen(
        [*unshare, sys.executable, "-c", program, str(theirs.fileno()), shell, json.dumps(argv)],
        pass_fds=[theirs.fileno()],
        stderr=subprocess.PIPE,
        text=True,
    )
    theirs.close()
    try:
        yield Node(ours)
        _, errors = process.communicate(timeout=LONGEST)
        assert process.returncode == code, errors
    finally:
        process.kill()
        process.wait()
        ours.close()


def test_input_outputs_and_status_pass_to_the_byte() -> None:
    rubbish = os.urandom(300_000)
    with visit(Shell(), "sh", "-c", "cat; echo no >&2; exit 3") as node:
        node.until(Frame.STARTED)
        for start in range(0, len(rubbish), 1 << 15):
            node.send(packed(Frame.INPUT, rubbish[start : start + (1 << 15)]))
        node.send(packed(Frame.END_OF_INPUT))
        node.until(Frame.ENDED)
        assert (node.said(Frame.OUTPUT), node.said(Frame.ERRORS)) == (rubbish, b"no\n")
        assert node.said(Frame.ENDED) == b"3"
        node.send(packed(Frame.GOODBYE))


def test_a_signals_end_is_told_as_a_shell_does() -> None:
    with visit(Shell(), "sh", "-c", "kill -9 $$") as node:
        node.until(Frame.ENDED, b"137")
        node.send(packed(Frame.GOODBYE))


def test_a_command_that_reads_nothing_ends_although_it_is_sent_much() -> None:
    with visit(Shell(), "sh", "-c", "exec <&-; echo deaf") as node:
        node.until(Frame.OUTPUT)
        node.send(*[packed(Frame.INPUT, bytes(1 << 15))] * 20, packed(Frame.END_OF_INPUT))
        node.until(Frame.ENDED, b"0")
        node.send(packed(Frame.GOODBYE))


def test_what_a_command_leaves_running_is_killed_and_keeps_nothing_open() -> None:
    with visit(Shell(), "sh", "-c", "setsid sleep 1000 & echo left") as node:
        node.until(Frame.ENDED, b"0")
        assert node.said(Frame.OUTPUT) == b"left\n"
        node.send(packed(Frame.GOODBYE))


def test_a_late_command_is_killed_and_its_lateness_is_the_failure() -> None:
    with visit(Shell(timeout=1), "sleep", "1000", code=1) as node:
        node.until(Frame.STARTED)


def test_a_reader_that_hangs_up_ends_the_command() -> None:
    with visit(Shell(), "sh", "-c", "while :; do echo on and on; done") as node:
        node.until(Frame.OUTPUT)
        node.send(packed(Frame.HANG_UP))
        node.until(Frame.ENDED, b"137")


def test_a_terminal_has_its_size_and_keys_and_end_of_file() -> None:
    terminal = Terminal("vt100", 40, 120)
    with visit(Shell(terminal=terminal), "sh", "-c", "stty -echo size; read a; stty size; cat; echo end") as node:
        node.until(Frame.OUTPUT, b"40 120\r\n")
        node.send(packed_size(50, 90), packed(Frame.INPUT, b"\n"))
        node.until(Frame.OUTPUT, b"50 90\r\n")
        node.send(packed(Frame.INPUT, b"typed\n"), packed(Frame.END_OF_INPUT))
        node.until(Frame.ENDED, b"0")
        assert node.said(Frame.OUTPUT).endswith(b"typed\r\nend\r\n")
        node.send(packed(Frame.GOODBYE))
