# SPDX-License-Identifier: GPL-2.0-or-later
"""What cards are called where a name is all that finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from snf_image_helper.network.naming import KERNELS, OURS, prefix_of
from unit.helper.guest_trees import guest_in

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("files", "prefix"),
    [
        ({}, OURS),
        ({"/etc/default/grub": 'GRUB_CMDLINE_LINUX="quiet"\n'}, OURS),
        ({"/etc/default/grub": 'GRUB_CMDLINE_LINUX="net.ifnames=0 quiet"\n'}, KERNELS),
        ({"/boot/grub2/grub.cfg": "linux /vmlinuz root=/dev/vda1 net.ifnames=0 biosdevname=0\n"}, KERNELS),
        ({"/etc/sysconfig/network-scripts/ifcfg-eth0": ""}, KERNELS),
        ({"/etc/sysconfig/network/ifcfg-eth1": ""}, KERNELS),
        ({"/etc/init.d/net.eth0": ""}, KERNELS),
        ({"/etc/sysconfig/network/ifcfg-eno1": "", "/etc/init.d/net.enp1s0": ""}, OURS),
        ({"/etc/default/grub": b"\xff\xfe" * (1 << 20)}, OURS),
    ],
)
def test_the_guest_shows_what_it_calls_its_cards(tmp_path: Path, files: dict[str, str | bytes], prefix: str) -> None:
    with guest_in(tmp_path, files) as guest:
        assert prefix_of(guest) == prefix


def test_a_guest_where_systemds_names_are_masked_has_the_kernels(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        guest.make_directory("/etc/udev/rules.d")
        guest.symlink("/dev/null", "/etc/udev/rules.d/80-net-setup-link.rules")
        assert prefix_of(guest) == KERNELS
