# SPDX-License-Identifier: GPL-2.0-or-later
"""The Ganeti OS interface, version 20: environment -> Request, checked once. Below this edge nobody reads os.environ.

Source: ganeti-os-interface(7), ganeti lib/backend.py OSEnvironment, and what Ganeti 3.0.2 was seen to pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from snf_image_host.configuration.settings import Settings
from snf_image_host.disks.instance_disks import InstanceDisk, disks_from_environment
from snf_image_host.hooks.environment import ganeti_environment
from snf_image_host.hooks.switches import HookSet, overlay_directory, read_hook_set
from snf_image_host.images.names import WantedImage
from snf_image_host.os_interface import check_api_version
from snf_image_host.parameters.faults import Faults, shown
from snf_image_host.parameters.hostnames import instance_name
from snf_image_host.parameters.instance_networks import with_instance_network
from snf_image_host.parameters.network_document import configured
from snf_image_host.parameters.nics import nics_from_environment
from snf_image_host.parameters.osparams import RESET
from snf_image_host.parameters.typed_parameters import Parameters, read_parameters
from snf_image_shared.deployment import Form
from snf_image_shared.errors import RequestError
from snf_image_shared.job import Nic, PersonalityFile, Secrets
from snf_image_shared.properties import Properties

HYPERVISORS = ("kvm", "xen-hvm", "xen-pvm", "fake", "lxc", "chroot")
_MANDATORY = ("IMG_ID", "IMG_FORMAT")


class Request(BaseModel):
    """What Ganeti asks for, complete and checked as far as it can be without touching network or disk.

    `answer_file_url` is where a Windows answer file is to be had. `kernel_path` is the kernel that the hypervisor
    brings. `boot_image` is the dump of /boot, if the image is one. `overlay` is a directory of the node that is copied
    into the guest, `hooks` are programs that change it there, with `hook_settings` in their common.sh. `kept_off` are
    tasks that the OS definition does without, by name, and why.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    instance: str
    hostname: str
    hypervisor: str
    disks: tuple[InstanceDisk, ...]
    image: WantedImage
    properties: Mapping[str, str] = Field(default_factory=dict)
    personality: tuple[PersonalityFile, ...] = Field(default=(), repr=False)
    nics: tuple[Nic, ...] = ()
    secrets: Secrets = Field(default_factory=Secrets, repr=False)
    answer_file_url: str | None = Field(default=None, repr=False)
    guest_environment: Mapping[str, str] = Field(default_factory=dict, repr=False)
    kernel_path: str = ""
    boot_image: WantedImage | None = None
    overlay: Path | None = None
    hooks: HookSet | None = None
    hook_settings: Mapping[str, str] = Field(default_factory=dict, repr=False)
    hook_environment: Mapping[str, str] = Field(default_factory=dict, repr=False)
    kept_off: Mapping[str, str] = Field(default_factory=dict)

    @property
    def is_archive(self) -> bool:
        """Whether the image is no disk, so that the helper divides the disk and unpacks it there."""
        return self.image.format in set(Form)

    @classmethod
    def from_environment(cls, env: Mapping[str, str], settings: Settings, parameters: Mapping[str, str]) -> Request:
        """`parameters` are all OS parameters by upper-case name, those of config_url included; see os_parameters().

        Raises RequestError with every fault in a line of its own, which names the variable or the OS parameter (in
        lower case) and the cure.
        """
        check_api_version(env)
        for name in ("INSTANCE_NAME", "HYPERVISOR", "DISK_COUNT"):
            if not env.get(name):
                raise RequestError(f"{name} is missing from the environment; Ganeti sets it, so call me through Ganeti")
        faults = Faults()
        wanted = read_parameters(parameters, settings, faults)
        _insist(env, parameters, faults)
        no_disks: tuple[InstanceDisk, ...] = ()
        given = {
            "instance": faults.variable("INSTANCE_NAME", lambda: _instance(env), ""),
            "hypervisor": faults.variable("HYPERVISOR", lambda: known_hypervisor(env), ""),
            "disks": faults.variable("DISK_*", lambda: disks_from_environment(env), no_disks),
            "nics": _nics(env, settings, wanted, faults),
        }
        faults.check()
        return cls.model_validate(
            {
                **given,
                "hostname": wanted.hostname or given["instance"],
                "image": WantedImage(wanted.image_id or "", wanted.image_format or "", wanted.checksums),
                "properties": wanted.properties,
                "personality": wanted.personality,
                "secrets": wanted.secrets,
                "answer_file_url": wanted.answer_file_url,
                "guest_environment": _guest_environment(env, wanted),
                "kernel_path": env.get("INSTANCE_HV_kernel_path", ""),
                "boot_image": _boot_image(wanted),
                "overlay": _overlay(wanted, settings),
                "hooks": read_hook_set(settings.customize_dir, settings.shipped_hooks)
                if settings.customize_dir
                else None,
                "hook_environment": ganeti_environment(env)
                if settings.customize_dir or settings.node_hooks_dir
                else {},
            }
        )


