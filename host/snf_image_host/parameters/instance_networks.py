# SPDX-License-Identifier: GPL-2.0-or-later
"""What ganeti-instance-image was told of an instance's network: networks/instances/NAME and networks/subnets/SUBNET.

Shell-style files of the administrator's, read as data. They give the first card an IPv4 address of its own, so that a
cluster that changes to this provider keeps its addresses. Source: instance-image 1.0, hooks/interfaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, ip_address
from pathlib import Path
from types import MappingProxyType

from snf_image_host.configuration.assignments import read_assignments
from snf_image_host.parameters.faults import shown
from snf_image_host.parameters.hostnames import domain_name, instance_name
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.job import Ipv4Method, Nic

_NAMED = re.compile(r"""^[ \t]*(?:export[ \t]+)?SUBNET=["']?([^\s"';#]+)""", re.MULTILINE)


def with_instance_network(nics: tuple[Nic, ...], instance: str, directory: Path) -> tuple[Nic, ...]:
    """The cards, the first one as the instance's file says if there is one; its IPv6 and all others stay.

    Raises ConfigurationError, naming the file, for whatever is missing in it or no address.
    """
    file = directory / "instances" / instance
    own = _read(file) if nics and _is_name(instance) else None
    if own is None:
        return nics
    name = _wanted(own, "SUBNET", file)
    if name.startswith(".") or "/" in name:
        raise ConfigurationError(f"{file}: SUBNET: {shown(name)} is no name of a file in {directory / 'subnets'}")
    subnet_file = directory / "subnets" / name
    subnet = _read(subnet_file, own)
    if subnet is None:
        raise ConfigurationError(f"{subnet_file}: is missing, and {file} names it; write NETMASK and GATEWAY into it")
    return (_configured(nics[0], (own, file), (subnet, subnet_file)), *nics[1:])


def network_files(instance: str, directory: Path) -> tuple[Path, ...]:
    """The files that say what with_instance_network() reads, as far as they exist.

    They are for hooks of the administrator's own, which may understand more than we do.
    """
    file = directory / "instances" / instance
    if not _is_name(instance) or not file.is_file():
        return ()
    subnet = directory / "subnets" / _subnet(file).strip("/")
    return (file, subnet) if subnet.parent.name == "subnets" and subnet.is_file() else (file,)


def network_faults(directory: Path) -> Iterator[str]:
    """What with_instance_network() would refuse, of all instances that have a file."""
    card = Nic("aa:00:00:00:00:00")
    for name in sorted(path.name for path in directory.glob("instances/*")):
        try:
            with_instance_network((card,), name, directory)
        except ConfigurationError as error:
            yield str(error)


def _subnet(file: Path) -> str:
    """The subnet that the file names, "" for none; in a file that we cannot read it is what stands there literally."""
    try:
        return (_read(file) or {}).get("SUBNET", "")
    except ConfigurationError:
        named = _NAMED.findall(file.read_text(encoding="utf-8", errors="replace"))
        return named[-1] if named else ""


def _is_name(instance: str) -> bool:
    try:
        return bool(instance_name(instance))
    except ValueError:
        return False  # a fault of the request, which is told elsewhere


def _read(file: Path, known: Mapping[str, str] = MappingProxyType({})) -> Mapping[str, str] | None:
    """The variables of a file that may be missing; the last of several wins, as in a shell.

    It may refer to those above in it, and to `known` ones of a file that was read before.
    """
    try:
        return {found.name: found.value for found in read_assignments(file, variables=known)}
    except (FileNotFoundError, NotADirectoryError):
        return None


def _wanted(values: Mapping[str, str], name: str, file: Path) -> str:
    if not values.get(name):
        raise ConfigurationError(f"{file}: {name} is missing; write {name}='...'")
    return values[name]


def _configured(nic: Nic, own: tuple[Mapping[str, str], Path], subnet: tuple[Mapping[str, str], Path]) -> Nic:
    values, file = subnet
    address = _address(_wanted(own[0], "ADDRESS", own[1]), "ADDRESS", own[1])
    mask = _wanted(values, "NETMASK", file)
    try:
        interface = IPv4Interface(f"{address}/{mask}")
    except ValueError as error:
        raise ConfigurationError(f"{file}: NETMASK: {shown(mask)} is not one like 255.255.255.0") from error
    gateway = _address(values["GATEWAY"], "GATEWAY", file) if values.get("GATEWAY") else None
    if gateway == address:
        raise ConfigurationError(f"{file}: GATEWAY: {gateway} is the address that {own[1]} gives to the instance")
    servers = values.get("DNS_SERVERS", "").split()
    search = (values.get("DNS_SEARCH") or values.get("DNS_DOMAIN", "")).split()
    return replace(
        nic,
        ipv4=Ipv4Method.STATIC,
        address4=str(interface),
        gateway4=str(gateway) if gateway else None,
        nameservers=tuple(_server(text, file) for text in servers),
        search=_domains(search, file),
    )


def _address(text: str, name: str, file: Path) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError as error:
        raise ConfigurationError(f"{file}: {name}: {shown(text)} is not an IPv4 address like 192.0.2.7") from error


def _server(text: str, file: Path) -> str:
    try:
        return str(ip_address(text))
    except ValueError as error:
        raise ConfigurationError(f"{file}: DNS_SERVERS: {shown(text)} is not an address like 192.0.2.53") from error


def _domains(names: Sequence[str], file: Path) -> tuple[str, ...]:
    for name in names:
        try:
            domain_name(name)
        except ValueError as error:
            raise ConfigurationError(f"{file}: DNS_SEARCH: {error}") from error
    return tuple(dict.fromkeys(names))
