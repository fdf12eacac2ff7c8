# SPDX-License-Identifier: GPL-2.0-or-later
"""What is asked of a guest that has booted: over its console as its owner, and from its network as the world."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guest_console import GuestConsole, Machine, boot
from guest_matrix.cases import MACS, NOTHING
from guest_matrix.lan import DOMAIN, KNOWN_ADDRESS, KNOWN_NAME, Lan, Login, lan
from guest_matrix.orders import MOTTO, PASSWORD, Delivered
from images.guests import DISKS, IMAGES, MACHINE_ID, USER
from images.inspection import Tree, read_file

_BOOTED = "timeout 400 systemctl is-system-running --wait"
_WRONG = PASSWORD.upper()
_NETWORK = "(ip addr; ip route; ip -6 route)"
_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"


@contextmanager
def booted(delivered: Delivered, scratch: Path) -> Iterator[tuple[GuestConsole, Lan]]:
    """Boot the delivered disk on a network of its own."""
    with lan(scratch) as network:
        machine = Machine(
            uefi=delivered.case.uefi,
            name=delivered.case.image,
            cards=network.devices(*MACS),
            inside=network.inside,
        )
        with boot(delivered.disk, machine) as guest:
            yield guest, network


def check_login(guest: GuestConsole) -> None:
    """Leaves a shell of root on the console."""
    assert not guest.accepts("root", _WRONG)
    guest.login("root", PASSWORD)


def check_start(guest: GuestConsole, delivered: Delivered) -> None:
    """Nothing failed, and the system is as large as its disk."""
    case = delivered.case
    if case.cloud_init:
        assert "done" in guest.run("timeout 500 cloud-init status --wait", timeout=520).output
    if case.systemd:
        state = guest.run(_BOOTED, timeout=420).output
        assert (state, guest.failed_units()) == ("running", "")
    assert int(guest.run("df --block-size=1 --output=size / | tail -1").output) > 2 << 30
    swaps = guest.run("swapon --show=NAME --noheadings").output
    assert swaps == (f"/dev/vda{case.properties['SWAP'].partition(':')[0]}" if "SWAP" in case.properties else "")
    if "KERNEL_ARGS" in case.properties:
        arguments = case.properties["KERNEL_ARGS"].replace('"', "")
        assert arguments in guest.run("cat /proc/cmdline").output.replace('"', "")
    assert guest.run("date --date=@0 +%z").output == "+0530"
    assert guest.run(f"cat {MOTTO}; stat --format=%U:%a {MOTTO}").output == f"festina lente\n{USER}:640"


def check_identity(guest: GuestConsole, delivered: Delivered) -> None:
    """Nothing that names the template is left."""
    assert guest.run("hostname").output == delivered.hostname
    assert guest.run(f"getent hosts {delivered.hostname}").status == 0
    assert guest.run("grep --word-regexp template /etc/hosts /etc/hostname").output == ""
    machine_id = guest.run("cat /etc/machine-id").output
    assert len(machine_id) == 32
    assert machine_id != MACHINE_ID
    for path, text in delivered.case.traces.items():
        assert guest.run(f"cat {path}").output != text.rstrip("\n"), f"the template's {path} is still there"
    layout = DISKS[IMAGES[delivered.case.image].disk].layout
    template = read_file(Tree(delivered.template, layout.root_place, layout.subvolume), _HOST_KEY).decode().split()[1]
    assert guest.run(f"cat {_HOST_KEY}").output.split()[1] != template


def check_network(guest: GuestConsole, delivered: Delivered) -> None:
    """As the guest sees it; waits for what comes by DHCP and router advertisements."""
    case = delivered.case
    there = " && ".join(f"grep -qF '{text}' /run/seen" for text in case.shown)
    guest.run(f'timeout 100 sh -c "until {_NETWORK} >/run/seen; {there}; do sleep 1; done"')
    network = guest.run(_NETWORK).output
    assert [text for text in case.shown if text not in network] == [], network
    assert network.count("default via") == network.count("default via 192") + network.count("default via fe80"), network
    for index, card in enumerate(case.cards):
        if card == NOTHING:
            block = guest.run(f"ip addr show $(grep -l {MACS[index]} /sys/class/net/*/address | cut -d/ -f5)").output
            assert "state DOWN" in block or "inet" not in block
    for address in case.reaches:
        # The first packet may be lost while neighbours get to know each other.
        said = guest.run(f"ping -n -c 5 -i 0.5 -W 5 {address}")
        assert ", 0 received" not in said.output, said.output + network
    # Not every DHCP client searches the domain of its server.
    name = KNOWN_NAME if any("search" in card for card in case.cards) else f"{KNOWN_NAME}.{DOMAIN}"
    resolved = guest.run(f"getent ahostsv4 {name}; cat /etc/resolv.conf")
    assert resolved.output.startswith(f"{KNOWN_ADDRESS} "), f"{name}: {resolved.output}"


def check_from_outside(guest: GuestConsole, network: Lan, delivered: Delivered, scratch: Path) -> None:
    """Every address answers; with the key or the right password, and with nothing else, one gets in."""
    case = delivered.case
    leased = guest.run("ip -4 -o addr show scope global | awk '{print $4}' | cut -d/ -f1").output.split()
    addresses = (*case.answers, *(address for address in leased if address.startswith("192.0.2.1")))
    for address in addresses:
        network.ping(address)
        network.ping(address, size=1300)
    known = scratch / "known_hosts"
    keyed = USER if case.cloud_init else "root"  # cloud-init of Debian lets root in with no key
    assert network.ssh(Login(keyed, addresses[-1], known, key=delivered.key), "hostname") == f"{delivered.hostname}\n"
    assert network.ssh(Login(USER, addresses[0], known, password=PASSWORD), "id --user --name") == f"{USER}\n"
    assert network.refuses(Login(USER, addresses[0], known, password=_WRONG))
    assert guest.run(f"cat {_HOST_KEY}").output.split()[1] in known.read_text()
