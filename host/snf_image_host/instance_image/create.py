# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of create for `image`: its files and the hypervisor's parameters -> settings -> request -> its deployment.

CDINSTALL leaves the disks alone, and NOMOUNT the image; whether it is a reinstallation makes no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from snf_image_host.configuration.settings import Settings
from snf_image_host.deploy import deploy, deploy_as_it_is
from snf_image_host.ganeti import Request
from snf_image_host.instance_image.environment import check_environment
from snf_image_host.instance_image.mapping import kernel_path, properties_for, settings_for
from snf_image_host.instance_image.names import boot_image, image_id
from snf_image_host.instance_image.settings import ImageSettings
from snf_image_host.parameters.config_url import all_parameters
from snf_image_host.progress import Progress
from snf_image_host.trace import trace
from snf_image_shared.errors import ConfigurationError


def create(env: Mapping[str, str], root: Path) -> None:
    """Fill the instance's first disk as Ganeti asks in `env`; the others are not touched. Raises as snf-image's."""
    check_environment(env)
    image = ImageSettings.load(env.get("OS_VARIANT", ""), root, env)
    settings = settings_for(image, env, root)
    with Progress.start(env["INSTANCE_NAME"], settings.progress_monitor) as progress:
        for warning in settings.warnings:
            progress.warning(warning)
        if image.cdinstall:
            progress.info("CDINSTALL: the disks are left as they are.")
            return
        parameters = all_parameters(env, settings, progress)
        if not parameters.get("IMG_ID"):
            parameters["IMG_ID"] = image_id(image)
        settings = settings.model_copy(update={"default_properties": properties_for(image, env, parameters)})
        request = _request(env, image, settings, parameters)
        trace(settings, parameters, request, progress)
        if image.nomount:
            deploy_as_it_is(request, settings, progress)
        else:
            deploy(request, settings, progress)


def _request(
    env: Mapping[str, str], image: ImageSettings, settings: Settings, parameters: Mapping[str, str]
) -> Request:
    request = Request.from_environment(env, settings, parameters)
    if image.nomount and request.is_archive:
        raise ConfigurationError(
            f"NOMOUNT=yes is for images that are copied as they are, and this one is a {request.image.format}; "
            "set NOMOUNT=no, or IMAGE_TYPE to qemu, raw or qcow2"
        )
    kernel = kernel_path(image, env)
    return request.model_copy(
        update={
            "disks": request.disks[:1],
            "kernel_path": kernel,
            "boot_image": None if kernel else boot_image(request.image, image),
        }
    )
