# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of an image that is no disk: divide the disk, make file systems, unpack the archive, write fstab.

After it the disk is one like any other that an image was copied to.
"""

from __future__ import annotations

from collections.abc import Callable

from snf_image_helper.deployment.file_systems import make_file_systems
from snf_image_helper.deployment.furnishing import furnish
from snf_image_helper.deployment.partitioning import divide
from snf_image_helper.deployment.tree import Tree, mounted_tree
from snf_image_helper.deployment.unpacking import unpack
from snf_image_helper.disks.disk import Disk
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import reported
from snf_image_shared.deployment import Deployment
from snf_image_shared.layouts import Role

Filling = Callable[[Deployment, Tree, Reporter], None]


def deploy(disk: Disk, deployment: Deployment, report: Reporter, fill: Filling = unpack) -> int:
    """Fill the empty first disk; the number of the root's partition. `fill` unpacks there. Raises GuestError."""
    with reported("PartitionDisk", report):
        planned = divide(disk, deployment.layout)
    with reported("MakeFileSystems", report):
        made = make_file_systems(disk, deployment.layout, planned)
    with reported("UnpackImage", report), mounted_tree(made) as tree:
        fill(deployment, tree, report)
        furnish(disk, tree, made, report, brings_disks=deployment.root is None)
    return next(each.number for each in planned if each.role is Role.ROOT)
