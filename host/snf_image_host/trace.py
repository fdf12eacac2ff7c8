# SPDX-License-Identifier: GPL-2.0-or-later
"""What IMAGE_DEBUG=yes adds to the log: what is in force and what was asked for. Names of secrets, never a secret."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping

from snf_image_host.configuration.disclosure import disclosed
from snf_image_host.configuration.settings import Settings, setting_fields
from snf_image_host.ganeti import Request
from snf_image_host.progress import Progress
from snf_image_shared import __version__


def trace(settings: Settings, parameters: Mapping[str, str], request: Request, progress: Progress) -> None:
    """Write the lines to the log if the settings ask for them."""
    if settings.image_debug:
        for line in _lines(settings, parameters, request):
            progress.log(f"[DEBUG] {line}")


def _lines(settings: Settings, parameters: Mapping[str, str], request: Request) -> Iterator[str]:
    yield f"snf-image {__version__}, Python {platform.python_version()}, Linux {os.uname().release}"
    for name in setting_fields():
        yield f"setting {name}={disclosed(name, getattr(settings, name.lower()))}"
    yield f"OS parameters that are set: {', '.join(sorted(parameters)) or 'none'}"
    # A property's value may be a secret of the image's own custom task.
    yield f"properties that are set: {', '.join(sorted(request.properties)) or 'none'}"
    yield f"{request.hypervisor} instance {request.instance} with {len(request.disks)} disks, {request.image.format}"
    for index, nic in enumerate(request.nics):
        yield f"NIC {index}: {nic}"
    for file in request.personality:
        yield f"file {file.path}, {len(file.contents)} characters of base64"
