# SPDX-License-Identifier: GPL-2.0-or-later
"""What the helper VM is told to inspect an image: the job that a create of it would get, without its secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from snf_image_host.configuration.settings import Settings
from snf_image_host.ganeti import Request
from snf_image_host.parameters.network_document import MAX_NICS, NicDocument, parse_network
from snf_image_host.vm.jobs import job_for
from snf_image_shared.errors import RequestError
from snf_image_shared.job import Action, Job, Secrets

_INSTANCE = "instance.example.com"
_VEIL = "x"
_SECRET_PROPERTIES = frozenset({"CUSTOM_TASK"})  # a program, which may hold anything; a plan asks whether it is given


@dataclass(frozen=True)
class Hardware:
    """What Ganeti would say of the instance."""

    disks: int = 1
    nics: int = 1


def request_for(parameters: Mapping[str, str], hardware: Hardware, settings: Settings) -> Request:
    """What Ganeti would ask with these OS parameters (by upper-case name). Raises RequestError as create does."""
    env = {
        "OS_API_VERSION": "20",
        "INSTANCE_NAME": _INSTANCE,
        "HYPERVISOR": "kvm",
        "DISK_COUNT": str(hardware.disks),
        **{f"DISK_{index}_PATH": f"/dev/disk{index}" for index in range(hardware.disks)},
    }
    cards = _hardware_addresses(parameters.get("NETWORK", ""), hardware.nics)
    env |= {"NIC_COUNT": str(len(cards)), **{f"NIC_{index}_MAC": mac for index, mac in enumerate(cards)}}
    return Request.from_environment(env, settings, parameters)


def inspection_job(request: Request, settings: Settings) -> Job:
    """The job of an INSPECT. Whether a secret is given decides what runs; what it is does not, so it stays here."""
    job = job_for(request, settings)
    return replace(
        job,
        action=Action.INSPECT,
        properties={
            name: _veiled(value) if name in _SECRET_PROPERTIES else value for name, value in job.properties.items()
        },
        personality=tuple(replace(file, contents="") for file in job.personality),
        secrets=_veiled_secrets(job.secrets),
        environment={},
    )


def _veiled_secrets(given: Secrets) -> Secrets:
    values = {each.name: getattr(given, each.name) for each in fields(Secrets)}
    return Secrets(**{name: None if value is None else _veiled(value) for name, value in values.items()})


def _veiled(value: str) -> str:
    return _VEIL if value.strip() else ""


def _hardware_addresses(network: str, least: int) -> list[str]:
    """Those that the OS parameter network names, and others for as many cards as it needs, or as are asked for."""
    try:
        document = parse_network(network)
    except RequestError:
        document = None  # the request tells
    entries: tuple[NicDocument, ...] = document.nics if document else ()
    taken = {entry.index for entry in entries if entry.index is not None}
    named = [entry.mac for entry in entries if entry.mac is not None]
    count = min(MAX_NICS, max(least, len(entries), *(index + 1 for index in taken), 0))
    found = [f"aa:00:00:00:{index >> 8:02x}:{index & 255:02x}" for index in range(count)]
    free = [index for index in range(count) if index not in taken]
    for index, mac in zip(free, named, strict=False):
        found[index] = mac
    return found
