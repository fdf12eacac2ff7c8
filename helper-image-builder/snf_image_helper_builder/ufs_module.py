# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's module for UFS with write support, which Debian leaves out: compiled from Debian's own source.

It is made out of tree in a Debian root of its own, which has the compiler, the headers and the source of the very
kernel of the helper, and goes when the module is there. Packages are unpacked and not configured, nothing is mounted.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper_builder.debian import Archive, Selection, bootstrap
from snf_image_helper_builder.recipe import digest
from snf_image_helper_builder.replacement import scratch_beside
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.process import Limits, run

PLACE = "kernel/fs/ufs/ufs.ko"
MODULES = "ufs-*.ko"  # in the cache
_SOURCE = "fs/ufs"
# An unpacked root has nothing but what is named and what that depends on: no alternatives, hence mawk by its name.
_TOOLS = ("base-files", "dash", "bash", "coreutils", "sed", "grep", "findutils", "mawk", "make", "binutils")
_SWITCHES = ("CONFIG_UFS_FS=m", "KCFLAGS=-DCONFIG_UFS_FS=1 -DCONFIG_UFS_FS_WRITE=1", "AWK=mawk")
_LARGEST_FILE = 1 << 20  # bytes of one source file
_COMPILING = Limits(timeout=600)


@dataclass(frozen=True)
class Kernel:
    """`release` as uname -r says it, `version` of Debian's package: headers and source are of the same."""

    release: str
    version: str

    @property
    def packages(self) -> tuple[str, ...]:
        """What the module is built from and with, as apt takes it. Raises ConfigurationError for an odd release."""
        return (f"linux-headers-{self.release}={self.version}", f"{self.source}={self.version}", *_TOOLS)

    @property
    def source(self) -> str:
        """The package of the source: linux-source-6.12 for 6.12.117+deb13-amd64."""
        series = re.match(r"\d+\.\d+(?=[.\-])", self.release)
        if series is None:
            raise ConfigurationError(f"Debian has no package with the source of the kernel {self.release}")
        return f"linux-source-{series[0]}"


def ufs_module(
    archive: Archive, kernel: Kernel, cache: Path, env: Mapping[str, str], say: Callable[[str], None]
) -> Path:
    """The module in the directory `cache`, which keeps the one of this kernel and no other.

    The caller holds the lock on it. Raises ProcessError, ConfigurationError or OSError, and then nothing is left of
    the attempt.
    """
    kept = cache / f"ufs-{kernel.release}-{digest([kernel.version, _SWITCHES])[:8]}.ko"
    if kept.exists():
        return kept
    say(f"compiling the module for UFS from {kernel.source}: about a minute")
    with scratch_beside(kept) as workshop:
        tree = workshop / "tree"
        tree.mkdir(mode=0o755)
        bootstrap(archive, Selection(kernel.packages, variant="extract"), tree, env, say)
        _unpack_source(tree / "usr/src" / f"{kernel.source}.tar.xz", tree / "build")
        compiled = _compiled(tree, kernel.release)
        for old in cache.glob(MODULES):
            old.unlink()
        with compiled.open("rb") as file:
            os.fsync(file.fileno())  # the name alone says later that it is whole
        compiled.replace(kept)
    return kept


def _unpack_source(archive: Path, place: Path) -> None:
    """Write the files of fs/ufs. The archive is read no further than them: it has 1.5 GB. Raises ConfigurationError."""
    place.mkdir()
    try:
        found = _unpacked(archive, place)
    except tarfile.TarError as error:
        raise ConfigurationError(f"{archive.name} cannot be unpacked ({error}): run again with --force") from error
    if not found:
        raise ConfigurationError(f"{archive.name} has no {_SOURCE}: Debian's source package is laid out anew")


def _unpacked(archive: Path, place: Path) -> bool:
    found = False
    with tarfile.open(archive, "r|xz") as tar:
        for member in tar:
            folder, _, name = member.name.partition("/")[2].rpartition("/")
            content = tar.extractfile(member) if folder == _SOURCE and member.isreg() else None
            if content is not None:
                found = True
                (place / name).write_bytes(content.read(_LARGEST_FILE))
            elif found and not f"{folder}/{name}/".startswith(f"{_SOURCE}/"):
                break
    return found


def _compiled(tree: Path, release: str) -> Path:
    headers = f"/usr/src/linux-headers-{release}"
    run(["chroot", str(tree), "make", "-C", headers, "M=/build", *_SWITCHES, "modules"], limits=_COMPILING)
    run(["chroot", str(tree), "strip", "--strip-debug", "/build/ufs.ko"], limits=_COMPILING)
    return tree / "build/ufs.ko"
