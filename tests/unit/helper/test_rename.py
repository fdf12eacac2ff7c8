# SPDX-License-Identifier: GPL-2.0-or-later
"""Renaming guests on trees: those that bear the old name get the new one, wherever their distribution keeps it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from snf_image_helper.linux.host_names import Renaming
from snf_image_helper.rename import rename_guest
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import Listener, private_mounts, sh
from unit.helper.guest_trees import guest_in, put

pytestmark = [pytest.mark.root, pytest.mark.row(9)]

OLD, NEW = "web1.example.com", "web2.example.org"
DEBIAN = {"/etc/os-release": "ID=debian\n"}
SEED = "/var/lib/cloud/seed/nocloud-net/meta-data"


def renamed(root: Path, files: Mapping[str, str], old: str = OLD, new: str = NEW) -> tuple[str | None, list[str]]:
    """Why the guest with these files was left alone, or None; and the warnings."""
    listener = Listener()
    with guest_in(root, files) as guest:
        return rename_guest(guest, Renaming(old, new), listener.reporter), listener.warnings


def contents(root: Path) -> dict[str, str]:
    """Every file of the tree by its guest path: what was left beside one would be seen."""
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {"/" + str(path.relative_to(root)): path.read_text(errors="surrogateescape") for path in found}


@pytest.mark.image_row(56, 57, 58, 61)
@pytest.mark.parametrize("style", ["web1", OLD])
@pytest.mark.parametrize(
    ("release", "files"),
    [
        ("debian", {"/etc/hostname": "{name}\n", "/etc/hosts": "127.0.1.1\t{fqdn} {short}\n"}),
        ("debian", {"/etc/hostname": "# ours\n{name}", "/etc/mailname": "{fqdn}\n"}),
        ("rocky", {"/etc/hostname": "{name}\n", "/etc/sysconfig/network": "# created by anaconda\n"}),
        ("centos", {"/etc/sysconfig/network": "NETWORKING=yes\nHOSTNAME={name}\nGATEWAY=192.0.2.1\n"}),
        ("centos", {"/etc/hostname": "{name}\n", "/etc/sysconfig/network": "HOSTNAME='{fqdn}'\n"}),
        ("sles", {"/etc/HOSTNAME": "{name}\n"}),
        ("opensuse-leap", {"/etc/hostname": "{name}\n", "/etc/HOSTNAME": "{name}\n"}),
        ("slackware", {"/etc/HOSTNAME": "{name}\n", "/etc/hosts": "198.51.100.1 {fqdn} {short} # {fqdn}: was\n"}),
        ("gentoo", {"/etc/conf.d/hostname": '# set\nhostname="{name}"\n'}),
        ("gentoo", {"/etc/conf.d/hostname": 'HOSTNAME="{name}"\n'}),
        ("gentoo", {"/etc/conf.d/hostname": 'hostname="localhost"\n', "/etc/hostname": "{name}\n"}),
        ("arch", {"/etc/hostname": "{name}\n", "/etc/hosts": "127.0.0.1\tlocalhost {fqdn} {short}\n"}),
        ("arch", {"/etc/rc.conf": 'LOCALE="C"\nHOSTNAME="{name}"\n'}),
        ("alpine", {"/etc/hostname": "{name}\n", "/etc/hosts": "127.0.0.1 {short} localhost\n"}),
        ("flatcar", {"/etc/hostname": "{name}\n"}),
        ("plan9", {"/etc/hostname": "{name}\n"}),
    ],
)
def test_each_family_is_renamed_in_its_own_places_and_style(
    tmp_path: Path, release: str, files: Mapping[str, str], style: str
) -> None:
    def filled(fqdn: str) -> dict[str, str]:
        short = fqdn.partition(".")[0]
        words = {"name": fqdn if style == OLD else short, "fqdn": fqdn, "short": short}
        return {path: text.format(**words) for path, text in files.items()}

    system = {"/etc/os-release": f"ID={release}\n", "/etc/motd": "welcome to web1\n"}
    expected = {**system, **filled(NEW)}
    expected = {path: text.replace(f"# {NEW}: was", f"# {OLD}: was") for path, text in expected.items()}
    for _ in range(2):
        assert renamed(tmp_path, {} if contents(tmp_path) else {**system, **filled(OLD)}) == (None, [])
        assert contents(tmp_path) == expected


@pytest.mark.image_row(60)
def test_the_short_name_is_known_in_a_domain_of_any_depth(tmp_path: Path) -> None:
    files = {**DEBIAN, "/etc/hostname": "web1\n"}
    assert renamed(tmp_path, files, "web1.a.b.c.d.example.com", "web2.a.b.c.d.example.com") == (None, [])
    assert (tmp_path / "etc/hostname").read_text() == "web2\n"


def test_the_files_stay_what_they_were_for_others(tmp_path: Path) -> None:
    put(tmp_path, {**DEBIAN, "/etc/hostname": "web1\n", "/etc/hosts": "127.0.1.1 web1\n"})
    for name, mode, owner in (("hostname", 0o640, 7), ("hosts", 0o444, 8)):
        os.chown(tmp_path / "etc" / name, owner, owner)
        (tmp_path / "etc" / name).chmod(mode)
    assert renamed(tmp_path, {})[0] is None
    found = [(tmp_path / "etc" / name).stat() for name in ("hostname", "hosts")]
    assert [(entry.st_uid, entry.st_gid, entry.st_mode & 0o7777) for entry in found] == [(7, 7, 0o640), (8, 8, 0o444)]


def test_a_link_leads_to_the_file_that_is_meant_and_stays(tmp_path: Path) -> None:
    put(tmp_path, {"/etc/os-release": "ID=sles\n", "/etc/hostname": "web1\n"})
    (tmp_path / "etc/HOSTNAME").symlink_to("hostname")
    assert renamed(tmp_path, {})[0] is None
    assert os.readlink(tmp_path / "etc/HOSTNAME") == "hostname"
    assert (tmp_path / "etc/hostname").read_text() == "web2\n"


@pytest.mark.image_row(59)
@pytest.mark.parametrize("name", ["db", "web1.internal", "web11", "\x1b[2Jodd"])
def test_a_guest_that_was_renamed_by_hand_is_left_alone_and_both_names_are_told(tmp_path: Path, name: str) -> None:
    files = {**DEBIAN, "/etc/hostname": f"{name}\n", "/etc/hosts": f"127.0.1.1 {OLD} web1\n", "/etc/mailname": OLD}
    reason, _ = renamed(tmp_path, files)
    assert reason is not None
    assert name.replace("\x1b", "?") in reason
    assert OLD in reason
    assert reason.isprintable()
    assert contents(tmp_path) == files


@pytest.mark.parametrize("text", [None, "", "\n", "localhost\n", "localhost.localdomain\n", "(none)\n", "# none\n"])
def test_a_guest_that_has_no_name_of_its_own_gets_none(tmp_path: Path, text: str | None) -> None:
    files = {**DEBIAN, "/etc/hosts": "127.0.1.1 web1\n"} | ({} if text is None else {"/etc/hostname": text})
    reason, _ = renamed(tmp_path, files)
    assert reason is not None
    assert "no name of its own" in reason
    assert contents(tmp_path) == files


def test_an_older_place_that_nobody_reads_any_more_does_not_decide(tmp_path: Path) -> None:
    files = {"/etc/os-release": "ID=rocky\n", "/etc/hostname": "web1\n", "/etc/sysconfig/network": "HOSTNAME=ancient\n"}
    assert renamed(tmp_path, files) == (None, [])
    assert contents(tmp_path) == {**files, "/etc/hostname": "web2\n"}


def test_what_a_killed_run_has_not_reached_is_done_by_the_next(tmp_path: Path) -> None:
    files = {**DEBIAN, "/etc/hostname": "web2\n", "/etc/hosts": f"127.0.1.1 {OLD} web1\n", "/etc/mailname": OLD}
    assert renamed(tmp_path, files) == (None, [])
    assert contents(tmp_path)["/etc/hosts"] == f"127.0.1.1 {NEW} web2\n"
    assert contents(tmp_path)["/etc/mailname"] == NEW


def test_a_foreign_mail_name_stays(tmp_path: Path) -> None:
    files = {**DEBIAN, "/etc/hostname": "web1\n", "/etc/mailname": "example.com\n"}
    assert renamed(tmp_path, files)[0] is None
    assert contents(tmp_path)["/etc/mailname"] == "example.com\n"


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    new = "web2." + "sub." * 20 + "example.org"
    reason, warnings = renamed(tmp_path, {**DEBIAN, "/etc/hostname": f"{OLD}\n"}, new=new)
    assert reason is None
    assert len(warnings) == 1
    assert contents(tmp_path)["/etc/hostname"] == "web2\n"


def seed(name: object) -> str:
    return json.dumps({"instance-id": OLD, "local-hostname": name})


def test_a_seed_that_cloud_init_has_not_read_yet_is_the_name(tmp_path: Path) -> None:
    assert renamed(tmp_path, {**DEBIAN, "/etc/hostname": "image\n", SEED: seed(OLD)}) == (None, [])
    found = contents(tmp_path)
    assert found["/etc/hostname"] == "image\n"
    assert json.loads(found[SEED]) == {"instance-id": OLD, "local-hostname": NEW}


def test_once_cloud_init_has_named_the_guest_both_change(tmp_path: Path) -> None:
    files = {**DEBIAN, "/etc/hostname": "web1\n", SEED: seed(OLD), f"/var/lib/cloud/instances/{OLD}/datasource": ""}
    assert renamed(tmp_path, files) == (None, [])
    assert contents(tmp_path)["/etc/hostname"] == "web2\n"
    assert json.loads(contents(tmp_path)[SEED])["local-hostname"] == NEW


def test_cloud_inits_seed_does_not_overrule_a_name_given_by_hand(tmp_path: Path) -> None:
    files = {**DEBIAN, "/etc/hostname": "db\n", SEED: seed(OLD), f"/var/lib/cloud/instances/{OLD}/datasource": ""}
    reason, _ = renamed(tmp_path, files)
    assert reason is not None
    assert "db" in reason
    assert contents(tmp_path) == files


def test_a_seed_with_half_a_character_in_it_is_a_reason_to_leave_the_guest_alone(tmp_path: Path) -> None:
    files = {**DEBIAN, "/etc/hostname": "web1\n", SEED: '{"instance-id": "\\ud800", "local-hostname": "web1"}'}
    with pytest.raises(GuestError, match="no text that can be a path"):
        renamed(tmp_path, files)
    assert contents(tmp_path) == files


@pytest.mark.parametrize("text", ["instance-id: x\n", "[1]", "[" * 50_000, '{"local-hostname": 7}', seed(None)])
def test_a_seed_of_somebody_elses_making_stays_as_it_is(tmp_path: Path, text: str) -> None:
    files = {**DEBIAN, "/etc/hostname": "web1\n", SEED: text}
    assert renamed(tmp_path, files) == (None, [])
    assert contents(tmp_path) == {**files, "/etc/hostname": "web2\n"}


@contextmanager
def small_file_system(place: Path) -> Iterator[None]:
    """An ext4 of 2 MiB at `place`, where files can be immutable and nothing fits in soon."""
    place.mkdir()
    disk = place.with_name("disk")
    with disk.open("wb") as file:
        file.truncate(2 << 20)
    sh("mkfs.ext4", "-q", "-F", "-m", "0", str(disk))
    with private_mounts():
        sh("mount", "-o", "loop", str(disk), str(place))
        try:
            yield
        finally:
            sh("umount", str(place))


def fill(root: Path, blocks_left: int) -> None:
    """Leave no more room than that on the file system."""
    subprocess.run(["dd", "if=/dev/zero", f"of={root}/full", "bs=1024"], capture_output=True, check=False)
    os.truncate(root / "full", (root / "full").stat().st_size - blocks_left * os.statvfs(root).f_bsize)
    os.sync()


FILES = {**DEBIAN, "/etc/hostname": "web1\n", "/etc/hosts": f"127.0.1.1 {OLD} web1\n", "/etc/mailname": f"{OLD}\n"}


@pytest.mark.parametrize("which", ["hostname", "hosts", "mailname"])
def test_a_file_that_must_not_be_changed_keeps_all_of_them_from_changing(tmp_path: Path, which: str) -> None:
    root = tmp_path / "root"
    with small_file_system(root):
        put(root, FILES)
        sh("chattr", "+i", str(root / "etc" / which))
        with pytest.raises(GuestError, match=f"/etc/{which}: is immutable"):
            renamed(root, {})
        assert contents(root) == FILES


GENTOO = {
    "/etc/os-release": "ID=gentoo\n",
    **{"/etc/conf.d/hostname": 'hostname="web1"\n', "/etc/hosts": f"127.0.1.1 {OLD} web1\n"},
}


@pytest.mark.parametrize(("directory", "flag"), [("etc", "+a"), ("etc", "+i"), ("etc/conf.d", "+a")])
def test_a_directory_that_lets_no_file_go_keeps_all_of_them_from_changing(
    tmp_path: Path, directory: str, flag: str
) -> None:
    root = tmp_path / "root"
    with small_file_system(root):
        put(root, GENTOO)
        sh("chattr", flag, str(root / directory))
        with pytest.raises(GuestError, match=f"/{directory}/host.*: is immutable or append-only"):
            renamed(root, {})
        assert contents(root) == GENTOO


@pytest.mark.parametrize("names", range(24, 29))  # with 26 of them the first block of /etc is full
def test_without_room_for_the_new_names_of_files_all_change_or_none(tmp_path: Path, names: int) -> None:
    root = tmp_path / "root"
    with small_file_system(root):
        put(root, {**GENTOO, **{f"/etc/filler-{number:018}": "" for number in range(names)}})
        before = contents(root)
        fill(root, blocks_left=2)
        try:
            renamed(root, {})
        except GuestError:
            expected = before
        else:
            expected = {path: text.replace(OLD, NEW).replace("web1", "web2") for path, text in before.items()}
        assert {path: text for path, text in contents(root).items() if path != "/full"} == expected


@pytest.mark.parametrize("blocks_left", [0, 1, 2])
def test_on_a_full_file_system_all_files_change_or_none(tmp_path: Path, blocks_left: int) -> None:
    root = tmp_path / "root"
    with small_file_system(root):
        put(root, FILES)
        fill(root, blocks_left)
        with pytest.raises(GuestError, match="the guest's file system is full"):
            renamed(root, {})
        assert {path: text for path, text in contents(root).items() if path != "/full"} == FILES
        (root / "full").unlink()
        assert renamed(root, {}) == (None, [])
