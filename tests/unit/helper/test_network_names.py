# SPDX-License-Identifier: GPL-2.0-or-later
"""Name servers reach the guest's resolver, whoever writes /etc/resolv.conf there; and what the template had is gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.guest import Guest
from snf_image_helper.network import Renderer
from snf_image_helper.tasks.configure_network import TASK
from snf_image_shared.job import Ipv4Method, Job, Nic
from unit.helper.guest_tools import GuestTools
from unit.helper.guest_trees import JOB, guest_in, perform, text

pytestmark = pytest.mark.root

STATIC = Nic(
    "02:00:00:00:00:01",
    ipv4=Ipv4Method.STATIC,
    address4="192.0.2.7/24",
    nameservers=("192.0.2.53", "2001:db8::53"),
    search=("example.com",),
)
DHCP = replace(STATIC, ipv4=Ipv4Method.DHCP, address4=None)
IFUPDOWN = {"/sbin/ifup": "", "/etc/network/interfaces": "auto lo\niface lo inet loopback\n"}
NETWORKD = {"/usr/lib/systemd/systemd": "", "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service": ""}
NETWORKMANAGER = {
    "/usr/sbin/NetworkManager": "",
    "/etc/systemd/system/multi-user.target.wants/NetworkManager.service": "",
}
TREES = {
    Renderer.IFUPDOWN: IFUPDOWN,
    Renderer.NETWORKD: NETWORKD,
    Renderer.NETPLAN: {**NETWORKD, "/usr/sbin/netplan": "", "/etc/netplan/a.yaml": ""},
    Renderer.NETWORKMANAGER: NETWORKMANAGER,
}
RESOLVED = {"/etc/systemd/system/sysinit.target.wants/systemd-resolved.service": ""}
FILE = "/etc/resolv.conf"
BACKUP = f"{FILE}.snf-image-bak"
DROP_IN = "/etc/systemd/resolved.conf.d/50-snf-image.conf"
STUB = "../run/systemd/resolve/stub-resolv.conf"
OURS = "search example.com\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n"
leaves_it_to_others = pytest.mark.parametrize("renderer", [Renderer.IFUPDOWN, Renderer.NETWORKD, Renderer.NETPLAN])


def job(*nics: Nic) -> Job:
    return replace(JOB, nics=nics)


def without_header(guest: Guest, path: str) -> str:
    return text(guest, path).partition("\n")[2]


@leaves_it_to_others
@pytest.mark.parametrize("old", [{FILE: "nameserver 10.0.2.3\n"}, {}], ids=["plain", "missing"])
def test_a_file_that_is_nobodys_is_written(tmp_path: Path, renderer: Renderer, old: dict[str, str]) -> None:
    with guest_in(tmp_path, {**TREES[renderer], **old}) as guest:
        for _ in range(2):
            perform(TASK, guest, job(STATIC))
            assert without_header(guest, FILE) == OURS
            assert guest.exists(BACKUP) is bool(old)
            assert not guest.exists(DROP_IN)
        if old:
            assert text(guest, BACKUP) == old[FILE]


@leaves_it_to_others
@pytest.mark.parametrize("linked", [True, False])
def test_systemd_resolved_keeps_its_file(tmp_path: Path, renderer: Renderer, linked: bool) -> None:
    with guest_in(tmp_path, {**TREES[renderer], **RESOLVED}) as guest:
        if linked:
            guest.symlink(STUB, FILE)
        perform(TASK, guest, job(STATIC))
        assert guest.link_target(FILE) == (STUB if linked else None)
        assert not guest.is_file(FILE)
        # networkd tells it what it has to know, ifupdown does not.
        assert guest.exists(DROP_IN) is (renderer is Renderer.IFUPDOWN)
        if renderer is Renderer.IFUPDOWN:
            assert without_header(guest, DROP_IN) == "[Resolve]\nDNS=192.0.2.53 2001:db8::53\nDomains=example.com\n"


@leaves_it_to_others
def test_a_link_to_a_resolver_that_does_not_run_is_replaced(tmp_path: Path, renderer: Renderer) -> None:
    with guest_in(tmp_path, {**TREES[renderer], BACKUP: "of an earlier life\n"}) as guest:
        guest.symlink(STUB, FILE)
        perform(TASK, guest, job(STATIC))
        assert not guest.is_link(FILE)
        assert without_header(guest, FILE) == OURS
        assert text(guest, BACKUP) == "of an earlier life\n"


@leaves_it_to_others
def test_somebody_elses_link_stays(tmp_path: Path, renderer: Renderer) -> None:
    with guest_in(tmp_path, TREES[renderer]) as guest:
        guest.symlink("/run/resolvconf/resolv.conf", FILE)
        perform(TASK, guest, job(STATIC))
        assert guest.link_target(FILE) == "/run/resolvconf/resolv.conf"


@pytest.mark.parametrize("renderer", list(TREES))
def test_without_name_servers_the_file_stays(tmp_path: Path, renderer: Renderer) -> None:
    with guest_in(tmp_path, {**TREES[renderer], FILE: "nameserver 10.0.2.3\n"}) as guest:
        perform(TASK, guest, job(replace(STATIC, nameservers=())))
        assert text(guest, FILE) == "nameserver 10.0.2.3\n"


def test_networkmanager_writes_the_file_itself(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**NETWORKMANAGER, FILE: "nameserver 10.0.2.3\n"}) as guest:
        perform(TASK, guest, job(STATIC))
        assert text(guest, FILE) == "nameserver 10.0.2.3\n"
        profile = text(guest, "/etc/NetworkManager/system-connections/Wired connection 1")
        assert "dns=192.0.2.53;\n" in profile


def test_each_server_is_named_once_in_the_cards_order(tmp_path: Path) -> None:
    second = replace(DHCP, mac="02:00:00:00:00:02", nameservers=("192.0.2.54", "192.0.2.53"), search=("example.net",))
    with guest_in(tmp_path, IFUPDOWN) as guest:
        perform(TASK, guest, job(STATIC, second))
        assert without_header(guest, FILE).split("\n") == [
            "search example.com example.net",
            "nameserver 192.0.2.53",
            "nameserver 2001:db8::53",
            "nameserver 192.0.2.54",
            "",
        ]


CLIENTS = {
    **IFUPDOWN,
    "/etc/dhcp/dhclient-enter-hooks.d/debug": "",
    "/etc/dhcpcd.conf": "",
    "/usr/share/udhcpc/default.script": "",
    "/etc/udhcpc/udhcpc.conf": "PEER_NTP=no\n",
}
TOLD = ("/etc/dhcp/dhclient-enter-hooks.d/snf-image", "/etc/dhcpcd.enter-hook", "/etc/udhcpc/udhcpc.conf")


def test_the_guests_dhcp_clients_are_told_to_leave_our_file(tmp_path: Path) -> None:
    with guest_in(tmp_path, CLIENTS) as guest:
        perform(TASK, guest, job(DHCP))
        assert without_header(guest, "/etc/udhcpc/udhcpc.conf") == "RESOLV_CONF=no\n"
        assert text(guest, "/etc/udhcpc/udhcpc.conf.snf-image-bak") == "PEER_NTP=no\n"
        assert all(guest.is_file(path) for path in TOLD)


def test_nobody_is_told_where_no_card_asks_for_an_address(tmp_path: Path) -> None:
    with guest_in(tmp_path, CLIENTS) as guest:
        perform(TASK, guest, job(STATIC))
        assert [path for path in TOLD if guest.exists(path)] == ["/etc/udhcpc/udhcpc.conf"]
        assert text(guest, "/etc/udhcpc/udhcpc.conf") == "PEER_NTP=no\n"


LEASE = """
export interface=eth7 protocol=dhcp reason=BOUND if_up=true ifwireless=0 new_ip_address=192.0.2.99 \\
    new_subnet_mask=255.255.255.0 new_domain_name_servers=10.9.9.9 new_domain_name=dhcp.example
