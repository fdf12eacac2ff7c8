# SPDX-License-Identifier: GPL-2.0-or-later
"""rc.conf and its like: what they assign, as a shell sees it; and scripts of the first boot, run by a real shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.bsd import first_boot, rc_conf
from snf_image_helper.bsd.first_boot import FIRSTTIME, SECURELEVEL, Moment, Step
from snf_image_helper.bsd.rc_conf import RcConf
from snf_image_helper.files.edits import Edits
from snf_image_helper.system import OsFamily
from snf_image_shared.errors import GuestError
from unit.helper.bsd_trees import FAMILIES, bsd_with, files_of, phony_bsd, run_script
from unit.helper.guest_trees import seen, text


def by_shell(content: str, name: str) -> str:
    """What sh(1) makes of the variable."""
    done = subprocess.run(
        ["sh", "-c", f'{content}\nprintf "%s" "${{{name}-unset}}"'], capture_output=True, text=True, check=True
    )
    return " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "content",
    [
        'hostname="old.example.com"\n',
        "hostname=old\n",
        "hostname='old' # the short one\n",
        '#hostname="no"\nsshd_enable=YES\n',
        'hostname="one"\nhostname="two"\n',
        'hostname="a \\\n\tb"\nother="x"\n',
        "hostname=\"a\nb\"\nother='hostname=no'\n",
        'if true; then\n\thostname="inside"\nfi\n',
        "export hostname=exported\n",
        "hostname=old; other=x\n",
        'hostname="old" other="x y"\n',
        'hostname=old && other="x\ny"\n',
        "case a in\na)\n\thostname=old;;\nesac\n",
        "",
    ],
)
def test_a_value_is_what_a_shell_says_before_and_after_it_is_set(tmp_path: Path, content: str) -> None:
    with bsd_with(tmp_path / "guest", OsFamily.FREEBSD, {"/etc/rc.conf": content}) as guest:
        edits = Edits(guest)
        configuration = RcConf(edits)
        assert (configuration.value("hostname") or "unset") == by_shell(content, "hostname")
        configuration.set("hostname", "web.example.com")
        edits.apply()
        new = text(guest, "/etc/rc.conf")
    assert by_shell(new, "hostname") == "web.example.com"
    assert by_shell(new, "other") == by_shell(content, "other")
    assert new.count('hostname="web.example.com"') == max(1, sum(a.name == "hostname" for a in assigned(content)))


def assigned(content: str) -> list[rc_conf.Assignment]:
    return list(rc_conf.assignments(content))


@given(st.text(alphabet="ab=\"'\\# \n\t$`", max_size=60))
def test_whatever_a_file_says_it_says_a_value_that_was_set(content: str) -> None:
    new = rc_conf.assign(content, "name", "value of it")
    assert [item.value for item in assigned(new) if item.name == "name"][-1:] == ["value of it"]
    assert rc_conf.assign(new, "name", "value of it") == new


def test_lines_that_go_on_and_on_are_read_once() -> None:
    assert len(assigned("name=\\\n" * 1000)) == 4


@pytest.mark.parametrize("value", ['a"b', "a$b", "a`b", "a\\b", "a\nb", "a'b"])
def test_a_value_that_a_shell_would_read_is_refused(value: str) -> None:
    with pytest.raises(GuestError, match="quote"):
        rc_conf.assign("", "name", value)


@pytest.mark.parametrize("content", ["name=$(echo a; echo b)", 'name="`echo "a; b"`"', "name=a\\;b", 'name=a"; b"'])
def test_of_a_value_that_a_shell_would_work_out_nothing_stays(content: str) -> None:
    assert rc_conf.assign(f"{content}\n", "name", "new") == 'name="new"\n'


def test_every_file_that_freebsd_reads_says_the_new_value(tmp_path: Path) -> None:
    files = {
        "/etc/rc.conf": 'hostname="a"\n',
        "/etc/rc.conf.local": "hostname=b\n",
        "/etc/rc.conf.d/hostname": 'hostname="c"\n',
        "/etc/rc.conf.d/netif/mine": "other=1\n",
    }
    with bsd_with(tmp_path / "guest", OsFamily.FREEBSD, files) as guest:
        edits = Edits(guest)
        RcConf(edits).set("hostname", "web")
        assert edits.paths == ("/etc/rc.conf", "/etc/rc.conf.d/hostname", "/etc/rc.conf.local")
        edits.apply()
        assert RcConf(Edits(guest)).value("hostname") == "web"


def test_openbsd_is_configured_in_rc_conf_local(tmp_path: Path) -> None:
    with bsd_with(tmp_path / "guest", OsFamily.OPENBSD, {"/etc/rc.conf": "sshd_flags=\n"}) as guest:
        edits = Edits(guest)
        RcConf(edits).set("ntpd_flags", "NO")
        edits.apply()
        assert text(guest, "/etc/rc.conf.local") == 'ntpd_flags="NO"\n'
        assert text(guest, "/etc/rc.conf") == "sshd_flags=\n"


STEP = Step("passwords", ("one", "two"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("moment", Moment)
def test_a_step_is_put_once_however_often(tmp_path: Path, family: OsFamily, moment: Moment) -> None:
    step = Step("passwords", ("one", "two"), moment)
    with bsd_with(tmp_path / "guest", family, {"/etc/rc.d/x": ""}) as guest:
        first_boot.add(guest, step)
        before = files_of(guest)
        first_boot.add(guest, step)
        assert files_of(guest) == before


@pytest.mark.parametrize("name", ["phony-freebsd-14.3", "phony-netbsd-10.1", "phony-openbsd-7.7"])
def test_a_step_that_succeeds_removes_itself_and_one_that_fails_stays(tmp_path: Path, name: str) -> None:
    log = tmp_path / "log"
    with phony_bsd(tmp_path, name) as guest:
        hook = guest.read_text(SECURELEVEL, missing_ok=True)
        first_boot.add(guest, STEP)
        path = first_boot.script_path(guest, "passwords")
        said = run_script(guest, path, {"one": f"echo one >>{log}", "two": "false"})
        assert "tried again" in said
        assert guest.exists(path)
        said = run_script(guest, path, {"one": f"echo one >>{log}", "two": f"echo two >>{log}"})
        assert said == ""
        assert not guest.exists(path)
        assert guest.read_text(SECURELEVEL, missing_ok=True) == hook
    assert log.read_text() == "one\none\ntwo\n"


def test_a_hook_that_only_snf_image_made_goes_with_its_step(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-openbsd-7.6") as guest:
        first_boot.add(guest, STEP)
        assert guest.exists(SECURELEVEL)
        run_script(guest, "/etc/rc.snf_image_passwords", {"one": "", "two": ""})
        assert not guest.exists(SECURELEVEL)
        assert not guest.exists(f"{SECURELEVEL}.new")


def test_the_hook_stands_before_what_the_administrator_left_there(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-openbsd-7.7") as guest:
        first_boot.add(guest, STEP)
        lines = text(guest, SECURELEVEL).split("\n")
    assert lines[:3] == [
        "#!/bin/sh",
        "[ -f /etc/rc.snf_image_passwords ] && sh /etc/rc.snf_image_passwords",
        "# of the admin",
    ]


def test_what_is_last_on_openbsd_is_left_to_rc_firsttime(tmp_path: Path) -> None:
    with bsd_with(tmp_path / "guest", OsFamily.OPENBSD, {FIRSTTIME: "exit 0\n"}) as guest:
        first_boot.add(guest, Step("swap", ("one", "two"), Moment.LAST))
        assert text(guest, FIRSTTIME) == "# snf-image: swap\none &&\n\ttwo\nexit 0\n"


@pytest.mark.parametrize(
    ("family", "moment", "order"),
    [
        (OsFamily.FREEBSD, Moment.BEFORE_LOGINS, ["# REQUIRE: FILESYSTEMS", "# BEFORE: NETWORKING nuageinit"]),
        (OsFamily.FREEBSD, Moment.LAST, ["# REQUIRE: LOGIN"]),
        (OsFamily.NETBSD, Moment.BEFORE_LOGINS, ["# REQUIRE: mountcritremote", "# BEFORE: SERVERS DAEMON LOGIN"]),
    ],
)
def test_rcorder_sorts_a_step_where_it_belongs(
    tmp_path: Path, family: OsFamily, moment: Moment, order: list[str]
) -> None:
    with bsd_with(tmp_path / "guest", family, {"/etc/rc.d/x": ""}) as guest:
        first_boot.add(guest, Step("swap", ("true",), moment))
        lines = text(guest, "/etc/rc.d/snf_image_swap").split("\n")
        assert seen(guest, "/etc/rc.d/snf_image_swap")[2] == 0o555
    assert [line for line in lines if line.startswith(("# REQUIRE", "# BEFORE", "# KEYWORD"))] == order
