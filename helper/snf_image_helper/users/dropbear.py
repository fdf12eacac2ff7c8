# SPDX-License-Identifier: GPL-2.0-or-later
"""Host keys as Dropbear keeps them, made from OpenSSH's: the same numbers, in another order and without an envelope."""

from __future__ import annotations

import binascii

DIRECTORY = "/etc/dropbear"
# Fields behind the type: openssh-key-v1 has them as (sshkey.c, sshkey_private_serialize) and Dropbear as (signkey.c,
# buf_put_priv_key): RSA from n e d iqmp p q to e n d p q, ed25519 without the public half.
_ORDER = {b"ssh-rsa": (2, 1, 3, 5, 6), b"ssh-ed25519": (2,)}
_ECDSA = (1, 2, 3)
_MAGIC = b"openssh-key-v1\0"


def from_openssh(content: bytes) -> bytes:
    """A private key without passphrase as ssh-keygen writes it. Raises ValueError for anything else."""
    body = b"".join(line for line in content.split(b"\n") if b"-----" not in line)
    inside = binascii.a2b_base64(body)
    if not inside.startswith(_MAGIC + b"\0\0\0\x04none"):
        raise ValueError("no private key of OpenSSH without a passphrase")
    # Cipher, key derivation and its options; then the number of keys, the public key, and the private section.
    rest = inside[len(_MAGIC) :]
    for _ in range(3):
        _, rest = _string(rest)
    _, rest = _string(rest[4:])
    private, _ = _string(rest)
    fields: list[bytes] = []
    left = private[8:]  # two check numbers
    while len(fields) < _count(fields):
        field, left = _string(left)
        fields.append(field)
    order = _ORDER.get(fields[0], _ECDSA)
    return b"".join(len(field).to_bytes(4) + field for field in (fields[0], *(fields[number] for number in order)))


def _count(fields: list[bytes]) -> int:
    return 1 + max(_ORDER.get(fields[0], _ECDSA)) if fields else 1


def _string(content: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(content[:4])
    if len(content) < 4 + size:
        raise ValueError("a private key that is cut off")
    return content[4 : 4 + size], content[4 + size :]
