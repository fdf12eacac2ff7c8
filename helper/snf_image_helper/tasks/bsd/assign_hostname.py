# SPDX-License-Identifier: GPL-2.0-or-later
"""AssignHostname: the guest gets the instance's name, in rc.conf or /etc/myname, and the template's leaves /etc/hosts.

The same under CLOUD_INIT: what nuageinit or cloud-init finds in its seed says no other name.
"""

from __future__ import annotations

from snf_image_helper.bsd import host_names
from snf_image_helper.files.edits import Edits
from snf_image_helper.guest import Guest
from snf_image_helper.linux.host_names import HOSTS, short
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import BSD, MOUNT_IMAGE, Task
from snf_image_helper.tasks.assign_hostname import change_hosts, full_name, hostname_policy
from snf_image_shared.job import Job


def assign_hostname(guest: Guest, job: Job, report: Reporter) -> None:
    """A fully qualified name stays one, unless HOSTNAME_POLICY is short. All files are written or none."""
    full, edits = full_name(job), Edits(guest)
    host_names.forget_template(edits, full)
    host_names.put(edits, short(full) if hostname_policy(job) == "short" else full)
    hosts = edits.text(HOSTS)
    if hosts is not None:
        edits.put(HOSTS, change_hosts(hosts, full))
    edits.apply()


def _skip(job: Job) -> str | None:
    hostname_policy(job)
    return None


TASK: Task[Guest] = Task(
    "AssignHostname", assign_hostname, families=BSD, after=(MOUNT_IMAGE, "InitializeDatasource"), skip=_skip
)
