# SPDX-License-Identifier: GPL-2.0-or-later
"""The files in which ganeti-instance-image has an instance's network, as they lie on clusters that change over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from snf_image_host.configuration.settings import Settings
from snf_image_host.ganeti import Request
from snf_image_host.parameters.instance_networks import network_files, with_instance_network
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic

INSTANCE = "web.example.com"
OWN = "ADDRESS=192.0.2.7\nSUBNET=prod\n"
SUBNET = """\
# the machines of the shop
NETMASK=255.255.255.0
GATEWAY="192.0.2.1"
DNS_DOMAIN='example.com'
DNS_SEARCH="shop.example.com example.com"
DNS_SERVERS="192.0.2.54 192.0.2.53"
"""
NICS = (Nic("aa:00:00:12:34:56", ipv4=Ipv4Method.DHCP, ipv6=Ipv6Method.SLAAC), Nic("aa:00:00:12:34:57"))


def files(directory: Path, own: str | None = OWN, subnet: str | None = SUBNET) -> Path:
    for path, content in ((f"instances/{INSTANCE}", own), ("subnets/prod", subnet)):
        if content is not None:
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_text(content)
    return directory


@pytest.mark.image_row(71, 75)
def test_the_first_card_is_as_the_files_say_and_all_else_as_it_was(tmp_path: Path) -> None:
    first, second = with_instance_network(NICS, INSTANCE, files(tmp_path))
    assert (first.ipv4, first.address4, first.gateway4) == (Ipv4Method.STATIC, "192.0.2.7/24", "192.0.2.1")
    assert first.nameservers == ("192.0.2.54", "192.0.2.53")
    assert first.search == ("shop.example.com", "example.com")
    assert first.ipv6 is Ipv6Method.SLAAC
    assert second is NICS[1]


@pytest.mark.image_row(71)
def test_an_instance_without_a_file_is_as_ganeti_says(tmp_path: Path) -> None:
    assert with_instance_network(NICS, INSTANCE, tmp_path / "nowhere") == NICS
    assert with_instance_network(NICS, "other.example.com", files(tmp_path)) == NICS
    assert with_instance_network((), INSTANCE, files(tmp_path, own="broken")) == ()


def test_only_address_and_mask_have_to_be_there(tmp_path: Path) -> None:
    (first, _) = with_instance_network(NICS, INSTANCE, files(tmp_path, subnet="NETMASK=255.255.255.255\nGATEWAY=\n"))
    assert (first.address4, first.gateway4, first.nameservers, first.search) == ("192.0.2.7/32", None, (), ())


def test_the_domain_is_searched_where_no_others_are_given(tmp_path: Path) -> None:
    subnet = "NETMASK=255.255.255.0\nDNS_DOMAIN=example.com\nDNS_SERVERS=2001:db8::53\n"
    (first, _) = with_instance_network(NICS, INSTANCE, files(tmp_path, subnet=subnet))
    assert (first.nameservers, first.search) == (("2001:db8::53",), ("example.com",))


@pytest.mark.image_row(99)
def test_a_file_may_refer_to_what_stands_above_in_it_and_a_subnet_to_the_instance(tmp_path: Path) -> None:
    own = 'NET=192.0.2\nADDRESS="$NET.7"\nSUBNET=prod\n'
    subnet = 'NETMASK=255.255.255.0\nGATEWAY=${NET}.1\nDNS_DOMAIN=example.com\nDNS_SEARCH="shop.$DNS_DOMAIN"\n'
    (first, _) = with_instance_network(NICS, INSTANCE, files(tmp_path, own=own, subnet=subnet))
    assert (first.address4, first.gateway4, first.search) == ("192.0.2.7/24", "192.0.2.1", ("shop.example.com",))


def test_nothing_in_the_files_is_executed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="would run or expand"):
        with_instance_network(NICS, INSTANCE, files(tmp_path, own=f'ADDRESS="$(touch {tmp_path}/x)"\nSUBNET=prod\n'))
    assert not (tmp_path / "x").exists()


@pytest.mark.image_row(72)
@pytest.mark.parametrize(
    ("own", "subnet", "fault"),
    [
        ("SUBNET=prod\n", SUBNET, "instances/web.example.com: ADDRESS is missing"),
        ("ADDRESS=192.0.2.7\n", SUBNET, "instances/web.example.com: SUBNET is missing"),
        (OWN, None, r"subnets/prod: is missing, and .*instances/web.example.com names it"),
        (OWN, "GATEWAY=192.0.2.1\n", "subnets/prod: NETMASK is missing"),
        ("ADDRESS=192.0.2.700\nSUBNET=prod\n", SUBNET, "ADDRESS: '192.0.2.700' is not an IPv4 address"),
        ("ADDRESS=2001:db8::7\nSUBNET=prod\n", SUBNET, "ADDRESS: '2001:db8::7' is not an IPv4 address"),
        (OWN, "NETMASK=255.0.255.0\n", "subnets/prod: NETMASK: '255.0.255.0' is not one like"),
        (OWN, "NETMASK=255.255.255.0\nGATEWAY=router\n", "GATEWAY: 'router' is not an IPv4 address"),
        (OWN, "NETMASK=255.255.255.0\nGATEWAY=192.0.2.7\n", "GATEWAY: 192.0.2.7 is the address that"),
        (OWN, "NETMASK=255.255.255.0\nDNS_SERVERS='192.0.2.53 ns'\n", "DNS_SERVERS: 'ns' is not an address"),
        (OWN, "NETMASK=255.255.255.0\nDNS_SEARCH='a b;c'\n", "DNS_SEARCH: 'b;c' is not a name"),
        ("ADDRESS=192.0.2.7\nSUBNET=../instances/x\n", SUBNET, "SUBNET: '../instances/x' is no name of a file"),
        ("ADDRESS=192.0.2.7\nSUBNET=..\n", SUBNET, "SUBNET: '..' is no name of a file"),
        ("ADDRESS = 192.0.2.7\n", SUBNET, "line 1: not an assignment"),
    ],
)
def test_every_fault_names_its_file(tmp_path: Path, own: str, subnet: str | None, fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        with_instance_network(NICS, INSTANCE, files(tmp_path, own=own, subnet=subnet))


@pytest.mark.image_row(99)
@pytest.mark.parametrize(
    "own", [OWN, 'case $x in *) ;; esac\nexport SUBNET="prod" # of the shop\n', "if :; then SUBNET=a; fi"]
)
def test_hooks_get_the_files_whatever_is_in_them(tmp_path: Path, own: str) -> None:
    found = network_files(INSTANCE, files(tmp_path, own=own, subnet="NETMASK=$(mask)\n"))
    expected = [tmp_path / "instances" / INSTANCE] + ([tmp_path / "subnets/prod"] if "prod" in own else [])
    assert list(found) == expected


@pytest.mark.parametrize("instance", ["", "../subnets/prod", "a/b", "."])
def test_a_name_that_leads_elsewhere_has_no_file(tmp_path: Path, instance: str) -> None:
    assert with_instance_network(NICS, instance, files(tmp_path)) == NICS


def request(tmp_path: Path, **more: str) -> Request:
    settings = Settings(helper_dir=Path("/h"), image_dir=Path("/i"), run_dir=Path("/r"), networks_dir=files(tmp_path))
    env = {
        **{"OS_API_VERSION": "20", "INSTANCE_NAME": INSTANCE, "HYPERVISOR": "kvm", "DISK_COUNT": "1"},
        **{"DISK_0_PATH": "/dev/x", "DISK_0_ACCESS": "rw", "NIC_COUNT": "1", "NIC_0_MAC": NICS[0].mac},
        **{"NIC_0_IP": "198.51.100.7", "NIC_0_NETWORK_SUBNET": "198.51.100.0/24"},
    }
    return Request.from_environment(env, settings, {"IMG_ID": "x", "IMG_FORMAT": "diskdump", **more})


def test_the_files_win_over_what_ganeti_says_and_the_parameter_over_them(tmp_path: Path) -> None:
    assert request(tmp_path).nics[0].address4 == "192.0.2.7/24"
    network = json.dumps({"nics": [{"index": 0, "addresses": ["203.0.113.7/24"]}]})
    nic = request(tmp_path, NETWORK=network).nics[0]
    assert (nic.address4, nic.gateway4, nic.nameservers) == ("203.0.113.7/24", None, ("192.0.2.54", "192.0.2.53"))
