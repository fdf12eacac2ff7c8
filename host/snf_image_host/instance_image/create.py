# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of create for `image`: its files and the hypervisor's parameters -> settings -> request -> its deployment.

CDINSTALL leaves the disks alone, and NOMOUNT the image; whether it is a reinstallation makes no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from snf_image_host.configuration.settings import Settings, survey
from snf_image_host.deploy import deploy, deploy_as_it_is
from snf_image_host.ganeti import Request
from snf_image_host.hooks.switches import HookSet, Switch, overlay_directory, read_hook_set
from snf_image_host.instance_image.environment import check_environment
from snf_image_host.instance_image.mapping import (
    first_card_asks,
    kept_off,
    kernel_path,
    properties_for,
    settings_for,
    trusting_source,
)
from snf_image_host.instance_image.names import boot_image, image_id, type_of
from snf_image_host.instance_image.settings import ImageSettings
from snf_image_host.parameters.config_url import all_parameters
from snf_image_host.progress import Progress
from snf_image_host.trace import trace
from snf_image_shared.errors import ConfigurationError


def create(env: Mapping[str, str], root: Path) -> None:
    """Fill the instance's first disk as Ganeti asks in `env`; the others are not touched. Raises as snf-image's."""
    with Progress.start(env.get("INSTANCE_NAME", ""), survey("", root).progress_monitor) as progress:
        check_environment(env)
        image = ImageSettings.load(env.get("OS_VARIANT", ""), root, env)
        settings = settings_for(image, env, root)
        for warning in settings.warnings:
            progress.warning(warning)
        if image.cdinstall:
            progress.info("CDINSTALL: the disks are left as they are.")
            return
        parameters = all_parameters(env, settings, progress)
        image = image.model_copy(update={"image_type": type_of(parameters["IMG_FORMAT"])})
        if not parameters.get("IMG_ID"):
            parameters["IMG_ID"] = image_id(image)
            settings = trusting_source(image, settings)
        hooks = read_hook_set(image.customize_dir, settings.shipped_hooks)
        settings = settings.model_copy(
            update={
                "default_properties": properties_for(image, env, hooks),
                # An administrator's own hook may have files of other contents there.
                "networks_dir": image.networks_dir if Switch.INTERFACES in hooks.switches else None,
            }
        )
        request = _request(env, (image, hooks), settings, parameters)
        trace(settings, parameters, request, progress)
        if image.nomount:
            deploy_as_it_is(request, settings, progress)
        else:
            deploy(request, settings, progress)


def _request(
    env: Mapping[str, str], wanted: tuple[ImageSettings, HookSet], settings: Settings, parameters: Mapping[str, str]
) -> Request:
    image, hooks = wanted
    request = Request.from_environment(env, settings, parameters)
    if image.nomount and request.is_archive:
        raise ConfigurationError(
            f"NOMOUNT=yes is for images that are copied as they are, and this one is a {request.image.format}; "
            "set NOMOUNT=no, or IMAGE_TYPE to qemu, raw or qcow2"
        )
    kernel = kernel_path(image, env)
    off = kept_off(image, hooks, parameters)
    if request.overlay:  # the property asks for it
        off.pop("ApplyOverlay", None)
    asks = Switch.INTERFACES in hooks.switches and not parameters.get("NETWORK")
    return request.model_copy(
        update={
            "disks": request.disks[:1],
            "nics": first_card_asks(request.nics) if asks else request.nics,
            "kernel_path": kernel,
            "boot_image": request.boot_image or (None if kernel else boot_image(request.image, image)),
            "overlay": request.overlay or _overlay(image, hooks),
            "hook_settings": {**image.variables, "IMAGE_TYPE": image.image_type},
            "kept_off": off,
        }
    )


def _overlay(image: ImageSettings, hooks: HookSet) -> Path | None:
    """What the hook overlays copies, or other hooks may look for. Raises ConfigurationError if it is not there."""
    is_used = Switch.OVERLAYS in hooks.switches or hooks.programs
    return overlay_directory(image.overlays_dir, image.overlay) if image.overlay and is_used else None
