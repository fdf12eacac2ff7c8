# SPDX-License-Identifier: GPL-2.0-or-later
"""Golden files: tests/golden_network/<renderer>/<input>.txt holds all that a renderer writes for an input.

To accept what the code does now, run with GOLDEN_UPDATE=1 and read the difference.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from network_inputs import INPUTS
from snf_image_helper.bsd.network import RENDERERS as BSD_RENDERERS
from snf_image_helper.bsd.network import ports as bsd_ports
from snf_image_helper.network import RENDERERS, Renderer, netplan
from snf_image_helper.network.cards import Card, cards_of
from snf_image_helper.network.rendering import Facts, FileContent, Rendered
from snf_image_helper.system import OsFamily
from snf_image_helper.windows import legacy_network
from snf_image_helper.windows import network as windows_network
from snf_image_helper.windows.answer_file import AnswerFile, Component, Pass
from snf_image_shared.job import Nic

GOLDEN = Path(__file__).resolve().parents[2] / "golden_network"


def with_facts(renderer: Renderer, facts: Facts) -> Callable[[tuple[Card, ...]], Rendered]:
    return lambda cards: RENDERERS[renderer](cards, facts)


def for_cloud_init(cards: tuple[Card, ...]) -> Rendered:
    text = json.dumps({"version": 2, "ethernets": netplan.for_cloud_init(cards)}, indent=1) + "\n"
    return Rendered({"network-config": FileContent(text, 0o600)})


def of_bsd(family: OsFamily, facts: bsd_ports.Facts) -> Callable[[tuple[Card, ...]], Rendered]:
    """Cards of Ganeti's default type; what is written into a file of the guest that was empty is such a file."""

    def write(cards: tuple[Card, ...]) -> Rendered:
        ports = bsd_ports.ports_of(cards, [Nic(card.mac) for card in cards], family)
        files = BSD_RENDERERS[family](ports, facts)
        edited = {path: FileContent(text) for path, text in files.edited.items()}
        return Rendered({**files.rendered.files, **edited})

    return write


def of_windows(build: int) -> Callable[[tuple[Card, ...]], Rendered]:
    """The answer file, and the scripts of PowerShell, which stand in SetupComplete.cmd in base64."""

    def write(cards: tuple[Card, ...]) -> Rendered:
        answers = AnswerFile(b'<unattend xmlns="urn:schemas-microsoft-com:unattend"/>', "unattend.xml")
        wanted = windows_network.answers(cards)
        for name, elements in ((windows_network.TCPIP, wanted.tcpip), (windows_network.DNS_CLIENT, wanted.dns_client)):
            if elements:
                answers.put(Component(Pass.SPECIALIZE, name, "amd64"), *elements)
        scripts = "".join(f"{script}\n" for script in windows_network.scripts(cards, build))
        return Rendered({"unattend.xml": FileContent(answers.content.decode()), "powershell": FileContent(scripts)})

    return write


def of_xp(cards: tuple[Card, ...]) -> Rendered:
    lines = "".join(f"{line}\n" for line in legacy_network.script(cards))
    return Rendered({legacy_network.SCRIPT: FileContent(lines)})


WRITERS: Mapping[str, Callable[[tuple[Card, ...]], Rendered]] = {
    **{str(renderer): with_facts(renderer, Facts()) for renderer in RENDERERS},
    # ifupdown before 0.8.35, which knows cards by their names alone.
    "ifupdown-by-name": with_facts(Renderer.IFUPDOWN, Facts(matches_mac=False)),
    "netplan-networkmanager": with_facts(Renderer.NETPLAN, Facts(backend="NetworkManager")),
    # NetworkManager's reading of Red Hat's files, beside the scripts'.
    "ifcfg-networkmanager": with_facts(Renderer.IFCFG, Facts(backend="NetworkManager")),
    "cloud-init": for_cloud_init,
    "freebsd": of_bsd(OsFamily.FREEBSD, bsd_ports.Facts(dhcp6c=True)),
    "netbsd": of_bsd(OsFamily.NETBSD, bsd_ports.Facts()),
    "openbsd": of_bsd(OsFamily.OPENBSD, bsd_ports.Facts()),
    # OpenBSD before 6.9, whose files are named after drivers, and which has dhclient.
    "openbsd-by-name": of_bsd(OsFamily.OPENBSD, bsd_ports.Facts(matches_mac=False, autoconf=False)),
    "windows": of_windows(20348),
    "windows-legacy": of_xp,
}
CASES = [(writer, name) for writer in WRITERS for name in INPUTS]


@pytest.mark.image_row(71, 73, 74)
@pytest.mark.row(178, 179, 180, 181, 182, 183, 185)
@pytest.mark.parametrize(("writer", "name"), CASES)
def test_the_files_are_the_golden_ones(writer: str, name: str) -> None:
    found = picture(WRITERS[writer](cards_of(INPUTS[name])))
    golden = GOLDEN / writer / f"{name}.txt"
    if os.environ.get("GOLDEN_UPDATE"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(found)
    assert found == golden.read_text()


def test_no_golden_file_is_left_over() -> None:
    files = {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*.txt")}
    assert files == {f"{writer}/{name}.txt" for writer, name in CASES}


def picture(rendered: Rendered) -> str:
    """Each file's path and permission bits, and under it its text; then the links."""
    files = (f"==> {path} {file.mode:04o}\n{file.text}" for path, file in sorted(rendered.files.items()))
    links = (f"--> {path} {target}\n" for path, target in rendered.links.items())
    return "\n".join((*files, *links))
