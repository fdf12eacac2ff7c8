# SPDX-License-Identifier: GPL-2.0-or-later
"""EnforcePersonality and InitializeDatasource on trees."""

from __future__ import annotations

import base64
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.tasks import enforce_personality
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, PersonalityFile
from unit.helper.disk_images import sh
from unit.helper.guest_trees import JOB, guest_in, perform, seen, text

pytestmark = pytest.mark.root

ACCOUNTS = {"/etc/passwd": "user:x:1000:1001::/home/user:/bin/sh\n", "/etc/group": "adm:x:4:\n"}
SEED = "/var/lib/cloud/seed/nocloud-net"


def file(path: str, content: bytes = b"hello\n", **members: str | int | None) -> Job:
    given = PersonalityFile(path, base64.b64encode(content).decode())
    return replace(JOB, personality=(replace(given, **members),))  # type: ignore[arg-type]


@pytest.mark.row(161)
def test_a_file_gets_its_content_owner_and_mode_and_its_new_directories_are_private(tmp_path: Path) -> None:
    with guest_in(tmp_path, ACCOUNTS) as guest:
        perform(enforce_personality.TASK, guest, file("/srv/a/b", b"\0\xff", owner="user", group="adm", mode=0o640))
        assert (tmp_path / "srv/a/b").read_bytes() == b"\0\xff"
        assert seen(guest, "/srv/a/b") == (1000, 4, 0o640)
        assert seen(guest, "/srv") == seen(guest, "/srv/a") == (1000, 4, 0o750)


