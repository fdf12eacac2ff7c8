# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left on the node after all that the other tests did there: nothing. By its name it comes last."""

from __future__ import annotations

import pytest

from ganeti.cluster import Cluster
from ganeti.traces import check_nothing_left

pytestmark = pytest.mark.ganeti


@pytest.mark.row(24)
def test_no_process_mount_loop_device_or_file_is_left_when_all_instances_are_gone(cluster: Cluster) -> None:
    for name in cluster.instances():
        cluster.remove(name)
    check_nothing_left(cluster.node, cluster.before)
