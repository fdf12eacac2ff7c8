# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of import for `image`: by what the stream is, dumps into the helper VM, or an image onto the disk.

A stream that is nothing known, or has nothing in it, leaves the disk as it was. One that breaks off later leaves a disk
that does not boot. Whatever is wrong, it is read to its end.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import Opened, Terms, check_fits, copy
from snf_image_host.disks.boot_guard import BootGuard, boot_guard
from snf_image_host.disks.instance_disks import Transfer
from snf_image_host.disks.storage import open_for_writing
from snf_image_host.disks.targets import Target
from snf_image_host.ganeti import Request
from snf_image_host.hooks.switches import read_hook_set
from snf_image_host.images.formats import HEAD, Wrapping, recognise
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.opening import image_of
from snf_image_host.images.recipes import Container, Recipe
from snf_image_host.images.streams import HeadedStream
from snf_image_host.instance_image.environment import check_environment
from snf_image_host.instance_image.incoming import Incoming, StreamKind, TarredDisk, kind_of
from snf_image_host.instance_image.mapping import kept_off, kernel_path, properties_for, settings_for
from snf_image_host.instance_image.settings import ImageSettings, ImageType
from snf_image_host.parameters.layout import layout_from
from snf_image_host.parameters.osparams import os_parameters
from snf_image_host.progress import Progress
from snf_image_host.transfer import descriptor, drain
from snf_image_host.transfer import import_ as import_bytes
from snf_image_host.vm.deadlines import SLOWEST
from snf_image_host.vm.floppy import config_floppy, device_for
from snf_image_host.vm.helper_vm import HelperVM, Payload
from snf_image_host.vm.jobs import job_for
from snf_image_host.vm.orders import Orders, orders_for
from snf_image_host.vm.stream_port import Stream
from snf_image_shared.deployment import Deployment, Form
from snf_image_shared.errors import ImageError, SnfImageError
from snf_image_shared.job import JOB_FILE, Action, Job
from snf_image_shared.layouts import partitions

_NO_IMAGE = {"IMG_ID": "null", "IMG_FORMAT": "diskdump"}
_OF_DISKS = ("IMG_PROPERTIES", "INST_PROPERTIES")  # what an import goes by of the OS parameters that create had


def import_disk(env: Mapping[str, str], root: Path) -> None:
    """Ganeti's import: standard input to the disk it names. Raises SnfImageError."""
    in_fd = descriptor(sys.stdin, "input")
    try:
        check_environment(env, "IMPORT_DEVICE" if not env.get("IMPORT_DISK_URI") else "IMPORT_DISK_URI")
        image = ImageSettings.load(env.get("OS_VARIANT", ""), root, env)
        settings = settings_for(image, env, root)
        with Progress.start(env["INSTANCE_NAME"], None) as progress:
            _Import(env, image, settings, progress).run(Transfer.from_environment(env, "IMPORT"), in_fd)
    except BaseException as error:
        # The sender must not die of a broken pipe, or its error would be told in the place of ours. A signal ends us.
        if not isinstance(error, SystemExit):
            drain(in_fd)
        raise
    drain(in_fd)


