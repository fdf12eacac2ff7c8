# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian guests captured from a disk, made again by the OS definition `image` in other layouts, booted, logged into.

`make test` boots some of them, `make test-guests` all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from guest_console import GuestConsole, boot
from guest_matrix.redeployed import (
    ADDRESS,
    DISK_SIZE,
    GATEWAY,
    KERNEL_ARGS,
    LOOKED,
    PASSWORD,
    REDEPLOYMENTS,
    Redeployment,
    Workshop,
)
from images.inspection import check_table
from provider import Provider

pytestmark = pytest.mark.vm

every_case = pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=() if case.in_ci else pytest.mark.guests) for case in REDEPLOYMENTS],
)


@pytest.fixture(scope="module")
def workshop(provider: Provider, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    settled = Workshop(provider, cache, tmp_path_factory.mktemp("redeployed"))
    settled.settle()
    return settled


@pytest.mark.image_row(54, 64, 65, 66, 71, 77, 79, 80, 82, 90)
@every_case
def test_a_captured_guest_boots_from_its_new_layout_as_it_was_ordered(workshop: Workshop, case: Redeployment) -> None:
    disk = workshop.redeploy(case)
    check_table(disk)
    with boot(disk, workshop.machine(case)) as guest:
        guest.login("root", PASSWORD)
        check_start(guest)
        check_layout(guest, case)
        check_orders(guest, case)
        check_isolation(guest, case)
        guest.poweroff()
    disk.unlink()


def check_start(guest: GuestConsole) -> None:
    state = guest.run("timeout 400 systemctl is-system-running --wait", timeout=420).output
    assert (state, guest.failed_units()) == ("running", "")


def check_layout(guest: GuestConsole, case: Redeployment) -> None:
    assert guest.run("findmnt --noheadings --output FSTYPE /").output == case.filesystem
    assert guest.run("findmnt --noheadings --output SOURCE /boot").output == case.boot
    assert guest.run("swapon --show=NAME --noheadings").output == case.swap
    assert (guest.run("test -d /sys/firmware/efi").status == 0) == case.uefi
    if case.is_exchanged:
        assert int(guest.run("findmnt --noheadings --bytes --output SIZE /").output) > DISK_SIZE
    if not case.has_kernel and case.kind != "qcow2":
        assert KERNEL_ARGS in guest.run("cat /proc/cmdline").output


def check_orders(guest: GuestConsole, case: Redeployment) -> None:
    """Name, network, overlay and hooks."""
    assert guest.run("hostname").output == case.name
    network = guest.run("ip -4 -o addr show scope global; ip route").output
    assert f"inet {ADDRESS}/24" in network
    assert f"default via {GATEWAY}" in network
    assert guest.run("cat /etc/motd; stat --format=%a /.in-the-root").output == "from the overlay\n600"
    kind = f"debian {case.kind} {case.filesystem} {1 if case.boot else 0}"
    assert guest.run("cat /etc/hooked").output == kind


def check_isolation(guest: GuestConsole, case: Redeployment) -> None:
    """The guest's own programs found their root's walls, and nothing else of the helper VM."""
    if not case.has_kernel and case.kind != "qcow2":
        assert guest.run("cat /etc/looked").output == LOOKED
