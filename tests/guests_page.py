# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/guests.md: which guests are known to work, and how that was shown. `make guests` writes it.

The lines come from the tests' own `@pytest.mark.guest(...)`, read without running them, from the cases that are booted
(guest_matrix) and from the trees that stand for published images (phony_guests).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from guest_matrix.cases import CASES
from images.guests import IMAGES
from images.stacks import STACKS
from phony_guests import PHONY, Phony

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs/guests.md"
BOOTED, TREE, TOOL = PROOFS = ("booted", "tree", "tool")
_MARKER = "pytest.mark.guest"
_MATRIX = "vm/test_guests.py::test_a_debian_instance_is_what_was_ordered"
# What all tasks together change in a tree, with cloud-init and without; other tests name the trees that they are about.
_GOLDEN = PROJECT / "tests/golden/phony"
_GOLDEN_TEST = "unit/helper/test_phony_tasks.py::test_what_the_tasks_change_is_golden"
_NAMES = {
    **{"centos": "CentOS", "amazon": "Amazon Linux", "rocky": "Rocky Linux", "sles": "SLES", "arch": "Arch Linux"},
    **{"opensuse-leap": "openSUSE Leap", "opensuse-tumbleweed": "openSUSE Tumbleweed", "nixos": "NixOS"},
    **{"opensuse-microos": "openSUSE MicroOS", "fedora-coreos": "Fedora CoreOS", "alpine": "Alpine Linux"},
    **{"flatcar-root": "Flatcar", "flatcar-booted": "Flatcar", "fedora-silverblue": "Fedora Silverblue"},
    **{"gentoo-openrc": "Gentoo (OpenRC)", "gentoo-systemd": "Gentoo (systemd)", "void": "Void Linux"},
    **{"freebsd": "FreeBSD", "freebsd-lived": "FreeBSD", "netbsd": "NetBSD", "openbsd": "OpenBSD"},
}
# The first one that a tree has tells how its image sets up its network.
_STACKS = (
    (re.compile(r"/etc/netplan/.|/libexec/netplan/generate|/lib/netplan/generate"), "netplan"),
    (re.compile(r"/wicked\.service"), "wicked"),
    (re.compile(r"wants/NetworkManager\.service"), "NetworkManager"),
    (re.compile(r"wants/systemd-networkd\.service"), "networkd"),
    (re.compile(r"/etc/sysconfig/network-scripts/ifcfg-"), "ifcfg"),
    (re.compile(r"/etc/conf\.d/net\Z"), "netifrc"),
    (re.compile(r"/etc/rc\.d/rc\.inet1"), "rc.inet1"),
    (re.compile(r"/etc/rc\.d/netif"), "rc.conf"),
    (re.compile(r"/etc/rc\.d/network"), "rc.conf, ifconfig.if"),
    (re.compile(r"/etc/hostname\.vio"), "hostname.if"),
    (re.compile(r"/etc/network/interfaces\Z"), "ifupdown"),
    (re.compile(r"dhcpcd"), "dhcpcd"),
)
_RELEASES = {"bookworm": "12", "trixie": "13"}
_INTRODUCTION = """# Guests

Which systems are customised, and how that is known:

* **booted**: made from the distribution's packages, deployed, booted on an isolated network and asked from both sides:
  name, addresses, routes, DNS, size, password, SSH key, identity, failed units.
* **tool**: what is written was read by the distribution's own program.
* **tree**: a tree that reproduces a published image file by file, every fact with its source, was customised and
  compared. **Such a guest has not been booted here**: its distribution cannot be had where the tests run.

`make test` boots those that say so, `make test-guests` all. All boots are emulated (x86-64, QEMU's TCG, machine type
`pc`, virtio); UEFI means OVMF without Secure Boot and without any variable left from an installer. Not booted at all:
LUKS, f2fs, 4096 byte sectors, other architectures, the published images themselves.

This page is written by `make guests` from the tests; do not edit it.
"""


@dataclass(frozen=True, order=True)
class Line:
    """One line of the table; `test` as pytest names it."""

    family: str
    version: str
    stack: str
    boot: str
    proven: str
    test: str


