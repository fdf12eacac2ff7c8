# SPDX-License-Identifier: GPL-2.0-or-later
"""UNKNOWN_GUEST: what becomes of a system that cannot be customised, decided before anything is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from phony_guests import PHONY
from snf_image_helper.disks.disk import Disk
from snf_image_helper.inspection import inspect_disk
from snf_image_helper.linux import immutable
from snf_image_helper.planning import UnknownGuest, unknown_guest
from snf_image_shared.errors import GuestError
from snf_image_shared.findings import Outcome, Plan
from unit.helper.disk_images import filled, image, job, private_mounts

pytestmark = pytest.mark.root


@contextmanager
def nixos(path: Path) -> Iterator[Disk]:
    with image(path, "label: gpt\nsize=20480\n", {1: ("mkfs.ext4", "-q")}) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "ext4") as place:
            PHONY["phony-nixos-25.05"].make(place)
        yield disk


def planned(path: Path, **properties: str) -> Plan:
    with private_mounts(), nixos(path) as disk:
        plan = inspect_disk(disk, job(**properties)).plan
    assert plan is not None
    return plan


@pytest.mark.parametrize(
    ("properties", "policy"),
    [
        ({}, UnknownGuest.REFUSE),
        ({"UNKNOWN_GUEST": ""}, UnknownGuest.REFUSE),
        ({"UNKNOWN_GUEST": " Refuse"}, UnknownGuest.REFUSE),
        ({"UNKNOWN_GUEST": "DELIVER"}, UnknownGuest.DELIVER),
    ],
)
def test_the_property_is_one_of_two_words(properties: dict[str, str], policy: UnknownGuest) -> None:
    assert unknown_guest(job(**properties)) is policy


@pytest.mark.parametrize("word", ["yes", "deliver,refuse", "\x1b[2J" * 30])
def test_another_word_is_an_error_that_names_the_property_and_both_words(word: str) -> None:
    with pytest.raises(GuestError, match=r"^property UNKNOWN_GUEST: .* is not one of deliver, refuse$") as caught:
        unknown_guest(job(UNKNOWN_GUEST=word))
    assert str(caught.value).isprintable()


def test_an_inspection_foretells_the_refusal_and_its_cure(tmp_path: Path) -> None:
    plan = planned(tmp_path / "d")
    assert "NixOS" in plan.refusal and "UNKNOWN_GUEST=deliver" in plan.refusal


def test_an_inspection_foretells_that_nothing_is_done(tmp_path: Path) -> None:
    plan = planned(tmp_path / "d", UNKNOWN_GUEST="deliver")
    assert not plan.refusal
    assert {task.outcome for task in plan.tasks} == {Outcome.EXCLUDED}
    assert all(task.reason.startswith("UNKNOWN_GUEST=deliver: the instance gets the image") for task in plan.tasks)


def test_an_inspection_foretells_a_wrong_word(tmp_path: Path) -> None:
    assert planned(tmp_path / "d", UNKNOWN_GUEST="what").refusal.startswith("property UNKNOWN_GUEST: 'what'")


def test_an_inspection_of_a_system_of_ignition_foretells_its_one_task(tmp_path: Path) -> None:
    with private_mounts(), image(tmp_path / "d", "label: gpt\nsize=20480\nsize=20480\n", _MICROOS) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "ext4") as place:
            PHONY["phony-opensuse-microos"].make(place)
        found = inspect_disk(disk, job())
    assert found.system and found.system.name == "MicroOS"
    assert found.plan and not found.plan.refusal
    assert [task.name for task in found.plan.tasks if task.outcome is Outcome.RUNS] == ["WriteIgnition"]


_MICROOS = {1: ("mkfs.ext4", "-q"), 2: ("mkfs.ext4", "-q", "-L", "ignition")}


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to("os-release"),
        lambda path: path.symlink_to("/proc/self/mem"),
        lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5)),
        lambda path: path.write_bytes(b"ID=\xff\x00\x1b[2J\n" * 10000),
        _large,
    ],
    ids=["fifo", "directory", "loop", "proc", "zero", "garbage", "large"],
)
@pytest.mark.parametrize("name", ["etc/os-release", "etc/fstab"])
def test_a_look_at_hostile_files_ends_and_finds_nothing_special(
    tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    (tmp_path / "etc").mkdir()
    make(tmp_path / name)
    assert (
        immutable.told_by_files(immutable.Layout((), {}, lambda system: nullcontext(str(tmp_path))), 1, str(tmp_path))
        is None
    )
