# SPDX-License-Identifier: GPL-2.0-or-later
"""InitializeDatasource: under CLOUD_INIT, pin cloud-init to the NoCloud seed and write meta-data and user-data.

What a template's own first boots have left (seed, drop-ins of ours, "done once" marks) goes away before. User data may
hold secrets: it is readable by root alone, and emptied by a script at the first boot.
"""

from __future__ import annotations

import json

from snf_image_helper import cloud_init
from snf_image_helper.base64_text import decoded
from snf_image_helper.cloud_init.activation import activate, pin_seed
from snf_image_helper.guest import Guest, Ownership
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, CloudInit, Task
from snf_image_shared.job import Job

_NAME = "35InitializeDatasource"
_LOG_DIRECTORY = "/var/log/snf-image"
_SCRIPT = "clear_user_data.sh"
# Everything cloud-init logs, in a file of its own.
_LOGGING = f"""[loggers]
keys=root
[handlers]
keys=file
[formatters]
keys=plain
[logger_root]
level=DEBUG
handlers=file
[handler_file]
class=FileHandler
level=DEBUG
formatter=plain
args=("{_LOG_DIRECTORY}/cloud-init-debug.log",)
[formatter_plain]
format=%(asctime)s - %(filename)s[%(levelname)s]: %(message)s
"""


def initialize_datasource(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError when the guest has no cloud-init, or cloud_userdata is no base64."""
    data = decoded(job.secrets.cloud_userdata or "", "cloud_userdata", "user data")
    drop_in = f"{cloud_init.drop_ins(guest)}/{cloud_init.PREFIX}{_NAME}.cfg"
    activate(guest, report)
    if cloud_init.meta_data(guest).get(cloud_init.INSTANCE_ID) != instance_id(job):
        _forget(guest)
    pin_seed(guest, f"{cloud_init.PREFIX}{_NAME}.cfg", report)
    if job.cloud_init_debug:
        guest.make_directory(_LOG_DIRECTORY)
    guest.write_text(drop_in, _drop_in(job), ownership=Ownership(mode=0o644))
    cloud_init.add_meta_data(guest, {cloud_init.INSTANCE_ID: instance_id(job)})
    if not data:
        report.warning("OS parameter cloud_userdata is not set: the user-data of cloud-init is empty")
    cloud_init.write_seed(guest, cloud_init.VENDOR_DATA, "")
    cloud_init.write_seed(guest, cloud_init.USER_DATA, data)
    path = cloud_init.quote(cloud_init.seed_path(guest, cloud_init.USER_DATA))
    cloud_init.write_script(guest, _SCRIPT, (f": > {path}",), debug=job.cloud_init_debug)


def instance_id(job: Job) -> str:
    """The instance's name and what is different at every deployment: cloud-init begins anew when it changes.

    A snapshot of an instance that was made into an image, and deployed under the same name, has the state of the old.
    """
    return f"{job.instance}-{cloud_init.deployment(job)}"


def _drop_in(job: Job) -> str:
    """One key a line: ds-identify, which runs before cloud-init and before /var is mounted, reads it only so.

    With one name in datasource_list it does not search, and nobody asks a metadata server.
    """
    logging = f"logcfg: {json.dumps(_LOGGING)}\n" if job.cloud_init_debug else ""
    return f"datasource_list: [ NoCloud ]\n{logging}"


def _forget(guest: Guest) -> None:
    """Remove what the image's previous life has left of ours, and what would make cloud-init go on with that life."""
    state, drop_ins = cloud_init.state_directory(guest), cloud_init.drop_ins(guest)
    scripts, marks = cloud_init.scripts_directory(guest), f"{state}/sem"
    seeds = [f"{state}/seed/{kind}" for kind in (cloud_init.OTHER_SEED, cloud_init.SEED)]
    stale = [f"{seed}/{name}" for seed in seeds for name in cloud_init.SEED_FILES]
    stale += [f"{drop_ins}/{name}" for name in guest.list_directory(drop_ins) if name.startswith(cloud_init.PREFIX)]
    ours = (_SCRIPT, f"rm_{cloud_init.PREFIX}", "snf-image-")
    stale += [f"{scripts}/{name}" for name in guest.list_directory(scripts, missing_ok=True) if name.startswith(ours)]
    # Scripts of per-once run only while this mark is not there (cloudinit/helpers.py, FileSemaphores).
    stale += [f"{marks}/config_scripts_per_once.once", f"{state}/data/upgraded-network"]
    for path in stale:
        guest.remove(path, missing_ok=True)
    if guest.is_link(f"{state}/instance"):
        guest.remove(f"{state}/instance")  # manual_cache_clean would take the old instance for this one


TASK: Task[Guest] = Task(
    "InitializeDatasource",
    initialize_datasource,
    families=LINUX_ONLY,
    cloud_init=CloudInit.ONLY,
    after=(MOUNT_IMAGE,),
    excludable=False,
)
