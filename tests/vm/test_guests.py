# SPDX-License-Identifier: GPL-2.0-or-later
"""Real Debian images, deployed by the installed create, booted on a network of their own, asked from both sides.

`make test` boots some of them, `make test-guests` all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from guest_matrix import checks
from guest_matrix.cases import CASES, Case
from guest_matrix.orders import deliver
from images.guests import DISKS, IMAGES
from images.inspection import Tree, check_table, read_file
from provider import Provider

pytestmark = pytest.mark.vm

every_case = pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.image, marks=() if case.in_ci else pytest.mark.guests) for case in CASES],
)


@pytest.mark.image_row(74)
@pytest.mark.row(148, 155, 169, 171, 182, 186)
@every_case
def test_a_debian_instance_is_what_was_ordered(provider: Provider, cache: Path, tmp_path: Path, case: Case) -> None:
    delivered = deliver(provider, cache, tmp_path, case)
    with checks.booted(delivered, tmp_path) as (guest, network):
        checks.check_login(guest)
        checks.check_start(guest, delivered)
        checks.check_identity(guest, delivered)
        checks.check_network(guest, delivered)
        checks.check_from_outside(guest, network, delivered, tmp_path)
        guest.poweroff()
    check_table(delivered.disk)


@pytest.mark.guests
@pytest.mark.row(155)
def test_two_instances_of_one_image_share_no_host_key(provider: Provider, cache: Path, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.image == "ifupdown")
    root = DISKS[IMAGES[case.image].disk].layout.root_place
    keys = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        delivered = deliver(provider, cache, tmp_path / name, case)
        for disk in (delivered.template, delivered.disk):
            keys.add(read_file(Tree(disk, root), "/etc/ssh/ssh_host_ed25519_key"))
    assert len(keys) == 3
