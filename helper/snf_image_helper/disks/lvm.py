# SPDX-License-Identifier: GPL-2.0-or-later
"""The logical volumes of one disk: what there are, making them usable for a while, and letting one fill the disk.

LVM is shown the given devices and nothing else of the machine, neither its configuration nor its udev: a volume group
that reaches for another disk, or bears the name of somebody else's, finds nothing to take.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from snf_image_helper.problems import fact
from snf_image_helper.system import UnknownGuestError
from snf_image_shared.errors import GuestError
from snf_image_shared.process import Finished, Limits, ProcessError, run

MEMBER = "LVM2_member"  # what blkid calls a physical volume
MAX_GROUPS = 8
MAX_VOLUMES = 128
_SECONDS = 120.0
# Of lvm(8): no other letters, and neither name may be one of a directory.
_NAME = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,126}")
# What needs nothing but device-mapper's simplest targets; lvmthin(7), lvmraid(7), lvmcache(7) need tools of their own.
_SIMPLE = frozenset({"linear", "striped"})
_CONFIGURATION = (
    'devices { use_devicesfile=0 obtain_device_list_from_udev=0 external_device_info_source="none" hints="none" '
    "scan_lvs=0 multipath_component_detection=0 md_component_detection=1 } "
    'global { locking_dir="/run/lock/lvm" use_lvmpolld=0 use_lvmlockd=0 event_activation=0 } '
    "backup { backup=0 archive=0 } "
    "activation { udev_sync=0 udev_rules=0 monitoring=0 }"
)
# Closes the descriptors that a caller of lvm has open without a word.
_ENVIRONMENT = {"LVM_SUPPRESS_FD_WARNINGS": "1", "LVM_SYSTEM_DIR": ""}


@dataclass(frozen=True)
class Volume:
    """A logical volume; `layout` is "linear" for the simplest, as lvs(8) shows it."""

    group: str
    name: str
    layout: str

    @property
    def full_name(self) -> str:
        """As System.volume and the programs of LVM have it."""
        return f"{self.group}/{self.name}"

    @property
    def mapper_name(self) -> str:
        """Its name below /dev/mapper, in which a hyphen of a name is doubled (libdevmapper, dm_build_dm_name)."""
        return "-".join(part.replace("-", "--") for part in (self.group, self.name))

    @property
    def device(self) -> str:
        """The node that exists while the volume is active."""
        return f"/dev/mapper/{self.mapper_name}"

    @property
    def is_linear(self) -> bool:
        """Every extent of the group can be its next."""
        return self.layout == "linear"

    @property
    def is_simple(self) -> bool:
        """It can be made usable here: no thin, mirrored, cached or encrypted volume."""
        return self.layout in _SIMPLE


@dataclass(frozen=True)
class Physical:
    """A physical volume of `extents` extents on a device that has room for `room` of them."""

    device: str
    extents: int
    room: int


@dataclass(frozen=True)
class Group:
    """A volume group that lies on the disk with all its parts. `free` counts unused extents."""

    name: str
    physicals: tuple[Physical, ...]
    volumes: tuple[Volume, ...]
    free: int

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that it lies on."""
        return tuple(item.device for item in self.physicals)

    def volume(self, full_name: str) -> Volume | None:
        """The volume of that name, if there is one."""
        return next((item for item in self.volumes if item.full_name == full_name), None)


def groups_on(devices: Sequence[str]) -> tuple[Group, ...]:
    """The volume groups on these physical volumes, in the order of their names.

    Raises UnknownGuestError for what cannot be used: parts missing, names twice, more than anybody needs.
    """
    try:
        # One program for the whole report: each start is slow under emulation.
        found = _lvm(devices, "fullreport", "--reportformat", "json", "--units", "b", "--nosuffix", *_REPORT)
        reports = json.loads(found.stdout)["report"]
        groups = [_group(report, devices) for report in reports if _is_group(report)]
    except ProcessError as error:
        raise UnknownGuestError(f"LVM cannot be read ({fact(str(error))}); check the image with vgck") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UnknownGuestError(f"what LVM says cannot be understood ({error!r}); check the image with vgck") from error
    if len(groups) > MAX_GROUPS:
        raise UnknownGuestError(f"the disk has {len(groups)} volume groups, more than {MAX_GROUPS}")
    names = [group.name for group in groups]
    for name in names:
        if names.count(name) > 1:
            raise UnknownGuestError(f"two volume groups are called {name}; rename one of them with vgrename")
    return tuple(sorted(groups, key=lambda group: group.name))


