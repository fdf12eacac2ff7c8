# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian archive: which mirror, is it there, and a root made from it by mmdebstrap, which checks its signatures."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from snf_image_shared.errors import ConfigurationError
from snf_image_shared.process import SEARCH_PATH, ProcessError

Say = Callable[[str], None]

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_PATIENCE = 30.0
_KEPT_LINES = 30


@dataclass(frozen=True)
class Archive:
    """`security` is None where the mirror has no security updates. `epoch`: the archive's own date, in seconds.

    The date becomes SOURCE_DATE_EPOCH: two builds from one state of the archive have the same time stamps.
    """

    mirror: str
    security: str | None
    suite: str
    epoch: int


@dataclass(frozen=True)
class Selection:
    """What of the archive goes into a root: packages and what they depend on, without the files of `not_unpacked`.

    `variant` is mmdebstrap's: "extract" only unpacks the packages, "essential" installs them.
    """

    packages: tuple[str, ...]
    not_unpacked: tuple[str, ...] = ()
    variant: str = "essential"


def apt_mirror(apt: Path = Path("/etc/apt")) -> str:
    """The mirror this machine takes Debian itself from; both styles of sources.list(5) are read.

    Raises ConfigurationError where there is none, as on a node with another distribution.
    """
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    for path in files:
        if path.is_file() and path.suffix in (".list", ".sources"):
            for uri in _uris(path.read_text(errors="replace"), deb822=path.suffix == ".sources"):
                if uri.rstrip("/").endswith("/debian"):
                    return uri.rstrip("/")
    raise ConfigurationError(f"{apt} names no mirror of Debian: give the URL of one with --mirror")


def find_archive(mirror: str, suite: str) -> Archive:
    """Ask the mirror for `suite`, and for its security updates beside it ("debian" -> "debian-security").

    Raises ConfigurationError when the mirror does not answer or does not have the suite.
    """
    mirror = mirror.rstrip("/")
    url = f"{mirror}/dists/{suite}/Release"
    try:
        dates = [_release_date(url)]
    except urllib.error.HTTPError as error:
        raise ConfigurationError(
            f"the mirror {mirror} answers {error.code} for {suite}: name another with --mirror or --suite"
        ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ConfigurationError(
            f"the mirror {mirror} cannot be read ({reason}): check the network or --mirror"
        ) from error
    security = f"{mirror}-security"
    try:
        dates.append(_release_date(f"{security}/dists/{suite}-security/Release"))
    except (OSError, ValueError, http.client.HTTPException):
        return Archive(mirror, None, suite, dates[0])
    return Archive(mirror, security, suite, max(dates))


def bootstrap(archive: Archive, selection: Selection, tree: Path, env: Mapping[str, str], say: Say) -> None:
    """Fill the empty directory `tree`. Each step that mmdebstrap names goes to `say`; `env` carries proxies.

    The child has its own mount and process namespaces and dies with us: however this ends, no mount stays.
    Raises ConfigurationError when a program is missing, ProcessError with mmdebstrap's own last words when it fails.
    """
    contained = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in selection.not_unpacked]
    command = [
        "mmdebstrap",
        "--mode=root",
        f"--variant={selection.variant}",
        "--format=directory",
        f"--keyring={KEYRING}",
    ]
    packages = f"--include={','.join(selection.packages)}"
    # INITRD=No: the root's own kernel hooks would spend a minute on an initrd that nobody boots.
    environment = {"PATH": SEARCH_PATH, "LC_ALL": "C", "SOURCE_DATE_EPOCH": str(archive.epoch), "INITRD": "No", **env}
    # Beside the tree, so that what a killed mmdebstrap leaves goes when the next build removes this one's directory.
    (scratch := tree.with_name("tmp")).mkdir()
    environment["TMPDIR"] = str(scratch)
    child = subprocess.Popen(
        [*contained, *command, packages, *options, archive.suite, str(tree), *_sources(archive)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    last: list[str] = []
    try:
        for line in child.stderr or ():
            last = [*last[-_KEPT_LINES:], line]
            if line.startswith("I: "):
                say(f"mmdebstrap: {line[3:].strip()}")
        status = child.wait()
    finally:
        child.kill()
        # Every process of the namespace holds the pipe: its end says that all of them are gone from the tree.
        child.communicate()
    shutil.rmtree(scratch)
    if status != 0:
        complaints = [line for line in last if line.startswith("E: ")] or last
        raise ProcessError("mmdebstrap", f"failed with status {status}", "".join(complaints[:1]))


def _sources(archive: Archive) -> list[str]:
    entries = [f"deb [signed-by={KEYRING}] {archive.mirror} {archive.suite} main"]
    if archive.security:
        entries.append(f"deb [signed-by={KEYRING}] {archive.security} {archive.suite}-security main")
    return entries


def _release_date(url: str) -> int:
    with urllib.request.urlopen(url, timeout=_PATIENCE) as answer:  # noqa: S310 - file: is a mirror too
        text = answer.read(1 << 20).decode(errors="replace")
    dates = re.findall(r"(?m)^Date: (.*)$", text)
    if not dates:
        raise ValueError(f"{url} is not a Release file")
    return int(parsedate_to_datetime(dates[0]).timestamp())


def _uris(text: str, *, deb822: bool) -> Iterator[str]:
    for line in text.splitlines():
        if deb822:
            name, _, value = line.partition(":")
            if name.lower() == "uris":
                yield from value.split()
        else:
            entry = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)", line)
            if entry:
                yield entry[1]
