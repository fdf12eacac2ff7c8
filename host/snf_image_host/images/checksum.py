# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bytes of an image must add up to, and the words of the OS parameter img_checksum."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from snf_image_shared.errors import RequestError

DIGITS = {"sha256": 64, "sha512": 128}  # hexadecimal digits of a digest
_CONTENT = "content-"
_FORMS = "sha256:HEX, sha512:HEX, content-sha256:HEX or content-sha512:HEX"


@dataclass(frozen=True)
class Checksum:
    """`algorithm` is a name that hashlib knows, `digest` is in lower-case hexadecimal.

    It is of the image's bytes as they are fetched, or with `of_content` of those that are to be on the disk. `said_by`
    is who says so.
    """

    algorithm: str
    digest: str
    of_content: bool = False
    said_by: str = field(default="img_checksum", compare=False)

    @classmethod
    def parse(cls, text: str) -> Checksum:
        """Read one, in any case. Raises RequestError."""
        name, colon, digest = text.strip().lower().partition(":")
        algorithm = name.removeprefix(_CONTENT)
        if not colon or algorithm not in DIGITS:
            raise RequestError(f"{text[:60]!r} is neither {_FORMS}; take what sha256sum prints")
        if not re.fullmatch(f"[0-9a-f]{{{DIGITS[algorithm]}}}", digest):
            raise RequestError(
                f"{text[:60]!r} has {len(digest)} characters after the colon where {algorithm} has "
                f"{DIGITS[algorithm]} hexadecimal digits; take what {algorithm}sum prints"
            )
        return cls(algorithm, digest, of_content=name != algorithm)


def parse_checksums(text: str) -> tuple[Checksum, ...]:
    """One or several, separated by blanks or commas; all have to hold. Raises RequestError."""
    found = tuple(Checksum.parse(word) for word in text.replace(",", " ").split())
    if not found:
        raise RequestError(f"{text[:60]!r} is neither {_FORMS}; take what sha256sum prints")
    return tuple(dict.fromkeys(found))
