# SPDX-License-Identifier: GPL-2.0-or-later
"""Which network software is written for, and what is put out of its way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.guest import Guest
from snf_image_helper.linux.services import is_enabled
from snf_image_helper.network import Renderer, decide
from snf_image_helper.tasks.configure_network import TASK
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic
from unit.helper.guest_trees import JOB, guest_in, perform, put, text

pytestmark = pytest.mark.root

MAC = "02:00:00:00:00:01"
STATIC = Nic(MAC, ipv4=Ipv4Method.STATIC, address4="192.0.2.7/24", gateway4="192.0.2.1")
NETWORKED = replace(JOB, nics=(STATIC,))
SYSTEMD = {"/usr/lib/systemd/systemd": ""}
IFUPDOWN = {"/sbin/ifup": "", "/etc/network/interfaces": "auto lo\niface lo inet loopback\n"}
NETPLAN = {"/usr/sbin/netplan": "", "/etc/netplan/50-cloud-init.yaml": "network: {version: 2}\n"}
NM = {"/usr/sbin/NetworkManager": ""}
CONFIGURED = {"/etc/network/interfaces": "auto lo\niface lo inet loopback\niface eth0 inet dhcp\n"}
PROFILES = "/etc/NetworkManager/system-connections"


def enable(guest: Guest, unit: str) -> None:
    guest.make_directory("/etc/systemd/system/multi-user.target.wants")
    guest.symlink(f"/lib/systemd/system/{unit}", f"/etc/systemd/system/multi-user.target.wants/{unit}")


@pytest.mark.parametrize(
    ("files", "enabled", "renderer"),
    [
        (IFUPDOWN, (), Renderer.IFUPDOWN),
        (NETPLAN, ("systemd-networkd",), Renderer.NETPLAN),
        ({**IFUPDOWN, **CONFIGURED, "/usr/sbin/netplan": "", "/etc/netplan/README": ""}, (), Renderer.IFUPDOWN),
        (SYSTEMD, ("systemd-networkd",), Renderer.NETWORKD),
        ({**SYSTEMD, **IFUPDOWN}, ("systemd-networkd",), Renderer.NETWORKD),
        ({**SYSTEMD, **IFUPDOWN, **CONFIGURED}, ("systemd-networkd",), Renderer.IFUPDOWN),
        ({**SYSTEMD, **NM}, ("NetworkManager",), Renderer.NETWORKMANAGER),
        ({**SYSTEMD, **NM, **IFUPDOWN}, ("NetworkManager",), Renderer.NETWORKMANAGER),
        ({**SYSTEMD, **NM, **IFUPDOWN, **CONFIGURED}, ("NetworkManager",), Renderer.IFUPDOWN),
        ({**SYSTEMD, **NM, **IFUPDOWN}, (), Renderer.IFUPDOWN),
        ({**NM, **IFUPDOWN}, (), Renderer.IFUPDOWN),
        ({**SYSTEMD, **IFUPDOWN}, ("NetworkManager",), Renderer.IFUPDOWN),
        ({**SYSTEMD, **NM, "/usr/sbin/ifup": ""}, ("NetworkManager",), Renderer.NETWORKMANAGER),
        (NM, (), Renderer.NETWORKMANAGER),
        ({**SYSTEMD, **NM}, (), None),
        (SYSTEMD, (), None),
        ({}, (), None),
    ],
)
def test_the_guests_own_software_decides(
    tmp_path: Path, files: dict[str, str], enabled: tuple[str, ...], renderer: Renderer | None
) -> None:
    with guest_in(tmp_path, files) as guest:
        for unit in enabled:
            enable(guest, f"{unit}.service")
        assert decide(guest, JOB.wishes).owner is renderer


def test_a_masked_unit_is_not_enabled(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        enable(guest, "x.service")
        assert is_enabled(guest, "x.service")
        guest.symlink("/dev/null", "/etc/systemd/system/x.service")
        assert not is_enabled(guest, "x.service")


@pytest.mark.image_row(72)
@pytest.mark.row(184)
def test_a_guest_that_nobody_writes_for_is_left_alone_with_a_warning(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/etc/passwd": ""}) as guest:
        said = perform(TASK, guest, NETWORKED)
        assert "its network is left as it is" in said.warnings[0]
        assert guest.list_directory("/") == ("etc",)


def test_the_property_chooses_networkmanager(tmp_path: Path) -> None:
    with guest_in(tmp_path, IFUPDOWN) as guest:
        perform(TASK, guest, NETWORKED, NM_NETWORKING="yes")
        assert "address1=192.0.2.7/24,192.0.2.1\n" in text(guest, f"{PROFILES}/Wired connection 1")


def test_profiles_that_fit_a_card_are_hidden_and_others_stay(tmp_path: Path) -> None:
    files = {
        f"{PROFILES}/any.nmconnection": "[connection]\nid=any\ntype=802-3-ethernet\n",
        f"{PROFILES}/ours": f"[connection]\ntype=ethernet\n[ethernet]\nmac-address={MAC.upper()}\n",
        f"{PROFILES}/other": "[connection]\ntype=ethernet\n[ethernet]\nmac-address=02:00:00:00:00:99\n",
        f"{PROFILES}/vpn": "[connection]\ntype=vpn\n",
        "/etc/sysconfig/network-scripts/ifcfg-eth0": 'DEVICE=eth0\nTYPE="Ethernet"\nONBOOT=yes\n',
        "/etc/sysconfig/network-scripts/ifcfg-old": "DEVICE=eth1\n",
        "/etc/sysconfig/network-scripts/ifcfg-br0": "DEVICE=br0\nTYPE=Bridge\n",
        "/etc/sysconfig/network-scripts/ifcfg-lo": "DEVICE=lo\n",
    }
    with guest_in(tmp_path, files) as guest:
        for _ in range(2):
            perform(TASK, guest, NETWORKED, NM_NETWORKING="yes")
            assert guest.list_directory(PROFILES) == (
                ".any.nmconnection.snf-image-bak",
                ".ours.snf-image-bak",
                "Wired connection 1",
                "other",
                "vpn",
            )
            assert guest.list_directory("/etc/sysconfig/network-scripts") == (
                ".ifcfg-eth0.snf-image-bak",
                ".ifcfg-old.snf-image-bak",
                "ifcfg-br0",
                "ifcfg-lo",
            )


def test_a_second_run_keeps_the_first_backup(tmp_path: Path) -> None:
    with guest_in(tmp_path, IFUPDOWN) as guest:
        for nic in (STATIC, STATIC, replace(STATIC, address4="192.0.2.8/24")):
            perform(TASK, guest, replace(JOB, nics=(nic,)))
            assert text(guest, "/etc/network/interfaces.snf-image-bak") == IFUPDOWN["/etc/network/interfaces"]
        assert guest.list_directory("/etc/network") == ("interfaces", "interfaces.snf-image-bak")


@pytest.mark.image_row(72)
def test_without_cards_there_is_nothing_to_do() -> None:
    assert TASK.skip(JOB) == "the instance has no NIC"


def test_cloud_init_is_told_that_the_network_has_an_owner(tmp_path: Path) -> None:
    with guest_in(tmp_path, IFUPDOWN) as guest:
        guest.make_directory("/etc/cloud/cloud.cfg.d")
        perform(TASK, guest, NETWORKED, CLOUD_INIT="yes")
        assert json.loads(text(guest, "/etc/cloud/cloud.cfg.d/98_snf-image-50ConfigureNetwork.cfg")) == {
            "network": {"config": "disabled"}
        }
        assert "192.0.2.7" in text(guest, "/etc/network/interfaces")


def test_cloud_init_gets_the_whole_card_where_nobody_else_would(tmp_path: Path) -> None:
    far = replace(STATIC, gateway4="198.51.100.1", ipv6=Ipv6Method.DHCP)
    with guest_in(tmp_path) as guest:
        guest.make_directory("/etc/cloud/cloud.cfg.d")
        perform(TASK, guest, replace(JOB, nics=(far,)), CLOUD_INIT="yes")
        assert json.loads(text(guest, "/var/lib/cloud/seed/nocloud-net/network-config")) == {
            "version": 2,
            "ethernets": {
                "eth0": {
                    "match": {"macaddress": MAC},
                    "set-name": "eth0",
                    "dhcp4": False,
                    "dhcp6": True,
                    "accept-ra": True,
                    "addresses": ["192.0.2.7/24"],
                    "gateway4": "198.51.100.1",
                    "routes": [{"to": "198.51.100.1/32", "via": "0.0.0.0"}],
                }
            },
        }


def test_a_property_for_networkmanager_without_networkmanager_is_a_warning(tmp_path: Path) -> None:
    files = {"/usr/lib/systemd/systemd": "", "/usr/sbin/NetworkManager": ""}
    with guest_in(tmp_path, files) as guest:
        (warning,) = perform(TASK, guest, NETWORKED, NM_NETWORKING="yes").warnings
        assert warning.startswith("NetworkManager does not start in this guest, which stays without network; ")
        put(tmp_path, {"/etc/systemd/system/multi-user.target.wants/NetworkManager.service": ""})
        assert not perform(TASK, guest, NETWORKED, NM_NETWORKING="yes").warnings
