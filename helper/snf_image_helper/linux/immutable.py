# SPDX-License-Identifier: GPL-2.0-or-later
"""Systems that no task may change: images with two sets of partitions, ostree, snapshots, generated configuration.

Each is recognised by what its documentation promises. Where that names a place for Ignition's configuration, and the
first boot that reads it is still to come, the place is found; all others are unknown guests, each with its reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from snf_image_helper import fstab
from snf_image_helper.disks.disk import Place
from snf_image_helper.disks.filesystems import MOUNTABLE, FileSystem
from snf_image_helper.files.resolution import open_inside
from snf_image_helper.linux.distros import Distro, Family, from_os_release, parse_os_release
from snf_image_helper.system import Ignition, IgnitionGuest, OsFamily, System, UnknownGuestError
from snf_image_shared.errors import GuestError

# The types of Flatcar's partitions, from its disk_util: two /usr in turn, and a root that grows or does not.
FLATCAR_USR = "5DFBF5F4-2848-4BAC-AA5E-0D9A20B745A6"
FLATCAR_ROOTS = frozenset({"3884DD41-8582-4404-B9A8-E9B84F2DF50E", "BE9067B9-EA49-4F15-B4F6-F36F8C9E1818"})
# Discoverable Partitions Specification: hashes of dm-verity beside a root, by architecture as in detection.
_ROOT_HASHES = frozenset(
    {
        "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5",  # x86-64
        "D13C5D3B-B5D1-422A-B29F-9454FDC89D76",  # x86
        "DF3300CE-D69F-4C92-978C-9BFB0F38D820",  # arm64
        "7386CDF2-203C-47A9-A498-F2ECCE45A2D6",  # arm
        "B6ED5582-440B-4209-B8DA-5FF7C419EA3D",  # riscv64
        "906BD944-4589-4AAE-A4E4-DD983917446A",  # ppc64le
        "B325BFBE-C7BE-4AB8-8357-139E652D2F6B",  # s390x
        "F3393B22-E9AF-4613-A948-9D3BFBD0C535",  # loong64
    }
)
# GRUB looks for one of these on the EFI system partition: flatcar.org, "Flatcar Container Linux startup process".
_FLATCAR_FIRST_BOOT = ("/flatcar/first_boot", "/coreos/first_boot")
# fedora-coreos-config: 40_coreos-ignition.cfg, coreos-ignition-setup-user.sh.
_COREOS_BOOT, _COREOS_FIRST_BOOT = "boot", "/ignition.firstboot"
# SUSE's README of its package ignition, and combustion's: this label, also in capitals.
_MICROOS_LABEL = "ignition"
_MICROOS = frozenset({"opensuse-microos", "opensuse-leap-micro", "sle-micro", "sl-micro", "suse-microos"})
_TRANSACTIONAL = "/usr/sbin/transactional-update"
_LARGEST = 65536  # bytes of an os-release or fstab
_CURE = "set EXCLUDE_ALL_TASKS=yes, or UNKNOWN_GUEST=deliver, to deliver the image as it is"

Look = Callable[[FileSystem], AbstractContextManager[str]]


@dataclass(frozen=True)
class Layout:
    """The partitions with what is on each, and how to look into one; `look` raises GuestError."""

    places: Sequence[Place]
    on: Mapping[str, FileSystem]
    look: Look

    def labelled(self, label: str) -> Place | None:
        """The first partition whose file system can be mounted and is called so."""
        return next((item for item in self.places if self._is_labelled(item, label)), None)

    def has(self, place: Place, *paths: str) -> bool:
        """Whether one of the paths exists on the file system there; False when it cannot be looked at."""
        system = self.on[place.device]
        if system.type not in MOUNTABLE:
            return False
        try:
            with self.look(system) as directory:
                return any(exists(directory, path) for path in paths)
        except GuestError:
            return False

    def _is_labelled(self, place: Place, label: str) -> bool:
        system = self.on[place.device]
        return system.label.lower() == label and system.type in MOUNTABLE


def told_by_partitions(layout: Layout) -> System | None:
    """A system whose partitions alone say what it is. Raises UnknownGuestError for one that takes no orders."""
    types = {place.partition.type: place for place in layout.places if place.partition}
    if FLATCAR_USR in types:
        return _flatcar(layout, next((types[kind] for kind in FLATCAR_ROOTS if kind in types), None))
    if types.keys() & _ROOT_HASHES:
        raise _refused("its root is protected by hashes (dm-verity), so it would not start with a changed file")
    return None


def is_deployed(directory: str) -> bool:
    """Whether the tree is the root of ostree's, which holds its systems in deployments and no /etc of its own."""
    return exists(directory, "/ostree/deploy") and not exists(directory, "/etc/os-release")


