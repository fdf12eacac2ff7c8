# SPDX-License-Identifier: GPL-2.0-or-later
"""The job that the helper gets: for a request, or for a disk that no image comes to."""

from __future__ import annotations

import secrets
from dataclasses import replace

from snf_image_host.configuration.settings import Settings
from snf_image_host.ganeti import Request
from snf_image_host.hooks.switches import HookSet, Switch
from snf_image_host.images.names import DUMPS
from snf_image_host.vm.qemu import disk_serial
from snf_image_shared.job import JOB_VERSION, Action, Job
from snf_image_shared.properties import parse_properties

_SEED = 64  # bytes of the host's randomness for the helper


def job_for(
    request: Request, settings: Settings, answer_file: str | None = None, node_answer_file: str | None = None
) -> Job:
    """What the helper is told; the answer files are in base64. Pure but for the seed."""
    return Job(
        version=JOB_VERSION,
        instance=request.instance,
        hostname=request.hostname,
        image_format=request.image.format,
        disks=tuple(disk_serial(index) for index in range(len(request.disks))),
        properties={
            **parse_properties(settings.default_properties or "{}", "DEFAULT_PROPERTIES"),
            **_dump_properties(request.image.format),
            **_switched_on(request.hooks),
            **request.properties,
        },
        personality=request.personality,
        nics=request.nics,
        secrets=replace(request.secrets, answer_file=answer_file, node_answer_file=node_answer_file),
        windows_timezone=settings.windows_timezone,
        environment=request.guest_environment,
        seed=secrets.token_hex(_SEED),
        cloud_init_debug=settings.cloud_init_debug,
        debug=settings.helper_debug,
    )


def job_without_image(action: Action, instance: str, settings: Settings, disks: int = 1) -> Job:
    """What the helper is told of so many disks as they are. Pure but for the seed."""
    return Job(
        version=JOB_VERSION,
        instance=instance,
        hostname="",
        image_format="",
        disks=tuple(disk_serial(index) for index in range(disks)),
        action=action,
        seed=secrets.token_hex(_SEED),
        debug=settings.helper_debug,
    )


def _dump_properties(img_format: str) -> dict[str, str]:
    """The properties that follow from the format; those that somebody gave win over them (contract 2.2)."""
    if family := DUMPS.get(img_format):
        return {"OSFAMILY": family, "ROOT_PARTITION": "1"}
    return {}


def _switched_on(hooks: HookSet | None) -> dict[str, str]:
    """The property that a switch stands for, by either definition; one that somebody gave wins over it."""
    return {"CRON_RANDOMIZE": "yes"} if hooks and Switch.CRON_RANDOMIZE in hooks.switches else {}
