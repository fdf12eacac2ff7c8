# SPDX-License-Identifier: GPL-2.0-or-later
"""EnforcePersonality: put the files of OS parameter img_personality onto C:.

Owner, group and mode mean nothing to Windows: a file gets what its directory hands down. A file that is there already
stays beside the new one under a name that tells when that was. cloudbase-init has nothing to do with it.
"""

from __future__ import annotations

import time

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, Task
from snf_image_helper.tasks.enforce_personality import contents
from snf_image_shared.job import Job


def enforce_personality(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError naming the file that cannot be put. All contents are checked before the first is written."""
    wanted = [(file.path, contents(file)) for file in job.personality]
    if any(file.owner or file.group for file in job.personality):
        report.warning("OS parameter img_personality: owner and group are left out, Windows has no such ones")
    for path, content in wanted:
        if guest.is_file(path):
            if guest.head(path, len(content) + 1) == content:
                continue
            guest.rename(path, f"{path}.bak.{time.strftime('%Y%m%d.%H%M%S', time.gmtime())}")
        guest.make_directory(path.rpartition("/")[0] or "/")
        guest.write_bytes(path, content)


TASK: Task[Guest] = Task(
    "EnforcePersonality",
    enforce_personality,
    families=WINDOWS,
    after=(MOUNT_IMAGE, "ChangePassword", "AssignHostname"),
    skip=lambda job: None if job.personality else "OS parameter img_personality is not set",
)
