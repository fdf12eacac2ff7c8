# SPDX-License-Identifier: GPL-2.0-or-later
"""What the helper gets for hooks and overlays: archives of what they are and may see, and what the job says of them.

A hook sees no other file of the node: its own directory, this instance's networks and overlay, all under the names that
they have on the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from snf_image_host.configuration.settings import Settings
from snf_image_host.ganeti import Request
from snf_image_host.hooks.switches import HookSet, Switch
from snf_image_host.parameters.instance_networks import network_files
from snf_image_host.vm.inputs import Inputs
from snf_image_host.vm.trees import Archive, packed
from snf_image_shared.deployment import CloudConfig, Hooks, Input
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.properties import Properties, parse_boolean


def overlay_input(request: Request, inputs: Inputs, stack: ExitStack) -> Input | None:
    """The overlay, packed, for as long as the stack. Raises ConfigurationError."""
    overlay = request.overlay
    if overlay is None:
        return None
    fd = stack.enter_context(packed(fill=lambda archive: archive.add_directory(overlay)))
    return inputs.add(f"the overlay {overlay.name}", fd)


@dataclass(frozen=True)
class HookOrder:
    """What is to run for an instance: `found` is what the hooks find after sourcing common.sh."""

    hooks: HookSet
    instance: str
    found: Mapping[str, str]
    environment: Mapping[str, str]
    overlay: Path | None = None


def hooks_input(order: HookOrder, settings: Settings, inputs: Inputs, stack: ExitStack) -> Hooks | None:
    """The hooks that run as programs, packed, for as long as the stack. Raises ConfigurationError."""
    hooks = order.hooks
    if not hooks.programs:
        return None
    networks = order.found.get("NETWORKS_DIR")

    def fill(archive: Archive) -> None:
        archive.add_directory(hooks.directory, _inside(hooks.directory), hooks.programs)
        for path in network_files(order.instance, Path(networks)) if networks else ():
            archive.add_file(path, _inside(path))

    archive = inputs.add("the hooks", stack.enter_context(packed(fill=fill)))
    return Hooks(
        archive=archive,
        directory=str(hooks.directory),
        names=hooks.programs,
        arguments=hooks.arguments,
        settings=order.found,
        environment=order.environment,
        timeout=settings.hooks_timeout,
        overlay=str(order.overlay) if order.overlay else "",
    )


def hook_order(request: Request, settings: Settings) -> HookOrder:
    """What a request asks for, nothing perhaps."""
    found = hook_settings(request, settings)
    environment = {**request.hook_environment, "IMAGE_TYPE": found["IMAGE_TYPE"]}
    return HookOrder(request.hooks or HookSet(Path("/")), request.instance, found, environment, request.overlay)


def hook_settings(request: Request, settings: Settings) -> Mapping[str, str]:
    """What hooks find after sourcing common.sh, by the names of instance-image."""
    wishes = Properties(request.properties)
    known = {
        "CUSTOMIZE_DIR": str(request.hooks.directory) if request.hooks else "",
        "NETWORKS_DIR": str(settings.networks_dir or ""),
        "OVERLAYS_DIR": str(request.overlay.parent) if request.overlay else "",
        "OVERLAY": request.overlay.name if request.overlay else "",
        "FILESYSTEM": wishes.text("FILESYSTEM") or "ext4",
        "KERNEL_ARGS": wishes.text("KERNEL_ARGS") or "",
        "KERNEL_PATH": request.kernel_path,
        "IMAGE_TYPE": request.image.format,
        "IMAGE_DEBUG": "yes" if settings.image_debug else "no",
    }
    return {**known, **request.hook_settings}


def cloud_config(request: Request) -> CloudConfig | None:
    """What the guest's cloud-init is told, if the hook cloud-init is switched on. Raises ConfigurationError."""
    if request.hooks is None or Switch.CLOUD_INIT not in request.hooks.switches:
        return None
    given = request.hook_settings

    def says_yes(name: str) -> bool:
        return parse_boolean(given.get(name))[0]

    config = CloudConfig(
        user=given.get("CINIT_USER", ""),
        ssh_key=given.get("CINIT_SSH_KEY", ""),
        disable_root=says_yes("CINIT_DISABLE_ROOT"),
        ssh_pwauth=says_yes("CINIT_SSH_PWAUTH"),
        manage_resolv_conf=says_yes("CINIT_MANAGE_RESOLV_CONF"),
        nameservers=tuple(given.get("DNS_SERVERS", "").split()),
        search=tuple(given.get("DNS_SEARCH", "").split()),
    )
    if config.manage_resolv_conf and not (config.nameservers and config.search):
        raise ConfigurationError("CINIT_MANAGE_RESOLV_CONF: yes needs DNS_SERVERS and DNS_SEARCH; set them, or set no")
    return config


def sends_name(request: Request) -> bool:
    """Whether the guest is to tell its DHCP server its name."""
    return request.hooks is not None and Switch.ZZ_DDNS in request.hooks.switches


def _inside(path: Path) -> str:
    return str(path).strip("/")
