# SPDX-License-Identifier: GPL-2.0-or-later
"""Replacing a file of a guest: whole or not at all, with nothing beside it, on file systems of either kind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provider import PROJECT
from unit.helper.disk_images import private_mounts, sh
from unit.helper.guest_tools import GuestTools

pytestmark = pytest.mark.root

PROGRAM = """
import os, sys
sys.path[:0] = {paths!r}
from snf_image_helper.files.replacement import Replacement
directory = os.open(".", os.O_PATH)
{before}
with Replacement(directory, "file", b"new", None) as replacement:
    print(open("file").read(), flush=True)
    {body}
print(open("file").read(), os.listdir())
"""
# Answers EOPNOTSUPP to an openat(2) for a file without a name, as vfat does. linux/seccomp.h, linux/bpf_common.h
AS_ON_VFAT = """
import ctypes, struct
filters = [(0x20, 0, 0, 0), (0x15, 0, 3, 257), (0x20, 0, 0, 32), (0x45, 0, 1, 0x400000), (0x06, 0, 0, 0x50000 | 95)]
filters.append((0x06, 0, 0, 0x7FFF0000))
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in filters))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(filters), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(program))) == 0
try:
    os.open(".", os.O_TMPFILE | os.O_WRONLY)
except OSError as error:
    assert error.errno == 95
else:
    sys.exit("a file without a name was made")
"""
EITHER_KIND = pytest.mark.parametrize("before", ["", AS_ON_VFAT], ids=["with O_TMPFILE", "without"])


@contextmanager
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory of an ext4 with one file in it."""
    disk, mounted = tmp_path / "disk", tmp_path / "place"
    mounted.mkdir()
    with disk.open("wb") as file:
        file.truncate(4 << 20)
    sh("mkfs.ext4", "-q", "-F", str(disk))
    with private_mounts():
        sh("mount", "-o", "loop", str(disk), str(mounted))
        try:
            (mounted / "sub").mkdir()
            (mounted / "sub/file").write_text("old")
            yield mounted / "sub"
        finally:
            sh("umount", str(mounted))


def run(directory: Path, body: str, before: str = "") -> tuple[int, str]:
    """Exit status and output of a program that replaces the file, and does `body` before it lets go of the new one."""
    paths = [str(PROJECT / name) for name in ("helper", "shared")]
    program = PROGRAM.format(paths=paths, body=body, before=before)
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, cwd=directory, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout


@EITHER_KIND
def test_the_old_file_stays_until_the_new_one_is_put_in_its_place(tmp_path: Path, before: str) -> None:
    with place(tmp_path) as directory:
        assert run(directory, "replacement.commit()", before) == (0, "old\nnew ['file']\n")


@EITHER_KIND
def test_what_is_not_put_in_place_leaves_nothing(tmp_path: Path, before: str) -> None:
    with place(tmp_path) as directory:
        assert run(directory, "pass", before) == (0, "old\nold ['file']\n")


@EITHER_KIND
def test_a_new_file_that_cannot_be_finished_leaves_nothing(tmp_path: Path, before: str) -> None:
    with place(tmp_path) as directory:
        limited = f"{before}\nimport resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))"
        assert run(directory, "pass", limited) == (1, "")
        assert os.listdir(directory) == ["file"]
        assert (directory / "file").read_text() == "old"


def test_a_run_that_is_killed_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    with place(tmp_path) as directory:
        assert run(directory, "os.kill(os.getpid(), 9)") == (-signal.SIGKILL, "old\n")
        assert os.listdir(directory) == ["file"]
        assert (directory / "file").read_text() == "old"


@EITHER_KIND
def test_what_a_run_leaves_that_is_killed_on_its_last_step_goes_with_the_next(tmp_path: Path, before: str) -> None:
    with place(tmp_path) as directory:
        assert run(directory, "replacement.get_ready(); os.kill(os.getpid(), 9)", before) == (-signal.SIGKILL, "old\n")
        assert len(os.listdir(directory)) == 2
        assert (directory / "file").read_text() == "old"
        assert run(directory, "replacement.commit()", before) == (0, "old\nnew ['file']\n")


@EITHER_KIND
def test_what_setfacl_setfattr_and_setcap_gave_a_file_is_there_afterwards(
    tmp_path: Path, cache: Path, before: str
) -> None:
    tools = GuestTools.unpack(cache)
    with place(tmp_path) as directory:
        file = str(directory / "file")
        tools.run("setfacl", "-m", "u:1000:rw,g:33:r", file)
        tools.run("setfattr", "-n", "user.note", "-v", "mine", file)
        tools.run("setfattr", "-n", "security.selinux", "-v", "system_u:object_r:shadow_t:s0", file)
        tools.run("setcap", "cap_net_raw,cap_net_bind_service=ep", file)
        programs = (("getfacl", "-pn"), ("getfattr", "-d", "-m", "-"), ("getcap",))
        given = [tools.run(*argv, file) for argv in programs]
        assert run(directory, "replacement.commit()", before) == (0, "old\nnew ['file']\n")
        assert [tools.run(*argv, file) for argv in programs] == given
        assert "user:1000:rw-" in given[0]
        assert "shadow_t" in given[1]
        assert "cap_net_raw" in given[2]
