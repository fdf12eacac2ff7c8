# SPDX-License-Identifier: GPL-2.0-or-later
"""InitializeDatasource: under CLOUD_INIT, leave all that is ordered for the image's cloudbase-init.

Name, passwords, keys and network are in the seed, so that the tasks of these names have nothing to do. It lies on a
small partition at the end of the disk, for cloudbase-init looks nowhere on C:.
"""

from __future__ import annotations

from snf_image_helper import cloud_init
from snf_image_helper.base64_text import decoded
from snf_image_helper.cloud_init import seed_partition
from snf_image_helper.guest import Guest
from snf_image_helper.network import netplan
from snf_image_helper.network.cards import cards_of
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, CloudInit, Task
from snf_image_helper.users.public_keys import parse_keys
from snf_image_helper.windows import cloudbase
from snf_image_helper.windows.computer_names import computer_name
from snf_image_shared.job import Job

_DEFAULT_USER = "Administrator"


def initialize_datasource(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError when the image has no cloudbase-init, or the disk no room for the seed."""
    orders = orders_of(job, report)
    documents = cloudbase.documents(orders)
    cloudbase.pin(guest, has_password=bool(orders.passwords))
    seed_partition.put_seed(guest.disk, documents)


def orders_of(job: Job, report: Reporter) -> cloudbase.Orders:
    """What the seed is to say; an excluded task is left out. Raises GuestError."""
    changes_users = _runs(job, "ChangePassword")
    keys = tuple(key.line for key in parse_keys(job.secrets.authorized_keys or "")) if changes_users else ()
    network = netplan.for_cloud_init(cards_of(job.nics)) if _runs(job, "ConfigureNetwork") else {}
    return cloudbase.Orders(
        f"{job.instance}-{cloud_init.deployment(job)}",
        computer_name(job.hostname)[0],
        keys,
        _passwords(job, report) if changes_users else {},
        network,
        decoded(job.secrets.cloud_userdata or "", "cloud_userdata", "user data"),
        clears=not job.cloud_init_debug,
    )


def _passwords(job: Job, report: Reporter) -> dict[str, str]:
    """By user. A hash is refused by ChangePassword, before the first write."""
    if not job.secrets.password:
        return {}
    users = tuple(dict.fromkeys((job.wishes.text("USERS") or "").split()))
    if not users:
        report.warning(f"The property USERS is not set: {_DEFAULT_USER} is taken")
    return dict.fromkeys(users or (_DEFAULT_USER,), job.secrets.password)


def _runs(job: Job, task: str) -> bool:
    """Whether the user has not turned off the task that would do this in another guest."""
    return not job.wishes.flag(f"EXCLUDE_TASK_{task.upper()}")


TASK: Task[Guest] = Task(
    "InitializeDatasource",
    initialize_datasource,
    families=WINDOWS,
    cloud_init=CloudInit.ONLY,
    after=(MOUNT_IMAGE,),
    excludable=False,
)
