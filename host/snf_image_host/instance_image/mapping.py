# SPDX-License-Identifier: GPL-2.0-or-later
"""What the files of ganeti-instance-image and the hypervisor's parameters are to the stories of this provider.

Settings become settings, and the rest becomes properties: so an OS parameter or a property of the instance wins over
the files. How the node runs its helper VMs is said by snf-image.conf; what it says of guests does not count here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from snf_image_host.configuration.setting_types import Verify
from snf_image_host.configuration.settings import Settings, as_written
from snf_image_host.hooks.switches import HookSet, Switch
from snf_image_host.images.origins import OriginKind
from snf_image_host.images.vouchers import policy_for
from snf_image_host.instance_image.names import FORMATS
from snf_image_host.instance_image.settings import ImageSettings
from snf_image_host.parameters.layout import numbered_as_instance_image
from snf_image_shared.errors import ConfigurationError, RequestError
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic

_UNLIMITED = 1 << 30  # MiB, the most that CACHE_SIZE may say
_GROWING = ("FixPartitionTable", "FilesystemResizeUnmounted", "FilesystemResizeMounted", "FilesystemResizeAfterUmount")
_OF_WINDOWS = ("InstallUnattend", "DisableRemoteDesktopConnections")
_SPEEDS = frozenset({"9600", "19200", "38400", "57600", "115200"})  # Linux' consoles have none of Ganeti's above that
# OS parameters that ask for a task, whatever is switched on.
_ASKING = (("HOSTNAME", "AssignHostname"), ("NETWORK", "ConfigureNetwork"))


def kernel_path(image: ImageSettings, env: Mapping[str, str]) -> str:
    """The kernel that the hypervisor brings, "" for none."""
    return env.get("INSTANCE_HV_kernel_path", "") if image.kernel_path is None else image.kernel_path


def settings_for(image: ImageSettings, env: Mapping[str, str], root: Path) -> Settings:
    """The settings that all stories go by, for the instance in `env`. Raises ConfigurationError for snf-image.conf."""
    node = Settings.load("", root)
    network = policy_for(OriginKind.NETWORK, node)
    if network is Verify.NO and image.image_verify and image.image_url:
        network = Verify.CHECKSUM
    return node.model_copy(
        update={
            "image_dir": image.image_dir,
            "networks_dir": image.networks_dir,
            "customize_dir": image.customize_dir,
            "overlays_dir": image.overlays_dir,
            "image_debug": image.image_debug or env.get("DEBUG_LEVEL", "0") not in {"", "0"},
            # On many nodes /var/cache/ganeti-instance-image is a link to where there is room.
            "cache_dir": Path(os.path.realpath(image.cache_dir), "snf-image"),
            "cache_size": 0 if image.image_cleanup else node.cache_size or _UNLIMITED,
            "verify_network": network,
            "accept_sha1": True,
            "unattend": "",
            "default_properties": "",
            "parameters": {"IMG_FORMAT": FORMATS[image.image_type], **image.parameters},
            "warnings": (*node.warnings, *image.warnings),
        }
    )


def trusting_source(image: ImageSettings, settings: Settings) -> Settings:
    """The settings for the image that the files name: IMAGE_URL may lead where a URL of a tenant's may not."""
    host = urlsplit(image.image_url).hostname or ""
    return settings.model_copy(update={"image_allow": f"{settings.image_allow} {host}".strip()})


def first_card_asks(nics: tuple[Nic, ...]) -> tuple[Nic, ...]:
    """The cards; the first has DHCP if nothing is known of it, as from the hook interfaces, however many there are."""
    if nics and nics[0].ipv4 is Ipv4Method.NONE and nics[0].ipv6 is Ipv6Method.NONE:
        return (replace(nics[0], ipv4=Ipv4Method.DHCP), *nics[1:])
    return nics


def properties_for(image: ImageSettings, env: Mapping[str, str], hooks: HookSet) -> str:
    """DEFAULT_PROPERTIES for the instance in `env`, a JSON object. Raises as layout_properties()."""
    found = {"UNKNOWN_GUEST": "deliver", "IDENTITY_RESET": "none"}
    if image.image_type.is_archive:
        found |= layout_properties(image, env)
    if env.get("INSTANCE_HV_serial_console") == "True":
        speed = env.get("INSTANCE_HV_serial_speed", "")
        found["CONSOLE"] = f"serial,{speed}" if speed in _SPEEDS else "serial"
    if Switch.INTERFACES in hooks.switches:
        found["HOSTNAME_POLICY"] = "family"
    if Switch.GRUB in hooks.switches:
        found["KERNEL_ARGS"] = image.kernel_args
    return json.dumps({name: value for name, value in found.items() if value})


def kept_off(image: ImageSettings, hooks: HookSet, parameters: Mapping[str, str]) -> dict[str, str]:
    """The tasks of snf-image that nothing asks for, and why each does not run; `parameters` by upper-case name."""
    found = dict(hooks.tasks_off())
    if Switch.OVERLAYS not in hooks.switches:
        found["ApplyOverlay"] = "the hook overlays is not switched on"
    if not image.grow:
        found |= dict.fromkeys(_GROWING, "GROW=no")
    if not image.image_type.is_archive and Switch.INTERFACES not in hooks.switches:
        # What is unpacked is a system of its own from then on; a disk that is copied stays what it was.
        found["ChangeMachineId"] = "the image is a disk, and the hook interfaces is not switched on"
    if not parameters.get("OS_ANSWER_FILE"):
        found |= dict.fromkeys(_OF_WINDOWS, "there is no os_answer_file")
    for parameter, task in _ASKING:
        if parameters.get(parameter):
            found.pop(task, None)
    return found


def layout_properties(image: ImageSettings, env: Mapping[str, str]) -> dict[str, str]:
    """What layout_from() wants, for the instance in `env`. Raises RequestError, ConfigurationError."""
    swap = _swap_size(image, env) if image.swap else 0
    layout = {
        "FILESYSTEM": image.filesystem,
        "FILESYSTEM_FEATURES": as_written(image.filesystem_features),
        **numbered_as_instance_image(kernel_path(image, env), image.boot_size, swap),
        "PARTITION_TABLE": as_written(image.partition_table),
        "BOOT_MODE": as_written(image.boot_mode),
    }
    return {name: value for name, value in layout.items() if value}


def _swap_size(image: ImageSettings, env: Mapping[str, str]) -> int:
    if image.swap_size == 0:
        raise ConfigurationError("SWAP_SIZE: 0 MiB are no swap partition; set SWAP=no, or a size")
    return image.swap_size or _memory(env)


def _memory(env: Mapping[str, str]) -> int:
    """MiB that the instance has."""
    text = env.get("INSTANCE_BE_memory") or env.get("INSTANCE_BE_maxmem", "")
    if not text.isascii() or not text.isdecimal() or not int(text[:9]) > 0:
        raise RequestError(
            "SWAP_SIZE not set however SWAP is enabled, and INSTANCE_BE_maxmem does not say how much memory the "
            "instance has; set SWAP_SIZE in the variant, or SWAP=no"
        )
    return int(text[:9])
