# SPDX-License-Identifier: GPL-2.0-or-later
"""Which distribution a guest is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.distros import Distro, Family, parse_os_release
from unit.helper.guest_trees import guest_in


@pytest.mark.parametrize(
    ("release", "family"),
    [
        ('ID=debian\nVERSION_ID="12"\n', Family.DEBIAN),
        ("ID=ubuntu\nID_LIKE=debian\n", Family.DEBIAN),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', Family.REDHAT),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', Family.SUSE),
        ("ID=arch\n", Family.ARCH),
        ("ID=gentoo\n", Family.GENTOO),
        ("ID=slackware\n", Family.SLACKWARE),
        ("ID=alpine\n", Family.ALPINE),
        ("ID=flatcar\nID_LIKE=coreos\n", Family.COREOS),
        ("ID=derived\nID_LIKE='unheard debian'\n", Family.DEBIAN),
        ("ID=plan9\n", Family.UNKNOWN),
    ],
)
def test_os_release_tells_the_family(tmp_path: Path, release: str, family: Family) -> None:
    with guest_in(tmp_path, {"/usr/lib/os-release": release}) as guest:
        guest.make_directory("/etc")
        guest.symlink("../usr/lib/os-release", "/etc/os-release")
        assert Distro.of(guest).family is family


@pytest.mark.parametrize(
    ("marker", "family"),
    [
        ("debian_version", Family.DEBIAN),
        ("redhat-release", Family.REDHAT),
        ("slackware-version", Family.SLACKWARE),
        ("SuSE-release", Family.SUSE),
        ("gentoo-release", Family.GENTOO),
        ("arch-release", Family.ARCH),
        ("coreos/update.conf", Family.COREOS),
    ],
)
def test_older_systems_are_told_by_their_marker(tmp_path: Path, marker: str, family: Family) -> None:
    with guest_in(tmp_path, {f"/etc/{marker}": ""}) as guest:
        assert Distro.of(guest).family is family


def test_a_tree_without_any_sign_is_unknown(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        assert Distro.of(guest) == Distro(Family.UNKNOWN)


def test_values_are_cut_and_cleaned_and_never_expanded() -> None:
    found = parse_os_release('ID=$(reboot)\nNAME="' + "x" * 10**6 + '"\nVERSION_ID=\'1\x1b[2J2\'\nPRETTY="a\\"b"\n')
    assert found["ID"] == "$(reboot)"
    assert found["NAME"] == "x" * 128
    assert found["VERSION_ID"] == "1[2J2"
    assert found["PRETTY"] == 'a"b'


@given(st.text())
def test_no_os_release_breaks_the_parser(content: str) -> None:
    for value in parse_os_release(content).values():
        assert len(value) <= 128
        assert not value or value.isprintable()
