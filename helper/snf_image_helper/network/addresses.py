# SPDX-License-Identifier: GPL-2.0-or-later
"""IP addresses and networks, of both families, as inet_pton(3) reads them.

The ipaddress module would say the same, at a tenth of a second under emulation.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Address:
    """`packed` is in network order, 4 or 16 bytes."""

    packed: bytes

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises ValueError for what is neither family's; a zone ("%eth0") belongs to neither."""
        family = socket.AF_INET6 if ":" in text else socket.AF_INET
        try:
            return cls(socket.inet_pton(family, text))
        except OSError as error:
            raise ValueError("no IP address") from error

    def __str__(self) -> str:
        return socket.inet_ntop(socket.AF_INET6 if self.version == 6 else socket.AF_INET, self.packed)

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if len(self.packed) == 4 else 6

    @property
    def is_link_local(self) -> bool:
        """Whether IPv6 reaches it on every link without a route (RFC 4291, 2.5.6)."""
        return self.version == 6 and Network(self, 10).lowest == bytes([0xFE, 0x80]) + bytes(14)


@dataclass(frozen=True)
class Network:
    """An address and the length of its network's prefix in bits."""

    address: Address
    prefix: int

    @classmethod
    def parse(cls, text: str) -> Network:
        """Read CIDR. Raises ValueError for a missing or impossible prefix, too."""
        address, _, prefix = text.partition("/")
        found = Address.parse(address)
        if not (prefix.isascii() and prefix.isdigit() and len(prefix) <= 3 and int(prefix) <= len(found.packed) * 8):
            raise ValueError("no prefix")
        return cls(found, int(prefix))

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"

    @property
    def netmask(self) -> str:
        """The prefix in dotted form where the address is."""
        return str(Address(self._mask.to_bytes(len(self.address.packed), "big")))

    @property
    def lowest(self) -> bytes:
        """The network's first address."""
        masked = int.from_bytes(self.address.packed, "big") & self._mask
        return masked.to_bytes(len(self.address.packed), "big")

    @property
    def whole(self) -> Network:
        """The network itself, without the bits of a host."""
        return Network(Address(self.lowest), self.prefix)

    def __contains__(self, address: Address) -> bool:
        return address.version == self.address.version and Network(address, self.prefix).lowest == self.lowest

    @property
    def _mask(self) -> int:
        bits = len(self.address.packed) * 8
        return (1 << bits) - (1 << (bits - self.prefix))
