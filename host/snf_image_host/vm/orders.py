# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run gets beside its job, as disks of the VM: archives of an image that is no disk, the overlay, the hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from snf_image_host.configuration.settings import Settings
from snf_image_host.ganeti import Request
from snf_image_host.images.archives import open_archive
from snf_image_host.parameters.layout import layout_from
from snf_image_host.progress import Progress
from snf_image_host.vm.deadlines import SLOWEST
from snf_image_host.vm.drives import Drive
from snf_image_host.vm.hook_orders import cloud_config, hook_order, hooks_input, overlay_input, sends_name
from snf_image_host.vm.inputs import Inputs
from snf_image_shared.deployment import CloudConfig, Deployment, Form, Hooks, Input
from snf_image_shared.job import Job
from snf_image_shared.layouts import partitions


@dataclass(frozen=True)
class Orders:
    """What was opened, and what the job says of it."""

    request: Request
    inputs: Inputs
    root: Input | None = None
    boot: Input | None = None
    overlay: Input | None = None
    hooks: Hooks | None = None
    cloud_config: CloudConfig | None = None

    @property
    def drives(self) -> tuple[Drive, ...]:
        """For Payload."""
        return tuple(self.inputs.drives)

    @property
    def patience(self) -> float:
        """Seconds that reading all of it may take, and the hooks."""
        return self.inputs.size / SLOWEST + (len(self.hooks.names) * self.hooks.timeout if self.hooks else 0.0)

    def added_to(self, job: Job, size: int) -> Job:
        """The job with all this in it, for a disk of `size` bytes. Raises RequestError, or DiskError: too small."""
        deployment = None
        if self.root:
            layout = layout_from(job.properties, size, self.request.kernel_path)
            partitions(layout, size)
            deployment = Deployment(Form(self.request.image.format), layout, self.root, self.boot)
        return replace(
            job,
            deployment=deployment,
            overlay=self.overlay,
            hooks=self.hooks,
            kept_off=self.request.kept_off,
            cloud_config=self.cloud_config,
            sends_name=sends_name(self.request),
        )


@contextmanager
def orders_for(request: Request, settings: Settings, progress: Progress) -> Iterator[Orders]:
    """Open all of it, for the length of the block. To be entered before any thread. Raises as open_archive()."""
    inputs = Inputs()
    with ExitStack() as stack:
        orders = Orders(request, inputs)
        if request.is_archive:
            source = stack.enter_context(open_archive(request.image, settings, progress))
            orders = replace(orders, root=inputs.add("the image", source.fd))
        if request.boot_image:
            source = stack.enter_context(open_archive(request.boot_image, settings, progress))
            orders = replace(orders, boot=inputs.add("the dump of /boot", source.fd))
        yield replace(
            orders,
            overlay=overlay_input(request, inputs, stack),
            hooks=hooks_input(hook_order(request, settings), settings, inputs, stack),
            cloud_config=cloud_config(request),
        )
