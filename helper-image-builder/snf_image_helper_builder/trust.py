# SPDX-License-Identifier: GPL-2.0-or-later
"""Is a file what somebody we trust has published? Decided before anything looks into it, and there is no way around.

Two things can vouch: a sha256 that the administrator typed, or an OpenPGP signature by a key of his keyring.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from snf_image_helper_builder.tarball import ALONE
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.process import Limits, run

_PATIENCE = 300.0
_ANY_STATUS = frozenset(range(256))
_ARMOR = b"-----BEGIN PGP"
_DOUBTS = {
    "BADSIG": "the signature is of another file",
    "EXPSIG": "the signature has expired",
    "EXPKEYSIG": "the key of the signature has expired",
    "REVKEYSIG": "the key of the signature was revoked",
}
_MADE_BY_DUMP = "run `snf-image-dump-helper` on the node it comes from again"


def sha256_of(path: Path) -> str:
    """Lower-case hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def published_sha256(path: Path) -> str:
    """The checksum in a file as sha256sum(1) writes it; the name beside it means nothing, it may have a path in it.

    Raises ConfigurationError when it is no such file.
    """
    words = path.read_bytes().decode("ascii", "replace").split()
    if not words or not re.fullmatch("[0-9a-fA-F]{64}", words[0]):
        raise ConfigurationError(f"the .sha256 beside the tarball is no checksum: {_MADE_BY_DUMP}")
    return words[0].lower()


def check_signature(file: Path, signature: Path, keyring: Path) -> None:
    """Raises ConfigurationError unless a key in `keyring` has signed `file`, and neither expired nor was revoked.

    gpgv reads them as nobody, so `file` and `signature` must be readable by all.
    """
    if not keyring.is_file():
        raise ConfigurationError(
            f"there is no keyring {keyring} to check the signature with: put the publisher's public key there "
            "(gpg --export KEY), or give the tarball's --sha256"
        )
    with file.open("rb") as content, signature.open("rb") as proof, _readable_by_all(keyring) as keys:
        paths = [f"/proc/self/fd/{each.fileno()}" for each in (keys, proof, content)]
        options = ["--homedir", "/nonexistent", "--weak-digest", "SHA1", "--status-fd", "1", "--keyring"]
        fds = (keys.fileno(), proof.fileno(), content.fileno())
        limits = Limits(timeout=_PATIENCE, accept=_ANY_STATUS, pass_fds=fds)
        done = run([*ALONE, "gpgv", *options, *paths], limits=limits)
    said = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("[GNUPG:] ")}
    if done.status != 0 or not {"GOODSIG", "VALIDSIG"} <= said or said & set(_DOUBTS):
        raise ConfigurationError(
            f"{_doubt(said, keyring)}: nothing is installed; get the file again from who signed it"
        )


@contextmanager
def _readable_by_all(keyring: Path) -> Iterator[BinaryIO]:
    """A copy in memory of what may be root's alone, though it is public."""
    content = keyring.read_bytes()
    if content.startswith(_ARMOR):
        raise ConfigurationError(f"{keyring} is in ASCII armour, which gpgv cannot read: run gpg --dearmor on it")
    with os.fdopen(os.memfd_create("keyring"), "w+b") as copy:
        copy.write(content)
        copy.flush()
        yield copy


def _doubt(said: Collection[str], keyring: Path) -> str:
    for word, doubt in _DOUBTS.items():
        if word in said:
            return doubt
    if "NO_PUBKEY" in said:
        return f"no key in {keyring} has signed this"
    return f"the signature cannot be verified with {keyring}"
