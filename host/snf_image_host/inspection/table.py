# SPDX-License-Identifier: GPL-2.0-or-later
"""An inspection for a person: 80 columns, no colours. Pure; all texts are printable already."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from snf_image_host.inspection.document import InspectedImage, Inspection
from snf_image_shared.findings import Findings, FoundBoot, FoundFileSystem, FoundPartition, FoundSystem, Plan

WIDTH = 80
_LABEL = 12  # columns
_PARTITION = "{:>3} {:>10} {:>10}  {:<20} {:<12} {:>9} {:>9}"
_BELOW = 27  # where the second line of a partition begins
_TASK = "{:<26} {:<11} "
_NOTHING = "-"


def lines(inspection: Inspection) -> Iterator[str]:
    """The whole report."""
    found = inspection.disk
    yield from _entry("Image", _image(inspection.image))
    yield from _entry("Disk", _disk(found))
    yield from _entry("Boot", _boot(found.boot))
    if found.system:
        yield from _system(found.system)
    else:
        yield from _entry("System", "none was recognised")
    if found.table and found.table.partitions:
        yield ""
        yield _PARTITION.format("No.", "Start", "Size", "Type", "Content", "Used", "Free")
        for partition in found.table.partitions:
            yield from _partition(partition)
    if found.volumes:
        yield ""
        yield "Logical volumes"
        for volume in found.volumes:
            content = _content(volume.content) or _NOTHING
            yield from _wrapped("  * ", f"{volume.name}: {volume.layout}, {content}")
    if found.plan:
        yield ""
        yield from _plan(found.plan)
    if found.problems:
        yield ""
        yield "Problems"
        for problem in found.problems:
            yield from _wrapped("  * ", problem)


def size(count: int) -> str:
    """Bytes in four digits at most: 512 B, 1.5 MiB, 120 GiB."""
    number = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 99.95 else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.0f} PiB"


def _image(image: InspectedImage) -> str:
    wrapped = ", ".join(filter(None, (image.container, image.compression)))
    stored = "of unknown size" if image.size is None else size(image.size)
    return f"{image.name}: {wrapped}, {stored} (img_format {image.format})"


def _disk(found: Findings) -> str:
    if found.table:
        table = f"{'GPT' if found.table.kind == 'gpt' else 'MBR'} {found.table.id}".rstrip()
    else:
        table = "no partition table" + (f", {_content(found.content)}" if found.content.type else "")
    return f"{size(found.size)}, {table}, sectors of {found.sector_size} B"


def _boot(boot: FoundBoot) -> str:
    ways = []
    if boot.bios:
        ways.append(f"BIOS ({boot.boot_code or 'unknown boot code'})")
    if boot.uefi:
        ways.append(f"UEFI ({boot.loaders[0]})" if boot.loaders else "UEFI")
    elif boot.loaders:
        ways.append(f"UEFI only by a boot entry of the firmware's ({boot.loaders[0]})")
    return ", ".join(ways) or "nothing to boot from was found"


_WINDOWS = frozenset({"windows", "windows-legacy"})


def _system(system: FoundSystem) -> Iterator[str]:
    release = " ".join(filter(None, (system.distribution, system.release)))
    name = system.name or release or system.family
    yield from _entry("System", ", ".join(dict.fromkeys(filter(None, (name, system.family, system.architecture)))))
    if release and release != name:
        known = {"", "unknown", system.distribution}
        kin = "" if system.distribution_family in known else f" ({system.distribution_family}'s family)"
        yield from _entry("Distro", release + kin)
    called = f", {system.root_device} in its fstab" if system.root_device else ""
    place = f"partition {system.root_partition}" if system.root_partition else "the whole disk"
    volume = f", logical volume {system.volume}" if system.volume else ""
    yield from _entry("Root", f"{place}{volume}{called}")
    if system.family in _WINDOWS:
        yield from _entry("Edition", system.edition or "not known")
        yield from _entry("Setup", system.setup_state or "not known")
        yield from _entry("cloud-init", system.cloud_init or "none")
        return
    if system.kernels:
        yield from _entry("Kernels", ", ".join(system.kernels))
    network = system.network + (f" ({system.network_backend})" if system.network_backend else "")
    yield from _entry("Init", system.init or "not found")
    yield from _entry("Network", network or "nothing that is configured by snf-image")
    yield from _entry("cloud-init", system.cloud_init or "none")
    yield from _entry("SELinux", system.selinux or "none")
    yield from _entry("Boot loader", system.boot_loader or "not found")


def _partition(partition: FoundPartition) -> Iterator[str]:
    content = partition.content
    yield _PARTITION.format(
        _cut(str(partition.number), 3),
        size(partition.start),
        size(partition.size),
        _cut(partition.role or "unknown", 20),
        _cut(content.type or _NOTHING, 12),
        _NOTHING if content.used is None else size(content.used),
        _NOTHING if content.free is None else size(content.free),
    ).rstrip()
    more = (
        "" if partition.role else f"type {partition.type}",
        f"label {content.label}" if content.label else "",
        f"UUID {content.uuid}" if content.uuid else "",
        f"name {partition.name}" if partition.name else "",
        "active" if partition.is_bootable else "",
        partition.attributes,
    )
    if any(more):
        yield from _wrapped(" " * _BELOW, ", ".join(filter(None, more)))


def _plan(plan: Plan) -> Iterator[str]:
    if plan.tasks:
        yield _TASK.format("Task", "Plan") + "Reason"
    for task in plan.tasks:
        head = _TASK.format(_cut(task.name, 26), task.outcome)
        yield from _wrapped(head, task.reason)
    if plan.refusal:
        yield from _wrapped("A deployment fails: ", plan.refusal)


def _content(content: FoundFileSystem) -> str:
    return f"{content.type} {content.label!r}" if content.label else content.type


def _entry(label: str, text: str) -> list[str]:
    return _wrapped(f"{label:<{_LABEL}}", text)


def _wrapped(head: str, text: str) -> list[str]:
    """The text behind `head`, on as many lines as it takes; a name or UUID stays in one piece if it can."""
    indent = " " * len(head)
    found = textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False)
    return found or [head.rstrip()]


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
