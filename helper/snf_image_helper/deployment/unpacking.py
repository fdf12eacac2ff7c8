# SPDX-License-Identifier: GPL-2.0-or-later
"""A tarball, or dumps, unpacked onto new file systems."""

from __future__ import annotations

import os
from pathlib import Path

from snf_image_helper import inputs
from snf_image_helper.deployment.tree import Tree
from snf_image_helper.reporter import Reporter
from snf_image_shared.deployment import Deployment, Form, Input
from snf_image_shared.errors import GuestError
from snf_image_shared.process import Limits, chain, run

_PATIENCE = 24 * 3600.0  # seconds: the host's deadline is the one that counts
_DECOMPRESSORS = (
    (b"\x1f\x8b", ["gzip", "-dc"]),
    (b"BZh", ["bzip2", "-dc"]),
    (b"\xfd7zXZ\0", ["xz", "-dc"]),
    (b"\x28\xb5\x2f\xfd", ["zstd", "-dc"]),
)


def unpack(deployment: Deployment, tree: Tree, report: Reporter) -> None:
    """Raises GuestError, ProcessError."""
    if deployment.root is None:
        raise GuestError("the job names no image to unpack")
    if deployment.form is Form.TARBALL:
        if tree.boot:
            boot = Path(tree.root, "boot")
            boot.mkdir()
            run(["mount", "--bind", tree.boot, str(boot)])
        try:
            _unpack_tarball(deployment.root, tree.root)
        finally:
            if tree.boot:
                run(["umount", str(Path(tree.root, "boot"))])
    else:
        raise GuestError("dumps cannot be unpacked yet")


def _unpack_tarball(image: Input, root: str) -> None:
    with inputs.opened(image) as fd:
        head = os.pread(fd, 8, 0)
        decompressor = [command for magic, command in _DECOMPRESSORS if head.startswith(magic)]
        tar = ["tar", "-x", "-C", root, "-f", "-", "--numeric-owner", "--same-owner", "-p", "--xattrs", "--acls"]
        tar += ["--xattrs-include=*"]
        chain([inputs.only(image), *decompressor, tar], fd, Limits(timeout=_PATIENCE))
