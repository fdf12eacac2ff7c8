# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies beside the settings of `image` on the node, judged before an instance needs it: hooks and what they use."""

from __future__ import annotations

from collections.abc import Iterator

from snf_image_host.hooks.switches import Shipped, Switch, overlay_directory, read_hook_set
from snf_image_host.instance_image.settings import ImageSettings
from snf_image_host.parameters.instance_networks import network_faults
from snf_image_shared.errors import ConfigurationError


def faults_beside(image: ImageSettings, shipped: Shipped) -> Iterator[str]:
    """What create would refuse of them, as far as these settings lead there. Raises nothing."""
    try:
        hooks = read_hook_set(image.customize_dir, shipped)
        if Switch.INTERFACES in hooks.switches:
            yield from network_faults(image.networks_dir)
        if image.overlay and Switch.OVERLAYS in hooks.switches:
            overlay_directory(image.overlays_dir, image.overlay)
    except ConfigurationError as error:
        yield str(error)
