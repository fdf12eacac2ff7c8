# SPDX-License-Identifier: GPL-2.0-or-later
"""Which hosts are asked by the administrator's proxy, by the options for curl alone."""

from __future__ import annotations

import ipaddress
import shlex

import pytest

from snf_image_host.downloads.proxies import Proxies, literal

pytestmark = pytest.mark.row(54)


def proxies(options: str) -> Proxies:
    return Proxies.of(shlex.split(options))


@pytest.mark.parametrize(
    "options",
    ["-x proxy:80", "-xproxy:80", "-k --proxy http://proxy", "--socks5-hostname proxy", "--preproxy socks5://proxy"],
)
def test_a_proxy_is_for_every_host(options: str) -> None:
    assert proxies(options).is_for("images.example.com")


@pytest.mark.parametrize(
    "options",
    ["", "-k", "--proxy", "-x ''", "-x proxy --proxy ''", "--proxy-cacert /ca.pem", "--proxy-user a:b", "--noproxy x"],
)
def test_without_a_proxy_no_host_is_asked_by_one(options: str) -> None:
    assert not proxies(options).is_for("images.example.com")


@pytest.mark.parametrize(
    ("words", "host", "is_direct"),
    [
        ("*", "images.example.com", True),
        ("example.com", "images.example.com", True),
        (".example.com", "Images.Example.com.", True),
        ("a,example.com b", "example.com", True),
        ("example.com", "evil-example.com", False),
        ("images.example.com", "example.com", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "0x0a.1", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("[fd00::1]", "[fd00::1]", True),
        ("2", "10.0.0.2", False),
        ("", "images.example.com", False),
    ],
)
def test_hosts_that_the_proxy_is_not_for_are_asked_directly(words: str, host: str, is_direct: bool) -> None:
    found = proxies(f"--proxy http://proxy --noproxy '{words}'")
    assert found.is_for(host) is not is_direct
    if words:
        assert found.options(host) == ["--noproxy", "*" if is_direct else ""], "curl is not asked for its opinion"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        *(
            (host, "127.0.0.1")
            for host in ("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.")
        ),
        ("[::1]", "::1"),
        ("[::ffff:10.0.0.1]", "10.0.0.1"),
    ],
)
def test_an_address_is_one_in_every_form_that_leads_to_it(host: str, address: str) -> None:
    assert literal(host) == ipaddress.ip_address(address)


@pytest.mark.parametrize("host", ["localhost", "1.2.3.4.example.com", "0x", "127.0.0.256", "a.1"])
def test_a_name_is_no_address(host: str) -> None:
    assert literal(host) is None
