# SPDX-License-Identifier: GPL-2.0-or-later
"""Files with secrets on a real NTFS: where SetupComplete.cmd does not run they stay, and users must not read them."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from images.windows_disks import make_ntfs
from phony_windows import PhonyWindows
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks.windows import change_password, install_unattend
from snf_image_shared.job import Secrets
from unit.helper.disk_images import Listener, job, private_mounts, sh
from unit.helper.guest_trees import guest_in
from unit.helper.ntfs_volumes import OPTIONS, attribute, written_to
from unit.helper.test_ntfs_guest import ADMINISTRATORS, FULL, SYSTEM, WINDOWS, entries
from unit.helper.windows_guests import SERVER, XP, snapshot

pytestmark = pytest.mark.root

PASSWORD = "Canary-p4ssword"
PROTECTED = 0x1000  # what a directory hands down later does not reach it ([MS-DTYP] 2.4.6, SE_DACL_PROTECTED)


@pytest.mark.parametrize(
    ("phony", "secrets"),
    [
        (SERVER, {"unattend.xml", "windows/snfscripts/changeadminpassword.cmd"}),
        (XP, {"sysprep/sysprep.inf", "windows/snfscripts/changeadminpassword.cmd"}),
    ],
    ids=["server-2022", "xp"],
)
def test_no_user_can_read_a_password_and_a_second_run_changes_nothing(
    tmp_path: Path, phony: PhonyWindows, secrets: set[str]
) -> None:
    make_ntfs(tmp_path / "volume", 48, phony.make(tmp_path / "c"))
    asked = replace(job(), secrets=Secrets(PASSWORD, None))
    with private_mounts(), written_to(tmp_path / "volume", tmp_path / "place", OPTIONS) as place:
        for directory in (place, *(path for path in place.iterdir() if path.is_dir())):
            os.setxattr(directory, "system.ntfs_acl", WINDOWS)
        with guest_in(place) as guest:
            guest.system = System(OsFamily.WINDOWS_LEGACY if phony.legacy else OsFamily.WINDOWS, 1)
            found = []
            for _ in range(2):
                for task in (install_unattend.TASK, change_password.TASK):
                    task.run(guest, asked, Listener().reporter)
                found.append(snapshot(guest.root))
        assert found[0] == found[1]
        files = {str(path.relative_to(place)).lower(): path for path in place.rglob("*") if path.is_file()}
        holding = {name for name, path in files.items() if is_in(path.read_bytes())}
        assert holding == secrets
        for name in secrets:
            descriptor = attribute(files[name], "system.ntfs_acl")
            assert entries(descriptor) == [(0, 0, FULL, SYSTEM), (0, 0, FULL, ADMINISTRATORS)], name
            assert struct.unpack_from("<H", descriptor, 2)[0] & PROTECTED
    assert "No errors were found" in sh("ntfssecaudit", "-v", str(tmp_path / "volume"), f"/{min(secrets)}")


def is_in(content: bytes) -> bool:
    """Whether the password is there, plain or as an answer file hides it."""
    return PASSWORD.encode() in content or b"<PlainText>false</PlainText>" in content