rm -f /etc/resolv.conf; cp "$RESOLV_CONF" /etc/resolv.conf
for told in yes no; do
    {script}
    cat /etc/resolv.conf; echo ---
    rm -f /etc/dhcp/dhclient-enter-hooks.d/snf-image /etc/dhcpcd.enter-hook
done
"""
SCRIPTS = {
    "dhclient": 'bash "$(command -v dhclient-script)"',
    "dhcpcd": "sed s,/usr/lib/dhcpcd/,{root}/usr/lib/dhcpcd/, {root}/usr/lib/dhcpcd/dhcpcd-run-hooks | sh",
}


@pytest.mark.parametrize("client", SCRIPTS)
def test_a_lease_leaves_our_servers_alone(cache: Path, tmp_path: Path, client: str) -> None:
    tools = GuestTools.unpack(cache)
    with guest_in(tmp_path / "guest", CLIENTS) as guest:
        perform(TASK, guest, job(DHCP))
    etc = tmp_path / "guest/etc"
    script = LEASE.replace("$RESOLV_CONF", f"{etc}/resolv.conf").format(script=SCRIPTS[client].format(root=tools.root))
    told, untold, _ = tools.run_in_room(script, etc, tmp_path / "room", {"eth7": DHCP.mac}).split("---\n")
    assert told.endswith(OURS)
    assert "nameserver 10.9.9.9" in untold, "the client would not have written the file anyway: this shows nothing"


def test_a_snapshot_of_an_instance_lets_its_dhcp_client_write_again(tmp_path: Path) -> None:
    with guest_in(tmp_path, CLIENTS) as guest:
        perform(TASK, guest, job(DHCP))
        perform(TASK, guest, job(replace(DHCP, nameservers=())))
        assert [path for path in TOLD if guest.exists(path)] == []