@pytest.mark.row(161)
def test_without_owner_and_mode_a_file_is_roots_and_read_only(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        perform(enforce_personality.TASK, guest, file("/f"))
        assert seen(guest, "/f") == (0, 0, 0o440)


@pytest.mark.row(163)
def test_an_existing_file_is_replaced_with_its_owner_and_mode(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/etc/motd": "old\n"}) as guest:
        guest.chown("/etc/motd", 5, 5)
        perform(enforce_personality.TASK, guest, file("/etc/motd", mode=0o7644))
        assert text(guest, "/etc/motd") == "hello\n"
        assert seen(guest, "/etc/motd") == (0, 0, 0o7644)


@pytest.mark.row(164)
@pytest.mark.parametrize("path", ["/../../x", "/etc/../../x", "/loop/x"])
def test_a_path_never_leaves_the_guest(tmp_path: Path, path: str) -> None:
    with guest_in(tmp_path / "guest", {"/etc/motd": ""}) as guest:
        guest.symlink("/../..", "/loop")
        perform(enforce_personality.TASK, guest, file(path))
        assert text(guest, "/x") == "hello\n"
        assert [entry.name for entry in tmp_path.iterdir()] == ["guest"]


@pytest.mark.row(162, 163)
@pytest.mark.parametrize(
    ("job", "message"),
    [
        (file("/etc"), "/etc: is a directory"),
        (file("/etc/motd/x"), "/etc/motd"),
        (file("/x", owner="ghost"), "img_personality: /x: the user 'ghost' is not in"),
        (file("relative"), "'relative' is not an absolute path"),
        (replace(JOB, personality=(PersonalityFile("/x", "?"),)), "img_personality: /x: contents"),
    ],
)
def test_what_cannot_be_put_is_an_error_that_names_the_file(tmp_path: Path, job: Job, message: str) -> None:
    with guest_in(tmp_path, {"/etc/motd": "", **ACCOUNTS}) as guest, pytest.raises(GuestError, match=message):
        perform(enforce_personality.TASK, guest, job)


@pytest.mark.row(161)
def test_a_large_file_arrives_whole(tmp_path: Path) -> None:
    content = os.urandom(6 << 20)
    with guest_in(tmp_path) as guest:
        perform(enforce_personality.TASK, guest, file("/srv/large", content))
        assert (tmp_path / "srv/large").read_bytes() == content


@pytest.mark.row(161)
@pytest.mark.parametrize(
    ("owner", "group", "ids"), [("7", "8", (7, 8)), ("user", None, (1000, 0)), (None, "adm", (0, 4))]
)
def test_owners_are_names_of_the_guest_or_numbers(
    tmp_path: Path, owner: str | None, group: str | None, ids: tuple[int, int]
) -> None:
    with guest_in(tmp_path, ACCOUNTS) as guest:
        perform(enforce_personality.TASK, guest, file("/f", owner=owner, group=group))
        assert seen(guest, "/f")[:2] == ids


def test_a_second_time_no_file_is_written(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/same": "hello\n", "/longer": "hello\nmore\n"}) as guest:
        for path in ("/same", "/longer"):
            guest.chmod(path, 0o440)
        before = [(tmp_path / name).stat().st_ino for name in ("same", "longer")]
        perform(enforce_personality.TASK, guest, file("/same"))
        perform(enforce_personality.TASK, guest, file("/longer"))
        after = [(tmp_path / name).stat().st_ino for name in ("same", "longer")]
        assert [old == new for old, new in zip(before, after, strict=True)] == [True, False]
        assert guest.changed == {"/longer"}


@pytest.mark.row(197)
@pytest.mark.parametrize("path", ["/$(touch owned)", "/`id`;x", "/a\nb", "/ 'q\"", "/-rf", "/\x1b[2J"])
def test_a_path_is_a_name_and_nothing_else(tmp_path: Path, path: str) -> None:
    with guest_in(tmp_path) as guest:
        perform(enforce_personality.TASK, guest, file(path))
        assert [entry.name for entry in tmp_path.iterdir()] == [path[1:]]


@pytest.mark.row(162, 197)
@pytest.mark.parametrize("owner", ["0; rm -rf /", "-1", "4294967295", "root:x:0", "../x", "é", "0x0", "1" * 400])
def test_an_owner_is_a_number_or_a_name_of_the_guest(tmp_path: Path, owner: str) -> None:
    with guest_in(tmp_path, ACCOUNTS) as guest:
        with pytest.raises(GuestError, match="img_personality: /x"):
            perform(enforce_personality.TASK, guest, file("/x", owner=owner))
        assert not guest.changed


@pytest.mark.row(162)
def test_one_unknown_owner_keeps_all_files_from_being_written(tmp_path: Path) -> None:
    job = replace(JOB, personality=(*file("/good").personality, *file("/bad", owner="ghost").personality))
    with guest_in(tmp_path, ACCOUNTS) as guest:
        with pytest.raises(GuestError, match="/bad: the user 'ghost'"):
            perform(enforce_personality.TASK, guest, job)
        assert not guest.changed


def test_the_first_boots_script_installs_the_files_and_removes_everything(tmp_path: Path) -> None:
    path = f"{tmp_path}/srv/it's/a b"
    with guest_in(tmp_path / "guest") as guest:
        job = file(path, b"\0x\n", owner="nobody", group="daemon", mode=0o4751)
        perform(enforce_personality.TASK, guest, job, CLOUD_INIT="yes")
        script = "/var/lib/cloud/scripts/per-once/snf-image-personality.sh"
        assert seen(guest, "/var/lib/snf-image/personality/0") == (0, 0, 0o600)
        assert seen(guest, script)[2] == 0o700
        # The script speaks of the booted guest's paths; here the guest's root is a directory.
        body = text(guest, script).replace("/var/lib/", f"{tmp_path}/guest/var/lib/")
        sh("sh", stdin=body)
        assert Path(path).read_bytes() == b"\0x\n"
        found = Path(path).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (65534, 1, 0o4751)
        assert Path(path).parent.stat().st_mode & 0o7777 == 0o750
        assert Path(path).parent.stat().st_uid == 65534
        assert not guest.exists(script)
        assert guest.list_directory("/var/lib/snf-image/personality") == ()


def test_what_a_first_boot_cannot_give_to_its_owner_is_readable_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with guest_in(tmp_path / "guest") as guest:
        perform(
            enforce_personality.TASK, guest, file(str(path), b"secret", owner="ghost", mode=0o400), CLOUD_INIT="yes"
        )
        script = text(guest, "/var/lib/cloud/scripts/per-once/snf-image-personality.sh")
    body = "umask 022\n" + script.replace("/var/lib/", f"{tmp_path}/guest/var/lib/")
    assert subprocess.run(["sh"], input=body, text=True, capture_output=True, check=False).returncode
    left = [found for found in tmp_path.rglob("*") if found.is_file() and found.read_bytes() == b"secret"]
    assert left and all(found.stat().st_mode & 0o077 == 0 for found in left)