def lines() -> list[Line]:
    """All lines in order. Raises ValueError for a marker that is no line of the table."""
    found = {*_marked_lines(), *_booted_lines(), *_tree_lines()}
    return sorted(found, key=_order)


def page(listed: Sequence[Line]) -> str:
    """The whole document."""
    parts = [
        _INTRODUCTION,
        "\n| family | version | network | starts | proven | by |\n| --- | --- | --- | --- | --- | --- |\n",
    ]
    for key, group in groupby(listed, key=lambda line: (line.family, line.version, line.stack, line.boot, line.proven)):
        tests = dict.fromkeys(f"`{line.test}`" for line in group)
        parts.append(f"| {' | '.join(key)} | {'<br>'.join(tests)} |\n")
    return "".join(parts)


def markers(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The name of each test in the file that has a marker, with what the marker says."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.FunctionDef) and statement.name.startswith("test_"):
            for decorator in statement.decorator_list:
                for call in ast.walk(decorator):
                    if isinstance(call, ast.Call) and ast.unparse(call.func) == _MARKER:
                        said = {word.arg or "**": ast.literal_eval(word.value) for word in call.keywords}
                        yield statement.name, said


def _order(line: Line) -> tuple[str, list[int], int, Line]:
    numbers = [int(number) for number in re.findall(r"\d+", line.version)]
    return line.family.lower(), numbers, PROOFS.index(line.proven), line


def _marked_lines() -> Iterator[Line]:
    for path in sorted((PROJECT / "tests").rglob("test_*.py")):
        for name, said in markers(path):
            test = f"{path.relative_to(PROJECT / 'tests')}::{name}"
            if set(said) != {"family", "version", "stack", "boot", "proven"} or said["proven"] not in PROOFS:
                raise ValueError(f"{test}: @{_MARKER} wants family, version, stack, boot and proven, not {said}")
            yield Line(**said, test=test)


def _booted_lines() -> Iterator[Line]:
    for case in CASES:
        image = IMAGES[case.image]
        version = _RELEASES[STACKS[image.stack].suite]
        test = f"{_MATRIX}[{case.image}]" + ("" if case.in_ci else " (make test-guests)")
        yield Line("Debian", version, image.stack, _starts(image.disk), BOOTED, test)


def _tree_lines() -> Iterator[Line]:
    for path in sorted(_GOLDEN.glob("*.txt")):
        name = path.stem if path.stem in PHONY else path.stem.removesuffix("-cloud-init")
        yield _tree_line(PHONY[name], _GOLDEN_TEST)
    for path in sorted((PROJECT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        for statement in ast.parse(text).body if "phony_guests" in text else ():
            if isinstance(statement, ast.FunctionDef) and statement.name.startswith("test_"):
                named = {node.value for node in ast.walk(statement) if isinstance(node, ast.Constant)}
                for guest in (PHONY[name] for name in PHONY if name in named):
                    yield _tree_line(guest, f"{path.relative_to(PROJECT / 'tests')}::{statement.name}")


def _tree_line(guest: Phony, test: str) -> Line:
    family, version = _name(guest.name)
    return Line(family, version, _stack(guest), "not started", TREE, test)


def _name(phony: str) -> tuple[str, str]:
    """Family and version, which is empty for systems without one."""
    name, _, version = phony.removeprefix("phony-").rpartition("-")
    if not version[:1].isdigit():
        name, version = phony.removeprefix("phony-"), ""
    return _NAMES.get(name, name.replace("-", " ").title()), version


def _stack(guest: Phony) -> str:
    paths = [entry.path for entry in guest.entries]
    return next((stack for mark, stack in _STACKS if any(mark.search(path) for path in paths)), "")


def _starts(disk: str) -> str:
    firmware, table, *rest = disk.split("-")
    without = ", no removable-path loader in the image" if rest[1:] == ["vendor"] else ""
    return f"{firmware.upper()}, {table.upper()}, {rest[0].replace('lvm', 'ext4 on LVM')}{without}"


if __name__ == "__main__":
    PAGE.write_text(page(lines()), encoding="utf-8")
