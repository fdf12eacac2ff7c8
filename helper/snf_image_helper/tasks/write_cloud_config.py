# SPDX-License-Identifier: GPL-2.0-or-later
"""WriteCloudConfig: tell the guest's cloud-init its names and its user, as instance-image's hook cloud-init did.

A seed with an instance-id of this installation lies beside it: without one cloud-init may not start at all, or take the
guest for the machine that the image was made of.
"""

from __future__ import annotations

from snf_image_helper import cloud_init
from snf_image_helper.guest import Guest, Ownership
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def write_cloud_config(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError for a guest without cloud-init."""
    # Not above: few jobs have such a file.
    from snf_image_helper.hooks import cloud_config  # noqa: PLC0415

    if job.cloud_config is None:
        return
    if not guest.is_dir(cloud_config.PATH.rpartition("/")[0]):
        raise GuestError("cloud-init is not installed in the guest; install it in the image, or turn off its hook")
    instance_id = f"{job.instance}-{cloud_init.deployment(job)}"
    text = cloud_config.document(job.cloud_config, job.instance, instance_id)
    guest.write_text(cloud_config.PATH, text, ownership=Ownership(mode=0o644))
    cloud_init.add_meta_data(guest, {cloud_init.INSTANCE_ID: instance_id})
    if not guest.exists(cloud_init.seed_path(guest, cloud_init.USER_DATA)):
        cloud_init.write_seed(guest, cloud_init.USER_DATA, "")


TASK: Task[Guest] = Task(
    "WriteCloudConfig",
    write_cloud_config,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "InitializeDatasource", "RunHooksBeforeInterfaces"),
    skip=lambda job: None if job.cloud_config else "the hook cloud-init is not switched on",
    rare=True,
)
