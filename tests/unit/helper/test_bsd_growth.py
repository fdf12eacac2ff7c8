# SPDX-License-Identifier: GPL-2.0-or-later
"""What a BSD is told to do with a larger disk, and with another one: growth and swap, at its first boot."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from images.bsd_disks import BSD_LAYOUTS, make_bsd_disk
from snf_image_helper.bsd import first_boot
from snf_image_helper.bsd.first_boot import FIRSTTIME
from snf_image_helper.detection import find
from snf_image_helper.disks.disk import Place
from snf_image_helper.disks.disklabel import FFS, Slice
from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily
from snf_image_helper.tasks import fix_partition_table
from snf_image_helper.tasks.bsd import add_swap, filesystem_resize_mounted
from snf_image_helper.tasks.bsd.filesystem_resize_mounted import grow_freebsd, grow_netbsd, grow_openbsd
from snf_image_shared.errors import GuestError
from unit.helper.bsd_trees import FAMILIES, bsd_with, files_of, phony_bsd, run_script
from unit.helper.disk_images import MIB, Listener, attached, job
from unit.helper.guest_trees import JOB, perform, text

TWO_DISKS = replace(JOB, disks=("disk-0", "disk-1"))


def slice_of(letter: str) -> Place:
    return Place(5, "/dev/loop0p5", None, Slice(letter, 64, 1024, FFS))


def test_freebsd_grows_its_root_once_by_its_own_script(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-freebsd-lived-14.3") as guest:
        assert grow_freebsd(guest) == ""
        assert 'growfs_enable="YES"\n' in text(guest, "/etc/rc.conf")
        assert text(guest, "/firstboot") == ""
        before = files_of(guest)
        grow_freebsd(guest)
        assert files_of(guest) == before


def test_a_sentinel_elsewhere_is_where_it_belongs(tmp_path: Path) -> None:
    files = {"/etc/rc.conf": 'firstboot_sentinel="/var/firstboot"\n', "/etc/rc.d/growfs": "", "/var/x": ""}
    with bsd_with(tmp_path / "guest", OsFamily.FREEBSD, files) as guest:
        grow_freebsd(guest)
        assert guest.exists("/var/firstboot")
        assert not guest.exists("/firstboot")


def test_a_freebsd_without_the_script_says_so(tmp_path: Path) -> None:
    with bsd_with(tmp_path / "guest", OsFamily.FREEBSD, {"/etc/rc.conf": ""}) as guest:
        assert "no /etc/rc.d/growfs" in grow_freebsd(guest)
        assert text(guest, "/etc/rc.conf") == ""


def test_netbsd_is_asked_until_its_root_has_its_size_and_then_no_more(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-netbsd-10.1") as guest:
        guest.write_text("/etc/fstab", "/dev/ld0a / ffs rw 1 1\n")
        before = files_of(guest)
        assert grow_netbsd(guest) == ""
        order = text(guest, "/etc/rc.conf.d/resize_root")
        shell = f'{order}\nprintf "%s|%s" "$resize_root" "$resize_root_postcmd"'
        said = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout
        assert said == "YES|/sbin/reboot -n"
        run_script(guest, first_boot.script_path(guest, "growth"), {})
        assert {path: entry for path, entry in files_of(guest).items() if path != "etc/rc.subr"} == {
            path: entry for path, entry in before.items() if path != "etc/rc.subr"
        }


def test_a_netbsd_with_a_log_is_told_what_to_do(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-netbsd-9.4") as guest:
        before = files_of(guest)
        assert "take that option out of /etc/fstab" in grow_netbsd(guest)
        assert files_of(guest) == before


@pytest.mark.parametrize(("device", "script"), [("NAME=root", "NAME=*) x"), ("ROOT.a", "ROOT\\.*) fs_spec=x")])
def test_a_root_by_a_name_is_grown_by_a_script_that_knows_such_names_alone(
    tmp_path: Path, device: str, script: str
) -> None:
    files = {"/etc/fstab": f"{device} / ffs rw 1 1\n", "/etc/rc.d/resize_root": "", "/etc/rc.conf": ""}
    with bsd_with(tmp_path / "guest", OsFamily.NETBSD, files) as guest:
        before = files_of(guest)
        assert f"does not know what {device} is" in grow_netbsd(guest)
        assert files_of(guest) == before
        guest.write_text("/etc/rc.d/resize_root", script)
        assert grow_netbsd(guest) == ""


def test_openbsd_grows_what_can_be_unmounted(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-openbsd-7.7") as guest:
        assert grow_openbsd(guest, slice_of("k")) == ""
        assert text(guest, FIRSTTIME).split("\n")[1] == (
            "umount /home && { growfs -y 0f1e2d3c4b5a6978.k && fsck -fy 0f1e2d3c4b5a6978.k; mount /home; }"
        )


@pytest.mark.parametrize(("letter", "path"), [("a", "/"), ("f", "/usr"), ("e", "/var")])
def test_openbsd_s_administrator_is_told_how_to_grow_what_cannot(tmp_path: Path, letter: str, path: str) -> None:
    with phony_bsd(tmp_path, "phony-openbsd-7.7") as guest:
        said = grow_openbsd(guest, slice_of(letter))
        assert f"{path} always is; start the guest with boot -s and run: growfs -y 0f1e2d3c4b5a6978.{letter}" in said
        assert not guest.exists(FIRSTTIME)


@pytest.mark.parametrize(
    "line",
    ["0f1e2d3c4b5a6978.k /home$(reboot) ffs rw 1 2", "`reboot`k /home ffs rw 1 2", "0f1e2d3c4b5a6978.k /a;b ffs rw"],
)
def test_what_a_shell_would_read_never_gets_into_a_script(tmp_path: Path, line: str) -> None:
    with bsd_with(tmp_path / "guest", OsFamily.OPENBSD, {"/etc/fstab": f"{line}\n"}) as guest:
        assert "run growfs in the guest" in grow_openbsd(guest, slice_of("k"))
        assert not guest.exists(FIRSTTIME)


@pytest.mark.root
@pytest.mark.parametrize(
    ("layout", "name", "is_ordered"),
    [
        ("freebsd-gpt", "phony-freebsd-14.3", "/firstboot"),
        ("netbsd-mbr", "phony-netbsd-10.1", "/etc/rc.conf.d/resize_root"),
    ],
)
def test_growth_is_ordered_where_the_disk_is_larger_than_the_file_system_and_nowhere_else(
    tmp_path: Path, layout: str, name: str, is_ordered: str
) -> None:
    (tmp_path / "tree/etc").mkdir(parents=True)
    (tmp_path / "tree/etc/fstab").write_text(BSD_LAYOUTS[layout].fstab())
    disk = tmp_path / "disk"
    make_bsd_disk(BSD_LAYOUTS[layout], tmp_path / "tree", disk)
    listener = Listener()
    for mib, expected in ((0, False), (80, True)):
        if mib:
            os.truncate(disk, mib * MIB)
        with attached(disk) as found, phony_bsd(tmp_path / str(mib), name) as guest:
            guest.remove(is_ordered, missing_ok=True)
            guest.write_text("/etc/fstab", BSD_LAYOUTS[layout].fstab())
            guest.system = find(found, job(), listener.reporter)
            guest.disk = found
            fix_partition_table.TASK.run(found, job(), listener.reporter)
            filesystem_resize_mounted.TASK.run(guest, job(), listener.reporter)
            assert guest.exists(is_ordered) is expected


def swapped(guest: Guest, swap: str) -> list[str]:
    """The lines that fstab has more afterwards, the same when it is done again."""
    before = text(guest, "/etc/fstab")
    perform(add_swap.TASK, guest, TWO_DISKS, SWAP=swap)
    after = text(guest, "/etc/fstab")
    perform(add_swap.TASK, guest, TWO_DISKS, SWAP=swap)
    assert text(guest, "/etc/fstab") == after
    assert after.startswith(before)
    return after[len(before) :].splitlines()


@pytest.mark.parametrize(
    ("name", "entry", "kind"),
    [
        ("phony-freebsd-14.3", "/dev/gpt/snf-swap-b", "516E7CB5-6ECF-11D6-8FF8-00022D09712B"),
        ("phony-netbsd-10.1", "NAME=snf-swap-b", "49F48D32-B10E-11DC-B99B-0019D1879648"),
    ],
)
def test_swap_on_another_disk_has_a_name_whatever_the_disk_is_called(
    tmp_path: Path, name: str, entry: str, kind: str
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"old" * 4096)
    os.truncate(other, 64 * MIB)
    with phony_bsd(tmp_path, name) as guest:
        guest.disk.devices = ("/dev/vda", str(other))
        assert swapped(guest, "b") == [f"{entry}\tnone\tswap\tsw\t0\t0"]
    table = subprocess.run(["sgdisk", "-i", "1", str(other)], capture_output=True, text=True, check=True).stdout
    assert f"Partition GUID code: {kind}" in table
    assert "Partition name: 'snf-swap-b'" in table
    assert subprocess.run(["sgdisk", "-v", str(other)], capture_output=True, text=True, check=True).stdout.count(
        "No problems"
    )


def test_openbsd_swaps_on_no_disk_without_its_label(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-openbsd-7.6") as guest, pytest.raises(GuestError, match=r"write file:<MiB>"):
        perform(add_swap.TASK, guest, TWO_DISKS, SWAP="b")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("phony-freebsd-14.3", "md\tnone\tswap\tsw,file=/swapfile,late\t0\t0"),
        ("phony-netbsd-10.1", "/swapfile\tnone\tswap\tsw\t0\t0"),
        ("phony-openbsd-7.6", "/swapfile\tnone\tswap\tsw\t0\t0"),
    ],
)
def test_a_swap_file_is_made_by_the_guest_at_its_first_boot(tmp_path: Path, name: str, line: str) -> None:
    with phony_bsd(tmp_path, name) as guest:
        assert swapped(guest, "file:512") == [line]
        path = FIRSTTIME if name.startswith("phony-openbsd") else "/etc/rc.d/snf_image_swap"
        assert "count=512" in text(guest, path)
        assert "/swapfile" in text(guest, path)


def test_the_step_makes_the_file_once_for_root_alone_and_leaves_no_half_of_it(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    with phony_bsd(tmp_path, "phony-netbsd-10.1") as guest:
        perform(add_swap.TASK, guest, SWAP="file:1")
        path = "/etc/rc.d/snf_image_swap"
        script = text(guest, path).replace("/swapfile", f"{made}/swapfile").replace("bs=1m", "bs=1M")
        guest.write_text(path, script)
        said = run_script(guest, path, {"swapctl": "true", "dd": f"echo half >{made}/swapfile.new; false"})
        assert "tried again" in said
        assert list(made.iterdir()) == []
        run_script(guest, path, {"swapctl": f'echo "$@" >{made}/swapctl', "dd": 'exec /usr/bin/dd "$@"'})
        assert (made / "swapfile").stat().st_size == MIB
        assert (made / "swapfile").stat().st_mode & 0o777 == 0o600
        assert (made / "swapctl").read_text() == "-A -t noblk\n"
        assert not guest.exists(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_partition_for_swap_is_linux_s_alone(tmp_path: Path, family: OsFamily) -> None:
    with bsd_with(tmp_path / "guest", family, {"/etc/fstab": ""}) as guest:
        assert len(perform(add_swap.TASK, guest, SWAP="2:512").warnings) == 1
        assert text(guest, "/etc/fstab") == ""
