# SPDX-License-Identifier: GPL-2.0-or-later
"""What an inspection tells of a BSD: the slices of its disklabel, and from its files what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.bsd_disks import BSD_LAYOUTS, make_bsd_disk
from phony_guests import bsd
from phony_guests.tree import named
from snf_image_helper.bsd.description import described
from snf_image_helper.inspection import inspect_disk
from snf_image_helper.problems import Problems
from snf_image_shared.findings import FoundSystem
from unit.helper.disk_images import attached, job, private_mounts
from unit.helper.guest_trees import guest_in


@pytest.mark.parametrize(
    ("phony", "expected"),
    [
        ("phony-freebsd-14.3", FoundSystem("freebsd", 4, "", "FreeBSD 14.3-RELEASE", "freebsd", "14.3-RELEASE")),
        ("phony-netbsd-10.1", FoundSystem("netbsd", 3, "", "NetBSD 10.1", "netbsd", "10.1")),
        ("phony-openbsd-7.6", FoundSystem("openbsd", 5, "", "OpenBSD 7.6", "openbsd", "7.6")),
    ],
)
def test_a_bsd_says_what_it_is(tmp_path: Path, phony: str, expected: FoundSystem) -> None:
    root, problems = named(bsd.GUESTS)[phony].make(tmp_path / "root"), Problems()
    asked = FoundSystem(expected.family, expected.root_partition)
    found = described(asked, guest_in(root), job(), problems)
    assert (found.name, found.distribution, found.release) == (expected.name, expected.distribution, expected.release)
    fstab = [line.split() for line in (root / "etc/fstab").read_text().splitlines() if not line.startswith("#")]
    assert (found.architecture, found.root_device) == ("x86_64", next(line[0] for line in fstab if line[1] == "/"))
    assert problems.texts == ()


@pytest.mark.parametrize(
    ("family", "path", "text"),
    [
        ("freebsd", "/bin/freebsd-version", 'USERLAND_VERSION="\x1b[2J$(reboot)"\n'),
        ("netbsd", "/etc/release", "NetBSD " + "9" * 100000),
        ("openbsd", "/etc/motd", "Welcome to the machine\n"),
    ],
)
def test_a_hostile_release_is_cut_or_left_out(tmp_path: Path, family: str, path: str, text: str) -> None:
    found = described(FoundSystem(family, 1), guest_in(tmp_path, {path: text}), job(), Problems())
    assert found.release in {"", "9" * 40}
    assert found.name.partition(" ")[0] == {"freebsd": "FreeBSD", "netbsd": "NetBSD", "openbsd": "OpenBSD"}[family]


@pytest.mark.root
def test_the_slices_of_a_label_are_told_as_partitions(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    make_bsd_disk(BSD_LAYOUTS["openbsd-mbr"], tree, tmp_path / "disk")
    with private_mounts(), attached(tmp_path / "disk") as disk:
        found = inspect_disk(disk, job(EXCLUDE_MOUNTED_TASKS="yes"))
    assert found.table
    told = [(item.number, item.type, item.role, item.name, item.content.type) for item in found.table.partitions]
    assert told == [
        (4, "a6", "OpenBSD", "", ""),
        (5, "4.2BSD", "openbsd a: 4.2BSD", "a", "ufs"),
        (6, "swap", "openbsd b: swap", "b", ""),
        (7, "4.2BSD", "openbsd d: 4.2BSD", "d", "ufs"),
    ]
    assert found.system and (found.system.family, found.system.root_partition) == ("openbsd", 5)


@pytest.mark.root
def test_a_freebsd_on_zfs_is_a_problem_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    make_bsd_disk(BSD_LAYOUTS["freebsd-zfs"], tmp_path / "tree", tmp_path / "disk")
    with private_mounts(), attached(tmp_path / "disk") as disk:
        found = inspect_disk(disk, job())
    assert found.plan and "FreeBSD has its root on ZFS here" in found.plan.refusal
