# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bytes of the image must add up to, as the OS parameter img_checksum says it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from snf_image_shared.errors import RequestError

_DIGITS = {"sha256": 64, "sha512": 128}  # hexadecimal digits of a digest


@dataclass(frozen=True)
class Checksum:
    """`algorithm` is a name that hashlib knows, `digest` is in lower-case hexadecimal."""

    algorithm: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Checksum:
        """Read "sha256:HEX" or "sha512:HEX", in any case. Raises RequestError."""
        algorithm, colon, digest = text.strip().lower().partition(":")
        if not colon or algorithm not in _DIGITS:
            raise RequestError(f"{text[:60]!r} is neither sha256:HEX nor sha512:HEX; take what sha256sum prints")
        if not re.fullmatch(f"[0-9a-f]{{{_DIGITS[algorithm]}}}", digest):
            raise RequestError(
                f"{text[:60]!r} has {len(digest)} characters after the colon where {algorithm} has "
                f"{_DIGITS[algorithm]} hexadecimal digits; take what {algorithm}sum prints"
            )
        return cls(algorithm, digest)
