# SPDX-License-Identifier: GPL-2.0-or-later
"""SSH public keys as lines of authorized_keys (sshd(8)): read, held to their own type, added where they are missing.

Options of a key (command="...", from="...") are the tenant's own to give: it is the tenant's guest.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from snf_image_shared.errors import GuestError

_LONGEST = 16384  # characters of a line: an RSA key of 16384 bits has 2800
_MOST = 1000  # lines


@dataclass(frozen=True)
class PublicKey:
    """One line; `blob` is what makes the key, in binary: type and numbers, each behind its length (RFC 4253, 6.6)."""

    line: str
    blob: bytes
    options: str = ""


def parse_keys(text: str) -> tuple[PublicKey, ...]:
    """The keys of OS parameter auth_keys, each once; blank lines and comments are passed over.

    Raises GuestError, with the number of the line, for what sshd would not take for a key.
    """
    found: dict[bytes, PublicKey] = {}
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key = parse_line(stripped)
        if key is None:
            raise GuestError(
                f"OS parameter auth_keys: line {number} is no public key; give lines as in authorized_keys: "
                "ssh-ed25519, its base64, a comment"
            )
        found.setdefault(key.blob, key)
    if len(found) > _MOST:
        raise GuestError(f"OS parameter auth_keys: {len(found)} keys are too many; give at most {_MOST}")
    return tuple(found.values())


def parse_line(line: str) -> PublicKey | None:
    """A key with or without options before its type; None for anything else."""
    if line.startswith("#") or len(line) > _LONGEST or not line.replace("\t", " ").isprintable():
        return None
    for options, rest in (("", line), _options(line)):
        words = rest.split(None, 2)
        blob = _decoded(words[1]) if len(words) > 1 else None
        if blob is not None and _fields(blob)[:1] == [words[0].encode()]:
            return PublicKey(line, blob, options)
    return None


def with_keys(old: str, keys: tuple[PublicKey, ...]) -> str:
    """The file `old` with all of the keys: those it lacks at its end, in the words of `keys`.

    A key that stands there with other options gets those that are asked for; every other line stays as it is.
    """
    wanted = {key.blob: key for key in keys}
    lines = []
    for line in old.split("\n"):
        present = parse_line(line.strip())
        asked = wanted.pop(present.blob, None) if present else None
        lines.append(asked.line if asked and present and asked.options != present.options else line)
    start = "\n".join(lines)
    if wanted and start and not start.endswith("\n"):
        start += "\n"
    return start + "".join(f"{key.line}\n" for key in wanted.values())


def _options(line: str) -> tuple[str, str]:
    """The options and what follows them; a blank within double quotes is part of an option."""
    quoted = False
    for number, character in enumerate(line):
        if character == '"' and line[max(number - 1, 0)] != "\\":
            quoted = not quoted
        elif character in " \t" and not quoted:
            return line[:number], line[number:].lstrip()
    return "", ""


def _decoded(text: str) -> bytes | None:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        return None


def _fields(blob: bytes) -> list[bytes]:
    """The strings that a blob is made of; empty when it is not made of whole ones."""
    found = []
    while blob:
        size = int.from_bytes(blob[:4])
        if len(blob) < 4 + size:
            return []
        found.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    return found if len(found) > 1 else []
