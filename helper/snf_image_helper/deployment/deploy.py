# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of an image that is no disk: divide the disk, make file systems, unpack the archive, write fstab.

After it the disk is one like any other that an image was copied to.
"""

from __future__ import annotations

from snf_image_helper.deployment.file_systems import make_file_systems
from snf_image_helper.deployment.fstab_writing import write_fstab
from snf_image_helper.deployment.partitioning import divide
from snf_image_helper.deployment.tree import mounted_tree
from snf_image_helper.deployment.unpacking import unpack
from snf_image_helper.disks.disk import Disk
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import reported
from snf_image_shared.deployment import Deployment


def deploy(disk: Disk, deployment: Deployment, report: Reporter) -> None:
    """Fill the empty first disk. Raises GuestError."""
    with reported("PartitionDisk", report):
        planned = divide(disk, deployment.layout)
    with reported("MakeFileSystems", report):
        made = make_file_systems(disk, deployment.layout, planned)
    with reported("UnpackImage", report), mounted_tree(made) as tree:
        unpack(deployment, tree, report)
        write_fstab(tree, deployment.layout, made)
