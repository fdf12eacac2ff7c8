# SPDX-License-Identifier: GPL-2.0-or-later
"""Somebody who signs images, with GnuPG and a key of his own in a directory of its own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LONG_AGO = ("--faked-system-time", "20200101T000000")


@dataclass(frozen=True)
class Publisher:
    """`home` is GnuPG's; `keyring` has the public keys."""

    home: Path

    @property
    def keyring(self) -> Path:
        return self.home / "public.gpg"

    def gpg(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """What gpg prints."""
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--yes", "--passphrase", "", *arguments]
        return subprocess.run(command, input=stdin, check=True, capture_output=True).stdout

    def signature(self, content: bytes, *options: str) -> bytes:
        """A detached one."""
        return self.gpg(*options, "--detach-sign", stdin=content)

    def revoke(self) -> None:
        """With the certificate that gpg made together with the key."""
        (certificate,) = (self.home / "openpgp-revocs.d").glob("*.rev")
        self.gpg("--import", stdin=certificate.read_bytes().replace(b":-----BEGIN", b"-----BEGIN"))
        self.export()

    def export(self) -> None:
        self.gpg("--output", str(self.keyring), "--export")


@contextmanager
def publisher(*options: str, expires: str = "never") -> Iterator[Publisher]:
    """With a new key. Its directory has a short name, because the agent's socket is in it."""
    made = Publisher(Path(tempfile.mkdtemp(prefix="snf-gpg-")))
    try:
        key = ("--quick-generate-key", "Publisher <publisher@example.org>", "ed25519", "sign", expires)
        made.gpg(*options, *key)
        made.export()
        yield made
    finally:
        subprocess.run(["gpgconf", "--homedir", str(made.home), "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(made.home, ignore_errors=True)
