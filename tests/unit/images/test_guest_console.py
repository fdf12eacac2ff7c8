# SPDX-License-Identifier: GPL-2.0-or-later
"""The console's conversation, held with a real shell on a pseudo terminal instead of one behind an emulated machine."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from guest_console import ConsoleError, GuestConsole


@pytest.fixture
def console() -> Iterator[GuestConsole]:
    """A shell that echoes what is typed, as a serial terminal does."""
    ours, theirs = socket.socketpair()
    master, slave = pty.openpty()
    with subprocess.Popen(
        ["sh"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={"PATH": "/usr/bin:/bin", "PS1": "# "},
        start_new_session=True,
    ) as shell:
        os.close(slave)

        def to_shell() -> None:
            try:
                while data := theirs.recv(4096):
                    os.write(master, data)
            except ConnectionResetError:  # the test left output unread
                return

        def from_shell() -> None:
            try:
                while data := os.read(master, 4096):
                    theirs.sendall(data)
            except OSError:  # the terminal is gone
                theirs.shutdown(socket.SHUT_WR)

        pumps = [threading.Thread(target=pump, daemon=True) for pump in (to_shell, from_shell)]
        for pump in pumps:
            pump.start()
        yield GuestConsole(ours, shell)
        os.killpg(shell.pid, signal.SIGKILL)  # its children hold the terminal too
    pumps[1].join()
    ours.close()
    pumps[0].join()
    theirs.close()
    os.close(master)


def test_a_command_gives_its_output_and_status(console: GuestConsole) -> None:
    done = console.run("echo one; echo two >&2; exit_with() { return 7; }; exit_with")
    assert (done.output, done.status) == ("one\ntwo", 7)


def test_a_last_line_without_an_end_is_no_part_of_the_mark(console: GuestConsole) -> None:
    assert console.run("printf abc").output == "abc"


def test_a_command_that_reads_does_not_swallow_the_next_one(console: GuestConsole) -> None:
    assert console.run("cat").output == ""
    assert console.run("echo next").output == "next"


def test_a_failing_command_is_told_from_a_good_one(console: GuestConsole) -> None:
    assert console.run("false").status == 1
    assert console.run("true").status == 0


def test_a_command_that_does_not_end_in_time_is_an_error(console: GuestConsole) -> None:
    with pytest.raises(ConsoleError, match="in time"):
        console.run("sleep 30", timeout=0.5)


def test_a_guest_that_ends_is_an_error_at_once(console: GuestConsole) -> None:
    with pytest.raises(ConsoleError, match="ended"):
        console.run("exit 0; exit 0", timeout=60)


def test_a_panic_is_an_error_at_once(console: GuestConsole) -> None:
    with pytest.raises(ConsoleError, match="panicked"):
        console.run("echo '---[ end Kernel pa''nic - not syncing ]---'; sleep 60")


def test_a_command_too_long_for_the_line_is_refused(console: GuestConsole) -> None:
    with pytest.raises(ValueError):
        console.run("#" * 4000)
