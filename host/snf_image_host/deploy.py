# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of create that both OS definitions share: documents -> image -> disk -> floppy -> helper VM -> done."""

from __future__ import annotations

import base64
from contextlib import nullcontext

from snf_image_host.configuration.backends import refuse_disabled
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.courtesy import Courtesy
from snf_image_host.copying.pipeline import Image, Terms, check_fits, copy
from snf_image_host.disks.boot_guard import BootGuard, boot_guard
from snf_image_host.disks.storage import kind_of, open_disks, open_for_writing
from snf_image_host.disks.targets import Target
from snf_image_host.downloads.fetch import fetch, parse_url
from snf_image_host.ganeti import Request
from snf_image_host.hooks.node_hooks import Moment, run_node_hooks
from snf_image_host.images.opening import open_image
from snf_image_host.parameters.answer_files import node_answer_file
from snf_image_host.progress import Progress
from snf_image_host.vm.floppy import config_floppy, device_for
from snf_image_host.vm.helper_vm import HelperVM, Payload
from snf_image_host.vm.jobs import job_for
from snf_image_host.vm.orders import orders_for
from snf_image_shared.job import JOB_FILE

_STEP = 64 << 20  # bytes zeroed by one call, so that an interrupt gets its turn


def deploy(request: Request, settings: Settings, progress: Progress) -> None:
    """Fill the disks and have them customised. Raises SnfImageError; nothing is written until the image fits."""
    refuse_disabled(settings.backends, request.image.id, kind_of(request.disks[0]))
    answer_file = _answer_file(request, settings, progress)
    job = job_for(request, settings, answer_file, node_answer_file(settings.unattend))
    with (
        HelperVM.ready(settings) as helper_vm,
        open_image(request.image, settings, progress) if not request.is_archive else nullcontext() as image,
        orders_for(request, settings, progress) as orders,
        open_disks(request.disks, settings) as (disk, *others),
    ):
        if image:
            check_fits(image, disk)
        job = orders.added_to(job, disk.size)
        config = {JOB_FILE: job.dump()}
        device_for(config, settings.helper_config_device)  # refuses what is too much, before anything is written
        run_node_hooks(Moment.PRE, request.hook_environment, settings, progress)
        # A null image customises what is on the disk already: that is not ours to wipe when the helper fails.
        with boot_guard(disk) if image or job.deployment else nullcontext() as guard:
            if job.deployment:
                _empty(disk, settings)
            else:
                _fill(image, disk, progress, _terms(settings, guard))
            with config_floppy(config, helper_vm.config_device) as floppy:
                progress.info("Starting customization VM...")
                payload = Payload(
                    (disk, *others),
                    floppy,
                    guard.fd if guard else None,
                    request.hypervisor,
                    inputs=orders.drives,
                    patience=orders.patience,
                )
                helper_vm.run(payload, progress)
    progress.info("Image customization finished successfully.")
    run_node_hooks(Moment.POST, request.hook_environment, settings, progress)


def deploy_as_it_is(request: Request, settings: Settings, progress: Progress) -> None:
    """Put the image on the first disk and change nothing: no helper VM is started. Raises as deploy() does."""
    refuse_disabled(settings.backends, request.image.id, kind_of(request.disks[0]))
    with (
        open_image(request.image, settings, progress) as image,
        open_for_writing(request.disks[0], settings) as disk,
    ):
        if image:
            check_fits(image, disk)
        run_node_hooks(Moment.PRE, request.hook_environment, settings, progress)
        with boot_guard(disk) if image else nullcontext() as guard:
            _fill(image, disk, progress, _terms(settings, guard))
    progress.info("Nothing in the image is changed.")
    run_node_hooks(Moment.POST, request.hook_environment, settings, progress)


def _answer_file(request: Request, settings: Settings, progress: Progress) -> str | None:
    """The Windows answer file in base64, if there is to be one."""
    if not request.answer_file_url:
        return None
    url = parse_url(request.answer_file_url, "os_answer_file", settings)
    progress.log(f"Fetching the answer file from {url}...")
    return base64.b64encode(fetch(url.text, "os_answer_file", settings)).decode()


def _empty(disk: Target, settings: Settings) -> None:
    """What the helper is to divide: nothing on it boots, and nothing of its last owner is left if that is asked."""
    disk.wipe_ends()
    if settings.clear_disk:
        for at in range(0, disk.size, _STEP):
            disk.zero(at, min(_STEP, disk.size - at))
        disk.flush()


def _terms(settings: Settings, guard: BootGuard | None) -> Terms:
    courtesy = Courtesy(settings.copy_bandwidth << 20, settings.copy_idle)
    return Terms(guard.fd if guard else None, courtesy, settings.clear_disk, settings.copy_verify)


def _fill(image: Image | None, disk: Target, progress: Progress, terms: Terms) -> None:
    progress.info("Starting image copy...")
    if image:
        copy(image, disk, progress, terms)
    else:
        progress.copy_finished(0)
    progress.info("Image copy finished.")