@contextmanager
def active(groups: Sequence[Group], *, read_only: bool = False) -> Iterator[tuple[Volume, ...]]:
    """Make the simple volumes of these groups usable, and end that whatever happens.

    With `read_only` nobody can write to them. Raises GuestError when they cannot be activated or are still in use.
    """
    used: list[Group] = []
    try:
        for group in groups:
            used.append(group)
            _activate(group, read_only=read_only)
        yield tuple(volume for group in groups for volume in group.volumes if volume.is_simple)
    except BaseException:
        for group in used:
            _let_go(group)  # the failure before is the one to tell
        raise
    stuck = [text for group in used for text in _let_go(group)]
    if stuck:
        raise GuestError(stuck[0])


def fill(group: Group, device: str, volume: Volume) -> None:
    """Let the physical volume fill its device, and the logical one all that is free then. Raises ProcessError.

    Where nothing can grow nothing is written.
    """
    grown = next((item for item in group.physicals if item.device == device and item.room > item.extents), None)
    if grown:
        _lvm(group.devices, "pvresize", device)
    if grown or group.free:
        _lvm(group.devices, "lvextend", "-l", "+100%FREE", volume.full_name)


_REPORT = (
    *("--configreport", "vg", "-o", "vg_name,vg_missing_pv_count,vg_extent_size,vg_free_count,vg_exported,lv_count"),
    *("--configreport", "pv", "-o", "pv_name,dev_size,pe_start,pv_pe_count"),
    *("--configreport", "lv", "-o", "lv_name,lv_layout"),
    *("--configreport", "pvseg", "-o", "pvseg_start", "--configreport", "seg", "-o", "seg_start"),
)


def _is_group(report: dict[str, list[dict[str, str]]]) -> bool:
    """Whether it is not about the physical volumes that belong to nobody."""
    return bool(report.get("vg") and report["vg"][0]["vg_name"])


def _group(report: dict[str, list[dict[str, str]]], devices: Sequence[str]) -> Group:
    about = report["vg"][0]
    name = about["vg_name"]
    _check_name(name)
    if int(about["vg_missing_pv_count"]):
        raise UnknownGuestError(
            f"volume group {name} lacks {about['vg_missing_pv_count']} physical volumes: it lies on more disks than one"
        )
    if about["vg_exported"]:
        raise UnknownGuestError(f"volume group {name} is exported; import it in the image with vgimport")
    if int(about["lv_count"]) > MAX_VOLUMES:
        raise UnknownGuestError(f"volume group {name} has {about['lv_count']} volumes, more than {MAX_VOLUMES}")
    extent = int(about["vg_extent_size"])
    physicals = tuple(
        Physical(item["pv_name"], int(item["pv_pe_count"]), (int(item["dev_size"]) - int(item["pe_start"])) // extent)
        for item in report["pv"]
    )
    if any(item.device not in devices for item in physicals):
        raise UnknownGuestError(f"volume group {name} lies on a device that is not the image's")
    volumes = tuple(Volume(name, item["lv_name"], item["lv_layout"]) for item in report["lv"])
    for volume in volumes:
        _check_name(volume.name)
    return Group(name, physicals, volumes, int(about["vg_free_count"]))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise UnknownGuestError(f"{fact(name)} is no name for a volume or a group of LVM")


def _activate(group: Group, *, read_only: bool) -> None:
    wanted = [volume.full_name for volume in group.volumes if volume.is_simple]
    if not wanted:
        return
    more = f' activation {{ read_only_volume_list=["{group.name}"] }}' if read_only else ""
    try:
        _lvm(group.devices, "lvchange", "-ay", *wanted, more=more)
    except ProcessError as error:
        raise UnknownGuestError(f"volume group {group.name} cannot be activated: {error}") from error


def _let_go(group: Group) -> tuple[str, ...]:
    """Deactivate its volumes; the answer is why that cannot be done."""
    try:
        _lvm(group.devices, "vgchange", "-an", group.name)
    except ProcessError as error:
        return (f"volume group {group.name} cannot be let go: {error}; does a program use it?",)
    return ()


def _lvm(devices: Sequence[str], command: str, *words: str, more: str = "") -> Finished:
    options = ("--quiet", "--config", _CONFIGURATION + more, "--devices", ",".join(devices))
    return run(["lvm", command, *options, *words], env=_ENVIRONMENT, limits=Limits(_SECONDS))
