# SPDX-License-Identifier: GPL-2.0-or-later
"""A helper image as one file for other nodes: the same helper gives the same bytes, and nothing else is ever unpacked.

The tar inside is ustar with six regular files in a fixed order. What is read back is bounded before it is believed.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from snf_image_shared import __version__
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.manifest import MANIFEST
from snf_image_shared.process import Limits, ProcessError, run

SUFFIX = ".tar.zst"
_MIB = 1 << 20
# Largest sizes in bytes: several times what they are.
MEMBERS = {MANIFEST: _MIB, "version": 1024, "packages": _MIB, "kernel": 256 * _MIB, "initrd": 256 * _MIB}
MEMBERS |= {"image": 1024 * _MIB}
LARGEST = 1024 * _MIB  # of the tarball
_UNPACKED = sum(MEMBERS.values()) + _MIB
_PATIENCE = 600.0

# Who reads what came from elsewhere: nobody, without network or privileges.
NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"),
    *("--bounding-set=-all", "--inh-caps=-all", "--pdeathsig=KILL"),
)
ALONE = ("unshare", "--net", "--ipc", *NOBODY)


def name(version: str = __version__) -> str:
    """What a helper of `version` is called on a mirror."""
    return f"snf-image-helper-{version}{SUFFIX}"


def pack(directory: Path, target: Path) -> None:
    """Write the helper in `directory` to the new file `target`. Raises OSError, or ProcessError when zstd fails."""
    plain = target.with_name(target.name + ".tar")
    try:
        with tarfile.open(plain, "w", format=tarfile.USTAR_FORMAT) as tar:
            for member in MEMBERS:
                _add(tar, directory / member)
        with target.open("wb") as packed:
            # Two threads on every machine: their number is seen in the bytes.
            command = ["zstd", "-q", "-9", "-T2", "-c", "--", str(plain)]
            run(command, limits=Limits(timeout=_PATIENCE, stdout=packed.fileno()))
            os.fsync(packed.fileno())
    finally:
        plain.unlink(missing_ok=True)


def unpack(tarball: Path, scratch: Path, target: Path) -> None:
    """Fill the empty directory `target` from `tarball`; `scratch` is one for what is only needed meanwhile.

    Raises ConfigurationError for anything in it but the files of a helper, each once and no larger than it may be.
    """
    plain = scratch / "tar"
    try:
        with tarball.open("rb") as packed, plain.open("wb") as out:
            bounds = ("prlimit", f"--fsize={_UNPACKED}", f"--as={512 * _MIB}")
            command = [*bounds, *ALONE, "zstd", "-q", "-d", "-c", "-f", "--", f"/proc/self/fd/{packed.fileno()}"]
            run(command, limits=Limits(timeout=_PATIENCE, pass_fds=(packed.fileno(),), stdout=out.fileno()))
        with plain.open("rb") as file, _as_tar(file) as tar:
            _take(tar, target)
    except (tarfile.TarError, ProcessError, ValueError) as error:  # ValueError: a map of holes in no order
        raise ConfigurationError(f"this is no {name()} as snf-image-dump-helper makes it: {error}") from error
    finally:
        plain.unlink(missing_ok=True)


def _add(tar: tarfile.TarFile, path: Path) -> None:
    header = tarfile.TarInfo(path.name)
    header.mode = 0o644
    with path.open("rb") as content:
        header.size = os.fstat(content.fileno()).st_size
        tar.addfile(header, content)


@contextmanager
def _as_tar(file: BinaryIO) -> Iterator[tarfile.TarFile]:
    # "r|": strictly from the first to the last, without a look at where a header says that something lies.
    with tarfile.open(fileobj=file, mode="r|") as tar:
        yield tar


def _take(tar: tarfile.TarFile, target: Path) -> None:
    missing = dict(MEMBERS)
    for member in tar:
        largest = missing.pop(member.name, None)
        if largest is None:
            raise tarfile.TarError(f"{member.name[:100]!r} does not belong there, or is there twice")
        if member.type != tarfile.REGTYPE or member.pax_headers or member.issparse():
            raise tarfile.TarError(f"{member.name} is not a plain file")
        if member.size > largest:
            raise tarfile.TarError(f"{member.name} has {member.size} bytes, more than {largest}")
        content = tar.extractfile(member)
        if content is None:
            raise tarfile.TarError(f"{member.name} has no content")
        with content, (target / member.name).open("xb") as out:
            shutil.copyfileobj(content, out, _MIB)
        (target / member.name).chmod(0o644)
    if missing:
        raise tarfile.TarError(f"{', '.join(missing)} is missing")
