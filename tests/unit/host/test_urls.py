# SPDX-License-Identifier: GPL-2.0-or-later
"""Where an image's URL may lead, judged without asking anybody."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.configuration.settings import Settings
from snf_image_host.downloads.urls import Policy, RefusedError, Url, plain

pytestmark = pytest.mark.row(54, 56)
USUAL = Policy.of_images(Settings())
PRIVATE = ipaddress.ip_network("10.0.0.0/8")


def is_allowed(address: str, policy: Policy = USUAL, host: str = "host.example.com") -> bool:
    try:
        policy.check(host, plain(ipaddress.ip_address(address)))
    except RefusedError:
        return False
    return True


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"),
        *("0.0.0.0", "0.1.2.3", "100.64.0.1", "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.0.192"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1"),
        *("64:ff9b::10.0.0.1", "64:ff9b::8.8.8.8", "::10.0.0.1", "::ffff:0:10.0.0.1", "2002:0a00:0001::1"),
        *("64:ff9b:1::a00:1", "fec0::1"),
    ],
)
def test_what_a_tenant_cannot_reach_himself_is_refused(address: str) -> None:
    assert not is_allowed(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "172.32.0.1", "2a01:4f8::1", "2002:5db8:d822::1", "223.255.255.1"]
)
def test_what_everybody_can_reach_is_allowed(address: str) -> None:
    assert is_allowed(address)


@pytest.mark.parametrize(
    ("allow", "host", "address"),
    [
        ("10.1.2.0/24", "host", "10.1.2.3"),
        ("10.1.2.0/24", "host", "::ffff:10.1.2.3"),
        ("fd00::/8 mirror", "host", "fd00::1"),
        ("Mirror.Example.com", "mirror.example.COM.", "10.1.2.3"),
        ("64:ff9b::/96", "host", "64:ff9b::8.8.8.8"),
        ("64:ff9b::/96 10.1.2.3", "host", "64:ff9b::10.1.2.3"),
    ],
)
def test_the_administrator_can_allow_hosts_and_networks(allow: str, host: str, address: str) -> None:
    assert is_allowed(address, Policy.of_images(Settings(image_allow=allow)), host)


@pytest.mark.parametrize(
    ("allow", "host", "address"),
    [
        ("10.1.2.0/24", "host", "10.1.3.3"),
        ("mirror.example.com", "evil-mirror.example.com", "10.1.2.3"),
        ("mirror.example.com", "mirror.example.com.evil.org", "10.1.2.3"),
        ("64:ff9b::/96", "host", "64:ff9b::10.1.2.3"),
        ("mirror 0.0.0.0/0 ::/0", "mirror", "0.0.0.0"),
    ],
)
def test_what_is_allowed_is_no_more_than_that(allow: str, host: str, address: str) -> None:
    assert not is_allowed(address, Policy.of_images(Settings(image_allow=allow)), host)


@given(inside=st.ip_addresses(v=4, network="10.0.0.0/8"), behind=st.integers(0, 2**80 - 1))
def test_no_way_of_writing_an_address_leads_around_the_policy(inside: ipaddress.IPv4Address, behind: int) -> None:
    forms = [int(ipaddress.ip_address(prefix)) + int(inside) for prefix in ("::ffff:0:0", "64:ff9b::", "::")]
    forms.append((0x2002 << 112) + (int(inside) << 80) + behind)
    open_for_nat = Policy.of_images(Settings(image_deny="10.0.0.0/8"))
    for form in forms:
        assert not is_allowed(str(ipaddress.IPv6Address(form)), open_for_nat)


def test_the_refusal_of_an_address_names_the_cure() -> None:
    with pytest.raises(RefusedError, match=r"10\.0\.0\.1 is one that may not be asked \(IMAGE_DENY\).*IMAGE_ALLOW"):
        USUAL.check("host", ipaddress.ip_address("10.0.0.1"))


def test_without_schemes_no_url_is_one_of_an_image() -> None:
    with pytest.raises(RefusedError, match="scheme 'https' is refused; have it added to IMAGE_SCHEMES"):
        Policy.of_images(Settings(image_schemes="")).parse("https://host/image")


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("http://a/b/c?d", "e", "http://a/b/e"),
        ("http://a/b/c", "/e?f=(g)", "http://a/e?f=(g)"),
        ("http://u:p@a/b", "/e", "http://u:p@a/e"),
        ("http://u:p@a/b", "http://c/e", "http://c/e"),
        ("http://u:p@a/b", "//c/e", "http://c/e"),
        ("http://u:p@a/b", "http://a:81/e", "http://a:81/e"),
        ("http://a/b", "https://c/e", "https://c/e"),
        ("https://a/b", "https://c/e", "https://c/e"),
    ],
)
def test_a_redirect_leads_on_and_takes_no_password_to_another_host(url: str, location: str, target: str) -> None:
    assert USUAL.redirected(USUAL.parse(url), location).text == target


@pytest.mark.parametrize(
    ("url", "location"),
    [
        *(("http://a/b", to) for to in ("file:///etc/passwd", "gopher://c/", "ftp://c/d", "//c d/", "http://[::1/")),
        *(("http://a/b", to) for to in ("http://c\\@d/", "http://c/\x7f", "http://ü/", "scp://c/")),
        ("https://a/b", "http://a/c"),
        ("https://a/b", "ftps://a/c"),
    ],
)
def test_a_redirect_that_leads_elsewhere_is_refused(url: str, location: str) -> None:
    with pytest.raises(RefusedError, match="redirects to"):
        USUAL.redirected(USUAL.parse(url), location)


@pytest.mark.parametrize("location", ["http://u:hunter2@ex\u2100mple/", "//u:hunter2@[v1/", "http://u:hunter2@ü/"])
def test_what_a_redirect_holds_is_not_shown(location: str) -> None:
    with pytest.raises(RefusedError) as caught:
        USUAL.redirected(USUAL.parse("http://a/b"), location)
    assert "hunter2" not in str(caught.value)


@given(location=st.one_of(st.text(), st.from_regex(r"([a-z]{2,6}:)?//[!-~]{0,40}", fullmatch=True)))
def test_any_redirect_is_a_url_of_the_policy_or_refused(location: str) -> None:
    try:
        target = USUAL.redirected(Url("https://a/b", "https", "a", 443), location)
    except RefusedError:
        return
    assert target.text.startswith("https://")
    assert target.text.isascii()
    assert not set(target.text) & set(" \r\n\t")
