# SPDX-License-Identifier: GPL-2.0-or-later
"""SSH keys for Windows' OpenSSH server."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.users.public_keys import PublicKey
from snf_image_shared.errors import GuestError


def install(guest: Guest, users: tuple[str, ...], keys: tuple[PublicKey, ...], report: Reporter) -> None:
    """Let these users of the image log in with the keys; ChangePassword has checked the users."""
    raise GuestError("SSH keys cannot be given to Windows by this version; leave the OS parameter auth_keys out")
