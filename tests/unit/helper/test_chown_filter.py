# SPDX-License-Identifier: GPL-2.0-or-later
"""The filter for restore, given to the kernel itself: file capabilities outlive a change of owner to root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from snf_image_helper.deployment.chown_filter import program
from unit.helper.disk_images import private_mounts
from unit.helper.new_trees import file_system
from unit.helper.test_unpacking import CAPABILITY

pytestmark = pytest.mark.root

# prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &struct sock_fprog); then what restore does.
UNDER_IT = """
import ctypes, os, sys
code = open(sys.argv[1], "rb").read()
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(22, 2, ctypes.byref(Program(len(code) // 8, code)), 0, 0) == 0, os.strerror(ctypes.get_errno())
for owner, path in zip(((0, 0), (12, 34), (0, 34)), sys.argv[2:5]):
    os.chown(path, *owner)
os.lchown(sys.argv[5], 0, 0)
os.lchown(sys.argv[5], 12, 34)
"""


def test_root_owns_without_taking_capabilities_and_all_others_own_as_ever(tmp_path: Path) -> None:
    (tmp_path / "filter").write_bytes(program())
    with private_mounts(), file_system(tmp_path / "image", 32) as root:
        files = [root / name for name in ("of-root", "of-another", "of-a-group")]
        for file in files:
            file.write_text("")
            os.setxattr(file, "security.capability", CAPABILITY)
        (root / "link").symlink_to("of-root")
        command = [sys.executable, "-c", UNDER_IT, *map(str, (tmp_path / "filter", *files, root / "link"))]
        subprocess.run(command, check=True)
        assert [(file.stat().st_uid, file.stat().st_gid) for file in files] == [(0, 0), (12, 34), (0, 34)]
        assert (root / "link").lstat().st_uid == 12
        assert os.getxattr(files[0], "security.capability") == CAPABILITY
        assert [os.listxattr(file) for file in files[1:]] == [[], []]
