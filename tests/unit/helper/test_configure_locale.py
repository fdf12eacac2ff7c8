# SPDX-License-Identifier: GPL-2.0-or-later
"""ConfigureLocale on trees: time zone, language and keyboard in the file that each distribution reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from snf_image_helper.linux.keyboards import layout
from snf_image_helper.tasks.configure_locale import TASK
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import job
from unit.helper.guest_tools import GuestTools
from unit.helper.guest_trees import guest_in, perform, put, seen, text

pytestmark = pytest.mark.root

ATHENS = b"TZif2\0of Athens\xff"
ZONE = {"/usr/share/zoneinfo/Europe/Athens": ATHENS, "/usr/share/zoneinfo/UTC": b"TZif2\0of nowhere"}
SYSTEMD = {"/usr/lib/systemd/systemd": ""}
MAPS = {"/usr/lib/kbd/keymaps/xkb/gr.map.gz": "", "/usr/lib/kbd/keymaps/legacy/i386/qwertz/de-latin1.map.gz": ""}


def release(name: str) -> dict[str, str]:
    return {"/etc/os-release": f"ID={name}\n"}


def picture(root: Path) -> dict[str, tuple[int, int]]:
    """Every file of the tree, and when it was last written."""
    return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in root.rglob("*")}


@pytest.mark.parametrize("before", ["../usr/share/zoneinfo/UTC", "/nowhere", None])
def test_the_time_zone_is_a_relative_link(tmp_path: Path, before: str | None) -> None:
    with guest_in(tmp_path, {"/etc/os-release": "ID=debian\n", **ZONE}) as guest:
        if before:
            guest.symlink(before, "/etc/localtime")
        perform(TASK, guest, TIMEZONE="Europe/Athens")
        assert guest.link_target("/etc/localtime") == "../usr/share/zoneinfo/Europe/Athens"
        assert guest.read_bytes("/etc/localtime") == ATHENS
        assert guest.changed == {"/etc/localtime"}
        assert guest.list_directory("/etc") == ("localtime", "os-release")


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("/etc/timezone", "Etc/UTC\n", "Europe/Athens\n"),
        ("/etc/sysconfig/clock", 'UTC=true\nZONE="America/New_York"\n', 'UTC=true\nZONE="Europe/Athens"\n'),
        ("/etc/sysconfig/clock", 'TIMEZONE="UTC"\nHWCLOCK="-u"\n', 'TIMEZONE="Europe/Athens"\nHWCLOCK="-u"\n'),
        ("/etc/rc.conf", "#TIMEZONE=x\nTIMEZONE=UTC\nKEYMAP=us\n", "#TIMEZONE=x\nTIMEZONE=Europe/Athens\nKEYMAP=us\n"),
        ("/etc/rc.conf", '#TIMEZONE="UTC"\n', '#TIMEZONE="UTC"\n'),
    ],
)
def test_files_that_name_the_time_zone_once_more_follow(tmp_path: Path, path: str, before: str, after: str) -> None:
    with guest_in(tmp_path, {path: before, **ZONE}) as guest:
        perform(TASK, guest, TIMEZONE="Europe/Athens")
        assert text(guest, path) == after


def test_a_copy_of_the_time_zone_becomes_another_copy(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/etc/localtime": b"TZif2\0old", **ZONE}) as guest:
        perform(TASK, guest, TIMEZONE="Europe/Athens")
        assert (tmp_path / "etc/localtime").read_bytes() == ATHENS
        assert not guest.is_link("/etc/localtime")


@pytest.mark.parametrize("name", ["Europe/Atlantis", "Europe", "leap-seconds"])
def test_a_zone_that_the_guest_does_not_have_is_an_error(tmp_path: Path, name: str) -> None:
    with guest_in(tmp_path, {"/usr/share/zoneinfo/leap-seconds": "#", **ZONE}) as guest:
        with pytest.raises(GuestError, match=f"the guest has no /usr/share/zoneinfo/{name}; correct the name"):
            perform(TASK, guest, TIMEZONE=name)
        assert not guest.changed


def test_a_guest_without_zones_says_what_to_install(tmp_path: Path) -> None:
    with guest_in(tmp_path, release("alpine")) as guest, pytest.raises(GuestError, match="install tzdata"):
        perform(TASK, guest, TIMEZONE="UTC")


@pytest.mark.parametrize(
    "name", ["../../etc/shadow", "/UTC", "Europe/../UTC", "a\nb", "UTC/", "-x", "a/b/c/d", "é", "."]
)
def test_what_is_no_time_zone_is_refused_while_planning(name: str) -> None:
    with pytest.raises(GuestError, match="property TIMEZONE"):
        assert TASK.skip(job(TIMEZONE=name))


@pytest.mark.parametrize(
    ("system", "files", "path", "after"),
    [
        ("debian", {"/etc/default/locale": 'LANG="C.UTF-8"\n'}, "/etc/default/locale", 'LANG="el_GR.UTF-8"\n'),
        ("debian", {}, "/etc/default/locale", 'LANG="el_GR.UTF-8"\n'),
        ("fedora", {**SYSTEMD, "/etc/locale.conf": "LANG=en_US.UTF-8\nLC_TIME=C\n"}, "/etc/locale.conf", None),
        ("rhel", {"/etc/sysconfig/i18n": 'LANG="C"\nSYSFONT="x"'}, "/etc/sysconfig/i18n", None),
        ("sles", {"/etc/sysconfig/language": 'RC_LANG="POSIX"\n'}, "/etc/sysconfig/language", None),
        ("gentoo", {"/etc/profile.env": "export A='1'\nexport LANG='C'\n"}, "/etc/profile.env", None),
        ("alpine", {}, "/etc/profile.d/00-snf-image-locale.sh", None),
        ("slackware", {"/etc/profile.d/lang.sh": "#!/bin/sh\nexport LANG=en_US\n"}, "/etc/profile.d/lang.sh", None),
        ("void", {"/etc/locale.conf": "LANG=en_US.UTF-8\n"}, "/etc/locale.conf", None),
    ],
)
def test_the_language_stands_where_the_distribution_reads_it(
    tmp_path: Path, system: str, files: dict[str, str], path: str, after: str | None
) -> None:
    with guest_in(tmp_path, {**release(system), **files}) as guest:
        perform(TASK, guest, LOCALE="el_GR.UTF-8")
        assert text(guest, path) == (after or LANGUAGE[path, system])
        once = picture(tmp_path)
        perform(TASK, guest, LOCALE="el_GR.UTF-8")
        assert picture(tmp_path) == once


LANGUAGE = {
    ("/etc/locale.conf", "fedora"): "LANG=el_GR.UTF-8\nLC_TIME=C\n",
    ("/etc/sysconfig/i18n", "rhel"): 'LANG="el_GR.UTF-8"\nSYSFONT="x"',
    ("/etc/sysconfig/language", "sles"): 'RC_LANG="el_GR.UTF-8"\nLANG="el_GR.UTF-8"\n',
    ("/etc/profile.env", "gentoo"): "export A='1'\nexport LANG='el_GR.UTF-8'\n",
    ("/etc/profile.d/00-snf-image-locale.sh", "alpine"): "# Written by snf-image.\nexport LANG=el_GR.UTF-8\n",
    ("/etc/profile.d/lang.sh", "slackware"): "#!/bin/sh\nexport LANG=el_GR.UTF-8\n",
    ("/etc/locale.conf", "void"): "LANG=el_GR.UTF-8\n",
}


def test_debians_link_to_locale_conf_stays_a_link(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**release("debian"), "/etc/locale.conf": "LANG=C\n"}) as guest:
        guest.make_directory("/etc/default")
        guest.symlink("../locale.conf", "/etc/default/locale")
        perform(TASK, guest, LOCALE="C.UTF-8")
        assert text(guest, "/etc/locale.conf") == "LANG=C.UTF-8\n"
        assert guest.link_target("/etc/default/locale") == "../locale.conf"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# de_DE.UTF-8 UTF-8\n# el_GR.UTF-8 UTF-8\n", "# de_DE.UTF-8 UTF-8\nel_GR.UTF-8 UTF-8\n"),
        ("#el_GR.UTF-8 UTF-8  \n", "el_GR.UTF-8 UTF-8\n"),
        ("# none\n", "# none\nel_GR.UTF-8 UTF-8\n"),
    ],
)
def test_a_locale_that_is_not_generated_is_a_warning_and_will_be(tmp_path: Path, before: str, after: str) -> None:
    with guest_in(tmp_path, {**release("debian"), "/etc/locale.gen": before}) as guest:
        said = perform(TASK, guest, LOCALE="el_GR.UTF-8")
        assert [warning.partition(":")[0] for warning in said.warnings] == [
            "The guest has not generated the locale el_GR.UTF-8"
        ]
        assert text(guest, "/etc/locale.gen") == after


@pytest.mark.parametrize(("name", "warnings"), [("el_GR.UTF-8", 0), ("el_GR", 1), ("de_DE.UTF-8", 1), ("C.UTF-8", 0)])
def test_the_locales_of_an_archive_of_glibc_are_known(tmp_path: Path, cache: Path, name: str, warnings: int) -> None:
    tools = GuestTools.unpack(cache)
    with guest_in(tmp_path / "guest", release("debian")) as guest:
        guest.make_directory("/usr/lib/locale")
        source = f"I18NPATH={tools.root}/usr/share/i18n"
        tools.run("env", source, "localedef", f"--prefix={guest.root}", "-i", "el_GR", "-f", "UTF-8", "el_GR.UTF-8")
        assert len(perform(TASK, guest, LOCALE=name).warnings) == warnings


def test_the_locales_in_directories_are_known(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**release("fedora"), **SYSTEMD, "/usr/lib/locale/el_GR.utf8/LC_TIME": ""}) as guest:
        assert perform(TASK, guest, LOCALE="el_GR.UTF-8").warnings == []


@pytest.mark.parametrize("name", ["el", "el_GR.UTF-8; reboot", "../x", "el_GR.UTF-8\n", "$(x)", "C.UTF-8@A", "-C"])
def test_what_is_no_locale_is_refused_while_planning(name: str) -> None:
    with pytest.raises(GuestError, match="property LOCALE"):
        assert TASK.skip(job(LOCALE=name))


@pytest.mark.parametrize(
    ("system", "files", "path", "after"),
    [
        (
            "debian",
            {"/etc/default/keyboard": 'XKBMODEL="pc105"\nXKBLAYOUT="us"\n', "/bin/setupcon": ""},
            "/etc/default/keyboard",
            'XKBMODEL="pc105"\nXKBLAYOUT="de"\nXKBVARIANT=""\n',
        ),
        ("fedora", {**SYSTEMD, **MAPS}, "/etc/vconsole.conf", 'KEYMAP="de-latin1"\n'),
        ("gentoo", {**MAPS, "/etc/conf.d/keymaps": 'keymap="us"\n'}, "/etc/conf.d/keymaps", 'keymap="de-latin1"\n'),
        ("centos", {**MAPS, "/etc/sysconfig/keyboard": 'KEYTABLE="us"\n'}, "/etc/sysconfig/keyboard", None),
        ("sles", {**MAPS, "/etc/sysconfig/keyboard": 'KEYTABLE="us"\n'}, "/etc/sysconfig/keyboard", None),
        ("void", {**MAPS, "/etc/runit/1": "", "/etc/rc.conf": "#KEYMAP=es\n"}, "/etc/rc.conf", None),
        (
            "alpine",
            {"/usr/share/bkeymaps/de/de-latin1.bmap.gz": b"\x1f\x8b\xff", "/etc/conf.d/loadkmap": "KEYMAP=/x\n"},
            "/etc/conf.d/loadkmap",
            "KEYMAP=/etc/keymap/de-latin1.bmap.gz\n",
        ),
    ],
)
def test_the_keymap_stands_where_the_distribution_reads_it(
    tmp_path: Path, system: str, files: dict[str, str | bytes], path: str, after: str | None
) -> None:
    with guest_in(tmp_path, {**release(system), **files}) as guest:
        assert perform(TASK, guest, KEYMAP="de-latin1").warnings == []
        assert text(guest, path) == (after or KEYMAP[system])
        if system == "alpine":
            assert (tmp_path / "etc/keymap/de-latin1.bmap.gz").read_bytes() == b"\x1f\x8b\xff"
        once = picture(tmp_path)
        perform(TASK, guest, KEYMAP="de-latin1")
        assert picture(tmp_path) == once


KEYMAP = {
    "centos": 'KEYTABLE="de-latin1"\n',
    "sles": 'KEYTABLE="de-latin1.map.gz"\n',
    "void": '#KEYMAP=es\nKEYMAP="de-latin1"\n',
}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("us", ("us", "")),
        ("uk", ("gb", "")),
        ("de-latin1-nodeadkeys", ("de", "nodeadkeys")),
        ("dvorak", ("us", "dvorak")),
        ("fr-latin9", ("fr", "")),
        ("la-latin1", ("latam", "")),
    ],
)
def test_a_console_keymap_has_a_layout_of_x(name: str, wanted: tuple[str, str]) -> None:
    assert layout(name) == wanted


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({**SYSTEMD, **MAPS}, "the guest has no keymap xx"),
        (SYSTEMD, "install kbd in the image"),
        ({"/etc/alpine-release": ""}, "install kbd-bkeymaps"),
        ({"/etc/slackware-version": ""}, "nothing in the guest says where its keymap belongs"),
        ({"/etc/debian_version": "", "/usr/share/X11/xkb/symbols/us": ""}, "has no /usr/share/X11/xkb/symbols/xx"),
    ],
)
def test_a_keymap_that_cannot_be_is_an_error(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with guest_in(tmp_path, files) as guest:
        with pytest.raises(GuestError, match=message):
            perform(TASK, guest, KEYMAP="xx")
        assert not guest.changed


@pytest.mark.parametrize("name", ["../us", "us;x", "a b", "-us", "us\n", "x" * 50])
def test_what_is_no_keymap_is_refused_while_planning(name: str) -> None:
    with pytest.raises(GuestError, match="property KEYMAP"):
        assert TASK.skip(job(KEYMAP=name))


def test_without_the_properties_it_is_skipped() -> None:
    assert TASK.skip(job()) == "none of the properties TIMEZONE, LOCALE and KEYMAP is set"


def test_nothing_is_written_when_one_of_three_is_impossible(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**release("fedora"), **SYSTEMD, **ZONE}) as guest:
        with pytest.raises(GuestError, match="KEYMAP"):
            perform(TASK, guest, TIMEZONE="UTC", LOCALE="C.UTF-8", KEYMAP="us")
        assert not guest.changed


def test_all_three_share_one_file_and_keep_its_mode(tmp_path: Path) -> None:
    files = {**ZONE, **MAPS, "/etc/runit/1": "", "/etc/rc.conf": "TIMEZONE=UTC\nKEYMAP=us\n", "/etc/locale.conf": ""}
    with guest_in(tmp_path, files) as guest:
        put(tmp_path, release("void"))
        guest.chmod("/etc/rc.conf", 0o600)
        perform(TASK, guest, TIMEZONE="Europe/Athens", LOCALE="C.UTF-8", KEYMAP="gr")
        assert text(guest, "/etc/rc.conf") == "TIMEZONE=Europe/Athens\nKEYMAP=gr\n"
        assert seen(guest, "/etc/rc.conf") == (0, 0, 0o600)


def test_a_directory_in_the_place_of_a_link_is_an_error_that_names_it(tmp_path: Path) -> None:
    with guest_in(tmp_path, ZONE) as guest:
        guest.make_directory("/etc/localtime")
        with pytest.raises(GuestError, match="/etc/localtime: is a directory"):
            perform(TASK, guest, TIMEZONE="UTC")
