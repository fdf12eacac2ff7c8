# SPDX-License-Identifier: GPL-2.0-or-later
"""InitializeDatasource: under CLOUD_INIT, pin cloud-init to the NoCloud seed and write meta-data and user-data.

User data may hold secrets: it is readable by root alone, and emptied by a script at the first boot.
"""

from __future__ import annotations

import binascii

from snf_image_helper import cloud_init
from snf_image_helper.cloud_init import Json
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, CloudInit, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

_NAME = "35InitializeDatasource"
_LOG_DIRECTORY = "/var/log/snf-image"
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
args=("{_LOG_DIRECTORY}/cloud-init.log",)
[formatter_plain]
format=%(asctime)s - %(filename)s[%(levelname)s]: %(message)s
"""


def initialize_datasource(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError when the guest has no cloud-init, or cloud_userdata is no base64."""
    configuration: dict[str, Json] = {"datasource_list": ["NoCloud"]}
    if job.cloud_init_debug:
        configuration["logcfg"] = _LOGGING
        guest.make_directory(_LOG_DIRECTORY)
    cloud_init.write_configuration(guest, _NAME, configuration)
    cloud_init.add_meta_data(guest, {"instance-id": job.instance})
    if not job.secrets.cloud_userdata:
        report.warning("OS parameter cloud_userdata is not set: the user-data of cloud-init is empty")
    guest.make_directory(cloud_init.SEED)
    guest.write_bytes(cloud_init.USER_DATA, _user_data(job), ownership=cloud_init.PRIVATE)
    cloud_init.write_script(guest, "clear_user_data.sh", (f": > {cloud_init.USER_DATA}",), debug=job.cloud_init_debug)


def _user_data(job: Job) -> bytes:
    try:
        return binascii.a2b_base64("".join((job.secrets.cloud_userdata or "").split()), strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise GuestError(f"OS parameter cloud_userdata: {error}; encode the user data with base64") from error


TASK: Task[Guest] = Task(
    "InitializeDatasource",
    initialize_datasource,
    families=LINUX_ONLY,
    cloud_init=CloudInit.ONLY,
    after=(MOUNT_IMAGE,),
    excludable=False,
)
