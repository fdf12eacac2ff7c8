# SPDX-License-Identifier: GPL-2.0-or-later
"""DeleteSSHKeys: replace the host keys that an image brings by new ones of their types, also those that HostKey names.

A guest without keys gets none here: rc.d/sshd of FreeBSD and NetBSD and make_keys() of OpenBSD's rc make those with the
usual names before sshd starts. What was there is made by the helper: NetBSD's first boot may have no entropy for it,
and nobody would make a key with another name. The same under CLOUD_INIT.
"""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import BSD, MOUNT_IMAGE, Task
from snf_image_helper.tasks.delete_ssh_keys import find_host_keys, replace_keys
from snf_image_shared.job import Job


def delete_ssh_keys(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError and ProcessError."""
    old = find_host_keys(guest)
    replace_keys(guest, job, old, tuple(key for key in old if key.type))


TASK: Task[Guest] = Task(
    "DeleteSSHKeys", delete_ssh_keys, families=BSD, after=(MOUNT_IMAGE,), decides="of the types that are there"
)
