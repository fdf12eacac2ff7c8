# SPDX-License-Identifier: GPL-2.0-or-later
"""URLs, and where one may lead: its scheme, each address that its host has, and what it redirects to. Pure.

Whoever wrote a URL may not reach by it what only this node can. It may hold a secret, so as text it is scheme, host and
port alone.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import urljoin

from snf_image_host.configuration.settings import Settings

PORTS = {"http": 80, "https": 443, "ftp": 21, "ftps": 990, "file": 0}
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?:[^@/?#\[\]\\]*@)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]|)(?::(?P<port>[0-9]{1,5}))?(?:[/?#].*)?"
)
# IPv6 addresses that lead to the IPv4 address inside, and how many bits stand behind that: NAT64 (RFC 6052), translated
# (RFC 2765), "compatible" (RFC 4291), 6to4 (RFC 3056).
_CARRIERS = tuple(
    (ipaddress.IPv6Network(prefix), behind)
    for prefix, behind in (("64:ff9b::/96", 0), ("::ffff:0:0:0/96", 0), ("::/96", 0), ("2002::/16", 80))
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RefusedError(Exception):
    """Why there are no bytes, without the URL and without who named it."""


class UnknownHostError(RefusedError):
    """The host has no address, for now at least."""


@dataclass(frozen=True)
class Url:
    """A URL that is well formed. As text it is what may be shown: scheme, host, and a port that is not the usual."""

    text: str = field(repr=False)
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if self.port == PORTS.get(self.scheme, 0) else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


@dataclass(frozen=True)
class Policy:
    """Where URLs of one purpose may lead. Its settings' names begin with `prefix`; `cure`: how to allow an address."""

    prefix: str
    schemes: tuple[str, ...]
    denied: tuple[Network, ...]
    allowed: tuple[Network, ...] = ()
    allowed_hosts: frozenset[str] = frozenset()
    cure: str = ""

    @classmethod
    def of_documents(cls, settings: Settings) -> Policy:
        """For what OS parameters name: config_url, os_answer_file."""
        return cls("FETCH", tuple(settings.fetch_schemes.split()), _networks(settings.fetch_deny))

    @classmethod
    def of_images(cls, settings: Settings) -> Policy:
        """For img_id, and what lies beside the image."""
        words = settings.image_allow.split()
        networks = [word for word in words if _is_network(word)]
        return cls(
            "IMAGE",
            tuple(settings.image_schemes.split()),
            _networks(settings.image_deny),
            _networks(" ".join(networks)),
            frozenset(_host_name(word) for word in words if word not in networks),
            "; if images are to come from there, add the host or its network to IMAGE_ALLOW in snf-image.conf",
        )

    def parse(self, text: str) -> Url:
        """Raises RefusedError for what can never be fetched."""
        found = _URL.fullmatch(text)
        is_plain = text.isascii() and text.isprintable() and " " not in text
        if not (found and is_plain and _is_host(found["host"])):
            raise RefusedError("not a URL like https://host/path; percent-encode what is not plain ASCII")
        scheme = found["scheme"].lower()
        if scheme not in self.schemes:
            instead = (
                f"is not one of {', '.join(self.schemes)}; use one of these, or" if self.schemes else "is refused;"
            )
            raise RefusedError(
                f"scheme {scheme[:20]!r} {instead} have it added to {self.prefix}_SCHEMES in snf-image.conf"
            )
        port = int(found["port"] or PORTS[scheme])
        if (scheme == "file") == bool(found["host"]) or port > 65535 or (scheme == "file" and found["port"]):
            raise RefusedError("not a URL like https://host/path or file:///path")
        return Url(text, scheme, found["host"], port)

    def redirected(self, url: Url, location: str) -> Url:
        """Where a server that was asked for `url` sends us. Raises RefusedError."""
        try:
            target = self.parse(urljoin(url.text, location))
        except ValueError as error:  # whose text may quote a password
            raise RefusedError("redirects to what is no URL") from error
        except RefusedError as error:
            raise RefusedError(f"redirects to what is refused: {error}") from error
        if target.scheme not in ({"https"} if url.scheme == "https" else {"http", "https"}):
            raise RefusedError(f"redirects to {target}, which is refused: from {url.scheme} to {target.scheme}")
        return target

    def check(self, host: str, address: Address) -> None:
        """Raise RefusedError unless this address of the host may be asked."""
        if address.is_unspecified or not (_host_name(host) in self.allowed_hosts or self._allows(address)):
            raise RefusedError(f"its address {address} is one that may not be asked ({self.prefix}_DENY){self.cure}")

    def _allows(self, address: Address) -> bool:
        """An IPv4 address inside an IPv6 one has to be allowed as well as that."""
        return all(
            _is_in(each, self.allowed) or not _is_in(each, self.denied) for each in (address, *_carried(address))
        )


def plain(address: Address) -> Address:
    """An IPv4 address that is written as IPv6 (::ffff:a.b.c.d) is an IPv4 address."""
    return getattr(address, "ipv4_mapped", None) or address


def _carried(address: Address) -> list[Address]:
    if address.version == 4 or int(address) < 2:
        return []
    return [
        ipaddress.IPv4Address(int(address) >> behind & 0xFFFFFFFF) for prefix, behind in _CARRIERS if address in prefix
    ]


def _is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _is_network(word: str) -> bool:
    try:
        ipaddress.ip_network(word)
    except ValueError:
        return False
    return True


def _networks(words: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(word) for word in words.split())


def _is_host(host: str) -> bool:
    """Whether what is in brackets is an IPv6 address; what else there may be is not judged here."""
    try:
        return not host.startswith("[") or bool(ipaddress.IPv6Address(host[1:-1]))
    except ValueError:
        return False


def _host_name(host: str) -> str:
    return host.lower().rstrip(".")
