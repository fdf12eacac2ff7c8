# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of create: environment and files -> settings -> OS parameters -> request -> its deployment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from snf_image_host.configuration.settings import survey
from snf_image_host.deploy import deploy
from snf_image_host.disks.storage import data_disks
from snf_image_host.ganeti import Request
from snf_image_host.parameters.config_url import all_parameters
from snf_image_host.progress import Progress
from snf_image_host.trace import trace


def create(env: Mapping[str, str], root: Path) -> None:
    """Fill the instance's disks as Ganeti asks in `env`. `root` is where the provider is installed, "/" on a node.

    Raises SnfImageError; until the image has been found to fit, nothing has been written.
    """
    files = survey(env.get("OS_VARIANT", ""), root)
    with Progress.start(env.get("INSTANCE_NAME", ""), files.progress_monitor) as progress:
        settings = files.checked()
        for warning in settings.warnings:
            progress.warning(warning)
        parameters = all_parameters(env, settings, progress)
        request = Request.from_environment(env, settings, parameters)
        request = request.model_copy(update={"disks": data_disks(request.disks)})
        trace(settings, parameters, request, progress)
        deploy(request, settings, progress)
