# SPDX-License-Identifier: GPL-2.0-or-later
"""Base64 as OS parameters carry it: in lines or not, and nothing else beside it."""

from __future__ import annotations

import binascii

from snf_image_shared.errors import GuestError


def decoded(text: str, name: str, what: str) -> bytes:
    """The bytes of `what`, which the parameter `name` holds. Raises GuestError when it is no base64."""
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise GuestError(f"OS parameter {name}: {error}; encode the {what} with base64") from error