def _boot_image(wanted: Parameters) -> WantedImage | None:
    name = Properties(wanted.properties).text("BOOT_IMAGE")
    return WantedImage(name, Form.DUMP) if name and wanted.image_format == Form.DUMP else None


def _overlay(wanted: Parameters, settings: Settings) -> Path | None:
    name = Properties(wanted.properties).text("OVERLAY")
    if not name:
        return None
    if settings.overlays_dir is None:
        raise RequestError(
            f"property OVERLAY: {shown(name)} asks for an overlay, and OVERLAYS_DIR is not set on this node"
        )
    return overlay_directory(settings.overlays_dir, name)


def _insist(env: Mapping[str, str], parameters: Mapping[str, str], faults: Faults) -> None:
    """Note what is mandatory and not there; a spec that cannot be read may have had it."""
    for name in _MANDATORY if "spec" not in faults else ():
        if not parameters.get(name):
            cure = f"give it with -O {name.lower()}=..., or preset {name} in a variant"
            if env.get(f"OSP_{name}") == RESET:
                cure += f" ({RESET!r} is Ganeti's word for not giving it)"
            faults.add(name.lower(), f"is missing; {cure}")


def _instance(env: Mapping[str, str]) -> str:
    try:
        return instance_name(env["INSTANCE_NAME"])
    except ValueError as error:
        raise RequestError(f"INSTANCE_NAME: {error}") from error


def known_hypervisor(env: Mapping[str, str]) -> str:
    """The variable HYPERVISOR. Raises RequestError."""
    if env["HYPERVISOR"] not in HYPERVISORS:
        raise RequestError(f"HYPERVISOR: {shown(env['HYPERVISOR'])} is not one of {', '.join(HYPERVISORS)}")
    return env["HYPERVISOR"]


def _nics(env: Mapping[str, str], settings: Settings, wanted: Parameters, faults: Faults) -> tuple[Nic, ...]:
    nics = faults.variable("NIC_*", lambda: nics_from_environment(env, settings), None)
    if nics is None:
        return ()
    networks = settings.networks_dir
    cards = with_instance_network(nics, env.get("INSTANCE_NAME", ""), networks) if networks else nics
    return faults.parameter("network", lambda: configured(cards, wanted.network), cards)


def _guest_environment(env: Mapping[str, str], wanted: Parameters) -> dict[str, str]:
    """What a custom task of the image finds in its environment, named as snf-image always named it."""
    nics = {f"SNF_IMAGE_{name}": value for name, value in env.items() if name.startswith("NIC_")}
    known = {
        "SNF_IMAGE_TYPE": wanted.image_format or "",
        "SNF_IMAGE_HOSTNAME": wanted.hostname or env["INSTANCE_NAME"],
        "HYPERVISOR": env["HYPERVISOR"],
    }
    return {**nics, **known}
