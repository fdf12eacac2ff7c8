# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of rename: request -> disk -> floppy -> helper VM, where the guest gets its instance's new name.

Ganeti renames the instance whatever we answer, so what a guest does not allow is a warning that ends the log; only what
the administrator of the node has to mend is a failure. The guest is a running system's: nothing is ever wiped here.
As ever, rename sends no progress messages and starts no PROGRESS_MONITOR: the log tells all.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from snf_image_host.configuration.settings import Settings
from snf_image_host.disks.instance_disks import InstanceDisk, disks_from_environment
from snf_image_host.ganeti import HYPERVISORS
from snf_image_host.os_interface import check_api_version
from snf_image_host.parameters.hostnames import instance_name
from snf_image_host.parameters.osparams import os_parameters
from snf_image_host.progress import Progress
from snf_image_host.vm.floppy import config_floppy, device_for
from snf_image_host.vm.jobs import job_without_image
from snf_image_shared.errors import HelperError, RequestError
from snf_image_shared.job import JOB_FILE, Action, Job
from snf_image_shared.properties import Properties, merge, parse_properties
from snf_image_shared.report import NOT_RENAMED

if TYPE_CHECKING:
    from snf_image_host.vm.hook_orders import HookOrder

_EXCLUSIONS = ("EXCLUDE_ALL_TASKS", "EXCLUDE_MOUNTED_TASKS", "EXCLUDE_TASK_ASSIGNHOSTNAME")


def rename(env: Mapping[str, str], root: Path) -> None:
    """Give the guest of the instance in `env` its new name. `root` is where the provider is installed, "/" on a node.

    Raises SnfImageError for what is wrong with the node, the disk, or the call.
    """
    settings = Settings.load(env.get("OS_VARIANT", ""), root)
    with Progress.start(env.get("INSTANCE_NAME", ""), None) as progress:
        for warning in settings.warnings:
            progress.warning(warning)
        if not settings.rename:
            progress.info(f"{NOT_RENAMED}: RENAME=no in the settings")
            return
        request = RenameRequest.from_environment(env, os_parameters(env, settings))
        for warning in request.properties.odd_flags(_EXCLUSIONS):
            progress.warning(warning)
        if reason := request.objection:
            progress.info(f"{NOT_RENAMED}: {reason}")
        elif refusal := rename_guest(request, request.job(settings), settings, progress):
            progress.warning(refusal)


@dataclass(frozen=True)
class RenameRequest:
    """What Ganeti asks for. Neither an image nor a secret is part of it: a reinstallation forgets those parameters.

    `hostname` is the OS parameter, by which the user has taken the guest's name into his own hands.
    """

    old: str
    new: str
    hypervisor: str
    disks: tuple[InstanceDisk, ...]
    hostname: str
    properties: Properties

    @classmethod
    def from_environment(cls, env: Mapping[str, str], parameters: Mapping[str, str]) -> RenameRequest:
        """`parameters` are the OS parameters by upper-case name. Raises RequestError."""
        check_api_version(env)
        hypervisor = env.get("HYPERVISOR", "")
        if hypervisor not in HYPERVISORS:
            raise RequestError(f"HYPERVISOR: {hypervisor[:40]!r} is not one of {', '.join(HYPERVISORS)}")
        return cls(
            old=_name(env, "OLD_INSTANCE_NAME"),
            new=_name(env, "INSTANCE_NAME"),
            hypervisor=hypervisor,
            disks=() if env.get("DISK_COUNT") == "0" else disks_from_environment(env),
            hostname=parameters.get("HOSTNAME", ""),
            properties=merge(
                parse_properties(parameters.get("IMG_PROPERTIES") or "{}", "img_properties"),
                parse_properties(parameters.get("INST_PROPERTIES") or "{}", "inst_properties"),
            ),
        )

    @property
    def objection(self) -> str | None:
        """Why there is nothing to do, if so: known without a look at the disk."""
        if self.hostname:
            return f"the OS parameter hostname gives it the name {self.hostname}, whatever the instance is called"
        if self.new == self.old:
            return f"the instance was called {self.old} before"
        if not self.disks:
            return "the instance has no disk"
        return next((f"the property {name} is set" for name in _EXCLUSIONS if self.properties.flag(name)), None)

    def job(self, settings: Settings) -> Job:
        """What the helper is told: the first disk alone, for no other is mounted."""
        return replace(
            job_without_image(Action.RENAME, self.new, settings),
            hostname=self.new,
            old_hostname=self.old,
            properties=self.properties.values,
        )


def _name(env: Mapping[str, str], variable: str) -> str:
    try:
        return instance_name(env.get(variable, ""))
    except ValueError as error:
        raise RequestError(f"{variable}: {error}; Ganeti sets it, so call me through Ganeti") from error


def rename_guest(
    request: RenameRequest, job: Job, settings: Settings, progress: Progress, hooks: HookOrder | None = None
) -> str | None:
    """Have the helper do the job; the answer is its warning if it did not rename the guest. Raises SnfImageError.

    `hooks` run once the guest has its new name.
    """
    # Not above: where nothing is renamed, the machinery is not to be waited for.
    from snf_image_host.disks.storage import open_disks  # noqa: PLC0415
    from snf_image_host.vm.helper_vm import HelperVM, Payload  # noqa: PLC0415
    from snf_image_host.vm.hook_orders import hooks_input  # noqa: PLC0415
    from snf_image_host.vm.inputs import Inputs  # noqa: PLC0415

    inputs = Inputs()
    with ExitStack() as stack:
        packed = hooks_input(hooks, settings, inputs, stack) if hooks else None
        files = {JOB_FILE: replace(job, hooks=packed).dump()}
        device_for(files, settings.helper_config_device)  # refuses what is too much for a floppy
        helper_vm = stack.enter_context(HelperVM.ready(settings))
        disk, *_ = stack.enter_context(open_disks(request.disks[:1], settings))
        floppy = stack.enter_context(config_floppy(files, helper_vm.config_device))
        progress.info(f"Renaming the guest from {request.old} to {request.new}...")
        payload = Payload((disk,), floppy, None, request.hypervisor, inputs=tuple(inputs.drives))
        try:
            helper_vm.run(replace(payload, patience=packed.timeout if packed else 0.0), progress)
        except HelperError as error:
            raise HelperError(
                f"{error} The guest on the disk may still be called {request.old}; start it and look"
            ) from error
    said = [text for text in progress.helper_warnings if text.startswith(NOT_RENAMED)]
    if said:
        return said[-1]
    progress.info(f"The guest bears the instance's new name, {request.new}.")
    return None
