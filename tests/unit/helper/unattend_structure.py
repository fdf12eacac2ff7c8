# SPDX-License-Identifier: GPL-2.0-or-later
"""Answer files held to what Microsoft's "Unattended Windows Setup Reference" says of their structure: passes and their
order, the identity of a component, which settings a component has in which pass, since which Windows, and their values.

Knows nothing of the code under test; only the settings that it may write are listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

PASSES = (
    "windowsPE",
    "offlineServicing",
    "generalize",
    "specialize",
    "auditSystem",
    "auditUser",
    "oobeSystem",
)
NS = "{urn:schemas-microsoft-com:unattend}"
ACTION = "{http://schemas.microsoft.com/WMIConfig/2002/State}action"
KEY = "{http://schemas.microsoft.com/WMIConfig/2002/State}keyValue"
_BOOLEAN = r"true|false"
_LANGUAGE = r"[a-z]{2,3}(-[A-Z][a-z]{3})?-([A-Z]{2}|[0-9]{3})"
_TEXT = r"(?s).*"
_PASSWORD = {"Value": r"[A-Za-z0-9+/]*={0,2}", "PlainText": _BOOLEAN}
VISTA, SEVEN, EIGHT = (6, 0), (6, 1), (6, 2)


@dataclass(frozen=True)
class Setting:
    """What an element holds: text of a pattern or elements; the passes that have it and the first Windows that does."""

    holds: str | dict[str, object]
    passes: tuple[str, ...]
    since: tuple[int, int] = VISTA


_OOBE = {
    "HideEULAPage": (_BOOLEAN, VISTA),
    "HideLocalAccountScreen": (_BOOLEAN, EIGHT),
    "HideOEMRegistrationScreen": (_BOOLEAN, EIGHT),
    "HideOnlineAccountScreens": (_BOOLEAN, EIGHT),
    "HideWirelessSetupInOOBE": (_BOOLEAN, SEVEN),
    "NetworkLocation": (r"Home|Work|Other", VISTA),
    "ProtectYourPC": (r"[123]", VISTA),
    "SkipMachineOOBE": (_BOOLEAN, VISTA),
    "SkipUserOOBE": (_BOOLEAN, VISTA),
}
_LISTS = {"RunSynchronous": "RunSynchronousCommand", "FirstLogonCommands": "SynchronousCommand"}
_COMMANDS: dict[str, dict[str, object]] = {
    "RunSynchronousCommand": {"Order": r"[1-9][0-9]{0,2}", "Path": r".{1,1024}", "Description": r".{0,259}"},
    "SynchronousCommand": {"Order": r"[1-9][0-9]{0,2}", "CommandLine": r".{1,1024}", "Description": r".{0,259}"},
}
_ACCOUNT = {"Name": _TEXT, "Group": _TEXT, "DisplayName": _TEXT, "Description": _TEXT, "Password": _PASSWORD}
SETTINGS: dict[str, dict[str, Setting]] = {
    "Microsoft-Windows-Shell-Setup": {
        "ComputerName": Setting(r"\*|[^\s{|}~\[\\\]^':;<=>?@!\"#$%`()+/.,&]{1,15}", ("offlineServicing", "specialize")),
        "DisableAutoDaylightTimeSet": Setting(_BOOLEAN, ("oobeSystem", "specialize")),
        "ProductKey": Setting(r"([A-Z0-9]{5}-){4}[A-Z0-9]{5}", ("specialize",)),
        "RegisteredOrganization": Setting(_TEXT, ("auditSystem", "oobeSystem", "specialize")),
        "RegisteredOwner": Setting(_TEXT, ("auditSystem", "oobeSystem", "specialize")),
        "TimeZone": Setting(r"[A-Za-z0-9. ()+-]{3,256}", ("auditSystem", "oobeSystem", "specialize")),
        "OOBE": Setting({name: pattern for name, (pattern, _) in _OOBE.items()}, ("oobeSystem",)),
        "UserAccounts": Setting(
            {"AdministratorPassword": _PASSWORD, "LocalAccounts": {"LocalAccount": _ACCOUNT}}, ("oobeSystem",)
        ),
        "FirstLogonCommands": Setting({"SynchronousCommand": _COMMANDS["SynchronousCommand"]}, ("oobeSystem",)),
    },
    "Microsoft-Windows-Deployment": {
        "RunSynchronous": Setting(
            {"RunSynchronousCommand": _COMMANDS["RunSynchronousCommand"]}, ("auditUser", "specialize")
        )
    },
    "Microsoft-Windows-International-Core": {
        name: Setting(_LANGUAGE, ("oobeSystem", "specialize"))
        for name in ("InputLocale", "SystemLocale", "UILanguage", "UserLocale")
    },
}
# Where a setting is one of several, and each is told from the others by what is in it, or by a key.
_REPEATED = frozenset(
    {"LocalAccounts", "Interfaces", "UnicastIpAddresses", "Routes", "DNSServerSearchOrder", "DNSSuffixSearchOrder"}
)
_KEYED = {"UnicastIpAddresses", "DNSServerSearchOrder", "DNSSuffixSearchOrder"}
_MAC = r"[0-9A-F]{2}(-[0-9A-F]{2}){5}"
_ADDRESS = r"[0-9.]{7,15}|[0-9a-f:.]{2,39}"
_NETWORK = r"[0-9.]{7,15}/[0-9]{1,2}|[0-9a-f:.]{2,39}/[0-9]{1,3}"
_PROTOCOL = {"DhcpEnabled": _BOOLEAN, "Metric": r"[0-9]{1,4}", "RouterDiscoveryEnabled": _BOOLEAN}
# "The settings in Interface must be added in the following order."
_INTERFACE = {
    "Ipv4Settings": _PROTOCOL,
    "Ipv6Settings": _PROTOCOL,
    "Identifier": _MAC,
    "UnicastIpAddresses": {"IpAddress": _NETWORK},
    "Routes": {
        "Route": {
            "Identifier": r"[0-9]{1,4}",
            "Metric": r"[0-9]{1,4}",
            "NextHopAddress": _ADDRESS,
            "Prefix": _NETWORK,
        }
    },
}
_DOMAIN = r"[A-Za-z0-9_.-]{1,253}"
SETTINGS["Microsoft-Windows-TCPIP"] = {"Interfaces": Setting({"Interface": _INTERFACE}, ("specialize", "windowsPE"))}
SETTINGS["Microsoft-Windows-DNS-Client"] = {
    "DNSSuffixSearchOrder": Setting({"DomainName": _DOMAIN}, ("specialize",)),
    "Interfaces": Setting(
        {
            "Interface": {
                "Identifier": _MAC,
                "DNSDomain": _DOMAIN,
                "DNSServerSearchOrder": {"IpAddress": _ADDRESS},
            }
        },
        ("specialize",),
    ),
}


def faults(document: bytes, version: tuple[int, int] = (10, 0)) -> list[str]:
    """What is wrong with it for this version of Windows; [] if nothing is."""
    return list(_faults(ET.fromstring(document), version))


def value(document: bytes, path: str, architecture: str = "amd64") -> list[str]:
    """The texts at PASS/COMPONENT/ELEMENT/..., the component without its Microsoft-Windows-."""
    pass_, component, *names = path.split("/")
    return [
        element.text or ""
        for settings in ET.fromstring(document).iter(f"{NS}settings")
        if settings.get("pass") == pass_
        for found in settings
        if found.get("name") == f"Microsoft-Windows-{component}" and found.get("processorArchitecture") == architecture
        for element in found.findall("/".join(f"{NS}{name}" for name in names))
    ]


def _faults(root: ET.Element, version: tuple[int, int]) -> Iterator[str]:
    if root.tag != f"{NS}unattend":
        yield f"root {root.tag}"
    passes = [settings.get("pass", "") for settings in root]
    if passes != [name for name in PASSES if name in passes]:
        yield f"passes {passes}"
    for settings in root:
        names = [(component.get("name"), component.get("processorArchitecture")) for component in settings]
        if len(names) != len(set(names)):
            yield f"a component twice in {settings.get('pass')}"
        for component in settings:
            yield from _component(component, settings.get("pass", ""), version)


def _component(component: ET.Element, pass_: str, version: tuple[int, int]) -> Iterator[str]:
    identity = dict(component.attrib)
    name, architecture = identity.pop("name", ""), identity.pop("processorArchitecture", "")
    if component.tag != f"{NS}component" or architecture not in {"amd64", "x86", "arm64"}:
        yield f"{component.tag} {name} for {architecture}"
    if identity != {"publicKeyToken": "31bf3856ad364e35", "language": "neutral", "versionScope": "nonSxS"}:
        yield f"{name} is {identity}"
    for element in component:
        local = element.tag.removeprefix(NS)
        setting = SETTINGS.get(name, {}).get(local)
        if setting is None or pass_ not in setting.passes:
            yield f"{name}/{local} in {pass_}"
        else:
            yield from _element(element, setting.holds, version)
    if len({element.tag for element in component}) != len(component):
        yield f"{name} has a setting twice"


def _element(element: ET.Element, holds: object, version: tuple[int, int]) -> Iterator[str]:
    local = element.tag.removeprefix(NS)
    if local in _OOBE and version < _OOBE[local][1]:
        yield f"{local} is unknown to {version}"
    if isinstance(holds, str):
        if len(element) or not re.fullmatch(holds, element.text or ""):
            yield f"{local} is {element.text!r}"
        return
    assert isinstance(holds, dict)
    if (element.text or "").strip():
        yield f"{local} has text"
    for child in element:
        name = child.tag.removeprefix(NS)
        if name not in holds:
            yield f"{local}/{name}"
        else:
            yield from _element(child, holds[name], version)
    if local in _LISTS:
        yield from _commands(element)
    elif local in _REPEATED:
        yield from _repeated(element, local)
    elif local in {"Interface", "Route"} and [child.tag for child in element] != [
        f"{NS}{name}" for name in holds if element.find(f"{NS}{name}") is not None
    ]:
        yield f"{local} is in another order, or has a setting twice"
    elif len({child.tag for child in element}) != len(element):
        yield f"{local} has a setting twice"


def _repeated(parent: ET.Element, local: str) -> Iterator[str]:
    """Each is added, and none is there twice."""
    identities = [
        child.get(KEY) or child.findtext(f"{NS}Identifier") or child.findtext(f"{NS}Name") for child in parent
    ]
    if local != "LocalAccounts" and any(child.get(ACTION) != "add" for child in parent):
        yield f"{local} has one that is not added"
    if len(set(identities)) != len(identities) or None in identities:
        yield f"{local} has {identities}"
    if local in _KEYED and any(child.get(KEY) is None for child in parent):
        yield f"{local} has one without key"


def _commands(parent: ET.Element) -> Iterator[str]:
    """Orders are different numbers from 1, and each entry is added to the list."""
    orders = [int(child.findtext(f"{NS}Order") or 0) for child in parent]
    if orders != list(range(1, len(orders) + 1)):
        yield f"orders {orders}"
    if any(child.get(ACTION) != "add" for child in parent):
        yield "a command that is not added"
