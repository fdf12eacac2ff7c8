# SPDX-License-Identifier: GPL-2.0-or-later
"""Which hooks run, by the rules of run-parts, and which of instance-image's own are switched on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from snf_image_host.hooks import switches
from snf_image_host.hooks.environment import ganeti_environment
from snf_image_host.hooks.switches import SWITCH_FILE, HookSet, Shipped, Switch, overlay_directory, read_hook_set
from snf_image_host.instance_image.settings import ImageSettings
from snf_image_shared.errors import ConfigurationError

ODD_NAMES = (
    *("10-first", "9-second", "A", "Z_last", "a", "b.sh", "c~", "d.dpkg-old", "e,v", "f.rpmsave", "_g", "-h", "i j"),
    *("jobs.deny", ".hidden", "ümlaut", "zzz"),
)


def hook(directory: Path, name: str, content: bytes = b"#!/bin/sh\n", mode: int = 0o755) -> Path:
    (directory / name).write_bytes(content)
    (directory / name).chmod(mode)
    return directory / name


@pytest.mark.image_row(64)
def test_the_programs_and_their_order_are_those_of_debians_run_parts(tmp_path: Path) -> None:
    for name in ODD_NAMES:
        hook(tmp_path, name)
    hook(tmp_path, "not-executable", mode=0o644)
    hook(tmp_path, "executable-by-others-alone", mode=0o611)
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "link-to-a-directory").symlink_to("directory")
    said = subprocess.run(["run-parts", "--test", tmp_path], capture_output=True, text=True, check=True).stdout
    assert list(read_hook_set(tmp_path).programs) == [Path(line).name for line in said.splitlines()]


@pytest.mark.image_row(99)
def test_our_own_switch_files_switch_on_when_they_are_executable(tmp_path: Path) -> None:
    for switch in Switch:
        hook(tmp_path, switch, SWITCH_FILE, 0o755 if switch in {Switch.SSH, Switch.ZZ_DDNS} else 0o644)
    found = read_hook_set(tmp_path)
    assert (found.switches, found.programs) == (frozenset({Switch.SSH, Switch.ZZ_DDNS}), ())


def test_a_hook_that_was_edited_is_the_administrators_own_and_runs(tmp_path: Path) -> None:
    hook(tmp_path, "grub", SWITCH_FILE + b"# mine\n")
    hook(tmp_path, "interfaces", SWITCH_FILE + b"# mine\n")
    hook(tmp_path, "zabbix", SWITCH_FILE)
    found = read_hook_set(tmp_path)
    assert (found.switches, found.programs) == (frozenset(), ("grub", "interfaces", "zabbix"))
    assert "the administrator's own" in found.tasks_off()["ConfigureNetwork"]


def test_a_file_of_a_release_counts_as_shipped_under_its_own_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(tmp_path, "ssh", b"as in some release\n")
    digest = subprocess.run(["sha256sum", tmp_path / "ssh"], capture_output=True, text=True, check=True).stdout.split()[
        0
    ]
    monkeypatch.setattr(switches, "_DIGESTS", {**switches._DIGESTS, Switch.SSH: frozenset({digest})})
    shutil.copy(tmp_path / "ssh", tmp_path / "grub")
    found = read_hook_set(tmp_path)
    assert (found.switches, found.programs) == (frozenset({Switch.SSH}), ("grub",))


def test_shipped_hooks_run_as_programs_if_the_administrator_wants_that(tmp_path: Path) -> None:
    hook(tmp_path, "ssh", SWITCH_FILE)
    found = read_hook_set(tmp_path, Shipped.PROGRAMS)
    assert (found.switches, found.programs) == (frozenset(), ("ssh",))


@pytest.mark.image_row(68)
def test_an_import_runs_grub_alone_and_a_rename_zz_ddns_with_its_option() -> None:
    mine = HookSet(Path("/hooks"), ("aaa", "grub", "zz_ddns"))
    assert mine.for_import().programs == ("grub",)
    assert (mine.for_rename().programs, mine.for_rename().arguments) == (("zz_ddns",), ("-r",))
    shipped = HookSet(Path("/hooks"), (), frozenset(Switch))
    assert shipped.for_import().switches == {Switch.GRUB}
    assert shipped.for_rename().switches == {Switch.ZZ_DDNS}


def test_what_is_off_keeps_its_tasks_from_running_with_the_cure(tmp_path: Path) -> None:
    hook(tmp_path, "ssh", SWITCH_FILE)
    reason = f"the hook interfaces is not switched on; chmod +x {tmp_path}/interfaces does that"
    assert read_hook_set(tmp_path).tasks_off() == {"ConfigureNetwork": reason, "AssignHostname": reason}


def test_a_directory_that_does_not_exist_has_no_hooks(tmp_path: Path) -> None:
    assert read_hook_set(tmp_path / "none") == HookSet(tmp_path / "none")


@pytest.mark.image_row(64)
def test_a_link_that_leads_nowhere_is_no_hook_as_for_run_parts(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "there").write_text("#!/bin/sh\n")
    (tmp_path / "there").chmod(0o755)
    done = subprocess.run(["run-parts", "--list", str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "there")]
    assert read_hook_set(tmp_path).programs == ("there",)


@pytest.mark.image_row(82)
def test_an_overlay_that_is_missing_is_named_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"{tmp_path}/web not found"):
        overlay_directory(tmp_path, "web")
    (tmp_path / "web").mkdir()
    assert overlay_directory(tmp_path, "web") == tmp_path / "web"


@pytest.mark.parametrize("name", ["", ".", "..", "../etc", "/etc", "a/b", ".ssh", "a\0b", "a\n"])
def test_an_overlay_has_the_name_of_a_directory_among_the_overlays(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="is no name of a directory"):
        overlay_directory(tmp_path / "overlays", name)


@pytest.mark.image_row(65)
def test_hooks_see_what_ganeti_says_and_neither_os_parameters_nor_the_environment_of_the_node() -> None:
    told = {
        "INSTANCE_HV_kernel_path": "",
        "NIC_0_MAC": "aa",
        "DISK_0_PATH": "/dev/x",
        "HYPERVISOR": "kvm",
        "OS_NAME": "image",
    }
    assert ganeti_environment({**told, "OSP_PASSWD": "secret", "LD_PRELOAD": "x", "PATH": "/x"}) == told


@pytest.mark.image_row(70)
def test_a_variant_may_have_hooks_of_its_own(tmp_path: Path) -> None:
    variants = tmp_path / "etc/ganeti/instance-image/variants"
    variants.mkdir(parents=True)
    for name in ("web", "mail"):
        (tmp_path / name).mkdir()
        hook(tmp_path / name, f"for-{name}")
        (variants / f"{name}.conf").write_text(f"CUSTOMIZE_DIR={tmp_path}/{name}\n")
    (variants / "plain.conf").write_text("")
    usual = tmp_path / "etc/ganeti/instance-image/hooks"
    usual.mkdir()
    hook(usual, "for-all")
    found = {name: ImageSettings.load(name, tmp_path).customize_dir for name in ("web", "mail", "plain")}
    programs = {name: read_hook_set(directory).programs for name, directory in found.items()}
    assert programs == {"web": ("for-web",), "mail": ("for-mail",), "plain": ("for-all",)}
