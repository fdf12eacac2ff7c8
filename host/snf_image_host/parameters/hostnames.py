# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be the name of a host or of a domain; anything else stays out of the guest's files."""

from __future__ import annotations

import ipaddress
import re

from snf_image_host.parameters.faults import shown

_LONGEST = 253  # characters of a whole name
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_GANETI_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_CURE = f"letters, digits and inner hyphens, in parts separated by dots, up to {_LONGEST} characters"


def instance_name(text: str) -> str:
    """`text` if it can be the name of an instance: Ganeti allows "_" in it, which is no part of a host name.

    Raises ValueError.
    """
    if len(text) > _LONGEST or not re.fullmatch(rf"{_GANETI_LABEL}(\.{_GANETI_LABEL})*", text):
        raise ValueError(f"not a host name ({_CURE})")
    return text


def domain_name(text: str) -> str:
    """`text` if it is a name by RFC 1123. Raises ValueError."""
    if len(text) > _LONGEST or not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", text):
        raise ValueError(f"{shown(text)} is not a name like www.example.com ({_CURE})")
    return text


def host_name(text: str) -> str:
    """`text` if it is a name by RFC 1123, and no address. Raises ValueError."""
    domain_name(text)
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return text
    raise ValueError(f"{shown(text)} is an address; write a name")
