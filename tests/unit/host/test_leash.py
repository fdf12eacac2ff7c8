# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing on the leash outlives the one who holds it, whether that was killed or is just done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from snf_image_host.vm.leash import leash

PROJECT = Path(__file__).resolve().parents[3]
# A program that asks nobody to be told of its parent's death, as bwrap does not in its first moments.
HOLDER = f"""
import os, subprocess, sys
sys.path[:0] = [{str(PROJECT / "host")!r}, {str(PROJECT / "shared")!r}]
from snf_image_host.vm.leash import leash
with leash() as held:
    child = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; sleep 600"], pass_fds=[held], start_new_session=True)
    os.write(1, b"%d\\n" % child.pid)  # in one piece: the child writes there, too
    sys.stdin.read()
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "somebody is still alive"
        time.sleep(0.01)


@pytest.mark.root
@pytest.mark.row(90)
@pytest.mark.parametrize("is_killed", [True, False])
def test_whoever_is_on_the_leash_ends_with_its_holder(is_killed: bool) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdin
    pids = [int(holder.stdout.readline()), int(holder.stdout.readline())]
    assert all(map(is_alive, pids))
    if is_killed:
        holder.kill()
    else:
        holder.stdin.close()
    holder.wait()
    wait_until_gone(pids)
    holder.stdout.close()
    holder.stdin.close()


def test_what_is_written_to_the_leash_means_nothing_and_no_descriptor_stays_open() -> None:
    before = os.listdir("/proc/self/fd")
    with leash() as held:
        os.write(held, b"done" * 1000)
    assert os.listdir("/proc/self/fd") == before
