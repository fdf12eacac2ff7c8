# SPDX-License-Identifier: GPL-2.0-or-later
"""Are these OS parameters acceptable? Neither network nor disk is asked; one that is missing is no fault here."""

from __future__ import annotations

from collections.abc import Mapping

from snf_image_host.configuration.backends import has_programs
from snf_image_host.configuration.settings import Settings
from snf_image_host.downloads.download import check_url, is_url
from snf_image_host.images.names import local_name
from snf_image_host.parameters.faults import Faults
from snf_image_host.parameters.osparams import os_parameters
from snf_image_host.parameters.typed_parameters import read_parameters


def judge(env: Mapping[str, str], settings: Settings) -> None:
    """Raises RequestError with a line for each OS parameter's fault."""
    faults = Faults()
    found = read_parameters(os_parameters(env, settings), settings, faults)
    image_id = found.image_id
    if image_id and not found.config_url:  # Cyclades gives a kind of its own beside the URL, which may override it
        faults.parameter("img_id", lambda: _check_image(image_id, settings), None)
    faults.check()


def _check_image(image_id: str, settings: Settings) -> None:
    if has_programs(settings.backends):
        return  # only they know what they have, and none is run here
    if is_url(image_id):
        check_url(image_id, settings)
    else:
        local_name(image_id)
