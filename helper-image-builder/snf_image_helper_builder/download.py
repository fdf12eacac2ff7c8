# SPDX-License-Identifier: GPL-2.0-or-later
"""One file from a mirror or a directory, as it is: bounded, and nothing about it is believed here.

curl speaks with the mirror as nobody, and writes into a file that is already open.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from snf_image_helper_builder.tarball import NOBODY, SUFFIX, name
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.process import Limits, ProcessError, run

_PATIENCE = 3600.0
# The file that curl writes to is checked when it has ended: nothing that a mirror made of it may outlive it, neither to
# write once more nor, as nobody, to meddle with the programs that check.
_ENDED_WITH_IT = ("setpriv", "--pdeathsig=KILL", "unshare", "--pid", "--fork", "--kill-child")
_SCHEMES = {"http": "http,https", "https": "https"}  # scheme -> what a redirect may lead to


@dataclass(frozen=True)
class Origin:
    """Where a published helper lies. `address` is a path or the URL of the tarball; it may have credentials.

    `env` goes to curl: proxies.
    """

    address: str = field(repr=False)
    env: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, place: str, env: Mapping[str, str]) -> Origin:
        """`place` is a tarball's URL or path, or that of the directory it lies in under its own name.

        Raises ConfigurationError for a scheme that is not spoken here.
        """
        if place.startswith("/") or "://" not in place:
            path = Path(place).absolute()
        else:
            try:
                parts = urlsplit(place)
            except ValueError as error:  # in which there may be a password
                raise ConfigurationError(f"--url, or HELPER_URL in snf-image.conf, is no URL: {error}") from error
            if parts.scheme.lower() in _SCHEMES:
                if not parts.path.endswith(SUFFIX):
                    parts = parts._replace(path=f"{parts.path.rstrip('/')}/{name()}")
                return cls(urlunsplit(parts._replace(scheme=parts.scheme.lower(), fragment="")), env)
            if parts.scheme.lower() != "file" or parts.netloc not in ("", "localhost"):
                raise ConfigurationError(f"{_shown(place)}: only http, https, file and plain paths can be fetched")
            path = Path(unquote(parts.path))
        return cls(str(path if path.name.endswith(SUFFIX) else path / name()), env)

    def __str__(self) -> str:
        return _shown(self.address)

    def beside(self, suffix: str) -> Origin:
        """The file whose name has `suffix` more."""
        if self.address.startswith("/"):
            return Origin(self.address + suffix, self.env)
        parts = urlsplit(self.address)
        return Origin(urlunsplit(parts._replace(path=parts.path + suffix)), self.env)

    def fetch(self, target: Path, largest: int) -> None:
        """Write it to the new file `target`, readable by all. Raises ConfigurationError: not there, or too large."""
        with target.open("xb") as out:
            os.fchmod(out.fileno(), 0o644)
            if self.address.startswith("/"):
                self._copy(out.fileno(), largest)
            else:
                self._ask(out.fileno(), largest)

    def _copy(self, out: int, largest: int) -> None:
        try:
            with open(self.address, "rb", opener=_patiently) as source:
                status = os.fstat(source.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_size > largest:
                    raise ConfigurationError(f"{self} is not a regular file of at most {largest} bytes")
                with os.fdopen(out, "wb", closefd=False) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        except FileNotFoundError as error:
            raise ConfigurationError(f"{self} does not exist: check --url, or HELPER_URL in snf-image.conf") from error

    def _ask(self, out: int, largest: int) -> None:
        scheme = urlsplit(self.address).scheme
        command = [*_ENDED_WITH_IT, "prlimit", f"--fsize={largest}", *NOBODY, "curl", "--disable", "--config", "-"]
        command += ["--fail", "--silent", "--show-error", "--location", "--max-redirs", "10", "--globoff"]
        command += ["--proto", f"={scheme}", "--proto-redir", f"={_SCHEMES[scheme]}"]
        command += ["--connect-timeout", "30", "--speed-limit", "1", "--speed-time", "60"]
        # By standard input, because a URL may have a password in it, and everybody can read a command line.
        quoted = self.address.replace("\\", "\\\\").replace('"', '\\"')
        if any(ord(letter) < ord(" ") for letter in quoted):
            raise ConfigurationError(f"{self} has a control character in it")
        try:
            limits = Limits(timeout=_PATIENCE, stdout=out)
            run(command, stdin=f'url = "{quoted}"\n'.encode(), env=dict(self.env), limits=limits)
        except ProcessError as error:
            if os.fstat(out).st_size >= largest:
                raise ConfigurationError(f"{self} is larger than {largest} bytes") from error
            last = error.stderr_tail[-1] if error.stderr_tail else error.outcome
            raise ConfigurationError(
                f"{self} cannot be fetched: {last.strip()}: check --url, or HELPER_URL in snf-image.conf"
            ) from error


def _patiently(path: str, flags: int) -> int:
    # A FIFO must not make this wait for somebody who writes to it.
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _shown(address: str) -> str:
    """Without credentials, query and fragment."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
