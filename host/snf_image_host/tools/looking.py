# SPDX-License-Identifier: GPL-2.0-or-later
"""The helper VM, for the tools: asked what is on a disk, or for an archive of the guest on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snf_image_host.configuration.settings import Settings
from snf_image_host.inspection.document import read_findings
from snf_image_host.progress import Progress
from snf_image_host.vm.deadlines import FAILED
from snf_image_host.vm.drives import Attachable
from snf_image_host.vm.floppy import config_floppy
from snf_image_host.vm.helper_vm import HelperVM, Payload
from snf_image_host.vm.jobs import job_without_image
from snf_image_host.vm.stream_port import Stream
from snf_image_shared.errors import HelperError
from snf_image_shared.findings import Findings
from snf_image_shared.job import JOB_FILE, Action, Job

FOREVER = 10 * 365 * 86400.0  # seconds
_VERBOSE = "(-v shows the helper VM's console)"


@dataclass(frozen=True)
class Looking:
    """Where helper VMs are started from, and whom they report to."""

    helper_vm: HelperVM
    settings: Settings
    progress: Progress

    def find(self, disk: Attachable) -> Findings:
        """What is on the disk, which is only read. Raises HelperError."""
        return read_findings(self.run(self.job(Action.INSPECT), (disk,)))

    def job(self, action: Action, disks: int = 1, name: str = "instance") -> Job:
        """A job for so many disks, of an instance that is called so."""
        return job_without_image(action, name, self.settings, disks)

    def run(self, job: Job, disks: Sequence[Attachable], stream: Stream | None = None) -> str:
        """What the helper has found, when all is done. With a stream there is no deadline once it has booted.

        Raises HelperError, or whatever the stream's sink has raised.
        """
        files = {JOB_FILE: job.dump()}
        with config_floppy(files, self.helper_vm.config_device) as floppy:
            payload = Payload(tuple(disks), floppy, None, "kvm", stream=stream, patience=FOREVER if stream else 0.0)
            try:
                return self.helper_vm.run(payload, self.progress)
            except HelperError as error:
                reason = str(error).removeprefix(FAILED).strip()
                raise HelperError(f"{reason} {_VERBOSE}") from error
