# SPDX-License-Identifier: GPL-2.0-or-later
"""Which distribution a guest is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phony_guests import MUTABLE
from snf_image_helper.linux.distros import Distro, Family, parse_os_release
from unit.helper.guest_trees import guest_in


@pytest.mark.image_row(63)
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
        ('ID=devuan\nID_LIKE=debian\nVERSION_ID="5"\n', Family.DEBIAN),
        ("ID=raspbian\nID_LIKE=debian\n", Family.DEBIAN),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', Family.DEBIAN),
        ("ID=kali\nID_LIKE=debian\n", Family.DEBIAN),
        ("ID=fedora\nVERSION_ID=42\n", Family.REDHAT),
        ('ID="rhel"\nID_LIKE="fedora"\nVERSION_ID="9.6"\n', Family.REDHAT),
        ('ID="centos"\nID_LIKE="rhel fedora"\nVERSION_ID="10"\n', Family.REDHAT),
        ('ID="almalinux"\nID_LIKE="rhel centos fedora"\n', Family.REDHAT),
        ('ID="ol"\nID_LIKE="fedora"\nVERSION_ID="9.4"\n', Family.REDHAT),
        ('ID="amzn"\nID_LIKE="centos rhel fedora"\nVERSION_ID="2"\n', Family.REDHAT),
        ('ID="amzn"\nID_LIKE="fedora"\nVERSION_ID="2023"\n', Family.REDHAT),
        ('ID="openEuler"\nVERSION_ID="24.03"\n', Family.REDHAT),
        ("ID=photon\nVERSION_ID=5.0\n", Family.REDHAT),
        ('ID=azurelinux\nVERSION_ID="3.0"\n', Family.REDHAT),
        ('ID="sles"\nID_LIKE="suse"\nVERSION_ID="15.6"\n', Family.SUSE),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n', Family.SUSE),
        ('ID="opensuse-microos"\nID_LIKE="suse opensuse opensuse-tumbleweed microos"\n', Family.SUSE),
        ('ID="opensuse-leap-micro"\nID_LIKE="suse opensuse"\n', Family.SUSE),
        ('ID="sl-micro"\nID_LIKE="suse"\n', Family.SUSE),
        ("ID=manjaro\nID_LIKE=arch\n", Family.ARCH),
        ("ID=endeavouros\nID_LIKE=arch\n", Family.ARCH),
        ('ID="void"\n', Family.VOID),
        ('ID=nixos\nVERSION_ID="25.05"\n', Family.NIXOS),
        ("ID=clear-linux-os\nID_LIKE=clear-linux-os\nVERSION_ID=42000\n", Family.CLEAR),
    ],
)
def test_os_release_tells_the_family(tmp_path: Path, release: str, family: Family) -> None:
    with guest_in(tmp_path, {"/usr/lib/os-release": release}) as guest:
        guest.make_directory("/etc")
        guest.symlink("../usr/lib/os-release", "/etc/os-release")
        assert Distro.of(guest).family is family


@pytest.mark.image_row(63)
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


@pytest.mark.parametrize(
    ("marker", "content", "found"),
    [
        ("redhat-release", "CentOS release 6.10 (Final)\n", Distro(Family.REDHAT, "centos", "6.10")),
        ("redhat-release", "CentOS release 5.11 (Final)\n", Distro(Family.REDHAT, "centos", "5.11")),
        (
            "redhat-release",
            "Red Hat Enterprise Linux Server release 6.9 (Santiago)\n",
            Distro(Family.REDHAT, "rhel", "6.9"),
        ),
        ("system-release", "Amazon Linux AMI release 2018.03\n", Distro(Family.REDHAT, "amzn", "2018.03")),
        ("oracle-release", "Oracle Linux Server release 6.10\n", Distro(Family.REDHAT, "ol", "6.10")),
        ("debian_version", "6.0.10\n", Distro(Family.DEBIAN, "debian", "6.0.10")),
        ("debian_version", "wheezy/sid\n", Distro(Family.DEBIAN, "debian")),
        ("SuSE-release", "SUSE Linux Enterprise Server 11 (x86_64)\n", Distro(Family.SUSE, "suse", "11")),
        ("slackware-version", "Slackware 13.37.0\n", Distro(Family.SLACKWARE, "slackware", "13.37.0")),
        ("alpine-release", "2.7.9\n", Distro(Family.ALPINE, "alpine", "2.7.9")),
    ],
)
def test_a_marker_tells_name_and_version_as_far_as_it_knows_them(
    tmp_path: Path, marker: str, content: str, found: Distro
) -> None:
    with guest_in(tmp_path, {f"/etc/{marker}": content}) as guest:
        assert Distro.of(guest) == found


def test_all_that_os_release_says_of_its_kind_is_kept(tmp_path: Path) -> None:
    release = 'ID=fedora\nVERSION_ID=42\nVARIANT_ID=coreos\nID_LIKE="one two"\n'
    with guest_in(tmp_path, {"/etc/os-release": release}) as guest:
        assert Distro.of(guest) == Distro(Family.REDHAT, "fedora", "42", "coreos", ("one", "two"))


@pytest.mark.parametrize("content", [b"\xff\xfe" * 200, b"9" * 10**6, b"\0" * 100, b"1." * 50000])
def test_a_hostile_marker_still_tells_its_family_alone(tmp_path: Path, content: bytes) -> None:
    with guest_in(tmp_path, {"/etc/redhat-release": content}) as guest:
        found = Distro.of(guest)
    assert found.family is Family.REDHAT
    assert len(found.version) < 40


@pytest.mark.parametrize("guest_name", MUTABLE)
def test_every_phony_guest_is_of_the_family_that_it_stands_for(tmp_path: Path, guest_name: str) -> None:
    MUTABLE[guest_name].make(tmp_path)
    with guest_in(tmp_path) as guest:
        assert Distro.of(guest).family is _FAMILIES[guest_name.removeprefix("phony-").partition("-")[0]]


_FAMILIES = {
    **dict.fromkeys(("ubuntu", "debian", "devuan"), Family.DEBIAN),
    **dict.fromkeys(("fedora", "rocky", "centos", "amazon"), Family.REDHAT),
    **dict.fromkeys(("opensuse", "sles"), Family.SUSE),
    "arch": Family.ARCH,
    "alpine": Family.ALPINE,
    "gentoo": Family.GENTOO,
    "void": Family.VOID,
    "slackware": Family.SLACKWARE,
}


def test_a_tree_without_any_sign_is_unknown(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        assert Distro.of(guest) == Distro(Family.UNKNOWN)


@pytest.mark.image_row(63)
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
