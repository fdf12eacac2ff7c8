# SPDX-License-Identifier: GPL-2.0-or-later
"""What a Windows guest may be called.

Source: Microsoft, "Naming conventions in Active Directory for computers": 15 characters at most, for NetBIOS; and what
snf-image 0.23 took, but for its errors: it refused names of 15 characters and all with a domain.
"""

from __future__ import annotations

import re

from snf_image_helper.files.guest_errors import shown
from snf_image_shared.errors import GuestError

LONGEST = 15  # characters
_NAME = re.compile(r"(?!-)[A-Za-z0-9_\x80-\U0010ffff-]+(?<!-)")
_CURE = "give another one in the OS parameter hostname"


def computer_name(hostname: str) -> tuple[str, str | None]:
    """The name, and a warning if the domain had to be left out. Raises GuestError, which names the cure."""
    name, dot, _ = hostname.partition(".")
    said = shown(name[:80])
    if not _NAME.fullmatch(name) or not name.isprintable():
        raise GuestError(
            f"the computer name {said!r} is none that Windows takes: it has letters, digits, underscores and inner "
            f"hyphens; {_CURE}"
        )
    if len(name.encode("utf-16-le")) > 2 * LONGEST:
        raise GuestError(
            f"the computer name {said!r} has {len(name)} characters, and Windows takes {LONGEST} at most; {_CURE}"
        )
    if name.isascii() and name.isdigit():
        raise GuestError(f"the computer name {said!r} is all digits, which Windows does not take; {_CURE}")
    warning = f"Windows' computer name has no domain: {shown(hostname[:80])} is called {said}" if dot else None
    return name, warning
