# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian node as it is before snf-image comes: Ganeti, QEMU, and what our packages depend on."""

from __future__ import annotations

from pathlib import Path

from images.bootstrap import Recipe, bootstrap
from images.cache import cached
from snf_image_shared.process import Limits, run

# The release's number, and what our packages depend on there beyond the rest.
SUITES = {"bookworm": ("12", ()), "trixie": ("13", ("python3-pydantic", "python3-isal"))}
_PACKAGES = (
    *("ganeti", "openssh-server", "python3", "qemu-system-x86", "qemu-utils", "bubblewrap", "curl", "e2fsprogs"),
    *("gpgv", "zstd", "python3-libnbd", "python3-zstandard", "python3-lz4"),
)
_SECONDS = 600.0


def ganeti_node(suite: str, cache: Path) -> Path:
    """Give the read-only archive of a node of `suite`, building it on the first call: a minute. Raises ProcessError."""
    return cached(cache, f"ganeti-node-{suite}", ("ganeti_node", "bootstrap"), lambda scratch: _build(suite, scratch))


def unpack(archive: Path, root: Path) -> None:
    """Fill the empty directory `root` with the node. Raises ProcessError."""
    run(["tar", "--extract", *_tar(archive, root)], limits=Limits(timeout=_SECONDS))


def _build(suite: str, scratch: Path) -> Path:
    root, archive = scratch / "root", scratch / "node.tar.zst"
    _, more = SUITES[suite]
    bootstrap(Recipe(suite, "minbase", (*_PACKAGES, *more)), root)
    run(["tar", "--create", *_tar(archive, root), "."], limits=Limits(timeout=_SECONDS))
    return archive


def _tar(archive: Path, root: Path) -> list[str]:
    # File capabilities are extended attributes, and Ganeti's daemons may have some.
    keep = ("--numeric-owner", "--xattrs", "--xattrs-include=*", "--preserve-permissions")
    return ["--use-compress-program=zstd -T0 -1", "--file", str(archive), "--directory", str(root), *keep]
