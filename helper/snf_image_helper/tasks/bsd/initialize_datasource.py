# SPDX-License-Identifier: GPL-2.0-or-later
"""InitializeDatasource: under CLOUD_INIT, the seed for what a BSD has: cloud-init's port, or FreeBSD's nuageinit.

The other tasks do on a BSD what they do without CLOUD_INIT; what is left for the first boot is the user's own
user-data. cloud-init finds its seed in a directory, nuageinit on a partition alone.
"""

from __future__ import annotations

from snf_image_helper import cloud_init
from snf_image_helper.base64_text import decoded
from snf_image_helper.bsd.rc_conf import RcConf
from snf_image_helper.cloud_init import nuageinit
from snf_image_helper.cloud_init.seed_partition import put_seed
from snf_image_helper.cloud_init.user_data import is_script
from snf_image_helper.files.edits import Edits
from snf_image_helper.guest import Guest
from snf_image_helper.linux.host_names import short
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily
from snf_image_helper.task import BSD, MOUNT_IMAGE, CloudInit, Task
from snf_image_helper.tasks import initialize_datasource as linux
from snf_image_helper.tasks.assign_hostname import full_name, hostname_policy
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

_FIRST_BOOT = "/firstboot"  # what rc(8) of FreeBSD looks for, firstboot_sentinel
# Scripts of cloud-init's port, and the variable that starts it.
_SERVICE = "/usr/local/etc/rc.d/cloudinit"
_ENABLED = "cloudinit_enable"
# What a nuageinit has to know for the first boot's script to get there, and calls by this name.
_NEEDED = "write_files"


def initialize_datasource(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError for a guest that has neither, for user-data that it cannot use, and a disk without room."""
    if any(guest.is_dir(f"{path}.d") for path in cloud_init.MAIN):
        linux.initialize_datasource(guest, job, report)
        if name := _name(job):
            cloud_init.add_meta_data(guest, {cloud_init.NAME: name})
        if guest.system.family is OsFamily.FREEBSD and guest.exists(_SERVICE):
            _set(guest, _ENABLED)
    elif guest.system.family is OsFamily.FREEBSD and guest.is_file(nuageinit.PROGRAM):
        _for_nuageinit(guest, job, report)
    else:
        raise GuestError(
            f"CLOUD_INIT is set, and this {guest.system.family} has neither {cloud_init.MAIN[1]}.d nor "
            f"{nuageinit.PROGRAM}; install cloud-init in the image, or take a FreeBSD from 14.1 on"
        )


def _for_nuageinit(guest: Guest, job: Job, report: Reporter) -> None:
    """Without user-data there is no seed: nuageinit would make a user whom everybody knows the password of."""
    data = decoded(job.secrets.cloud_userdata or "", "cloud_userdata", "user data")
    if not data:
        report.warning("OS parameter cloud_userdata is not set: nuageinit gets no seed and does nothing")
        return
    if _NEEDED not in guest.read_text(nuageinit.PROGRAM):
        if is_script(data):
            raise GuestError(
                f"cloud_userdata is a script, which this guest could not start: its {nuageinit.PROGRAM} "
                f"knows no {_NEEDED}; take a FreeBSD from 14.3 on"
            )
        report.warning(
            "This guest's nuageinit is older than that of FreeBSD 14.3: what the seed says stays on its partition, and "
            f"{_NEEDED}, runcmd and chpasswd in it have no effect"
        )
    put_seed(guest.disk, nuageinit.seed_beside_tasks(job, _name(job), data))
    _set(guest, "nuageinit_enable")
    if not guest.exists(_FIRST_BOOT):
        guest.write_text(_FIRST_BOOT, "")


def _name(job: Job) -> str:
    """What AssignHostname gives the guest; "" where that is turned off."""
    if job.wishes.flag("EXCLUDE_TASK_ASSIGNHOSTNAME"):
        return ""
    full = full_name(job)
    return short(full) if hostname_policy(job) == "short" else full


def _set(guest: Guest, name: str) -> None:
    edits = Edits(guest)
    RcConf(edits).set(name, "YES")
    edits.apply()


TASK: Task[Guest] = Task(
    "InitializeDatasource",
    initialize_datasource,
    families=BSD,
    cloud_init=CloudInit.ONLY,
    after=(MOUNT_IMAGE,),
    excludable=False,
    decides="for cloud-init or nuageinit",
)
