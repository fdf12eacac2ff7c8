# SPDX-License-Identifier: GPL-2.0-or-later
"""Which accelerator is tried, on nodes whose /dev/kvm is there, is not, or is closed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from snf_image_host.configuration.setting_types import Accelerator
from snf_image_host.configuration.settings import Settings
from snf_image_host.vm.accelerator import accelerators, kvm_groups, kvm_problem, remember_failure
from snf_image_shared.errors import ConfigurationError

pytestmark = pytest.mark.root
GROUP = 4321


def settings(tmp_path: Path, accelerator: Accelerator = Accelerator.AUTO) -> Settings:
    return Settings(helper_dir=tmp_path, image_dir=tmp_path, run_dir=tmp_path / "run", helper_accel=accelerator)


def device(tmp_path: Path, mode: int, group: int = GROUP) -> Path:
    """A node like /dev/kvm (the null device: it is looked at, not used)."""
    path = tmp_path / "kvm"
    os.mknod(path, stat.S_IFCHR, os.makedev(1, 3))
    os.chown(path, 0, group)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(("mode", "group"), [(0o660, GROUP), (0o666, GROUP), (0o666, 0), (0o606, 0)])
def test_a_device_that_an_unprivileged_program_can_open_is_tried_first(tmp_path: Path, mode: int, group: int) -> None:
    node = device(tmp_path, mode, group)
    assert kvm_problem(node) is None
    assert accelerators(settings(tmp_path), node) == (Accelerator.KVM, Accelerator.TCG)
    assert accelerators(settings(tmp_path, Accelerator.KVM), node) == (Accelerator.KVM,)


@pytest.mark.row(93)
@pytest.mark.parametrize(
    ("mode", "group"), [(0o600, GROUP), (0o640, GROUP), (0o604, GROUP), (0o620, GROUP), (0o660, 0)]
)
def test_a_device_that_only_root_can_open_is_none(tmp_path: Path, mode: int, group: int) -> None:
    node = device(tmp_path, mode, group)
    assert accelerators(settings(tmp_path), node) == (Accelerator.TCG,)
    with pytest.raises(ConfigurationError, match=f"HELPER_ACCEL=kvm, but {node} is open to nobody but root"):
        accelerators(settings(tmp_path, Accelerator.KVM), node)


@pytest.mark.row(93)
def test_a_xen_node_emulates_whatever_device_it_has(tmp_path: Path) -> None:
    node, xen = device(tmp_path, 0o666), tmp_path / "xen"
    assert accelerators(settings(tmp_path), node, xen) == (Accelerator.KVM, Accelerator.TCG)
    xen.mkdir()
    assert accelerators(settings(tmp_path), node, xen) == (Accelerator.TCG,)
    with pytest.raises(ConfigurationError, match="HELPER_ACCEL=kvm, but this node runs on Xen; mend that, or set"):
        accelerators(settings(tmp_path, Accelerator.KVM), node, xen)


@pytest.mark.row(93)
def test_a_device_that_is_not_there_is_told(tmp_path: Path) -> None:
    node = tmp_path / "kvm"
    assert accelerators(settings(tmp_path), node) == (Accelerator.TCG,)
    with pytest.raises(
        ConfigurationError, match=f"there is no {node} on this node; mend that, or set HELPER_ACCEL=auto"
    ):
        accelerators(settings(tmp_path, Accelerator.KVM), node)


def test_a_file_in_its_place_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "kvm").write_text("")
    assert kvm_problem(tmp_path / "kvm") == f"{tmp_path}/kvm is no character device"


def test_emulation_asks_nothing(tmp_path: Path) -> None:
    assert accelerators(settings(tmp_path, Accelerator.TCG), device(tmp_path, 0o666)) == (Accelerator.TCG,)


def test_a_failure_is_remembered_until_its_file_is_removed(tmp_path: Path) -> None:
    node = device(tmp_path, 0o660)
    remember_failure(settings(tmp_path))
    remember_failure(settings(tmp_path))
    assert accelerators(settings(tmp_path), node) == (Accelerator.TCG,)
    assert accelerators(settings(tmp_path, Accelerator.KVM), node) == (Accelerator.KVM,)
    (memory,) = (tmp_path / "run").iterdir()
    memory.unlink()
    assert accelerators(settings(tmp_path), node) == (Accelerator.KVM, Accelerator.TCG)


def test_a_failure_of_an_earlier_boot_is_forgotten(tmp_path: Path) -> None:
    remember_failure(settings(tmp_path))
    (memory,) = (tmp_path / "run").iterdir()
    memory.rename(memory.with_name("kvm-failed-00000000-0000-0000-0000-000000000000"))
    assert accelerators(settings(tmp_path), device(tmp_path, 0o660)) == (Accelerator.KVM, Accelerator.TCG)


def test_a_failure_that_cannot_be_written_down_is_no_failure_of_ours(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    remember_failure(settings(tmp_path))


def test_only_a_group_that_is_not_roots_is_kept_for_the_device(tmp_path: Path) -> None:
    node = device(tmp_path, 0o660)
    assert kvm_groups(node) == (GROUP,)
    os.chown(node, 0, 0)
    assert kvm_groups(node) == ()
