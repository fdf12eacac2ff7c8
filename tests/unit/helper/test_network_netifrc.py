# SPDX-License-Identifier: GPL-2.0-or-later
"""Gentoo's /etc/conf.d/net, done by a shell as netifrc's net.lo, macnet, iproute2 and dhcpcd do it, on real cards."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from network_inputs import INPUTS, mac
from snf_image_helper.network import netifrc
from snf_image_helper.network.cards import cards_of
from snf_image_helper.network.leftovers import UDEV_RULES
from snf_image_helper.network.rendering import Facts
from snf_image_helper.tasks.configure_network import TASK
from snf_image_shared.job import Ipv4Method, Nic
from unit.helper.guest_tools import GuestTools
from unit.helper.guest_trees import JOB, guest_in, perform, text
from unit.helper.network_rooms import NAMES, Room, bring_up, check_kernel, renamed

# One service after another. netifrc has a metric for every route that has none: the number of the card.
_NETIFRC = """
mkdir "$ROOM/usr" "$ROOM/usr-work"
mount -t overlay overlay -o "lowerdir={root}/usr:/usr,upperdir=$ROOM/usr,workdir=$ROOM/usr-work" /usr
mkdir -p /usr/lib/dhcpcd
cp -a {root}/lib/dhcpcd/. /usr/lib/dhcpcd/ 2> /dev/null || true
mount -t tmpfs leases /var/lib
mkdir -p /var/lib/dhcpcd /run/dhcpcd
grep -q ^dhcpcd: /etc/passwd || echo 'dhcpcd:x:999:999::/var/lib/dhcpcd:/bin/false' >> /etc/passwd
for IFACE in {services}; do
    IFVAR=$IFACE
    mac=$(sed 'y/abcdef/ABCDEF/; s/://g' "/sys/class/net/$IFACE/address")
    . /etc/conf.d/net
    [ "$up_before_preup" = no ]
    preup
    ip link set dev "$IFACE" up
    eval "mtu=\\${{mtu_$IFVAR:-}} config=\\$config_$mac routes=\\${{routes_$mac:-}} args=\\${{dhcpcd_$mac:-}}"
    [ -z "$mtu" ] || ip link set dev "$IFACE" mtu "$mtu"
    echo "$config" | while read -r one; do
        case $one in
        null) ;;
        dhcp) dhcpcd --nodev --noarp --background $args "$IFACE" > "/run/log" 2>&1 ;;
        *) ip address add $one dev "$IFACE" ;;
        esac
    done
    echo "$routes" | while read -r one; do
        case $one in
        "") ;;
        *metric*) ip route append $one dev "$IFACE" ;;
        *) ip route append $one metric "$(cat /sys/class/net/$IFACE/ifindex)" dev "$IFACE" ;;
        esac
    done
done
"""
# Those that differ for the kernel.
_ANSWERED = (
    *("dhcp4", "slaac", "stateless-dhcp6", "stateful-dhcp6", "static6", "far-gateways", "routed", "routed-far6"),
    *("default-by-metric", "mtu", "routes-and-addresses", "only6-slaac", "unconfigured-beside-static"),
)


@pytest.fixture(scope="module")
def rooms(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Future[Room]]:
    """All of them, begun."""
    tools = GuestTools.unpack(cache)
    directory = tmp_path_factory.mktemp("rooms")

    def begin(name: str) -> Room:
        rendered = netifrc.render(cards_of(INPUTS[name]), Facts())
        started = [link.rpartition("net.eth")[2] for link in rendered.links if link.startswith("/etc/runlevels/")]
        services = " ".join(NAMES[int(number)] for number in started)
        program = _NETIFRC.format(root=tools.root, services=services)
        return bring_up(tools, program, renamed(rendered, "eth"), INPUTS[name], directory / name)

    with ThreadPoolExecutor(6) as pool:
        return {name: pool.submit(begin, name) for name in _ANSWERED}


@pytest.mark.root
@pytest.mark.row(185)
@pytest.mark.parametrize("name", _ANSWERED)
def test_the_kernel_has_what_was_asked_for(rooms: Mapping[str, Future[Room]], name: str) -> None:
    check_kernel(rooms[name].result(), INPUTS[name])


def test_no_route_gets_the_metric_of_one_before_it() -> None:
    # net.lo's _add_route: "metric" is not its own variable.
    text = netifrc.render(cards_of(INPUTS["routes-and-addresses"]), Facts()).files[netifrc.CONFIG].text
    lines = text.partition('routes_020000000001="')[2].partition('"')[0].splitlines()
    metrics = ["metric" in line for line in lines]
    assert metrics == sorted(metrics)
    assert (len(lines), sum(metrics)) == (9, 4)


def test_name_servers_are_the_same_for_every_card_and_dhcp_leaves_them() -> None:
    lines = netifrc.render(cards_of(INPUTS["names"]), Facts()).files[netifrc.CONFIG].text.splitlines()
    assert 'dns_servers="192.0.2.54 192.0.2.53 2001:db8::53 198.51.100.53"' in lines
    assert 'dns_search="z.example a.example m.example"' in lines
    assert 'dhcp="nodns"' in lines


GENTOO = {
    "/etc/os-release": "ID=gentoo\n",
    "/sbin/openrc-init": "",
    "/etc/init.d/net.lo": "#!/sbin/openrc-run\n",
    "/etc/conf.d/net": 'config_enp1s0="dhcp"\n',
    "/etc/runlevels/boot/localmount": "",
}
STATIC = Nic(mac(1), ipv4=Ipv4Method.STATIC, address4="192.0.2.7/24", gateway4="192.0.2.1")


@pytest.mark.root
def test_the_services_of_other_cards_give_way_to_ours(tmp_path: Path) -> None:
    with guest_in(tmp_path, GENTOO) as guest:
        guest.symlink("net.lo", "/etc/init.d/net.enp1s0")
        guest.make_directory("/etc/runlevels/default")
        guest.symlink("/etc/init.d/net.enp1s0", "/etc/runlevels/default/net.enp1s0")
        guest.symlink("/etc/init.d/net.lo", "/etc/runlevels/boot/net.lo")
        for _ in range(2):
            perform(TASK, guest, replace(JOB, nics=(STATIC, Nic(mac(2)))))
            assert guest.list_directory("/etc/runlevels/default") == ("net.nic0",)
            assert guest.list_directory("/etc/runlevels/boot") == ("localmount", "net.lo")
            assert guest.link_target("/etc/runlevels/default/net.nic0") == "/etc/init.d/net.nic0"
            assert guest.link_target("/etc/init.d/net.nic0") == "net.lo"
            assert text(guest, "/etc/conf.d/net.snf-image-bak") == GENTOO["/etc/conf.d/net"]
            assert f'ATTR{{address}}=="{mac(1)}"' in text(guest, UDEV_RULES)
            assert 'NAME="nic1"' in text(guest, UDEV_RULES)


@pytest.mark.root
def test_a_gentoo_with_the_kernels_names_keeps_them(tmp_path: Path) -> None:
    with guest_in(tmp_path, GENTOO) as guest:
        guest.symlink("net.lo", "/etc/init.d/net.eth0")
        guest.make_directory("/etc/runlevels/default")
        guest.symlink("/etc/init.d/net.eth0", "/etc/runlevels/default/net.eth0")
        perform(TASK, guest, replace(JOB, nics=(STATIC,)))
        assert guest.list_directory("/etc/runlevels/default") == ("net.eth0",)