def deployed(layout: Layout, root: int) -> System:
    """The system that ostree has deployed on partition `root`. Raises UnknownGuestError for one without Ignition."""
    boot = layout.labelled(_COREOS_BOOT)
    if boot is not None and boot.number != root and layout.has(boot, _COREOS_FIRST_BOOT):
        return System(OsFamily.LINUX, root, ignition=Ignition(IgnitionGuest.COREOS, boot.number))
    raise _refused(
        "it is deployed by ostree (Silverblue, IoT, bootc, or a CoreOS that has booted), which keeps its files "
        "in deployments of its own"
    )


def told_by_files(layout: Layout, root: int, directory: str) -> Ignition | None:
    """Whether Ignition sets up the system whose root is mounted at `directory`; None for one that tasks can change.

    Raises UnknownGuestError for one that neither can.
    """
    distro = _distro(directory)
    if distro.family is Family.NIXOS:
        raise _refused("NixOS makes /etc anew from its own description at each start")
    if distro.name not in _MICROOS and not _is_transactional(directory):
        return None
    place = layout.labelled(_MICROOS_LABEL)
    if place is None or place.number == root:
        raise _refused(
            "its root is a read-only snapshot (transactional-update), and there is no partition labelled "
            f"{_MICROOS_LABEL} for Ignition's configuration"
        )
    return Ignition(IgnitionGuest.MICROOS, place.number)


def exists(directory: str, path: str) -> bool:
    """Whether a path leads to anything inside the tree at `directory`."""
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(open_inside(root, path, os.O_PATH))
    except OSError:
        return False
    finally:
        os.close(root)
    return True


def _flatcar(layout: Layout, root: Place | None) -> System:
    oem = layout.labelled("oem")
    esp = next((item for item in layout.places if item.partition and item.partition.name == "EFI-SYSTEM"), None)
    if root is None or oem is None or esp is None:
        raise _refused("it is a Flatcar without its partitions ROOT, OEM and EFI-SYSTEM")
    if not layout.has(esp, *_FLATCAR_FIRST_BOOT):
        raise _refused("it is a Flatcar that has booted: only its first boot takes orders; use a published image")
    return System(OsFamily.LINUX, root.number, ignition=Ignition(IgnitionGuest.FLATCAR, oem.number))


def _distro(directory: str) -> Distro:
    texts = (_text(directory, path) for path in ("/etc/os-release", "/usr/lib/os-release"))
    found = next((text for text in texts if text), "")
    distro = from_os_release(parse_os_release(found))
    is_nixos = distro.family is Family.UNKNOWN and exists(directory, "/etc/NIXOS")
    return Distro(Family.NIXOS) if is_nixos else distro


def _is_transactional(directory: str) -> bool:
    entry = fstab.root_entry(fstab.parse(_text(directory, fstab.FSTAB))[0])
    return entry is not None and entry.has("ro") and exists(directory, _TRANSACTIONAL)


def _text(directory: str, path: str) -> str:
    """The begin of a regular file, "" for anything else."""
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        file = open_inside(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return ""
    finally:
        os.close(root)
    try:
        return os.pread(file, _LARGEST, 0).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    finally:
        os.close(file)


def _refused(reason: str) -> UnknownGuestError:
    return UnknownGuestError(f"the system on the image's disk cannot be customised: {reason}; {_CURE}")
