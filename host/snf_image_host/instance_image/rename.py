# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of rename for `image`: that of snf-image, but a guest that is left alone is a failure, as it always was.

Ganeti only warns of it. With NOMOUNT=yes the disk is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from snf_image_host.hooks.environment import ganeti_environment
from snf_image_host.hooks.switches import Switch, read_hook_set
from snf_image_host.instance_image.environment import check_environment
from snf_image_host.instance_image.mapping import settings_for
from snf_image_host.instance_image.settings import ImageSettings
from snf_image_host.parameters.osparams import os_parameters
from snf_image_host.progress import Progress
from snf_image_host.rename import RenameRequest, rename_guest
from snf_image_host.vm.hook_orders import HookOrder
from snf_image_shared.errors import SnfImageError
from snf_image_shared.report import CALLED, NOT_RENAMED

_CALLED = re.compile(rf": {CALLED} (.*?), which ")


def rename(env: Mapping[str, str], root: Path) -> None:
    """Give the guest of the instance in `env` its new name. Raises SnfImageError."""
    check_environment(env, "OLD_INSTANCE_NAME")
    image = ImageSettings.load(env.get("OS_VARIANT", ""), root, env)
    settings = settings_for(image, env, root)
    with Progress.start(env["INSTANCE_NAME"], None) as progress:
        for warning in settings.warnings:
            progress.warning(warning)
        request = RenameRequest.from_environment(env, os_parameters(env, settings))
        if reason := "NOMOUNT=yes" if image.nomount else request.objection:
            progress.info(f"{NOT_RENAMED}: {reason}")
            return
        hooks = read_hook_set(image.customize_dir, settings.shipped_hooks).for_rename()
        order = HookOrder(hooks, request.new, image.variables, ganeti_environment(env))
        job = replace(request.job(settings), sends_name=Switch.ZZ_DDNS in hooks.switches)
        if refusal := rename_guest(request, job, settings, progress, order):
            progress.warning(refusal)
            found = _CALLED.search(refusal)
            why = f"Instance has a different hostname ({found[1]})" if found else refusal
            raise SnfImageError(f"Cannot rename from {request.old} to {request.new}:", why)
