# SPDX-License-Identifier: GPL-2.0-or-later
"""snf-image-shell with real helper VMs: commands whose input, outputs and end pass through, and a terminal."""

from __future__ import annotations

import hashlib
import os
import pty
import select
import subprocess
import termios
import time
from pathlib import Path

import pytest

from images.lived import ROOT, lived_in_disk, mounted
from provider import TIMEOUT, Provider
from sparse_disks import digest

pytestmark = pytest.mark.vm

_MOST = 300.0  # seconds for a word on the terminal


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shell")
    lived_in_disk(directory / "disk", directory)
    return directory / "disk"


def words(provider: Provider, disk: Path, *more: str) -> list[str]:
    return [str(provider.root / "usr/sbin/snf-image-shell"), f"--disk={disk}", *more]


@pytest.mark.image_row(92, 96)
def test_a_command_reads_the_guest_and_cannot_write_it_and_sees_nothing_of_the_node(
    provider: Provider, disk: Path
) -> None:
    before = digest(disk)
    rubbish = os.urandom(3_000_000)
    script = (
        "pwd; cat etc/hostname; touch new 2>/dev/null || echo read-only; ls /sys/class/net | xargs; "
        "grep -h . /sys/block/*/serial | xargs; sha256sum; sleep 1000 & echo warned >&2; exit 7"
    )
    done = subprocess.run(
        words(provider, disk, "--", "sh", "-c", script),
        input=rubbish,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 7, done
    place, name, can_write, networks, serials, received = done.stdout.decode().splitlines()
    assert (place, name, can_write) == ("/run/snf-image/target", "lived", "read-only")
    assert networks == "lo"
    assert set(serials.split()) <= {"snf-helper", "snf-config", "snf-disk-0"}  # or the job is on a floppy
    assert received.split()[0] == hashlib.sha256(rubbish).hexdigest()
    assert done.stderr.decode().splitlines()[-1] == "warned"
    assert digest(disk) == before


@pytest.mark.image_row(76)
def test_programs_of_guests_whose_libc_asks_the_time_by_vsyscall_run(provider: Provider, disk: Path) -> None:
    # What time(2) is in RHEL 6 and Debian 7, glibc before 2.14. asm/vsyscall.h: VSYSCALL_ADDR, the second function.
    script = "import ctypes; print(ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(0xFFFFFFFFFF600400)(0))"
    done = subprocess.run(
        words(provider, disk, "--no-mount", "--", "python3", "-c", script),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done
    assert int(done.stdout) > 1_700_000_000


@pytest.mark.image_row(92)
def test_a_disk_that_may_be_written_is_unmounted_cleanly_and_a_late_command_is_killed(
    provider: Provider, disk: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        words(provider, disk, "--rw", "--timeout=3", "--", "sh", "-c", "echo new >etc/new; sleep 1000"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 255
    assert "the command took longer than 3 seconds and was killed" in done.stderr.splitlines()[-1]
    with mounted(disk, ROOT, tmp_path) as root:
        assert (root / "etc/new").read_text() == "new\n"


@pytest.mark.image_row(92)
def test_a_person_has_a_terminal_of_the_size_of_his_own_which_is_restored(provider: Provider, disk: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (33, 101))
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        words(provider, disk, "--no-mount"),
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={"TERM": "xterm", "PATH": "/usr/sbin:/usr/bin"},
        start_new_session=True,
    )
    said = b""

    def type_after(prompt: bytes, keys: bytes, meanwhile: bytes = b"") -> None:
        nonlocal said
        deadline = time.monotonic() + _MOST
        while prompt not in said:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline, said
            if select.select([ours], [], [], 1.0)[0]:
                said += os.read(ours, 4096)
            else:
                os.write(ours, meanwhile)
        said = b""
        os.write(ours, keys)

    type_after(b"# ", b"stty size; echo $TERM-; sleep 1000\r")
    type_after(b"33 101\r\nxterm-\r\n", b"\x03")
    # The first may come before there is a sleep to end.
    type_after(b"# ", b"exit 5\r", meanwhile=b"\x03")
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 5, errors
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