@dataclass(frozen=True)
class _Import:
    """One import, for the instance in `env`."""

    env: Mapping[str, str]
    image: ImageSettings
    settings: Settings
    progress: Progress

    def run(self, transfer: Transfer, in_fd: int) -> None:
        """Fill the disk. Raises SnfImageError."""
        incoming = Incoming.begun(in_fd)
        kind = kind_of(incoming.head, transfer.index)
        self.progress.log(f"The stream to import is {kind.value}")
        match kind:
            case StreamKind.DUMPS:
                self._dumps(transfer, incoming)
            case StreamKind.IMAGE:
                self._image(transfer, incoming)
            case StreamKind.DISK:
                with open_for_writing(transfer.disk, self.settings) as disk:
                    import_bytes(disk, in_fd, transfer.declared, incoming.head)

    def _dumps(self, transfer: Transfer, incoming: Incoming) -> None:
        """Have the helper VM divide the disk, as this node's settings say, and restore the dumps there."""
        request, job = self._ordered(transfer, grows=False)
        with (
            HelperVM.ready(self.settings) as helper_vm,
            orders_for(request, self.settings, self.progress) as orders,
            open_for_writing(transfer.disk, self.settings) as disk,
        ):
            layout = layout_from(job.properties, disk.size, request.kernel_path)
            partitions(layout, disk.size)
            job = replace(orders.added_to(job, disk.size), deployment=Deployment(Form.DUMP, layout))
            device_for({JOB_FILE: job.dump()}, self.settings.helper_config_device)
            with boot_guard(disk) as guard:
                disk.wipe_ends()
                stream = Stream(incoming.fd, head=incoming.head)
                self._run(helper_vm, job, orders, _Filled(disk, guard, stream))

    def _image(self, transfer: Transfer, incoming: Incoming) -> None:
        """Put the image onto the disk, and let the guest grow where that is larger."""
        tarred = TarredDisk(incoming)
        headed = HeadedStream(tarred, HEAD)
        recipe = Recipe() if tarred.is_raw else _recipe(headed.head)
        img_format = "diskdump" if recipe.container is Container.RAW else recipe.container.value
        opened = Opened(headed, recipe, Integrity(), img_format)
        with (
            image_of(opened, self.settings, self.progress) as image,
            open_for_writing(transfer.disk, self.settings) as disk,
        ):
            check_fits(image, disk)
            with boot_guard(disk) as guard:
                copy(image, disk, self.progress, Terms(guard.fd))
                tarred.check_end()
                may_grow = transfer.index == 0 and not self.image.nomount
                if may_grow and image.size is not None and image.size < disk.size:
                    self._grow(transfer, _Filled(disk, guard))

    def _grow(self, transfer: Transfer, filled: _Filled) -> None:
        """What was imported is whole already, so that this may fail."""
        try:
            request, job = self._ordered(transfer, grows=True)
            with (
                HelperVM.ready(self.settings) as helper_vm,
                orders_for(request.model_copy(update={"hooks": None}), self.settings, self.progress) as orders,
            ):
                self._run(helper_vm, job, orders, filled)
        except SnfImageError as error:
            self.progress.warning(f"The disk is imported, but it did not grow to its new size: {error}")

    def _ordered(self, transfer: Transfer, *, grows: bool) -> tuple[Request, Job]:
        """What an import asks of the helper. No image, and of the hooks grub alone. Raises SnfImageError."""
        given = os_parameters(self.env, self.settings)
        parameters = {name: given[name] for name in _OF_DISKS if name in given} | _NO_IMAGE
        image = self.image.model_copy(update={"image_type": ImageType.DUMP, "grow": grows})
        hooks = read_hook_set(image.customize_dir, self.settings.shipped_hooks).for_import()
        defaults = properties_for(image, self.env, hooks)
        settings = self.settings.model_copy(update={"default_properties": defaults, "networks_dir": None})
        request = Request.from_environment(self.env, settings, parameters)
        request = request.model_copy(
            update={
                "disks": (transfer.disk,),
                "kernel_path": kernel_path(self.image, self.env),
                "overlay": None,
                "hooks": hooks,
                "hook_environment": {**request.hook_environment, "IMPORT_SCRIPT": "1"},
                "hook_settings": {**image.variables, "IMAGE_TYPE": image.image_type},
                "kept_off": kept_off(image, hooks, parameters),
            }
        )
        job = job_for(request, settings)
        wanted = {**job.properties, "IDENTITY_RESET": "cards"}
        return request, replace(job, action=Action.IMPORT, properties=wanted, kept_off=request.kept_off)

    def _run(self, helper_vm: HelperVM, job: Job, orders: Orders, filled: _Filled) -> None:
        with config_floppy({JOB_FILE: job.dump()}, helper_vm.config_device) as floppy:
            payload = Payload(
                (filled.disk,),
                floppy,
                filled.guard.fd,
                orders.request.hypervisor,
                inputs=orders.drives,
                stream=filled.stream,
                patience=orders.patience + filled.disk.size / SLOWEST,
            )
            helper_vm.run(payload, self.progress)
        if filled.stream and filled.stream.failures:
            raise filled.stream.failures[0]


@dataclass(frozen=True)
class _Filled:
    """The disk that is imported onto, what guards it, and the stream if the helper is to read it."""

    disk: Target
    guard: BootGuard
    stream: Stream | None = None


def _recipe(head: bytes) -> Recipe:
    """Raw, or qcow2 as instance-image 0.7.3 exported. Raises ImageError for anything else that is no disk."""
    kind = recognise(head)
    if kind is None or kind.wrapping is Wrapping.OTHER:
        return Recipe()
    if kind.name == Container.QCOW2:
        return Recipe(container=Container.QCOW2)
    raise ImageError(f"{TarredDisk.name} is neither a raw disk nor qcow2, it is {kind.text}: export it again")
