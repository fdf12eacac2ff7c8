# SPDX-License-Identifier: GPL-2.0-or-later
"""Which hosts curl asks by a proxy, as the administrator's options for it say. Pure.

It is decided here and told to curl, for what curl asks by itself has to be pinned to addresses that were checked.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from snf_image_host.downloads.urls import Address, plain

# All of the first name the same proxy, so the last of them counts; an empty one is none.
_PROXY = ("-x", "--proxy", "--proxy1.0", "--socks4", "--socks4a", "--socks5", "--socks5-hostname")
_BEFORE_IT = "--preproxy"
_NOT_FOR = "--noproxy"
_ALL = "*"


@dataclass(frozen=True)
class Proxies:
    """What the options say. One that is abbreviated, or joined with others, is not seen: then pins go to the proxy,
    which cannot follow them.
    """

    is_there: bool
    not_for: tuple[str, ...]

    @classmethod
    def of(cls, options: Sequence[str]) -> Proxies:
        """Of options as for a shell."""
        found = {_PROXY[0]: "", _BEFORE_IT: "", _NOT_FOR: ""}
        for word, value in zip(options, [*options, ""][1:], strict=True):
            if word in _PROXY:
                found[_PROXY[0]] = value
            elif word.startswith("-x"):
                found[_PROXY[0]] = word.removeprefix("-x")
            elif word in found:
                found[word] = value
        hosts = found[_NOT_FOR].lower().replace(",", " ").split()
        return cls(bool(found[_PROXY[0]] or found[_BEFORE_IT]), tuple(hosts))

    def options(self, host: str) -> list[str]:
        """What makes curl do as is_for() says, whatever its version takes a host to be."""
        if not self.not_for:
            return []
        return [_NOT_FOR, "" if self.is_for(host) else _ALL]

    def is_for(self, host: str) -> bool:
        """Whether that host is asked by a proxy."""
        return self.is_there and not any(_means(word, host.lower().rstrip(".")) for word in self.not_for)


def literal(host: str) -> Address | None:
    """The address that stands in a URL itself, in any of the forms that the C library knows: 127.1, 0x7f000001."""
    text = host.strip("[]").rstrip(".")
    try:
        return plain(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except OSError:
        return None


def _means(word: str, host: str) -> bool:
    """Whether a word of --noproxy is of that host: all of them, a name with what is below it, an address, a network."""
    address = literal(host)
    if address is None or word == _ALL:
        name = word.strip(".")
        return word == _ALL or host == name or host.endswith(f".{name}")
    try:
        return address in ipaddress.ip_network(word.strip("[]"), strict=False)
    except ValueError:
        return False
