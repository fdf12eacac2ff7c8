# SPDX-License-Identifier: GPL-2.0-or-later
"""A tarball, or dumps, unpacked onto new file systems."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from snf_image_helper import inputs
from snf_image_helper.deployment.cell import cell
from snf_image_helper.deployment.content import Content
from snf_image_helper.deployment.dumps import restore, restore_boot
from snf_image_helper.deployment.tarballs import unpack_tarball
from snf_image_helper.deployment.tree import Tree
from snf_image_helper.reporter import Reporter
from snf_image_shared.deployment import Deployment, Form, Input
from snf_image_shared.errors import GuestError


def unpack(deployment: Deployment, tree: Tree, report: Reporter) -> None:
    """Raises GuestError, ProcessError, OSError."""
    if deployment.root is None:
        raise GuestError("the job names no image to unpack")
    with cell(tree) as prepared:
        if deployment.form is Form.TARBALL:
            with _content(deployment.root) as content:
                unpack_tarball(content, prepared, report)
        else:
            with _content(deployment.root) as content:
                restore(content, prepared, report)
            if deployment.boot:
                with _content(deployment.boot) as content:
                    restore_boot(content, prepared, report)


@contextmanager
def _content(image: Input) -> Iterator[Content]:
    with inputs.opened(image) as fd:
        yield Content(image.name, fd, image.length)
